// Runs a CUDA kernel's blocks on the CPU, one after the other: each thread is a fiber, which runs until it waits for
// its warp or its block. Warps, and lanes in a warp, take turns in an order drawn from a seed, each as far as it
// gets: what a missing barrier leaves open comes out differently from seed to seed. Shared memory begins as NaN.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <vector>

#include "fiber.h"

struct dim3 {
    unsigned x, y, z;
    dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

namespace cuda_shim {

constexpr int kLanes = 32;
constexpr std::size_t kStack = 256 * 1024;

[[noreturn]] inline void fail(const char* what) {
    std::printf("CUDA on the CPU: %s\n", what);
    std::fflush(stdout);
    std::_Exit(1);  // exit() would free the stack that it runs on
}

struct Copy {
    void* to;
    unsigned char bytes[16];
};

enum class State { ready, waits_for_warp, waits_for_block, done };

struct Fiber {
    std::unique_ptr<unsigned char[]> stack{new unsigned char[kStack]};
    Place place;
    State state = State::ready;
    unsigned index = 0;
    const void* operation = nullptr;  // that it waits for its warp in
    void* operand = nullptr;
    std::vector<Copy> copies;  // begun and not done
};

class Executor {
public:
    std::mt19937 random{1};
    dim3 block_index, thread_index;

    void run(const std::function<void()>& kernel, dim3 blocks, unsigned threads, std::size_t shared_bytes) {
        if (threads % kLanes) fail("a block has a part of a warp");
        kernel_ = &kernel;
        while (fibers_.size() < threads) fibers_.push_back(make_fiber());
        threads_ = threads;
        // Up to the end of the allocation, which a sanitizer guards; 16-byte aligned as the sizes are.
        shared_.reset(new (std::align_val_t(16)) unsigned char[shared_bytes]);
        shared_bytes_ = shared_bytes;
        for (block_index.x = 0; block_index.x < blocks.x; ++block_index.x) run_block();
    }

    Fiber& current() { return *current_; }
    unsigned char* shared() { return shared_.get(); }

    void require_shared(const void* address, std::size_t bytes) const {
        const auto offset = reinterpret_cast<std::uintptr_t>(address) - reinterpret_cast<std::uintptr_t>(shared_.get());
        if (offset > shared_bytes_ || shared_bytes_ - offset < bytes) fail("an address is outside shared memory");
        if (offset % bytes) fail("an address in shared memory is not aligned");
    }

    void wait_for_block() {
        current_->state = State::waits_for_block;
        leave();
    }

    // Waits until all lanes of the warp have come with their operand; then action(operands[32]) runs once. Actions of
    // different types are different instructions.
    template <class Operand, class Action>
    void with_warp(Operand& operand, Action action) {
        static const char operation = 0;  // each type's is elsewhere
        current_->operation = &operation;
        current_->operand = &operand;
        current_->state = State::waits_for_warp;
        const unsigned first = current_->index / kLanes * kLanes;
        Operand* operands[kLanes];
        for (int lane = 0; lane < kLanes; ++lane) {
            Fiber& fiber = *fibers_[first + lane];
            if (fiber.state != State::waits_for_warp) return leave();
            if (fiber.operation != &operation) fail("lanes of a warp are in different instructions");
            operands[lane] = static_cast<Operand*>(fiber.operand);
        }
        action(operands);
        for (int lane = 0; lane < kLanes; ++lane) fibers_[first + lane]->state = State::ready;
        leave();  // so that another lane may be first to go on
    }

private:
    struct Delete {
        void operator()(unsigned char* memory) const { operator delete[](memory, std::align_val_t(16)); }
    };

    void run_block() {
        std::memset(shared_.get(), 0xff, shared_bytes_);
        for (unsigned i = 0; i < threads_; ++i) {
            fibers_[i]->index = i;
            fibers_[i]->state = State::ready;
            fibers_[i]->copies.clear();
        }
        std::vector<unsigned> warps(threads_ / kLanes), lanes(kLanes);
        for (unsigned i = 0; i < warps.size(); ++i) warps[i] = i;
        for (unsigned i = 0; i < kLanes; ++i) lanes[i] = i;
        while (true) {
            std::shuffle(warps.begin(), warps.end(), random);
            for (const unsigned warp : warps) {
                std::shuffle(lanes.begin(), lanes.end(), random);
                bool moved = true;
                while (moved) {
                    moved = false;
                    for (const unsigned lane : lanes) {
                        Fiber& fiber = *fibers_[warp * kLanes + lane];
                        if (fiber.state != State::ready) continue;
                        enter(fiber);
                        moved = true;
                    }
                }
            }
            bool all_done = true;
            for (unsigned i = 0; i < threads_; ++i) {
                if (fibers_[i]->state == State::waits_for_warp) fail("a warp waits for lanes that do not come");
                all_done = all_done && fibers_[i]->state == State::done;
                if (fibers_[i]->state == State::waits_for_block) fibers_[i]->state = State::ready;
            }
            if (all_done) return;
        }
    }

    // Runs a kernel each time that it is entered anew.
    static void main_of_fiber() {
        Executor& self = instance();
        while (true) {
            self.leave();
            (*self.kernel_)();
            self.current_->state = State::done;
        }
    }

    std::unique_ptr<Fiber> make_fiber() {
        auto fiber = std::make_unique<Fiber>();
        current_ = fiber.get();
        begin(scheduler_, main_of_fiber, fiber->stack.get(), kStack);
        return fiber;
    }

    void enter(Fiber& fiber) {
        current_ = &fiber;
        thread_index.x = fiber.index;
        go_on(scheduler_, fiber.place);
    }

    void leave() { go_on(current_->place, scheduler_); }

    friend Executor& executor();
    static Executor& instance() {
        static Executor self;
        return self;
    }

    const std::function<void()>* kernel_ = nullptr;
    std::vector<std::unique_ptr<Fiber>> fibers_;
    Fiber* current_ = nullptr;
    Place scheduler_;
    unsigned threads_ = 0;
    std::unique_ptr<unsigned char[], Delete> shared_;
    std::size_t shared_bytes_ = 0;
};

inline Executor& executor() { return Executor::instance(); }

}  // namespace cuda_shim
