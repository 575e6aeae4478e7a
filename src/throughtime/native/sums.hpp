// What the rows of a chunk add to the gradients of the parameters: sums of outer products, and of
// products element by element.
#pragma once

#include <cstring>
#include <vector>

#include "cell.hpp"

namespace throughtime {
namespace {

// The chunk's rows; every pointer is to the row of its first step and first sequence.
template <class T> struct ChunkRows {
    const T *deltas, *delta_h, *h_before, *c_before, *c, *kept;
};

// The rows (t, b) of steps start … stop − 1 that lie within their sequence, counted by t·B + b from
// the chunk's first row.
struct ActiveRows {
    std::vector<Index> rows;  // empty where all are active
    Index all = 0;

    Index size() const { return rows.empty() ? all : static_cast<Index>(rows.size()); }
    Index operator[](Index k) const { return rows.empty() ? k : rows[k]; }

    // Calls f(first row, count, k) for stretches of consecutive rows among the k-th from … to.
    template <class F> void each_stretch(Index from, Index to, F &&f) const {
        for (Index k = from; k < to;) {
            Index end = rows.empty() ? to : k + 1;
            while (end < to && rows[end] == rows[end - 1] + 1) ++end;
            f((*this)[k], end - k, k);
            k = end;
        }
    }
};

template <class T> class Sums {
  public:
    // fresh: the first that is added to a gradient is put there instead. products: those of outer products in
    // bfloat16, or null.
    Sums(Arena &arena, Index most_rows, bool fresh = false, const Bfloat16 *products = nullptr)
        : arena_(arena), most_rows_(most_rows), fresh_(fresh), products_(products) {}

    // Takes a gradient (width × classes) to collect it column by column, for class indices.
    void columns(const T *W, Index classes, Index width) {
        classes_ = classes;
        if (fresh_)
            std::fill_n((columns_ = scratch<T>(arena_, classes, width)).data, classes * width, T{});
        else
            columns_ = transposed(arena_, W, width, classes);
    }

    // out += Σ left_kᵀ right_k and Σ left_k ⊙ right_k over the active rows, all sums at once. The right-hand
    // rows of outer products are packed into panels once, and shared.
    void add(const ActiveRows &active, const std::vector<OuterSum<T>> &outer,
             const std::vector<ProductSum<T>> &products) {
        if constexpr (std::is_same_v<T, float>)
            if (products_) return add_in_bfloat16(active, outer, products);
        const Index depth = active.size();
        Index width = 0;
        double work = 0;
        for (const OuterSum<T> &sum : outer) {
            width += packed_size<T>(1, sum.N);
            work += static_cast<double>(depth * sum.M * sum.N);
        }
        T *const panels = buffer(panels_, most_rows_ * width);
        pool::run(parts(static_cast<double>(8 * depth * width), depth), [&](int part, int of) {
            T *to = panels;
            for (const OuterSum<T> &sum : outer) {
                pack_right(active, depth, sum, to, depth * part / of, depth * (part + 1) / of);
                to += packed_size<T>(depth, sum.N);
            }
        });
        const int most = parts(work, pool::threads());
        T *const tile_room = buffer(left_, most * most_rows_ * TILE_ROWS);
        pool::run(most, [&](int part, int of) {
            const T *from = panels;
            for (const OuterSum<T> &sum : outer) {
                add_outer(active, depth, sum, from, tile_room + part * most_rows_ * TILE_ROWS, part, of);
                from += packed_size<T>(depth, sum.N);
            }
            for (const ProductSum<T> &sum : products) add_products(active, sum, part, of);
        });
        fresh_ = false;
    }

    // Class indices: column x_k of the gradient += δz_k.
    void add_to_columns(const ActiveRows &active, const T *deltas, Index stride, Index columns,
                        const Index *classes) {
        add_rows(active, deltas, stride, columns, classes, columns_.data);
    }

    // Row x_k of `rows` += δ_k.
    static void add_rows(const ActiveRows &active, const T *deltas, Index stride, Index columns,
                         const Index *classes, T *rows) {
        const Index vectors = (columns + LANES<T> - 1) / LANES<T>;
        pool::run(parts(static_cast<double>(active.size() * columns), vectors), [&](int part, int of) {
            const Index from = vectors * part / of * LANES<T>;
            const Index to = std::min(columns, vectors * (part + 1) / of * LANES<T>);
            for (Index k = 0; k < active.size(); ++k) {
                const Index row = active[k];
                const T *const dz = deltas + row * stride + from;
                T *const target = rows + classes[row] * columns + from;
                each_lane<T>(to - from, [&](auto lane) { lane.put(target, lane(target) + lane(dz)); });
            }
        });
    }

    // Puts back what was collected in columns.
    void put_columns(T *W) const {
        for (Index i = 0; i < classes_; ++i)
            for (Index g = 0; g < columns_.width; ++g) W[g * classes_ + i] = columns_.row(i)[g];
    }

  private:
    // --- in bfloat16: the same, in pairs of rows, a strip of the left-hand rows at a time ---

    static constexpr Index STRIP = 48;  // eight tiles of six

    void add_in_bfloat16(const ActiveRows &active, const std::vector<OuterSum<float>> &outer,
                         const std::vector<ProductSum<float>> &products) {
        const Index depth = active.size(), pairs = pairs_of(depth), most_pairs = pairs_of(most_rows_);
        const Index *const chosen = active.rows.empty() ? nullptr : active.rows.data();
        Index width = 0, panels = 0;
        double work = 0;
        for (const OuterSum<float> &sum : outer) {
            width += whole_lanes(sum.N);
            panels += pair_panels_of(sum.N);
            work += static_cast<double>(pairs * sum.M * sum.N);
        }
        Pair *const right = buffer(right_pairs_, most_pairs * width);
        pool::run(parts(static_cast<double>(8 * depth * width), panels), [&](int part, int of) {
            Pair *to = right;
            Index before = 0;  // panels of the sums before
            for (const OuterSum<float> &sum : outer) {
                const Index own = pair_panels_of(sum.N);
                for (Index panel = 0; panel < own; ++panel) {
                    if ((before + panel) * of / panels != part) continue;
                    const Index n = panel * PAIR_COLUMNS, columns = std::min(PAIR_COLUMNS, sum.N - n);
                    products_->between(sum.right + n, sum.right_stride, chosen, depth, columns, to + n * pairs,
                                       whole_lanes(columns));
                }
                before += own;
                to += pairs * whole_lanes(sum.N);
            }
        });
        const int most = parts(work, pool::threads());
        Pair *const strips = buffer(left_pairs_, most * most_pairs * STRIP);
        pool::run(most, [&](int part, int of) {
            Pair *const left = strips + part * most_pairs * STRIP;
            const Pair *from = right;
            for (const OuterSum<float> &sum : outer) {
                const Index count = (sum.M + STRIP - 1) / STRIP;
                for (Index strip = count * part / of; strip < count * (part + 1) / of; ++strip) {
                    const Index first = strip * STRIP, rows = std::min(STRIP, sum.M - first);
                    products_->between(sum.left + first, sum.left_stride, chosen, depth, rows, left, STRIP);
                    float *const out = sum.out + first * sum.N;
                    products_->multiply(rows, sum.N, pairs, left, 1, STRIP, from, out, sum.N,
                                        fresh_ ? nullptr : out, sum.N);
                }
                from += pairs * whole_lanes(sum.N);
            }
            for (const ProductSum<float> &sum : products) add_products(active, sum, part, of);
        });
        fresh_ = false;
    }

    // --- in the numbers' own precision ---

    // One thread's share of the tiles. The left-hand rows are packed tile by tile, so that a tile's numbers
    // lie side by side instead of a row's length apart.
    void add_outer(const ActiveRows &active, Index depth, const OuterSum<T> &sum, const T *panels, T *left,
                   int part, int of) const {
        const Index tiles = (sum.M + TILE_ROWS - 1) / TILE_ROWS;
        for (Index tile = tiles * part / of; tile < tiles * (part + 1) / of; ++tile) {
            const Index first = sum.M * tile / tiles, rows = sum.M * (tile + 1) / tiles - first;
            pack_left<TILE_ROWS>(active, depth, sum, first, rows, left);
            T *const out = sum.out + first * sum.N;
            multiply(rows, sum.N, depth, left, Index{1}, Index{TILE_ROWS}, panels, out, sum.N,
                     fresh_ ? Added<T>{} : Added<T>{out, sum.N});
        }
    }

    // Copies of a width that the compiler knows are a few moves; of another one, a call for every row.
    template <int WIDTH>
    static void pack_left(const ActiveRows &active, Index depth, const OuterSum<T> &sum, Index first,
                          Index width, T *to) {
        if constexpr (WIDTH > 1)
            if (width < WIDTH) return pack_left<WIDTH - 1>(active, depth, sum, first, width, to);
        const T *const from = sum.left + first;
        for (Index k = 0; k < depth; ++k)
            std::memcpy(to + k * TILE_ROWS, from + active[k] * sum.left_stride, WIDTH * sizeof(T));
    }

    static void pack_right(const ActiveRows &active, Index depth, const OuterSum<T> &sum, T *panels,
                           Index from, Index to) {
        for (Index n = 0; n < sum.N; n += PANEL<T>) {
            const Index width = std::min<Index>(PANEL<T>, sum.N - n);
            const Index padded = packed_size<T>(1, width);
            T *const panel = panels + depth * n;
            for (Index k = from; k < to; ++k) {
                std::copy_n(sum.right + active[k] * sum.right_stride + n, width, panel + k * padded);
                std::fill_n(panel + k * padded + width, padded - width, T{});
            }
        }
    }

    // One thread's share of the columns.
    void add_products(const ActiveRows &active, const ProductSum<T> &sum, int part, int of) const {
        const Index vectors = (sum.N + LANES<T> - 1) / LANES<T>;
        const Index from = vectors * part / of * LANES<T>;
        const Index to = std::min(sum.N, vectors * (part + 1) / of * LANES<T>);
        const T *const left = sum.left + from, *const right = sum.right ? sum.right + from : nullptr;
        T *const out = sum.out + from;
        each_lane<T>(to - from, [&](auto lane) {
            Vector<T> total = {};
            for (Index k = 0; k < active.size(); ++k) {
                const Vector<T> factor = lane(left + active[k] * sum.left_stride);
                total += right ? factor * lane(right + active[k] * sum.right_stride) : factor;
            }
            lane.put(out, fresh_ ? total : lane(out) + total);
        });
    }

    template <class N> N *buffer(Scratch<N> &room, Index count) {
        if (room.width < count) room = {arena_.take<N>(count), count};
        return room.data;
    }

    Arena &arena_;
    const Index most_rows_;
    bool fresh_;
    const Bfloat16 *const products_;
    Index classes_ = 0;
    Scratch<T> columns_ = {}, panels_ = {}, left_ = {};
    Scratch<Pair> right_pairs_ = {}, left_pairs_ = {};
};

}  // namespace
}  // namespace throughtime
