"""`tt.derive`: the backward pass of a cell, to be read, with numbers beside each line."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import numpy as np

from throughtime.arrays import Shape, positive, precision, refuse
from throughtime.cells.derived import SIZE, CellDefinition, DerivedCell
from throughtime.cells.recurrence import Cell
from throughtime.cells.step_comparison import StepComparison, compare_step
from throughtime.codegen import CellInC, ProgramInC
from throughtime.equations import (
    PLAIN,
    SINGLE,
    TEXT,
    BackwardPass,
    Dialect,
    EquationError,
    LineCheck,
    LiveExample,
    Writer,
    Written,
    as_c,
    as_latex,
    as_numpy,
    as_text,
    derive_backward,
    trace_step,
)

# Small, and all different, so that no two axes are taken for one another.
NEEDS_EQUAL = "The step works only where I = H, as here; if it should not, an axis is turned round."
EXAMPLE_SIZES = {"I": 2, "H": 3}
OTHER_SIZES = (4, 5, 6, 7)
WINDOW = 32  # steps, as many as training cuts a text into by default


@dataclass(frozen=True)
class CellDerivation:
    """The backward pass of a cell, derived from its forward equations.

    Printed, it is the derivation as text, with each line's numerical check.

    Attributes:
        cell: the cell, with the sizes that it was derived for; a built-in one too.
        note: what has to be known of these sizes; "" where there is nothing.
    """

    cell: Cell
    note: str = ""

    @property
    def name(self) -> str:
        """The cell's name."""
        own = self.cell
        return own.definition.__name__ if isinstance(own, DerivedCell) else own.title.lower()

    @cached_property
    def backward(self) -> BackwardPass:
        """The derivation as a graph."""
        return whole_step(self.cell)

    @property
    def lines(self) -> list[Written]:
        """The lines of the backward pass."""
        return Writer(self.backward, TEXT).lines()

    @property
    def text(self) -> str:
        """Both passes as Unicode text."""
        return as_text(self.backward, self.name)

    @property
    def numpy(self) -> str:
        """Both passes as NumPy functions of one step, which run."""
        return as_numpy(self.backward, self.name)

    @property
    def c(self) -> StepsInC:
        """Both passes as C functions of one step, which compile; called, a whole file of C99.

        `c(steps=32, dtype="float32")` has a step for streams, with its state in a structure, a
        backward pass through a window of up to `steps` steps, and updates of the parameters.
        """
        return StepsInC(self)

    @property
    def latex(self) -> str:
        """Both passes as the rows of LaTeX's align*."""
        return as_latex(self.backward)

    def _repr_latex_(self) -> str:
        """What a notebook shows."""
        return self.latex

    @cached_property
    def checks(self) -> tuple[LineCheck, ...]:
        """Each line beside a numerical derivative, on three steps with numbers drawn at random."""
        return tuple(LiveExample(self.backward).check())

    @property
    def agrees(self) -> bool:
        """Whether every line agrees with its numerical derivative."""
        return all(check.agrees for check in self.checks)

    def checked(self) -> str:
        """The numerical check as text: a line of the derivation, two numbers, the difference."""
        writer = Writer(self.backward, TEXT)
        rows = [("", "value", "numerical", "difference")]
        for check in self.checks:
            entry = ", ".join(map(str, check.entry))
            name = writer.names[check.line.delta.number] + (f" [{entry}]" if entry else "")
            known = not math.isnan(check.numerical)
            numerical = f"{check.numerical:.9f}" if known else "none, since a slope is set"
            difference = f"{check.difference:.0e}" if known else ""
            mark = "" if check.agrees else "  differs"
            rows.append((name, f"{check.value:.9f}", numerical, difference + mark))
        width = max(len(row[0]) for row in rows)
        return "\n".join(
            f"    {name:{width}}  {value:>14}  {numerical:>14}  {difference:>10}".rstrip()
            for name, value, numerical, difference in rows
        )

    def compare(
        self,
        backward: Callable[..., Any],
        *,
        forward: Callable[..., Any] | None = None,
        seed: int = 0,
    ) -> StepComparison:
        """A backward pass of one step that is written by hand, beside this one.

        Args:
            backward: takes what it names: arguments of the step by their names, `dh` and so on for
                the derivatives with respect to the states after it, and at most one more, what
                `forward` kept. It returns the derivatives with respect to the step's arguments:
                a mapping from `dx`, `dh`, `dW` …, or all of them in the order of the arguments.
            forward: takes the step's arguments; its last result is handed to `backward`.
            seed: for the numbers that are drawn.

        Returns:
            a StepComparison: `.agrees`, `.differences` by gradient, and `.edits`: lines of the
            derivation as they would have to be; print it.

        Raises:
            TypeError, ValueError: where `backward` cannot be called so, or returns something else.

        Example:
            >>> import numpy as np
            >>> import throughtime as tt
            >>> @tt.cell(W="H I", U="H H", b="H")
            ... def elman(x, h, W, U, b):
            ...     return np.tanh(W @ x + U @ h + b)
            >>> def backward(dh, x, h, W, U, b):
            ...     dz = dh * (1 - np.tanh(W @ x + U @ h + b) ** 2)
            ...     return W.T @ dz, U @ dz, np.outer(dz, x), np.outer(dz, h), dz
            >>> print(tt.derive(elman).compare(backward).edits[0])
            derived:  dh_before = U.T @ dz
            yours is: dh_before = U @ dz
        """
        trace = self.backward.trace
        arguments = [trace.inputs.name, *trace.states, *trace.parameters]
        nodes = {trace.inputs.name: trace.inputs, **trace.states, **trace.parameters}
        shapes = {name: node.shape for name, node in nodes.items()}
        states = tuple(trace.states)
        return compare_step(self.numpy, arguments, states, shapes, backward, forward, seed)

    def __str__(self) -> str:
        return f"{self.text}\n{self.note}\n" if self.note else self.text


