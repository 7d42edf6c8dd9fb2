#include "openfoldpp/compositor.h"

#include <algorithm>
#include <vector>

#include "checks.h"
#include "kernels.h"
#include "openfoldpp/parallel.h"
#include "openfoldpp/simplicial_attention.h"

namespace openfoldpp {
namespace {

constexpr std::int64_t kRowsPerThread = 64;

void run_linear(const LinearRows& a, std::int64_t rows, int threads) {
    const LinearKernels& kernel = kernels().linear;
    parallel_for(rows, kRowsPerThread, threads, [&](std::int64_t begin, std::int64_t end) {
        Buffer scratch(kernel.scratch(a));
        kernel.rows(a, begin, end, scratch.data());
    });
}

// What a table [offsets][width] of relative offsets gives for each pair of nodes depends on i - j alone. So
// 2 length - 1 vectors are all there is to keep: pair (i, j) has vector length - 1 - i + j, which views with a
// row stride of -width read in place.
std::vector<float> by_diagonal(const float* table, std::int64_t max_offset, std::int64_t width, std::int64_t length) {
    std::vector<float> diagonals((2 * length - 1) * width);
    for (std::int64_t d = 0; d < 2 * length - 1; ++d) {
        const std::int64_t offset = std::clamp(length - 1 - d, -max_offset, max_offset) + max_offset;
        std::copy_n(table + offset * width, width, diagonals.data() + d * width);
    }
    return diagonals;
}

OuterProductMeanWeights outer_product(const CompositorWeights& w) {
    OuterProductMeanWeights outer = {};
    outer.channels = w.sizes.channels;
    outer.hidden = w.sizes.rank;
    outer.outputs = w.sizes.pair_channels;
    outer.norm_weight = w.pair_norm.weight;
    outer.norm_bias = w.pair_norm.bias;
    outer.eps = w.sizes.eps;
    outer.left = w.left.weight;
    outer.left_bias = w.left.bias;
    outer.right = w.right.weight;
    outer.right_bias = w.right.bias;
    outer.output = w.outer;
    outer.output_bias = nullptr;  // zeros: the table of offsets has it
    outer.eps_mask = 0.0f;        // one sequence without a mask: the mean is the value
    return outer;
}

}  // namespace

Compositor::Block Compositor::prepare(const CompositorWeights& w, const CompositorBlock& block) {
    const CompositorSizes& s = w.sizes;
    return {std::vector<float>(block.offset_bias, block.offset_bias + s.heads * s.offsets()),
            PaddedVector(block.attention_norm.weight, s.channels),
            PaddedVector(block.attention_norm.bias, s.channels),
            PaddedVector(block.output.bias, s.channels),
            PackedMatrix(block.qkv.weight, 5 * s.wide(), s.channels),
            PackedMatrix(block.output.weight, s.channels, s.wide()),
            Transition(s.channels, s.hidden, block.transition_norm.weight, block.transition_norm.bias, s.eps,
                       block.expand.weight, block.expand.bias, block.contract.weight, block.contract.bias)};
}

Compositor::Compositor(const CompositorWeights& w)
    : sizes_(w.sizes),
      norm_weight_(w.norm.weight, w.sizes.channels),
      norm_bias_(w.norm.bias, w.sizes.channels),
      offsets_(w.offsets, w.offsets + w.sizes.offsets() * w.sizes.pair_channels),
      outer_(outer_product(w)) {
    for (const CompositorBlock& block : w.blocks) blocks_.push_back(prepare(w, block));
}

Compositor::Compositor(const void* blob, std::size_t bytes) : Compositor(read_compositor(blob, bytes)) {}

void Compositor::attend(const Block& block, float* nodes, std::int64_t length, int threads) const {
    const std::int64_t wide = sizes_.wide();
    Buffer projected(length * 5 * wide), attended(length * wide);
    LinearRows project = {};
    project.inputs = sizes_.channels;
    project.outputs = 5 * wide;
    project.x = nodes;
    project.x_row = sizes_.channels;
    project.norm_weight = block.norm_weight.data();
    project.norm_bias = block.norm_bias.data();
    project.eps = sizes_.eps;
    project.weight = block.qkv.data();
    project.out = projected.data();
    project.out_row = 5 * wide;
    run_linear(project, length, threads);

    std::vector<float> bias;
    for (std::int64_t h = 0; h < sizes_.heads; ++h) {
        const std::vector<float> one =
            by_diagonal(block.offset_bias.data() + h * sizes_.offsets(), sizes_.max_offset, 1, length);
        bias.insert(bias.end(), one.begin(), one.end());
    }
    SimplicialAttention attention;
    attention.batch = 1;
    attention.heads = attention.kv_heads = sizes_.heads;
    attention.length = length;
    attention.channels = sizes_.head_channels;
    attention.window_j = sizes_.window_j;
    attention.window_k = sizes_.window_k;
    HeadView<const float>* parts[] = {&attention.q, &attention.k, &attention.k2, &attention.v, &attention.v2};
    for (std::int64_t part = 0; part < 5; ++part) {
        *parts[part] = {projected.data() + part * wide, 0, sizes_.head_channels, 5 * wide};
    }
    attention.bias = {bias.data() + length - 1, 0, 2 * length - 1, -1};
    simplicial_attention(attention, {attended.data(), 0, sizes_.head_channels, wide}, nullptr, threads);

    LinearRows output = {};
    output.inputs = wide;
    output.outputs = sizes_.channels;
    output.x = attended.data();
    output.x_row = wide;
    output.weight = block.output.data();
    output.bias = block.output_bias.data();
    output.residual = nodes;
    output.out = nodes;
    output.out_row = sizes_.channels;
    run_linear(output, length, threads);
}

void Compositor::operator()(const Grid& embedding, const MutableGrid& pair, int threads) const {
    const std::int64_t length = embedding.columns, width = sizes_.pair_channels;
    require_size("nodes", length);
    require_grid("embedding", embedding, 1, length, sizes_.channels);
    require_grid("pair", pair, length, length, width);
    require_positive("threads", threads);
    if (length == 0) return;
    Buffer nodes(length * sizes_.channels);
    kernels().linear.norm(embedding.data, embedding.column_stride, length, sizes_.channels, norm_weight_.data(),
                          norm_bias_.data(), sizes_.eps, nodes.data());
    const MutableGrid updated = {nodes.data(), 1, length, sizes_.channels, 0, sizes_.channels};
    const Grid current = {nodes.data(), 1, length, sizes_.channels, 0, sizes_.channels};
    for (const Block& block : blocks_) {
        attend(block, nodes.data(), length, threads);
        block.transition(current, {}, current, updated, threads);
    }
    const std::vector<float> offsets = by_diagonal(offsets_.data(), sizes_.max_offset, width, length);
    const Grid added = {offsets.data() + (length - 1) * width, length, length, width, -width, width};
    outer_(current, {}, added, pair, threads);
}

}  // namespace openfoldpp
