"""Recurrent networks of many kinds, as equations that run on arrays and on the tape alike.

Rows are vectors: x (T, B, I), h (B, H). A `Network` describes the kind of a network, and a
`Rounding` describes which values are rounded on the way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from benchmarks.strangers.tape import Node, apply
from throughtime.arrays import Array
from throughtime.derivatives import rounded

tanh, sigmoid, relu, exp, log, sqrt, square, stack, join, log_softmax = (
    partial(apply, op)
    for op in (
        *("tanh", "sigmoid", "relu", "exp", "log"),
        *("sqrt", "square", "stack", "join", "log_softmax"),
    )
)

GATES = {
    "tanh": 1,
    "relu": 1,
    "layer norm": 1,
    "LSTM": 4,
    "peephole LSTM": 4,
    "projection LSTM": 4,
    "GRU": 3,
}
CELLS = tuple(GATES)
HEADS = ("none", "linear", "no bias", "two layers", "one output")
PLACES = ("states", "products", "branch", "everything", "weights")
NORM = 1e-5  # added to the variance in a layer norm


def total(a: Any, axis: Any = None) -> Any:
    """The sum over one axis, or over all axes."""
    return apply("total", a, axis)


def clip(a: Any, low: float, high: float) -> Any:
    """The values, limited to low … high."""
    return apply("clip", a, low, high)


def value_of(a: Any) -> Array:
    """The array of a node; an array is returned as it is."""
    return np.asarray(a.value if isinstance(a, Node) else a)


def softmax(z: Any, axis: int = -1, *, shifted: bool = True) -> Any:
    """The softmax over an axis; the largest entry is subtracted first, unless that is forgotten."""
    e = exp(z - value_of(z).max(axis, keepdims=True) if shifted else z)
    return e / _kept(total(e, axis), axis)


def _kept(a: Any, axis: int) -> Any:
    """A sum that keeps its axis, with length 1."""
    index: list[Any] = [slice(None)] * (value_of(a).ndim + 1)
    index[axis] = None
    return a[tuple(index)]


@dataclass(frozen=True)
class Rounding:
    """Which values are kept in a shorter format.

    Attributes:
        format: "" for none; "float32", "float16", "bfloat16"; "grid": multiples of 2^−bits;
            "int8": 255 multiples of a fixed unit, a different one for each tensor.
        place: "states": h and c after each step; "products": the results of the recurrent
            product; "branch": one gate, or the head's input; "weights": the weights as they enter
            the forward pass; "everything": all of these.
        bits: those of a grid.
    """

    format: str = ""
    place: str = "states"
    bits: int = 12

    def __str__(self) -> str:
        name = f"2^−{self.bits} grid" if self.format == "grid" else self.format
        return f"{name} {self.place}" if name else ""

    def at(self, place: str, value: Any, unit: float = 0.0) -> Any:
        """The value, rounded if this is a place where values are rounded."""
        if not self.format or place != self.place != "everything":
            return value
        if place == "weights" and self.format in ("float16", "bfloat16", "float32"):
            return apply("stored", value, FORMATS[self.format])
        if self.format == "grid":
            return apply("stored", value, partial(_on_grid, unit=2.0**-self.bits))
        if self.format == "int8":
            return apply("stored", value, partial(_on_grid, unit=unit))
        return apply("stored", value, FORMATS[self.format])


def _on_grid(a: Array, unit: float) -> Array:
    return np.asarray(np.rint(a / unit) * unit, a.dtype)


FORMATS: dict[str, Callable[[Any], Any]] = {
    "float32": lambda a: a.astype(np.float32),
    "float16": lambda a: a.astype(np.float16).astype(a.dtype),
    "bfloat16": lambda a: rounded(a, 8).astype(a.dtype),
}


@dataclass(frozen=True)
class Network:
    """The kind of a network.

    Attributes:
        cell: one of `CELLS`.
        layers: one layer, or two stacked layers.
        both_ways: whether every layer also runs backwards through time.
        embedding: whether inputs are rows of a table, chosen by indices that may repeat.
        attention: whether the answer is read from all steps, weighted by their product with the
            last one.
        head: one of `HEADS`.
        last: whether only the last step answers.
    """

    cell: str
    layers: int
    both_ways: bool
    embedding: bool
    attention: bool
    head: str
    last: bool

    def __str__(self) -> str:
        parts = [self.cell + " of 2 layers" * (self.layers > 1)]
        parts += ["both ways"] * self.both_ways + ["embedding"] * self.embedding
        parts += ["attention"] * self.attention
        parts += [f"head {self.head}", "last step" if self.last else "every step"]
        return ", ".join(parts)

    def width(self, H: int) -> int:
        """How many inputs the head has at each step."""
        directions = 1 + self.both_ways
        return directions * self.per_lane(H) * (1 + self.attention)

    def per_lane(self, H: int) -> int:
        """The number of hidden entries of one layer in one direction."""
        return max(1, H - 1) if self.cell == "projection LSTM" else H

    def lanes(self) -> list[str]:
        """The suffixes of the parameters' names, one for each layer and direction."""
        ways = ("", "r") if self.both_ways else ("",)
        return [f"{layer}{way}" for layer in range(1, self.layers + 1) for way in ways]

    def shapes(self, I: int, H: int, O: int, vocabulary: int) -> dict[str, tuple[int, ...]]:  # noqa: E741
        """The shape of every parameter."""
        G, P = GATES[self.cell], self.per_lane(H)
        found: dict[str, tuple[int, ...]] = {}
        if self.embedding:
            found["E"] = (vocabulary, I)
        for lane in self.lanes():
            wide = I if lane[0] == "1" else P * (1 + self.both_ways)
            own: dict[str, tuple[int, ...]] = {
                "W": (wide, G * H),
                "U": (P, G * H),
                "b": (G * H,),
            }
            own |= {"c": (H,)} if self.cell == "GRU" else {}
            own |= {"p": (3, H)} if self.cell == "peephole LSTM" else {}
            own |= {"R": (H, P)} if self.cell == "projection LSTM" else {}
            own |= {"g": (H,)} if self.cell == "layer norm" else {}
            found |= {name + lane: shape for name, shape in own.items()}
        seen = P * (1 + self.both_ways)
        if self.attention:
            found["A"] = (seen, seen)
        seen *= 1 + self.attention
        if self.head == "two layers":
            found |= {"V0": (seen, H), "d0": (H,)}
            seen = H
        if self.head != "none":
            found["V"] = (seen, O)
        if self.head not in ("none", "no bias"):
            found["d"] = (O,)
        return found

    def answers(
        self, p: Mapping[str, Any], inputs: Array, start: Callable[[str], Array], to: Rounding
    ) -> Any:
        """The answers of the network: (T, B, O), or (1, B, O) of the last step.

        Args:
            p: parameters by name, arrays or nodes.
            inputs: (T, B, I), or (T, B) indices of rows.
            start: h₀ or c₀ (B, ·) by name and lane.
            to: what is rounded.
        """
        xs = p["E"][inputs] if self.embedding else inputs
        for layer in range(1, self.layers + 1):
            ways = [self._lane(p, f"{layer}", xs, start, to)]
            if self.both_ways:
                back = self._lane(p, f"{layer}r", xs[::-1], start, to)
                ways.append(back[::-1])
            xs = join(*ways) if self.both_ways else ways[0]
        if self.attention:
            xs = _attended(xs, p["A"])
        elif self.last:
            xs = xs[-1:]
        return self._headed(p, xs, to)

    def _lane(
        self, p: Mapping[str, Any], lane: str, xs: Any, start: Callable[[str], Array], to: Rounding
    ) -> Any:
        own = {name[0]: a for name, a in p.items() if name[1:] == lane}
        zs = xs @ own["W"] if self.cell == "layer norm" else xs @ own["W"] + own["b"]
        h, c, hs = start("h" + lane), start("c" + lane), []
        for t in range(value_of(xs).shape[0]):
            h, c = STEPS[self.cell](own, zs[t], h, c, to)
            h = to.at("states", h)
            hs.append(h)
        return stack(*hs)

    def _headed(self, p: Mapping[str, Any], xs: Any, to: Rounding) -> Any:
        if self.head == "none":
            return xs
        if self.head == "two layers":
            xs = tanh(xs @ p["V0"] + p["d0"])
        y = xs @ p["V"]
        return y if self.head == "no bias" else y + p["d"]


