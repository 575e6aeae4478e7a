#include "pool.hpp"

#if !defined(_WIN32)
#include <pthread.h>
#endif
#if defined(__linux__)
#include <sched.h>
#endif

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
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

// How long a waiting thread looks before it sleeps: past what one thread does alone within a call, and to the
// next call of a training loop, since waking it takes tens of microseconds; too short to be felt by a neighbour.
constexpr std::chrono::microseconds PATIENCE{300};
constexpr int LOOKS = 500;  // from one look at the clock to the next

constexpr int MOST_THREADS = 1024;

inline void pause() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

// Looks for some time, and says whether it has come.
template <class Come> bool looked(Come &&come) {
    const auto end = std::chrono::steady_clock::now() + PATIENCE;
    do {
        for (int looks = 0; looks < LOOKS; ++looks) {
            if (come()) return true;
            pause();
        }
    } while (std::chrono::steady_clock::now() < end);
    return false;
}

thread_local bool inside = false;  // this thread works on a part already

// Every thread first takes the part of its own number, whose data its caches may still hold, and then
// any that nobody has begun: on a busy machine, where a thread may be away for milliseconds, the others
// do its work.
class Pool {
  public:
    void run(int wanted, const std::function<void(int, int)> &task) {
        const int parts = 1 + start(wanted - 1);
        task_ = &task;
        unfinished_.store(parts, std::memory_order_relaxed);
        const std::uint64_t call = (call_.load(std::memory_order_relaxed) >> 16) + 1;
        {
            std::lock_guard lock(mutex_);  // so that nobody falls asleep in between
            call_.store(call << 16 | static_cast<std::uint64_t>(parts));
        }
        if (sleeping_.load()) wake_.notify_all();
        work(0, call, parts);
        wait_for_others();
    }

  private:
    // Returns how many there are, up to so many: where the system has no further thread to give, these
    // do the work.
    int start(int workers) {
        try {
            while (static_cast<int>(workers_.size()) < workers) {
                const int part = static_cast<int>(workers_.size()) + 1;
                workers_.emplace_back([this, part, seen = call_.load()] { live(part, seen); });
            }
        } catch (const std::system_error &) {
            return static_cast<int>(workers_.size());
        }
        return workers;
    }

    void live(int own, std::uint64_t seen) {
        inside = true;
        for (;;) {
            seen = next(seen);
            const int parts = static_cast<int>(seen & 0xffff);
            if (own < parts) work(own, seen >> 16, parts);
        }
    }

    void work(int own, std::uint64_t call, int parts) {
        for (int k = 0; k < parts; ++k) {
            const int part = (own + k) % parts;
            if (!take(part, call)) continue;
            (*task_)(part, parts);  // is there: its call does not end before this part does
            if (unfinished_.fetch_sub(1) == 1 && waiting_.load()) {
                std::lock_guard lock(mutex_);
                finished_.notify_one();
            }
        }
    }

    // Whether the part is ours now. A thread that comes late, for a call that is over, gets none: its
    // parts were all taken, in that call or in a later one.
    bool take(int part, std::uint64_t call) {
        std::uint64_t last = taken_[part].load(std::memory_order_relaxed);
        return last < call && taken_[part].compare_exchange_strong(last, call);
    }

    void wait_for_others() {
        if (looked([this] { return !unfinished_.load(std::memory_order_acquire); })) return;
        std::unique_lock lock(mutex_);
        waiting_.store(true);
        finished_.wait(lock, [this] { return !unfinished_.load(); });
        waiting_.store(false);
    }

    // Waits for another call than `seen`.
    std::uint64_t next(std::uint64_t seen) {
        if (looked([&] { return call_.load(std::memory_order_acquire) != seen; })) return call_.load();
        std::unique_lock lock(mutex_);
        sleeping_.fetch_add(1);
        wake_.wait(lock, [&] { return call_.load() != seen; });
        sleeping_.fetch_sub(1);
        return call_.load();
    }

    std::vector<std::thread> workers_;
    std::mutex mutex_;
    std::condition_variable wake_, finished_;
    std::atomic<std::uint64_t> call_{0};  // its number, and in the low 16 bits its parts
    std::array<std::atomic<std::uint64_t>, MOST_THREADS> taken_{};  // the last call that each part is of
    std::atomic<int> unfinished_{0}, sleeping_{0};
    std::atomic<bool> waiting_{false};
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
#if defined(__linux__)
    cpu_set_t mask;  // the processors that this process may use, which containers limit
    if (sched_getaffinity(0, sizeof mask, &mask) == 0) return CPU_COUNT(&mask);
#endif
    return static_cast<int>(std::thread::hardware_concurrency());
}

std::atomic<int> wanted_threads{0};  // 0: not yet asked for
std::mutex in_use;                   // held by the one caller that has the pool
Pool *the_pool = nullptr;

#if !defined(_WIN32)
// A forked child has none of the parent's threads: it forgets the pool, and makes its own.
void forget() {
    the_pool = nullptr;
    new (&in_use) std::mutex;
}
#endif

}  // namespace

int threads() {
    int count = wanted_threads.load();
    if (count == 0) wanted_threads.store(count = std::max(1, from_environment()));
    return count;
}

void set_threads(int count) {
    if (count < 1 || count > MOST_THREADS)
        throw std::invalid_argument("threads: expected an integer from 1 to " + std::to_string(MOST_THREADS) +
                                    ", got " + std::to_string(count));
    wanted_threads.store(count);
}

void run(int wanted, const std::function<void(int, int)> &task) {
    const int parts = std::min(wanted, threads());
    std::unique_lock lock(in_use, std::defer_lock);
    if (parts <= 1 || inside || !lock.try_lock()) {
        task(0, 1);
        return;
    }
    if (!the_pool) {
#if !defined(_WIN32)
        static const int registered = pthread_atfork(nullptr, nullptr, forget);
        static_cast<void>(registered);
#endif
        the_pool = new Pool;  // lives as long as the process: its threads must outlast every caller
    }
    inside = true;
    the_pool->run(parts, task);
    inside = false;
}

}  // namespace throughtime::pool
