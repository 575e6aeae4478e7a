"""Edits inside an expression: another operand, one alone, a sign, a transposition, a slope.

Each edit is the text that takes the place of a node's.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import SequenceMatcher

from throughtime.source.edits.edit import FileText
from throughtime.source.edits.executed import Value, is_atom
from throughtime.source.edits.scaled import scaled_texts
from throughtime.source.tolerances import (
    MOST_SIZES,
)

PRODUCT_SIGNS = (ast.Mult, ast.Div, ast.MatMult)
PRODUCTS = ("dot", "matmul", "outer", "multiply", "einsum", "inner", "tensordot")
SUMS = {"sum": "mean", "mean": "sum"}
SIGNS = {ast.Add: "-", ast.Sub: "+", ast.Mult: "/", ast.Div: "*"}
COUNTED = ast.Eq | ast.NotEq | ast.Lt | ast.LtE | ast.Gt | ast.GtE
TEXT_OF = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.MatMult: "@"}


@dataclass(frozen=True)
class NodeChange:
    """A node's text, replaced.

    Attributes:
        node: that is replaced.
        new: its new text.
        kind: what is done, in words.
        cost: how unlikely it is, and how much it changes.
        key: the same for the same change elsewhere.
    """

    node: ast.expr
    new: str
    kind: str
    cost: float
    key: str = ""


@dataclass(frozen=True)
class Scope:
    """What stands around an expression.

    Attributes:
        file: its file.
        values: what there is where its line begins.
        assigned: names that the function assigns: gradients, mostly.
        sizes: whole numbers by what they are called, as `len(x)`.
        result: the shape of what the expression gives; None where it is not known.
        functions: of one argument, as the user's code calls them: "np.tanh", "sigmoid".
        loop: the variable of the loop around it and the text of its last number; ("", "") where
            there is none.
        ratios: how many times too large gradients are, where they are multiples of right ones.
    """

    file: FileText
    values: Mapping[str, Value]
    assigned: frozenset[str]
    sizes: Mapping[str, int]
    result: tuple[int, ...] | None
    functions: tuple[str, ...]
    loop: tuple[str, str]
    ratios: tuple[float, ...] = ()

    def text(self, node: ast.expr) -> str:
        """A node's text, in brackets where it needs them inside another expression."""
        found = self.file.of_node(node)
        simple = ast.Name | ast.Attribute | ast.Subscript | ast.Call | ast.Constant
        return found if isinstance(node, simple) else f"({found})"

    def factor(self, node: ast.expr) -> str:
        """A node's text as a factor of a product: a product needs no brackets in it."""
        if isinstance(node, ast.BinOp) and isinstance(node.op, PRODUCT_SIGNS):
            return self.file.of_node(node)
        return self.text(node)

    def left(self, node: ast.BinOp) -> str:
        """The text of the left operand; what binds as strongly needs no brackets."""
        if isinstance(node.op, ast.Add | ast.Sub) and isinstance(node.left, ast.BinOp):
            return self.file.of_node(node.left)
        if isinstance(node.op, PRODUCT_SIGNS):
            return self.factor(node.left)
        return self.text(node.left)

    def is_operand(self, node: ast.expr) -> bool:
        """Whether an expression is numbers as far as is known, and no module or object."""
        if not is_atom(node):
            return True
        value = self.values.get(self.file.of_node(node))
        return value is not None and value.kind == "numbers"

    def shape(self, node: ast.expr) -> tuple[int, ...] | None:
        """The shape of an atom that is numbers; None of everything else."""
        value = self.values.get(self.file.of_node(node))
        return value.shape if value is not None and value.kind == "numbers" else None


def changes(whole: ast.expr, scope: Scope) -> Iterator[NodeChange]:
    """All changes of an expression and of what stands in it."""
    for node, parent in _nodes(whole):
        yield from _of_node(node, parent, scope)
    yield from _of_whole(whole, scope)


