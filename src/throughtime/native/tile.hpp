// Matrix products from register tiles: a few rows by a few vectors stay in registers while the
// inner dimension runs. The right-hand matrix is packed into panels, read once from left to right.
//
// Every element of a product is summed over the inner dimension in its own order, whatever rows and
// columns a call is given: the same bits, however the work is divided.
#pragma once

#include <algorithm>
#include <cstddef>

#include "simd.hpp"
#include "tile_rows.hpp"

namespace throughtime {
namespace {

#if TT_VECTOR_BYTES == 64 || defined(__aarch64__)
inline constexpr int TILE_VECTORS = 4;  // 6 × 4 sums, 4 + 1 operands: 29 of 32 registers
inline constexpr int PANELS_OF_ONE_ROW = 2, PANELS_OF_TWO_ROWS = 2;
#else
inline constexpr int TILE_VECTORS = 2;  // 6 × 2 sums, 2 + 1 operands: 15 of 16 registers
inline constexpr int PANELS_OF_ONE_ROW = 4, PANELS_OF_TWO_ROWS = 2;  // 8 sums at once
#endif

template <class T> inline constexpr int PANEL = TILE_VECTORS * LANES<T>;  // columns of a full panel

// How many numbers the packed form of a (depth × columns) matrix holds.
template <class T> Index packed_size(Index depth, Index columns) {
    return depth * ((columns + LANES<T> - 1) / LANES<T>) * LANES<T>;
}

// One panel whose rows are the matrix's columns, a square of vectors at a time where there is one.
template <class T>
void pack_across(const T *corner, Index k_stride, Index n_stride, Index depth, Index width, T *to,
                 Index padded) {
    constexpr Index L = LANES<T>;
    const Index squares = k_stride == 1 ? width / L * L : 0, deep = depth / L * L;
    for (Index n = 0; n < squares; n += L)
        for (Index k = 0; k < deep; k += L) {
            Vector<T> square[L];
            for (Index row = 0; row < L; ++row) square[row] = load(corner + (n + row) * n_stride + k);
            transpose<T>(square);
            for (Index row = 0; row < L; ++row) store(to + (k + row) * padded + n, square[row]);
        }
    for (Index n = 0; n < width; ++n)
        for (Index k = n < squares ? deep : 0; k < depth; ++k)
            to[k * padded + n] = corner[k * k_stride + n * n_stride];
}

// One panel whose rows are stretches of the matrix's rows, of so many whole vectors.
template <class T, int VECTORS>
void pack_along(const T *corner, Index k_stride, Index depth, T *to) {
    for (Index k = 0; k < depth; ++k)
        for (int v = 0; v < VECTORS; ++v)
            store(to + (k * VECTORS + v) * LANES<T>, load(corner + k * k_stride + v * LANES<T>));
}

template <class T> Index panels_of(Index columns) { return (columns + PANEL<T> - 1) / PANEL<T>; }

// Packs some panels of the matrix whose element (k, n) is at from[k * k_stride + n * n_stride]: panels of
// PANEL columns, the last one of as many vectors as it needs, in each panel row after row.
template <class T>
void pack(const T *from, Index k_stride, Index n_stride, Index depth, Index columns, T *to, Index first,
          Index last) {
    to += depth * first * PANEL<T>;
    for (Index n0 = first * PANEL<T>; n0 < std::min(columns, last * PANEL<T>); n0 += PANEL<T>) {
        const Index width = std::min<Index>(PANEL<T>, columns - n0);
        const Index padded = packed_size<T>(1, width);
        const T *const corner = from + n0 * n_stride;
        if (n_stride == 1 && width == PANEL<T>)
            pack_along<T, TILE_VECTORS>(corner, k_stride, depth, to);
        else if (n_stride == 1 && width == PANEL<T> / 2)
            pack_along<T, TILE_VECTORS / 2>(corner, k_stride, depth, to);
        else
            pack_across(corner, k_stride, n_stride, depth, width, to, padded);
        if (width < padded)
            for (Index k = 0; k < depth; ++k) std::fill_n(to + k * padded + width, padded - width, T{});
        to += depth * padded;
    }
}

// What a product is added to: nothing, or a matrix, whose rows are one and the same for a stride of 0.
template <class T> struct Added {
    const T *data = nullptr;
    Index stride = 0;
    Added from(Index row, Index column) const {
        return data ? Added{data + row * stride + column, stride} : *this;
    }
};

// Whether a tile asks for its panel's rows ahead of time, beyond its end for those of the next panel. Few rows
// get through a panel faster than the caches bring it, above all from beyond the second level; with five or
// six, a load more costs more than it saves. A row has to be one line of the cache.
template <class T, int ROWS, int VECTORS>
inline constexpr bool ahead = ROWS <= 4 && VECTORS * LANES<T> * sizeof(T) <= 64;
inline constexpr int ROWS_AHEAD = 40;

// C (rows × width) = added + A (rows × depth) · panel. A's element (m, k) is at
// a[m * m_stride + k * k_stride], the panel's rows are `step` numbers apart. A function of its own, since
// within another one the compiler runs out of registers for the rows' addresses.
template <class T, int ROWS, int VECTORS>
__attribute__((noinline)) void tile(const T *a, Index m_stride, Index k_stride, Index depth, const T *panel,
                                    Index step, T *c, Index c_stride, Index width, Added<T> added) {
    constexpr int L = LANES<T>;
    Vector<T> sum[ROWS][VECTORS];
#pragma GCC unroll 8
    for (int m = 0; m < ROWS; ++m)
#pragma GCC unroll 4
        for (int v = 0; v < VECTORS; ++v) sum[m][v] = Vector<T>{};
    for (Index k = 0; k < depth; ++k, panel += step, a += k_stride) {
        Vector<T> right[VECTORS];
        if constexpr (ahead<T, ROWS, VECTORS>) __builtin_prefetch(panel + ROWS_AHEAD * step);
#pragma GCC unroll 4
        for (int v = 0; v < VECTORS; ++v) right[v] = load(panel + v * L);
#pragma GCC unroll 8
        for (int m = 0; m < ROWS; ++m) {
            const Vector<T> left = spread(a[m * m_stride]);
#pragma GCC unroll 4
            for (int v = 0; v < VECTORS; ++v) sum[m][v] += left * right[v];
        }
    }
    if (width == VECTORS * L) {
#pragma GCC unroll 8
        for (int m = 0; m < ROWS; ++m, c += c_stride, added.data += added.stride)
#pragma GCC unroll 4
            for (int v = 0; v < VECTORS; ++v)
                store(c + v * L, added.data ? load(added.data + v * L) + sum[m][v] : sum[m][v]);
        return;
    }
    const int last = static_cast<int>(width - (VECTORS - 1) * L);  // elements of the last vector
#pragma GCC unroll 8
    for (int m = 0; m < ROWS; ++m, c += c_stride, added.data += added.stride)
#pragma GCC unroll 4
        for (int v = 0; v < VECTORS; ++v) {
            const T *const first = added.data ? added.data + v * L : nullptr;
            if (v < VECTORS - 1)
                store(c + v * L, first ? load(first) + sum[m][v] : sum[m][v]);
            else
                store_first(c + v * L, first ? load_first(first, last) + sum[m][v] : sum[m][v], last);
        }
}

// One row or two by several whole panels, `apart` numbers from one to the next: with a tile's few sums each
// product would wait for the one before it.
template <class T, int ROWS, int PANELS>
__attribute__((noinline)) void wide_tile(const T *a, Index m_stride, Index k_stride, Index depth,
                                         const T *panel, Index step, Index apart, T *c, Index c_stride,
                                         Added<T> added) {
    constexpr int L = LANES<T>;
    Vector<T> sum[PANELS][TILE_VECTORS][ROWS];
#pragma GCC unroll 4
    for (int p = 0; p < PANELS; ++p)
#pragma GCC unroll 4
        for (int v = 0; v < TILE_VECTORS; ++v)
#pragma GCC unroll 2
            for (int m = 0; m < ROWS; ++m) sum[p][v][m] = Vector<T>{};
    for (Index k = 0; k < depth; ++k, panel += step, a += k_stride) {
        Vector<T> left[ROWS];
#pragma GCC unroll 2
        for (int m = 0; m < ROWS; ++m) left[m] = spread(a[m * m_stride]);
#pragma GCC unroll 4
        for (int p = 0; p < PANELS; ++p)
#pragma GCC unroll 4
            for (int v = 0; v < TILE_VECTORS; ++v) {
                const Vector<T> right = load(panel + p * apart + v * L);
#pragma GCC unroll 2
                for (int m = 0; m < ROWS; ++m) sum[p][v][m] += left[m] * right;
            }
    }
#pragma GCC unroll 2
    for (int m = 0; m < ROWS; ++m)
#pragma GCC unroll 4
        for (int p = 0; p < PANELS; ++p)
#pragma GCC unroll 4
            for (int v = 0; v < TILE_VECTORS; ++v) {
                const Index n = (p * TILE_VECTORS + v) * L;
                const Vector<T> s = sum[p][v][m];
                store(c + m * c_stride + n, added.data ? load(added.data + m * added.stride + n) + s : s);
            }
}

template <class T, int VECTORS>
void tile_rows(Index rows, const T *a, Index m_stride, Index k_stride, Index depth, const T *panel,
               Index step, T *c, Index c_stride, Index width, Added<T> added) {
    deal_rows(rows, [&](Index first, auto count) {
        tile<T, count(), VECTORS>(a + first * m_stride, m_stride, k_stride, depth, panel, step,
                                  c + first * c_stride, c_stride, width, added.from(first, 0));
    });
}

// C (rows × columns) = added + A (rows × depth) · B, with B as `pack` left it; or as it stands, row after
// row of whole vectors, where `packed` is false.
template <class T>
void multiply(Index rows, Index columns, Index depth, const T *a, Index m_stride, Index k_stride,
              const T *right, Index stride, bool packed, T *c, Index c_stride, Added<T> added) {
    const Index apart = packed ? depth * PANEL<T> : PANEL<T>;  // from panel to panel
    const auto wide = [&](auto tile, int panels, Index n) {
        for (; n + panels * PANEL<T> <= columns; n += panels * PANEL<T>)
            tile(a, m_stride, k_stride, depth, right + n / PANEL<T> * apart, packed ? PANEL<T> : stride, apart,
                 c + n, c_stride, added.from(0, n));
        return n;
    };
    Index n = rows == 1 ? wide(wide_tile<T, 1, PANELS_OF_ONE_ROW>, PANELS_OF_ONE_ROW, 0)
              : rows == 2 ? wide(wide_tile<T, 2, PANELS_OF_TWO_ROWS>, PANELS_OF_TWO_ROWS, 0) : 0;
    for (; n < columns; n += PANEL<T>) {
        const Index width = std::min<Index>(PANEL<T>, columns - n);
        const Index vectors = (width + LANES<T> - 1) / LANES<T>;
        const T *const panel = right + n / PANEL<T> * apart;
        const Index step = packed ? vectors * LANES<T> : stride;
        const Added<T> plus = added.from(0, n);
        switch (vectors) {
#define TT_CASE(N)                                                                                       \
    case N:                                                                                              \
        tile_rows<T, N>(rows, a, m_stride, k_stride, depth, panel, step, c + n, c_stride, width, plus); \
        break;
            TT_CASE(1)
            TT_CASE(2)
#if TT_VECTOR_BYTES == 64 || defined(__aarch64__)
            TT_CASE(3)
            TT_CASE(4)
#endif
#undef TT_CASE
        }
    }
}

// C = added + A · B, with B as `pack` left it.
template <class T>
void multiply(Index rows, Index columns, Index depth, const T *a, Index m_stride, Index k_stride,
              const T *packed, T *c, Index c_stride, Added<T> added) {
    multiply(rows, columns, depth, a, m_stride, k_stride, packed, Index{0}, true, c, c_stride, added);
}

// Rows of the product with a matrix's transpose, without packing: C (ROWS × LANES) = added + A · Mᵀ, with
// LANES rows of M one after another. Squares of M are transposed on the way; every element is summed in the
// same order as in a tile.
template <class T, int ROWS>
inline void tile_across(const T *a, Index m_stride, Index depth, const T *M, T *c, Index c_stride,
                        Added<T> added) {
    constexpr int L = LANES<T>;
    Vector<T> sum[ROWS] = {};
    for (Index k = 0; k < depth; k += L) {
        Vector<T> square[L];
        for (int row = 0; row < L; ++row) square[row] = load(M + row * depth + k);
        transpose<T>(square);
#pragma GCC unroll 16
        for (int j = 0; j < L; ++j)
            for (int m = 0; m < ROWS; ++m) sum[m] += spread(a[m * m_stride + k + j]) * square[j];
    }
    for (int m = 0; m < ROWS; ++m) {
        const T *const first = added.data ? added.data + m * added.stride : nullptr;
        store(c + m * c_stride, first ? load(first) + sum[m] : sum[m]);
    }
}

// For few rows, whose product costs less than packing would: columns and depth are multiples of LANES.
template <class T>
void multiply_across(Index rows, Index columns, Index depth, const T *a, Index m_stride, const T *M, T *c,
                     Index c_stride, Added<T> added) {
    for (Index n = 0; n < columns; n += LANES<T>)
        for (Index m = 0; m < rows;) {
            const T *const from = a + m * m_stride;
            T *const to = c + m * c_stride + n;
            const Added<T> plus = added.from(m, n);
            if (rows - m >= 4) {
                tile_across<T, 4>(from, m_stride, depth, M + n * depth, to, c_stride, plus);
                m += 4;
            } else {
                tile_across<T, 1>(from, m_stride, depth, M + n * depth, to, c_stride, plus);
                m += 1;
            }
        }
}

}  // namespace
}  // namespace throughtime
