"""The derivative of a cell's step: as a linear map of gradients, and as a matrix.

What a step does to a gradient is a product with U, preceded by products with numbers that do not
depend on that gradient: gates and slopes of the forward pass. Here those numbers are computed once
for all steps, so that the gradients of many losses can pass through a step side by side, as rows
(n, B, ·), and so that a step's Jacobian can be written out.

`Linear.vjp` takes δs_t to δs_{t−1}; `Linear.jvp`, its transpose, takes ds_{t−1} to ds_t. Both are
derived from the cell's forward step, see `equations/linear_step.py`, and tested against the cells'
own `step_backward`, and against each other.

The Jacobian ∂s_t/∂s_{t−1} is that of the full state. The state of an LSTM is h *and* c: with c held
fixed, the carousel would be left out, and what remains forgets within a step, however open the
forget gates are. From it follow singular values and the Lyapunov spectrum.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from throughtime.arrays import Array
from throughtime.cells import Cell, State, Tape, input_gradient
from throughtime.equations import NO_MOVES, Carry, Edges, Node, Phase
from throughtime.gradient_flow.tolerances import LYAPUNOV_CHECKPOINTS, LYAPUNOV_STEPS

Steps: TypeAlias = int | slice | Array  # one step for all rows, or one for each row


class Linear:
    """The derivative of every step of one run of a cell, derived from the cell's own equations.

    Attributes:
        step: the derivative of the cell's step, as equations.
        carry: (T, B, H), the factor of the direct path from a state to the one before it, past
            all functions and matrices: the forget gate of an LSTM, z of a GRU; None for an RNN.
        carried: the part of the state that this path carries, "c" or "h".
        sizes: the sizes of the parts of the state.
        steps, batch: T and B.
    """

    def __init__(self, cell: Cell, p: Mapping[str, Array], tape: Tape) -> None:
        self.cell, self.p, self.tape, self.active = cell, p, tape, tape.active
        self.sizes = cell.state_sizes
        self.dtype = tape.states["h"].dtype
        self.steps, self.batch = tape.inputs.shape[:2]
        own = cell.equations
        self.step, trace = own.linear, own.backward.trace
        # The first state is the output, which is called h here.
        self.names = dict(zip(trace.states, self.sizes, strict=True))
        known = cell.forward_values(p, tape)
        found = own.coefficients(known)
        self._once = {n.number: known[n.number] for n in trace.parameters.values()}
        self._by_step: dict[int, Array] = {}
        for node in self.step.coefficients:
            value = np.asarray(found[node.number], self.dtype)
            if node.batched:
                self._by_step[node.number] = self._within(value, len(node.shape))
            else:
                self._once[node.number] = value
        own_carry = self.step.carry
        self.carried = "h" if own_carry is None else self.names[own_carry.state]
        self.carry = None if own_carry is None else self._carry(own_carry)

    def vjp(
        self, at: Steps, later: State, edges: Edges = "all", inner: bool = True
    ) -> tuple[dict[str, Array], State]:
        """Takes rows of gradients one step back: a vector-Jacobian product for each.

        Args:
            at: the step, or the step of each row.
            later: gradient with respect to the state after the step, as far as it comes from
                outside this step: (n, B, ·) for each part.
            edges: the paths to the state before the step that count: the carry, the rest, or all.
            inner: whether "z" is wanted.

        Returns:
            "h", "c", "z": the full gradient with respect to the state after the step and to its
            pre-activations; and the gradient with respect to the state before the step.
        """
        own, lead = self.step, later["h"].shape[:-1]
        found = self._computed(own.vjp(edges, inner), at, own.arriving, later)
        after, before = (
            {
                self.names[name]: self._flat(found[node.number], node, lead)
                for name, node in nodes.items()
            }
            for nodes in (own.after, own.before[edges])
        )
        z = self._side_by_side(found, lead) if inner else None
        if self.active is not None:  # a state that stands still is no step of the cell
            living, zero = self.active[at], self.dtype.type(0)
            z = None if z is None else np.where(living, z, zero)
            before = {name: np.where(living, array, zero) for name, array in before.items()}
            after = {name: np.where(living, array, later[name]) for name, array in after.items()}
        return after | ({} if z is None else {"z": z}), before

    def jvp(self, at: int, change: State) -> State:
        """Takes a small change of the state before a step, (n, B, ·) for each part, to after it."""
        own, lead = self.step, change["h"].shape[:-1]
        found = self._computed(own.jvp, at, own.changes, change)
        after = {
            self.names[name]: self._flat(found[node.number], node, lead)
            for name, node in own.moved.items()
        }
        if self.active is None:
            return after
        living, zero = self.active[at], self.dtype.type(0)
        return {name: np.where(living, array, zero) for name, array in after.items()}

    def to_inputs(self, at: Steps, dz: Array) -> Array:
        """δx of rows, (n, B, I), from what `vjp` gives as their "z"."""
        if type(self.cell).input_gradient is Cell.input_gradient:  # Wᵀ δz, whatever the step
            return input_gradient(dz, self.p["W"])
        steps = slice(at, at + 1) if isinstance(at, int | np.integer) else at
        states = {name: array[:-1][steps] for name, array in self.tape.states.items()}
        tape = Tape(
            self.tape.inputs[steps],
            {name: np.concatenate([array, array[-1:]]) for name, array in states.items()},
            {name: array[steps] for name, array in self.tape.kept.items()},
            None,
        )
        return self.cell.input_gradient(self.p, tape, {"z": dz})

    def frontier_of(self, at: Steps, full: State) -> Array:
        """The "z" of `vjp`, (n, B, ·), from the full gradients of the state after the step."""
        found = self._computed(self.step.to_frontier, at, self.step.after, full)
        return self._side_by_side(found, full["h"].shape[:-1])

    def coefficient(self, node: Node, shape: tuple[int, ...]) -> Array:
        """A number of the forward pass for every step, (T, B, …); 0 beyond a sequence's length.

        Args:
            node: the number.
            shape: to which it is spread out.
        """
        lead = (self.steps, self.batch)
        if node.number in self._by_step:
            value = self._by_step[node.number]
        else:
            once = self._once[node.number] if node.value is None else np.asarray(node.value)
            value = self._within(np.broadcast_to(once, (*lead, *node.shape)), len(node.shape))
        ranks = [1] * (len(shape) - len(node.shape))
        whole = np.broadcast_to(value.reshape(*lead, *ranks, *node.shape), (*lead, *shape))
        return np.ascontiguousarray(whole, self.dtype)

    def _carry(self, own: Carry) -> Array:
        shape = self.step.backward.trace.states[own.state].shape
        return self.coefficient(own.coefficient, shape).reshape(self.steps, self.batch, -1)

    def _computed(
        self, phase: Phase, at: Steps, leaves: Mapping[str, Node], rows: State
    ) -> dict[int, Array]:
        """What a part of the linear step gives of rows, by number."""
        given = {}
        for name, node in leaves.items():
            array = rows[self.names[name]]
            if len(node.shape) != 1:
                array = array.reshape(*array.shape[:-1], *node.shape)
            given[node.number] = array
        by_step, once = self._by_step, self._once
        known = [
            by_step[n][at] if n in by_step else given[n] if n in given else once[n]
            for n in (node.number for node in phase.takes)
        ]
        found = phase.run(known, NO_MOVES)
        return {node.number: value for node, value in zip(phase.gives, found, strict=True)}

    def _flat(self, value: Array, node: Node, lead: tuple[int, ...]) -> Array:
        """(n, B, ·), a value for every row."""
        shape = (*lead, *node.shape)
        if not isinstance(value, np.ndarray) or value.shape != shape:
            value = np.broadcast_to(value, shape).copy()
        if len(node.shape) != 1:
            value = value.reshape(*lead, -1)
        return value if value.dtype == self.dtype else value.astype(self.dtype)

    def _side_by_side(self, found: Mapping[int, Array], lead: tuple[int, ...]) -> Array:
        parts = [self._flat(found[node.number], node, lead) for node in self.step.frontier]
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-1)

    def _within(self, array: Array, rank: int) -> Array:
        """The array with zeros beyond each sequence's length."""
        if self.active is None:
            return array
        active = self.active.reshape(self.active.shape[:2] + (1,) * rank)
        return np.where(active, array, array.dtype.type(0))


