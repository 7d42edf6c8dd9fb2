#include "openfoldpp/invariant_point_attention.h"

#include <stdexcept>
#include <string>
#include <vector>

#include "check.h"
#include "reference.h"

using namespace openfoldpp;
using namespace reference;

namespace {

struct Sizes {
    std::int64_t channels, pair_channels, heads, head_channels, query_points, value_points;
};

// A linear layer with random parameters.
struct Linear {
    std::vector<float> weight, bias;

    Linear(std::int64_t outputs, std::int64_t inputs, unsigned seed)
        : weight(draw(outputs * inputs, 1.0f / std::sqrt(static_cast<float>(inputs)), seed)),
          bias(draw(outputs, 0.3f, seed + 1)) {}
    std::vector<double> operator()(const std::vector<double>& x) const { return linear(x, weight, bias); }
};

std::vector<double> part(const std::vector<float>& values, std::int64_t first, std::int64_t count) {
    return std::vector<double>(values.begin() + first, values.begin() + first + count);
}

double squared_distance(const double* a, const double* b) {
    return (a[0] - b[0]) * (a[0] - b[0]) + (a[1] - b[1]) * (a[1] - b[1]) + (a[2] - b[2]) * (a[2] - b[2]);
}

// Single and pair representation, frames and mask of n residues.
struct Input {
    std::int64_t n;
    std::vector<float> s, z, rotations, translations, mask;

    Input(std::int64_t n, const Sizes& sizes)
        : n(n),
          s(draw(n * sizes.channels, 1.0f, 20)),
          z(draw(n * n * sizes.pair_channels, 1.0f, 21, 0.5f)),
          translations(draw(n * 3, 2.0f, 22, 1.0f)),
          mask(draw(n, 1.0f, 23)) {
        const std::vector<float> quaternions = draw(n * 4, 1.0f, 24);
        for (std::int64_t i = 0; i < n; ++i) {
            double q[4], norm = 0;
            for (int k = 0; k < 4; ++k) norm += quaternions[i * 4 + k] * quaternions[i * 4 + k];
            for (int k = 0; k < 4; ++k) q[k] = quaternions[i * 4 + k] / std::sqrt(norm);
            const double w = q[0], x = q[1], y = q[2], z = q[3];
            for (double element : {1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
                                   2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
                                   2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)}) {
                rotations.push_back(static_cast<float>(element));
            }
        }
        for (float& value : mask) value = value > 1.0f ? 0.5f : value > -0.5f ? 1.0f : 0.0f;
    }

    void to_global(std::int64_t i, const double* local, double* global) const {
        for (int row = 0; row < 3; ++row) {
            global[row] = translations[i * 3 + row];
            for (int k = 0; k < 3; ++k) global[row] += rotations[i * 9 + row * 3 + k] * local[k];
        }
    }
    void to_local(std::int64_t i, const double* global, double* local) const {
        for (int row = 0; row < 3; ++row) {
            local[row] = 0;
            for (int k = 0; k < 3; ++k) {
                local[row] += rotations[i * 9 + k * 3 + row] * (global[k] - translations[i * 3 + k]);
            }
        }
    }
};

struct Layer {
    Sizes sizes;
    std::int64_t hidden, points;
    Linear query, key_value, query_point, key_value_point, pair, output;
    std::vector<float> head_weights;
    InvariantPointAttention kernel;
    static constexpr float kEps = 1e-2f, kInf = 3.0f;

    explicit Layer(const Sizes& sizes)
        : sizes(sizes),
          hidden(sizes.heads * sizes.head_channels),
          points(sizes.query_points + sizes.value_points),
          query(hidden, sizes.channels, 1),
          key_value(2 * hidden, sizes.channels, 3),
          query_point(3 * sizes.heads * sizes.query_points, sizes.channels, 5),
          key_value_point(3 * sizes.heads * points, sizes.channels, 7),
          pair(sizes.heads, sizes.pair_channels, 9),
          output(sizes.channels, sizes.heads * (sizes.head_channels + 4 * sizes.value_points + sizes.pair_channels),
                 11),
          head_weights(draw(sizes.heads, 1.0f, 13)),
          kernel(weights()) {}

