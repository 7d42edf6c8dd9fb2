#include "openfoldpp/compositor.h"

#include <stdexcept>
#include <string>
#include <vector>

#include "check.h"
#include "compositor_blob.h"
#include "reference.h"

using namespace openfoldpp;
using namespace reference;

namespace {

// channels, blocks, heads, head_channels, hidden, rank, pair_channels, max_offset, window_j, window_k, eps
constexpr CompositorSizes kDefault = {64, 2, 2, 32, 128, 16, 64, 32, -1, 16, 1e-5f};
constexpr CompositorSizes kSmall = {12, 2, 3, 5, 7, 3, 10, 2, -1, 3, 1e-5f};
constexpr CompositorSizes kWindows = {16, 1, 1, 16, 16, 4, 17, 0, 1, 0, 1e-3f};
constexpr CompositorSizes kFull = {33, 3, 2, 8, 20, 5, 1, 100, -1, -1, 1e-5f};
constexpr CompositorSizes kNoBlocks = {8, 0, 1, 4, 4, 2, 6, 1, -1, -1, 1e-5f};

std::vector<float> run(const Compositor& compositor, const std::vector<float>& embedding, Layout layout, int threads) {
    const std::int64_t length = static_cast<std::int64_t>(embedding.size()) / compositor.channels();
    OwnedGrid in(1, length, compositor.channels(), layout, embedding);
    OwnedGrid out(length, length, compositor.pair_channels(), layout);
    OwnedGrid blank(length, length, compositor.pair_channels(), layout);
    const std::int64_t gaps = blank.untouched() - length * length * compositor.pair_channels();
    compositor(in.view(), out.mutable_view(), threads);
    CHECK(out.untouched() == gaps);
    return out.values();
}

}  // namespace

TEST(compositor_is_close_to_double) {
    for (const CompositorSizes& sizes : {kDefault, kSmall, kWindows, kFull, kNoBlocks}) {
        const std::vector<unsigned char> blob = make_blob(sizes);
        const Compositor compositor(blob.data(), blob.size());
        const ExactCompositor exact(blob);
        CHECK(compositor.channels() == sizes.channels);
        CHECK(compositor.pair_channels() == sizes.pair_channels);
        for (const std::int64_t length : {1, 2, 7, 33, 40}) {
            const std::vector<float> embedding = draw(length * sizes.channels, 3.0f, 8, 1.0f);
            const std::vector<double> expected = exact(embedding);
            for (Layout layout : {Layout::dense, Layout::backwards, Layout::apart}) {
                CHECK(error(run(compositor, embedding, layout, 1), expected) < 4e-6);
            }
        }
    }
}

TEST(compositor_has_the_same_bits_for_any_number_of_threads) {
    const std::vector<unsigned char> blob = make_blob(kDefault);
    const Compositor compositor(blob.data(), blob.size());
    const std::vector<float> embedding = draw(130 * kDefault.channels, 3.0f, 8);
    const std::vector<float> expected = run(compositor, embedding, Layout::dense, 1);
    for (int threads : {2, 4, 7}) CHECK(same_bits(run(compositor, embedding, Layout::dense, threads), expected));
}

TEST(compositor_of_nothing_and_of_wrong_sizes) {
    const std::vector<unsigned char> blob = make_blob(kSmall);
    const Compositor compositor(blob.data(), blob.size());
    compositor({nullptr, 1, 0, 12, 0, 0}, {nullptr, 0, 0, 10, 0, 0}, 2);
    OwnedGrid in(1, 4, 12, Layout::dense, draw(48, 1.0f, 1)), out(4, 4, 10, Layout::dense), other(4, 5, 10, Layout::dense);
    CHECK_INVALID(compositor(in.view(), out.mutable_view(), 0), "threads is 0");
    CHECK_INVALID(compositor(in.view(), other.mutable_view(), 1), "pair columns is 5, expected 4");
    CHECK_INVALID(compositor(out.view(), out.mutable_view(), 1), "embedding rows is 4, expected 1");
    CHECK_INVALID(compositor({out.vector(0, 0), 1, 4, 10, 0, 10}, out.mutable_view(), 1),
                  "embedding channels is 10, expected 12");
}

TEST(compositor_refuses_blobs_that_are_truncated_or_altered) {
    const std::vector<unsigned char> blob = make_blob(kSmall);
    const auto load = [](const std::vector<unsigned char>& bytes) { return read_compositor(bytes.data(), bytes.size()); };
    for (std::size_t bytes = 0; bytes < blob.size(); bytes += bytes < 80 ? 1 : 997) {
        CHECK_INVALID(read_compositor(blob.data(), bytes), "truncated");
    }
    CHECK_INVALID(read_compositor(nullptr, 100), "truncated");
    std::vector<unsigned char> longer = blob;
    longer.push_back(0);
    CHECK_INVALID(load(longer), "truncated or altered");
    for (std::size_t at = 0; at < blob.size(); at += at < 80 ? 1 : 997) {
        std::vector<unsigned char> altered = blob;
        altered[at] ^= 0x10;
        CHECK_INVALID(load(altered), "compositor: ");
    }
}

TEST(compositor_refuses_headers_that_make_no_sense_though_the_checksum_is_right) {
    const std::vector<unsigned char> blob = make_blob(kSmall);
    const auto with = [&](std::size_t at, auto value) {
        std::vector<unsigned char> changed = blob;
        put_number(changed, at, value);
        put_checksum(changed);
        return changed;
    };
    const auto refused = [](const std::vector<unsigned char>& bytes, const char* part) {
        CHECK_INVALID(read_compositor(bytes.data(), bytes.size()), part);
    };
    refused(with(0, 'X'), "not a compositor's weights");
    refused(with(8, std::uint32_t{2}), "version 2, expected 1");
    refused(with(16, std::int32_t{0}), "channels is 0, expected 1 to 4096");
    refused(with(16, std::int32_t{13}), "do not fit the sizes");
    refused(with(16, std::int32_t{11}), "do not fit the sizes");
    refused(with(20, std::int32_t{-1}), "blocks is -1, expected 0 to 64");
    refused(with(20, std::int32_t{2147483647}), "blocks is 2147483647");
    refused(with(40, std::int32_t{4097}), "pair_channels is 4097");
    refused(with(48, std::int32_t{-2}), "window_j is -2, expected -1 to");
    refused(with(56, 0.0f), "eps is 0");
    refused(with(56, std::numeric_limits<float>::quiet_NaN()), "eps is ");
    refused(with(64, std::numeric_limits<float>::infinity()), "not finite");
    refused(with(blob.size() - 4, std::numeric_limits<float>::quiet_NaN()), "not finite");
}

TEST(compositor_reads_a_blob_at_any_alignment) {
    const std::vector<unsigned char> blob = make_blob(kSmall);
    std::vector<unsigned char> moved(blob.size() + 1);
    std::copy(blob.begin(), blob.end(), moved.begin() + 1);
    const std::vector<float> embedding = draw(7 * kSmall.channels, 1.0f, 8);
    CHECK(same_bits(run(Compositor(moved.data() + 1, blob.size()), embedding, Layout::dense, 1),
                    run(Compositor(blob.data(), blob.size()), embedding, Layout::dense, 1)));
}
