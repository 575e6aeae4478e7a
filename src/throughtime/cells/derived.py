"""A cell from its forward equations alone: everything else is derived from them."""

from __future__ import annotations

import inspect
import math
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from throughtime.arrays import PRECISIONS, Array, Shape, positive, precision, refuse
from throughtime.cells.compiled_derived import Twin
from throughtime.cells.recurrence import Cell, dtype_of
from throughtime.cells.step_equations import StepEquations
from throughtime.cells.tape import Kept, LocalGradients, State, Tape
from throughtime.codegen import SETTING, Unavailable, multiplies_by_parameters_alone, say
from throughtime.engine_settings import in_bfloat16, use_compiled
from throughtime.equations import (
    BackwardPass,
    EquationError,
    LinearStep,
    Node,
    StepProgram,
    dense,
    derive_backward,
    program,
    trace,
)

Step = Callable[..., Any]
SIZE = re.compile(r"(\d*)([A-Z]?)")


def cell(step: None = None, /, **shapes: str) -> Callable[[Step], CellDefinition]:
    """Makes a cell of the forward equations of one step, for one sequence.

    The decorated function takes the input, the states before the step and the parameters, and
    returns the states after the step; the first of them is the output. It is written in NumPy, with
    `tt.sigmoid` and the like. The backward pass is derived from it, and the batch is added.

    Args:
        shapes: of each parameter, with sizes for the axes: I inputs, H units, and other letters
            that the cell is then called with. "4H I" is a matrix (4H, I), "H" a vector, "" a single
            number. A state has the shape "H" and the input "I", unless theirs are given too.

    Returns:
        a definition; called with I and H it gives a cell for a `Network`.

    Raises:
        EquationError: when the cell is made, where the step does something that cannot be derived.

    Example:
        >>> import numpy as np
        >>> import throughtime as tt
        >>> @tt.cell(W="H I", U="H H", b="H")
        ... def elman(x, h, W, U, b):
        ...     return np.tanh(W @ x + U @ h + b)
        >>> elman(3, 4).shapes()
        {'W': (4, 3), 'U': (4, 4), 'b': (4,)}
        >>> net = tt.Network([elman(3, 4), tt.Dense(4, 2)], loss=tt.MeanSquaredError())
    """
    if step is not None:
        way_out = 'write @tt.cell(W="H I", …), with parentheses'
        refuse("cell", "the shapes of the parameters", repr(step), way_out, error=TypeError)
    for name, shape in shapes.items():
        if not isinstance(shape, str):
            refuse(f"cell: {name}", 'a shape such as "4H I"', repr(shape), error=TypeError)
        for size in shape.split():
            if not all(SIZE.fullmatch(term) and term for term in size.split("+")):
                refuse(f"cell: {name}", 'sizes such as "4H", "I" or "H+1"', repr(size))
    return lambda step: CellDefinition(step, dict(shapes))


