#include "openfoldpp/triangle_multiplication.h"

#include "checks.h"
#include "kernels.h"
#include "openfoldpp/parallel.h"

namespace openfoldpp {

TriangleMultiplication::TriangleMultiplication(const TriangleMultiplicationWeights& w)
    : channels_(w.channels), hidden_(w.hidden), eps_(w.eps), eps_out_(w.eps_out) {
    require_positive("channels", w.channels);
    require_positive("hidden", w.hidden);
    norm_weight_ = PaddedVector(w.norm_weight, w.channels);
    norm_bias_ = PaddedVector(w.norm_bias, w.channels);
    left_gate_ = PackedMatrix(w.left_gate, w.hidden, w.channels);
    left_gate_bias_ = PaddedVector(w.left_gate_bias, w.hidden);
    left_ = PackedMatrix(w.left, w.hidden, w.channels);
    left_bias_ = PaddedVector(w.left_bias, w.hidden);
    right_gate_ = PackedMatrix(w.right_gate, w.hidden, w.channels);
    right_gate_bias_ = PaddedVector(w.right_gate_bias, w.hidden);
    right_ = PackedMatrix(w.right, w.hidden, w.channels);
    right_bias_ = PaddedVector(w.right_bias, w.hidden);
    norm_out_weight_ = PaddedVector(w.norm_out_weight, w.hidden);
    norm_out_bias_ = PaddedVector(w.norm_out_bias, w.hidden);
    gate_ = PackedMatrix(w.gate, w.channels, w.channels);
    gate_bias_ = PaddedVector(w.gate_bias, w.channels);
    output_ = PackedMatrix(w.output, w.channels, w.hidden);
    output_bias_ = PaddedVector(w.output_bias, w.channels);
}

std::int64_t TriangleMultiplication::workspace_floats(std::int64_t n) const {
    require_size("n", n);
    constexpr std::int64_t kLargest = 1 << 24;  // the floats of 16384 channels then still are a 64-bit number
    if (n > kLargest) {
        throw std::invalid_argument("n is " + std::to_string(n) + ", expected at most " + std::to_string(kLargest));
    }
    TriangleArguments a = {};
    a.n = n;
    a.hidden = hidden_;
    return kernels().triangle.edge_floats(a);
}

void TriangleMultiplication::operator()(const Grid& z, const Grid& mask, bool outgoing, const Grid& residual,
                                        const MutableGrid& out, float* workspace, int threads) const {
    require_size("rows", z.rows);
    require_grid("z", z, z.rows, z.rows, channels_);
    require_grid("out", out, z.rows, z.rows, channels_);
    if (mask) require_grid("mask", mask, z.rows, z.rows, 1);
    if (residual) require_grid("residual", residual, z.rows, z.rows, channels_);
    TriangleArguments a = {};
    a.n = z.rows;
    a.channels = channels_;
    a.hidden = hidden_;
    a.z = z.data;
    a.z_row = z.row_stride;
    a.z_column = z.column_stride;
    a.edge_row = outgoing ? z.row_stride : z.column_stride;
    a.edge_column = outgoing ? z.column_stride : z.row_stride;
    a.mask = mask.data;
    a.mask_row = outgoing ? mask.row_stride : mask.column_stride;
    a.mask_column = outgoing ? mask.column_stride : mask.row_stride;
    a.norm_weight = norm_weight_.data();
    a.norm_bias = norm_bias_.data();
    a.eps = eps_;
    a.left_gate = left_gate_.data();
    a.left_gate_bias = left_gate_bias_.data();
    a.left = left_.data();
    a.left_bias = left_bias_.data();
    a.right_gate = right_gate_.data();
    a.right_gate_bias = right_gate_bias_.data();
    a.right = right_.data();
    a.right_bias = right_bias_.data();
    a.norm_out_weight = norm_out_weight_.data();
    a.norm_out_bias = norm_out_bias_.data();
    a.eps_out = eps_out_;
    a.gate = gate_.data();
    a.gate_bias = gate_bias_.data();
    a.output = output_.data();
    a.output_bias = output_bias_.data();
    a.residual = residual.data;
    a.residual_row = residual.row_stride;
    a.residual_column = residual.column_stride;
    a.out = out.data;
    a.out_row = out.row_stride;
    a.out_column = out.column_stride;
    a.edges = workspace;
    const TriangleKernels& kernel = kernels().triangle;
    parallel_for(kernel.project_blocks(a), 1, threads, [&](std::int64_t begin, std::int64_t end) {
        Buffer scratch(kernel.project_scratch(a));
        kernel.project(a, begin, end, scratch.data());
    });
    parallel_for(hidden_, 1, threads, [&](std::int64_t begin, std::int64_t end) {
        Buffer scratch(kernel.product_scratch(a));
        kernel.products(a, begin, end, scratch.data());
    });
    parallel_for(z.rows, 1, threads, [&](std::int64_t begin, std::int64_t end) {
        Buffer scratch(kernel.combine_scratch(a));
        kernel.combine(a, begin, end, scratch.data());
    });
}

}  // namespace openfoldpp
