// The CUDA kernels of 2-simplicial attention, run on the CPU, against plain loops in double.
#include <cmath>
#include <limits>
#include <memory>
#include <stdexcept>

#include "../check.h"
#include "../reference.h"
#include "cuda_runtime.h"
#include "openfoldpp/cuda_simplicial_attention.h"

using namespace openfoldpp;

namespace {

struct Case {
    std::int64_t batch = 1, heads = 1, kv_heads = 1, length, channels, window_j = -1, window_k = -1;
    bool mask = false;
    float bias = 0;  // its scale
    float scale = 1;  // of q
};

template <class T>
struct Problem {
    Case shape;
    SimplicialInputs<T> inputs;
    std::vector<T> q, k, k2, v, v2, bias, d_out;
    std::vector<float> mask;
};

template <class T>
std::vector<T> rounded(const std::vector<float>& values) {
    std::vector<T> result;
    for (const float value : values) result.push_back(from_float<T>(value));
    return result;
}

template <class T>
HeadView<const T> view(const std::vector<T>& values, std::int64_t heads, std::int64_t length, std::int64_t channels) {
    return {values.data(), heads * length * channels, length * channels, channels};
}

template <class T>
std::unique_ptr<Problem<T>> problem(const Case& s, unsigned seed) {
    auto p = std::make_unique<Problem<T>>();
    p->shape = s;
    const std::int64_t q = s.batch * s.heads * s.length * s.channels, k = s.batch * s.kv_heads * s.length * s.channels;
    p->q = rounded<T>(reference::draw(q, s.scale, seed));
    p->k = rounded<T>(reference::draw(k, 1, seed + 1));
    p->k2 = rounded<T>(reference::draw(k, 1, seed + 2));
    p->v = rounded<T>(reference::draw(k, 1, seed + 3));
    p->v2 = rounded<T>(reference::draw(k, 1, seed + 4));
    p->d_out = rounded<T>(reference::draw(q, 1, seed + 5));
    p->inputs = {s.batch, s.heads, s.kv_heads, s.length, s.channels, s.window_j, s.window_k,
                 view(p->q, s.heads, s.length, s.channels), view(p->k, s.kv_heads, s.length, s.channels),
                 view(p->k2, s.kv_heads, s.length, s.channels), view(p->v, s.kv_heads, s.length, s.channels),
                 view(p->v2, s.kv_heads, s.length, s.channels), nullptr, {}};
    if (s.mask) {
        p->mask = reference::draw(s.batch * s.length, 1, seed + 6);
        for (float& value : p->mask) value = value > -0.5f ? 1.0f : 0.0f;
        std::fill(p->mask.begin(), p->mask.begin() + (s.batch > 1 ? s.length : 0), 0.0f);  // a whole row out
        p->inputs.mask = p->mask.data();
    }
    if (s.bias != 0) {
        p->bias = rounded<T>(reference::draw(s.batch * s.heads * s.length * s.length, s.bias, seed + 7));
        p->inputs.bias = view(p->bias, s.heads, s.length, s.length);
    }
    return p;
}

// Everything in double: out and, where d_out is used, the gradients of q, k, k2, v, v2, bias.
struct Exact {
    std::vector<double> out, q, k, k2, v, v2, bias;
};

template <class T>
Exact exact(const Problem<T>& p) {
    const auto& a = p.inputs;
    const std::int64_t n = a.length, d = a.channels;
    Exact e;
    e.out.resize(p.q.size());
    e.q.resize(p.q.size());
    for (auto* to : {&e.k, &e.k2, &e.v, &e.v2}) to->resize(p.k.size());
    e.bias.resize(a.batch * a.heads * n * n);
    std::vector<double> s(n * n), ds(n * n);
    for (std::int64_t b = 0; b < a.batch; ++b) {
        for (std::int64_t h = 0; h < a.heads; ++h) {
            const std::int64_t kv = (b * a.kv_heads + h / (a.heads / a.kv_heads)) * n * d, own = (b * a.heads + h) * n;
            for (std::int64_t i = 0; i < n; ++i) {
                const T* q = &p.q[(own + i) * d];
                const T* g = &p.d_out[(own + i) * d];
                double top = -std::numeric_limits<double>::infinity(), total = 0, inner = 0;
                for (std::int64_t j = 0; j < n; ++j) {
                    for (std::int64_t k = 0; k < n; ++k) {
                        const bool allowed = (a.window_j < 0 || std::abs(i - j) <= a.window_j) &&
                                             (a.window_k < 0 || std::abs(i - k) <= a.window_k) &&
                                             (!a.mask || (a.mask[b * n + j] != 0 && a.mask[b * n + k] != 0));
                        double logit = 0, dp = 0;
                        for (std::int64_t l = 0; l < d; ++l) {
                            const std::int64_t jl = kv + j * d + l, kl = kv + k * d + l;
                            logit += double(to_float(q[l])) * to_float(p.k[jl]) * to_float(p.k2[kl]);
                            dp += double(to_float(g[l])) * to_float(p.v[jl]) * to_float(p.v2[kl]);
                        }
                        logit /= std::sqrt(double(d));
                        if (a.bias) logit += to_float(p.bias[(own + i) * n + j]);
                        s[j * n + k] = allowed ? logit : -std::numeric_limits<double>::infinity();
                        ds[j * n + k] = dp;
                        top = std::max(top, s[j * n + k]);
                    }
                }
                if (top == -std::numeric_limits<double>::infinity()) continue;
                for (double& x : s) total += x = std::exp(x - top);
                for (std::int64_t jk = 0; jk < n * n; ++jk) inner += (s[jk] /= total) * ds[jk];
                for (std::int64_t j = 0; j < n; ++j) {
                    for (std::int64_t k = 0; k < n; ++k) {
                        const double w = s[j * n + k], da = w * (ds[j * n + k] - inner);
                        e.bias[(own + i) * n + j] += da;
                        if (w == 0) continue;
                        for (std::int64_t l = 0; l < d; ++l) {
                            const std::int64_t jl = kv + j * d + l, kl = kv + k * d + l;
                            const double ql = to_float(q[l]), gl = to_float(g[l]), scale = 1 / std::sqrt(double(d));
                            const double k1 = to_float(p.k[jl]), k2 = to_float(p.k2[kl]);
                            const double v1 = to_float(p.v[jl]), v2 = to_float(p.v2[kl]);
                            e.out[(own + i) * d + l] += w * v1 * v2;
                            e.q[(own + i) * d + l] += scale * da * k1 * k2;
                            e.k[jl] += scale * da * ql * k2;
                            e.k2[kl] += scale * da * ql * k1;
                            e.v[jl] += w * gl * v2;
                            e.v2[kl] += w * gl * v1;
                        }
                    }
                }
            }
        }
    }
    return e;
}

// The largest difference, as a part of the largest value; of a gradient that cancels, as the one of a single pair does,
// as a part of what cancels: sums of `channels` products.
template <class T>
double error(const std::vector<T>& values, const std::vector<double>& exact, double at_least) {
    double largest = at_least, difference = 0;
    for (const double value : exact) largest = std::max(largest, std::abs(value));
    for (std::size_t i = 0; i < exact.size(); ++i) {
        const double d = std::abs(to_float(values[i]) - exact[i]);
        difference = d <= difference ? difference : d;  // NaN stays
    }
    return difference / largest;
}

// Rounding to bfloat16 is by up to 2^-9 of a value. Some logits are above 20 here, and so are their errors.
template <class T>
double tolerance(const Case& s) {
    return (std::is_same<T, float>::value ? 1e-6 : 3e-2) * std::max(1.0f, s.scale);
}

template <class T>
std::vector<T> poisoned(std::size_t count) {
    return std::vector<T>(count, from_float<T>(std::numeric_limits<float>::quiet_NaN()));
}

template <class T>
struct Result {
    std::vector<T> out, q, k, k2, v, v2, bias;
};

template <class T>
Result<T> run(const Problem<T>& p, unsigned seed) {
    const Case& s = p.shape;
    const auto view = [&](std::vector<T>& values, std::int64_t heads, std::int64_t channels) {
        return HeadView<T>{values.data(), heads * s.length * channels, s.length * channels, channels};
    };
    const auto as_q = poisoned<T>(p.q.size()), as_k = poisoned<T>(p.k.size());
    Result<T> r = {as_q, as_q, as_k, as_k, as_k, as_k, poisoned<T>(p.bias.size())};
    auto statistics = poisoned<float>(2 * s.batch * s.heads * s.length);
    cuda_shim::executor().random.seed(seed);
    cuda_simplicial_attention(p.inputs, view(r.out, s.heads, s.channels), statistics.data(), nullptr);
    auto workspace = poisoned<float>(cuda_simplicial_workspace(p.inputs) / sizeof(float));
    const HeadView<const T> out = {r.out.data(), s.heads * s.length * s.channels, s.length * s.channels, s.channels};
    cuda_simplicial_attention_backward(
        p.inputs, out, statistics.data(), {p.d_out.data(), out.batch_stride, out.head_stride, out.row_stride},
        {view(r.q, s.heads, s.channels), view(r.k, s.kv_heads, s.channels), view(r.k2, s.kv_heads, s.channels),
         view(r.v, s.kv_heads, s.channels), view(r.v2, s.kv_heads, s.channels),
         p.bias.empty() ? HeadView<T>{} : view(r.bias, s.heads, s.length)},
        workspace.data(), nullptr);
    return r;
}

template <class T>
void check_case(const Case& s, unsigned seed) {
    const auto p = problem<T>(s, seed);
    const Result<T> r = run(*p, seed);
    const Exact e = exact(*p);
    const double floor = std::sqrt(static_cast<double>(s.channels));
    const double errors[] = {error(r.out, e.out, 0.1),  error(r.q, e.q, floor),   error(r.k, e.k, floor),
                             error(r.k2, e.k2, floor), error(r.v, e.v, 0.1), error(r.v2, e.v2, 0.1),
                             p->bias.empty() ? 0 : error(r.bias, e.bias, floor)};
    for (const double value : errors) {
        CHECK(value <= tolerance<T>(s));
        if (value <= tolerance<T>(s)) continue;
        std::printf("length %d channels %d heads %d/%d windows %d %d seed %u: error %g\n", int(s.length),
                    int(s.channels), int(s.heads), int(s.kv_heads), int(s.window_j), int(s.window_k), seed, value);
    }
}

const std::vector<Case>& cases() {
    static const std::vector<Case> all = {
        // batch, heads, kv_heads, length, channels, windows, mask, bias, scale
        {1, 1, 1, 1, 64},
        {1, 1, 1, 2, 16},
        {2, 2, 1, 7, 32},
        {1, 1, 1, 33, 64},
        {1, 1, 1, 64, 16},
        {1, 1, 1, 64, 32},
        {1, 1, 1, 40, 128},
        {2, 4, 2, 33, 32, -1, -1, true, 1},
        {1, 2, 1, 50, 16, -1, -1, true, 1e4f},
        {1, 1, 1, 70, 16, -1, -1, false, 0, 30},  // logits beyond what e^x holds
        {1, 2, 2, 70, 32, 0, 0, true, 1},
        {1, 2, 2, 70, 64, 5, 1, true, 1},
        {1, 1, 1, 70, 16, 1, 40, false, 1},
        {1, 1, 1, 70, 16, 40, -1, true},
        {1, 1, 1, 70, 16, -1, 5},
        {1, 1, 1, 129, 16},
    };
    return all;
}

// As many multiprocessors as make a block have four, two and one query, and the work be cut into few and many runs.
constexpr int kMultiprocessors[] = {1, 16, 200};

}  // namespace

