// Arrays are allocated at their exact size, so that the address sanitizer sees any access past an end.
#include "openfoldpp/simplicial_attention.h"

#include <stdexcept>
#include <string>
#include <vector>

#include "check.h"
#include "reference.h"

using namespace openfoldpp;
using namespace reference;

namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

struct Shape {
    std::int64_t batch, heads, kv_heads, length, channels, window_j, window_k;
};

// Inputs, outputs and gradients; rows are `apart` floats further apart than they need to be, with NaN between.
struct Case {
    Shape shape;
    std::int64_t stride;
    std::vector<float> q, k, k2, v, v2, bias, mask, d_out;  // bias and mask may be empty
    std::vector<float> out, statistics, d_q, d_k, d_k2, d_v, d_v2, d_bias;

    explicit Case(const Shape& s, std::int64_t apart = 0, float scale = 1.0f) : shape(s), stride(s.channels + apart) {
        const std::int64_t queries = s.batch * s.heads * s.length, keys = s.batch * s.kv_heads * s.length;
        q = spread(draw(queries * s.channels, scale, 1));
        k = spread(draw(keys * s.channels, 1.0f, 2));
        k2 = spread(draw(keys * s.channels, 1.0f, 3));
        v = spread(draw(keys * s.channels, 1.0f, 4));
        v2 = spread(draw(keys * s.channels, 1.0f, 5));
        d_out = spread(draw(queries * s.channels, 1.0f, 6));
        out = spread(std::vector<float>(queries * s.channels, kNan));
        d_q = out;
        d_k = d_k2 = d_v = d_v2 = spread(std::vector<float>(keys * s.channels, kNan));
        statistics.assign(2 * queries, kNan);
    }
    void add_bias(float center = 0.0f) {
        bias = draw(shape.batch * shape.heads * shape.length * shape.length, 1.0f, 7, center);
        d_bias.assign(bias.size(), kNan);
    }
    // The last batch element keeps no key.
    void add_mask() {
        mask = draw(shape.batch * shape.length, 1.0f, 8);
        for (std::size_t i = 0; i < mask.size(); ++i) {
            mask[i] = mask[i] > -0.5f && (shape.batch == 1 || i < mask.size() - shape.length) ? 1.0f : 0.0f;
        }
    }

    std::vector<float> spread(const std::vector<float>& dense) const {
        const std::int64_t rows = static_cast<std::int64_t>(dense.size()) / shape.channels;
        std::vector<float> result(rows ? (rows - 1) * stride + shape.channels : 0, kNan);
        for (std::int64_t r = 0; r < rows; ++r) {
            std::copy_n(&dense[r * shape.channels], shape.channels, &result[r * stride]);
        }
        return result;
    }
    std::vector<float> gather(const std::vector<float>& values) const {
        std::vector<float> dense;
        for (std::size_t r = 0; r < values.size(); r += stride) {
            dense.insert(dense.end(), values.begin() + r, values.begin() + r + shape.channels);
        }
        return dense;
    }

    template <class Vector>
    auto view(Vector& values, std::int64_t heads) const {
        return HeadView<std::remove_pointer_t<decltype(values.data())>>{values.data(), heads * shape.length * stride,
                                                                        shape.length * stride, stride};
    }
    template <class Vector>
    auto bias_view(Vector& values) const {
        const std::int64_t n = shape.length;
        return HeadView<std::remove_pointer_t<decltype(values.data())>>{values.empty() ? nullptr : values.data(),
                                                                        shape.heads * n * n, n * n, n};
    }
    SimplicialAttention inputs() const {
        SimplicialAttention in;
        in.batch = shape.batch;
        in.heads = shape.heads;
        in.kv_heads = shape.kv_heads;
        in.length = shape.length;
        in.channels = shape.channels;
        in.window_j = shape.window_j;
        in.window_k = shape.window_k;
        in.q = view(q, shape.heads);
        in.k = view(k, shape.kv_heads);
        in.k2 = view(k2, shape.kv_heads);
        in.v = view(v, shape.kv_heads);
        in.v2 = view(v2, shape.kv_heads);
        in.mask = mask.empty() ? nullptr : mask.data();
        in.bias = bias_view(bias);
        return in;
    }
    void run(int threads) {
        simplicial_attention(inputs(), view(out, shape.heads), statistics.data(), threads);
        const std::int64_t kv = shape.kv_heads;
        const auto& gradient = d_out;
        simplicial_attention_backward(inputs(), statistics.data(), view(gradient, shape.heads),
                                      {view(d_q, shape.heads), view(d_k, kv), view(d_k2, kv), view(d_v, kv),
                                       view(d_v2, kv), bias_view(d_bias)},
                                      threads);
    }
    std::vector<std::vector<float>> results() const {
        return {gather(out), gather(d_q), gather(d_k), gather(d_k2), gather(d_v), gather(d_v2), d_bias};
    }

