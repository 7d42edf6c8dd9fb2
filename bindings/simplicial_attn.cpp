// The top-level module simplicial_attn.
#include <pybind11/pybind11.h>

#include "commit.h"

PYBIND11_MODULE(simplicial_attn, m) {
    m.doc() = "Which commit of openfoldpp is installed.";
    m.def(
        "version", [] { return OPENFOLDPP_COMMIT; },
        "Full hash of the commit that this module was built from.");
}
