"""What a cell says about itself, as data.

Whoever needs to know a cell's gates, parameters, states or options reads them here, and nowhere
asks which cell it is. A cell's file holds this description beside its equations.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Literal

from throughtime.arrays import Shape, sizes

Activation = Literal["sigmoid", "tanh", "relu"]

# What a gate is for. The input gate scales what is written, the forget gate what is kept, the
# output gate what is shown; the candidate is what is written; an open update gate keeps the old
# state and a closed one takes the candidate; the reset gate scales the state that the candidate
# sees.
Role = Literal["input", "forget", "output", "candidate", "update", "reset"]


@dataclass(frozen=True)
class GateSpec:
    """A gate, which is H rows of W, U and b.

    Attributes:
        letter: its name, a single letter.
        role: what it is for.
        activation: what its pre-activation passes through; a cell with an option for it says so
            in `activations`.
    """

    letter: str
    role: Role
    activation: Activation


@dataclass(frozen=True)
class ParameterSpec:
    """A parameter.

    Attributes:
        name: as it is called in the equations.
        shape: a size for each axis: I inputs, H units, P outputs, G gates, as "I", "3H" or "GH".
        option: the option without which the cell does not have it; "" if it always does.
    """

    name: str
    shape: tuple[str, ...]
    option: str = ""


@dataclass(frozen=True)
class StateSpec:
    """A part of the state that is carried from step to step.

    Attributes:
        name: "h" is the output; an LSTM also has "c".
        size: as in `ParameterSpec.shape`.
        gates: letters of the gates that it is computed from directly.
    """

    name: str
    size: str
    gates: str


@dataclass(frozen=True)
class OptionSpec:
    """An option that changes the equations.

    Attributes:
        name: the argument.
        values: the values worth telling apart, by a word for each; the default comes first and
            its word may be "". `SOME_SIZE` stands for any number of outputs.
    """

    name: str
    values: Mapping[str, object]


SOME_SIZE: Any = object()


@dataclass(frozen=True)
class CellDescription:
    """The data of a cell, without its equations.

    Class attributes, which every cell gives or inherits:
        gate_specs: its gates, in the order of the rows of W, U and b.
        parameter_specs: its parameters, those that depend on an option included.
        state_specs: its state, "h" first.
        option_specs: the options that change the equations.
        kept: what a step keeps for its backward pass, each (B, H).
        engine_number: of its compiled twin; None if there is none. A derived class does not
            inherit the twin.
        gates: the gates' letters, which follow from `gate_specs`.
    """

    inputs: int
    units: int
    bidirectional: bool = field(default=False, kw_only=True)

    gate_specs: ClassVar[tuple[GateSpec, ...]] = ()
    parameter_specs: ClassVar[tuple[ParameterSpec, ...]] = (
        ParameterSpec("W", ("GH", "I")),
        ParameterSpec("U", ("GH", "P")),
        ParameterSpec("b", ("GH",)),
    )
    state_specs: ClassVar[tuple[StateSpec, ...]] = ()
    option_specs: ClassVar[tuple[OptionSpec, ...]] = ()
    kept: ClassVar[tuple[str, ...]] = ()
    engine_number: ClassVar[int | None] = None
    gates: ClassVar[str] = ""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.gates = "".join(gate.letter for gate in cls.gate_specs)

    def __post_init__(self) -> None:
        sizes(self, "inputs", "units")

    @property
    def title(self) -> str:
        """What the cell is called in messages."""
        return type(self).__name__

    @property
    def output_size(self) -> int:
        """Size of h_t in one direction."""
        return self.units

    @cached_property
    def state_sizes(self) -> dict[str, int]:
        """Size of each part of the state."""
        return {state.name: self._size(state.size) for state in self.state_specs}

    def shapes(self) -> dict[str, Shape]:
        """Name and shape of every parameter; rows gate by gate, in the order of `gates`."""
        return {
            parameter.name: tuple(self._size(size) for size in parameter.shape)
            for parameter in self.parameter_specs
            if not parameter.option or getattr(self, parameter.option)
        }

    @property
    def activations(self) -> dict[str, Activation]:
        """What each gate's pre-activation passes through, by letter."""
        return {gate.letter: gate.activation for gate in self.gate_specs}

    @classmethod
    def kept_with(cls, **options: object) -> tuple[str, ...]:
        """What a step keeps with these options, in the order of the compiled twin's columns."""
        return cls.kept

    @cached_property
    def kept_names(self) -> tuple[str, ...]:
        """What a step keeps with this cell's options."""
        return self.kept_with(**{own.name: getattr(self, own.name) for own in self.option_specs})

    @property
    def kept_size(self) -> int:
        """How many numbers a step keeps for each sequence."""
        return len(self.kept_names) * self.units

    @property
    def engine_options(self) -> dict[str, bool]:
        """The options as the compiled twin names them."""
        return {}

    def gates_of(self, *roles: Role) -> str:
        """Letters of the gates with one of these roles, in the order of `gates`."""
        return "".join(gate.letter for gate in self.gate_specs if gate.role in roles)

    def _size(self, text: str) -> int:
        count, letter = text[:-1], text[-1]
        size = {"I": self.inputs, "H": self.units, "P": self.output_size}[letter]
        return size * (len(self.gate_specs) if count == "G" else int(count or 1))