class StepsInC(str):
    """A derived step as two C functions; called, a file of C99 that runs and trains the cell."""

    def __new__(cls, derivation: CellDerivation) -> Self:
        made = super().__new__(cls, as_c(derivation.backward, derivation.name))
        made.derivation = derivation
        return made

    derivation: CellDerivation

    def __call__(self, *, steps: int = WINDOW, dtype: object = "float32") -> str:
        """A file of C99 without allocation or dependency but math.h.

        Args:
            steps: the longest window, which NAME_STEPS changes when the file is compiled.
            dtype: "float32" or "float64".
        """
        cell, name = self.derivation.cell, self.derivation.name
        dialect = SINGLE if precision(dtype) == np.float32 else PLAIN
        shapes = cell.shapes()
        layer = cell_in_c(cell, name, "cell", offsets(shapes), dialect)
        about = f"{cell!r}: its step, backward through a window, and updates of its parameters."
        steps = positive("steps", steps)
        return ProgramInC(name, about, [layer], shapes, dialect, steps).text()


def cell_in_c(
    cell: Cell, name: str, layer: str, places: Mapping[str, int], dialect: Dialect
) -> CellInC:
    """A cell as a layer of a file of C.

    Args:
        cell: in one direction.
        name: of the file's functions.
        layer: of the layer, with which its arrays begin.
        places: where its parameters begin in the flat vector.
        dialect: in which precision.
    """
    return CellInC(
        layer,
        cell.inputs,
        cell.output_size,
        places,
        dialect,
        derivation=whole_step(cell),
        prefix=f"{name}_{layer}",
    )


def offsets(shapes: Mapping[str, Shape]) -> dict[str, int]:
    """Where each parameter begins in the flat vector."""
    found, start = {}, 0
    for name, shape in shapes.items():
        found[name] = start
        start += math.prod(shape)
    return found


def whole_step(cell: Cell) -> BackwardPass:
    """The derived step of a cell from the input x itself; a built-in one begins at W x + b."""
    if isinstance(cell, DerivedCell):
        return cell.derivation

    def step(p: Mapping[str, Any], x: Any, state: Mapping[str, Any]) -> Any:
        return cell.step(p, p["W"] @ x + p["b"], dict(state))

    step.__wrapped__ = cell.step  # type: ignore[attr-defined]  # names are those of its locals
    states = {name: (size,) for name, size in cell.state_sizes.items()}
    found = trace_step(cell.title, step, ("x", (cell.inputs,)), states, cell.shapes())
    return derive_backward(found[0])


def derive(cell: CellDefinition | Cell | Callable[..., Any], **sizes: int) -> CellDerivation:
    """The backward pass of a cell, derived from its forward equations.

    Args:
        cell: what `tt.cell` made of them, or a cell with its sizes; a built-in one too, such as
            `tt.LSTM(2, 3, peepholes=True)`.
        sizes: I, H and what other letters stand for; small ones if not given.

    Raises:
        EquationError: where the step does something that cannot be derived, with its line.
        TypeError: for anything else than such a cell.

    Example:
        >>> import numpy as np
        >>> import throughtime as tt
        >>> @tt.cell(W="H I", U="H H", b="H")
        ... def elman(x, h, W, U, b):
        ...     return np.tanh(W @ x + U @ h + b)
        >>> print(tt.derive(elman))
        elman: one step forward
            z = W x_t + U h_{t−1} + b
            h_t = tanh(z)
        <BLANKLINE>
        One step backward; δh_t arrives
            δz = δh_t ⊙ (1 − h_t²)
            δh_{t−1} = Uᵀ δz
            δx_t = Wᵀ δz
            δW = Σ_t δz x_tᵀ
            δU = Σ_t δz h_{t−1}ᵀ
            δb = Σ_t δz
        <BLANKLINE>
        >>> tt.derive(elman).agrees
        True
    """
    if isinstance(cell, Cell):
        return CellDerivation(cell)
    if not isinstance(cell, CellDefinition):
        way_out = "decorate the step with @tt.cell, and give the shapes of its parameters"
        expected = "a cell that tt.cell made, or one with its sizes, such as tt.LSTM(2, 3)"
        refuse("derive", expected, repr(cell), way_out, error=TypeError)
    letters = {
        SIZE.fullmatch(term)[2]  # type: ignore[index]
        for shape in cell.shapes.values()
        for term in shape.replace("+", " ").split()
    } - {"", "I", "H"}
    given = EXAMPLE_SIZES | dict(zip(sorted(letters), OTHER_SIZES, strict=False)) | sizes
    try:
        return _derived(cell, given)
    except EquationError:
        if sizes.keys() & EXAMPLE_SIZES or given["I"] == given["H"]:
            raise
        # A step that adds its input to its output, or one that has an axis turned round.
        return replace(_derived(cell, given | {"I": given["H"]}), note=NEEDS_EQUAL)


def _derived(cell: CellDefinition, given: dict[str, int]) -> CellDerivation:
    others = {letter: size for letter, size in given.items() if letter not in EXAMPLE_SIZES}
    made = cell(given["I"], given["H"], **others)  # type: ignore[arg-type]  # sizes alone
    return CellDerivation(made)