def _nodes(whole: ast.expr) -> Iterator[tuple[ast.expr, ast.AST | None]]:
    """The expression and all in it, with what each stands in; not what is called."""
    waiting: list[tuple[ast.AST, ast.AST | None]] = [(whole, None)]
    while waiting:
        node, parent = waiting.pop()
        if isinstance(node, ast.expr):
            yield node, parent
        for child in ast.iter_child_nodes(node):
            if isinstance(node, ast.Call) and child is node.func:
                # what a method is called on is an operand, and what a function is called is not
                inner = child.value if isinstance(child, ast.Attribute) else None
                if inner is not None and not isinstance(inner, ast.Name):
                    waiting.append((inner, child))
                continue
            waiting.append((child, node))


def _of_node(node: ast.expr, parent: ast.AST | None, scope: Scope) -> Iterator[NodeChange]:
    if is_atom(node) and not _inside_atom(node, parent):
        yield from _atom(node, parent, scope)
    if isinstance(node, ast.Subscript):
        yield from _index(node, scope)
        yield from _entry_turned(node, scope)
        if isinstance(node.value, ast.Attribute) and node.value.attr == "shape":
            new = f"{scope.text(node.value.value)}.size"
            yield NodeChange(node, new, "a size", 1.0, f"size {new}")
    elif isinstance(node, ast.BinOp):
        yield from _operation(node, scope)
    elif isinstance(node, ast.Compare):
        yield from _comparison(node, scope)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        yield NodeChange(node, scope.text(node.operand), "sign", 1.0)
    elif isinstance(node, ast.Call):
        yield from _call(node, scope)
    elif isinstance(node, ast.Attribute) and node.attr == "T":
        yield NodeChange(node, scope.text(node.value), "transposed", 0.8)
    elif isinstance(node, ast.Constant):
        yield from _constant(node)
    elif isinstance(node, ast.List | ast.Tuple) and 2 <= len(node.elts) <= 6:
        yield from _exchanged(node.elts, node, scope)
    elif isinstance(node, ast.IfExp):
        yield NodeChange(node, scope.text(node.body), "condition removed", 1.2)
        yield NodeChange(node, scope.text(node.orelse), "condition removed", 1.3)
        yield from _other_neighbour(node, scope)


def _comparison(node: ast.Compare, scope: Scope) -> Iterator[NodeChange]:
    """A condition that holds one step earlier or later, as `t == n - 1` for `t == n`."""
    if len(node.ops) != 1 or not isinstance(node.ops[0], COUNTED):
        return
    edge = node.comparators[0]
    if isinstance(edge, ast.Constant | ast.Name | ast.Attribute | ast.BinOp | ast.Call):
        known = isinstance(edge, ast.Call) or _is_whole(edge, scope)
        for by in (-1, 1) if known else ():
            moved = _moved(edge, by, scope)
            if moved is not None:
                yield NodeChange(edge, moved, "one step more or less", 0.95, f"edge {moved}")


def _other_neighbour(node: ast.IfExp, scope: Scope) -> Iterator[NodeChange]:
    """The item before, where there is one, for the item after where there is one; and back."""
    for part in ast.walk(node.body):
        index = part.slice if isinstance(part, ast.Subscript) else None
        if not isinstance(part, ast.Subscript) or not isinstance(index, ast.BinOp):
            continue
        one = isinstance(index.right, ast.Constant) and index.right.value == 1
        if not one or not isinstance(index.left, ast.Name):
            continue
        step, base, body = index.left.id, scope.file.of_node(part.value), node.body
        after = isinstance(index.op, ast.Add)
        other = f"{step}-1" if after else f"{step}+1"
        test = f"{step} > 0" if after else f"{step} < len({base}) - 1"
        begin, text = scope.file.start(body), scope.file.of_node(body).encode()
        first, last = scope.file.start(index) - begin, scope.file.end(index) - begin
        moved = text[:first].decode() + other + text[last:].decode()
        new = f"{moved} if {test} else {scope.file.of_node(node.orelse)}"
        yield NodeChange(node, new, "the other neighbour", 0.9, f"neighbour {base}")


def _inside_atom(node: ast.expr, parent: ast.AST | None) -> bool:
    if isinstance(parent, ast.Attribute):
        return parent.attr not in ("T", "shape", "size", "dtype")
    return isinstance(parent, ast.Subscript) and (parent.value is node or is_atom(parent))


