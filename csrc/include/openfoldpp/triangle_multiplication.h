// The triangle multiplicative update of the pair representation.
#pragma once

#include <cstdint>

#include "openfoldpp/matrix.h"
#include "openfoldpp/views.h"

namespace openfoldpp {

// Borrowed, dense; weights as torch.nn.Linear has them, [outputs][inputs].
struct TriangleMultiplicationWeights {
    std::int64_t channels, hidden;
    const float* norm_weight;      // [channels]
    const float* norm_bias;
    float eps;
    const float* left_gate;        // [hidden][channels]
    const float* left_gate_bias;   // [hidden]
    const float* left;
    const float* left_bias;
    const float* right_gate;
    const float* right_gate_bias;
    const float* right;
    const float* right_bias;
    const float* norm_out_weight;  // [hidden]
    const float* norm_out_bias;
    float eps_out;
    const float* gate;             // [channels][channels]
    const float* gate_bias;
    const float* output;           // [channels][hidden]
    const float* output_bias;
};

// AlphaFold 2 supplement, algorithms 11 (outgoing edges) and 12 (incoming edges).
class TriangleMultiplication {
public:
    explicit TriangleMultiplication(const TriangleMultiplicationWeights& weights);

    // out = residual + update, or the update alone without a residual. `out` and `residual` may be `z`.
    // z: [n][n]; mask: one channel, or none. `workspace` has workspace_floats(n) floats.
    // Throws std::invalid_argument where sizes do not fit or threads < 1.
    void operator()(const Grid& z, const Grid& mask, bool outgoing, const Grid& residual, const MutableGrid& out,
                    float* workspace, int threads) const;
    std::int64_t workspace_floats(std::int64_t n) const;

    std::int64_t channels() const { return channels_; }

private:
    std::int64_t channels_, hidden_;
    float eps_, eps_out_;
    PaddedVector norm_weight_, norm_bias_, left_gate_bias_, left_bias_, right_gate_bias_, right_bias_;
    PaddedVector norm_out_weight_, norm_out_bias_, gate_bias_, output_bias_;
    PackedMatrix left_gate_, left_, right_gate_, right_, gate_, output_;
};

}  // namespace openfoldpp
