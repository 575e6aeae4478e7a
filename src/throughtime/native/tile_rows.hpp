// The rows of a product, dealt out to register tiles: each tile's number of rows is known when it is compiled.
#pragma once

#include <type_traits>

#include "simd.hpp"

namespace throughtime {
namespace {

inline constexpr int TILE_ROWS = 6;

// Calls with a number of rows, 1 to TILE_ROWS, as a constant.
template <int N = TILE_ROWS, class Call> inline void with_rows(Index count, const Call &call) {
    if (count == N) call(std::integral_constant<int, N>{});
    else if constexpr (N > 1) with_rows<N - 1>(count, call);
}

// Calls with the first row of each tile and its number of rows: 16 as 6 + 5 + 5 rather than 6 + 6 + 4.
template <class Call> inline void deal_rows(Index rows, const Call &call) {
    const Index tiles = (rows + TILE_ROWS - 1) / TILE_ROWS;
    for (Index t = 0; t < tiles; ++t) {
        const Index first = rows * t / tiles;
        with_rows(rows * (t + 1) / tiles - first, [&](auto count) { call(first, count); });
    }
}

}  // namespace
}  // namespace throughtime
