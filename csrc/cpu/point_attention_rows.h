// Invariant point attention (AlphaFold 2 supplement, algorithm 22), written once for every vec_*.h; include one
// of those first.
//
// Rows i are taken kTileRows at a time, with the logits of all their heads in scratch. z is read by row, twice: for
// the bias of the logits and for the values.
#pragma once

#include "gemm.h"
#include "point_attention_kernels.h"
#include "softmax_rows.h"

namespace openfoldpp {
namespace {

constexpr int kPointRows = 16 * kTileRows;  // rows that share a pass over the weights of the large layers
constexpr std::int64_t kPointKeys = 64;     // pairs of a row that are packed at a time, in the cache

// What is computed once for each residue, at these places in `projected`; points are in the global frame.
struct PointProjections {
    std::int64_t keys;           // rounded up to whole registers
    std::int64_t value_columns;  // of a head: its values, then x, y and z of its value points
    std::int64_t query;          // [n][heads][head_channels]
    std::int64_t query_point;    // [n][heads][3][query_points]
    std::int64_t key;            // for each head, packed [head_channels][n]
    std::int64_t key_point;      // [heads][3][query_points][keys]
    std::int64_t value;          // for each head, packed [n][value_columns]
    std::int64_t key_stride, key_point_stride, value_stride;  // from head to head
    std::int64_t floats;

    explicit PointProjections(const PointAttentionArguments& a) {
        keys = round_up(a.n, Vec::width);
        value_columns = a.head_channels + 3 * a.value_points;
        key_stride = a.head_channels * keys;
        key_point_stride = 3 * a.query_points * keys;
        value_stride = a.n * round_up(value_columns, Vec::width);
        query = 0;
        query_point = query + round_up(a.n * a.heads * a.head_channels, 16);
        key = query_point + round_up(a.n * a.heads * 3 * a.query_points, 16);
        key_point = key + round_up(a.heads * key_stride, 16);
        value = key_point + round_up(a.heads * key_point_stride, 16);
        floats = value + a.heads * value_stride;
    }
};

inline std::int64_t point_projected_floats(const PointAttentionArguments& a) { return PointProjections(a).floats; }

inline std::int64_t projection_columns(const PointAttentionArguments& a) {
    return a.heads * (3 * a.head_channels + 3 * (2 * a.query_points + a.value_points));
}

inline std::int64_t point_project_scratch(const PointAttentionArguments& a) {
    return kPointRows * round_up(projection_columns(a), 16);
}

// Distributes the projections of residue i, one row of the large layer, to where attend wants them.
inline void place_projections(const PointAttentionArguments& a, const PointProjections& at, std::int64_t i,
                              const float* row) {
    const std::int64_t n = a.n, heads = a.heads, d = a.head_channels, points = a.query_points + a.value_points;
    const float* key_value = row + heads * d;
    const float* query_point = key_value + 2 * heads * d;
    const float* key_value_point = query_point + 3 * heads * a.query_points;
    const float* rotation = a.rotations + 9 * i;
    const float* translation = a.translations + 3 * i;
    // Coordinate `axis` in the global frame of the local point whose coordinates stand `step` floats apart.
    const auto global = [&](int axis, const float* local, std::int64_t step) {
        const float* r = rotation + 3 * axis;
        return r[0] * local[0] + r[1] * local[step] + r[2] * local[2 * step] + translation[axis];
    };

    float* query = a.projected + at.query + i * heads * d;
    for (std::int64_t c = 0; c < heads * d; ++c) query[c] = row[c];
    for (std::int64_t h = 0; h < heads; ++h) {
        const float* keys = key_value + h * 2 * d;
        const float* key_points = key_value_point + h * points;
        float* key = a.projected + at.key + h * at.key_stride;
        float* value = a.projected + at.value + h * at.value_stride;
        for (std::int64_t c = 0; c < d; ++c) {
            key[packed_index(c, i, d, n)] = keys[c];
            value[packed_index(i, c, n, at.value_columns)] = keys[d + c];
        }
        for (int axis = 0; axis < 3; ++axis) {
            const std::int64_t first = (h * 3 + axis) * a.query_points;
            float* to_query = a.projected + at.query_point + i * heads * 3 * a.query_points + first;
            float* to_key = a.projected + at.key_point + first * at.keys + i;
            for (std::int64_t p = 0; p < a.query_points; ++p) {
                to_query[p] = global(axis, query_point + h * a.query_points + p, heads * a.query_points);
                to_key[p * at.keys] = global(axis, key_points + p, heads * points);
            }
            for (std::int64_t p = 0; p < a.value_points; ++p) {
                value[packed_index(i, d + axis * a.value_points + p, n, at.value_columns)] =
                    global(axis, key_points + a.query_points + p, heads * points);
            }
        }
    }
}

inline void point_project(const PointAttentionArguments& a, std::int64_t begin, std::int64_t end, float* scratch) {
    const PointProjections at(a);
    const std::int64_t columns = projection_columns(a), stride = round_up(columns, 16);
    for (std::int64_t first = begin; first < end; first += kPointRows) {
        const std::int64_t count = end - first < kPointRows ? end - first : kPointRows;
        multiply(RowMajor{a.s + first * a.s_row, a.s_row}, count, a.projection, a.channels, columns,
                 [&](std::int64_t r, std::int64_t c, Vec sum) {
                     store(scratch + r * stride + c, sum + load(a.projection_bias + c));
                 });
        for (std::int64_t r = 0; r < count; ++r) place_projections(a, at, first + r, scratch + r * stride);
    }
}

// Offsets in the scratch of attend, and how many floats in all.
struct PointScratch {
    std::int64_t feature_stride;  // of a row: values; x, y, z and norm of the value points; values of z
    std::int64_t logit_stride;    // of a row; a line longer than need be keeps heads off each other's cache sets
    std::int64_t head_stride;     // of the logits
    std::int64_t features, logits, mask, values, pair, floats;

