// The gradients of all steps' losses by all states before them, of one recurrent layer: norms by lag,
// and sums over the losses. The compiled twin of gradient_flow/batched_vjp.py.
//
// Losses do not know of one another, nor do sequences: a thread takes a sequence through all its steps, so
// that the rows of its losses, (T × width), and one step's matrix stay in the cache.
#pragma once

#include <atomic>
#include <cmath>
#include <thread>
#include <vector>

#include "cell.hpp"

namespace throughtime {
namespace {

constexpr int FAR = 30;      // powers of two beyond which a row is brought back
constexpr Index BLOCK = 48;  // rows of one product, which are finished while the first cache has them

// Σ_g diag(factors_g) U_g, one panel: (units × count) each, packed alike.
template <class T, int GATES>
void fold_panel(const T *factors, Index units, const T *const *U, Index count, T *to) {
    for (Index j = 0; j < units; ++j, to += count)
        for (Index n = 0; n < count; n += LANES<T>) {
            Vector<T> sum = spread(factors[j]) * load(U[0] + j * count + n);
#pragma GCC unroll 3
            for (int g = 1; g < GATES; ++g)
                sum += spread(factors[g * units + j]) * load(U[g] + j * count + n);
            store(to + n, sum);
        }
}

template <class T> double sum_over(Vector<T> v) {
    double sum = 0;
    for (int k = 0; k < LANES<T>; ++k) sum += v[k];
    return sum;
}

template <class T> class LagWalk {
  public:
    explicit LagWalk(const LagsCall<T> &call) : call_(call), caller_(std::this_thread::get_id()) {
        for (Index g = 0; g < gates(); ++g)
            U_.push_back(pack_panels(arena_, call.U + g * H() * H(), H(), 1, H(), H()).data);
        for (Index s = 0; s < call.stretches; ++s) {
            const Index stop = s + 1 < call.stretches ? call.starts[s + 1] : call.lags;
            stretch_of_.resize(std::min(stop, call.lags), s);
        }
    }

    // Whether it came to its end. Sequences are added up in their order, however many run at once.
    bool run() {
        const double pairs = 0.5 * static_cast<double>(call_.steps) * static_cast<double>(call_.lags);
        const double work = pairs * static_cast<double>(call_.batch * width() * H());
        const Index at_once = parts(work, std::min<Index>(call_.batch, pool::threads()));
        double *const lengths = arena_.take<double>(at_once * numbers());
        for (Index first = 0; first < call_.batch; first += at_once) {
            const Index last = std::min(call_.batch, first + at_once);
            pool::run(static_cast<int>(last - first), [&](int part, int of) {
                for (Index b = first + part; b < last; b += of)
                    Sequence(*this, b, lengths + (b - first) * numbers()).run();
            });
            if (stopped_.load()) return false;
            for (Index b = first; b < last; ++b) add(b, lengths + (b - first) * numbers());
        }
        return true;
    }

  private:
    Index H() const { return call_.units; }
    bool lstm() const { return call_.kind == Kind::lstm; }
    Index gates() const { return lstm() ? 4 : call_.kind == Kind::gru ? 3 : 1; }
    Index parts_of_state() const { return lstm() ? 2 : 1; }
    Index width() const { return parts_of_state() * H(); }
    Index numbers() const { return parts_of_state() * call_.steps * call_.lags; }

    // One sequence: rows are δc beside δh (LSTM), or δh, of the losses of all steps that can be reached.
    class Sequence {
      public:
        Sequence(LagWalk &walk, Index b, double *lengths)
            : walk_(walk), call_(walk.call_), b_(b), lengths_(lengths),
              rows_(arena_.take<T>(call_.steps * walk.width())),
              fresh_(arena_.take<T>(BLOCK * walk.H())),
              folded_(arena_.take<T>(packed_size<T>(walk.width(), walk.H()))), exponents_(call_.steps) {}

        void run() {
            std::fill_n(lengths_, walk_.numbers(), 0.0);
            for (Index k = call_.steps - 1; k >= 0; --k) {
                const Index last = std::min(call_.steps, k + call_.lags);
                if (last > k + 1) fold(k + 1);
                finish(k, k, place(call_.arriving, k));
                for (Index t = k + 1; t < last; t += BLOCK) {
                    const Index count = std::min(BLOCK, last - t), wide = walk_.width();
                    multiply<T>(count, walk_.H(), wide, rows_ + t * wide, wide, 1, folded_, fresh_,
                                walk_.H(), Added<T>{});
                    for (Index n = 0; n < count; ++n) finish(t + n, k, fresh_ + n * walk_.H());
                }
                if (std::this_thread::get_id() == walk_.caller_ && call_.interrupted())
                    walk_.stopped_.store(true);
                if (walk_.stopped_.load(std::memory_order_relaxed)) return;
            }
        }

      private:
        const T *place(const T *array, Index step) const {
            return array + (step * call_.batch + b_) * walk_.H();
        }

        // The matrix that takes rows from step k to δh of the step before.
        void fold(Index k) {
            const Index H = walk_.H(), depth = walk_.width();
            const T *const factors = place(call_.factors, k * walk_.gates()) + b_ * (walk_.gates() - 1) * H;
            for (Index n = 0; n < H; n += PANEL<T>) {
                const Index width = std::min<Index>(PANEL<T>, H - n), count = packed_size<T>(1, width);
                T *const to = folded_ + depth * n;
                const T *U[4] = {};
                for (Index g = 0; g < walk_.gates(); ++g) U[g] = walk_.U_[g] + H * n;
                if (call_.kind == Kind::rnn) {
                    fold_panel<T, 1>(factors, H, U, count, to);
                    continue;
                }
                fold_panel<T, 3>(factors, H, U, count, to);
                if (walk_.lstm()) {
                    fold_panel<T, 1>(factors + 3 * H, H, U + 3, count, to + H * count);
                    continue;
                }
                const T *const carry = place(call_.carry, k);  // h itself is carried on
                for (Index j = n; j < n + width; ++j) to[j * count + j - n] += carry[j];
            }
        }

        // The row of loss t at step k, given its δh: what it is, how long, and back into range.
        void finish(Index t, Index k, const T *dh) {
            const Index H = walk_.H(), n = t * call_.lags + t - k;
            T *const row = rows_ + t * walk_.width();
            Vector<T> h_squares = {}, c_squares = {};
            if (walk_.lstm()) {
                const T *const through_h = place(call_.through_h, k);
                const T *const carry = t > k ? place(call_.carry, k + 1) : nullptr;
                each_lane<T>(H, [&](auto lane) {
                    const Vector<T> h = lane(dh);
                    Vector<T> c = h * lane(through_h);
                    if (carry) c += lane(row) * lane(carry);
                    lane.put(row, c);
                    lane.put(row + H, h);
                    h_squares += h * h;
                    c_squares += c * c;
                });
            } else {
                each_lane<T>(H, [&](auto lane) {
                    const Vector<T> h = lane(dh);
                    lane.put(row, h);
                    h_squares += h * h;
                });
            }
            int &exponent = exponents_[t];
            if (t == k) exponent = 0;
            const double h = std::sqrt(sum_over<T>(h_squares)), c = std::sqrt(sum_over<T>(c_squares));
            lengths_[n] = exponent ? std::ldexp(h, exponent) : h;
            if (walk_.lstm()) lengths_[walk_.numbers() / 2 + n] = exponent ? std::ldexp(c, exponent) : c;
            if (call_.sums) add_to_sums(row, t - k, k, exponent);
            bring_back(row, std::max(h, c), exponent);
        }

        void add_to_sums(const T *row, Index lag, Index k, int exponent) {
            const Index wide = walk_.width(), s = walk_.stretch_of_[lag];
            T *const to = call_.sums + ((s * call_.steps + k) * call_.batch + b_) * wide;
            if (!exponent) {
                each_lane<T>(wide, [&](auto lane) { lane.put(to, lane(to) + lane(row)); });
                return;
            }
            // In two halves, each of which the precision can hold.
            constexpr int MOST = sizeof(T) == 4 ? 126 : 1022;
            const int half = std::clamp(exponent / 2, -MOST, MOST);
            const int other = std::clamp(exponent - half, -MOST, MOST);
            const T first = std::ldexp(T{1}, half), second = std::ldexp(T{1}, other);
            each_lane<T>(wide, [&](auto lane) {
                lane.put(to, lane(to) + lane(row) * first * second);
            });
        }

        void bring_back(T *row, double largest, int &exponent) const {
            if (!std::isfinite(largest) || largest == 0) return;
            int power;
            std::frexp(largest, &power);
            if (std::abs(power) <= FAR) return;
            const T scale = std::ldexp(T{1}, -power);
            each_lane<T>(walk_.width(), [&](auto lane) { lane.put(row, lane(row) * scale); });
            exponent += power;
        }

        LagWalk &walk_;
        const LagsCall<T> &call_;
        const Index b_;
        double *const lengths_;  // (parts, T, L)
        Arena arena_;
        T *const rows_, *const fresh_, *const folded_;
        std::vector<int> exponents_;
    };

    void add(Index b, const double *lengths) {
        const Index T_ = call_.steps, L = call_.lags;
        std::vector<double> by_lag(L);
        for (Index part = 0; part < parts_of_state(); ++part) {
            std::fill(by_lag.begin(), by_lag.end(), 0.0);
            for (Index t = 0; t < T_; ++t)
                for (Index l = 0; l < std::min(t + 1, L); ++l) {
                    const Index n = (part * T_ + t) * L + l;
                    const double length = lengths[n];
                    call_.total[n] += length;
                    call_.squares[n] += length * length;
                    by_lag[l] += length;
                }
            for (Index l = 0; l < L; ++l) call_.by_sequence[(part * L + l) * call_.batch + b] += by_lag[l];
        }
    }

    const LagsCall<T> &call_;
    const std::thread::id caller_;
    Arena arena_;
    std::vector<const T *> U_;  // of each gate, packed
    std::vector<Index> stretch_of_;
    std::atomic<bool> stopped_{false};
};

template <class T> bool lags(const LagsCall<T> &call) { return LagWalk<T>(call).run(); }

}  // namespace
}  // namespace throughtime
