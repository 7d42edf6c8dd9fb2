#include "openfoldpp/matrix.h"

#include <algorithm>
#include <new>

#include "kernels.h"

namespace openfoldpp {
namespace {

constexpr std::align_val_t kCacheLine{64};

std::int64_t round_up(std::int64_t n, std::int64_t multiple) { return (n + multiple - 1) / multiple * multiple; }

}  // namespace

Buffer::Buffer(std::int64_t count)
    : data_(static_cast<float*>(::operator new[](static_cast<std::size_t>(count) * sizeof(float), kCacheLine))) {}

void Buffer::Free::operator()(float* data) const { ::operator delete[](data, kCacheLine); }

PackedMatrix::PackedMatrix(const float* weight, std::int64_t outputs, std::int64_t inputs)
    : buffer_(floats(outputs, inputs)) {
    pack(weight, outputs, inputs, buffer_.data());
}

std::int64_t PackedMatrix::floats(std::int64_t outputs, std::int64_t inputs) {
    return round_up(outputs, kernels().width) * inputs;
}

void PackedMatrix::pack(const float* weight, std::int64_t outputs, std::int64_t inputs, float* packed) {
    const std::int64_t width = kernels().width, panel = kernels().panel;
    for (std::int64_t start = 0; start < outputs; start += panel) {
        const std::int64_t columns = std::min(panel, outputs - start);
        for (std::int64_t k = 0; k < inputs; ++k) {
            for (std::int64_t c = 0; c < round_up(columns, width); ++c) {
                *packed++ = c < columns ? weight[(start + c) * inputs + k] : 0.0f;
            }
        }
    }
}

PaddedVector::PaddedVector(const float* values, std::int64_t count) {
    const std::int64_t padded = round_up(count, kernels().width);
    buffer_ = Buffer(padded);
    std::fill_n(buffer_.data(), padded, 0.0f);
    if (values) std::copy_n(values, count, buffer_.data());
}

}  // namespace openfoldpp
