// 2-simplicial attention, forward, and what backward shares; written once for every vec_*.h, include one of those
// first.
#pragma once

#include "gemm.h"
#include "simplicial_kernels.h"
#include "vec_exp.h"

namespace openfoldpp {
namespace {

// Logits of a tile, which stay in the cache: whole tiles of products and whole panels at every level.
constexpr std::int64_t kPairRows = 24, kPairColumns = 256;
static_assert(kPairRows % kTileRows == 0 && kPairColumns % kPanel == 0);

struct KeyRange {
    std::int64_t begin, end;
    std::int64_t size() const { return end - begin; }
};

inline KeyRange keys_in_window(const SimplicialHead& a, std::int64_t query, std::int64_t window) {
    if (window < 0) return {0, a.count};
    const std::int64_t first = query > window ? query - window : 0;
    const std::int64_t end = window < a.length - query ? query + window + 1 : a.length;
    return {a.counted_before[first], a.counted_before[end]};
}

inline void simplicial_pack(const float* keys, std::int64_t count, std::int64_t channels, float* packed) {
    for (std::int64_t i = 0; i < count; ++i) {
        for (std::int64_t c = 0; c < channels; c += Vec::width) {
            store(packed + packed_index(i, c, count, channels), get(keys + i * channels + c, channels - c));
        }
    }
}

// columns[range] of a transposed matrix, packed as a right matrix: channels deep. Past the last column is what
// stands there.
inline void pack_columns(const float* transposed, const SimplicialHead& a, const KeyRange& range, float* packed) {
    const std::int64_t columns = range.size();
    for (std::int64_t start = 0; start < columns; start += kPanel) {
        const std::int64_t width = panel_width(start, columns);
        const float* from = transposed + range.begin + start;
        for (std::int64_t l = 0; l < a.channels; ++l, from += a.transposed_stride) {
            for (std::int64_t c = 0; c < width; c += Vec::width, packed += Vec::width) store(packed, load(from + c));
        }
    }
}

// Rows `first` to `first + rows` of a packed matrix, each times `factor`, as to[rows][wide].
inline void scale_rows(const float* packed, const SimplicialHead& a, std::int64_t first, std::int64_t rows,
                       const float* factor, float* to) {
    const std::int64_t wide = round_up(a.channels, Vec::width);
    for (std::int64_t start = 0; start < a.channels; start += kPanel) {
        const std::int64_t width = panel_width(start, a.channels);
        const float* from = packed + start * a.count + first * width;
        for (std::int64_t r = 0; r < rows; ++r, from += width) {
            for (std::int64_t c = 0; c < width; c += Vec::width) {
                store(to + r * wide + start + c, load(from + c) * load(factor + start + c));
            }
        }
    }
}

// vector[channels] times a number, filled up with zeros.
inline void scale_vector(const float* vector, std::int64_t channels, float factor, float* to) {
    for (std::int64_t c = 0; c < channels; c += Vec::width) {
        const std::int64_t left = channels - c;
        const Vec value = left >= Vec::width ? load(vector + c) : load_first(vector + c, static_cast<int>(left), 0.0f);
        store(to + c, value * broadcast(factor));
    }
}

inline void fill(float* p, std::int64_t wide, float value) {
    for (std::int64_t c = 0; c < wide; c += Vec::width) store(p + c, broadcast(value));
}

// The bias of a query for the keys that count: whole registers can be read.
inline void gather_bias(const SimplicialHead& a, std::int64_t query, const KeyRange& range, float* to) {
    const float* bias = a.bias + query * a.bias_row;
    for (std::int64_t j = range.begin; j < range.end; ++j) to[j] = bias[a.place[j]];
}

// The lanes of the register at column c that lie past the last of `columns` have the sign bit set.
inline Vec past_the_end(std::int64_t c, std::int64_t columns) {
    float lane[Vec::width];
    for (int l = 0; l < Vec::width; ++l) lane[l] = c + l < columns ? 1.0f : -1.0f;
    return load(lane);
}

// What a tile of logits is made of.
struct LogitsTile {
    const float* left;   // [rows][wide]
    const float* right;  // packed, channels deep
    std::int64_t rows, columns;
    const float* row_bias;     // of the tile's rows, or null
    const float* column_bias;  // of the tile's columns, or null
};

// Into logits[rows][kPairColumns], -inf past the last column; returns the largest of each lane.
inline Vec logits_of(const SimplicialHead& a, const LogitsTile& t, float* logits) {
    const std::int64_t wide = round_up(a.channels, Vec::width), last = t.columns - t.columns % Vec::width;
    const Vec past = past_the_end(last, t.columns), out = broadcast(-__builtin_inff());
    Vec highest = out;
    multiply(RowMajor{t.left, wide}, t.rows, t.right, a.channels, t.columns,
             [&](std::int64_t r, std::int64_t c, Vec sum) {
                 if (t.row_bias) sum = sum + broadcast(t.row_bias[r]);
                 if (t.column_bias) sum = sum + load(t.column_bias + c);
                 if (c == last) sum = where_negative(past, out, sum);
                 store(logits + r * kPairColumns + c, sum);
                 highest = maximum(sum, highest);  // in this order: a NaN must not hide an infinity
             });
    return highest;
}

struct SimplicialScratch {
    std::int64_t wide, query, bias, columns, left, logits, sum, tile_sum, floats;  // offsets, and how many in all

