#include "vec_avx2.h"
// Written for the Vec of the header above.
#include "kernels_all.h"

namespace openfoldpp {

const Kernels kernels_avx2 = kAllKernels;

}  // namespace openfoldpp
