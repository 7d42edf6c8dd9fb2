// Compositors with random weights: as blobs, and in plain double precision.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "openfoldpp/compositor.h"
#include "reference.h"

namespace reference {

using openfoldpp::CompositorSizes;

// Bit by bit, by the definition of CRC-32.
inline std::uint32_t checksum(const std::vector<unsigned char>& bytes, std::size_t from) {
    std::uint32_t value = 0xFFFFFFFFu;
    for (std::size_t i = from; i < bytes.size(); ++i) {
        value ^= bytes[i];
        for (int bit = 0; bit < 8; ++bit) value = value & 1 ? (value >> 1) ^ 0xEDB88320u : value >> 1;
    }
    return ~value;
}

template <class T>
void put_number(std::vector<unsigned char>& blob, std::size_t at, T value) {
    std::memcpy(blob.data() + at, &value, sizeof value);
}

inline void put_checksum(std::vector<unsigned char>& blob) { put_number(blob, 12, checksum(blob, 16)); }

inline std::vector<unsigned char> make_blob(const CompositorSizes& s, unsigned seed = 1) {
    std::vector<float> weights;
    const auto add = [&](std::int64_t count, double scale, float center = 0.0f) {
        const std::vector<float> tensor = draw(count, static_cast<float>(scale), seed++, center);
        weights.insert(weights.end(), tensor.begin(), tensor.end());
    };
    const auto norm = [&] {
        add(s.channels, 0.3, 1.0f);
        add(s.channels, 0.3);
    };
    const auto linear = [&](std::int64_t outputs, std::int64_t inputs, bool bias = true) {
        add(outputs * inputs, 1 / std::sqrt(static_cast<double>(inputs)));
        if (bias) add(outputs, 0.3);
    };
    add(s.pair_channels * s.rank * s.rank, 1.0 / s.rank);
    add(s.offsets() * s.pair_channels, 1.0);
    norm();
    for (std::int64_t b = 0; b < s.blocks; ++b) {
        add(s.heads * s.offsets(), 1.0);
        norm();
        linear(5 * s.wide(), s.channels, false);
        linear(s.channels, s.wide());
        norm();
        linear(s.hidden, s.channels);
        linear(s.channels, s.hidden);
    }
    norm();
    linear(s.rank, s.channels);
    linear(s.rank, s.channels);

    std::vector<unsigned char> blob(64 + weights.size() * sizeof(float));
    std::memcpy(blob.data(), "OFPPCOMP", 8);
    put_number(blob, 8, std::uint32_t{1});
    const std::int64_t sizes[] = {s.channels,      s.blocks,     s.heads,    s.head_channels, s.hidden, s.rank,
                                  s.pair_channels, s.max_offset, s.window_j, s.window_k};
    for (std::size_t i = 0; i < 10; ++i) put_number(blob, 16 + 4 * i, static_cast<std::int32_t>(sizes[i]));
    put_number(blob, 56, s.eps);
    put_number(blob, 60, static_cast<std::uint32_t>(weights.size()));
    std::memcpy(blob.data() + 64, weights.data(), weights.size() * sizeof(float));
    put_checksum(blob);
    return blob;
}

// The algorithm of docs/compositor.md, line by line.
class ExactCompositor {
public:
    explicit ExactCompositor(const std::vector<unsigned char>& blob)
        : w_(openfoldpp::read_compositor(blob.data(), blob.size())), s_(w_.sizes) {}

