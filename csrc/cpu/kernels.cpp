#include "kernels.h"

#include "openfoldpp/simd.h"

namespace openfoldpp {

const Kernels& kernels() {
    switch (simd_level()) {
#if OPENFOLDPP_X86
        case SimdLevel::avx512:
            return kernels_avx512;
        case SimdLevel::avx2:
            return kernels_avx2;
#endif
#if OPENFOLDPP_NEON
        case SimdLevel::neon:
            return kernels_neon;
#endif
        default:
            return kernels_scalar;
    }
}

}  // namespace openfoldpp
