// Constant matrices in the order in which the kernels read them.
#pragma once

#include <cstdint>
#include <memory>

namespace openfoldpp {

// Uninitialised floats at the start of a cache line.
class Buffer {
public:
    Buffer() = default;
    explicit Buffer(std::int64_t count);

    float* data() { return data_.get(); }
    const float* data() const { return data_.get(); }

private:
    struct Free {
        void operator()(float* data) const;
    };
    std::unique_ptr<float[], Free> data_;
};

// A linear layer's weight [outputs][inputs], as torch.nn.Linear has it, ready for x -> x * weight^T at the
// instruction-set level in use.
class PackedMatrix {
public:
    PackedMatrix() = default;
    PackedMatrix(const float* weight, std::int64_t outputs, std::int64_t inputs);

    const float* data() const { return buffer_.data(); }
    // Floats that a packed matrix of this size has.
    static std::int64_t floats(std::int64_t outputs, std::int64_t inputs);
    static void pack(const float* weight, std::int64_t outputs, std::int64_t inputs, float* packed);

private:
    Buffer buffer_;
};

// A copy of values[count], filled up to whole registers with zeros; null values give zeros.
class PaddedVector {
public:
    PaddedVector() = default;
    PaddedVector(const float* values, std::int64_t count);

    const float* data() const { return buffer_.data(); }

private:
    Buffer buffer_;
};

}  // namespace openfoldpp
