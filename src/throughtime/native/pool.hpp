// One pool of threads for the whole engine. It knows tasks, and nothing of cells or matrices.
#pragma once

#include <cstddef>
#include <functional>

namespace throughtime::pool {

// How many threads a parallel call may use, the calling one included.
int threads();

// Sets it; from 1 up. Threads are started when they are first needed.
void set_threads(int count);

// Runs task(part, parts) for every part in 0 … parts − 1, with parts ≤ wanted, and returns when all
// have ended. The calling thread takes part 0, and what others have not begun. Where the pool is in use by
// another caller, or by this one, parts is 1: the work must not depend on how many parts there are.
void run(int wanted, const std::function<void(int part, int parts)> &task);

}  // namespace throughtime::pool
