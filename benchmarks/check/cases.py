"""The cases of the check: implementations, sizes, seeds, precisions and initialisations."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np

import corpus as implementations
from corpus import FAULTS
from throughtime.arrays import Array
from throughtime.gradcheck import Target

SMALL = {"T": 6, "B": 2, "I": 3, "H": 4, "O": 3}
LARGER = {"T": 12, "B": 3, "I": 4, "H": 8, "O": 5}
INITS = (None, 0.01)  # standard deviation of the weights; None: 1/√H

# An effect on the gradient is resolvable if it is ten times the error of a central difference, and
# a hundred times the rounding of the gradient itself.
MARGIN = 10
ROUNDING = 100


@dataclass(frozen=True)
class Case:
    """One implementation at one size, seed, precision and initialisation.

    Attributes:
        style, cell: those of `implementations`.
        fault: the name of the mistake; "": none.
        sizes: T, B, I, H, O.
        seed, dtype, init: as `implementations.make` takes them.
        variant: further arguments of a right implementation.
    """

    style: str
    cell: str
    fault: str
    sizes: Mapping[str, int]
    seed: int
    dtype: str
    init: float | None
    variant: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        sizes = ",".join(str(size) for size in self.sizes.values())
        init = f"init {self.init:.2g}" if self.init else "init 1/√H"
        return f"{self.style} {self.cell} {sizes} {self.dtype} {init} {self.fault or 'right'}"

    def target(self, dtype: str = "", *, plain: bool = False) -> Target:
        """The implementation, on request in another precision or without its mistake."""
        faults = (self.fault,) if self.fault else ()
        return implementations.make(
            self.style,
            self.cell,
            faults,
            plain=plain,
            seed=self.seed,
            init=self.init,
            dtype=dtype or self.dtype,
            **self.sizes,
            **self.variant,
        )

    def to_dict(self) -> dict[str, Any]:
        """The entries of a row that describe the case."""
        return {
            "case": str(self),
            "style": self.style,
            "cell": self.cell,
            "fault": self.fault or None,
            "sizes": dict(self.sizes),
            "seed": self.seed,
            "dtype": self.dtype,
            "init": self.init,
            "variant": dict(self.variant),
        }


@dataclass(frozen=True)
class Effect:
    """The effect of a mistake on the gradient, known from the same code without it in float64.

    Attributes:
        relative: ‖g − g*‖ / ‖g*‖ of the tensor in which it is largest, where g* is the right
            gradient; at most 10⁹ if g* is 0.
        by_tensor: the same by name.
        resolvable: whether the precision of the loss allows it to be seen, see `effect`.
    """

    relative: float
    by_tensor: Mapping[str, float]
    resolvable: bool


def effect(case: Case, u: float | None = None) -> Effect:
    """By how much a faulty implementation's gradient is off, and whether this can be seen at all.

    The best central difference of order 2 along a unit vector errs by about u^(2/3) |L|, where u
    is the unit roundoff of the loss L and weights change the loss over distances of order 1. An
    effect e = ‖g − g*‖₂ within one tensor is *resolvable* if it is at least ten times that error,
    and at least a hundred roundings of the gradient under test:

        e ≥ 10 u^(2/3) |L|   and   e ≥ 100 u ‖g*‖.

    No check is involved in this. Mistakes that a second call reveals are resolvable by definition.

    Args:
        case: the implementation.
        u: the unit roundoff of a loss that is rounded more coarsely than its precision says.
    """
    if FAULTS[case.fault].shows_in == "harness":
        return Effect(np.inf, {}, True)
    wrong, right = case.target("float64"), case.target("float64", plain=True)
    for target in (wrong, right):
        for name, array in case.target().parameters.items():
            target.parameters[name][...] = array
    g, truth, loss = _gradient(wrong), _gradient(right), abs(_loss(right))
    off = {name: float(np.linalg.norm(g[name] - truth[name])) for name in truth}
    norms = {name: float(np.linalg.norm(array)) for name, array in truth.items()}
    own = float(np.finfo(case.dtype).eps) / 2
    whole = float(np.linalg.norm(list(norms.values())))
    visible = max(MARGIN * (u or own) ** (2 / 3) * loss, ROUNDING * own * whole)
    relative = {n: min(off[n] / max(norms[n], 1e-300), 1e9) for n in off}
    return Effect(max(relative.values()), relative, max(off.values()) >= visible)


def _gradient(target: Target) -> dict[str, Array]:
    if target.reset is not None:
        target.reset()
    return {name: np.array(array) for name, array in target.gradient().items()}


def _loss(target: Target) -> float:
    if target.reset is not None:
        target.reset()
    return float(np.sum(target.loss(), dtype=np.float64))


def right(
    seeds: Iterable[int], sizes: Sequence[Mapping[str, int]] = (SMALL, LARGER)
) -> Iterator[Case]:
    """All right implementations, in every variant."""
    for (style, cell, variant), size, seed, dtype, init in product(
        implementations.correct(), sizes, seeds, ("float64", "float32"), INITS
    ):
        yield Case(style, cell, "", _fitting(style, size), seed, dtype, init, variant)


def wrong(
    seeds: Iterable[int], sizes: Sequence[Mapping[str, int]] = (SMALL, LARGER)
) -> Iterator[Case]:
    """All implementations with a mistake."""
    for (style, cell, fault), size, seed, dtype, init in product(
        implementations.catalogue(), sizes, seeds, ("float64", "float32"), INITS
    ):
        yield Case(style, cell, fault, _fitting(style, size), seed, dtype, init)


def _fitting(style: str, sizes: Mapping[str, int]) -> dict[str, int]:
    """The sizes that fit a style: one style takes a single sequence."""
    return {**sizes, "B": 1} if style == "gate_by_gate" else dict(sizes)


def sample(everything: Sequence[Case], count: int, seed: int = 0) -> list[Case]:
    """About that many, equally many per precision and initialisation, the same at every call."""
    groups: dict[tuple[str, float | None], list[Case]] = {}
    for case in everything:
        groups.setdefault((case.dtype, case.init), []).append(case)
    rng, chosen = np.random.default_rng(seed), []
    for group in groups.values():
        most = min(len(group), -(-count // len(groups)))
        chosen += [group[k] for k in sorted(rng.choice(len(group), most, replace=False))]
    return chosen
