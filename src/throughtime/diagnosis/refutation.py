"""Names that are refuted before they are given.

A fault whose own mutant can be made, since the network is known, is put into our own backward pass.
If that does not give the gradient under test, the fault is not named: what is left of the name is
the place. What a layout or a variant says of masks is believed in the same way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any

import numpy as np

from throughtime.diagnosis.experiments import Study
from throughtime.diagnosis.faults import FAULTS
from throughtime.diagnosis.localise import BETWEEN, INSIDE, OUTPUT, family_candidate
from throughtime.diagnosis.mutants import Model, explain, mutants_of
from throughtime.diagnosis.observed import CandidateCause, Observed
from throughtime.diagnosis.tolerances import PASSES_OF_A_REFUTATION, SAME_STATE
from throughtime.gradcheck import Budget

MASK = "dropout_mask_redrawn"
# What is read off a gradient after the backward pass, so that it needs no mutation to be refuted.
READ_OFF = ("gate_scaled", "tensor_scaled", "gates_permuted", "bias_of_gate_copied")
# Faults that pair a step's δ, or its target, with what belongs to another step or sequence.
OF_OTHER_STEPS = frozenset(
    {"targets_shifted", "sequences_swapped", "time_reversed", "last_cache_at_every_step"}
    | {"states_off_by_one", "wrapped_initial_state", "only_one_sequence_counts"}
)
MEMBERS = {"output_layer": OUTPUT, "inside_a_step": INSIDE, "between_steps": BETWEEN}


@dataclass
class Refutation:
    """What refutes a name.

    Args:
        study: experiments on the target.
        model: the network behind the target, if its layout is believed.
        maskless: whether it is known that no mask is drawn, or that it makes no difference.
        error: of the network's gradient, relative to a block's largest entry; by default rounding.
        spared: faults that the network does not refute, since its data are not all known.
    """

    study: Study
    model: Model | None = None
    maskless: bool = False
    error: float | None = None
    spared: frozenset[str] = frozenset()
    # With the gradient that was seen, which keeps its identity from being used again.
    _known: dict[tuple[str, int], tuple[object, bool]] = field(default_factory=dict, init=False)

    def denies(self, fault: str, observed: Observed) -> bool:
        """Whether a fault is known not to be what is seen."""
        if fault == MASK and self.maskless:
            return True
        if self.model is None or FAULTS[fault].mutations is None or fault in self.spared:
            return False
        key = fault, id(observed.gradient)
        if key not in self._known:
            denied = not self._gives(self.model, (fault,), observed)
            self._known[key] = observed.gradient, denied
        return self._known[key][1]

    def _gives(self, model: Model, faults: Sequence[str], observed: Observed) -> bool:
        """Whether our own backward pass with these faults gives the gradient."""
        kinds = {name: array.dtype for name, array in self.study.target.parameters.items()}
        seen = {name: g.astype(kinds[name]) for name, g in observed.gradient.items()}
        budget = Budget(mutants_of(model, faults) + PASSES_OF_A_REFUTATION)
        found = explain(model, seen, error=self.error, among=faults, budget=budget)
        return any(set(faults) <= set(m.faults) and not m.unexplained for m in found)

    def _denied(self, candidate: CandidateCause, observed: Observed) -> list[str]:
        """The faults of a candidate that are known not to be what is seen.

        Names that experiments elsewhere have found are all given up, or none.
        """
        names = list(candidate.faults)
        known = [n for n in names if FAULTS[n].mutations is not None or n in READ_OFF]
        if self.model is None or candidate.undone is not None or known != names:
            return [name for name in names if self.denies(name, observed)]
        if self.spared.intersection(names):
            return [name for name in names if self.denies(name, observed)]
        return [] if self._gives(self.model, names, observed) else names

    def left_of(self, candidate: CandidateCause, observed: Observed) -> CandidateCause | None:
        """The candidate without what is refuted: its place, where a name was; None: nothing."""
        denied = self._denied(candidate, observed)
        beside = self._possible(candidate.alternatives, observed)
        if not denied:
            return replace(candidate, alternatives=beside)
        if beside and not FAULTS[beside[0]].family:
            return replace(candidate, faults=beside[:1], alternatives=beside[1:])
        if candidate.undone is not None:
            return None
        place = self._place(observed)
        if place is None:
            return None
        names = ", ".join(denied)
        said = f"It is not {names}, which in our own backward pass gives a different gradient."
        if MASK in denied:
            said = f"It is not {names}: no mask is drawn, or the mask makes no difference."
        if denied == ["gate_scaled"]:
            return family_candidate(
                "inside_a_step", (*candidate.evidence[:1], said), (), candidate.where
            )
        left = self._possible(MEMBERS[place], observed)
        return family_candidate(place, (*candidate.evidence[:1], said), left)

    def _possible(self, names: Sequence[str], observed: Observed) -> tuple[str, ...]:
        return tuple(name for name in names if not self.denies(name, observed))

    def _place(self, observed: Observed) -> str | None:
        """Where it is, as far as lengths tell; None where they tell nothing."""
        one, output = self.study.at(1), set(self.study.roles.output)
        if one is None or not output:
            return None
        if set(observed.wrong()) & output:
            return "output_layer"
        return "inside_a_step" if one.wrong() else "between_steps"


def undetermined(model: Model) -> frozenset[str]:
    """The faults that recovered data do not refute: where two sequences are in the same state.

    Of their targets at that step only the sum matters to the loss, so that each may be another one;
    so may each δ be, and these faults multiply it with values in which the sequences differ.
    """
    h = [own.h[1:] for own in model.top().values()]
    for states in h:
        scale = float(np.abs(states).max()) or 1.0
        for one, other in combinations(range(states.shape[1]), 2):
            apart = np.abs(states[:, one] - states[:, other]).max(axis=1)
            if apart.min() <= SAME_STATE * scale:
                return OF_OTHER_STEPS
    return frozenset()


def draws_no_mask(layout: Any) -> bool:
    """Whether a layout says that nothing is dropped."""
    module = getattr(layout, "module", None)
    if module is not None:
        return not any(
            getattr(part, "dropout", 0) or hasattr(part, "p") for part in module.modules()
        )
    return hasattr(layout, "mask") and layout.mask is None and not layout.between