    InvariantPointAttentionWeights weights() const {
        return {sizes.channels,          sizes.pair_channels,          sizes.heads,
                sizes.head_channels,     sizes.query_points,           sizes.value_points,
                query.weight.data(),     query.bias.data(),            key_value.weight.data(),
                key_value.bias.data(),   query_point.weight.data(),    query_point.bias.data(),
                key_value_point.weight.data(), key_value_point.bias.data(), pair.weight.data(),
                pair.bias.data(),        head_weights.data(),          output.weight.data(),
                output.bias.data(),      kEps};
    }

    // Point p of `of_head` for each head, from the outputs of a point layer, in the global frame.
    static std::vector<double> point(const Input& in, std::int64_t i, const std::vector<double>& outputs,
                                     std::int64_t index) {
        const std::int64_t plane = static_cast<std::int64_t>(outputs.size()) / 3;
        const double local[3] = {outputs[index], outputs[plane + index], outputs[2 * plane + index]};
        std::vector<double> global(3);
        in.to_global(i, local, global.data());
        return global;
    }

    std::vector<double> exact(const Input& in, bool masked) const {
        const std::int64_t n = in.n, c = sizes.head_channels, queries = sizes.query_points, values = sizes.value_points;
        std::vector<std::vector<double>> q(n), kv(n), q_point(n), kv_point(n);
        for (std::int64_t i = 0; i < n; ++i) {
            const std::vector<double> s = part(in.s, i * sizes.channels, sizes.channels);
            q[i] = query(s);
            kv[i] = key_value(s);
            q_point[i] = query_point(s);
            kv_point[i] = key_value_point(s);
        }
        std::vector<double> result;
        for (std::int64_t i = 0; i < n; ++i) {
            std::vector<double> scalar, coordinate[3], norm, pairs;
            for (std::int64_t h = 0; h < sizes.heads; ++h) {
                const double gamma = std::log1p(std::exp(static_cast<double>(head_weights[h])));
                std::vector<double> p(n);
                double sum = 0;
                for (std::int64_t j = 0; j < n; ++j) {
                    double dot = 0, squares = 0;
                    for (std::int64_t k = 0; k < c; ++k) dot += q[i][h * c + k] * kv[j][h * 2 * c + k];
                    for (std::int64_t k = 0; k < queries; ++k) {
                        squares += squared_distance(point(in, i, q_point[i], h * queries + k).data(),
                                                    point(in, j, kv_point[j], h * points + k).data());
                    }
                    const double bias = pair(part(in.z, (i * n + j) * sizes.pair_channels, sizes.pair_channels))[h];
                    const double kept = masked ? in.mask[i] * in.mask[j] : 1;
                    p[j] = std::exp(dot / std::sqrt(3.0 * c) + bias / std::sqrt(3.0) -
                                    gamma / 2 * std::sqrt(2 / (27.0 * queries)) * squares + kInf * (kept - 1));
                    sum += p[j];
                }
                for (double& value : p) value /= sum;
                for (std::int64_t k = 0; k < c; ++k) {
                    scalar.push_back(0);
                    for (std::int64_t j = 0; j < n; ++j) scalar.back() += p[j] * kv[j][h * 2 * c + c + k];
                }
                for (std::int64_t k = 0; k < values; ++k) {
                    double global[3] = {0, 0, 0}, local[3];
                    for (std::int64_t j = 0; j < n; ++j) {
                        const std::vector<double> x = point(in, j, kv_point[j], h * points + queries + k);
                        for (int axis = 0; axis < 3; ++axis) global[axis] += p[j] * x[axis];
                    }
                    in.to_local(i, global, local);
                    for (int axis = 0; axis < 3; ++axis) coordinate[axis].push_back(local[axis]);
                    norm.push_back(
                        std::sqrt(local[0] * local[0] + local[1] * local[1] + local[2] * local[2] + kEps));
                }
                for (std::int64_t k = 0; k < sizes.pair_channels; ++k) {
                    pairs.push_back(0);
                    for (std::int64_t j = 0; j < n; ++j) {
                        pairs.back() += p[j] * in.z[(i * n + j) * sizes.pair_channels + k];
                    }
                }
            }
            std::vector<double> features = scalar;
            for (const auto& more : {coordinate[0], coordinate[1], coordinate[2], norm, pairs}) {
                features.insert(features.end(), more.begin(), more.end());
            }
            const std::vector<double> update = output(features);
            result.insert(result.end(), update.begin(), update.end());
        }
        return result;
    }
};

