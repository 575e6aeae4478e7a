// What follows the recurrent layers: the dense layer and the softmax cross-entropy. Gradients are
// summed in the same chunks as the recurrent layers', from the last to the first.
#pragma once

#include <cmath>
#include <limits>

#include "sums.hpp"

namespace throughtime {
namespace {

template <class T> void dense_forward(const DenseCall<T> &call) {
    Arena arena;
    const Index rows = call.steps * call.batch;
    Packed<T> W;
    Scratch<T> columns;
    if (call.x)
        W = pack_transposed(arena, call.W, call.outputs, call.inputs, one_product(rows));
    else
        columns = transposed(arena, call.W, call.outputs, call.inputs);
    const double work = static_cast<double>(rows * call.outputs * (call.x ? call.inputs : 1));
    pool::run(parts(work, W.by_rows() ? rows : 1), [&](int part, int of) {
        const Index from = rows * part / of, to = rows * (part + 1) / of;
        T *const y = call.y + from * call.outputs;
        if (call.x)
            product(to - from, call.x + from * call.inputs, call.inputs, W, y, call.outputs,
                    Added<T>{call.b});
        else
            pick_rows(to - from, columns, call.classes + from, y, call.outputs, call.b);
    });
}

// The chunks' rows, from the last chunk to the first, as the recurrent layers sum them.
template <class F> void each_chunk(Index steps, Index batch, F &&f) {
    const Index chunk = chunk_steps(batch);
    for (Index start = (steps - 1) / chunk * chunk; start >= 0; start -= chunk) {
        ActiveRows rows;
        rows.all = std::min(chunk, steps - start) * batch;
        f(start * batch, rows);
    }
}

template <class T> void dense_backward(const DenseCall<T> &call) {
    Arena arena;
    const Index rows = call.steps * call.batch, M = call.outputs, N = call.inputs;
    Sums<T> sums(arena, std::min(chunk_steps(call.batch) * call.batch, rows));
    if (!call.x) sums.columns(call.dW, N, M);
    each_chunk(call.steps, call.batch, [&](Index row, const ActiveRows &all) {
        const T *const dy = call.dy + row * M;
        std::vector<OuterSum<T>> outer;
        std::vector<ProductSum<T>> products;
        if (call.x)
            outer.push_back({dy, M, M, call.x + row * N, N, N, call.dW});
        else
            sums.add_to_columns(all, dy, M, M, call.classes + row);
        if (call.db) products.push_back({dy, M, nullptr, 0, M, call.db});
        sums.add(all, outer, products);
    });
    if (!call.x) sums.put_columns(call.dW);
    if (!call.dx) return;
    const Packed<T> W = pack_rows(arena, call.W, M, N, one_product(rows));
    const Index most = W.by_rows() ? rows : 1;
    pool::run(parts(static_cast<double>(rows * M * N), most), [&](int part, int of) {
        const Index from = rows * part / of, to = rows * (part + 1) / of;
        product(to - from, call.dy + from * M, M, W, call.dx + from * N, N);
    });
}

template <class T> void embedding_backward(const EmbeddingCall<T> &call) {
    each_chunk(call.steps, call.batch, [&](Index row, const ActiveRows &all) {
        Sums<T>::add_rows(all, call.dy + row * call.features, call.features, call.features,
                          call.classes + row, call.dE);
    });
}

// e^y for y ≤ 0; below the smallest normal number it stays there, next to nothing beside the 1 in a sum.
template <class T> inline Vector<T> exp_of_negative(Vector<T> y) {
    constexpr int LOWEST = sizeof(T) == 4 ? -87 : -708;
    const auto [power, part] = exponential<T, 0>(at_least<T>(LOWEST, y));
    return power + part;
}

// e = log Σ exp(y) − y_class after subtracting the largest y; δy = weight · (softmax(y) − target).
template <class T>
void softmax_row(Index columns, const T *y, Index target, T weight, T *error, T *dy) {
    Vector<T> largest_lanes = spread(-std::numeric_limits<T>::infinity());
    each_lane<T>(columns, [&](auto lane) {
        Vector<T> v = lane(y);
        for (int k = lane.count; k < LANES<T>; ++k) v[k] = y[0];  // beyond the row
        largest_lanes = v > largest_lanes ? v : largest_lanes;
    });
    T largest = y[0], sum = 0;
    for (int k = 0; k < LANES<T>; ++k) largest = std::max(largest, largest_lanes[k]);
    Vector<T> sums = {};
    each_lane<T>(columns, [&](auto lane) {
        Vector<T> e = exp_of_negative<T>(lane(y) - largest);
        for (int k = lane.count; k < LANES<T>; ++k) e[k] = 0;
        lane.put(dy, e);
        sums += e;
    });
    for (int k = 0; k < LANES<T>; ++k) sum += sums[k];
    *error = std::log(sum) - (y[target] - largest);
    const T scale = weight / sum;
    each_lane<T>(columns, [&](auto lane) { lane.put(dy, lane(dy) * scale); });
    dy[target] -= weight;
}

template <class T> void softmax(const SoftmaxCall<T> &call) {
    const double work = 20.0 * static_cast<double>(call.rows * call.columns);
    pool::run(parts(work, call.rows), [&](int part, int of) {
        for (Index row = call.rows * part / of; row < call.rows * (part + 1) / of; ++row)
            softmax_row(call.columns, call.y + row * call.columns, call.classes[row],
                        call.weights[row], call.errors + row, call.dy + row * call.columns);
    });
}

}  // namespace
}  // namespace throughtime
