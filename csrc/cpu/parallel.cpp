#include "openfoldpp/parallel.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <stdexcept>
#include <string>
#include <vector>

#include "thread_pool.h"

namespace openfoldpp {

void parallel_for(std::int64_t count, std::int64_t grain, int threads,
                  const std::function<void(std::int64_t, std::int64_t)>& body, std::int64_t ranges_per_thread) {
    if (threads < 1) throw std::invalid_argument("threads is " + std::to_string(threads) + ", expected at least 1");
    if (grain < 1) throw std::invalid_argument("grain is " + std::to_string(grain) + ", expected at least 1");
    if (count <= 0) return;
    const std::int64_t wanted = std::clamp<std::int64_t>(count / grain, 1, threads);
    if (wanted == 1) {
        body(0, count);
        return;
    }

    const std::int64_t ranges = std::min(count / grain, wanted * ranges_per_thread);
    std::vector<std::exception_ptr> errors(ranges);
    std::atomic<std::int64_t> next{0};
    const auto work = [&] {
        for (std::int64_t range; (range = next.fetch_add(1, std::memory_order_relaxed)) < ranges;) {
            const auto edge = [&](std::int64_t r) { return count / ranges * r + std::min(r, count % ranges); };
            try {
                body(edge(range), edge(range + 1));
            } catch (...) {
                errors[range] = std::current_exception();
            }
        }
    };
    run_with_helpers(static_cast<int>(wanted - 1), work);
    for (const std::exception_ptr& error : errors) {
        if (error) std::rethrow_exception(error);
    }
}

}  // namespace openfoldpp
