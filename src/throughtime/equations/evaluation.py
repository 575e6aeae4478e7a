"""Values of nodes one by one, over any leading axes, so that single ones can be replaced.

`phases` compiles a whole step, which is quick but always the same. Here each operation is a
function of its own, and whoever runs them may put another value in the place of any.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from throughtime.arrays import Array
from throughtime.equations.functions import sigmoid
from throughtime.equations.graph import OPERATIONS, Node
from throughtime.equations.operations import ELEMENTWISE
from throughtime.equations.phases import NAMESPACE, lift

Function = Callable[..., Array]

# Operations whose code would be called again and again only to say the same.
DIRECT: dict[str, Function] = {
    "add": np.add,
    "subtract": np.subtract,
    "multiply": np.multiply,
    "divide": np.divide,
    "negative": np.negative,
    "tanh": np.tanh,
    "sigmoid": sigmoid,
    "let": lambda x: x,
}


def function_of(node: Node) -> Function:
    """From the values of a node's operands to its own; leading axes of these are kept."""
    alike = all(len(x.shape) == len(node.shape) or not x.batched for x in node.operands)
    if node.operation in DIRECT and alike:
        return DIRECT[node.operation]
    names = [f"x{k}" for k in range(len(node.operands))]
    words = list(names)
    for k, operand in enumerate(node.operands):
        fewer = len(operand.shape) < len(node.shape) and operand.batched
        if node.operation in ELEMENTWISE and fewer:
            words[k] = f"lift({names[k]}, {len(operand.shape)}, {len(node.shape)})"
    if node.operation == "concatenate" and node.batched:
        code = f"join([{', '.join(words)}], {len(node.shape)})"
    else:
        form = OPERATIONS[node.operation].numpy
        code = form(node, words, node.batched) if callable(form) else form.format(*words)
    space: dict[str, Any] = dict(NAMESPACE) | {"lift": lift}
    made: Function = eval(f"lambda {', '.join(names)}: {code}", space)
    return made


class Values:
    """The values of a graph's nodes, computed where they are asked for and kept.

    Args:
        known: by number, values of leaves and of whatever else is known, all with the same leading
            axes if they are batched.
        functions: those of nodes that have been asked for, shared by many runs.
    """

    def __init__(self, known: Mapping[int, Array], functions: dict[int, Function]) -> None:
        self.known, self.functions = dict(known), functions

    def __call__(self, node: Node) -> Array:
        """The value of a node."""
        found = self.known.get(node.number)
        if found is None:
            if node.operation == "constant":
                found = np.asarray(node.value)
            else:
                found = self.function(node)(*map(self, node.operands))
            self.known[node.number] = found
        return found

    def function(self, node: Node) -> Function:
        """The function of a node."""
        own = self.functions.get(node.number)
        if own is None:
            own = self.functions[node.number] = function_of(node)
        return own
