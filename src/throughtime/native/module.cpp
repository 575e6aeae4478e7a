// The Python face: takes arrays, checks their shapes, releases the GIL, and listens for Ctrl-C.
#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "arena.hpp"
#include "arrays.hpp"
#include "bfloat16.hpp"
#include "dispatch.hpp"
#include "interrupt.hpp"
#include "pool.hpp"
#include "stack_module.hpp"

namespace nb = nanobind;

namespace throughtime {
namespace {

using Input = std::optional<Read>;
using Maybe = std::optional<Written>;

std::string words(std::initializer_list<Index> shape) {
    std::string text = "(";
    for (Index n : shape) text += std::to_string(n) + ", ";
    return text + ")";
}

// The data of an array, which must have this shape and type; null for None.
template <class T, class A>
auto numbers(const char *name, const std::optional<A> &array, std::initializer_list<Index> shape) {
    using Pointer = decltype(array->template data<T>());
    if (!array) return Pointer{nullptr};
    bool fits = array->ndim() == shape.size() && array->template holds<T>();
    std::size_t axis = 0;
    for (Index n : shape) fits = fits && array->shape(axis++) == n;
    if (!fits)
        throw nb::value_error((std::string(name) + ": expected shape " + words(shape) +
                               " in the parameters' precision, got another array")
                                  .c_str());
    if (array->size() && !array->in_order())
        throw nb::value_error(
            (std::string(name) + ": expected a contiguous array to write to, got another one").c_str());
    return array->template data<T>();
}

template <class T, class A>
auto needed(const char *name, const std::optional<A> &array, std::initializer_list<Index> shape) {
    if (!array) throw nb::value_error((std::string(name) + ": expected an array, got None").c_str());
    return numbers<T>(name, array, shape);
}

// A loop of a user's cell, which was compiled at run time: `arrays` are what its equations name, in its order.
using Steps = void (*)(long steps, long batch, long first, long last, const unsigned char *active,
                       const void *const *arrays, void *work);
using Sums = void (*)(long count, const void *const *arrays, void *work);

// Where the numbers of arrays are, null for None. Laid, what is not in C order is copied, to be read only.
class Addresses {
  public:
    Addresses(const nb::list &arrays, bool laid) {
        for (nb::handle one : arrays) {
            if (one.is_none()) {
                addresses_.push_back(nullptr);
                continue;
            }
            if (!PyArray_Check(one.ptr())) throw nb::type_error("expected arrays and None");
            auto *array = reinterpret_cast<PyArrayObject *>(one.ptr());
            if (laid && !PyArray_ISCARRAY_RO(array)) {
                nb::object copy =
                    nb::steal(PyArray_FROM_OF(one.ptr(), NPY_ARRAY_CARRAY_RO | NPY_ARRAY_NOTSWAPPED));
                if (!copy.is_valid()) throw nb::python_error();
                array = reinterpret_cast<PyArrayObject *>(copy.ptr());
                copies_.push_back(std::move(copy));
            }
            addresses_.push_back(PyArray_DATA(array));
        }
    }
    const void *const *data() const { return addresses_.data(); }

