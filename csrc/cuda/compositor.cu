// The compositor on a GPU: one kernel before, between and after the attentions, and one for the pairs.
#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "compositor_image.h"
#include "compositor_kernels.h"
#include "launch.h"
#include "openfoldpp/cuda_compositor.h"
#include "openfoldpp/cuda_simplicial_attention.h"
#include "simplicial_forward.h"
#include "simplicial_launch.h"

namespace openfoldpp {
namespace {

constexpr std::int64_t kMaxLength = 1 << 20;
constexpr std::int64_t kTilesOfPart = 16;  // nodes j of a block of make_pairs at most, in tiles

// Left and right as one layer, each filled up to whole tiles of columns.
CudaCompositor::Linear write_sides(ImageWriter& write, const CompositorWeights& w) {
    const std::int64_t rank = w.sizes.rank, padded = whole_tiles(rank), channels = w.sizes.channels;
    std::vector<float> weight(2 * padded * channels, 0.0f), bias(2 * padded, 0.0f);
    std::int64_t row = 0;
    for (const LinearWeights& side : {w.left, w.right}) {
        std::copy_n(side.weight, rank * channels, weight.data() + row * channels);
        std::copy_n(side.bias, rank, bias.data() + row);
        row += padded;
    }
    return write.linear({weight.data(), bias.data()}, 2 * padded, channels);
}

// [pair channel][left][right] with (pair channel, right), both in whole tiles, as outputs and left as inputs.
CudaCompositor::Linear write_outer(ImageWriter& write, const CompositorWeights& w) {
    const std::int64_t rank = w.sizes.rank, padded = whole_tiles(rank), channels = whole_tiles(w.sizes.pair_channels);
    std::vector<float> weight(channels * padded * rank, 0.0f);
    for (std::int64_t c = 0; c < w.sizes.pair_channels; ++c) {
        for (std::int64_t d = 0; d < rank; ++d) {
            for (std::int64_t e = 0; e < rank; ++e) {
                weight[(c * padded + e) * rank + d] = w.outer[(c * rank + d) * rank + e];
            }
        }
    }
    return write.linear({weight.data(), nullptr}, channels * padded, rank);
}

std::int64_t write_offsets(ImageWriter& write, const CompositorWeights& w) {
    const std::int64_t channels = w.sizes.pair_channels, padded = whole_tiles(channels);
    std::vector<float> table(w.sizes.offsets() * padded, 0.0f);
    for (std::int64_t o = 0; o < w.sizes.offsets(); ++o) {
        std::copy_n(w.offsets + o * channels, channels, table.data() + o * padded);
    }
    const std::int64_t count = static_cast<std::int64_t>(table.size());
    return write.floats(table.data(), count, count);
}

// Where a run keeps what it needs, in floats.
struct Workspace {
    std::int64_t nodes, projected, attended, diagonals, floats;

    Workspace(const CompositorSizes& s, std::int64_t length) {
        std::int64_t end = 0;
        const auto take = [&end](std::int64_t count) { return std::exchange(end, end + (count + 3) / 4 * 4); };
        nodes = take(length * s.channels);
        projected = take(length * std::max(5 * s.wide(), 2 * whole_tiles(s.rank)));
        attended = take(length * s.wide());
        diagonals = take(s.heads * (2 * length - 1));
        floats = end;
    }
};

// The image in device memory.
struct DeviceImage {
    const std::uint32_t* image;

