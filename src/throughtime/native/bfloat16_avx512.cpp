// bfloat16 products of x86-64 with AVX512_BF16: 32 products an instruction, added in pairs to 16 sums. CMakeLists.txt
// compiles this file with those instructions; dispatch.cpp calls it where the processor has them.
#include <immintrin.h>

#include "bfloat16.hpp"
#include "simd.hpp"
#include "tile_rows.hpp"

namespace throughtime {
namespace {

constexpr int PANEL_VECTORS = PAIR_COLUMNS / PAIR_LANES;  // 6 × 4 sums, 4 + 1 operands: 29 of 32 registers

inline __mmask16 first_lanes(Index count) {
    return static_cast<__mmask16>(count >= PAIR_LANES ? 0xffff : count <= 0 ? 0 : (1u << count) - 1);
}

inline __m512 load_lanes(const float *from, Index count) { return _mm512_maskz_loadu_ps(first_lanes(count), from); }

// 32 numbers of one row, fewer filled up with zeros, as 16 pairs.
inline __m512i rounded(const float *from, Index count) {
    const __m512 low = load_lanes(from, count);
    const __m512 high = count > PAIR_LANES ? load_lanes(from + PAIR_LANES, count - PAIR_LANES) : _mm512_setzero_ps();
    return (__m512i)_mm512_cvtne2ps_pbh(high, low);
}

void along(const float *from, Index stride, Index rows, Index depth, Pair *to, Index to_stride) {
    for (Index row = 0; row < rows; ++row, from += stride, to += to_stride) {
        Index k = 0;
        for (; k + 2 * PAIR_LANES <= depth; k += 2 * PAIR_LANES)
            _mm512_storeu_si512(to + k / 2, rounded(from + k, 2 * PAIR_LANES));
        if (k < depth)
            _mm512_mask_storeu_epi32(to + k / 2, first_lanes(pairs_of(depth - k)), rounded(from + k, depth - k));
    }
}

void across(const float *from, Index stride, Index rows, Index depth, Pair *to, Index to_stride) {
    for (Index row = 0; row < rows; row += PAIR_LANES)
        for (Index k = 0; k < depth; k += 2 * PAIR_LANES) {
            Vector<float> square[PAIR_LANES];
            for (Index j = 0; j < PAIR_LANES; ++j)
                square[j] = row + j < rows ? (Vector<float>)rounded(from + (row + j) * stride + k, depth - k)
                                           : Vector<float>{};
            transpose<float>(square);
            const Index pairs = smaller(PAIR_LANES, pairs_of(depth - k));
            for (Index j = 0; j < pairs; ++j)
                _mm512_storeu_si512(to + (k / 2 + j) * to_stride + row, (__m512i)square[j]);
        }
}

void between(const float *from, Index stride, const Index *chosen, Index depth, Index columns, Pair *to,
             Index to_stride) {
    const __m512i turns = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6,
                                           21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    for (Index k = 0; k < depth; k += 2, to += to_stride) {
        const float *const first = from + (chosen ? chosen[k] : k) * stride;
        const bool alone = k + 1 == depth;
        const float *const second = alone ? first : from + (chosen ? chosen[k + 1] : k + 1) * stride;
        for (Index n = 0; n < columns; n += PAIR_LANES) {
            const __m512 low = load_lanes(first + n, columns - n);
            const __m512 high = alone ? _mm512_setzero_ps() : load_lanes(second + n, columns - n);
            const __m512i both = (__m512i)_mm512_cvtne2ps_pbh(high, low);
            _mm512_storeu_si512(to + n, _mm512_permutexvar_epi16(turns, both));
        }
    }
}

struct Result {
    float *c;
    Index stride;
    const float *added;
    Index added_stride;

