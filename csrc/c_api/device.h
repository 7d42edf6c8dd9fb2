// What the C functions do with device memory. A build without CUDA knows host memory alone.
#pragma once

#include <cstddef>
#include <optional>
#include <stdexcept>

#include "openfoldpp/compositor.h"
#include "openfoldpp/simplicial_attention.h"

#if OPENFOLDPP_CUDA
#include <map>
#include <memory>
#include <mutex>

#include "openfoldpp/cuda_compositor.h"
#include "openfoldpp/cuda_memory.h"
#include "openfoldpp/cuda_simplicial_attention.h"
#endif

namespace openfoldpp {

// A loaded compositor, for the CPU and for every GPU that it has run on.
class LoadedCompositor {
public:
    LoadedCompositor(const void* blob, std::size_t bytes);

    const Compositor& host() const { return host_; }
    void run_on_device(int device, const float* embedding, float* pair, std::int64_t length) const;

private:
    Compositor host_;
#if OPENFOLDPP_CUDA
    CompositorWeights weights_;
    mutable std::mutex preparing_;
    mutable std::unique_ptr<CudaCompositor> kernels_;
    mutable std::map<int, CudaCopy> images_;
#endif
};

#if OPENFOLDPP_CUDA

// The GPU whose memory both pointers are of; none for host memory. Throws std::invalid_argument for one of each.
inline std::optional<int> device_of(const void* in, const void* out) {
    const int device = cuda_device_of(in);
    if (cuda_device_of(out) != device) {
        throw std::invalid_argument("the input and the output are not memory of the same device");
    }
    return device < 0 ? std::nullopt : std::optional<int>(device);
}

inline void attend_on_device(int device, const SimplicialAttention& inputs, const HeadView<float>& out, void* stream) {
    const CudaDevice current(device);
    cuda_simplicial_attention(inputs, out, nullptr, stream);
}

inline LoadedCompositor::LoadedCompositor(const void* blob, std::size_t bytes)
    : host_(blob, bytes), weights_(read_compositor(blob, bytes)) {}

inline void LoadedCompositor::run_on_device(int device, const float* embedding, float* pair,
                                            std::int64_t length) const {
    const CudaDevice current(device);
    const void* image;
    {
        const std::lock_guard<std::mutex> lock(preparing_);
        if (!kernels_) kernels_ = std::make_unique<CudaCompositor>(weights_);
        const std::vector<std::uint32_t>& words = kernels_->image();
        image = images_.try_emplace(device, words.data(), words.size() * sizeof(std::uint32_t)).first->second.data();
    }
    const CudaWorkspace workspace(kernels_->workspace_floats(length) * sizeof(float), nullptr);
    (*kernels_)(static_cast<const std::uint32_t*>(image), embedding, pair, length,
                static_cast<float*>(workspace.data()), nullptr);
}

#else

inline std::optional<int> device_of(const void*, const void*) { return std::nullopt; }

inline void attend_on_device(int, const SimplicialAttention&, const HeadView<float>&, void*) {
    throw std::logic_error("a build without CUDA has no device memory");
}

inline LoadedCompositor::LoadedCompositor(const void* blob, std::size_t bytes) : host_(blob, bytes) {}

inline void LoadedCompositor::run_on_device(int, const float*, float*, std::int64_t) const {
    throw std::logic_error("a build without CUDA has no device memory");
}

#endif

}  // namespace openfoldpp
