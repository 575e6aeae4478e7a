// The building blocks of a cell's file: rows of a step, packed matrices, working memory.
#pragma once

#include "activations.hpp"
#include "arena.hpp"
#include "bfloat16.hpp"
#include "lanes.hpp"
#include "pool.hpp"
#include "tile.hpp"

namespace throughtime {
namespace {

constexpr double WORTH_A_THREAD = 4e5;        // multiplications; less is done before a thread has woken
constexpr double WORTH_A_WAKING_THREAD = 1e5;  // between steps of a walk none has time to fall asleep

// Number of parts to divide this many multiplications into.
inline int parts(double multiplications, Index most, double worth = WORTH_A_THREAD) {
    const double limit = static_cast<double>(std::clamp<Index>(most, 1, 1024));
    return static_cast<int>(std::clamp(multiplications / worth, 1.0, limit));
}

// Consecutive sequences at one step, all of them still running. Pointers are to the first one's row.
template <class T> struct Rows {
    Index first, count;  // sequences
    Index place;         // of the first one among the rows of the chunk: (t − t₀)·B + first
    const T *h_before, *c_before;
    T *h, *c, *kept;
    T *dh, *dc, *deltas, *delta_c;  // backward
};

// A matrix on the right of products, (depth × columns), itself (`rows`) or its transpose (`across`): packed;
// or, where packing all of it would cost more than it saves, as it stands for few rows, and for one product
// a panel at a time; or in bfloat16.
enum class Form { packed, rows, across, rows_once, across_once, bfloat16 };

template <class T> struct Packed {
    const T *data = nullptr;
    Index depth = 0, columns = 0;
    Form form = Form::packed;
    T *room = nullptr;  // once: for so many threads a panel
    int rooms = 0;
    const Bfloat16 *products = nullptr;
    const Pair *panels = nullptr;
    Pair *left = nullptr;  // (rows at once × pairs), for the other matrix

    // Whether rows may be divided among threads: else every one would read the whole matrix.
    bool by_rows() const { return form == Form::packed || form == Form::bfloat16; }
    bool once() const { return form == Form::rows_once || form == Form::across_once; }
};

constexpr Index FEW_ROWS = 8;
constexpr Index ROWS_ONCE = 128;  // more have enough to do for panels to be packed beforehand

// How a matrix will be used: the rows of all its products, and whether there is only one product. In bfloat16
// also how many rows are multiplied by it at once, by all threads together.
struct Use {
    Index rows;
    bool once;
    const Bfloat16 *products = nullptr;
    Index rows_at_once = 0;
};

inline Use one_product(Index rows) { return {rows, rows <= ROWS_ONCE}; }

template <class T> Use use_of(const Call<T> &call) {
    if (call.cell.bfloat16)
        return {call.rows(), false, bfloat16(), std::min(chunk_steps(call.batch), call.steps) * call.batch};
    return call.steps == 1 ? one_product(call.rows()) : Use{call.rows(), false};
}

template <class T> struct Scratch {
    T *data = nullptr;
    Index width = 0;
    T *row(Index r) const { return data + r * width; }
};

template <class T> Scratch<T> scratch(Arena &arena, Index rows, Index width) {
    return {arena.take<T>(rows * width), width};
}

template <class T> bool as_it_stands(Index depth, Index columns, Use use) {
    return use.rows <= FEW_ROWS && depth % LANES<T> == 0 && columns % LANES<T> == 0;
}

template <class T> Packed<T> unpacked_once(Arena &arena, const T *M, Index depth, Index columns, Form form) {
    const int rooms = std::max(1, std::min(pool::threads(), static_cast<int>(panels_of<T>(columns))));
    return {M, depth, columns, form, arena.take<T>(rooms * depth * PANEL<T>), rooms};
}

template <class T>
Packed<T> pack_panels(Arena &arena, const T *M, Index k_stride, Index n_stride, Index depth, Index columns) {
    T *const data = arena.take<T>(packed_size<T>(depth, columns));
    const Index panels = panels_of<T>(columns);
    pool::run(parts(4.0 * static_cast<double>(depth * columns), panels), [&](int part, int of) {
        pack(M, k_stride, n_stride, depth, columns, data, panels * part / of, panels * (part + 1) / of);
    });
    return {data, depth, columns, Form::packed};
}

// The same in bfloat16: every panel by `pack(first column, columns, panel)`.
template <class T, class F>
Packed<T> pack_pairs(Arena &arena, Index depth, Index columns, Use use, F &&pack) {
    const Index pairs = pairs_of(depth), panels = pair_panels_of(columns);
    Pair *const data = arena.take<Pair>(pairs * whole_lanes(columns));
    pool::run(parts(4.0 * static_cast<double>(depth * columns), panels), [&](int part, int of) {
        for (Index panel = panels * part / of; panel < panels * (part + 1) / of; ++panel) {
            const Index n = panel * PAIR_COLUMNS;
            pack(n, std::min(PAIR_COLUMNS, columns - n), data + n * pairs);
        }
    });
    Packed<T> packed{nullptr, depth, columns, Form::bfloat16};
    packed.products = use.products;
    packed.panels = data;
    packed.left = arena.take<Pair>(use.rows_at_once * pairs);
    return packed;
}

// For products with the matrix's transpose: A · Mᵀ, with M (columns × depth) row after row.
template <class T>
Packed<T> pack_transposed(Arena &arena, const T *M, Index columns, Index depth, Use use) {
    if constexpr (std::is_same_v<T, float>)
        if (use.products)
            return pack_pairs<T>(arena, depth, columns, use, [&](Index n, Index width, Pair *to) {
                use.products->across(M + n * depth, depth, width, depth, to, whole_lanes(width));
            });
    if (as_it_stands<T>(depth, columns, use)) return {M, depth, columns, Form::across};
    if (use.once) return unpacked_once(arena, M, depth, columns, Form::across_once);
    return pack_panels(arena, M, 1, depth, depth, columns);
}

// For products with the matrix itself: A · M, with M (depth × columns) row after row.
template <class T>
Packed<T> pack_rows(Arena &arena, const T *M, Index depth, Index columns, Use use) {
    if constexpr (std::is_same_v<T, float>)
        if (use.products)
            return pack_pairs<T>(arena, depth, columns, use, [&](Index n, Index width, Pair *to) {
                use.products->between(M + n, columns, nullptr, depth, width, to, whole_lanes(width));
            });
    if (as_it_stands<T>(depth, columns, use)) return {M, depth, columns, Form::rows};
    if (use.once) return unpacked_once(arena, M, depth, columns, Form::rows_once);
    return pack_panels(arena, M, columns, 1, depth, columns);
}

// M (rows × columns) row after row, as (columns × rows).
template <class T> Scratch<T> transposed(Arena &arena, const T *M, Index rows, Index columns) {
    const Scratch<T> result = scratch<T>(arena, columns, rows);
    for (Index r = 0; r < rows; ++r)
        for (Index c = 0; c < columns; ++c) result.row(c)[r] = M[r * columns + c];
    return result;
}

// The same as below, every panel packed just before it is used: the matrix is read once, and not written.
template <class T>
void product_once(Index count, const T *from, Index from_stride, const Packed<T> &right, Index first,
                  Index last, T *to, Index to_stride, Added<T> added, T *room) {
    const Index depth = right.depth;
    const bool across = right.form == Form::across_once;
    for (Index n = first; n < last; n += PANEL<T>) {
        const Index width = std::min<Index>(PANEL<T>, last - n);
        pack(right.data + (across ? n * depth : n), across ? 1 : right.columns, across ? depth : 1, depth,
             width, room, 0, 1);
        multiply(count, width, depth, from, from_stride, Index{1}, room, to + n, to_stride,
                 added.from(0, n));
    }
}

// Columns first … last − 1, the first one of a panel, of: to = added + from · right, for `count` rows.
template <class T>
void product_of_columns(Index count, const T *from, Index from_stride, const Packed<T> &right, Index first,
                        Index last, T *to, Index to_stride, Added<T> added, int part) {
    const Index depth = right.depth, columns = last - first;
    const Added<T> plus = added.from(0, first);
    if (right.once())
        product_once(count, from, from_stride, right, first, last, to, to_stride, added,
                     right.room + part * depth * PANEL<T>);
    else if (right.form == Form::across)
        multiply_across(count, columns, depth, from, from_stride, right.data + first * depth, to + first,
                        to_stride, plus);
    else if (right.form == Form::rows)
        multiply(count, columns, depth, from, from_stride, Index{1}, right.data + first, right.columns,
                 false, to + first, to_stride, plus);
    else
        multiply(count, columns, depth, from, from_stride, Index{1}, right.data + first * depth,
                 to + first, to_stride, plus);
}

// The same in bfloat16. The rows are rounded first, by the one thread that has them.
inline void product_in_bfloat16(Index first, Index count, const float *from, Index from_stride,
                                const Packed<float> &right, float *to, Index to_stride, Added<float> added) {
    const Bfloat16 &own = *right.products;
    const Index pairs = pairs_of(right.depth), panels = pair_panels_of(right.columns);
    Pair *const left = right.left + first * pairs;
    own.along(from, from_stride, count, right.depth, left, pairs);
    const double work = static_cast<double>(std::max<Index>(count, 4) * pairs * right.columns);
    pool::run(parts(work, panels, WORTH_A_WAKING_THREAD), [&](int part, int of) {
        const Index n = panels * part / of * PAIR_COLUMNS;
        const Index last = std::min(right.columns, panels * (part + 1) / of * PAIR_COLUMNS);
        const Added<float> plus = added.from(0, n);
        own.multiply(count, last - n, pairs, left, pairs, 1, right.panels + n * pairs, to + n, to_stride,
                     plus.data, plus.stride);
    });
}

// to = added + from · right, for `count` rows, of which the first is the `first` of all that threads may multiply
// at once. A large product is divided among threads by columns, where the rows have not been divided before:
// a few sequences with a wide layer.
template <class T>
void product(Index first, Index count, const T *from, Index from_stride, const Packed<T> &right, T *to,
             Index to_stride, Added<T> added = {}) {
    if constexpr (std::is_same_v<T, float>)
        if (right.form == Form::bfloat16)
            return product_in_bfloat16(first, count, from, from_stride, right, to, to_stride, added);
    const Index panels = panels_of<T>(right.columns);
    // Fewer rows do not take less time: the matrix has to be read.
    const double work = static_cast<double>(std::max<Index>(count, 4) * right.depth * right.columns);
    const auto columns = [&](int part, int of) {
        product_of_columns(count, from, from_stride, right, panels * part / of * PANEL<T>,
                           std::min(right.columns, panels * (part + 1) / of * PANEL<T>), to, to_stride,
                           added, part);
    };
    const double worth = right.form == Form::packed ? WORTH_A_WAKING_THREAD : WORTH_A_THREAD;
    const int most = parts(work, right.once() ? right.rooms : panels, worth);
    most > 1 ? pool::run(most, columns) : columns(0, 1);
}

// to += from · packed.
template <class T>
void add_product(Index first, Index count, const T *from, Index from_stride, const Packed<T> &right, T *to,
                 Index to_stride) {
    product(first, count, from, from_stride, right, to, to_stride, Added<T>{to, to_stride});
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
