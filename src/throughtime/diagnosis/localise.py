"""Which part of a network is wrong, and candidates that name no more than the place."""

from __future__ import annotations

from collections.abc import Sequence

from throughtime.arrays import Array
from throughtime.diagnosis.candidate import Candidate
from throughtime.diagnosis.observed import LIMIT, Observed
from throughtime.diagnosis.study import Study

BETWEEN = (
    "dh_next_missing",
    "dc_next_missing",
    "dh_overwritten",
    "recurrent_untransposed",
    "direct_path_only",
    "direct_path_missing",
    "term_counted_twice",
    "wrong_matrix",
    "only_last_step_kept",
    "last_cache_at_every_step",
    "update_gate_term_missing",
)
OUTPUT = (
    "padding_counted",
    "targets_shifted",
    "output_gradient_at_last_step_only",
    "only_last_step_kept",
)
INSIDE = (
    "derivative_missing",
    "derivative_of_activated_value",
    "gates_swapped_in_dc",
    "current_h_for_previous",
    "current_c_for_previous",
    "wrapped_initial_state",
    "states_off_by_one",
    "update_gate_term_missing",
    "dropout_mask_redrawn",
)


def parts_of(observed: Observed, study: Study) -> set[str]:
    """Of what is wrong below the output layer: "bias", "input", "recurrent"."""
    masks = study.roles.recurrent or {}
    known = any(mask.any() for mask in masks.values())
    found = set()
    for name in observed.wrong():
        off = observed.sampled[name].places[observed.z(name) > LIMIT]
        mask: Array | None = masks.get(name)
        if name in study.roles.vectors:
            found.add("bias")
        elif mask is None or not known:
            found.add("other")
        else:
            inside = mask.reshape(-1)[off]
            found |= ({"recurrent"} if inside.any() else set()) | (
                set() if inside.all() else {"input"}
            )
    return found


def exact_layer(observed: Observed, study: Study) -> tuple[str, ...]:
    """Tensors below the output layer that are right, recurrent weights and biases among them, where
    other biases are wrong: δ itself is wrong there."""
    masks, vectors = study.roles.recurrent or {}, set(study.roles.vectors)
    wrong = set(observed.wrong())
    right = [name for name in study.roles.hidden if name not in wrong]
    whole = any(masks[name].any() for name in right if name in masks)
    return tuple(right) if whole and vectors & set(right) and vectors & wrong else ()


def output_right(study: Study) -> str:
    """In words."""
    return f"The output layer, {', '.join(study.roles.output)}, agrees."


def found_candidate(
    found: tuple[str, Sequence[str], float], lead: str, observed: Observed
) -> Candidate:
    """A candidate from a fault, sentences, and how sure it is."""
    fault, said, confidence = found
    facts = {"T": str(observed.steps), "where": ", ".join(observed.wrong())}
    return Candidate((fault,), evidence=(lead, *said), facts=facts, confidence=confidence)


def named(fault: str, where: str, confidence: float, *evidence: str) -> Candidate:
    """A candidate for one fault at a place."""
    facts = {"where": where}
    return Candidate((fault,), where, evidence=evidence, facts=facts, confidence=confidence)


def family(
    name: str, evidence: Sequence[str], members: Sequence[str], where: str = ""
) -> Candidate:
    """A candidate that names a place, and the faults that there may be."""
    facts = {"where": where} if where else {}
    return Candidate((name,), where, None, tuple(evidence), facts, tuple(members), 0.5)


def of_projection(found: tuple[str, str], lead: str) -> Candidate:
    """A candidate from a fault of a projection and a sentence."""
    fault, said = found
    facts = {"where": "another factor"}
    return Candidate((fault,), evidence=(lead, said), facts=facts, confidence=0.9)
