// bfloat16 products of AArch64 with BF16: 8 products an instruction, added in pairs to 4 sums. CMakeLists.txt
// compiles this file with those instructions; dispatch.cpp calls it where the processor has them.
#include <arm_neon.h>

#include <cstring>

#include "bfloat16.hpp"
#include "simd.hpp"
#include "tile_rows.hpp"

namespace throughtime {
namespace {

constexpr Index WIDTH = 4;  // sums of a register, or pairs
constexpr int VECTORS = PAIR_LANES / WIDTH;  // 6 × 4 sums, 4 + 1 operands: 29 of 32 registers

// The first `count` of four numbers, the others 0; nothing is read beyond them.
inline float32x4_t load_lanes(const float *from, Index count) {
    if (count >= WIDTH) return vld1q_f32(from);
    float own[WIDTH] = {};
    for (Index k = 0; k < count; ++k) own[k] = from[k];
    return vld1q_f32(own);
}

inline void store_lanes(float *to, float32x4_t v, Index count) {
    if (count >= WIDTH) {
        vst1q_f32(to, v);
        return;
    }
    float own[WIDTH];
    vst1q_f32(own, v);
    for (Index k = 0; k < count; ++k) to[k] = own[k];
}

// 8 numbers of one row, fewer filled up with zeros, as 4 pairs.
inline uint32x4_t rounded(const float *from, Index count) {
    const float32x4_t low = load_lanes(from, count);
    const float32x4_t high = count > WIDTH ? load_lanes(from + WIDTH, count - WIDTH) : vdupq_n_f32(0);
    return vreinterpretq_u32_bf16(vcvtq_high_bf16_f32(vcvtq_low_bf16_f32(low), high));
}

void along(const float *from, Index stride, Index rows, Index depth, Pair *to, Index to_stride) {
    for (Index row = 0; row < rows; ++row, from += stride, to += to_stride)
        for (Index k = 0; k < depth; k += 2 * WIDTH) {
            Pair own[WIDTH];
            vst1q_u32(own, rounded(from + k, depth - k));
            std::memcpy(to + k / 2, own, sizeof(Pair) * static_cast<std::size_t>(smaller(WIDTH, pairs_of(depth - k))));
        }
}

void across(const float *from, Index stride, Index rows, Index depth, Pair *to, Index to_stride) {
    for (Index row = 0; row < whole_lanes(rows); row += WIDTH)
        for (Index k = 0; k < depth; k += 2 * WIDTH) {
            uint32x4_t own[WIDTH];
            for (Index j = 0; j < WIDTH; ++j)
                own[j] = row + j < rows ? rounded(from + (row + j) * stride + k, depth - k) : vdupq_n_u32(0);
            const uint32x4_t even = vtrn1q_u32(own[0], own[1]), odd = vtrn2q_u32(own[0], own[1]);
            const uint32x4_t even_below = vtrn1q_u32(own[2], own[3]), odd_below = vtrn2q_u32(own[2], own[3]);
            const uint32x4_t turned[WIDTH] = {
                vcombine_u32(vget_low_u32(even), vget_low_u32(even_below)),
                vcombine_u32(vget_low_u32(odd), vget_low_u32(odd_below)),
                vcombine_u32(vget_high_u32(even), vget_high_u32(even_below)),
                vcombine_u32(vget_high_u32(odd), vget_high_u32(odd_below)),
            };
            const Index pairs = smaller(WIDTH, pairs_of(depth - k));
            for (Index j = 0; j < pairs; ++j) vst1q_u32(to + (k / 2 + j) * to_stride + row, turned[j]);
        }
}

void between(const float *from, Index stride, const Index *chosen, Index depth, Index columns, Pair *to,
             Index to_stride) {
    for (Index k = 0; k < depth; k += 2, to += to_stride) {
        const float *const first = from + (chosen ? chosen[k] : k) * stride;
        const bool alone = k + 1 == depth;
        const float *const second = alone ? first : from + (chosen ? chosen[k + 1] : k + 1) * stride;
        for (Index n = 0; n < whole_lanes(columns); n += WIDTH) {
            const float32x4_t low = load_lanes(first + n, columns - n);
            const float32x4_t high = alone ? vdupq_n_f32(0) : load_lanes(second + n, columns - n);
            const uint16x4_t one = vreinterpret_u16_bf16(vcvt_bf16_f32(low));
            const uint16x4_t other = vreinterpret_u16_bf16(vcvt_bf16_f32(high));
            const uint16x8_t both = vcombine_u16(vzip1_u16(one, other), vzip2_u16(one, other));
            vst1q_u32(to + n, vreinterpretq_u32_u16(both));
        }
    }
}

// ROWS × 16 sums; the panel's rows are `width` pairs, and only the first `lanes` columns are stored.
template <int ROWS>
__attribute__((noinline)) void tile(const Pair *a, Index m_stride, Index p_stride, Index pairs, const Pair *panel,
                                    Index width, Index lanes, float *c, Index c_stride, const float *added,
                                    Index added_stride) {
    float32x4_t sum[ROWS][VECTORS];
#pragma GCC unroll 8
    for (int m = 0; m < ROWS; ++m)
#pragma GCC unroll 4
        for (int v = 0; v < VECTORS; ++v) sum[m][v] = vdupq_n_f32(0);
    for (Index p = 0; p < pairs; ++p, panel += width, a += p_stride) {
        bfloat16x8_t right[VECTORS];
#pragma GCC unroll 4
        for (int v = 0; v < VECTORS; ++v) right[v] = vreinterpretq_bf16_u32(vld1q_u32(panel + v * WIDTH));
#pragma GCC unroll 8
        for (int m = 0; m < ROWS; ++m) {
            const bfloat16x8_t left = vreinterpretq_bf16_u32(vdupq_n_u32(a[m * m_stride]));
#pragma GCC unroll 4
            for (int v = 0; v < VECTORS; ++v) sum[m][v] = vbfdotq_f32(sum[m][v], left, right[v]);
        }
    }
#pragma GCC unroll 8
    for (int m = 0; m < ROWS; ++m, c += c_stride)
#pragma GCC unroll 4
        for (int v = 0; v < VECTORS; ++v) {
            const Index n = v * WIDTH, count = lanes - n;
            if (count <= 0) break;
            float32x4_t own = sum[m][v];
            if (added) own = vaddq_f32(load_lanes(added + m * added_stride + n, count), own);
            store_lanes(c + n, own, count);
        }
}

void multiply(Index rows, Index columns, Index pairs, const Pair *a, Index m_stride, Index p_stride,
              const Pair *panels, float *c, Index c_stride, const float *added, Index added_stride) {
    for (Index start = 0; start < columns; start += PAIR_COLUMNS) {
        const Index width = whole_lanes(smaller(PAIR_COLUMNS, columns - start));
        const Pair *const panel = panels + start * pairs;
        for (Index n = start; n < smaller(columns, start + width); n += PAIR_LANES)
            deal_rows(rows, [&](Index first, auto count) {
                tile<count()>(a + first * m_stride, m_stride, p_stride, pairs, panel + (n - start), width,
                              smaller(PAIR_LANES, columns - n), c + first * c_stride + n, c_stride,
                              added ? added + first * added_stride + n : nullptr, added_stride);
            });
    }
}

}  // namespace

extern const Bfloat16 neon_bf16;
const Bfloat16 neon_bf16 = {"neon_bf16", along, across, between, multiply};

}  // namespace throughtime
