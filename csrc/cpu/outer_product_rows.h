// Outer product mean (AlphaFold 2 supplement, algorithm 10), written once for every vec_*.h; include one of
// those first.
//
// update[i][j][c] = sum over s, d, e of left[s][i][d] * right[s][j][e] * output[c][d][e], then bias and norm. Two
// orders of summation, both exact:
//   factorised: T[s][e][c] = sum over d of left[s][i][d] * output[c][d][e] for each i, then the sum over (s, e) of
//     right[s][j][e] * T[s][e][c]. The sum is as long as there are sequences.
//   general: outer[e][d] = sum over s of left[s][i][d] * right[s][j][e] for each pair, then the sum over (e, d).
//     Its second product does not grow with the sequences.
#pragma once

#include "layer_norm.h"
#include "outer_product_kernels.h"

namespace openfoldpp {
namespace {

constexpr int kOuterPositions = 8 * kTileRows;          // positions of m projected together
constexpr int kLeftResidues = 16, kRightResidues = 3;   // of an item of the general form
constexpr int kGroup = 4;                               // residues whose columns together are whole panels
constexpr int kSequences = 256;                         // summed at a time, their projections in the cache
constexpr std::int64_t kFactorFloats = 1 << 16;         // of T for the residues taken together, in the cache
static_assert(kLeftResidues % kGroup == 0 && kGroup % kTileVecs == 0);
static_assert(kLeftResidues * kRightResidues % kTileRows == 0);

// How the projections lie in memory. Factorised: both [residue][sequence][hidden]. General, for each run of
// kSequences: left packed as gemm.h has it, with `wide` columns for each residue; right in blocks of
// kRightResidues residues, each [sequence][kRightResidues][hidden].
struct OuterProductLayout {
    const OuterProductArguments& a;
    std::int64_t wide;          // hidden, in whole registers
    std::int64_t right_blocks;
    std::int64_t block_width;   // floats of a block of right for one sequence

    explicit OuterProductLayout(const OuterProductArguments& arguments)
        : a(arguments),
          wide(round_up(a.hidden, Vec::width)),
          right_blocks((a.residues + kRightResidues - 1) / kRightResidues),
          block_width(kRightResidues * a.hidden) {}

