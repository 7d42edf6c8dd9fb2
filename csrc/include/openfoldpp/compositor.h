// The compositor: embeddings of motifs to features of each pair of them. docs/compositor.md defines it, and the
// format of its weights.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "openfoldpp/matrix.h"
#include "openfoldpp/outer_product_mean.h"
#include "openfoldpp/transition.h"
#include "openfoldpp/views.h"

namespace openfoldpp {

struct CompositorSizes {
    std::int64_t channels, blocks, heads, head_channels, hidden, rank, pair_channels, max_offset;
    std::int64_t window_j, window_k;  // -1: none
    float eps;

    std::int64_t wide() const { return heads * head_channels; }
    std::int64_t offsets() const { return 2 * max_offset + 1; }
};

struct NormWeights {
    const float* weight;  // [channels]
    const float* bias;
};

struct LinearWeights {
    const float* weight;  // [outputs][inputs]
    const float* bias;    // [outputs], or null
};

// The tensors of a blob, dense, in its order.
struct CompositorBlock {
    const float* offset_bias;  // [heads][offsets]
    NormWeights attention_norm;
    LinearWeights qkv;         // [5: q, k, k2, v, v2][heads][head_channels] outputs
    LinearWeights output;
    NormWeights transition_norm;
    LinearWeights expand, contract;
};

struct CompositorWeights {
    CompositorSizes sizes;
    std::vector<float> memory;  // what all pointers point to
    const float* outer;         // [pair_channels][rank][rank]
    const float* offsets;       // [offsets][pair_channels]
    NormWeights norm;
    std::vector<CompositorBlock> blocks;
    NormWeights pair_norm;
    LinearWeights left, right;

    // A copy would point into the memory of the first.
    CompositorWeights() = default;
    CompositorWeights(CompositorWeights&&) = default;
    CompositorWeights& operator=(CompositorWeights&&) = default;
};

// Reads a blob at any alignment. Throws std::invalid_argument where it is truncated, altered, of another version,
// or no compositor's at all.
CompositorWeights read_compositor(const void* blob, std::size_t bytes);

// Ready to run on the CPU; any number of threads may run one at the same time.
class Compositor {
public:
    // As read_compositor; the blob is not needed afterwards.
    Compositor(const void* blob, std::size_t bytes);

    // embedding: one row of as many vectors as there are nodes. pair: [nodes][nodes].
    // Throws std::invalid_argument where sizes do not fit or threads < 1.
    void operator()(const Grid& embedding, const MutableGrid& pair, int threads) const;

    std::int64_t channels() const { return sizes_.channels; }
    std::int64_t pair_channels() const { return sizes_.pair_channels; }

private:
    struct Block {
        std::vector<float> offset_bias;
        PaddedVector norm_weight, norm_bias, output_bias;
        PackedMatrix qkv, output;
        Transition transition;
    };

    explicit Compositor(const CompositorWeights& weights);
    static Block prepare(const CompositorWeights& weights, const CompositorBlock& block);
    void attend(const Block& block, float* nodes, std::int64_t length, int threads) const;

    CompositorSizes sizes_;
    PaddedVector norm_weight_, norm_bias_;
    std::vector<Block> blocks_;
    std::vector<float> offsets_;
    OuterProductMean outer_;
};

}  // namespace openfoldpp
