// Borrowed arrays with strides.
#pragma once

#include <cstdint>

namespace openfoldpp {

// Vectors of `channels` floats in a grid; vector (i, j) begins at data + i * row_stride + j * column_stride.
// Strides count floats and may have any sign. A view with no data stands for "none" where that is allowed.
template <class T>
struct GridView {
    T* data = nullptr;
    std::int64_t rows = 0, columns = 0, channels = 0;
    std::int64_t row_stride = 0, column_stride = 0;

    explicit operator bool() const { return data != nullptr; }
};

using Grid = GridView<const float>;
using MutableGrid = GridView<float>;

}  // namespace openfoldpp
