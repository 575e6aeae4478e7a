"""A derived step on numbers: every line beside a numerical derivative that knows no derivation.

The step is run three times in a row. A value of one step is moved by a little where it is computed,
the run goes on from there, and the change of the loss gives the numerical derivative.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from throughtime.arrays import Array
from throughtime.derivatives import derivative
from throughtime.equations.backward import BackwardPass, Line
from throughtime.equations.graph import Node, reachable
from throughtime.equations.phases import Phase, phase

STEPS = 3
SHOWN_STEP = 1  # from 0: it has one before it and one after it
PARAMETER_SIZE = 0.8  # standard deviation of what is drawn: far from saturation, and not all alike


@dataclass(frozen=True)
class LineCheck:
    """A line of the backward pass with numbers.

    Attributes:
        line: the line.
        value: of its largest entry; of a value of the shown step, or of a parameter.
        numerical: the same entry as a numerical derivative; NaN where none tells, since a stopped
            gradient or a surrogate slope lies on the way.
        entry: its index.
        difference: ‖value − numerical‖ / ‖numerical‖ over all entries that were looked at.
        error: the same for the error bars of the numerical derivatives.
    """

    line: Line
    value: float
    numerical: float
    entry: tuple[int, ...]
    difference: float
    error: float

    @property
    def agrees(self) -> bool:
        """Whether they differ by no more than the error bars say."""
        return bool(np.isnan(self.numerical) or self.difference <= max(3 * self.error, 1e-9))


class LiveExample:
    """Three steps of one sequence, with numbers that are drawn at random.

    Args:
        backward: the derived step.
        seed: for what is drawn.
    """

    def __init__(self, backward: BackwardPass, seed: int = 0) -> None:
        self.backward, self.trace = backward, backward.trace
        rng = np.random.default_rng(seed)

        def draw(node: Node, *lead: int) -> Array:
            return PARAMETER_SIZE * rng.standard_normal((*lead, *node.shape))

        trace = self.trace
        self.parameters = {node.number: draw(node) for node in trace.parameters.values()}
        self.inputs = draw(trace.inputs, STEPS, 1)
        self.initial = {name: draw(node, 1) for name, node in trace.states.items()}
        first = next(iter(trace.after.values()))
        self.of_output = draw(first, STEPS, 1)  # ∂L/∂(output of step t)
        self.of_final = {name: draw(node, 1) for name, node in trace.after.items()}

    @cached_property
    def _forward(self) -> Phase:
        nodes = reachable(self.trace.after.values())
        return phase(nodes, nodes, moved={n.number for n in nodes if not n.leaf})

    def run(self, moves: Mapping[tuple[int, int], Array] | None = None) -> list[dict[int, Array]]:
        """All values of every step, by number.

        Args:
            moves: what is added to a value of a step, by the value's number and the step; with
                −1 for the step, of all steps.
        """
        moves = moves or {}
        trace, state, steps = self.trace, self.initial, []
        parameters = {
            number: array + moves.get((number, -1), 0.0)
            for number, array in self.parameters.items()
        }
        for t in range(STEPS):
            known = dict(parameters)
            x = trace.inputs.number
            known[x] = self.inputs[t] + moves.get((x, t), 0.0)
            for name, node in trace.states.items():
                known[node.number] = state[name] + moves.get((node.number, t), 0.0)
            own = {number: move for (number, step), move in moves.items() if step in (t, -1)}
            known |= self._forward(known, own)
            steps.append(known)
            state = {name: known[node.number] for name, node in trace.after.items()}
        return steps

    def loss(self, moves: Mapping[tuple[int, int], Array] | None = None) -> Array:
        """The terms of L = Σ_t (weights of step t) · output_t + (weights) · (final state)."""
        steps = self.run(moves)
        after = self.trace.after
        first = next(iter(after.values()))
        terms = [(self.of_output[t] * steps[t][first.number]).ravel() for t in range(STEPS)]
        terms += [
            (self.of_final[name] * steps[-1][node.number]).ravel() for name, node in after.items()
        ]
        return np.concatenate(terms)

    @cached_property
    def deltas(self) -> dict[int, Array]:
        """δ of each line, (T, …); of a parameter its sum over steps."""
        backward, trace = self.backward, self.trace
        ends = [line.delta for line in backward.lines]
        forward = {node.number for node in reachable(trace.after.values())}
        nodes = [
            n for n in reachable([*ends, *backward.deltas.values()]) if n.number not in forward
        ]
        run = phase(nodes, [*ends, *backward.deltas.values()])
        arriving = dict(self.of_final)
        found: list[dict[int, Array]] = []
        first = next(iter(trace.after))
        for t, known in reversed(list(enumerate(self.run()))):
            arriving[first] = arriving[first] + self.of_output[t]
            given = known | {n.number: arriving[name] for name, n in backward.arriving.items()}
            own = run(given) | given
            found.insert(0, own)
            arriving = {
                name: np.broadcast_to(own[node.number], (1, *node.shape))
                for name, node in backward.deltas.items()
            }
        sums = {line.delta.number for line in backward.lines if not line.of.batched}
        stacked = {n.number: np.stack([own[n.number] for own in found]) for n in ends}
        return {k: a.sum(axis=0) if k in sums else a[:, 0] for k, a in stacked.items()}

    def check(self) -> Iterator[LineCheck]:
        """Each line of the backward pass beside numerical derivatives."""
        altered = self._altered()
        for line in self.backward.lines:
            value = self.deltas[line.delta.number]
            shown = value[SHOWN_STEP] if line.of.batched else value
            entry = np.unravel_index(int(np.abs(shown).argmax()), shown.shape or (1,))
            index = tuple(int(k) for k in entry)[: shown.ndim]
            if line.of.number in altered:
                yield LineCheck(line, float(shown[index]), np.nan, index, 0.0, 0.0)
                continue
            step = SHOWN_STEP if line.of.batched else -1
            found = [self._numerical(line.of, step, k) for k in np.ndindex(*shown.shape)]
            numerical, errors = np.array(found).T
            size = float(np.linalg.norm(numerical)) or 1.0
            yield LineCheck(
                line,
                float(shown[index]),
                float(numerical.reshape(shown.shape)[index]),
                index,
                float(np.linalg.norm(shown.ravel() - numerical)) / size,
                float(np.linalg.norm(errors)) / size,
            )

    def _numerical(self, node: Node, step: int, entry: tuple[int, ...]) -> tuple[float, float]:
        move = np.zeros(node.shape if step < 0 else (1, *node.shape))
        move[tuple(entry) if step < 0 else (0, *entry)] = 1.0

        def along(distance: float) -> Array:
            return self.loss({(node.number, step): distance * move})

        with np.errstate(over="ignore", invalid="ignore"):  # far moves, of an exponential
            found = derivative(along, 0.0)
        return found.value, found.error

    def _altered(self) -> set[int]:
        """Values that reach the loss past a stopped gradient, or past a surrogate slope.

        Through the states they reach later steps, so that it is all values that lead there.
        """
        nodes = reachable(self.trace.after.values())
        stops = [n for n in nodes if n.operation in ("stop_gradient", "surrogate")]
        if not stops:
            return set()
        before = {n.number for n in reachable(stops)}
        if any(n.number in before for n in self.trace.states.values()):
            return {n.number for n in nodes}
        return before
