// Confidence and distances as logits over equal bins: expectation, its inverse, and scores made of them.
// Arrays are dense and row-major; sums are in double precision.
#pragma once

#include <cstddef>

namespace openfoldpp::coords {

// Softmax of each row and the mean of `centers` under it. `probabilities` may be null.
void bin_expectation(const float* logits /*[rows,bins]*/, std::size_t rows, std::size_t bins,
                     const double* centers /*[bins]*/, float* probabilities /*[rows,bins]*/,
                     float* expectation /*[rows]*/);

// Logits whose expectation is the value: log weights on the two bins whose centres enclose it, `floor` on
// the others. Centres rise; a value outside them is clipped to the nearest.
void encode_in_bins(const double* values /*[rows]*/, std::size_t rows, const double* centers /*[bins]*/,
                    std::size_t bins, double floor, float* logits /*[rows,bins]*/);

// Predicted TM-score from aligned-error logits (AlphaFold 2 supplement 1.9.7): the best alignment frame's
// mean over residues of the expectation of 1 / (1 + (e / d0)^2).
double predicted_tm_score(const float* logits /*[n,n,bins]*/, std::size_t n, std::size_t bins,
                          const double* centers /*[bins]*/);

// Log density, up to a constant per pair, of a normal distribution about each distance at the bins' centres;
// the nearest bin has 0. A pair with an unknown point has 0 in all bins.
void distance_logits(const double* points /*[n,3]*/, const unsigned char* known /*[n]*/, std::size_t n,
                     const double* centers /*[bins]*/, std::size_t bins, double standard_deviation,
                     float* logits /*[n,n,bins]*/);

}  // namespace openfoldpp::coords
