"""The C that is the same for all cells: products of matrices, and functions of numbers.

The functions are those of `native/activations.hpp`, of one number each and without a branch, so
that a compiler makes vectors of a loop over them. Their errors are a few units in the last place.
"""

from __future__ import annotations

import numpy as np

# What each operation calls; the rest is called by its own name.
FUNCTIONS = {
    "tanh": "tt_tanh",
    "sigmoid": "tt_sigmoid",
    "exp": "tt_exp",
    "expm1": "tt_expm1",
    "log": "tt_log",
    "log1p": "tt_log1p",
    "sqrt": "tt_sqrt",
    "sin": "tt_sin",
    "cos": "tt_cos",
    "arctan": "tt_arctan",
    "absolute": "tt_absolute",
    "sign": "tt_sign",
    "softplus": "tt_softplus",
    "relu": "tt_relu",
    "maximum": "tt_maximum",
    "minimum": "tt_minimum",
    "stop_gradient": "",
}

CONSTANTS = {
    "float32": """\
typedef float real;
typedef uint32_t whole;
#define MANTISSA_BITS 23
#define BIAS 127
#define TO_WHOLE 0x1.8p+23f
#define LOG2_E 0x1.715476p+0f
#define LN2_HIGH 0x1.62e4p-1f
#define LN2_LOW 0x1.7f7d1cp-20f
#define LARGEST 128
#define SMALLEST (-126)
#define TT_POLYNOMIAL(r) \\
    ((((0x1.6bebf2p-10f * r + 0x1.12278cp-7f) * r + 0x1.555674p-5f) * r + 0x1.5554bp-3f) * r \\
     + 0x1.fffffep-2f)
""",
    "float64": """\
typedef double real;
typedef uint64_t whole;
#define MANTISSA_BITS 52
#define BIAS 1023
#define TO_WHOLE 0x1.8p+52
#define LOG2_E 0x1.71547652b82fep+0
#define LN2_HIGH 0x1.62e42fefa4p-1
#define LN2_LOW -0x1.8432a1b0e2634p-43
#define LARGEST 1024
#define SMALLEST (-1022)
#define TT_POLYNOMIAL(r) \\
    (((((((((0x1.ae6bdf9538bf7p-26 * r + 0x1.28a1ef5070adcp-22) * r + 0x1.71de87f107845p-19) * r \\
           + 0x1.a019a7605965cp-16) * r + 0x1.a01a01751938fp-13) * r + 0x1.6c16c17ee0764p-10) * r \\
        + 0x1.1111111118fabp-7) * r + 0x1.55555555522a5p-5) * r + 0x1.5555555555539p-3) * r \\
     + 0x1.0000000000005p-1)
""",
}

HEAD = """\
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

"""

MATHEMATICS = """\
static inline whole tt_bits(real x) { whole n; memcpy(&n, &x, sizeof n); return n; }
static inline real tt_number(whole n) { real x; memcpy(&x, &n, sizeof x); return x; }
static inline real tt_at_least(real limit, real x) { return limit > x ? limit : x; }
static inline real tt_at_most(real limit, real x) { return limit < x ? limit : x; }

/* e^y = 2^n (1 + part), n whole and |y - n ln 2| <= ln 2 / 2; returns part, and n times 1. */
static inline real tt_reduced(real y, real *n) {
    const real whole_part = (y * LOG2_E + TO_WHOLE) - TO_WHOLE;
    const real r = (y - whole_part * LN2_HIGH) - whole_part * LN2_LOW;
    *n = whole_part;
    return r + r * r * TT_POLYNOMIAL(r);
}

/* 2^n, for a power that is a normal number. */
static inline real tt_power(real n) {
    return tt_number(tt_bits(n + (TO_WHOLE + BIAS)) << MANTISSA_BITS);
}

/* The power of two in two factors, since their product may be infinite or subnormal. */
static inline real tt_exp(real y) {
    real n;
    y = tt_at_least(SMALLEST - MANTISSA_BITS - 2, tt_at_most(LARGEST, y));
    const real part = tt_reduced(y, &n);
    const real half = (n * (real)0.5 + TO_WHOLE) - TO_WHOLE;
    return ((1 + part) * tt_power(half)) * tt_power(n - half);
}

static inline real tt_expm1(real y) {
    real n;
    y = tt_at_least(-MANTISSA_BITS - 2, tt_at_most(LARGEST, y));
    const real part = tt_reduced(y, &n), half = (n * (real)0.5 + TO_WHOLE) - TO_WHOLE;
    const real first = tt_power(half), second = tt_power(n - half);
    const real near = (first * second - 1) + (part * first) * second;
    return n > 60 ? ((1 + part) * first) * second - 1 : near;
}

/* 1 / (1 + e^-x), numerator and denominator times a number so small that e^-x does not overflow. */
static inline real tt_sigmoid(real x) {
    const real unit = (real)0x1p-60;
    real n;
    x = tt_at_least(SIGMOID_LOWEST, tt_at_most(40, x));
    const real part = tt_reduced(-x, &n);
    const real power = tt_number(tt_bits(n + (TO_WHOLE + (BIAS - 60))) << MANTISSA_BITS);
    const real sum = unit + power, lost = unit - (sum - power);
    return unit / (sum + (power * part + lost));
}

/* (1 - e) / (1 + e) with e = e^-2|x|, then the sign of x. */
static inline real tt_tanh(real x) {
    real n;
    const real part = tt_reduced(tt_at_least(-40, -2 * tt_absolute(x)), &n);
    const real power = tt_power(n), small = power * part;
    const real size = ((1 - power) - small) / ((1 + power) + small);
    return tt_number((tt_bits(size) & ~TT_SIGN) | (tt_bits(x) & TT_SIGN));
}

static inline real tt_softplus(real x) { return tt_relu(x) + tt_log1p(tt_exp(-tt_absolute(x))); }
"""

