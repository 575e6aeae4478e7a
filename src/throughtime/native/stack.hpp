// All layers and directions of a module in one call each way, and the operations between them: biases are added,
// time is reversed, rows of ragged sequences are moved to their places, directions are concatenated, dropout is
// applied. It knows no cell's equations, and not where memory comes from: the caller must validate shapes and
// precisions.
#pragma once

#include <algorithm>
#include <utility>
#include <vector>

#include "arena.hpp"
#include "engine.hpp"

namespace throughtime {

struct Stack {
    Cell first;  // of the first layer; those above differ in their inputs alone
    Index layers, directions;
    bool biases;  // two of a direction, or none

    Index width() const { return directions * first.outputs; }
    Index sides() const { return layers * directions; }
    // Number of tensors of a direction: those of W, U, b_ih, b_hh, R and p that it has.
    Index weights() const { return 2 + 2 * biases + first.projection + first.peepholes; }
    Cell cell(Index layer) const {
        Cell own = first;
        if (layer) own.inputs = width();
        return own;
    }
};

// The places of the given rows, all sequences of a step side by side, among the engine's T·B.
struct Times {
    Index steps, batch;
    std::vector<Index> running = {};  // (T) sequences at each step, never more than before; empty: all B
    std::vector<Index> starts = {}, lengths = {};

    Times(Index T, Index B, std::vector<Index> sizes = {}) : steps(T), batch(B) {
        if (sizes.empty() || sizes.back() == B) return;
        running = std::move(sizes);
        starts.resize(T);
        lengths.resize(B);
        for (Index t = 0, row = 0; t < T; row += running[t++]) {
            starts[t] = row;
            for (Index b = 0; b < running[t]; ++b) lengths[b] = t + 1;
        }
    }

    bool ragged() const { return !running.empty(); }

    // Calls f(row, place, turned, count) for runs of rows: the first one's place, and where it stands in
    // the order of a direction, of which the others follow.
    template <class F> void each(bool reverse, F &&f) const {
        for (Index t = 0; t < steps; ++t) {
            const Index row = ragged() ? starts[t] : t * batch, count = ragged() ? running[t] : batch;
            if (!reverse) f(row, t * batch, t * batch, count);
            else if (!ragged()) f(row, t * batch, (steps - 1 - t) * batch, count);
            else
                for (Index b = 0; b < count; ++b)
                    f(row + b, t * batch + b, (lengths[b] - 1 - t) * batch + b, Index{1});
        }
    }
};

// Where the forward pass keeps what the backward pass reads, as offsets from the beginning of the tape.
struct SidePlaces {
    Index x, h, c, kept;  // inputs in the direction's own order, −1 where they are at hand
};

struct Places {
    std::vector<SidePlaces> sides;
    std::vector<Index> joined;  // a layer's inputs, −1 where those are at hand
    Index size = 0;

    Places(const Stack &stack, Index T, Index B, bool ragged, bool dropout) {
        const Index P = stack.first.outputs, H = stack.first.units;
        const auto [gates, kept] = sizes_of(stack.first.kind);
        for (Index layer = 0; layer < stack.layers; ++layer) {
            const Index I = stack.cell(layer).inputs;
            const bool join = layer && (stack.directions > 1 || dropout);
            joined.push_back(join ? take(T * B * I) : -1);
            for (Index d = 0; d < stack.directions; ++d) {
                const bool laid = d || (!layer && ragged);
                sides.push_back({laid ? take(T * B * I) : -1, take((T + 1) * B * P),
                                 stack.first.kind == Kind::lstm ? take((T + 1) * B * H) : -1,
                                 take(T * B * kept * H)});
            }
        }
    }

