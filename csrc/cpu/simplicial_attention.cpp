#include "openfoldpp/simplicial_attention.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "checks.h"
#include "kernels.h"
#include "openfoldpp/matrix.h"
#include "openfoldpp/parallel.h"

namespace openfoldpp {
namespace {

// Multiplications below which another thread costs more to start than it saves.
constexpr std::int64_t kWorkPerThread = 1 << 21;
// So much less waits for the thread that starts last.
constexpr std::int64_t kRangesPerThread = 8;
// Backward sums the gradients of keys over so many parts of the queries, each by itself: enough parts for many
// threads, and always the same, so that the number of threads changes no bit. To make and to add up a part takes as
// long as a fraction of a query.
constexpr std::int64_t kParts = 16, kQueriesOfPart = 8;

std::int64_t round_up(std::int64_t n, std::int64_t multiple) { return (n + multiple - 1) / multiple * multiple; }

void check(const SimplicialAttention& in) {
    require_size("batch", in.batch);
    require_positive("kv_heads", in.kv_heads);
    require_positive("heads", in.heads);
    require_size("length", in.length);
    require_positive("channels", in.channels);
    if (in.heads % in.kv_heads != 0) {
        throw std::invalid_argument("heads is " + std::to_string(in.heads) + ", expected a multiple of kv_heads, " +
                                    std::to_string(in.kv_heads));
    }
    for (const auto& [name, window] : {std::pair("window_j", in.window_j), std::pair("window_k", in.window_k)}) {
        if (window >= -1) continue;
        throw std::invalid_argument(std::string(name) + " is " + std::to_string(window) +
                                    ", expected 0 or more, or -1 for none");
    }
}

// The keys of a batch element that the mask keeps.
struct CountedKeys {
    std::vector<std::int64_t> place, before;

    CountedKeys(const float* mask, std::int64_t length) : before{0} {
        for (std::int64_t i = 0; i < length; ++i) {
            if (mask == nullptr || mask[i] != 0.0f) place.push_back(i);
            before.push_back(static_cast<std::int64_t>(place.size()));
        }
    }
    std::int64_t count() const { return static_cast<std::int64_t>(place.size()); }
};

// The arguments as the kernels read them.
class Prepared {
public:
    Prepared(const SimplicialAttention& in, bool backward, int threads)
        : in_(in), kernel_(kernels().simplicial), backward_(backward) {
        for (std::int64_t b = 0; b < in.batch; ++b) {
            keys_.emplace_back(in.mask ? in.mask + b * in.length : nullptr, in.length);
        }
        const std::int64_t width = kernels().width;
        // A register read at the last key of a transposed row reaches past it.
        transposed_stride_ = in.length + width;
        matrix_floats_ = in.length * round_up(in.channels, width);
        transposed_floats_ = round_up(in.channels * transposed_stride_, width);
        // The keys in a query's reach, at most, each way round: the way with less rounding up is the cheaper.
        const std::int64_t j = reach(in.window_j), k = reach(in.window_k);
        const auto cost = [&](std::int64_t rows, std::int64_t columns) {
            return static_cast<double>(round_up(rows, kernel_.tile_rows)) * round_up(columns, width);
        };
        rows_are_j_ = cost(j, k) <= cost(k, j);
        pairs_ = static_cast<std::int64_t>(std::min(cost(j, k), cost(k, j)));
        packed_ = Buffer(in.batch * in.kv_heads * head_floats());
        parallel_for(in.batch * in.kv_heads, std::max<std::int64_t>(1, kWorkPerThread / (8 * matrix_floats_)), threads,
                     [&](std::int64_t begin, std::int64_t end) {
                         for (std::int64_t item = begin; item < end; ++item) pack(item);
                     });
    }

    const CountedKeys& keys(std::int64_t b) const { return keys_[b]; }
    bool rows_are_j() const { return rows_are_j_; }

    // Queries that are worth a thread, where each takes `products` products of channels for a pair.
    std::int64_t grain(std::int64_t products) const {
        return std::max<std::int64_t>(1, kWorkPerThread / (products * pairs_ * in_.channels + 1));
    }

