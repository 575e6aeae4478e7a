"""Edits of whole statements, and all edits of a function.

`=` for `+=`, a statement removed, moved out of its loop or added at its end, another range.
"""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from throughtime.source.edits.carried import carried_on
from throughtime.source.edits.edit import (
    Edit,
    FileText,
    Splice,
    Unit,
    alike,
    beginning,
    names_in,
    root_of,
    splices_of,
)
from throughtime.source.edits.executed import Value, is_atom
from throughtime.source.edits.expression_edits import Scope, changes, softmax_slopes
from throughtime.source.edits.missing_sums import GRADIENT, leaf, missing_sums
from throughtime.source.edits.sibling_edits import sibling_edits
from throughtime.source.tolerances import (
    NAMES_OF_A_SIZE,
)

# What may be called by a statement that is edited: what computes, and nothing that reaches out.
NUMERICAL = {"abs", "divmod", "enumerate", "float", "int", "len", "list", "max", "min", "pow",
             "range", "reversed", "round", "sorted", "sum", "tuple", "zip", "dict"}  # fmt: skip
OUTSIDE = {"save", "savez", "savetxt", "load", "loadtxt", "fromfile", "tofile", "memmap", "dump",
           "open", "write", "read", "remove", "unlink", "system", "run", "popen", "exit", "seed",
           "savez_compressed", "genfromtxt", "rmtree", "mkdir", "makedirs", "replace", "rename",
           "writelines", "to_csv", "savefig", "show", "sleep", "kill", "Popen", "check_output",
           "import_module", "urlopen", "get", "post", "sendall", "send"}  # fmt: skip
ASSIGNMENT = ast.Assign | ast.AugAssign | ast.AnnAssign
LOOP = ast.For | ast.While
ANOTHER_SUM = "another sum"  # the kind of edits by which something is added to another one


@dataclass(frozen=True)
class Statement:
    """A statement of a function that ran.

    Attributes:
        node: its syntax tree.
        loop: the innermost loop around it; None outside of loops.
        block: the statements that it stands among.
    """

    node: ast.stmt
    loop: ast.For | ast.While | None
    block: Sequence[ast.stmt]


def statements(unit: Unit) -> list[Statement]:
    """All statements of a function that may be edited, also those in its loops and conditions."""
    return list(_statements(unit.node.body, None))


def _statements(block: Sequence[ast.stmt], loop: LOOP | None) -> Iterator[Statement]:
    for node in block:
        docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if docstring or isinstance(node, ast.Import | ast.ImportFrom | ast.Global | ast.Nonlocal):
            continue
        yield Statement(node, loop, block)
        inner = node if isinstance(node, ast.For | ast.While) else loop
        for name in ("body", "orelse", "finalbody"):
            part = getattr(node, name, None)
            if isinstance(part, list):
                yield from _statements(part, inner)
        for handler in getattr(node, "handlers", ()):
            yield from _statements(handler.body, loop)


def is_numerical(node: ast.AST, known: frozenset[str]) -> bool:
    """Whether all that a statement calls computes: NumPy, the user's own functions, methods.

    Args:
        node: the statement, with what stands in it.
        known: names of functions and classes of the user's files.
    """
    for part in ast.walk(node):
        if isinstance(part, ast.With | ast.Import | ast.ImportFrom | ast.Delete | ast.Await):
            return False
        if not isinstance(part, ast.Call):
            continue
        called = part.func
        if isinstance(called, ast.Name):
            builtin = hasattr(builtins, called.id) and called.id not in known
            if called.id in OUTSIDE or (builtin and called.id not in NUMERICAL):
                return False
        elif isinstance(called, ast.Attribute) and called.attr in OUTSIDE - known:
            return False
    return True


@dataclass(frozen=True)
class Surroundings:
    """What is known of a file beside one of its functions.

    Attributes:
        file: the file.
        lines: those that ran.
        values: line to expression to value.
        elsewhere: the same with other lengths of the data: tells sizes apart that are the same.
        known: names of functions and classes of the user's files.
        functions: of one argument, as they are called.
        ratios: as of `Scope`.
    """

    file: FileText
    lines: frozenset[int]
    values: Mapping[int, Mapping[str, Value]]
    elsewhere: Mapping[int, Mapping[str, Value]]
    known: frozenset[str]
    functions: tuple[str, ...]
    ratios: tuple[float, ...] = ()


