// What each instruction set offers to outer_product_mean.cpp. Strides are in floats; packed matrices are as
// matrix.h makes them.
#pragma once

#include <cstdint>

namespace openfoldpp {

struct OuterProductArguments {
    std::int64_t sequences, residues, channels, hidden, outputs;
    bool factorised;  // which of the two forms of outer_product_rows.h
    const float* m;   // element (sequence, residue, channel) at sequence * m_sequence + residue * m_residue + channel
    std::int64_t m_sequence, m_residue;
    const float* mask;  // or null
    std::int64_t mask_sequence, mask_residue;
    const float* norm_weight;
    const float* norm_bias;
    float eps;
    const float* left;  // packed [channels][hidden]
    const float* left_bias;
    const float* right;  // packed [channels][hidden]
    const float* right_bias;
    const float* output;  // packed [hidden of right][hidden of left][outputs]
    const float* output_bias;
    float eps_mask;
    const float* residual;  // added to the update, may be `out`; or null
    std::int64_t residual_row, residual_column;
    float* out;
    std::int64_t out_row, out_column;
    float* left_projection;   // of left_floats
    float* right_projection;  // of right_floats
    float* dense_mask;        // [sequences][residues] where there is a mask
};

struct OuterProductKernels {
    std::int64_t (*left_floats)(const OuterProductArguments& a);
    std::int64_t (*right_floats)(const OuterProductArguments& a);
    // First all of project, by positions of m, sequence by sequence; then all of products, in items.
    std::int64_t (*project_scratch)(const OuterProductArguments& a);
    void (*project)(const OuterProductArguments& a, std::int64_t begin, std::int64_t end, float* scratch);
    std::int64_t (*items)(const OuterProductArguments& a);
    std::int64_t (*product_scratch)(const OuterProductArguments& a);
    void (*products)(const OuterProductArguments& a, std::int64_t begin, std::int64_t end, float* scratch);
};

}  // namespace openfoldpp
