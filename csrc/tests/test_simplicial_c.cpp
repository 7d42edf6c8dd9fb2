#include "openfoldpp/simplicial_c.h"

#include <algorithm>
#include <string>
#include <thread>
#include <vector>

#include "check.h"
#include "compositor_blob.h"
#include "openfoldpp/simplicial_attention.h"
#include "reference.h"

using namespace reference;

namespace {

constexpr CompositorSizes kSmall = {12, 2, 3, 5, 7, 3, 10, 2, -1, 3, 1e-5f};

bool says(const char* part) { return std::string(simplicial_last_error()).find(part) != std::string::npos; }

std::vector<float> run_alone(const std::vector<unsigned char>& blob, const std::vector<float>& embedding) {
    const openfoldpp::Compositor compositor(blob.data(), blob.size());
    const std::int64_t c = compositor.channels(), z = compositor.pair_channels();
    const std::int64_t n = static_cast<std::int64_t>(embedding.size()) / c;
    std::vector<float> pair(n * n * z);
    compositor({embedding.data(), 1, n, c, 0, c}, {pair.data(), n, n, z, n * z, z}, 1);
    return pair;
}

}  // namespace

TEST(c_functions_say_that_no_compositor_is_loaded) {
    float value = 0;
    int embedding = 7, pair = 7;
    CHECK(run_compositor(&value, &value, 1) == SIMPLICIAL_NOT_LOADED);
    CHECK(says("call load_compositor first"));
    CHECK(compositor_channels(&embedding, &pair) == SIMPLICIAL_NOT_LOADED);
    CHECK(embedding == 7 && pair == 7);
}

TEST(run_simplicial_is_the_attention_of_one_head) {
    for (const auto& [length, d] : {std::pair(1, 1), std::pair(7, 16), std::pair(33, 20)}) {
        const std::vector<float> qkv = draw(5 * length * d, 1.0f, 3);
        std::vector<float> out(length * d), expected(length * d);
        CHECK(run_simplicial(qkv.data(), out.data(), length, d, nullptr) == SIMPLICIAL_OK);
        openfoldpp::SimplicialAttention in;
        in.batch = in.heads = in.kv_heads = 1;
        in.length = length;
        in.channels = d;
        in.q = {qkv.data(), 0, 0, d};
        in.k = {qkv.data() + length * d, 0, 0, d};
        in.k2 = {qkv.data() + 2 * length * d, 0, 0, d};
        in.v = {qkv.data() + 3 * length * d, 0, 0, d};
        in.v2 = {qkv.data() + 4 * length * d, 0, 0, d};
        openfoldpp::simplicial_attention(in, {expected.data(), 0, 0, d}, nullptr, 1);
        CHECK(same_bits(out, expected));
    }
    CHECK(run_simplicial(nullptr, nullptr, 0, 4, nullptr) == SIMPLICIAL_OK);
}

TEST(run_simplicial_refuses_wrong_arguments) {
    std::vector<float> qkv(20), out(4, 7.0f);
    CHECK(run_simplicial(qkv.data(), out.data(), -1, 4, nullptr) == SIMPLICIAL_INVALID && says("L is -1"));
    CHECK(run_simplicial(qkv.data(), out.data(), 1, 0, nullptr) == SIMPLICIAL_INVALID && says("d is 0"));
    CHECK(run_simplicial(nullptr, out.data(), 1, 4, nullptr) == SIMPLICIAL_INVALID && says("qkv is null"));
    CHECK(run_simplicial(qkv.data(), nullptr, 1, 4, nullptr) == SIMPLICIAL_INVALID && says("out is null"));
    CHECK(run_simplicial(qkv.data(), out.data(), 1, 4, &out) == SIMPLICIAL_INVALID && says("stream is not null"));
    CHECK(out == std::vector<float>(4, 7.0f));
}

