// What each instruction set offers to invariant_point_attention.cpp. Strides are in floats; packed matrices are as
// matrix.h makes them.
#pragma once

#include <cstdint>

namespace openfoldpp {

struct PointAttentionArguments {
    std::int64_t n, channels, pair_channels, heads, head_channels, query_points, value_points;
    const float* s;  // element (i, channel) at i * s_row + channel
    std::int64_t s_row;
    const float* z;  // element (i, j, channel) at i * z_row + j * z_column + channel
    std::int64_t z_row, z_column;
    const float* rotations;     // [n][3][3], from the frame of a residue to the global one
    const float* translations;  // [n][3]
    const float* mask;          // [n], 1 where a residue counts, or null
    float inf, eps, scalar_scale, pair_scale;
    const float* point_scale;  // [heads], what a sum of squared distances is multiplied with
    const float* projection;   // packed [channels][queries, keys and values, query points, key and value points]
    const float* projection_bias;
    const float* pair;  // packed [pair_channels][heads]
    const float* pair_bias;
    const float* output;  // packed [features][channels]
    const float* output_bias;
    float* out;
    std::int64_t out_row;
    float* projected;  // as many floats as projected_floats gives
};

struct PointAttentionKernels {
    std::int64_t (*projected_floats)(const PointAttentionArguments& a);
    // First all rows of project, then those of attend.
    std::int64_t (*project_scratch)(const PointAttentionArguments& a);
    void (*project)(const PointAttentionArguments& a, std::int64_t begin, std::int64_t end, float* scratch);
    std::int64_t (*attend_scratch)(const PointAttentionArguments& a);
    void (*attend)(const PointAttentionArguments& a, std::int64_t begin, std::int64_t end, float* scratch);
};

}  // namespace openfoldpp
