// Softmax in place and its gradient. One block for a row; sums are taken in a fixed order, so that a result
// has the same bits at every run. Any number of columns forward; backward, as many as fit in shared memory.
#include <cuda_bf16.h>
#include <math_constants.h>

#include "launch.h"
#include "openfoldpp/cuda_softmax.h"

namespace openfoldpp {
namespace {

constexpr int kWarp = 32;
constexpr int kThreads = 128;
constexpr int kWarps = kThreads / kWarp;

__device__ float widen(float x) { return x; }
__device__ float widen(__nv_bfloat16 x) { return __bfloat162float(x); }
__device__ void assign(float& to, float x) { to = x; }
__device__ void assign(__nv_bfloat16& to, float x) { to = __float2bfloat16_rn(x); }

struct Sum {
    __device__ static float identity() { return 0.0f; }
    __device__ static float combine(float a, float b) { return a + b; }
};

struct Maximum {
    __device__ static float identity() { return -CUDART_INF_F; }
    __device__ static float combine(float a, float b) { return fmaxf(a, b); }
};

// The sum or maximum over the block's threads, given to all of them.
template <class Operation>
__device__ float over_block(float x) {
    __shared__ float of_warp[kWarps];
    for (int distance = kWarp / 2; distance > 0; distance /= 2) {
        x = Operation::combine(x, __shfl_xor_sync(0xffffffffu, x, distance));
    }
    if (threadIdx.x % kWarp == 0) of_warp[threadIdx.x / kWarp] = x;
    __syncthreads();
    x = Operation::identity();
    for (int warp = 0; warp < kWarps; ++warp) x = Operation::combine(x, of_warp[warp]);
    __syncthreads();  // before of_warp is written again
    return x;
}

template <class T>
__global__ void __launch_bounds__(kThreads) forward_row(T* logits, std::int64_t cols) {
    T* row = logits + blockIdx.x * cols;
    float top = -CUDART_INF_F;
    for (std::int64_t i = threadIdx.x; i < cols; i += kThreads) top = fmaxf(top, widen(row[i]));
    top = over_block<Maximum>(top);
    float total = 0.0f;
    for (std::int64_t i = threadIdx.x; i < cols; i += kThreads) total += expf(widen(row[i]) - top);
    total = over_block<Sum>(total);
    for (std::int64_t i = threadIdx.x; i < cols; i += kThreads) assign(row[i], expf(widen(row[i]) - top) / total);
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    backward_row(T* probabilities, const T* grad_out, const T* values, AttentionShape shape) {
    extern __shared__ float shared[];
    float* dp = shared;               // [keys]
    float* grad = dp + shape.keys;    // [channels]
    T* p = probabilities + blockIdx.x * shape.keys;
    const T* g = grad_out + blockIdx.x * shape.channels;
    const T* v = values + blockIdx.x / shape.queries * shape.keys * shape.channels;

    for (std::int64_t c = threadIdx.x; c < shape.channels; c += kThreads) grad[c] = widen(g[c]);
    __syncthreads();
    float total = 0.0f;
    for (std::int64_t k = threadIdx.x; k < shape.keys; k += kThreads) {
        float sum = 0.0f;
        for (std::int64_t c = 0; c < shape.channels; ++c) sum = fmaf(grad[c], widen(v[k * shape.channels + c]), sum);
        dp[k] = sum;  // read again by the same thread only
        total = fmaf(widen(p[k]), sum, total);
    }
    total = over_block<Sum>(total);
    for (std::int64_t k = threadIdx.x; k < shape.keys; k += kThreads) assign(p[k], widen(p[k]) * (dp[k] - total));
}

void require_rows(std::int64_t rows) {
    require(rows >= 0 && rows <= INT_MAX,
            "rows is " + std::to_string(rows) + ", expected 0 to " + std::to_string(INT_MAX));
}

template <class T>
void forward(T* logits, std::int64_t rows, std::int64_t cols, void* stream) {
    require_rows(rows);
    require(cols >= 0, "cols is " + std::to_string(cols) + ", expected 0 or more");
    if (rows == 0 || cols == 0) return;
    launch("softmax forward", forward_row<T>, rows, kThreads, 0, stream, logits, cols);
}

template <class T>
void backward(T* probabilities, const T* grad_out, const T* values, const AttentionShape& shape, void* stream) {
    require(shape.batch >= 0 && shape.queries >= 0 && shape.keys >= 0 && shape.channels >= 0,
            "a size is negative, expected 0 or more");
    const std::int64_t rows = shape.batch * shape.queries;
    require_rows(rows);
    if (rows == 0 || shape.keys == 0) return;

    const char* what = "softmax backward";
    // The block's own reduction takes a few static bytes beside this.
    const std::int64_t room =
        most_shared(what, current_device(what)) - static_cast<std::int64_t>(kWarps * sizeof(float));
    const std::int64_t bytes = (shape.keys + shape.channels) * static_cast<std::int64_t>(sizeof(float));
    require(bytes <= room, "keys + channels is " + std::to_string(shape.keys + shape.channels) + ", expected at most " +
                               std::to_string(room / static_cast<std::int64_t>(sizeof(float))) + " on this GPU");
    launch(what, backward_row<T>, rows, kThreads, static_cast<std::size_t>(bytes), stream, probabilities, grad_out,
           values, shape);
}

__nv_bfloat16* native(bfloat16* pointer) { return reinterpret_cast<__nv_bfloat16*>(pointer); }
const __nv_bfloat16* native(const bfloat16* pointer) { return reinterpret_cast<const __nv_bfloat16*>(pointer); }

}  // namespace

void cuda_softmax_forward(float* logits, std::int64_t rows, std::int64_t cols, void* stream) {
    forward(logits, rows, cols, stream);
}

void cuda_softmax_forward(bfloat16* logits, std::int64_t rows, std::int64_t cols, void* stream) {
    forward(native(logits), rows, cols, stream);
}

void cuda_softmax_backward(float* probabilities, const float* grad_out, const float* values,
                           const AttentionShape& shape, void* stream) {
    backward(probabilities, grad_out, values, shape, stream);
}

void cuda_softmax_backward(bfloat16* probabilities, const bfloat16* grad_out, const bfloat16* values,
                           const AttentionShape& shape, void* stream) {
    backward(native(probabilities), native(grad_out), native(values), shape, stream);
}

}  // namespace openfoldpp
