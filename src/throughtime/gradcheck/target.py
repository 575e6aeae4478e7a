"""A target: what can be checked. All that the checker sees is arrays and two functions."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from throughtime.arrays import Array, refuse
from throughtime.derivatives import CheckError
from throughtime.gradcheck.returned import (
    finite_gradient,
    finite_terms,
    gradient_arrays,
    loss_terms,
)

VARIANTS = ("scaled", "at_batch", "at_depth", "at_equal_lengths", "without_dropout")


@dataclass(frozen=True)
class Target:
    """A loss, its gradient, and the arrays that both depend on.

    Args:
        parameters: name to array, float32 or float64. The check changes them in place and puts
            them back, bit for bit; the functions must see these arrays.
        loss: the loss of a whole run from its initial state. Called as `loss()`, or as
            `loss(parameters)` where it takes an argument. It may return an array of terms, per
            step or per sequence, already weighted, so that their sum is the loss: the checker
            sums them in float64, which loses fewer digits.
        gradient: called in the same way; returns a mapping with the names and shapes of
            `parameters`.
        reset: called before every evaluation, where something must be put back.
        at_length: `at_length(T)` gives the same target on T steps.
        steps: T, the number of steps of this target.
        freeze: called wherever the check begins to look, before it moves a parameter: takes
            what has to stand still meanwhile. `tt.frozen` makes it.
        gates: how many blocks of rows the tensors consist of, 4 for an LSTM; the check looks at
            each of them by itself.
        bits: of the significand that the parameters are kept in, where their arrays hold more:
            8 for bfloat16, which NumPy lacks. They are moved by what so many bits can hold.
        layout: how the arrays hold a cell's matrices, and what the run was, from `tt.layouts`:
            lets the diagnosis compare the gradient with backward passes that have a fault each.
        variants: the same target with one thing changed, for the diagnosis to experiment with:
            `"scaled"`, a function of s, with s times the loss; `"at_batch"`, of B, on so many
            sequences; `"at_depth"`, of a number of layers; `"at_equal_lengths"` and
            `"without_dropout"`, of nothing.

    Raises:
        CheckError: where a parameter is no writable array of float32 or float64, or a variant
            is none of these.

    Example:
        >>> import numpy as np
        >>> import throughtime as tt
        >>> w = np.array([1.0, 2.0])
        >>> target = tt.Target({"w": w}, lambda: (w**3).sum(), lambda: {"w": 3 * w**2})
        >>> tt.check(target).verdict
        'agree'
    """

    parameters: Mapping[str, Array]
    loss: Callable[..., Any]
    gradient: Callable[..., Mapping[str, Array]]
    reset: Callable[[], object] | None = field(default=None, kw_only=True)
    at_length: Callable[[int], Target] | None = field(default=None, kw_only=True)
    steps: int | None = field(default=None, kw_only=True)
    freeze: Callable[[], object] | None = field(default=None, kw_only=True)
    gates: int | None = field(default=None, kw_only=True)
    bits: int | None = field(default=None, kw_only=True)
    layout: Any = field(default=None, kw_only=True)

    variants: Mapping[str, Callable[..., Target]] = field(default_factory=dict, kw_only=True)

    def __post_init__(self) -> None:
        for unknown in set(self.variants) - set(VARIANTS):
            expected = "of " + ", ".join(VARIANTS)
            refuse("variants", expected, repr(unknown), error=CheckError)
        if not self.parameters:
            refuse("parameters", "at least one named array", "none", error=CheckError)
        for name, array in self.parameters.items():
            what = f"parameters[{name!r}]"
            if not isinstance(array, np.ndarray) or array.dtype.kind != "f":
                kind = getattr(array, "dtype", type(array).__name__)
                refuse(what, "a NumPy array of float32 or float64", kind, error=CheckError)
            if not array.flags.writeable:
                way_out = "the check changes it in place: .copy()"
                refuse(what, "a writable array", "a read-only one", way_out, error=CheckError)
            if not np.isfinite(array).all():
                refuse(what, "finite numbers", "NaN or infinity", error=CheckError)


class Evaluator:
    """Evaluates a target's functions, counts, and refuses what no verdict could rest on.

    It is made where the parameters stand unmoved: what the target freezes is taken there.
    """

    def __init__(self, target: Target) -> None:
        self.target = target
        self.evaluations = 0
        self._loss_arguments = _arguments("loss", target)
        self._gradient_arguments = _arguments("gradient", target)
        if target.freeze is not None:
            self._reset()
            target.freeze()

    def terms(self) -> Array:
        """What the loss returns where the parameters stand now, as it comes: NaN passes."""
        self._reset()
        value = self.target.loss(*self._loss_arguments)
        self.evaluations += 1
        with _as_check_errors():
            return loss_terms(value)

    def loss(self) -> float:
        """The loss where the parameters stand now, its terms summed in float64."""
        return self.total(self.terms())

    def total(self, terms: Array) -> float:
        """The sum of the loss's terms, which is refused where it is not finite."""
        with np.errstate(over="ignore", invalid="ignore"):
            total = float(np.sum(terms, dtype=np.float64))
        if not np.isfinite(total):
            with _as_check_errors():
                finite_terms(terms, self.target.steps)
            refuse("loss", "a finite sum of its terms", total, error=CheckError)
        return total

    def gradient(self) -> dict[str, Array]:
        """The gradient under test, by name, copied."""
        self._reset()
        found = self.target.gradient(*self._gradient_arguments)
        with _as_check_errors():
            copies = gradient_arrays(found, self.target.parameters)
            finite_gradient(copies)
        return copies

    def _reset(self) -> None:
        if self.target.reset is not None:
            self.target.reset()


@contextmanager
def _as_check_errors() -> Iterator[None]:
    """What a function returned in the wrong form is a reason why the check could not run."""
    try:
        yield
    except ValueError as problem:
        raise CheckError(str(problem)) from None


def _arguments(name: str, target: Target) -> tuple[Any, ...]:
    """(parameters,) for a function that needs an argument, () for one that needs none."""
    try:
        signature = inspect.signature(getattr(target, name))
    except (TypeError, ValueError):  # builtins and C functions may hide their signature
        return ()
    optional = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    needed = [
        p for p in signature.parameters.values() if p.default is p.empty and p.kind not in optional
    ]
    if len(needed) > 1 or any(p.kind is inspect.Parameter.KEYWORD_ONLY for p in needed):
        expected = "a function of no argument, or of the parameters"
        actual = f"one of ({', '.join(p.name for p in needed)})"
        refuse(name, expected, actual, "hold the data yourself: a closure", error=CheckError)
    return (target.parameters,) if needed else ()