    // out, and the gradients of q, k, k2, v, v2 and the bias, in double, straight from the definition.
    std::vector<std::vector<double>> exact() const {
        const std::int64_t n = shape.length, d = shape.channels;
        const std::vector<float> q = gather(this->q), k = gather(this->k), k2 = gather(this->k2), v = gather(this->v),
                                 v2 = gather(this->v2), g = gather(d_out);
        std::vector<double> out(q.size()), d_q(q.size()), d_k(k.size()), d_k2(k.size()), d_v(k.size()), d_v2(k.size());
        std::vector<double> d_bias(bias.size());
        const double scale = 1 / std::sqrt(static_cast<double>(d));
        for (std::int64_t head = 0; head < shape.batch * shape.heads; ++head) {
            const std::int64_t b = head / shape.heads, group = shape.heads / shape.kv_heads;
            const std::int64_t keys = (b * shape.kv_heads + head % shape.heads / group) * n;
            for (std::int64_t i = 0; i < n; ++i) {
                const std::int64_t at = (head * n + i) * d;
                struct Pair {
                    std::int64_t j, k, bias;
                    double p;
                };
                std::vector<Pair> pairs;
                double top = -kInfinity, sum = 0, dot = 0;
                for (std::int64_t j = 0; j < n; ++j) {
                    for (std::int64_t l = 0; l < n; ++l) {
                        if (!mask.empty() && (mask[b * n + j] == 0 || mask[b * n + l] == 0)) continue;
                        if (shape.window_j >= 0 && std::abs(i - j) > shape.window_j) continue;
                        if (shape.window_k >= 0 && std::abs(i - l) > shape.window_k) continue;
                        Pair pair = {(keys + j) * d, (keys + l) * d, (head * n + i) * n + j, 0};
                        for (std::int64_t c = 0; c < d; ++c) {
                            pair.p += scale * q[at + c] * k[pair.j + c] * k2[pair.k + c];
                        }
                        if (!bias.empty()) pair.p += bias[pair.bias];
                        top = std::max(top, pair.p);
                        pairs.push_back(pair);
                    }
                }
                if (top == -kInfinity) continue;
                for (Pair& pair : pairs) sum += pair.p = std::exp(pair.p - top);
                for (Pair& pair : pairs) {
                    pair.p /= sum;
                    for (std::int64_t c = 0; c < d; ++c) out[at + c] += pair.p * v[pair.j + c] * v2[pair.k + c];
                }
                for (std::int64_t c = 0; c < d; ++c) dot += g[at + c] * out[at + c];
                for (const Pair& pair : pairs) {
                    double d_p = 0;
                    for (std::int64_t c = 0; c < d; ++c) d_p += double(g[at + c]) * v[pair.j + c] * v2[pair.k + c];
                    const double d_a = pair.p * (d_p - dot);
                    if (!bias.empty()) d_bias[pair.bias] += d_a;
                    for (std::int64_t c = 0; c < d; ++c) {
                        const double qc = q[at + c], kc = k[pair.j + c], k2c = k2[pair.k + c];
                        d_q[at + c] += scale * d_a * kc * k2c;
                        d_k[pair.j + c] += scale * d_a * qc * k2c;
                        d_k2[pair.k + c] += scale * d_a * qc * kc;
                        d_v[pair.j + c] += pair.p * g[at + c] * v2[pair.k + c];
                        d_v2[pair.k + c] += pair.p * g[at + c] * v[pair.j + c];
                    }
                }
            }
        }
        return {out, d_q, d_k, d_k2, d_v, d_v2, d_bias};
    }
};