SIMPLE = """\
#define TT_SIGN ((whole)1 << (8 * sizeof(whole) - 1))
static inline real tt_absolute(real x) { return tt_number(tt_bits(x) & ~TT_SIGN); }
static inline real tt_sqrt(real x) { return LIBM(sqrt)(x); }
static inline real tt_log(real x) { return LIBM(log)(x); }
static inline real tt_log1p(real x) { return LIBM(log1p)(x); }
static inline real tt_sin(real x) { return LIBM(sin)(x); }
static inline real tt_cos(real x) { return LIBM(cos)(x); }
static inline real tt_arctan(real x) { return LIBM(atan)(x); }
static inline real tt_relu(real x) { return x < 0 ? 0 : x; }
static inline real tt_sign(real x) { return x != x ? x : (real)((x > 0) - (x < 0)); }
/* As NumPy's: NaN wins. */
static inline real tt_maximum(real a, real b) { return a > b || a != a ? a : b; }
static inline real tt_minimum(real a, real b) { return a < b || a != a ? a : b; }
"""

PRODUCTS = """\
#if defined(__AVX512F__)
#define VECTOR_BYTES 64
#define TILE_ROWS 8
#elif defined(__AVX__)
#define VECTOR_BYTES 32
#define TILE_ROWS 4
#else
#define VECTOR_BYTES 16
#define TILE_ROWS 4
#endif
#define LANES ((int)(VECTOR_BYTES / sizeof(real)))
#define PANEL (2 * LANES)
typedef real vector __attribute__((vector_size(VECTOR_BYTES)));
typedef real loose __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(real)), may_alias));

/* How many numbers a packed matrix (k, n) takes. */
long tt_packed(long k, long n) { return k * ((n + PANEL - 1) / PANEL * PANEL); }

/* A matrix (k, n), given by its strides, in panels of PANEL columns; zeros fill the last one. */
void tt_pack(long k, long n, const real *m, long row, long column, real *panels) {
    for (long from = 0; from < n; from += PANEL)
        for (long i = 0; i < k; i++)
            for (long j = from; j < from + PANEL; j++)
                *panels++ = j < n ? m[i * row + j * column] : 0;
}

/* `rows` rows of y = x m, for `wide` panels next to one another; each number is summed in order. */
static inline __attribute__((always_inline)) void tt_tile(
        int rows, int wide, long k, long left, const real *x, long x_row, const real *panels,
        real *y, long y_row) {
    vector sum[TILE_ROWS > 4 ? TILE_ROWS : 4][2] = {{{0}}};
    const long next = k * PANEL;
    for (long i = 0; i < k; i++) {
#pragma GCC unroll 8
        for (int w = 0; w < wide; w++) {
            const loose *m = (const loose *)(panels + w * next + i * PANEL);
            const vector first = m[0], second = m[1];
#pragma GCC unroll 8
            for (int r = 0; r < rows; r++) {
                sum[r + w][0] += x[r * x_row + i] * first;
                sum[r + w][1] += x[r * x_row + i] * second;
            }
        }
    }
#pragma GCC unroll 8
    for (int w = 0; w < wide; w++)
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++) {
            real *to = y + r * y_row + w * PANEL;
            if (left - w * PANEL >= PANEL) {
                ((loose *)to)[0] = sum[r + w][0];
                ((loose *)to)[1] = sum[r + w][1];
            } else {
                memcpy(to, sum[r + w], (size_t)(left - w * PANEL) * sizeof(real));
            }
        }
}

/* y = x m for `rows` rows: x (rows, k), m packed (k, n), y (rows, n). */
static void tt_multiply(long rows, long k, long n, const real *x, long x_row, const real *panels,
                        real *y, long y_row) {
    long row = 0;
    for (; row + TILE_ROWS <= rows; row += TILE_ROWS)
        for (long from = 0; from < n; from += PANEL)
            tt_tile(TILE_ROWS, 1, k, n - from, x + row * x_row, x_row, panels + from * k,
                    y + row * y_row + from, y_row);
    for (; row + 2 <= rows; row += 2)
        for (long from = 0; from < n; from += PANEL)
            tt_tile(2, 1, k, n - from, x + row * x_row, x_row, panels + from * k,
                    y + row * y_row + from, y_row);
    if (row < rows) {
        long from = 0;
        for (; from + 3 * PANEL < n; from += 4 * PANEL)
            tt_tile(1, 4, k, n - from, x + row * x_row, x_row, panels + from * k,
                    y + row * y_row + from, y_row);
        for (; from < n; from += PANEL)
            tt_tile(1, 1, k, n - from, x + row * x_row, x_row, panels + from * k,
                    y + row * y_row + from, y_row);
    }
}
"""

