// What follows the recurrent layers: the dense layer and the softmax cross-entropy. Gradients are
// summed in the same chunks as the recurrent layers', from the last to the first.
#pragma once

#include <cmath>
#include <limits>

#include "sums.hpp"

namespace throughtime {
namespace {

constexpr Index ROWS_IN_BFLOAT16 = 256;  // are rounded at once

// How many of so many threads divide the rows among themselves.
template <class T> int row_parts(const DenseCall<T> &call, Index depth, bool by_rows, int threads) {
    const Index rows = call.steps * call.batch;
    return std::min(parts(static_cast<double>(rows * depth), by_rows ? rows : 1), threads);
}

template <class T> Use use_of(const DenseCall<T> &call, int threads) {
    const Index rows = call.steps * call.batch;
    if (call.bfloat16) return {rows, false, bfloat16(), threads * std::min(rows, ROWS_IN_BFLOAT16)};
    return one_product(rows);
}

// Calls f(first row, count, place) for one thread's share of the rows; in bfloat16, where a row needs a place for
// what it is rounded to, for some of them at a time.
template <class T, class F> void each_share(const DenseCall<T> &call, int part, int of, F &&f) {
    const Index rows = call.steps * call.batch, to = rows * (part + 1) / of;
    const Index most = call.bfloat16 ? std::min(rows, ROWS_IN_BFLOAT16) : rows;
    for (Index from = rows * part / of; from < to; from += most) f(from, std::min(most, to - from), part * most);
}

template <class T> void dense_forward(const DenseCall<T> &call) {
    Arena arena;
    const int threads = pool::threads();  // once: another thread may set it at any time
    Packed<T> W;
    Scratch<T> columns;
    if (call.x)
        W = pack_transposed(arena, call.W, call.outputs, call.inputs, use_of(call, threads));
    else
        columns = transposed(arena, call.W, call.outputs, call.inputs);
    const int most = row_parts(call, call.outputs * (call.x ? call.inputs : 1), W.by_rows(), threads);
    pool::run(most, [&](int part, int of) {
        each_share(call, part, of, [&](Index row, Index count, Index place) {
            T *const y = call.y + row * call.outputs;
            if (call.x)
                product(place, count, call.x + row * call.inputs, call.inputs, W, y, call.outputs,
                        Added<T>{call.b});
            else
                pick_rows(count, columns, call.classes + row, y, call.outputs, call.b);
        });
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
    const Index chunk = std::min(chunk_steps(call.batch) * call.batch, rows);
    Sums<T> sums(arena, chunk, false, call.bfloat16 ? bfloat16() : nullptr);
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
    const int threads = pool::threads();
    const Packed<T> W = pack_rows(arena, call.W, M, N, use_of(call, threads));
    pool::run(row_parts(call, M * N, W.by_rows(), threads), [&](int part, int of) {
        each_share(call, part, of, [&](Index row, Index count, Index place) {
            product(place, count, call.dy + row * M, M, W, call.dx + row * N, N);
        });
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
