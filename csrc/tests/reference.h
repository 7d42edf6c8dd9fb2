// What the ops' tests share: grids of vectors in several layouts, and layers in plain double precision.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "openfoldpp/views.h"

namespace reference {

inline std::vector<float> draw(std::int64_t count, float scale, unsigned seed, float center = 0.0f) {
    std::mt19937 generator(seed);
    std::normal_distribution<float> normal(center, scale);
    std::vector<float> values(count);
    for (float& value : values) value = normal(generator);
    return values;
}

// Rows after each other; columns after each other; rows and columns from last to first; rows and vectors apart.
enum class Layout { dense, transposed, backwards, apart };
constexpr Layout kLayouts[] = {Layout::dense, Layout::transposed, Layout::backwards, Layout::apart};

// A grid and its memory, which ends where the last vector does, so that the address sanitizer sees any access
// past it. What lies between vectors is NaN.
class OwnedGrid {
public:
    OwnedGrid(std::int64_t rows, std::int64_t columns, std::int64_t channels, Layout layout)
        : rows_(rows), columns_(columns), channels_(channels) {
        column_stride_ = layout == Layout::apart ? channels + 3 : channels;
        row_stride_ = layout == Layout::apart ? columns * column_stride_ + 5 : columns * column_stride_;
        if (layout == Layout::transposed) {
            row_stride_ = channels;
            column_stride_ = rows * channels;
        }
        if (rows * columns > 0) {
            memory_.assign((rows - 1) * row_stride_ + (columns - 1) * column_stride_ + channels,
                           std::numeric_limits<float>::quiet_NaN());
        }
        if (layout == Layout::backwards && !memory_.empty()) {
            first_ = static_cast<std::int64_t>(memory_.size()) - channels;
            row_stride_ = -row_stride_;
            column_stride_ = -column_stride_;
        }
    }
    OwnedGrid(std::int64_t rows, std::int64_t columns, std::int64_t channels, Layout layout,
              const std::vector<float>& values)
        : OwnedGrid(rows, columns, channels, layout) {
        auto value = values.begin();
        for (std::int64_t i = 0; i < rows; ++i) {
            for (std::int64_t j = 0; j < columns; ++j) {
                for (std::int64_t c = 0; c < channels; ++c) vector(i, j)[c] = *value++;
            }
        }
    }

    float* vector(std::int64_t i, std::int64_t j) {
        return memory_.data() + first_ + i * row_stride_ + j * column_stride_;
    }
    openfoldpp::Grid view() { return {vector(0, 0), rows_, columns_, channels_, row_stride_, column_stride_}; }
    openfoldpp::MutableGrid mutable_view() {
        return {vector(0, 0), rows_, columns_, channels_, row_stride_, column_stride_};
    }
    // [rows][columns][channels]
    std::vector<float> values() {
        std::vector<float> result;
        for (std::int64_t i = 0; i < rows_; ++i) {
            for (std::int64_t j = 0; j < columns_; ++j) {
                result.insert(result.end(), vector(i, j), vector(i, j) + channels_);
            }
        }
        return result;
    }
    // Floats of the memory that are NaN: a write between vectors makes them fewer.
    std::int64_t untouched() const {
        return std::count_if(memory_.begin(), memory_.end(), [](float value) { return std::isnan(value); });
    }

private:
    std::int64_t rows_, columns_, channels_, row_stride_, column_stride_, first_ = 0;
    std::vector<float> memory_;
};

template <class T>
std::vector<double> layer_norm(const T* x, const std::vector<float>& weight, const std::vector<float>& bias,
                               double eps) {
    const std::size_t channels = weight.size();
    double mean = 0, variance = 0;
    for (std::size_t c = 0; c < channels; ++c) mean += x[c] / static_cast<double>(channels);
    for (std::size_t c = 0; c < channels; ++c) variance += (x[c] - mean) * (x[c] - mean) / channels;
    std::vector<double> result(channels);
    for (std::size_t c = 0; c < channels; ++c) {
        result[c] = (x[c] - mean) / std::sqrt(variance + eps) * weight[c] + bias[c];
    }
    return result;
}

// weight: [bias.size()][x.size()]
inline std::vector<double> linear(const std::vector<double>& x, const std::vector<float>& weight,
                                  const std::vector<float>& bias) {
    std::vector<double> result(bias.begin(), bias.end());
    for (std::size_t o = 0; o < bias.size(); ++o) {
        for (std::size_t c = 0; c < x.size(); ++c) result[o] += x[c] * weight[o * x.size() + c];
    }
    return result;
}

inline double logistic(double x) { return 1 / (1 + std::exp(-x)); }

// The largest difference, as a part of the largest value.
inline double error(const std::vector<float>& values, const std::vector<double>& exact) {
    double difference = values.size() == exact.size() ? 0.0 : std::numeric_limits<double>::infinity(), largest = 0;
    for (std::size_t i = 0; i < std::min(values.size(), exact.size()); ++i) {
        const double d = std::abs(values[i] - exact[i]);
        difference = d <= difference ? difference : d;  // NaN stays
        largest = std::max(largest, std::abs(exact[i]));
    }
    return difference == 0 ? 0 : difference / largest;
}

inline bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
    return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0);
}

}  // namespace reference
