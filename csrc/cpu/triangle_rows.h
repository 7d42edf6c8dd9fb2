// Triangle multiplication (AlphaFold 2 supplement, algorithms 11 and 12), written once for every vec_*.h;
// include one of those first.
//
// The edge tensors are kept one plane for each channel and in the order in which the products read them: left
// as blocks [n][kLeftBlock], right packed as gemm.h has it. A block of left is read whole before its products
// are known, and has as many elements, so they take its place, as [kLeftBlock][n].
#pragma once

#include "layer_norm.h"
#include "triangle_kernels.h"

namespace openfoldpp {
namespace {

constexpr int kEdges = 16;                 // rows i projected together: a cache line of one channel's plane
constexpr int kDepth = 2 * kTileRows;      // and steps k, so that a plane gets several lines at a time
constexpr int kLeftBlock = 3 * kEdges;     // a multiple of kTileRows as well
constexpr int kColumns = 64;               // columns whose channels are normed together
static_assert(kLeftBlock % kTileRows == 0 && kColumns % kPanel == 0 && kEdges % Vec::width == 0);

struct TriangleLayout {
    std::int64_t left_blocks;
    std::int64_t left_plane, right_plane;    // floats of a channel; the odd lines keep planes off each other's cache sets

    explicit TriangleLayout(std::int64_t n) {
        left_blocks = (n + kLeftBlock - 1) / kLeftBlock;
        left_plane = left_blocks * kLeftBlock * n + kEdges;
        right_plane = round_up(n, kEdges) * n + kEdges;
    }
};

inline std::int64_t triangle_edge_floats(const TriangleArguments& a) {
    const TriangleLayout layout(a.n);
    return a.hidden * (layout.left_plane + layout.right_plane);
}

inline std::int64_t triangle_project_blocks(const TriangleArguments& a) {
    return (a.n + kEdges - 1) / kEdges * ((a.n + kDepth - 1) / kDepth);
}

// Rows of scratch lie a line further apart than their length, again for the sake of the cache's sets.
inline std::int64_t spread(std::int64_t channels) { return round_up(channels, 16) + 16; }

inline std::int64_t triangle_project_scratch(const TriangleArguments& a) {
    return kEdges * kDepth * (spread(a.channels) + spread(a.hidden) + kEdges);
}

inline void triangle_project(const TriangleArguments& a, std::int64_t begin, std::int64_t end, float* scratch) {
    const TriangleLayout layout(a.n);
    const std::int64_t n = a.n, steps = (n + kDepth - 1) / kDepth;
    const std::int64_t normed_stride = spread(a.channels), edge_stride = spread(a.hidden);
    float* normed = scratch;
    float* edge = scratch + kEdges * kDepth * normed_stride;
    float* turned = edge + kEdges * kDepth * edge_stride;
    float* left = a.edges;
    float* right = a.edges + a.hidden * layout.left_plane;

    for (std::int64_t block = begin; block < end; ++block) {
        const std::int64_t i0 = block / steps * kEdges, k0 = block % steps * kDepth;
        const std::int64_t edges = n - i0 < kEdges ? n - i0 : kEdges, depth = n - k0 < kDepth ? n - k0 : kDepth;
        float mask[kEdges * kDepth];
        for (std::int64_t k = 0; k < depth; ++k) {
            for (std::int64_t i = 0; i < edges; ++i) {
                const std::int64_t r = k * edges + i;
                layer_norm(a.z + (i0 + i) * a.edge_row + (k0 + k) * a.edge_column, a.channels, a.norm_weight,
                           a.norm_bias, a.eps, normed + r * normed_stride);
                mask[r] = a.mask ? a.mask[(i0 + i) * a.mask_row + (k0 + k) * a.mask_column] : 1.0f;
            }
        }
        const auto project = [&](const float* gate, const float* gate_bias, const float* value,
                                 const float* value_bias) {
            const RowMajor rows = {normed, normed_stride};
            multiply(rows, edges * depth, gate, a.channels, a.hidden, [&](std::int64_t r, std::int64_t c, Vec sum) {
                store(edge + r * edge_stride + c, logistic(sum + load(gate_bias + c)) * broadcast(mask[r]));
            });
            multiply(rows, edges * depth, value, a.channels, a.hidden, [&](std::int64_t r, std::int64_t c, Vec sum) {
                float* to = edge + r * edge_stride + c;
                store(to, (sum + load(value_bias + c)) * load(to));
            });
        };
        // Moves the block into the planes. It is turned in the cache, a few channels at a time, and then copied
        // by whole lines: single floats would fill the store buffer with lines that wait for memory.
        const auto scatter = [&](float* planes, std::int64_t plane, std::int64_t first, std::int64_t step) {
            const std::int64_t line = step < kEdges ? step : kEdges;
            for (std::int64_t c0 = 0; c0 < a.hidden; c0 += kEdges) {
                const std::int64_t channels = a.hidden - c0 < kEdges ? a.hidden - c0 : kEdges;
                for (std::int64_t k = 0; k < depth; ++k) {
                    for (std::int64_t i = 0; i < kEdges; ++i) {
                        const float* from = edge + (k * edges + i) * edge_stride + c0;
                        float* to = turned + k * kEdges + i;
                        for (std::int64_t c = 0; c < channels; ++c) {
                            to[c * kDepth * kEdges] = i < edges ? from[c] : 0.0f;
                        }
                    }
                }
                for (std::int64_t c = 0; c < channels; ++c) {
                    for (std::int64_t k = 0; k < depth; ++k) {
                        const float* from = turned + (c * kDepth + k) * kEdges;
                        float* to = planes + (c0 + c) * plane + first + (k0 + k) * step;
                        for (std::int64_t i = 0; i < line; i += Vec::width) store(to + i, load(from + i));
                    }
                }
            }
        };
        project(a.left_gate, a.left_gate_bias, a.left, a.left_bias);
        const std::int64_t left_first = i0 / kLeftBlock * kLeftBlock * n + i0 % kLeftBlock;
        scatter(left, layout.left_plane, left_first, kLeftBlock);
        project(a.right_gate, a.right_gate_bias, a.right, a.right_bias);
        scatter(right, layout.right_plane, packed_index(0, i0, n, n), panel_width(i0 - i0 % kPanel, n));
    }
}

inline std::int64_t triangle_product_scratch(const TriangleArguments& a) { return kLeftBlock * a.n; }

// One channel for each step from begin to end.
inline void triangle_products(const TriangleArguments& a, std::int64_t begin, std::int64_t end, float* scratch) {
    const TriangleLayout layout(a.n);
    const std::int64_t n = a.n;
    for (std::int64_t c = begin; c < end; ++c) {
        float* left = a.edges + c * layout.left_plane;
        const float* right = a.edges + a.hidden * layout.left_plane + c * layout.right_plane;
        for (std::int64_t i0 = 0; i0 < n; i0 += kLeftBlock) {
            const std::int64_t rows = n - i0 < kLeftBlock ? n - i0 : kLeftBlock;
            float* block = left + i0 * n;
            multiply(DepthMajor{block, kLeftBlock}, rows, right, n, n,
                     [&](std::int64_t r, std::int64_t j, Vec sum) { put(scratch + r * n + j, sum, n - j); });
            for (std::int64_t x = 0; x < rows * n; x += Vec::width) {
                put(block + x, get(scratch + x, rows * n - x), rows * n - x);
            }
        }
    }
}

constexpr std::int64_t kProductPlane = kColumns + 16;

inline std::int64_t triangle_combine_scratch(const TriangleArguments& a) {
    return a.hidden * kProductPlane + kColumns * 2 * spread(a.channels);
}

// Layer norm over the channels of products[channel][column], for the columns of one row.
inline void norm_planes(float* products, std::int64_t channels, std::int64_t columns, const float* weight,
                        const float* bias, float eps) {
    const Vec count = broadcast(static_cast<float>(channels));
    for (std::int64_t j = 0; j < columns; j += Vec::width) {
        float* x = products + j;
        Vec total = broadcast(0.0f);
        for (std::int64_t c = 0; c < channels; ++c) total = total + load(x + c * kProductPlane);
        const Vec mean = total / count;
        Vec squares = broadcast(0.0f);
        for (std::int64_t c = 0; c < channels; ++c) {
            const Vec d = load(x + c * kProductPlane) - mean;
            squares = multiply_add(d, d, squares);
        }
        const Vec scale = broadcast(1.0f) / square_root(squares / count + broadcast(eps));
        for (std::int64_t c = 0; c < channels; ++c) {
            float* at = x + c * kProductPlane;
            store(at, multiply_add((load(at) - mean) * scale, broadcast(weight[c]), broadcast(bias[c])));
        }
    }
}

// One row i for each step from begin to end.
inline void triangle_combine(const TriangleArguments& a, std::int64_t begin, std::int64_t end, float* scratch) {
    const TriangleLayout layout(a.n);
    const std::int64_t n = a.n, stride = spread(a.channels);
    float* products = scratch;
    float* normed = scratch + a.hidden * kProductPlane;
    float* gate = normed + kColumns * stride;

    for (std::int64_t i = begin; i < end; ++i) {
        const float* row = a.edges + i / kLeftBlock * kLeftBlock * n + i % kLeftBlock * n;
        for (std::int64_t j0 = 0; j0 < n; j0 += kColumns) {
            const std::int64_t columns = n - j0 < kColumns ? n - j0 : kColumns;
            for (std::int64_t c = 0; c < a.hidden; ++c) {
                const float* from = row + c * layout.left_plane + j0;
                for (std::int64_t j = 0; j < columns; j += Vec::width) {
                    store(products + c * kProductPlane + j, get(from + j, columns - j));
                }
            }
            norm_planes(products, a.hidden, columns, a.norm_out_weight, a.norm_out_bias, a.eps_out);
            for (std::int64_t j = 0; j < columns; ++j) {
                layer_norm(a.z + i * a.z_row + (j0 + j) * a.z_column, a.channels, a.norm_weight, a.norm_bias, a.eps,
                           normed + j * stride);
            }
            multiply(RowMajor{normed, stride}, columns, a.gate, a.channels, a.channels,
                     [&](std::int64_t j, std::int64_t c, Vec sum) {
                         store(gate + j * stride + c, logistic(sum + load(a.gate_bias + c)));
                     });
            multiply(DepthMajor{products, kProductPlane}, columns, a.output, a.hidden, a.channels,
                     [&](std::int64_t j, std::int64_t c, Vec sum) {
                         const std::int64_t left_over = a.channels - c;
                         sum = (sum + load(a.output_bias + c)) * load(gate + j * stride + c);
                         if (a.residual) {
                             sum = sum + get(a.residual + i * a.residual_row + (j0 + j) * a.residual_column + c,
                                             left_over);
                         }
                         put(a.out + i * a.out_row + (j0 + j) * a.out_column + c, sum, left_over);
                     });
        }
    }
}

}  // namespace
}  // namespace openfoldpp
