// The engine without Python, for the sanitizers: every cell and option, ragged and not, class indices,
// both precisions, 1 to 4 threads, several callers at once, a fork. Every array has exactly its size,
// so that one number too many is seen. Exit status 1 where results differ.
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "arena.hpp"
#include "bfloat16.hpp"
#include "dispatch.hpp"
#include "pool.hpp"

using namespace throughtime;

namespace {

std::atomic<int> failures{0};

void expect(bool holds, const std::string &what) {
    if (holds) return;
    std::printf("FAILED: %s\n", what.c_str());
    ++failures;
}

struct Option {
    const char *name;
    Kind kind;
    bool relu, peepholes, projection, reset_after;
};

constexpr Option OPTIONS[] = {
    {"RNN tanh", Kind::rnn, false, false, false, false},
    {"RNN relu", Kind::rnn, true, false, false, false},
    {"LSTM", Kind::lstm, false, false, false, false},
    {"LSTM peepholes", Kind::lstm, false, true, false, false},
    {"LSTM projection", Kind::lstm, false, false, true, false},
    {"LSTM peepholes projection", Kind::lstm, false, true, true, false},
    {"GRU", Kind::gru, false, false, false, true},
    {"GRU original", Kind::gru, false, false, false, false},
};

struct Size {
    Index T, B, I, H;
};

constexpr Size SMALL[] = {{1, 1, 1, 1}, {3, 2, 5, 7}, {7, 5, 3, 9}, {2, 17, 9, 33}, {260, 1, 2, 5}, {2, 257, 1, 3},
                          {1, 1, 16, 32}, {2, 3, 32, 16}, {1, 4, 64, 128}};
constexpr Size LARGE = {7, 37, 20, 65}, WIDE = {2, 3, 5, 260}, ONCE = {1, 23, 30, 130};

const Functions<float> &functions(float) { return isa().single; }
const Functions<double> &functions(double) { return isa().twice; }
bool never() { return false; }

template <class T> using Numbers = std::vector<T>;

// All arrays of one run, forward and backward.
template <class T> struct Run {
    Call<T> call{};
    Numbers<T> W, U, b, p, R, c_bias, inputs, h, c, kept, doutputs, dh, dc, dW, dU, db, dp, dR, dc_bias,
        dinputs, delta_h, delta_c, delta_z;
    std::vector<Index> lengths, classes;
    std::mt19937 random{7};

    Run(const Option &option, const Size &size, bool ragged, bool indices, bool everything) {
        const auto [steps, B, I, H] = size;
        const Index P = option.projection ? 1 + H / 2 : H;
        const Index gates = option.kind == Kind::lstm ? 4 : option.kind == Kind::gru ? 3 : 1;
        const Index each = option.kind == Kind::lstm ? 5 : option.kind == Kind::gru ? 4 : 1;
        call.cell = {option.kind, I, H, P, option.relu, option.peepholes, option.projection, option.reset_after};
        call.steps = steps;
        call.batch = B;
        call.interrupted = never;
        const double scale = 1 / std::sqrt(double(H));
        call.W = draw(W, gates * H * I, scale);
        call.U = draw(U, gates * H * P, scale);
        call.b = draw(b, gates * H, 0.5);
        call.dW = zeros(dW, W.size());
        call.dU = zeros(dU, U.size());
        call.db = zeros(db, b.size());
        if (option.peepholes) call.p = draw(p, 3 * H, 0.5), call.dp = zeros(dp, p.size());
        if (option.projection) call.R = draw(R, P * H, scale), call.dR = zeros(dR, R.size());
        if (option.kind == Kind::gru && option.reset_after)
            call.c_bias = draw(c_bias, H, 0.5), call.dc_bias = zeros(dc_bias, H);
        if (indices) {
            for (Index k = 0; k < steps * B; ++k) classes.push_back(random() % I);
            call.classes = classes.data();
        } else {
            call.inputs = draw(inputs, steps * B * I, 1);
            if (everything) call.dinputs = zeros(dinputs, inputs.size());
        }
        if (ragged) {
            for (Index k = 0; k < B; ++k) lengths.push_back(k ? random() % (steps + 1) : steps);
            call.lengths = lengths.data();
        }
        call.h = zeros(h, (steps + 1) * B * P);
        call.kept = zeros(kept, steps * B * each * H);
        fill(h, B * P, 1);
        // From the end alone the gradient of a long run vanishes, beyond what float can hold.
        if (everything || steps > 20) call.doutputs = draw(doutputs, steps * B * P, 1);
        call.dh = draw(dh, B * P, 1);
        if (everything) call.delta_h = zeros(delta_h, steps * B * P);
        if (everything) call.delta_z = zeros(delta_z, steps * B * gates * H);
        if (option.kind != Kind::lstm) return;
        call.c = zeros(c, (steps + 1) * B * H);
        fill(c, B * H, 1);
        call.dc = draw(dc, B * H, 1);
        if (everything) call.delta_c = zeros(delta_c, steps * B * H);
    }

    Run &go() {
        expect(functions(T{}).forward(call), "forward runs to its end");
        expect(functions(T{}).backward(call), "backward runs to its end");
        return *this;
    }

    std::vector<const Numbers<T> *> results() const {
        return {&h, &c, &kept, &dh, &dc, &dW, &dU, &db, &dp, &dR, &dc_bias, &dinputs, &delta_h, &delta_c, &delta_z};
    }

    Numbers<T> results_copied() const {
        Numbers<T> all;
        for (const Numbers<T> *part : results()) all.insert(all.end(), part->begin(), part->end());
        return all;
    }

  private:
    void fill(Numbers<T> &to, Index count, double scale) {
        std::uniform_real_distribution<double> draw(-scale, scale);
        for (Index k = 0; k < count; ++k) to[k] = T(float(draw(random)));
    }
    T *zeros(Numbers<T> &to, std::size_t count) {
        to.assign(count, T{});
        to.shrink_to_fit();
        return to.data();
    }
    T *draw(Numbers<T> &to, Index count, double scale) {
        zeros(to, count);
        fill(to, count, scale);
        return to.data();
    }
};

template <class T> bool same_bits(const Run<T> &a, const Run<T> &b) {
    const auto ours = a.results(), others = b.results();
    for (std::size_t k = 0; k < ours.size(); ++k)
        if (ours[k]->size() != others[k]->size() ||
            (!ours[k]->empty() && std::memcmp(ours[k]->data(), others[k]->data(), ours[k]->size() * sizeof(T))))
            return false;
    return true;
}

// The largest norm-wise relative difference of two runs' results.
template <class A, class B> double difference(const Run<A> &a, const Run<B> &b) {
    const auto ours = a.results();
    const auto truth = b.results();
    double worst = 0;
    for (std::size_t k = 0; k < ours.size(); ++k) {
        double gap = 0, scale = 0;
        for (std::size_t n = 0; n < ours[k]->size(); ++n) {
            gap += std::pow(double((*ours[k])[n]) - double((*truth[k])[n]), 2);
            scale += std::pow(double((*truth[k])[n]), 2);
        }
        if (gap) worst = std::max(worst, std::sqrt(gap / scale));
    }
    return worst;
}

// --- one ISA ---

template <class T> void cells(const Size &size) {
    for (const Option &option : OPTIONS)
        for (int kind = 0; kind < 8; ++kind) {
            const bool ragged = kind & 1, indices = kind & 2, everything = kind & 4;
            pool::set_threads(1);
            Run<T> alone(option, size, ragged, indices, everything);
            alone.go();
            for (int threads = 2; threads <= 4; ++threads) {
                if (size.H != LARGE.H && size.H != ONCE.H) break;  // too small to be divided
                pool::set_threads(threads);
                Run<T> ours(option, size, ragged, indices, everything);
                expect(same_bits(ours.go(), alone), std::string(option.name) + ": same bits");
            }
            Run<double> truth(option, size, ragged, indices, everything);
            const double error = difference(alone, truth.go());
            expect(error <= 1e-4, std::string(option.name) + ": precisions agree, " + std::to_string(error));
        }
}

// Products in bfloat16: the same bits on any number of threads, and near to those in float32.
void cells_in_bfloat16(const Size &size) {
    for (const Option &option : OPTIONS)
        for (int kind = 0; kind < 8; ++kind) {
            const bool ragged = kind & 1, indices = kind & 2, everything = kind & 4;
            const auto rounded = [&](int threads) {
                pool::set_threads(threads);
                Run<float> run(option, size, ragged, indices, everything);
                run.call.cell.bfloat16 = true;
                return run.go().results_copied();
            };
            const auto alone = rounded(1);
            if (size.H == LARGE.H || size.H == ONCE.H)
                for (int threads = 2; threads <= 4; ++threads)
                    expect(rounded(threads) == alone, std::string(option.name) + " in bfloat16: same bits");
            Run<float> truth(option, size, ragged, indices, everything);
            const auto exact = truth.go().results_copied();
            double gap = 0, scale = 0;
            for (std::size_t k = 0; k < exact.size(); ++k) {
                gap += std::pow(double(alone[k]) - double(exact[k]), 2);
                scale += std::pow(double(exact[k]), 2);
            }
            const double error = std::sqrt(gap / scale);
            // Where φ has a kink, a sum near it may be rounded to its other side.
            expect(error <= (option.relu ? 0.2 : 0.05), std::string(option.name) + " in bfloat16: error " + std::to_string(error));
            const bool long_enough = size.T * size.B > 1;
            expect(error > 0 || !long_enough, std::string(option.name) + " in bfloat16: is rounded");
        }
}

template <class T>
void head(Index steps, Index batch, Index inputs, Index outputs, bool indices, bool bfloat16 = false) {
    const Index rows = steps * batch;
    std::mt19937 random(3);
    const auto numbers = [&](Index count) {
        Numbers<T> made(count);
        for (T &x : made) x = T(std::uniform_real_distribution<float>(-1, 1)(random));
        return made;
    };
    const Numbers<T> W = numbers(outputs * inputs), b = numbers(outputs), x = numbers(rows * inputs);
    std::vector<Index> classes(rows), targets(rows);
    for (Index &k : classes) k = random() % inputs;
    for (Index &k : targets) k = random() % outputs;
    Numbers<T> first;
    for (int threads = 1; threads <= 4; ++threads) {
        pool::set_threads(threads);
        Numbers<T> y(rows * outputs), dy(rows * outputs), weights(rows, T(1) / T(rows)), errors(rows);
        Numbers<T> dW(W.size()), db(b.size()), dx(indices ? 0 : x.size());
        DenseCall<T> call{steps, batch, inputs, outputs, W.data(), b.data(), indices ? nullptr : x.data(),
                          indices ? classes.data() : nullptr, y.data(), nullptr, nullptr, nullptr, nullptr};
        call.bfloat16 = bfloat16;
        functions(T{}).dense_forward(call);
        functions(T{}).softmax({rows, outputs, y.data(), targets.data(), weights.data(), errors.data(), dy.data()});
        call.dy = dy.data();
        call.dW = dW.data();
        call.db = db.data();
        call.dx = indices ? nullptr : dx.data();
        functions(T{}).dense_backward(call);
        double sum = 0;
        for (T d : db) sum += double(d);
        expect(std::fabs(sum) < 1e-5, "softmax: gradients sum to 0");
        for (T e : errors) expect(std::isfinite(e) && e > 0, "softmax: an error is above 0");
        Numbers<T> all;
        for (const auto *part : {&y, &dy, &errors, &dW, &db, &dx}) all.insert(all.end(), part->begin(), part->end());
        if (threads == 1) first = all;
        expect(!std::memcmp(all.data(), first.data(), all.size() * sizeof(T)), "dense: same bits");
    }
}

template <class T> void activations() {
    for (Index count = 0; count < 40; ++count) {
        Numbers<T> from(count), to(count);
        for (Index k = 0; k < count; ++k) from[k] = k % 7 == 6 ? T(NAN) : T((k - 20) * std::pow(10, k % 5));
        functions(T{}).sigmoid(from.data(), to.data(), count);
        functions(T{}).tanh(from.data(), to.data(), count);
    }
}

// A norm and steps of Adam: with one number, with less than a vector, with enough for several threads.
template <class T> void vectors() {
    for (const Index count : {Index{1}, Index{13}, Index{16}, Index{300001}}) {
        Numbers<T> x(count), g(count), m(count), v(count), first;
        for (Index k = 0; k < count; ++k) g[k] = T(k % 2 ? 3 : -4);
        const double half = double(count / 2) * 25 + double(count % 2) * 16;
        expect(functions(T{}).sum_of_squares(g.data(), count) == half, "sum of squares");
        for (int threads = 1; threads <= 4; ++threads) {
            pool::set_threads(threads);
            for (Numbers<T> *start : {&x, &m, &v}) std::fill(start->begin(), start->end(), T{});
            AdamCall<T> call{count, x.data(), g.data(), m.data(), v.data(), T(0.9), T(0.99), T(0.1), T(0.1), T(1e-8)};
            for (int step = 0; step < 2; ++step) functions(T{}).adam(call);
            expect(x[0] > 0 && (count == 1 || x[1] < 0), "Adam goes against the gradient");
            if (threads == 1) first = x;
            expect(!std::memcmp(x.data(), first.data(), count * sizeof(T)), "Adam: same bits");
        }
    }
}

}  // namespace

