// softmax: numpy views of the tensors' memory in, nothing copied. bfloat16 comes as its bits, uint16.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstdint>
#include <string>

#include "openfoldpp/softmax.h"

namespace py = pybind11;
using openfoldpp::bfloat16;

namespace {

static_assert(sizeof(bfloat16) == sizeof(std::uint16_t));

// How elements of type T appear in numpy.
template <class T>
struct Element;
template <>
struct Element<float> {
    using numpy = float;
};
template <>
struct Element<bfloat16> {
    using numpy = std::uint16_t;
};

template <class T>
using Array = py::array_t<typename Element<T>::numpy, 0>;

template <class T>
void require_contiguous(const char* name, const Array<T>& array, py::ssize_t dimensions) {
    if (array.ndim() != dimensions) {
        throw py::value_error(std::string(name) + " has " + std::to_string(array.ndim()) + " dimensions, expected " +
                              std::to_string(dimensions));
    }
    if (!(array.flags() & py::array::c_style)) {
        throw py::value_error(std::string(name) + " is not contiguous, and an op in place makes no copy");
    }
}

template <class T>
T* writable(Array<T>& array) {
    return reinterpret_cast<T*>(array.mutable_data());  // raises ValueError for a read-only array
}

template <class T>
const T* readable(const Array<T>& array) {
    return reinterpret_cast<const T*>(array.data());
}

template <class T>
void forward(Array<T> logits, int threads) {
    require_contiguous<T>("logits", logits, 2);
    T* data = writable<T>(logits);
    const std::int64_t rows = logits.shape(0), cols = logits.shape(1);
    py::gil_scoped_release release;
    openfoldpp::softmax_forward(data, rows, cols, threads);
}

template <class T>
void backward(Array<T> probabilities, Array<T> grad_out, Array<T> values, int threads) {
    require_contiguous<T>("probabilities", probabilities, 3);
    require_contiguous<T>("grad_out", grad_out, 3);
    require_contiguous<T>("values", values, 3);
    const openfoldpp::AttentionShape shape = {probabilities.shape(0), probabilities.shape(1), probabilities.shape(2),
                                              values.shape(2)};
    if (grad_out.shape(0) != shape.batch || grad_out.shape(1) != shape.queries ||
        grad_out.shape(2) != shape.channels || values.shape(0) != shape.batch || values.shape(1) != shape.keys) {
        throw py::value_error("shapes do not fit: expected probabilities [batch, queries, keys], "
                              "grad_out [batch, queries, channels], values [batch, keys, channels]");
    }
    T* p = writable<T>(probabilities);
    const T* g = readable<T>(grad_out);
    const T* v = readable<T>(values);
    py::gil_scoped_release release;
    openfoldpp::softmax_backward(p, g, v, shape, threads);
}

}  // namespace

void bind_softmax(py::module_& m) {
    const char* forward_doc =
        "softmax_forward(logits, threads): softmax over the last dimension of [rows, cols], in place.";
    const char* backward_doc =
        "softmax_backward(probabilities, grad_out, values, threads): probabilities [batch, queries, keys] becomes the "
        "gradient of the logits, in place; grad_out [batch, queries, channels], values [batch, keys, channels].";
    // noconvert: another dtype is an error and never a silent copy, which would be changed instead.
    m.def("softmax_forward", &forward<float>, py::arg("logits").noconvert(), py::arg("threads"), forward_doc);
    m.def("softmax_forward", &forward<bfloat16>, py::arg("logits").noconvert(), py::arg("threads"), forward_doc);
    m.def("softmax_backward", &backward<float>, py::arg("probabilities").noconvert(), py::arg("grad_out").noconvert(),
          py::arg("values").noconvert(), py::arg("threads"), backward_doc);
    m.def("softmax_backward", &backward<bfloat16>, py::arg("probabilities").noconvert(),
          py::arg("grad_out").noconvert(), py::arg("values").noconvert(), py::arg("threads"), backward_doc);
}
