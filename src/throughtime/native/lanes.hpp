// Loops over units, a vector at a time; the last vector may be a partial one.
#pragma once

#include <type_traits>

#include "engine.hpp"
#include "simd.hpp"

namespace throughtime {
namespace {

// Where a vector stands in a row: first unit, and how many units it has.
template <class T, bool FULL> struct Lane {
    Index first;
    int count;

    Vector<T> operator()(const T *row) const {
        return FULL ? load(row + first) : load_first(row + first, count);
    }
    void put(T *row, Vector<T> v) const {
        FULL ? store(row + first, v) : store_first(row + first, v, count);
    }
};

// Calls f(lane) for every vector of a row of `units`.
template <class T, class F> inline void each_lane(Index units, F &&f) {
    Index first = 0;
    for (; first + LANES<T> <= units; first += LANES<T>) f(Lane<T, true>{first, LANES<T>});
    if (first < units) f(Lane<T, false>{first, static_cast<int>(units - first)});
}

}  // namespace
}  // namespace throughtime