    std::int64_t depth(std::int64_t run) const {
        return a.sequences - run < kSequences ? a.sequences - run : kSequences;
    }
    std::int64_t left_index(std::int64_t s, std::int64_t i, std::int64_t d) const {
        if (a.factorised) return (i * a.sequences + s) * a.hidden + d;
        const std::int64_t run = s - s % kSequences;
        return run * a.residues * wide + packed_index(s - run, i * wide + d, depth(run), a.residues * wide);
    }
    std::int64_t right_index(std::int64_t s, std::int64_t j) const {
        if (a.factorised) return (j * a.sequences + s) * a.hidden;
        const std::int64_t run = s - s % kSequences;
        return right_block(run, j / kRightResidues) + (s - run) * block_width + j % kRightResidues * a.hidden;
    }
    std::int64_t right_block(std::int64_t run, std::int64_t block) const {
        return (run * right_blocks + block * depth(run)) * block_width;
    }
    // Floats from the outer product of one pair to that of the next; the odd line keeps rows off each other's
    // cache sets.
    std::int64_t outer_stride() const { return round_up(a.hidden * a.hidden, 16) + 16; }
    std::int64_t factor_floats() const { return a.sequences * a.hidden * round_up(a.outputs, Vec::width); }
    // Residues i for which the factorised form has T at a time.
    std::int64_t factors() const {
        const std::int64_t each = factor_floats(), fitting = each > 0 ? kFactorFloats / each : 1;
        if (fitting < kTileRows) return fitting > 1 ? fitting : 1;
        return fitting - fitting % kTileRows;
    }
};

inline std::int64_t outer_product_left_floats(const OuterProductArguments& a) {
    return a.sequences * a.residues * (a.factorised ? a.hidden : round_up(a.hidden, Vec::width));
}

inline std::int64_t outer_product_right_floats(const OuterProductArguments& a) {
    if (a.factorised) return a.sequences * a.residues * a.hidden;
    const OuterProductLayout layout(a);
    return a.sequences * layout.right_blocks * layout.block_width + kTileRows;  // DepthMajor reads past the end
}

inline std::int64_t outer_product_project_scratch(const OuterProductArguments& a) {
    return kOuterPositions * a.channels;
}

inline void outer_product_project(const OuterProductArguments& a, std::int64_t begin, std::int64_t end,
                                  float* scratch) {
    const OuterProductLayout layout(a);
    float* normed = scratch;
    for (std::int64_t first = begin; first < end; first += kOuterPositions) {
        const std::int64_t count = end - first < kOuterPositions ? end - first : kOuterPositions;
        std::int64_t sequence[kOuterPositions], residue[kOuterPositions];
        float mask[kOuterPositions];
        for (std::int64_t p = 0; p < count; ++p) {
            const std::int64_t s = (first + p) / a.residues, i = first + p - s * a.residues;
            sequence[p] = s;
            residue[p] = i;
            mask[p] = 1.0f;
            if (a.mask) {
                mask[p] = a.mask[s * a.mask_sequence + i * a.mask_residue];
                a.dense_mask[first + p] = mask[p];
            }
            layer_norm(a.m + s * a.m_sequence + i * a.m_residue, a.channels, a.norm_weight, a.norm_bias, a.eps,
                       normed + p * a.channels);
        }
        const auto project = [&](const float* weight, const auto& keep) {
            multiply(RowMajor{normed, a.channels}, count, weight, a.channels, a.hidden, keep);
        };
        project(a.left, [&](std::int64_t p, std::int64_t d, Vec sum) {
            sum = (sum + load(a.left_bias + d)) * broadcast(mask[p]);
            float* to = a.left_projection + layout.left_index(sequence[p], residue[p], d);
            put(to, sum, a.factorised ? a.hidden - d : Vec::width);
        });
        project(a.right, [&](std::int64_t p, std::int64_t e, Vec sum) {
            sum = (sum + load(a.right_bias + e)) * broadcast(mask[p]);
            put(a.right_projection + layout.right_index(sequence[p], residue[p]) + e, sum, a.hidden - e);
        });
    }
}

// scale[x] = 1 / norm of the pair (fixed, first + x), whichever of the two is i.
inline void outer_product_scales(const OuterProductArguments& a, std::int64_t fixed, std::int64_t first,
                                 std::int64_t count, float* scale) {
    for (std::int64_t x = 0; x < count; x += Vec::width) {
        Vec norm = broadcast(a.mask ? 0.0f : static_cast<float>(a.sequences));
        for (std::int64_t s = 0; a.mask && s < a.sequences; ++s) {
            const float* row = a.dense_mask + s * a.residues;
            norm = multiply_add(broadcast(row[fixed]), get(row + first + x, count - x), norm);
        }
        put(scale + x, broadcast(1.0f) / (norm + broadcast(a.eps_mask)), count - x);
    }
}

// The epilogue for pairs side by side in a row of out: bias, norm, residual. By value, so that its members are one
// load away: with one sequence the products are short.
struct OuterProductFinish {
    const float* bias;
    const float* scale;  // 1 / norm of each pair
    const float* residual;
    float* out;
    std::int64_t residual_column, out_column, outputs;

    OuterProductFinish(const OuterProductArguments& a, std::int64_t i, std::int64_t j, const float* scale_of_pair)
        : bias(a.output_bias),
          scale(scale_of_pair),
          residual(a.residual ? a.residual + i * a.residual_row + j * a.residual_column : nullptr),
          out(a.out + i * a.out_row + j * a.out_column),
          residual_column(a.residual_column),
          out_column(a.out_column),
          outputs(a.outputs) {}

