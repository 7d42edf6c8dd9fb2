// Arrays are allocated at their exact size, so that the address sanitizer sees any access past an end.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "check.h"
#include "openfoldpp/softmax.h"

using namespace openfoldpp;

namespace {

const std::vector<std::int64_t> kSizes = {1, 7, 16, 17, 63, 64, 65, 130, 257, 1000};

std::vector<float> draw(std::int64_t count, float scale, unsigned seed) {
    std::mt19937 generator(seed);
    std::normal_distribution<float> normal(0.0f, scale);
    std::vector<float> values(count);
    for (float& value : values) value = normal(generator);
    return values;
}

std::vector<double> softmax_of(const float* row, std::int64_t cols) {
    const double top = *std::max_element(row, row + cols);
    std::vector<double> result(cols);
    double sum = 0;
    for (std::int64_t i = 0; i < cols; ++i) sum += result[i] = std::exp(row[i] - top);
    for (double& value : result) value /= sum;
    return result;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
    return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0);
}

}  // namespace

TEST(forward_is_within_a_few_ulp_of_double) {
    for (std::int64_t cols : kSizes) {
        for (float scale : {0.01f, 1.0f, 30.0f}) {
            const std::int64_t rows = 5;
            std::vector<float> x = draw(rows * cols, scale, static_cast<unsigned>(cols));
            x[0] += 1e4f;
            for (std::int64_t i = 0; i < cols; ++i) x[cols + i] = -1e9f;  // all masked
            for (std::int64_t i = 1; i < cols; i += 2) x[2 * cols + i] = -std::numeric_limits<float>::infinity();
            const std::vector<float> before = x;
            softmax_forward(x.data(), rows, cols, 1);
            for (std::int64_t r = 0; r < rows; ++r) {
                const std::vector<double> exact = softmax_of(&before[r * cols], cols);
                const float top = *std::max_element(&before[r * cols], &before[r * cols] + cols);
                for (std::int64_t i = 0; i < cols; ++i) {
                    // exp, the sum and the division round by some ulp, below 1e-38 by half of 1.4e-45 each;
                    // x - max x rounds in proportion to itself.
                    const double distance = top - before[r * cols + i];
                    const double error = std::abs(x[r * cols + i] - exact[i]);
                    CHECK(exact[i] < 1e-46 ? x[r * cols + i] == 0.0f
                                           : error <= 6e-8 * (8 + distance) * exact[i] + 1.5e-45);
                }
            }
            CHECK(x[cols] == x[2 * cols - 1]);
        }
    }
}

TEST(subnormal_results_are_kept_and_smaller_ones_are_zero) {
    std::vector<float> x = {0.0f, -90.0f, -103.0f, -104.5f, -1e30f};
    softmax_forward(x.data(), 1, 5, 1);
    CHECK(std::abs(x[1] / std::exp(-90.0) - 1) < 1e-5);
    CHECK(x[2] == std::numeric_limits<float>::denorm_min());
    CHECK(x[3] == 0.0f && x[4] == 0.0f);
}

TEST(a_row_without_an_answer_is_nan) {
    const float infinity = std::numeric_limits<float>::infinity();
    const float nan = std::numeric_limits<float>::quiet_NaN();
    for (std::int64_t cols : {1, 5, 16, 33}) {
        for (const auto& [fill, special] :
             {std::pair(-infinity, -infinity), std::pair(0.0f, infinity), std::pair(0.0f, nan)}) {
            for (std::int64_t place : {std::int64_t(0), cols - 1}) {
                std::vector<float> x(cols, fill);
                x[place] = special;
                softmax_forward(x.data(), 1, cols, 1);
                CHECK(std::all_of(x.begin(), x.end(), [](float value) { return std::isnan(value); }));
            }
        }
    }
}

