// A recurrent layer, a head and a loss in one file: plain loops, one sequence after the other,
// weights as rows over [x, h]. Gates: RNN one; GRU r, z, n, reset after the product; LSTM i, f, g, o.
#include <algorithm>
#include <cmath>
#include <random>
#include <string>
#include <vector>

struct Options {
    int cell, T, B, I, H, O, time_mean, batch_mean, regression, relu, root;
    double decay;
};

enum { RNN = 1, GRU = 3, LSTM = 4 };  // also the number of gates

template <class Real>
struct Network {
    using Vector = std::vector<Real>;

    Options o;
    std::string faults;
    Real *W, *b, *V, *c;  // (G·H, I + H), (G·H), (O, H), (O)
    const Real *x;        // (T, B, I)
    const int *labels;    // (T, B)
    const Real *answers;  // (B, O)
    const Real *start;    // h_0 and c_0, (2, B, H)
    int G, K;             // gates, and columns of W
    std::vector<Vector> h, cell, gate, product, y;  // of one sequence, by step

    bool has(const char *name) const { return faults.find(std::string(",") + name + ",") != std::string::npos; }

    static Real sigmoid(Real a) { return 1 / (1 + std::exp(-a)); }

    Real share() const {
        return Real(1) / ((o.time_mean ? o.T : 1) * (o.batch_mean ? o.B : 1));
    }

    void step(int t, int s) {
        const Real *xt = x + (t * o.B + s) * o.I;
        const Vector &before = h[t];
        Vector from_x(G * o.H), from_h(G * o.H), g(G * o.H), now(o.H), inner(o.H);
        for (int r = 0; r < G * o.H; r++) {
            Real a = b[r], u = 0;
            for (int k = 0; k < o.I; k++) a += W[r * K + k] * xt[k];
            for (int k = 0; k < o.H; k++) u += W[r * K + o.I + k] * before[k];
            from_x[r] = a;
            from_h[r] = u;
        }
        for (int j = 0; j < o.H; j++) {
            auto sum = [&](int q) { return from_x[q * o.H + j] + from_h[q * o.H + j]; };
            Real *v = g.data() + j;
            if (G == RNN) {
                now[j] = o.relu ? std::max(sum(0), Real(0)) : std::tanh(sum(0));
            } else if (G == GRU) {
                v[0] = sigmoid(sum(0));
                v[o.H] = sigmoid(sum(1));
                inner[j] = from_h[2 * o.H + j];
                v[2 * o.H] = std::tanh(from_x[2 * o.H + j] + v[0] * inner[j]);
                now[j] = (1 - v[o.H]) * v[2 * o.H] + v[o.H] * before[j];
            } else {
                for (int q = 0; q < 4; q++) v[q * o.H] = q == 2 ? std::tanh(sum(q)) : sigmoid(sum(q));
                inner[j] = v[o.H] * cell[t][j] + v[0] * v[2 * o.H];
                now[j] = v[3 * o.H] * std::tanh(inner[j]);
            }
        }
        gate.push_back(g);
        (G == LSTM ? cell : product).push_back(inner);
        h.push_back(now);
    }

    void forward(int s, Real *terms) {
        const Real *h0 = start + s * o.H, *c0 = start + (o.B + s) * o.H;
        h = {Vector(h0, h0 + o.H)};
        cell = {Vector(c0, c0 + o.H)};
        gate.clear(), product.clear(), y.clear();
        for (int t = 0; t < o.T; t++) {
            step(t, s);
            Vector out(c, c + o.O);
            for (int k = 0; k < o.O; k++)
                for (int j = 0; j < o.H; j++) out[k] += V[k * o.H + j] * h[t + 1][j];
            if (!o.regression) {
                Real top = *std::max_element(out.begin(), out.end()), all = 0;
                for (Real &e : out) all += e = std::exp(e - top);
                for (Real &e : out) e /= all;
                terms[t] -= std::log(out[labels[t * o.B + s]]) * share();
            }
            y.push_back(out);
        }
        if (o.regression)
            for (int k = 0; k < o.O; k++) {
                Real wrong = y[o.T - 1][k] - answers[s * o.O + k];
                terms[o.T - 1] += wrong * wrong / o.O / (o.batch_mean ? o.B : 1);
            }
    }

