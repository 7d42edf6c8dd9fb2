// Every kernel, compiled for the Vec of the vec_*.h that is included first.
//
// Everything is in an unnamed namespace and uses no template of the standard library: a function shared by
// files compiled for different instruction sets could be linked in its AVX-512 form into the scalar path.
#pragma once

#include "attention_rows.h"
#include "kernels.h"
#include "linear_rows.h"
#include "outer_product_rows.h"
#include "point_attention_rows.h"
#include "simplicial_backward_rows.h"
#include "simplicial_rows.h"
#include "softmax_rows.h"
#include "transition_rows.h"
#include "triangle_rows.h"

namespace openfoldpp {
namespace {

constexpr Kernels kAllKernels = {
    Vec::width,
    kPanel,
    {softmax_forward_row, softmax_backward_row, kBlock},
    {attention_scratch, attention_rows, pair_bias_scratch, pair_bias_rows},
    {transition_scratch, transition_rows},
    {triangle_edge_floats, triangle_project_scratch, triangle_project_blocks, triangle_project,
     triangle_product_scratch, triangle_products, triangle_combine_scratch, triangle_combine},
    {point_projected_floats, point_project_scratch, point_project, point_attend_scratch, point_attend},
    {outer_product_left_floats, outer_product_right_floats, outer_product_project_scratch, outer_product_project,
     outer_product_items, outer_product_scratch, outer_product_products},
    {kTileRows, simplicial_pack, simplicial_forward_scratch, simplicial_backward_scratch, simplicial_forward,
     simplicial_backward},
    {norm_rows, linear_scratch, linear_rows},
};

}  // namespace
}  // namespace openfoldpp
