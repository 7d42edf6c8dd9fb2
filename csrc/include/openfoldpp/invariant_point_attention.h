// Attention of residues that sees their frames and the pair representation: the structure module's.
#pragma once

#include <cstdint>

#include "openfoldpp/matrix.h"
#include "openfoldpp/views.h"

namespace openfoldpp {

// Borrowed, dense; weights as torch.nn.Linear has them, [outputs][inputs]. The outputs of the point layers are
// ordered by coordinate first, then head, then point.
struct InvariantPointAttentionWeights {
    std::int64_t channels, pair_channels, heads, head_channels, query_points, value_points;
    const float* query;       // [heads * head_channels][channels]
    const float* query_bias;  // [heads * head_channels]; each layer has one
    const float* key_value;   // [heads * 2 * head_channels][channels], by head the keys, then the values
    const float* key_value_bias;
    const float* query_point;  // [3 * heads * query_points][channels]
    const float* query_point_bias;
    const float* key_value_point;  // [3 * heads * (query_points + value_points)][channels], by head keys, then values
    const float* key_value_point_bias;
    const float* pair;  // [heads][pair_channels]
    const float* pair_bias;
    const float* head_weights;  // [heads], before softplus
    const float* output;        // [channels][heads * (head_channels + 4 * value_points + pair_channels)]
    const float* output_bias;
    float eps;  // in the norm of the attended points: sqrt(x^2 + y^2 + z^2 + eps)
};

// AlphaFold 2 supplement, algorithm 22, with the biases that AlphaFold's code has and its supplement has not.
// Points are in the units of the translations. No more than a few rows of logits are ever in memory.
class InvariantPointAttention {
public:
    explicit InvariantPointAttention(const InvariantPointAttentionWeights& weights);

    // s and out: one row of n vectors. z: [n][n]. rotations [n][3][3] and translations [n][3]: dense, from each
    // residue's frame to the global one. mask: [n], or null; logits get inf * (mask_i * mask_j - 1). `out` may be `s`.
    // Throws std::invalid_argument where sizes do not fit or threads < 1.
    void operator()(const Grid& s, const Grid& z, const float* rotations, const float* translations, const float* mask,
                    float inf, const MutableGrid& out, int threads) const;

    std::int64_t channels() const { return channels_; }
    std::int64_t pair_channels() const { return pair_channels_; }

private:
    std::int64_t channels_, pair_channels_, heads_, head_channels_, query_points_, value_points_;
    float eps_;
    PackedMatrix projection_, pair_, output_;
    PaddedVector projection_bias_, pair_bias_, point_scale_, output_bias_;
};

}  // namespace openfoldpp