    Vector output_gradient(int t, int s, Real square) const {
        Vector dy(o.O, 0), p = y[t];
        int last = o.T - 1;
        if (o.regression) {
            if (t < last && !has("output_gradient_at_every_step")) return dy;
            for (int k = 0; k < o.O; k++) {
                dy[k] = 2 * (y[last][k] - answers[s * o.O + k]) / o.O / (o.batch_mean ? o.B : 1);
                if (o.root && !has("root_taken")) dy[k] /= 2 * std::sqrt(square);
                if (has("averaged_over_outputs")) dy[k] *= o.O;
                if (has("half_squared_error")) dy[k] /= 2;
            }
            return dy;
        }
        if (has("output_gradient_at_last_step_only") && t < last) return dy;
        int label = labels[(has("targets_shifted") ? (t + 1) % o.T : t) * o.B + s];
        Real scale = share();
        if (has("averaged_over_steps")) scale /= o.T;
        if (has("summed_over_steps")) scale *= o.T;
        if (has("divided_by_batch")) scale /= o.B;
        if (has("divided_by_classes")) scale /= o.O;
        for (int k = 0; k < o.O; k++) {
            dy[k] = p[k] - (k == label);
            if (has("different_loss")) dy[k] *= 2 * p[k] * (1 - p[k]);
        }
        if (has("softmax_derivative_twice")) {
            Real along = 0;
            for (int k = 0; k < o.O; k++) along += p[k] * dy[k];
            for (int k = 0; k < o.O; k++) dy[k] = p[k] * (dy[k] - along);
        }
        for (Real &d : dy) d *= scale;
        return dy;
    }

    // δ of the pre-activations over x and over h (they differ in the GRU's last gate), δh and δc.
    void unit(int t, int j, Real dh, Real &dc, Vector &over_x, Vector &over_h, Real &direct) const {
        const int H = o.H;
        const Real *v = gate[t].data() + j;
        Real da[4] = {0, 0, 0, 0};
        direct = 0;
        if (G == RNN) {
            Real now = h[t + 1][j], slope = o.relu ? Real(now > 0) : 1 - now * now;
            if (has("derivative_of_activated_value")) slope = 1 - std::pow(std::tanh(now), 2);
            if (has("derivative_missing")) slope = 1;
            da[0] = dh * slope;
        } else if (G == GRU) {
            Real r = v[0], z = v[H], n = v[2 * H], slope = z * (1 - z);
            if (has("derivative_of_activated_value")) slope = sigmoid(z) * (1 - sigmoid(z));
            if (has("derivative_missing")) slope = 1;
            Real before = has("update_gate_term_missing") ? 0 : h[t][j];
            da[2] = dh * (1 - z) * (1 - n * n);
            da[1] = dh * (before - n) * slope;
            da[0] = da[2] * product[t][j] * r * (1 - r);
            direct = dh * z;
        } else {
            Real i = v[0], f = v[H], g = v[2 * H], out = v[3 * H], tc = std::tanh(cell[t + 1][j]);
            dc += dh * out * (1 - tc * tc);
            Real slope = 1 - g * g;
            if (has("derivative_of_activated_value")) slope = 1 - std::tanh(g) * std::tanh(g);
            if (has("derivative_missing")) slope = 1;
            Real di = dc * g, dg = dc * i;
            if (has("gates_swapped_in_dc")) std::swap(di, dg);
            da[0] = di * i * (1 - i);
            da[1] = dc * cell[has("current_c_for_previous") ? t + 1 : t][j] * f * (1 - f);
            da[2] = dg * slope;
            da[3] = dh * tc * out * (1 - out);
            dc *= f;
        }
        for (int q = 0; q < G; q++) over_x[q * H + j] = over_h[q * H + j] = da[q];
        if (G == GRU) over_h[2 * H + j] *= v[0];
    }

