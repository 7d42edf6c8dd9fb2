// 2-simplicial attention, backward; written once for every vec_*.h, include one of those first.
//
// With P the softmax and g the gradient of out, for one query:
//   dP_jk = sum_l g_l v_jl v2_kl,   dA_jk = P_jk (dP_jk - sum_jk P_jk dP_jk),
//   dq_l = scale * sum_j k_jl (dA k2)_jl,   dk_jl = scale * q_l (dA k2)_jl,   dk2_kl = (dA^T (scale * q * k))_kl,
//   dv_jl = g_l (P v2)_jl,   dv2_kl = (P^T (g * v))_kl.
// The sum of P dP is g * out too, which needs no second look at the pairs. But that rounds differently: where one
// pair has all the weight, dA would be some 1e-7 in place of 0.
#pragma once

#include "simplicial_rows.h"

namespace openfoldpp {
namespace {

// More than in forward: so deep are the products of a tile that are summed over its rows, and what is left to add up
// tile by tile is less, and rounds less.
constexpr std::int64_t kGradientRows = 48;
static_assert(kGradientRows % kTileRows == 0);
constexpr std::int64_t kGradientTile = kGradientRows * kPairColumns;

// The most keys that a query has in its window.
inline std::int64_t most_keys(const SimplicialHead& a, std::int64_t window) {
    return window < 0 || window >= a.count / 2 ? a.count : 2 * window + 1;
}

inline std::int64_t pieces(std::int64_t whole, std::int64_t piece) { return (whole + piece - 1) / piece; }

struct SimplicialGradientScratch {
    std::int64_t wide, query, gradient, bias, d_bias, columns, column_values, left, left_values, right, right_values;
    std::int64_t p, d_logits, d_query, tile_d_query, floats;