    void operator()(std::int64_t pair, std::int64_t c, Vec sum) const {
        const std::int64_t left = outputs - c;
        sum = (sum + load(bias + c)) * broadcast(scale[pair]);
        if (residual) {
            const float* at = residual + pair * residual_column + c;
            sum = sum + get(at, left);
            __builtin_prefetch(at + 2 * kTileRows * residual_column);  // for the tile after the next
        }
        put(out + pair * out_column + c, sum, left);
    }
};

// T of the residues from `first` on, one packed [sequence][hidden of right][outputs] for each.
inline void outer_product_factors(const OuterProductArguments& a, std::int64_t first, std::int64_t count,
                                  float* factors) {
    const OuterProductLayout layout(a);
    const std::int64_t h = a.hidden, plane = layout.factor_floats(), all = count * a.sequences;
    for (std::int64_t row = 0; row < all; row += kOuterPositions) {
        const std::int64_t rows = all - row < kOuterPositions ? all - row : kOuterPositions;
        std::int64_t residue_at[kOuterPositions], step[kOuterPositions];
        for (std::int64_t r = 0; r < rows; ++r) {
            const std::int64_t i = (row + r) / a.sequences;
            residue_at[r] = i * plane;
            step[r] = (row + r - i * a.sequences) * h;
        }
        const RowMajor left = {a.left_projection + (first * a.sequences + row) * h, h};
        for (std::int64_t column = 0; column < a.outputs; column += kPanel) {
            const std::int64_t width = panel_width(column, a.outputs);
            const float* panel = a.output + column * h * h;
            float* to = factors + column * a.sequences * h;
            for (std::int64_t e = 0; e < h; ++e) {
                multiply(left, rows, panel + e * h * width, h, width, [&](std::int64_t r, std::int64_t c, Vec sum) {
                    store(to + residue_at[r] + (step[r] + e) * width + c, sum);
                });
            }
        }
    }
}

// One residue i for each step from begin to end.
inline void outer_product_factorised(const OuterProductArguments& a, std::int64_t begin, std::int64_t end,
                                     float* scratch) {
    const OuterProductLayout layout(a);
    const std::int64_t n = a.residues, depth = a.sequences * a.hidden, block = layout.factors();
    float* scale = scratch;
    float* factors = scale + round_up(n, 16);
    for (std::int64_t first = begin; first < end; first += block) {
        const std::int64_t count = end - first < block ? end - first : block;
        outer_product_factors(a, first, count, factors);
        for (std::int64_t i = first; i < first + count; ++i) {
            outer_product_scales(a, i, 0, n, scale);
            const float* factor = factors + (i - first) * layout.factor_floats();
            for (std::int64_t j0 = 0; j0 < n; j0 += kOuterPositions) {
                const std::int64_t rows = n - j0 < kOuterPositions ? n - j0 : kOuterPositions;
                multiply(RowMajor{a.right_projection + j0 * depth, depth}, rows, factor, depth, a.outputs,
                         OuterProductFinish(a, i, j0, scale + j0));
            }
        }
    }
}

// One block of kLeftResidues x kRightResidues pairs for each step from begin to end.
inline void outer_product_general(const OuterProductArguments& a, std::int64_t begin, std::int64_t end,
                                  float* scratch) {
    const OuterProductLayout layout(a);
    float* outer = scratch;
    const std::int64_t n = a.residues, h = a.hidden, wide = layout.wide, stride = layout.outer_stride();
    for (std::int64_t item = begin; item < end; ++item) {
        const std::int64_t block = item % layout.right_blocks;
        const std::int64_t i0 = item / layout.right_blocks * kLeftResidues, j0 = block * kRightResidues;
        const std::int64_t left_count = n - i0 < kLeftResidues ? n - i0 : kLeftResidues;
        const std::int64_t right_count = n - j0 < kRightResidues ? n - j0 : kRightResidues;
        for (std::int64_t run = 0; run < a.sequences; run += kSequences) {
            const std::int64_t depth = layout.depth(run);
            const DepthMajor right = {a.right_projection + layout.right_block(run, block), layout.block_width};
            for (std::int64_t group = 0; group < left_count; group += kGroup) {
                const std::int64_t residues = left_count - group < kGroup ? left_count - group : kGroup;
                const float* left = a.left_projection + run * n * wide + (i0 + group) * wide * depth;
                multiply(right, right_count * h, left, depth, residues * wide,
                         [&](std::int64_t r, std::int64_t c, Vec sum) {
                             const std::int64_t j = (r >= h) + (r >= 2 * h);
                             const std::int64_t i = (c >= wide) + (c >= 2 * wide) + (c >= 3 * wide);
                             const std::int64_t e = r - j * h, d = c - i * wide;
                             float* to = outer + ((group + i) * right_count + j) * stride + e * h + d;
                             put(to, run == 0 ? sum : sum + get(to, h - d), h - d);
                         });
            }
        }
        float scale[kRightResidues][kLeftResidues];
        for (std::int64_t j = 0; j < right_count; ++j) {
            outer_product_scales(a, j0 + j, i0, left_count, scale[j]);
        }
        multiply(RowMajor{outer, stride}, left_count * right_count, a.output, h * h, a.outputs,
                 [&](std::int64_t pair, std::int64_t c, Vec sum) {
                     const std::int64_t i = pair / right_count, j = pair - i * right_count;
                     OuterProductFinish(a, i0 + i, j0 + j, &scale[j][i])(0, c, sum);
                 });
    }
}

inline std::int64_t outer_product_items(const OuterProductArguments& a) {
    if (a.factorised) return a.residues;
    return (a.residues + kLeftResidues - 1) / kLeftResidues * OuterProductLayout(a).right_blocks;
}

inline std::int64_t outer_product_scratch(const OuterProductArguments& a) {
    const OuterProductLayout layout(a);
    if (a.factorised) {
        return round_up(a.residues, 16) + layout.factors() * layout.factor_floats();
    }
    return kLeftResidues * kRightResidues * layout.outer_stride();
}

inline void outer_product_products(const OuterProductArguments& a, std::int64_t begin, std::int64_t end,
                                   float* scratch) {
    if (a.factorised) {
        outer_product_factorised(a, begin, end, scratch);
    } else {
        outer_product_general(a, begin, end, scratch);
    }
}

}  // namespace
}  // namespace openfoldpp
