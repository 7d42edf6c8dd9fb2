// Weights in the order in which the compositor's kernels read them.
#pragma once

#include <cstdint>
#include <cstring>
#include <vector>

#include "openfoldpp/bfloat16.h"
#include "openfoldpp/cuda_compositor.h"

namespace openfoldpp {
namespace {

constexpr int kTile = 16;  // rows, columns and depth of a product
constexpr int kTerms = 3;  // bfloat16 that a float is the sum of

inline std::int64_t whole_tiles(std::int64_t count) { return (count + kTile - 1) / kTile * kTile; }

class ImageWriter {
public:
    // `count` floats, then zeros up to `padded`.
    std::int64_t floats(const float* values, std::int64_t count, std::int64_t padded) {
        const std::int64_t begin = here();
        image.resize(begin + padded);
        std::memcpy(image.data() + begin, values, count * sizeof(float));
        return begin;
    }
    CudaCompositor::Norm norm(const NormWeights& w, std::int64_t channels) {
        const std::int64_t weight = floats(w.weight, channels, channels);
        return {weight, floats(w.bias, channels, channels)};
    }
    // weight [outputs][inputs], and a bias or none; outputs and inputs are filled up to whole tiles with zeros.
    CudaCompositor::Linear linear(const LinearWeights& w, std::int64_t outputs, std::int64_t inputs) {
        CudaCompositor::Linear place;
        place.depth_tiles = static_cast<int>(whole_tiles(inputs) / kTile);
        place.column_tiles = static_cast<int>(whole_tiles(outputs) / kTile);
        place.fragments = here();
        for (int column = 0; column < place.column_tiles; ++column) {
            for (int depth = 0; depth < place.depth_tiles; ++depth) {
                fragment([&](std::int64_t k, std::int64_t n) {
                    k += depth * kTile;
                    n += column * kTile;
                    return k < inputs && n < outputs ? w.weight[n * inputs + k] : 0.0f;
                });
            }
        }
        place.bias = w.bias ? floats(w.bias, outputs, whole_tiles(outputs)) : -1;
        return place;
    }

    std::vector<std::uint32_t> image;

private:
    // At a multiple of 16 bytes.
    std::int64_t here() {
        image.resize((image.size() + 3) / 4 * 4);
        return static_cast<std::int64_t>(image.size());
    }

    // element(k, n) of 16 x 16 as [term][lane][4], what multiply_add() of simplicial_tiles.h takes.
    template <class Element>
    void fragment(const Element& element) {
        float rest[kTile][kTile];
        for (int k = 0; k < kTile; ++k) {
            for (int n = 0; n < kTile; ++n) rest[k][n] = element(k, n);
        }
        for (int term = 0; term < kTerms; ++term) {
            std::uint16_t bits[kTile][kTile];
            for (int k = 0; k < kTile; ++k) {
                for (int n = 0; n < kTile; ++n) {
                    const bfloat16 rounded = from_float<bfloat16>(rest[k][n]);
                    bits[k][n] = rounded.bits;
                    rest[k][n] -= to_float(rounded);
                }
            }
            for (int lane = 0; lane < 32; ++lane) {
                for (int slot = 0; slot < 4; ++slot) {
                    const int k = 2 * (lane % 4) + slot % 2 * 8, n = lane / 4 + slot / 2 * 8;
                    image.push_back(bits[k][n] | static_cast<std::uint32_t>(bits[k + 1][n]) << 16);
                }
            }
        }
    }
};

}  // namespace
}  // namespace openfoldpp
