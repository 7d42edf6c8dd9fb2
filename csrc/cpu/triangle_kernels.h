// What each instruction set offers to triangle_multiplication.cpp. Strides are in floats; packed matrices are
// as matrix.h makes them.
#pragma once

#include <cstdint>

namespace openfoldpp {

// x[i][j] = sum over k of left[i][k] * right[j][k], for each hidden channel.
struct TriangleArguments {
    std::int64_t n, channels, hidden;
    const float* z;  // element (i, j, channel) of the update at i * z_row + j * z_column + channel
    std::int64_t z_row, z_column;
    // Where left and right read z for (i, k): (z_row, z_column) for the outgoing edges, swapped for the incoming.
    std::int64_t edge_row, edge_column;
    const float* mask;  // read as z is, by (i, k); or null
    std::int64_t mask_row, mask_column;
    const float* norm_weight;
    const float* norm_bias;
    float eps;
    const float* left_gate;  // packed [channels][hidden]; left, right_gate, right too
    const float* left_gate_bias;
    const float* left;
    const float* left_bias;
    const float* right_gate;
    const float* right_gate_bias;
    const float* right;
    const float* right_bias;
    const float* norm_out_weight;
    const float* norm_out_bias;
    float eps_out;
    const float* gate;  // packed [channels][channels]
    const float* gate_bias;
    const float* output;  // packed [hidden][channels]
    const float* output_bias;
    const float* residual;  // added to the update, may be `z`; or null
    std::int64_t residual_row, residual_column;
    float* out;  // may be `z`
    std::int64_t out_row, out_column;
    float* edges;  // both edge tensors, of as many floats as edge_floats gives
};

struct TriangleKernels {
    std::int64_t (*edge_floats)(const TriangleArguments& a);
    // First all of project, in blocks; then all of products, by channels; then all of combine, by rows.
    std::int64_t (*project_scratch)(const TriangleArguments& a);
    std::int64_t (*project_blocks)(const TriangleArguments& a);
    void (*project)(const TriangleArguments& a, std::int64_t begin, std::int64_t end, float* scratch);
    std::int64_t (*product_scratch)(const TriangleArguments& a);
    void (*products)(const TriangleArguments& a, std::int64_t begin, std::int64_t end, float* scratch);
    std::int64_t (*combine_scratch)(const TriangleArguments& a);
    void (*combine)(const TriangleArguments& a, std::int64_t begin, std::int64_t end, float* scratch);
};

}  // namespace openfoldpp
