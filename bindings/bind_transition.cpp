// Transition: weights packed once, then numpy views in and out.
#include "openfoldpp/transition.h"

#include "arrays.h"

namespace py = pybind11;
using namespace openfoldpp::bindings;
using openfoldpp::Grid;
using openfoldpp::MutableGrid;
using openfoldpp::Transition;

namespace {

Transition transition(const Array& norm_weight, const Array& norm_bias, const Array& expand, const Array& expand_bias,
                      const Array& contract, const Array& contract_bias, float eps) {
    require_shape("expand", expand, {-1, -1});
    const std::int64_t hidden = expand.shape(0), channels = expand.shape(1);
    return Transition(channels, hidden, dense("norm_weight", norm_weight, {channels}),
                      dense("norm_bias", norm_bias, {channels}), eps, dense("expand", expand, {hidden, channels}),
                      dense("expand_bias", expand_bias, {hidden}), dense("contract", contract, {channels, hidden}),
                      dense("contract_bias", contract_bias, {channels}));
}

void update(const Transition& self, const Array& x, const OptionalArray& mask, const OptionalArray& residual, Array out,
            int threads) {
    const Grid from = grid("x", x);
    const Grid counts = mask_grid("mask", mask);
    const Grid add = grid("residual", residual);
    const MutableGrid to = mutable_grid("out", out);
    py::gil_scoped_release unlocked;
    self(from, counts, add, to, threads);
}

}  // namespace

void bind_transition(py::module_& m) {
    const auto array = [](const char* name) { return py::arg(name).noconvert(); };
    py::class_<Transition>(m, "Transition", "Layer norm, linear, ReLU, linear; weights as torch.nn.Linear has them.")
        .def(py::init(&transition), py::kw_only(), array("norm_weight"), array("norm_bias"), array("expand"),
             array("expand_bias"), array("contract"), array("contract_bias"), py::arg("eps"))
        .def("__call__", &update, "x, residual, out [rows, columns, channels]; mask [rows, columns].", array("x"),
             array("mask").none(true), array("residual").none(true), array("out"), py::arg("threads"));
}
