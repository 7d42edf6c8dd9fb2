// 2-simplicial attention (arXiv 2507.02754): each query attends to pairs of keys.
//
//   A_ijk = channels^-1/2 * sum_l q_il k_jl k2_kl + bias_ij,   S_i = softmax of A_i over all allowed (j, k),
//   out_i = sum_jk S_ijk (v_j * v2_k).
//
// (j, k) is allowed where the mask keeps both, |i - j| <= window_j and |i - k| <= window_k. A query without an
// allowed pair, or whose pairs all have a logit of -inf, gives zero and has no gradient.
#pragma once

#include <cstdint>

namespace openfoldpp {

// One vector for each (batch element, head, row), at data + b * batch_stride + h * head_stride + i * row_stride.
// The elements of a vector lie side by side; strides count elements and may be 0. No data stands for "none"
// where that is allowed.
template <class T>
struct HeadView {
    T* data = nullptr;
    std::int64_t batch_stride = 0, head_stride = 0, row_stride = 0;

    explicit operator bool() const { return data != nullptr; }
    T* row(std::int64_t b, std::int64_t h, std::int64_t i) const {
        return data + b * batch_stride + h * head_stride + i * row_stride;
    }
};

// The arguments, T being float or, on a GPU, bfloat16.
template <class T>
struct SimplicialInputs {
    std::int64_t batch = 0, heads = 0, kv_heads = 0, length = 0, channels = 0;
    std::int64_t window_j = -1, window_k = -1;  // -1: none
    HeadView<const T> q;                        // [batch, heads, length] vectors of `channels`
    HeadView<const T> k, k2, v, v2;             // [batch, kv_heads, length]; head h uses h / (heads / kv_heads)
    const float* mask = nullptr;                // [batch][length], dense, 0: the key is out; none: all keys are in
    HeadView<const T> bias;                     // [batch, heads, length] vectors of `length`, over j; or none
};
using SimplicialAttention = SimplicialInputs<float>;

// What backward writes; nothing is added to what was there.
template <class T>
struct SimplicialGradients {
    HeadView<T> q;             // as the inputs
    HeadView<T> k, k2, v, v2;  // [batch, kv_heads, length], summed over the heads that share them
    HeadView<T> bias;          // or none
};

// out: [batch, heads, length] vectors of `channels`.
// statistics: [batch][heads][length][2], dense, or null: the largest logit of the query's pairs and the sum of
// e^(logit - largest), or -inf and 0 where no pair is allowed. Not one number, the logarithm of the sum of e^logit:
// where logits are large it would lack the digits of their differences.
// Never more than a tile of logits is in memory; the rest is of the size of the inputs.
// Throws std::invalid_argument where sizes do not fit or threads < 1.
void simplicial_attention(const SimplicialAttention& inputs, const HeadView<float>& out, float* statistics,
                          int threads);

// statistics are those that forward wrote; d_out: [batch, heads, length] vectors of `channels`.
// Logits are computed again; each thread holds those of one query. The number of threads changes no bit.
// Throws std::invalid_argument where sizes do not fit or threads < 1.
void simplicial_attention_backward(const SimplicialAttention& inputs, const float* statistics,
                                   const HeadView<const float>& d_out, const SimplicialGradients<float>& gradients,
                                   int threads);

}  // namespace openfoldpp
