// Arrays are allocated at their exact size, so that the address sanitizer sees any access past an end.
#include "openfoldpp/attention.h"

#include <stdexcept>
#include <string>
#include <vector>

#include "check.h"
#include "reference.h"

using namespace openfoldpp;
using namespace reference;

namespace {

constexpr float kInf = 1e4f;  // leaves the logits of a row masked whole some digits

// A number is drawn for each parameter; layers start at what keeps the logits near 1.
struct Layer {
    std::int64_t channels, heads, head_channels;
    std::vector<float> norm_weight, norm_bias, query, key, value, gate, gate_bias, output, output_bias;
    GatedAttention kernel;

    Layer(std::int64_t channels, std::int64_t heads, std::int64_t head_channels)
        : channels(channels),
          heads(heads),
          head_channels(head_channels),
          norm_weight(draw(channels, 0.3f, 1, 1.0f)),
          norm_bias(draw(channels, 0.3f, 2)),
          query(weight(heads * head_channels, channels, 3)),
          key(weight(heads * head_channels, channels, 4)),
          value(weight(heads * head_channels, channels, 5)),
          gate(weight(heads * head_channels, channels, 6)),
          gate_bias(draw(heads * head_channels, 1.0f, 7)),
          output(weight(channels, heads * head_channels, 8)),
          output_bias(draw(channels, 1.0f, 9)),
          kernel({channels, heads, head_channels, norm_weight.data(), norm_bias.data(), 1e-5f, query.data(),
                  key.data(), value.data(), gate.data(), gate_bias.data(), output.data(), output_bias.data()}) {}

    static std::vector<float> weight(std::int64_t outputs, std::int64_t inputs, unsigned seed) {
        return draw(outputs * inputs, 1.0f / std::sqrt(static_cast<float>(inputs)), seed);
    }

    // x [rows][positions][channels]; bias, mask and residual may be empty
    std::vector<double> exact(const std::vector<float>& x, std::int64_t rows, std::int64_t positions,
                              const std::vector<float>& bias, const std::vector<float>& mask,
                              const std::vector<float>& residual) const {
        const std::int64_t n = positions, d = head_channels, all = heads * d;
        const std::vector<float> none(all);
        std::vector<double> result;
        for (std::int64_t row = 0; row < rows; ++row) {
            std::vector<std::vector<double>> q, k, v, g;
            for (std::int64_t i = 0; i < n; ++i) {
                const std::vector<double> normed = layer_norm(&x[(row * n + i) * channels], norm_weight, norm_bias, 1e-5);
                q.push_back(linear(normed, query, none));
                k.push_back(linear(normed, key, none));
                v.push_back(linear(normed, value, none));
                g.push_back(linear(normed, gate, gate_bias));
            }
            for (std::int64_t i = 0; i < n; ++i) {
                std::vector<double> gated(all);
                for (std::int64_t h = 0; h < heads; ++h) {
                    std::vector<double> logits(n);
                    for (std::int64_t j = 0; j < n; ++j) {
                        for (std::int64_t c = h * d; c < (h + 1) * d; ++c) logits[j] += q[i][c] * k[j][c];
                        logits[j] /= std::sqrt(static_cast<double>(d));
                        if (!mask.empty()) logits[j] += kInf * (mask[row * n + j] - 1.0);
                        if (!bias.empty()) logits[j] += bias[(h * n + i) * n + j];
                    }
                    const double top = *std::max_element(logits.begin(), logits.end());
                    double sum = 0;
                    for (double& logit : logits) sum += logit = std::exp(logit - top);
                    for (std::int64_t c = h * d; c < (h + 1) * d; ++c) {
                        for (std::int64_t j = 0; j < n; ++j) gated[c] += logits[j] / sum * v[j][c];
                        gated[c] *= logistic(g[i][c]);
                    }
                }
                for (double value : linear(gated, output, output_bias)) {
                    result.push_back(value + (residual.empty() ? 0.0f : residual[result.size()]));
                }
            }
        }
        return result;
    }
};

// The first row is masked whole, the last not at all.
std::vector<float> draw_mask(std::int64_t rows, std::int64_t positions) {
    std::vector<float> mask = draw(rows * positions, 1.0f, 10);
    for (std::int64_t i = 0; i < rows * positions; ++i) {
        const std::int64_t row = i / positions;
        mask[i] = row == 0 ? 0.0f : row == rows - 1 || mask[i] > -0.5f ? 1.0f : 0.0f;
    }
    return mask;
}

}  // namespace

