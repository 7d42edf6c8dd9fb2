#include <atomic>
#include <stdexcept>
#include <string>
#include <vector>

#include "check.h"
#include "openfoldpp/parallel.h"

using openfoldpp::parallel_for;

TEST(every_item_is_visited_once) {
    for (std::int64_t count : {0, 1, 2, 7, 100, 1001}) {
        for (std::int64_t grain : {1, 3, 64, 5000}) {
            for (int threads : {1, 2, 4, 9}) {
                std::vector<std::atomic<int>> visits(count);
                std::atomic<int> ranges{0};
                parallel_for(count, grain, threads, [&](std::int64_t begin, std::int64_t end) {
                    ++ranges;
                    for (std::int64_t i = begin; i < end; ++i) ++visits[i];
                });
                bool once = true;
                for (const auto& visit : visits) once = once && visit == 1;
                CHECK(once);
                CHECK(ranges <= threads);
                CHECK(ranges <= 1 || ranges * grain <= count);
            }
        }
    }
}

TEST(an_exception_reaches_the_caller) {
    for (int threads : {1, 4}) {
        CHECK_INVALID(parallel_for(100, 1, threads, [](std::int64_t, std::int64_t end) {
                          if (end == 100) throw std::invalid_argument("the last range");
                      }),
                      "the last range");
    }
}

TEST(threads_and_grain_must_be_positive) {
    const auto nothing = [](std::int64_t, std::int64_t) {};
    CHECK_INVALID(parallel_for(1, 1, 0, nothing), "threads is 0");
    CHECK_INVALID(parallel_for(1, 0, 1, nothing), "grain is 0");
}
