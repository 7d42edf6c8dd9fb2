// Checks of the arguments of 2-simplicial attention on a GPU, and the choice of a kernel by channels.
#pragma once

#include <algorithm>
#include <type_traits>

#include "launch.h"
#include "openfoldpp/simplicial_attention.h"

namespace openfoldpp {
namespace {

// Rows are copied 16 bytes at a time.
template <class T>
void require_heads(const std::string& name, const HeadView<T>& view, std::int64_t batch, std::int64_t heads,
                   std::int64_t rows) {
    require(view.data != nullptr, name + " is missing");
    constexpr std::int64_t piece = 16 / sizeof(T);
    require(reinterpret_cast<std::uintptr_t>(view.data) % 16 == 0 &&
                (batch <= 1 || view.batch_stride % piece == 0) && (heads <= 1 || view.head_stride % piece == 0) &&
                (rows <= 1 || view.row_stride % piece == 0),
            name + " has vectors that do not begin at multiples of 16 bytes");
}

template <class T>
void require_sizes(const SimplicialInputs<T>& a) {
    require(a.batch >= 0 && a.heads >= 0 && a.kv_heads >= 0, "batch, heads or kv_heads is negative");
    require(a.length >= 0 && a.length <= 1 << 20,
            "length is " + std::to_string(a.length) + ", expected 0 to " + std::to_string(1 << 20));
    require(a.heads == 0 || (a.kv_heads > 0 && a.heads % a.kv_heads == 0),
            "heads is " + std::to_string(a.heads) + ", expected a multiple of kv_heads, which is " +
                std::to_string(a.kv_heads));
    require(a.window_j >= -1 && a.window_k >= -1, "a window is below -1");
}

template <class T>
void require_inputs(const SimplicialInputs<T>& a) {
    require_sizes(a);
    if (a.batch == 0 || a.heads == 0 || a.length == 0) return;
    require_heads("q", a.q, a.batch, a.heads, a.length);
    require_heads("k", a.k, a.batch, a.kv_heads, a.length);
    require_heads("k2", a.k2, a.batch, a.kv_heads, a.length);
    require_heads("v", a.v, a.batch, a.kv_heads, a.length);
    require_heads("v2", a.v2, a.batch, a.kv_heads, a.length);
}

// function(std::integral_constant<int, channels>)
template <class Function>
void with_channels(std::int64_t channels, Function function) {
    switch (channels) {
        case 16: return function(std::integral_constant<int, 16>{});
        case 32: return function(std::integral_constant<int, 32>{});
        case 64: return function(std::integral_constant<int, 64>{});
        case 128: return function(std::integral_constant<int, 128>{});
        default: require(false, "channels is " + std::to_string(channels) + ", expected 16, 32, 64 or 128");
    }
}

}  // namespace
}  // namespace openfoldpp
