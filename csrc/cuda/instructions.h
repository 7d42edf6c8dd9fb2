// The instructions of the GPU that C++ has no words for (sm_80 and later), one function each. Everything else in
// the kernels is C++, so the tests can run them on a CPU with these functions replaced by loops
// (csrc/tests/cuda_shim/instructions.h, found first there).
//
// Fragments of matrix products: with g = lane / 4 and t = lane % 4, a thread holds
//   a [16 rows][16]: a[0] row g, columns 2t and 2t+1; a[1] row g+8; a[2] row g, columns 2t+8 and 2t+9; a[3] row g+8
//   b [16][8 columns]: b0 rows 2t and 2t+1 of column g; b1 rows 2t+8 and 2t+9
//   d [16 rows][8 columns]: d[0], d[1] row g, columns 2t and 2t+1; d[2], d[3] row g+8
// with two bfloat16 in a word, the first in its lower half.
#pragma once

#include <cstdint>

namespace openfoldpp::device {

// The block's dynamic shared memory.
__device__ __forceinline__ unsigned char* shared_memory() {
    extern __shared__ __align__(16) unsigned char memory[];
    return memory;
}

// threadIdx.x, read anew at each call: what follows from it is then not kept in registers that others need.
__device__ __forceinline__ int thread_index() {
    int index;
    asm volatile("mov.u32 %0, %%tid.x;" : "=r"(index));
    return index;
}

// d += a * b, products and sums in float32.
__device__ __forceinline__ void multiply_add(float (&d)[4], const std::uint32_t (&a)[4], std::uint32_t b0,
                                             std::uint32_t b1) {
    asm(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// Four 8 x 8 matrices of bfloat16 from shared memory: lane 8 m + r gives the address of row r of matrix m, 16-byte
// aligned; the thread receives of each matrix the word of row g, columns 2t and 2t+1.
__device__ __forceinline__ void load_matrices(std::uint32_t (&to)[4], const void* row) {
    const auto address = static_cast<std::uint32_t>(__cvta_generic_to_shared(row));
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(address)
                 : "memory");
}

// As load_matrices, but the thread receives rows 2t and 2t+1 of column g.
__device__ __forceinline__ void load_transposed(std::uint32_t (&to)[4], const void* row) {
    const auto address = static_cast<std::uint32_t>(__cvta_generic_to_shared(row));
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(address)
                 : "memory");
}

// Begins to copy 16 aligned bytes into shared memory, or to fill these with zeros where not `wanted`: then `from` is
// not read. Done for this thread after its wait_for_copies(), for the others after a barrier beyond that.
__device__ __forceinline__ void copy_async(void* to, const void* from, bool wanted) {
    const auto address = static_cast<std::uint32_t>(__cvta_generic_to_shared(to));
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
                 :
                 : "r"(address), "l"(from), "r"(wanted ? 16 : 0)
                 : "memory");
}

__device__ __forceinline__ void wait_for_copies() { asm volatile("cp.async.wait_all;" : : : "memory"); }

// 2^x within 2 ulp; 0 for -inf and below 2^-126.
__device__ __forceinline__ float exp2_fast(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

// Two floats rounded to the nearest bfloat16, the first in the lower half.
__device__ __forceinline__ std::uint32_t pack_bfloat16(float low, float high) {
    std::uint32_t word;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
    return word;
}

// Two products of bfloat16, each rounded once.
__device__ __forceinline__ std::uint32_t multiply_pairs(std::uint32_t x, std::uint32_t y) {
    std::uint32_t word;
    asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(word) : "r"(x), "r"(y), "r"(0x80008000u));  // + -0: also for -0
    return word;
}

}  // namespace openfoldpp::device
