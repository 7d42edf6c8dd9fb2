#include "openfoldpp/outer_product_mean.h"

#include <vector>

#include "checks.h"
#include "kernels.h"
#include "openfoldpp/parallel.h"

namespace openfoldpp {
namespace {

// Multiplications and additions of the two forms (outer_product_rows.h), S sequences, N residues, H hidden and C
// output channels:
//   factorised  N S H^2 C + N^2 S H C
//   general     N^2 S H^2 + N^2 H^2 C
// For H = 32 and C = 128 the first is less up to S = 36 where N = 256, and up to S = 42 where N is large.
bool factorised_is_less(std::int64_t sequences, std::int64_t residues, std::int64_t hidden, std::int64_t outputs) {
    const double s = static_cast<double>(sequences), n = static_cast<double>(residues);
    const double h = static_cast<double>(hidden), c = static_cast<double>(outputs);
    return s * c * (h + n) <= n * h * (s + c);
}

// [outputs][hidden of left][hidden of right] as [outputs][hidden of right][hidden of left].
std::vector<float> swap_inputs(const float* output, std::int64_t outputs, std::int64_t hidden) {
    std::vector<float> swapped(outputs * hidden * hidden);
    for (std::int64_t c = 0; c < outputs; ++c) {
        const std::int64_t first = c * hidden * hidden;
        for (std::int64_t d = 0; d < hidden; ++d) {
            for (std::int64_t e = 0; e < hidden; ++e) swapped[first + e * hidden + d] = output[first + d * hidden + e];
        }
    }
    return swapped;
}

}  // namespace

OuterProductMean::OuterProductMean(const OuterProductMeanWeights& w)
    : channels_(w.channels), hidden_(w.hidden), outputs_(w.outputs), eps_(w.eps), eps_mask_(w.eps_mask) {
    require_positive("channels", w.channels);
    require_positive("hidden", w.hidden);
    require_positive("outputs", w.outputs);
    norm_weight_ = PaddedVector(w.norm_weight, w.channels);
    norm_bias_ = PaddedVector(w.norm_bias, w.channels);
    left_ = PackedMatrix(w.left, w.hidden, w.channels);
    left_bias_ = PaddedVector(w.left_bias, w.hidden);
    right_ = PackedMatrix(w.right, w.hidden, w.channels);
    right_bias_ = PaddedVector(w.right_bias, w.hidden);
    output_ = PackedMatrix(swap_inputs(w.output, w.outputs, w.hidden).data(), w.outputs, w.hidden * w.hidden);
    output_bias_ = PaddedVector(w.output_bias, w.outputs);
}

void OuterProductMean::operator()(const Grid& m, const Grid& mask, const Grid& residual, const MutableGrid& out,
                                  int threads) const {
    require_size("rows", m.rows);
    require_size("columns", m.columns);
    require_grid("m", m, m.rows, m.columns, channels_);
    require_grid("out", out, m.columns, m.columns, outputs_);
    if (mask) require_grid("mask", mask, m.rows, m.columns, 1);
    if (residual) require_grid("residual", residual, m.columns, m.columns, outputs_);
    OuterProductArguments a = {};
    a.sequences = m.rows;
    a.residues = m.columns;
    a.channels = channels_;
    a.hidden = hidden_;
    a.outputs = outputs_;
    a.factorised = factorised_is_less(m.rows, m.columns, hidden_, outputs_);
    a.m = m.data;
    a.m_sequence = m.row_stride;
    a.m_residue = m.column_stride;
    a.mask = mask.data;
    a.mask_sequence = mask.row_stride;
    a.mask_residue = mask.column_stride;
    a.norm_weight = norm_weight_.data();
    a.norm_bias = norm_bias_.data();
    a.eps = eps_;
    a.left = left_.data();
    a.left_bias = left_bias_.data();
    a.right = right_.data();
    a.right_bias = right_bias_.data();
    a.output = output_.data();
    a.output_bias = output_bias_.data();
    a.eps_mask = eps_mask_;
    a.residual = residual.data;
    a.residual_row = residual.row_stride;
    a.residual_column = residual.column_stride;
    a.out = out.data;
    a.out_row = out.row_stride;
    a.out_column = out.column_stride;
    const OuterProductKernels& kernel = kernels().outer_product;
    Buffer left(kernel.left_floats(a)), right(kernel.right_floats(a)), dense_mask(mask ? m.rows * m.columns : 0);
    a.left_projection = left.data();
    a.right_projection = right.data();
    a.dense_mask = dense_mask.data();
    constexpr std::int64_t kPositionsPerThread = 64;
    parallel_for(m.rows * m.columns, kPositionsPerThread, threads, [&](std::int64_t begin, std::int64_t end) {
        Buffer scratch(kernel.project_scratch(a));
        kernel.project(a, begin, end, scratch.data());
    });
    parallel_for(kernel.items(a), 1, threads, [&](std::int64_t begin, std::int64_t end) {
        Buffer scratch(kernel.product_scratch(a));
        kernel.products(a, begin, end, scratch.data());
    });
}

}  // namespace openfoldpp
