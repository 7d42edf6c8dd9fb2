// The transition of the pair representation and of the MSA.
#pragma once

#include <cstdint>

#include "openfoldpp/matrix.h"
#include "openfoldpp/views.h"

namespace openfoldpp {

// AlphaFold 2 supplement, algorithms 9 and 15: layer norm, linear, ReLU, linear; then times the mask.
class Transition {
public:
    // expand: [hidden][channels], contract: [channels][hidden], as torch.nn.Linear has them.
    Transition(std::int64_t channels, std::int64_t hidden, const float* norm_weight, const float* norm_bias, float eps,
               const float* expand, const float* expand_bias, const float* contract, const float* contract_bias);

    // out = residual + update, or the update alone without a residual. `out` and `residual` may be `x`.
    // mask: one channel, or none. Throws std::invalid_argument where sizes do not fit or threads < 1.
    void operator()(const Grid& x, const Grid& mask, const Grid& residual, const MutableGrid& out, int threads) const;

    std::int64_t channels() const { return channels_; }

private:
    std::int64_t channels_, hidden_;
    float eps_;
    PaddedVector norm_weight_, norm_bias_, expand_bias_, contract_bias_;
    PackedMatrix expand_, contract_;
};

}  // namespace openfoldpp
