// The backward kernels of 2-simplicial attention, without atomic sums: a result has the same bits at every run.
//
// With P the probabilities, D_ijk = sum_l dO_il v_jl v2_kl, and dA = P * (D - sum_l dO_il out_il):
//   U_ij = sum_k dA_ijk k2_k:  dq_i = s sum_j k_j * U_ij,  dk_j = s sum_i q_i * U_ij,  dbias_ij = sum_k dA_ijk,
//   W_ij = sum_k P_ijk v2_k:   dv_j = sum_i dO_i * W_ij,   with s = channels^-1/2;
// and dk2, dv2 as dk, dv with the parts of j and k exchanged. So one kernel runs twice. Its rows are pairs of a query
// and a j (or k), 16 or 32 of the latter: a warp makes the rows of its query, takes all keys of the other side past
// them and keeps U and W in registers. A block has four queries at a time and all queries of a run after each other,
// for the same rows, and writes the sums over its queries; another kernel adds those of the blocks, in order.
#pragma once

#include "simplicial_tiles.h"

namespace openfoldpp {
namespace {

enum class Rows { j, k };

// How the work of a head is cut: into runs of rows and runs of queries. Partial sums, float32, of all heads:
// dq [row_runs][batch][heads][length][channels], and of the gradients of the rows' k and v
// [query_runs][batch][heads][length][channels] each.
struct Cut {
    int row_runs, query_runs;
};

struct Partial {
    float *q, *k, *v;
};

template <class T, int kChannels>
struct BackwardPlan {
    static constexpr int terms = Precision<T>::terms;
    static constexpr int row_tiles = terms == 1 && kChannels <= 32 ? 2 : 1;
    static constexpr int rows = 16 * row_tiles;
    static constexpr int keys = terms == 1 ? (kChannels < 128 ? 64 : 32) : kChannels < 128 ? 32 : 16;
    static constexpr int chunk = terms == 1 && kChannels == 64 ? 32 : 16;
    // Whether q_i * k_j and dO_i * v_j stay in registers; else they are made again for each chunk.
    static constexpr bool keeps_q = terms * kChannels <= 128, keeps_g = terms * kChannels <= 64;
    static constexpr int blocks = terms == 1 && kChannels == 16 ? 3 : 2;  // of a multiprocessor
    static constexpr int tile = terms * keys * (kChannels + kPad);
    // Channels of U and W that a block makes; with fewer than all, other blocks make the others.
    static constexpr int outputs = terms > 1 && kChannels > 64 ? 64 : kChannels;
    static constexpr int shares = kChannels / outputs;
    static constexpr int sums = row_tiles * outputs / 2;  // elements that a thread has of U and of W

