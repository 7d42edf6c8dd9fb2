// Loops split over threads.
#pragma once

#include <cstdint>
#include <functional>

namespace openfoldpp {

// Calls body(begin, end) on consecutive ranges that together cover [0, count), each of at least `grain` items, so that
// a small loop stays on the caller's thread; else on at most `threads` threads, for each `ranges_per_thread` ranges,
// which a thread takes when it is free: more than one where the start of a thread takes a good part of the time.
// A body whose items do not depend on each other gives the same bits for any number of threads.
// The first exception that a body throws is thrown again here, after all ranges have ended.
// Throws std::invalid_argument where threads or grain is below 1.
void parallel_for(std::int64_t count, std::int64_t grain, int threads,
                  const std::function<void(std::int64_t begin, std::int64_t end)>& body,
                  std::int64_t ranges_per_thread = 1);

}  // namespace openfoldpp
