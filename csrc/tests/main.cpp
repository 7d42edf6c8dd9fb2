// openfoldpp_tests LEVEL: runs every test. Exit status 77 where this CPU or build lacks the level.
#include <algorithm>
#include <cstdio>
#include <string>

#include "check.h"
#include "openfoldpp/simd.h"

int main(int count, char** arguments) {
    const auto available = openfoldpp::available_simd_levels();
    const auto is_named = [&](openfoldpp::SimdLevel level) {
        return openfoldpp::simd_name(level) == std::string(arguments[1]);
    };
    if (count == 2 && std::none_of(available.begin(), available.end(), is_named)) {
        std::printf("skipped: no %s here\n", arguments[1]);
        return 77;
    }
    for (const check::Test& test : check::tests()) {
        const int before = check::failures();
        test.run();
        std::printf("%s %s\n", check::failures() == before ? "ok    " : "FAILED", test.name);
    }
    std::printf("level %s: %d failures\n", openfoldpp::simd_name(openfoldpp::simd_level()), check::failures());
    return check::failures() != 0;
}
