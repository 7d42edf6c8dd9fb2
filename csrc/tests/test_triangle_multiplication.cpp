#include "openfoldpp/triangle_multiplication.h"

#include <stdexcept>
#include <string>
#include <vector>

#include "check.h"
#include "reference.h"

using namespace openfoldpp;
using namespace reference;

namespace {

using Values = std::vector<float>;

// A triangle multiplication with random parameters, and a workspace of exact size.
struct Layer {
    std::int64_t channels, hidden;
    Values norm_weight, norm_bias, left_gate, left_gate_bias, left, left_bias, right_gate, right_gate_bias, right,
        right_bias, norm_out_weight, norm_out_bias, gate, gate_bias, output, output_bias;
    TriangleMultiplication kernel;

    Layer(std::int64_t channels, std::int64_t hidden)
        : channels(channels),
          hidden(hidden),
          norm_weight(draw(channels, 0.3f, 1, 1.0f)),
          norm_bias(draw(channels, 0.3f, 2)),
          left_gate(linear_weight(hidden, channels, 3)),
          left_gate_bias(draw(hidden, 0.3f, 4)),
          left(linear_weight(hidden, channels, 5)),
          left_bias(draw(hidden, 0.3f, 6)),
          right_gate(linear_weight(hidden, channels, 7)),
          right_gate_bias(draw(hidden, 0.3f, 8)),
          right(linear_weight(hidden, channels, 9)),
          right_bias(draw(hidden, 0.3f, 10)),
          norm_out_weight(draw(hidden, 0.3f, 11, 1.0f)),
          norm_out_bias(draw(hidden, 0.3f, 12)),
          gate(linear_weight(channels, channels, 13)),
          gate_bias(draw(channels, 0.3f, 14)),
          output(linear_weight(channels, hidden, 15)),
          output_bias(draw(channels, 0.3f, 16)),
          kernel(weights()) {}

    static Values linear_weight(std::int64_t outputs, std::int64_t inputs, unsigned seed) {
        return draw(outputs * inputs, 1.0f / std::sqrt(static_cast<float>(inputs)), seed);
    }

    TriangleMultiplicationWeights weights() const {
        return {channels, hidden,
                norm_weight.data(), norm_bias.data(), 1e-5f,
                left_gate.data(), left_gate_bias.data(), left.data(), left_bias.data(),
                right_gate.data(), right_gate_bias.data(), right.data(), right_bias.data(),
                norm_out_weight.data(), norm_out_bias.data(), 1e-5f,
                gate.data(), gate_bias.data(), output.data(), output_bias.data()};
    }

    void run(OwnedGrid& z, const Grid& mask, bool outgoing, const Grid& residual, OwnedGrid& out, int threads) const {
        // NaN shows whatever of the workspace is used before it is written.
        Values workspace(kernel.workspace_floats(z.view().rows), std::numeric_limits<float>::quiet_NaN());
        kernel(z.view(), mask, outgoing, residual, out.mutable_view(), workspace.data(), threads);
    }

    // z: [n][n][channels], mask: [n][n], residual: as z, or empty
    std::vector<double> exact(std::int64_t n, const Values& z, const Values& mask, bool outgoing,
                              const Values& residual) const {
        std::vector<std::vector<double>> a, b, gates;
        for (std::int64_t p = 0; p < n * n; ++p) {
            const std::vector<double> x = layer_norm(&z[p * channels], norm_weight, norm_bias, 1e-5);
            a.push_back(edge(x, left_gate, left_gate_bias, left, left_bias, mask[p]));
            b.push_back(edge(x, right_gate, right_gate_bias, right, right_bias, mask[p]));
            gates.push_back(linear(x, gate, gate_bias));
        }
        std::vector<double> result;
        for (std::int64_t i = 0; i < n; ++i) {
            for (std::int64_t j = 0; j < n; ++j) {
                std::vector<double> product(hidden, 0.0);
                for (std::int64_t k = 0; k < n; ++k) {
                    const auto& from_i = a[outgoing ? i * n + k : k * n + i];
                    const auto& from_j = b[outgoing ? j * n + k : k * n + j];
                    for (std::int64_t c = 0; c < hidden; ++c) product[c] += from_i[c] * from_j[c];
                }
                const std::vector<double> update =
                    linear(layer_norm(product.data(), norm_out_weight, norm_out_bias, 1e-5), output, output_bias);
                for (std::int64_t c = 0; c < channels; ++c) {
                    const std::int64_t at = (i * n + j) * channels + c;
                    const double added = residual.empty() ? 0.0f : residual[at];
                    result.push_back(added + update[c] * logistic(gates[i * n + j][c]));
                }
            }
        }
        return result;
    }

private:
    static std::vector<double> edge(const std::vector<double>& x, const Values& gate, const Values& gate_bias,
                                    const Values& value, const Values& value_bias, double mask) {
        const std::vector<double> gates = linear(x, gate, gate_bias);
        std::vector<double> result = linear(x, value, value_bias);
        for (std::size_t c = 0; c < result.size(); ++c) result[c] *= logistic(gates[c]) * mask;
        return result;
    }
};

// Some zeros, row 0 and column 0 all zero where there is more than one.
Values draw_mask(std::int64_t n) {
    Values mask = draw(n * n, 1.0f, 17);
    for (std::int64_t p = 0; p < n * n; ++p) {
        const bool hidden = n > 1 && (p / n == 0 || p % n == 0);
        mask[p] = hidden || mask[p] < -1.0f ? 0.0f : 1.0f;
    }
    return mask;
}

}  // namespace

