// The compositor's own kernels; its attention is that of simplicial_attention.cu.
//
// Products are those of simplicial_tiles.h: a float is the sum of three bfloat16. The left factor comes from shared
// or device memory as floats and is cut up on its way; the right one, a weight, was cut up when it was loaded.
#pragma once

#include <cstdint>

#include "compositor_image.h"
#include "simplicial_tiles.h"

namespace openfoldpp {
namespace {

constexpr int kNodeWarps = 16;
constexpr int kNodeThreads = kNodeWarps * kWarp;
constexpr int kFragment = kTerms * kWarp * 4;  // words of a 16 x 16 tile of a right factor
constexpr int kRowPad = 8;                     // floats after each row: the eight rows of a fragment lie in other banks
constexpr int kGroup = 4;                      // nodes i that a warp of the pair kernel takes at a time
constexpr int kPairPad = 16;                   // words after the fragments of a node i
static_assert(Precision<float>::terms == kTerms);

struct DeviceNorm {
    const float* weight;
    const float* bias;
};

struct DeviceLinear {
    const std::uint32_t* fragments;  // [column_tiles][depth_tiles][kTerms][32][4]
    const float* bias;               // or null
    int depth_tiles, column_tiles;
};

struct alignas(16) FourWords {
    std::uint32_t word[4];
};

__device__ __forceinline__ void load_fragment(std::uint32_t (&b)[kTerms][4], const std::uint32_t* fragment) {
    const int lane = threadIdx.x % kWarp;
#pragma unroll
    for (int term = 0; term < kTerms; ++term) {
        const FourWords words = reinterpret_cast<const FourWords*>(fragment)[term * kWarp + lane];
#pragma unroll
        for (int slot = 0; slot < 4; ++slot) b[term][slot] = words.word[slot];
    }
}

// 16 rows of floats, `stride` apart, columns from `first` on; zeros from row `rows` on.
__device__ __forceinline__ void split_rows(std::uint32_t (&a)[kTerms][4], const float* data, std::int64_t stride,
                                           int first, int rows) {
    const int lane = threadIdx.x % kWarp, g = lane / 4, t = lane % 4;
#pragma unroll
    for (int part = 0; part < 4; ++part) {
        const int row = g + part % 2 * 8;
        Pair values = {0.0f, 0.0f};
        if (row < rows) values = load_pair(data + row * stride + first + 2 * t + part / 2 * 8);
        std::uint32_t words[kTerms];
        split(values.x, values.y, words);
#pragma unroll
        for (int term = 0; term < kTerms; ++term) a[term][part] = words[term];
    }
}

// A 16 x 16 tile of rows times a weight: rows g and g + 8, columns 2t and 2t + 1 in `left`, those + 8 in `right`.
__device__ __forceinline__ void multiply_tile(float (&left)[4], float (&right)[4], const float* data,
                                              std::int64_t stride, int rows, const DeviceLinear& w, int column_tile) {
    const std::uint32_t* fragment = w.fragments + static_cast<std::int64_t>(column_tile) * w.depth_tiles * kFragment;
    // Unrolled for the loads: they begin together and are waited for once.
#pragma unroll 4
    for (int depth = 0; depth < w.depth_tiles; ++depth) {
        std::uint32_t a[kTerms][4], b[kTerms][4];
        load_fragment(b, fragment + depth * kFragment);
        split_rows(a, data, stride, depth * kTile, rows);
        multiply_add(left, right, a, b);
    }
}

// epilogue(row, column, x, y) for the elements at column and column + 1 of the block's 16 rows times a weight, plus
// its bias. All threads of the block take part; there is no barrier.
template <class Epilogue>
__device__ __forceinline__ void multiply_rows(const float* rows, int stride, const DeviceLinear& w,
                                              Epilogue epilogue) {
    const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp, g = lane / 4, t = lane % 4;
    for (int tile = warp; tile < w.column_tiles; tile += kNodeWarps) {
        float sums[2][4] = {};
        multiply_tile(sums[0], sums[1], rows, stride, kTile, w, tile);
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const int column = tile * kTile + half * 8 + 2 * t;
            Pair bias = {0.0f, 0.0f};
            if (w.bias) bias = load_pair(w.bias + column);
            epilogue(g, column, sums[half][0] + bias.x, sums[half][1] + bias.y);
            epilogue(g + 8, column, sums[half][2] + bias.x, sums[half][3] + bias.y);
        }
    }
}

// Layer norm of the block's 16 rows; zeros from `channels` to `padded`. `to` may be `from`.
__device__ __forceinline__ void norm_rows(const float* from, float* to, int stride, int channels, int padded,
                                          const DeviceNorm& w, float eps) {
    const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
    for (int row = warp; row < kTile; row += kNodeWarps) {
        const float* x = from + row * stride;
        float sum = 0.0f, squares = 0.0f;
        for (int c = lane; c < channels; c += kWarp) sum += x[c];
        const float mean = over_lanes(sum, 1) / static_cast<float>(channels);
        for (int c = lane; c < channels; c += kWarp) squares = fmaf(x[c] - mean, x[c] - mean, squares);
        const float variance = over_lanes(squares, 1) / static_cast<float>(channels);
        const float scale = 1.0f / sqrtf(variance + eps);
        for (int c = lane; c < padded; c += kWarp) {
            to[row * stride + c] = c < channels ? fmaf((x[c] - mean) * scale, w.weight[c], w.bias[c]) : 0.0f;
        }
    }
}

// The block's rows of a matrix [length][channels] into shared memory, filled up with zeros.
__device__ __forceinline__ void read_rows(float* to, int stride, int padded, const float* from, int channels,
                                          int first, int length) {
    for (int at = threadIdx.x; at < kTile * padded; at += kNodeThreads) {
        const int row = at / padded, c = at % padded;
        const bool inside = first + row < length && c < channels;
        to[row * stride + c] = inside ? from[static_cast<std::int64_t>(first + row) * channels + c] : 0.0f;
    }
}

// What happens between one attention and the next to 16 nodes a block: lines 6 and 7 of docs/compositor.md, then a
// layer norm and a projection, which is line 3 or, at the end, line 9. The first time, line 1 instead of 6 and 7.
struct NodesArguments {
    int length, channels, wide, hidden;
    float eps;
    const float* embedding;  // the first time, else null
    DeviceNorm norm;
    const float* attended;  // [length][wide]
    DeviceLinear output, expand, contract;
    DeviceNorm transition_norm;
    float* nodes;  // [length][channels], read but for the first time
    DeviceNorm project_norm;
    DeviceLinear project;
    float* projected;  // [length][columns of project]
    // For the next attention, or null at the end: bias by diagonals, see compositor.cpp on the CPU.
    const float* offset_bias;  // [heads][2 max_offset + 1]
    float* diagonals;          // [heads][2 length - 1]
    int heads, max_offset;
};

struct NodesPlan {
    int channels, stride, hidden, hidden_stride;  // filled up to whole tiles
    std::size_t bytes;

