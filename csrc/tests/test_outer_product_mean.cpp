#include "openfoldpp/outer_product_mean.h"

#include <stdexcept>
#include <string>
#include <vector>

#include "check.h"
#include "reference.h"

using namespace openfoldpp;
using namespace reference;

namespace {

using Values = std::vector<float>;

// An outer product mean with random parameters.
struct Layer {
    std::int64_t channels, hidden, outputs;
    Values norm_weight, norm_bias, left, left_bias, right, right_bias, output, output_bias;
    OuterProductMean kernel;

    Layer(std::int64_t channels, std::int64_t hidden, std::int64_t outputs)
        : channels(channels),
          hidden(hidden),
          outputs(outputs),
          norm_weight(draw(channels, 0.3f, 1, 1.0f)),
          norm_bias(draw(channels, 0.3f, 2)),
          left(linear_weight(hidden, channels, 3)),
          left_bias(draw(hidden, 0.3f, 4)),
          right(linear_weight(hidden, channels, 5)),
          right_bias(draw(hidden, 0.3f, 6)),
          output(linear_weight(outputs, hidden * hidden, 7)),
          output_bias(draw(outputs, 0.3f, 8)),
          kernel(weights()) {}

    static Values linear_weight(std::int64_t outputs, std::int64_t inputs, unsigned seed) {
        return draw(outputs * inputs, 1.0f / std::sqrt(static_cast<float>(inputs)), seed);
    }

    // eps_mask of 0.5, so that pairs that no sequence covers do not hide the error of the others.
    OuterProductMeanWeights weights() const {
        return {channels, hidden, outputs, norm_weight.data(), norm_bias.data(), 1e-5f, left.data(), left_bias.data(),
                right.data(), right_bias.data(), output.data(), output_bias.data(), 0.5f};
    }

    // m: [sequences][residues][channels], mask: [sequences][residues], residual: [residues][residues][outputs]
    std::vector<double> exact(std::int64_t sequences, std::int64_t residues, const Values& m, const Values& mask,
                              const Values& residual) const {
        std::vector<std::vector<double>> a, b;
        for (std::int64_t p = 0; p < sequences * residues; ++p) {
            const std::vector<double> x = layer_norm(&m[p * channels], norm_weight, norm_bias, 1e-5);
            a.push_back(linear(x, left, left_bias));
            b.push_back(linear(x, right, right_bias));
        }
        std::vector<double> result;
        for (std::int64_t i = 0; i < residues; ++i) {
            for (std::int64_t j = 0; j < residues; ++j) {
                std::vector<double> outer(hidden * hidden, 0.0);
                double norm = 0.5;
                for (std::int64_t s = 0; s < sequences; ++s) {
                    const std::int64_t at_i = s * residues + i, at_j = s * residues + j;
                    const double weight = double(mask[at_i]) * mask[at_j];
                    norm += weight;
                    for (std::int64_t d = 0; d < hidden; ++d) {
                        for (std::int64_t e = 0; e < hidden; ++e) {
                            outer[d * hidden + e] += weight * a[at_i][d] * b[at_j][e];
                        }
                    }
                }
                const std::vector<double> update = linear(outer, output, output_bias);
                for (std::int64_t c = 0; c < outputs; ++c) {
                    const std::int64_t at = (i * residues + j) * outputs + c;
                    result.push_back(update[c] / norm + (residual.empty() ? 0.0f : residual[at]));
                }
            }
        }
        return result;
    }
};

// Some zeros, and a residue that no sequence covers where there is more than one.
Values draw_mask(std::int64_t sequences, std::int64_t residues) {
    Values mask = draw(sequences * residues, 1.0f, 9);
    for (std::int64_t p = 0; p < sequences * residues; ++p) {
        mask[p] = mask[p] < -0.5f || p % residues == 1 ? 0.0f : 1.0f;
    }
    return mask;
}

}  // namespace

