"""A target: what can be checked. All that the checker sees is arrays and two functions."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, ClassVar

import numpy as np

from throughtime.arrays import Array, refuse
from throughtime.derivatives import CheckError

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

    length_hint: ClassVar[str] = "give `at_length=`"
    """How other lengths are made possible, where they are not."""

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
            if isinstance(array, np.ma.MaskedArray):
                way_out = "the check moves every entry: .filled(0.0), and frozen entries apart"
                refuse(what, "an array without a mask", "a masked one", way_out, error=CheckError)
            if not array.flags.writeable:
                way_out = "the check changes it in place: .copy()"
                refuse(what, "a writable array", "a read-only one", way_out, error=CheckError)
            if not np.isfinite(array).all():
                refuse(what, "finite numbers", "NaN or infinity", error=CheckError)


class Evaluator:
    """Evaluates a target's functions, counts evaluations, and refuses unusable results.

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
        """What the loss returns where the parameters stand now; NaN is not refused."""
        self._reset()
        value = self.target.loss(*self._loss_arguments)
        self.evaluations += 1
        with _as_check_errors():
            return loss_terms(value)

    def loss(self) -> float:
        """The loss where the parameters stand now, its terms summed in float64."""
        return self.total(self.terms())

    def total(self, terms: Array) -> float:
        """The sum of the loss's terms; refused where it is not finite."""
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
    """Turns a ValueError about a returned value into a CheckError: the check could not run."""
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


def loss_terms(value: Any) -> Array:
    """A copy of what the loss returned: an array of real numbers in its own precision."""
    try:
        terms = np.asarray(value).copy()
        if terms.dtype.kind not in "biuf":  # lists of Python's numbers, other libraries' numbers
            terms = np.array(value, dtype=np.float64)
    except (TypeError, ValueError, RuntimeError):  # torch: a tensor that requires a gradient
        terms = np.empty(0, dtype=object)
    if terms.dtype.kind not in "biuf":
        way_out = "convert it: .detach().cpu().numpy()" if hasattr(value, "detach") else ""
        refuse("loss", "a number, or an array of terms", type(value).__name__, way_out)
    if not terms.size:
        refuse("loss", "a number, or an array of terms", "an empty array")
    return terms


def finite_terms(terms: Array, steps: int | None) -> None:
    """Refuses NaN and infinity in the loss; names the step where the terms show it."""
    bad = np.argwhere(~np.isfinite(terms))
    if not len(bad):
        return
    place = tuple(int(i) for i in bad[0])
    if not place:
        way_out = (
            "return the loss as an array of terms a step, and the first bad step is named here"
        )
        refuse("loss", "a finite number", terms.item(), way_out)
    where = f"in its term {_index(place)}"
    if steps is not None and terms.shape[0] == steps:
        where = f"at step {place[0]} of 0 … {steps - 1}, {where}"
    how_many = f"{len(bad)} of {terms.size} terms are not finite"
    way_out = "look for an overflow, a logarithm of 0 or a division by 0 there"
    refuse("loss", "finite terms", f"{terms[place]} {where} ({how_many})", way_out)


def gradient_arrays(found: object, parameters: Mapping[str, Array]) -> dict[str, Array]:
    """A copy of what the gradient returned; refuses wrong names, wrong shapes, other numbers."""
    if not isinstance(found, Mapping):
        kind = type(found).__name__
        way_out = "return {" + ", ".join(f"{name!r}: …" for name in parameters) + "}"
        refuse("gradient", "a mapping from names", kind, way_out)
    _names(found, parameters)
    return {name: _copy(name, found[name], array) for name, array in parameters.items()}


def finite_gradient(gradient: Mapping[str, Array]) -> None:
    """Refuses NaN and infinity; names the parameter, the first entry, and how many there are."""
    for name, array in gradient.items():
        bad = np.argwhere(~np.isfinite(array))
        if len(bad):
            place = tuple(int(i) for i in bad[0])
            seen = f"{array[place]} at {_index(place)} ({len(bad)} of {array.size} entries)"
            way_out = "the loss is finite here, so it arises in the backward pass"
            refuse(f"gradient[{name!r}]", "finite numbers", seen, way_out)


def _names(found: Mapping[str, object], parameters: Mapping[str, Array]) -> None:
    """Refuses missing and superfluous names, and suggests similar ones."""
    missing = [name for name in parameters if name not in found]
    unknown = [str(name) for name in found if name not in parameters]
    if not missing and not unknown:
        return
    parts = [f"{name} missing" for name in missing]
    for name in unknown:
        alike = get_close_matches(name, missing, n=1, cutoff=0.5)
        parts.append(f"{name} unknown" + (f" (is it {alike[0]}?)" if alike else ""))
    way_out = "its names are those of Target.parameters, no more and no fewer"
    expected = "the names " + ", ".join(parameters)
    refuse("gradient", expected, ", ".join(parts), way_out)


