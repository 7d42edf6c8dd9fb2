#include "thread_pool.h"

#include <algorithm>
#include <atomic>
#include <cfenv>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <system_error>
#include <thread>

#if __has_include(<pthread.h>)
#include <pthread.h>
#endif

namespace openfoldpp {
namespace {

// How long a thread looks for work before it sleeps: the next loop of a kernel, or the next kernel, often follows
// at once, and to wake a thread takes as long as a small kernel.
constexpr std::chrono::microseconds kPatience{200};

void pause() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

// Waits for `ready`, without sleeping, and not long; returns whether it came.
template <class Ready>
bool spin(const Ready& ready) {
    const auto end = std::chrono::steady_clock::now() + kPatience;
    do {
        for (int i = 0; i < 16; ++i) {
            if (ready()) return true;
            pause();
        }
    } while (std::chrono::steady_clock::now() < end);
    return ready();
}

struct Job {
    const std::function<void()>& work;
    int places;                   // for helpers that have not come yet
    std::fenv_t mode{};           // rounding, and what becomes of denormal numbers
    std::atomic<int> running{0};  // helpers
};

class Pool {
public:
    void run(int helpers, const std::function<void()>& work) {
        Job job{work, helpers};
        std::fegetenv(&job.mode);
        {
            const std::lock_guard lock(mutex_);
            start(helpers);
            jobs_.push_back(&job);
            open_.fetch_add(helpers, std::memory_order_relaxed);
            for (int i = std::min(helpers, sleeping_); i > 0; --i) wake_.notify_one();
        }
        work();
        {
            const std::lock_guard lock(mutex_);
            if (job.places) jobs_.erase(std::find(jobs_.begin(), jobs_.end(), &job));
            open_.fetch_sub(job.places, std::memory_order_relaxed);
        }
        const auto done = [&] { return job.running.load(std::memory_order_acquire) == 0; };
        if (spin(done)) return;
        std::unique_lock lock(mutex_);
        finished_.wait(lock, done);
    }

private:
    void start(int helpers) {
        try {
            for (; threads_ < helpers; ++threads_) std::thread(&Pool::help, this).detach();
        } catch (const std::system_error&) {
            // The system gives no more threads: those there are do the rest.
        }
    }

    [[noreturn]] void help() {
        std::unique_lock lock(mutex_, std::defer_lock);
        while (true) {
            spin([&] { return open_.load(std::memory_order_relaxed) > 0; });
            lock.lock();
            ++sleeping_;
            wake_.wait(lock, [&] { return !jobs_.empty(); });
            --sleeping_;
            Job& job = *jobs_.front();
            job.running.fetch_add(1, std::memory_order_relaxed);
            open_.fetch_sub(1, std::memory_order_relaxed);
            if (--job.places == 0) jobs_.pop_front();
            lock.unlock();
            std::fesetenv(&job.mode);
            job.work();
            lock.lock();
            // The last look at the job: its thread may go on at once.
            if (job.running.fetch_sub(1, std::memory_order_release) == 1) finished_.notify_all();
            lock.unlock();
        }
    }

    std::mutex mutex_;
    std::condition_variable wake_, finished_;
    std::deque<Job*> jobs_;     // that have places
    std::atomic<int> open_{0};  // places in all jobs
    int threads_ = 0, sleeping_ = 0;
};

// Never deleted: its threads use it until the process ends. After fork() the child has none of them, and perhaps a
// mutex that nobody will unlock: it takes a new pool.
std::atomic<Pool*> pool{nullptr};

Pool& the_pool() {
#if __has_include(<pthread.h>)
    static const int watched = pthread_atfork(nullptr, nullptr, [] { pool.store(nullptr); });
    static_cast<void>(watched);
#endif
    Pool* current = pool.load();
    if (current) return *current;
    Pool* made = new Pool;
    if (pool.compare_exchange_strong(current, made)) return *made;
    delete made;  // another thread was faster
    return *current;
}

}  // namespace

void run_with_helpers(int helpers, const std::function<void()>& work) {
    if (helpers < 1) {
        work();
        return;
    }
    the_pool().run(helpers, work);
}

}  // namespace openfoldpp