TEST(simplicial_attention_and_its_gradients_are_close_to_double) {
    unsigned seed = 1;
    for (const Case& s : cases()) {
        ++seed;
        cuda_shim::multiprocessors = kMultiprocessors[seed % 3];
        check_case<bfloat16>(s, seed);
        cuda_shim::multiprocessors = kMultiprocessors[(seed + 1) % 3];
        check_case<float>(s, seed);
    }
}

TEST(simplicial_attention_has_the_same_bits_in_any_order_of_threads) {
    const Case s = {1, 2, 1, 50, 32, 20, -1, true, 1};
    const auto p = problem<bfloat16>(s, 3);
    const Result<bfloat16> first = run(*p, 1);
    for (const unsigned seed : {2u, 3u, 4u}) {
        const Result<bfloat16> again = run(*p, seed);
        const auto same = [](const std::vector<bfloat16>& a, const std::vector<bfloat16>& b) {
            return std::memcmp(a.data(), b.data(), a.size() * sizeof(bfloat16)) == 0;
        };
        CHECK(same(first.out, again.out) && same(first.q, again.q) && same(first.k, again.k));
        CHECK(same(first.k2, again.k2) && same(first.v, again.v) && same(first.v2, again.v2));
        CHECK(same(first.bias, again.bias));
    }
}

