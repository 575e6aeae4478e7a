"""Values of the forward pass that are others by the time the backward pass reads them.

Two things write over what was kept: the next step, which assigns the same attribute, and a
statement that changes the array that a kept value is a view of. In neither case is a line of the
backward pass wrong by itself, and many of them are wrong at once. What shows it is an experiment:
with the values of the forward pass put in where they are read, the gradients become right.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from throughtime.arrays import Array
from throughtime.source.events import Event, Instrumented, Place
from throughtime.source.lines.truths import PLACE
from throughtime.source.probes import ProbeSite


@dataclass(frozen=True, eq=False)
class Overwritten:
    """A kept value that was written over.

    Attributes:
        read: the first place that runs in the backward pass and reads it.
        kept: where the forward pass assigns or uses it.
        by: where it is changed; None where the next step's assignment does that.
        values: what the reads should give, by sequence number.
        but: where it is right at all steps but one: "first" or "last" of the forward pass.
    """

    read: ProbeSite
    kept: ProbeSite
    by: ProbeSite | None
    values: Mapping[int, Array]
    but: str = ""


def overwritten_values(
    code: Instrumented, parameters: Sequence[Array], last: int
) -> list[Overwritten]:
    """All values that may have been written over, in the order in which they are read.

    Args:
        code: the program.
        parameters: its arrays.
        last: the sequence number of the last value of a run of the loss that moves it.
    """
    events, _ = code.record_gradient()
    forward = {event.place for event in code.record_loss() if event.sequence <= last}
    stored = [e for e in events if e.place in forward and e.site.assigns and e.value.ndim]
    used = [e for e in events if e.place in forward and e.value.ndim]
    later = [e for e in events if e.place not in forward]
    # A parameter is read as it is at every step, and may have been made at several.
    reads = _by_place(e for e in later if _is_read(e.site) and not _is_one_of(e, parameters))
    named = _by_place(later)
    found = [
        *_by_the_next_step(reads, stored),
        *_in_place(reads, stored, events),
        *_at_one_step(named, used),
    ]
    return sorted(found, key=lambda one: min(one.values))


def _by_place(events: Iterable[Event]) -> dict[Place, list[Event]]:
    """Events by the place that they come from, in their order."""
    found: dict[Place, list[Event]] = defaultdict(list)
    for event in events:
        found[event.place].append(event)
    return found


def _is_one_of(event: Event, parameters: Sequence[Array]) -> bool:
    """Whether a value is a parameter, or no array that could be told from one."""
    owner = event.owner
    return not isinstance(owner, np.ndarray) or any(
        np.may_share_memory(owner, array) for array in parameters
    )


def _is_read(site: ProbeSite) -> bool:
    """Whether a variable is looked at, or given another name."""
    return site.kind in ("value", "store") and PLACE.fullmatch(site.text) is not None


def _by_the_next_step(
    reads: Mapping[Place, Sequence[Event]], stored: Sequence[Event]
) -> Iterator[Overwritten]:
    """What is the same at all steps of the backward pass: what the last one of the other made."""
    made = _by_place(stored)
    for own in reads.values():
        first = own[0].value
        if len(own) < 2 or any(not np.array_equal(first, other.value) for other in own[1:]):
            continue
        plain = own[0].site.text.removesuffix(".T")
        kept = [
            steps
            for steps in made.values()
            if len(steps) == len(own)
            and _equal(steps[-1].value, first) is not None
            and all(_equal(step.value, first) is None for step in steps[:-1])
        ]
        named = [steps for steps in kept if steps[0].site.target == plain] or kept
        if named:
            steps = named[0]
            turned = _equal(steps[-1].value, first)
            values = {
                event.sequence: (step.value.T if turned else step.value).reshape(first.shape)
                for event, step in zip(own, reversed(steps), strict=True)
            }
            yield Overwritten(own[0].site, steps[0].site, None, values)


def _at_one_step(
    reads: Mapping[Place, Sequence[Event]], used: Sequence[Event]
) -> Iterator[Overwritten]:
    """What is given a name at each step, and is what the forward pass used at all but one."""
    made = _by_place(used)
    for own in reads.values():
        count = len(own)
        if own[0].site.kind != "store" or count < 3 or own[0].value.size < 2:
            continue
        for steps in made.values():
            if len(steps) != count or steps[0].value.shape != own[0].value.shape:
                continue
            pairs = [(e, step.value) for e, step in zip(own, reversed(steps), strict=True)]
            off = [n for n, (e, value) in enumerate(pairs) if not np.array_equal(e.value, value)]
            if len(off) != 1 or off[0] not in (0, count - 1):
                continue
            if all(np.array_equal(step.value, steps[0].value) for step in steps):
                continue
            values = {pairs[off[0]][0].sequence: pairs[off[0]][1]}
            but = "last" if off[0] == 0 else "first"
            yield Overwritten(own[0].site, steps[0].site, None, values, but)
            break


def _equal(one: Array, other: Array) -> bool | None:
    """Whether two arrays hold the same, the one transposed; None where they do not."""
    if one.size == other.size and np.array_equal(one.reshape(-1), other.reshape(-1)):
        return False
    return True if one.ndim == 2 and np.array_equal(one.T, other) else None


def _in_place(
    reads: Mapping[Place, Sequence[Event]], stored: Sequence[Event], events: Sequence[Event]
) -> Iterator[Overwritten]:
    """What was kept as an array that was changed afterwards, by the forward pass itself."""
    kept: dict[str, Event] = {}
    for event in stored:
        if event.site.kind == "store" and isinstance(event.owner, np.ndarray):
            kept[_key(event.site, event.site.target)] = event
    end = max((event.sequence for event in stored), default=0)
    for own in reads.values():
        event = own[0]
        source = kept.get(_key(event.site, event.site.text))
        if source is None or len(own) != 1 or source.value.shape != event.value.shape:
            continue
        if np.array_equal(source.value, event.value) or not np.shares_memory(
            source.owner, event.owner
        ):
            continue
        by = [
            other.site
            for other in events
            if source.sequence < other.sequence <= end
            and other.site.kind in ("whole", "changed")
            and isinstance(other.owner, np.ndarray)
            and np.shares_memory(other.owner, source.owner)
        ]
        if by:
            values = {event.sequence: source.value}
            yield Overwritten(event.site, source.site, by[0], values)


def _key(site: ProbeSite, text: str) -> str:
    """A variable of an object, the same in all methods; or one of a function."""
    where = site.function.rpartition(".")[0] if text.startswith("self.") else site.function
    return f"{site.path}: {where}: {text}"
