// What each instruction set offers to softmax.cpp.
#pragma once

#include <cstdint>

namespace openfoldpp {

struct SoftmaxKernels {
    // One row of logits[cols] becomes its softmax.
    void (*forward_row)(float* row, std::int64_t cols);

    // One row of p[cols] becomes its gradient. values_t is the transposed value matrix [channels][stride];
    // stride is a multiple of `block`, at least cols, and filled up with zeros. scratch has stride floats.
    void (*backward_row)(float* p, const float* grad_out, const float* values_t, float* scratch,
                         std::int64_t cols, std::int64_t channels, std::int64_t stride);
    int block;
};

}  // namespace openfoldpp