def _atom(node: ast.expr, parent: ast.AST | None, scope: Scope) -> Iterator[NodeChange]:
    """Another variable of its shape; transposed; a function of it, its slope."""
    own, text = scope.values.get(scope.file.of_node(node)), scope.file.of_node(node)
    if own is None:
        return
    in_product = isinstance(parent, ast.Attribute | ast.Call) or (
        isinstance(parent, ast.BinOp) and isinstance(parent.op, ast.MatMult)
    )
    handed = isinstance(parent, ast.Tuple | ast.List) and _root(text) in scope.assigned
    for other, value in scope.values.items():
        if handed and _root(other) not in scope.assigned:
            continue  # no parameter is handed back in a gradient's place
        same = value.kind == own.kind and value.shape == own.shape and value.mark != own.mark
        if own.kind == "whole" and ("(" in other or ".shape" in other):
            same = same and ("(" in text or ".shape" in text)
        if same and own.kind != "other":
            cost = 1.0 + 0.3 * (1 - SequenceMatcher(None, text, other).ratio())
            yield NodeChange(node, other, "another variable", cost, f"swap {text} {other}")
        elif in_product and value.kind == own.kind and len(value.shape) == len(own.shape) == 2:
            cost = 1.15 + 0.3 * (1 - SequenceMatcher(None, text, other).ratio())
            yield NodeChange(node, other, "another matrix", cost, f"swap {text} {other}")
    if own.kind != "numbers":
        return
    if len(own.shape) == 2 and not (isinstance(parent, ast.Attribute) and parent.attr == "T"):
        yield NodeChange(node, f"{text}.T", "transposed", 0.8, f"transpose {text}")
    yield NodeChange(node, f"{text}**2", "squared", 1.6, f"square {text}")
    for function in scope.functions:
        yield NodeChange(node, f"{function}({text})", "a function of it", 1.4, f"{function} {text}")
    if isinstance(parent, ast.BinOp):
        factor = isinstance(parent.op, ast.Mult | ast.Div)
        for slope in (f"(1 - {text}**2)", f"({text} * (1 - {text}))"):
            if factor:
                yield NodeChange(node, slope, "its slope", 1.0, f"slope {text} {slope}")
        if factor:
            for other, value in scope.values.items():
                if value.kind == "numbers" and value.shape == own.shape and value.mark != own.mark:
                    yield NodeChange(node, f"({text} - {other})", "less another", 2.4)
                    yield NodeChange(node, f"({text} + {other})", "a term added", 2.5)


def _index(node: ast.Subscript, scope: Scope) -> Iterator[NodeChange]:
    """An index one step on or back; nothing where it would be before the first; another part."""
    base = scope.file.of_node(node.value)
    parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    for place, part in enumerate(parts):
        key = f"index {base} {place}"
        if isinstance(part, ast.Slice):
            yield from _part(node, part, scope, key)
        elif isinstance(part, ast.Constant | ast.Name | ast.BinOp) and _is_whole(part, scope):
            for by in (1, -1):
                moved = _moved(part, by, scope)
                if moved is not None:
                    yield NodeChange(part, moved, "index", 0.9, f"{key} {by}")
            variable = scope.loop[0]
            text = scope.file.of_node(part)
            if variable and re.fullmatch(rf"{re.escape(variable)}\s*-\s*1", text):
                whole = scope.file.of_node(node)
                first = whole[: -len(text) - 1] + whole[-len(text) - 1 :].replace(text, variable)
                new = f"({whole} if {variable} > 0 else 0 * {first})"
                yield NodeChange(node, new, "nothing before the first step", 1.1, f"{key} first")


def _entry_turned(node: ast.Subscript, scope: Scope) -> Iterator[NodeChange]:
    """The entry of the transposed matrix: `M[j][i]` for `M[i][j]`, and `M[j, i]` for `M[i, j]`."""
    inner = node.value
    if isinstance(inner, ast.Subscript):
        base, parts, form = inner.value, [inner.slice, node.slice], "{}[{}][{}]"
    else:
        base, form = inner, "{}[{}, {}]"
        parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else []
    names = [part.id for part in parts if isinstance(part, ast.Name)]
    if len(names) == len(parts) == 2 and names[0] != names[1]:
        text = scope.file.of_node(base)
        new = form.format(text, names[1], names[0])
        yield NodeChange(node, new, "transposed", 0.85, f"transpose {text}")