    PointScratch(const PointAttentionArguments& a, const PointProjections& at) {
        feature_stride = round_up(a.heads * (a.head_channels + 4 * a.value_points + a.pair_channels), 16);
        logit_stride = round_up(a.n, 16) + 16;
        head_stride = kTileRows * logit_stride;
        features = 0;
        logits = features + kPointRows * feature_stride;
        mask = logits + a.heads * head_stride;
        values = mask + kTileRows * logit_stride;
        pair = values + kTileRows * round_up(at.value_columns, 16);
        floats = pair + kPointKeys * round_up(a.pair_channels, 16);
    }
};

inline std::int64_t point_attend_scratch(const PointAttentionArguments& a) {
    return PointScratch(a, PointProjections(a)).floats;
}

// The softmaxed logits of residues first .. first + rows - 1, [heads][kTileRows][logit_stride].
inline void point_probabilities(const PointAttentionArguments& a, const PointProjections& at, const PointScratch& in,
                                std::int64_t first, int rows, float* scratch) {
    const std::int64_t n = a.n, d = a.head_channels;
    float* logits = scratch + in.logits;
    float* mask = scratch + in.mask;
    for (int r = 0; r < rows; ++r) {
        const float* z = a.z + (first + r) * a.z_row;
        float* bias = logits + r * in.logit_stride;
        multiply(RowMajor{z, a.z_column}, n, a.pair, a.pair_channels, a.heads,
                 [&](std::int64_t j, std::int64_t h, Vec sum) {
                     float lane[Vec::width];
                     store(lane, (sum + load(a.pair_bias + h)) * broadcast(a.pair_scale));
                     for (std::int64_t l = 0; l < Vec::width && h + l < a.heads; ++l) {
                         bias[(h + l) * in.head_stride + j] = lane[l];
                     }
                 });
        for (std::int64_t j = 0; j < n && a.mask; ++j) {
            mask[r * in.logit_stride + j] = a.inf * (a.mask[first + r] * a.mask[j] - 1.0f);
        }
    }

    const std::int64_t coordinates = 3 * a.query_points;
    for (std::int64_t h = 0; h < a.heads; ++h) {
        const float* query = a.projected + at.query + (first * a.heads + h) * d;
        const float* query_point = a.projected + at.query_point + (first * a.heads + h) * coordinates;
        const float* key_point = a.projected + at.key_point + h * at.key_point_stride;
        const Vec scale = broadcast(a.scalar_scale), point_scale = broadcast(a.point_scale[h]);
        float* head = logits + h * in.head_stride;
        // Past the last key nothing is ever read. The mask is added last, as upstream does: in a row that is
        // masked whole, what it rounds away decides the result.
        multiply(RowMajor{query, a.heads * d}, rows, a.projected + at.key + h * at.key_stride, d, n,
                 [&](std::int64_t r, std::int64_t j, Vec sum) {
                     const float* from = query_point + r * a.heads * coordinates;
                     Vec squares = broadcast(0.0f);
                     for (std::int64_t x = 0; x < coordinates; ++x) {
                         const Vec difference = broadcast(from[x]) - load(key_point + x * at.keys + j);
                         squares = multiply_add(difference, difference, squares);
                     }
                     float* to = head + r * in.logit_stride + j;
                     sum = multiply_add(sum, scale, get(to, n - j));
                     sum = multiply_add(squares, point_scale, sum);
                     if (a.mask) sum = sum + get(mask + r * in.logit_stride + j, n - j);
                     put(to, sum, n - j);
                 });
        for (int r = 0; r < rows; ++r) softmax_forward_row(head + r * in.logit_stride, n);
    }
}

// The values of a row as features, its points in the frame of residue i.
inline void place_values(const PointAttentionArguments& a, std::int64_t i, std::int64_t h, const float* values,
                         float* features) {
    const std::int64_t d = a.head_channels, points = a.value_points, step = a.heads * points;
    const float* r = a.rotations + 9 * i;
    const float* translation = a.translations + 3 * i;
    float* value = features + h * d;
    float* point = features + a.heads * d + h * points;
    for (std::int64_t c = 0; c < d; ++c) value[c] = values[c];
    for (std::int64_t p = 0; p < points; ++p) {
        const float x = values[d + p] - translation[0];
        const float y = values[d + points + p] - translation[1];
        const float z = values[d + 2 * points + p] - translation[2];
        const float local[3] = {r[0] * x + r[3] * y + r[6] * z, r[1] * x + r[4] * y + r[7] * z,
                                r[2] * x + r[5] * y + r[8] * z};
        for (int axis = 0; axis < 3; ++axis) point[axis * step + p] = local[axis];
        point[3 * step + p] = __builtin_sqrtf(local[0] * local[0] + local[1] * local[1] + local[2] * local[2] + a.eps);
    }
}

// z[rows][channels] as a packed matrix.
inline void pack_pair_rows(const PointAttentionArguments& a, const float* z, std::int64_t rows, float* packed) {
    for (std::int64_t start = 0; start < a.pair_channels; start += kPanel) {
        const std::int64_t width = panel_width(start, a.pair_channels);
        for (std::int64_t j = 0; j < rows; ++j, packed += width) {
            const float* from = z + j * a.z_column + start;
            for (std::int64_t c = 0; c < width; c += Vec::width) {
                store(packed + c, get(from + c, a.pair_channels - start - c));
            }
        }
    }
}

// The input of the output layer for residues first .. first + rows - 1.
inline void point_features(const PointAttentionArguments& a, const PointProjections& at, const PointScratch& in,
                           std::int64_t first, int rows, float* scratch, float* features) {
    const std::int64_t wide = round_up(at.value_columns, 16);
    const float* probabilities = scratch + in.logits;
    float* values = scratch + in.values;
    float* pair = scratch + in.pair;
    for (std::int64_t h = 0; h < a.heads; ++h) {
        const float* value = a.projected + at.value + h * at.value_stride;
        multiply(RowMajor{probabilities + h * in.head_stride, in.logit_stride}, rows, value, a.n, at.value_columns,
                 [&](std::int64_t r, std::int64_t c, Vec sum) { store(values + r * wide + c, sum); });
        for (int r = 0; r < rows; ++r) {
            place_values(a, first + r, h, values + r * wide, features + r * in.feature_stride);
        }
    }
    for (int r = 0; r < rows; ++r) {
        const float* z = a.z + (first + r) * a.z_row;
        float* out = features + r * in.feature_stride + a.heads * (a.head_channels + 4 * a.value_points);
        for (std::int64_t j = 0; j < a.n; j += kPointKeys) {
            const std::int64_t count = a.n - j < kPointKeys ? a.n - j : kPointKeys;
            pack_pair_rows(a, z + j * a.z_column, count, pair);
            multiply(RowMajor{probabilities + r * in.logit_stride + j, in.head_stride}, a.heads, pair, count,
                     a.pair_channels, [&](std::int64_t h, std::int64_t c, Vec sum) {
                         float* to = out + h * a.pair_channels + c;
                         const std::int64_t left = a.pair_channels - c;
                         put(to, j == 0 ? sum : get(to, left) + sum, left);
                     });
        }
    }
}

inline void point_attend(const PointAttentionArguments& a, std::int64_t begin, std::int64_t end, float* scratch) {
    const PointProjections at(a);
    const PointScratch in(a, at);
    const std::int64_t depth = a.heads * (a.head_channels + 4 * a.value_points + a.pair_channels);
    float* features = scratch + in.features;
    for (std::int64_t block = begin; block < end; block += kPointRows) {
        const std::int64_t count = end - block < kPointRows ? end - block : kPointRows;
        for (std::int64_t r = 0; r < count; r += kTileRows) {
            const int rows = static_cast<int>(count - r < kTileRows ? count - r : kTileRows);
            point_probabilities(a, at, in, block + r, rows, scratch);
            point_features(a, at, in, block + r, rows, scratch, features + r * in.feature_stride);
        }
        float* out = a.out + block * a.out_row;
        multiply(RowMajor{features, in.feature_stride}, count, a.output, depth, a.channels,
                 [&](std::int64_t r, std::int64_t c, Vec sum) {
                     put(out + r * a.out_row + c, sum + load(a.output_bias + c), a.channels - c);
                 });
    }
}

}  // namespace
}  // namespace openfoldpp