#include "beyond_cells.hpp"

namespace {

// --- callers at once, forks, interruptions ---

void at_once() {
    pool::set_threads(3);
    std::vector<std::thread> callers;
    Run<float> truth(OPTIONS[5], LARGE, true, false, true);
    truth.go();
    for (int k = 0; k < 6; ++k)
        callers.emplace_back([&, k] {
            for (int again = 0; again < 3; ++again) {
                Run<float> ours(OPTIONS[5], LARGE, true, false, true);
                expect(same_bits(ours.go(), truth), "several callers: same bits");
                Run<double>(OPTIONS[k], LARGE, false, true, true).go();
                if (k == 0) Arena::release();
                if (k == 1) pool::set_threads(1 + again);
            }
        });
    for (std::thread &caller : callers) caller.join();
}

void in_a_fork() {
    pool::set_threads(3);
    Run<float> truth(OPTIONS[3], LARGE, false, false, true);
    truth.go();
    const pid_t child = fork();
    if (child == 0) {
        alarm(60);
        Run<float> ours(OPTIONS[3], LARGE, false, false, true);
        _exit(same_bits(ours.go(), truth) ? 7 : 1);
    }
    int status = 0;
    waitpid(child, &status, 0);
    expect(WIFEXITED(status) && WEXITSTATUS(status) == 7, "a forked child: same bits");
    Run<float> ours(OPTIONS[3], LARGE, false, false, true);
    expect(same_bits(ours.go(), truth), "after a fork: same bits");
}

void interrupted() {
    static std::atomic<int> asked;
    asked = 0;
    Run<float> run(OPTIONS[2], {2000, 1, 3, 5}, false, false, true);
    run.call.interrupted = [] { return ++asked == 2; };
    expect(!functions(0.0f).forward(run.call) && asked == 2, "forward stops when asked to");
    asked = 0;
    expect(!functions(0.0f).backward(run.call) && asked == 2, "backward stops when asked to");
}

}  // namespace

