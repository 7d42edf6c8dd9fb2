// Layer norms and linear layers of rows of vectors, for each instruction set. Strides are in floats; packed matrices
// are as matrix.h makes them.
#pragma once

#include <cstdint>

namespace openfoldpp {

// x -> [layer norm] -> weight * x [+ bias] [+ residual]
struct LinearRows {
    std::int64_t inputs, outputs;
    const float* x;
    std::int64_t x_row;
    const float* norm_weight;  // or null: no layer norm
    const float* norm_bias;
    float eps;
    const float* weight;    // packed [inputs][outputs]
    const float* bias;      // filled up to whole registers, or null
    const float* residual;  // rows as those of `out`, may be `out`; or null
    float* out;
    std::int64_t out_row;
};

struct LinearKernels {
    void (*norm)(const float* x, std::int64_t x_row, std::int64_t rows, std::int64_t channels, const float* weight,
                 const float* bias, float eps, float* out /*[rows][channels]*/);
    std::int64_t (*scratch)(const LinearRows& a);
    void (*rows)(const LinearRows& a, std::int64_t begin, std::int64_t end, float* scratch);
};

}  // namespace openfoldpp
