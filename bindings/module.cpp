// The extension module openfoldpp._native: one bind_<op>.cpp for each op registers itself here.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <string>
#include <vector>

#include "openfoldpp/simd.h"

namespace py = pybind11;

void bind_softmax(py::module_& m);
void bind_coords(py::module_& m);
void bind_attention(py::module_& m);
void bind_compositor(py::module_& m);
void bind_invariant_point_attention(py::module_& m);
void bind_outer_product_mean(py::module_& m);
void bind_simplicial_attention(py::module_& m);
void bind_transition(py::module_& m);
void bind_triangle_multiplication(py::module_& m);
void bind_cuda(py::module_& m);
void bind_cuda_compositor(py::module_& m);

PYBIND11_MODULE(_native, m) {
    m.doc() = "Native CPU kernels of openfoldpp.";
    m.def(
        "simd_level", [] { return openfoldpp::simd_name(openfoldpp::simd_level()); },
        "Instruction-set level in use: OPENFOLDPP_SIMD, else the fastest. ValueError where it cannot run here.");
    m.def(
        "available_simd_levels",
        [] {
            std::vector<std::string> names;
            for (openfoldpp::SimdLevel level : openfoldpp::available_simd_levels()) {
                names.emplace_back(openfoldpp::simd_name(level));
            }
            return names;
        },
        "Levels that this build has and this CPU can run, slowest first.");
    bind_softmax(m);
    bind_coords(m);
    bind_attention(m);
    bind_compositor(m);
    bind_invariant_point_attention(m);
    bind_outer_product_mean(m);
    bind_simplicial_attention(m);
    bind_transition(m);
    bind_triangle_multiplication(m);
#if OPENFOLDPP_CUDA
    bind_cuda(m);
    bind_cuda_compositor(m);
#endif
}
