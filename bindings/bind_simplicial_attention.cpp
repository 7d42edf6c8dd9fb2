// 2-simplicial attention: numpy views in and out.
#include "openfoldpp/simplicial_attention.h"

#include "arrays.h"

namespace py = pybind11;
using namespace openfoldpp::bindings;
using openfoldpp::HeadView;
using openfoldpp::SimplicialAttention;

namespace {

using Window = std::pair<std::optional<std::int64_t>, std::optional<std::int64_t>>;

// [batch, heads, rows, elements], the elements side by side; -1 stands for any size.
HeadView<const float> heads(const char* name, const Array& array, std::initializer_list<std::int64_t> shape) {
    require_shape(name, array, shape);
    require_dense_last(name, array);
    return {array.data(), stride_of(array, 0), stride_of(array, 1), stride_of(array, 2)};
}

// As heads(); ValueError where the array is read-only.
HeadView<float> mutable_heads(const char* name, Array& array, std::initializer_list<std::int64_t> shape) {
    const HeadView<const float> view = heads(name, array, shape);
    return {array.mutable_data(), view.batch_stride, view.head_stride, view.row_stride};
}

std::int64_t half_width(const char* name, std::optional<std::int64_t> window) {
    if (!window) return -1;
    if (*window >= 0) return *window;
    throw py::value_error(std::string(name) + " is " + std::to_string(*window) + ", expected 0 or more, or None");
}

SimplicialAttention inputs(const Array& q, const Array& k, const Array& k2, const Array& v, const Array& v2,
                           const OptionalArray& mask, const OptionalArray& bias, const Window& window) {
    SimplicialAttention in;
    in.q = heads("q", q, {-1, -1, -1, -1});
    in.batch = q.shape(0);
    in.heads = q.shape(1);
    in.length = q.shape(2);
    in.channels = q.shape(3);
    in.k = heads("k", k, {in.batch, -1, in.length, in.channels});
    in.kv_heads = k.shape(1);
    in.k2 = heads("k2", k2, {in.batch, in.kv_heads, in.length, in.channels});
    in.v = heads("v", v, {in.batch, in.kv_heads, in.length, in.channels});
    in.v2 = heads("v2", v2, {in.batch, in.kv_heads, in.length, in.channels});
    in.mask = dense("mask", mask, {in.batch, in.length});
    if (bias) in.bias = heads("bias", *bias, {in.batch, in.heads, in.length, in.length});
    in.window_j = half_width("window's first", window.first);
    in.window_k = half_width("window's second", window.second);
    return in;
}

void forward(const Array& q, const Array& k, const Array& k2, const Array& v, const Array& v2,
             const OptionalArray& mask, const OptionalArray& bias, const Window& window, Array out, Array statistics,
             int threads) {
    const SimplicialAttention in = inputs(q, k, k2, v, v2, mask, bias, window);
    const HeadView<float> to = mutable_heads("out", out, {in.batch, in.heads, in.length, in.channels});
    float* kept = mutable_dense("statistics", statistics, {in.batch, in.heads, in.length, 2});
    py::gil_scoped_release unlocked;
    openfoldpp::simplicial_attention(in, to, kept, threads);
}

void backward(const Array& q, const Array& k, const Array& k2, const Array& v, const Array& v2,
              const OptionalArray& mask, const OptionalArray& bias, const Window& window, const Array& statistics,
              const Array& d_out, Array d_q, Array d_k, Array d_k2, Array d_v, Array d_v2,
              std::optional<Array> d_bias, int threads) {
    const SimplicialAttention in = inputs(q, k, k2, v, v2, mask, bias, window);
    const auto of_queries = {in.batch, in.heads, in.length, in.channels};
    const auto of_keys = {in.batch, in.kv_heads, in.length, in.channels};
    const HeadView<const float> gradient = heads("d_out", d_out, of_queries);
    const float* kept = dense("statistics", statistics, {in.batch, in.heads, in.length, 2});
    openfoldpp::SimplicialGradients<float> to;
    to.q = mutable_heads("d_q", d_q, of_queries);
    to.k = mutable_heads("d_k", d_k, of_keys);
    to.k2 = mutable_heads("d_k2", d_k2, of_keys);
    to.v = mutable_heads("d_v", d_v, of_keys);
    to.v2 = mutable_heads("d_v2", d_v2, of_keys);
    if (d_bias && !bias) throw py::value_error("d_bias is given, but no bias");
    if (d_bias) to.bias = mutable_heads("d_bias", *d_bias, {in.batch, in.heads, in.length, in.length});
    py::gil_scoped_release unlocked;
    openfoldpp::simplicial_attention_backward(in, kept, gradient, to, threads);
}

}  // namespace

void bind_simplicial_attention(py::module_& m) {
    const auto array = [](const char* name) { return py::arg(name).noconvert(); };
    m.def("simplicial_attention_forward", &forward,
          "q, out [batch, heads, n, channels]; k, k2, v, v2 [batch, kv_heads, n, channels]; mask [batch, n] and "
          "statistics [batch, heads, n, 2], contiguous; bias [batch, heads, n, n]; window (j or None, k or None).",
          array("q"), array("k"), array("k2"), array("v"), array("v2"), array("mask").none(true),
          array("bias").none(true), py::arg("window"), array("out"), array("statistics"), py::arg("threads"));
    m.def("simplicial_attention_backward", &backward,
          "As forward; d_out as out, and each gradient as what it is of. d_bias may be None.", array("q"), array("k"),
          array("k2"), array("v"), array("v2"), array("mask").none(true), array("bias").none(true), py::arg("window"),
          array("statistics"), array("d_out"), array("d_q"), array("d_k"), array("d_k2"), array("d_v"),
          array("d_v2"), array("d_bias").none(true), py::arg("threads"));
}
