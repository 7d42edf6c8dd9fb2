#include "vec_scalar.h"
// Written for the Vec of the header above.
#include "kernels_all.h"

namespace openfoldpp {

const Kernels kernels_scalar = kAllKernels;

}  // namespace openfoldpp
