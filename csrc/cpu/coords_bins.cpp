#include "openfoldpp/coords_bins.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace openfoldpp::coords {
namespace {

// Fills `weights` with exp(logit - max) and returns their sum.
double softmax_weights(const float* logits, std::size_t bins, double* weights) {
    const double top = *std::max_element(logits, logits + bins);
    double sum = 0;
    for (std::size_t b = 0; b < bins; ++b) sum += weights[b] = std::exp(logits[b] - top);
    return sum;
}

double mean(const double* weights, double sum, const double* values, std::size_t bins) {
    double total = 0;
    for (std::size_t b = 0; b < bins; ++b) total += weights[b] * values[b];
    return total / sum;
}

}  // namespace

void bin_expectation(const float* logits, std::size_t rows, std::size_t bins, const double* centers,
                     float* probabilities, float* expectation) {
    std::vector<double> weights(bins);
    for (std::size_t i = 0; i < rows; ++i) {
        const double sum = softmax_weights(logits + i * bins, bins, weights.data());
        expectation[i] = static_cast<float>(mean(weights.data(), sum, centers, bins));
        if (!probabilities) continue;
        for (std::size_t b = 0; b < bins; ++b)
            probabilities[i * bins + b] = static_cast<float>(weights[b] / sum);
    }
}

void encode_in_bins(const double* values, std::size_t rows, const double* centers, std::size_t bins,
                    double floor, float* logits) {
    for (std::size_t i = 0; i < rows; ++i) {
        float* row = logits + i * bins;
        std::fill(row, row + bins, static_cast<float>(floor));
        const double value = std::clamp(values[i], centers[0], centers[bins - 1]);
        const std::size_t upper = std::lower_bound(centers, centers + bins, value) - centers;
        if (centers[upper] == value) {
            row[upper] = 0.0f;
            continue;
        }
        const double share = (value - centers[upper - 1]) / (centers[upper] - centers[upper - 1]);
        row[upper - 1] = static_cast<float>(std::max(std::log1p(-share), floor));
        row[upper] = static_cast<float>(std::max(std::log(share), floor));
    }
}

double predicted_tm_score(const float* logits, std::size_t n, std::size_t bins, const double* centers) {
    // Below 19 residues the formula for d0 falls under 0.17; upstream and AlphaFold stop there.
    const double length = std::max<double>(static_cast<double>(n), 19.0);
    const double d0 = 1.24 * std::cbrt(length - 15.0) - 1.8;
    std::vector<double> weights(bins), tm_of_bin(bins);
    for (std::size_t b = 0; b < bins; ++b)
        tm_of_bin[b] = 1.0 / (1.0 + centers[b] * centers[b] / (d0 * d0));
    double best = 0;
    for (std::size_t i = 0; i < n; ++i) {
        double total = 0;
        for (std::size_t j = 0; j < n; ++j) {
            const double sum = softmax_weights(logits + (i * n + j) * bins, bins, weights.data());
            total += mean(weights.data(), sum, tm_of_bin.data(), bins);
        }
        best = std::max(best, total / static_cast<double>(n));
    }
    return best;
}

void distance_logits(const double* points, const unsigned char* known, std::size_t n, const double* centers,
                     std::size_t bins, double standard_deviation, float* logits) {
    std::fill(logits, logits + n * n * bins, 0.0f);
    const double scale = -0.5 / (standard_deviation * standard_deviation);
    for (std::size_t i = 0; i < n; ++i)
        for (std::size_t j = 0; j < n; ++j) {
            if (!known[i] || !known[j]) continue;
            const double *a = points + 3 * i, *b = points + 3 * j;
            const double dx = a[0] - b[0], dy = a[1] - b[1], dz = a[2] - b[2];
            const double distance = std::sqrt(dx * dx + dy * dy + dz * dz);
            double nearest = INFINITY;
            for (std::size_t k = 0; k < bins; ++k) nearest = std::min(nearest, std::fabs(centers[k] - distance));
            float* row = logits + (i * n + j) * bins;
            for (std::size_t k = 0; k < bins; ++k) {
                const double off = centers[k] - distance;
                row[k] = static_cast<float>(scale * (off * off - nearest * nearest));
            }
        }
}

}  // namespace openfoldpp::coords
