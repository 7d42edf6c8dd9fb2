#include "openfoldpp/softmax.h"

#include <algorithm>
#include <type_traits>
#include <vector>

#include "checks.h"
#include "kernels.h"
#include "openfoldpp/parallel.h"

namespace openfoldpp {
namespace {

// Elements below which another thread costs more to start than it saves.
constexpr std::int64_t kElementsPerThread = 1 << 15;

std::int64_t rows_per_thread(std::int64_t elements_of_a_row) {
    return std::max<std::int64_t>(1, kElementsPerThread / std::max<std::int64_t>(1, elements_of_a_row));
}

template <class T>
void widen(const T* from, std::int64_t count, float* to) {
    for (std::int64_t i = 0; i < count; ++i) to[i] = to_float(from[i]);
}

template <class T>
void narrow(const float* from, std::int64_t count, T* to) {
    for (std::int64_t i = 0; i < count; ++i) to[i] = from_float<T>(from[i]);
}

template <class T>
void forward(T* logits, std::int64_t rows, std::int64_t cols, int threads) {
    require_size("rows", rows);
    require_size("cols", cols);
    const SoftmaxKernels& kernel = kernels().softmax;
    parallel_for(rows, rows_per_thread(cols), threads, [&](std::int64_t begin, std::int64_t end) {
        std::vector<float> wide(std::is_same_v<T, float> ? 0 : cols);
        for (std::int64_t r = begin; r < end; ++r) {
            T* row = logits + r * cols;
            if constexpr (std::is_same_v<T, float>) {
                kernel.forward_row(row, cols);
            } else {
                widen(row, cols, wide.data());
                kernel.forward_row(wide.data(), cols);
                narrow(wide.data(), cols, row);
            }
        }
    });
}

template <class T>
void backward(T* probabilities, const T* grad_out, const T* values, const AttentionShape& shape, int threads) {
    require_size("batch", shape.batch);
    require_size("queries", shape.queries);
    require_size("keys", shape.keys);
    require_size("channels", shape.channels);
    const std::int64_t n_q = shape.queries, n_k = shape.keys, n_c = shape.channels;
    if (n_k == 0) return;
    const SoftmaxKernels& kernel = kernels().softmax;
    const std::int64_t stride = (n_k + kernel.block - 1) / kernel.block * kernel.block;

    parallel_for(shape.batch * n_q, rows_per_thread(n_k * n_c), threads, [&](std::int64_t begin, std::int64_t end) {
        std::vector<float> values_t(n_c * stride), scratch(stride), p(n_k), g(n_c);
        std::int64_t transposed = -1;  // the attention matrix whose values are in values_t
        for (std::int64_t r = begin; r < end; ++r) {
            if (transposed != r / n_q) {
                transposed = r / n_q;
                const T* v = values + transposed * n_k * n_c;
                for (std::int64_t k = 0; k < n_k; ++k) {
                    for (std::int64_t c = 0; c < n_c; ++c) values_t[c * stride + k] = to_float(v[k * n_c + c]);
                }
            }
            T* row = probabilities + r * n_k;
            widen(row, n_k, p.data());
            widen(grad_out + r * n_c, n_c, g.data());
            kernel.backward_row(p.data(), g.data(), values_t.data(), scratch.data(), n_k, n_c, stride);
            narrow(p.data(), n_k, row);
        }
    });
}

}  // namespace

void softmax_forward(float* logits, std::int64_t rows, std::int64_t cols, int threads) {
    forward(logits, rows, cols, threads);
}

void softmax_forward(bfloat16* logits, std::int64_t rows, std::int64_t cols, int threads) {
    forward(logits, rows, cols, threads);
}

void softmax_backward(float* probabilities, const float* grad_out, const float* values, const AttentionShape& shape,
                      int threads) {
    backward(probabilities, grad_out, values, shape, threads);
}

void softmax_backward(bfloat16* probabilities, const bfloat16* grad_out, const bfloat16* values,
                      const AttentionShape& shape, int threads) {
    backward(probabilities, grad_out, values, shape, threads);
}

}  // namespace openfoldpp
