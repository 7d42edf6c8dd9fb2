// Runs every test of the CUDA kernels on the CPU.
#include "../check.h"

int main() {
    for (const check::Test& test : check::tests()) {
        const int before = check::failures();
        test.run();
        std::printf("%s %s\n", check::failures() == before ? "ok    " : "FAILED", test.name);
    }
    std::printf("%d failures\n", check::failures());
    return check::failures() != 0;
}
