#include "openfoldpp/attention.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "checks.h"
#include "kernels.h"
#include "openfoldpp/parallel.h"

namespace openfoldpp {
namespace {

// [heads * head_channels][channels] as one packed matrix for each head, `stride` floats apart.
Buffer pack_heads(const float* weight, const AttentionWeights& w, std::int64_t stride) {
    Buffer packed(w.heads * stride);
    for (std::int64_t h = 0; h < w.heads; ++h) {
        PackedMatrix::pack(weight + h * w.head_channels * w.channels, w.head_channels, w.channels,
                           packed.data() + h * stride);
    }
    return packed;
}

}  // namespace

GatedAttention::GatedAttention(const AttentionWeights& w)
    : channels_(w.channels), heads_(w.heads), head_channels_(w.head_channels), eps_(w.eps) {
    require_positive("channels", w.channels);
    require_positive("heads", w.heads);
    require_positive("head_channels", w.head_channels);
    head_stride_ = PackedMatrix::floats(w.head_channels, w.channels);
    norm_weight_ = PaddedVector(w.norm_weight, w.channels);
    norm_bias_ = PaddedVector(w.norm_bias, w.channels);
    output_bias_ = PaddedVector(w.output_bias, w.channels);
    query_ = pack_heads(w.query, w, head_stride_);
    key_ = pack_heads(w.key, w, head_stride_);
    value_ = pack_heads(w.value, w, head_stride_);
    gate_ = pack_heads(w.gate, w, head_stride_);
    const std::int64_t wide = PackedMatrix::floats(w.head_channels, 1);
    gate_bias_ = Buffer(w.heads * wide);
    std::fill_n(gate_bias_.data(), w.heads * wide, 0.0f);
    for (std::int64_t h = 0; h < w.heads; ++h) {
        std::copy_n(w.gate_bias + h * w.head_channels, w.head_channels, gate_bias_.data() + h * wide);
    }
    output_ = PackedMatrix(w.output, w.channels, w.heads * w.head_channels);
}

void GatedAttention::operator()(const Grid& x, const float* pair_bias, const Grid& mask, float inf,
                                const Grid& residual, const MutableGrid& out, int threads) const {
    require_size("rows", x.rows);
    require_size("columns", x.columns);
    require_grid("x", x, x.rows, x.columns, channels_);
    require_grid("out", out, x.rows, x.columns, channels_);
    if (mask) require_grid("mask", mask, x.rows, x.columns, 1);
    if (residual) require_grid("residual", residual, x.rows, x.columns, channels_);
    if (x.rows == 0 || x.columns == 0) return;
    AttentionRows a = {};
    a.positions = x.columns;
    a.channels = channels_;
    a.heads = heads_;
    a.head_channels = head_channels_;
    a.x = x.data;
    a.x_row = x.row_stride;
    a.x_position = x.column_stride;
    a.norm_weight = norm_weight_.data();
    a.norm_bias = norm_bias_.data();
    a.eps = eps_;
    a.scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(head_channels_)));
    a.inf = inf;
    a.query = query_.data();
    a.key = key_.data();
    a.value = value_.data();
    a.gate = gate_.data();
    a.head_stride = head_stride_;
    a.gate_bias = gate_bias_.data();
    a.output = output_.data();
    a.output_bias = output_bias_.data();
    a.pair_bias = pair_bias;
    a.mask = mask.data;
    a.mask_row = mask.row_stride;
    a.mask_position = mask.column_stride;
    a.residual = residual.data;
    a.residual_row = residual.row_stride;
    a.residual_position = residual.column_stride;
    a.out = out.data;
    a.out_row = out.row_stride;
    a.out_position = out.column_stride;
    const AttentionKernels& kernel = kernels().attention;
    parallel_for(x.rows, 1, threads, [&](std::int64_t begin, std::int64_t end) {
        Buffer scratch(kernel.scratch(a));
        kernel.rows(a, begin, end, scratch.data());
    });
}

PairBias::PairBias(const float* norm_weight, const float* norm_bias, float eps, const float* weight,
                   std::int64_t heads, std::int64_t channels)
    : channels_(channels), heads_(heads), eps_(eps) {
    require_positive("channels", channels);
    require_positive("heads", heads);
    norm_weight_ = PaddedVector(norm_weight, channels);
    norm_bias_ = PaddedVector(norm_bias, channels);
    weight_ = PackedMatrix(weight, heads, channels);
}

void PairBias::operator()(const Grid& z, float* out, int threads) const {
    require_size("rows", z.rows);
    require_size("columns", z.columns);
    require_grid("z", z, z.rows, z.columns, channels_);
    PairBiasRows a = {};
    a.rows = z.rows;
    a.positions = z.columns;
    a.channels = channels_;
    a.heads = heads_;
    a.x = z.data;
    a.x_row = z.row_stride;
    a.x_position = z.column_stride;
    a.norm_weight = norm_weight_.data();
    a.norm_bias = norm_bias_.data();
    a.eps = eps_;
    a.weight = weight_.data();
    a.out = out;
    const AttentionKernels& kernel = kernels().attention;
    parallel_for(z.rows, 1, threads, [&](std::int64_t begin, std::int64_t end) {
        Buffer scratch(kernel.pair_bias_scratch(a));
        kernel.pair_bias_rows(a, begin, end, scratch.data());
    });
}

}  // namespace openfoldpp
