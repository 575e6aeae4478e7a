"""The layers of a network as C: what a step does in each, forward and backward.

A layer is given the names of its input and output as C expressions, and writes the statements of
one step of one sequence. Parameters and their gradients are parts of two flat vectors.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field

from throughtime.arrays import Shape
from throughtime.equations import BackwardPass, Dialect, StepInC


@dataclass
class LayerInC(ABC):
    """A layer.

    Attributes:
        name: by which its arrays are known, such as "layer0".
        inputs, outputs: sizes.
        offsets: where each parameter begins in the flat vector.
        dialect: in which precision.
    """

    name: str
    inputs: int
    outputs: int
    offsets: Mapping[str, int]
    dialect: Dialect

    def states(self) -> dict[str, int]:
        """Names and sizes of its states."""
        return {}

    def kept(self) -> dict[str, int]:
        """Names and sizes of what a step keeps for its backward pass."""
        return {}

    def functions(self) -> list[str]:
        """Functions that its statements call."""
        return []

    @abstractmethod
    def forward(self, x: str, y: str) -> list[str]:
        """From the input x to the output y."""

    @abstractmethod
    def backward(self, x: str, dy: str, dx: str) -> list[str]:
        """From δ of the output to δ of the input; the gradient is added to."""

    def at(self, parameter: str, of: str = "parameters") -> str:
        """A parameter, or its gradient, as an address."""
        start = self.offsets[parameter]
        return f"{of} + {start}" if start else of


@dataclass
class DenseInC(LayerInC):
    """y = W x + b."""

    def forward(self, x: str, y: str) -> list[str]:
        bias = f"({self.at('b')})[i]" if "b" in self.offsets else "0"
        return [
            f"for (i = 0; i < {self.outputs}; i++) {{",
            f"    {self.dialect.real} sum = {bias};",
            f"    const {self.dialect.real} *row = {self.at('W')} + i * {self.inputs};",
            f"    for (j = 0; j < {self.inputs}; j++) sum += row[j] * {x}[j];",
            f"    {y}[i] = sum;",
            "}",
        ]

    def backward(self, x: str, dy: str, dx: str) -> list[str]:
        n, real, gradient = self.inputs, self.dialect.real, self.at("W", "gradient")
        bias = [f"    ({self.at('b', 'gradient')})[i] += d;"] if "b" in self.offsets else []
        return [
            f"for (j = 0; j < {n}; j++) {dx}[j] = 0;",
            f"for (i = 0; i < {self.outputs}; i++) {{",
            f"    const {real} d = {dy}[i], *w = {self.at('W')} + i * {n};",
            f"    {real} *row = {gradient} + i * {n};",
            f"    for (j = 0; j < {n}; j++) {{",
            f"        {dx}[j] += d * w[j];",
            f"        row[j] += d * {x}[j];",
            "    }",
            *bias,
            "}",
        ]


@dataclass
class EmbeddingInC(LayerInC):
    """The row of E that a one-hot vector chooses, or a mixture of rows."""

    def forward(self, x: str, y: str) -> list[str]:
        return [
            f"for (j = 0; j < {self.outputs}; j++) {y}[j] = 0;",
            f"for (i = 0; i < {self.inputs}; i++)",
            f"    if ({x}[i] != 0)",
            f"        for (j = 0; j < {self.outputs}; j++)",
            f"            {y}[j] += {x}[i] * ({self.at('E')})[i * {self.outputs} + j];",
        ]

    def backward(self, x: str, dy: str, dx: str) -> list[str]:
        n, gradient = self.outputs, self.at("E", "gradient")
        return [
            f"for (i = 0; i < {self.inputs}; i++) {{",
            f"    {dx}[i] = 0;",
            f"    for (j = 0; j < {n}; j++) {{",
            f"        {dx}[i] += ({self.at('E')})[i * {n} + j] * {dy}[j];",
            f"        if ({x}[i] != 0) ({gradient})[i * {n} + j] += {x}[i] * {dy}[j];",
            "    }",
            "}",
        ]


@dataclass
class CellInC(LayerInC):
    """A recurrent cell, from the derivation of its step."""

    derivation: BackwardPass = field(kw_only=True)
    prefix: str = field(kw_only=True)  # of its functions

    def __post_init__(self) -> None:
        self.step = StepInC(self.derivation, self.prefix, self.dialect, static=True)
        sizes = {s: math.prod(n.shape) for s, n in self.derivation.trace.states.items()}
        self.sizes: dict[str, int] = sizes

    def states(self) -> dict[str, int]:
        return {f"{self.name}_{state}": size for state, size in self.sizes.items()}

    def kept(self) -> dict[str, int]:
        return {f"{self.name}_{word}": math.prod(shape) for word, shape in self.step.kept.items()}

    def functions(self) -> list[str]:
        return [self.step.forward, self.step.backward]

    @property
    def output(self) -> str:
        """The state that is the output."""
        return next(iter(self.states()))

    def _known(self, x: str) -> dict[str, str]:
        step = self.step
        known = {step.inputs: x}
        known |= {word: f"before->{self.name}_{s}" for s, word in step.before.items()}
        known |= {word: self.at(p) for p, word in step.parameters.items()}
        known |= {word: f"after->{self.name}_{s}" for s, word in step.after.items()}
        return known | {word: f"kept->{self.name}_{word}" for word in step.kept}

    def forward(self, x: str, y: str) -> list[str]:
        known = self._known(x)
        arguments = [known[word] for word in self.step.forward_arguments]
        return called(f"{self.prefix}_step", arguments)

    def backward(self, x: str, dy: str, dx: str) -> list[str]:
        step, known = self.step, self._known(x)
        output, first = self.output, next(iter(self.sizes))
        known |= {word: f"later->{self.name}_{s}" for s, word in step.arriving.items()}
        known |= {word: f"earlier->{self.name}_{s}" for s, word in step.earlier.items()}
        known |= {word: self.at(p, "gradient") for p, word in step.gradients.items()}
        if step.dinputs:
            known[step.dinputs] = dx
        arguments = [known[word] for word in step.backward_arguments]
        return [
            f"for (i = 0; i < {self.sizes[first]}; i++) later->{output}[i] += {dy}[i];",
            *called(f"{self.prefix}_step_backward", arguments),
        ]


def called(function: str, arguments: list[str]) -> list[str]:
    """A call, in lines of a readable length."""
    lines, text = [], f"{function}("
    for k, argument in enumerate(arguments):
        word = argument + (", " if k + 1 < len(arguments) else ");")
        if len(text) + len(word) > 88:
            lines.append(text.rstrip())
            text = "        "
        text += word
    return [*lines, text]


def words_of(shape: Shape) -> str:
    """A shape in words: 20 × 5."""
    return " × ".join(map(str, shape)) or "1"
