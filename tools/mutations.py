"""The ways to break an expression, and the changed sources."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass

Change = tuple[str, str]  # what was done, and the text that replaces the node


@dataclass(frozen=True)
class Mutant:
    """One changed source.

    Attributes:
        line: the number of the changed line, from 1.
        what: what was done.
        after: the changed line, without its indentation.
        source: the whole file.
    """

    line: int
    what: str
    after: str
    source: str


def mutants_of(source: str, functions: frozenset[str]) -> list[Mutant]:
    """All mutants of the named functions, in the order of the lines, without duplicates."""
    found: dict[str, Mutant] = {}
    for function in ast.walk(ast.parse(source)):
        if isinstance(function, ast.FunctionDef) and function.name in functions:
            for node in _nodes(function.body):
                for place, what, text in _changes(node):
                    changed = _splice(source, place, text)
                    after = _changed_line(source, changed)
                    found.setdefault(changed, Mutant(place.lineno, what, after, changed))
    found.pop(source, None)
    return sorted(found.values(), key=lambda mutant: mutant.line)


def _nodes(body: list[ast.stmt]) -> Iterator[ast.expr | ast.stmt]:
    """All nodes of a body, except messages, annotations and inner functions."""
    stack: list[ast.AST] = list(body)
    while stack:
        node = stack.pop()
        if isinstance(node, ast.JoinedStr | ast.FunctionDef | ast.Assert) or _refuses(node):
            continue
        if isinstance(node, ast.expr | ast.stmt):
            yield node
        if isinstance(node, ast.AnnAssign):
            stack += [node.value] if node.value else []
        else:
            stack += ast.iter_child_nodes(node)


def _refuses(node: ast.AST) -> bool:
    """Whether a statement only refuses bad input."""
    if isinstance(node, ast.If):
        return all(_refuses(inner) for inner in node.body)
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        return getattr(node.value.func, "id", "") in ("refuse", "matches", "same_names")
    return isinstance(node, ast.Raise)


def _changes(node: ast.expr | ast.stmt) -> Iterator[tuple[ast.expr | ast.stmt, str, str]]:
    """The possible changes: the node, what is done to it, and the new text."""
    if isinstance(node, ast.If) and not node.orelse:
        # The condition stays visible, so that the changed line shows which branch it was.
        yield node.test, "branch never taken", f"(False and ({ast.unparse(node.test)}))"
    rule = RULES.get(type(node))
    if rule:
        for what, text in rule(node):
            yield node, what, text


def _binary(node: ast.BinOp) -> Iterator[Change]:
    left, right = f"({ast.unparse(node.left)})", f"({ast.unparse(node.right)})"
    if isinstance(node.op, ast.Add | ast.Sub):
        other = "-" if isinstance(node.op, ast.Add) else "+"
        yield "sign flipped", f"({left} {other} {right})"
        yield "term dropped", left
        yield "term dropped", right
    elif isinstance(node.op, ast.Mult):
        yield "factor dropped", left
        yield "factor dropped", right
    elif isinstance(node.op, ast.Div):
        yield "divisor dropped", left
        yield "division turned round", f"({left} * {right})"
    elif isinstance(node.op, ast.MatMult):
        yield "operands swapped", f"({right} @ {left})"
    elif isinstance(node.op, ast.Pow):
        yield "power dropped", left
    elif isinstance(node.op, ast.BitOr):
        yield "one side of a union dropped", left
        yield "one side of a union dropped", right


def _unary(node: ast.UnaryOp) -> Iterator[Change]:
    if isinstance(node.op, ast.USub) and not isinstance(node.operand, ast.Constant):
        yield "minus removed", f"({ast.unparse(node.operand)})"
    if isinstance(node.op, ast.Not):
        yield "not removed", f"({ast.unparse(node.operand)})"


def _attribute(node: ast.Attribute) -> Iterator[Change]:
    if node.attr == "T":
        yield "transpose forgotten", f"({ast.unparse(node.value)})"


def _slice(node: ast.Slice) -> Iterator[Change]:
    lower, upper, step = (x and ast.unparse(x) for x in (node.lower, node.upper, node.step))
    if step:
        yield "step of a slice dropped", f"{lower or ''}:{upper or ''}"
    elif upper == "-1" and not lower:
        yield "slice moved", "1:"
    elif lower == "1" and not upper:
        yield "slice moved", ":-1"
    elif lower and upper:
        yield "slice widened", f":{upper}"
        yield "slice widened", f"{lower}:"
    elif lower or upper:
        yield "other half of a slice", f":{lower}" if lower else f"{upper}:"


def _call(node: ast.Call) -> Iterator[Change]:
    name = getattr(node.func, "attr", getattr(node.func, "id", ""))
    if name in ("where", "_where") and len(node.args) == 3:
        yield "mask removed", f"({ast.unparse(node.args[1])})"
        yield "mask removed", f"({ast.unparse(node.args[2])})"
    if name in ("reversed", "reverse"):
        yield "order not reversed", f"({ast.unparse(node.args[0])})"
    if name == "outer_sum":
        left, right = map(ast.unparse, node.args)
        yield "operands swapped", f"outer_sum({right}, {left})"
    if name == "copy" and isinstance(node.func, ast.Attribute):
        yield "not copied", f"({ast.unparse(node.func.value)})"
    if name in ("max", "min") and isinstance(node.func, ast.Name) and len(node.args) == 2:
        yield f"{name} dropped", f"({ast.unparse(node.args[0])})"
        yield f"{name} dropped", f"({ast.unparse(node.args[1])})"


def _if_expression(node: ast.IfExp) -> Iterator[Change]:
    yield "condition ignored", f"({ast.unparse(node.body)})"
    yield "condition ignored", f"({ast.unparse(node.orelse)})"


def _compare(node: ast.Compare) -> Iterator[Change]:
    bounds = {ast.Lt: "<=", ast.LtE: "<", ast.Gt: ">=", ast.GtE: ">"}
    sign = bounds.get(type(node.ops[0]))
    if sign and len(node.ops) == 1:
        left, right = ast.unparse(node.left), ast.unparse(node.comparators[0])
        yield "bound moved by one", f"(({left}) {sign} ({right}))"


def _bool(node: ast.BoolOp) -> Iterator[Change]:
    for value in node.values:
        yield "one side of a condition alone", f"({ast.unparse(value)})"


def _statement(node: ast.AugAssign) -> Iterator[Change]:
    yield "statement removed", "pass"


def _assign(node: ast.Assign) -> Iterator[Change]:
    if isinstance(node.targets[0], ast.Subscript):
        yield "statement removed", "pass"


RULES: dict[type[ast.AST], Callable[..., Iterator[Change]]] = {
    ast.BinOp: _binary,
    ast.UnaryOp: _unary,
    ast.Attribute: _attribute,
    ast.Slice: _slice,
    ast.Call: _call,
    ast.IfExp: _if_expression,
    ast.Compare: _compare,
    ast.BoolOp: _bool,
    ast.AugAssign: _statement,
    ast.Assign: _assign,
}


def _splice(source: str, node: ast.expr | ast.stmt, text: str) -> str:
    """The source with the text of a node replaced; ast counts columns in UTF-8 bytes."""
    assert node.end_lineno is not None
    assert node.end_col_offset is not None
    whole = source.encode()
    starts = [0]
    for line in whole.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    begin = starts[node.lineno - 1] + node.col_offset
    end = starts[node.end_lineno - 1] + node.end_col_offset
    return (whole[:begin] + text.encode() + whole[end:]).decode()


def _changed_line(before: str, after: str) -> str:
    """The first line that differs."""
    old = before.splitlines()
    for number, line in enumerate(after.splitlines()):
        if number >= len(old) or line != old[number]:
            return line.strip()
    return ""