def linear(cell: Cell, p: Mapping[str, Array], tape: Tape) -> Linear:
    """The derivative of every step of the tape."""
    return Linear(cell, p, tape)


@dataclass(frozen=True)
class Lyapunov:
    """Mean growth per step of small changes of a layer's state, direction by direction.

    Attributes:
        exponents: (q,) descending, in nats per step: a change grows as exp(exponent · steps).
            Above 0: exploding; −ln 2 / exponent: the half-life.
        spread: (q,) standard deviation over sequences; 0 where there is one.
        convergence: (checkpoints, q): the running estimate after `steps` steps.
        steps: (checkpoints,).
    """

    exponents: Array
    spread: Array
    convergence: Array = field(repr=False)
    steps: Array = field(repr=False)

    @property
    def half_life(self) -> float:
        """Steps after which the longest-lived change is halved; infinite if it grows."""
        first = float(self.exponents[0])
        return float(-np.log(2) / first) if first < 0 else np.inf

    @property
    def drift(self) -> float:
        """How far the first exponent moved in the second half of the run; NaN if it is −∞."""
        half = self.convergence[(len(self.convergence) - 1) // 2]
        with np.errstate(invalid="ignore"):
            return float(abs(half[0] - self.exponents[0]))


def jacobian(one: Linear, step: int) -> Array:
    """J = ∂s_t/∂s_{t−1}, (B, n, n), over all parts of the state, h first.

    Rows belong to the state after the step, columns to the state before it. What is taken one step
    back is the identity's rows: eᵢᵀ J is the gradient of sᵢ.
    """
    eye = np.eye(sum(one.sizes.values()), dtype=one.dtype)
    _, before = one.vjp(step, _state(one, np.repeat(eye[:, None], one.batch, axis=1)))
    return _joined(before).transpose(1, 0, 2)


def singular_values(one: Linear, samples: int, lengths: Array) -> Array:
    """Those of J at `samples` evenly spread steps, each of another sequence: (samples, n)."""
    T = one.steps
    steps = np.unique(np.linspace(0, T - 1, min(samples, T)).astype(int))
    found = []
    for number, t in enumerate(steps):
        living = np.flatnonzero(lengths > t)
        if len(living):
            J = jacobian(one, int(t))[living[number % len(living)]]
            found.append(np.linalg.svd(J, compute_uv=False))
    return np.array(found)


def lyapunov(
    one: Linear, lengths: Array, count: int, transient: int, rng: np.random.Generator
) -> Lyapunov:
    """The first `count` exponents, by QR (Benettin et al. 1980; Engelken et al. 2023).

    Directions are taken *forwards* in time, Q_t R_t = J_t Q_{t−1}: products in the other order have
    the same singular values only in the limit, and their QR does not settle on the same directions.
    The first `transient` steps only turn the directions, and do not count.
    """
    T, batch = min(one.steps, LYAPUNOV_STEPS), one.batch
    size = sum(one.sizes.values())
    count = min(count, size)
    start = rng.standard_normal((batch, size, count))
    Q = np.linalg.qr(start)[0].astype(one.dtype)
    sums, steps = np.zeros((batch, count)), np.zeros(batch)
    checkpoints = min(LYAPUNOV_CHECKPOINTS, T - transient)
    marks = np.unique(np.linspace(transient + 1, T, checkpoints).astype(int))
    convergence = []
    for t in range(T):
        living = lengths > t
        moved = one.jvp(t, _state(one, Q.transpose(2, 0, 1)))
        new, R = np.linalg.qr(_joined(moved).transpose(1, 2, 0)[living])
        Q[living] = new
        if t >= transient:
            with np.errstate(divide="ignore"):
                stretch = np.abs(np.diagonal(R, axis1=1, axis2=2)).astype(np.float64)
                sums[living] += np.log(stretch)
            steps[living] += 1
        if t + 1 in marks:
            convergence.append(_mean(sums, steps))
    used = steps > 0
    each = sums[used] / steps[used, None]
    mean = _mean(sums, steps)
    order = np.argsort(-mean)
    finite = np.where(np.isfinite(each), each, np.nan)
    spread = finite.std(axis=0)[order]
    return Lyapunov(mean[order], spread, np.array(convergence)[:, order], marks)


def _mean(sums: Array, steps: Array) -> Array:
    used = steps > 0
    return np.asarray((sums[used] / steps[used, None]).mean(axis=0))


def _state(one: Linear, rows: Array) -> State:
    """Splits (n, B, all parts) by part of the state."""
    places = np.cumsum(list(one.sizes.values()))[:-1]
    return dict(zip(one.sizes, np.split(rows, places, axis=2), strict=True))


def _joined(state: State) -> Array:
    return np.concatenate(list(state.values()), axis=2)
