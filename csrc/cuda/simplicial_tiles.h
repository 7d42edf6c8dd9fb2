// What the kernels of 2-simplicial attention share: vectors on their way from device memory through shared memory
// into the fragments of matrix products.
//
// A factor of a product is the sum of Precision<T>::terms bfloat16: itself where T is bfloat16; where T is float,
// three of 8 bits each, which together have float's 24.
#pragma once

#include <instructions.h>

#include <cmath>
#include <type_traits>

#include "openfoldpp/bfloat16.h"
#include "openfoldpp/simplicial_attention.h"

namespace openfoldpp {
namespace {

constexpr int kWarp = 32;
constexpr int kWarps = 4;
constexpr int kThreads = kWarps * kWarp;
constexpr unsigned kAllLanes = 0xffffffffu;
constexpr int kPad = 8;  // elements after each row in shared memory: neighbouring rows lie in other banks
constexpr float kLog2e = 1.44269504088896341f;

template <class T>
struct Precision {
    static constexpr int terms = std::is_same<T, float>::value ? 3 : 1;
};

struct alignas(8) Pair {
    float x, y;
};

struct alignas(16) Quad {
    float x, y, z, w;
};

struct alignas(8) Words {
    std::uint32_t low, high;
};

struct Range {
    int begin, end;
    __device__ int size() const { return end > begin ? end - begin : 0; }
};

__device__ __forceinline__ float infinity() { return __int_as_float(0x7f800000); }

__device__ __forceinline__ float widen(float x) { return x; }
__device__ __forceinline__ float widen(bfloat16 x) { return __int_as_float(static_cast<int>(x.bits) << 16); }
__device__ __forceinline__ void assign(float& to, float x) { to = x; }
__device__ __forceinline__ void assign(bfloat16& to, float x) {
    to.bits = static_cast<std::uint16_t>(device::pack_bfloat16(x, 0.0f));
}

__device__ __forceinline__ Pair widen_pair(std::uint32_t word) {
    return {__int_as_float(static_cast<int>(word << 16)), __int_as_float(static_cast<int>(word & 0xffff0000u))};
}

// Two neighbouring elements, the first at an even place.
__device__ __forceinline__ Pair load_pair(const float* from) { return *reinterpret_cast<const Pair*>(from); }
__device__ __forceinline__ Pair load_pair(const bfloat16* from) {
    return widen_pair(*reinterpret_cast<const std::uint32_t*>(from));
}

template <class T>
__device__ __forceinline__ T* row_of(const HeadView<T>& view, std::int64_t b, std::int64_t h, std::int64_t i) {
    return view.data + b * view.batch_stride + h * view.head_stride + i * view.row_stride;
}

// What queries first..last may reach.
__device__ __forceinline__ Range reach(int first, int last, std::int64_t window, int length) {
    if (window < 0 || window >= length) return {0, length};
    const int w = static_cast<int>(window);
    return {first > w ? first - w : 0, last + w + 1 < length ? last + w + 1 : length};
}

// x and y as a sum of `terms` pairs of bfloat16.
template <int terms>
__device__ __forceinline__ void split(float x, float y, std::uint32_t (&words)[terms]) {
#pragma unroll
    for (int term = 0; term < terms; ++term) {
        words[term] = device::pack_bfloat16(x, y);
        if (term + 1 < terms) {
            const Pair rounded = widen_pair(words[term]);
            x -= rounded.x;
            y -= rounded.y;
        }
    }
}

// d += a * b over 16 rows, 16 columns and a depth of 16; b[term] as load_keys or load_values give it. With several
// terms the products are added up by themselves, small ones first: the tensor cores round sums toward zero, which a
// long sum shows.
template <int terms>
__device__ __forceinline__ void multiply_add(float (&left)[4], float (&right)[4], const std::uint32_t (&a)[terms][4],
                                             const std::uint32_t (&b)[terms][4]) {
    if (terms == 1) {
        device::multiply_add(left, a[0], b[0][0], b[0][1]);
        device::multiply_add(right, a[0], b[0][2], b[0][3]);
        return;
    }
    float sum_left[4] = {}, sum_right[4] = {};
#pragma unroll
    for (int order = terms - 1; order >= 0; --order) {
#pragma unroll
        for (int term = 0; term <= order; ++term) {
            device::multiply_add(sum_left, a[term], b[order - term][0], b[order - term][1]);
            device::multiply_add(sum_right, a[term], b[order - term][2], b[order - term][3]);
        }
    }
#pragma unroll
    for (int e = 0; e < 4; ++e) {
        left[e] += sum_left[e];
        right[e] += sum_right[e];
    }
}

// How a thread takes its share of kRows rows of kChannels elements of T: in passes, in each one a piece of 16 bytes.
template <int kRows, int kChannels, class T>
struct Pieces {
    static constexpr int piece = 16 / sizeof(T);
    static constexpr int of_row = kChannels / piece, step = kThreads / of_row;  // rows of a pass
    static constexpr int passes = (kRows + step - 1) / step;
    static constexpr bool whole = kRows % step == 0;  // whether the last pass has as many rows as the others
};

// Bit `pass`: whether this thread's piece in that pass is of a row that is kept, one of range.begin + [0, kRows)
// before range.end and not masked. The others count as zeros: a probability of zero does not undo a NaN.
template <int kRows, int kChannels, class T>
__device__ __forceinline__ unsigned kept_pieces(Range range, const float* mask) {
    using Share = Pieces<kRows, kChannels, T>;
    static_assert(Share::passes <= 32);
    const int first = range.begin + device::thread_index() / Share::of_row;
    unsigned kept = 0;
#pragma unroll
    for (int pass = 0; pass < Share::passes; ++pass) {
        const int row = first + pass * Share::step;
        if (row < range.end && (!mask || mask[row] != 0.0f)) kept |= 1u << pass;
    }
    return kept;
}

// Calls visit(kept, place, source) for each piece that this thread has of rows first_row + [0, kRows) of a matrix; its
// place is in [kRows][kChannels + kPad].
template <int kRows, int kChannels, int kUnroll, class T, class Visit>
__device__ __forceinline__ void for_pieces(const T* from, std::int64_t row_stride, int first_row, unsigned kept,
                                           Visit visit) {
    using Share = Pieces<kRows, kChannels, T>;
    const int thread = device::thread_index(), first = thread / Share::of_row;
    const int channel = thread % Share::of_row * Share::piece;
    const T* source = from + (first_row + first) * row_stride + channel;
#pragma unroll kUnroll
    for (int pass = 0; pass < Share::passes; ++pass, source += Share::step * row_stride) {
        const int row = first + pass * Share::step;
        if (Share::whole || row < kRows) visit((kept >> pass & 1) != 0, row * (kChannels + kPad) + channel, source);
    }
}

// Rows first_row + [0, kRows), begun to be copied as they are into to[kRows][kChannels + kPad]; zeros for those that
// are not `kept`, see kept_pieces().
template <int kRows, int kChannels, class T>
__device__ __forceinline__ void copy_rows(T* to, const T* from, std::int64_t row_stride, int first_row,
                                          unsigned kept) {
    for_pieces<kRows, kChannels, 8>(
        from, row_stride, first_row, kept,
        [&](bool wanted, int place, const T* source) { device::copy_async(to + place, source, wanted); });
}

// As copy_rows, into to[terms][kRows][kChannels + kPad].
template <int kRows, int kChannels>
__device__ __forceinline__ void copy_split(bfloat16* to, const bfloat16* from, std::int64_t row_stride, int first_row,
                                           unsigned kept) {
    copy_rows<kRows, kChannels>(to, from, row_stride, first_row, kept);
}

template <int kRows, int kChannels>
__device__ __forceinline__ void copy_split(bfloat16* to, const float* from, std::int64_t row_stride, int first_row,
                                           unsigned kept) {
    constexpr int terms = Precision<float>::terms;
    const auto split_piece = [&](bool wanted, int place, const float* source) {
        Quad values = {};
        if (wanted) values = *reinterpret_cast<const Quad*>(source);
        std::uint32_t low[terms], high[terms];
        split(values.x, values.y, low);
        split(values.z, values.w, high);
#pragma unroll
        for (int term = 0; term < terms; ++term) {
            bfloat16* words = to + term * kRows * (kChannels + kPad) + place;
            *reinterpret_cast<Words*>(words) = {low[term], high[term]};
        }
    };
    // Few at a time: values on their way fill registers, where copy_async needs none.
    for_pieces<kRows, kChannels, 2>(from, row_stride, first_row, kept, split_piece);
}

// A fragment of rows [16] of factor * tile, element by element: channels 16 c to 16 c + 15.
template <int kChannels, class T, int terms>
__device__ __forceinline__ void product_fragment(std::uint32_t (&a)[terms][4], const T* tile, const float* factor,
                                                 int c) {
    const int lane = threadIdx.x % kWarp, row = lane / 4, channel = 16 * c + lane % 4 * 2;
#pragma unroll
    for (int part = 0; part < 4; ++part) {
        const int column = channel + part / 2 * 8;
        const Pair x = load_pair(tile + (row + part % 2 * 8) * (kChannels + kPad) + column);
        const Pair y = load_pair(factor + column);
        std::uint32_t words[terms];
        split(x.x * y.x, x.y * y.y, words);
#pragma unroll
        for (int term = 0; term < terms; ++term) a[term][part] = words[term];
    }
}

// As product_fragment, of the tile alone.
template <int kChannels>
__device__ __forceinline__ void row_fragment(std::uint32_t (&a)[1][4], const bfloat16* tile, int c) {
    const int lane = threadIdx.x % kWarp, row = lane / 4, channel = 16 * c + lane % 4 * 2;
#pragma unroll
    for (int part = 0; part < 4; ++part) {
        const bfloat16* place = tile + (row + part % 2 * 8) * (kChannels + kPad) + channel + part / 2 * 8;
        a[0][part] = *reinterpret_cast<const std::uint32_t*>(place);
    }
}

// What load_keys gave, times a factor that bfloat16 holds exactly.
__device__ __forceinline__ void multiply_keys(std::uint32_t (&b)[1][4], const float* factor, int c) {
    const int channel = 16 * c + threadIdx.x % 4 * 2;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        const Pair x = load_pair(factor + channel + 8 * half);
        const std::uint32_t pair = device::pack_bfloat16(x.x, x.y);
        b[0][half] = device::multiply_pairs(b[0][half], pair);
        b[0][half + 2] = device::multiply_pairs(b[0][half + 2], pair);
    }
}

// For products with rows of a tile [terms][kRows][kChannels + kPad] as columns: keys 16 n to 16 n + 15, channels
// 16 c to 16 c + 15.
template <int kRows, int kChannels, int terms>
__device__ __forceinline__ void load_keys(std::uint32_t (&b)[terms][4], const bfloat16* tile, int n, int c) {
    const int lane = threadIdx.x % kWarp;
    const int key = 16 * n + lane % 8 + lane / 16 * 8, channel = 16 * c + lane / 8 % 2 * 8;
#pragma unroll
    for (int term = 0; term < terms; ++term) {
        device::load_matrices(b[term], tile + (term * kRows + key) * (kChannels + kPad) + channel);
    }
}

// For products with rows of the tile as rows.
template <int kRows, int kChannels, int terms>
__device__ __forceinline__ void load_values(std::uint32_t (&b)[terms][4], const bfloat16* tile, int n, int c) {
    const int lane = threadIdx.x % kWarp;
    const int key = 16 * n + lane % 16, channel = 16 * c + lane / 16 * 8;
#pragma unroll
    for (int term = 0; term < terms; ++term) {
        device::load_transposed(b[term], tile + (term * kRows + key) * (kChannels + kPad) + channel);
    }
}

// Two neighbouring n-tiles of a result, as a factor from the left of the next product.
template <int terms>
__device__ __forceinline__ void as_left(std::uint32_t (&a)[terms][4], const float (&left)[4],
                                        const float (&right)[4]) {
#pragma unroll
    for (int part = 0; part < 4; ++part) {
        const float(&half)[4] = part < 2 ? left : right;
        std::uint32_t words[terms];
        split(half[part % 2 * 2], half[part % 2 * 2 + 1], words);
#pragma unroll
        for (int term = 0; term < terms; ++term) a[term][part] = words[term];
    }
}

// sums [rows][channels] += weights [rows][keys 16 n to 16 n + 15] * those rows of the tile, from its first channel on.
template <int kRows, int kChannels, int terms, int row_tiles, int channel_tiles, int n_tiles>
__device__ __forceinline__ void add_product(float (&sums)[row_tiles][channel_tiles][4],
                                            const float (&weights)[row_tiles][n_tiles][4], const bfloat16* tile,
                                            int n) {
    std::uint32_t left[row_tiles][terms][4];
#pragma unroll
    for (int r = 0; r < row_tiles; ++r) as_left(left[r], weights[r][2 * n], weights[r][2 * n + 1]);
#pragma unroll
    for (int c = 0; c < channel_tiles / 2; ++c) {
        if (terms > 1) __syncwarp();  // keeps ptxas from loading all at once, for which there are no registers
        std::uint32_t right[terms][4];
        load_values<kRows, kChannels>(right, tile, n, c);
#pragma unroll
        for (int r = 0; r < row_tiles; ++r) multiply_add(sums[r][2 * c], sums[r][2 * c + 1], left[r], right);
    }
}

__device__ __forceinline__ float over_warp_maximum(float x) {
    for (int distance = kWarp / 2; distance > 0; distance /= 2) {
        x = fmaxf(x, __shfl_xor_sync(kAllLanes, x, distance));
    }
    return x;
}

// The sum over the lanes that differ in the bits of `from` and above.
__device__ __forceinline__ float over_lanes(float x, int from) {
    for (int distance = kWarp / 2; distance >= from; distance /= 2) x += __shfl_xor_sync(kAllLanes, x, distance);
    return x;
}

}  // namespace
}  // namespace openfoldpp
