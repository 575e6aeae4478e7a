// Working memory that outlives a call, so that the next one need not ask the system again.
#pragma once

#include <pthread.h>

#include <cstddef>
#include <cstdlib>
#include <mutex>
#include <new>
#include <vector>

namespace throughtime {

// Hands out aligned memory until it is destroyed; its blocks then wait for the next arena. Throws
// std::bad_alloc if there is no memory.
class Arena {
  public:
    struct Block {
        void *memory;
        std::size_t size;
    };

    ~Arena() {
        for (const Block &block : blocks_) give_back(block);
    }

    // A block of at least this many bytes, which the caller gives back.
    static Block borrow(std::size_t bytes) {
        return idle_block((bytes + ALIGNMENT) / ALIGNMENT * ALIGNMENT);
    }

    // Keeps the block for the next caller, unless too much is kept already.
    static void give_back(const Block &block) {
        std::lock_guard lock(mutex());
        if (waiting() + block.size > KEPT_AT_MOST) {
            std::free(block.memory);
            return;
        }
        waiting() += block.size;
        idle().push_back(block);
    }

    template <class T> T *take(std::ptrdiff_t count) {
        return static_cast<T *>(bytes(static_cast<std::size_t>(count) * sizeof(T)));
    }

    // Gives all idle blocks back to the system; returns how many bytes these were.
    static std::size_t release() {
        std::lock_guard lock(mutex());
        std::size_t freed = 0;
        for (const Block &block : idle()) {
            freed += block.size;
            std::free(block.memory);
        }
        idle().clear();
        waiting() = 0;
        return freed;
    }

  private:
    static constexpr std::size_t ALIGNMENT = 64;
    static constexpr std::size_t KEPT_AT_MOST = std::size_t{256} << 20;

    void *bytes(std::size_t wanted) {
        blocks_.push_back(borrow(wanted));
        return blocks_.back().memory;
    }

    // The smallest idle block that is large enough and not wastefully so, or a new one.
    static Block idle_block(std::size_t size) {
        {
            std::lock_guard lock(mutex());
            std::vector<Block> &blocks = idle();
            std::size_t best = blocks.size();
            for (std::size_t k = 0; k < blocks.size(); ++k)
                if (blocks[k].size >= size && blocks[k].size <= 2 * size &&
                    (best == blocks.size() || blocks[k].size < blocks[best].size))
                    best = k;
            if (best < blocks.size()) {
                const Block found = blocks[best];
                blocks[best] = blocks.back();
                blocks.pop_back();
                waiting() -= found.size;
                return found;
            }
        }
        void *memory = std::aligned_alloc(ALIGNMENT, size);
        if (!memory) throw std::bad_alloc();
        return {memory, size};
    }

    static std::mutex &mutex() {
        static std::mutex *one = made_for_forks();
        return *one;
    }

    // Never destroyed: threads may outlive main. A fork waits until no other thread holds it, since in
    // the child there would be nobody to let it go.
    static std::mutex *made_for_forks() {
        pthread_atfork([] { mutex().lock(); }, [] { mutex().unlock(); }, [] { mutex().unlock(); });
        return new std::mutex;
    }

    // Bytes of the blocks that nobody uses.
    static std::size_t &waiting() {
        static std::size_t bytes = 0;
        return bytes;
    }

    static std::vector<Block> &idle() {
        static auto *blocks = new std::vector<Block>;
        return *blocks;
    }

    std::vector<Block> blocks_;
};

}  // namespace throughtime
