// GatedAttention and PairBias: weights packed once, then numpy views in and out.
#include "openfoldpp/attention.h"

#include "arrays.h"

namespace py = pybind11;
using namespace openfoldpp::bindings;
using openfoldpp::GatedAttention;
using openfoldpp::Grid;
using openfoldpp::MutableGrid;
using openfoldpp::PairBias;

namespace {

GatedAttention gated_attention(const Array& norm_weight, const Array& norm_bias, const Array& query, const Array& key,
                               const Array& value, const Array& gate, const Array& gate_bias, const Array& output,
                               const Array& output_bias, std::int64_t heads, float eps) {
    require_shape("query", query, {-1, -1});
    const std::int64_t all = query.shape(0), channels = query.shape(1);
    if (heads < 1 || all % heads != 0) {
        throw py::value_error("heads is " + std::to_string(heads) + ", expected a divisor of query's " +
                              std::to_string(all) + " outputs");
    }
    openfoldpp::AttentionWeights weights = {};
    weights.channels = channels;
    weights.heads = heads;
    weights.head_channels = all / heads;
    weights.norm_weight = dense("norm_weight", norm_weight, {channels});
    weights.norm_bias = dense("norm_bias", norm_bias, {channels});
    weights.eps = eps;
    weights.query = dense("query", query, {all, channels});
    weights.key = dense("key", key, {all, channels});
    weights.value = dense("value", value, {all, channels});
    weights.gate = dense("gate", gate, {all, channels});
    weights.gate_bias = dense("gate_bias", gate_bias, {all});
    weights.output = dense("output", output, {channels, all});
    weights.output_bias = dense("output_bias", output_bias, {channels});
    return GatedAttention(weights);
}

void attend(const GatedAttention& self, const Array& x, const OptionalArray& pair_bias, const OptionalArray& mask,
            float inf, const OptionalArray& residual, Array out, int threads) {
    const Grid from = grid("x", x);
    const float* bias = dense("pair_bias", pair_bias, {self.heads(), from.columns, from.columns});
    const Grid counts = mask_grid("mask", mask);
    const Grid add = grid("residual", residual);
    const MutableGrid to = mutable_grid("out", out);
    py::gil_scoped_release unlocked;
    self(from, bias, counts, inf, add, to, threads);
}

PairBias pair_bias(const Array& norm_weight, const Array& norm_bias, const Array& weight, float eps) {
    require_shape("weight", weight, {-1, -1});
    const std::int64_t heads = weight.shape(0), channels = weight.shape(1);
    return PairBias(dense("norm_weight", norm_weight, {channels}), dense("norm_bias", norm_bias, {channels}), eps,
                    dense("weight", weight, {heads, channels}), heads, channels);
}

void bias_of(const PairBias& self, const Array& z, Array out, int threads) {
    const Grid from = grid("z", z);
    float* to = mutable_dense("out", out, {self.heads(), from.rows, from.columns});
    py::gil_scoped_release unlocked;
    self(from, to, threads);
}

}  // namespace

void bind_attention(py::module_& m) {
    const auto array = [](const char* name) { return py::arg(name).noconvert(); };
    py::class_<GatedAttention>(m, "GatedAttention", "Gated self-attention on rows; weights as torch.nn.Linear has them.")
        .def(py::init(&gated_attention), py::kw_only(), array("norm_weight"), array("norm_bias"), array("query"),
             array("key"), array("value"), array("gate"), array("gate_bias"), array("output"), array("output_bias"),
             py::arg("heads"), py::arg("eps"))
        .def("__call__", &attend,
             "x, residual, out [rows, columns, channels]; pair_bias [heads, columns, columns], contiguous; "
             "mask [rows, columns].",
             array("x"), array("pair_bias").none(true), array("mask").none(true), py::arg("inf"),
             array("residual").none(true), array("out"), py::arg("threads"));
    py::class_<PairBias>(m, "PairBias", "Layer norm and a linear layer without bias, heads first.")
        .def(py::init(&pair_bias), py::kw_only(), array("norm_weight"), array("norm_bias"), array("weight"),
             py::arg("eps"))
        .def("__call__", &bias_of, "z [rows, columns, channels]; out [heads, rows, columns], contiguous.", array("z"),
             array("out"), py::arg("threads"));
}
