#include "openfoldpp/cuda_memory.h"

#include "errors.h"

namespace openfoldpp {

int cuda_device_of(const void* pointer) {
    cudaPointerAttributes attributes = {};
    const cudaError_t status = cudaPointerGetAttributes(&attributes, pointer);
    if (status == cudaErrorNoDevice || status == cudaErrorInsufficientDriver) {
        cudaGetLastError();
        return -1;
    }
    require_success(status, "cudaPointerGetAttributes");
    const bool on_device = attributes.type == cudaMemoryTypeDevice || attributes.type == cudaMemoryTypeManaged;
    return on_device ? attributes.device : -1;
}

CudaDevice::CudaDevice(int device) {
    require_success(cudaGetDevice(&before_), "cudaGetDevice");
    require_success(cudaSetDevice(device), "cudaSetDevice");
}

CudaDevice::~CudaDevice() { cudaSetDevice(before_); }

CudaCopy::CudaCopy(const void* host, std::size_t bytes) {
    require_success(cudaMalloc(&data_, bytes), "cudaMalloc");
    const cudaError_t status = cudaMemcpy(data_, host, bytes, cudaMemcpyHostToDevice);
    if (status != cudaSuccess) cudaFree(data_);
    require_success(status, "cudaMemcpy");
}

CudaCopy::~CudaCopy() { cudaFree(data_); }

CudaWorkspace::CudaWorkspace(std::size_t bytes, void* stream) : stream_(stream) {
    require_success(cudaMallocAsync(&data_, bytes, static_cast<cudaStream_t>(stream)), "cudaMallocAsync");
}

CudaWorkspace::~CudaWorkspace() { cudaFreeAsync(data_, static_cast<cudaStream_t>(stream_)); }

}  // namespace openfoldpp