    explicit SimplicialGradientScratch(const SimplicialHead& a) {
        wide = round_up(a.channels, Vec::width);
        std::int64_t end = 0;
        const auto take = [&end](std::int64_t count) {
            const std::int64_t begin = end;
            end += round_up(count, 16);
            return begin;
        };
        const std::int64_t rows = most_keys(a, a.row.window), columns_in_reach = most_keys(a, a.column.window);
        const std::int64_t tiles = pieces(rows, kGradientRows) * pieces(columns_in_reach, kPairColumns);
        query = take(wide);
        gradient = take(wide);
        bias = take(a.count + Vec::width);
        d_bias = take(a.count + Vec::width);
        columns = take(round_up(columns_in_reach, Vec::width) * a.channels);
        column_values = take(round_up(columns_in_reach, Vec::width) * a.channels);
        left = take(kGradientRows * wide);
        left_values = take(kGradientRows * wide);
        right = take(kGradientRows * wide);
        right_values = take(kGradientRows * wide);
        p = take(tiles * kGradientTile + kTileRows);  // read as a transposed left matrix
        d_logits = take(tiles * kGradientTile + kTileRows);
        d_query = take(wide);
        tile_d_query = take(wide);
        floats = end;
    }
};

inline std::int64_t simplicial_backward_scratch(const SimplicialHead& a) { return SimplicialGradientScratch(a).floats; }

// left[rows][wide] as a packed matrix with the rows deep: the same memory where there is one panel.
inline const float* as_right_matrix(const float* left, const SimplicialHead& a, std::int64_t rows, float* to) {
    if (a.channels <= kPanel) return left;
    const std::int64_t wide = round_up(a.channels, Vec::width);
    float* next = to;
    for (std::int64_t start = 0; start < a.channels; start += kPanel) {
        const std::int64_t width = panel_width(start, a.channels);
        for (std::int64_t r = 0; r < rows; ++r) {
            for (std::int64_t c = 0; c < width; c += Vec::width, next += Vec::width) {
                store(next, load(left + r * wide + start + c));
            }
        }
    }
    return to;
}

inline void add(float* to, Vec value) { store(to, load(to) + value); }

// A part of a query's pairs.
struct GradientTile {
    KeyRange rows, columns;
    std::int64_t m, n;          // their sizes
    float* p;                   // [kGradientRows][kPairColumns], the softmax
    float* d_logits;            // its gradient, then that of the logits
    const float* right;         // the keys of the columns, packed
    const float* right_values;  // and their values
};

// Calls function(tile) for each part; `left` and `left_values` are then the tile's.
template <class Function>
inline void for_each_tile(const SimplicialHead& a, const KeyRange& rows, const KeyRange& columns,
                          const SimplicialGradientScratch& at, float* scratch, const Function& function) {
    std::int64_t offset = 0;
    for (std::int64_t c = columns.begin; c < columns.end; c += kPairColumns) {
        for (std::int64_t r = rows.begin; r < rows.end; r += kGradientRows, offset += kGradientTile) {
            GradientTile t = {};
            t.rows = {r, rows.end - r < kGradientRows ? rows.end : r + kGradientRows};
            t.columns = {c, columns.end - c < kPairColumns ? columns.end : c + kPairColumns};
            t.m = t.rows.size();
            t.n = t.columns.size();
            t.p = scratch + at.p + offset;
            t.d_logits = scratch + at.d_logits + offset;
            t.right = scratch + at.columns + (c - columns.begin) * a.channels;
            t.right_values = scratch + at.column_values + (c - columns.begin) * a.channels;
            scale_rows(a.row.keys, a, r, t.m, scratch + at.query, scratch + at.left);
            scale_rows(a.row.values, a, r, t.m, scratch + at.gradient, scratch + at.left_values);
            function(t);
        }
    }
}

// Makes p and its gradient; returns the sum of their products.
inline Vec softmax_with_gradient(const SimplicialHead& a, const GradientTile& t, const SimplicialGradientScratch& at,
                                 float* scratch, float top, float sum) {
    const float* bias = a.bias ? scratch + at.bias : nullptr;
    logits_of(a,
              {scratch + at.left, t.right, t.m, t.n, bias && a.bias_on_rows ? bias + t.rows.begin : nullptr,
               bias && !a.bias_on_rows ? bias + t.columns.begin : nullptr},
              t.p);
    const Vec shift = broadcast(top), inverse = broadcast(1.0f / sum), zero = broadcast(0.0f);
    const std::int64_t last = t.n - t.n % Vec::width;
    const Vec past = past_the_end(last, t.n);
    Vec total = zero;
    multiply(RowMajor{scratch + at.left_values, at.wide}, t.m, t.right_values, a.channels, t.n,
             [&](std::int64_t r, std::int64_t c, Vec d_p) {
                 float* p = t.p + r * kPairColumns + c;
                 const Vec weight = exp_of_nonpositive(load(p) - shift) * inverse;
                 if (c == last) d_p = where_negative(past, zero, d_p);
                 store(p, weight);
                 store(t.d_logits + r * kPairColumns + c, d_p);
                 total = multiply_add(weight, d_p, total);
             });
    return total;
}

// d_logits = p * (d_logits - d), and the gradient of the bias.
inline void logits_gradient(const SimplicialHead& a, const GradientTile& t, float d, float* d_bias) {
    const Vec mean = broadcast(d);
    float* columns_d_bias = a.d_bias && !a.bias_on_rows ? d_bias + t.columns.begin : nullptr;
    for (std::int64_t r = 0; r < t.m; ++r) {
        const float* p = t.p + r * kPairColumns;
        float* to = t.d_logits + r * kPairColumns;
        Vec total = broadcast(0.0f);
        for (std::int64_t c = 0; c < t.n; c += Vec::width) {
            const Vec d_logit = load(p + c) * (load(to + c) - mean);
            store(to + c, d_logit);
            total = total + d_logit;
            if (columns_d_bias) store(columns_d_bias + c, load(columns_d_bias + c) + d_logit);
        }
        if (a.d_bias && a.bias_on_rows) d_bias[t.rows.begin + r] += sum_of(total);
    }
}

// The gradients of both keys, both values and the query, from d_logits and p of the tile.
inline void key_gradients(const SimplicialHead& a, const GradientTile& t, const SimplicialGradientScratch& at,
                          float* scratch) {
    const float* left = scratch + at.left;
    const float* query = scratch + at.query;
    const float* gradient = scratch + at.gradient;
    float* tile_d_query = scratch + at.tile_d_query;
    fill(tile_d_query, at.wide, 0.0f);
    const float* right = as_right_matrix(left, a, t.m, scratch + at.right);
    const float* right_values = as_right_matrix(scratch + at.left_values, a, t.m, scratch + at.right_values);
    for (std::int64_t start = 0; start < a.channels; start += kPanel) {
        const std::int64_t width = panel_width(start, a.channels);
        const std::int64_t of_columns = start * a.count + t.columns.begin * width;
        const float* row_keys = a.row.keys + start * a.count + t.rows.begin * width;
        float* d_row_keys = a.row.d_keys + t.rows.begin * at.wide + start;
        float* d_row_values = a.row.d_values + t.rows.begin * at.wide + start;
        float* d_column_keys = a.column.d_keys + t.columns.begin * at.wide + start;
        float* d_column_values = a.column.d_values + t.columns.begin * at.wide + start;
        multiply(RowMajor{t.d_logits, kPairColumns}, t.m, a.column.keys + of_columns, t.n, width,
                 [&](std::int64_t r, std::int64_t c, Vec sum) {
                     add(d_row_keys + r * at.wide + c, sum * load(query + start + c));
                     float* to = tile_d_query + start + c;
                     store(to, multiply_add(sum, load(row_keys + r * width + c), load(to)));
                 });
        multiply(RowMajor{t.p, kPairColumns}, t.m, a.column.values + of_columns, t.n, width,
                 [&](std::int64_t r, std::int64_t c, Vec sum) {
                     add(d_row_values + r * at.wide + c, sum * load(gradient + start + c));
                 });
        multiply(DepthMajor{t.d_logits, kPairColumns}, t.n, right + start * t.m, t.m, width,
                 [&](std::int64_t r, std::int64_t c, Vec sum) { add(d_column_keys + r * at.wide + c, sum); });
        multiply(DepthMajor{t.p, kPairColumns}, t.n, right_values + start * t.m, t.m, width,
                 [&](std::int64_t r, std::int64_t c, Vec sum) { add(d_column_values + r * at.wide + c, sum); });
    }
    for (std::int64_t c = 0; c < at.wide; c += Vec::width) add(scratch + at.d_query + c, load(tile_d_query + c));
}

// One query. All of its p and d_logits are held at once: the second needs the sum of the products of all.
inline void simplicial_query_gradient(const SimplicialHead& a, std::int64_t i, const KeyRange& rows,
                                      const KeyRange& columns, const SimplicialGradientScratch& at, float* scratch) {
    const float top = a.known_statistics[2 * i], sum = a.known_statistics[2 * i + 1];
    const KeyRange& biased = a.bias_on_rows ? rows : columns;
    float* d_bias = scratch + at.d_bias;
    float* d_query = scratch + at.d_query;
    fill(d_query, at.wide, 0.0f);
    for (std::int64_t j = biased.begin; j < biased.end + Vec::width; ++j) d_bias[j] = 0.0f;
    if (sum != 0.0f) {
        Vec total = broadcast(0.0f);
        for_each_tile(a, rows, columns, at, scratch, [&](const GradientTile& t) {
            total = total + softmax_with_gradient(a, t, at, scratch, top, sum);
        });
        const float d = sum_of(total);
        for_each_tile(a, rows, columns, at, scratch, [&](const GradientTile& t) {
            logits_gradient(a, t, d, d_bias);
            key_gradients(a, t, at, scratch);
        });
    }
    float* d_q = a.d_q + i * a.d_q_row;
    for (std::int64_t c = 0; c < a.channels; c += Vec::width) {
        put(d_q + c, load(d_query + c) * broadcast(a.scale), a.channels - c);
    }
    if (a.d_bias) {
        float* to = a.d_bias + i * a.d_bias_row;
        for (std::int64_t j = 0; j < a.length; ++j) to[j] = 0.0f;
        for (std::int64_t j = biased.begin; j < biased.end; ++j) to[a.place[j]] = d_bias[j];
    }
}

inline void simplicial_backward(const SimplicialHead& a, std::int64_t begin, std::int64_t end, float* scratch) {
    const SimplicialGradientScratch at(a);
    KeyRange packed = {0, 0};
    for (std::int64_t i = begin; i < end; ++i) {
        const KeyRange rows = keys_in_window(a, i, a.row.window), columns = keys_in_window(a, i, a.column.window);
        if (columns.begin != packed.begin || columns.end != packed.end) {
            pack_columns(a.column_keys_t, a, columns, scratch + at.columns);
            pack_columns(a.column_values_t, a, columns, scratch + at.column_values);
            packed = columns;
        }
        scale_vector(a.q + i * a.q_row, a.channels, a.scale, scratch + at.query);
        scale_vector(a.d_out + i * a.d_out_row, a.channels, 1.0f, scratch + at.gradient);
        if (a.bias) gather_bias(a, i, a.bias_on_rows ? rows : columns, scratch + at.bias);
        simplicial_query_gradient(a, i, rows, columns, at, scratch);
    }
}

}  // namespace
}  // namespace openfoldpp
