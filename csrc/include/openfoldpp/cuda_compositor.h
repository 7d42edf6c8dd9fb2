// The compositor of compositor.h on a GPU. Nothing here allocates device memory: the caller does, with an allocator
// of its choice.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "openfoldpp/compositor.h"

namespace openfoldpp {

// What the kernels read, and how: every weight as it goes into the fragments of matrix products, cut into three
// bfloat16 (cuda_simplicial_attention.h says what that is good for).
class CudaCompositor {
public:
    // Throws std::invalid_argument where no GPU has a kernel for the sizes: head_channels is 16, 32, 64 or 128.
    explicit CudaCompositor(const CompositorWeights& weights);

    // Why a GPU cannot run a compositor of these sizes, or nothing where it can: what a block works on has to fit into
    // its shared memory. Throws std::runtime_error with CUDA's message where there is no such GPU.
    static std::string refuse_sizes(const CompositorSizes& sizes, int device);

    // To be copied to device memory at a multiple of 16 bytes.
    const std::vector<std::uint32_t>& image() const { return image_; }

    // Floats of device memory that a run needs for itself, at a multiple of 16 bytes.
    std::int64_t workspace_floats(std::int64_t length) const;

    // embedding: [length][channels]; pair: [length][length][pair_channels]; all pointers are of device memory. Queued
    // on `stream`, a cudaStream_t, of the current GPU. Throws std::invalid_argument for what cannot be run, and std::runtime_error with
    // CUDA's message where a launch fails.
    void operator()(const std::uint32_t* image, const float* embedding, float* pair, std::int64_t length,
                    float* workspace, void* stream) const;

    std::int64_t channels() const { return sizes_.channels; }
    std::int64_t pair_channels() const { return sizes_.pair_channels; }

    // Where things are in the image, in words.
    struct Norm {
        std::int64_t weight, bias;
    };
    struct Linear {
        std::int64_t fragments, bias;  // bias -1: none
        int depth_tiles, column_tiles;
    };
    struct Block {
        std::int64_t offset_bias;
        Norm attention_norm, transition_norm;
        Linear qkv, output, expand, contract;
    };

private:
    CompositorSizes sizes_;
    std::vector<std::uint32_t> image_;
    Norm norm_, pair_norm_;
    std::vector<Block> blocks_;
    Linear sides_;          // left and right, each filled up to whole tiles of columns
    Linear outer_;          // columns (pair channel, right channel), both filled up
    std::int64_t offsets_;  // [offsets][pair channels, filled up]
};

}  // namespace openfoldpp
