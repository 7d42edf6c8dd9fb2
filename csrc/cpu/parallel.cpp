#include "openfoldpp/parallel.h"

#include <algorithm>
#include <exception>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

namespace openfoldpp {

// Threads are started for each call (tens of microseconds) instead of being kept in a pool: a pool would not
// survive fork(), which data loaders use, and the grain keeps short loops on the caller's thread anyway.
void parallel_for(std::int64_t count, std::int64_t grain, int threads,
                  const std::function<void(std::int64_t, std::int64_t)>& body) {
    if (threads < 1) throw std::invalid_argument("threads is " + std::to_string(threads) + ", expected at least 1");
    if (grain < 1) throw std::invalid_argument("grain is " + std::to_string(grain) + ", expected at least 1");
    if (count <= 0) return;
    const std::int64_t ranges = std::clamp<std::int64_t>(count / grain, 1, threads);
    if (ranges == 1) {
        body(0, count);
        return;
    }

    std::vector<std::exception_ptr> errors(ranges);
    const auto run = [&](std::int64_t range) {
        const auto edge = [&](std::int64_t r) { return count / ranges * r + std::min(r, count % ranges); };
        try {
            body(edge(range), edge(range + 1));
        } catch (...) {
            errors[range] = std::current_exception();
        }
    };
    std::vector<std::thread> workers;
    workers.reserve(ranges - 1);
    std::int64_t started = 1;
    try {
        for (; started < ranges; ++started) workers.emplace_back(run, started);
    } catch (const std::system_error&) {
        // The system gives no more threads: the caller's thread does the rest.
    }
    run(0);
    for (std::int64_t range = started; range < ranges; ++range) run(range);
    for (std::thread& worker : workers) worker.join();
    for (const std::exception_ptr& error : errors) {
        if (error) std::rethrow_exception(error);
    }
}

}  // namespace openfoldpp
