// Products in bfloat16, of every kind that this program is built with, beside sums in double of rounded factors.
#include <cmath>
#include <cstdio>
#include <cstring>
#include <random>
#include <vector>

#include "bfloat16.hpp"

using namespace throughtime;

namespace throughtime {
#if defined(__x86_64__)
extern const Bfloat16 avx512_bf16, amx_bf16;
const Bfloat16 *const KINDS[] = {&avx512_bf16, &amx_bf16};
#else
extern const Bfloat16 neon_bf16;
const Bfloat16 *const KINDS[] = {&neon_bf16};
#endif
}  // namespace throughtime

namespace {

int failures = 0;

void expect(bool holds, const char *kind, const char *what, Index rows, Index columns, Index depth) {
    if (holds) return;
    ++failures;
    std::printf("%s: %s of %td rows, %td columns and depth %td\n", kind, what, rows, columns, depth);
}

std::vector<float> drawn(Index count, int seed) {
    std::mt19937 generator(static_cast<unsigned>(seed));
    std::normal_distribution<float> normal;
    std::vector<float> found(static_cast<std::size_t>(count));
    for (float &x : found) x = normal(generator);
    return found;
}

// To the nearest of bfloat16, to even where two are as near.
double rounded(float x) {
    std::uint32_t bits;
    std::memcpy(&bits, &x, sizeof bits);
    bits = (bits + 0x7fff + ((bits >> 16) & 1)) & 0xffff0000u;
    std::memcpy(&x, &bits, sizeof x);
    return x;
}

constexpr float BEYOND = 12345;  // what stands beside the result, and has to stay

// A · B for A (rows × depth) and B (depth × columns), with A by rows or by columns, and something added or not.
void product(const Bfloat16 &kind, Index rows, Index columns, Index depth, bool turned, bool added) {
    const auto A = drawn(rows * depth, 1), B = drawn(depth * columns, 2), beside = drawn(columns, 3);
    const Index pairs = pairs_of(depth), across = whole_lanes(rows);
    std::vector<Pair> a(static_cast<std::size_t>(pairs * (turned ? across : rows)), 0xffffffffu);
    if (turned) kind.across(A.data(), depth, rows, depth, a.data(), across);
    else kind.along(A.data(), depth, rows, depth, a.data(), pairs);
    std::vector<Pair> panels;
    for (Index n = 0; n < columns; n += PAIR_COLUMNS) {
        const Index own = std::min<Index>(PAIR_COLUMNS, columns - n), width = whole_lanes(own);
        std::vector<Pair> panel(static_cast<std::size_t>(pairs * width), 0xffffffffu);
        kind.between(B.data() + n, columns, nullptr, depth, own, panel.data(), width);
        panels.insert(panels.end(), panel.begin(), panel.end());
    }
    const Index stride = columns + 3;
    std::vector<float> c(static_cast<std::size_t>(rows * stride), BEYOND);
    kind.multiply(rows, columns, pairs, a.data(), turned ? 1 : pairs, turned ? across : 1, panels.data(), c.data(),
                  stride, added ? beside.data() : nullptr, 0);
    double worst = 0;
    bool stays = true;
    for (Index m = 0; m < rows; ++m) {
        for (Index n = 0; n < columns; ++n) {
            double sum = added ? beside[static_cast<std::size_t>(n)] : 0.0, size = std::abs(sum);
            for (Index k = 0; k < depth; ++k) {
                const double term = rounded(A[static_cast<std::size_t>(m * depth + k)]) *
                                    rounded(B[static_cast<std::size_t>(k * columns + n)]);
                sum += term;
                size += std::abs(term);
            }
            worst = std::max(worst, std::abs(c[static_cast<std::size_t>(m * stride + n)] - sum) / size);
        }
        for (Index n = columns; n < stride; ++n) stays &= c[static_cast<std::size_t>(m * stride + n)] == BEYOND;
    }
    expect(worst < 1e-6, kind.name, "wrong product", rows, columns, depth);
    expect(stays, kind.name, "something written beside the result", rows, columns, depth);
}

}  // namespace

int main() {
    for (const Bfloat16 *kind : KINDS) {
        const int before = failures;
        for (Index rows : {1, 2, 5, 16, 17, 33, 64})
            for (Index columns : {1, 15, 16, 17, 40, 64, 65, 130})
                for (Index depth : {1, 2, 7, 31, 32, 33, 100})
                    for (bool turned : {false, true})
                        for (bool added : {false, true}) product(*kind, rows, columns, depth, turned, added);
        std::printf("%s: %s\n", kind->name, failures == before ? "as expected" : "FAILED");
    }
    return failures != 0;
}
