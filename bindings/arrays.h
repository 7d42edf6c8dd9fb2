// numpy arrays as the views of csrc: nothing is copied, and what would need a copy is refused by name.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>

#include "openfoldpp/views.h"

namespace openfoldpp::bindings {

// For arguments declared with py::arg(...).noconvert(): another dtype is then a TypeError, never a silent copy.
using Array = pybind11::array_t<float, 0>;
using OptionalArray = std::optional<Array>;

inline std::string shape_of(const Array& array) {
    std::string text;
    for (pybind11::ssize_t d = 0; d < array.ndim(); ++d) text += (d ? ", " : "") + std::to_string(array.shape(d));
    return "[" + text + "]";
}

// `expected` sizes, of which -1 stands for any; strides in whole floats.
inline void require_shape(const char* name, const Array& array, std::initializer_list<std::int64_t> expected) {
    bool fits = array.ndim() == static_cast<pybind11::ssize_t>(expected.size());
    std::string text;
    pybind11::ssize_t d = 0;
    for (const std::int64_t size : expected) {
        fits = fits && (size < 0 || array.shape(d) == size);
        text += (d++ ? ", " : "") + (size < 0 ? std::string("*") : std::to_string(size));
    }
    if (!fits) {
        throw pybind11::value_error(std::string(name) + " has shape " + shape_of(array) + ", expected [" + text + "]");
    }
    bool aligned = reinterpret_cast<std::uintptr_t>(array.data()) % alignof(float) == 0;
    for (d = 0; d < array.ndim(); ++d) aligned = aligned && array.strides(d) % alignof(float) == 0;
    if (!aligned) throw pybind11::value_error(std::string(name) + " is not aligned to whole floats");
}

inline void require_dense_last(const char* name, const Array& array) {
    const pybind11::ssize_t last = array.ndim() - 1;
    if (array.size() == 0 || array.shape(last) == 1 || array.strides(last) == sizeof(float)) return;
    throw pybind11::value_error(std::string(name) + " has a last dimension of stride " +
                                std::to_string(array.strides(last)) + " bytes, expected " +
                                std::to_string(sizeof(float)));
}

// Stride of dimension d in floats.
inline std::int64_t stride_of(const Array& array, pybind11::ssize_t d) {
    return array.strides(d) / static_cast<std::int64_t>(sizeof(float));
}

// [rows, columns, channels] with the channels side by side, any other strides.
inline Grid grid(const char* name, const Array& array) {
    require_shape(name, array, {-1, -1, -1});
    require_dense_last(name, array);
    return {array.data(), array.shape(0), array.shape(1), array.shape(2), stride_of(array, 0), stride_of(array, 1)};
}

inline Grid grid(const char* name, const OptionalArray& array) { return array ? grid(name, *array) : Grid{}; }

// As grid(); ValueError where the array is read-only.
inline MutableGrid mutable_grid(const char* name, Array& array) {
    const Grid view = grid(name, array);
    return {array.mutable_data(), view.rows, view.columns, view.channels, view.row_stride, view.column_stride};
}

// A mask [rows, columns] with any strides, as a grid of one channel.
inline Grid mask_grid(const char* name, const OptionalArray& array) {
    if (!array) return {};
    require_shape(name, *array, {-1, -1});
    return {array->data(), array->shape(0), array->shape(1), 1, stride_of(*array, 0), stride_of(*array, 1)};
}

// The floats of a C-contiguous array of this shape; -1 stands for any size.
inline const float* dense(const char* name, const Array& array, std::initializer_list<std::int64_t> shape) {
    require_shape(name, array, shape);
    if (!(array.flags() & pybind11::array::c_style)) {
        throw pybind11::value_error(std::string(name) + " is not contiguous");
    }
    return array.data();
}

inline const float* dense(const char* name, const OptionalArray& array, std::initializer_list<std::int64_t> shape) {
    return array ? dense(name, *array, shape) : nullptr;
}

// As dense(); ValueError where the array is read-only.
inline float* mutable_dense(const char* name, Array& array, std::initializer_list<std::int64_t> shape) {
    dense(name, array, shape);
    return array.mutable_data();
}

}  // namespace openfoldpp::bindings
