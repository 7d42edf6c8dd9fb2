// The forward kernel of 2-simplicial attention.
//
// For one query i the rows (q_i * k_j) are the queries of an ordinary attention with keys k2 and values v2: a warp
// makes 16 or 32 of these rows, for as many j, in registers and takes all k past them, tile by tile through shared
// memory. A row's result times v_j, summed over j, is the output. One reference for the exponentials serves all
// pairs of a query, so rows need no rescaling against each other, and bias_ij is a constant of a row.
//
// A block has four warps: for one query and four runs of j, two and two, or four and one, whichever keeps the GPU
// busier. They share the tiles of k2 and v2, which are copied while the tiles before them are used.
#pragma once

#include "simplicial_tiles.h"

namespace openfoldpp {
namespace {

// The reference may stay this far (natural logarithm) below the largest logit: e^8 is exact enough in any format
// here, and a row of tiles then rarely asks for a new one.
constexpr float kSlack = 8.0f;

template <class T, int kChannels>
struct ForwardPlan {
    static constexpr int terms = Precision<T>::terms;
    static constexpr int row_tiles = terms == 1 && kChannels <= 64 ? 2 : 1;  // of 16 rows; what the registers hold
    static constexpr int rows = 16 * row_tiles;
    static constexpr int keys = terms > 1 ? 16 : kChannels <= 32 ? 64 : 32;  // of a tile
    static constexpr int buffers = 3;                  // a tile of v2, the next one's k2, and the one on its way
    // Whether q_i * k_j stays in registers; else it is made again for each tile.
    static constexpr bool keeps_products = terms * kChannels <= 192;
    static constexpr int tile = terms * keys * (kChannels + kPad);     // elements of a tile of k2 or v2
    // Of a block; fewer than four take more rows of k and v, for which the memory may not be there.
    static constexpr int least_queries = terms * kChannels > 192 ? 4 : 1;
    static constexpr int all_rows = kWarps / least_queries * rows;     // of k and v, at most
    static constexpr int exchanged = kChannels + 2;                    // of a warp: reference, sum, output

