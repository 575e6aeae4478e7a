"""A cell's forward loop as a user of PyTorch or JAX would write it for speed, from its equations.

Rows are sequences, products with the inputs are taken out of the loop, and everything else goes
step by step. The same text runs in PyTorch eagerly and in `torch.jit.script`, and with other names
in JAX. Values are single numbers, which are (B, 1) here, and vectors (B, n).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from throughtime.cells import DerivedCell
from throughtime.codegen import of_input, plain
from throughtime.equations import Node, reachable

TORCH = {
    **{word: f"torch.{word}" for word in ("tanh", "sigmoid", "exp", "log", "sqrt", "relu", "abs")},
    "maximum": "torch.maximum",
    "cat": "torch.cat",
    "softplus": "softplus",
    "mean": "torch.mean({0}, -1, keepdim=True)",
    "sum": "torch.sum({0}, -1, keepdim=True)",
    "last": "-1",
    "zeros": "torch.zeros_like({0})",
}
JAX = {
    **{word: f"jnp.{word}" for word in ("tanh", "exp", "log", "sqrt", "abs", "maximum")},
    **{word: f"nn.{word}" for word in ("sigmoid", "relu", "softplus")},
    "mean": "jnp.mean({0}, -1, keepdims=True)",
    "sum": "jnp.sum({0}, -1, keepdims=True)",
    "cat": "jnp.concatenate",
    "last": "-1",
    "zeros": "jnp.zeros_like({0})",
}
INFIX = {"add": "+", "subtract": "-", "multiply": "*", "divide": "/"}
CALLED = {"tanh", "sigmoid", "exp", "log", "sqrt", "relu", "softplus"}


class NoCode(ValueError):
    """The cell does something that is not written here."""


@dataclass(frozen=True)
class CellCode:
    """The pieces of a loop.

    Attributes:
        states, parameters: their names.
        before: lines before the loop.
        names: of what depends on the inputs alone, which a step takes a row of.
        step: the lines of a step.
        after: the states after it.
    """

    states: tuple[str, ...]
    parameters: tuple[str, ...]
    before: tuple[str, ...]
    names: tuple[str, ...]
    step: tuple[str, ...]
    after: tuple[str, ...]


def cell_code(cell: DerivedCell, words: Mapping[str, str]) -> CellCode:
    """The pieces of a cell's loop, with these words for functions.

    Raises:
        NoCode: for a matrix as a state, and operations that are not written here.
    """
    trace = cell.derivation.trace
    nodes = reachable(trace.after.values())
    known = {trace.inputs.number: "x"}
    known |= {node.number: f"s_{name}" for name, node in trace.states.items()}
    known |= {node.number: f"p_{name}" for name, node in trace.parameters.items()}
    early: dict[int, str] = {}
    before: list[str] = []
    step: list[str] = []
    for node in nodes:
        if node.leaf:
            continue
        product = node.operation == "matmul" and of_input(plain(node.operands[1]), trace.inputs)
        outside = not node.batched or product or of_input(node, trace.inputs)
        name = f"v{node.number}"
        line = f"{name} = {_expression(node, known, words)}"
        known[node.number] = name
        (before if outside else step).append(line)
        if outside and node.batched:
            early[node.number] = name
    used = {o.number for n in nodes if n.number not in early for o in n.operands}
    names = [name for number, name in early.items() if number in used]
    names += ["x"] * (trace.inputs.number in {o.number for n in nodes for o in n.operands})
    after = tuple(known[node.number] for node in trace.after.values())
    return CellCode(
        tuple(f"s_{name}" for name in trace.states),
        tuple(f"p_{name}" for name in trace.parameters),
        tuple(before),
        tuple(dict.fromkeys(names)),
        tuple(step),
        after,
    )


def _expression(node: Node, known: Mapping[int, str], words: Mapping[str, str]) -> str:
    if len(node.shape) > 1 and node.batched:
        raise NoCode("a matrix for every sequence")
    given = [_word(operand, known) for operand in node.operands]
    operation = node.operation
    if operation in INFIX:
        return f"{given[0]} {INFIX[operation]} {given[1]}"
    if operation in CALLED:
        return f"{words[operation]}({given[0]})"
    if operation == "negative":
        return f"-{given[0]}"
    if operation == "power" and node.operands[1].value is not None:
        value = node.operands[1].value
        return f"{given[0]} * {given[0]}" if value == 2 else f"{given[0]} ** {value}"
    if operation in ("maximum", "minimum"):
        return _extreme(node, given, words)
    if operation in ("sum", "mean") and len(node.operands[0].shape) == 1:
        return words[operation].format(given[0])
    if operation == "matmul":
        a, b = node.operands
        if len(a.shape) == 2 and not a.batched and len(b.shape) == 1:
            return f"{given[1]} @ {given[0]}.T"
    if operation == "part":
        at = f"{node.start}:{node.stop}"
        return f"{given[0]}[..., {at}]" if node.batched else f"{given[0]}[{at}]"
    if operation == "concatenate":
        return f"{words['cat']}([{', '.join(given)}], {words['last']})"
    if operation == "reshape" and math.prod(node.shape) == 1:
        return given[0]
    raise NoCode(f"{operation} of {node.operands[0].shape if node.operands else ()}")


def _extreme(node: Node, given: list[str], words: Mapping[str, str]) -> str:
    """The larger, or the smaller, of two values; numbers become arrays, as PyTorch wants them."""
    sign = "-" if node.operation == "minimum" else ""
    full = []
    for k, operand in enumerate(node.operands):
        other = given[1 - k]
        word = given[k]
        if operand.value is not None:
            word = f"({words['zeros'].format(other)} + {word})"
        full.append(f"{sign}{word}")
    return f"{sign}{words['maximum']}({full[0]}, {full[1]})"


def _word(node: Node, known: Mapping[int, str]) -> str:
    if node.value is not None:
        return repr(float(node.value))
    return known[plain(node).number]


def torch_source(cell: DerivedCell) -> str:
    """`layer(x, states…, parameters…)`, all outputs (T, B, H)."""
    code = cell_code(cell, TORCH)
    arguments = ", ".join(("x", *code.states, *code.parameters))
    rows = [f"            {name}_t = {name}[t]" for name in code.names]
    lines = [f"    {line}" for line in code.before]
    body = [_renamed(line, code.names) for line in (*code.step, *code.after)]
    step, after = body[: len(code.step)], body[len(code.step) :]
    return "\n".join(
        [
            "import torch",
            "from torch.nn.functional import softplus",
            "",
            f"def layer({arguments}):",
            *lines,
            "    outputs = []",
            "    for t in range(x.shape[0]):",
            *(row[4:] for row in rows),
            *(f"        {line}" for line in step),
            *(
                f"        {name}_next = {word}"
                for name, word in zip(code.states, after, strict=True)
            ),
            *(f"        {name} = {name}_next" for name in code.states),
            f"        outputs.append({code.states[0]})",
            "    return torch.stack(outputs)",
            "",
        ]
    )


def jax_source(cell: DerivedCell) -> str:
    """The same with `jax.lax.scan`."""
    imports = ("import jax.numpy as jnp", "from jax import lax, nn")
    return _scanned(cell_code(cell, JAX), imports, "lax.scan", "{}")


def torch_scan_source(cell: DerivedCell) -> str:
    """The same with PyTorch's `scan`, which wants results that share no memory."""
    imports = (
        "import torch",
        "from torch._higher_order_ops.scan import scan",
        "from torch.nn.functional import softplus",
    )
    return _scanned(cell_code(cell, TORCH), imports, "scan", "{}.clone()")