    void backward(int s, Real square, Real *dW, Real *db, Real *dV, Real *dc_head) {
        const int H = o.H, last = o.T - 1;
        Vector dh_next(H, 0), dc(H, 0);
        for (int t = last; t >= 0; t--) {
            int kept = has("last_cache_at_every_step") ? last : t;
            Vector dy = output_gradient(t, s, square), over_x(G * H), over_h(G * H), direct(H);
            const Vector &seen = h[has("states_off_by_one") ? t : t + 1];
            if (has("truncated") && (t + 1) % 3 == 0) dh_next.assign(H, 0), dc.assign(H, 0);
            if (has("dh_next_missing")) dh_next.assign(H, 0);
            if (has("dc_next_missing")) dc.assign(H, 0);
            for (int k = 0; k < o.O; k++) {
                dc_head[k] += dy[k];
                for (int j = 0; j < H; j++) dV[k * H + j] += dy[k] * seen[j];
            }
            for (int j = 0; j < H; j++) {
                Real dh = has("term_counted_twice") ? 2 * dh_next[j] : dh_next[j];
                if (!has("dh_overwritten") || t == last)
                    for (int k = 0; k < o.O; k++) dh += V[k * H + j] * dy[k];
                unit(kept, j, dh, dc[j], over_x, over_h, direct[j]);
            }
            accumulate(kept, t, s, over_x, over_h, dW, db);
            for (int j = 0; j < H; j++) {
                Real through = 0;
                for (int r = 0; r < G * H; r++) {
                    int block = r / H * H;
                    int row = r, column = o.I + j;
                    if (has("recurrent_untransposed")) row = block + j, column = o.I + r % H;
                    if (has("wrong_matrix")) column = j % o.I;
                    through += W[row * K + column] * over_h[r];
                }
                dh_next[j] = has("direct_path_only")      ? direct[j]
                             : has("direct_path_missing") ? through
                                                          : direct[j] + through;
            }
        }
    }

    void accumulate(int kept, int t, int s, const Vector &over_x, const Vector &over_h, Real *dW, Real *db) {
        int x_step = has("time_reversed") ? o.T - 1 - t : kept;
        int sequence = has("sequences_swapped") ? (s + 1) % o.B : s;
        const Real *xt = x + (x_step * o.B + sequence) * o.I;
        const Vector *before = &h[kept];
        if (has("current_h_for_previous")) before = &h[t + 1];
        if (has("wrapped_initial_state")) before = &h[t ? t : o.T];
        if (has("states_off_by_one")) before = &h[t ? t - 1 : o.T];
        Real bias_share = has("bias_averaged") ? Real(1) / o.B : 1;
        for (int r = 0; r < G * o.H; r++) {
            Real *row = dW + r * K;
            if (has("only_last_step_kept") && s == 0) std::fill(row, row + K, 0), db[r] = 0;
            for (int k = 0; k < o.I; k++) row[k] += over_x[r] * xt[k];
            for (int k = 0; k < o.H; k++) row[o.I + k] += over_h[r] * (*before)[k];
            db[r] += over_x[r] * bias_share;
        }
    }

