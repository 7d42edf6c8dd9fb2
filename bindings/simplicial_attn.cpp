// The top-level module simplicial_attn: the functions of simplicial_c.h for numpy arrays, and the commit.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <climits>
#include <string>

#include "commit.h"
#include "openfoldpp/simplicial_c.h"

namespace py = pybind11;

namespace {

using Dense = py::array_t<float, py::array::c_style>;

void check(int code) {
    switch (code) {
        case SIMPLICIAL_OK:
            return;
        case SIMPLICIAL_INVALID:
            throw py::value_error(simplicial_last_error());
        case SIMPLICIAL_NO_MEMORY:
            throw std::bad_alloc();
        default:
            throw std::runtime_error(simplicial_last_error());
    }
}

// float32 values of an array, or of anything that has a buffer; copied where they are not contiguous.
Dense dense(const char* name, const py::object& values, const std::string& expected, py::ssize_t dimensions) {
    if (!PyObject_CheckBuffer(values.ptr())) {
        throw py::type_error(std::string(name) + " is " + std::string(py::str(py::type::of(values))) +
                             ", expected a numpy array or another buffer of float32");
    }
    const py::array array(values);
    if (!py::dtype::of<float>().equal(array.dtype())) {
        throw py::type_error(std::string(name) + " is " + std::string(py::str(array.dtype())) + ", expected float32");
    }
    std::string shape;
    for (py::ssize_t d = 0; d < array.ndim(); ++d) shape += (d ? ", " : "") + std::to_string(array.shape(d));
    bool fits = array.ndim() == dimensions;
    for (py::ssize_t d = 0; d < array.ndim(); ++d) fits = fits && array.shape(d) <= INT_MAX;
    if (!fits) throw py::value_error(std::string(name) + " has shape [" + shape + "], expected " + expected);
    return Dense(array);
}

Dense simplicial(const py::object& qkv) {
    const std::string expected = "[5, L, d]: q, k, k2, v, v2";
    const Dense from = dense("qkv", qkv, expected, 3);
    if (from.shape(0) != 5 || from.shape(2) < 1) {
        throw py::value_error("qkv has shape [" + std::to_string(from.shape(0)) + ", " +
                              std::to_string(from.shape(1)) + ", " + std::to_string(from.shape(2)) + "], expected " +
                              expected);
    }
    const int length = static_cast<int>(from.shape(1)), channels = static_cast<int>(from.shape(2));
    Dense out({from.shape(1), from.shape(2)});
    const float* values = from.data();
    float* to = out.mutable_data();
    int code;
    {
        py::gil_scoped_release unlocked;
        code = run_simplicial(values, to, length, channels, nullptr);
    }
    check(code);
    return out;
}

void load(const py::buffer& blob) {
    const py::buffer_info bytes = blob.request();
    py::ssize_t step = bytes.itemsize;
    for (py::ssize_t d = bytes.ndim; d-- > 0;) {
        if (bytes.shape[d] > 1 && bytes.strides[d] != step) throw py::value_error("blob is not contiguous");
        step *= bytes.shape[d];
    }
    check(load_compositor(bytes.ptr, static_cast<std::size_t>(bytes.size * bytes.itemsize)));
}

Dense compose(const py::object& embedding) {
    int channels = 0, pair_channels = 0;
    check(compositor_channels(&channels, &pair_channels));
    const std::string expected = "[L, " + std::to_string(channels) + "]";
    const Dense from = dense("embedding", embedding, expected, 2);
    if (from.shape(1) != channels) {
        throw py::value_error("embedding has shape [" + std::to_string(from.shape(0)) + ", " +
                              std::to_string(from.shape(1)) + "], expected " + expected);
    }
    Dense out({from.shape(0), from.shape(0), static_cast<py::ssize_t>(pair_channels)});
    const float* values = from.data();
    float* to = out.mutable_data();
    int code;
    {
        py::gil_scoped_release unlocked;
        code = run_compositor_sized(values, to, static_cast<int>(from.shape(0)), channels, pair_channels);
    }
    if (code == SIMPLICIAL_OTHER_SIZES) return compose(embedding);  // another thread has loaded it meanwhile
    check(code);
    return out;
}

}  // namespace

PYBIND11_MODULE(simplicial_attn, m) {
    m.doc() = "2-simplicial attention (arXiv 2507.02754) and the compositor for numpy arrays, without torch.";
    m.def(
        "version", [] { return OPENFOLDPP_COMMIT; },
        "Full hash of the commit that this module was built from.");
    m.def("run_simplicial", &simplicial, py::arg("qkv"),
          "One head without mask, bias or window: float32 [5, L, d] (q, k, k2, v, v2) to [L, d]. ValueError for "
          "another shape, TypeError for another dtype.");
    m.def("load_compositor", &load, py::arg("blob"),
          "Load the compositor that openfoldpp.motifs.Compositor.pack() gave as bytes; it serves the whole process. "
          "ValueError where they are truncated, altered or something else: the one loaded before stays.");
    m.def("run_compositor", &compose, py::arg("embedding"),
          "Run the compositor that is loaded: float32 [L, channels] to [L, L, pair channels]. ValueError for another "
          "shape, TypeError for another dtype, RuntimeError where none is loaded.");
}
