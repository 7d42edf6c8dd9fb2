// As much of CUDA's runtime as the kernels use, on a CPU; device memory is plain memory.
#pragma once

#include <cmath>
#include <cstring>
#include <tuple>

#include "executor.h"

#define __device__
#define __host__
#define __global__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define threadIdx (cuda_shim::executor().thread_index)
#define blockIdx (cuda_shim::executor().block_index)

using std::max;
using std::min;

using cudaStream_t = struct CudaShimStream*;
enum cudaError_t { cudaSuccess, cudaErrorInvalidValue };
enum cudaDeviceAttr { cudaDevAttrMultiProcessorCount };
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize };

inline const char* cudaGetErrorString(cudaError_t) { return "invalid argument"; }

inline cudaError_t cudaGetDevice(int* device) {
    *device = 0;
    return cudaSuccess;
}

namespace cuda_shim {
inline int multiprocessors = 2;           // what a launcher sees; a test may change it
inline std::size_t most_shared = 163 * 1024;  // of a block at compute capability 8.0
}  // namespace cuda_shim

inline cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr, int) {
    *value = cuda_shim::multiprocessors;
    return cudaSuccess;
}

template <class Kernel>
cudaError_t cudaFuncSetAttribute(Kernel, cudaFuncAttribute, int bytes) {
    return static_cast<std::size_t>(bytes) <= cuda_shim::most_shared ? cudaSuccess : cudaErrorInvalidValue;
}

inline cudaError_t cudaMemsetAsync(void* to, int value, std::size_t bytes, cudaStream_t) {
    std::memset(to, value, bytes);
    return cudaSuccess;
}

struct cudaLaunchConfig_t {
    dim3 gridDim, blockDim;
    std::size_t dynamicSmemBytes;
    cudaStream_t stream;
};

template <class... Parameters, class... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* shape, void (*kernel)(Parameters...),
                               Arguments&&... arguments) {
    const std::tuple<Parameters...> all(arguments...);
    cuda_shim::executor().run([&] { std::apply(kernel, all); }, shape->gridDim, shape->blockDim.x,
                              shape->dynamicSmemBytes);
    return cudaSuccess;
}

inline float __int_as_float(int bits) {
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }

inline void __syncthreads() { cuda_shim::executor().wait_for_block(); }

inline float __shfl_xor_sync(unsigned, float value, int distance) {
    cuda_shim::executor().with_warp(value, [&](float** values) {
        float before[cuda_shim::kLanes];
        for (int lane = 0; lane < cuda_shim::kLanes; ++lane) before[lane] = *values[lane];
        for (int lane = 0; lane < cuda_shim::kLanes; ++lane) *values[lane] = before[lane ^ distance];
    });
    return value;
}

inline int __any_sync(unsigned, int value) {
    cuda_shim::executor().with_warp(value, [](int** values) {
        const bool any = std::any_of(values, values + cuda_shim::kLanes, [](const int* v) { return *v != 0; });
        for (int lane = 0; lane < cuda_shim::kLanes; ++lane) *values[lane] = any;
    });
    return value;
}

inline int __all_sync(unsigned mask, int value) { return !__any_sync(mask, !value); }

inline void __syncwarp() {
    int nothing = 0;
    cuda_shim::executor().with_warp(nothing, [](int**) {});
}