    // Parts of the shared memory, in bytes.
    static constexpr std::size_t tiles = 0;                                            // [buffers][k2, v2] tile
    static constexpr std::size_t rows_k = tiles + 2 * buffers * tile * sizeof(bfloat16);  // [all_rows][channels + pad]
    static constexpr std::size_t rows_v = rows_k + all_rows * (kChannels + kPad) * sizeof(T);
    static constexpr std::size_t queries = rows_v + all_rows * (kChannels + kPad) * sizeof(T);  // [warps][channels]
    static constexpr std::size_t columns = queries + kWarps * kChannels * sizeof(float);        // [buffers][keys]
    static constexpr std::size_t exchange = columns + buffers * keys * sizeof(float);
    static constexpr std::size_t results = exchange + kWarps * exchanged * sizeof(float);  // [channels / 4][threads]
    static constexpr std::size_t bytes = results + kChannels / 4 * kThreads * sizeof(float);
};

// The logits, not yet scaled, of a warp's rows and a tile of keys.
template <class Plan, int kChannels, class T, class Left, class Logits>
__device__ __forceinline__ void make_logits(Logits& logits, Left& left, const T* rows, const float* factor,
                                            const bfloat16* tile) {
#pragma unroll
    for (int r = 0; r < Plan::row_tiles; ++r) {
#pragma unroll
        for (int n = 0; n < Plan::keys / 8; ++n) {
#pragma unroll
            for (int e = 0; e < 4; ++e) logits[r][n][e] = 0.0f;
        }
    }
#pragma unroll(Plan::keeps_products ? kChannels / 16 : 1)
    for (int c = 0; c < kChannels / 16; ++c) {
        const int kept_c = Plan::keeps_products ? c : 0;
        if (!Plan::keeps_products) product_fragment<kChannels>(left[0][0], rows, factor, c);
#pragma unroll
        for (int n = 0; n < Plan::keys / 16; ++n) {
            std::uint32_t right[Plan::terms][4];
            load_keys<Plan::keys, kChannels>(right, tile, n, c);
#pragma unroll
            for (int r = 0; r < Plan::row_tiles; ++r) {
                multiply_add(logits[r][2 * n], logits[r][2 * n + 1], left[r][kept_c], right);
            }
        }
    }
}

// Logits of keys that are not kept become -inf. first: the tile's first key; column: its [keys], 0 where kept.
template <class Plan, class Logits>
__device__ __forceinline__ void drop_keys(Logits& logits, const float* column, int first, Range kept_keys) {
    const int lane = threadIdx.x % kWarp, t = lane % 4;
    bool all_kept = first >= kept_keys.begin && first + Plan::keys <= kept_keys.end;
    for (int place = lane; place < Plan::keys; place += kWarp) all_kept = all_kept && column[place] == 0.0f;
    if (__all_sync(kAllLanes, all_kept)) return;
#pragma unroll
    for (int n = 0; n < Plan::keys / 8; ++n) {
#pragma unroll
        for (int e = 0; e < 2; ++e) {
            const int place = 8 * n + 2 * t + e, key = first + place;
            if (column[place] == 0.0f && key >= kept_keys.begin && key < kept_keys.end) continue;
#pragma unroll
            for (int r = 0; r < Plan::row_tiles; ++r) logits[r][n][e] = logits[r][n][2 + e] = -infinity();
        }
    }
}

// The largest of this thread's logits.
template <class Plan, class Logits, class Bias>
__device__ __forceinline__ float largest_of(const Logits& logits, const Bias& row_bias, float scale) {
    float top = -infinity();
#pragma unroll
    for (int r = 0; r < Plan::row_tiles; ++r) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            float largest = -infinity();
#pragma unroll
            for (int n = 0; n < Plan::keys / 8; ++n) {
                largest = fmaxf(largest, fmaxf(logits[r][n][2 * half], logits[r][n][2 * half + 1]));
            }
            top = fmaxf(top, fmaf(largest, scale, row_bias[r][half]));
        }
    }
    return top;
}

// Logits become exponentials, relative to the reference; returns the sum of this thread's.
template <class Plan, class Logits, class Bias>
__device__ __forceinline__ float exponentials(Logits& logits, const Bias& row_bias, float scale, float reference) {
    // Without a logit above -inf so far, any finite reference gives zeros, and lets a NaN through.
    const float base = reference == -infinity() ? 0.0f : reference;
    float sum = 0.0f;
#pragma unroll
    for (int r = 0; r < Plan::row_tiles; ++r) {
        const float offset[2] = {(row_bias[r][0] - base) * kLog2e, (row_bias[r][1] - base) * kLog2e};
#pragma unroll
        for (int n = 0; n < Plan::keys / 8; ++n) {
#pragma unroll
            for (int e = 0; e < 4; ++e) {
                logits[r][n][e] = device::exp2_fast(fmaf(logits[r][n][e], scale * kLog2e, offset[e / 2]));
                sum += logits[r][n][e];
            }
        }
    }
    return sum;
}

