#include "openfoldpp/simplicial_c.h"

#include <cstdlib>
#include <exception>
#include <memory>
#include <mutex>
#include <new>
#include <stdexcept>
#include <string>
#include <thread>

#include "device.h"
#include "openfoldpp/compositor.h"
#include "openfoldpp/simplicial_attention.h"

namespace {

using namespace openfoldpp;

thread_local std::string last_error;

struct OtherSizes : std::runtime_error {
    using std::runtime_error::runtime_error;
};

struct NotLoaded : std::runtime_error {
    NotLoaded() : std::runtime_error("no compositor is loaded: call load_compositor first") {}
};

int fail(int code, const char* what) {
    try {
        last_error = what;
    } catch (const std::bad_alloc&) {
        last_error.clear();  // the code alone
    }
    return code;
}

// No exception may leave a function of C.
template <class Function>
int guarded(const Function& function) {
    try {
        function();
        return SIMPLICIAL_OK;
    } catch (const NotLoaded& error) {
        return fail(SIMPLICIAL_NOT_LOADED, error.what());
    } catch (const OtherSizes& error) {
        return fail(SIMPLICIAL_OTHER_SIZES, error.what());
    } catch (const std::invalid_argument& error) {
        return fail(SIMPLICIAL_INVALID, error.what());
    } catch (const std::bad_alloc&) {
        return fail(SIMPLICIAL_NO_MEMORY, "out of memory");
    } catch (const std::length_error&) {
        return fail(SIMPLICIAL_NO_MEMORY, "out of memory");
    } catch (const std::exception& error) {
        return fail(SIMPLICIAL_FAILED, error.what());
    } catch (...) {
        return fail(SIMPLICIAL_FAILED, "an unknown error");
    }
}

int read_threads() {
    const char* set = std::getenv("OPENFOLDPP_NUM_THREADS");
    if (set == nullptr || *set == '\0') {
        const unsigned here = std::thread::hardware_concurrency();
        return here > 0 ? static_cast<int>(here) : 1;
    }
    const std::string digits = set;
    const bool whole = digits.size() < 7 && digits.find_first_not_of("0123456789") == std::string::npos;
    const int count = whole ? std::atoi(set) : 0;
    if (count < 1) throw std::invalid_argument("OPENFOLDPP_NUM_THREADS=" + digits + ", expected a number from 1 on");
    return count;
}

int threads() {
    static const int count = read_threads();  // where this throws, the next call reads again
    return count;
}

void require_length(int length) {
    if (length < 0) throw std::invalid_argument("L is " + std::to_string(length) + ", expected 0 or more");
}

void require_pointer(const char* name, const void* pointer) {
    if (pointer == nullptr) throw std::invalid_argument(std::string(name) + " is null");
}

std::mutex loading;
std::shared_ptr<const LoadedCompositor> loaded;

std::shared_ptr<const LoadedCompositor> compositor() {
    const std::lock_guard<std::mutex> lock(loading);
    if (!loaded) throw NotLoaded();
    return loaded;
}

void run(const LoadedCompositor& compositor, const float* embedding, float* pair, int length) {
    require_length(length);
    if (length == 0) return;
    require_pointer("in_emb", embedding);
    require_pointer("out_pair", pair);
    const std::int64_t n = length, c = compositor.host().channels(), z = compositor.host().pair_channels();
    if (const auto device = device_of(embedding, pair)) {
        compositor.run_on_device(*device, embedding, pair, n);
        return;
    }
    compositor.host()({embedding, 1, n, c, 0, c}, {pair, n, n, z, n * z, z}, threads());
}

}  // namespace

int run_simplicial(const float* qkv, float* out, int L, int d, void* stream) {
    return guarded([&] {
        require_length(L);
        if (d < 1) throw std::invalid_argument("d is " + std::to_string(d) + ", expected at least 1");
        if (L == 0) return;
        require_pointer("qkv", qkv);
        require_pointer("out", out);
        SimplicialAttention inputs;
        inputs.batch = inputs.heads = inputs.kv_heads = 1;
        inputs.length = L;
        inputs.channels = d;
        HeadView<const float>* parts[] = {&inputs.q, &inputs.k, &inputs.k2, &inputs.v, &inputs.v2};
        for (std::int64_t part = 0; part < 5; ++part) *parts[part] = {qkv + part * L * d, 0, 0, d};
        const HeadView<float> to = {out, 0, 0, d};
        if (const auto device = device_of(qkv, out)) {
            attend_on_device(*device, inputs, to, stream);
            return;
        }
        if (stream != nullptr) throw std::invalid_argument("stream is not null, but the pointers are of host memory");
        simplicial_attention(inputs, to, nullptr, threads());
    });
}

int load_compositor(const void* blob, size_t n) {
    return guarded([&] {
        auto made = std::make_shared<const LoadedCompositor>(blob, n);
        // The old one is released after the lock, by whoever holds it last.
        const std::lock_guard<std::mutex> lock(loading);
        loaded.swap(made);
    });
}

int compositor_channels(int* embedding, int* pair) {
    return guarded([&] {
        require_pointer("embedding", embedding);
        require_pointer("pair", pair);
        const auto current = compositor();
        *embedding = static_cast<int>(current->host().channels());
        *pair = static_cast<int>(current->host().pair_channels());
    });
}

int run_compositor(const float* in_emb, float* out_pair, int L) {
    return guarded([&] { run(*compositor(), in_emb, out_pair, L); });
}

int run_compositor_sized(const float* in_emb, float* out_pair, int L, int embedding, int pair) {
    return guarded([&] {
        const auto current = compositor();
        const std::int64_t channels = current->host().channels(), pair_channels = current->host().pair_channels();
        if (channels != embedding || pair_channels != pair) {
            throw OtherSizes("the compositor that is loaded has " + std::to_string(channels) + " and " +
                             std::to_string(pair_channels) + " channels, expected " + std::to_string(embedding) +
                             " and " + std::to_string(pair));
        }
        run(*current, in_emb, out_pair, L);
    });
}

const char* simplicial_last_error(void) { return last_error.c_str(); }
