"""Where the time of a training step goes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from time import perf_counter
from typing import Any

from throughtime.training import Trainer
from throughtime.training import trainer as steps

PARTS = ("forward", "loss", "backward", "clip", "optimiser", "rest")
UPDATES, SECONDS = 200, 1.0  # what comes first


def shares(trainer: Trainer) -> dict[str, float]:
    """Share of every part in the time of real updates, from 0 to 1; in all 1.

    "rest" is what lies between the others: the learning rate, looking for what is no finite
    number, carrying the state.
    """
    spent = dict.fromkeys(PARTS, 0.0)
    with ExitStack() as stack:
        for part, owner, name in (
            ("forward", trainer.network, "forward"),
            ("loss", trainer.network, "loss_of"),
            ("backward", trainer.network, "backward"),
            ("clip", steps, "clip"),
            ("optimiser", trainer.optimiser, "update"),
        ):
            stack.enter_context(_watched(owner, name, spent, part))
        began, updates = perf_counter(), 0
        while updates < UPDATES and perf_counter() - began < SECONDS:
            trainer.step()
            updates += 1
        total = perf_counter() - began
    spent["rest"] = total - sum(spent.values())
    return {part: seconds / total for part, seconds in spent.items()}


@contextmanager
def _watched(owner: Any, name: str, spent: dict[str, float], part: str) -> Iterator[None]:
    """Within it, the time in `owner.name` is added to `spent[part]`."""
    original: Callable[..., Any] = getattr(owner, name)

    def watched(*arguments: Any, **options: Any) -> Any:
        began = perf_counter()
        try:
            return original(*arguments, **options)
        finally:
            spent[part] += perf_counter() - began

    own = name in vars(owner)  # an instance has its methods from its class
    setattr(owner, name, watched)
    try:
        yield
    finally:
        if own:
            setattr(owner, name, original)
        else:
            delattr(owner, name)
