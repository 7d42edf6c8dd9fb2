// The compositor's weights: the format of docs/compositor.md.
#include <array>
#include <cmath>
#include <cstring>
#include <stdexcept>
#include <string>

#include "openfoldpp/compositor.h"

namespace openfoldpp {
namespace {

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the format is little-endian");

constexpr char kMagic[8] = {'O', 'F', 'P', 'P', 'C', 'O', 'M', 'P'};
constexpr std::uint32_t kVersion = 1;
// As in openfoldpp/motifs/compositor_blob.py: far above any use, and no product of sizes overflows.
constexpr std::int32_t kMaxSize = 4096, kMaxBlocks = 64, kMaxWindow = 2147483647;

struct Header {
    char magic[8];
    std::uint32_t version;
    std::uint32_t checksum;  // of all bytes after it
    std::int32_t channels, blocks, heads, head_channels, hidden, rank, pair_channels, max_offset, window_j, window_k;
    float eps;
    std::uint32_t count;  // of weights
};
static_assert(sizeof(Header) == 64);
constexpr std::size_t kCovered = 16;  // where the bytes begin that the checksum covers

[[noreturn]] void refuse(const std::string& why) { throw std::invalid_argument("compositor: " + why); }

constexpr std::array<std::uint32_t, 256> crc_table() {
    std::array<std::uint32_t, 256> table = {};
    for (std::uint32_t byte = 0; byte < 256; ++byte) {
        std::uint32_t value = byte;
        for (int bit = 0; bit < 8; ++bit) value = value & 1 ? 0xEDB88320u ^ (value >> 1) : value >> 1;
        table[byte] = value;
    }
    return table;
}

// CRC-32 as in zlib, gzip and PNG.
std::uint32_t crc32(const unsigned char* bytes, std::size_t count) {
    static constexpr std::array<std::uint32_t, 256> table = crc_table();
    std::uint32_t value = 0xFFFFFFFFu;
    for (std::size_t i = 0; i < count; ++i) value = table[(value ^ bytes[i]) & 0xFF] ^ (value >> 8);
    return ~value;
}

void require_between(const char* name, std::int32_t value, std::int32_t least, std::int32_t most) {
    if (value >= least && value <= most) return;
    refuse(std::string(name) + " is " + std::to_string(value) + ", expected " + std::to_string(least) + " to " +
           std::to_string(most));
}

CompositorSizes sizes_of(const Header& h) {
    require_between("channels", h.channels, 1, kMaxSize);
    require_between("blocks", h.blocks, 0, kMaxBlocks);
    require_between("heads", h.heads, 1, kMaxSize);
    require_between("head_channels", h.head_channels, 1, kMaxSize);
    require_between("hidden", h.hidden, 1, kMaxSize);
    require_between("rank", h.rank, 1, kMaxSize);
    require_between("pair_channels", h.pair_channels, 1, kMaxSize);
    require_between("max_offset", h.max_offset, 0, kMaxSize);
    require_between("window_j", h.window_j, -1, kMaxWindow);
    require_between("window_k", h.window_k, -1, kMaxWindow);
    if (!(h.eps > 0.0f && h.eps < 1.0f)) refuse("eps is " + std::to_string(h.eps) + ", expected between 0 and 1");
    return {h.channels, h.blocks, h.heads, h.head_channels, h.hidden, h.rank, h.pair_channels, h.max_offset,
            h.window_j, h.window_k, h.eps};
}

// Hands out the tensors one after the other; without memory it only counts.
class Reader {
public:
    explicit Reader(const float* memory) : memory_(memory) {}

    const float* take(std::int64_t count) {
        const float* tensor = memory_ ? memory_ + taken_ : nullptr;
        taken_ += count;
        return tensor;
    }
    NormWeights norm(std::int64_t channels) {
        const float* weight = take(channels);
        return {weight, take(channels)};
    }
    LinearWeights linear(std::int64_t outputs, std::int64_t inputs) {
        const float* weight = take(outputs * inputs);
        return {weight, take(outputs)};
    }
    std::int64_t taken() const { return taken_; }

private:
    const float* memory_;
    std::int64_t taken_ = 0;
};

void assign_tensors(CompositorWeights& w, Reader& read) {
    const CompositorSizes& s = w.sizes;
    w.outer = read.take(s.pair_channels * s.rank * s.rank);
    w.offsets = read.take(s.offsets() * s.pair_channels);
    w.norm = read.norm(s.channels);
    w.blocks.resize(s.blocks);
    for (CompositorBlock& block : w.blocks) {
        block.offset_bias = read.take(s.heads * s.offsets());
        block.attention_norm = read.norm(s.channels);
        block.qkv = {read.take(5 * s.wide() * s.channels), nullptr};
        block.output = read.linear(s.channels, s.wide());
        block.transition_norm = read.norm(s.channels);
        block.expand = read.linear(s.hidden, s.channels);
        block.contract = read.linear(s.channels, s.hidden);
    }
    w.pair_norm = read.norm(s.channels);
    w.left = read.linear(s.rank, s.channels);
    w.right = read.linear(s.rank, s.channels);
}

}  // namespace

CompositorWeights read_compositor(const void* blob, std::size_t bytes) {
    Header header;
    if (blob == nullptr || bytes < sizeof header) {
        refuse(std::to_string(blob ? bytes : 0) + " bytes, expected at least " + std::to_string(sizeof header) +
               ": truncated");
    }
    std::memcpy(&header, blob, sizeof header);
    if (std::memcmp(header.magic, kMagic, sizeof kMagic) != 0) {
        refuse("not a compositor's weights: they do not begin with OFPPCOMP");
    }
    if (header.version != kVersion) {
        refuse("the weights' format is version " + std::to_string(header.version) + ", expected " +
               std::to_string(kVersion));
    }
    const std::uint64_t expected = sizeof header + std::uint64_t{header.count} * sizeof(float);
    if (bytes != expected) {
        refuse(std::to_string(bytes) + " bytes, expected " + std::to_string(expected) + ": truncated or altered");
    }
    const auto* start = static_cast<const unsigned char*>(blob);
    if (crc32(start + kCovered, bytes - kCovered) != header.checksum) {
        refuse("the checksum is wrong: the weights were altered");
    }

    CompositorWeights weights;
    weights.sizes = sizes_of(header);
    Reader counter(nullptr);
    assign_tensors(weights, counter);
    if (counter.taken() != header.count) {
        refuse(std::to_string(header.count) + " weights do not fit the sizes, which need " +
               std::to_string(counter.taken()));
    }
    weights.memory.resize(header.count);
    std::memcpy(weights.memory.data(), start + sizeof header, bytes - sizeof header);
    for (const float value : weights.memory) {
        if (!std::isfinite(value)) refuse("there are weights that are not finite");
    }
    Reader reader(weights.memory.data());
    assign_tensors(weights, reader);
    return weights;
}

}  // namespace openfoldpp
