"""`tt.compare`: two gradients as numbers alone, as when a printed table is all that there is.

Nothing can be evaluated here, so that the numerical side is doubted too: derivatives that are whole
multiples of one number come from a step that was too small.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from throughtime.arrays import Array, finite, refuse
from throughtime.diagnosis.cause_search import CauseSearch, as_causes
from throughtime.diagnosis.experiments import Reduction, Study
from throughtime.diagnosis.observed import Candidate, Observed, Sampled
from throughtime.diagnosis.roles import Roles, Values
from throughtime.diagnosis.tolerances import (
    COMPARISON_ERROR,
    DIFFERS_BEYOND,
    LEAST_QUANTISED_ENTRIES,
    MOST_MULTIPLES,
    SAME_MULTIPLE,
)
from throughtime.gradcheck import (
    Budget,
    Cause,
    CheckError,
    Report,
    Target,
    TensorReport,
    Verdict,
    Worst,
    discrepancy,
    floor,
    worst_verdict,
)

SIZES = ("B", "O")


@dataclass(frozen=True)
class Comparison(Report):
    """Two gradients beside each other: a Report without what only a loss can tell."""

    def circumstances(self) -> str:
        """What was compared, in one line."""
        total = sum(tensor.size for tensor in self.tensors.values())
        steps = f", T = {self.steps}" if self.steps else ""
        return f"{self.dtype}{steps}; {total:,} numbers beside {total:,}; no loss was evaluated"


def compare(
    gradient: Any,
    numerical: Any,
    parameters: Any = None,
    *,
    steps: int | None = None,
    batch: int | None = None,
    outputs: int | None = None,
    error: float = COMPARISON_ERROR,
) -> Comparison:
    """Compares two gradients as numbers, without the code that computed them.

    Args:
        gradient: the gradient under test: a mapping of names to arrays, or one array.
        numerical: the gradient that is trusted, with the same names and shapes.
        parameters: the parameters at which both were computed, in the same form; with them an L2
            term can be recognised.
        steps, batch, outputs: T, B, and the number of outputs or classes, if they are known: a
            factor may be one of them.
        error: how far either may be off, relative to each tensor's largest entry.

    Returns:
        a Report: verdict, tensors, and `.causes`, as far as numbers alone can tell.

    Raises:
        CheckError: where names, shapes or numbers do not fit.

    Example:
        >>> import numpy as np
        >>> import throughtime as tt
        >>> numerical = {"U": np.array([[1.0, 2.0], [-3.0, 4.0]]), "b": np.array([0.5, -1.0])}
        >>> averaged = {name: array / 39 for name, array in numerical.items()}
        >>> tt.compare(averaged, numerical, steps=39).causes[0].fault
        'averaged_over_steps'
    """
    if not 0 < error < 1:
        refuse("error", "a relative error between 0 and 1", error, error=CheckError)
    g, n = _arrays("gradient", gradient), _arrays("numerical", numerical)
    w = _arrays("parameters", parameters) if parameters is not None else None
    _alike("numerical", n, g)
    if w is not None:
        _alike("parameters", w, g)
    sizes = {name: size for name, size in zip(SIZES, (batch, outputs), strict=True) if size}
    observed = _observed(g, n, w, steps, sizes, error)
    causes, notes = _why(observed, sizes)
    return _comparison(observed, g, causes, notes)


class _OnPaper(Study):
    """A study without a target, on which no experiment can be made."""

    roles = Roles()
    reduction = Reduction()

    def look(
        self,
        steps: int | None = None,
        values: Values | None = None,
        places: Mapping[str, Array] | None = None,
        again: bool = False,
    ) -> Observed | None:
        """Nothing can be evaluated."""
        return None

    def gradient(self, values: Values) -> dict[str, Array] | None:
        """Nothing can be evaluated."""
        return None


def _why(observed: Observed, sizes: dict[str, int]) -> tuple[tuple[Cause, ...], tuple[str, ...]]:
    coarse = [
        cause for found in too_small_a_step(observed) for cause in as_causes(found, 0.0, None)
    ]
    if not observed.wrong():
        return tuple(coarse), ()
    target = Target(
        {name: np.array(g) for name, g in observed.gradient.items()},
        _never,
        _never,
        steps=observed.steps,
    )
    search = CauseSearch(_OnPaper(target, observed.parameters, Budget(), sizes))
    search.run(observed)
    return (*coarse, *search.causes), tuple(search.notes)


def _never() -> Any:
    raise CheckError("loss: expected a function, got two sets of numbers")


def _observed(
    g: Mapping[str, Array],
    n: Mapping[str, Array],
    w: Mapping[str, Array] | None,
    steps: int | None,
    sizes: Mapping[str, int],
    error: float,
) -> Observed:
    sampled = {}
    for name, array in n.items():
        flat = array.reshape(-1).astype(np.float64)
        apart = max(error * float(np.abs(flat).max(initial=0.0)) / DIFFERS_BEYOND, quantum(flat))
        rounding = error * float(np.abs(g[name]).max(initial=0.0)) / DIFFERS_BEYOND
        bars = np.full(flat.size, apart), np.full(flat.size, rounding)
        sampled[name] = Sampled(np.arange(flat.size), flat, *bars)
    kept = {name: array.astype(np.float64) for name, array in g.items()}
    places = w if w is not None else {name: np.zeros(array.shape) for name, array in g.items()}
    eps = max(float(np.finfo(array.dtype).eps) for array in g.values())
    return Observed(kept, sampled, places, steps, np.nan, sizes, eps)


def _comparison(
    observed: Observed,
    g: Mapping[str, Array],
    causes: tuple[Cause, ...],
    notes: tuple[str, ...],
) -> Comparison:
    tensors = {name: _tensor(observed, name) for name in observed.sampled}
    flat, numerical, errors = (
        np.concatenate([getattr(tensor, column) for tensor in tensors.values()])
        for column in ("gradient", "numerical", "errors")
    )
    return Comparison(
        verdict=worst_verdict([tensor.verdict for tensor in tensors.values()]),
        discrepancy=discrepancy(flat, numerical),
        floor=floor(errors, flat, numerical),
        tensors=tensors,
        evaluations=0,
        noise=np.nan,
        loss=np.nan,
        dtype=" and ".join(sorted({str(array.dtype) for array in g.values()})),
        steps=observed.steps,
        causes=causes,
        smallest_error=max(tensor.smallest_error for tensor in tensors.values()),
        notes=notes,
    )


def _tensor(observed: Observed, name: str) -> TensorReport:
    own, g, z = observed.sampled[name], observed.beside(name), observed.z(name)
    n, bars = own.numerical, observed.bars(name)
    size = float(np.linalg.norm(g))
    order = np.argsort(-z)
    worst = [_worst(observed, name, int(k)) for k in order[:64]]
    verdict: Verdict = "disagree" if (z > DIFFERS_BEYOND).any() else "agree"
    if verdict == "agree" and quantum(n) > COMPARISON_ERROR * float(np.abs(n).max(initial=0.0)):
        verdict = "unresolved"
    return TensorReport(
        verdict=verdict,
        discrepancy=discrepancy(g, n),
        floor=floor(bars, g, n),
        shape=observed.gradient[name].shape,
        step=0.0,
        indices=own.places,
        gradient=g,
        numerical=n,
        errors=bars,
        worst=worst[0] if worst else None,
        smallest_error=DIFFERS_BEYOND * float(np.linalg.norm(bars)) / size if size else np.inf,
        order=0,
        wrong=tuple(entry for entry, k in zip(worst, order, strict=False) if z[k] > DIFFERS_BEYOND),
    )


def _worst(observed: Observed, name: str, k: int) -> Worst:
    own = observed.sampled[name]
    index = np.unravel_index(int(own.places[k]), observed.gradient[name].shape)
    return Worst(
        tuple(int(i) for i in index),
        float(observed.beside(name)[k]),
        float(own.numerical[k]),
        float(observed.bars(name)[k]),
    )


def _arrays(what: str, given: Any) -> dict[str, Array]:
    """The arrays by name; a single array is called "all"."""
    named = dict(given) if isinstance(given, Mapping) else {"all": given}
    found = {}
    for name, values in named.items():
        try:
            array = np.asarray(values)
        except ValueError as problem:
            refuse(f"{what}[{name!r}]", "an array of numbers", problem, error=CheckError)
        if array.dtype.kind in "iu":
            array = array.astype(np.float64)
        if array.dtype.kind != "f":
            refuse(f"{what}[{name!r}]", "real numbers", array.dtype, error=CheckError)
        if array.dtype not in (np.float32, np.float64):
            array = array.astype(np.float64)
        try:
            finite(f"{what}[{name!r}]", np.ascontiguousarray(array))
        except ValueError as problem:
            raise CheckError(str(problem)) from None
        found[name] = array
    if not sum(array.size for array in found.values()):
        refuse(what, "at least one number", "none", error=CheckError)
    return found


def _alike(what: str, given: Mapping[str, Array], wanted: Mapping[str, Array]) -> None:
    if list(given) != list(wanted) and set(given) != set(wanted):
        names = ", ".join(wanted)
        refuse(what, f"the names {names}", ", ".join(given) or "none", error=CheckError)
    for name, array in wanted.items():
        if given[name].shape != array.shape:
            actual = given[name].shape
            refuse(f"{what}[{name!r}]", f"the shape {array.shape}", actual, error=CheckError)


def quantum(numerical: Array) -> float:
    """The number that all entries are whole multiples of; 0 where there is no such number.

    A loss in float32 changes by steps of its last place, ulp; divided by 2 h that is the
    quantum of a central difference.

    Example:
        >>> import numpy as np
        >>> quantum(3.8 * np.array([1.0, -2.0, 0.0, 5.0, 3.0, 1.0, -4.0]))
        3.8
        >>> quantum(np.random.default_rng(0).standard_normal(50))
        0.0
    """
    levels = np.unique(np.abs(numerical))
    if levels.size < 3 or numerical.size < LEAST_QUANTISED_ENTRIES or not levels[-1]:
        return 0.0
    gaps = np.diff(levels)
    smallest = float(gaps[gaps > 1e-6 * levels[-1]].min(initial=np.inf))
    if not np.isfinite(smallest) or levels[-1] / smallest > MOST_MULTIPLES:
        return 0.0
    counts = np.round(levels / smallest)
    best = float(levels @ counts / (counts @ counts))
    if np.abs(levels / best - np.round(levels / best)).max() > SAME_MULTIPLE:
        return 0.0
    # Small whole numbers, and round decimals, are multiples of something by chance.
    return round(best, 12) if levels.size > 3 and _repeated(numerical) else 0.0


def _repeated(numerical: Array) -> bool:
    return bool(np.unique(np.abs(numerical)).size < numerical.size)


def printed(size: float) -> bool:
    """Whether a quantum is a power of ten, because the numbers were rounded for printing."""
    digits = np.log10(size)
    return bool(abs(digits - np.round(digits)) < 1e-6)


def too_small_a_step(observed: Observed) -> Iterator[Candidate]:
    """The numerical derivatives are what is wrong, or they are too coarse to tell."""
    found = {name: quantum(own.numerical) for name, own in observed.sampled.items()}
    coarse = {name: size for name, size in found.items() if size and not printed(size)}
    if not coarse:
        return
    name, size = next(iter(coarse.items()))
    levels = np.unique(np.round(observed.sampled[name].numerical / size)).size
    evidence = (
        f"All {observed.sampled[name].numerical.size} numerical derivatives of {name} are whole "
        f"multiples of {size:.4g}; only {levels} values occur.",
        "That is one step of the loss's last place, divided by twice the step.",
    )
    yield Candidate(("step_too_small",), ", ".join(coarse), None, evidence, confidence=0.9)
