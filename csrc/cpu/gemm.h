// Matrix products on one thread, with an epilogue while the result is in registers; written once for every
// vec_*.h, include one of those first.
//
// out[m][n] = a[m][depth] * b[depth][n]. The result is made in tiles of kTileRows x kTileVecs registers, each
// summed over the depth in runs of kRun steps, so a result's bits depend on neither m nor n nor the other rows,
// and a long sum rounds as little as in the blocked products of a BLAS. b is packed:
// panels of kPanel columns, each [depth][columns of the panel], the last one as many whole registers wide as
// its columns need, filled up with zeros. matrix.h packs constant matrices.
#pragma once

#include <cstdint>

#define OPENFOLDPP_UNROLL _Pragma("GCC unroll 16")

namespace openfoldpp {
namespace {

constexpr int kTileRows = Vec::registers >= 16 ? 6 : 2;
constexpr int kTileVecs = Vec::registers >= 32 ? 4 : 2;  // kTileRows * kTileVecs sums, and room for operands
constexpr int kPanel = kTileVecs * Vec::width;
constexpr std::int64_t kRun = Vec::fused ? 128 : 64;  // without a fused multiply-add each step rounds twice

inline std::int64_t round_up(std::int64_t n, std::int64_t multiple) { return (n + multiple - 1) / multiple * multiple; }

// Columns that the panel beginning at `start` holds in memory.
inline std::int64_t panel_width(std::int64_t start, std::int64_t columns) {
    const std::int64_t rest = columns - start;
    return rest >= kPanel ? kPanel : round_up(rest, Vec::width);
}

// Where element (k, column) of a packed matrix stands.
inline std::int64_t packed_index(std::int64_t k, std::int64_t column, std::int64_t depth, std::int64_t columns) {
    const std::int64_t start = column - column % kPanel;
    return start * depth + k * panel_width(start, columns) + column - start;
}

// Stores the lanes that lie before the end of a row; `left` counts the row's elements from p on.
inline void put(float* p, Vec value, std::int64_t left) {
    if (left >= Vec::width) {
        store(p, value);
    } else {
        store_first(p, value, static_cast<int>(left));
    }
}
inline Vec get(const float* p, std::int64_t left) {
    return left >= Vec::width ? load(p) : load_first(p, static_cast<int>(left), 0.0f);
}

// The left matrix with its rows `stride` floats apart. Rows past the last repeat it; nobody stores them.
struct RowMajor {
    const float* data;
    std::int64_t stride;

    struct Tile {
        const float* row[kTileRows];
        float at(int r, std::int64_t k) const { return row[r][k]; }
    };
    Tile tile(std::int64_t first, std::int64_t rows) const {
        Tile result;
        for (int r = 0; r < kTileRows; ++r) {
            result.row[r] = data + (first + r < rows ? first + r : rows - 1) * stride;
        }
        return result;
    }
};

// The left matrix transposed, element (row, k) at data[k * stride + row]; kTileRows - 1 floats past each
// k's rows may be read.
struct DepthMajor {
    const float* data;
    std::int64_t stride;

    struct Tile {
        const float* first;
        std::int64_t stride;
        float at(int r, std::int64_t k) const { return first[k * stride + r]; }
    };
    Tile tile(std::int64_t first, std::int64_t) const { return {data + first, stride}; }
};

// One tile of products, summed from step `begin` to `end`, into block[kTileRows][vecs registers]; added to what is
// there unless `begin` is 0. A function of its own, and not inlined: what the epilogue keeps in registers would
// push the sums out of theirs.
template <int vecs, class Tile>
__attribute__((noinline)) void multiply_tile(const Tile& a, const float* b, std::int64_t begin, std::int64_t end,
                                             float* block) {
    Vec sum[kTileRows][vecs];
    OPENFOLDPP_UNROLL
    for (int r = 0; r < kTileRows; ++r) {
        OPENFOLDPP_UNROLL
        for (int v = 0; v < vecs; ++v) sum[r][v] = broadcast(0.0f);
    }
    for (std::int64_t k = begin; k < end; ++k) {
        Vec right[vecs];
        OPENFOLDPP_UNROLL
        for (int v = 0; v < vecs; ++v) right[v] = load(b + (k * vecs + v) * Vec::width);
        OPENFOLDPP_UNROLL
        for (int r = 0; r < kTileRows; ++r) {
            const Vec left = broadcast(a.at(r, k));
            OPENFOLDPP_UNROLL
            for (int v = 0; v < vecs; ++v) sum[r][v] = multiply_add(left, right[v], sum[r][v]);
        }
    }
    if (begin > 0) {
        OPENFOLDPP_UNROLL
        for (int r = 0; r < kTileRows; ++r) {
            OPENFOLDPP_UNROLL
            for (int v = 0; v < vecs; ++v) sum[r][v] = sum[r][v] + load(block + (r * vecs + v) * Vec::width);
        }
    }
    OPENFOLDPP_UNROLL
    for (int r = 0; r < kTileRows; ++r) {
        OPENFOLDPP_UNROLL
        for (int v = 0; v < vecs; ++v) store(block + (r * vecs + v) * Vec::width, sum[r][v]);
    }
}

template <int vecs, class Tile>
inline void multiply_in_runs(const Tile& a, const float* b, std::int64_t depth, float* block) {
    std::int64_t begin = 0;
    do {
        const std::int64_t end = depth - begin < kRun ? depth : begin + kRun;
        multiply_tile<vecs>(a, b, begin, end, block);
        begin = end;
    } while (begin < depth);
}

// Calls epilogue(row, column, Vec of the results from that column on) for each register of the product; lanes
// past the last column hold zeros times a.
template <class Left, class Epilogue>
inline void multiply(const Left& a, std::int64_t rows, const float* b, std::int64_t depth, std::int64_t columns,
                     const Epilogue& epilogue) {
    alignas(64) float block[kTileRows * kPanel];
    for (std::int64_t column = 0; column < columns; column += kPanel) {
        const float* panel = b + column * depth;
        const int vecs = static_cast<int>(panel_width(column, columns) / Vec::width);
        for (std::int64_t row = 0; row < rows; row += kTileRows) {
            const auto tile = a.tile(row, rows);
            if (vecs == 1) {
                multiply_in_runs<1>(tile, panel, depth, block);
            } else if (vecs == 2) {
                multiply_in_runs<2>(tile, panel, depth, block);
            } else if constexpr (kTileVecs > 2) {
                if (vecs == 3) {
                    multiply_in_runs<3>(tile, panel, depth, block);
                } else {
                    multiply_in_runs<4>(tile, panel, depth, block);
                }
            }
            const std::int64_t end = rows - row < kTileRows ? rows : row + kTileRows;
            const float* result = block;
            for (std::int64_t r = row; r < end; ++r) {
                for (int v = 0; v < vecs; ++v, result += Vec::width) {
                    epilogue(r, column + v * Vec::width, load(result));
                }
            }
        }
    }
}

}  // namespace
}  // namespace openfoldpp