TEST(triangle_multiplication_is_close_to_double) {
    for (const auto& [channels, hidden] : {std::pair(2, 3), std::pair(12, 5), std::pair(33, 35), std::pair(128, 128)}) {
        const Layer layer(channels, hidden);
        // Around the sizes of blocks of edges, steps, tiles and columns: 6, 12, 16, 48 and 64.
        for (std::int64_t n : {1, 2, 6, 7, 13, 16, 17, 31, 48, 49, 63, 64, 65, 97}) {
            if (n * channels > 800) continue;
            const Values z = draw(n * n * channels, 2.0f, 18, 1.0f), residual = draw(n * n * channels, 1.0f, 19);
            const Values mask = draw_mask(n);
            for (bool outgoing : {true, false}) {
                const Layout layout = kLayouts[(n + outgoing) % 4];
                OwnedGrid in(n, n, channels, layout, z), edges(n, n, 1, layout, mask);
                OwnedGrid added(n, n, channels, layout, residual), out(n, n, channels, layout);
                const std::int64_t gaps = in.untouched();
                layer.run(in, edges.view(), outgoing, added.view(), out, 1);
                CHECK(error(out.values(), layer.exact(n, z, mask, outgoing, residual)) < 1e-5);
                CHECK(out.untouched() == gaps);
                layer.run(in, {}, outgoing, {}, out, 1);
                CHECK(error(out.values(), layer.exact(n, z, Values(n * n, 1.0f), outgoing, {})) < 1e-5);
            }
        }
    }
}

TEST(triangle_multiplication_in_place_and_in_any_layout_has_the_same_bits) {
    const std::int64_t n = 35, channels = 12;
    const Layer layer(channels, 20);
    const Values z = draw(n * n * channels, 2.0f, 18), mask = draw_mask(n);
    for (bool outgoing : {true, false}) {
        OwnedGrid in(n, n, channels, Layout::dense, z), out(n, n, channels, Layout::dense);
        OwnedGrid edges(n, n, 1, Layout::dense, mask);
        layer.run(in, edges.view(), outgoing, in.view(), out, 1);
        for (Layout layout : kLayouts) {
            OwnedGrid changed(n, n, channels, layout, z), turned(n, n, 1, layout, mask);
            layer.run(changed, turned.view(), outgoing, changed.view(), changed, 1);
            CHECK(same_bits(changed.values(), out.values()));
        }
    }
}

TEST(triangle_multiplication_has_the_same_bits_for_any_number_of_threads) {
    const std::int64_t n = 65, channels = 12;
    const Layer layer(channels, 9);
    OwnedGrid z(n, n, channels, Layout::dense, draw(n * n * channels, 2.0f, 18));
    OwnedGrid expected(n, n, channels, Layout::dense);
    layer.run(z, {}, true, z.view(), expected, 1);
    for (int threads : {2, 4, 7}) {
        OwnedGrid out(n, n, channels, Layout::dense);
        layer.run(z, {}, true, z.view(), out, threads);
        CHECK(same_bits(out.values(), expected.values()));
    }
}

TEST(triangle_multiplication_of_nothing_and_of_wrong_sizes) {
    const Layer layer(12, 5);
    OwnedGrid empty(0, 0, 12, Layout::dense), z(3, 3, 12, Layout::dense, draw(108, 1.0f, 1));
    layer.run(empty, {}, true, {}, empty, 2);
    OwnedGrid other(4, 4, 12, Layout::dense), oblong(3, 4, 12, Layout::dense);
    CHECK_INVALID(layer.run(z, {}, true, {}, z, 0), "threads is 0");
    CHECK_INVALID(layer.run(oblong, {}, true, {}, oblong, 1), "z columns is 4, expected 3");
    CHECK_INVALID(layer.run(z, {}, true, {}, other, 1), "out rows is 4, expected 3");
    CHECK_INVALID(layer.run(z, {}, true, other.view(), z, 1), "residual rows is 4, expected 3");
    CHECK_INVALID(layer.run(z, z.view(), true, {}, z, 1), "mask channels is 12, expected 1");
    CHECK_INVALID(layer.kernel.workspace_floats(-1), "n is -1");
    CHECK_INVALID(layer.kernel.workspace_floats(std::int64_t(1) << 40), "expected at most 16777216");
    TriangleMultiplicationWeights wrong = layer.weights();
    wrong.hidden = 0;
    CHECK_INVALID(TriangleMultiplication{wrong}, "hidden is 0");
}
