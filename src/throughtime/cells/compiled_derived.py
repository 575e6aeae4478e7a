"""A derived cell's compiled twin: arrays are made here and passed on; the loops are generated C.

The results have the form of the readable cell's, so that either accepts the tape of the other.
Products with the inputs of all steps, and the sums over steps for the parameters, are the compiled
engine's, on its threads. What is summed at once is as many steps as the engine takes: which those
are depends on B alone, so that a run in segments gives the same bits as a whole one.
"""

from __future__ import annotations

import ctypes
import math
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from throughtime import _engine
from throughtime.arrays import Array, Shape
from throughtime.cells.compiled import WORTH_KEEPING
from throughtime.cells.tape import LocalGradients, State, Tape, active_steps
from throughtime.codegen import (
    OF_A_FUNCTION,
    WORK_OF_A_THREAD,
    Loop,
    LoopPlan,
    Sums,
    Unavailable,
    cell_source,
    library,
    of_input,
    plain,
    size,
)
from throughtime.equations import BackwardPass, Node, StepProgram, phase_from
from throughtime.functions import is_indices, product, weight_gradient

Values = dict[int, Array]  # of nodes, by number


class Twin:
    """The compiled twin of a derived cell, in one precision.

    Args:
        name: of the cell, as C can call it.
        title: of the cell with its sizes, for messages.
        backward: its derivation.
        program: its phases.
        kept: the names of what a step keeps.
        states: the names of its states; the first is h.
        dtype: float32 or float64.
        bfloat16: whether products of matrices are in bfloat16.

    Attributes:
        about: with what it was compiled, and where that is.
        text: its C source.

    Raises:
        Unavailable: where it cannot be compiled.
    """

    def __init__(
        self,
        name: str,
        title: str,
        backward: BackwardPass,
        program: StepProgram,
        kept: Sequence[str],
        states: Sequence[str],
        dtype: np.dtype[Any],
        bfloat16: bool = False,
    ) -> None:
        self.derivation, self.program, self.dtype = backward, program, dtype
        self.bfloat16 = bfloat16
        self.kept, self.states = tuple(kept), tuple(states)
        trace = backward.trace
        self.x = trace.inputs
        try:
            self.source = source = cell_source(name, backward, program, dtype, bfloat16)
        except (LookupError, ValueError, RecursionError) as problem:
            why = f"{type(problem).__name__}: {problem}"[:200]
            raise Unavailable(f"its equations have no form in C ({why})") from problem
        self.text = source.text
        self.library, self.about = library(source.text, title)
        loops, sums = (source.forward, source.backward), (source.parameters, source.everything)
        functions = [*(own.function for own in loops), *(f for own in sums for f in own.functions)]
        try:
            self.library.tt_packed.restype = ctypes.c_long
            if bfloat16:
                self.library.tt_use(*map(ctypes.c_void_p, _engine.bfloat16_functions()))
            self._addresses = {
                f.name: _address(getattr(self.library, f.name)) for f in functions if f.name
            }
        except AttributeError:
            raise Unavailable("what was compiled has none of its functions") from None
        self._works = {own.function.name: _work(own.plan) for own in loops}
        plans = (source.forward, source.backward, source.parameters, source.everything)
        early = [own.matrix for own in source.forward.inputs.values()]
        # What parameters alone determine, in one phase for each of the four.
        self._fixed = {
            id(own.plan): phase_from(
                trace.parameters.values(),
                [*own.plan.shared, *own.plan.matrices, *(early if own is plans[0] else [])],
            )
            for own in plans
        }
        totals = [
            trace.graph.nodes[n] for n in (*source.parameters.outer, *source.parameters.added)
        ]
        self._finish = phase_from(totals, list(backward.parameters.values()))
        self._width = sum(map(size, program.frontier))

    # --- what is asked of it ---

    def fits(self, p: Mapping[str, Array], inputs: Array, state: State | None) -> bool:
        """Whether a forward pass is one that the compiled code knows: shapes and precision."""
        (width,) = self.x.shape
        if is_indices(inputs):
            if inputs.ndim != 2 or (inputs.size and not 0 <= inputs.min() <= inputs.max() < width):
                return False
        elif inputs.ndim != 3 or inputs.shape[2] != width or inputs.dtype != self.dtype:
            return False
        wanted = self._wanted(p)
        for name, node in zip(self.states, self.derivation.trace.states.values(), strict=True):
            if state is not None:
                wanted.append((state.get(name), (inputs.shape[1], size(node))))
        return self._are(wanted)

    def fits_backward(
        self,
        p: Mapping[str, Array],
        tape: Tape,
        doutputs: Array | None,
        dstate: State | None,
    ) -> bool:
        """The same of a backward pass."""
        T, B = tape.inputs.shape[:2]
        arriving = self.derivation.arriving.values()
        sizes = {name: size(node) for name, node in zip(self.states, arriving, strict=True)}
        if set(dstate or {}) - set(sizes):
            return False
        wanted = self._wanted(p)
        wanted += [(array, (B, sizes[name])) for name, array in (dstate or {}).items()]
        if doutputs is not None:
            wanted.append((doutputs, (T, B, sizes["h"])))
        return self._are(wanted) and self.fits_tape(tape)

    def fits_sums(self, p: Mapping[str, Array], tape: Tape, frontier: Array) -> bool:
        """The same of the sums over steps."""
        shape = (*tape.inputs.shape[:2], self._width)
        return self._are([*self._wanted(p), (frontier, shape)]) and self.fits_tape(tape)

    def _wanted(self, p: Mapping[str, Array]) -> list[tuple[Array | None, Shape]]:
        parameters = self.derivation.trace.parameters
        return [(p.get(name), node.shape) for name, node in parameters.items()]

    def _are(self, wanted: Sequence[tuple[Array | None, Shape]]) -> bool:
        return all(
            array is not None and array.shape == shape and array.dtype == self.dtype
            for array, shape in wanted
        )

    def fits_tape(self, tape: Tape) -> bool:
        """Whether a tape has every array, in the shape that the compiled code expects."""
        T, B = tape.inputs.shape[:2]
        befores = self.derivation.trace.states.values()
        wanted: list[tuple[Array | None, Shape]] = [
            (tape.states.get(name), (T + 1, B, size(node)))
            for name, node in zip(self.states, befores, strict=True)
        ]
        wanted += [
            (tape.kept.get(name), (T, B, size(node)))
            for name, node in zip(self.kept, self.program.kept, strict=True)
        ]
        if tape.active is not None and tape.active.shape != (T, B, 1):
            return False
        if not is_indices(tape.inputs):
            wanted.append((tape.inputs, (T, B, *self.x.shape)))
        return self._are(wanted)

    def forward(
        self, p: Mapping[str, Array], inputs: Array, state: State | None, lengths: Array | None
    ) -> tuple[Array, State, Tape]:
        """`Cell.forward`, compiled."""
        T, B = inputs.shape[:2]
        own, trace = self.source.forward, self.derivation.trace
        states = {
            name: _empty((T + 1, B, size(node)), self.dtype)
            for name, node in zip(self.states, trace.states.values(), strict=True)
        }
        for name, array in states.items():
            array[0] = 0 if state is None else state[name]
        kept = {
            name: _empty((T, B, size(node)), self.dtype)
            for name, node in zip(self.kept, self.program.kept, strict=True)
        }
        active = None if lengths is None else active_steps(T, lengths)
        fixed = self._of_parameters(own.plan, p)
        arrays = self._of_inputs(fixed, inputs)
        if any(node is self.x for node in own.plan.given):
            arrays[own.plan.names[self.x.number]] = self._dense(inputs)
        arrays |= dict(zip(own.before, states.values(), strict=True))
        arrays |= dict(zip(own.columns, kept.values(), strict=True))
        self._run(own, fixed, arrays, T, B, active)
        h = states["h"][1:]
        outputs = h if active is None else h * active
        final = {name: array[T] for name, array in states.items()}
        return outputs, final, Tape(inputs, states, kept, active)

    def backward(
        self,
        p: Mapping[str, Array],
        tape: Tape,
        doutputs: Array | None,
        dstate: State | None,
        need_inputs: bool,
        gradient: Mapping[str, Array] | None,
    ) -> LocalGradients:
        """`Cell.backward`, compiled."""
        T, B = tape.inputs.shape[:2]
        own = self.source.backward
        arriving = self.derivation.arriving.values()
        later = {
            name: np.zeros((B, size(node)), self.dtype)
            for name, node in zip(self.states, arriving, strict=True)
        }
        for name, array in (dstate or {}).items():
            later[name][...] = array
        frontier = _empty((T, B, self._width), self.dtype)
        after = {
            name: _empty((T, B, size(node)), self.dtype)
            for name, node in zip(self.states, self.program.after.values(), strict=True)
        }
        known = self._of_tape(tape)
        arrays: dict[str, Array | None] = {
            own.plan.names[n.number]: known[n.number] for n in own.plan.given if n.number in known
        }
        arrays |= dict(zip(own.later, later.values(), strict=True))
        arrays |= dict(zip(own.columns, after.values(), strict=True))
        arrays |= {"frontier": frontier, "doutputs": doutputs}
        self._run(own, self._of_parameters(own.plan, p), arrays, T, B, tape.active)
        if gradient is None:
            gradient = {name: np.zeros(array.shape, self.dtype) for name, array in p.items()}
        dinputs = None
        if need_inputs and not is_indices(tape.inputs):
            dinputs = _empty((T, B, self.x.shape[0]), self.dtype)
        self.add_parameters(p, tape, frontier, gradient, dinputs)
        return LocalGradients(dict(gradient), dinputs, later, after | {"z": frontier})

    def add_parameters(
        self,
        p: Mapping[str, Array],
        tape: Tape,
        frontier: Array,
        gradient: Mapping[str, Array],
        dinputs: Array | None = None,
    ) -> None:
        """Adds the sums over steps to `gradient`; fills δx in where there is an array for it."""
        T, B = tape.inputs.shape[:2]
        own = self.source.parameters if dinputs is None else self.source.everything
        fixed = self._of_parameters(own.plan, p)
        values = {number: _rows(array) for number, array in self._of_tape(tape).items()}
        columns, start = _rows(np.ascontiguousarray(frontier)), 0
        for node in self.program.frontier:
            values[plain(node).number] = columns[:, start : start + size(node)]
            start += size(node)
        if not is_indices(tape.inputs) or any(node is self.x for node in own.plan.given):
            values[self.x.number] = _rows(self._dense(tape.inputs))
        parameters = self.derivation.trace.parameters
        given = {node.number: p[name] for name, node in parameters.items()}
        factors = {
            wanted.result.number: _factor(fixed[wanted.matrix.number], wanted.turned)
            for stage in own.plan.stages
            for wanted in stage.products
        }
        for start, stop in reversed(list(_chunks(T, B))):
            part = slice(start * B, stop * B)
            here = {number: array[part] for number, array in values.items()}
            into = None if dinputs is None else _rows(dinputs)[part]
            totals = self._sum(own, here, fixed, factors, tape.inputs[start:stop], into)
            found = self._finish(given | totals) | totals
            for name, node in self.derivation.parameters.items():
                gradient[name][...] += np.reshape(found[node.number], gradient[name].shape)

    # --- calls of the library ---

    def _run(
        self,
        own: Loop,
        fixed: Mapping[int, Array],
        arrays: Mapping[str, Array | None],
        T: int,
        B: int,
        active: Array | None,
    ) -> None:
        """Runs a loop over steps, on as many threads as are worth it."""
        if not T * B:
            return
        given = dict(arrays) | {own.plan.names[n.number]: fixed[n.number] for n in own.plan.shared}
        for name, wanted in own.packed.items():
            M = fixed[wanted.matrix.number]
            given[name] = self._packed(M if wanted.turned else M.T)
        used = [given[name] for name in own.function.arrays]
        mask = None if active is None else np.ascontiguousarray(active, np.uint8)
        function, (each, more) = self._addresses[own.function.name], own.function.work
        most = max(1, int(T * B * self._works[own.function.name] / WORK_OF_A_THREAD))
        parts = min(_engine.threads(), B, most)
        calls = []
        for k in range(parts):
            first, last = B * k // parts, B * (k + 1) // parts
            work = np.empty((last - first) * each + more, self.dtype)
            calls.append((function, T, B, first, last, mask, used, work))
        threads = [threading.Thread(target=_engine.run_steps, args=call) for call in calls[1:]]
        for thread in threads:
            thread.start()
        _engine.run_steps(*calls[0])
        for thread in threads:
            thread.join()

    def _sum(
        self,
        own: Sums,
        values: Values,
        fixed: Mapping[int, Array],
        factors: Mapping[int, Array],
        inputs: Array,
        dinputs: Array | None,
    ) -> Values:
        """The sums over some steps, by number; `values` are those of their rows.

        `factors` are the matrices of products, by the numbers of their results.
        """
        count, names = inputs.shape[0] * inputs.shape[1], own.plan.names
        numbers = {word: number for number, word in names.items()}
        nodes = self.derivation.trace.graph.nodes
        summed = {name: np.zeros(nodes[n].shape, self.dtype) for n, name in own.added.items()}
        ready, dx = dict(values), self.derivation.inputs
        if dinputs is not None and dx is not None:
            ready.setdefault(plain(dx).number, dinputs)
        for function, stage in zip(own.functions, own.plan.stages, strict=True):
            for wanted in stage.products:
                number = wanted.result.number
                vectors, out = ready[wanted.vector.number], ready.get(number)
                ready[number] = self._product(vectors, factors[number], out)
            given: list[Array | None] = []
            for name in function.arrays:
                if name in summed:
                    given.append(summed[name])
                    continue
                number = own.plan.gives[name].number if name in own.plan.gives else numbers[name]
                if number in fixed:
                    given.append(fixed[number])
                    continue
                if number not in ready:
                    ready[number] = _empty((count, size(nodes[number])), self.dtype)
                given.append(ready[number])
            if function.name:
                work = np.empty(function.work[1], self.dtype)
                _engine.run_sums(self._addresses[function.name], count, given, work)
        if dinputs is not None and dx is not None and ready[plain(dx).number] is not dinputs:
            dinputs[...] = ready[plain(dx).number]
        found = {number: summed[name] for number, name in own.added.items()}
        for number, (a, b) in own.outer.items():
            if b is self.x and is_indices(inputs):
                left = self._side(a, ready, inputs)
                found[number] = weight_gradient(left, inputs.reshape(-1), self.x.shape[0])
            else:
                found[number] = self._outer_sum(
                    self._side(a, ready, inputs), self._side(b, ready, inputs)
                )
        return found

    def _side(self, node: Node, ready: Values, inputs: Array) -> Array:
        """A value of some rows, (rows, n)."""
        if node.number in ready:
            return ready[node.number]
        assert of_input(node, self.x)
        whole = _rows(self._dense(inputs))
        return whole if node is self.x else whole[:, node.start : node.stop]

    # --- what a call is given ---

    def _of_parameters(self, plan: LoopPlan, p: Mapping[str, Array]) -> Values:
        """What parameters alone determine, parameters included."""
        known = {node.number: p[name] for name, node in self.derivation.trace.parameters.items()}
        found = self._fixed[id(plan)](known) | known
        # Constant arrays in the step are float64; the run is in the parameters' precision.
        return {
            number: np.ascontiguousarray(array, self.dtype)
            if np.ndim(array) != 2
            else np.asarray(array, self.dtype)
            for number, array in found.items()
        }

    def _of_tape(self, tape: Tape) -> Values:
        """What a tape knows of every step, (T, B, n)."""
        befores = self.derivation.trace.states.values()
        known = {
            plain(node).number: np.ascontiguousarray(tape.kept[name])
            for name, node in zip(self.kept, self.program.kept, strict=True)
        }
        return known | {
            node.number: np.ascontiguousarray(tape.states[name][:-1])
            for name, node in zip(self.states, befores, strict=True)
        }

    def _of_inputs(self, fixed: Mapping[int, Array], inputs: Array) -> dict[str, Array | None]:
        """Products of a matrix with the inputs of every step."""
        T, B = inputs.shape[:2]
        found: dict[str, Array | None] = {}
        for name, own in self.source.forward.inputs.items():
            M = fixed[own.matrix.number]
            M = M.T if own.turned else M
            if own.vector is self.x and is_indices(inputs):
                found[name] = np.ascontiguousarray(product(M, inputs))
                continue
            x = _rows(self._dense(inputs))
            if own.vector is not self.x:
                x = x[:, own.vector.start : own.vector.stop]
            found[name] = self._product(x, M).reshape(T, B, len(M))
        return found

    def _dense(self, inputs: Array) -> Array:
        """Inputs as numbers: class indices become one-hot vectors."""
        if not is_indices(inputs):
            return np.ascontiguousarray(inputs)
        found: Array = np.eye(self.x.shape[0], dtype=self.dtype)[inputs]
        return found

    def _product(self, x: Array, M: Array, out: Array | None = None) -> Array:
        """M x for every row x: (rows, n), (m, n) -> (rows, m), by the engine, into `out`."""
        count, (m, n) = len(x), M.shape
        if out is None:
            out = _empty((count, m), x.dtype)
        if out.size:
            given = (x.reshape(1, count, n), None, out.reshape(1, count, m))
            _engine.dense_forward(1, count, M, None, *given, bfloat16=self.bfloat16)
        return out

    def _outer_sum(self, a: Array, b: Array) -> Array:
        """Σ a bᵀ over the rows: (rows, m), (rows, n) -> (m, n), by the engine."""
        count, m, n = len(a), a.shape[1], b.shape[1]
        found = np.zeros((m, n), a.dtype)
        given = (b.reshape(1, count, n), None, a.reshape(1, count, m), found, None, None)
        _engine.dense_backward(1, count, found, *given, bfloat16=self.bfloat16)
        return found

    def _packed(self, M: Array) -> Array:
        """A matrix (k, n), for products from the left, in panels."""
        (k, n), lib = M.shape, self.library
        panels = np.empty(lib.tt_packed(ctypes.c_long(k), ctypes.c_long(n)), self.dtype)
        row, column = (ctypes.c_long(stride // M.itemsize) for stride in M.strides)
        lib.tt_pack(ctypes.c_long(k), ctypes.c_long(n), _pointer(M), row, column, _pointer(panels))
        return panels


def _chunks(steps: int, batch: int) -> Iterator[tuple[int, int]]:
    """Steps that are multiplied together: start and stop."""
    unit = _engine.chunk_steps(batch)
    for start in range(0, steps, unit):
        yield start, min(start + unit, steps)


def _empty(shape: Shape, dtype: np.dtype[Any]) -> Array:
    """An array to be filled in; a large one is in memory that the engine reuses."""
    count = math.prod(shape)
    if count < WORTH_KEEPING:
        return np.empty(shape, dtype)
    return _engine.empty(1, 1, count, dtype == np.float64).reshape(shape)


def _factor(M: Array, turned: bool) -> Array:
    """The matrix of a product with vectors, in C order."""
    return np.ascontiguousarray(M.T if turned else M)


def _rows(array: Array) -> Array:
    """(T, B, n) as (T·B, n)."""
    return array.reshape(-1, array.shape[-1])


def _work(plan: LoopPlan) -> float:
    """About how many operations on numbers a row takes."""
    products = sum(2 * size(p.vector) * size(p.result) for s in plan.stages for p in s.products)
    return products + OF_A_FUNCTION * sum(size(n) for s in plan.stages for n in s.values)


def _address(function: Any) -> int:
    """Where a function of a library begins."""
    return ctypes.cast(function, ctypes.c_void_p).value or 0


def _pointer(array: Array | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(None if array is None else array.ctypes.data)
