// Products in bfloat16: both factors are rounded to bfloat16, the nearest, and to even where two are as near; their
// sum is in float32. This is all that the engine asks of a processor that has such products: each kind of them is one
// file like bfloat16_avx512.cpp, and a line in dispatch.cpp.
//
// Every element of a product is summed over the inner dimension in its own order, as in tile.hpp: the same bits,
// however the work is divided.
#pragma once

#include <cstdint>

#include "engine.hpp"

namespace throughtime {

// Two numbers that follow one another along the inner dimension, the first one in the lower half. An odd
// dimension ends with a 0.
using Pair = std::uint32_t;

constexpr Index PAIR_LANES = 16;   // columns of a panel are a multiple of it
constexpr Index PAIR_COLUMNS = 64;  // of a full panel, of which only the last may have fewer

namespace {
// Of std::min the linker might keep the copy of a file that some processors cannot run; each has this as its own.
[[maybe_unused]] inline Index smaller(Index a, Index b) { return a < b ? a : b; }
}  // namespace

constexpr Index pairs_of(Index depth) { return (depth + 1) / 2; }
constexpr Index whole_lanes(Index columns) { return (columns + PAIR_LANES - 1) / PAIR_LANES * PAIR_LANES; }
constexpr Index pair_panels_of(Index columns) { return (columns + PAIR_COLUMNS - 1) / PAIR_COLUMNS; }

struct Bfloat16 {
    const char *name;

    // Rounds `rows` rows of `depth` numbers; a pair is of one row: to (rows × pairs).
    void (*along)(const float *from, Index stride, Index rows, Index depth, Pair *to, Index to_stride);

    // The same, transposed: to (pairs × rows), each row of it filled up with zeros to whole lanes.
    void (*across)(const float *from, Index stride, Index rows, Index depth, Pair *to, Index to_stride);

    // Rounds `depth` rows, the k-th of which is chosen[k], or k where that is null; a pair is of two rows:
    // to (pairs × columns), each row of it filled up with zeros to whole lanes.
    void (*between)(const float *from, Index stride, const Index *chosen, Index depth, Index columns, Pair *to,
                    Index to_stride);

    // C (rows × columns) = added + A · B, with the pair (m, p) of A at a[m * m_stride + p * p_stride], and B in
    // panels, one after another, of PAIR_COLUMNS columns or the whole lanes of the last ones, pair after pair.
    // Null for nothing added; rows of what is added are one and the same for a stride of 0.
    void (*multiply)(Index rows, Index columns, Index pairs, const Pair *a, Index m_stride, Index p_stride,
                     const Pair *panels, float *c, Index c_stride, const float *added, Index added_stride);
};

// The products of this processor, as far as the instruction set in use goes; null where there are none.
const Bfloat16 *bfloat16();

}  // namespace throughtime
