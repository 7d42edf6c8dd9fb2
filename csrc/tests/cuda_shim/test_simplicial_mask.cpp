// What a masked key holds does not reach the results of the CUDA kernels, be it NaN or infinite.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <vector>

#include "../check.h"
#include "../reference.h"
#include "cuda_runtime.h"
#include "openfoldpp/cuda_simplicial_attention.h"

using namespace openfoldpp;

namespace {

enum Tensor { Q, K, K2, V, V2, kTensors };

template <class T>
std::vector<T> vectors(std::int64_t count, unsigned seed) {
    std::vector<T> result;
    for (const float value : reference::draw(count, 1, seed)) result.push_back(from_float<T>(value));
    return result;
}

// The output and all gradients, one after the other, with a number of `held` in every channel of each masked key.
template <class T>
std::vector<T> attend(std::int64_t n, std::int64_t d, const std::array<float, 3>& held) {
    std::vector<T> tensors[kTensors];
    for (unsigned i = 0; i < kTensors; ++i) tensors[i] = vectors<T>(n * d, i + 1);
    std::vector<T> bias = vectors<T>(n * n, 6);
    std::vector<float> mask(n, 1.0f);
    for (std::int64_t place = 0; place < 3; ++place) {
        const std::int64_t masked = place * (n - 1) / 2;
        const T value = from_float<T>(held[place]);
        mask[masked] = 0.0f;
        for (const Tensor of : {K, K2, V, V2}) std::fill_n(tensors[of].begin() + masked * d, d, value);
        for (std::int64_t i = 0; i < n; ++i) bias[i * n + masked] = value;
    }
    const auto input = [&](Tensor of) { return HeadView<const T>{tensors[of].data(), 0, 0, d}; };
    const SimplicialInputs<T> inputs = {1,        1,         1,        n,         d,           -1,
                                        9,        input(Q),  input(K), input(K2), input(V),    input(V2),
                                        mask.data(), {bias.data(), 0, 0, n}};

    std::vector<T> results((kTensors + 1) * n * d + n * n);
    const auto result = [&](std::int64_t place) { return HeadView<T>{results.data() + place * n * d, 0, 0, d}; };
    std::vector<float> statistics(2 * n), workspace(cuda_simplicial_workspace(inputs) / sizeof(float));
    const std::vector<T> d_out = vectors<T>(n * d, 7);
    cuda_simplicial_attention(inputs, result(kTensors), statistics.data(), nullptr);
    cuda_simplicial_attention_backward(inputs, {result(kTensors).data, 0, 0, d}, statistics.data(),
                                       {d_out.data(), 0, 0, d},
                                       {result(Q), result(K), result(K2), result(V), result(V2),
                                        {results.data() + (kTensors + 1) * n * d, 0, 0, n}},
                                       workspace.data(), nullptr);
    return results;
}

template <class T>
void check_masked(std::int64_t n, std::int64_t d) {
    cuda_shim::multiprocessors = 16;
    const float nan = std::numeric_limits<float>::quiet_NaN(), infinity = std::numeric_limits<float>::infinity();
    const std::vector<T> expected = attend<T>(n, d, {0.5f, 0.5f, 0.5f}), found = attend<T>(n, d, {nan, infinity, nan});
    CHECK(std::memcmp(found.data(), expected.data(), found.size() * sizeof(T)) == 0);
    CHECK(std::all_of(found.begin(), found.end(), [](T value) { return std::isfinite(to_float(value)); }));
}

}  // namespace

TEST(what_a_masked_key_holds_does_not_matter_in_bfloat16) {
    check_masked<bfloat16>(40, 64);
    check_masked<bfloat16>(20, 128);
}

TEST(what_a_masked_key_holds_does_not_matter_in_float32) {
    check_masked<float>(40, 16);
    check_masked<float>(20, 128);
}
