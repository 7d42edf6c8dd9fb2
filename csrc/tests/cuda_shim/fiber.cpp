// By the compiler's own jumps: a kernel makes millions of them, and at each jump of the C library the address sanitizer
// makes a system call and clears what it knows of a stack. These functions are in a file of their own so that no
// caller counts on what registers hold after a switch.
#include "fiber.h"

#include <ucontext.h>

#define UNCHECKED __attribute__((noinline, no_sanitize("address")))

namespace cuda_shim {
namespace {

// GCC wants it in another function than the __builtin_setjmp.
[[noreturn]] UNCHECKED void jump(Place& to) { __builtin_longjmp(to.words, 1); }

}  // namespace

UNCHECKED void go_on(Place& from, Place& to) {
    if (__builtin_setjmp(from.words) == 0) jump(to);
}

UNCHECKED void begin(Place& from, void (*function)(), unsigned char* stack, std::size_t stack_bytes) {
    ucontext_t context;
    getcontext(&context);
    context.uc_stack.ss_sp = stack;
    context.uc_stack.ss_size = stack_bytes;
    context.uc_link = nullptr;
    makecontext(&context, function, 0);
    if (__builtin_setjmp(from.words) == 0) setcontext(&context);
}

}  // namespace cuda_shim
