// The softmax kernels, written once for every vec_*.h; include one of those first.
#pragma once

#include "softmax_kernels.h"
#include "vec_exp.h"

namespace openfoldpp {
namespace {

inline void softmax_forward_row(float* row, std::int64_t cols) {
    const float infinity = __builtin_inff();
    const std::int64_t whole = cols - cols % Vec::width;
    const int rest = static_cast<int>(cols - whole);

    Vec highest = broadcast(-infinity);
    for (std::int64_t i = 0; i < whole; i += Vec::width) highest = maximum(highest, load(row + i));
    if (rest) highest = maximum(highest, load_first(row + whole, rest, -infinity));
    const Vec top = broadcast(maximum_of(highest));

    Vec total = broadcast(0.0f);
    for (std::int64_t i = 0; i < whole; i += Vec::width) {
        const Vec e = exp_of_nonpositive(load(row + i) - top);
        store(row + i, e);
        total = total + e;
    }
    if (rest) {
        const Vec e = exp_of_nonpositive(load_first(row + whole, rest, -infinity) - top);
        store_first(row + whole, e, rest);
        total = total + e;
    }

    const Vec sum = broadcast(sum_of(total));
    for (std::int64_t i = 0; i < whole; i += Vec::width) store(row + i, load(row + i) / sum);
    if (rest) store_first(row + whole, load_first(row + whole, rest, 0.0f) / sum, rest);
}

constexpr int kUnroll = 4;  // independent sums in flight: multiply-add takes about four cycles
constexpr int kBlock = kUnroll * Vec::width;

inline void softmax_backward_row(float* p, const float* grad_out, const float* values_t, float* scratch,
                                 std::int64_t cols, std::int64_t channels, std::int64_t stride) {
    for (std::int64_t i = 0; i < stride; i += kBlock) {
        Vec dp[kUnroll];
        for (int u = 0; u < kUnroll; ++u) dp[u] = broadcast(0.0f);
        for (std::int64_t c = 0; c < channels; ++c) {
            const Vec g = broadcast(grad_out[c]);
            const float* v = values_t + c * stride + i;
            for (int u = 0; u < kUnroll; ++u) dp[u] = multiply_add(g, load(v + u * Vec::width), dp[u]);
        }
        for (int u = 0; u < kUnroll; ++u) store(scratch + i + u * Vec::width, dp[u]);
    }

    const std::int64_t whole = cols - cols % Vec::width;
    const int rest = static_cast<int>(cols - whole);
    Vec total = broadcast(0.0f);
    for (std::int64_t i = 0; i < whole; i += Vec::width) {
        total = multiply_add(load(p + i), load(scratch + i), total);
    }
    if (rest) total = multiply_add(load_first(p + whole, rest, 0.0f), load_first(scratch + whole, rest, 0.0f), total);

    const Vec sum = broadcast(sum_of(total));
    for (std::int64_t i = 0; i < whole; i += Vec::width) store(p + i, load(p + i) * (load(scratch + i) - sum));
    if (rest) {
        const Vec last = load_first(p + whole, rest, 0.0f) * (load_first(scratch + whole, rest, 0.0f) - sum);
        store_first(p + whole, last, rest);
    }
}

}  // namespace
}  // namespace openfoldpp
