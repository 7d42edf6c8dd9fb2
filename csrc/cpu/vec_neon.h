// Four floats in a NEON register (aarch64). vec_scalar.h says what each function does.
#pragma once

#include <arm_neon.h>

namespace openfoldpp {
namespace {

struct Vec {
    static constexpr int width = 4;
    static constexpr int registers = 32;
    static constexpr bool fused = true;
    float32x4_t v;
};

inline Vec broadcast(float x) { return {vdupq_n_f32(x)}; }
inline Vec load(const float* p) { return {vld1q_f32(p)}; }
inline void store(float* p, Vec a) { vst1q_f32(p, a.v); }
inline Vec load_first(const float* p, int n, float fill) {
    float lane[4] = {fill, fill, fill, fill};
    for (int i = 0; i < n; ++i) lane[i] = p[i];
    return load(lane);
}
inline void store_first(float* p, Vec a, int n) {
    float lane[4];
    store(lane, a);
    for (int i = 0; i < n; ++i) p[i] = lane[i];
}
inline Vec operator+(Vec a, Vec b) { return {vaddq_f32(a.v, b.v)}; }
inline Vec operator-(Vec a, Vec b) { return {vsubq_f32(a.v, b.v)}; }
inline Vec operator*(Vec a, Vec b) { return {vmulq_f32(a.v, b.v)}; }
inline Vec operator/(Vec a, Vec b) { return {vdivq_f32(a.v, b.v)}; }
inline Vec multiply_add(Vec a, Vec b, Vec c) { return {vfmaq_f32(c.v, a.v, b.v)}; }
inline Vec maximum(Vec a, Vec b) { return {vmaxq_f32(a.v, b.v)}; }
inline Vec square_root(Vec a) { return {vsqrtq_f32(a.v)}; }
inline Vec where_negative(Vec x, Vec a, Vec b) {
    return {vbslq_f32(vcltzq_s32(vreinterpretq_s32_f32(x.v)), a.v, b.v)};
}
inline float sum_of(Vec a) { return vaddvq_f32(a.v); }
inline float maximum_of(Vec a) { return vmaxvq_f32(a.v); }
inline Vec round_to_integer(Vec a) { return {vrndnq_f32(a.v)}; }
inline Vec scale_by_power_of_2(Vec a, Vec n) {
    const auto power = [](int32x4_t exponent) {
        return vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(exponent, vdupq_n_s32(127)), 23));
    };
    const int32x4_t whole = vcvtq_s32_f32(n.v);
    const int32x4_t half = vshrq_n_s32(whole, 1);
    return {vmulq_f32(vmulq_f32(a.v, power(half)), power(vsubq_s32(whole, half)))};
}

}  // namespace
}  // namespace openfoldpp
