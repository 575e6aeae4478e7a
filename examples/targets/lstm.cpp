// An LSTM with 5 inputs, 5 units and 5 softmax outputs over 39 steps, in float.
//
//   c++ -O2 -shared -fPIC -I"$(throughtime check --include)" lstm.cpp -o liblstm.so
//   throughtime check ./liblstm.so
//
// With -DAVERAGE_OVER_STEPS the backward pass divides by T = 39; the loss does not.

#include <cmath>
#include <cstring>
#include <vector>

#include "throughtime.h"

using Vector = std::vector<float>;

const int I = 5, H = 5, O = 5, G = 4 * H;  // gates in the order input, forget, output, candidate
int T = 39;

// The parameters, or their gradient, where they stand in the flat vector.
struct Weights {
    float *W, *U, *b, *V, *d;  // (G, I), (G, H), (G), (O, H), (O)
    explicit Weights(float *flat)
        : W(flat), U(W + G * I), b(U + G * H), V(b + G), d(V + O * H) {}
};

// All that one step of the forward pass computes.
struct Step {
    Vector x, gates, c, tanh_c, h, p;  // p: softmax of the outputs
    int target;
};

float sigmoid(float z) { return 1 / (1 + std::exp(-z)); }

std::vector<Step> forward(const Weights &w) {
    std::vector<Step> steps(T);
    Vector h(H, 0), c(H, 0);
    for (int t = 0; t < T; t++) {
        Step &s = steps[t];
        s.x.resize(I), s.gates.resize(G), s.tanh_c.resize(H), s.p.resize(O);
        for (int k = 0; k < I; k++) s.x[k] = std::sin(0.7f * t + 1.3f * k * k);
        s.target = (3 * t + t / 4) % O;
        for (int j = 0; j < G; j++) {
            float z = w.b[j];
            for (int k = 0; k < I; k++) z += w.W[j * I + k] * s.x[k];
            for (int k = 0; k < H; k++) z += w.U[j * H + k] * h[k];
            s.gates[j] = j < 3 * H ? sigmoid(z) : std::tanh(z);
        }
        for (int k = 0; k < H; k++) {
            float i = s.gates[k], f = s.gates[H + k], o = s.gates[2 * H + k], a = s.gates[3 * H + k];
            c[k] = f * c[k] + i * a;
            s.tanh_c[k] = std::tanh(c[k]);
            h[k] = o * s.tanh_c[k];
        }
        float sum = 0;
        for (int j = 0; j < O; j++) {
            float y = w.d[j];
            for (int k = 0; k < H; k++) y += w.V[j * H + k] * h[k];
            sum += s.p[j] = std::exp(y);
        }
        for (float &p : s.p) p /= sum;
        s.c = c, s.h = h;
    }
    return steps;
}

void backward(const Weights &w, const std::vector<Step> &steps, Weights g) {
    const Vector zero(H, 0);
    Vector dh(H, 0), dc(H, 0), dz(G);
    for (int t = T - 1; t >= 0; t--) {
        const Step &s = steps[t];
        const Vector &h_before = t ? steps[t - 1].h : zero, &c_before = t ? steps[t - 1].c : zero;
        for (int j = 0; j < O; j++) {
            float dy = s.p[j] - (j == s.target);
            g.d[j] += dy;
            for (int k = 0; k < H; k++) g.V[j * H + k] += dy * s.h[k], dh[k] += dy * w.V[j * H + k];
        }
        for (int k = 0; k < H; k++) {
            float i = s.gates[k], f = s.gates[H + k], o = s.gates[2 * H + k], a = s.gates[3 * H + k];
            dc[k] += dh[k] * o * (1 - s.tanh_c[k] * s.tanh_c[k]);
            dz[k] = dc[k] * a * i * (1 - i);
            dz[H + k] = dc[k] * c_before[k] * f * (1 - f);
            dz[2 * H + k] = dh[k] * s.tanh_c[k] * o * (1 - o);
            dz[3 * H + k] = dc[k] * i * (1 - a * a);
            dc[k] *= f;
        }
        dh.assign(H, 0);
        for (int j = 0; j < G; j++) {
            g.b[j] += dz[j];
            for (int k = 0; k < I; k++) g.W[j * I + k] += dz[j] * s.x[k];
            for (int k = 0; k < H; k++) g.U[j * H + k] += dz[j] * h_before[k], dh[k] += dz[j] * w.U[j * H + k];
        }
    }
}

// What throughtime.h asks for. Nothing above knows of it.

const char *tt_describe() {
    return R"({"names": ["W", "U", "b", "V", "d"],
               "shapes": [[20, 5], [20, 5], [20], [5, 5], [5]],
               "dtype": "float32", "steps": 39})";
}

double tt_loss(const void *parameters, size_t) {
    Weights w(static_cast<float *>(const_cast<void *>(parameters)));
    double loss = 0;
    for (const Step &s : forward(w)) loss -= std::log(s.p[s.target]);
    return loss;
}

void tt_gradient(const void *parameters, void *gradient, size_t count) {
    Weights w(static_cast<float *>(const_cast<void *>(parameters)));
    float *g = static_cast<float *>(gradient);
    std::memset(g, 0, count * sizeof(float));
    backward(w, forward(w), Weights(g));
#ifdef AVERAGE_OVER_STEPS
    for (size_t j = 0; j < count; j++) g[j] /= T;
#endif
}

int tt_set_length(size_t steps) {  // inputs and targets are formulas: any length will do
    T = static_cast<int>(steps);
    return 0;
}