// Errors as a part of the largest value, or of 1 where that is smaller: the gradient of a logit is a difference of
// numbers near 1, and may be 0.
void check_close(const Case& c, double limit) {
    const auto results = c.results();
    const auto exact = c.exact();
    for (std::size_t i = 0; i < exact.size(); ++i) {
        double largest = 1;
        for (const double value : exact[i]) largest = std::max(largest, std::abs(value));
        CHECK(results[i].size() == exact[i].size());
        for (std::size_t x = 0; x < exact[i].size(); ++x) {
            CHECK(std::abs(results[i][x] - exact[i][x]) <= limit * largest);  // NaN is not
        }
    }
}

}  // namespace

TEST(simplicial_attention_and_its_gradients_are_close_to_double) {
    for (const Shape& shape :
         {Shape{1, 1, 1, 1, 1, -1, -1}, Shape{2, 2, 1, 7, 5, -1, -1}, Shape{1, 1, 1, 33, 16, -1, -1},
          Shape{2, 4, 2, 17, 40, -1, -1}, Shape{1, 2, 2, 20, 100, -1, -1}, Shape{1, 1, 1, 70, 3, -1, -1},
          Shape{2, 2, 1, 33, 8, 0, 0}, Shape{2, 1, 1, 33, 8, 1, 5}, Shape{2, 1, 1, 33, 8, 5, 1},
          Shape{1, 1, 1, 33, 8, -1, 3}, Shape{1, 1, 1, 33, 8, 30, -1}, Shape{1, 1, 1, 33, 8, 1000, 1000}}) {
        for (const bool with_mask : {false, true}) {
            for (const bool with_bias : {false, true}) {
                Case c(shape, with_mask ? 3 : 0);
                if (with_mask) c.add_mask();
                if (with_bias) c.add_bias();
                c.run(1);
                check_close(c, 2e-6 * std::sqrt(static_cast<double>(shape.channels)));
            }
        }
    }
}

// More keys than a tile has columns, more rows than a tile has: sums over tiles are put together.
TEST(simplicial_attention_over_several_tiles) {
    Case c({1, 1, 1, 270, 8, 28, -1});
    c.add_bias();
    c.run(2);
    check_close(c, 1e-5);
}

TEST(keys_that_are_out_may_hold_anything) {
    Case c({1, 2, 1, 19, 6, 7, -1}), clean({1, 2, 1, 19, 6, 7, -1});
    c.add_mask();
    clean.mask = c.mask;
    for (std::int64_t i = 0; i < 19; ++i) {
        if (c.mask[i] != 0) continue;
        for (std::vector<float>* values : {&c.k, &c.k2, &c.v, &c.v2}) std::fill_n(&(*values)[i * 6], 6, kNan);
    }
    c.run(1);
    clean.run(1);
    for (std::size_t i = 0; i < c.results().size(); ++i) CHECK(same_bits(c.results()[i], clean.results()[i]));
}

// Outside a query's window lies a key with infinities, in the same register as keys inside.
TEST(keys_outside_the_window_do_not_count) {
    Case c({1, 1, 1, 9, 4, 2, 2});
    for (std::vector<float>* values : {&c.k, &c.k2, &c.v, &c.v2}) std::fill_n(&(*values)[8 * 4], 4, kInfinity);
    c.run(1);
    for (std::int64_t x = 0; x < 6 * 4; ++x) CHECK(std::isfinite(c.out[x]) && std::isfinite(c.d_q[x]));
    for (std::int64_t x = 0; x < 4 * 4; ++x) CHECK(std::isfinite(c.d_k[x]) && std::isfinite(c.d_v2[x]));
}