def _is_whole(part: ast.expr, scope: Scope) -> bool:
    if isinstance(part, ast.Constant):
        return isinstance(part.value, int) and not isinstance(part.value, bool)
    if isinstance(part, ast.BinOp):
        return isinstance(part.op, ast.Add | ast.Sub)
    value = scope.values.get(scope.file.of_node(part))
    return value is not None and value.kind == "whole"


def _moved(part: ast.expr, by: int, scope: Scope) -> str | None:
    """The text of an index, one on or back: `t - 1` becomes `t`, and not `t - 1 + 1`."""
    text = scope.file.of_node(part)
    if isinstance(part, ast.Constant):
        return str(part.value + by) if isinstance(part.value, int) else None
    if isinstance(part, ast.BinOp) and isinstance(part.right, ast.Constant):
        if not isinstance(part.right.value, int):
            return None
        number = part.right.value * (1 if isinstance(part.op, ast.Add) else -1) + by
        left = scope.file.of_node(part.left)
        if not number:
            return left
        return f"{left}{'+' if number > 0 else '-'}{abs(number)}"
    return f"{text}{'+' if by > 0 else '-'}1"


def _part(node: ast.Subscript, part: ast.Slice, scope: Scope, key: str) -> Iterator[NodeChange]:
    """`[:n]` for `[n:]` and back; `[1:]` for `[:-1]` and back."""
    if part.step is not None or (part.lower is None) == (part.upper is None):
        return
    edge = part.lower if part.lower is not None else part.upper
    assert edge is not None
    text = scope.file.of_node(edge)
    new = f"{text}:" if part.lower is None else f":{text}"
    yield NodeChange(_as_expression(part), new, "the other part", 1.2, f"{key} part")
    if part.lower is None and text.startswith("-"):  # all but the last, for all but the first
        yield NodeChange(_as_expression(part), f"{text[1:]}:", "index", 0.95, f"{key} later")
    elif part.upper is None and text.isdigit() and text != "0":
        yield NodeChange(_as_expression(part), f":-{text}", "index", 0.95, f"{key} earlier")


def _as_expression(part: ast.Slice) -> ast.expr:
    return part


def _operation(node: ast.BinOp, scope: Scope) -> Iterator[NodeChange]:
    """One operand alone; another sign; the other way round."""
    left, right = scope.left(node), scope.text(node.right)
    kind = "a term removed" if isinstance(node.op, ast.Add | ast.Sub) else "a factor removed"
    yield NodeChange(node, left, kind, 1.0, f"alone {right}")
    if not isinstance(node.op, ast.Pow):
        new = f"-{right}" if isinstance(node.op, ast.Sub) else right
        yield NodeChange(node, f"({new})" if new[0] == "-" else new, kind, 1.0, f"alone {left}")
    sign = TEXT_OF.get(type(node.op), "")
    if sign in ("+", "-"):
        variable, end = scope.loop
        for step in ("0", end) if variable and end else ():
            first = f"{scope.factor(node.left)} * ({variable} == {step}) {sign} {right}"
            yield NodeChange(node, first, "a term at one step only", 1.3, f"{step} first")
            second = f"{left} {sign} {scope.factor(node.right)} * ({variable} == {step})"
            yield NodeChange(node, second, "a term at one step only", 1.3, f"{step} second")
        for size, number in scope.sizes.items():
            if number > 1:
                first = f"{scope.factor(node.left)} / {size} {sign} {right}"
                yield NodeChange(node, first, "a factor of a term", 1.4, f"over {size} first")
                second = f"{left} {sign} {scope.factor(node.right)} / {size}"
                yield NodeChange(node, second, "a factor of a term", 1.4, f"over {size} second")
    if type(node.op) in SIGNS:
        new = SIGNS[type(node.op)]
        yield NodeChange(node, f"{left} {new} {right}", "sign" if new in "+-" else "factor", 1.2)
    if sign in ("-", "@", "/"):
        other = f"{right} {sign} {scope.text(node.left)}"
        yield NodeChange(node, other, "the other way round", 1.2)
    if sign == "-":
        for delta in _both_terms(node, scope):
            yield NodeChange(node, delta, "both terms of the cross-entropy", 1.4)
    if sign == "@":
        turned = f"{_turned(node.right, scope)} @ {_turned(node.left, scope)}"
        yield NodeChange(node, turned, "transposed", 1.2)
        yield NodeChange(node, f"{left} * {right}", "entry by entry", 1.6)
    if sign == "*":
        yield NodeChange(node, f"{left} @ {right}", "a product of matrices", 1.8)
    yield from _slopes(node, scope)