TEST(backward_is_close_to_double) {
    for (std::int64_t keys : kSizes) {
        for (std::int64_t channels : {1, 8, 19}) {
            const AttentionShape shape = {2, 3, keys, channels};
            const std::int64_t rows = shape.batch * shape.queries;
            std::vector<float> p = draw(rows * keys, 2.0f, 1);
            softmax_forward(p.data(), rows, keys, 1);
            const std::vector<float> before = p;
            const std::vector<float> g = draw(rows * channels, 1.0f, 2);
            const std::vector<float> v = draw(shape.batch * keys * channels, 1.0f, 3);
            softmax_backward(p.data(), g.data(), v.data(), shape, 1);
            double error = 0, largest = 0;
            for (std::int64_t r = 0; r < rows; ++r) {
                std::vector<double> dp(keys, 0.0);
                double sum = 0;
                for (std::int64_t k = 0; k < keys; ++k) {
                    for (std::int64_t c = 0; c < channels; ++c) {
                        dp[k] += double(g[r * channels + c]) * v[((r / shape.queries) * keys + k) * channels + c];
                    }
                    sum += dp[k] * before[r * keys + k];
                }
                for (std::int64_t k = 0; k < keys; ++k) {
                    const double exact = before[r * keys + k] * (dp[k] - sum);
                    error = std::max(error, std::abs(exact - p[r * keys + k]));
                    largest = std::max(largest, std::abs(dp[k]) * before[r * keys + k]);
                }
            }
            CHECK(error <= 1e-6 * largest);
        }
    }
}

TEST(bfloat16_is_the_float_result_rounded) {
    const std::int64_t rows = 4, cols = 37;
    std::vector<bfloat16> x;
    std::vector<float> wide;
    for (float value : draw(rows * cols, 3.0f, 5)) {
        x.push_back(from_float<bfloat16>(value));
        wide.push_back(to_float(x.back()));
    }
    softmax_forward(x.data(), rows, cols, 1);
    softmax_forward(wide.data(), rows, cols, 1);
    for (std::size_t i = 0; i < x.size(); ++i) CHECK(x[i].bits == from_float<bfloat16>(wide[i]).bits);
    CHECK(to_float(from_float<bfloat16>(1.00390625f)) == 1.0f);  // a tie goes to the even neighbour
    CHECK(std::isnan(to_float(from_float<bfloat16>(std::numeric_limits<float>::quiet_NaN()))));
}

TEST(threads_do_not_change_the_bits) {
    const AttentionShape shape = {3, 65, 257, 32};
    const std::int64_t rows = shape.batch * shape.queries;
    const std::vector<float> logits = draw(rows * shape.keys, 3.0f, 7);
    const std::vector<float> g = draw(rows * shape.channels, 1.0f, 8);
    const std::vector<float> v = draw(shape.batch * shape.keys * shape.channels, 1.0f, 9);
    std::vector<float> forward, backward;
    for (int threads : {1, 2, 4, 7}) {
        std::vector<float> x = logits;
        softmax_forward(x.data(), rows, shape.keys, threads);
        if (threads == 1) forward = x;
        CHECK(same_bits(x, forward));
        softmax_backward(x.data(), g.data(), v.data(), shape, threads);
        if (threads == 1) backward = x;
        CHECK(same_bits(x, backward));
    }
}

TEST(empty_arrays_and_wrong_sizes) {
    softmax_forward(static_cast<float*>(nullptr), 0, 5, 1);
    softmax_forward(static_cast<float*>(nullptr), 5, 0, 1);
    softmax_backward(static_cast<float*>(nullptr), nullptr, nullptr, {2, 3, 0, 4}, 1);
    float x = 0;
    CHECK_INVALID(softmax_forward(&x, -1, 1, 1), "rows is -1");
    CHECK_INVALID(softmax_forward(&x, 1, -1, 1), "cols is -1");
    CHECK_INVALID(softmax_forward(&x, 1, 1, 0), "threads is 0");
    CHECK_INVALID(softmax_backward(&x, &x, &x, {1, 1, 1, -2}, 1), "channels is -2");
}
