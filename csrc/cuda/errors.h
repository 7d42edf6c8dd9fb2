// Refusals that name what is wrong, and CUDA's errors as exceptions.
#pragma once

#include <cuda_runtime.h>
#include <cuda_runtime_api.h>

#include <new>
#include <stdexcept>
#include <string>

namespace openfoldpp {
namespace {

inline void require(bool condition, const std::string& message) {
    if (!condition) throw std::invalid_argument(message);
}

inline void require_success(cudaError_t status, const char* what) {
    if (status == cudaSuccess) return;
    cudaGetLastError();  // else the next launch, of whatever kernel, would report it again
    if (status == cudaErrorMemoryAllocation) throw std::bad_alloc();
    throw std::runtime_error(std::string(what) + ": " + cudaGetErrorString(status));
}

}  // namespace
}  // namespace openfoldpp