def _both_terms(node: ast.BinOp, scope: Scope) -> Iterator[str]:
    """For `p - y`: δ of −y log p − (1 − y) log(1 − p) where p is a softmax of its units.

    `p - y` is δ of the first term alone; that of a sigmoid it is of both.
    """
    shape = scope.shape(node.left)
    if not shape or scope.shape(node.right) != shape:
        return
    p, delta = scope.text(node.left), scope.file.of_node(node)
    for axis in (-1, 0) if len(shape) > 1 and shape[-1] > 1 and shape[0] > 1 else (None,):
        along = "" if axis is None else f", axis={axis}, keepdims=True"
        each = f"({delta}) / (1 - {p})"
        yield f"({each} - {p} * np.sum({each}{along}))"


def _turned(node: ast.expr, scope: Scope) -> str:
    if isinstance(node, ast.Attribute) and node.attr == "T":
        return scope.text(node.value)
    return f"{scope.text(node)}.T"


def _slopes(node: ast.BinOp, scope: Scope) -> Iterator[NodeChange]:
    """`1 - a**2` for `a * (1 - a)` and back; the slope of a function of what is there."""
    text = scope.file.of_node(node)
    plain = re.sub(r"[()\s]|np\.square|np\.power", "", text)
    if found := re.fullmatch(r"1(?:\.0?)?-(.+?)\*\*2(?:\.0?)?", plain):
        for inner in _inner(node, found[1], scope):
            yield NodeChange(node, f"({inner} * (1 - {inner}))", "slope", 1.0, f"slope s {inner}")
            for function in scope.functions:
                new = f"(1 - {function}({inner})**2)"
                yield NodeChange(node, new, "slope", 1.0, f"slope {function} {inner}")
    for inner in _complemented(node, scope):
        yield NodeChange(node, f"(1 - {inner}**2)", "slope", 1.0, f"slope t {inner}")
        yield NodeChange(node, "1", "slope", 1.3, f"slope 1 {inner}")


def _inner(node: ast.BinOp, plain: str, scope: Scope) -> Iterator[str]:
    """The operand of a square, as it is written."""
    for part in ast.walk(node):
        if isinstance(part, ast.expr) and part is not node:
            text = scope.text(part)
            if re.sub(r"[()\s]", "", text) == plain and not isinstance(part, ast.BinOp):
                yield text
                return


def _complemented(node: ast.BinOp, scope: Scope) -> Iterator[str]:
    """a, of `a * (1 - a)` or `(1 - a) * a`."""
    if not isinstance(node.op, ast.Mult):
        return
    for one, other in ((node.left, node.right), (node.right, node.left)):
        if isinstance(other, ast.BinOp) and isinstance(other.op, ast.Sub):
            last = one
            if isinstance(one, ast.BinOp) and isinstance(one.op, ast.Mult):
                last = one.right
            if isinstance(other.left, ast.Constant) and other.left.value == 1:
                inner = scope.text(other.right)
                if scope.text(last) == inner and last is one:
                    yield inner