    std::vector<double> operator()(const std::vector<float>& embedding) const {
        const std::int64_t length = static_cast<std::int64_t>(embedding.size()) / s_.channels;
        std::vector<std::vector<double>> x;
        for (std::int64_t i = 0; i < length; ++i) x.push_back(norm(&embedding[i * s_.channels], w_.norm));
        for (const openfoldpp::CompositorBlock& block : w_.blocks) {
            attend(x, block);
            for (std::vector<double>& node : x) {
                std::vector<double> hidden = layer(norm(node.data(), block.transition_norm), block.expand, s_.hidden);
                for (double& value : hidden) value = std::max(0.0, value);
                add(node, layer(hidden, block.contract, s_.channels));
            }
        }
        std::vector<std::vector<double>> left, right;
        for (const std::vector<double>& node : x) {
            const std::vector<double> normed = norm(node.data(), w_.pair_norm);
            left.push_back(layer(normed, w_.left, s_.rank));
            right.push_back(layer(normed, w_.right, s_.rank));
        }
        std::vector<double> pair;
        for (std::int64_t i = 0; i < length; ++i) {
            for (std::int64_t j = 0; j < length; ++j) {
                for (std::int64_t c = 0; c < s_.pair_channels; ++c) {
                    double sum = w_.offsets[offset(i, j) * s_.pair_channels + c];
                    for (std::int64_t d = 0; d < s_.rank; ++d) {
                        for (std::int64_t e = 0; e < s_.rank; ++e) {
                            sum += w_.outer[(c * s_.rank + d) * s_.rank + e] * left[i][d] * right[j][e];
                        }
                    }
                    pair.push_back(sum);
                }
            }
        }
        return pair;
    }

private:
    std::int64_t offset(std::int64_t i, std::int64_t j) const {
        return std::clamp(i - j, -s_.max_offset, s_.max_offset) + s_.max_offset;
    }
    template <class T>
    std::vector<double> norm(const T* x, const openfoldpp::NormWeights& w) const {
        return layer_norm(x, std::vector<float>(w.weight, w.weight + s_.channels),
                          std::vector<float>(w.bias, w.bias + s_.channels), s_.eps);
    }
    static std::vector<double> layer(const std::vector<double>& x, const openfoldpp::LinearWeights& w,
                                     std::int64_t outputs) {
        std::vector<float> bias(outputs, 0.0f);
        if (w.bias) bias.assign(w.bias, w.bias + outputs);
        return linear(x, std::vector<float>(w.weight, w.weight + outputs * x.size()), bias);
    }
    static void add(std::vector<double>& to, const std::vector<double>& update) {
        for (std::size_t c = 0; c < to.size(); ++c) to[c] += update[c];
    }
    static bool reaches(std::int64_t i, std::int64_t j, std::int64_t window) {
        return window < 0 || std::abs(i - j) <= window;
    }

    void attend(std::vector<std::vector<double>>& x, const openfoldpp::CompositorBlock& block) const {
        const std::int64_t length = static_cast<std::int64_t>(x.size()), d = s_.head_channels;
        std::vector<std::vector<double>> all;
        for (const auto& node : x) all.push_back(layer(norm(node.data(), block.attention_norm), block.qkv, 5 * s_.wide()));
        for (std::int64_t i = 0; i < length; ++i) {
            std::vector<double> attended(s_.wide(), 0.0);
            for (std::int64_t h = 0; h < s_.heads; ++h) {
                const auto part = [&](std::int64_t which, std::int64_t node) {
                    return all[node].data() + which * s_.wide() + h * d;
                };
                // Logits here are far from double's limits: no largest one is subtracted.
                double total = 0;
                std::vector<double> sum(d, 0.0);
                for (std::int64_t j = 0; j < length; ++j) {
                    for (std::int64_t k = 0; k < length; ++k) {
                        if (!reaches(i, j, s_.window_j) || !reaches(i, k, s_.window_k)) continue;
                        double logit = 0;
                        for (std::int64_t l = 0; l < d; ++l) logit += part(0, i)[l] * part(1, j)[l] * part(2, k)[l];
                        logit = logit / std::sqrt(static_cast<double>(d)) + block.offset_bias[h * s_.offsets() + offset(i, j)];
                        total += std::exp(logit);
                        for (std::int64_t l = 0; l < d; ++l) sum[l] += std::exp(logit) * part(3, j)[l] * part(4, k)[l];
                    }
                }
                for (std::int64_t l = 0; l < d; ++l) attended[h * d + l] = sum[l] / total;
            }
            add(x[i], layer(attended, block.output, s_.channels));
        }
    }

    openfoldpp::CompositorWeights w_;
    CompositorSizes s_;
};

}  // namespace reference
