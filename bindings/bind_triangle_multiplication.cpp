// TriangleMultiplication: weights packed once, then numpy views in and out.
#include "openfoldpp/triangle_multiplication.h"

#include "arrays.h"

namespace py = pybind11;
using namespace openfoldpp::bindings;
using openfoldpp::Grid;
using openfoldpp::MutableGrid;
using openfoldpp::TriangleMultiplication;

namespace {

TriangleMultiplication triangle_multiplication(
    const Array& norm_weight, const Array& norm_bias, const Array& left_gate, const Array& left_gate_bias,
    const Array& left, const Array& left_bias, const Array& right_gate, const Array& right_gate_bias,
    const Array& right, const Array& right_bias, const Array& norm_out_weight, const Array& norm_out_bias,
    const Array& gate, const Array& gate_bias, const Array& output, const Array& output_bias, float eps,
    float eps_out) {
    require_shape("left", left, {-1, -1});
    const std::int64_t hidden = left.shape(0), channels = left.shape(1);
    openfoldpp::TriangleMultiplicationWeights weights = {};
    weights.channels = channels;
    weights.hidden = hidden;
    weights.norm_weight = dense("norm_weight", norm_weight, {channels});
    weights.norm_bias = dense("norm_bias", norm_bias, {channels});
    weights.eps = eps;
    weights.left_gate = dense("left_gate", left_gate, {hidden, channels});
    weights.left_gate_bias = dense("left_gate_bias", left_gate_bias, {hidden});
    weights.left = dense("left", left, {hidden, channels});
    weights.left_bias = dense("left_bias", left_bias, {hidden});
    weights.right_gate = dense("right_gate", right_gate, {hidden, channels});
    weights.right_gate_bias = dense("right_gate_bias", right_gate_bias, {hidden});
    weights.right = dense("right", right, {hidden, channels});
    weights.right_bias = dense("right_bias", right_bias, {hidden});
    weights.norm_out_weight = dense("norm_out_weight", norm_out_weight, {hidden});
    weights.norm_out_bias = dense("norm_out_bias", norm_out_bias, {hidden});
    weights.eps_out = eps_out;
    weights.gate = dense("gate", gate, {channels, channels});
    weights.gate_bias = dense("gate_bias", gate_bias, {channels});
    weights.output = dense("output", output, {channels, hidden});
    weights.output_bias = dense("output_bias", output_bias, {channels});
    return TriangleMultiplication(weights);
}

void update(const TriangleMultiplication& self, const Array& z, const OptionalArray& mask, bool outgoing,
            const OptionalArray& residual, Array out, Array workspace, int threads) {
    const Grid from = grid("z", z);
    const Grid counts = mask_grid("mask", mask);
    const Grid add = grid("residual", residual);
    const MutableGrid to = mutable_grid("out", out);
    float* memory = mutable_dense("workspace", workspace, {self.workspace_floats(from.rows)});
    py::gil_scoped_release unlocked;
    self(from, counts, outgoing, add, to, memory, threads);
}

}  // namespace

void bind_triangle_multiplication(py::module_& m) {
    const auto array = [](const char* name) { return py::arg(name).noconvert(); };
    py::class_<TriangleMultiplication>(
        m, "TriangleMultiplication", "The triangle multiplicative update; weights as torch.nn.Linear has them.")
        .def(py::init(&triangle_multiplication), py::kw_only(), array("norm_weight"), array("norm_bias"),
             array("left_gate"), array("left_gate_bias"), array("left"), array("left_bias"), array("right_gate"),
             array("right_gate_bias"), array("right"), array("right_bias"), array("norm_out_weight"),
             array("norm_out_bias"), array("gate"), array("gate_bias"), array("output"), array("output_bias"),
             py::arg("eps"), py::arg("eps_out"))
        .def("workspace_floats", &TriangleMultiplication::workspace_floats, py::arg("n"),
             "Floats of the workspace for a pair representation of n residues.")
        .def("__call__", &update,
             "z, residual, out [n, n, channels]; mask [n, n]; workspace [workspace_floats(n)], overwritten.",
             array("z"), array("mask").none(true), py::arg("outgoing"), array("residual").none(true), array("out"),
             array("workspace"), py::arg("threads"));
}