def _call(node: ast.Call, scope: Scope) -> Iterator[NodeChange]:
    """Its argument alone; arguments exchanged, left out, or the other truth; a slope."""
    name = scope.file.of_node(node.func)
    arguments = [argument for argument in node.args if not isinstance(argument, ast.Starred)]
    product = name.split(".")[-1] in PRODUCTS
    if isinstance(node.func, ast.Attribute) and scope.is_operand(node.func.value):
        on = scope.text(node.func.value)
        yield NodeChange(node, on, "a call removed", 1.1, f"uncalled .{node.func.attr}")
    for place, argument in enumerate(arguments[:2]):
        text = scope.text(argument)
        cost = 1.0 if place == 0 and not product else 1.3
        cost -= 0.2 * ("clip" in name.lower())
        yield NodeChange(node, text, "a call removed", cost, f"uncalled {name} {place}")
        if place:
            continue
        flagged = len(arguments) > 1 or bool(node.keywords)
        if (not product and not name.startswith("np.")) or flagged or name in scope.functions:
            for slope in (f"({text} * (1 - {text}))", f"(1 - {text}**2)"):
                if is_atom(argument):
                    call = name + "".join(scope.file.of_node(k.value) for k in node.keywords)
                    yield NodeChange(node, slope, "slope", 1.0, f"slope {call} {slope[1:4]}")
    if len(arguments) >= 2:
        yield from _exchanged(arguments, node, scope)
    if product and len(arguments) == 2:
        turned = [_turned(argument, scope) for argument in reversed(arguments)]
        yield NodeChange(node, f"{name}({', '.join(turned)})", "transposed", 1.2)
    yield from _axes(node, name, scope)
    for keyword in node.keywords:
        value = keyword.value
        if isinstance(value, ast.Constant) and isinstance(value.value, bool):
            yield NodeChange(value, str(not value.value), "argument", 1.0)
        elif keyword.arg == "axis" and isinstance(value, ast.Constant):
            for axis in (0, 1, 2, -1):
                if axis != value.value:
                    yield NodeChange(value, str(axis), "axis", 1.0)


def _axes(node: ast.Call, name: str, scope: Scope) -> Iterator[NodeChange]:
    """A sum or mean along one axis for that of everything; one for the other."""
    last = name.split(".")[-1]
    if last not in SUMS:
        return
    other = name.removesuffix(last) + SUMS[last]
    whole = scope.file.of_node(node)
    yield NodeChange(node, other + whole[len(name) :], "a factor", 1.25, f"{name} {other}")
    given = len(node.args) - (name in (f"np.{last}", f"numpy.{last}"))
    if given or any(keyword.arg == "axis" for keyword in node.keywords):
        return
    begin = whole[:-1].rstrip().rstrip(",")
    gap = "" if begin.endswith("(") else ", "
    for axis in (0, 1, -1):
        for kept in ("", ", keepdims=True"):
            new = f"{begin}{gap}axis={axis}{kept})"
            yield NodeChange(node, new, "axis", 1.1, f"{name} {axis}{kept}")


def _exchanged(parts: list[ast.expr], node: ast.expr, scope: Scope) -> Iterator[NodeChange]:
    """Two parts of a list, or two arguments, for each other."""
    begin = scope.file.start(node)
    whole = scope.file.of_node(node).encode()
    for n, one in enumerate(parts):
        for other in parts[n + 1 :]:
            a, b = scope.file.of_node(one), scope.file.of_node(other)
            if a == b:
                continue
            cuts = [scope.file.start(one) - begin, scope.file.end(one) - begin]
            cuts += [scope.file.start(other) - begin, scope.file.end(other) - begin]
            new = whole[: cuts[0]].decode() + b + whole[cuts[1] : cuts[2]].decode()
            yield NodeChange(node, new + a + whole[cuts[3] :].decode(), "exchanged", 1.2)


def _constant(node: ast.Constant) -> Iterator[NodeChange]:
    """A whole number one on or back; twice or half a broken one; the other truth."""
    value = node.value
    if isinstance(value, bool):
        yield NodeChange(node, str(not value), "argument", 1.2)
    elif isinstance(value, int) and abs(value) < 10:
        for by in (1, -1):
            yield NodeChange(node, str(value + by), "number", 1.5)
    elif isinstance(value, float):
        for other in ("1", "0"):
            yield NodeChange(node, other, "number", 1.6)


