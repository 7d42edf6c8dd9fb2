#include "openfoldpp/transition.h"

#include <stdexcept>
#include <string>
#include <vector>

#include "check.h"
#include "reference.h"

using namespace openfoldpp;
using namespace reference;

namespace {

// A transition with random parameters.
struct Layer {
    std::int64_t channels, hidden;
    std::vector<float> norm_weight, norm_bias, expand, expand_bias, contract, contract_bias;
    Transition kernel;

    Layer(std::int64_t channels, std::int64_t hidden)
        : channels(channels),
          hidden(hidden),
          norm_weight(draw(channels, 0.3f, 1, 1.0f)),
          norm_bias(draw(channels, 0.3f, 2)),
          expand(draw(hidden * channels, 1.0f / std::sqrt(static_cast<float>(channels)), 3)),
          expand_bias(draw(hidden, 0.3f, 4)),
          contract(draw(channels * hidden, 1.0f / std::sqrt(static_cast<float>(hidden)), 5)),
          contract_bias(draw(channels, 0.3f, 6)),
          kernel(channels, hidden, norm_weight.data(), norm_bias.data(), 1e-5f, expand.data(), expand_bias.data(),
                 contract.data(), contract_bias.data()) {}

    // x: [positions][channels], mask: [positions], residual: as x, or empty
    std::vector<double> exact(const std::vector<float>& x, const std::vector<float>& mask,
                              const std::vector<float>& residual) const {
        std::vector<double> result;
        for (std::size_t p = 0; p < mask.size(); ++p) {
            std::vector<double> wide = linear(layer_norm(&x[p * channels], norm_weight, norm_bias, 1e-5), expand,
                                              expand_bias);
            for (double& value : wide) value = std::max(0.0, value);
            const std::vector<double> update = linear(wide, contract, contract_bias);
            for (std::int64_t c = 0; c < channels; ++c) {
                result.push_back(update[c] * mask[p] + (residual.empty() ? 0.0f : residual[p * channels + c]));
            }
        }
        return result;
    }
};

std::vector<float> draw_mask(std::int64_t count) {
    std::vector<float> mask = draw(count, 1.0f, 7);
    for (float& value : mask) value = value > 1.0f ? 0.5f : value > -0.5f ? 1.0f : 0.0f;
    return mask;
}

}  // namespace

TEST(transition_is_close_to_double) {
    for (const auto& [channels, hidden] : {std::pair(1, 1), std::pair(12, 5), std::pair(33, 66), std::pair(128, 512)}) {
        const Layer layer(channels, hidden);
        for (const auto& [rows, columns] :
             {std::pair(1, 1), std::pair(1, 7), std::pair(3, 17), std::pair(2, 24), std::pair(49, 1)}) {
            const std::int64_t positions = rows * columns;
            const std::vector<float> x = draw(positions * channels, 3.0f, 8, 1.0f);
            const std::vector<float> mask = draw_mask(positions), residual = draw(positions * channels, 1.0f, 9);
            for (Layout layout : kLayouts) {
                OwnedGrid in(rows, columns, channels, layout, x), weights(rows, columns, 1, layout, mask);
                OwnedGrid added(rows, columns, channels, layout, residual), out(rows, columns, channels, layout);
                const std::int64_t gaps = in.untouched();
                layer.kernel(in.view(), weights.view(), added.view(), out.mutable_view(), 1);
                CHECK(error(out.values(), layer.exact(x, mask, residual)) < 2e-6);
                CHECK(out.untouched() == gaps);
                layer.kernel(in.view(), {}, {}, out.mutable_view(), 1);
                CHECK(error(out.values(), layer.exact(x, std::vector<float>(positions, 1.0f), {})) < 2e-6);
            }
        }
    }
}

TEST(transition_in_place_and_in_any_layout_has_the_same_bits) {
    const std::int64_t rows = 5, columns = 31, channels = 12;
    const Layer layer(channels, 40);
    const std::vector<float> x = draw(rows * columns * channels, 3.0f, 8), mask = draw_mask(rows * columns);
    OwnedGrid in(rows, columns, channels, Layout::dense, x), weights(rows, columns, 1, Layout::dense, mask);
    OwnedGrid out(rows, columns, channels, Layout::apart);
    layer.kernel(in.view(), weights.view(), in.view(), out.mutable_view(), 1);
    for (Layout layout : kLayouts) {
        OwnedGrid changed(rows, columns, channels, layout, x);
        layer.kernel(changed.view(), weights.view(), changed.view(), changed.mutable_view(), 1);
        CHECK(same_bits(changed.values(), out.values()));
    }
}

TEST(transition_has_the_same_bits_for_any_number_of_threads) {
    const std::int64_t rows = 17, columns = 43, channels = 12;
    const Layer layer(channels, 40);
    OwnedGrid x(rows, columns, channels, Layout::dense, draw(rows * columns * channels, 3.0f, 8));
    OwnedGrid expected(rows, columns, channels, Layout::dense);
    layer.kernel(x.view(), {}, x.view(), expected.mutable_view(), 1);
    for (int threads : {2, 4, 7}) {
        OwnedGrid out(rows, columns, channels, Layout::dense);
        layer.kernel(x.view(), {}, x.view(), out.mutable_view(), threads);
        CHECK(same_bits(out.values(), expected.values()));
    }
}

TEST(transition_of_nothing_and_of_wrong_sizes) {
    const Layer layer(12, 5);
    for (const auto& [rows, columns] : {std::pair(0, 3), std::pair(3, 0), std::pair(0, 0)}) {
        const Grid nothing = {nullptr, rows, columns, 12, 0, 0};
        layer.kernel(nothing, {}, {}, {nullptr, rows, columns, 12, 0, 0}, 2);
    }
    OwnedGrid x(2, 3, 12, Layout::dense, draw(72, 1.0f, 1)), other(2, 4, 12, Layout::dense);
    CHECK_INVALID(layer.kernel(x.view(), {}, {}, x.mutable_view(), 0), "threads is 0");
    CHECK_INVALID(layer.kernel(x.view(), {}, {}, other.mutable_view(), 1), "out columns is 4, expected 3");
    CHECK_INVALID(layer.kernel(x.view(), {}, other.view(), x.mutable_view(), 1), "residual columns is 4");
    CHECK_INVALID(layer.kernel(x.view(), x.view(), {}, x.mutable_view(), 1), "mask channels is 12, expected 1");
    CHECK_INVALID(layer.kernel({other.vector(0, 0), 2, 3, 11, 33, 11}, {}, {}, x.mutable_view(), 1),
                  "x channels is 11, expected 12");
    CHECK_INVALID(layer.kernel({other.vector(0, 0), -2, 3, 12, 36, 12}, {}, {}, x.mutable_view(), 1), "rows is -2");
    CHECK_INVALID(Transition(0, 5, nullptr, nullptr, 1e-5f, nullptr, nullptr, nullptr, nullptr), "channels is 0");
    CHECK_INVALID(Transition(4, -1, nullptr, nullptr, 1e-5f, nullptr, nullptr, nullptr, nullptr), "hidden is -1");
}
