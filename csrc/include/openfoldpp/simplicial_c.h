/* 2-simplicial attention and the compositor for C and for whatever can call C. docs/compositor.md defines both.
 *
 * Functions return SIMPLICIAL_OK or one of the other codes, and then simplicial_last_error() says what was wrong. A
 * call that refuses (SIMPLICIAL_INVALID, _NOT_LOADED, _OTHER_SIZES) writes nothing to its outputs.
 *
 * All functions may be called from any number of threads at the same time. The loaded compositor belongs to the
 * process: a run that has begun ends with the one that it began with, also where another is loaded meanwhile.
 * simplicial_last_error() belongs to the thread that calls it.
 *
 * On the CPU a call uses as many threads as OPENFOLDPP_NUM_THREADS says when the first call is made, else as many as
 * the machine has, and less for small inputs; they never change a result. OPENFOLDPP_SIMD forces an instruction set.
 *
 * Pointers may be of host memory or, in a build with CUDA, of device memory, all of them the same; which they are is
 * asked of CUDA. Host memory is computed on the CPU, and the result is there on return. For device memory the work
 * is queued for the GPU of that memory.
 */
#ifndef OPENFOLDPP_SIMPLICIAL_C_H
#define OPENFOLDPP_SIMPLICIAL_C_H

#include <stddef.h>

#define OPENFOLDPP_EXPORT __attribute__((visibility("default")))

#ifdef __cplusplus
extern "C" {
#endif

enum {
    SIMPLICIAL_OK = 0,
    SIMPLICIAL_INVALID = 1,    /* an argument, a blob or a setting cannot be used */
    SIMPLICIAL_NOT_LOADED = 2, /* there is no compositor to run */
    SIMPLICIAL_NO_MEMORY = 3,
    SIMPLICIAL_FAILED = 4,     /* the GPU or the system failed */
    SIMPLICIAL_OTHER_SIZES = 5 /* run_compositor_sized: the compositor that is loaded has others */
};

/* One head of 2-simplicial attention without mask, bias or window.
 *
 * qkv: [5][L][d], the parts q, k, k2, v and v2; out: [L][d]; they must not overlap. L may be 0. On a GPU d is 16, 32,
 * 64 or 128. stream: a cudaStream_t for device memory; null for host memory. */
OPENFOLDPP_EXPORT int run_simplicial(const float* qkv, float* out, int L, int d, void* stream);

/* Makes the compositor that a blob of n bytes holds the one of this process. The blob is host memory, of any
 * alignment, and is not needed afterwards. Where it is refused, the one loaded before stays. */
OPENFOLDPP_EXPORT int load_compositor(const void* blob, size_t n);

/* Channels of an embedding and of a pair, of the compositor that is loaded. */
OPENFOLDPP_EXPORT int compositor_channels(int* embedding, int* pair);

/* in_emb: [L][channels of an embedding]; out_pair: [L][L][channels of a pair]; they must not overlap. L may be 0.
 * Device memory is worked on in CUDA's default stream. */
OPENFOLDPP_EXPORT int run_compositor(const float* in_emb, float* out_pair, int L);

/* As run_compositor, for memory of these sizes: SIMPLICIAL_OTHER_SIZES where the compositor that is loaded has others.
 * For callers beside which another thread may load one. */
OPENFOLDPP_EXPORT int run_compositor_sized(const float* in_emb, float* out_pair, int L, int embedding, int pair);

/* What was wrong with this thread's last call that failed; "" before any did. Valid until its next call. */
OPENFOLDPP_EXPORT const char* simplicial_last_error(void);

#ifdef __cplusplus
}
#endif

#endif
