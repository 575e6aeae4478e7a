"""`tt.compare`: two gradients as numbers alone, as when a printed table is all that there is.

Nothing can be evaluated here, so that the numerical side is doubted too: derivatives that are whole
multiples of one number come from a step that was too small.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from throughtime.arrays import Array, finite, refuse, unmasked
from throughtime.diagnosis.cause_search import CauseSearch, as_causes
from throughtime.diagnosis.comparison_errors import (
    Errors,
    errors_of,
    quantum,
    scatter,
    smallest_step,
    too_small_a_step,
)
from throughtime.diagnosis.experiments import Reduction, Study
from throughtime.diagnosis.moves import Values
from throughtime.diagnosis.observed import Observed
from throughtime.diagnosis.printed import ParsedGradients, read
from throughtime.diagnosis.roles import Roles
from throughtime.diagnosis.tolerances import (
    AGREES_WITHIN,
    COMPARISON_ERROR,
    DIFFERS_BEYOND,
    DISTINCT_ENTRIES,
    LEAST_TELLING_PAIRS,
    NAMED_SCATTER,
    NEARLY_PARALLEL,
)
from throughtime.diagnosis.what_would_tell import NUMBERS_ALONE
from throughtime.gradcheck import (
    TEXT_WIDTH,
    Budget,
    Cause,
    CheckError,
    Report,
    Target,
    TensorReport,
    Verdict,
    Worst,
    discrepancy,
    explanation,
    floor,
    sentence_width,
    worst_verdict,
)

SIZES = ("B", "O")


@dataclass(frozen=True)
class Comparison(Report):
    """Two gradients beside each other: a Report without what only a loss can tell.

    Attributes:
        reading: how a text was read, in sentences; empty where arrays were given.
        otherwise: the same numbers with the two exchanged, where the text does not say which of
            them is the numerical one, and they disagree.
    """

    reading: tuple[str, ...] = ()
    otherwise: Comparison | None = None

    def __str__(self) -> str:
        return self.as_text(None)

    def as_text(self, width: int | None) -> str:
        """What `print` shows: how the text was read, the report, and the other reading."""
        own = super().__str__() if width is None else super().as_text(width)
        lines = [*self.reading, *([""] if self.reading else []), own]
        if self.otherwise is not None:
            other = self.otherwise
            notes = [note for note in other.notes if note not in self.notes]
            lines += ["", *other.reading, *notes]
            lines += explanation(other.causes, sentence_width(width or TEXT_WIDTH))
        return "\n".join(lines)

    def circumstances(self) -> str:
        """What was compared, in one line."""
        total = sum(tensor.size for tensor in self.tensors.values())
        steps = f", T = {self.steps}" if self.steps else ""
        return f"{self.dtype}{steps}; {total:,} numbers beside {total:,}; no loss was evaluated"


def compare(
    gradient: Any = None,
    numerical: Any = None,
    parameters: Any = None,
    *,
    text: str | None = None,
    steps: int | None = None,
    batch: int | None = None,
    outputs: int | None = None,
    error: float | None = None,
) -> Comparison:
    """Compares two gradients as numbers, without the code that computed them.

    Args:
        gradient: the gradient under test: a mapping of names to arrays, or one array.
        numerical: the gradient that is trusted, with the same names and shapes.
        parameters: the parameters at which both were computed, in the same form; with them an L2
            term can be recognised.
        text: both gradients as a program printed them, in place of arrays: a table with a heading
            or without, pairs behind words, two arrays. `reading` says how it was understood.
        steps, batch, outputs: T, B, and the number of outputs or classes, if they are known: a
            factor may be one of them.
        error: how far either may be off, relative to each tensor's largest entry. By default it
            follows from the digits, from the grid that the numerical derivatives lie on, and from
            the scatter of the entries, and is at least 10⁻⁴.

    Returns:
        a Report: verdict, tensors, and `.causes`, as far as numbers alone can tell.

    Raises:
        CheckError: where names, shapes or numbers do not fit, or a text holds no pairs.

    Example:
        >>> import numpy as np
        >>> import throughtime as tt
        >>> numerical = {"U": np.array([[1.0, 2.0], [-3.0, 4.0]]), "b": np.array([0.5, -1.0])}
        >>> averaged = {name: array / 39 for name, array in numerical.items()}
        >>> tt.compare(averaged, numerical, steps=39).causes[0].fault
        'averaged_over_steps'
    """
    if error is not None and not 0 < error < 1:
        refuse("error", "a relative error between 0 and 1", error, error=CheckError)
    for name, number in (("steps", steps), ("batch", batch), ("outputs", outputs)):
        if number is not None and not number >= 1:
            refuse(name, "a number of at least 1", number, error=CheckError)
    sizes = {name: size for name, size in zip(SIZES, (batch, outputs), strict=True) if size}
    question = _Question(steps, sizes, error)
    if text is not None:
        if gradient is not None or numerical is not None:
            refuse("text", "no gradients beside a text", "both", error=CheckError)
        reading = read(text)
        w = None if parameters is None else _arrays("parameters", parameters)
        if w is not None:
            w = _in_the_same_shapes(w, reading.gradient)
            _alike("parameters", w, reading.gradient)
        return _of_text(reading, w, question)
    for what, given in (("gradient", gradient), ("numerical", numerical)):
        if given is None or isinstance(given, str):
            way_out = "text= reads two gradients from a printed table"
            actual = "none" if given is None else "a text"
            refuse(what, "an array or a mapping of arrays", actual, way_out, error=CheckError)
    g, n = _arrays("gradient", gradient), _arrays("numerical", numerical)
    w = _arrays("parameters", parameters) if parameters is not None else None
    _alike("numerical", n, g)
    if w is not None:
        _alike("parameters", w, g)
    return question.answer(g, n, w)


Digits = tuple[Mapping[str, Array], Mapping[str, Array]]


@dataclass(frozen=True)
class _Question:
    """What is known beside the two gradients."""

    steps: int | None
    sizes: dict[str, int]
    error: float | None

    def answer(
        self,
        g: Mapping[str, Array],
        n: Mapping[str, Array],
        w: Mapping[str, Array] | None = None,
        digits: Digits | None = None,
    ) -> Comparison:
        """The comparison, with the causes that it suggests."""
        with np.errstate(all="ignore"):  # of numbers near the ends of their range
            return self._answer(g, n, w, digits)

    def _answer(
        self,
        g: Mapping[str, Array],
        n: Mapping[str, Array],
        w: Mapping[str, Array] | None,
        digits: Digits | None,
    ) -> Comparison:
        errors = Errors(self.error) if self.error is not None else errors_of(g, n, digits)
        observed = self.observed(g, n, w, errors)
        causes, notes = _why(observed, self.sizes)
        doubtful = () if self.error is not None else _too_coarse(observed)
        apart = None if causes or self.error is not None else scatter(observed)
        if observed.wrong() and apart is not None:
            wider = replace(errors, relative=max(DIFFERS_BEYOND * apart, errors.relative))
            wide = self.observed(g, n, w, wider)
            if not wide.wrong():
                doubtful += observed.wrong()
                observed, notes = wide, (_scattered_about_1(apart),)
            elif apart <= NAMED_SCATTER:
                found, others = _why(wide, self.sizes)
                if found:
                    causes, observed, notes = found, wide, (*others, _scattered(apart))
        coarse = tuple(
            cause for found in too_small_a_step(observed) for cause in as_causes(found, 0.0, None)
        )
        if errors.step and not coarse:
            notes = (*notes, _on_a_grid(errors.step))
        return _comparison(observed, g, (*coarse, *causes), notes, doubtful)

    def observed(
        self,
        g: Mapping[str, Array],
        n: Mapping[str, Array],
        w: Mapping[str, Array] | None,
        errors: Errors,
    ) -> Observed:
        """The two as an observation without a target."""
        sampled = {name: errors.sampled(name, g[name], array) for name, array in n.items()}
        kept = {name: array.astype(np.float64) for name, array in g.items()}
        places = w if w is not None else {name: np.zeros(array.shape) for name, array in g.items()}
        eps = max(float(np.finfo(array.dtype).eps) for array in g.values())
        return Observed(kept, sampled, places, self.steps, np.nan, self.sizes, eps)


def _in_the_same_shapes(w: Mapping[str, Array], g: Mapping[str, Array]) -> dict[str, Array]:
    """Parameters laid flat where a text has their gradient so."""
    return {
        name: array.reshape(g[name].shape) if name in g and g[name].size == array.size else array
        for name, array in w.items()
    }


def _of_text(
    reading: ParsedGradients, w: Mapping[str, Array] | None, question: _Question
) -> Comparison:
    """The comparison of two gradients that were printed, both ways round where need be."""
    gradients = reading.gradient, reading.numerical
    digits = reading.gradient_digits, reading.numerical_digits
    mine, true = reading.sources
    said = list(reading.said)
    known = reading.known
    if not known:
        on_grid = [_step_of(*own) for own in zip(gradients, digits, strict=True)]
        if (on_grid[0] > 0) != (on_grid[1] > 0):
            known = True
            if on_grid[0]:
                gradients, digits = gradients[::-1], digits[::-1]
                mine, true = true, mine
            said.append(
                f"{_capital(true)} lies on a grid of {max(on_grid):.4g}, as numerical derivatives "
                "in float32 do, and is taken to be the numerical one."
            )
    found = question.answer(*gradients, w, digits)
    verdict = worst_verdict([found.verdict, "disagree" if reading.lost else "agree"])
    otherwise = None
    if not known and found.verdict == "disagree":
        said.append(f"With {mine} as the gradient and {true} as the numerical one:")
        back = question.answer(*gradients[::-1], w, digits[::-1])
        otherwise = replace(
            back, reading=(f"With {true} as the gradient and {mine} as the numerical one:",)
        )
    notes = (*reading.notes, *found.notes)
    return replace(found, verdict=verdict, reading=tuple(said), notes=notes, otherwise=otherwise)


def _step_of(arrays: Mapping[str, Array], digits: Mapping[str, Array]) -> float:
    return max(smallest_step(array, digits[name]) for name, array in arrays.items())


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]


def _on_a_grid(step: float) -> str:
    return (
        f"The numerical derivatives are taken to be off by up to {step:.4g}, their smallest "
        "step: that is the last place of a loss in float32, divided by the step of the difference."
    )


def _scattered(apart: float) -> str:
    return (
        f"The entries scatter by {apart:.1%} of the largest one about what is explained. That is "
        "more than their digits account for, and is taken to be the error of the numerical "
        "derivatives."
    )


def _scattered_about_1(apart: float) -> str:
    return (
        f"The entries scatter by {apart:.1%} of the largest one, about a factor of 1. Derivatives "
        "in float32, or with a large step, may be off by as much: repeat them in float64, or give "
        "`error`."
    )


class _OnPaper(Study):
    """A study without a target, on which no experiment can be made."""

    evaluates = False
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
    if not observed.wrong():
        return (), ()
    few = _too_few(observed)
    if few:
        return (), (few,)
    target = Target(
        {name: np.array(g) for name, g in observed.gradient.items()},
        _never,
        _never,
        steps=observed.steps,
    )
    search = CauseSearch(_OnPaper(target, observed.parameters, Budget(), sizes))
    search.run(observed)
    if any(cause.fault == COPIED for cause in search.causes) and _repeated(observed):
        return (), (
            "Some entries equal others; with so few digits, that is no sign that they were copied.",
            NUMBERS_ALONE,
        )
    notes = tuple(note for note in search.notes if note != NUMBERS_ALONE)
    if any(cause.fault == PERMUTED for cause in search.causes) and _few_wrong(observed):
        return (), (*notes, NUMBERS_ALONE)
    if search.causes:
        return tuple(search.causes), tuple(search.notes)
    return (), (*notes, *_nearest(observed), NUMBERS_ALONE)


COPIED, PERMUTED = "bias_of_gate_copied", "gates_permuted"


def _repeated(observed: Observed) -> bool:
    """Whether equal entries are common, as they are where few digits were printed."""
    g = np.concatenate([observed.beside(name) for name in observed.sampled])
    told = g[g != 0]
    return bool(np.unique(told).size < DISTINCT_ENTRIES * told.size)


def _few_wrong(observed: Observed) -> bool:
    """Whether so few entries are wrong that exchanging them may help by chance."""
    return sum(int((observed.z(name) > DIFFERS_BEYOND).sum()) for name in observed.wrong()) < (
        LEAST_TELLING_PAIRS
    )


def _nearest(observed: Observed) -> tuple[str, ...]:
    """A sentence on the factor that comes nearest, where the two are nearly parallel."""
    wrong = observed.wrong()
    g = np.concatenate([observed.beside(name) for name in wrong])
    n = np.concatenate([observed.sampled[name].numerical for name in wrong])
    sizes = float(np.linalg.norm(g) * np.linalg.norm(n))
    if not sizes or abs(g @ n) < NEARLY_PARALLEL * sizes:
        return ()
    factor = float(g @ n / (n @ n))
    left = float(np.linalg.norm(g - factor * n) / abs(factor) / np.sqrt(n.size))
    share = left / float(np.abs(n).max())
    return (
        f"The nearest factor is {factor:.3g}; the entries scatter about it by {share:.1%} of the "
        "largest one, which is too much for a factor alone.",
    )


def _too_coarse(observed: Observed) -> tuple[str, ...]:
    """Names of the tensors whose numbers are printed, or lie on a grid, too coarsely to agree."""
    return tuple(
        name
        for name, own in observed.sampled.items()
        if own.numerical.size
        and DIFFERS_BEYOND * observed.bars(name).max() > AGREES_WITHIN * np.abs(own.numerical).max()
    )


def _too_few(observed: Observed) -> str:
    """A sentence where the pairs are too few to tell one cause from another."""
    pairs = {
        (float(g), float(n)): float(bar)
        for name, own in observed.sampled.items()
        for g, n, bar in zip(observed.beside(name), own.numerical, observed.bars(name), strict=True)
        if max(abs(n), abs(g)) > DIFFERS_BEYOND * bar
    }
    if len(pairs) >= LEAST_TELLING_PAIRS:
        return ""
    ratios = sorted({f"{g / n:.4g}" for g, n in pairs if n}, key=float)
    said = f", with the ratio{'s' * (len(ratios) > 1)} {' and '.join(ratios)}" if ratios else ""
    one = len(pairs) == 1
    return (
        f"Only {len(pairs)} pair{'' if one else 's'} of different numbers tell{'s' * one} anything"
        f"{said}. So few fit many causes, so none is named; "
        f"{LEAST_TELLING_PAIRS} or more would tell."
    )


def _never() -> Any:
    raise CheckError("loss: expected a function, got two sets of numbers")


def _comparison(
    observed: Observed,
    g: Mapping[str, Array],
    causes: tuple[Cause, ...],
    notes: tuple[str, ...],
    doubtful: tuple[str, ...],
) -> Comparison:
    tensors = {name: _tensor(observed, name, name in doubtful) for name in observed.sampled}
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


def _tensor(observed: Observed, name: str, doubtful: bool) -> TensorReport:
    own, g, z = observed.sampled[name], observed.beside(name), observed.z(name)
    n, bars = own.numerical, observed.bars(name)
    size = float(np.linalg.norm(g))
    order = np.argsort(-z)
    worst = [_worst(observed, name, int(k)) for k in order[:64]]
    verdict: Verdict = "disagree" if (z > DIFFERS_BEYOND).any() else "agree"
    if verdict == "agree" and quantum(n) > COMPARISON_ERROR * float(np.abs(n).max(initial=0.0)):
        verdict = "unresolved"
    if verdict == "agree" and doubtful:
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
            unmasked(f"{what}[{name!r}]", values)
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
