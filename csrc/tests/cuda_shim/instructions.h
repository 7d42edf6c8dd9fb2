// csrc/cuda/instructions.h as loops over the lanes of a warp, by the layouts that are documented there.
#pragma once

#include "cuda_runtime.h"

#include "openfoldpp/bfloat16.h"

namespace openfoldpp::device {

inline unsigned char* shared_memory() { return cuda_shim::executor().shared(); }

inline int thread_index() { return static_cast<int>(threadIdx.x); }

inline float half_of(std::uint32_t word, int half) {
    return to_float(bfloat16{static_cast<std::uint16_t>(half ? word >> 16 : word)});
}

// As an H100 rounds the sums of a matrix product.
inline float toward_zero(double x) {
    const float nearest = static_cast<float>(x);
    return std::abs(nearest) > std::abs(x) ? std::nextafter(nearest, 0.0f) : nearest;
}

// The sanitizers leave out these loops over arrays of known sizes, in which they would spend most of the tests' time.
__attribute__((noinline, no_sanitize("address", "undefined"))) inline void multiply_matrices(
    double (&sums)[16][8], const float (&left)[16][16], const float (&right)[16][8]) {
    for (int i = 0; i < 16; ++i) {
        for (int l = 0; l < 16; ++l) {
            for (int j = 0; j < 8; ++j) sums[i][j] += static_cast<double>(left[i][l]) * right[l][j];
        }
    }
}

inline void multiply_add(float (&d)[4], const std::uint32_t (&a)[4], std::uint32_t b0, std::uint32_t b1) {
    struct Operand {
        float* d;
        const std::uint32_t* a;
        std::uint32_t b[2];
    } operand = {d, a, {b0, b1}};
    cuda_shim::executor().with_warp(operand, [](Operand** lanes) {
        float left[16][16], right[16][8];
        for (int lane = 0; lane < cuda_shim::kLanes; ++lane) {
            const int g = lane / 4, t = lane % 4;
            for (int half = 0; half < 2; ++half) {
                left[g][2 * t + half] = half_of(lanes[lane]->a[0], half);
                left[g + 8][2 * t + half] = half_of(lanes[lane]->a[1], half);
                left[g][2 * t + 8 + half] = half_of(lanes[lane]->a[2], half);
                left[g + 8][2 * t + 8 + half] = half_of(lanes[lane]->a[3], half);
                right[2 * t + half][g] = half_of(lanes[lane]->b[0], half);
                right[2 * t + 8 + half][g] = half_of(lanes[lane]->b[1], half);
            }
        }
        double result[16][8] = {};
        multiply_matrices(result, left, right);
        for (int lane = 0; lane < cuda_shim::kLanes; ++lane) {
            const int g = lane / 4, t = lane % 4;
            for (int e = 0; e < 4; ++e) {
                lanes[lane]->d[e] = toward_zero(lanes[lane]->d[e] + result[g + e / 2 * 8][2 * t + e % 2]);
            }
        }
    });
}

template <bool transposed>
inline void load_8x8(std::uint32_t (&to)[4], const void* row) {
    struct Operand {
        std::uint32_t* to;
        const void* row;
    } operand = {to, row};
    cuda_shim::executor().require_shared(row, 16);
    cuda_shim::executor().with_warp(operand, [](Operand** lanes) {
        for (int lane = 0; lane < cuda_shim::kLanes; ++lane) {
            const int g = lane / 4, t = lane % 4;
            for (int m = 0; m < 4; ++m) {
                const auto element = [&](int r, int c) -> std::uint32_t {
                    return static_cast<const bfloat16*>(lanes[8 * m + r]->row)[c].bits;
                };
                lanes[lane]->to[m] = transposed ? element(2 * t, g) | element(2 * t + 1, g) << 16
                                                : element(g, 2 * t) | element(g, 2 * t + 1) << 16;
            }
        }
    });
}

inline void load_matrices(std::uint32_t (&to)[4], const void* row) { load_8x8<false>(to, row); }
inline void load_transposed(std::uint32_t (&to)[4], const void* row) { load_8x8<true>(to, row); }

// At once or as late as can be, by chance: neither may be relied on. Until then the place holds NaN.
inline void copy_async(void* to, const void* from, bool wanted) {
    cuda_shim::executor().require_shared(to, 16);
    if (reinterpret_cast<std::uintptr_t>(from) % 16) cuda_shim::fail("a copy's source is not aligned");
    cuda_shim::Copy copy = {to, {}};
    if (wanted) std::memcpy(copy.bytes, from, sizeof copy.bytes);
    if (cuda_shim::executor().random() % 2) {
        std::memcpy(to, copy.bytes, sizeof copy.bytes);
    } else {
        std::memset(to, 0xff, sizeof copy.bytes);
        cuda_shim::executor().current().copies.push_back(copy);
    }
}

inline void wait_for_copies() {
    auto& copies = cuda_shim::executor().current().copies;
    for (const cuda_shim::Copy& copy : copies) std::memcpy(copy.to, copy.bytes, sizeof copy.bytes);
    copies.clear();
}

inline float exp2_fast(float x) {
    const float y = std::exp2(x);
    return y < 1.17549435e-38f ? 0.0f : y;
}

inline std::uint32_t pack_bfloat16(float low, float high) {
    return from_float<bfloat16>(low).bits | static_cast<std::uint32_t>(from_float<bfloat16>(high).bits) << 16;
}

inline std::uint32_t multiply_pairs(std::uint32_t x, std::uint32_t y) {
    return pack_bfloat16(half_of(x, 0) * half_of(y, 0), half_of(x, 1) * half_of(y, 1));
}

}  // namespace openfoldpp::device
