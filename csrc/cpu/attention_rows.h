// Gated self-attention over rows, written once for every vec_*.h; include one of those first.
#pragma once

#include "attention_kernels.h"
#include "layer_norm.h"

namespace openfoldpp {
namespace {

constexpr int kQueries = 4 * kTileRows;  // rows of logits held at a time

struct AttentionScratch {
    std::int64_t keys, value_columns;  // rounded up to whole registers
    std::int64_t normed, mask, query, key, value, gate, logits, output, floats;  // offsets, and how many in all

    explicit AttentionScratch(const AttentionRows& a) {
        keys = round_up(a.positions, Vec::width);
        value_columns = round_up(a.head_channels, Vec::width);
        std::int64_t end = 0;
        const auto take = [&end](std::int64_t count) {
            const std::int64_t begin = end;
            end += round_up(count, 16);
            return begin;
        };
        normed = take(a.positions * a.channels);
        mask = take(keys);
        query = take(a.positions * value_columns);
        key = take(a.head_channels * keys);
        value = take(a.positions * value_columns);
        gate = take(a.positions * value_columns);
        logits = take(kQueries * keys);
        output = take(a.positions * a.heads * a.head_channels);
        floats = end;
    }
};

inline std::int64_t attention_scratch(const AttentionRows& a) { return AttentionScratch(a).floats; }

// logits[rows][keys] become e^(x - max x); returns 1 / their sum for each row.
inline void exponentiate(float* logits, int rows, std::int64_t keys, float* inverse_sum) {
    for (int r = 0; r < rows; ++r) {
        float* row = logits + r * keys;
        Vec highest = load(row);
        for (std::int64_t i = Vec::width; i < keys; i += Vec::width) highest = maximum(highest, load(row + i));
        const Vec top = broadcast(maximum_of(highest));
        Vec total = broadcast(0.0f);
        for (std::int64_t i = 0; i < keys; i += Vec::width) {
            const Vec e = exp_of_nonpositive(load(row + i) - top);
            store(row + i, e);
            total = total + e;
        }
        inverse_sum[r] = 1.0f / sum_of(total);
    }
}

inline void attention_row(const AttentionRows& a, std::int64_t row, const AttentionScratch& at, float* scratch) {
    const std::int64_t n = a.positions, d = a.head_channels, all = a.heads * d, keys = at.keys;
    const std::int64_t wide = at.value_columns;
    float* normed = scratch + at.normed;
    float* mask = scratch + at.mask;
    float* query = scratch + at.query;
    float* key = scratch + at.key;
    float* value = scratch + at.value;
    float* gate = scratch + at.gate;
    float* logits = scratch + at.logits;
    float* output = scratch + at.output;

    const float* x = a.x + row * a.x_row;
    for (std::int64_t i = 0; i < n; ++i) {
        layer_norm(x + i * a.x_position, a.channels, a.norm_weight, a.norm_bias, a.eps, normed + i * a.channels);
    }

    // What is added to the logits of each key: 0, or -inf * (1 - mask); past the last key nothing may be left.
    bool masked = false;
    for (std::int64_t k = 0; k < n; ++k) {
        const float kept = a.mask ? a.mask[row * a.mask_row + k * a.mask_position] : 1.0f;
        masked = masked || kept != 1.0f;
        mask[k] = a.inf * (kept - 1.0f);
    }
    for (std::int64_t k = n; k < keys; ++k) mask[k] = -__builtin_inff();
    const std::int64_t add_mask_from = masked ? 0 : n - n % Vec::width;

    const RowMajor positions = {normed, a.channels};
    for (std::int64_t h = 0; h < a.heads; ++h) {
        const Vec scale = broadcast(a.scale);
        multiply(positions, n, a.query + h * a.head_stride, a.channels, d,
                 [&](std::int64_t i, std::int64_t c, Vec q) { store(query + i * wide + c, q * scale); });
        multiply(positions, n, a.key + h * a.head_stride, a.channels, d,
                 [&](std::int64_t i, std::int64_t c, Vec k) {
                     float lane[Vec::width];
                     store(lane, k);
                     float* to = key + packed_index(c, i, d, n);
                     const std::int64_t step = panel_width(i - i % kPanel, n);
                     for (std::int64_t l = 0; l < Vec::width && c + l < d; ++l) to[l * step] = lane[l];
                 });
        for (std::int64_t c = 0; c < d && n < keys; ++c) {
            float* tail = key + packed_index(c, n - 1, d, n) + 1;
            for (std::int64_t k = n; k < keys; ++k) *tail++ = 0.0f;
        }
        multiply(positions, n, a.value + h * a.head_stride, a.channels, d,
                 [&](std::int64_t i, std::int64_t c, Vec v) { store(value + packed_index(i, c, n, d), v); });
        const float* gate_bias = a.gate_bias + h * wide;
        multiply(positions, n, a.gate + h * a.head_stride, a.channels, d,
                 [&](std::int64_t i, std::int64_t c, Vec g) {
                     store(gate + i * wide + c, logistic(g + load(gate_bias + c)));
                 });

        for (std::int64_t first = 0; first < n; first += kQueries) {
            const int rows = static_cast<int>(n - first < kQueries ? n - first : kQueries);
            const float* pair_bias = a.pair_bias ? a.pair_bias + (h * n + first) * n : nullptr;
            multiply(RowMajor{query + first * wide, wide}, rows, key, d, n,
                     [&](std::int64_t r, std::int64_t k, Vec sum) {
                         if (k >= add_mask_from) sum = sum + load(mask + k);
                         if (pair_bias) {
                             const float* bias = pair_bias + r * n + k;
                             sum = sum + get(bias, n - k);
                             __builtin_prefetch(bias + kQueries * n);  // for the next queries, or the next head
                         }
                         store(logits + r * keys + k, sum);
                     });
            float inverse_sum[kQueries];
            exponentiate(logits, rows, keys, inverse_sum);
            multiply(RowMajor{logits, keys}, rows, value, n, d, [&](std::int64_t r, std::int64_t c, Vec sum) {
                const Vec weighted = sum * broadcast(inverse_sum[r]) * load(gate + (first + r) * wide + c);
                put(output + (first + r) * all + h * d + c, weighted, d - c);
            });
        }
    }

    float* out = a.out + row * a.out_row;
    const float* residual = a.residual ? a.residual + row * a.residual_row : nullptr;
    multiply(RowMajor{output, all}, n, a.output, all, a.channels, [&](std::int64_t i, std::int64_t c, Vec sum) {
        const std::int64_t left = a.channels - c;
        sum = sum + load(a.output_bias + c);
        if (residual) sum = sum + get(residual + i * a.residual_position + c, left);
        put(out + i * a.out_position + c, sum, left);
    });
}

inline void attention_rows(const AttentionRows& a, std::int64_t begin, std::int64_t end, float* scratch) {
    const AttentionScratch at(a);
    for (std::int64_t row = begin; row < end; ++row) attention_row(a, row, at, scratch);
}

constexpr int kBiasRows = 8 * kTileRows;  // positions normed at a time

inline std::int64_t pair_bias_scratch(const PairBiasRows& a) { return round_up(kBiasRows * a.channels, 16); }

inline void pair_bias_rows(const PairBiasRows& a, std::int64_t begin, std::int64_t end, float* scratch) {
    const std::int64_t n = a.positions;
    for (std::int64_t row = begin; row < end; ++row) {
        for (std::int64_t first = 0; first < n; first += kBiasRows) {
            const std::int64_t count = n - first < kBiasRows ? n - first : kBiasRows;
            for (std::int64_t i = 0; i < count; ++i) {
                const float* x = a.x + row * a.x_row + (first + i) * a.x_position;
                layer_norm(x, a.channels, a.norm_weight, a.norm_bias, a.eps, scratch + i * a.channels);
            }
            multiply(RowMajor{scratch, a.channels}, count, a.weight, a.channels, a.heads,
                     [&](std::int64_t i, std::int64_t h, Vec sum) {
                         float lane[Vec::width];
                         store(lane, sum);
                         for (std::int64_t l = 0; l < Vec::width && h + l < a.heads; ++l) {
                             a.out[((h + l) * a.rows + row) * n + first + i] = lane[l];
                         }
                     });
        }
    }
}

}  // namespace
}  // namespace openfoldpp