def _scanned(code: CellCode, imports: tuple[str, ...], scan: str, returned: str) -> str:
    arguments = ", ".join(("x", *code.states, *code.parameters))
    carried, rows = ", ".join(code.states), ", ".join(code.names)
    body = [_renamed(line, code.names) for line in (*code.step, *code.after)]
    step, after = body[: len(code.step)], body[len(code.step) :]
    given = ", ".join(f"{name}_t" for name in code.names)
    ends = [returned.format(word) for word in (*after, after[0])]
    return "\n".join(
        [
            *imports,
            "",
            f"def layer({arguments}):",
            *(f"    {line}" for line in code.before),
            "    def step(carried, given):",
            f"        {carried}, = carried",
            f"        {given}, = given",
            *(f"        {line}" for line in step),
            f"        return ({', '.join(ends[:-1])},), {ends[-1]}",
            f"    return {scan}(step, ({carried},), ({rows},))[1]",
            "",
        ]
    )


def _renamed(line: str, names: tuple[str, ...]) -> str:
    """A line of a step, which looks at a row of what the inputs determine."""
    words = line.split(" ")
    for name in names:
        words = [_with_step(word, name) for word in words]
    return " ".join(words)


def _with_step(word: str, name: str) -> str:
    return re.sub(rf"(?<![\w.]){name}(?!\w)", f"{name}_t", word)
