// One ISA's answers. CMakeLists.txt compiles this file once for each, with its own flags and TT_ISA.
#include <chrono>

#include "gru.hpp"
#include "head.hpp"
#include "lags.hpp"
#include "lstm.hpp"
#include "rnn.hpp"
#include "vector.hpp"
#include "walk.hpp"

namespace throughtime {
namespace {

// The cells: adding one is its file and a line here and in the Python face.
template <class T> bool forward(const Call<T> &call) {
    switch (call.cell.kind) {
        case Kind::rnn: return Walk<T, Rnn>(call).forward();
        case Kind::lstm: return Walk<T, Lstm>(call).forward();
        case Kind::gru: return Walk<T, Gru>(call).forward();
    }
    return true;
}

template <class T> bool backward(const Call<T> &call) {
    switch (call.cell.kind) {
        case Kind::rnn: return Walk<T, Rnn>(call).backward();
        case Kind::lstm: return Walk<T, Lstm>(call).backward();
        case Kind::gru: return Walk<T, Gru>(call).backward();
    }
    return true;
}

template <class T> void apply_sigmoid(const T *from, T *to, Index count) {
    each_lane<T>(count, [&](auto lane) { lane.put(to, sigmoid<T>(lane(from))); });
}

template <class T> void apply_tanh(const T *from, T *to, Index count) {
    each_lane<T>(count, [&](auto lane) { lane.put(to, tanh<T>(lane(from))); });
}

// Products of a tile that stays in the first cache, for about so many seconds: what one thread can do.
double peak(double seconds) {
    using Clock = std::chrono::steady_clock;
    constexpr Index DEPTH = 64;
    alignas(64) static thread_local float panel[DEPTH * PANEL<float>], left[DEPTH * TILE_ROWS],
        out[TILE_ROWS * PANEL<float>];
    double best = 0;
    const auto began = Clock::now();
    while (std::chrono::duration<double>(Clock::now() - began).count() < seconds) {
        const auto before = Clock::now();
        for (int k = 0; k < 2000; ++k)
            multiply<float>(TILE_ROWS, PANEL<float>, DEPTH, left, 1, TILE_ROWS, panel, out, PANEL<float>,
                            k & 1 ? Added<float>{out, PANEL<float>} : Added<float>{});
        const double took = std::chrono::duration<double>(Clock::now() - before).count();
        best = std::max(best, 2000 * 2.0 * TILE_ROWS * PANEL<float> * DEPTH / took / 1e9);
    }
    return best;
}

template <class T> constexpr Functions<T> functions() {
    return {forward<T>,
            backward<T>,
            dense_forward<T>,
            dense_backward<T>,
            embedding_backward<T>,
            softmax<T>,
            sum_of_squares<T>,
            adam<T>,
            lags<T>,
            apply_sigmoid<T>,
            apply_tanh<T>};
}

}  // namespace

#define TT_NAME_OF(isa) isa_##isa
#define TT_NAME(isa) TT_NAME_OF(isa)
#define TT_TEXT_OF(isa) #isa
#define TT_TEXT(isa) TT_TEXT_OF(isa)

extern const Isa TT_NAME(TT_ISA);
const Isa TT_NAME(TT_ISA) = {TT_TEXT(TT_ISA), functions<float>(), functions<double>(), peak};

}  // namespace throughtime
