// The instruction-set level that every CPU kernel of the library runs at.
#pragma once

#include <string>
#include <vector>

namespace openfoldpp {

enum class SimdLevel { scalar, neon, avx2, avx512 };

// "scalar", "neon", "avx2" or "avx512".
const char* simd_name(SimdLevel level);

// The levels that this build has and that this CPU and operating system can run, slowest first.
std::vector<SimdLevel> available_simd_levels();

// The level in use: the one named by the environment variable OPENFOLDPP_SIMD, else the fastest available.
// Read once, at the first call that succeeds. Throws std::invalid_argument where OPENFOLDPP_SIMD names
// no level, or one that cannot run here.
SimdLevel simd_level();

}  // namespace openfoldpp
