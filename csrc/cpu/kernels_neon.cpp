#include "vec_neon.h"
// Written for the Vec of the header above.
#include "kernels_all.h"

namespace openfoldpp {

const Kernels kernels_neon = kAllKernels;

}  // namespace openfoldpp
