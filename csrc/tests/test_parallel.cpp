#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cfenv>
#include <chrono>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "check.h"
#include "openfoldpp/parallel.h"

using openfoldpp::parallel_for;

namespace {

// Whether a loop visits each item once, in no more ranges than it may.
bool visits_each_once(std::int64_t count, std::int64_t grain, int threads, std::int64_t ranges_per_thread) {
    std::vector<std::atomic<int>> visits(count);
    std::atomic<std::int64_t> ranges{0};
    parallel_for(
        count, grain, threads,
        [&](std::int64_t begin, std::int64_t end) {
            ++ranges;
            for (std::int64_t i = begin; i < end; ++i) ++visits[i];
        },
        ranges_per_thread);
    bool once = true;
    for (const auto& visit : visits) once = once && visit == 1;
    return once && ranges <= threads * ranges_per_thread && (ranges <= 1 || ranges * grain <= count);
}

// Waits, a minute at most, until so many are inside.
void meet(std::atomic<int>& inside, int count) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::minutes(1);
    for (++inside; inside < count && std::chrono::steady_clock::now() < end;) std::this_thread::yield();
}

}  // namespace

TEST(every_item_is_visited_once) {
    for (std::int64_t count : {0, 1, 2, 7, 100, 1001}) {
        for (std::int64_t grain : {1, 3, 64, 5000}) {
            for (int threads : {1, 2, 4, 9}) {
                for (std::int64_t ranges_per_thread : {1, 8}) {
                    CHECK(visits_each_once(count, grain, threads, ranges_per_thread));
                }
            }
        }
    }
}

TEST(several_threads_work_at_the_same_time) {
    std::atomic<int> inside{0};
    parallel_for(3, 1, 3, [&](std::int64_t, std::int64_t) { meet(inside, 3); });
    CHECK(inside == 3);
}

TEST(all_threads_round_as_the_caller_does) {
    for (int mode : {FE_UPWARD, FE_TONEAREST}) {
        std::atomic<int> inside{0}, alike{0};
        std::fesetround(mode);
        parallel_for(3, 1, 3, [&](std::int64_t, std::int64_t) {
            alike += std::fegetround() == mode;
            meet(inside, 3);
        });
        CHECK(alike == 3);
    }
}

TEST(several_callers_and_nested_loops) {
    std::atomic<int> visits{0};
    std::vector<std::thread> callers;
    for (int caller = 0; caller < 4; ++caller) {
        callers.emplace_back([&] {
            for (int round = 0; round < 200; ++round) {
                parallel_for(4, 1, 3, [&](std::int64_t begin, std::int64_t end) {
                    parallel_for(end - begin, 1, 2, [&](std::int64_t first, std::int64_t last) {
                        visits += static_cast<int>(last - first);
                    });
                });
            }
        });
    }
    for (std::thread& caller : callers) caller.join();
    CHECK(visits == 4 * 200 * 4);
}

TEST(a_forked_process_has_threads_of_its_own) {
    CHECK(visits_each_once(100, 1, 3, 8));
    const pid_t child = fork();
    if (child == 0) {
        std::atomic<int> inside{0};
        parallel_for(2, 1, 2, [&](std::int64_t, std::int64_t) { meet(inside, 2); });
        _exit(inside == 2 ? 0 : 1);
    }
    int status = -1;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(status == 0);
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
