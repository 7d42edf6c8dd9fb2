// Gated self-attention with an additive bias, on the rows of a grid: triangle attention and both MSA attentions.
#pragma once

#include <cstdint>

#include "openfoldpp/matrix.h"
#include "openfoldpp/views.h"

namespace openfoldpp {

// Borrowed, dense; weights as torch.nn.Linear has them, [outputs][inputs].
struct AttentionWeights {
    std::int64_t channels, heads, head_channels;
    const float* norm_weight;   // [channels]
    const float* norm_bias;     // [channels]
    float eps;
    const float* query;         // [heads * head_channels][channels]
    const float* key;
    const float* value;
    const float* gate;
    const float* gate_bias;     // [heads * head_channels]
    const float* output;        // [channels][heads * head_channels]
    const float* output_bias;   // [channels]
};

// AlphaFold 2 supplement, algorithms 7, 8, 13 and 14. For each row of x: layer norm; q, k, v and g by head;
// softmax over the row's positions of q k / sqrt(head_channels) + inf * (mask - 1) + bias, in this order;
// times v, times sigmoid(g), output projection. No more than a few rows of logits are ever in memory.
class GatedAttention {
public:
    explicit GatedAttention(const AttentionWeights& weights);

    // out = residual + update, or the update alone without a residual. `out` and `residual` may be `x`.
    // mask: [rows][columns] with one channel, or none. pair_bias: [heads][columns][columns] dense, or null.
    // Throws std::invalid_argument where sizes do not fit or threads < 1.
    void operator()(const Grid& x, const float* pair_bias, const Grid& mask, float inf, const Grid& residual,
                    const MutableGrid& out, int threads) const;

    std::int64_t channels() const { return channels_; }
    std::int64_t heads() const { return heads_; }

private:
    std::int64_t channels_, heads_, head_channels_, head_stride_;
    float eps_;
    PaddedVector norm_weight_, norm_bias_, output_bias_;
    Buffer query_, key_, value_, gate_, gate_bias_;
    PackedMatrix output_;
};

// The bias of algorithms 7, 13 and 14: layer norm and a linear layer without bias, heads first.
class PairBias {
public:
    PairBias(const float* norm_weight, const float* norm_bias, float eps, const float* weight /*[heads][channels]*/,
             std::int64_t heads, std::int64_t channels);

    // out: [heads][rows][columns] dense. Throws std::invalid_argument where sizes do not fit or threads < 1.
    void operator()(const Grid& z, float* out, int threads) const;

    std::int64_t channels() const { return channels_; }
    std::int64_t heads() const { return heads_; }

private:
    std::int64_t channels_, heads_;
    float eps_;
    PaddedVector norm_weight_, norm_bias_;
    PackedMatrix weight_;
};

}  // namespace openfoldpp
