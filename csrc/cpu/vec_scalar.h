// Eight floats in plain C++, the reference for the other vec_*.h: they offer the same names.
//
// Eight running sums instead of one keep the rounding error of a long sum as small as the vector levels'.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

namespace openfoldpp {
namespace {

struct Vec {
    static constexpr int width = 8;
    static constexpr int registers = 4;  // as many of eight floats as SSE has
    static constexpr bool fused = false;  // whether multiply_add rounds once
    float lane[width];
};

template <class Function>
inline Vec each(Function function) {
    Vec result;
    for (int i = 0; i < Vec::width; ++i) result.lane[i] = function(i);
    return result;
}

inline Vec broadcast(float x) {
    return each([&](int) { return x; });
}
inline Vec load(const float* p) {
    return each([&](int i) { return p[i]; });
}
inline void store(float* p, Vec a) {
    for (int i = 0; i < Vec::width; ++i) p[i] = a.lane[i];
}
// The first n < width lanes from memory, the others `fill`; reads nothing past p + n.
inline Vec load_first(const float* p, int n, float fill) {
    return each([&](int i) { return i < n ? p[i] : fill; });
}
inline void store_first(float* p, Vec a, int n) {
    for (int i = 0; i < n; ++i) p[i] = a.lane[i];
}
inline Vec operator+(Vec a, Vec b) {
    return each([&](int i) { return a.lane[i] + b.lane[i]; });
}
inline Vec operator-(Vec a, Vec b) {
    return each([&](int i) { return a.lane[i] - b.lane[i]; });
}
inline Vec operator*(Vec a, Vec b) {
    return each([&](int i) { return a.lane[i] * b.lane[i]; });
}
inline Vec operator/(Vec a, Vec b) {
    return each([&](int i) { return a.lane[i] / b.lane[i]; });
}
// a * b + c; rounded once where the level has a fused instruction, twice here.
inline Vec multiply_add(Vec a, Vec b, Vec c) {
    return each([&](int i) { return a.lane[i] * b.lane[i] + c.lane[i]; });
}
// The larger of each pair; where b is NaN, NaN.
inline Vec maximum(Vec a, Vec b) {
    return each([&](int i) { return a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i]; });
}
inline Vec square_root(Vec a) {
    return each([&](int i) { return std::sqrt(a.lane[i]); });
}
// Lane by lane: a where the sign bit of x is set, else b.
inline Vec where_negative(Vec x, Vec a, Vec b) {
    return each([&](int i) { return std::signbit(x.lane[i]) ? a.lane[i] : b.lane[i]; });
}
inline float sum_of(Vec a) {
    for (int half = Vec::width / 2; half > 0; half /= 2) {
        for (int i = 0; i < half; ++i) a.lane[i] += a.lane[i + half];
    }
    return a.lane[0];
}
inline float maximum_of(Vec a) {
    for (int half = Vec::width / 2; half > 0; half /= 2) {
        for (int i = 0; i < half; ++i) a.lane[i] = a.lane[i] > a.lane[i + half] ? a.lane[i] : a.lane[i + half];
    }
    return a.lane[0];
}
// To the nearest integer, ties to even. Adding and taking away 1.5 * 2^23 leaves no bits for a fraction;
// right for |x| < 2^22.
inline Vec round_to_integer(Vec a) {
    const Vec magic = broadcast(12582912.0f);
    return (a + magic) - magic;
}
// a * 2^n for whole n in [-252, 254], in two steps so that the result may be subnormal.
inline Vec scale_by_power_of_2(Vec a, Vec n) {
    return each([&](int i) {
        if (!(n.lane[i] == n.lane[i])) return n.lane[i];
        const std::int32_t whole = static_cast<std::int32_t>(n.lane[i]);
        const std::int32_t part[2] = {whole / 2, whole - whole / 2};
        float value = a.lane[i];
        for (std::int32_t exponent : part) {
            const std::int32_t bits = (exponent + 127) << 23;
            float power;
            std::memcpy(&power, &bits, sizeof power);
            value *= power;
        }
        return value;
    });
}

}  // namespace
}  // namespace openfoldpp