// --no-fork, then names of instruction sets.
int main(int count, char **words) {
    const bool forks = count < 2 || std::string(words[1]) != "--no-fork";
    for (int k = forks ? 1 : 2; k < count; ++k) {
        try {
            choose_isa(words[k]);
        } catch (const std::exception &error) {
            std::printf("%s: not on this processor\n", words[k]);
            continue;
        }
        for (const Size &size : SMALL) cells<float>(size), cells<double>(size);
        cells<float>(LARGE);
        cells<float>(WIDE);
        cells<float>(ONCE);
        for (bool indices : {false, true}) head<float>(7, 37, 65, 129, indices), head<double>(3, 1, 1, 2, indices);
        if (bfloat16()) {
            for (const Size &size : SMALL) cells_in_bfloat16(size);
            for (const Size &size : {LARGE, WIDE, ONCE}) cells_in_bfloat16(size);
            for (bool indices : {false, true})
                head<float>(7, 37, 65, 129, indices, true), head<float>(3, 300, 5, 2, indices, true);
        }
        activations<float>();
        activations<double>();
        vectors<float>();
        vectors<double>();
        lags<float>();
        lags<double>();
        stacks<float>();
        stacks<double>();
        at_once();
        if (forks) in_a_fork();
        interrupted();
        std::printf("%s: %s\n", words[k], failures ? "FAILED" : "as expected");
    }
    Arena::release();
    return failures != 0;
}
