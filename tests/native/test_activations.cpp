// The largest errors of activations.hpp, in units in the last place of the exact value: float over
// all 2^32 bit patterns, double over random points. Exit status 1 if a bound or a special value
// fails. For x86-64-v3 (v2: 16 bytes, v4: 64), some three minutes; with 1000 and 64 after the name,
// a second:
//
//     g++ -std=gnu++20 -O3 -fno-math-errno -fno-trapping-math -march=x86-64-v3 -DTT_VECTOR_BYTES=32
//         -Isrc/throughtime/native tests/native/test_activations.cpp -o build/test_activations
//     build/test_activations [doubles of each of six kinds] [stride through the floats]
#include "activations.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <random>
#include <type_traits>

using namespace throughtime;

namespace {

int failures = 0;

template <class T> Vector<T> call_sigmoid(Vector<T> x) { return sigmoid<T>(x); }
template <class T> Vector<T> call_tanh(Vector<T> x) { return throughtime::tanh<T>(x); }

// The truth, from a wider type; direct series where the library function would be slow.
template <class Wide> Wide true_sigmoid(Wide x) {
    if (x > Wide(1000)) return 1;
    if (x < Wide(-1000)) return 0;
    if (sizeof(Wide) == 8 && std::fabs(x) < Wide(0x1p-14)) return Wide(0.5) + x / 4;
    const Wide e = std::exp(-std::fabs(x));
    return (x < 0 ? e : Wide(1)) / (1 + e);
}

template <class Wide> Wide true_tanh(Wide x) {
    if (std::fabs(x) > Wide(100)) return x < 0 ? -1 : 1;
    if (sizeof(Wide) == 8 && std::fabs(x) < Wide(0x1p-12)) return x - x * x * x / 3;
    const Wide m = std::expm1(-2 * std::fabs(x));
    return std::copysign(-m / (2 + m), x);
}

// |got - exact| in units in the last place of T at exact (subnormals: the smallest one).
template <class T, class Wide> Wide ulps(T got, Wide exact) {
    const Wide error = std::fabs(Wide(got) - exact);
    if (error == 0) return 0;
    const int exponent = exact == 0 ? -99999 : std::ilogb(exact);
    const int last = std::max(exponent, std::numeric_limits<T>::min_exponent - 1) -
                     (std::numeric_limits<T>::digits - 1);
    return std::ldexp(error, -last);
}

template <class T> struct Worst {
    double error = 0;
    T at = 0;
    void see(T x, double e) {
        if (!(e <= error)) error = e, at = x;  // a NaN error counts as the worst
    }
};

template <class T, class Wide, class F, class G>
void check_block(const T *x, F function, G truth, Worst<T> &worst, T lowest) {
    constexpr int L = LANES<T>;
    T y[L];
    store(y, function(load(x)));
    for (int i = 0; i < L; ++i) {
        if (std::isnan(x[i])) {
            if (!std::isnan(y[i])) worst.see(x[i], INFINITY);
            continue;
        }
        if (!(y[i] >= lowest && y[i] <= 1)) worst.see(x[i], INFINITY);
        const Wide exact = truth(Wide(x[i]));
        if (y[i] == T(exact)) {  // correctly rounded: at most half a unit, no need to measure
            worst.see(x[i], std::min(worst.error, 0.5));
            continue;
        }
        worst.see(x[i], double(ulps<T, Wide>(y[i], exact)));
    }
}

template <class T> void report(const char *name, const Worst<T> &worst, double bound) {
    const bool good = worst.error <= bound;
    std::printf("%-8s %-6s max %.3f ulp at %a (%.9g)%s\n", name,
                sizeof(T) == 4 ? "float" : "double", worst.error, double(worst.at),
                double(worst.at), good ? "" : "  FAILED");
    failures += !good;
}

void check_float(std::uint64_t stride) {
    Worst<float> s, t;
    constexpr int L = LANES<float>;
    for (std::uint64_t start = 0; start < (std::uint64_t{1} << 32); start += L * stride) {
        float x[L];
        for (int i = 0; i < L; ++i)
            x[i] = std::bit_cast<float>(std::uint32_t(start + std::uint64_t(i) * stride));
        check_block<float, double>(x, call_sigmoid<float>, true_sigmoid<double>, s, 0.0f);
        check_block<float, double>(x, call_tanh<float>, true_tanh<double>, t, -1.0f);
    }
    report("sigmoid", s, 2);
    report("tanh", t, 2);
}

void check_double(long points) {
    Worst<double> s, t;
    std::mt19937_64 random(1);
    std::uniform_real_distribution<double> unit(0, 1);
    const auto sign = [&] { return random() & 1 ? 1.0 : -1.0; };
    const auto near = [&](double x) {  // up to 2^16 doubles away
        return std::bit_cast<double>(std::bit_cast<std::int64_t>(x) +
                                     (std::int64_t(random() >> 47) - 65536));
    };
    for (int kind = 0; kind < 6; ++kind)
        for (long k = 0; k < points; k += LANES<double>) {
            double x[LANES<double>];
            for (double &v : x) switch (kind) {
                    case 0: v = std::bit_cast<double>(random()); break;
                    case 1: v = sign() * std::exp2(-30 + 40 * unit(random)); break;
                    case 2: v = sign() * 3 * unit(random); break;
                    case 3: v = sign() * 40 * unit(random); break;
                    case 4: v = -700 - 50 * unit(random); break;  // results become subnormal
                    // where n changes: halves of ln 2 (sigmoid), quarters (tanh)
                    default:
                        v = sign() * near((double(random() % 2200) + 0.5) * std::log(2) /
                                          (random() & 1 ? 1 : 2));
                }
            check_block<double, long double>(x, call_sigmoid<double>, true_sigmoid<long double>, s,
                                             0.0);
            check_block<double, long double>(x, call_tanh<double>, true_tanh<long double>, t, -1.0);
        }
    report("sigmoid", s, 4);
    report("tanh", t, 4);
}

template <class T, class F> void expect(const char *name, F function, T x, T expected) {
    constexpr int L = LANES<T>;
    for (int lane = 0; lane < L; ++lane) {
        T in[L], out[L];
        for (T &v : in) v = T(0.5);
        in[lane] = x;
        store(out, function(load(in)));
        const T actual = out[lane], neighbour = out[(lane + 1) % L];
        const bool same = std::isnan(expected) ? std::isnan(actual)
                                               : actual == expected && std::signbit(actual) ==
                                                                           std::signbit(expected);
        const T undisturbed = T(name[0] == 's' ? 0.622459331 : 0.462117157);  // at 0.5
        if (!same || std::fabs(neighbour - undisturbed) > T(1e-6)) {
            std::printf("%s(%a): expected %a, actual %a in lane %d\n", name, double(x),
                        double(expected), double(actual), lane);
            ++failures;
        }
    }
}

template <class T> void check_special() {
    using N = std::numeric_limits<T>;
    const T inf = N::infinity(), tiny = N::denorm_min(), small = N::min(), big = N::max();
    for (T nan : {N::quiet_NaN(), -N::quiet_NaN()}) {
        expect<T>("sigmoid", call_sigmoid<T>, nan, nan);
        expect<T>("tanh", call_tanh<T>, nan, nan);
    }
    using Bits = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>;
    const Bits top = std::bit_cast<Bits>(inf);
    std::mt19937_64 random(2);
    for (int k = 0; k < 1000; ++k) {  // NaNs of any payload, quiet or signalling
        const Bits payload = Bits(random()) | 1;
        const T nan = std::bit_cast<T>(Bits(payload | top));
        expect<T>("sigmoid", call_sigmoid<T>, nan, N::quiet_NaN());
        expect<T>("tanh", call_tanh<T>, nan, N::quiet_NaN());
    }
    for (T x : {inf, big}) {
        expect<T>("sigmoid", call_sigmoid<T>, x, 1);
        expect<T>("sigmoid", call_sigmoid<T>, -x, 0);
        expect<T>("tanh", call_tanh<T>, x, 1);
        expect<T>("tanh", call_tanh<T>, -x, -1);
    }
    for (T x : {T(0), tiny, 3 * tiny, small / 2, small, 5 * small, std::nextafter(small, T(0))})
        for (T signed_x : {x, -x}) {
            expect<T>("tanh", call_tanh<T>, signed_x, signed_x);
            expect<T>("sigmoid", call_sigmoid<T>, signed_x, T(0.5));
        }
    std::printf("special  %-6s checked\n", sizeof(T) == 4 ? "float" : "double");
}

}  // namespace

int main(int count, char **words) {
    const long points = count > 1 ? std::atol(words[1]) : 4'000'000;
    const std::uint64_t stride = count > 2 ? std::strtoull(words[2], nullptr, 10) : 1;
    check_special<float>();
    check_special<double>();
    check_double(points);
    check_float(stride);
    std::printf(failures ? "%d failures\n" : "all within bounds\n", failures);
    return failures != 0;
}
