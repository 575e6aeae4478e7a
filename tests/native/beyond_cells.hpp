// What stands on the cells, for exercise.cpp: gradients of all lags, and stacks of layers and directions.
#pragma once

#include "stack.hpp"

namespace {

template <class T> Numbers<T> drawn(std::size_t count, double scale, std::mt19937 &random) {
    Numbers<T> made(count);
    for (T &x : made) x = T(scale * std::uniform_real_distribution<double>(-1, 1)(random));
    return made;
}

// --- lags ---

template <class T> Numbers<double> lags_of(Kind kind, const Size &size, Index lags) {
    const auto [steps, B, I, H] = size;
    static_cast<void>(I);
    const Index gates = kind == Kind::lstm ? 4 : kind == Kind::gru ? 3 : 1;
    const Index states = kind == Kind::lstm ? 2 : 1;
    std::mt19937 random(5);
    const Numbers<T> U = drawn<T>(gates * H * H, 1 / std::sqrt(double(H)), random);
    const Numbers<T> factors = drawn<T>(steps * B * gates * H, 1, random);
    const Numbers<T> carry = drawn<T>(kind == Kind::rnn ? 0 : steps * B * H, 1, random);
    const Numbers<T> through = drawn<T>(kind == Kind::lstm ? steps * B * H : 0, 1, random);
    const Numbers<T> arriving = drawn<T>(steps * B * H, 1, random);
    Numbers<double> total(states * steps * lags), squares(total.size()), by_sequence(states * lags * B);
    const std::vector<Index> starts = lags > 1 ? std::vector<Index>{0, 1} : std::vector<Index>{0};
    Numbers<T> sums(starts.size() * steps * B * states * H);
    const LagsCall<T> call{kind, steps, B, H, lags, U.data(), factors.data(),
                           carry.empty() ? nullptr : carry.data(), through.empty() ? nullptr : through.data(),
                           arriving.data(), total.data(), squares.data(), by_sequence.data(),
                           Index(starts.size()), starts.data(), sums.data(), never};
    expect(functions(T{}).lags(call), "lags run to their end");
    Numbers<double> all = total;
    for (const auto *part : {&squares, &by_sequence}) all.insert(all.end(), part->begin(), part->end());
    all.insert(all.end(), sums.begin(), sums.end());
    return all;
}

template <class T> void lags() {
    for (const Kind kind : {Kind::rnn, Kind::lstm, Kind::gru})
        for (const Size &size : {Size{1, 1, 1, 1}, Size{5, 3, 1, 7}, Size{70, 5, 1, 33}})
            for (const Index count : {Index{1}, size.T}) {
                pool::set_threads(1);
                const Numbers<double> alone = lags_of<T>(kind, size, count);
                pool::set_threads(3);
                expect(lags_of<T>(kind, size, count) == alone, "lags: same bits");
                for (double x : alone) expect(std::isfinite(x), "lags: finite");
            }
}

// --- stacks ---

// All results, forward and backward, of a stack on rows of which fewer and fewer run, or all.
template <class T>
Numbers<T> stack_of(const Option &option, Index layers, Index directions, bool biases, bool ragged, bool dropout) {
    const Index steps = 6, B = 9, I = 5, H = 19, P = option.projection ? 4 : H;
    const Stack stack{{option.kind, I, H, P, option.relu, option.peepholes, option.projection, option.reset_after},
                      layers, directions, biases};
    std::vector<Index> running;
    for (Index t = 0; t < steps; ++t) running.push_back(ragged ? B - t : B);
    Index rows = 0;
    for (Index count : running) rows += count;
    const Times times(steps, B, running);
    const Places places(stack, steps, B, times.ragged(), dropout);
    const Index gates = sizes_of(option.kind).gates * H, W = stack.width(), sides = stack.sides();
    std::mt19937 random(11);
    std::vector<Numbers<T>> weights, gradients, masks;
    for (Index side = 0; side < sides; ++side) {
        std::vector<Index> sizes = {gates * stack.cell(side / directions).inputs, gates * P};
        if (biases) sizes.insert(sizes.end(), {gates, gates});
        if (option.projection) sizes.push_back(P * H);
        if (option.peepholes) sizes.push_back(3 * H);
        for (Index size : sizes) {
            weights.push_back(drawn<T>(size, 0.3, random));
            gradients.emplace_back(size);
        }
    }
    for (Index layer = 0; dropout && layer + 1 < layers; ++layer) masks.push_back(drawn<T>(rows * W, 1, random));
    const bool lstm = option.kind == Kind::lstm;
    const Numbers<T> x = drawn<T>(rows * I, 1, random), dy = drawn<T>(rows * W, 1, random);
    const Numbers<T> h0 = drawn<T>(sides * B * P, 1, random), c0 = drawn<T>(lstm ? sides * B * H : 0, 1, random);
    Numbers<T> tape(places.size), y(rows * W), h(h0.size()), c(c0.size()), dx(x.size()), dh(h0.size()), dc(c0.size());
    StackCall<T> call{stack, times, x.data(), h0.data(), lstm ? c0.data() : nullptr, {}, {}, tape.data(), y.data(),
                      h.data(), lstm ? c.data() : nullptr, dy.data(), h0.data(), lstm ? c0.data() : nullptr,
                      dx.data(), dh.data(), lstm ? dc.data() : nullptr, {}, never};
    for (const Numbers<T> &w : weights) call.weights.push_back(w.data());
    for (const Numbers<T> &m : masks) call.masks.push_back(m.data());
    for (Numbers<T> &g : gradients) call.gradients.push_back(g.data());
    StackWalk<T> walk(call, functions(T{}));
    expect(walk.forward() && walk.backward(), "a stack runs to its end");
    Numbers<T> all;
    for (const auto *part : {&y, &h, &c, &dx, &dh, &dc}) all.insert(all.end(), part->begin(), part->end());
    for (const Numbers<T> &g : gradients) all.insert(all.end(), g.begin(), g.end());
    return all;
}

template <class T> void stacks() {
    for (const Option &option : OPTIONS)
        for (int kind = 0; kind < 16; ++kind) {
            const bool ragged = kind & 1, dropout = kind & 2, both = kind & 4, biases = kind & 8;
            pool::set_threads(1);
            const Numbers<T> alone = stack_of<T>(option, 2, 1 + both, biases, ragged, dropout);
            pool::set_threads(3);
            const Numbers<T> ours = stack_of<T>(option, 2, 1 + both, biases, ragged, dropout);
            expect(!std::memcmp(ours.data(), alone.data(), alone.size() * sizeof(T)),
                   std::string(option.name) + ", a stack: same bits");
            const Numbers<double> truth = stack_of<double>(option, 2, 1 + both, biases, ragged, dropout);
            double gap = 0, scale = 0;
            for (std::size_t k = 0; k < truth.size(); ++k) {
                gap += std::pow(double(alone[k]) - truth[k], 2);
                scale += truth[k] * truth[k];
            }
            expect(gap <= 1e-8 * scale, std::string(option.name) + ", a stack: precisions agree");
        }
}

}  // namespace