    __host__ __device__ NodesPlan(int channels_used, int wide, int hidden_used) {
        const int inside = wide > hidden_used ? wide : hidden_used;
        channels = (channels_used + kTile - 1) / kTile * kTile;
        hidden = (inside + kTile - 1) / kTile * kTile;
        stride = channels + kRowPad;
        hidden_stride = hidden + kRowPad;
        bytes = sizeof(float) * kTile * (2 * static_cast<std::size_t>(stride) + hidden_stride);
    }
};

__global__ void __launch_bounds__(kNodeThreads, 1) update_nodes(NodesArguments a) {
    const NodesPlan plan(a.channels, a.wide, a.hidden);
    float* x = reinterpret_cast<float*>(device::shared_memory());
    float* normed = x + kTile * plan.stride;
    float* hidden = normed + kTile * plan.stride;
    const int first = blockIdx.x * kTile;

    read_rows(x, plan.stride, plan.channels, a.embedding ? a.embedding : a.nodes, a.channels, first, a.length);
    if (a.embedding) {
        __syncthreads();
        norm_rows(x, x, plan.stride, a.channels, plan.channels, a.norm, a.eps);
    } else {
        const auto add = [&](int row, int column, float left, float right) {
            x[row * plan.stride + column] += left;
            x[row * plan.stride + column + 1] += right;
        };
        const int wide = a.output.depth_tiles * kTile;
        read_rows(hidden, plan.hidden_stride, wide, a.attended, a.wide, first, a.length);
        __syncthreads();
        multiply_rows(hidden, plan.hidden_stride, a.output, add);
        __syncthreads();
        norm_rows(x, normed, plan.stride, a.channels, plan.channels, a.transition_norm, a.eps);
        __syncthreads();
        multiply_rows(normed, plan.stride, a.expand, [&](int row, int column, float left, float right) {
            hidden[row * plan.hidden_stride + column] = fmaxf(left, 0.0f);
            hidden[row * plan.hidden_stride + column + 1] = fmaxf(right, 0.0f);
        });
        __syncthreads();
        multiply_rows(hidden, plan.hidden_stride, a.contract, add);
    }
    __syncthreads();
    norm_rows(x, normed, plan.stride, a.channels, plan.channels, a.project_norm, a.eps);
    for (int at = threadIdx.x; at < kTile * a.channels; at += kNodeThreads) {
        const int row = at / a.channels, c = at % a.channels;
        if (first + row >= a.length) continue;
        a.nodes[static_cast<std::int64_t>(first + row) * a.channels + c] = x[row * plan.stride + c];
    }
    __syncthreads();
    const int columns = a.project.column_tiles * kTile;
    multiply_rows(normed, plan.stride, a.project, [&](int row, int column, float left, float right) {
        if (first + row >= a.length) return;
        float* to = a.projected + static_cast<std::int64_t>(first + row) * columns + column;
        *reinterpret_cast<Pair*>(to) = {left, right};
    });

    const int diagonals = 2 * a.length - 1;
    const int blocks = (a.length + kTile - 1) / kTile;
    for (int at = blockIdx.x * kNodeThreads + threadIdx.x; a.diagonals && at < a.heads * diagonals;
         at += blocks * kNodeThreads) {
        const int offset = min(max(a.length - 1 - at % diagonals, -a.max_offset), a.max_offset) + a.max_offset;
        a.diagonals[at] = a.offset_bias[at / diagonals * (2 * a.max_offset + 1) + offset];
    }
}

// Line 10 for 16 nodes i, 16 pair channels and a range of nodes j a block. First the weight times the left side, for
// each i a matrix (right channel, pair channel), cut up in shared memory; then these times the right side.
struct PairArguments {
    int length, pair_channels, max_offset;
    const float* sides;  // [length][left | right], each depth_tiles of channels
    DeviceLinear outer;  // columns (pair channel, right channel)
    const float* offsets;  // [2 max_offset + 1][pair channels in whole tiles]
    float* pair;
    bool by_pairs;  // two neighbouring elements of `pair` may be written at once
    int channel_tiles, parts, tiles_of_part;  // tiles of nodes j
};

__host__ __device__ inline int pair_stride(int depth_tiles) { return depth_tiles * kFragment + kPairPad; }

// Of shared memory.
inline std::size_t pair_bytes(int depth_tiles) {
    return sizeof(std::uint32_t) * kTile * static_cast<std::size_t>(pair_stride(depth_tiles));
}

__device__ __forceinline__ void write_pair(const PairArguments& a, int i, int j, int channel, float left,
                                           float right) {
    if (j >= a.length || channel >= a.pair_channels) return;
    const int offset = min(max(i - j, -a.max_offset), a.max_offset) + a.max_offset;
    const Pair added = load_pair(a.offsets + static_cast<std::int64_t>(offset) * a.channel_tiles * kTile + channel);
    float* to = a.pair + (static_cast<std::int64_t>(i) * a.length + j) * a.pair_channels + channel;
    if (a.by_pairs) {
        *reinterpret_cast<Pair*>(to) = {left + added.x, right + added.y};
        return;
    }
    to[0] = left + added.x;
    if (channel + 1 < a.pair_channels) to[1] = right + added.y;
}

__global__ void __launch_bounds__(kNodeThreads) make_pairs(PairArguments a) {
    auto* factors = reinterpret_cast<std::uint32_t*>(device::shared_memory());
    const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp, g = lane / 4, t = lane % 4;
    const int tiles = a.outer.depth_tiles, side = tiles * kTile, of_node = pair_stride(tiles);
    const int part = blockIdx.x % a.parts, channel_tile = blockIdx.x / a.parts % a.channel_tiles;
    const int first_i = blockIdx.x / a.parts / a.channel_tiles * kTile;

    for (int item = warp; item < kTile * tiles; item += kNodeWarps) {
        const int channel = item / tiles, tile = item % tiles;
        float sums[2][4] = {};
        multiply_tile(sums[0], sums[1], a.sides + static_cast<std::int64_t>(first_i) * 2 * side, 2 * side,
                      a.length - first_i, a.outer, (channel_tile * kTile + channel) * tiles + tile);
        // Two right channels side by side are a word of the next right factor.
#pragma unroll
        for (int half = 0; half < 2; ++half) {
#pragma unroll
            for (int lower = 0; lower < 2; ++lower) {
                std::uint32_t words[kTerms];
                split(sums[lower][2 * half], sums[lower][2 * half + 1], words);
                std::uint32_t* to = factors + (g + 8 * half) * of_node + tile * kFragment +
                                    (channel % 8 * 4 + t) * 4 + channel / 8 * 2 + lower;
#pragma unroll
                for (int term = 0; term < kTerms; ++term) to[term * kWarp * 4] = words[term];
            }
        }
    }
    __syncthreads();

    const int all_tiles = (a.length + kTile - 1) / kTile, first_tile = part * a.tiles_of_part;
    const int count = min(a.tiles_of_part, all_tiles - first_tile);
    for (int item = warp; item < count * (kTile / kGroup); item += kNodeWarps) {
        const int first_j = (first_tile + item / (kTile / kGroup)) * kTile, group = item % (kTile / kGroup) * kGroup;
        if (first_i + group >= a.length) continue;
        const float* right = a.sides + static_cast<std::int64_t>(first_j) * 2 * side + side;
        float sums[kGroup][2][4] = {};
        for (int tile = 0; tile < tiles; ++tile) {
            std::uint32_t left[kTerms][4];
            split_rows(left, right, 2 * side, tile * kTile, a.length - first_j);
#pragma unroll
            for (int n = 0; n < kGroup; ++n) {
                std::uint32_t b[kTerms][4];
                load_fragment(b, factors + (group + n) * of_node + tile * kFragment);
                multiply_add(sums[n][0], sums[n][1], left, b);
            }
        }
#pragma unroll
        for (int n = 0; n < kGroup; ++n) {
            const int i = first_i + group + n;
            if (i >= a.length) continue;
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                const int channel = channel_tile * kTile + half * 8 + 2 * t;
                write_pair(a, i, first_j + g, channel, sums[n][half][0], sums[n][half][1]);
                write_pair(a, i, first_j + g + 8, channel, sums[n][half][2], sums[n][half][3]);
            }
        }
    }
}

}  // namespace
}  // namespace openfoldpp
