// Ctrl-C during a call of the engine.
#pragma once

#include <nanobind/nanobind.h>

#include <chrono>

namespace throughtime {

// Signals are looked for twenty times a second, since that takes the GIL.
inline thread_local std::chrono::steady_clock::time_point last_look;

inline void begin_looking() { last_look = std::chrono::steady_clock::now(); }

inline bool interrupted() {
    const auto now = std::chrono::steady_clock::now();
    if (now - last_look < std::chrono::milliseconds(50)) return false;
    last_look = now;
    nanobind::gil_scoped_acquire gil;
    return PyErr_CheckSignals() != 0;
}

}  // namespace throughtime