# Their form is that of native/bfloat16.hpp, whose functions multiply.
PRODUCTS_IN_BFLOAT16 = """\
typedef uint32_t pair; /* two numbers that are neighbours along k, the first in the lower half */
#define PAIR_LANES 16
#define PAIR_COLUMNS 64
#define PAIRS_AT_ONCE 8192

typedef void along(const float *from, long stride, long rows, long k, pair *to, long to_stride);
typedef void products(long rows, long n, long pairs, const pair *a, long row, long pair_stride,
                      const pair *panels, float *c, long c_row, const float *added, long added_row);
static along *tt_along;
static products *tt_products;
void tt_use(along *rounds, products *multiplies) { tt_along = rounds; tt_products = multiplies; }

static long tt_lanes(long n) { return (n + PAIR_LANES - 1) / PAIR_LANES * PAIR_LANES; }

/* How many numbers a packed matrix (k, n) takes. */
long tt_packed(long k, long n) { return (k + 1) / 2 * tt_lanes(n); }

/* The nearest in bfloat16, of two as near the even one; what is below normal numbers is 0. */
static inline uint32_t tt_nearest(real x) {
    const uint32_t bits = tt_bits(x);
    if (x != x) return bits >> 16 | 0x40;
    if (!(bits & 0x7f800000)) return (bits & 0x80000000) >> 16;
    return (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}

/* A matrix (k, n), given by its strides, in panels of 64 columns; zeros fill pairs and lanes. */
void tt_pack(long k, long n, const real *m, long row, long column, real *panels) {
    pair *to = (pair *)panels;
    for (long from = 0; from < n; from += PAIR_COLUMNS) {
        const long left = n - from, wide = left < PAIR_COLUMNS ? left : PAIR_COLUMNS;
        const long end = from + tt_lanes(wide);
        for (long i = 0; i < k; i += 2)
            for (long j = from; j < end; j++) {
                const real *at = m + i * row + j * column;
                const uint32_t low = j < n ? tt_nearest(at[0]) : 0;
                *to++ = low | (j < n && i + 1 < k ? tt_nearest(at[row]) : 0) << 16;
            }
    }
}

/* y = x m for `rows` rows: x (rows, k), m packed (k, n), y (rows, n). */
static void tt_multiply(long rows, long k, long n, const real *x, long x_row, const real *panels,
                        real *y, long y_row) {
    pair rounded[PAIRS_AT_ONCE];
    const long pairs = (k + 1) / 2, most = PAIRS_AT_ONCE / pairs;
    for (long row = 0; row < rows; row += most) {
        const long count = rows - row < most ? rows - row : most;
        tt_along(x + row * x_row, x_row, count, k, rounded, pairs);
        tt_products(count, n, pairs, rounded, pairs, 1, (const pair *)panels, y + row * y_row,
                    y_row, NULL, 0);
    }
}
"""
MOST_IN_BFLOAT16 = 2 * 8192  # numbers that a factor may have, so that one row of pairs fits


def preamble(dtype: np.dtype[np.floating], bfloat16: bool = False) -> str:
    """What stands before a cell's own functions; with products in bfloat16 if asked for."""
    single = dtype == np.float32
    libm = "#define LIBM(name) name##f\n" if single else "#define LIBM(name) name\n"
    lowest = f"#define SIGMOID_LOWEST {-104 if single else -746}\n"
    bits, rest = MATHEMATICS.split("\n\n", 1)
    products = PRODUCTS_IN_BFLOAT16 if bfloat16 else PRODUCTS
    return "\n".join([HEAD + CONSTANTS[str(dtype)] + libm + lowest, bits, SIMPLE, rest, products])
