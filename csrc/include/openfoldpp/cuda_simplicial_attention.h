// The CUDA forms of simplicial_attention.h: device pointers, a stream, and float32 or bfloat16 elements.
#pragma once

#include <cstdint>

#include "openfoldpp/bfloat16.h"
#include "openfoldpp/simplicial_attention.h"

namespace openfoldpp {

// As simplicial_attention() on device memory, queued on `stream`, a cudaStream_t. 16, 32, 64 or 128 channels; the
// vectors of q, k, k2, v, v2 begin at multiples of 16 bytes. statistics: [batch][heads][length][2] or null: a
// number near the query's largest logit, and 1 / the sum of e^(logit - number), which backward needs.
//
// Matrix products run on the tensor cores with float32 sums. bfloat16: q_i * k_j and the probabilities are rounded to
// bfloat16. float32: every factor is the sum of three bfloat16, and the six largest of the nine products are added:
// nearly float32's own precision at a sixth of the speed.
//
// Throw std::invalid_argument for sizes, strides or addresses that do not fit, and std::runtime_error with CUDA's
// message where a launch fails.
void cuda_simplicial_attention(const SimplicialInputs<float>& inputs, const HeadView<float>& out, float* statistics,
                               void* stream);
void cuda_simplicial_attention(const SimplicialInputs<bfloat16>& inputs, const HeadView<bfloat16>& out,
                               float* statistics, void* stream);

// Bytes of device memory that cuda_simplicial_attention_backward() needs to work in, at a multiple of 16; of the
// inputs only sizes and windows are looked at. A number of copies of q, in float32, that grows with the multiprocessors
// of the current GPU and not with the batch.
std::int64_t cuda_simplicial_workspace(const SimplicialInputs<float>& inputs);
std::int64_t cuda_simplicial_workspace(const SimplicialInputs<bfloat16>& inputs);

// As simplicial_attention_backward(), with the statistics of cuda_simplicial_attention() and the same rules. A result
// has the same bits at every run on the same GPU.
void cuda_simplicial_attention_backward(const SimplicialInputs<float>& inputs, const HeadView<const float>& out,
                                        const float* statistics, const HeadView<const float>& d_out,
                                        const SimplicialGradients<float>& gradients, void* memory, void* stream);
void cuda_simplicial_attention_backward(const SimplicialInputs<bfloat16>& inputs, const HeadView<const bfloat16>& out,
                                        const float* statistics, const HeadView<const bfloat16>& d_out,
                                        const SimplicialGradients<bfloat16>& gradients, void* memory, void* stream);

}  // namespace openfoldpp