def unit_edits(unit: Unit, around: Surroundings) -> list[Edit]:
    """All edits of a function, those that do the same at several places last."""
    found: dict[tuple[Splice, ...], Edit] = {}
    assigned, shapes = _assigned(unit), _shapes(unit, around)
    for statement in statements(unit):
        node = statement.node
        head = _head_lines(node)
        if not around.lines & set(head) or not is_numerical(_head(node), around.known):
            continue
        values = next((around.values[n] for n in head if n in around.values), {})
        loop = _loop(statement.loop, around.file)
        result = shapes.get(_target(node, around.file))
        elsewhere = next((around.elsewhere[n] for n in head if n in around.elsewhere), {})
        sizes = _sizes(values, elsewhere, loop[0])
        scope = Scope(around.file, values, assigned, sizes, result, around.functions, loop,
                      around.ratios)  # fmt: skip
        for edit in (
            *_of_statement(unit, statement, around, scope),
            *_of_expressions(statement, scope),
        ):
            present = found.get(edit.splices)
            if present is None or edit.cost < present.cost:
                found[edit.splices] = edit
    file, lines = around.file, around.lines
    for edit in (
        *carried_on(unit, file, lines, around.values),
        *sibling_edits(unit, file, lines),
        *missing_sums(unit, file, lines, around.values),
    ):
        found.setdefault(edit.splices, edit)
    single = list(found.values())
    return [*single, *alike(single)]


def _head(node: ast.stmt) -> ast.AST:
    """A statement without the statements in it."""
    if isinstance(node, ast.For):
        return node.iter
    if isinstance(node, ast.While | ast.If):
        return node.test
    return ast.Pass() if hasattr(node, "body") and not isinstance(node, ast.With) else node


def _head_lines(node: ast.stmt) -> range:
    head = _head(node)
    last = getattr(head, "end_lineno", None) or node.lineno
    return range(node.lineno, last + 1)


def _assigned(unit: Unit) -> frozenset[str]:
    found = set()
    for node in ast.walk(unit.node):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
    return frozenset(found)


def _shapes(unit: Unit, around: Surroundings) -> dict[str, tuple[int, ...]]:
    """The shapes of all that is numbers anywhere in a function."""
    found: dict[str, tuple[int, ...]] = {}
    for line in range(unit.node.lineno, (unit.node.end_lineno or unit.node.lineno) + 1):
        for text, value in around.values.get(line, {}).items():
            if value.kind == "numbers":
                found[text] = value.shape
    return found


def _target(node: ast.stmt, file: FileText) -> str:
    """What a statement assigns, as it is written; "" where it assigns nothing, or several."""
    if isinstance(node, ast.Assign) and len(node.targets) == 1:
        return file.of_node(node.targets[0])
    return file.of_node(node.target) if isinstance(node, ast.AugAssign | ast.AnnAssign) else ""


def _sizes(
    values: Mapping[str, Value], elsewhere: Mapping[str, Value], loop: str
) -> dict[str, int]:
    """The shortest names of each whole number that there is, but for the loop's own.

    Two that are the same by chance differ elsewhere.
    """
    by_number: dict[tuple[int, int | None], list[str]] = {}
    for text in sorted(values, key=len):
        value, other = values[text], elsewhere.get(text)
        counted = value.kind in ("whole", "size") and not text.endswith(".ndim")
        if counted and text != loop and "[" not in text.split(".shape")[0]:
            key = (value.whole, None if other is None else other.whole)
            by_number.setdefault(key, []).append(text)
    return {text: n for (n, _), texts in by_number.items() for text in texts[:NAMES_OF_A_SIZE]}


