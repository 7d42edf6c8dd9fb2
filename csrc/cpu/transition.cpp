#include "openfoldpp/transition.h"

#include "checks.h"
#include "kernels.h"
#include "openfoldpp/parallel.h"

namespace openfoldpp {

Transition::Transition(std::int64_t channels, std::int64_t hidden, const float* norm_weight, const float* norm_bias,
                       float eps, const float* expand, const float* expand_bias, const float* contract,
                       const float* contract_bias)
    : channels_(channels), hidden_(hidden), eps_(eps) {
    require_positive("channels", channels);
    require_positive("hidden", hidden);
    norm_weight_ = PaddedVector(norm_weight, channels);
    norm_bias_ = PaddedVector(norm_bias, channels);
    expand_ = PackedMatrix(expand, hidden, channels);
    expand_bias_ = PaddedVector(expand_bias, hidden);
    contract_ = PackedMatrix(contract, channels, hidden);
    contract_bias_ = PaddedVector(contract_bias, channels);
}

void Transition::operator()(const Grid& x, const Grid& mask, const Grid& residual, const MutableGrid& out,
                            int threads) const {
    require_size("rows", x.rows);
    require_size("columns", x.columns);
    require_grid("x", x, x.rows, x.columns, channels_);
    require_grid("out", out, x.rows, x.columns, channels_);
    if (mask) require_grid("mask", mask, x.rows, x.columns, 1);
    if (residual) require_grid("residual", residual, x.rows, x.columns, channels_);
    TransitionRows a = {};
    a.rows = x.rows;
    a.positions = x.columns;
    a.channels = channels_;
    a.hidden = hidden_;
    a.x = x.data;
    a.x_row = x.row_stride;
    a.x_position = x.column_stride;
    a.norm_weight = norm_weight_.data();
    a.norm_bias = norm_bias_.data();
    a.eps = eps_;
    a.expand = expand_.data();
    a.expand_bias = expand_bias_.data();
    a.contract = contract_.data();
    a.contract_bias = contract_bias_.data();
    a.mask = mask.data;
    a.mask_row = mask.row_stride;
    a.mask_position = mask.column_stride;
    a.residual = residual.data;
    a.residual_row = residual.row_stride;
    a.residual_position = residual.column_stride;
    a.out = out.data;
    a.out_row = out.row_stride;
    a.out_position = out.column_stride;
    const TransitionKernels& kernel = kernels().transition;
    constexpr std::int64_t kPositionsPerThread = 64;
    parallel_for(x.rows * x.columns, kPositionsPerThread, threads, [&](std::int64_t begin, std::int64_t end) {
        Buffer scratch(kernel.scratch(a));
        kernel.rows(a, begin, end, scratch.data());
    });
}

}  // namespace openfoldpp
