// The compositor's CUDA kernels, run on the CPU, against plain loops in double.
#include <stdexcept>
#include <string>
#include <vector>

#include "../check.h"
#include "../compositor_blob.h"
#include "../reference.h"
#include "cuda_runtime.h"
#include "openfoldpp/cuda_compositor.h"

using namespace openfoldpp;
using namespace reference;

namespace {

// channels, blocks, heads, head_channels, hidden, rank, pair_channels, max_offset, window_j, window_k, eps
constexpr CompositorSizes kDefault = {64, 2, 2, 32, 128, 16, 64, 32, -1, 16, 1e-5f};
constexpr CompositorSizes kOdd = {12, 2, 3, 16, 7, 3, 17, 2, 5, 3, 1e-5f};
constexpr CompositorSizes kDeep = {33, 1, 1, 16, 40, 20, 30, 0, -1, -1, 1e-3f};
constexpr CompositorSizes kNoBlocks = {8, 0, 1, 16, 4, 2, 6, 1, -1, -1, 1e-5f};

static_assert(__STDCPP_DEFAULT_NEW_ALIGNMENT__ >= 16, "vectors stand in for device memory");

// The output begins `skip` floats into its memory.
std::vector<float> run(const CudaCompositor& compositor, const std::vector<float>& embedding, std::int64_t skip = 0) {
    const std::int64_t length = static_cast<std::int64_t>(embedding.size()) / compositor.channels();
    std::vector<float> workspace(compositor.workspace_floats(length), std::numeric_limits<float>::quiet_NaN());
    std::vector<float> pair(skip + length * length * compositor.pair_channels(), -1.0f);
    compositor(compositor.image().data(), embedding.data(), pair.data() + skip, length, workspace.data(), nullptr);
    for (std::int64_t i = 0; i < skip; ++i) CHECK(pair[i] == -1.0f);
    pair.erase(pair.begin(), pair.begin() + skip);
    return pair;
}

CudaCompositor load(const CompositorSizes& sizes) {
    const std::vector<unsigned char> blob = make_blob(sizes);
    return CudaCompositor(read_compositor(blob.data(), blob.size()));
}

}  // namespace

TEST(cuda_compositor_is_close_to_double) {
    for (const CompositorSizes& sizes : {kDefault, kOdd, kDeep, kNoBlocks}) {
        const CudaCompositor compositor = load(sizes);
        const ExactCompositor exact(make_blob(sizes));
        CHECK(compositor.channels() == sizes.channels);
        CHECK(compositor.pair_channels() == sizes.pair_channels);
        for (const std::int64_t length : {1, 2, 7, 16, 33}) {
            const std::vector<float> embedding = draw(length * sizes.channels, 3.0f, 8, 1.0f);
            CHECK(error(run(compositor, embedding), exact(embedding)) < 4e-6);
        }
    }
}

TEST(cuda_compositor_takes_pairs_in_parts) {
    const CudaCompositor compositor = load(kNoBlocks);
    const std::vector<float> embedding = draw(300 * kNoBlocks.channels, 3.0f, 8);
    CHECK(error(run(compositor, embedding), ExactCompositor(make_blob(kNoBlocks))(embedding)) < 4e-6);
}

TEST(cuda_compositor_has_the_same_bits_in_any_order_of_threads_and_at_any_address) {
    const CudaCompositor compositor = load(kOdd), even = load(kDeep);
    const std::vector<float> embedding = draw(35 * kOdd.channels, 3.0f, 8), other = draw(20 * kDeep.channels, 3.0f, 9);
    const std::vector<float> expected = run(compositor, embedding), expected_even = run(even, other);
    for (unsigned seed = 2; seed < 6; ++seed) {
        cuda_shim::executor().random.seed(seed);
        CHECK(same_bits(run(compositor, embedding), expected));
        CHECK(same_bits(run(even, other, seed % 2), expected_even));
    }
}

TEST(cuda_compositor_refuses_what_it_cannot_run) {
    CompositorSizes narrow = kOdd;
    narrow.head_channels = 5;
    CHECK_INVALID(load(narrow), "head_channels is 5; on a GPU expected 16, 32, 64 or 128");
    const CudaCompositor compositor = load(kOdd);
    std::vector<float> workspace(compositor.workspace_floats(1));
    const std::uint32_t* words = compositor.image().data();
    float value = 0;
    compositor(nullptr, nullptr, nullptr, 0, nullptr, nullptr);
    CHECK(compositor.workspace_floats(0) == 0);
    CHECK_INVALID(compositor(words, &value, &value, -1, workspace.data(), nullptr), "length is -1");
    CHECK_INVALID(compositor(words + 1, &value, &value, 1, workspace.data(), nullptr), "image is null or not at");
    CHECK_INVALID(compositor(words, &value, &value, 1, workspace.data() + 1, nullptr), "workspace is null or not at");
}
