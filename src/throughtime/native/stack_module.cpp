// Addresses in, since to make an array of a tensor takes longer than a small call; who calls has looked at
// devices, shapes, precisions and gaps.
#include "stack_module.hpp"

#include <nanobind/stl/pair.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <cstdint>
#include <string>
#include <tuple>
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
        const auto *const sizes = pointer<const std::int64_t>(running);
        if (!sizes) return {steps, batch, nullptr};
        static_assert(sizeof(Index) == sizeof(std::int64_t));
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
        return {steps, batch, reinterpret_cast<const Index *>(sizes)};
    }
};

template <class T> StackCall<T> call_of(const Stack &stack, const Extent &extent, Address x,
                                        const Addresses &weights, const Addresses &masks, Address tape) {
    if (weights.size() != static_cast<std::size_t>(stack.sides() * stack.weights()))
        throw nb::value_error("weights: expected as many as the stack has, got another number");
    if (!masks.empty() && masks.size() != static_cast<std::size_t>(stack.layers - 1))
        throw nb::value_error("masks: expected one a layer but the last, got another number");
    StackCall<T> call{stack, extent.times(), pointer<const T>(x), {}, {}, pointers<const T *>(weights),
                      pointers<const T *>(masks), pointer<T>(tape), {}, {}, {}, {}, {}, {}, {}, {}, {}, {},
                      interrupted};
    return call;
}

template <class T> const Functions<T> &functions();
template <> const Functions<float> &functions<float>() { return isa().single; }
template <> const Functions<double> &functions<double>() { return isa().twice; }

template <class T> void run(const StackCall<T> &call, bool backward) {
    begin_looking();
    bool completed;
    {
        nb::gil_scoped_release free;
        StackWalk<T> walk(call, functions<T>());
        completed = backward ? walk.backward() : walk.forward();
    }
    if (!completed) throw nb::python_error();
}

// x, h_0, c_0, weights, masks, tape, outputs, final h, final c.
template <class T>
void forward(const Stack &stack, const Extent &extent, Address x, Address h0, Address c0,
             const Addresses &weights, const Addresses &masks, Address tape, Address y, Address h, Address c) {
    StackCall<T> call = call_of<T>(stack, extent, x, weights, masks, tape);
    call.h0 = pointer<const T>(h0);
    call.c0 = pointer<const T>(c0);
    call.y = pointer<T>(y);
    call.h = pointer<T>(h);
    call.c = pointer<T>(c);
    run(call, false);
}

// x, weights, masks, tape, gradients by outputs, final h and c; then by inputs, h_0, c_0 and weights.
template <class T>
void backward(const Stack &stack, const Extent &extent, Address x, const Addresses &weights,
              const Addresses &masks, Address tape, Address dy, Address dh_final, Address dc_final, Address dx,
              Address dh, Address dc, const Addresses &gradients) {
    StackCall<T> call = call_of<T>(stack, extent, x, weights, masks, tape);
    if (gradients.size() != weights.size())
        throw nb::value_error("gradients: expected as many as weights, got another number");
    call.dy = pointer<const T>(dy);
    call.dh_final = pointer<const T>(dh_final);
    call.dc_final = pointer<const T>(dc_final);
    call.dx = pointer<T>(dx);
    call.dh = pointer<T>(dh);
    call.dc = pointer<T>(dc);
    call.gradients = pointers<T *>(gradients);
    run(call, true);
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
    m.def("stack_forward",
          [](const Stack &stack, bool twice, Index T, Index B, Index N, Address running, Address x, Address h0,
             Address c0, const Addresses &weights, const Addresses &masks, Address tape, Address y, Address h,
             Address c) {
              (twice ? forward<double> : forward<float>)(stack, {T, B, N, running}, x, h0, c0, weights, masks,
                                                         tape, y, h, c);
          });
    m.def("stack_backward",
          [](const Stack &stack, bool twice, Index T, Index B, Index N, Address running, Address x,
             const Addresses &weights, const Addresses &masks, Address tape, Address dy, Address dh_final,
             Address dc_final, Address dx, Address dh, Address dc, const Addresses &gradients) {
              (twice ? backward<double> : backward<float>)(stack, {T, B, N, running}, x, weights, masks, tape,
                                                           dy, dh_final, dc_final, dx, dh, dc, gradients);
          });
}

}  // namespace throughtime
