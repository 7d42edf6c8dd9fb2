// The compositor's CUDA kernels, in builds with OPENFOLDPP_CUDA only. They take device addresses as integers: the
// module checks the tensors before, and nothing here can.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstdint>
#include <memory>
#include <string_view>

#include "openfoldpp/cuda_compositor.h"

namespace py = pybind11;
using openfoldpp::CudaCompositor;

namespace {

std::unique_ptr<CudaCompositor> load(const py::bytes& blob) {
    const std::string_view bytes = blob;
    return std::make_unique<CudaCompositor>(openfoldpp::read_compositor(bytes.data(), bytes.size()));
}

// As int32, which torch has had for longer than uint32.
py::array_t<std::int32_t> image(const CudaCompositor& self) {
    return py::array_t<std::int32_t>(static_cast<py::ssize_t>(self.image().size()),
                                     reinterpret_cast<const std::int32_t*>(self.image().data()));
}

template <class T>
T* pointer(std::uintptr_t address) {
    return reinterpret_cast<T*>(address);
}

void run(const CudaCompositor& self, std::uintptr_t image, std::uintptr_t embedding, std::uintptr_t pair,
         std::int64_t length, std::uintptr_t workspace, std::uintptr_t stream) {
    self(pointer<const std::uint32_t>(image), pointer<const float>(embedding), pointer<float>(pair), length,
         pointer<float>(workspace), pointer<void>(stream));
}

}  // namespace

void bind_cuda_compositor(py::module_& m) {
    py::class_<CudaCompositor>(m, "CudaCompositor", "The compositor of docs/compositor.md on a GPU.")
        .def(py::init(&load), py::arg("blob"))
        .def("image", &image, "What is to be in device memory, int32.")
        .def("workspace_floats", &CudaCompositor::workspace_floats, py::arg("length"))
        .def("__call__", &run, py::arg("image"), py::arg("embedding"), py::arg("pair"), py::arg("length"),
             py::arg("workspace"), py::arg("stream"), py::call_guard<py::gil_scoped_release>());
}
