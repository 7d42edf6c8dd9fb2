// bfloat16: the upper half of a float32.
#pragma once

#include <cstdint>
#include <cstring>

namespace openfoldpp {

struct bfloat16 {
    std::uint16_t bits;
};

inline float to_float(float value) { return value; }

inline float to_float(bfloat16 value) {
    const std::uint32_t bits = static_cast<std::uint32_t>(value.bits) << 16;
    float result;
    std::memcpy(&result, &bits, sizeof result);
    return result;
}

template <class T>
T from_float(float value);

template <>
inline float from_float<float>(float value) {
    return value;
}

// Rounds to nearest, ties to even; a NaN stays a NaN.
template <>
inline bfloat16 from_float<bfloat16>(float value) {
    if (value != value) return {0x7FC0};
    std::uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    bits += 0x7FFF + ((bits >> 16) & 1);
    return {static_cast<std::uint16_t>(bits >> 16)};
}

}  // namespace openfoldpp