    SimplicialHead head(std::int64_t b, std::int64_t h) const {
        const std::int64_t shared = h / (in_.heads / in_.kv_heads);
        const float* packed = packed_.data() + (b * in_.kv_heads + shared) * head_floats();
        SimplicialHead a = {};
        a.length = in_.length;
        a.count = keys_[b].count();
        a.channels = in_.channels;
        a.place = keys_[b].place.data();
        a.counted_before = keys_[b].before.data();
        a.row.keys = packed;
        a.row.values = packed + matrix_floats_;
        a.row.window = rows_are_j_ ? in_.window_j : in_.window_k;
        a.column.keys = packed + 2 * matrix_floats_;
        a.column.values = packed + 3 * matrix_floats_;
        a.column.window = rows_are_j_ ? in_.window_k : in_.window_j;
        a.column_keys_t = packed + 4 * matrix_floats_;
        a.column_values_t = backward_ ? a.column_keys_t + transposed_floats_ : nullptr;
        a.transposed_stride = transposed_stride_;
        a.scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(in_.channels)));
        a.q = in_.q.row(b, h, 0);
        a.q_row = in_.q.row_stride;
        if (in_.bias) a.bias = in_.bias.row(b, h, 0);
        a.bias_row = in_.bias.row_stride;
        a.bias_on_rows = rows_are_j_;
        return a;
    }

private:
    std::int64_t reach(std::int64_t window) const {
        return window < 0 || window > (in_.length - 1) / 2 ? in_.length : 2 * window + 1;
    }
    std::int64_t head_floats() const { return 4 * matrix_floats_ + (backward_ ? 2 : 1) * transposed_floats_; }

    void pack(std::int64_t item) {
        const std::int64_t b = item / in_.kv_heads, h = item % in_.kv_heads, d = in_.channels;
        const CountedKeys& keys = keys_[b];
        float* to = packed_.data() + item * head_floats();
        std::vector<float> gathered(keys.count() * d);
        const auto gather = [&](const HeadView<const float>& from) {
            for (std::int64_t i = 0; i < keys.count(); ++i) {
                std::copy_n(from.row(b, h, keys.place[i]), d, gathered.data() + i * d);
            }
        };
        const auto transpose = [&](float* transposed) {
            std::fill_n(transposed, transposed_floats_, 0.0f);
            for (std::int64_t l = 0; l < d; ++l) {
                for (std::int64_t i = 0; i < keys.count(); ++i) {
                    transposed[l * transposed_stride_ + i] = gathered[i * d + l];
                }
            }
        };
        const HeadView<const float>* order[] = {&in_.k, &in_.v, &in_.k2, &in_.v2};
        for (int matrix = 0; matrix < 4; ++matrix) {
            const bool column = matrix >= 2;
            gather(*order[rows_are_j_ ? matrix : (matrix + 2) % 4]);
            kernel_.pack(gathered.data(), keys.count(), d, to + matrix * matrix_floats_);
            if (column && (matrix == 2 || backward_)) {
                transpose(to + 4 * matrix_floats_ + (matrix - 2) * transposed_floats_);
            }
        }
    }

    const SimplicialAttention& in_;
    const SimplicialKernels& kernel_;
    bool backward_, rows_are_j_;
    std::vector<CountedKeys> keys_;
    std::int64_t transposed_stride_, matrix_floats_, transposed_floats_, pairs_;
    Buffer packed_;
};

}  // namespace

void simplicial_attention(const SimplicialAttention& in, const HeadView<float>& out, float* statistics, int threads) {
    check(in);
    if (in.batch * in.heads * in.length == 0) return;
    const Prepared prepared(in, false, threads);
    const SimplicialKernels& kernel = kernels().simplicial;
    parallel_for(in.batch * in.heads * in.length, prepared.grain(2), threads,
                 [&](std::int64_t begin, std::int64_t end) {
                     SimplicialHead a = prepared.head(0, 0);
                     a.count = in.length;  // scratch for any batch element
                     Buffer scratch(kernel.forward_scratch(a));
                     while (begin < end) {
                         const std::int64_t head = begin / in.length, first = begin % in.length;
                         const std::int64_t last = std::min(in.length, first + end - begin);
                         const std::int64_t b = head / in.heads, h = head % in.heads;
                         a = prepared.head(b, h);
                         a.out = out.row(b, h, 0);
                         a.out_row = out.row_stride;
                         a.statistics = statistics ? statistics + 2 * head * in.length : nullptr;
                         kernel.forward(a, first, last, scratch.data());
                         begin += last - first;
                     }
                 },
                 kRangesPerThread);
}