template <class T, int kChannels>
__global__ void __launch_bounds__(kThreads, 2)
    forward(const SimplicialInputs<T> a, const HeadView<T> out, float* statistics, int wanted_queries) {
    using Plan = ForwardPlan<T, kChannels>;
    constexpr int terms = Plan::terms, row_tiles = Plan::row_tiles, keys = Plan::keys;
    constexpr int stride = kChannels + kPad;
    const int queries_of_block = Plan::least_queries == kWarps ? kWarps : wanted_queries;
    unsigned char* shared = device::shared_memory();
    bfloat16* tiles = reinterpret_cast<bfloat16*>(shared + Plan::tiles);
    T* rows_k = reinterpret_cast<T*>(shared + Plan::rows_k);
    T* rows_v = reinterpret_cast<T*>(shared + Plan::rows_v);
    float* columns = reinterpret_cast<float*>(shared + Plan::columns);

    const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp, g = lane / 4, t = lane % 4;
    const int length = static_cast<int>(a.length);
    const int groups = (length + queries_of_block - 1) / queries_of_block;
    const int head_index = blockIdx.x / groups;
    const int b = head_index / static_cast<int>(a.heads), h = head_index % static_cast<int>(a.heads);
    const int kv_head = h / static_cast<int>(a.heads / a.kv_heads);
    const int first_query = blockIdx.x % groups * queries_of_block;
    const int last_query = min(first_query + queries_of_block, length) - 1;
    const int warps_of_query = kWarps / queries_of_block, part = warp % warps_of_query;
    const int query = first_query + warp / warps_of_query;
    const bool has_query = query < length;

    const Range all_j = reach(first_query, last_query, a.window_j, length);
    const Range all_k = reach(first_query, last_query, a.window_k, length);
    const Range my_j = reach(query, query, a.window_j, length), my_k = reach(query, query, a.window_k, length);
    const int step_rows = warps_of_query * Plan::rows;
    const int steps = (all_j.size() + step_rows - 1) / step_rows;
    const int tile_count = (all_k.size() + keys - 1) / keys;
    const T* k = row_of(a.k, b, kv_head, 0);
    const T* k2 = row_of(a.k2, b, kv_head, 0);
    const T* v = row_of(a.v, b, kv_head, 0);
    const T* v2 = row_of(a.v2, b, kv_head, 0);
    const float* mask = a.mask ? a.mask + static_cast<std::int64_t>(b) * length : nullptr;
    const float scale = rsqrtf(static_cast<float>(kChannels));

    auto rows_of_step = [&](int step) { return Range{all_j.begin + step * step_rows, all_j.end}; };
    auto copy_rows_of_step = [&](T* to, const T* from, std::int64_t row_stride, int step) {
        const Range range = rows_of_step(step);
        const unsigned kept = kept_pieces<Plan::all_rows, kChannels, T>(range, mask);
        copy_rows<Plan::all_rows, kChannels>(to, from, row_stride, range.begin, kept);
    };
    auto copy_tile = [&](int tile, int buffer) {
        const Range range = {all_k.begin + tile * keys, all_k.end};
        bfloat16* to = tiles + 2 * buffer * Plan::tile;
        const unsigned kept_rows = kept_pieces<keys, kChannels, T>(range, mask);
        copy_split<keys, kChannels>(to, k2, a.k2.row_stride, range.begin, kept_rows);
        copy_split<keys, kChannels>(to + Plan::tile, v2, a.v2.row_stride, range.begin, kept_rows);
        if (threadIdx.x < keys) {
            const int key = range.begin + threadIdx.x;
            const bool kept = key < range.end && (!mask || mask[key] != 0.0f);
            columns[buffer * keys + threadIdx.x] = kept ? 0.0f : -infinity();
        }
    };

    // All steps take the same tiles. As many as there are buffers stay where they are; else each gets the next buffer.
    const bool stay = tile_count <= Plan::buffers;
    auto buffer_of = [&](int step, int tile) { return stay ? tile : (step * tile_count + tile) % Plan::buffers; };
    // To be called when all are done with the tile before this one: the tile after the next takes its place.
    auto copy_ahead = [&](int step, int tile) {
        int next = tile + 2, next_step = step;
        for (; next >= tile_count; next -= tile_count) ++next_step;
        if (next_step < steps && !(stay && next_step > 0)) copy_tile(next, buffer_of(next_step, next));
    };

    float* factor = reinterpret_cast<float*>(shared + Plan::queries) + warp * kChannels;  // q of the warp's query
    for (int c = lane; c < kChannels; c += kWarp) {
        factor[c] = has_query ? widen(row_of(a.q, b, h, query)[c]) : 0.0f;
    }
    copy_rows_of_step(rows_k, k, a.k.row_stride, 0);
    copy_tile(0, 0);
    if (tile_count > 1 || (steps > 1 && !stay)) copy_tile(1 % tile_count, 1);
    device::wait_for_copies();
    __syncthreads();

    float reference = -infinity(), sum = 0.0f;  // the sum is this thread's share
    // Likewise its share of the output: element 2 n + e is channel 8 n + 2 t + e over the rows that it has. Kept
    // outside the registers, which a tile needs.
    float* result = reinterpret_cast<float*>(shared + Plan::results) + threadIdx.x;
#pragma unroll
    for (int n = 0; n < kChannels / 4; ++n) result[n * kThreads] = 0.0f;
    for (int step = 0; step < steps; ++step) {
        const int first_row = rows_of_step(step).begin + part * Plan::rows;
        std::uint32_t left[row_tiles][Plan::keeps_products ? kChannels / 16 : 1][terms][4];
        const T* my_rows = rows_k + part * Plan::rows * stride;
        float row_bias[row_tiles][2];
        bool any_row = false;
#pragma unroll
        for (int r = 0; r < row_tiles; ++r) {
#pragma unroll
            for (int c = 0; c < (Plan::keeps_products ? kChannels / 16 : 0); ++c) {
                product_fragment<kChannels>(left[r][c], my_rows + 16 * r * stride, factor, c);
            }
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                const int j = first_row + 16 * r + 8 * half + g;
                const bool kept = has_query && j >= my_j.begin && j < my_j.end && (!mask || mask[j] != 0.0f);
                row_bias[r][half] = !kept ? -infinity() : a.bias.data ? widen(row_of(a.bias, b, h, query)[j]) : 0.0f;
                any_row = any_row || kept;
            }
        }
        any_row = __any_sync(kAllLanes, any_row);

        __syncthreads();  // all have read rows_k, and rows_v in the step before
        copy_rows_of_step(rows_v, v, a.v.row_stride, step);
        if (Plan::keeps_products && step + 1 < steps) copy_rows_of_step(rows_k, k, a.k.row_stride, step + 1);

        float sums[row_tiles][kChannels / 8][4] = {};  // over k, of probabilities times v2
        float logits[row_tiles][keys / 8][4];
        // The logits of a tile are final, or have a new reference, before its exponentials are taken.
        auto settle = [&](int tile) {
            drop_keys<Plan>(logits, columns + buffer_of(step, tile) * keys, all_k.begin + tile * keys, my_k);
            float top = largest_of<Plan>(logits, row_bias, scale);
            if (!__any_sync(kAllLanes, top > reference + kSlack)) return;
            top = over_warp_maximum(top);
            const float shrink = device::exp2_fast((reference - top) * kLog2e);  // 0 at first
            reference = top;
            sum *= shrink;
#pragma unroll
            for (int n = 0; n < kChannels / 4; ++n) result[n * kThreads] *= shrink;
#pragma unroll
            for (int r = 0; r < row_tiles; ++r) {
#pragma unroll
                for (int n = 0; n < kChannels / 8; ++n) {
#pragma unroll
                    for (int e = 0; e < 4; ++e) sums[r][n][e] *= shrink;
                }
            }
        };
        auto take = [&](int tile) {
            sum += exponentials<Plan>(logits, row_bias, scale, reference);
            const bfloat16* v2_tile = tiles + (2 * buffer_of(step, tile) + 1) * Plan::tile;
#pragma unroll
            for (int n = 0; n < keys / 16; ++n) add_product<keys, kChannels, terms>(sums, logits, v2_tile, n);
        };

        if (any_row) {
            make_logits<Plan, kChannels>(logits, left, my_rows, factor, tiles + 2 * buffer_of(step, 0) * Plan::tile);
        }
        for (int tile = 0; tile + 1 < tile_count; ++tile) {
            if (any_row) settle(tile);
            device::wait_for_copies();
            __syncthreads();  // the next tile has arrived, and all are done with the one before this
            copy_ahead(step, tile);
            if (any_row) {
                // Of the next tile, so that the tensor cores have work while this one's exponentials are taken.
                float next[row_tiles][keys / 8][4];
                make_logits<Plan, kChannels>(next, left, my_rows, factor,
                                             tiles + 2 * buffer_of(step, tile + 1) * Plan::tile);
                take(tile);
#pragma unroll
                for (int r = 0; r < row_tiles; ++r) {
#pragma unroll
                    for (int n = 0; n < keys / 8; ++n) {
#pragma unroll
                        for (int e = 0; e < 4; ++e) logits[r][n][e] = next[r][n][e];
                    }
                }
            }
        }
        if (any_row) {
            settle(tile_count - 1);
            take(tile_count - 1);
        }
        device::wait_for_copies();
        __syncthreads();  // rows_v, the next rows_k and the next tile have arrived
        copy_ahead(step, tile_count - 1);
        if (!Plan::keeps_products && step + 1 < steps) {
            copy_rows_of_step(rows_k, k, a.k.row_stride, step + 1);
            device::wait_for_copies();
            __syncthreads();
        }
        if (!any_row) continue;
        const T* row = rows_v + (part * Plan::rows + g) * stride + 2 * t;
#pragma unroll
        for (int n = 0; n < kChannels / 8; ++n) {
            float even = 0.0f, odd = 0.0f;
#pragma unroll
            for (int r = 0; r < row_tiles; ++r) {
#pragma unroll
                for (int half = 0; half < 2; ++half) {
                    const Pair x = load_pair(row + (16 * r + 8 * half) * stride + 8 * n);
                    even = fmaf(x.x, sums[r][n][2 * half], even);
                    odd = fmaf(x.y, sums[r][n][2 * half + 1], odd);
                }
            }
            result[2 * n * kThreads] += even;
            result[(2 * n + 1) * kThreads] += odd;
        }
    }

    // The rows of a warp, then the warps of a query.
    float* exchange = reinterpret_cast<float*>(shared + Plan::exchange);
    float* mine = exchange + warp * Plan::exchanged;
    sum = over_lanes(sum, 1);