    explicit SimplicialScratch(const SimplicialHead& a) {
        wide = round_up(a.channels, Vec::width);
        std::int64_t end = 0;
        const auto take = [&end](std::int64_t count) {
            const std::int64_t begin = end;
            end += round_up(count, 16);
            return begin;
        };
        query = take(wide);
        bias = take(a.count + Vec::width);
        columns = take(round_up(a.count, Vec::width) * a.channels);
        left = take(kPairRows * wide);
        logits = take(kPairRows * kPairColumns);
        sum = take(wide);
        tile_sum = take(wide);
        floats = end;
    }
};

inline std::int64_t simplicial_forward_scratch(const SimplicialHead& a) { return SimplicialScratch(a).floats; }

// exp of a tile of logits less `shift`; returns the sum.
inline Vec exponentiate_tile(float* logits, std::int64_t rows, std::int64_t columns, float shift) {
    const Vec top = broadcast(shift);
    Vec total = broadcast(0.0f);
    for (std::int64_t r = 0; r < rows; ++r, logits += kPairColumns) {
        for (std::int64_t c = 0; c < columns; c += Vec::width) {
            const Vec e = exp_of_nonpositive(load(logits + c) - top);
            store(logits + c, e);
            total = total + e;
        }
    }
    return total;
}

// One query: its softmax runs over the tiles with the largest logit so far; what was summed before is scaled when a
// larger one turns up. Each tile is summed by itself first, which keeps long sums exact.
inline void simplicial_query(const SimplicialHead& a, std::int64_t i, const KeyRange& rows, const KeyRange& columns,
                             const SimplicialScratch& at, float* scratch) {
    float* left = scratch + at.left;
    float* logits = scratch + at.logits;
    float* sum = scratch + at.sum;
    float* tile_sum = scratch + at.tile_sum;
    const float* query = scratch + at.query;
    const float* bias = a.bias ? scratch + at.bias : nullptr;
    const float infinity = __builtin_inff();

    float top = -infinity;
    Vec total = broadcast(0.0f);
    fill(sum, at.wide, 0.0f);
    for (std::int64_t c = columns.begin; c < columns.end; c += kPairColumns) {
        const std::int64_t n = columns.end - c < kPairColumns ? columns.end - c : kPairColumns;
        const float* right = scratch + at.columns + (c - columns.begin) * a.channels;
        for (std::int64_t r = rows.begin; r < rows.end; r += kPairRows) {
            const std::int64_t m = rows.end - r < kPairRows ? rows.end - r : kPairRows;
            scale_rows(a.row.keys, a, r, m, query, left);
            const float* row_bias = bias && a.bias_on_rows ? bias + r : nullptr;
            const float* column_bias = bias && !a.bias_on_rows ? bias + c : nullptr;
            const float tile_top = maximum_of(logits_of(a, {left, right, m, n, row_bias, column_bias}, logits));
            if (!(tile_top <= top)) {  // larger, or NaN, which must not be lost
                const Vec factor = exp_of_nonpositive(broadcast(top - tile_top));
                for (std::int64_t l = 0; l < at.wide; l += Vec::width) store(sum + l, load(sum + l) * factor);
                total = total * factor;
                top = tile_top;
            }
            // Where all logits are -inf there is no number to subtract: each e^-inf is 0.
            total = total + exponentiate_tile(logits, m, n, top == -infinity ? 0.0f : top);
            fill(tile_sum, at.wide, 0.0f);
            for (std::int64_t start = 0; start < a.channels; start += kPanel) {
                const std::int64_t width = panel_width(start, a.channels);
                const float* values = a.column.values + start * a.count + c * width;
                const float* row_values = a.row.values + start * a.count + r * width;
                multiply(RowMajor{logits, kPairColumns}, m, values, n, width,
                         [&](std::int64_t row, std::int64_t l, Vec weighted) {
                             float* to = tile_sum + start + l;
                             store(to, multiply_add(weighted, load(row_values + row * width + l), load(to)));
                         });
            }
            for (std::int64_t l = 0; l < at.wide; l += Vec::width) store(sum + l, load(sum + l) + load(tile_sum + l));
        }
    }

    const float whole = sum_of(total);
    const bool nothing = whole == 0.0f;
    if (nothing) fill(sum, at.wide, 0.0f);
    const Vec inverse = broadcast(nothing ? 0.0f : 1.0f / whole);
    float* out = a.out + i * a.out_row;
    for (std::int64_t l = 0; l < a.channels; l += Vec::width) put(out + l, load(sum + l) * inverse, a.channels - l);
    if (a.statistics) {
        a.statistics[2 * i] = nothing ? -infinity : top;
        a.statistics[2 * i + 1] = whole;
    }
}

inline void simplicial_forward(const SimplicialHead& a, std::int64_t begin, std::int64_t end, float* scratch) {
    const SimplicialScratch at(a);
    KeyRange packed = {0, 0};
    for (std::int64_t i = begin; i < end; ++i) {
        const KeyRange rows = keys_in_window(a, i, a.row.window), columns = keys_in_window(a, i, a.column.window);
        if (columns.begin != packed.begin || columns.end != packed.end) {
            pack_columns(a.column_keys_t, a, columns, scratch + at.columns);
            packed = columns;
        }
        scale_vector(a.q + i * a.q_row, a.channels, a.scale, scratch + at.query);
        if (a.bias) gather_bias(a, i, a.bias_on_rows ? rows : columns, scratch + at.bias);
        simplicial_query(a, i, rows, columns, at, scratch);
    }
}

}  // namespace
}  // namespace openfoldpp