TEST(attention_is_close_to_double) {
    struct Size {
        std::int64_t channels, heads, head_channels;
    };
    for (const Size& size : {Size{1, 1, 1}, Size{12, 3, 5}, Size{33, 2, 17}, Size{32, 4, 8}}) {
        const Layer layer(size.channels, size.heads, size.head_channels);
        for (std::int64_t n : {1, 7, 16, 17, 33, 65}) {
            const std::int64_t rows = 3;
            const std::vector<float> x = draw(rows * n * size.channels, 1.0f, 11, 0.5f);
            const std::vector<float> residual = draw(rows * n * size.channels, 1.0f, 12);
            const std::vector<float> bias = draw(size.heads * n * n, 1.0f, 13);
            const std::vector<float> mask = draw_mask(rows, n), none;
            for (Layout layout : kLayouts) {
                OwnedGrid from(rows, n, size.channels, layout, x), kept(rows, n, 1, layout, mask);
                OwnedGrid added(rows, n, size.channels, layout, residual), to(rows, n, size.channels, layout);
                const std::int64_t between = from.untouched();
                layer.kernel(from.view(), bias.data(), kept.view(), kInf, added.view(), to.mutable_view(), 1);
                // Where all logits have lost kInf, what is left of them has an ulp of 1e-3.
                const std::vector<double> exact = layer.exact(x, rows, n, bias, mask, residual);
                CHECK(error(to.values(), exact) < 1e-3);
                CHECK(to.untouched() == between);
                const auto live = [&](const auto& values) {
                    using Values = std::decay_t<decltype(values)>;
                    return Values(values.begin() + n * size.channels, values.end());
                };
                CHECK(error(live(to.values()), live(exact)) < 3e-6);

                layer.kernel(from.view(), nullptr, {}, kInf, {}, to.mutable_view(), 1);
                CHECK(error(to.values(), layer.exact(x, rows, n, none, none, none)) < 3e-6);
            }
        }
    }
}

TEST(attention_in_place_is_the_same) {
    const Layer layer(12, 3, 5);
    const std::int64_t rows = 4, n = 19;
    const std::vector<float> x = draw(rows * n * 12, 1.0f, 14), bias = draw(3 * n * n, 1.0f, 15);
    for (Layout layout : kLayouts) {
        OwnedGrid grid(rows, n, 12, layout, x), out(rows, n, 12, layout);
        layer.kernel(grid.view(), bias.data(), {}, kInf, grid.view(), out.mutable_view(), 1);
        layer.kernel(grid.view(), bias.data(), {}, kInf, grid.view(), grid.mutable_view(), 2);
        CHECK(same_bits(grid.values(), out.values()));
    }
}

TEST(pair_bias_is_close_to_double) {
    for (std::int64_t channels : {1, 12, 33}) {
        for (std::int64_t heads : {1, 4, 17, 40}) {
            const std::vector<float> norm_weight = draw(channels, 0.3f, 1, 1.0f), norm_bias = draw(channels, 0.3f, 2);
            const std::vector<float> weight = Layer::weight(heads, channels, 3), none(heads);
            const PairBias kernel(norm_weight.data(), norm_bias.data(), 1e-5f, weight.data(), heads, channels);
            const std::int64_t rows = 3, columns = 50;
            const std::vector<float> z = draw(rows * columns * channels, 1.0f, 4);
            std::vector<double> exact(heads * rows * columns);
            for (std::int64_t p = 0; p < rows * columns; ++p) {
                const std::vector<double> values =
                    linear(layer_norm(&z[p * channels], norm_weight, norm_bias, 1e-5), weight, none);
                for (std::int64_t h = 0; h < heads; ++h) exact[h * rows * columns + p] = values[h];
            }
            for (Layout layout : kLayouts) {
                OwnedGrid from(rows, columns, channels, layout, z);
                std::vector<float> out(heads * rows * columns);
                kernel(from.view(), out.data(), 1);
                CHECK(error(out, exact) < 3e-6);
            }
        }
    }
}

