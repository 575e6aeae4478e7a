"""Other gradients that a parameter may have than the one that is called like it."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping, Sequence

from throughtime.source.pairing import HeldArray, is_named_gradient, same_names
from throughtime.source.text import tree_of

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


def is_share(texts: Iterable[str], gradient: str) -> bool:
    """Whether a gradient is one step's share, which the user's code adds up elsewhere.

    A layer that is run once a step keeps what its last call gave, and what is summed over all
    calls may be a variable that only an optimiser is given. Where the sum is put back into the
    layer, it is no share.

    Args:
        texts: of the user's files.
        gradient: an expression.

    Example:
        >>> text = "total += self.layers[2].gradient"
        >>> is_share([text], "net.layers[2]._gradient")
        True
        >>> is_share([text + "\\nself.layers[2].gradient = total"], "net.layers[2]._gradient")
        False
    """
    own = _within_object(gradient)
    added = False
    for node in (node for text in texts for node in ast.walk(tree_of(text))):
        if isinstance(node, ast.AugAssign) and isinstance(node.op, ast.Add):
            same = _within_object(ast.unparse(node.value)) == own
            added = added or (same and _within_object(ast.unparse(node.target)) != own)
        elif isinstance(node, ast.Assign) and own in map(
            _within_object, map(ast.unparse, node.targets)
        ):
            return False
    return added and "." in own


def _within_object(text: str) -> str:
    """An expression without the object at its beginning and a mark of privacy before its end."""
    way, _, leaf = text.partition(".")[2].rpartition(".")
    return f"{way}.{leaf.strip('_')}"
