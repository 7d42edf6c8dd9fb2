// Layer norm of one row and the logistic function, written once for every vec_*.h; include one first.
#pragma once

#include "gemm.h"
#include "vec_exp.h"

namespace openfoldpp {
namespace {

// out = (x - mean) / sqrt(variance + eps) * weight + bias, as torch.nn.LayerNorm. The variance is the mean of
// the squared differences from the mean, in a second pass.
inline void layer_norm(const float* x, std::int64_t channels, const float* weight, const float* bias, float eps,
                       float* out) {
    Vec total = broadcast(0.0f);
    for (std::int64_t c = 0; c < channels; c += Vec::width) total = total + get(x + c, channels - c);
    const float mean = sum_of(total) / static_cast<float>(channels);
    const Vec center = broadcast(mean);
    Vec squares = broadcast(0.0f);
    for (std::int64_t c = 0; c < channels; c += Vec::width) {
        const std::int64_t left = channels - c;
        const Vec value = left >= Vec::width ? load(x + c) : load_first(x + c, static_cast<int>(left), mean);
        const Vec d = value - center;
        squares = multiply_add(d, d, squares);
    }
    const float variance = sum_of(squares) / static_cast<float>(channels);
    const Vec scale = broadcast(1.0f / __builtin_sqrtf(variance + eps));
    for (std::int64_t c = 0; c < channels; c += Vec::width) {
        const std::int64_t left = channels - c;
        const Vec unit = (get(x + c, left) - center) * scale;
        put(out + c, multiply_add(unit, get(weight + c, left), get(bias + c, left)), left);
    }
}

// 1 / (1 + e^-x); for x < 0 as e^x / (1 + e^x), which keeps small results exact.
inline Vec logistic(Vec x) {
    const Vec zero = broadcast(0.0f);
    const Vec e = exp_of_nonpositive(zero - maximum(x, zero - x));
    const Vec r = broadcast(1.0f) / (broadcast(1.0f) + e);
    return where_negative(x, e * r, r);
}

}  // namespace
}  // namespace openfoldpp