def softmax_slopes(text: str, own: Value | None, values: Mapping[str, Value]) -> Iterator[str]:
    """p ⊙ (δ − Σ δ ⊙ p) for each p of the shape of δ, which is not among its own operands."""
    if own is None or own.kind != "numbers" or not own.shape:
        return
    rows = len(own.shape) > 1 and own.shape[-1] > 1
    axis = ", axis=-1, keepdims=True" if rows else ""
    for p, value in values.items():
        if value.kind == "numbers" and value.shape == own.shape and p != text:
            yield f"{p} * ({text} - np.sum({text} * {p}{axis}))"


def _products(sizes: Mapping[str, int]) -> Iterator[str]:
    """Products of two sizes, one text for each number."""
    shortest: dict[int, str] = {}
    for text, number in sizes.items():
        if number > 1:
            shortest.setdefault(number, text)
    texts = list(shortest.values())[:MOST_SIZES]
    for n, one in enumerate(texts):
        for other in texts[n + 1 :]:
            yield f"({one} * {other})"


def _root(text: str) -> str:
    return re.split(r"[.\[]", text)[0]


def _of_whole(whole: ast.expr, scope: Scope) -> Iterator[NodeChange]:
    """A sign, a factor, a term, a slope, a condition for the right-hand side of a statement."""
    if isinstance(whole, ast.Tuple | ast.List):  # what a function returns
        for part in whole.elts:
            yield from _of_whole(part, scope)
    if isinstance(whole, ast.Tuple | ast.List | ast.Dict | ast.Constant | ast.JoinedStr):
        return
    text = scope.factor(whole)
    yield NodeChange(whole, f"-{text}", "sign", 1.1, "negated")
    for ratio in scope.ratios:
        for new in scaled_texts(text, ratio, scope.sizes):
            yield NodeChange(whole, new, "a factor", 0.9 + 0.002 * len(new) - 0.002 * len(text))
    for number in ("2", "0.5"):
        yield NodeChange(whole, f"{number} * {text}", "a factor", 1.36, f"times {number}")
    for size, whole_number in scope.sizes.items():
        if whole_number > 1:
            cost = 1.1 + 0.005 * len(size)
            yield NodeChange(whole, f"{text} / {size}", "a factor", cost, f"over {size}")
            yield NodeChange(whole, f"{text} * {size}", "a factor", cost + 0.1, f"times {size}")
    for product in _products(scope.sizes):
        yield NodeChange(whole, f"{text} / {product}", "a factor", 1.5, f"over {product}")
    variable, last = scope.loop
    if variable and last:
        given = not re.search(rf"\b{re.escape(variable)}\b", text)  # the same at every step
        for step in ("0", last):
            new = f"{text} * ({variable} == {step})"
            cost = 0.95 if given and step == last else 1.6
            yield NodeChange(whole, new, "at one step only", cost, f"only {step}")
        yield NodeChange(whole, f"{text} * ({variable} > 0)", "not at the first step", 1.7, "first")
    plain = scope.file.of_node(whole)
    result = None if scope.result is None else Value("numbers", scope.result)
    for slope in softmax_slopes(scope.text(whole), result, scope.values):
        yield NodeChange(whole, slope, "the slope of softmax", 1.4)
    for other, value in scope.values.items():
        if value.kind != "numbers" or other in plain:
            continue
        if not value.shape and scope.result and other not in scope.sizes:  # a weight of all units
            if _root(other) not in scope.assigned:
                yield NodeChange(whole, f"{text} * {other}", "a factor", 1.5, f"times {other}")
            continue
        if value.shape != scope.result:
            continue
        if _root(other) in scope.assigned:
            yield NodeChange(whole, f"{plain} + {other}", "a term added", 1.5, f"plus {other}")
        if _root(other) not in scope.assigned or "[" in other:
            for slope in (f"(1 - {other}**2)", f"{other} * (1 - {other})", other):
                new = f"{text} * {slope}"
                yield NodeChange(whole, new, "a factor", 1.5, f"times {slope}")
