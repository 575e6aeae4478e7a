"""Faults of the products: what δz is multiplied by, and which steps' contributions are kept."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from throughtime.arrays import Array
from throughtime.diagnosis.mutants.faults_between import of_each_layer
from throughtime.diagnosis.mutants.interventions import Intervention, Mutation, mutation
from throughtime.diagnosis.mutants.model import Model
from throughtime.network import reverse


def current_h_for_previous(model: Model) -> Iterator[Mutation]:
    """h_t for h_{t−1}."""
    edit: Intervention = lambda h, states: states[1:]  # noqa: E731
    yield from of_each_layer(model, "current_h_for_previous", h_before=edit)


def wrapped_initial_state(model: Model) -> Iterator[Mutation]:
    """The last state at the first step."""
    edit: Intervention = lambda h, states: np.concatenate([states[-1:], h[1:]])  # noqa: E731
    yield from of_each_layer(model, "wrapped_initial_state", h_before=edit)


def states_off_by_one(model: Model) -> Iterator[Mutation]:
    """h_{t−2} for h_{t−1}, and in the head h_{t−1} for h_t, or there alone."""

    def earlier(first: Any) -> Intervention:
        return lambda h, states: np.concatenate([first(states), h[:-1]])

    firsts = {
        "h_T first": lambda states: states[-1:],
        "h_{T−1} first": lambda states: states[-2:-1],
        "h_0 first": lambda states: states[:1],
    }
    heads: dict[str, Intervention] = {
        "h_0 first in the head": lambda seen, before: before,
        "0 first in the head": lambda seen, before: np.concatenate([0 * seen[:1], seen[:-1]]),
    }
    name = "states_off_by_one"
    for words, first in firsts.items():
        for in_head, head in heads.items() if model.has_head else ():
            yield mutation(name, f"{words}, {in_head}", h_before=earlier(first), seen=head)
        yield mutation(name, f"{words}, recurrent weights alone", h_before=earlier(first))
    if model.has_head:
        for in_head, head in heads.items():
            yield mutation(name, f"{in_head} alone", seen=head)


def time_reversed(model: Model) -> Iterator[Mutation]:
    """x of the step that is as far from the end, of all steps or of the sequence's own."""
    if model.steps < 2:
        return
    lengths = model.data.lengths
    yield from of_each_layer(model, "time_reversed", x=lambda x: x[::-1])
    if (lengths < model.steps).any():
        words = "within each length"
        yield from of_each_layer(model, "time_reversed", words, x=lambda x: reverse(x, lengths))


def sequences_swapped(model: Model) -> Iterator[Mutation]:
    """x of another sequence."""
    if model.data.x.shape[1] < 2:
        return
    name = "sequences_swapped"
    yield from of_each_layer(model, name, x=lambda x: x[:, ::-1])
    if model.data.x.shape[1] > 2:
        yield from of_each_layer(model, name, "the next one's", x=lambda x: np.roll(x, -1, 1))
        yield from of_each_layer(model, name, "the one before's", x=lambda x: np.roll(x, 1, 1))


def only_last_step_kept(model: Model) -> Iterator[Mutation]:
    """`=` for `+=`: in all tensors, in the recurrent ones, or in one kind."""
    T, B = model.steps, len(model.data.lengths)
    if T < 2:
        return
    kinds = {"": "WUbcpRVdE", "recurrent layers": "WUbcpR", "W": "W", "U": "U", "W and U": "WU"}
    kinds |= {"b": "bc", "output layer": "Vd", "V": "V", "d": "d"}
    if model.projected:
        kinds |= {"R": "R"}
    if not model.has_head:
        kinds = {words: letters for words, letters in kinds.items() if not set(letters) <= {*"Vd"}}
    for words, letters in kinds.items():
        for kept, mask in _kept(T, B).items():
            where = f"{words}, {kept}" if words else kept
            edits = tuple((f"kept_{kind}", _times(mask)) for kind in letters)
            yield Mutation("only_last_step_kept", where, edits)
    if model.has_embedding:
        for kept, mask in _kept_of_classes(model.data.x).items():
            yield mutation("only_last_step_kept", f"embedding, {kept}", kept_E=_times(mask))


def _kept_of_classes(x: Array) -> dict[str, Array]:
    """(T, B): what `dE[x] += dx` leaves of contributions to one and the same row, in NumPy."""
    T, B = x.shape[:2]
    classes = x.argmax(axis=-1)
    newest, of_a_step = np.zeros((T, B)), np.zeros((T, B))
    for t, b in np.ndindex(T, B):
        newest[t, b] = classes[t, b] not in classes.reshape(-1)[t * B + b + 1 :]
        of_a_step[t, b] = classes[t, b] not in classes[t, b + 1 :]
    found = {"the last of each class left": newest}
    if (of_a_step == 0).any():
        found["the last of each class in a step left"] = of_a_step
    return found


def _kept(T: int, B: int) -> dict[str, Array]:
    """(T, B): 1 for contributions that are left."""
    first, last = np.zeros((T, B)), np.zeros((T, B))
    first[0], last[-1] = 1, 1
    found = {"step 0 left": first, f"step {T - 1} left": last}
    if B > 1:  # sequence after sequence
        newest, oldest = np.zeros((T, B)), np.ones((T, B))
        newest[0, -1] = 1
        oldest[1:, 0] = 0
        last_sequence = np.zeros((T, B))
        last_sequence[:, -1] = 1
        found["step 0 of the last sequence left"] = newest
        found["step 0 of the first sequence and all of the others left"] = oldest
        found["the last sequence left"] = last_sequence
    return found


def _times(mask: Array) -> Intervention:
    return lambda kept: kept * mask


OPERANDS = (
    current_h_for_previous,
    wrapped_initial_state,
    states_off_by_one,
    time_reversed,
    sequences_swapped,
    only_last_step_kept,
)