constexpr Sizes kSmall = {12, 10, 3, 5, 2, 3};

}  // namespace

TEST(invariant_point_attention_is_close_to_double) {
    for (const auto& [sizes, n] : {std::pair(Sizes{1, 1, 1, 1, 1, 1}, 1), std::pair(kSmall, 7), std::pair(kSmall, 65),
                                   std::pair(kSmall, 130), std::pair(Sizes{33, 70, 4, 3, 1, 2}, 17),
                                   std::pair(Sizes{40, 16, 17, 16, 4, 8}, 24)}) {
        const Layer layer(sizes);
        const Input in(n, sizes);
        const std::vector<double> exact = layer.exact(in, false), exact_masked = layer.exact(in, true);
        for (Layout layout : kLayouts) {
            OwnedGrid s(1, n, sizes.channels, layout, in.s), z(n, n, sizes.pair_channels, layout, in.z);
            OwnedGrid out(1, n, sizes.channels, layout);
            const std::int64_t gaps = s.untouched();
            layer.kernel(s.view(), z.view(), in.rotations.data(), in.translations.data(), in.mask.data(), Layer::kInf,
                         out.mutable_view(), 1);
            CHECK(error(out.values(), exact_masked) < 2e-6);
            CHECK(out.untouched() == gaps);
            layer.kernel(s.view(), z.view(), in.rotations.data(), in.translations.data(), nullptr, Layer::kInf,
                         s.mutable_view(), 1);
            CHECK(error(s.values(), exact) < 2e-6);
        }
    }
}

TEST(invariant_point_attention_has_the_same_bits_for_any_number_of_threads) {
    const std::int64_t n = 131;
    const Layer layer(kSmall);
    const Input in(n, kSmall);
    OwnedGrid s(1, n, kSmall.channels, Layout::dense, in.s), z(n, n, kSmall.pair_channels, Layout::dense, in.z);
    std::vector<float> expected;
    for (int threads : {1, 2, 4, 7}) {
        OwnedGrid out(1, n, kSmall.channels, Layout::dense);
        layer.kernel(s.view(), z.view(), in.rotations.data(), in.translations.data(), in.mask.data(), 1e5f,
                     out.mutable_view(), threads);
        if (threads == 1) expected = out.values();
        CHECK(same_bits(out.values(), expected));
    }
}

TEST(invariant_point_attention_of_nothing_and_of_wrong_sizes) {
    const Layer layer(kSmall);
    const Grid nothing = {nullptr, 1, 0, 12, 0, 0}, no_pairs = {nullptr, 0, 0, 10, 0, 0};
    layer.kernel(nothing, no_pairs, nullptr, nullptr, nullptr, 1e5f, {nullptr, 1, 0, 12, 0, 0}, 2);

    const Input in(3, kSmall);
    OwnedGrid s(1, 3, 12, Layout::dense, in.s), z(3, 3, 10, Layout::dense, in.z);
    OwnedGrid other(1, 4, 12, Layout::dense), pairs(3, 2, 10, Layout::dense), rows(2, 3, 12, Layout::dense);
    const auto run = [&](const Grid& from, const Grid& pair, const MutableGrid& out, int threads) {
        layer.kernel(from, pair, in.rotations.data(), in.translations.data(), nullptr, 1e5f, out, threads);
    };
    CHECK_INVALID(run(s.view(), z.view(), s.mutable_view(), 0), "threads is 0");
    CHECK_INVALID(run(s.view(), z.view(), other.mutable_view(), 1), "out columns is 4, expected 3");
    CHECK_INVALID(run(s.view(), pairs.view(), s.mutable_view(), 1), "z columns is 2, expected 3");
    CHECK_INVALID(run(s.view(), s.view(), s.mutable_view(), 1), "z rows is 1, expected 3");
    CHECK_INVALID(run(rows.view(), z.view(), s.mutable_view(), 1), "s rows is 2, expected 1");
    CHECK_INVALID(run({nullptr, 1, -3, 12, 0, 0}, z.view(), s.mutable_view(), 1), "columns is -3");
    InvariantPointAttentionWeights weights = layer.weights();
    weights.value_points = -1;
    CHECK_INVALID(InvariantPointAttention{weights}, "value_points is -1");
    weights = layer.weights();
    weights.heads = 0;
    CHECK_INVALID(InvariantPointAttention{weights}, "heads is 0");
}
