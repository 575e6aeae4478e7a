// Addresses in, since to make an array of a tensor takes longer than a small call. The caller must validate
// devices, shapes, precisions and contiguity.
#include "stack_module.hpp"

#include <nanobind/stl/pair.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <cstdint>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "dispatch.hpp"
#include "interrupt.hpp"
#include "stack.hpp"

namespace nb = nanobind;

namespace throughtime {
namespace {

using Address = std::uintptr_t;
using Addresses = std::vector<Address>;

template <class T> T *pointer(Address address) { return reinterpret_cast<T *>(address); }

template <class P> std::vector<P> pointers(const Addresses &addresses) {
    std::vector<P> found;
    for (Address address : addresses) found.push_back(reinterpret_cast<P>(address));
    return found;
}

// T, B, and the address of how many sequences run at each step of N rows; 0 where all do.
struct Extent {
    Index steps, batch, rows;
    Address running;

    Times times() const {
        if (!running) return {steps, batch};
        static_assert(sizeof(Index) == sizeof(std::int64_t));
        const auto *const given = pointer<const Index>(running);
        // Copied, since another thread could write to the caller's once they are checked.
        std::vector<Index> sizes(given, given + steps);
        Index total = 0;
        for (Index t = 0; t < steps; ++t) {
            if (sizes[t] < 1 || sizes[t] > (t ? sizes[t - 1] : batch))
                throw nb::value_error("batch_sizes: expected sizes from the batch's down to 1, got another order");
            total += sizes[t];
        }
        if (total != rows)
            throw nb::value_error(("batch_sizes: expected a sum of " + std::to_string(rows) +
                                   ", the rows of data, got " + std::to_string(total))
                                      .c_str());
        return {steps, batch, std::move(sizes)};
    }
};

// What a call is given. Each stands here once, and becomes a field of `Given` and a keyword of the Python face.
// Addresses are 0 for None.
#define TT_BOTH(each)                                                                          \
    each(bool, float64) each(Index, steps) each(Index, batch) each(Index, rows)                \
        each(Address, running) each(Address, x) each(Addresses, weights) each(Addresses, masks) \
            each(Address, tape)
#define TT_FORWARD(each)                                                                       \
    each(Address, h0) each(Address, c0) each(Address, outputs) each(Address, h) each(Address, c)
#define TT_BACKWARD(each)                                                                      \
    each(Address, doutputs) each(Address, dh) each(Address, dc) each(Address, dx)              \
        each(Address, dh0) each(Address, dc0) each(Addresses, dweights)

#define TT_FIELD(type, name) type name{};
#define TT_PARAMETER(type, name) , type name
#define TT_KEYWORD(type, name) , nb::arg(#name)
#define TT_FILLED(type, name) .name = std::move(name),

struct Given {
    TT_BOTH(TT_FIELD)
    TT_FORWARD(TT_FIELD)
    TT_BACKWARD(TT_FIELD)
};

template <class T> StackCall<T> call_of(const Stack &stack, const Given &given) {
    if (given.weights.size() != static_cast<std::size_t>(stack.sides() * stack.weights()))
        throw nb::value_error("weights: expected as many as the stack has, got another number");
    if (!given.masks.empty() && given.masks.size() != static_cast<std::size_t>(stack.layers - 1))
        throw nb::value_error("masks: expected one a layer but the last, got another number");
    const Extent extent{given.steps, given.batch, given.rows, given.running};
    return {.stack = stack,
            .times = extent.times(),
            .x = pointer<const T>(given.x),
            .h0 = pointer<const T>(given.h0),
            .c0 = pointer<const T>(given.c0),
            .weights = pointers<const T *>(given.weights),
            .masks = pointers<const T *>(given.masks),
            .tape = pointer<T>(given.tape),
            .y = pointer<T>(given.outputs),
            .h = pointer<T>(given.h),
            .c = pointer<T>(given.c),
            .dy = pointer<const T>(given.doutputs),
            .dh_final = pointer<const T>(given.dh),
            .dc_final = pointer<const T>(given.dc),
            .dx = pointer<T>(given.dx),
            .dh = pointer<T>(given.dh0),
            .dc = pointer<T>(given.dc0),
            .gradients = pointers<T *>(given.dweights),
            .interrupted = interrupted};
}

template <class T> const Functions<T> &functions();
template <> const Functions<float> &functions<float>() { return isa().single; }
template <> const Functions<double> &functions<double>() { return isa().twice; }

template <class T> void run(const Stack &stack, const Given &given, bool backward) {
    const StackCall<T> call = call_of<T>(stack, given);
    if (backward && call.gradients.size() != call.weights.size())
        throw nb::value_error("gradients: expected as many as weights, got another number");
    begin_looking();
    bool completed;
    {
        nb::gil_scoped_release free;
        StackWalk<T> walk(call, functions<T>());
        completed = backward ? walk.backward() : walk.forward();
    }
    if (!completed) throw nb::python_error();
}

}  // namespace

void bind_stacks(nb::module_ &m) {
    nb::set_leak_warnings(false);  // a compiler's caches of modules' forms may outlive this one
    nb::class_<Stack>(m, "Stack")
        .def("__init__",
             [](Stack *self, const Cell &first, Index layers, Index directions, bool biases) {
                 if (layers < 1 || directions < 1 || directions > 2)
                     throw nb::value_error("stack: expected layers, and one direction or two");
                 new (self) Stack{first, layers, directions, biases};
             })
        // Numbers that the tape has room for; then, for every side, where its h, c and gates begin.
        .def("places", [](const Stack &self, Index T, Index B, bool ragged, bool dropout) {
            const Places places(self, T, B, ragged, dropout);
            std::vector<std::tuple<Index, Index, Index>> sides;
            for (const SidePlaces &side : places.sides) sides.emplace_back(side.h, side.c, side.kept);
            return std::make_pair(places.size, sides);
        });
    m.def(
        "stack_forward",
        [](const Stack &stack TT_BOTH(TT_PARAMETER) TT_FORWARD(TT_PARAMETER)) {
            (float64 ? run<double> : run<float>)(stack, {TT_BOTH(TT_FILLED) TT_FORWARD(TT_FILLED)}, false);
        },
        nb::arg("stack"), nb::kw_only() TT_BOTH(TT_KEYWORD) TT_FORWARD(TT_KEYWORD));
    m.def(
        "stack_backward",
        [](const Stack &stack TT_BOTH(TT_PARAMETER) TT_BACKWARD(TT_PARAMETER)) {
            (float64 ? run<double> : run<float>)(stack, {TT_BOTH(TT_FILLED) TT_BACKWARD(TT_FILLED)}, true);
        },
        nb::arg("stack"), nb::kw_only() TT_BOTH(TT_KEYWORD) TT_BACKWARD(TT_KEYWORD));
}

}  // namespace throughtime