def _copy(name: str, value: Any, parameter: Array) -> Array:
    """A copy of one tensor of the gradient."""
    what = f"gradient[{name!r}]"
    try:
        copy = np.asarray(value).copy()
    except (TypeError, ValueError, RuntimeError):
        copy = np.empty(0, dtype=object)
    if copy.dtype.kind not in "biuf":
        kind = copy.dtype if copy.dtype.kind == "c" else type(value).__name__
        way_out = "convert it: .detach().cpu().numpy()" if hasattr(value, "detach") else ""
        refuse(what, "an array of real numbers", kind, way_out)
    if copy.shape != parameter.shape:
        way_out = _other_shape(copy.shape, parameter.shape)
        refuse(what, parameter.shape, copy.shape, way_out)
    return copy


def _other_shape(found: tuple[int, ...], wanted: tuple[int, ...]) -> str:
    """A way out for a wrong shape, "" where none suggests itself."""
    if len(found) > 1 and found == wanted[::-1]:
        return "transposed? return its .T"
    if tuple(n for n in found if n != 1) == tuple(n for n in wanted if n != 1):
        return f"an axis of 1 too many or too few: .reshape{wanted}"
    if np.prod(found) == np.prod(wanted):
        return f"as many entries in another form: .reshape{wanted}, if their order is this one's"
    return ""


def _index(place: tuple[int, ...]) -> str:
    return "[" + ", ".join(map(str, place)) + "]"


def frozen(
    parameters: Mapping[str, Array],
    loss: Callable[..., Any],
    gradient: Callable[..., Mapping[str, Array]],
    carried: Callable[..., Any],
    *,
    reset: Callable[[], object] | None = None,
    at_length: Callable[[int], Target] | None = None,
    steps: int | None = None,
) -> Target:
    """A target whose gradient is truncated: what is carried into its windows stands still.

    Args:
        parameters: as in Target.
        loss: called as `loss(states)`, or `loss(parameters, states)`: the windows' losses, or
            their sum, each window begun at its state in `states`.
        gradient: the truncated gradient, called as in Target.
        carried: called as `carried()`, or `carried(parameters)`: a run over all steps where the
            parameters stand; returns what it carries into the windows, in whatever form `loss`
            takes it.
        reset, at_length, steps: as in Target.

    Returns:
        a Target. Its states are taken wherever the check begins to look, at each point anew,
        and are kept while it moves parameters about there.

    Raises:
        CheckError: as Target does.

    Example:
        A network s_t = tanh(u s_{t−1} + x_t), L = Σ s_t²/2, in windows of two steps:

        >>> import numpy as np
        >>> import throughtime as tt
        >>> u, x = np.array([0.7]), np.array([0.3, -1.2, 0.8, 0.5, 1.1, -0.4])
        >>> def run(s, inputs):
        ...     states = [s]
        ...     for x_t in inputs:
        ...         states.append(np.tanh(u[0] * states[-1] + x_t))
        ...     return np.array(states)  # one more than inputs
        >>> def carried():
        ...     return run(0.0, x)[:-1:2]  # the states before steps 0, 2 and 4
        >>> def loss(states):
        ...     windows = [run(s, x[t : t + 2]) for s, t in zip(states, (0, 2, 4))]
        ...     return [s[1:] ** 2 / 2 for s in windows]
        >>> def gradient(back=2):
        ...     s, du = run(0.0, x), 0.0
        ...     for stop in (2, 4, 6):
        ...         ds = 0.0
        ...         for t in reversed(range(stop - back, stop)):
        ...             dz = (s[t + 1] + ds) * (1 - s[t + 1] ** 2)
        ...             du, ds = du + dz * s[t], u[0] * dz
        ...     return {"u": np.array([du])}
        >>> tt.check(tt.frozen({"u": u}, loss, gradient, carried)).verdict
        'agree'
        >>> tt.check(tt.frozen({"u": u}, loss, lambda: gradient(back=1), carried)).verdict
        'disagree'
    """
    before = (parameters,) if _required(loss) > 1 else ()
    states = _Carried(carried, (parameters,) if _required(carried) else ())

    def frozen_loss() -> Any:
        if not states.taken:
            states.take()
        return loss(*before, states.states)

    return Target(
        parameters,
        frozen_loss,
        gradient,
        reset=reset,
        at_length=at_length,
        steps=steps,
        freeze=states.take,
    )


@dataclass
class _Carried:
    """What a run carried into the windows, kept until it is taken anew."""

    run: Callable[..., Any]
    arguments: tuple[Any, ...]
    states: Any = None
    taken: bool = False

    def take(self) -> None:
        # A copy: the next run may write into the same arrays.
        self.states, self.taken = deepcopy(self.run(*self.arguments)), True


def _required(function: Callable[..., Any]) -> int:
    """How many arguments a function cannot do without."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    needed = inspect.signature(function).parameters.values()
    return sum(p.kind in kinds and p.default is p.empty for p in needed)