def _loop(loop: LOOP | None, file: FileText) -> tuple[str, str]:
    """The variable of a loop over `range`, and the text of the last number of that."""
    if not isinstance(loop, ast.For) or not isinstance(loop.target, ast.Name):
        return "", ""
    spans = [
        node
        for node in ast.walk(loop.iter)
        if isinstance(node, ast.Call) and file.of_node(node.func) in ("range", "np.arange")
    ]
    if not spans:
        return loop.target.id, ""
    arguments = spans[0].args
    down = len(arguments) == 3 and file.of_node(arguments[2]).replace(" ", "") == "-1"
    end = arguments[0] if len(arguments) == 1 or down else arguments[1]
    return loop.target.id, file.of_node(end) + ("" if down else " - 1")


def _of_expressions(statement: Statement, scope: Scope) -> Iterator[Edit]:
    """Changes of the expressions of a statement: what it assigns, returns, calls or loops over."""
    file, node = scope.file, statement.node
    whole: list[ast.expr] = []
    if isinstance(node, ast.Assign | ast.AugAssign | ast.AnnAssign | ast.Return | ast.Expr):
        whole = [node.value] if node.value is not None else []
    elif isinstance(node, ast.For):
        whole = [node.iter]
    elif isinstance(node, ast.If | ast.While):
        whole = [node.test]
    if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Tuple):
        whole.append(node.targets[0])
    for expression in whole:
        for change in changes(expression, scope):
            if isinstance(node, ast.Expr) and change.node is node.value and "(" not in change.new:
                continue  # an expression alone does nothing: the statement may go as a whole
            own = splices_of(file.start(change.node), file.of_node(change.node), change.new)
            yield Edit(file.path, own, change.kind, node.lineno, change.cost, change.key,
                       (node.lineno,))  # fmt: skip
    yield from _of_index(node, scope)
    yield from _everywhere(statement, scope)


def _of_index(node: ast.stmt, scope: Scope) -> Iterator[Edit]:
    """Another index of what is assigned: `v[targets[t]] = 1` where the input of the step is meant.

    That is an entry of another list, or the item before, as where each target is the next input.
    """
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    if isinstance(node, ast.For) or len(targets) != 1 or targets[0] is None:
        return
    file = scope.file
    for outer in ast.walk(targets[0]):
        if not isinstance(outer, ast.Subscript):
            continue
        parts = outer.slice.elts if isinstance(outer.slice, ast.Tuple) else [outer.slice]
        for part in parts:
            if not isinstance(part, ast.Subscript) or not isinstance(part.value, ast.Name):
                continue
            text, own = part.value.id, scope.values.get(file.of_node(part))
            if own is None or own.kind != "whole":
                continue
            index = file.of_node(part.slice)
            new = [f"{other}[{index}]" for other in _lists(text, scope)]
            if index == scope.loop[0]:
                new.append(f"{text}[{index} - 1] if {index} > 0 else 0")
            for number, other in enumerate(new):
                at = Splice(file.start(part), file.end(part), other)
                yield Edit(file.path, (at,), "another index", node.lineno, 1.0 + 0.02 * number, "",
                           (node.lineno,))  # fmt: skip


def _lists(name: str, scope: Scope) -> Iterator[str]:
    """Other lists, or arrays of one axis, that are as long as one at least."""
    own = scope.values.get(f"len({name})") or scope.values.get(f"{name}.shape[0]")
    for text, value in scope.values.items() if own is not None else ():
        found = re.fullmatch(r"len\((\w+)\)|(\w+)", text)
        other, length = "", value.whole
        if found and found[1]:
            other = found[1]
        elif found and value.kind == "numbers" and len(value.shape) == 1:
            other, length = text, value.shape[0]
        if own is not None and other not in ("", name) and length >= own.whole:
            yield other


def _everywhere(statement: Statement, scope: Scope) -> Iterator[Edit]:
    """One name for another at all its places in a statement."""
    file, node = scope.file, statement.node
    if not isinstance(node, ast.Assign | ast.AugAssign | ast.Return) or node.value is None:
        return
    places: dict[str, list[ast.Name]] = {}
    for part in ast.walk(node.value):
        if isinstance(part, ast.Name) and scope.shape(part) is not None:
            places.setdefault(part.id, []).append(part)
    for name, parts in places.items():
        if len(parts) < 2:
            continue
        own = scope.values[name]
        for other, value in scope.values.items():
            same = value.kind == own.kind and value.shape == own.shape and value.mark != own.mark
            if same:
                splices = tuple(Splice(file.start(p), file.end(p), other) for p in parts)
                cost = 1.2 + 0.3 * (1 - SequenceMatcher(None, name, other).ratio())
                yield Edit(file.path, tuple(sorted(splices)), "another variable", node.lineno,
                           cost, "", (node.lineno,))  # fmt: skip


