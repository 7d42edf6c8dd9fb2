// The update of the pair representation from the MSA.
#pragma once

#include <cstdint>

#include "openfoldpp/matrix.h"
#include "openfoldpp/views.h"

namespace openfoldpp {

// Borrowed, dense; weights as torch.nn.Linear has them, [outputs][inputs].
struct OuterProductMeanWeights {
    std::int64_t channels, hidden, outputs;
    const float* norm_weight;  // [channels]
    const float* norm_bias;
    float eps;
    const float* left;         // [hidden][channels]
    const float* left_bias;    // [hidden]
    const float* right;
    const float* right_bias;
    const float* output;       // [outputs][hidden * hidden], the inputs ordered (left channel, right channel)
    const float* output_bias;  // [outputs]
    float eps_mask;
};

// AlphaFold 2 supplement, algorithm 10. With the projections a and b of the normed MSA, times the mask:
//   update[i][j] = (output(sum over s of a[s][i] x b[s][j]) + output_bias) / (sum of mask[s][i] mask[s][j] + eps_mask)
class OuterProductMean {
public:
    explicit OuterProductMean(const OuterProductMeanWeights& weights);

    // out = residual + update, or the update alone without a residual. `out` may be `residual`.
    // m: [sequences][residues]; mask: one channel, or none; residual and out: [residues][residues], `outputs`
    // channels. Throws std::invalid_argument where sizes do not fit or threads < 1.
    void operator()(const Grid& m, const Grid& mask, const Grid& residual, const MutableGrid& out, int threads) const;

    std::int64_t channels() const { return channels_; }
    std::int64_t outputs() const { return outputs_; }

private:
    std::int64_t channels_, hidden_, outputs_;
    float eps_, eps_mask_;
    PaddedVector norm_weight_, norm_bias_, left_bias_, right_bias_, output_bias_;
    PackedMatrix left_, right_, output_;
};

}  // namespace openfoldpp