  private:
    std::vector<const void *> addresses_;
    std::vector<nb::object> copies_;
};

void run_steps(std::uintptr_t function, long steps, long batch, long first, long last, const Maybe &active,
               const nb::list &arrays, const Written &work) {
    const Addresses known(arrays, true);
    const auto *mask = active ? active->data<unsigned char>() : nullptr;
    auto *own = work.data<void>();
    nb::gil_scoped_release free;
    reinterpret_cast<Steps>(function)(steps, batch, first, last, mask, known.data(), own);
}

void run_sums(std::uintptr_t function, long count, const nb::list &arrays, const Written &work) {
    const Addresses known(arrays, false);  // whose rows may be parts of longer ones
    auto *own = work.data<void>();
    nb::gil_scoped_release free;
    reinterpret_cast<Sums>(function)(count, known.data(), own);
}

void in_range(const char *name, const Index *values, Index count, Index low, Index high) {
    for (Index k = 0; values && k < count; ++k)
        if (values[k] < low || values[k] > high)
            throw nb::value_error((std::string(name) + ": expected " + std::to_string(low) + " to " +
                                   std::to_string(high) + ", got " + std::to_string(values[k]))
                                      .c_str());
}

// The arrays of a call. Each stands here once, and becomes a field of `Arrays` and a keyword of the Python face.
#define TT_FORWARD_ARRAYS(each)                                                               \
    each(Input, W) each(Input, U) each(Input, b) each(Input, p) each(Input, R)                \
        each(Input, c_bias) each(Input, inputs) each(Input, classes) each(Input, lengths)     \
            each(Maybe, h) each(Maybe, c) each(Maybe, kept)
#define TT_BACKWARD_ARRAYS(each)                                                              \
    each(Input, doutputs) each(Maybe, dh) each(Maybe, dc) each(Maybe, dW) each(Maybe, dU)     \
        each(Maybe, db) each(Maybe, dp) each(Maybe, dR) each(Maybe, dc_bias)                  \
            each(Maybe, dinputs) each(Maybe, delta_h) each(Maybe, delta_c) each(Maybe, delta_z)

#define TT_FIELD(type, name) type name{};
#define TT_PARAMETER(type, name) , type name
#define TT_KEYWORD(type, name) , nb::arg(#name) = nb::none()
#define TT_FILLED(type, name) .name = std::move(name),

struct Arrays {
    Cell cell;
    TT_FORWARD_ARRAYS(TT_FIELD)
    TT_BACKWARD_ARRAYS(TT_FIELD)
    bool fresh = false;  // whether what the parameters' gradients hold before the call is ignored
};

template <class A> bool is_double(const std::optional<A> &array) {
    return array && array->template holds<double>();
}

// Whether there are such products may change with the instruction set in use.
template <class T> void can_multiply(bool in_bfloat16) {
    if (!in_bfloat16) return;
    if (std::is_same_v<T, double>)
        throw nb::value_error("products: expected float32 arrays for products in bfloat16, got float64");
    if (!bfloat16())
        throw nb::value_error(("products: expected a processor with AVX512_BF16, or AArch64 with BF16, for products in bfloat16, got "
                               "the instruction set " +
                               std::string(isa().name))
                                  .c_str());
}

template <class T> Call<T> call_of(const Arrays &a, bool backward) {
    can_multiply<T>(a.cell.bfloat16);
    if (!a.h || a.h->ndim() != 3 || a.h->shape(0) < 1) throw nb::value_error("h: expected (T + 1, B, P)");
    Call<T> call{};
    const Cell &cell = call.cell = a.cell;
    const Index I = cell.inputs, H = cell.units, P = cell.outputs;
    const auto [gates, kept] = sizes_of(cell.kind);
    const Index steps = call.steps = static_cast<Index>(a.h->shape(0)) - 1;
    const Index B = call.batch = static_cast<Index>(a.h->shape(1));
    call.W = needed<T>("W", a.W, {gates * H, I});
    call.U = needed<T>("U", a.U, {gates * H, P});
    call.b = needed<T>("b", a.b, {gates * H});
    if (cell.peepholes) call.p = needed<T>("p", a.p, {3 * H});
    if (cell.projection) call.R = needed<T>("R", a.R, {P, H});
    if (cell.kind == Kind::gru && cell.reset_after) call.c_bias = needed<T>("c_bias", a.c_bias, {H});
    call.inputs = numbers<T>("inputs", a.inputs, {steps, B, I});
    call.classes = numbers<Index>("inputs", a.classes, {steps, B});
    if (!call.inputs && !call.classes) throw nb::value_error("inputs: expected numbers or class indices");
    in_range("inputs", call.classes, steps * B, 0, I - 1);
    call.lengths = numbers<Index>("lengths", a.lengths, {B});
    in_range("lengths", call.lengths, B, 0, steps);
    call.h = needed<T>("h", a.h, {steps + 1, B, P});
    if (cell.kind == Kind::lstm) call.c = needed<T>("c", a.c, {steps + 1, B, H});
    call.kept = needed<T>("kept", a.kept, {steps, B, kept * H});
    call.interrupted = interrupted;
    if (!backward) return call;
    call.doutputs = numbers<T>("doutputs", a.doutputs, {steps, B, P});
    call.dh = needed<T>("dstate h", a.dh, {B, P});
    if (cell.kind == Kind::lstm) call.dc = needed<T>("dstate c", a.dc, {B, H});
    call.dW = needed<T>("dW", a.dW, {gates * H, I});
    call.dU = needed<T>("dU", a.dU, {gates * H, P});
    call.db = needed<T>("db", a.db, {gates * H});
    if (call.p) call.dp = needed<T>("dp", a.dp, {3 * H});
    if (call.R) call.dR = needed<T>("dR", a.dR, {P, H});
    if (call.c_bias) call.dc_bias = needed<T>("dc_bias", a.dc_bias, {H});
    call.fresh = a.fresh;
    if (call.inputs) call.dinputs = numbers<T>("dinputs", a.dinputs, {steps, B, I});
    call.delta_h = numbers<T>("delta h", a.delta_h, {steps, B, P});
    if (call.c) call.delta_c = numbers<T>("delta c", a.delta_c, {steps, B, H});
    call.delta_z = numbers<T>("delta z", a.delta_z, {steps, B, gates * H});
    return call;
}

template <class T> void run(const Arrays &arrays, bool backward, const Functions<T> &functions) {
    const Call<T> call = call_of<T>(arrays, backward);
    if (!call.steps || !call.batch) return;
    begin_looking();
    bool completed;
    {
        nb::gil_scoped_release free;
        completed = backward ? functions.backward(call) : functions.forward(call);
    }
    if (!completed) throw nb::python_error();
}

void run_any(const Arrays &arrays, bool backward) {
    if (is_double(arrays.W))
        run<double>(arrays, backward, isa().twice);
    else
        run<float>(arrays, backward, isa().single);
}

Cell cell_of(int kind, Index inputs, Index units, Index outputs, bool relu, bool peepholes,
             bool projection, bool reset_after, bool bfloat16) {
    if (kind < 0 || kind > 2 || inputs < 1 || units < 1 || outputs < 1 ||
        (!projection && outputs != units))
        throw nb::value_error("cell: expected a known kind and sizes of at least 1");
    return {static_cast<Kind>(kind), inputs, units, outputs, relu, peepholes, projection, reset_after, bfloat16};
}

template <class T> const Functions<T> &functions();
template <> const Functions<float> &functions<float>() { return isa().single; }
template <> const Functions<double> &functions<double>() { return isa().twice; }

template <class T>
DenseCall<T> dense_call(Index steps, Index batch, const Input &W, const Input &x,
                        const Input &classes, bool in_bfloat16) {
    can_multiply<T>(in_bfloat16);
    if (!W || W->ndim() != 2) throw nb::value_error("W: expected (outputs, inputs)");
    DenseCall<T> call{};
    call.steps = steps;
    call.batch = batch;
    call.bfloat16 = in_bfloat16;
    const Index M = call.outputs = static_cast<Index>(W->shape(0));
    const Index N = call.inputs = static_cast<Index>(W->shape(1));
    call.W = needed<T>("W", W, {M, N});
    call.x = numbers<T>("inputs", x, {steps, batch, N});
    call.classes = numbers<Index>("inputs", classes, {steps, batch});
    if (!call.x && !call.classes) throw nb::value_error("inputs: expected numbers or class indices");
    in_range("inputs", call.classes, steps * batch, 0, N - 1);
    return call;
}

template <class T>
void dense_forward(Index steps, Index batch, const Input &W, const Input &b, const Input &x,
                   const Input &classes, const Maybe &y, bool in_bfloat16) {
    DenseCall<T> call = dense_call<T>(steps, batch, W, x, classes, in_bfloat16);
    call.b = numbers<T>("b", b, {call.outputs});
    call.y = needed<T>("outputs", y, {steps, batch, call.outputs});
    if (!steps || !batch) return;
    nb::gil_scoped_release free;
    functions<T>().dense_forward(call);
}

template <class T>
void dense_backward(Index steps, Index batch, const Input &W, const Input &x, const Input &classes,
                    const Input &dy, const Maybe &dW, const Maybe &db, const Maybe &dx, bool in_bfloat16) {
    DenseCall<T> call = dense_call<T>(steps, batch, W, x, classes, in_bfloat16);
    call.dy = needed<T>("doutputs", dy, {steps, batch, call.outputs});
    call.dW = needed<T>("dW", dW, {call.outputs, call.inputs});
    call.db = numbers<T>("db", db, {call.outputs});
    call.dx = numbers<T>("dinputs", dx, {steps, batch, call.inputs});
    if (!steps || !batch) return;
    nb::gil_scoped_release free;
    functions<T>().dense_backward(call);
}

template <class T>
void embedding_backward(const Input &classes, const Input &dy, const Maybe &dE) {
    if (!dy || dy->ndim() != 3) throw nb::value_error("doutputs: expected (T, B, features)");
    if (!dE || dE->ndim() != 2) throw nb::value_error("dE: expected (classes, features)");
    EmbeddingCall<T> call{};
    call.steps = static_cast<Index>(dy->shape(0));
    call.batch = static_cast<Index>(dy->shape(1));
    call.features = static_cast<Index>(dy->shape(2));
    const Index count = static_cast<Index>(dE->shape(0));
    call.classes = needed<Index>("inputs", classes, {call.steps, call.batch});
    in_range("inputs", call.classes, call.steps * call.batch, 0, count - 1);
    call.dy = needed<T>("doutputs", dy, {call.steps, call.batch, call.features});
    call.dE = needed<T>("dE", dE, {count, call.features});
    if (!call.steps || !call.batch) return;
    nb::gil_scoped_release free;
    functions<T>().embedding_backward(call);
}

template <class T>
void softmax(const Input &y, const Input &classes, const Input &weights, const Maybe &errors,
             const Maybe &dy) {
    if (!y || y->ndim() != 2) throw nb::value_error("outputs: expected (rows, classes)");
    SoftmaxCall<T> call{};
    const Index rows = call.rows = static_cast<Index>(y->shape(0));
    const Index columns = call.columns = static_cast<Index>(y->shape(1));
    call.y = needed<T>("outputs", y, {rows, columns});
    call.classes = needed<Index>("targets", classes, {rows});
    in_range("targets", call.classes, rows, 0, columns - 1);
    call.weights = needed<T>("weights", weights, {rows});
    call.errors = needed<T>("errors", errors, {rows});
    call.dy = needed<T>("doutputs", dy, {rows, columns});
    if (!rows) return;
    nb::gil_scoped_release free;
    functions<T>().softmax(call);
}

template <class T>
void adam(const Maybe &parameters, const Input &gradient, const Maybe &m, const Maybe &v, double beta1,
          double beta2, double rate, double root, double epsilon) {
    if (!parameters || parameters->ndim() != 1) throw nb::value_error("parameters: expected a vector");
    const Index count = static_cast<Index>(parameters->shape(0));
    const AdamCall<T> call{count,
                           needed<T>("parameters", parameters, {count}),
                           needed<T>("gradient", gradient, {count}),
                           needed<T>("m", m, {count}),
                           needed<T>("v", v, {count}),
                           static_cast<T>(beta1),
                           static_cast<T>(beta2),
                           static_cast<T>(rate),
                           static_cast<T>(root),
                           static_cast<T>(epsilon)};
    nb::gil_scoped_release free;
    functions<T>().adam(call);
}

template <class T>
void lags(int kind, const Input &starts, const Input &U, const Input &factors, const Input &carry,
          const Input &through_h, const Input &arriving, const Maybe &total, const Maybe &squares,
          const Maybe &by_sequence, const Maybe &sums) {
    if (kind < 0 || kind > 2) throw nb::value_error("kind: expected a known one");
    if (!arriving || arriving->ndim() != 3) throw nb::value_error("arriving: expected (T, B, H)");
    if (!total || total->ndim() != 3) throw nb::value_error("total: expected (parts, T, lags)");
    LagsCall<T> call{};
    call.kind = static_cast<Kind>(kind);
    const bool lstm = call.kind == Kind::lstm;
    const Index gates = sizes_of(call.kind).gates, parts = lstm ? 2 : 1;
    const Index steps = call.steps = static_cast<Index>(arriving->shape(0));
    const Index B = call.batch = static_cast<Index>(arriving->shape(1));
    const Index H = call.units = static_cast<Index>(arriving->shape(2));
    const Index L = call.lags = static_cast<Index>(total->shape(2));
    call.arriving = needed<T>("arriving", arriving, {steps, B, H});
    call.U = needed<T>("U", U, {gates * H, H});
    call.factors = needed<T>("factors", factors, {steps, B, gates, H});
    if (call.kind != Kind::rnn) call.carry = needed<T>("carry", carry, {steps, B, H});
    if (lstm) call.through_h = needed<T>("through h", through_h, {steps, B, H});
    call.total = needed<double>("total", total, {parts, steps, L});
    call.squares = needed<double>("squares", squares, {parts, steps, L});
    call.by_sequence = needed<double>("by sequence", by_sequence, {parts, L, B});
    if (starts) {
        const Index S = call.stretches = static_cast<Index>(starts->size());
        call.starts = needed<Index>("starts", starts, {S});
        for (Index s = 0; s < S; ++s)
            in_range("starts", call.starts + s, 1, s ? call.starts[s - 1] + 1 : 0, s ? L - 1 : 0);
        if (S) call.sums = needed<T>("sums", sums, {S, steps, B, parts * H});
    }
    if (!steps || !B || !H || !L) return;
    call.interrupted = interrupted;
    begin_looking();
    bool completed;
    {
        nb::gil_scoped_release free;
        completed = functions<T>().lags(call);
    }
    if (!completed) throw nb::python_error();
}

template <class T> double sum_of_squares(const Read &x) {
    if (!x.holds<T>()) throw nb::type_error("x: expected numbers in float32 or float64");
    const T *const numbers = x.data<T>();
    nb::gil_scoped_release free;
    return functions<T>().sum_of_squares(numbers, x.size());
}

template <class T> void each(void (*function)(const T *, T *, Index), const Read &from, const Written &to) {
    if (!from.holds<T>() || !to.holds<T>() || !to.in_order() || from.size() != to.size())
        throw nb::value_error("expected two arrays of one size and precision, the second one contiguous");
    function(from.data<T>(), to.data<T>(), from.size());
}

}  // namespace
}  // namespace throughtime