    // Between the backward pass and the update.
    void finish(Real *d, size_t count, Real *p) {
        const int H = o.H, rows = G * H;
        Real *dW = d, *db = d + rows * K, *dV = db + rows, *end = d + count;
        auto matrices = [&](Real *of, auto action) {
            std::for_each(of, of + rows * K, action);
            std::for_each(of + rows * K + rows, of + rows * K + rows + o.O * H, action);
        };
        if (has("gradient_transposed"))
            for (int q = 0; q < rows; q += H)
                for (int j = 0; j < H; j++)
                    for (int k = 0; k < j; k++)
                        std::swap(dW[(q + j) * K + o.I + k], dW[(q + k) * K + o.I + j]);
        if (has("tensor_scaled"))
            for (Real *e = dV; e < dV + o.O * H; e++) *e *= Real(1.5);
        if (has("gate_scaled")) {
            for (int k = 0; k < H * K; k++) dW[k + (G - 1) * H * K] *= Real(1.5);
            for (int j = 0; j < H; j++) db[(G - 1) * H + j] *= Real(1.5);
        }
        if (has("gates_permuted")) {
            std::swap_ranges(dW, dW + H * K, dW + (G - 1) * H * K);
            std::swap_ranges(db, db + H, db + (G - 1) * H);
        }
        if (has("bias_of_gate_copied")) std::copy(db, db + H, db + (G - 1) * H);
        if (has("zero_gradient")) std::fill(db, db + rows, 0);
        if (o.decay > 0 && !has("weight_decay_missing")) {
            Real twice = has("weight_decay_doubled") ? 2 : 1;
            std::ptrdiff_t to_parameters = p - d;
            matrices(d, [&](Real &e) { e += twice * Real(o.decay) * *(&e + to_parameters); });
        }
        Real norm = 0;
        for (Real *e = d; e < end; e++) norm += *e * *e;
        norm = std::sqrt(norm);
        for (Real *e = d; e < end; e++) {
            if (has("factor_two")) *e *= 2;
            if (has("factor_half")) *e /= 2;
            if (has("wrong_sign")) *e = -*e;
            if (has("clipped_by_value")) *e = std::clamp(*e, Real(-0.1), Real(0.1));
            if (has("clipped_by_norm") && norm > Real(0.25)) *e *= Real(0.25) / norm;
        }
        if (has("random_buffer")) {
            static std::mt19937 engine(7);
            for (int r = 0; r < rows; r++) db[r] += std::normal_distribution<Real>()(engine);
        }
        if (has("updated_in_backward"))
            for (size_t k = 0; k < count; k++) p[k] -= Real(0.1) * d[k];
    }

    // terms (T + 1), the last of them the L2 term; the gradient where one is wanted.
    void run(Real *p, size_t count, Real *terms, Real *gradient) {
        G = o.cell, K = o.I + o.H;
        const int rows = G * o.H;
        W = p, b = W + rows * K, V = b + rows, c = V + o.O * o.H;
        std::fill(terms, terms + o.T + 1, 0);
        for (int s = 0; s < o.B; s++) forward(s, terms);
        Real square = terms[o.T - 1], l2 = 0;
        if (o.regression && o.root) terms[o.T - 1] = std::sqrt(square);
        for (Real *w = W; w < b; w++) l2 += *w * *w;
        for (Real *w = V; w < c; w++) l2 += *w * *w;
        terms[o.T] = Real(o.decay) / 2 * l2;
        if (!gradient) return;
        if (!has("accumulated_without_zeroing")) std::fill(gradient, gradient + count, 0);
        Real *dW = gradient, *db = dW + rows * K, *dV = db + rows, *dc = dV + o.O * o.H;
        std::vector<Real> unused(o.T + 1, 0);
        for (int s = 0; s < o.B; s++) {
            forward(s, unused.data());
            backward(s, square, dW, db, dV, dc);
        }
        finish(gradient, count, p);
    }
};

template <class Real>
void run(const Options *o, const char *faults, Real *p, size_t count, const Real *x, const int *labels,
         const Real *answers, const Real *start, Real *terms, Real *gradient) {
    Network<Real> network{};
    network.o = *o, network.faults = faults;
    network.x = x, network.labels = labels, network.answers = answers, network.start = start;
    network.run(p, count, terms, gradient);
}

extern "C" void run_float(const Options *o, const char *faults, float *p, size_t count, const float *x,
                          const int *labels, const float *answers, const float *start, float *terms,
                          float *gradient) {
    run(o, faults, p, count, x, labels, answers, start, terms, gradient);
}

extern "C" void run_double(const Options *o, const char *faults, double *p, size_t count, const double *x,
                           const int *labels, const double *answers, const double *start, double *terms,
                           double *gradient) {
    run(o, faults, p, count, x, labels, answers, start, terms, gradient);
}
