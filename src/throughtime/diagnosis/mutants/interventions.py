"""A mutation of the backward pass: what is done otherwise, and at which place."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

Intervention: TypeAlias = Callable[..., Any]
Key: TypeAlias = tuple[str, str, int | None, int | None]
"""What a mutation is in all models of a network: its fault, where it is, layer and direction."""

# Places that the output layer's own gradient depends on; in the recursion; in the products.
HEAD_PLACES = frozenset({"dy", "seen", "kept_V", "kept_d", "head_slope"})
RECURSION_PLACES = frozenset(
    {"cache", "carried", "dh", "c_before", "update", "dgates", "slopes", "cell_slope", "U", "cells"}
    | {"paths", "dx", "dh_out", "dm", "halves", "own_time", "dx_in_time", "dx_halves"}
    | {"order", "quantity", "W", "windows", "head_slope", "handed_back", "step"}
)
# The place of a step's edits, where a cell is given by its equations …
STEP = "step"
# … and the other places that any cell has.
OF_ANY_CELL = HEAD_PLACES | {f"kept_{kind}" for kind in "WUbcpRE"}
OF_ANY_CELL |= {"carried", "dh", "dh_out", "order", "windows", "handed_back", "cache", "x"}
OF_ANY_CELL |= {"h_before", "dx", "halves", "own_time", "dx_in_time", "dx_halves", STEP}
# Where several mutations may stand at once: each changes a part of its own.
SHARED_PLACES = frozenset({"slopes", "U", "quantity", STEP})


@dataclass(frozen=True)
class Mutation:
    """One fault, put into the backward pass.

    Attributes:
        fault: its identifier.
        where: what it concerns, in words: "gate o", "k = 3"; "" where there is only one way.
        interventions: (place, intervention) pairs; an intervention takes the right value and, by
            keyword, what is known at the place, and returns the wrong value.
        layer: the layer that has it; None for all of them.
        direction: the direction that has it, 0 or 1; None for both.
        facts: what it says in the fault's sentence, beside `where`, as pairs.
    """

    fault: str
    where: str
    interventions: tuple[tuple[str, Intervention], ...]
    layer: int | None = None
    direction: int | None = None
    facts: tuple[tuple[str, str], ...] = ()

    @property
    def key(self) -> Key:
        """What it is in other models of the same network."""
        return self.fault, self.where, self.layer, self.direction

    @property
    def places(self) -> frozenset[str]:
        """The places at which it intervenes."""
        return frozenset(place for place, _ in self.interventions)

    @property
    def everywhere(self) -> bool:
        """Whether all layers and directions have it."""
        return self.layer is None and self.direction is None

    @property
    def in_head(self) -> bool:
        """Whether the output layer's own gradient shows it."""
        return bool(self.places & HEAD_PLACES)

    @property
    def in_recursion(self) -> bool:
        """Whether the gradients of the pre-activations below the head depend on it."""
        return bool(self.places & RECURSION_PLACES)

    def with_places(self, *interventions: tuple[str, Intervention]) -> Mutation:
        """The mutation with further interventions, several at one place among them."""
        return replace(self, interventions=(*self.interventions, *interventions))

    def __str__(self) -> str:
        return f"{self.fault} ({self.where})" if self.where else self.fault


class Interventions:
    """What the backward pass calls at each place where people go wrong; usually the identity.

    Args:
        mutations: the mutations that are put in.
        layer, direction: the layer and direction of these places; None for what all of them share.
    """

    def __init__(
        self,
        mutations: Iterable[Mutation] = (),
        layer: int | None = None,
        direction: int | None = None,
    ) -> None:
        self.interventions: dict[str, list[Intervention]] = {}
        for one in mutations:
            if _meant(one.layer, layer) and _meant(one.direction, direction):
                for place, intervention in one.interventions:
                    self.interventions.setdefault(place, []).append(intervention)

    def __call__(self, place: str, value: Any, **known: Any) -> Any:
        for intervention in self.interventions.get(place, ()):
            value = intervention(value, **known)
        return value


def _meant(by_mutation: int | None, here: int | None) -> bool:
    return by_mutation is None or here is None or by_mutation == here
