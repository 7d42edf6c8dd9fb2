// What each instruction set offers to simplicial_attention.cpp.
//
// For one query, the logits of all pairs are a matrix: one key of the pair runs down its rows, the other along its
// columns. Which is which makes no difference to the result, and simplicial_attention.cpp chooses the cheaper way.
#pragma once

#include <cstdint>

namespace openfoldpp {

// One of the two keys of a pair. Only the keys that the mask keeps are here, side by side: `count` in all.
// Matrices are packed as right matrices of gemm.h: keys deep, channels across.
struct SimplicialSide {
    const float* keys;
    const float* values;
    float* d_keys;  // [count][wide], added to by backward
    float* d_values;
    std::int64_t window;  // -1: none
};

// One head of one batch element.
struct SimplicialHead {
    std::int64_t length, count, channels;
    const std::int64_t* place;           // [count]: where each key stands in the sequence
    const std::int64_t* counted_before;  // [length + 1]: keys among the first i that count
    SimplicialSide row, column;
    const float* column_keys_t;    // [channels][transposed_stride], count + width floats in use
    const float* column_values_t;  // for backward alone
    std::int64_t transposed_stride;
    float scale;
    const float* q;  // [length], q_row apart
    std::int64_t q_row;
    const float* bias;  // [length], bias_row apart; or null
    std::int64_t bias_row;
    bool bias_on_rows;  // the bias belongs to the key of the rows, else to that of the columns
    float* out;         // [length], out_row apart
    std::int64_t out_row;
    float* statistics;  // [length][2], or null

    // Backward alone, which has no `out`.
    const float* known_statistics;
    const float* d_out;
    std::int64_t d_out_row;
    float* d_q;
    std::int64_t d_q_row;
    float* d_bias;  // or null
    std::int64_t d_bias_row;
};

struct SimplicialKernels {
    int tile_rows;  // rows of a product are rounded up to whole tiles, columns to whole registers

    // keys[count][channels], `stride` apart, as a packed matrix of count * (channels in whole registers) floats.
    void (*pack)(const float* keys, std::int64_t count, std::int64_t channels, float* packed);

    // Floats of scratch memory, cache-line aligned.
    std::int64_t (*forward_scratch)(const SimplicialHead&);
    std::int64_t (*backward_scratch)(const SimplicialHead&);

    // Queries from `begin` to `end`.
    void (*forward)(const SimplicialHead&, std::int64_t begin, std::int64_t end, float* scratch);
    void (*backward)(const SimplicialHead&, std::int64_t begin, std::int64_t end, float* scratch);
};

}  // namespace openfoldpp
