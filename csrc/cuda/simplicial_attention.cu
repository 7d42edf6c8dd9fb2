// 2-simplicial attention, forward: the checks and the launch.
#include "launch.h"
#include "openfoldpp/cuda_simplicial_attention.h"
#include "simplicial_forward.h"
#include "simplicial_launch.h"

namespace openfoldpp {
namespace {

// How many queries a block should have, 1, 2 or 4: the fewest rounds of blocks times steps in each.
template <class T, int kChannels>
int queries_of_block(const SimplicialInputs<T>& a) {
    const std::int64_t at_once = 2 * multiprocessors("simplicial attention");
    std::int64_t least = 0;
    int best = 0;
    for (const int queries : {4, 2, 1}) {
        if (queries < ForwardPlan<T, kChannels>::least_queries) break;
        const std::int64_t reached = a.window_j < 0 ? a.length : std::min(a.length, 2 * a.window_j + queries);
        const std::int64_t steps = ceil_div(reached, kWarps / queries * ForwardPlan<T, kChannels>::rows);
        const std::int64_t blocks = a.batch * a.heads * ceil_div(a.length, queries);
        const std::int64_t cost = ceil_div(blocks, at_once) * steps;
        if (best == 0 || cost < least) {
            least = cost;
            best = queries;
        }
    }
    return best;
}

template <class T>
void run(const SimplicialInputs<T>& a, const HeadView<T>& out, float* statistics, void* stream) {
    require_inputs(a);
    if (a.batch == 0 || a.heads == 0 || a.length == 0) return;
    require_heads("out", out, a.batch, a.heads, a.length);
    with_channels(a.channels, [&](auto channels) {
        constexpr int kChannels = decltype(channels)::value;
        const int queries = queries_of_block<T, kChannels>(a);
        launch("simplicial attention", forward<T, kChannels>,
               a.batch * a.heads * ceil_div(a.length, queries), kThreads, ForwardPlan<T, kChannels>::bytes, stream, a,
               out, statistics, queries);
    });
}

}  // namespace

void cuda_simplicial_attention(const SimplicialInputs<float>& inputs, const HeadView<float>& out, float* statistics,
                               void* stream) {
    run(inputs, out, statistics, stream);
}

void cuda_simplicial_attention(const SimplicialInputs<bfloat16>& inputs, const HeadView<bfloat16>& out,
                               float* statistics, void* stream) {
    run(inputs, out, statistics, stream);
}

}  // namespace openfoldpp
