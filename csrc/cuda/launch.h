// Launching kernels: checks whose refusals name what is wrong, and the shape of a launch.
#pragma once

#include <cuda_runtime.h>

#include <climits>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <utility>

namespace openfoldpp {
namespace {

inline void require(bool condition, const std::string& message) {
    if (!condition) throw std::invalid_argument(message);
}

inline void require_success(cudaError_t status, const char* what) {
    if (status != cudaSuccess) throw std::runtime_error(std::string(what) + ": " + cudaGetErrorString(status));
}

inline std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

inline int multiprocessors(const char* what) {
    int device = 0, count = 0;
    require_success(cudaGetDevice(&device), what);
    require_success(cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device), what);
    return count;
}

// Queues kernel(arguments...) with `blocks` blocks of `threads`, each with `bytes` of dynamic shared memory.
template <class... Parameters, class... Arguments>
void launch(const char* what, void (*kernel)(Parameters...), std::int64_t blocks, int threads, std::size_t bytes,
            void* stream, Arguments&&... arguments) {
    require(blocks <= INT_MAX, std::string(what) + " needs " + std::to_string(blocks) + " blocks, the most is " +
                                   std::to_string(INT_MAX));
    require_success(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes)),
                    what);
    cudaLaunchConfig_t shape{};
    shape.gridDim = dim3(static_cast<unsigned>(blocks));
    shape.blockDim = dim3(static_cast<unsigned>(threads));
    shape.dynamicSmemBytes = bytes;
    shape.stream = static_cast<cudaStream_t>(stream);
    require_success(cudaLaunchKernelEx(&shape, kernel, std::forward<Arguments>(arguments)...), what);
}

}  // namespace
}  // namespace openfoldpp
