// The arguments of the compiled twins, and the table of functions that each ISA provides. Plain data: this
// header is all that the Python face and the ISAs share.
#pragma once

#include <cstddef>

namespace throughtime {

using Index = std::ptrdiff_t;

// Steps that are computed together: about 256 rows, so that a chunk's products are large and its numbers
// stay in the cache. It depends on B alone, since it determines the order in which gradients are summed.
constexpr Index chunk_steps(Index batch) { return batch < 256 ? 256 / batch : 1; }

enum class Kind { rnn, lstm, gru };

// Number of gates, and of the arrays (B, H) that a step keeps.
struct Sizes {
    Index gates, kept;
};

constexpr Sizes sizes_of(Kind kind) {
    switch (kind) {
        case Kind::rnn: return {1, 1};
        case Kind::lstm: return {4, 5};
        case Kind::gru: return {3, 4};
    }
    return {};
}

// One direction of one recurrent layer, as in cells/*.py.
struct Cell {
    Kind kind;
    Index inputs, units, outputs;  // I, H, and the size of h: H, or P with a projection
    bool relu;                     // RNN: φ
    bool peepholes, projection;    // LSTM
    bool reset_after;              // GRU
    bool bfloat16 = false;         // products, in float32 alone
};

// All arrays are contiguous, time first, gates in the order of the cell's rows. Gradients of parameters are
// added to what is there, unless they are `fresh`. A pointer is null if the array is not wanted or does not exist.
template <class T> struct Call {
    Cell cell;
    Index steps, batch;
    Index rows() const { return steps * batch; }
    const Index *lengths;  // (B), or null: all sequences have T steps

    const T *W, *U, *b, *p, *R, *c_bias;  // (G·H, I), (G·H, P), (G·H), peepholes, (P, H), GRU's c
    const T *inputs;                      // (T, B, I), or null: then
    const Index *classes;                 // (T, B)

    T *h, *c;  // (T + 1, B, P), (T + 1, B, H): entry 0 is the initial state
    T *kept;   // (T, B, kept_size): LSTM i f a o tanh_c; GRU r z n u_n, or r z n r⊙h; RNN nothing

    // backward only
    const T *doutputs;  // (T, B, P) or null
    T *dh, *dc;         // (B, P), (B, H): in for the final state, out for the initial one
    T *dW, *dU, *db, *dp, *dR, *dc_bias;
    bool fresh;                      // what they hold before the call is ignored, and never read
    T *dinputs;                      // (T, B, I)
    T *delta_h, *delta_c, *delta_z;  // (T, B, P), (T, B, H), (T, B, G·H)

    // Polled on the calling thread: true ends the call early.
    bool (*interrupted)();
};

// y = W x + b at every step, and its backward pass; as in network/layers.py.
template <class T> struct DenseCall {
    Index steps, batch, inputs, outputs;
    const T *W, *b;        // (outputs, inputs), (outputs) or null
    const T *x;            // (T, B, inputs), or null: then
    const Index *classes;  // (T, B)
    T *y;                  // (T, B, outputs)

    // backward only; gradients of the parameters are added to what is there
    const T *dy;
    T *dW, *db, *dx;

    bool bfloat16 = false;  // products, in float32 alone
};

// δE of an embedding (network/layers.py), added to what is there.
template <class T> struct EmbeddingCall {
    Index steps, batch, features;
    const Index *classes;  // (T, B)
    const T *dy;           // (T, B, features)
    T *dE;                 // (classes, features)
};

// Softmax cross-entropy of each row against its class, in one pass; as in network/losses.py.
template <class T> struct SoftmaxCall {
    Index rows, columns;
    const T *y;            // (rows, columns)
    const Index *classes;  // (rows)
    const T *weights;      // (rows): what each error counts in the loss
    T *errors, *dy;        // (rows), (rows, columns)
};

// One step of Adam on a whole vector; as in training/optimisers.py.
template <class T> struct AdamCall {
    Index count;
    T *parameters;
    const T *gradient;
    T *m, *v;
    T beta1, beta2, rate, root, epsilon;
};

// All losses of a run, back through one recurrent layer side by side; as in gradient_flow/batched_vjp.py.
template <class T> struct LagsCall {
    Kind kind;  // a GRU's reset gate acts after the product; no projection
    Index steps, batch, units, lags;
    const T *U;          // (G·H, H)
    const T *factors;    // (T, B, G, H): of a gradient before it passes each gate's rows of U
    const T *carry;      // (T, B, H): of c (LSTM), of h (GRU), past all gates; null for an RNN
    const T *through_h;  // (T, B, H): δc for δh within a step, LSTM
    const T *arriving;   // (T, B, H): what the loss of each step gives to δh of that step

    // Results, added to what is there; h before c.
    double *total, *squares;  // (1 or 2, T, lags): Σ over sequences of ‖∂E_t/∂s_{t−l}‖, and of its square
    double *by_sequence;      // (1 or 2, lags, B): Σ over t
    Index stretches;          // of lags, which begin at
    const Index *starts;      // (stretches), ascending from 0
    T *sums;                  // (stretches, T, B, H or 2H): Σ over each of the rows, δc beside δh; or null

    bool (*interrupted)();  // as in Call
};

template <class T> struct Functions {
    bool (*forward)(const Call<T> &);   // false: interrupted
    bool (*backward)(const Call<T> &);
    void (*dense_forward)(const DenseCall<T> &);
    void (*dense_backward)(const DenseCall<T> &);
    void (*embedding_backward)(const EmbeddingCall<T> &);
    void (*softmax)(const SoftmaxCall<T> &);
    double (*sum_of_squares)(const T *, Index count);
    void (*adam)(const AdamCall<T> &);
    bool (*lags)(const LagsCall<T> &);  // false: interrupted
    void (*sigmoid)(const T *from, T *to, Index count);
    void (*tanh)(const T *from, T *to, Index count);
};

struct Isa {
    const char *name;
    Functions<float> single;
    Functions<double> twice;
    double (*peak)(double seconds);  // measured float32 FMA rate of one core, in GF/s
};

}  // namespace throughtime
