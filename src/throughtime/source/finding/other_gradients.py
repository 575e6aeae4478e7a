"""Other gradients that a parameter may have than the one that is called like it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from throughtime.source.pairing import HeldArray, is_named_gradient, same_names

MOST_OF_ONE_SHAPE = 4  # gradients by name, which are tried in the place of one that is not right


def other_gradients(
    found: Mapping[str, tuple[HeldArray, HeldArray]],
    right: Sequence[str],
    every: Sequence[HeldArray],
) -> dict[str, list[HeldArray]]:
    """The gradients that may belong to each parameter whose own is not right, the likelier first.

    Args:
        found: parameters with their gradients, by name.
        right: the names of those whose gradient is right.
        every: all arrays that may be gradients.
    """
    used = {gradient.text for _, gradient in found.values()}
    return {
        name: [*same_names(parameter, gradient, every), *_of_one_shape(parameter, every, used)]
        for name, (parameter, gradient) in found.items()
        if name not in right
    }


def _of_one_shape(
    parameter: HeldArray, others: Sequence[HeldArray], used: set[str]
) -> list[HeldArray]:
    """Gradients by name that no parameter has, of a parameter's shape; none where they are many."""
    found = [
        other
        for other in others
        if other.text not in used
        and other.value.shape == parameter.value.shape
        and is_named_gradient(other)
    ]
    return found if len(found) <= MOST_OF_ONE_SHAPE else []


def beside(
    better: Mapping[str, str], others: Mapping[str, list[HeldArray]], right: Sequence[str]
) -> dict[str, str]:
    """Gradients that stand where others that are right were found, of parameters still wrong.

    Where a network sums up what its layers keep of their last call, it does so for all of them.
    """
    owners = {text.rpartition(".")[0] for text in better.values()} - {""}
    found = {}
    for name, several in others.items():
        there = list({p.text: 0 for p in several if p.text.rpartition(".")[0] in owners})
        if name not in right and len(there) == 1 and there[0] not in better.values():
            found[name] = there[0]
    return found