  private:
    Index take(Index count) {
        const Index at = size;
        size += (count + 15) / 16 * 16;  // each at the beginning of a cache line
        return at;
    }
};

template <class T> struct StackCall {
    const Stack &stack;
    Times times;
    const T *x, *h0, *c0;               // (N, I); (sides, B, P) and (sides, B, H), or null for zeros
    std::vector<const T *> weights;     // stack.weights() a side
    std::vector<const T *> masks;       // (N, D·P) for each layer but the last, or empty: factors of dropout
    T *tape, *y, *h, *c;                // y (N, D·P), or null where the tape has it; final states

    // backward only
    const T *dy, *dh_final, *dc_final;  // or null
    T *dx, *dh, *dc;                    // by x and the initial states, or null
    std::vector<T *> gradients;         // as `weights`
    bool (*interrupted)();
};

template <class T> class StackWalk {
  public:
    StackWalk(const StackCall<T> &call, const Functions<T> &functions)
        : call_(call), stack_(call.stack), times_(call.times), functions_(functions),
          places_(stack_, times_.steps, times_.batch, times_.ragged(), !call.masks.empty()) {}

    // Both return false if they were interrupted.
    bool forward() {
        for (Index layer = 0; layer < stack_.layers; ++layer) {
            for (Index d = 0; d < D(); ++d) {
                Arena arena;
                Call<T> side = side_of(layer, d, arena);
                lay(layer, d);
                begin(side.h, call_.h0, k(layer, d), P());
                if (side.c) begin(side.c, call_.c0, k(layer, d), H());
                if (!functions_.forward(side)) return false;
                end(side.h, call_.h, k(layer, d), P());
                if (side.c) end(side.c, call_.c, k(layer, d), H());
            }
            if (layer + 1 == stack_.layers) {
                if (call_.y) put_outputs(call_.y, nullptr, layer, true);
            } else if (T *const joined = at(places_.joined[layer + 1]))
                put_outputs(joined, mask(layer), layer, false);
        }
        return true;
    }

    bool backward() {
        Arena arena;
        T *below = nullptr, *spare = nullptr;  // what a layer gives the one below
        for (Index layer = stack_.layers; layer-- > 0;) {
            T *const arriving = below;
            below = layer && spare ? spare : input_gradient(layer, arena);
            spare = arriving;
            for (Index d = 0; d < D(); ++d)
                if (!side_backward(layer, d, arriving, below)) return false;
        }
        if (call_.dx && times_.ragged()) put_rows(below);
        return true;
    }

  private:
    Index D() const { return stack_.directions; }
    Index P() const { return stack_.first.outputs; }
    Index H() const { return stack_.first.units; }
    Index gates() const { return sizes_of(stack_.first.kind).gates * H(); }
    Index padded() const { return times_.steps * times_.batch; }
    Index k(Index layer, Index d) const { return layer * D() + d; }
    Index inputs(Index layer) const { return stack_.cell(layer).inputs; }
    T *at(Index place) const { return place < 0 ? nullptr : call_.tape + place; }
    const T *mask(Index layer) const { return call_.masks.empty() ? nullptr : call_.masks[layer]; }

    bool separate() const { return stack_.first.kind == Kind::gru && stack_.first.reset_after; }

    // --- one direction of one layer, as the call of a cell ---

    Call<T> side_of(Index layer, Index d, Arena &arena) const {
        const SidePlaces &own = places_.sides[k(layer, d)];
        Call<T> side{};
        side.cell = stack_.cell(layer);
        side.steps = times_.steps;
        side.batch = times_.batch;
        side.lengths = times_.ragged() ? times_.lengths.data() : nullptr;
        const T *const *const w = call_.weights.data() + k(layer, d) * stack_.weights();
        side.W = w[0];
        side.U = w[1];
        add_biases(side, w, arena);
        const T *const *rest = w + 2 + 2 * stack_.biases;
        if (side.cell.projection) side.R = *rest++;
        if (side.cell.peepholes) side.p = *rest;
        side.inputs = own.x < 0 ? layer_inputs(layer) : at(own.x);
        side.h = at(own.h);
        side.c = at(own.c);
        side.kept = at(own.kept);
        side.interrupted = call_.interrupted;
        return side;
    }

    // torch has two biases where one would do; the second one of the GRU's candidate is kept apart.
    void add_biases(Call<T> &side, const T *const *w, Arena &arena) const {
        T *const b = arena.take<T>(gates());
        side.b = b;
        if (!stack_.biases) {
            std::fill_n(b, gates(), T{});
            side.c_bias = separate() ? b : nullptr;
            return;
        }
        const Index summed = separate() ? gates() - H() : gates();
        for (Index j = 0; j < summed; ++j) b[j] = w[2][j] + w[3][j];
        std::copy_n(w[2] + summed, gates() - summed, b + summed);
        side.c_bias = separate() ? w[3] + summed : nullptr;
    }

    // The inputs of a layer, in forward time, if they need no memory of their own.
    const T *layer_inputs(Index layer) const {
        if (!layer) return call_.x;
        if (const T *const joined = at(places_.joined[layer])) return joined;
        return at(places_.sides[k(layer - 1, 0)].h) + times_.batch * P();
    }

    // --- forward ---

    void lay(Index layer, Index d) const {
        T *const to = at(places_.sides[k(layer, d)].x);
        if (!to) return;
        const Index I = inputs(layer);
        const T *const from = layer_inputs(layer);
        times_.each(d, [&](Index row, Index place, Index turned, Index count) {
            std::copy_n(from + (layer ? place : row) * I, count * I, to + turned * I);
        });
    }

    void begin(T *states, const T *initial, Index side, Index width) const {
        const Index count = times_.batch * width;
        if (initial) std::copy_n(initial + side * count, count, states);
        else std::fill_n(states, count, T{});
    }

    void end(const T *states, T *final, Index side, Index width) const {
        const Index count = times_.batch * width;
        std::copy_n(states + times_.steps * count, count, final + side * count);
    }

    // A layer's outputs, directions side by side, as rows or each at its place; times a mask's row.
    void put_outputs(T *to, const T *factors, Index layer, bool as_rows) const {
        const Index W = stack_.width();
        for (Index d = 0; d < D(); ++d) {
            const T *const from = at(places_.sides[k(layer, d)].h) + times_.batch * P();
            times_.each(d, [&](Index row, Index place, Index turned, Index count) {
                T *target = to + (as_rows ? row : place) * W + d * P();
                const T *source = from + turned * P();
                const T *factor = factors ? factors + row * W + d * P() : nullptr;
                for (Index j = 0; j < count; ++j, target += W, source += P())
                    put_row(target, source, factor ? factor + j * W : nullptr);
            });
        }
    }

    void put_row(T *to, const T *from, const T *factor) const {
        if (!factor) std::copy_n(from, P(), to);
        else
            for (Index j = 0; j < P(); ++j) to[j] = from[j] * factor[j];
    }

    // --- backward ---

    // Where δx of a layer is written; null if it is not wanted.
    T *input_gradient(Index layer, Arena &arena) const {
        if (!layer && (!call_.dx || !times_.ragged())) return call_.dx;
        return arena.take<T>(padded() * inputs(layer));
    }

    bool side_backward(Index layer, Index d, const T *arriving, T *below) {
        Arena arena;
        Call<T> side = side_of(layer, d, arena);
        const Index number = k(layer, d), I = inputs(layer);
        side.doutputs = arriving_at(layer, d, arriving, arena);
        side.dh = begin_backward(call_.dh, call_.dh_final, number, P(), arena);
        if (side.c) side.dc = begin_backward(call_.dc, call_.dc_final, number, H(), arena);
        T *const *const g = call_.gradients.data() + number * stack_.weights();
        side.dW = g[0];
        side.dU = g[1];
        side.db = stack_.biases ? g[2] : arena.take<T>(gates());
        if (separate()) side.dc_bias = stack_.biases ? g[3] + gates() - H() : arena.take<T>(H());
        T *const *rest = g + 2 + 2 * stack_.biases;
        if (side.R) side.dR = *rest++;
        if (side.p) side.dp = *rest;
        side.fresh = true;
        side.dinputs = !below || !d ? below : arena.take<T>(padded() * I);
        if (!functions_.backward(side)) return false;
        if (stack_.biases) std::copy_n(g[2], separate() ? gates() - H() : gates(), g[3]);
        if (below && d) add_turned(side.dinputs, below, I);
        return true;
    }

    T *begin_backward(T *to, const T *final, Index side, Index width, Arena &arena) const {
        const Index count = times_.batch * width;
        T *const own = to ? to + side * count : arena.take<T>(count);
        begin(own, final, side, width);
        return own;
    }

    // The gradient by one side's outputs, in its order of time: from the rows of dy, or from above.
    const T *arriving_at(Index layer, Index d, const T *above, Arena &arena) const {
        const bool top = layer + 1 == stack_.layers;
        const T *const from = top ? call_.dy : above, *const factors = top ? nullptr : mask(layer);
        if (!from || (D() == 1 && !factors && !(top && times_.ragged()))) return from;
        T *const to = arena.take<T>(padded() * P());
        const Index W = stack_.width();
        times_.each(d, [&](Index row, Index place, Index turned, Index count) {
            const T *source = from + (top ? row : place) * W + d * P();
            const T *factor = factors ? factors + row * W + d * P() : nullptr;
            for (Index j = 0; j < count; ++j)
                put_row(to + (turned + j) * P(), source + j * W, factor ? factor + j * W : nullptr);
        });
        return to;
    }

    void add_turned(const T *from, T *to, Index I) const {
        times_.each(true, [&](Index, Index place, Index turned, Index count) {
            const T *const source = from + turned * I;
            T *const target = to + place * I;
            for (Index j = 0; j < count * I; ++j) target[j] += source[j];
        });
    }

    void put_rows(const T *from) const {
        const Index I = inputs(0);
        times_.each(false, [&](Index row, Index place, Index, Index count) {
            std::copy_n(from + place * I, count * I, call_.dx + row * I);
        });
    }

    const StackCall<T> &call_;
    const Stack &stack_;
    const Times &times_;
    const Functions<T> &functions_;
    const Places places_;
};

}  // namespace throughtime
