// Softmax over the last dimension, in place, and its gradient: the core of attention.
#pragma once

#include <cstdint>

#include "openfoldpp/bfloat16.h"

namespace openfoldpp {

// Replaces each row x of the contiguous array logits[rows][cols] by exp(x - max x) / sum exp(x - max x).
// A row that holds a NaN or +inf, or nothing but -inf, becomes NaN. bfloat16 is computed in float32.
// Throws std::invalid_argument for a negative size or threads < 1.
void softmax_forward(float* logits, std::int64_t rows, std::int64_t cols, int threads);
void softmax_forward(bfloat16* logits, std::int64_t rows, std::int64_t cols, int threads);

// The sizes of a batch of attention matrices. All arrays are contiguous.
struct AttentionShape {
    std::int64_t batch;     // attention matrices: all batch dimensions and heads
    std::int64_t queries;   // rows of each
    std::int64_t keys;      // columns of each
    std::int64_t channels;  // of each value vector
};

// For out = p @ values with p = softmax(logits), replaces p by the gradient with respect to the logits:
//   dp = grad_out @ values^T,   p <- p * (dp - sum_keys(p * dp)).
// probabilities[batch][queries][keys], grad_out[batch][queries][channels], values[batch][keys][channels].
// Throws std::invalid_argument for a negative size or threads < 1.
void softmax_backward(float* probabilities, const float* grad_out, const float* values,
                      const AttentionShape& shape, int threads);
void softmax_backward(bfloat16* probabilities, const bfloat16* grad_out, const bfloat16* values,
                      const AttentionShape& shape, int threads);

}  // namespace openfoldpp
