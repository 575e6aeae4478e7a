"""How a program stores its weights: names, shapes, and a view for each gate's part of an array."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from corpus.notebooks.habits import NO_HEAD, WORDS, Habits
from throughtime.arrays import Array

Views = dict[str, Array]
Shapes = dict[str, tuple[int, ...]]

# Of W, U and b. One matrix a gate is called after the gate: the letters come from `LETTERS`.
EACH = (("W{}", "U{}", "b{}"), ("W_x{}", "W_h{}", "b_{}"), ("W{}x", "W{}h", "b{}"))
JOINED = (("W{}", "b{}"), ("W_{}", "b_{}"), ("w{}", "b{}"))
RNN = (("Wxh", "Whh", "bh"), ("Wax", "Waa", "ba"), ("U", "W", "b"), ("W_ih", "W_hh", "b_h"))
TWO = (("Wx", "Wh", "b"), ("W_ih", "W_hh", "b_ih"), ("W", "U", "b"))
ONE = (("W", "b"), ("Wlstm", "blstm"), ("weights", "bias"))
LETTERS: dict[str, tuple[dict[str, str], ...]] = {
    "LSTM": tuple({"f": "f", "i": "i", "g": letter, "o": "o"} for letter in "cga"),
    "GRU": tuple({"r": "r", "z": z, "n": n} for z, n in ("zh", "uc", "zn")),
    "RNN": ({"h": "h"},) * 3,
}
HEAD = (("Wy", "by"), ("Why", "by"), ("V", "c"), ("W_out", "b_out"))


def shapes(s: Habits) -> Shapes:
    """Name to shape, in the order of the program's dictionary."""
    cell: Shapes = {"E": (WORDS, s.I)} if s.embedding else {}
    for layer in range(s.layers):
        cell |= _layer_shapes(s, layer)
    head = _head_shapes(s)
    found = head | cell if s.head_first else cell | head
    return found | {"b_unused": (s.H,)} if s.unused else found


def views(s: Habits, arrays: Mapping[str, Array]) -> Views:
    """Parts of these arrays, each as a view.

    They are called "W f 0" (H, I), "U f 0" (H, H), "b f 0" (H,) with gate and layer, "p f 0" for
    peepholes, and "V", "c", "V1", "c1", "E" and "unused".
    """
    found: Views = {"E": arrays["E"]} if s.embedding else {}
    for layer in range(s.layers):
        found |= _layer_views(s, layer, arrays)
    for part, name in head_names(s).items():
        array = arrays[name]
        found[part] = _vector(array) if part[0] == "c" else _turned(s, array)
    if s.unused:
        found["unused"] = arrays["b_unused"]
    return found


def head_names(s: Habits) -> dict[str, str]:
    """What the head's parts are called, as far as it has them."""
    if s.head in NO_HEAD or s.head == "outside":
        return {}
    matrix, bias = HEAD[s.names % len(HEAD)]
    if s.head == "two layers":
        found = {"V1": "Wd1", "c1": "bd1", "V": "Wd2", "c": "bd2"}
    else:
        found = {"V": matrix, "c": bias}
    return {part: name for part, name in found.items() if s.biases or part[0] == "V"}


def layer_names(s: Habits, layer: int) -> dict[str, str]:
    """The names of a layer's arrays by part: "W f", "U f", "b f", or "W", "U", "b"; and "p f"."""
    end = "" if s.layers == 1 else str(layer + 1)
    found: dict[str, str] = {}
    if s.stored.startswith("gate by gate") or s.cell == "RNN":
        for gate in s.gates:
            letter = LETTERS[s.cell][s.names % 3][gate]
            if s.stored in ("gate by gate", "two"):
                chosen = RNN[s.names % len(RNN)] if s.cell == "RNN" else EACH[s.names % 3]
                names = dict(zip("WUb", chosen, strict=True))
            else:
                names = dict(zip("Wb", JOINED[s.names % 3], strict=True))
            found |= {f"{part} {gate}": name.format(letter) + end for part, name in names.items()}
    elif s.stored == "two":
        found |= {p: n + end for p, n in zip("WUb", TWO[s.names % 3], strict=True)}
    else:
        found |= {p: n + end for p, n in zip("Wb", ONE[s.names % 3], strict=True)}
    if s.variant == "peepholes":
        found |= {f"p {gate}": f"p{gate}" + end for gate in "fio"}
    return {part: name for part, name in found.items() if s.biases or part[0] != "b"}


def size_of_inputs(s: Habits, layer: int) -> int:
    """The number of inputs of a layer."""
    return s.I if layer == 0 else s.H


def _layer_shapes(s: Habits, layer: int) -> Shapes:
    size, n = size_of_inputs(s, layer), len(s.gates)
    joined = s.stored.endswith("]")
    found: Shapes = {}
    for part, name in layer_names(s, layer).items():
        rows = s.H if " " in part else n * s.H
        if part[0] == "p":
            found[name] = (s.H,)
        elif part[0] == "b":
            found[name] = (rows, 1) if s.columns else (rows,)
        else:
            inner = size + s.H if joined else size if part[0] == "W" else s.H
            found[name] = (rows, inner) if s.columns else (inner, rows)
    return found


def _layer_views(s: Habits, layer: int, arrays: Mapping[str, Array]) -> Views:
    size, found = size_of_inputs(s, layer), Views()
    order = s.gates
    for part, name in layer_names(s, layer).items():
        for k, gate in enumerate(order if " " not in part else part[-1]):
            rows = slice(None) if " " in part else slice(k * s.H, (k + 1) * s.H)
            end = f"{gate} {layer}"
            if part[0] in "bp":
                found[f"{part[0]} {end}"] = _vector(arrays[name])[rows]
                continue
            matrix = _turned(s, arrays[name])[rows]
            if not s.stored.endswith("]"):
                found[f"{part[0]} {end}"] = matrix
            elif "[x, h]" in s.stored:
                found |= {f"W {end}": matrix[:, :size], f"U {end}": matrix[:, size:]}
            else:
                found |= {f"W {end}": matrix[:, s.H :], f"U {end}": matrix[:, : s.H]}
    return found


def _head_shapes(s: Habits) -> Shapes:
    middle = s.H + 1
    inner = {"V1": (middle, s.H), "c1": (middle,), "V": (s.O, s.H), "c": (s.O,)}
    if s.head == "two layers":
        inner["V"] = (s.O, middle)
    found: Shapes = {}
    for part, name in head_names(s).items():
        shape = inner[part]
        if len(shape) == 1:
            found[name] = (*shape, 1) if s.columns else shape
        else:
            found[name] = shape if s.columns else shape[::-1]
    return found


def _turned(s: Habits, array: Array) -> Array:
    return array if s.columns else array.T


def _vector(array: Array) -> Array:
    """(n,) of (n,) or (n, 1), as a view."""
    return array if array.ndim == 1 else array[:, 0]


def parameters(s: Habits) -> dict[str, Array]:
    """All arrays, as the program begins with them: biases at 0, as most people's."""
    parts = {name: part for k in range(s.layers) for part, name in layer_names(s, k).items()}
    parts |= {name: part for part, name in head_names(s).items()}
    found = {}
    for place, (name, shape) in enumerate(shapes(s).items()):
        drawn = s.weights(place, shape)
        found[name] = (
            drawn * s.bias if parts.get(name, "E" if name == "E" else "b")[0] in "bc" else drawn
        )
    return found


def zeros(arrays: Mapping[str, Array]) -> dict[str, Array]:
    """A gradient to be added up."""
    return {name: np.zeros_like(array) for name, array in arrays.items()}
