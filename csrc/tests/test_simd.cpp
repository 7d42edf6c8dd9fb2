#include <cstdlib>
#include <stdexcept>
#include <string>

#include "check.h"
#include "openfoldpp/simd.h"

using namespace openfoldpp;

TEST(the_level_is_the_one_that_the_environment_names) {
    const char* forced = std::getenv("OPENFOLDPP_SIMD");
    const std::string expected = forced ? forced : simd_name(available_simd_levels().back());
    CHECK(simd_name(simd_level()) == expected);
}

TEST(scalar_is_always_there) { CHECK(available_simd_levels().front() == SimdLevel::scalar); }
