// The compositor's CUDA kernels, in builds with OPENFOLDPP_CUDA only. They take device addresses as integers: the
// module checks the tensors before, and nothing here can.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

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

std::optional<std::string> refuse_sizes(std::int64_t channels, std::int64_t heads, std::int64_t head_channels,
                                        std::int64_t hidden, std::int64_t rank, int device) {
    openfoldpp::CompositorSizes sizes = {};
    sizes.channels = channels;
    sizes.heads = heads;
    sizes.head_channels = head_channels;
    sizes.hidden = hidden;
    sizes.rank = rank;
    std::string reason = CudaCompositor::refuse_sizes(sizes, device);
    return reason.empty() ? std::nullopt : std::optional<std::string>(std::move(reason));
}

}  // namespace

void bind_cuda_compositor(py::module_& m) {
    m.def("cuda_compositor_refusal", &refuse_sizes, py::kw_only(), py::arg("channels"), py::arg("heads"),
          py::arg("head_channels"), py::arg("hidden"), py::arg("rank"), py::arg("device"),
          "Why a GPU cannot run a compositor of these sizes; None where it can.");
    py::class_<CudaCompositor>(m, "CudaCompositor", "The compositor of docs/compositor.md on a GPU.")
        .def(py::init(&load), py::arg("blob"))
        .def("image", &image, "What is to be in device memory, int32.")
        .def("workspace_floats", &CudaCompositor::workspace_floats, py::arg("length"))
        .def("__call__", &run, py::arg("image"), py::arg("embedding"), py::arg("pair"), py::arg("length"),
             py::arg("workspace"), py::arg("stream"), py::call_guard<py::gil_scoped_release>());
}
