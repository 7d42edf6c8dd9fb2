// As much of CUDA's runtime as the launchers use to ask about the GPU and about errors.
#pragma once

#include "cuda_runtime.h"

constexpr int cudaErrorMemoryAllocation = 2;

namespace cuda_shim {
inline cudaError_t room_error = cudaSuccess;  // what asking for the room in shared memory gives; a test may change it
inline cudaError_t last_error = cudaSuccess;
}  // namespace cuda_shim

// The error of an earlier call, which a launch would report.
inline cudaError_t cudaGetLastError() {
    const cudaError_t error = cuda_shim::last_error;
    cuda_shim::last_error = cudaSuccess;
    return error;
}

enum cudaDeviceRoom { cudaDevAttrMaxSharedMemoryPerBlockOptin };

inline cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceRoom, int) {
    *value = static_cast<int>(cuda_shim::most_shared);
    return cuda_shim::last_error = cuda_shim::room_error;
}
