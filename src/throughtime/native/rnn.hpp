// The vanilla recurrent network: one step of one sequence, as in cells/rnn.py.
#pragma once

#include <vector>

#include "cell.hpp"

namespace throughtime {
namespace {

template <class T> struct Rnn {
    static constexpr int GATES = 1, KEPT = 1, DELTAS = 1;  // kept: s, deltas: z

    const Call<T> &call;
    const Index n = call.cell.units;
    Packed<T> U = {};

    void prepare_forward(Arena &arena) { U = pack_transposed(arena, call.U, n, n, use_of(call)); }
    void prepare_backward(Arena &arena) { U = pack_rows(arena, call.U, n, n, use_of(call)); }

    // kept: in, W x_t + b; out, s_t.
    void forward(const Rows<T> &r) {
        add_product(r.first, r.count, r.h_before, n, U, r.kept, n);
        const bool relu = call.cell.relu;
        each_lane<T>(r.count * n, [&](auto lane) {
            const Vector<T> z = lane(r.kept), s = relu ? (z < 0 ? Vector<T>{} : z) : tanh<T>(z);
            lane.put(r.kept, s);
            lane.put(r.h, s);
        });
    }

    // dh: in, δs_t; out, δs_{t−1} = Uᵀ δz.
    void backward(const Rows<T> &r) {
        const bool relu = call.cell.relu;
        each_lane<T>(r.count * n, [&](auto lane) {
            const Vector<T> s = lane(r.kept), ds = lane(r.dh);
            lane.put(r.deltas, relu ? (s > 0 ? ds : ds * 0) : ds * (1 - s * s));
        });
        product(r.first, r.count, r.deltas, n, U, r.dh, n);
    }

    template <class Chunk> void sums(const Chunk &k, std::vector<OuterSum<T>> &outer,
                                     std::vector<ProductSum<T>> &) const {
        outer.push_back({k.deltas, n, n, k.h_before, n, n, call.dU});
    }
};

}  // namespace
}  // namespace throughtime
