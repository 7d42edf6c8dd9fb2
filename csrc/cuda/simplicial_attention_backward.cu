// 2-simplicial attention, backward: the checks, how the work is cut, and the launches.
#include "launch.h"
#include "openfoldpp/cuda_simplicial_attention.h"
#include "simplicial_backward.h"
#include "simplicial_launch.h"

namespace openfoldpp {
namespace {

// to [batch, kv_heads, length] vectors = factor * the sum over the runs of parts [runs][batch][heads][length]
// [channels] and over the heads that share one of `to`.
template <class T>
__global__ void __launch_bounds__(kThreads)
    add_parts(const float* parts, int runs, HeadView<T> to, float factor, std::int64_t batch, std::int64_t heads,
              std::int64_t kv_heads, std::int64_t length, std::int64_t channels) {
    const std::int64_t index = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
    if (index >= batch * kv_heads * length * channels) return;
    const std::int64_t channel = index % channels, row = index / channels % length;
    const std::int64_t kv_head = index / channels / length % kv_heads, b = index / channels / length / kv_heads;
    const std::int64_t shared_by = heads / kv_heads;
    float sum = 0.0f;
    for (std::int64_t h = kv_head * shared_by; h < (kv_head + 1) * shared_by; ++h) {
        for (int run = 0; run < runs; ++run) {
            sum += parts[(((run * batch + b) * heads + h) * length + row) * channels + channel];
        }
    }
    assign(row_of(to, b, kv_head, row)[channel], factor * sum);
}

template <class T, int kChannels>
Cut cut_of(const SimplicialInputs<T>& a) {
    using Plan = BackwardPlan<T, kChannels>;
    const std::int64_t tiles = ceil_div(a.length, Plan::rows), groups = ceil_div(a.length, kWarps);
    // Twice as many blocks as run at once, so that few wait for the last; partial sums grow with them.
    const std::int64_t blocks = 2 * Plan::blocks * multiprocessors("simplicial attention, backward");
    const std::int64_t of_head = ceil_div(blocks, a.batch * a.heads * Plan::shares);
    const bool windows = a.window_j >= 0 || a.window_k >= 0;
    const auto even = static_cast<std::int64_t>(std::sqrt(2.0 * static_cast<double>(of_head)));
    const std::int64_t row_runs = std::max<std::int64_t>(1, std::min(tiles, windows ? 2 * even : even));
    const std::int64_t query_runs = std::max<std::int64_t>(1, std::min(groups, ceil_div(of_head, row_runs)));
    return {static_cast<int>(row_runs), static_cast<int>(query_runs)};
}

template <class T>
std::int64_t workspace(const SimplicialInputs<T>& a) {
    require_sizes(a);
    if (a.batch == 0 || a.heads == 0 || a.length == 0) return 0;
    Cut cut = {};
    with_channels(a.channels, [&](auto channels) { cut = cut_of<T, decltype(channels)::value>(a); });
    const std::int64_t elements = a.batch * a.heads * a.length * a.channels;
    return (cut.row_runs + 2 * cut.query_runs) * elements * static_cast<std::int64_t>(sizeof(float));
}

template <class T>
void run(const SimplicialInputs<T>& a, const HeadView<const T>& out, const float* statistics,
         const HeadView<const T>& d_out, const SimplicialGradients<T>& to, void* memory, void* stream) {
    const char* what = "simplicial attention, backward";
    require_inputs(a);
    if (a.batch == 0 || a.heads == 0 || a.length == 0) return;
    require(out && d_out && statistics && memory && to.q && to.k && to.k2 && to.v && to.v2, "an array is missing");
    require(!to.bias || a.bias, "a gradient of the bias is asked for, and there is no bias");
    with_channels(a.channels, [&](auto channels) {
        constexpr int kChannels = decltype(channels)::value;
        using Plan = BackwardPlan<T, kChannels>;
        const Cut cut = cut_of<T, kChannels>(a);
        const std::int64_t elements = a.batch * a.heads * a.length * kChannels;
        const std::int64_t blocks = a.batch * a.heads * cut.row_runs * cut.query_runs * Plan::shares;
        const float scale = 1.0f / std::sqrt(static_cast<float>(kChannels));
        Partial partial;
        partial.q = static_cast<float*>(memory);
        partial.k = partial.q + cut.row_runs * elements;
        partial.v = partial.k + cut.query_runs * elements;
        const auto add = [&](const float* parts, int runs, const HeadView<T>& gradient, float factor,
                             std::int64_t kv_heads) {
            launch(what, add_parts<T>, ceil_div(a.batch * kv_heads * a.length * kChannels, kThreads), kThreads, 0,
                   stream, parts, runs, gradient, factor, a.batch, a.heads, kv_heads, a.length, a.channels);
        };
        require_success(cudaMemsetAsync(partial.q, 0, cut.row_runs * elements * sizeof(float),
                                        static_cast<cudaStream_t>(stream)),
                        what);
        launch(what, backward<T, kChannels, Rows::j>, blocks, kThreads, Plan::bytes, stream, a, out, statistics, d_out,
               to.bias, partial, cut);
        add(partial.q, cut.row_runs, to.q, scale, a.heads);
        add(partial.k, cut.query_runs, to.k, scale, a.kv_heads);
        add(partial.v, cut.query_runs, to.v, 1.0f, a.kv_heads);
        launch(what, backward<T, kChannels, Rows::k>, blocks, kThreads, Plan::bytes, stream, a, out, statistics, d_out,
               HeadView<T>{}, partial, cut);
        add(partial.k, cut.query_runs, to.k2, scale, a.kv_heads);
        add(partial.v, cut.query_runs, to.v2, 1.0f, a.kv_heads);
    });
}

}  // namespace

std::int64_t cuda_simplicial_workspace(const SimplicialInputs<float>& inputs) { return workspace(inputs); }
std::int64_t cuda_simplicial_workspace(const SimplicialInputs<bfloat16>& inputs) { return workspace(inputs); }

void cuda_simplicial_attention_backward(const SimplicialInputs<float>& inputs, const HeadView<const float>& out,
                                        const float* statistics, const HeadView<const float>& d_out,
                                        const SimplicialGradients<float>& gradients, void* memory, void* stream) {
    run(inputs, out, statistics, d_out, gradients, memory, stream);
}

void cuda_simplicial_attention_backward(const SimplicialInputs<bfloat16>& inputs, const HeadView<const bfloat16>& out,
                                        const float* statistics, const HeadView<const bfloat16>& d_out,
                                        const SimplicialGradients<bfloat16>& gradients, void* memory, void* stream) {
    run(inputs, out, statistics, d_out, gradients, memory, stream);
}

}  // namespace openfoldpp
