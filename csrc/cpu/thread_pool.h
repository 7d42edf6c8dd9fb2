// Threads that are kept between the calls of parallel_for.
#pragma once

#include <functional>

namespace openfoldpp {

// Calls work() on this thread, and at the same time on threads of the pool, at most `helpers` of them: fewer where
// others use them, where they wake too late or where the system gives no more. All have this thread's floating-point
// mode. Returns when all calls have returned.
// work() must not throw, and must leave nothing undone where this thread alone calls it.
void run_with_helpers(int helpers, const std::function<void()>& work);

}  // namespace openfoldpp