def _attended(hs: Any, A: Any) -> Any:
    """The last state and a mean of all, weighted by a softmax of h_t · A h_T: (1, B, 2·H)."""
    scores = total(hs * (hs[-1] @ A), -1)  # (T, B)
    weights = softmax(scores, 0)
    return join(hs[-1:], total(hs * weights[..., None], 0)[None])


def _elman(p: Mapping[str, Any], z: Any, h: Any, c: Any, to: Rounding, phi: Any = tanh) -> Any:
    z = to.at("products", z + h @ p["U"])
    return phi(to.at("branch", z)), c


def _layer_norm(p: Mapping[str, Any], z: Any, h: Any, c: Any, to: Rounding) -> Any:
    z = to.at("products", z + h @ p["U"])
    width = value_of(z).shape[-1]
    away = z - _kept(total(z, -1) / width, -1)
    variance = _kept(total(square(away), -1) / width, -1)
    return tanh(away / sqrt(variance + NORM) * p["g"] + p["b"]), c


def _lstm(p: Mapping[str, Any], z: Any, h: Any, c: Any, to: Rounding) -> Any:
    z = to.at("products", z + h @ p["U"])
    H = value_of(c).shape[-1]
    a, gates = to.at("branch", tanh(z[:, :H])), sigmoid(z[:, H:])
    i, f, o = gates[:, :H], gates[:, H : 2 * H], gates[:, 2 * H :]
    c = to.at("states", i * a + f * c)
    h = o * tanh(c)
    return (h @ p["R"] if "R" in p else h), c


def _peephole(p: Mapping[str, Any], z: Any, h: Any, c: Any, to: Rounding) -> Any:
    z = to.at("products", z + h @ p["U"])
    H, P = value_of(c).shape[-1], p["p"]
    a = to.at("branch", tanh(z[:, :H]))
    i, f = sigmoid(z[:, H : 2 * H] + c * P[0]), sigmoid(z[:, 2 * H : 3 * H] + c * P[1])
    c = to.at("states", i * a + f * c)
    return sigmoid(z[:, 3 * H :] + c * P[2]) * tanh(c), c


def _gru(p: Mapping[str, Any], z: Any, h: Any, c: Any, to: Rounding) -> Any:
    H = value_of(h).shape[-1]
    u = to.at("products", h @ p["U"])
    r, k = sigmoid(z[:, :H] + u[:, :H]), sigmoid(z[:, H : 2 * H] + u[:, H : 2 * H])
    n = to.at("branch", tanh(z[:, 2 * H :] + r * (u[:, 2 * H :] + p["c"])))
    return n + k * (h - n), c


STEPS: dict[str, Callable[..., Any]] = {
    "tanh": _elman,
    "relu": partial(_elman, phi=relu),
    "layer norm": _layer_norm,
    "LSTM": _lstm,
    "projection LSTM": _lstm,
    "peephole LSTM": _peephole,
    "GRU": _gru,
}
