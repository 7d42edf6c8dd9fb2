// Device memory for callers that have no allocator of their own. Failures are std::runtime_error with CUDA's message,
// or std::bad_alloc.
#pragma once

#include <cstddef>

namespace openfoldpp {

// The GPU that a pointer's memory is of, managed memory included; -1 for host memory, and on a machine without a GPU.
int cuda_device_of(const void* pointer);

// Makes a GPU the current one of this thread, until the end of the scope.
class CudaDevice {
public:
    explicit CudaDevice(int device);
    ~CudaDevice();
    CudaDevice(const CudaDevice&) = delete;
    CudaDevice& operator=(const CudaDevice&) = delete;

private:
    int before_ = 0;
};

// A copy of host memory on the current GPU. It may end while work that uses it is still queued: that ends first.
class CudaCopy {
public:
    CudaCopy(const void* host, std::size_t bytes);
    ~CudaCopy();
    CudaCopy(const CudaCopy&) = delete;
    CudaCopy& operator=(const CudaCopy&) = delete;

    const void* data() const { return data_; }

private:
    void* data_ = nullptr;
};

// Memory of the current GPU for work that is queued on `stream`, a cudaStream_t, between its beginning and its end.
class CudaWorkspace {
public:
    CudaWorkspace(std::size_t bytes, void* stream);
    ~CudaWorkspace();
    CudaWorkspace(const CudaWorkspace&) = delete;
    CudaWorkspace& operator=(const CudaWorkspace&) = delete;

    void* data() const { return data_; }

private:
    void* data_ = nullptr;
    void* stream_;
};

}  // namespace openfoldpp
