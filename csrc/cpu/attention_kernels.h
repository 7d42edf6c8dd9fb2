// What each instruction set offers to attention.cpp. Strides are in floats; packed matrices are as matrix.h
// makes them.
#pragma once

#include <cstdint>

namespace openfoldpp {

struct AttentionRows {
    std::int64_t positions, channels, heads, head_channels;
    const float* x;  // element (row, position, channel) at row * x_row + position * x_position + channel
    std::int64_t x_row, x_position;
    const float* norm_weight;
    const float* norm_bias;
    float eps, scale, inf;
    const float* query;  // packed [channels][head_channels] for each head, `head_stride` apart; key, value, gate too
    const float* key;
    const float* value;
    const float* gate;
    std::int64_t head_stride;
    const float* gate_bias;    // for each head, its channels rounded up to whole registers
    const float* output;       // packed [heads * head_channels][channels]
    const float* output_bias;  // [channels] and zeros up to whole registers
    const float* pair_bias;    // [heads][positions][positions], or null
    const float* mask;         // 1 where a position counts, or null
    std::int64_t mask_row, mask_position;
    const float* residual;  // added to the result, may be `x`; or null
    std::int64_t residual_row, residual_position;
    float* out;  // may be `x`: a row is read whole before it is written
    std::int64_t out_row, out_position;
};

struct PairBiasRows {
    std::int64_t rows, positions, channels, heads;
    const float* x;
    std::int64_t x_row, x_position;
    const float* norm_weight;
    const float* norm_bias;
    float eps;
    const float* weight;  // packed [channels][heads]
    float* out;           // [heads][rows][positions]
};

struct AttentionKernels {
    std::int64_t (*scratch)(const AttentionRows& a);
    void (*rows)(const AttentionRows& a, std::int64_t begin, std::int64_t end, float* scratch);
    std::int64_t (*pair_bias_scratch)(const PairBiasRows& a);
    void (*pair_bias_rows)(const PairBiasRows& a, std::int64_t begin, std::int64_t end, float* scratch);
};

}  // namespace openfoldpp