    static constexpr std::size_t tiles = 0;  // [2][keys, values] tile
    static constexpr std::size_t own = tiles + 4 * tile * sizeof(bfloat16);                      // [k, v][rows]
    static constexpr std::size_t factors = own + 2 * rows * (kChannels + kPad) * sizeof(T);      // [warps][q, dO]
    static constexpr std::size_t columns = factors + 2 * kWarps * kChannels * sizeof(float);     // [2][keys]
    static constexpr std::size_t totals = columns + 2 * keys * sizeof(float);  // [k, v][sums][threads]
    static constexpr std::size_t sources = totals + 2 * sums * kThreads * sizeof(float);
    static constexpr std::size_t bytes = sources + 160;
};

// The first row of everything, for a block's head. In shared memory, which leaves the registers to the products.
template <class T>
struct Sources {
    const T *q, *d_out, *out, *bias, *own_k, *own_v, *keys, *values;
    T* d_bias;
    const float *mask, *statistics;
    Partial partial;
    Range queries, row_tiles;  // of this block
    int first_channel;
};

__device__ __forceinline__ Range run_of(int index, int runs, int count) {
    return {static_cast<int>(static_cast<std::int64_t>(count) * index / runs),
            static_cast<int>(static_cast<std::int64_t>(count) * (index + 1) / runs)};
}

template <class T, int kChannels, Rows side>
__global__ void __launch_bounds__(kThreads, (BackwardPlan<T, kChannels>::blocks))
    backward(const SimplicialInputs<T> a, const HeadView<const T> out, const float* statistics,
             const HeadView<const T> d_out, const HeadView<T> d_bias, const Partial partial, const Cut cut) {
    using Plan = BackwardPlan<T, kChannels>;
    constexpr int terms = Plan::terms, row_tiles = Plan::row_tiles, keys = Plan::keys, chunk = Plan::chunk;
    constexpr int stride = kChannels + kPad, outputs = Plan::outputs;
    unsigned char* shared = device::shared_memory();
    bfloat16* tiles = reinterpret_cast<bfloat16*>(shared + Plan::tiles);
    T* own_k = reinterpret_cast<T*>(shared + Plan::own);
    T* own_v = own_k + Plan::rows * stride;
    float* columns = reinterpret_cast<float*>(shared + Plan::columns);

    const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp, g = lane / 4, t = lane % 4;
    float* factor_q = reinterpret_cast<float*>(shared + Plan::factors) + 2 * warp * kChannels;
    float* factor_g = factor_q + kChannels;
    float* total_k = reinterpret_cast<float*>(shared + Plan::totals) + threadIdx.x;
    float* total_v = total_k + Plan::sums * kThreads;

    const int length = static_cast<int>(a.length);
    const HeadView<const T>& own_k_view = side == Rows::j ? a.k : a.k2;
    const HeadView<const T>& own_v_view = side == Rows::j ? a.v : a.v2;
    const HeadView<const T>& key_view = side == Rows::j ? a.k2 : a.k;
    const HeadView<const T>& value_view = side == Rows::j ? a.v2 : a.v;
    const std::int64_t row_window = side == Rows::j ? a.window_j : a.window_k;
    const std::int64_t key_window = side == Rows::j ? a.window_k : a.window_j;
    Sources<T>& at = *reinterpret_cast<Sources<T>*>(shared + Plan::sources);
    static_assert(sizeof(Sources<T>) <= 160);
    if (threadIdx.x == 0) {
        const int run = blockIdx.x / Plan::shares;
        const int query_run = run % cut.query_runs, row_run = run / cut.query_runs % cut.row_runs;
        const std::int64_t head_index = run / cut.query_runs / cut.row_runs;
        const std::int64_t b = head_index / a.heads, h = head_index % a.heads, kv_head = h / (a.heads / a.kv_heads);
        const std::int64_t all_rows = a.batch * a.heads * length, first_row = head_index * length;
        at = {row_of(a.q, b, h, 0),
              row_of(d_out, b, h, 0),
              row_of(out, b, h, 0),
              a.bias.data ? row_of(a.bias, b, h, 0) : nullptr,
              row_of(own_k_view, b, kv_head, 0),
              row_of(own_v_view, b, kv_head, 0),
              row_of(key_view, b, kv_head, 0),
              row_of(value_view, b, kv_head, 0),
              d_bias.data ? row_of(d_bias, b, h, 0) : nullptr,
              a.mask ? a.mask + b * length : nullptr,
              statistics + 2 * first_row,
              {partial.q + (row_run * all_rows + first_row) * kChannels,
               partial.k + (query_run * all_rows + first_row) * kChannels,
               partial.v + (query_run * all_rows + first_row) * kChannels},
              run_of(query_run, cut.query_runs, length),
              run_of(row_run, cut.row_runs, (length + Plan::rows - 1) / Plan::rows),
              static_cast<int>(blockIdx.x) % Plan::shares * Plan::outputs};
    }
    __syncthreads();
    const float scale = rsqrtf(static_cast<float>(kChannels));

    auto copy_tile = [&](Range all, int tile, int buffer) {
        const Range range = {all.begin + tile * keys, all.end};
        bfloat16* to = tiles + 2 * buffer * Plan::tile;
        const unsigned kept_rows = kept_pieces<keys, kChannels, T>(range, at.mask);
        copy_split<keys, kChannels>(to, at.keys, key_view.row_stride, range.begin, kept_rows);
        copy_split<keys, kChannels>(to + Plan::tile, at.values, value_view.row_stride, range.begin, kept_rows);
        if (threadIdx.x < keys) {
            const int key = range.begin + threadIdx.x;
            const bool kept = key < range.end && (!at.mask || at.mask[key] != 0.0f);
            columns[buffer * keys + threadIdx.x] = kept ? 0.0f : -infinity();
        }
    };
    // q_i * k_j is rounded, not q_i * k2_k, on either side: the same logits as forward's, to the bit. Other ones, with
    // forward's sum of their exponentials, would give probabilities that do not add up to 1.
    constexpr bool factor_on_keys = side == Rows::k && terms == 1;
    auto make_left_q = [&](std::uint32_t(&left)[terms][4], int r, int c) {
        if constexpr (factor_on_keys) {
            row_fragment<kChannels>(left, own_k + 16 * r * stride, c);
        } else {
            product_fragment<kChannels>(left, own_k + 16 * r * stride, factor_q, c);
        }
    };
    auto keys_of = [&](int first, int end) { return reach(first, end - 1, key_window, length); };

    for (int row_tile = at.row_tiles.begin; row_tile < at.row_tiles.end; ++row_tile) {
        const int first_row = row_tile * Plan::rows;
        const Range queries = at.queries;
        const Range wanted = reach(first_row, min(first_row + Plan::rows, length) - 1, row_window, length);
        const int first_query = max(queries.begin, wanted.begin), end_query = min(queries.end, wanted.end);
        if (side == Rows::j && d_bias.data && at.first_channel == 0) {  // what no window reaches
            for (int i = queries.begin + warp; i < queries.end; i += kWarps) {
                const int j = first_row + lane;
                if ((i < first_query || i >= end_query) && lane < Plan::rows && j < length) {
                    assign(at.d_bias[i * d_bias.row_stride + j], 0.0f);
                }
            }
        }

        __syncthreads();  // nobody uses own_k, own_v or a tile of keys any more
        const unsigned kept_rows = kept_pieces<Plan::rows, kChannels, T>({first_row, length}, at.mask);
        copy_rows<Plan::rows, kChannels>(own_k, at.own_k, own_k_view.row_stride, first_row, kept_rows);
        copy_rows<Plan::rows, kChannels>(own_v, at.own_v, own_v_view.row_stride, first_row, kept_rows);
        if (first_query < end_query) copy_tile(keys_of(first_query, min(first_query + kWarps, end_query)), 0, 0);
#pragma unroll
        for (int e = 0; e < Plan::sums; ++e) total_k[e * kThreads] = total_v[e * kThreads] = 0.0f;
        device::wait_for_copies();
        __syncthreads();

        int buffer = 0;
        for (int first = first_query; first < end_query; first += kWarps) {
            const int group_end = min(first + kWarps, end_query), query = first + warp;
            const bool has_query = query < group_end;
            const Range all_keys = keys_of(first, group_end), my_keys = reach(query, query, key_window, length);
            const Range my_rows = reach(query, query, row_window, length);
            const int tile_count = (all_keys.size() + keys - 1) / keys;

            float inner = 0.0f;  // sum of dO * out
            __syncwarp();
            for (int c = lane; c < kChannels; c += kWarp) {
                factor_q[c] = has_query ? widen(at.q[query * a.q.row_stride + c]) : 0.0f;
                factor_g[c] = has_query ? widen(at.d_out[query * d_out.row_stride + c]) : 0.0f;
                if (has_query) inner = fmaf(factor_g[c], widen(at.out[query * out.row_stride + c]), inner);
            }
            inner = over_lanes(inner, 1);
            __syncwarp();
            const float reference = has_query ? at.statistics[2 * query] : -infinity();
            const float finite_reference = reference == -infinity() ? 0.0f : reference;
            const bool biased = a.bias.data;

            // P = share * 2^(logit scale log2 e + row_offset + key_offset), as in forward; the share comes last.
            std::uint32_t left_q[row_tiles][Plan::keeps_q ? kChannels / 16 : 1][terms][4];
            std::uint32_t left_g[row_tiles][Plan::keeps_g ? kChannels / 16 : 1][terms][4];
            float row_offset[row_tiles][2];
            bool any_row = false;
#pragma unroll
            for (int r = 0; r < row_tiles; ++r) {
#pragma unroll
                for (int c = 0; c < kChannels / 16; ++c) {
                    if (Plan::keeps_q) make_left_q(left_q[r][Plan::keeps_q ? c : 0], r, c);
                    if (Plan::keeps_g) {
                        product_fragment<kChannels>(left_g[r][Plan::keeps_g ? c : 0], own_v + 16 * r * stride,
                                                    factor_g, c);
                    }
                }
#pragma unroll
                for (int half = 0; half < 2; ++half) {
                    const int row = first_row + 16 * r + 8 * half + g;
                    const bool kept = reference != -infinity() && row >= my_rows.begin && row < my_rows.end &&
                                      (!at.mask || at.mask[row] != 0.0f);
                    float of_bias = 0.0f;
                    if (side == Rows::j && biased && kept) of_bias = widen(at.bias[query * a.bias.row_stride + row]);
                    // The difference first: its terms may be large.
                    const float of_row = side == Rows::k ? 0.0f : of_bias - reference;
                    row_offset[r][half] = kept ? of_row * kLog2e : -infinity();
                    any_row = any_row || kept;
                }
            }
            any_row = __any_sync(kAllLanes, any_row);

            float u[row_tiles][outputs / 8][4] = {}, w[row_tiles][outputs / 8][4] = {};
            float bias_sum[row_tiles][2] = {};
            for (int tile = 0; tile < tile_count; ++tile) {
                device::wait_for_copies();
                __syncthreads();  // the tile has arrived, and nobody uses the other buffer any more
                if (tile + 1 < tile_count) {
                    copy_tile(all_keys, tile + 1, 1 - buffer);
                } else if (group_end < end_query) {
                    copy_tile(keys_of(group_end, min(group_end + kWarps, end_query)), 0, 1 - buffer);
                }
                const bfloat16* tile_keys = tiles + 2 * buffer * Plan::tile;
                const float* tile_columns = columns + buffer * keys;
                buffer = 1 - buffer;

#pragma unroll 1
                for (int start = 0; any_row && start < keys; start += chunk) {
                    const int first_key = all_keys.begin + tile * keys + start;
                    if (first_key >= my_keys.end || first_key + chunk <= my_keys.begin) continue;
                    const bfloat16* k = tile_keys + start * stride;
                    const bfloat16* v = k + Plan::tile;
                    const float* column = tile_columns + start;
                    const int first_channel = Plan::shares > 1 ? at.first_channel : 0;

                    float p[row_tiles][chunk / 8][4] = {}, d[row_tiles][chunk / 8][4] = {};
#pragma unroll(Plan::keeps_q ? kChannels / 16 : 1)
                    for (int c = 0; c < kChannels / 16; ++c) {
                        const int kept_c = Plan::keeps_q ? c : 0;
                        if (!Plan::keeps_q) make_left_q(left_q[0][0], 0, c);
#pragma unroll
                        for (int n = 0; n < chunk / 16; ++n) {
                            std::uint32_t right[terms][4];
                            load_keys<keys, kChannels>(right, k, n, c);
                            if constexpr (factor_on_keys) multiply_keys(right, factor_q, c);
#pragma unroll
                            for (int r = 0; r < row_tiles; ++r) {
                                multiply_add(p[r][2 * n], p[r][2 * n + 1], left_q[r][kept_c], right);
                            }
                        }
                    }
#pragma unroll(Plan::keeps_g ? kChannels / 16 : 1)
                    for (int c = 0; c < kChannels / 16; ++c) {
                        const int kept_c = Plan::keeps_g ? c : 0;
                        if (!Plan::keeps_g) product_fragment<kChannels>(left_g[0][0], own_v, factor_g, c);
#pragma unroll
                        for (int n = 0; n < chunk / 16; ++n) {
                            std::uint32_t right[terms][4];
                            load_keys<keys, kChannels>(right, v, n, c);
#pragma unroll
                            for (int r = 0; r < row_tiles; ++r) {
                                multiply_add(d[r][2 * n], d[r][2 * n + 1], left_g[r][kept_c], right);
                            }
                        }
                    }

                    bool all_kept = first_key >= my_keys.begin && first_key + chunk <= my_keys.end;
                    if (lane < chunk) all_kept = all_kept && column[lane] == 0.0f;
                    all_kept = __all_sync(kAllLanes, all_kept);
#pragma unroll
                    for (int n = 0; n < chunk / 8; ++n) {
                        float key_offset[2] = {};
                        if (side == Rows::k) key_offset[0] = key_offset[1] = -finite_reference * kLog2e;
                        if (!all_kept || (side == Rows::k && biased)) {
#pragma unroll
                            for (int e = 0; e < 2; ++e) {
                                const int place = 8 * n + 2 * t + e, key = first_key + place;
                                const bool kept = column[place] == 0.0f && key >= my_keys.begin && key < my_keys.end;
                                if (!kept) {
                                    key_offset[e] = -infinity();
                                } else if (side == Rows::k && biased) {
                                    const float of_bias = widen(at.bias[query * a.bias.row_stride + key]);
                                    key_offset[e] = (of_bias - finite_reference) * kLog2e;
                                }
                            }
                        }
#pragma unroll
                        for (int r = 0; r < row_tiles; ++r) {
#pragma unroll
                            for (int e = 0; e < 4; ++e) {
                                const float offset = row_offset[r][e / 2] + key_offset[e % 2];
                                const float probability = device::exp2_fast(fmaf(p[r][n][e], scale * kLog2e, offset));
                                p[r][n][e] = probability;
                                d[r][n][e] = probability * (d[r][n][e] - inner);
                                if (side == Rows::j) bias_sum[r][e / 2] += d[r][n][e];
                            }
                        }
                    }

#pragma unroll
                    for (int n = 0; n < chunk / 16; ++n) {
                        add_product<keys, kChannels, terms>(u, d, k + first_channel, n);
                        add_product<keys, kChannels, terms>(w, p, v + first_channel, n);
                    }
                }
            }

            if (!has_query) continue;
            const float share = at.statistics[2 * query + 1];  // 1 / the sum of exponentials
            if (side == Rows::j && d_bias.data && at.first_channel == 0) {
#pragma unroll
                for (int r = 0; r < row_tiles; ++r) {
#pragma unroll
                    for (int half = 0; half < 2; ++half) {
                        float sum = bias_sum[r][half];
                        sum += __shfl_xor_sync(kAllLanes, sum, 1);
                        sum += __shfl_xor_sync(kAllLanes, sum, 2);
                        const int row = first_row + 16 * r + 8 * half + g;
                        if (t == 0 && row < length) {
                            assign(at.d_bias[query * d_bias.row_stride + row], share * sum);
                        }
                    }
                }
            }
            if (!any_row) continue;
            const int my_channel = at.first_channel + 2 * t;
            float* d_q = at.partial.q + static_cast<std::int64_t>(query) * kChannels + my_channel;
#pragma unroll
            for (int n = 0; n < outputs / 8; ++n) {
                Pair of_q = load_pair(factor_q + my_channel + 8 * n), of_g = load_pair(factor_g + my_channel + 8 * n);
                of_q = {share * of_q.x, share * of_q.y};
                of_g = {share * of_g.x, share * of_g.y};
                float even = 0.0f, odd = 0.0f;
#pragma unroll
                for (int r = 0; r < row_tiles; ++r) {
#pragma unroll
                    for (int e = 0; e < 4; ++e) {
                        const int place = ((r * outputs / 8 + n) * 4 + e) * kThreads;
                        total_k[place] = fmaf(e % 2 ? of_q.y : of_q.x, u[r][n][e], total_k[place]);
                        total_v[place] = fmaf(e % 2 ? of_g.y : of_g.x, w[r][n][e], total_v[place]);
                    }
                    if (side == Rows::j) {
#pragma unroll
                        for (int half = 0; half < 2; ++half) {
                            const Pair x = load_pair(own_k + (16 * r + 8 * half + g) * stride + my_channel + 8 * n);
                            even = fmaf(x.x, u[r][n][2 * half], even);
                            odd = fmaf(x.y, u[r][n][2 * half + 1], odd);
                        }
                    }
                }
                if (side == Rows::j) {
                    even = over_lanes(even, 4);
                    odd = over_lanes(odd, 4);
                    if (g == 0) {  // one row tile after the other, with barriers between
                        d_q[8 * n] += share * even;
                        d_q[8 * n + 1] += share * odd;
                    }
                }
            }
        }

        __syncthreads();
        const float* totals = reinterpret_cast<const float*>(shared + Plan::totals);
        for (int index = device::thread_index(); index < 2 * Plan::sums * kWarp; index += kThreads) {
            const int from = index % kWarp, element = index / kWarp % Plan::sums, of_v = index / kWarp / Plan::sums;
            float sum = 0.0f;
#pragma unroll
            for (int other = 0; other < kWarps; ++other) {
                sum += totals[(of_v * Plan::sums + element) * kThreads + other * kWarp + from];
            }
            const int e = element % 4, n = element / 4 % (outputs / 8), r = element / 4 / (outputs / 8);
            const int row = first_row + 16 * r + 8 * (e / 2) + from / 4;
            const int channel = at.first_channel + 8 * n + from % 4 * 2 + e % 2;
            if (row < length) {
                (of_v ? at.partial.v : at.partial.k)[static_cast<std::int64_t>(row) * kChannels + channel] = sum;
            }
        }
    }
}

}  // namespace
}  // namespace openfoldpp
