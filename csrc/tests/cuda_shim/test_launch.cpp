// What the launchers refuse for want of shared memory, and what they do with an error of CUDA's.
#include <algorithm>
#include <stdexcept>
#include <string>
#include <vector>

#include "../check.h"
#include "../compositor_blob.h"
#include "cuda_runtime.h"
#include "cuda_runtime_api.h"
#include "openfoldpp/cuda_compositor.h"
#include "openfoldpp/cuda_simplicial_attention.h"

using namespace openfoldpp;

namespace {

constexpr std::size_t kKiB = 1024, kA100 = 163 * kKiB, kH100 = 227 * kKiB, kAda = 99 * kKiB;

// Until the end of the scope.
template <class T>
struct Set {
    T& value;
    T before;
    Set(T& value, T now) : value(value), before(value) { value = now; }
    ~Set() { value = before; }
};

void attend(std::int64_t channels) {
    std::vector<float> zeros(channels, 0.0f), out(channels);
    SimplicialInputs<float> inputs;
    inputs.batch = inputs.heads = inputs.kv_heads = inputs.length = 1;
    inputs.channels = channels;
    inputs.q = inputs.k = inputs.k2 = inputs.v = inputs.v2 = {zeros.data(), 0, 0, channels};
    cuda_simplicial_attention(inputs, {out.data(), 0, 0, channels}, nullptr, nullptr);
}

CompositorSizes sized(std::int64_t channels, std::int64_t head_channels, std::int64_t hidden, std::int64_t rank) {
    return {channels, 1, 2, head_channels, hidden, rank, 3, 1, -1, -1, 1e-5f};
}

std::string refusal(const CompositorSizes& sizes, std::size_t shared) {
    const Set most(cuda_shim::most_shared, shared);
    return CudaCompositor::refuse_sizes(sizes, 0);
}

}  // namespace

TEST(an_error_is_not_left_for_the_next_launch) {
    std::string message;
    {
        const Set error(cuda_shim::room_error, cudaErrorInvalidValue);
        try {
            attend(16);
        } catch (const std::runtime_error& error) {
            message = error.what();
        }
    }
    CHECK(message == "simplicial attention: invalid argument");
    CHECK(cudaGetLastError() == cudaSuccess);
}

TEST(attention_that_does_not_fit_into_shared_memory_is_refused) {
    const Set most(cuda_shim::most_shared, kAda);
    attend(64);
    CHECK_INVALID(attend(128), "simplicial attention needs 116448 bytes of shared memory, a block has 101376");
}

TEST(a_compositor_says_which_sizes_do_not_fit_into_shared_memory) {
    CHECK(refusal(sized(64, 32, 128, 16), kAda).empty());
    CHECK(refusal(sized(512, 32, 1552, 16), kA100).empty());
    CHECK(refusal(sized(512, 32, 2048, 16), kA100) ==
          "channels 512 with hidden 2048 and heads * head_channels 64 needs 198144 bytes of shared memory; a block has "
          "166912 on this GPU");
    CHECK(refusal(sized(512, 32, 2048, 16), kH100).empty());
    CHECK(refusal(sized(64, 32, 128, 96), kA100).empty());
    CHECK(refusal(sized(64, 32, 128, 97), kA100) ==
          "rank 97 needs 173056 bytes of shared memory; a block has 166912 on this GPU");
    CHECK(refusal(sized(64, 32, 128, 144), kH100).empty());
    CHECK(refusal(sized(64, 128, 128, 16), kAda).find("head_channels 128 needs 116448 bytes") == 0);
    CHECK(refusal(sized(64, 48, 128, 16), kH100).find("head_channels is 48; on a GPU expected 16") == 0);
}

TEST(a_compositor_that_does_not_fit_into_shared_memory_is_refused_before_it_runs) {
    const std::vector<unsigned char> blob = reference::make_blob(sized(8, 16, 4, 17));
    const CudaCompositor compositor(read_compositor(blob.data(), blob.size()));
    const std::vector<float> embedding(8, 1.0f);
    std::vector<float> pair(3, -1.0f), workspace(compositor.workspace_floats(1), -1.0f);
    const Set most(cuda_shim::most_shared, 48 * kKiB);
    CHECK_INVALID(compositor(compositor.image().data(), embedding.data(), pair.data(), 1, workspace.data(), nullptr),
                  "compositor: rank 17 needs 50176 bytes of shared memory; a block has 49152 on this GPU");
    CHECK(std::all_of(workspace.begin(), workspace.end(), [](float x) { return x == -1.0f; }));
}
