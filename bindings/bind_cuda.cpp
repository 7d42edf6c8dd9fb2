// CUDA kernels, in builds with OPENFOLDPP_CUDA only. They take device addresses as integers: the ops check the
// tensors before, and nothing here can.
#include <pybind11/pybind11.h>

#include <cstdint>

#include "openfoldpp/cuda_softmax.h"

namespace py = pybind11;
using openfoldpp::bfloat16;

namespace {

template <class T>
T* pointer(std::uintptr_t address) {
    return reinterpret_cast<T*>(address);
}

void forward(std::uintptr_t logits, bool is_bfloat16, std::int64_t rows, std::int64_t cols, std::uintptr_t stream) {
    if (is_bfloat16) {
        openfoldpp::cuda_softmax_forward(pointer<bfloat16>(logits), rows, cols, pointer<void>(stream));
    } else {
        openfoldpp::cuda_softmax_forward(pointer<float>(logits), rows, cols, pointer<void>(stream));
    }
}

void backward(std::uintptr_t p, std::uintptr_t g, std::uintptr_t v, bool is_bfloat16, std::int64_t batch,
              std::int64_t queries, std::int64_t keys, std::int64_t channels, std::uintptr_t stream) {
    const openfoldpp::AttentionShape shape = {batch, queries, keys, channels};
    if (is_bfloat16) {
        openfoldpp::cuda_softmax_backward(pointer<bfloat16>(p), pointer<bfloat16>(g), pointer<bfloat16>(v), shape,
                                          pointer<void>(stream));
    } else {
        openfoldpp::cuda_softmax_backward(pointer<float>(p), pointer<float>(g), pointer<float>(v), shape,
                                          pointer<void>(stream));
    }
}

}  // namespace

void bind_cuda(py::module_& m) {
    m.def("cuda_softmax_forward", &forward, py::arg("logits"), py::arg("bfloat16"), py::arg("rows"), py::arg("cols"),
          py::arg("stream"), py::call_guard<py::gil_scoped_release>());
    m.def("cuda_softmax_backward", &backward, py::arg("probabilities"), py::arg("grad_out"), py::arg("values"),
          py::arg("bfloat16"), py::arg("batch"), py::arg("queries"), py::arg("keys"), py::arg("channels"),
          py::arg("stream"), py::call_guard<py::gil_scoped_release>());
}
