// The CUDA forms of softmax.h: device pointers, sizes and a stream.
#pragma once

#include <cstdint>

#include "openfoldpp/softmax.h"

namespace openfoldpp {

// As softmax_forward and softmax_backward of softmax.h, on device memory; bfloat16 is passed as bfloat16*.
// Both only queue the work on `stream`, a cudaStream_t. Throw std::invalid_argument for a negative size or one
// beyond what a launch can have, and std::runtime_error with CUDA's message where the launch fails.
void cuda_softmax_forward(float* logits, std::int64_t rows, std::int64_t cols, void* stream);
void cuda_softmax_forward(bfloat16* logits, std::int64_t rows, std::int64_t cols, void* stream);
void cuda_softmax_backward(float* probabilities, const float* grad_out, const float* values,
                           const AttentionShape& shape, void* stream);
void cuda_softmax_backward(bfloat16* probabilities, const bfloat16* grad_out, const bfloat16* values,
                           const AttentionShape& shape, void* stream);

}  // namespace openfoldpp
