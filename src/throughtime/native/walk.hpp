// The loop over time, forward and backward: chunks of steps, runs of sequences that have not ended, and the
// division of work among threads. It knows no cell's equations.
//
// Forward, a chunk at a time: W x + b for all its rows, then step after step. Backward, from the last
// chunk to the first: step after step, then what the chunk adds to each parameter's gradient.
// A recurrence needs no barrier between steps, since each thread keeps to its own sequences.
#pragma once

#include "cell.hpp"
#include "sums.hpp"

namespace throughtime {
namespace {

constexpr Index FEWEST_SEQUENCES = 4;   // a thread: fewer rows leave half of a tile's work unshared

template <class T, template <class> class Equations> class Walk {
  public:
    explicit Walk(const Call<T> &call) : call_(call), cell_{call} {}

    bool forward() {
        cell_.prepare_forward(arena_);
        prepare_input_product();
        for (Index start = 0; start < call_.steps; start += chunk()) {
            const Index stop = std::min(call_.steps, start + chunk());
            const ActiveRows active = active_rows(start, stop);
            const double each = static_cast<double>(gate_columns());
            const Index most = W_.by_rows() ? active.size() : 1;
            pool::run(parts(active.size() * each * inputs(), most), [&](int part, int of) {
                input_product(start, active, active.size() * part / of,
                              active.size() * (part + 1) / of);
            });
            pool::run(sequence_parts(stop - start), [&](int part, int of) {
                const auto [from, to] = sequences(part, of);
                for (Index t = start; t < stop; ++t) step_forward(t, from, to);
            });
            if (call_.interrupted()) return false;
        }
        return true;
    }

    bool backward() {
        cell_.prepare_backward(arena_);
        const Index rows = std::min(chunk(), call_.steps) * call_.batch;
        deltas_ = scratch<T>(arena_, rows, Equations<T>::DELTAS * n());
        if (call_.R) delta_h_ = scratch<T>(arena_, rows, P());
        Sums<T> sums(arena_, rows, call_.fresh, use_of(call_).products);
        if (!call_.inputs) sums.columns(call_.dW, call_.cell.inputs, gate_columns());
        if (call_.dinputs) W_ = pack_rows(arena_, call_.W, gate_columns(), inputs(), use_of(call_));
        const Index last = (call_.steps - 1) / chunk() * chunk();
        for (Index start = last; start >= 0; start -= chunk()) {
            const Index stop = std::min(call_.steps, start + chunk());
            pool::run(sequence_parts(stop - start), [&](int part, int of) {
                const auto [from, to] = sequences(part, of);
                for (Index t = stop - 1; t >= start; --t) step_backward(t, start, from, to);
            });
            const ActiveRows active = active_rows(start, stop);
            add_gradients(sums, start, active);
            if (call_.interrupted()) return false;
        }
        if (!call_.inputs) sums.put_columns(call_.dW);
        return true;
    }

  private:
    static constexpr Index KEPT = Equations<T>::KEPT, DELTAS = Equations<T>::DELTAS;

    Index n() const { return call_.cell.units; }
    Index P() const { return call_.cell.outputs; }
    Index chunk() const { return chunk_steps(call_.batch); }
    Index gate_columns() const { return Equations<T>::GATES * n(); }
    Index inputs() const { return call_.inputs ? call_.cell.inputs : 1; }
    T *kept(Index row) const { return call_.kept + row * KEPT * n(); }
    bool runs(Index t, Index b) const { return !call_.lengths || t < call_.lengths[b]; }

    // --- how work is divided ---

    int sequence_parts(Index steps) const {
        if (use_of(call_).once) return 1;  // then products are divided, by columns
        const double work = static_cast<double>(steps * call_.batch * gate_columns() * P());
        return parts(work, std::max<Index>(1, call_.batch / FEWEST_SEQUENCES));
    }

    // The sequences of one thread; each has its share of the steps that all of them run.
    std::pair<Index, Index> sequences(int part, int of) const {
        if (!call_.lengths) return {call_.batch * part / of, call_.batch * (part + 1) / of};
        Index total = 0;
        for (Index b = 0; b < call_.batch; ++b) total += call_.lengths[b];
        const auto border = [&](Index share) {
            Index b = 0;
            for (Index sum = 0; b < call_.batch && sum * of < total * share; ++b)
                sum += call_.lengths[b];
            return b;
        };
        return {border(part), part + 1 == of ? call_.batch : border(part + 1)};
    }

    ActiveRows active_rows(Index start, Index stop) const {
        ActiveRows active;
        active.all = (stop - start) * call_.batch;
        if (!call_.lengths) return active;
        for (Index t = start; t < stop; ++t)
            for (Index b = 0; b < call_.batch; ++b)
                if (runs(t, b)) active.rows.push_back((t - start) * call_.batch + b);
        if (static_cast<Index>(active.rows.size()) == active.all) active.rows.clear();
        else if (active.rows.empty()) active.all = 0;
        return active;
    }

    // Calls `going` for runs of sequences from … to that are going on at step t, `ended` for each other.
    template <class Going, class Ended>
    void each_run(Index t, Index from, Index to, Going &&going, Ended &&ended) const {
        for (Index b = from; b < to;) {
            if (!runs(t, b)) {
                ended(b++);
                continue;
            }
            Index end = call_.lengths ? b + 1 : to;
            while (end < to && runs(t, end)) ++end;
            going(b, end - b);
            b = end;
        }
    }

    Rows<T> rows(Index t, Index start, Index first, Index count) const {
        const Index row = t * call_.batch + first, after = row + call_.batch;
        const Index place = row - start * call_.batch;
        const bool has_c = call_.c;
        return {first,
                count,
                place,
                call_.h + row * P(),
                has_c ? call_.c + row * n() : nullptr,
                call_.h + after * P(),
                has_c ? call_.c + after * n() : nullptr,
                kept(row),
                call_.dh ? call_.dh + first * P() : nullptr,
                call_.dc ? call_.dc + first * n() : nullptr,
                deltas_.data ? deltas_.row(place) : nullptr,
                call_.delta_c ? call_.delta_c + row * n() : nullptr};
    }

    // --- forward ---

    void prepare_input_product() {
        if (call_.inputs)
            W_ = pack_transposed(arena_, call_.W, gate_columns(), inputs(), use_of(call_));
        else
            W_columns_ = transposed(arena_, call_.W, gate_columns(), call_.cell.inputs);
    }

    // W x + b, or for class indices a column of W + b, for the k-th active rows from … to.
    void input_product(Index start, const ActiveRows &active, Index from, Index to) {
        const Index origin = start * call_.batch;
        active.each_stretch(from, to, [&](Index first, Index count, Index) {
            const Index I = call_.cell.inputs, row = origin + first;
            if (call_.inputs)
                product(first, count, call_.inputs + row * I, I, W_, kept(row), KEPT * n(),
                        Added<T>{call_.b});
            else
                pick_rows(count, W_columns_, call_.classes + row, kept(row), KEPT * n(), call_.b);
        });
    }

    void step_forward(Index t, Index from, Index to) {
        each_run(
            t, from, to, [&](Index b, Index count) { cell_.forward(rows(t, t, b, count)); },
            [&](Index b) {
                const Rows<T> r = rows(t, t, b, 1);
                std::copy_n(r.h_before, P(), r.h);
                if (r.c) std::copy_n(r.c_before, n(), r.c);
                std::fill_n(r.kept, KEPT * n(), T{});
            });
    }

    // --- backward ---

    void step_backward(Index t, Index start, Index from, Index to) {
        each_run(
            t, from, to,
            [&](Index b, Index count) {
                const Rows<T> r = rows(t, start, b, count);
                const Index row = t * call_.batch + b;
                if (call_.doutputs) {
                    const T *const arriving = call_.doutputs + row * P();
                    each_lane<T>(count * P(),
                                 [&](auto lane) { lane.put(r.dh, lane(r.dh) + lane(arriving)); });
                }
                if (call_.delta_h) std::copy_n(r.dh, count * P(), call_.delta_h + row * P());
                if (delta_h_.data) std::copy_n(r.dh, count * P(), delta_h_.row(r.place));
                cell_.backward(r);
                if (call_.delta_z)
                    for (Index k = 0; k < count; ++k)
                        std::copy_n(r.deltas + k * DELTAS * n(), gate_columns(),
                                    call_.delta_z + (row + k) * gate_columns());
            },
            [&](Index b) {  // an ended sequence's state stands still: its gradient passes unchanged
                const Index row = t * call_.batch + b;
                if (call_.delta_h) std::fill_n(call_.delta_h + row * P(), P(), T{});
                if (call_.delta_c) std::fill_n(call_.delta_c + row * n(), n(), T{});
                if (call_.delta_z) std::fill_n(call_.delta_z + row * gate_columns(), gate_columns(), T{});
            });
    }

    void add_gradients(Sums<T> &sums, Index start, const ActiveRows &active) {
        const Index row = start * call_.batch, d = DELTAS * n();
        const ChunkRows<T> chunk{deltas_.data,
                                 delta_h_.data,
                                 call_.h + row * P(),
                                 call_.c ? call_.c + row * n() : nullptr,
                                 call_.c ? call_.c + (row + call_.batch) * n() : nullptr,
                                 kept(row)};
        std::vector<OuterSum<T>> outer;
        std::vector<ProductSum<T>> products;
        cell_.sums(chunk, outer, products);
        products.push_back({deltas_.data, d, nullptr, 0, gate_columns(), call_.db});
        if (call_.inputs)
            outer.push_back({deltas_.data, d, gate_columns(),
                             call_.inputs + row * call_.cell.inputs, call_.cell.inputs,
                             call_.cell.inputs, call_.dW});
        else
            sums.add_to_columns(active, deltas_.data, d, gate_columns(), call_.classes + row);
        sums.add(active, outer, products);
        if (call_.dinputs) input_gradient(row, active);
    }

    // δx = Wᵀ δz; 0 beyond a sequence's length.
    void input_gradient(Index origin, const ActiveRows &active) {
        const Index I = call_.cell.inputs, d = DELTAS * n();
        if (!active.rows.empty() || active.all == 0) {
            const Index rows = std::min(chunk() * call_.batch, call_.steps * call_.batch - origin);
            std::fill_n(call_.dinputs + origin * I, rows * I, T{});
        }
        const double work = static_cast<double>(active.size() * I * gate_columns());
        pool::run(parts(work, W_.by_rows() ? active.size() : 1), [&](int part, int of) {
            active.each_stretch(active.size() * part / of, active.size() * (part + 1) / of,
                                [&](Index first, Index count, Index) {
                                    product(first, count, deltas_.row(first), d, W_,
                                            call_.dinputs + (origin + first) * I, I);
                                });
        });
    }

    const Call<T> &call_;
    Arena arena_;
    Equations<T> cell_;
    Packed<T> W_;
    Scratch<T> W_columns_ = {}, deltas_ = {}, delta_h_ = {};
};

}  // namespace
}  // namespace throughtime
