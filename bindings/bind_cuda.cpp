// CUDA kernels, in builds with OPENFOLDPP_CUDA only. They take device addresses as integers: the ops check the
// tensors before, and nothing here can.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <cstdint>

#include "openfoldpp/cuda_simplicial_attention.h"
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

// Address, and strides of batch, head and row in elements; the address is 0 for none.
using View = std::array<std::int64_t, 4>;

template <class T>
openfoldpp::HeadView<T> heads(const View& view) {
    return {pointer<T>(static_cast<std::uintptr_t>(view[0])), view[1], view[2], view[3]};
}

// What forward and backward are given, of either dtype.
struct SimplicialArguments {
    std::array<std::int64_t, 5> sizes;  // batch, heads, kv_heads, length, channels
    std::array<std::int64_t, 2> window;
    View q, k, k2, v, v2;
    std::uintptr_t mask;
    View bias;

    template <class T>
    openfoldpp::SimplicialInputs<T> inputs() const {
        return {sizes[0],           sizes[1],           sizes[2],         sizes[3],           sizes[4],
                window[0],          window[1],          heads<const T>(q), heads<const T>(k), heads<const T>(k2),
                heads<const T>(v), heads<const T>(v2), pointer<const float>(mask), heads<const T>(bias)};
    }
};

template <class T>
void simplicial_forward(const SimplicialArguments& arguments, const View& out, std::uintptr_t statistics,
                        std::uintptr_t stream) {
    openfoldpp::cuda_simplicial_attention(arguments.inputs<T>(), heads<T>(out), pointer<float>(statistics),
                                          pointer<void>(stream));
}

template <class T>
void simplicial_backward(const SimplicialArguments& arguments, const View& out, std::uintptr_t statistics,
                         const View& d_out, const std::array<View, 6>& gradients, std::uintptr_t workspace,
                         std::uintptr_t stream) {
    const auto& [q, k, k2, v, v2, bias] = gradients;
    openfoldpp::cuda_simplicial_attention_backward(
        arguments.inputs<T>(), heads<const T>(out), pointer<const float>(statistics), heads<const T>(d_out),
        {heads<T>(q), heads<T>(k), heads<T>(k2), heads<T>(v), heads<T>(v2), heads<T>(bias)}, pointer<void>(workspace),
        pointer<void>(stream));
}

void bind_simplicial(py::module_& m) {
    m.def(
        "cuda_simplicial_attention_forward",
        [](bool bfloat16s, const std::array<std::int64_t, 5>& sizes, const std::array<std::int64_t, 2>& window,
           const View& q, const View& k, const View& k2, const View& v, const View& v2, std::uintptr_t mask,
           const View& bias, const View& out, std::uintptr_t statistics, std::uintptr_t stream) {
            const SimplicialArguments arguments = {sizes, window, q, k, k2, v, v2, mask, bias};
            (bfloat16s ? simplicial_forward<bfloat16> : simplicial_forward<float>)(arguments, out, statistics, stream);
        },
        py::arg("bfloat16"), py::arg("sizes"), py::arg("window"), py::arg("q"), py::arg("k"), py::arg("k2"),
        py::arg("v"), py::arg("v2"), py::arg("mask"), py::arg("bias"), py::arg("out"), py::arg("statistics"),
        py::arg("stream"), py::call_guard<py::gil_scoped_release>());
    m.def(
        "cuda_simplicial_attention_backward",
        [](bool bfloat16s, const std::array<std::int64_t, 5>& sizes, const std::array<std::int64_t, 2>& window,
           const View& q, const View& k, const View& k2, const View& v, const View& v2, std::uintptr_t mask,
           const View& bias, const View& out, std::uintptr_t statistics, const View& d_out, const View& d_q,
           const View& d_k, const View& d_k2, const View& d_v, const View& d_v2, const View& d_bias,
           std::uintptr_t workspace, std::uintptr_t stream) {
            const SimplicialArguments arguments = {sizes, window, q, k, k2, v, v2, mask, bias};
            (bfloat16s ? simplicial_backward<bfloat16> : simplicial_backward<float>)(
                arguments, out, statistics, d_out, {d_q, d_k, d_k2, d_v, d_v2, d_bias}, workspace, stream);
        },
        py::arg("bfloat16"), py::arg("sizes"), py::arg("window"), py::arg("q"), py::arg("k"), py::arg("k2"),
        py::arg("v"), py::arg("v2"), py::arg("mask"), py::arg("bias"), py::arg("out"), py::arg("statistics"),
        py::arg("d_out"), py::arg("d_q"), py::arg("d_k"), py::arg("d_k2"), py::arg("d_v"), py::arg("d_v2"),
        py::arg("d_bias"), py::arg("workspace"), py::arg("stream"), py::call_guard<py::gil_scoped_release>());
    m.def(
        "cuda_simplicial_workspace",
        [](bool bfloat16s, const std::array<std::int64_t, 5>& sizes, const std::array<std::int64_t, 2>& window) {
            const SimplicialArguments arguments = {sizes, window, {}, {}, {}, {}, {}, 0, {}};
            return bfloat16s ? openfoldpp::cuda_simplicial_workspace(arguments.inputs<bfloat16>())
                             : openfoldpp::cuda_simplicial_workspace(arguments.inputs<float>());
        },
        py::arg("bfloat16"), py::arg("sizes"), py::arg("window"));
}

}  // namespace

void bind_cuda(py::module_& m) {
    m.def("cuda_softmax_forward", &forward, py::arg("logits"), py::arg("bfloat16"), py::arg("rows"), py::arg("cols"),
          py::arg("stream"), py::call_guard<py::gil_scoped_release>());
    m.def("cuda_softmax_backward", &backward, py::arg("probabilities"), py::arg("grad_out"), py::arg("values"),
          py::arg("bfloat16"), py::arg("batch"), py::arg("queries"), py::arg("keys"), py::arg("channels"),
          py::arg("stream"), py::call_guard<py::gil_scoped_release>());
    bind_simplicial(m);
}