    const float* floats(std::int64_t place) const { return reinterpret_cast<const float*>(image + place); }
    DeviceNorm norm(const CudaCompositor::Norm& w) const { return {floats(w.weight), floats(w.bias)}; }
    DeviceLinear linear(const CudaCompositor::Linear& w) const {
        return {image + w.fragments, w.bias < 0 ? nullptr : floats(w.bias), w.depth_tiles, w.column_tiles};
    }
};

NodesPlan nodes_plan(const CompositorSizes& s) {
    return NodesPlan(static_cast<int>(s.channels), static_cast<int>(s.wide()), static_cast<int>(s.hidden));
}

std::string refuse_head_channels(std::int64_t d) {
    if (d == 16 || d == 32 || d == 64 || d == 128) return {};
    return "head_channels is " + std::to_string(d) + "; on a GPU expected 16, 32, 64 or 128";
}

void require_no(const std::string& refusal) { require(refusal.empty(), "compositor: " + refusal); }

void require_aligned(const char* name, const void* pointer) {
    require(pointer != nullptr && reinterpret_cast<std::uintptr_t>(pointer) % 16 == 0,
            std::string(name) + " is null or not at a multiple of 16 bytes");
}

}  // namespace

CudaCompositor::CudaCompositor(const CompositorWeights& w) : sizes_(w.sizes) {
    require_no(refuse_head_channels(sizes_.head_channels));
    ImageWriter write;
    norm_ = write.norm(w.norm, sizes_.channels);
    for (const CompositorBlock& block : w.blocks) {
        Block place;
        place.offset_bias = write.floats(block.offset_bias, sizes_.heads * sizes_.offsets(),
                                         sizes_.heads * sizes_.offsets());
        place.attention_norm = write.norm(block.attention_norm, sizes_.channels);
        place.qkv = write.linear(block.qkv, 5 * sizes_.wide(), sizes_.channels);
        place.output = write.linear(block.output, sizes_.channels, sizes_.wide());
        place.transition_norm = write.norm(block.transition_norm, sizes_.channels);
        place.expand = write.linear(block.expand, sizes_.hidden, sizes_.channels);
        place.contract = write.linear(block.contract, sizes_.channels, sizes_.hidden);
        blocks_.push_back(place);
    }
    pair_norm_ = write.norm(w.pair_norm, sizes_.channels);
    sides_ = write_sides(write, w);
    outer_ = write_outer(write, w);
    offsets_ = write_offsets(write, w);
    image_ = std::move(write.image);
}

std::string CudaCompositor::refuse_sizes(const CompositorSizes& s, int device) {
    const std::int64_t most = most_shared("compositor", device);
    if (std::string reason = refuse_head_channels(s.head_channels); !reason.empty()) return reason;
    std::size_t attention = 0;
    with_channels(s.head_channels, [&](auto channels) {
        attention = ForwardPlan<float, decltype(channels)::value>::bytes;
    });
    const std::pair<std::string, std::size_t> needs[] = {
        {"channels " + std::to_string(s.channels) + " with hidden " + std::to_string(s.hidden) + " and heads * " +
             "head_channels " + std::to_string(s.wide()),
         nodes_plan(s).bytes},
        {"head_channels " + std::to_string(s.head_channels), attention},
        {"rank " + std::to_string(s.rank), pair_bytes(static_cast<int>(whole_tiles(s.rank) / kTile))},
    };
    for (const auto& [what, bytes] : needs) {
        if (static_cast<std::int64_t>(bytes) <= most) continue;
        return what + " needs " + std::to_string(bytes) + " bytes of shared memory; a block has " +
               std::to_string(most) + " on this GPU";
    }
    return {};
}

std::int64_t CudaCompositor::workspace_floats(std::int64_t length) const {
    return length > 0 ? Workspace(sizes_, length).floats : 0;
}

void CudaCompositor::operator()(const std::uint32_t* image, const float* embedding, float* pair, std::int64_t length,
                                float* workspace, void* stream) const {
    require(length >= 0 && length <= kMaxLength,
            "length is " + std::to_string(length) + ", expected 0 to " + std::to_string(kMaxLength));
    if (length == 0) return;
    require_no(refuse_sizes(sizes_, current_device("compositor")));
    require_aligned("image", image);
    require_aligned("workspace", workspace);
    const DeviceImage weights = {image};
    const Workspace at(sizes_, length);
    const std::int64_t wide = sizes_.wide(), d = sizes_.head_channels;
    const NodesPlan plan = nodes_plan(sizes_);

    for (std::size_t stage = 0; stage <= blocks_.size(); ++stage) {
        NodesArguments nodes = {};
        nodes.length = static_cast<int>(length);
        nodes.channels = static_cast<int>(sizes_.channels);
        nodes.wide = static_cast<int>(wide);
        nodes.hidden = static_cast<int>(sizes_.hidden);
        nodes.eps = sizes_.eps;
        nodes.nodes = workspace + at.nodes;
        nodes.projected = workspace + at.projected;
        if (stage == 0) {
            nodes.embedding = embedding;
            nodes.norm = weights.norm(norm_);
        } else {
            const Block& before = blocks_[stage - 1];
            nodes.attended = workspace + at.attended;
            nodes.output = weights.linear(before.output);
            nodes.transition_norm = weights.norm(before.transition_norm);
            nodes.expand = weights.linear(before.expand);
            nodes.contract = weights.linear(before.contract);
        }
        const bool last = stage == blocks_.size();
        nodes.project_norm = weights.norm(last ? pair_norm_ : blocks_[stage].attention_norm);
        nodes.project = weights.linear(last ? sides_ : blocks_[stage].qkv);
        if (!last) {
            nodes.offset_bias = weights.floats(blocks_[stage].offset_bias);
            nodes.diagonals = workspace + at.diagonals;
            nodes.heads = static_cast<int>(sizes_.heads);
            nodes.max_offset = static_cast<int>(sizes_.max_offset);
        }
        launch("compositor", update_nodes, ceil_div(length, kTile), kNodeThreads, plan.bytes, stream, nodes);
        if (last) break;

        SimplicialInputs<float> in;
        in.batch = 1;
        in.heads = in.kv_heads = sizes_.heads;
        in.length = length;
        in.channels = d;
        in.window_j = sizes_.window_j;
        in.window_k = sizes_.window_k;
        HeadView<const float>* parts[] = {&in.q, &in.k, &in.k2, &in.v, &in.v2};
        for (std::int64_t part = 0; part < 5; ++part) {
            *parts[part] = {workspace + at.projected + part * wide, 0, d, 5 * wide};
        }
        in.bias = {workspace + at.diagonals + length - 1, 0, 2 * length - 1, -1};
        cuda_simplicial_attention(in, {workspace + at.attended, 0, d, wide}, nullptr, stream);
    }

    PairArguments pairs = {};
    pairs.length = static_cast<int>(length);
    pairs.pair_channels = static_cast<int>(sizes_.pair_channels);
    pairs.max_offset = static_cast<int>(sizes_.max_offset);
    pairs.sides = workspace + at.projected;
    pairs.outer = weights.linear(outer_);
    pairs.offsets = weights.floats(offsets_);
    pairs.pair = pair;
    pairs.by_pairs = sizes_.pair_channels % 2 == 0 && reinterpret_cast<std::uintptr_t>(pair) % sizeof(Pair) == 0;
    pairs.channel_tiles = static_cast<int>(whole_tiles(sizes_.pair_channels) / kTile);
    // As many parts as there are multiprocessors for them.
    const std::int64_t tiles = ceil_div(length, kTile), wanted = multiprocessors("compositor");
    const std::int64_t each = std::min(kTilesOfPart, ceil_div(tiles * tiles * pairs.channel_tiles, wanted));
    pairs.tiles_of_part = static_cast<int>(each);
    pairs.parts = static_cast<int>(ceil_div(tiles, each));
    launch("compositor", make_pairs, tiles * pairs.channel_tiles * pairs.parts, kNodeThreads,
           pair_bytes(pairs.outer.depth_tiles), stream, pairs);
}

}  // namespace openfoldpp