    Result from(Index row, Index column) const {
        return {c + row * stride + column, stride, added ? added + row * added_stride + column : nullptr,
                added_stride};
    }
};

// ROWS × PANELS · VECTORS · 16 sums; panels are `apart` pairs from one another, the last of the `lanes` columns of
// the last vector may be missing.
template <int ROWS, int PANELS, int VECTORS>
__attribute__((noinline)) void tile(const Pair *a, Index m_stride, Index p_stride, Index pairs, const Pair *panel,
                                    Index apart, Index lanes, Result to) {
    __m512 sum[ROWS][PANELS][VECTORS];
#pragma GCC unroll 8
    for (int m = 0; m < ROWS; ++m)
#pragma GCC unroll 4
        for (int q = 0; q < PANELS; ++q)
#pragma GCC unroll 4
            for (int v = 0; v < VECTORS; ++v) sum[m][q][v] = _mm512_setzero_ps();
    for (Index p = 0; p < pairs; ++p, panel += VECTORS * PAIR_LANES, a += p_stride) {
        __m512bh left[ROWS];
#pragma GCC unroll 8
        for (int m = 0; m < ROWS; ++m)
            if constexpr (PANELS > 1) left[m] = (__m512bh)_mm512_set1_epi32(static_cast<int>(a[m * m_stride]));
#pragma GCC unroll 4
        for (int q = 0; q < PANELS; ++q) {
            __m512bh right[VECTORS];
#pragma GCC unroll 4
            for (int v = 0; v < VECTORS; ++v)
                right[v] = (__m512bh)_mm512_loadu_si512(panel + q * apart + v * PAIR_LANES);
#pragma GCC unroll 8
            for (int m = 0; m < ROWS; ++m) {
                if constexpr (PANELS == 1)
                    left[m] = (__m512bh)_mm512_set1_epi32(static_cast<int>(a[m * m_stride]));
#pragma GCC unroll 4
                for (int v = 0; v < VECTORS; ++v)
                    sum[m][q][v] = _mm512_dpbf16_ps(sum[m][q][v], left[m], right[v]);
            }
        }
    }
#pragma GCC unroll 8
    for (int m = 0; m < ROWS; ++m, to = to.from(1, 0))
#pragma GCC unroll 4
        for (int q = 0; q < PANELS; ++q)
#pragma GCC unroll 4
            for (int v = 0; v < VECTORS; ++v) {
                const Index n = (q * VECTORS + v) * PAIR_LANES;
                const bool last = q + 1 == PANELS && v + 1 == VECTORS;
                const __mmask16 mask = last ? first_lanes(lanes) : first_lanes(PAIR_LANES);
                const __m512 own = sum[m][q][v];
                const __m512 whole =
                    to.added ? _mm512_add_ps(_mm512_maskz_loadu_ps(mask, to.added + n), own) : own;
                _mm512_mask_storeu_ps(to.c + n, mask, whole);
            }
}

template <int PANELS, int VECTORS>
void tile_rows(Index rows, const Pair *a, Index m_stride, Index p_stride, Index pairs, const Pair *panel,
               Index apart, Index lanes, Result to) {
    deal_rows(rows, [&](Index first, auto count) {
        constexpr int at_once = count() * PANELS <= TILE_ROWS ? PANELS : 1;
        tile<count(), at_once, VECTORS>(a + first * m_stride, m_stride, p_stride, pairs, panel, apart, lanes,
                                        to.from(first, 0));
    });
}

void multiply(Index rows, Index columns, Index pairs, const Pair *a, Index m_stride, Index p_stride,
              const Pair *panels, float *c, Index c_stride, const float *added, Index added_stride) {
    const Result to{c, c_stride, added, added_stride};
    const Index apart = pairs * PAIR_COLUMNS;
    Index n = 0;
    // One row by four panels, or two or three by two: with a tile's few sums each would wait for the one before.
    const auto wide = [&](auto tile, Index at_once) {
        for (; n + at_once * PAIR_COLUMNS <= columns; n += at_once * PAIR_COLUMNS)
            tile(rows, a, m_stride, p_stride, pairs, panels + n * pairs, apart, PAIR_LANES, to.from(0, n));
    };
    if (rows == 1) wide(tile_rows<4, PANEL_VECTORS>, 4);
    if (rows <= 3) wide(tile_rows<2, PANEL_VECTORS>, 2);
    for (; n < columns; n += PAIR_COLUMNS) {
        const Index width = smaller(PAIR_COLUMNS, columns - n), vectors = whole_lanes(width) / PAIR_LANES;
        const Index lanes = width - (vectors - 1) * PAIR_LANES;
        const auto one = [&](auto tile) {
            tile(rows, a, m_stride, p_stride, pairs, panels + n * pairs, apart, lanes, to.from(0, n));
        };
        if (vectors == 1) one(tile_rows<1, 1>);
        else if (vectors == 2) one(tile_rows<1, 2>);
        else if (vectors == 3) one(tile_rows<1, 3>);
        else one(tile_rows<1, 4>);
    }
}

}  // namespace

extern const Bfloat16 avx512_bf16;
const Bfloat16 avx512_bf16 = {"avx512_bf16", along, across, between, multiply};

}  // namespace throughtime
