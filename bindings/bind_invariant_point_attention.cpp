// InvariantPointAttention: weights packed once, then numpy views in and out.
#include "openfoldpp/invariant_point_attention.h"

#include "arrays.h"

namespace py = pybind11;
using namespace openfoldpp::bindings;
using openfoldpp::Grid;
using openfoldpp::InvariantPointAttention;
using openfoldpp::MutableGrid;

namespace {

// Outputs of a layer for each of `parts`; ValueError where they cannot be shared out.
std::int64_t share(const char* name, const Array& weight, std::int64_t parts, const char* meaning) {
    require_shape(name, weight, {-1, -1});
    const std::int64_t outputs = weight.shape(0);
    if (parts > 0 && outputs % parts == 0) return outputs / parts;
    throw py::value_error(std::string(name) + " has " + std::to_string(outputs) + " outputs, expected a multiple of " +
                          std::to_string(parts) + " (" + meaning + ")");
}

InvariantPointAttention invariant_point_attention(
    const Array& query, const Array& query_bias, const Array& key_value, const Array& key_value_bias,
    const Array& query_point, const Array& query_point_bias, const Array& key_value_point,
    const Array& key_value_point_bias, const Array& pair, const Array& pair_bias, const Array& head_weights,
    const Array& output, const Array& output_bias, float eps) {
    require_shape("pair", pair, {-1, -1});
    openfoldpp::InvariantPointAttentionWeights w = {};
    w.heads = pair.shape(0);
    w.pair_channels = pair.shape(1);
    w.head_channels = share("query", query, w.heads, "heads");
    w.channels = query.shape(1);
    w.query_points = share("query_point", query_point, 3 * w.heads, "coordinates and heads");
    w.value_points = share("key_value_point", key_value_point, 3 * w.heads, "coordinates and heads") - w.query_points;
    const std::int64_t hidden = w.heads * w.head_channels, points = 3 * w.heads * w.query_points;
    const std::int64_t key_value_points = 3 * w.heads * (w.query_points + w.value_points);
    const std::int64_t features = w.heads * (w.head_channels + 4 * w.value_points + w.pair_channels);
    w.query = dense("query", query, {hidden, w.channels});
    w.query_bias = dense("query_bias", query_bias, {hidden});
    w.key_value = dense("key_value", key_value, {2 * hidden, w.channels});
    w.key_value_bias = dense("key_value_bias", key_value_bias, {2 * hidden});
    w.query_point = dense("query_point", query_point, {points, w.channels});
    w.query_point_bias = dense("query_point_bias", query_point_bias, {points});
    w.key_value_point = dense("key_value_point", key_value_point, {key_value_points, w.channels});
    w.key_value_point_bias = dense("key_value_point_bias", key_value_point_bias, {key_value_points});
    w.pair = dense("pair", pair, {w.heads, w.pair_channels});
    w.pair_bias = dense("pair_bias", pair_bias, {w.heads});
    w.head_weights = dense("head_weights", head_weights, {w.heads});
    w.output = dense("output", output, {w.channels, features});
    w.output_bias = dense("output_bias", output_bias, {w.channels});
    w.eps = eps;
    return InvariantPointAttention(w);
}

void attend(const InvariantPointAttention& self, const Array& s, const Array& z, const Array& rotations,
            const Array& translations, const OptionalArray& mask, float inf, Array out, int threads) {
    require_shape("s", s, {-1, -1});
    require_dense_last("s", s);
    const std::int64_t n = s.shape(0);
    const Grid pair = grid("z", z);
    const float* rotation = dense("rotations", rotations, {n, 3, 3});
    const float* translation = dense("translations", translations, {n, 3});
    const float* counts = dense("mask", mask, {n});
    require_shape("out", out, {n, -1});
    require_dense_last("out", out);
    const Grid from = {s.data(), 1, n, s.shape(1), 0, stride_of(s, 0)};
    const MutableGrid to = {out.mutable_data(), 1, n, out.shape(1), 0, stride_of(out, 0)};
    py::gil_scoped_release unlocked;
    self(from, pair, rotation, translation, counts, inf, to, threads);
}

}  // namespace

void bind_invariant_point_attention(py::module_& m) {
    const auto array = [](const char* name) { return py::arg(name).noconvert(); };
    py::class_<InvariantPointAttention>(m, "InvariantPointAttention",
                                        "Invariant point attention; weights as torch.nn.Linear has them.")
        .def(py::init(&invariant_point_attention), py::kw_only(), array("query"), array("query_bias"),
             array("key_value"), array("key_value_bias"), array("query_point"), array("query_point_bias"),
             array("key_value_point"), array("key_value_point_bias"), array("pair"), array("pair_bias"),
             array("head_weights"), array("output"), array("output_bias"), py::arg("eps"))
        .def("__call__", &attend,
             "s, out [n, channels]; z [n, n, pair_channels]; rotations [n, 3, 3], translations [n, 3] and mask [n], "
             "contiguous.",
             array("s"), array("z"), array("rotations"), array("translations"), array("mask").none(true),
             py::arg("inf"), array("out"), py::arg("threads"));
}