def _of_statement(
    unit: Unit, statement: Statement, around: Surroundings, scope: Scope
) -> Iterator[Edit]:
    file, node = around.file, statement.node

    def edit(splices: Sequence[Splice], kind: str, cost: float, key: str = "") -> Edit:
        return Edit(file.path, tuple(splices), kind, node.lineno, cost, key, (node.lineno,))

    if isinstance(node, ast.Assign) and len(node.targets) == 1:
        target = node.targets[0]
        text = file.of_node(target)
        if is_atom(target) and (statement.loop is not None or text in scope.values):
            gap = file.data[file.end(target) : file.start(node.value)].decode()
            sign = file.end(target) + gap.index("=")
            key = f"sum {getattr(statement.loop, 'lineno', 0)}"
            carried = root_of(target) in names_in(statement.loop or node, ast.Load)
            begin = beginning(file, unit.node, node, target)
            yield edit([*begin, Splice(sign, sign, "+")], "added up", 0.7, "" if carried else key)
    elif isinstance(node, ast.AugAssign):
        at = file.end(node.target)
        gap = file.data[at : file.start(node.value)].decode()
        sign = at + gap.index("=") - 1
        if isinstance(node.op, ast.Add | ast.Sub):
            other = "-" if isinstance(node.op, ast.Add) else "+"
            yield edit([Splice(sign, sign + 1, "")], "not added up", 1.0, "overwrite")
            yield edit([Splice(sign, sign + 1, other)], "sign", 1.2, "other sign")
            for name, cost in _other_sums(node, scope):
                at_target = Splice(file.start(node.target), file.end(node.target), name)
                yield edit([at_target], ANOTHER_SUM, cost, ANOTHER_SUM)
        else:
            yield edit([Splice(sign, sign + 1, "")], "only assigned", 1.2)
    target = getattr(node, "target", None) or (getattr(node, "targets", None) or [None])[0]
    whole = target
    while isinstance(whole, ast.Subscript):  # also of `dy[0][target] -= 1`
        whole = whole.value
    if isinstance(target, ast.Subscript) and isinstance(whole, ast.Name) and file.alone(node):
        # what is made entry by entry has no one expression that a factor could stand in
        name = whole.id
        for slope in softmax_slopes(name, scope.values.get(name), scope.values):
            yield edit([file.below(node, f"{name} = {slope}")], "the slope of softmax", 1.4)
        for size, number in scope.sizes.items():
            if number > 1:
                below = file.below(node, f"{name} /= {size}")
                yield edit([below], "a factor", 1.25 + 0.01 * len(size))
    if isinstance(node, ast.Return | ast.FunctionDef | ast.ClassDef | ast.Try | ast.With):
        return
    only = len(statement.block) == 1 and statement.loop is not None  # the loop may go as a whole
    if is_numerical(node, around.known) and not (only and not isinstance(node, ASSIGNMENT)):
        limits = "clip" in file.of_node(node).lower()
        cost = 0.7 if limits else 1.1 if isinstance(node, ast.For | ast.If | ast.Expr) else 1.3
        yield edit(
            [_removed(statement, file)], "a statement removed", cost, f"remove {_kind(node)}"
        )
        if isinstance(node, ASSIGNMENT) and statement.loop is not None and file.alone(node):
            above = file.above(statement.loop, file.of_node(node))
            splices = sorted([above, _removed(statement, file)])
            yield edit(splices, "before the loop", 1.3, f"outside {statement.loop.lineno}")
    if isinstance(node, ast.For):
        yield from _ranges(node, file, edit)