class CellDefinition:
    """The equations of a cell, for any sizes.

    Args:
        step: the forward equations.
        shapes: of the parameters, and of what has another shape than usual, in letters.
    """

    def __init__(self, step: Step, shapes: Mapping[str, str]) -> None:
        if not inspect.isfunction(step):
            refuse("cell", "a function", repr(step), error=TypeError)
        names = list(inspect.signature(step).parameters)
        unknown = [name for name in shapes if name not in names]
        if unknown:
            expected = f"shapes of arguments of {step.__name__}, which are {', '.join(names)}"
            refuse("cell", expected, ", ".join(unknown))
        self.step, self.shapes, self.input_name = step, dict(shapes), names[0]
        # A lambda has no name that code could be printed with.
        self.__name__ = step.__name__ if step.__name__.isidentifier() else "cell"
        self.__doc__, self.__module__, self.__qualname__ = (
            step.__doc__,
            step.__module__,
            step.__qualname__,
        )
        self.__wrapped__ = step
        self._programs = lru_cache(maxsize=64)(self._compiled)
        self.twins: dict[Any, Twin | str] = {}
        self.equations = lru_cache(maxsize=64)(self._equations)

    def __reduce__(self) -> Any:
        """By the place where it is defined, as a function is; without one by its function."""
        module: Any = sys.modules.get(self.__module__)
        if self.__module__ != "__main__" and getattr(module, self.__qualname__, None) is self:
            return self.__qualname__
        return CellDefinition, (self.step, self.shapes)

    def __copy__(self) -> CellDefinition:
        return self

    def __deepcopy__(self, _: Any) -> CellDefinition:
        return self

    def __repr__(self) -> str:
        return f"<cell {self.__name__}{inspect.signature(self.step)}>"

    def __call__(
        self, inputs: int, units: int, *, bidirectional: bool = False, **others: int
    ) -> DerivedCell:
        """A cell of these equations.

        Args:
            inputs: I.
            units: H.
            bidirectional: whether a layer made of it also runs backwards.
            others: the sizes of other letters in the shapes.
        """
        given = {"I": inputs, "H": units, **others}
        for letter, size in given.items():
            positive(f"{self.__name__}: {letter}", size)
        shape = self.shape(self.shapes.get(self.input_name, "I"), given)
        if len(shape) != 1:
            raise EquationError(f"{self.__name__}: the input must be a vector, not {shape}")
        (width,) = shape
        return DerivedCell(
            width,
            units,
            bidirectional=bidirectional,
            definition=self,
            given=tuple(sorted(given.items())),
        )

    def compiled(self, given: tuple[tuple[str, int], ...]) -> tuple[BackwardPass, StepProgram]:
        """The derived backward pass, and both passes compiled, for given sizes."""
        return self._programs(given)

    def derived(self, given: tuple[tuple[str, int], ...]) -> BackwardPass:
        """The derived backward pass, in a graph that nothing else has."""
        own = dict(given)
        shapes = {name: self.shape(shape, own) for name, shape in self.shapes.items()}
        x = shapes.pop(self.input_name, (own["I"],))
        return derive_backward(trace(self.step, x, shapes, (own["H"],)))

    def _compiled(self, given: tuple[tuple[str, int], ...]) -> tuple[BackwardPass, StepProgram]:
        try:
            backward = self.derived(given)
            return backward, program(backward)
        except RecursionError as problem:
            raise EquationError(
                f"{self.__name__}: too many operations follow one another in a step; "
                "give the values between them names, or write a shorter loop"
            ) from problem

    def _equations(self, given: tuple[tuple[str, int], ...]) -> StepEquations:
        """The equations for given sizes, as what depends on the cell alone reads them."""
        backward, own = self._programs(given)
        names = {n.number: backward.names.get(n.number, f"{n!r}") for n in own.kept}
        kept = {names[node.number]: node for node in own.kept}
        return StepEquations(backward, kept, LinearStep(backward, own.frontier), own.frontier)

    def shape(self, text: str, given: Mapping[str, int]) -> Shape:
        """A shape in numbers."""
        return tuple(sum(self._size(t, given) for t in size.split("+")) for size in text.split())

    def _size(self, term: str, given: Mapping[str, int]) -> int:
        count, letter = SIZE.fullmatch(term).groups()  # type: ignore[union-attr]
        if letter and letter not in given:
            refuse(f"{self.__name__}: {letter}", "a size", "none", f"give it: {letter}=…")
        return int(count or 1) * (given[letter] if letter else 1)


