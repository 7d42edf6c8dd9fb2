// OuterProductMean: weights packed once, then numpy views in and out.
#include "openfoldpp/outer_product_mean.h"

#include "arrays.h"

namespace py = pybind11;
using namespace openfoldpp::bindings;
using openfoldpp::Grid;
using openfoldpp::MutableGrid;
using openfoldpp::OuterProductMean;

namespace {

OuterProductMean outer_product_mean(const Array& norm_weight, const Array& norm_bias, const Array& left,
                                    const Array& left_bias, const Array& right, const Array& right_bias,
                                    const Array& output, const Array& output_bias, float eps, float eps_mask) {
    require_shape("left", left, {-1, -1});
    require_shape("output", output, {-1, -1});
    const std::int64_t hidden = left.shape(0), channels = left.shape(1), outputs = output.shape(0);
    openfoldpp::OuterProductMeanWeights weights = {};
    weights.channels = channels;
    weights.hidden = hidden;
    weights.outputs = outputs;
    weights.norm_weight = dense("norm_weight", norm_weight, {channels});
    weights.norm_bias = dense("norm_bias", norm_bias, {channels});
    weights.eps = eps;
    weights.left = dense("left", left, {hidden, channels});
    weights.left_bias = dense("left_bias", left_bias, {hidden});
    weights.right = dense("right", right, {hidden, channels});
    weights.right_bias = dense("right_bias", right_bias, {hidden});
    weights.output = dense("output", output, {outputs, hidden * hidden});
    weights.output_bias = dense("output_bias", output_bias, {outputs});
    weights.eps_mask = eps_mask;
    return OuterProductMean(weights);
}

void update(const OuterProductMean& self, const Array& m, const OptionalArray& mask, const OptionalArray& residual,
            Array out, int threads) {
    const Grid from = grid("m", m);
    const Grid counts = mask_grid("mask", mask);
    const Grid add = grid("residual", residual);
    const MutableGrid to = mutable_grid("out", out);
    py::gil_scoped_release unlocked;
    self(from, counts, add, to, threads);
}

}  // namespace

void bind_outer_product_mean(py::module_& m) {
    const auto array = [](const char* name) { return py::arg(name).noconvert(); };
    py::class_<OuterProductMean>(m, "OuterProductMean",
                                 "Outer product mean of an MSA; weights as torch.nn.Linear has them.")
        .def(py::init(&outer_product_mean), py::kw_only(), array("norm_weight"), array("norm_bias"), array("left"),
             array("left_bias"), array("right"), array("right_bias"), array("output"), array("output_bias"),
             py::arg("eps"), py::arg("eps_mask"))
        .def("__call__", &update,
             "m [sequences, residues, channels]; mask [sequences, residues]; residual, out "
             "[residues, residues, outputs].",
             array("m"), array("mask").none(true), array("residual").none(true), array("out"), py::arg("threads"));
}
