// Launching kernels: what a GPU has room for, and the shape of a launch.
#pragma once

#include <climits>
#include <cstdint>
#include <utility>

#include "errors.h"

namespace openfoldpp {
namespace {

inline std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

inline int current_device(const char* what) {
    int device = 0;
    require_success(cudaGetDevice(&device), what);
    return device;
}

inline int multiprocessors(const char* what) {
    int count = 0;
    require_success(cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, current_device(what)), what);
    return count;
}

// Bytes of shared memory that a block may have on a GPU.
inline std::int64_t most_shared(const char* what, int device) {
    int bytes = 0;
    require_success(cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device), what);
    return bytes;
}

// Queues kernel(arguments...) with `blocks` blocks of `threads`, each with `bytes` of dynamic shared memory.
template <class... Parameters, class... Arguments>
void launch(const char* what, void (*kernel)(Parameters...), std::int64_t blocks, int threads, std::size_t bytes,
            void* stream, Arguments&&... arguments) {
    require(blocks <= INT_MAX, std::string(what) + " needs " + std::to_string(blocks) + " blocks, the most is " +
                                   std::to_string(INT_MAX));
    if (bytes > 0) {
        const std::int64_t most = most_shared(what, current_device(what));
        require(static_cast<std::int64_t>(bytes) <= most,
                std::string(what) + " needs " + std::to_string(bytes) + " bytes of shared memory, a block has " +
                    std::to_string(most) + " on this GPU");
        require_success(
            cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes)), what);
    }
    cudaLaunchConfig_t shape{};
    shape.gridDim = dim3(static_cast<unsigned>(blocks));
    shape.blockDim = dim3(static_cast<unsigned>(threads));
    shape.dynamicSmemBytes = bytes;
    shape.stream = static_cast<cudaStream_t>(stream);
    require_success(cudaLaunchKernelEx(&shape, kernel, std::forward<Arguments>(arguments)...), what);
}

}  // namespace
}  // namespace openfoldpp
