// What a cell's file is written with: rows of a step, packed matrices, working memory.
#pragma once

#include "activations.hpp"
#include "arena.hpp"
#include "lanes.hpp"
#include "tile.hpp"

namespace throughtime {
namespace {

// Consecutive sequences at one step, all of them still running. Pointers are to the first one's row.
template <class T> struct Rows {
    Index first, count;  // sequences
    Index place;         // of the first one among the rows of the chunk: (t − t₀)·B + first
    const T *h_before, *c_before;
    T *h, *c, *kept;
    T *dh, *dc, *deltas, *delta_c;  // backward
};

template <class T> struct Packed {
    const T *data = nullptr;
    Index depth = 0, columns = 0;
};

template <class T> struct Scratch {
    T *data = nullptr;
    Index width = 0;
    T *row(Index r) const { return data + r * width; }
};

template <class T> Scratch<T> scratch(Arena &arena, Index rows, Index width) {
    return {arena.take<T>(rows * width), width};
}

// For products with the matrix's transpose: A · Mᵀ, with M (columns × depth) row after row.
template <class T>
Packed<T> pack_transposed(Arena &arena, const T *M, Index columns, Index depth) {
    T *data = arena.take<T>(packed_size<T>(depth, columns));
    pack(M, 1, depth, depth, columns, data);
    return {data, depth, columns};
}

// For products with the matrix itself: A · M, with M (depth × columns) row after row.
template <class T> Packed<T> pack_rows(Arena &arena, const T *M, Index depth, Index columns) {
    T *data = arena.take<T>(packed_size<T>(depth, columns));
    pack(M, columns, 1, depth, columns, data);
    return {data, depth, columns};
}

// M (rows × columns) row after row, as (columns × rows).
template <class T> Scratch<T> transposed(Arena &arena, const T *M, Index rows, Index columns) {
    const Scratch<T> result = scratch<T>(arena, columns, rows);
    for (Index r = 0; r < rows; ++r)
        for (Index c = 0; c < columns; ++c) result.row(c)[r] = M[r * columns + c];
    return result;
}

// to = added + from · packed, for `count` rows.
template <class T>
void product(Index count, const T *from, Index from_stride, const Packed<T> &right, T *to,
             Index to_stride, Added<T> added = {}) {
    multiply(count, right.columns, right.depth, from, from_stride, Index{1}, right.data, to,
             to_stride, added);
}

// to += from · packed.
template <class T>
void add_product(Index count, const T *from, Index from_stride, const Packed<T> &right, T *to,
                 Index to_stride) {
    product(count, from, from_stride, right, to, to_stride, Added<T>{to, to_stride});
}

// to = b + the class's row of a matrix, for `count` rows; b may be null.
template <class T>
void pick_rows(Index count, const Scratch<T> &matrix, const Index *classes, T *to, Index to_stride,
               const T *b) {
    for (Index k = 0; k < count; ++k, to += to_stride) {
        const T *const row = matrix.row(classes[k]);
        each_lane<T>(matrix.width, [&](auto lane) { lane.put(to, b ? lane(b) + lane(row) : lane(row)); });
    }
}

// left and right: matrices whose rows are those of the chunk. What is added to a gradient:
template <class T> struct OuterSum {  // out (M, N) += Σ left_kᵀ right_k
    const T *left;
    Index left_stride, M;
    const T *right;
    Index right_stride, N;
    T *out;
};

template <class T> struct ProductSum {  // out (N) += Σ left_k ⊙ right_k; right null: Σ left_k
    const T *left;
    Index left_stride;
    const T *right;
    Index right_stride, N;
    T *out;
};

}  // namespace
}  // namespace throughtime
