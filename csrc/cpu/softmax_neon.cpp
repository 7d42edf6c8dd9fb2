#include "vec_neon.h"
// softmax_rows.h is written for the Vec of the header above.
#include "softmax_rows.h"

namespace openfoldpp {

const SoftmaxKernels softmax_neon = {softmax_forward_row, softmax_backward_row, kBlock};

}  // namespace openfoldpp
