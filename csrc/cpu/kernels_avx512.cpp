#include "vec_avx512.h"
// Written for the Vec of the header above.
#include "kernels_all.h"

namespace openfoldpp {

const Kernels kernels_avx512 = kAllKernels;

}  // namespace openfoldpp
