"""The cases of the diagnosis: implementations with one to three mistakes, and right ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

import numpy as np

import corpus as implementations
from benchmarks.check.cases import LARGER, SMALL
from benchmarks.diagnose.layouts import layout_of
from corpus import FAULTS, Setting
from corpus.registry import faults_of, setting_of
from throughtime.arrays import Array
from throughtime.gradcheck import Target

KNOWN = ("layout", "experiments", "functions")
DTYPES = ("float64", "float32")
SIZES: tuple[Mapping[str, int], ...] = (SMALL, LARGER)
SAME = 1e-9  # relative distance up to which two float64 gradients count as the same
VISIBLE = 1e-3  # the smallest relative change of the gradient by each of several mistakes


@dataclass(frozen=True)
class Case:
    """One implementation with its mistakes, and what the diagnosis is told about it.

    Attributes:
        style, cell: those of `implementations`.
        faults: the names of its mistakes; (): none.
        known: what the diagnosis is given. "functions": loss and gradient alone; "experiments":
            also the target at other lengths; "layout": also the layout of its matrices, and its
            data.
        sizes: T, B, I, H, O.
        seed, dtype: those of parameters and data.
        variant: further arguments of a right implementation.
    """

    style: str
    cell: str
    faults: tuple[str, ...]
    known: str
    sizes: Mapping[str, int]
    seed: int = 0
    dtype: str = "float64"
    variant: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        sizes = ",".join(str(size) for size in self.sizes.values())
        mistakes = " + ".join(self.faults) or "right"
        extra = ", ".join(f"{k}={v}" for k, v in self.variant.items())
        words = (self.style, self.cell, sizes, self.dtype, self.known, f"seed {self.seed}", extra)
        return " ".join(filter(None, words)) + f": {mistakes}"

    @property
    def setting(self) -> Setting:
        """The setting that `implementations.make` returns for it."""
        needs = setting_of(self.faults)
        rest: dict[str, Any] = {**self.sizes, **self.variant, **needs}
        return Setting(self.cell, dtype=self.dtype, seed=self.seed, **rest)

    def target(self) -> Target:
        """The target, as the diagnosis is given it."""
        made = self.made()
        if self.known == "functions":
            return _functions(made)
        if self.known == "experiments":
            return made
        return _laid_out(made, self.style, self.setting)

    def made(self, faults: Sequence[str] | None = None, *, T: int = 0, dtype: str = "") -> Target:
        """The implementation, on request with other mistakes or at another length."""
        length = {"T": T} if T else {}
        return implementations.make(
            self.style,
            self.cell,
            self.faults if faults is None else tuple(faults),
            dtype=dtype or self.dtype,
            seed=self.seed,
            **{**self.sizes, **self.variant, **setting_of(self.faults), **length},
        )

    def to_dict(self) -> dict[str, Any]:
        """The entries of a row that describe the case."""
        return {
            "case": str(self),
            "style": self.style,
            "cell": self.cell,
            "faults": list(self.faults),
            "known": self.known,
            "sizes": dict(self.sizes),
            "seed": self.seed,
            "dtype": self.dtype,
            "variant": dict(self.variant),
        }


def gradient_of(target: Target) -> dict[str, Array]:
    """The gradient by name, in float64."""
    if target.reset is not None:
        target.reset()
    return {name: np.array(array, np.float64) for name, array in target.gradient().items()}


def apart(one: Mapping[str, Array], other: Mapping[str, Array]) -> float:
    """The relative distance over all tensors."""
    off = sum(float(((one[name] - other[name]) ** 2).sum()) for name in one)
    size = sum(float((array**2).sum()) for array in one.values())
    return float(np.sqrt(off / max(size, 1e-300)))


def single(seeds: Sequence[int]) -> Iterator[Case]:
    """Every mistake that a gradient shows, in every style and cell."""
    entries = [e for e in implementations.catalogue() if FAULTS[e.fault].shows_in == "gradient"]
    for entry, size, seed, dtype, known in product(entries, SIZES, seeds, DTYPES, KNOWN):
        sizes = _fitting(entry.style, size)
        yield Case(entry.style, entry.cell, (entry.fault,), known, sizes, seed, dtype)


def several(number: int, count: int, seed: int = 0) -> list[Case]:
    """A number of cases with several mistakes at once, each of which changes the gradient."""
    rng = np.random.default_rng([seed, number])
    places = list(product(implementations.styles(), implementations.CELLS))
    found: list[Case] = []
    for _ in range(100 * count):
        if len(found) == count:
            break
        style, cell = places[rng.integers(len(places))]
        names = [n for n in faults_of(style, cell) if FAULTS[n].shows_in == "gradient"]
        chosen = tuple(sorted(map(str, rng.choice(names, number, replace=False))))
        sizes = _fitting(style, SIZES[rng.integers(len(SIZES))])
        case = Case(style, cell, chosen, "layout", sizes, int(rng.integers(1000)))
        if _all_show(case):
            found.append(case)
    return found


def _all_show(case: Case) -> bool:
    """Whether they can occur in one network, and none of them is hidden by the others."""
    try:
        whole = gradient_of(case.made())
        fewer = [case.made([n for n in case.faults if n != name]) for name in case.faults]
    except ValueError:
        return False
    return all(apart(whole, gradient_of(target)) > VISIBLE for target in fewer)


def right(seeds: Sequence[int]) -> Iterator[Case]:
    """All implementations without a mistake, in every variant."""
    for (style, cell, variant), size, seed, dtype, known in product(
        implementations.correct(), SIZES, seeds, DTYPES, KNOWN
    ):
        yield Case(style, cell, (), known, _fitting(style, size), seed, dtype, variant)


def _fitting(style: str, sizes: Mapping[str, int]) -> dict[str, int]:
    """The sizes that fit a style: one style takes a single sequence."""
    return {**sizes, "B": 1} if style == "gate_by_gate" else dict(sizes)


def sample(everything: Sequence[Case], count: int, seed: int = 0) -> list[Case]:
    """About that many cases, equally many per precision and `known`; the same at every call.

    They are in random order, so that the first ones are representative.
    """
    groups: dict[tuple[str, str], list[Case]] = {}
    for case in everything:
        groups.setdefault((case.known, case.dtype), []).append(case)
    rng, chosen = np.random.default_rng(seed), []
    for group in groups.values():
        most = min(len(group), -(-count // len(groups)))
        chosen += [group[k] for k in rng.choice(len(group), most, replace=False)]
    return [chosen[k] for k in rng.permutation(len(chosen))]


def _functions(made: Target) -> Target:
    """Nothing but two functions of the parameters, each of which resets the target itself."""

    def fresh() -> None:
        if made.reset is not None:
            made.reset()

    def loss() -> Any:
        fresh()
        return made.loss()

    def gradient() -> Mapping[str, Array]:
        fresh()
        return made.gradient()

    return Target(made.parameters, loss, gradient)


def _laid_out(made: Target, style: str, s: Setting) -> Target:
    """The target with its layout, at every length."""
    shorter = made.at_length

    def at_length(T: int) -> Target:
        assert shorter is not None
        return _laid_out(shorter(T), style, replace(s, T=T))

    return replace(
        made,
        layout=layout_of(style, s),
        at_length=None if shorter is None else at_length,
    )
