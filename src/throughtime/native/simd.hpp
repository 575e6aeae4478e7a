// Vectors of the processor's own width, by the compiler's vector extension: arithmetic, comparison
// and ?: work element by element, and a scalar operand is spread over all elements.
#pragma once

#include <cstdint>
#include <cstring>
#include <utility>

#ifndef TT_VECTOR_BYTES
#error "TT_VECTOR_BYTES: the width of a vector register, set by CMakeLists.txt for each ISA"
#endif

namespace throughtime {
namespace {  // every ISA compiles its own copy; nothing of it may be shared at link time

template <class T> struct Simd;

template <> struct Simd<float> {
    typedef float Vector __attribute__((vector_size(TT_VECTOR_BYTES)));
    typedef std::int32_t Integers __attribute__((vector_size(TT_VECTOR_BYTES)));
};

template <> struct Simd<double> {
    typedef double Vector __attribute__((vector_size(TT_VECTOR_BYTES)));
    typedef std::int64_t Integers __attribute__((vector_size(TT_VECTOR_BYTES)));
};

template <class T> using Vector = typename Simd<T>::Vector;
template <class T> using Integers = typename Simd<T>::Integers;

template <class T> inline constexpr int LANES = TT_VECTOR_BYTES / sizeof(T);

template <class T> inline Vector<T> load(const T *from) {
    Vector<T> v;
    std::memcpy(&v, from, sizeof v);
    return v;
}

template <class T> inline void store(T *to, Vector<T> v) { std::memcpy(to, &v, sizeof v); }

// The first n elements, fewer than all; the others are 0. Element by element, and not a call to copy a
// few bytes.
template <class T> inline Vector<T> load_first(const T *from, int n) {
    Vector<T> v = {};
    for (int k = 0; k < LANES<T> - 1; ++k)
        if (k < n) v[k] = from[k];
    return v;
}

template <class T> inline void store_first(T *to, Vector<T> v, int n) {
    for (int k = 0; k < LANES<T> - 1; ++k)
        if (k < n) to[k] = v[k];
}

// Of two rows of a square, exchanges the off-diagonal halves of every block of 2 × H columns.
template <class T, int H, std::size_t... LANE>
inline void exchange(Vector<T> &upper, Vector<T> &lower, std::index_sequence<LANE...>) {
    constexpr int L = LANES<T>;
#ifdef __clang__
    const Vector<T> first = __builtin_shufflevector(upper, lower, (LANE & H ? L + LANE - H : LANE)...);
    lower = __builtin_shufflevector(upper, lower, (LANE & H ? L + LANE : LANE + H)...);
#else
    const Vector<T> first = __builtin_shuffle(upper, lower, Integers<T>{(LANE & H ? L + LANE - H : LANE)...});
    lower = __builtin_shuffle(upper, lower, Integers<T>{(LANE & H ? L + LANE : LANE + H)...});
#endif
    upper = first;
}

// Transposes a square of LANES vectors, halving the blocks that change places.
template <class T, int H = LANES<T> / 2> inline void transpose(Vector<T> *square) {
    if constexpr (H > 0) {
#pragma GCC unroll 16
        for (int row = 0; row < LANES<T>; ++row)
            if (!(row & H))
                exchange<T, H>(square[row], square[row + H], std::make_index_sequence<LANES<T>>());
        transpose<T, H / 2>(square);
    }
}

// x − 0 is x, so that this is a broadcast alone; 0 + x is not, where x is −0.
template <class T> inline Vector<T> spread(T x) { return x - Vector<T>{}; }

}  // namespace
}  // namespace throughtime