TEST(large_logits_and_biases_do_not_overflow) {
    Case wide({1, 1, 1, 21, 16, -1, -1}, 0, 1000.0f);
    wide.run(1);
    check_close(wide, 5e-3);  // logits of 1e3 have an ulp of 6e-5, and queries of 1e3 multiply what d_k rounds
    for (const Shape& shape : {Shape{1, 1, 1, 21, 16, -1, -1}, Shape{1, 1, 1, 64, 16, 20, 3}}) {
        Case biased(shape);
        biased.add_bias(1e4f);
        biased.run(1);
        check_close(biased, 5e-3);  // 1e-3 at 1e4
    }
}

TEST(a_bias_of_minus_infinity_takes_pairs_out) {
    Case c({1, 1, 1, 12, 5, -1, 4});
    c.add_bias();
    for (std::int64_t j = 0; j < 12; ++j) c.bias[3 * 12 + j] = -kInfinity;  // query 3 has nothing left
    for (std::int64_t i = 0; i < 12; ++i) c.bias[i * 12 + i % 5] = -kInfinity;
    c.run(1);
    check_close(c, 1e-5);
    for (std::int64_t x = 0; x < 5; ++x) CHECK(c.out[3 * 5 + x] == 0.0f && c.d_q[3 * 5 + x] == 0.0f);
    CHECK(c.statistics[6] == -kInfinity && c.statistics[7] == 0.0f);
}

TEST(nan_in_a_query_stays_in_its_row) {
    Case c({1, 1, 1, 20, 4, -1, -1});
    c.q[5 * 4] = kNan;
    simplicial_attention(c.inputs(), c.view(c.out, 1), nullptr, 1);
    for (std::int64_t i = 0; i < 20; ++i) CHECK(std::isnan(c.out[i * 4 + 1]) == (i == 5));
}

TEST(threads_do_not_change_the_bits_of_simplicial_attention) {
    for (const Shape& shape : {Shape{2, 4, 2, 65, 16, -1, -1}, Shape{1, 1, 1, 129, 20, 9, 4}}) {
        std::vector<std::vector<float>> first;
        for (int threads : {1, 2, 4, 64}) {
            Case c(shape);
            c.add_mask();
            c.add_bias();
            c.run(threads);
            if (threads == 1) first = c.results();
            for (std::size_t i = 0; i < first.size(); ++i) CHECK(same_bits(c.results()[i], first[i]));
        }
    }
}

TEST(empty_arrays_and_wrong_sizes_of_simplicial_attention) {
    Case({0, 2, 1, 5, 3, -1, -1}).run(1);
    Case({2, 2, 1, 0, 3, -1, -1}).run(1);
    const Case c({1, 2, 1, 3, 4, -1, -1});
    const auto with = [&](auto change, int threads) {
        SimplicialAttention in = c.inputs();
        change(in);
        simplicial_attention(in, {}, nullptr, threads);
    };
    const auto backward_with = [&](auto change) {
        SimplicialAttention in = c.inputs();
        change(in);
        simplicial_attention_backward(in, nullptr, {}, {}, 1);
    };
    CHECK_INVALID(with([](auto& in) { in.batch = -1; }, 1), "batch is -1");
    CHECK_INVALID(with([](auto& in) { in.length = -2; }, 1), "length is -2");
    CHECK_INVALID(with([](auto& in) { in.channels = 0; }, 1), "channels is 0");
    CHECK_INVALID(with([](auto& in) { in.heads = 0; }, 1), "heads is 0");
    CHECK_INVALID(with([](auto& in) { in.kv_heads = 0; }, 1), "kv_heads is 0");
    CHECK_INVALID(with([](auto& in) { in.heads = 3, in.kv_heads = 2; }, 1), "heads is 3, expected a multiple");
    CHECK_INVALID(with([](auto& in) { in.window_j = -2; }, 1), "window_j is -2");
    CHECK_INVALID(backward_with([](auto& in) { in.window_k = -5; }), "window_k is -5");
    CHECK_INVALID(with([](auto&) {}, 0), "threads is 0");
}
