// Checks of arguments that the ops share; a refusal is std::invalid_argument with the name and the value.
#pragma once

#include <stdexcept>
#include <string>

#include "openfoldpp/views.h"

namespace openfoldpp {

inline void require_size(const char* name, std::int64_t value) {
    if (value >= 0) return;
    throw std::invalid_argument(std::string(name) + " is " + std::to_string(value) + ", expected 0 or more");
}

inline void require_equal(const char* name, std::int64_t value, std::int64_t expected) {
    if (value == expected) return;
    throw std::invalid_argument(std::string(name) + " is " + std::to_string(value) + ", expected " +
                                std::to_string(expected));
}

inline void require_positive(const char* name, std::int64_t value) {
    if (value > 0) return;
    throw std::invalid_argument(std::string(name) + " is " + std::to_string(value) + ", expected at least 1");
}

template <class T>
void require_grid(const std::string& name, const GridView<T>& grid, std::int64_t rows, std::int64_t columns,
                  std::int64_t channels) {
    require_equal((name + " rows").c_str(), grid.rows, rows);
    require_equal((name + " columns").c_str(), grid.columns, columns);
    require_equal((name + " channels").c_str(), grid.channels, channels);
}

}  // namespace openfoldpp
