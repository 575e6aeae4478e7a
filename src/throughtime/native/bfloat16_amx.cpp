// bfloat16 products of x86-64 with AMX: 16 × 16 sums, to which one instruction adds 16 pairs each. Numbers are rounded
// and arranged as for AVX512_BF16; of the product, blocks of 16 rows and 16 pairs, filled up with zeros, are loaded.
#include <immintrin.h>

#ifdef TT_EMULATED_AMX  // tests on processors without it
#include "amx_emulated.hpp"
#endif

#include <cstring>

#include "bfloat16.hpp"

namespace throughtime {

extern const Bfloat16 avx512_bf16, amx_bf16;

namespace {

constexpr Index SIDE = 16;  // rows of a tile, and pairs or sums in each

inline __mmask16 first_lanes(Index count) { return static_cast<__mmask16>(count >= SIDE ? 0xffff : (1u << count) - 1); }

// All eight tiles have 16 rows of 64 bytes.
struct alignas(64) Shapes {
    std::uint8_t palette = 1, start = 0, none[14] = {};
    std::uint16_t bytes[16] = {};
    std::uint8_t rows[16] = {};
    Shapes() {
        for (int k = 0; k < 8; ++k) bytes[k] = 4 * SIDE, rows[k] = SIDE;
    }
};

// Rows of pairs, the first `rows` and `pairs` of which are; the rest is 0.
void block(const Pair *from, Index row_stride, Index pair_stride, Index rows, Index pairs, Pair *to) {
    std::memset(to, 0, sizeof(Pair) * SIDE * SIDE);
    for (Index r = 0; r < rows; ++r)
        for (Index p = 0; p < pairs; ++p) to[r * SIDE + p] = from[r * row_stride + p * pair_stride];
}

// 16 × 16 sums go where they belong: the first rows and columns of them, with what is added.
void put(const float *sums, Index rows, Index columns, float *c, Index c_stride, const float *added,
         Index added_stride) {
    const __mmask16 mask = first_lanes(columns);
    for (Index m = 0; m < rows; ++m) {
        __m512 own = _mm512_load_ps(sums + m * SIDE);
        if (added) own = _mm512_add_ps(_mm512_maskz_loadu_ps(mask, added + m * added_stride), own);
        _mm512_mask_storeu_ps(c + m * c_stride, mask, own);
    }
}

// 32 × 32 sums at most: tiles 0 to 3 hold them, 4 and 5 the rows, 6 and 7 the columns.
void square(Index rows, Index columns, Index pairs, const Pair *a, Index m_stride, Index p_stride, const Pair *panel,
            Index width, float *c, Index c_stride, const float *added, Index added_stride) {
    alignas(64) Pair left[SIDE * SIDE], right[SIDE * SIDE];
    const bool below = rows > SIDE, beside = columns > SIDE;
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (Index p = 0; p < pairs; p += SIDE) {
        const Index some = smaller(SIDE, pairs - p);
        const Pair *const own = panel + p * width;
        const auto load_left = [&](Index first) {
            block(a + first * m_stride + p * p_stride, m_stride, p_stride, smaller(SIDE, rows - first), some, left);
        };
        // A panel's rows are whole lanes; the pairs of the last block may be fewer than a tile's.
        const auto load_right = [&](Index first) {
            if (some < SIDE) block(own + first, width, 1, some, SIDE, right);
            return some < SIDE ? right : own + first;
        };
        const int stride = static_cast<int>(sizeof(Pair) * static_cast<std::size_t>(some < SIDE ? SIDE : width));
        load_left(0);
        _tile_loadd(4, left, 64);
        _tile_loadd(6, load_right(0), stride);
        _tile_dpbf16ps(0, 4, 6);
        if (beside) {
            _tile_loadd(7, load_right(SIDE), stride);
            _tile_dpbf16ps(1, 4, 7);
        }
        if (below) {
            load_left(SIDE);
            _tile_loadd(5, left, 64);
            _tile_dpbf16ps(2, 5, 6);
            if (beside) _tile_dpbf16ps(3, 5, 7);
        }
    }
    alignas(64) float sums[SIDE * SIDE];
    const auto store = [&](Index row, Index column) {
        put(sums, smaller(SIDE, rows - row), smaller(SIDE, columns - column), c + row * c_stride + column, c_stride,
            added ? added + row * added_stride + column : nullptr, added_stride);
    };
    _tile_stored(0, sums, 64);
    store(0, 0);
    if (beside) {
        _tile_stored(1, sums, 64);
        store(0, SIDE);
    }
    if (below) {
        _tile_stored(2, sums, 64);
        store(SIDE, 0);
    }
    if (below && beside) {
        _tile_stored(3, sums, 64);
        store(SIDE, SIDE);
    }
}

void multiply(Index rows, Index columns, Index pairs, const Pair *a, Index m_stride, Index p_stride,
              const Pair *panels, float *c, Index c_stride, const float *added, Index added_stride) {
    static const Shapes shapes;
    _tile_loadconfig(&shapes);
    for (Index start = 0; start < columns; start += PAIR_COLUMNS) {
        const Index width = whole_lanes(smaller(PAIR_COLUMNS, columns - start));
        const Pair *const panel = panels + start * pairs;
        for (Index n = start; n < smaller(columns, start + width); n += 2 * SIDE)
            for (Index m = 0; m < rows; m += 2 * SIDE)
                square(smaller(2 * SIDE, rows - m), smaller(2 * SIDE, columns - n), pairs, a + m * m_stride, m_stride,
                       p_stride, panel + (n - start), width, c + m * c_stride + n, c_stride,
                       added ? added + m * added_stride + n : nullptr, added_stride);
    }
    _tile_release();
}

}  // namespace

const Bfloat16 amx_bf16 = {"amx_bf16", avx512_bf16.along, avx512_bf16.across, avx512_bf16.between, multiply};

}  // namespace throughtime
