// Layer norms and linear layers of rows of vectors; written once for every vec_*.h, include one of those first.
#pragma once

#include "layer_norm.h"
#include "linear_kernels.h"

namespace openfoldpp {
namespace {

constexpr int kLinearRows = 8 * kTileRows;

inline void norm_rows(const float* x, std::int64_t x_row, std::int64_t rows, std::int64_t channels,
                      const float* weight, const float* bias, float eps, float* out) {
    for (std::int64_t r = 0; r < rows; ++r) layer_norm(x + r * x_row, channels, weight, bias, eps, out + r * channels);
}

inline std::int64_t linear_scratch(const LinearRows& a) { return a.norm_weight ? kLinearRows * a.inputs : 0; }

inline void linear_rows(const LinearRows& a, std::int64_t begin, std::int64_t end, float* scratch) {
    for (std::int64_t first = begin; first < end; first += kLinearRows) {
        const std::int64_t count = end - first < kLinearRows ? end - first : kLinearRows;
        RowMajor left = {a.x + first * a.x_row, a.x_row};
        if (a.norm_weight) {
            norm_rows(left.data, a.x_row, count, a.inputs, a.norm_weight, a.norm_bias, a.eps, scratch);
            left = {scratch, a.inputs};
        }
        multiply(left, count, a.weight, a.inputs, a.outputs, [&](std::int64_t r, std::int64_t c, Vec sum) {
            const std::int64_t at = (first + r) * a.out_row + c;
            if (a.bias) sum = sum + load(a.bias + c);
            if (a.residual) sum = sum + get(a.residual + at, a.outputs - c);
            put(a.out + at, sum, a.outputs - c);
        });
    }
}

}  // namespace
}  // namespace openfoldpp