TEST(a_loaded_compositor_runs_and_a_refused_one_changes_nothing) {
    const std::vector<unsigned char> blob = make_blob(kSmall);
    const std::vector<float> embedding = draw(9 * kSmall.channels, 1.0f, 8), expected = run_alone(blob, embedding);
    CHECK(load_compositor(blob.data(), blob.size()) == SIMPLICIAL_OK);
    CHECK(load_compositor(blob.data(), blob.size() - 1) == SIMPLICIAL_INVALID && says("truncated"));
    CHECK(load_compositor(nullptr, 100) == SIMPLICIAL_INVALID);
    int channels = 0, pair_channels = 0;
    CHECK(compositor_channels(&channels, &pair_channels) == SIMPLICIAL_OK);
    CHECK(channels == kSmall.channels && pair_channels == kSmall.pair_channels);
    std::vector<float> pair(expected.size());
    CHECK(run_compositor(embedding.data(), pair.data(), 9) == SIMPLICIAL_OK);
    CHECK(same_bits(pair, expected));
    CHECK(run_compositor(nullptr, nullptr, 0) == SIMPLICIAL_OK);
    CHECK(run_compositor(embedding.data(), pair.data(), -1) == SIMPLICIAL_INVALID && says("L is -1"));
    CHECK(run_compositor(nullptr, pair.data(), 9) == SIMPLICIAL_INVALID && says("in_emb is null"));
    CHECK(run_compositor(embedding.data(), nullptr, 9) == SIMPLICIAL_INVALID && says("out_pair is null"));

    std::vector<float> again(expected.size());
    const int c = channels, z = pair_channels;
    CHECK(run_compositor_sized(embedding.data(), again.data(), 9, c, z) == SIMPLICIAL_OK && same_bits(again, expected));
    std::fill(again.begin(), again.end(), 7.0f);
    CHECK(run_compositor_sized(embedding.data(), again.data(), 9, c, z + 1) == SIMPLICIAL_OTHER_SIZES);
    CHECK(says("has 12 and 10 channels, expected 12 and 11"));
    CHECK(run_compositor_sized(embedding.data(), again.data(), 9, c - 1, z) == SIMPLICIAL_OTHER_SIZES);
    CHECK(again == std::vector<float>(expected.size(), 7.0f));
}

// With the address sanitizer this also shows that a compositor lives as long as a run needs it.
TEST(threads_run_and_load_at_the_same_time_and_have_errors_of_their_own) {
    const std::vector<unsigned char> blobs[] = {make_blob(kSmall), make_blob(kSmall, 100)};
    const std::vector<float> embedding = draw(20 * kSmall.channels, 1.0f, 8);
    const std::vector<float> expected[] = {run_alone(blobs[0], embedding), run_alone(blobs[1], embedding)};
    CHECK(load_compositor(blobs[0].data(), blobs[0].size()) == SIMPLICIAL_OK);
    CHECK(run_compositor(embedding.data(), nullptr, 9) == SIMPLICIAL_INVALID);
    std::vector<int> wrong(4, 0);
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t) {
        threads.emplace_back([&, t] {
            wrong[t] += *simplicial_last_error() != '\0';
            for (int round = 0; round < 20; ++round) {
                if (t == 0) {
                    wrong[t] += load_compositor(blobs[round % 2].data(), blobs[round % 2].size()) != SIMPLICIAL_OK;
                    continue;
                }
                std::vector<float> pair(expected[0].size());
                wrong[t] += run_compositor(embedding.data(), pair.data(), 20) != SIMPLICIAL_OK;
                wrong[t] += !same_bits(pair, expected[0]) && !same_bits(pair, expected[1]);
            }
        });
    }
    for (std::thread& thread : threads) thread.join();
    CHECK(wrong == std::vector<int>(4, 0));
    std::vector<float> pair(expected[1].size());
    CHECK(says("out_pair is null"));
    CHECK(run_compositor(embedding.data(), pair.data(), 20) == SIMPLICIAL_OK);
    CHECK(same_bits(pair, expected[1]));  // what was loaded last
}
