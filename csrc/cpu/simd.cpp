#include "openfoldpp/simd.h"

#include <cstdlib>
#include <stdexcept>

namespace openfoldpp {
namespace {

constexpr SimdLevel kAllLevels[] = {SimdLevel::scalar, SimdLevel::neon, SimdLevel::avx2, SimdLevel::avx512};

// On x86, __builtin_cpu_supports reads CPUID, and XGETBV for whether the system saves the registers.
// The features asked for are those of the per-file compiler flags in CMakeLists.txt.
bool can_run(SimdLevel level) {
    switch (level) {
        case SimdLevel::scalar:
            return true;
        case SimdLevel::neon:
#if OPENFOLDPP_NEON
            return true;  // part of every aarch64 CPU
#else
            return false;
#endif
        case SimdLevel::avx2:
#if OPENFOLDPP_X86
            return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#else
            return false;
#endif
        case SimdLevel::avx512:
#if OPENFOLDPP_X86
            return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                   __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
                   can_run(SimdLevel::avx2);
#else
            return false;
#endif
    }
    return false;
}

std::string available_names() {
    std::string names;
    for (SimdLevel level : available_simd_levels()) {
        if (!names.empty()) names += ", ";
        names += simd_name(level);
    }
    return names;
}

SimdLevel choose() {
    const char* forced = std::getenv("OPENFOLDPP_SIMD");
    if (forced == nullptr || *forced == '\0') return available_simd_levels().back();
    for (SimdLevel level : kAllLevels) {
        if (forced != std::string(simd_name(level))) continue;
        if (can_run(level)) return level;
        throw std::invalid_argument("OPENFOLDPP_SIMD=" + std::string(forced) +
                                    " cannot run here: this CPU and build have " + available_names() +
                                    "; unset OPENFOLDPP_SIMD for the fastest of them");
    }
    throw std::invalid_argument("OPENFOLDPP_SIMD=" + std::string(forced) +
                                " is not an instruction-set level: this CPU and build have " + available_names() +
                                "; unset OPENFOLDPP_SIMD for the fastest of them");
}

}  // namespace

const char* simd_name(SimdLevel level) {
    switch (level) {
        case SimdLevel::scalar:
            return "scalar";
        case SimdLevel::neon:
            return "neon";
        case SimdLevel::avx2:
            return "avx2";
        case SimdLevel::avx512:
            return "avx512";
    }
    throw std::invalid_argument("not a SimdLevel");
}

std::vector<SimdLevel> available_simd_levels() {
    std::vector<SimdLevel> levels;
    for (SimdLevel level : kAllLevels) {
        if (can_run(level)) levels.push_back(level);
    }
    return levels;
}

SimdLevel simd_level() {
    static const SimdLevel level = choose();  // where choose() throws, the next call chooses again
    return level;
}

}  // namespace openfoldpp