NB_MODULE(_engine, m) {
    using namespace throughtime;
    if (_import_array() < 0) throw nb::python_error();
    nb::class_<Cell>(m, "Cell").def(
        "__init__",
        [](Cell *self, int kind, Index inputs, Index units, Index outputs, bool relu, bool peepholes,
           bool projection, bool reset_after, bool bfloat16) {
            new (self) Cell(cell_of(kind, inputs, units, outputs, relu, peepholes, projection, reset_after,
                                    bfloat16));
        },
        nb::kw_only(), nb::arg("kind"), nb::arg("inputs"), nb::arg("units"), nb::arg("outputs"),
        nb::arg("relu") = false, nb::arg("peepholes") = false, nb::arg("projection") = false,
        nb::arg("reset_after") = false, nb::arg("bfloat16") = false);
    m.def(
        "forward",
        [](const Cell &cell TT_FORWARD_ARRAYS(TT_PARAMETER)) {
            run_any({.cell = cell, TT_FORWARD_ARRAYS(TT_FILLED)}, false);
        },
        nb::arg("cell"), nb::kw_only() TT_FORWARD_ARRAYS(TT_KEYWORD));
    m.def(
        "backward",
        [](const Cell &cell TT_FORWARD_ARRAYS(TT_PARAMETER) TT_BACKWARD_ARRAYS(TT_PARAMETER), bool fresh) {
            run_any({.cell = cell,
                     TT_FORWARD_ARRAYS(TT_FILLED) TT_BACKWARD_ARRAYS(TT_FILLED).fresh = fresh},
                    true);
        },
        nb::arg("cell"), nb::kw_only() TT_FORWARD_ARRAYS(TT_KEYWORD) TT_BACKWARD_ARRAYS(TT_KEYWORD),
        nb::arg("fresh") = false);
    bind_stacks(m);
    m.def("set_threads", &pool::set_threads);
    m.def("threads", &pool::threads);
    m.def("chunk_steps", [](Index batch) { return chunk_steps(std::max<Index>(1, batch)); });
    m.def("empty", [](npy_intp steps, npy_intp batch, npy_intp size, bool twice) {
        return (twice ? empty<double> : empty<float>)(steps, batch, size);
    });
    m.def("release_workspace", &Arena::release);
    m.def("run_steps", &run_steps, nb::arg("function"), nb::arg("steps"), nb::arg("batch"), nb::arg("first"),
          nb::arg("last"), nb::arg("active").none(), nb::arg("arrays"), nb::arg("work"));
    m.def("run_sums", &run_sums);
    m.def("isa", [] { return std::string(isa().name); });
    m.def("choose_isa", &choose_isa);
    // The products in bfloat16 that the instruction set in use has here; empty for none.
    m.def("bfloat16", [] { return std::string(bfloat16() ? bfloat16()->name : ""); });
    // Where their functions `along` and `multiply` begin, for code that is compiled later; 0 for none.
    m.def("bfloat16_functions", [] {
        const Bfloat16 *own = bfloat16();
        const auto address = [](auto *function) { return reinterpret_cast<std::uintptr_t>(function); };
        return own ? nb::make_tuple(address(own->along), address(own->multiply)) : nb::make_tuple(0, 0);
    });
    m.def("available_isas", [] {
        std::vector<std::string> names;
        for (const Isa *one : available_isas()) names.emplace_back(one->name);
        return names;
    });
    m.def("peak", [](double seconds) {
        nb::gil_scoped_release free;
        return isa().peak(seconds);
    });
    m.def("lags", [](int kind, Input starts, Input U, Input factors, Input carry, Input through_h,
                     Input arriving, Maybe total, Maybe squares, Maybe by_sequence, Maybe sums) {
        (is_double(U) ? lags<double> : lags<float>)(kind, starts, U, factors, carry, through_h, arriving,
                                                    total, squares, by_sequence, sums);
    });
    m.def("sum_of_squares", [](const Read &x) {
        return (x.holds<double>() ? sum_of_squares<double> : sum_of_squares<float>)(x);
    });
    m.def("sigmoid", [](const Read &from, const Written &to) {
        if (from.holds<double>()) each(isa().twice.sigmoid, from, to);
        else each(isa().single.sigmoid, from, to);
    });
    m.def("tanh", [](const Read &from, const Written &to) {
        if (from.holds<double>()) each(isa().twice.tanh, from, to);
        else each(isa().single.tanh, from, to);
    });
    m.def("adam", [](Maybe parameters, Input gradient, Maybe m1, Maybe v, double beta1, double beta2,
                     double rate, double root, double epsilon) {
        (is_double(parameters) ? adam<double> : adam<float>)(parameters, gradient, m1, v, beta1, beta2,
                                                             rate, root, epsilon);
    });
    m.def("dense_forward", [](Index steps, Index batch, Input W, Input b, Input x, Input classes,
                              Maybe y, bool in_bfloat16) {
        (is_double(W) ? dense_forward<double> : dense_forward<float>)(steps, batch, W, b, x, classes, y,
                                                                      in_bfloat16);
    },
          nb::arg("steps"), nb::arg("batch"), nb::arg("W").none(), nb::arg("b").none(), nb::arg("x").none(),
          nb::arg("classes").none(), nb::arg("y").none(), nb::arg("bfloat16") = false);
    m.def("dense_backward", [](Index steps, Index batch, Input W, Input x, Input classes, Input dy,
                               Maybe dW, Maybe db, Maybe dx, bool in_bfloat16) {
        (is_double(W) ? dense_backward<double> : dense_backward<float>)(steps, batch, W, x, classes, dy,
                                                                        dW, db, dx, in_bfloat16);
    },
          nb::arg("steps"), nb::arg("batch"), nb::arg("W").none(), nb::arg("x").none(),
          nb::arg("classes").none(), nb::arg("dy").none(), nb::arg("dW").none(), nb::arg("db").none(),
          nb::arg("dx").none(), nb::arg("bfloat16") = false);
    m.def("embedding_backward", [](Input classes, Input dy, Maybe dE) {
        (is_double(dE) ? embedding_backward<double> : embedding_backward<float>)(classes, dy, dE);
    });
    m.def("softmax", [](Input y, Input classes, Input weights, Maybe errors, Maybe dy) {
        (is_double(y) ? softmax<double> : softmax<float>)(y, classes, weights, errors, dy);
    });
}
