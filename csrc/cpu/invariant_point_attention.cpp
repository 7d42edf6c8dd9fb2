#include "openfoldpp/invariant_point_attention.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "checks.h"
#include "kernels.h"
#include "openfoldpp/parallel.h"

namespace openfoldpp {
namespace {

// Rows below which another thread costs more to start than it saves.
constexpr std::int64_t kRowsPerThread = 8;

double softplus(double x) { return std::max(x, 0.0) + std::log1p(std::exp(-std::abs(x))); }

void append(std::vector<float>& to, const float* from, std::int64_t count) { to.insert(to.end(), from, from + count); }

}  // namespace

InvariantPointAttention::InvariantPointAttention(const InvariantPointAttentionWeights& w)
    : channels_(w.channels),
      pair_channels_(w.pair_channels),
      heads_(w.heads),
      head_channels_(w.head_channels),
      query_points_(w.query_points),
      value_points_(w.value_points),
      eps_(w.eps) {
    require_positive("channels", w.channels);
    require_positive("pair_channels", w.pair_channels);
    require_positive("heads", w.heads);
    require_positive("head_channels", w.head_channels);
    require_positive("query_points", w.query_points);
    require_positive("value_points", w.value_points);

    // The four layers that read s are one.
    std::vector<float> weight, bias;
    const auto add = [&](const float* layer, const float* layer_bias, std::int64_t outputs) {
        append(weight, layer, outputs * w.channels);
        append(bias, layer_bias, outputs);
    };
    add(w.query, w.query_bias, w.heads * w.head_channels);
    add(w.key_value, w.key_value_bias, w.heads * 2 * w.head_channels);
    add(w.query_point, w.query_point_bias, 3 * w.heads * w.query_points);
    add(w.key_value_point, w.key_value_point_bias, 3 * w.heads * (w.query_points + w.value_points));
    const auto columns = static_cast<std::int64_t>(bias.size());
    projection_ = PackedMatrix(weight.data(), columns, w.channels);
    projection_bias_ = PaddedVector(bias.data(), columns);

    pair_ = PackedMatrix(w.pair, w.heads, w.pair_channels);
    pair_bias_ = PaddedVector(w.pair_bias, w.heads);
    // -1/2 gamma w_C w_L of the supplement: the points' variance is 9/2 each, and the logits are three sums.
    std::vector<float> point_scale;
    for (std::int64_t h = 0; h < w.heads; ++h) {
        point_scale.push_back(
            static_cast<float>(-0.5 * softplus(w.head_weights[h]) * std::sqrt(1.0 / (3.0 * w.query_points * 4.5))));
    }
    point_scale_ = PaddedVector(point_scale.data(), w.heads);

    const std::int64_t depth = w.heads * (w.head_channels + 4 * w.value_points + w.pair_channels);
    output_ = PackedMatrix(w.output, w.channels, depth);
    output_bias_ = PaddedVector(w.output_bias, w.channels);
}

void InvariantPointAttention::operator()(const Grid& s, const Grid& z, const float* rotations,
                                         const float* translations, const float* mask, float inf,
                                         const MutableGrid& out, int threads) const {
    require_size("columns", s.columns);
    require_grid("s", s, 1, s.columns, channels_);
    require_grid("z", z, s.columns, s.columns, pair_channels_);
    require_grid("out", out, 1, s.columns, channels_);
    PointAttentionArguments a = {};
    a.n = s.columns;
    a.channels = channels_;
    a.pair_channels = pair_channels_;
    a.heads = heads_;
    a.head_channels = head_channels_;
    a.query_points = query_points_;
    a.value_points = value_points_;
    a.s = s.data;
    a.s_row = s.column_stride;
    a.z = z.data;
    a.z_row = z.row_stride;
    a.z_column = z.column_stride;
    a.rotations = rotations;
    a.translations = translations;
    a.mask = mask;
    a.inf = inf;
    a.eps = eps_;
    a.scalar_scale = static_cast<float>(std::sqrt(1.0 / (3.0 * static_cast<double>(head_channels_))));
    a.pair_scale = static_cast<float>(std::sqrt(1.0 / 3.0));
    a.point_scale = point_scale_.data();
    a.projection = projection_.data();
    a.projection_bias = projection_bias_.data();
    a.pair = pair_.data();
    a.pair_bias = pair_bias_.data();
    a.output = output_.data();
    a.output_bias = output_bias_.data();
    a.out = out.data;
    a.out_row = out.column_stride;
    const PointAttentionKernels& kernel = kernels().point_attention;
    const std::int64_t floats = kernel.projected_floats(a);
    Buffer projected(floats);
    std::fill_n(projected.data(), floats, 0.0f);  // the lanes that fill up the last registers are read as well
    a.projected = projected.data();
    parallel_for(a.n, kRowsPerThread, threads, [&](std::int64_t begin, std::int64_t end) {
        Buffer scratch(kernel.project_scratch(a));
        kernel.project(a, begin, end, scratch.data());
    });
    parallel_for(a.n, kRowsPerThread, threads, [&](std::int64_t begin, std::int64_t end) {
        Buffer scratch(kernel.attend_scratch(a));
        kernel.attend(a, begin, end, scratch.data());
    });
}

}  // namespace openfoldpp