@dataclass(frozen=True, repr=False)
class DerivedCell(Cell):
    """A cell whose backward pass is derived from its forward equations.

    Args:
        definition: the equations.
        given: the sizes, by letter.
    """

    definition: CellDefinition = field(kw_only=True)
    given: tuple[tuple[str, int], ...] = field(kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        name = self.definition.__name__
        own = self.derivation.trace
        first, output = next(iter(own.states.items()))
        for what, node in (("input", own.inputs), (f"output {first}", output)):
            if len(node.shape) != 1:
                raise EquationError(f"{name}: the {what} must be a vector, not {node.shape}")
        if first != "h" and "h" in own.states:
            raise EquationError(
                f"{name}: the first state is the output, and it is {first}; let h come first"
            )

    def __repr__(self) -> str:
        given = dict(self.given)
        words = [str(given.pop("I")), str(given.pop("H")), *(f"{k}={n}" for k, n in given.items())]
        words += ["bidirectional=True"] * self.bidirectional
        return f"{self.definition.__name__}({', '.join(words)})"

    @property
    def title(self) -> str:
        return self.definition.__name__

    def __getstate__(self) -> dict[str, Any]:
        """Its fields alone: what is compiled from them is not pickled."""
        return {own.name: getattr(self, own.name) for own in fields(self)}

    @property
    def derivation(self) -> BackwardPass:
        """The derived backward pass."""
        return self.definition.compiled(self.given)[0]

    @cached_property
    def _program(self) -> StepProgram:
        return self.definition.compiled(self.given)[1]

    @property
    def equations(self) -> StepEquations:
        return self.definition.equations(self.given)

    def forward_values(self, p: Mapping[str, Array], tape: Tape) -> dict[int, Array]:
        before = {name: array[:-1] for name, array in tape.states.items()}
        known = self._of_step(tape.kept, before) | self._parameters(p)
        x = self.derivation.trace.inputs
        return known | {x.number: dense(tape.inputs, x.shape)}

    @cached_property
    def _states(self) -> dict[str, Node]:
        """The states before the step. The first is the output, which a network knows as h."""
        return dict(zip(self.state_sizes, self.derivation.trace.states.values(), strict=True))

    def shapes(self) -> dict[str, Shape]:
        return {name: node.shape for name, node in self.derivation.trace.parameters.items()}

    @cached_property
    def state_sizes(self) -> dict[str, int]:
        first, *others = self.derivation.trace.states.items()
        return {"h": _size(first[1])} | {name: _size(node) for name, node in others}

    @property
    def output_size(self) -> int:
        return self.state_sizes["h"]

    @cached_property
    def kept_names(self) -> tuple[str, ...]:
        names = self.derivation.names
        return tuple(names.get(node.number, f"{node!r}") for node in self._program.kept)

    @property
    def kept_size(self) -> int:
        return sum(_size(node) for node in self._program.kept)

    # --- the compiled twin ---

    @cached_property
    def multiplies_in_bfloat16(self) -> bool:
        """Whether all its products of matrices are of parameters with vectors of a step."""
        trace, own = self.derivation.trace, self.derivation
        ends = (*own.deltas.values(), *own.parameters.values())
        inputs = () if own.inputs is None else (own.inputs,)
        return multiplies_by_parameters_alone([*trace.after.values(), *ends, *inputs])

    @property
    def compiles_in_bfloat16(self) -> bool:
        return isinstance(self.twin(np.dtype(np.float32), bfloat16=True), Twin)

    def twin(self, dtype: np.dtype[Any], bfloat16: bool = False) -> Twin | str:
        """The compiled twin, or why there is none; compiled when it is first asked for.

        Args:
            dtype: float32 or float64.
            bfloat16: whether products of matrices are in bfloat16.
        """
        twins = self.definition.twins
        key = (self.given, dtype, bfloat16, os.environ.get(SETTING))
        if key not in twins:
            try:
                twins[key] = Twin(
                    self.definition.__name__,
                    f"{self!r}, {dtype},",
                    self.derivation,
                    self._program,
                    self.kept_names,
                    tuple(self.state_sizes),
                    dtype,
                    bfloat16,
                )
            except Unavailable as problem:
                twins[key] = str(problem)
                if not str(problem).startswith(f"{SETTING}="):
                    say(f"{self.definition.__name__} runs in NumPy: {problem}")
        return twins[key]

    def runs_as(self, dtype: object = "float32") -> str:
        """Whether the cell runs compiled, and with what; or in NumPy, and why.

        Example:
            >>> import numpy as np
            >>> import throughtime as tt
            >>> @tt.cell(W="H I", U="H H", b="H")
            ... def elman(x, h, W, U, b):
            ...     return np.tanh(W @ x + U @ h + b)
            >>> with tt.engine("readable"):
            ...     elman(3, 4).runs_as("float64")
            'readable: as the engine is set'
        """
        if not use_compiled():
            return "readable: as the engine is set"
        found = self.twin(precision(dtype))
        return f"readable: {found}" if isinstance(found, str) else found.about

    def _twin_for(self, dtype: np.dtype[Any]) -> Twin | None:
        if not use_compiled() or dtype not in PRECISIONS:
            return None
        bfloat16 = in_bfloat16() and dtype == np.float32 and self.multiplies_in_bfloat16
        found = self.twin(dtype, bfloat16)
        return None if isinstance(found, str) else found

    def forward(
        self,
        p: Mapping[str, Array],
        inputs: Array,
        state: State | None = None,
        lengths: Array | None = None,
    ) -> tuple[Array, State, Tape]:
        twin = self._twin_for(dtype_of(p, inputs))
        if twin is not None and twin.fits(p, inputs, state):
            return twin.forward(p, inputs, state, lengths)
        return super().forward(p, inputs, state, lengths)

    def backward(
        self,
        p: Mapping[str, Array],
        tape: Tape,
        doutputs: Array | None = None,
        dstate: State | None = None,
        *,
        need_inputs: bool = True,
        need_deltas: bool = True,
        gradient: Mapping[str, Array] | None = None,
    ) -> LocalGradients:
        twin = self._twin_for(dtype_of(p, tape.inputs))
        if twin is not None and twin.fits_backward(p, tape, doutputs, dstate):
            return twin.backward(p, tape, doutputs, dstate, need_inputs, gradient)
        wishes = {"need_inputs": need_inputs, "need_deltas": need_deltas}
        return super().backward(p, tape, doutputs, dstate, gradient=gradient, **wishes)

    # --- one pass ---

    def of_inputs(self, p: Mapping[str, Array], inputs: Array) -> Array:
        """What depends on the inputs alone, for every step: (T, B, ·)."""
        own = self._program
        known = self._parameters(p) | {self.derivation.trace.inputs.number: inputs}
        found = own.of_inputs(known) | known
        if self.derivation.trace.inputs in own.of_inputs.gives:
            x = self.derivation.trace.inputs
            found[x.number] = dense(inputs, x.shape)
        return _flat(found, own.of_inputs.gives, inputs.shape[:2], dtype_of(p, inputs))

    def step(self, p: Mapping[str, Array], z_x: Array, state: State) -> tuple[State, Kept]:
        """The forward equations."""
        own, lead, dtype = self._program, z_x.shape[:-1], z_x.dtype
        known = self._parameters(p) | _split(z_x, own.of_inputs.gives)
        known |= _by_number(self._states, state)
        found = own.step(known) | known
        after = self.derivation.trace.after.values()
        new = {
            name: _column(found[node.number], node, lead, dtype)
            for name, node in zip(self._states, after, strict=True)
        }
        kept = {
            name: _column(found[node.number], node, lead, dtype)
            for name, node in zip(self.kept_names, own.kept, strict=True)
        }
        return new, kept

    def step_backward(
        self, p: Mapping[str, Array], kept: Kept, before: State, dstate: State
    ) -> tuple[Array, State, State]:
        """The derived equations. In place of δz stands all that δ of parameters and x needs."""
        own, derivation = self._program, self.derivation
        lead, dtype = dstate["h"].shape[:-1], dstate["h"].dtype
        known = self._parameters(p) | self._of_step(kept, before)
        arriving = dict(zip(self._states, derivation.arriving.values(), strict=True))
        known |= _by_number(arriving, dstate)
        found = own.step_backward(known) | known
        dz = _flat(found, own.frontier, lead, dtype)
        dbefore, dafter = (
            {
                name: _column(found[node.number], node, lead, dtype)
                for name, node in zip(self._states, nodes.values(), strict=True)
            }
            for nodes in (derivation.deltas, own.after)
        )
        return dz, dbefore, dafter

    def parameter_gradients(
        self, p: Mapping[str, Array], tape: Tape, deltas: Mapping[str, Array]
    ) -> dict[str, Array]:
        """Σ over steps and sequences, derived too."""
        twin = self._twin_for(dtype_of(p, tape.inputs))
        if twin is not None and twin.fits_sums(p, tape, deltas["z"]):
            gradient = {name: np.zeros(array.shape, array.dtype) for name, array in p.items()}
            twin.add_parameters(p, tape, deltas["z"], gradient)
            return gradient
        own = self._program
        found = own.of_parameters(self._of_all_steps(p, tape, deltas))
        ends = self.derivation.parameters
        return {
            name: np.asarray(found[node.number], deltas["z"].dtype).reshape(p[name].shape)
            for name, node in ends.items()
        }

    def input_gradient(
        self, p: Mapping[str, Array], tape: Tape, deltas: Mapping[str, Array]
    ) -> Array:
        """δx for every step, (T, B, I)."""
        node, lead, dz = self.derivation.inputs, deltas["z"].shape[:-1], deltas["z"]
        if node is None:
            return np.zeros((*lead, self.inputs), dz.dtype)
        found = self._program.to_inputs(self._of_all_steps(p, tape, deltas))
        return _column(found[node.number], node, lead, dz.dtype)

    # --- what a phase is given ---

    def prepared(self, p: Mapping[str, Array]) -> dict[str, Array]:
        """Parameters, and what depends on them alone, so that no step computes it again."""
        shared = self._program.shared
        known = {node.number: p[name] for name, node in self.derivation.trace.parameters.items()}
        dtype = next(iter(p.values())).dtype if p else np.dtype(np.float64)
        found = {n: np.asanyarray(array) for n, array in shared(known).items()}
        # Constant arrays in the step are float64; the run is in the parameters' precision.
        kept = {n: a.astype(dtype) if a.dtype.kind == "f" else a for n, a in found.items()}
        return dict(p) | {f"{SHARED}{number}": array for number, array in kept.items()}

    def _parameters(self, p: Mapping[str, Array]) -> dict[int, Array]:
        shared = self._program.shared.gives
        if shared and f"{SHARED}{shared[0].number}" not in p:
            p = self.prepared(p)
        known = {node.number: p[name] for name, node in self.derivation.trace.parameters.items()}
        return known | {node.number: p[f"{SHARED}{node.number}"] for node in shared}

    def _of_step(self, kept: Mapping[str, Array], before: Mapping[str, Array]) -> dict[int, Array]:
        known = _by_number(self._states, before)
        for name, node in zip(self.kept_names, self._program.kept, strict=True):
            known[node.number] = _shaped(kept[name], node)
        return known

    def _of_all_steps(
        self, p: Mapping[str, Array], tape: Tape, deltas: Mapping[str, Array]
    ) -> dict[int, Array]:
        before = {name: array[:-1] for name, array in tape.states.items()}
        known = self._of_step(tape.kept, before) | self._parameters(p)
        known |= _split(deltas["z"], self._program.frontier)
        return known | {self.derivation.trace.inputs.number: tape.inputs}


# Names, among the parameters, of values that depend on parameters alone.
SHARED = "of parameters alone: "


def _size(node: Node) -> int:
    return math.prod(node.shape)


def _shaped(flat: Array, node: Node) -> Array:
    """(…, n) in the node's shape."""
    return flat if len(node.shape) == 1 else flat.reshape(*flat.shape[:-1], *node.shape)


def _column(value: Array, node: Node, lead: Shape, dtype: np.dtype[Any]) -> Array:
    """A value as (…, n), for every step and sequence."""
    if np.shape(value) != (*lead, *node.shape):
        value = np.broadcast_to(value, (*lead, *node.shape), subok=True)
    return np.asanyarray(value, dtype).reshape(*lead, _size(node))


def _flat(
    found: Mapping[int, Array], nodes: Sequence[Node], lead: Shape, dtype: np.dtype[Any]
) -> Array:
    """Values side by side, (…, n)."""
    columns = [_column(found[node.number], node, lead, dtype) for node in nodes]
    if len(columns) == 1:
        return columns[0]
    return np.concatenate(columns, axis=-1) if columns else np.zeros((*lead, 0), dtype)


def _split(flat: Array, nodes: Sequence[Node]) -> dict[int, Array]:
    """The values that `_flat` put side by side, by number."""
    known, start = {}, 0
    for node in nodes:
        stop = start + _size(node)
        known[node.number] = _shaped(flat[..., start:stop], node)
        start = stop
    return known


def _by_number(nodes: Mapping[str, Node], values: Mapping[str, Array]) -> dict[int, Array]:
    return {node.number: _shaped(values[name], node) for name, node in nodes.items()}
