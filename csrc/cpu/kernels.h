// The kernels of one instruction set: kernels_<level>.cpp has them, the ops' own files call them.
#pragma once

#include "attention_kernels.h"
#include "linear_kernels.h"
#include "outer_product_kernels.h"
#include "point_attention_kernels.h"
#include "simplicial_kernels.h"
#include "softmax_kernels.h"
#include "transition_kernels.h"
#include "triangle_kernels.h"

namespace openfoldpp {

struct Kernels {
    int width;  // floats in a register
    int panel;  // columns in a panel of a packed matrix, see gemm.h
    SoftmaxKernels softmax;
    AttentionKernels attention;
    TransitionKernels transition;
    TriangleKernels triangle;
    PointAttentionKernels point_attention;
    OuterProductKernels outer_product;
    SimplicialKernels simplicial;
    LinearKernels linear;
};

extern const Kernels kernels_scalar;
extern const Kernels kernels_neon;
extern const Kernels kernels_avx2;
extern const Kernels kernels_avx512;

// Those of the level in use.
const Kernels& kernels();

}  // namespace openfoldpp