TEST(outer_product_mean_is_close_to_double) {
    struct Case {
        std::int64_t channels, hidden, outputs, sequences, residues;
    };
    // Few sequences and many, around the sizes of blocks of residues: 3, 4, 6, 16 and 48; of runs of channels: 128;
    // of runs of sequences: 256.
    for (const Case& size : {Case{2, 3, 5, 1, 1}, Case{2, 3, 5, 9, 1}, Case{12, 5, 12, 1, 7}, Case{12, 5, 12, 3, 49},
                             Case{12, 5, 12, 20, 2}, Case{12, 5, 12, 20, 3}, Case{12, 5, 12, 20, 16},
                             Case{12, 5, 12, 20, 17}, Case{12, 5, 12, 20, 50}, Case{12, 5, 12, 257, 7},
                             Case{12, 5, 12, 600, 4}, Case{7, 17, 33, 2, 13}, Case{7, 17, 33, 30, 13},
                             Case{130, 16, 8, 1, 20}, Case{130, 16, 8, 60, 5}, Case{4, 33, 70, 12, 3},
                             Case{6, 1, 1, 2, 5}, Case{6, 1, 1, 40, 5}}) {
        const auto [channels, hidden, outputs, sequences, residues] = size;
        const Layer layer(channels, hidden, outputs);
        const Values m = draw(sequences * residues * channels, 2.0f, 10, 1.0f);
        const Values residual = draw(residues * residues * outputs, 1.0f, 11);
        const Values mask = draw_mask(sequences, residues), ones(sequences * residues, 1.0f);
        for (Layout layout : kLayouts) {
            OwnedGrid in(sequences, residues, channels, layout, m), kept(sequences, residues, 1, layout, mask);
            OwnedGrid added(residues, residues, outputs, layout, residual), out(residues, residues, outputs, layout);
            layer.kernel(in.view(), kept.view(), added.view(), out.mutable_view(), 1);
            CHECK(error(out.values(), layer.exact(sequences, residues, m, mask, residual)) < 1e-5);
            CHECK(out.untouched() == added.untouched());
            layer.kernel(in.view(), {}, {}, out.mutable_view(), 1);
            CHECK(error(out.values(), layer.exact(sequences, residues, m, ones, {})) < 1e-5);
        }
    }
}

TEST(outer_product_mean_in_place_has_the_same_bits) {
    for (std::int64_t sequences : {2, 30}) {
        const Layer layer(12, 5, 12);
        OwnedGrid m(sequences, 21, 12, Layout::dense, draw(sequences * 21 * 12, 2.0f, 10));
        OwnedGrid z(21, 21, 12, Layout::dense, draw(21 * 21 * 12, 1.0f, 11)), out(21, 21, 12, Layout::dense);
        layer.kernel(m.view(), {}, z.view(), out.mutable_view(), 1);
        layer.kernel(m.view(), {}, z.view(), z.mutable_view(), 1);
        CHECK(same_bits(z.values(), out.values()));
    }
}

TEST(outer_product_mean_has_the_same_bits_for_any_number_of_threads) {
    for (std::int64_t sequences : {1, 3, 30}) {
        const Layer layer(12, 5, 12);
        OwnedGrid m(sequences, 67, 12, Layout::dense, draw(sequences * 67 * 12, 2.0f, 10));
        OwnedGrid expected(67, 67, 12, Layout::dense);
        layer.kernel(m.view(), {}, {}, expected.mutable_view(), 1);
        for (int threads : {2, 4, 7}) {
            OwnedGrid out(67, 67, 12, Layout::dense);
            layer.kernel(m.view(), {}, {}, out.mutable_view(), threads);
            CHECK(same_bits(out.values(), expected.values()));
        }
    }
}

TEST(outer_product_mean_of_nothing_and_of_wrong_sizes) {
    const Layer layer(12, 5, 7);
    OwnedGrid no_sequences(0, 3, 12, Layout::dense), no_residues(4, 0, 12, Layout::dense);
    OwnedGrid nothing(0, 0, 7, Layout::dense), out(3, 3, 7, Layout::dense);
    layer.kernel(no_residues.view(), {}, {}, nothing.mutable_view(), 2);
    layer.kernel(no_sequences.view(), {}, {}, out.mutable_view(), 2);
    for (std::int64_t c = 0; c < 7; ++c) CHECK(out.vector(2, 1)[c] == layer.output_bias[c] * 2);

    OwnedGrid m(4, 3, 12, Layout::dense, draw(144, 1.0f, 1)), other(4, 4, 7, Layout::dense);
    const auto run = [&](const Grid& mask, const Grid& residual, OwnedGrid& to, int threads) {
        layer.kernel(m.view(), mask, residual, to.mutable_view(), threads);
    };
    CHECK_INVALID(run({}, {}, out, 0), "threads is 0");
    CHECK_INVALID(run({}, {}, other, 1), "out rows is 4, expected 3");
    CHECK_INVALID(run({}, {}, m, 1), "out rows is 4, expected 3");
    CHECK_INVALID(run({}, other.view(), out, 1), "residual rows is 4, expected 3");
    CHECK_INVALID(run(out.view(), {}, out, 1), "mask rows is 3, expected 4");
    CHECK_INVALID(run(m.view(), {}, out, 1), "mask channels is 12, expected 1");
    OuterProductMeanWeights wrong = layer.weights();
    wrong.outputs = 0;
    CHECK_INVALID(OuterProductMean{wrong}, "outputs is 0");
}