def _other_sums(node: ast.AugAssign, scope: Scope) -> Iterator[tuple[str, float]]:
    """Gradients that nothing is added to, for what a statement adds to.

    They have its shape, or that of what is added, which NumPy adds to every column of a matrix.
    """
    text = scope.file.of_node(node.target)
    own = scope.values.get(text)
    if own is None or own.kind != "numbers" or not own.shape:
        return
    shapes = {own.shape, scope.shape(node.value) or own.shape}
    for other, value in scope.values.items():
        same = value.kind == "numbers" and value.shape in shapes and other != text
        if same and value.empty and GRADIENT.search(leaf(other)):
            alike = SequenceMatcher(None, leaf(text), leaf(other)).ratio()
            yield other, 0.8 + 0.4 * (1 - alike)


def _kind(node: ast.stmt) -> str:
    return type(node).__name__ + (str(node.lineno) if not isinstance(node, ast.AugAssign) else "")


def _removed(statement: Statement, file: FileText) -> Splice:
    """Without a statement; `pass` in its place where nothing else stands there."""
    node = statement.node
    others = [other for other in statement.block if other is not node]
    if not others or not file.alone(node):
        return Splice(file.start(node), file.end(node), "pass")
    return Splice(file.starts[node.lineno], file.after_lines(node), "")


def _ranges(node: ast.For, file: FileText, edit: object) -> Iterator[Edit]:
    """Backward for forward, and one step more or less at either end."""
    assert callable(edit)
    whole, text = node.iter, file.of_node(node.iter)
    start, end = file.start(whole), file.end(whole)
    if isinstance(whole, ast.Call) and file.of_node(whole.func) == "reversed":
        inner = file.of_node(whole.args[0])
        yield edit([Splice(start, end, inner)], "the other direction", 1.2)
    elif isinstance(whole, ast.Call) and file.of_node(whole.func) == "range":
        yield edit([Splice(start, end, f"reversed({text})")], "the other direction", 1.1)
    for call in ast.walk(whole):
        if isinstance(call, ast.Call) and file.of_node(call.func) in ("range", "np.arange"):
            for place, argument in enumerate(call.args):
                inner = file.of_node(argument)
                at = Splice(file.start(argument), file.end(argument), "")
                for by in (" + 1", " - 1"):
                    new = Splice(at.start, at.end, inner + by)
                    yield edit([new], "one step more or less", 1.2 + 0.1 * place)
            if len(call.args) == 1:
                at = Splice(file.start(call.args[0]), file.start(call.args[0]), "1, ")
                yield edit([at], "not the first step", 1.3)


def one_argument_functions(file: FileText, lines: frozenset[int]) -> Iterator[str]:
    """Functions of one argument, as they are called where lines ran: "np.tanh", "sigmoid"."""
    for node in ast.walk(file.tree):
        if isinstance(node, ast.Call) and node.lineno in lines and len(node.args) == 1:
            name = file.of_node(node.func)
            last = name.split(".")[-1]
            if last == "abs":
                yield "np.sign"  # its slope
            single = isinstance(node.func, ast.Name) or name.startswith(("np.", "self."))
            if single and not node.keywords and last not in NOT_ACTIVATIONS:
                yield name


NOT_ACTIVATIONS = NUMERICAL | OUTSIDE | {
    "zeros", "ones", "array", "asarray", "zeros_like", "ones_like", "empty", "arange", "eye",
    "copy", "sum", "mean", "append", "print", "log", "sqrt", "exp", "argmax", "transpose",
    "concatenate", "vstack", "hstack", "row_stack", "stack", "square", "deepcopy", "max", "abs",
}  # fmt: skip


def probes(unit: Unit, around: Surroundings) -> Iterator[Edit]:
    """For each statement one that makes its value another: what depends on it shows."""
    file = around.file
    for statement in statements(unit):
        node = statement.node
        if not isinstance(node, ASSIGNMENT | ast.Return) or node.value is None:
            continue
        if node.lineno not in around.lines or isinstance(node.value, ast.Tuple | ast.Dict):
            continue
        new = f"({file.of_node(node.value)}) * 1.1875 + 0.0625"
        splice = Splice(file.start(node.value), file.end(node.value), new)
        yield Edit(file.path, (splice,), "probe", node.lineno, 0.0, "", (node.lineno,))
