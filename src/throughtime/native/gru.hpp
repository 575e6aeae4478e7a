// GRU, both forms: one step of one sequence, forward and backward, as in cells/gru.py.
#pragma once

#include <vector>

#include "cell.hpp"

namespace throughtime {
namespace {

template <class T> struct Gru {
    // kept: r z n, and u_n = U_n h + c (reset after) or r ⊙ h (reset before).
    // deltas: z_r z_z z_n, and u_n (reset after), which is δz_n ⊙ r.
    static constexpr int GATES = 3, KEPT = 4, DELTAS = 4;

    const Call<T> &call;
    const Index n = call.cell.units;
    const bool after = call.cell.reset_after;
    Packed<T> U_rz = {}, U_n = {};
    Scratch<T> u = {};  // (B, H), reset before: δ(r ⊙ h)

    void prepare_forward(Arena &arena) {
        U_rz = pack_transposed(arena, call.U, 2 * n, n, use_of(call));
        U_n = pack_transposed(arena, call.U + 2 * n * n, n, n, use_of(call));
    }

    void prepare_backward(Arena &arena) {
        U_rz = pack_rows(arena, call.U, 2 * n, n, use_of(call));
        U_n = pack_rows(arena, call.U + 2 * n * n, n, n, use_of(call));
        u = scratch<T>(arena, call.batch, n);
    }

    // kept: in, W x_t + b in its first 3H columns.
    void forward(const Rows<T> &r) {
        add_product(r.first, r.count, r.h_before, n, U_rz, r.kept, KEPT * n);
        if (after) {
            product(r.first, r.count, r.h_before, n, U_n, r.kept + 3 * n, KEPT * n);
            for (Index row = 0; row < r.count; ++row)
                forward_after(r.kept + row * KEPT * n, r.h_before + row * n, r.h + row * n);
            return;
        }
        for (Index row = 0; row < r.count; ++row)
            reset(r.kept + row * KEPT * n, r.h_before + row * n);
        add_product(r.first, r.count, r.kept + 3 * n, KEPT * n, U_n, r.kept + 2 * n, KEPT * n);
        for (Index row = 0; row < r.count; ++row)
            blend(r.kept + row * KEPT * n, r.h_before + row * n, r.h + row * n);
    }

    void forward_after(T *kept, const T *h_before, T *h) const {
        each_lane<T>(n, [&](auto lane) {
            const Vector<T> r = sigmoid<T>(lane(kept)), z = sigmoid<T>(lane(kept + n));
            const Vector<T> u_n = lane(kept + 3 * n) + lane(call.c_bias);
            const Vector<T> candidate = tanh<T>(lane(kept + 2 * n) + r * u_n);
            lane.put(kept, r);
            lane.put(kept + n, z);
            lane.put(kept + 2 * n, candidate);
            lane.put(kept + 3 * n, u_n);
            lane.put(h, (1 - z) * candidate + z * lane(h_before));
        });
    }

    void reset(T *kept, const T *h_before) const {
        each_lane<T>(n, [&](auto lane) {
            const Vector<T> r = sigmoid<T>(lane(kept));
            lane.put(kept, r);
            lane.put(kept + 3 * n, r * lane(h_before));
        });
    }

    void blend(T *kept, const T *h_before, T *h) const {
        each_lane<T>(n, [&](auto lane) {
            const Vector<T> z = sigmoid<T>(lane(kept + n)), candidate = tanh<T>(lane(kept + 2 * n));
            lane.put(kept + n, z);
            lane.put(kept + 2 * n, candidate);
            lane.put(h, (1 - z) * candidate + z * lane(h_before));
        });
    }

    // dh: in, the gradient by the state after the step; out, by the state before it.
    void backward(const Rows<T> &r) {
        for (Index row = 0; row < r.count; ++row)
            candidate_row(r.kept + row * KEPT * n, r.h_before + row * n, r.dh + row * n,
                          r.deltas + row * DELTAS * n);
        if (after) {
            add_product(r.first, r.count, r.deltas + 3 * n, DELTAS * n, U_n, r.dh, n);
        } else {
            T *const dreset = u.row(r.first);
            product(r.first, r.count, r.deltas + 2 * n, DELTAS * n, U_n, dreset, n);
            for (Index row = 0; row < r.count; ++row)
                reset_row(r.kept + row * KEPT * n, r.h_before + row * n, dreset + row * n,
                          r.dh + row * n, r.deltas + row * DELTAS * n);
        }
        add_product(r.first, r.count, r.deltas, DELTAS * n, U_rz, r.dh, n);  // through r and z
    }

    void candidate_row(const T *kept, const T *h_before, T *dh_row, T *dz) const {
        each_lane<T>(n, [&](auto lane) {
            const Vector<T> r = lane(kept), z = lane(kept + n), candidate = lane(kept + 2 * n);
            const Vector<T> dh = lane(dh_row);
            const Vector<T> dz_n = dh * (1 - z) * (1 - candidate * candidate);
            lane.put(dz + n, dh * (lane(h_before) - candidate) * z * (1 - z));
            lane.put(dz + 2 * n, dz_n);
            if (after) {
                lane.put(dz, dz_n * lane(kept + 3 * n) * r * (1 - r));
                lane.put(dz + 3 * n, dz_n * r);
            }
            lane.put(dh_row, dh * z);  // the leak
        });
    }

    void reset_row(const T *kept, const T *h_before, const T *dreset, T *dh_row, T *dz) const {
        each_lane<T>(n, [&](auto lane) {
            const Vector<T> r = lane(kept), d = lane(dreset);
            lane.put(dz, d * lane(h_before) * r * (1 - r));
            lane.put(dh_row, lane(dh_row) + d * r);
        });
    }

    template <class Chunk> void sums(const Chunk &k, std::vector<OuterSum<T>> &outer,
                                     std::vector<ProductSum<T>> &products) const {
        const Index d = DELTAS * n;
        outer.push_back({k.deltas, d, 2 * n, k.h_before, n, n, call.dU});
        T *const dU_n = call.dU + 2 * n * n;
        if (after)
            outer.push_back({k.deltas + 3 * n, d, n, k.h_before, n, n, dU_n});
        else
            outer.push_back({k.deltas + 2 * n, d, n, k.kept + 3 * n, KEPT * n, n, dU_n});
        if (after) products.push_back({k.deltas + 3 * n, d, nullptr, 0, n, call.dc_bias});
    }
};

}  // namespace
}  // namespace throughtime
