// exp for arguments <= 0, written once for every vec_*.h; include one of those first.
#pragma once

namespace openfoldpp {
namespace {

// e^x for x <= 0, error below 2 ulp, subnormal results included; -inf gives 0 and NaN gives NaN.
//
// x = n ln 2 + r with |r| <= ln(2) / 2; ln 2 is split in two so that n times the first part is exact.
// e^r = 1 + r + r^2 P(r) with the coefficients of Cephes' expf (S. L. Moshier).
inline Vec exp_of_nonpositive(Vec x) {
    x = maximum(broadcast(-104.0f), x);  // e^-104 rounds to 0
    const Vec n = round_to_integer(x * broadcast(1.44269504f));
    const Vec r = multiply_add(n, broadcast(2.12194440e-4f), multiply_add(n, broadcast(-0.693359375f), x));
    Vec p = broadcast(1.9875691500e-4f);
    p = multiply_add(p, r, broadcast(1.3981999507e-3f));
    p = multiply_add(p, r, broadcast(8.3334519073e-3f));
    p = multiply_add(p, r, broadcast(4.1665795894e-2f));
    p = multiply_add(p, r, broadcast(1.6666665459e-1f));
    p = multiply_add(p, r, broadcast(5.0000001201e-1f));
    p = multiply_add(p, r * r, r) + broadcast(1.0f);
    return scale_by_power_of_2(p, n);
}

}  // namespace
}  // namespace openfoldpp