TEST(simplicial_attention_of_a_nan_is_nan) {
    auto p = problem<float>({1, 1, 1, 20, 16}, 5);
    p->q[3 * 16] = std::numeric_limits<float>::quiet_NaN();
    std::vector<float> out(p->q.size());
    cuda_simplicial_attention(p->inputs, {out.data(), 0, 0, 16}, nullptr, nullptr);
    for (std::size_t i = 0; i < out.size(); ++i) CHECK(std::isnan(out[i]) == (i / 16 == 3));
}

TEST(simplicial_attention_refuses_what_it_cannot_run) {
    const auto p = problem<float>({1, 2, 2, 4, 16}, 6);
    std::vector<float> out(p->q.size());
    const HeadView<float> to = {out.data(), 128, 64, 16};
    const auto with = [&](auto change) {
        SimplicialInputs<float> inputs = p->inputs;
        change(inputs);
        cuda_simplicial_attention(inputs, to, nullptr, nullptr);
    };
    CHECK_INVALID(with([](auto& a) { a.channels = 48; }), "channels is 48");
    CHECK_INVALID(with([](auto& a) { a.kv_heads = 0; }), "multiple of kv_heads");
    CHECK_INVALID(with([](auto& a) { a.heads = 3; }), "multiple of kv_heads");
    CHECK_INVALID(with([](auto& a) { a.length = -1; }), "length is -1");
    CHECK_INVALID(with([](auto& a) { a.window_k = -2; }), "window");
    CHECK_INVALID(with([](auto& a) { a.v2.data = nullptr; }), "v2 is missing");
    CHECK_INVALID(with([](auto& a) { a.k.row_stride = 18; }), "k has vectors that do not begin");
    CHECK_INVALID(with([](auto& a) { ++a.q.data; }), "q has vectors that do not begin");
    with([](auto& a) { a.length = 0; });
}