#pragma unroll
    for (int n = 0; n < kChannels / 8; ++n) {
#pragma unroll
        for (int e = 0; e < 2; ++e) {
            const float total = over_lanes(result[(2 * n + e) * kThreads], 4);
            if (g == 0) mine[2 + 8 * n + 2 * t + e] = total;
        }
    }
    if (lane == 0) {
        mine[0] = reference;
        mine[1] = sum;
    }
    __syncthreads();
    if (part != 0 || !has_query) return;
    float largest = -infinity(), total = 0.0f, share[kWarps];
    for (int w = 0; w < warps_of_query; ++w) largest = fmaxf(largest, mine[w * Plan::exchanged]);
#pragma unroll
    for (int w = 0; w < kWarps; ++w) {
        if (w >= warps_of_query) continue;
        const float below = mine[w * Plan::exchanged] - largest;
        share[w] = largest == -infinity() ? 1.0f : device::exp2_fast(below * kLog2e);
        total = fmaf(share[w], mine[w * Plan::exchanged + 1], total);
    }
    for (int c = lane; c < kChannels; c += kWarp) {
        float value = 0.0f;
#pragma unroll
        for (int w = 0; w < kWarps; ++w) {
            if (w < warps_of_query) value = fmaf(share[w], mine[w * Plan::exchanged + 2 + c], value);
        }
        assign(row_of(out, b, h, query)[c], total == 0.0f ? 0.0f : value / total);
    }
    if (statistics && lane == 0) {
        float* to = statistics + 2 * ((static_cast<std::int64_t>(b) * a.heads + h) * length + query);
        to[0] = largest;
        to[1] = total == 0.0f ? 0.0f : 1.0f / total;
    }
}

}  // namespace
}  // namespace openfoldpp
