// What training does to whole vectors: a norm, and an optimiser's step. The loops are plain, and the
// compiler makes vectors of them.
#pragma once

#include <cmath>

#include "pool.hpp"
#include "sums.hpp"

namespace throughtime {
namespace {

// Σ x², in double, in sixteen interleaved sums.
template <class T> double sum_of_squares(const T *x, Index count) {
    constexpr Index SUMS = 16;
    double sums[SUMS] = {};
    Index k = 0;
    for (; k + SUMS <= count; k += SUMS)
        for (Index s = 0; s < SUMS; ++s) {
            const double value = x[k + s];
            sums[s] += value * value;
        }
    for (; k < count; ++k) sums[0] += static_cast<double>(x[k]) * x[k];
    double total = 0;
    for (const double sum : sums) total += sum;
    return total;
}

// Numbers from … to of one step of Adam, as in training/optimisers.py: rate is η / (1 − β₁ᵗ), root is
// √(1 − β₂ᵗ).
template <class T> void adam_stretch(const AdamCall<T> &call, Index from, Index to) {
    const T beta1 = call.beta1, beta2 = call.beta2, rate = call.rate;
    const T root = 1 / call.root, epsilon = call.epsilon;
    T *const __restrict x = call.parameters, *const __restrict m = call.m;
    T *const __restrict v = call.v;
    const T *const __restrict g = call.gradient;
    for (Index k = from; k < to; ++k) {
        m[k] = beta1 * m[k] + (1 - beta1) * g[k];
        v[k] = beta2 * v[k] + (1 - beta2) * g[k] * g[k];
        x[k] -= rate * m[k] / (std::sqrt(v[k]) * root + epsilon);
    }
}

template <class T> void adam(const AdamCall<T> &call) {
    const double work = 8.0 * static_cast<double>(call.count);  // a root and a quotient each
    pool::run(parts(work, call.count), [&](int part, int of) {
        adam_stretch(call, call.count * part / of, call.count * (part + 1) / of);
    });
}

}  // namespace
}  // namespace throughtime
