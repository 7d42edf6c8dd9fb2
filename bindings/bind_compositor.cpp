// The compositor: weights from a blob once, then numpy views in and out.
#include "openfoldpp/compositor.h"

#include <memory>

#include "arrays.h"

namespace py = pybind11;
using namespace openfoldpp::bindings;
using openfoldpp::Compositor;
using openfoldpp::Grid;
using openfoldpp::MutableGrid;

namespace {

std::unique_ptr<Compositor> load(const py::bytes& blob) {
    const std::string_view bytes = blob;
    return std::make_unique<Compositor>(bytes.data(), bytes.size());
}

void run(const Compositor& self, const Array& embedding, Array pair, int threads) {
    require_shape("embedding", embedding, {-1, -1});
    require_dense_last("embedding", embedding);
    const Grid from = {embedding.data(), 1, embedding.shape(0), embedding.shape(1), 0, stride_of(embedding, 0)};
    const MutableGrid to = mutable_grid("pair", pair);
    py::gil_scoped_release unlocked;
    self(from, to, threads);
}

}  // namespace

void bind_compositor(py::module_& m) {
    py::class_<Compositor>(m, "Compositor", "The compositor of docs/compositor.md; ValueError for a blob that is none.")
        .def(py::init(&load), py::arg("blob"))
        .def("__call__", &run, "embedding [n, channels], pair [n, n, pair channels].",
             py::arg("embedding").noconvert(), py::arg("pair").noconvert(), py::arg("threads"));
}
