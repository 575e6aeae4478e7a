#include "pool.hpp"

#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <mutex>
#include <new>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

namespace throughtime::pool {
namespace {

// Long enough to meet the next call of a training loop, too short to be felt by a neighbour: a
// waiting thread looks this often, giving the processor away in between, and then sleeps.
constexpr int LOOKS = 5000;

constexpr int MOST_THREADS = 1024;

inline void pause() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

class Pool {
  public:
    void run(int wanted, const std::function<void(int, int)> &task) {
        const int parts = 1 + start(wanted - 1);
        task_ = &task;
        running_.store(parts - 1, std::memory_order_relaxed);
        {
            std::lock_guard lock(mutex_);  // so that nobody falls asleep in between
            const std::uint64_t generation = (call_.load(std::memory_order_relaxed) >> 16) + 1;
            call_.store(generation << 16 | static_cast<std::uint64_t>(parts));
        }
        if (sleeping_.load()) wake_.notify_all();
        task(0, parts);
        for (int looks = 0; running_.load(std::memory_order_acquire); ++looks)
            looks < LOOKS ? pause() : static_cast<void>(sched_yield());
    }

  private:
    // Returns how many there are, up to so many: where the system has no further thread to give, these
    // do the work.
    int start(int workers) {
        try {
            while (static_cast<int>(workers_.size()) < workers) {
                const int part = static_cast<int>(workers_.size()) + 1;
                workers_.emplace_back([this, part, seen = call_.load()] { work(part, seen); });
            }
        } catch (const std::system_error &) {
            return static_cast<int>(workers_.size());
        }
        return workers;
    }

    void work(int part, std::uint64_t seen) {
        for (;;) {
            seen = next(seen);
            const int parts = static_cast<int>(seen & 0xffff);
            if (part >= parts) continue;  // not in this call, whose task may be gone by now
            (*task_)(part, parts);
            running_.fetch_sub(1, std::memory_order_release);
        }
    }

    // Waits for another call than `seen`.
    std::uint64_t next(std::uint64_t seen) {
        for (int looks = 0; looks < LOOKS; ++looks) {
            const std::uint64_t now = call_.load(std::memory_order_acquire);
            if (now != seen) return now;
            pause();
        }
        std::unique_lock lock(mutex_);
        sleeping_.fetch_add(1);
        wake_.wait(lock, [&] { return call_.load() != seen; });
        sleeping_.fetch_sub(1);
        return call_.load();
    }

    std::vector<std::thread> workers_;
    std::mutex mutex_;
    std::condition_variable wake_;
    std::atomic<std::uint64_t> call_{0};  // its number, and in the low 16 bits its parts
    std::atomic<int> running_{0}, sleeping_{0};
    const std::function<void(int, int)> *task_ = nullptr;
};

int from_environment() {
    const char *const text = std::getenv("THROUGHTIME_THREADS");
    if (text && *text) {
        char *end;
        const long count = std::strtol(text, &end, 10);
        if (*end || count < 1 || count > MOST_THREADS)
            throw std::invalid_argument("THROUGHTIME_THREADS: expected an integer from 1 to " +
                                        std::to_string(MOST_THREADS) + ", got '" + text + "'");
        return static_cast<int>(count);
    }
    cpu_set_t mask;  // the processors that this process may use, which containers limit
    if (sched_getaffinity(0, sizeof mask, &mask) == 0) return CPU_COUNT(&mask);
    return static_cast<int>(std::thread::hardware_concurrency());
}

std::atomic<int> wanted_threads{0};  // 0: not yet asked for
std::mutex in_use;                   // held by the one caller that has the pool
Pool *the_pool = nullptr;

// A forked child has none of the parent's threads: it forgets the pool, and makes its own.
void forget() {
    the_pool = nullptr;
    new (&in_use) std::mutex;
}

}  // namespace

int threads() {
    int count = wanted_threads.load();
    if (count == 0) wanted_threads.store(count = std::max(1, from_environment()));
    return count;
}

void set_threads(int count) { wanted_threads.store(count); }

void run(int wanted, const std::function<void(int, int)> &task) {
    const int parts = std::min(wanted, threads());
    std::unique_lock lock(in_use, std::defer_lock);
    if (parts <= 1 || !lock.try_lock()) {
        task(0, 1);
        return;
    }
    if (!the_pool) {
        static const int registered = pthread_atfork(nullptr, nullptr, forget);
        static_cast<void>(registered);
        the_pool = new Pool;  // lives as long as the process: its threads must outlast every caller
    }
    the_pool->run(parts, task);
}

}  // namespace throughtime::pool