TEST(threads_do_not_change_the_bits_of_attention) {
    const Layer layer(12, 3, 5);
    const std::vector<float> weight = Layer::weight(3, 12, 16);
    const PairBias pair_bias(layer.norm_weight.data(), layer.norm_bias.data(), 1e-5f, weight.data(), 3, 12);
    const std::int64_t n = 29;
    OwnedGrid x(n, n, 12, Layout::dense, draw(n * n * 12, 1.0f, 17));
    OwnedGrid mask(n, n, 1, Layout::dense, draw_mask(n, n));
    std::vector<float> bias, result;
    for (int threads : {1, 2, 4, 64}) {
        std::vector<float> out(3 * n * n);
        pair_bias(x.view(), out.data(), threads);
        OwnedGrid to(n, n, 12, Layout::dense);
        layer.kernel(x.view(), out.data(), mask.view(), kInf, {}, to.mutable_view(), threads);
        if (threads == 1) {
            bias = out;
            result = to.values();
        }
        CHECK(same_bits(out, bias));
        CHECK(same_bits(to.values(), result));
    }
}

TEST(empty_grids_and_wrong_sizes_of_attention) {
    const Layer layer(4, 2, 3);
    const GatedAttention& kernel = layer.kernel;
    const std::vector<float> weight(8);
    const PairBias pair_bias(layer.norm_weight.data(), layer.norm_bias.data(), 1e-5f, weight.data(), 2, 4);
    for (const auto& [rows, columns] : {std::pair(0, 5), std::pair(5, 0)}) {
        kernel({nullptr, rows, columns, 4, 0, 0}, nullptr, {}, kInf, {}, {nullptr, rows, columns, 4, 0, 0}, 1);
        pair_bias({nullptr, rows, columns, 4, 0, 0}, nullptr, 1);
    }
    std::vector<float> values(24);
    const Grid x = {values.data(), 2, 3, 4, 12, 4};
    const MutableGrid out = {values.data(), 2, 3, 4, 12, 4};
    const auto with = [](auto grid, std::int64_t rows, std::int64_t columns, std::int64_t channels) {
        grid.rows = rows;
        grid.columns = columns;
        grid.channels = channels;
        return grid;
    };
    CHECK_INVALID(kernel(with(x, -1, 3, 4), nullptr, {}, kInf, {}, out, 1), "rows is -1");
    CHECK_INVALID(kernel(with(x, 2, -3, 4), nullptr, {}, kInf, {}, out, 1), "columns is -3");
    CHECK_INVALID(kernel(with(x, 2, 3, 5), nullptr, {}, kInf, {}, out, 1), "x channels is 5, expected 4");
    CHECK_INVALID(kernel(x, nullptr, x, kInf, {}, out, 1), "mask channels is 4, expected 1");
    CHECK_INVALID(kernel(x, nullptr, with(x, 3, 2, 1), kInf, {}, out, 1), "mask rows is 3, expected 2");
    CHECK_INVALID(kernel(x, nullptr, {}, kInf, with(x, 2, 2, 4), out, 1), "residual columns is 2, expected 3");
    CHECK_INVALID(kernel(x, nullptr, {}, kInf, {}, with(out, 1, 3, 4), 1), "out rows is 1, expected 2");
    CHECK_INVALID(kernel(x, nullptr, {}, kInf, {}, out, 0), "threads is 0");
    CHECK_INVALID(pair_bias(with(x, 2, 3, 5), values.data(), 1), "z channels is 5, expected 4");
    CHECK_INVALID(pair_bias(with(x, 2, -3, 4), values.data(), 1), "columns is -3");
    CHECK_INVALID(pair_bias(x, values.data(), -2), "threads is -2");
    CHECK_INVALID(Layer(0, 1, 1), "channels is 0");
    CHECK_INVALID(Layer(1, 0, 1), "heads is 0");
    CHECK_INVALID(Layer(1, 1, 0), "head_channels is 0");
    CHECK_INVALID(PairBias(nullptr, nullptr, 0.0f, nullptr, 0, 1), "heads is 0");
    CHECK_INVALID(PairBias(nullptr, nullptr, 0.0f, nullptr, 1, 0), "channels is 0");
}