void simplicial_attention_backward(const SimplicialAttention& in, const float* statistics,
                                   const HeadView<const float>& d_out,
                                   const SimplicialGradients<float>& gradients, int threads) {
    check(in);
    if (in.batch * in.heads * in.length == 0) return;
    const Prepared prepared(in, true, threads);
    const SimplicialKernels& kernel = kernels().simplicial;
    const std::int64_t shared = in.batch * in.kv_heads, group = in.heads / in.kv_heads;
    const std::int64_t parts = std::clamp<std::int64_t>((kParts + shared - 1) / shared, 1,
                                                            std::max<std::int64_t>(1, in.length / kQueriesOfPart));
    const std::int64_t wide = round_up(in.channels, kernels().width), matrix = in.length * wide;
    // [batch][kv_heads][parts][4: keys and values of the rows, and of the columns][length][wide]
    Buffer sums(shared * parts * 4 * matrix);
    const std::int64_t grain = std::max<std::int64_t>(1, prepared.grain(6) * parts / (group * in.length));
    parallel_for(shared * parts, grain, threads, [&](std::int64_t begin, std::int64_t end) {
        SimplicialHead a = prepared.head(0, 0);
        a.count = in.length;
        Buffer scratch(kernel.backward_scratch(a));
        for (std::int64_t item = begin; item < end; ++item) {
            const std::int64_t b = item / parts / in.kv_heads, part = item % parts;
            float* sum = sums.data() + item * 4 * matrix;
            std::fill_n(sum, 4 * matrix, 0.0f);
            for (std::int64_t member = 0; member < group; ++member) {
                const std::int64_t h = item / parts % in.kv_heads * group + member;
                a = prepared.head(b, h);
                a.row.d_keys = sum;
                a.row.d_values = sum + matrix;
                a.column.d_keys = sum + 2 * matrix;
                a.column.d_values = sum + 3 * matrix;
                a.known_statistics = statistics + 2 * (b * in.heads + h) * in.length;
                a.d_out = d_out.row(b, h, 0);
                a.d_out_row = d_out.row_stride;
                a.d_q = gradients.q.row(b, h, 0);
                a.d_q_row = gradients.q.row_stride;
                if (gradients.bias) a.d_bias = gradients.bias.row(b, h, 0);
                a.d_bias_row = gradients.bias.row_stride;
                kernel.backward(a, in.length * part / parts, in.length * (part + 1) / parts, scratch.data());
            }
        }
    });

    const HeadView<float> order[] = {gradients.k, gradients.v, gradients.k2, gradients.v2};
    const std::int64_t rows_grain = std::max<std::int64_t>(1, kWorkPerThread / (16 * parts * wide));
    parallel_for(shared * in.length, rows_grain, threads, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t item = begin; item < end; ++item) {
            const std::int64_t b = item / in.length / in.kv_heads, h = item / in.length % in.kv_heads;
            const std::int64_t i = item % in.length, at = prepared.keys(b).before[i];
            const bool counts = prepared.keys(b).before[i + 1] > at;
            for (int which = 0; which < 4; ++which) {
                float* to = order[prepared.rows_are_j() ? which : (which + 2) % 4].row(b, h, i);
                const float* from = sums.data() + ((item / in.length) * parts * 4 + which) * matrix + at * wide;
                std::fill_n(to, in.channels, 0.0f);
                for (std::int64_t part = 0; counts && part < parts; ++part, from += 4 * matrix) {
                    for (std::int64_t c = 0; c < in.channels; ++c) to[c] += from[c];
                }
            }
        }
    });
}

}  // namespace openfoldpp
