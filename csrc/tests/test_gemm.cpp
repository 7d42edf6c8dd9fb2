// The matrix product that every kernel is made of, at the scalar level. Its order of summation is known, so
// results are compared bit for bit with plain loops; arrays end where the last element does.
#include <algorithm>
#include <string>
#include <vector>

#include "../cpu/vec_scalar.h"
// After a vec_*.h.
#include "../cpu/gemm.h"
#include "check.h"
#include "reference.h"

using namespace openfoldpp;
using namespace reference;

namespace {

constexpr std::int64_t kSizes[] = {1, 5, 6, 7, 8, 9, 15, 16, 17, 24, 33, 40};
constexpr std::int64_t kDepths[] = {1, 2, 19, 64, 65, 150};
static_assert(kRun == 64);  // the depths end within the first run, with it, just after it and within the third

std::vector<float> packed(const std::vector<float>& b, std::int64_t depth, std::int64_t columns) {
    std::vector<float> result(depth * round_up(columns, Vec::width));
    for (std::int64_t k = 0; k < depth; ++k) {
        for (std::int64_t c = 0; c < columns; ++c) result.at(packed_index(k, c, depth, columns)) = b[k * columns + c];
    }
    return result;
}

// By plain loops: each run of kRun steps is summed from zero, then added to the runs before it.
std::vector<float> product(const std::vector<float>& a, const std::vector<float>& b, std::int64_t rows,
                           std::int64_t depth, std::int64_t columns) {
    std::vector<float> result(rows * columns, 0.0f);
    for (std::int64_t r = 0; r < rows; ++r) {
        for (std::int64_t c = 0; c < columns; ++c) {
            for (std::int64_t begin = 0; begin < depth; begin += kRun) {
                float run = 0.0f;
                for (std::int64_t k = begin; k < std::min(begin + kRun, depth); ++k) {
                    run += a[r * depth + k] * b[k * columns + c];
                }
                result[r * columns + c] += run;
            }
        }
    }
    return result;
}

// As multiply(), stored densely; what is left of a register past the last column has to be zero.
template <class Left>
std::vector<float> stored(const Left& a, std::int64_t rows, const std::vector<float>& b, std::int64_t depth,
                          std::int64_t columns) {
    std::vector<float> result(rows * columns);
    std::vector<int> visits(rows * columns);
    multiply(a, rows, b.data(), depth, columns, [&](std::int64_t r, std::int64_t c, Vec sum) {
        put(result.data() + r * columns + c, sum, columns - c);
        for (int l = 0; l < Vec::width; ++l) {
            if (c + l < columns) {
                ++visits[r * columns + c + l];
            } else {
                CHECK(sum.lane[l] == 0.0f);
            }
        }
    });
    for (int count : visits) CHECK(count == 1);
    return result;
}

}  // namespace

TEST(a_product_is_the_plain_loops) {
    for (std::int64_t rows : kSizes) {
        for (std::int64_t columns : kSizes) {
            for (std::int64_t depth : kDepths) {
                const std::vector<float> a = draw(rows * depth, 1.0f, 1), b = draw(depth * columns, 1.0f, 2);
                const std::vector<float> result =
                    stored(RowMajor{a.data(), depth}, rows, packed(b, depth, columns), depth, columns);
                CHECK(same_bits(result, product(a, b, rows, depth, columns)));
            }
        }
    }
}

TEST(rows_may_be_apart) {
    const std::int64_t rows = 8, depth = 5, columns = 11, stride = 9;
    const std::vector<float> apart = draw((rows - 1) * stride + depth, 1.0f, 3), b = draw(depth * columns, 1.0f, 4);
    std::vector<float> a;
    for (std::int64_t r = 0; r < rows; ++r) a.insert(a.end(), &apart[r * stride], &apart[r * stride] + depth);
    const std::vector<float> result =
        stored(RowMajor{apart.data(), stride}, rows, packed(b, depth, columns), depth, columns);
    CHECK(same_bits(result, product(a, b, rows, depth, columns)));
}

TEST(the_left_matrix_may_be_transposed) {
    for (std::int64_t rows : kSizes) {
        const std::int64_t depth = 7, columns = 17, stride = rows + 2;
        const std::vector<float> a = draw(rows * depth, 1.0f, 5), b = draw(depth * columns, 1.0f, 6);
        std::vector<float> transposed((depth - 1) * stride + rows + kTileRows - 1, 0.0f);
        for (std::int64_t r = 0; r < rows; ++r) {
            for (std::int64_t k = 0; k < depth; ++k) transposed[k * stride + r] = a[r * depth + k];
        }
        const std::vector<float> result =
            stored(DepthMajor{transposed.data(), stride}, rows, packed(b, depth, columns), depth, columns);
        CHECK(same_bits(result, product(a, b, rows, depth, columns)));
    }
}

TEST(a_product_over_nothing_is_zero_and_an_empty_one_is_not_stored) {
    const std::vector<float> nothing;
    CHECK(same_bits(stored(RowMajor{nullptr, 0}, 3, nothing, 0, 5), std::vector<float>(15, 0.0f)));
    CHECK(stored(RowMajor{nullptr, 2}, 0, std::vector<float>(16, 1.0f), 2, 5).empty());
    CHECK(stored(RowMajor{draw(6, 1.0f, 7).data(), 2}, 3, nothing, 2, 0).empty());
}
