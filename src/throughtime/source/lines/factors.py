"""The factor by which an expression is right, as it can be written where the expression stands."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np

from throughtime.arrays import Array
from throughtime.source.lines.held import Variables
from throughtime.source.tolerances import FITS_NEARLY, MOST_FITTING

OPERANDS = ast.Name | ast.Attribute | ast.Subscript


class Factors:
    """Evaluates expressions at each step, and names factors by sizes that are there.

    Args:
        frames: the variables at each step.
        prefix: how NumPy is called.
    """

    def __init__(self, frames: Sequence[Variables], prefix: str = "np") -> None:
        self.frames, self.prefix = frames, prefix
        self._known: dict[str, tuple[Any, ...] | None] = {}

    def values(self, text: str) -> tuple[Any, ...] | None:
        """What an expression is at each step; None where it fails."""
        if text not in self._known:
            try:
                code = compile(text, "<part>", "eval")
                with np.errstate(all="ignore"):
                    self._known[text] = tuple(eval(code, {**f[0], **f[1]}) for f in self.frames)
            except Exception:  # whatever the user's own functions raise
                self._known[text] = None
        return self._known[text]

    def arrays(self, text: str) -> tuple[Array, ...] | None:
        """The same as arrays of finite numbers, with one number of axes."""
        found = self.values(text)
        if found is None:
            return None
        try:
            arrays = tuple(np.asarray(value, dtype=np.float64) for value in found)
        except (TypeError, ValueError):
            return None
        if len({a.shape for a in arrays}) != 1 or not all(np.isfinite(a).all() for a in arrays):
            return None
        return arrays

    def factors(self, text: str, wanted: Sequence[Array]) -> list[str]:
        """Factors, as they are written behind an expression, by which its values are right.

        Example: `" / len(x)"`.
        """
        values = self.arrays(text)
        if values is None or any(v.shape != w.shape for v, w in zip(values, wanted, strict=True)):
            return []
        own, target = flat(values), flat(tuple(wanted))
        square = float(own @ own)
        if not square:
            return []
        factor = float(own @ target) / square
        off = float(np.abs(factor * own - target).max(initial=0.0))
        if (
            off > FITS_NEARLY * float(np.abs(target).max(initial=0.0))
            or abs(factor - 1) < FITS_NEARLY
        ):
            return []
        return (
            self.named(factor, text) or self._over_root(text, factor) or self._of_base(factor, text)
        )

    def _over_root(self, text: str, factor: float) -> list[str]:
        """A factor that is one over the root of a mean of squares: the slope of such a loss.

        The squares are those of the difference that stands in the expression, at all steps.
        """
        found: list[str] = []
        for node in ast.walk(ast.parse(text, mode="eval")):
            if not isinstance(node, ast.BinOp) or not isinstance(node.op, ast.Sub):
                continue
            if not all(isinstance(side, OPERANDS) for side in (node.left, node.right)):
                continue
            one, other = (_without_index(ast.unparse(side)) for side in (node.left, node.right))
            root = f"{self.prefix}.sqrt({self.prefix}.mean(({one} - {other})**2))"
            values = self.arrays(root)
            if values is None or values[0].shape or not values[0] or np.ptp(flat(values)):
                continue
            rest = factor * float(values[0])
            if abs(rest - 1) < FITS_NEARLY:
                found.append(f" / {root}")
            found += [f"{size} / {root}" for size in self.named(rest, text)]
        return found[:MOST_FITTING]

    def _of_base(self, factor: float, text: str) -> list[str]:
        """A factor that is one over the logarithm of a base: the slope of such a logarithm."""
        for base in (2, 10):
            rest = factor * float(np.log(base))
            log = f" / {self.prefix}.log({base})"
            if abs(rest - 1) < FITS_NEARLY:
                return [log]
            if found := self.named(rest, text):
                return [f"{size}{log}" for size in found]
        return []

    def named(self, factor: float, beside: str = "") -> list[str]:
        """How a factor can be written: by a number, a size, two sizes or three.

        Args:
            factor: the factor.
            beside: the expression that it is of: sizes of what stands in it come first.
        """

        def is_that(number: float) -> bool:
            return abs(number / factor - 1) < FITS_NEARLY

        if not factor:  # what should be 0 is no multiple
            return []
        own = {node.id for node in ast.walk(ast.parse(beside)) if isinstance(node, ast.Name)}
        sizes = self._sizes()
        first = [text for text in sizes if _root(text) in own - {"self"}]
        sizes = {text: sizes[text] for text in dict.fromkeys([*first, *sizes])}
        # Where an array has two entries, a mean is over these; else a half is what is written.
        found = [f" / {text}" for text in first if sizes[text] == 2 and is_that(0.5)]
        for text, number in ((" * -1", -1.0), (" * 2", 2.0), (" / 2", 0.5), (" * -2", -2.0)):
            if is_that(number):
                found.append(text)
        for text, size in sizes.items():
            if is_that(1 / size):
                found.append(f" / {text}")
            if is_that(size):
                found.append(f" * {text}")
        for one, a in sizes.items():
            if is_that(2 / a):
                found.append(f" * 2 / {one}")
            for other, b in sizes.items():
                if one < other and is_that(1 / (a * b)):
                    found.append(f" / ({one} * {other})")
                if one < other and is_that(2 / (a * b)):
                    found.append(f" * 2 / ({one} * {other})")
        shortest = {size: text for text, size in reversed(sizes.items())}
        if not found:
            for some in combinations(sorted(shortest), 3):
                if is_that(1 / float(np.prod(some))):
                    found.append(f" / ({' * '.join(shortest[n] for n in some)})")
        return list(dict.fromkeys(found))[:MOST_FITTING]

    def _sizes(self) -> dict[str, int]:
        """Whole numbers over 1: variables, then sizes of them, by what they are called."""
        found: dict[str, int] = {}
        variables = self.frames[0][1]
        lengths: dict[str, int] = {}
        for name, value in variables.items():
            if isinstance(value, int) and not isinstance(value, bool) and value > 1:
                found[name] = value
            elif isinstance(value, np.ndarray):
                for axis, size in enumerate(value.shape):
                    if size > 1:
                        lengths[f"{name}.shape[{axis}]"] = size
                if value.ndim > 1:
                    lengths[f"{name}.size"] = value.size
            elif isinstance(value, list | tuple | dict | str) and len(value) > 1:
                lengths[f"len({name})"] = len(value)
            elif hasattr(value, "__dict__"):
                for key, inner in vars(value).items():
                    if isinstance(inner, int) and not isinstance(inner, bool) and inner > 1:
                        lengths[f"{name}.{key}"] = inner
                    elif isinstance(inner, list | tuple | dict) and len(inner) > 1:
                        lengths[f"len({name}.{key})"] = len(inner)
                    elif isinstance(inner, np.ndarray):
                        for axis, size in enumerate(inner.shape):
                            if size > 1:
                                lengths[f"{name}.{key}.shape[{axis}]"] = size
        same = [frame[1] for frame in self.frames[1:]]
        found = {n: v for n, v in found.items() if all(f.get(n) == v for f in same)}
        return found | dict(sorted(lengths.items(), key=lambda item: len(item[0])))


def _root(text: str) -> str:
    """The variable of a size: `y` of `y.shape[0]` and of `len(y)`."""
    return re.split(r"[.\[)]", text.removeprefix("len("))[0]


def _without_index(text: str) -> str:
    """A variable of whose items one is named: `y[t - 1]` is one of `y`."""
    tree: ast.expr = ast.parse(text, mode="eval").body
    while isinstance(tree, ast.Subscript):
        tree = tree.value
    return ast.unparse(tree)


def flat(arrays: tuple[Array, ...]) -> Array:
    return np.concatenate([np.asarray(a).reshape(-1) for a in arrays])
