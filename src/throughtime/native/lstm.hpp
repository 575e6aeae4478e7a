// LSTM: one step of one sequence, forward and backward, as in cells/lstm.py.
#pragma once

#include <vector>

#include "cell.hpp"

namespace throughtime {
namespace {

template <class T> struct Lstm {
    static constexpr int GATES = 4, KEPT = 5, DELTAS = 4;  // kept: i f a o tanh_c; deltas: z

    const Call<T> &call;
    const Index n = call.cell.units, outputs = call.cell.outputs;
    Packed<T> U = {}, R = {};
    Scratch<T> m = {}, dm = {};  // m = o ⊙ tanh c, which is h where there is no projection

    void prepare_forward(Arena &arena) {
        U = pack_transposed(arena, call.U, GATES * n, outputs, use_of(call));
        if (!call.R) return;
        R = pack_transposed(arena, call.R, outputs, n, use_of(call));
        m = scratch<T>(arena, call.batch, n);
    }

    void prepare_backward(Arena &arena) {
        U = pack_rows(arena, call.U, GATES * n, outputs, use_of(call));
        if (!call.R) return;
        R = pack_rows(arena, call.R, outputs, n, use_of(call));
        m = scratch<T>(arena, call.batch * chunk_steps(call.batch), n);
        dm = scratch<T>(arena, call.batch, n);
    }

    // kept: in, W x_t + b in its first 4H columns; out, gates and tanh c_t.
    void forward(const Rows<T> &r) {
        add_product(r.first, r.count, r.h_before, outputs, U, r.kept, KEPT * n);
        T *const m_rows = call.R ? m.row(r.first) : r.h;
        for (Index row = 0; row < r.count; ++row)
            forward_row(r.kept + row * KEPT * n, r.c_before + row * n, r.c + row * n,
                        m_rows + row * n);
        if (call.R) product(r.first, r.count, m_rows, n, R, r.h, outputs);
    }

    void forward_row(T *kept, const T *c_before, T *c_after, T *h) const {
        const T *const p = call.p;
        each_lane<T>(n, [&](auto lane) {
            Vector<T> z_i = lane(kept), z_f = lane(kept + n);
            const Vector<T> z_a = lane(kept + 2 * n), c_old = lane(c_before);
            Vector<T> z_o = lane(kept + 3 * n);
            if (p) z_i += lane(p) * c_old, z_f += lane(p + n) * c_old;
            const Vector<T> i = sigmoid<T>(z_i), f = sigmoid<T>(z_f), a = tanh<T>(z_a);
            const Vector<T> c = i * a + f * c_old;
            if (p) z_o += lane(p + 2 * n) * c;
            const Vector<T> o = sigmoid<T>(z_o), tanh_c = tanh<T>(c);
            lane.put(kept, i);
            lane.put(kept + n, f);
            lane.put(kept + 2 * n, a);
            lane.put(kept + 3 * n, o);
            lane.put(kept + 4 * n, tanh_c);
            lane.put(c_after, c);
            lane.put(h, o * tanh_c);
        });
    }

    // dh, dc: in, the gradient by the state after the step; out, by the state before it.
    void backward(const Rows<T> &r) {
        const T *dm_rows = r.dh;
        if (call.R) {
            product(r.first, r.count, r.dh, outputs, R, dm.row(r.first), n);
            dm_rows = dm.row(r.first);
        }
        for (Index row = 0; row < r.count; ++row) {
            const T *const kept = r.kept + row * KEPT * n;
            if (call.R) each_lane<T>(n, [&](auto lane) {
                lane.put(m.row(r.place + row), lane(kept + 3 * n) * lane(kept + 4 * n));
            });
            backward_row(kept, r.c_before + row * n, dm_rows + row * n, r.dc + row * n,
                         r.deltas + row * DELTAS * n, r.delta_c ? r.delta_c + row * n : nullptr);
        }
        product(r.first, r.count, r.deltas, DELTAS * n, U, r.dh, outputs);  // sum over the four gates
    }

    void backward_row(const T *kept, const T *c_before, const T *dm_row, T *dc_row, T *dz,
                      T *dc_whole) const {
        const T *const p = call.p;
        each_lane<T>(n, [&](auto lane) {
            const Vector<T> i = lane(kept), f = lane(kept + n), a = lane(kept + 2 * n);
            const Vector<T> o = lane(kept + 3 * n), tanh_c = lane(kept + 4 * n), dm = lane(dm_row);

            const Vector<T> dz_o = dm * tanh_c * o * (1 - o);           // h = o ⊙ tanh c
            Vector<T> dc = lane(dc_row) + dm * o * (1 - tanh_c * tanh_c);  // from t + 1; through h_t
            if (p) dc += dz_o * lane(p + 2 * n);                        // the output gate sees c_t

            const Vector<T> dz_i = dc * a * i * (1 - i);  // c = i ⊙ a + f ⊙ c_{t−1}
            const Vector<T> dz_f = dc * lane(c_before) * f * (1 - f);
            const Vector<T> dz_a = dc * i * (1 - a * a);

            Vector<T> dc_before = dc * f;  // the error carousel
            if (p) dc_before += dz_i * lane(p) + dz_f * lane(p + n);
            lane.put(dz, dz_i);
            lane.put(dz + n, dz_f);
            lane.put(dz + 2 * n, dz_a);
            lane.put(dz + 3 * n, dz_o);
            lane.put(dc_row, dc_before);
            if (dc_whole) lane.put(dc_whole, dc);
        });
    }

    // δW is the walk's; here is what else is summed over the rows of a chunk.
    template <class Chunk> void sums(const Chunk &k, std::vector<OuterSum<T>> &outer,
                                     std::vector<ProductSum<T>> &products) const {
        const Index d = DELTAS * n;
        outer.push_back({k.deltas, d, d, k.h_before, outputs, outputs, call.dU});
        if (call.R) outer.push_back({k.delta_h, outputs, outputs, m.data, n, n, call.dR});
        if (!call.p) return;
        products.push_back({k.deltas, d, k.c_before, n, n, call.dp});              // i sees c_{t−1}
        products.push_back({k.deltas + n, d, k.c_before, n, n, call.dp + n});      // f sees c_{t−1}
        products.push_back({k.deltas + 3 * n, d, k.c, n, n, call.dp + 2 * n});     // o sees c_t
    }
};

}  // namespace
}  // namespace throughtime
