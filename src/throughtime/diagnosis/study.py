"""A laboratory that keeps what it found: roles of tensors, the loss's reduction, the undone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from throughtime.arrays import Array
from throughtime.diagnosis.candidate import Undo
from throughtime.diagnosis.factors import Ratio, over
from throughtime.diagnosis.laboratory import Laboratory, Values
from throughtime.diagnosis.naming import Known
from throughtime.diagnosis.observed import Observed
from throughtime.diagnosis.reduction import Reduction, reduction_of
from throughtime.diagnosis.roles import Roles, Sides, roles_of, sides_of

STEEPEST = 4  # entries of each tensor that tell a factor at another length


@dataclass
class Study(Laboratory):
    """See the module.

    Args:
        undone: what takes the faults found so far out of an observation, in their order.
    """

    undone: list[Undo] = field(default_factory=list)

    def look(
        self,
        steps: int | None = None,
        values: Values | None = None,
        places: Mapping[str, Array] | None = None,
        again: bool = False,
    ) -> Observed | None:
        """As in a laboratory, with the faults found so far undone."""
        found = super().look(steps, values, places, again)
        for undo in self.undone:
            found = None if found is None else found.with_gradient(undo(found))
        return found

    def witnessed(self, observed: Observed) -> Observed:
        """The same; where a few entries differ by little, these measured a second time.

        While a fault stood in their way they were wrong with all others, and believed.
        """
        doubtful = observed.doubtful()
        again = self.look(places=doubtful, again=True) if doubtful else None
        return observed if again is None else observed.with_second(again)

    def undo(self, how: Undo) -> None:
        """From now on, in whatever is looked at, and in what was."""
        self.undone.append(how)
        self.seen = {
            steps: None if found is None else found.with_gradient(how(found))
            for steps, found in self.seen.items()
        }

    @cached_property
    def roles(self) -> Roles:
        """Of the tensors."""
        return roles_of(self)

    @cached_property
    def sides(self) -> Sides | None:
        """The last layer's two directions, None where it has one."""
        return sides_of(self, self.roles)

    @cached_property
    def reduction(self) -> Reduction:
        """Of the loss."""
        return reduction_of(self, self.roles)

    def known(self, observed: Observed, names: Sequence[str]) -> Known:
        """What a factor in some tensors may be measured by."""
        reduction = self.reduction
        said = tuple(text for text in [reduction.said(self.steps)] if text)
        return Known(
            self.steps,
            self.sizes.get("B", reduction.sequences(self.steps)),
            self.sizes.get("O", reduction.outputs or None),
            reduction.kind,
            observed.loss,
            self._at_other_lengths(observed, names),
            said,
        )

    def _at_other_lengths(self, observed: Observed, names: Sequence[str]) -> dict[int, Ratio]:
        found: dict[int, Ratio] = {}
        for steps in (1, 2, 3):
            if self.steps is None or steps >= self.steps or len(found) == 2:
                continue
            places = {name: steepest(observed, name) for name in names}
            there = self.seen.get(steps) or self.look(steps, places=places)
            ratio = None if there is None else over(there, names)
            if ratio is not None and ratio.fits:
                found[steps] = ratio
        return found


def steepest(observed: Observed, name: str) -> Array:
    """The places of a tensor's largest numerical derivatives."""
    own = observed.sampled[name]
    order = np.argsort(-np.abs(own.numerical))[:STEEPEST]
    return np.asarray(np.sort(own.places[order]))
