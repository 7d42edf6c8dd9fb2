// Layer norm, linear, ReLU, linear, on blocks of positions that stay in the cache; written once for every
// vec_*.h, include one of those first.
#pragma once

#include "layer_norm.h"
#include "transition_kernels.h"

namespace openfoldpp {
namespace {

constexpr int kTransitionRows = 8 * kTileRows;

inline std::int64_t transition_scratch(const TransitionRows& a) {
    return kTransitionRows * (round_up(a.channels, 16) + round_up(a.hidden, 16));
}

inline void transition_rows(const TransitionRows& a, std::int64_t begin, std::int64_t end, float* scratch) {
    float* normed = scratch;
    float* hidden = scratch + kTransitionRows * round_up(a.channels, 16);
    const std::int64_t wide = round_up(a.hidden, 16);
    const Vec zero = broadcast(0.0f);
    // Positions are counted through all rows, so that short rows still fill a block.
    for (std::int64_t first = begin; first < end; first += kTransitionRows) {
        const std::int64_t count = end - first < kTransitionRows ? end - first : kTransitionRows;
        const auto place = [&](std::int64_t i, std::int64_t row_stride, std::int64_t position_stride) {
            const std::int64_t row = (first + i) / a.positions;
            return row * row_stride + (first + i - row * a.positions) * position_stride;
        };
        for (std::int64_t i = 0; i < count; ++i) {
            layer_norm(a.x + place(i, a.x_row, a.x_position), a.channels, a.norm_weight, a.norm_bias, a.eps,
                       normed + i * a.channels);
        }
        multiply(RowMajor{normed, a.channels}, count, a.expand, a.channels, a.hidden,
                 [&](std::int64_t i, std::int64_t c, Vec sum) {
                     store(hidden + i * wide + c, maximum(zero, sum + load(a.expand_bias + c)));
                 });
        multiply(RowMajor{hidden, wide}, count, a.contract, a.hidden, a.channels,
                 [&](std::int64_t i, std::int64_t c, Vec sum) {
                     const std::int64_t left = a.channels - c;
                     sum = sum + load(a.contract_bias + c);
                     if (a.mask) sum = sum * broadcast(a.mask[place(i, a.mask_row, a.mask_position)]);
                     if (a.residual) {
                         sum = sum + get(a.residual + place(i, a.residual_row, a.residual_position) + c, left);
                     }
                     put(a.out + place(i, a.out_row, a.out_position) + c, sum, left);
                 });
    }
}

}  // namespace
}  // namespace openfoldpp
