// What each instruction set offers to transition.cpp. Strides are in floats; packed matrices are as matrix.h
// makes them.
#pragma once

#include <cstdint>

namespace openfoldpp {

struct TransitionRows {
    std::int64_t rows, positions, channels, hidden;
    const float* x;  // element (row, position, channel) at row * x_row + position * x_position + channel
    std::int64_t x_row, x_position;
    const float* norm_weight;
    const float* norm_bias;
    float eps;
    const float* expand;  // packed [channels][hidden]
    const float* expand_bias;
    const float* contract;  // packed [hidden][channels]
    const float* contract_bias;
    const float* mask;  // multiplies the update, or null
    std::int64_t mask_row, mask_position;
    const float* residual;  // added to the update, may be `x`; or null
    std::int64_t residual_row, residual_position;
    float* out;  // may be `x`
    std::int64_t out_row, out_position;
};

struct TransitionKernels {
    std::int64_t (*scratch)(const TransitionRows& a);
    void (*rows)(const TransitionRows& a, std::int64_t begin, std::int64_t end, float* scratch);
};

}  // namespace openfoldpp
