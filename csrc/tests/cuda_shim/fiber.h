// Switches between stacks. Both functions store in `from` where the caller is, and return when a switch goes there.
#pragma once

#include <cstddef>

namespace cuda_shim {

struct Place {
    void* words[5];  // as __builtin_setjmp wants it
};

void go_on(Place& from, Place& to);

// To the beginning of `function`, which must not return, with a stack of its own.
void begin(Place& from, void (*function)(), unsigned char* stack, std::size_t stack_bytes);

}  // namespace cuda_shim
