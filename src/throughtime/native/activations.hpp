// The logistic function and the hyperbolic tangent of vectors, from one shared exponential.
//
// y = n·ln 2 + r, with n whole and |r| ≤ ln 2 / 2, splits an exponential into a power of two, which
// is exact, and a small part that a polynomial gives:
//
//     e^y = 2ⁿ + 2ⁿ · expm1(r)
//
// Both functions are quotients of sums to which these two terms are added one after the other, so
// that e^y itself is never rounded. No element takes a branch and none depends on its neighbours.
//
// Largest errors, in units in the last place of the exact value, with fused multiply-adds or
// without: float (every input) 1.8 for sigmoid and 2.0 for tanh; double (24 million inputs) 1.7 and
// 2.1. Subnormal results are as good. NaN gives NaN.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <iterator>

#include "simd.hpp"

namespace throughtime {
namespace {

// e^-40 < 2^-54 no longer changes 1 + e^y, in float or double.
inline constexpr int LOWEST_EXPONENT = -40;

// The constants of one type; those of the exponential are made by tools/fit_activations.py.
template <class T> struct Exponential;

template <> struct Exponential<float> {
    static constexpr int MANTISSA_BITS = 23, BIAS = 127;
    static constexpr std::int32_t SIGN = INT32_MIN;
    static constexpr int HIGHEST_EXPONENT = 104;  // e^-104 < 2^-150, which rounds to 0
    static constexpr float TO_WHOLE = 0x1.8p+23f;  // the unit in its last place is 1
    static constexpr float LOG2_E = 0x1.715476p+0f;
    static constexpr float LN2_HIGH = 0x1.62e4p-1f, LN2_LOW = 0x1.7f7d1cp-20f;
    static constexpr float C[] = {0x1.6bebf2p-10f, 0x1.12278cp-7f, 0x1.555674p-5f, 0x1.5554bp-3f,
                                  0x1.fffffep-2f};
};

template <> struct Exponential<double> {
    static constexpr int MANTISSA_BITS = 52, BIAS = 1023;
    static constexpr std::int64_t SIGN = INT64_MIN;
    static constexpr int HIGHEST_EXPONENT = 746;  // e^-746 < 2^-1075, which rounds to 0
    static constexpr double TO_WHOLE = 0x1.8p+52;
    static constexpr double LOG2_E = 0x1.71547652b82fep+0;
    static constexpr double LN2_HIGH = 0x1.62e42fefa4p-1, LN2_LOW = -0x1.8432a1b0e2634p-43;
    static constexpr double C[] = {0x1.ae6bdf9538bf7p-26, 0x1.28a1ef5070adcp-22,
                                   0x1.71de87f107845p-19, 0x1.a019a7605965cp-16,
                                   0x1.a01a01751938fp-13, 0x1.6c16c17ee0764p-10,
                                   0x1.1111111118fabp-7,  0x1.55555555522a5p-5,
                                   0x1.5555555555539p-3,  0x1.0000000000005p-1};
};

template <class T> inline Integers<T> bits(Vector<T> x) { return std::bit_cast<Integers<T>>(x); }

// The limit stands first in the choice, so that a NaN stays one.
template <class T> inline Vector<T> at_least(int limit, Vector<T> x) {
    const Vector<T> least = spread<T>(static_cast<T>(limit));
    return least > x ? least : x;
}

template <class T> inline Vector<T> at_most(int limit, Vector<T> x) {
    const Vector<T> most = spread<T>(static_cast<T>(limit));
    return most < x ? most : x;
}

// 2^SCALE · e^y = power + part.
template <class T> struct PowerAndPart {
    Vector<T> power;  // 2ⁿ⁺ˢᶜᴬᴸᴱ
    Vector<T> part;   // power · expm1(r); the product is exact
};

// 2^SCALE · e^y; the power of two must be a normal number.
//
// Adding a number whose last place is worth 1 rounds y / ln 2 to n and leaves n + SCALE + BIAS in
// the low bits: shifted into the exponent field, these are 2ⁿ · 2^SCALE. n · LN2_HIGH is exact, for
// LN2_HIGH has few bits. expm1(r) = r + r²·c(r) has, before rounding, a relative error below a
// third of 2^-24 (float) or 2^-53 (double), near 0 too.
template <class T, int SCALE> inline PowerAndPart<T> exponential(Vector<T> y) {
    using E = Exponential<T>;
    constexpr T ROUND = E::TO_WHOLE + E::BIAS + SCALE;
    const Vector<T> rounded = y * E::LOG2_E + ROUND;
    const Vector<T> n = rounded - ROUND;
    const Vector<T> r = (y - n * E::LN2_HIGH) - n * E::LN2_LOW;
    Vector<T> c = spread<T>(E::C[0]);
    for (std::size_t k = 1; k < std::size(E::C); ++k) c = c * r + E::C[k];
    const Vector<T> power = std::bit_cast<Vector<T>>(bits<T>(rounded) << E::MANTISSA_BITS);
    return {power, power * (r + r * r * c)};
}

// 1 / (1 + e^-x), numerator and denominator times UNIT: so small that e^-x cannot overflow before
// the quotient is 0. A subnormal result arises in the division alone and is rounded once.
//
// UNIT + power is exact unless one of them is 2^24 (2^53) times the other. Next to that border what
// the sum lost still counts: it is added to the small part, or the error would reach 2.5 units.
template <class T> inline Vector<T> sigmoid(Vector<T> x) {
    constexpr T UNIT = static_cast<T>(0x1p-60);
    x = at_least<T>(-Exponential<T>::HIGHEST_EXPONENT, at_most<T>(-LOWEST_EXPONENT, x));
    const auto [power, part] = exponential<T, -60>(-x);
    const Vector<T> sum = UNIT + power;
    const Vector<T> lost = UNIT - (sum - power);
    return UNIT / (sum + (part + lost));
}

// (1 - e) / (1 + e) with e = e^-2|x|, then the sign of x. Near 0, where n = 0, the numerator is
// -expm1(-2|x|) alone: nothing cancels, and tanh(x) = x for tiny x, subnormal or a signed 0.
template <class T> inline Vector<T> tanh(Vector<T> x) {
    const Integers<T> sign = bits<T>(x) & Exponential<T>::SIGN;
    const Vector<T> minus_x = std::bit_cast<Vector<T>>(bits<T>(x) | Exponential<T>::SIGN);  // -|x|
    const auto [power, part] = exponential<T, 0>(at_least<T>(LOWEST_EXPONENT, 2 * minus_x));
    const Vector<T> magnitude = ((1 - power) - part) / ((1 + power) + part);
    return std::bit_cast<Vector<T>>(bits<T>(magnitude) | sign);
}

}  // namespace
}  // namespace throughtime
