"""Probes in a user's functions: whatever is computed or assigned there passes through one.

A probe is a call, `_probe(number, value)`, put around an expression or after a statement. It knows
no operation: it sees values only, so that it works for any code.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from throughtime.source.squares import is_of_squares

PROBE = "_throughtime_probe"

Node = TypeVar("Node", bound=ast.AST)
Kind = Literal["value", "argument", "store", "added", "changed", "whole", "return"]


@dataclass(frozen=True)
class ProbeSite:
    """Where a probe is.

    Attributes:
        path: of the user's file.
        line, last_line: of the statement.
        kind: "value": part of an expression; "argument": what a call is given, where it is computed
            there; "store": what is assigned; "added": the right side of
            an augmented assignment; "changed": a variable after a statement that changed it;
            "whole": an array of which a statement has set a part; "return": what a function
            returns.
        text: the expression, or the variable.
        target: the variable that is assigned, as written; "" where there is none.
        function: the name of the function it is in.
        statement: the statement's number, the same for all its probes.
        operator: of an augmented assignment, as "Add".
    """

    path: Path
    line: int
    last_line: int
    kind: Kind
    text: str
    target: str
    function: str
    statement: int
    operator: str = ""

    @property
    def assigns(self) -> bool:
        """Whether a variable has its value here."""
        return self.kind in ("store", "changed", "whole", "return")


class Probes:
    """Puts probes into syntax trees, and keeps a list of them."""

    def __init__(self) -> None:
        self.sites: list[ProbeSite] = []
        self.statements: dict[int, tuple[ast.stmt, str]] = {}  # as written, and its function
        self._regions: dict[str, list[ast.stmt]] = {}

    def transform(self, tree: ast.Module, path: Path) -> ast.Module:
        """The tree with probes in its functions."""
        return _Inserted(self, path).visit_module(tree)

    def transform_region(self, text: str, path: Path, whole: str) -> ast.Module:
        """Statements of a file that a recipe runs, with probes: the same wherever they recur.

        Args:
            text: the statements, as a recipe holds them. Where the file has the same statement,
                its line is known; others have no probes.
            path, whole: the file and its text.
        """
        places: dict[str, list[int]] = {}
        for node in ast.walk(ast.parse(whole)):
            if isinstance(node, ast.stmt) and not isinstance(node, ast.Expr | ast.Pass):
                places.setdefault(ast.unparse(node), []).append(node.lineno)
        found: list[ast.stmt] = []
        for node in ast.parse(text).body:
            key = ast.unparse(node)
            if key not in self._regions:
                known = _placed(node, places)
                inserted = _Inserted(self, path)
                self._regions[key] = inserted.region(node) if known else [node]
            found += self._regions[key]
        return ast.fix_missing_locations(ast.Module(found, []))


class _Inserted:
    """One file."""

    def __init__(self, probes: Probes, path: Path) -> None:
        self.probes, self.path = probes, path
        self.function = ""
        self.statement: ast.stmt = ast.Pass()
        self.number = -1

    def visit_module(self, tree: ast.Module) -> ast.Module:
        for node in tree.body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                self._definition(node)
        return ast.fix_missing_locations(tree)

    def region(self, node: ast.stmt) -> list[ast.stmt]:
        return self._statement(node)

    def _definition(self, node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        outer = self.function
        self.function = f"{outer}.{node.name}" if outer else node.name
        if isinstance(node, ast.ClassDef):
            for inner in node.body:
                if isinstance(inner, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                    self._definition(inner)
        else:
            node.body = self._body(node.body)
        self.function = outer

    def _body(self, body: list[ast.stmt]) -> list[ast.stmt]:
        return [found for node in body for found in self._statement(node)]

    def _statement(self, node: ast.stmt) -> list[ast.stmt]:
        """A statement with its probes, and those that follow it."""
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            self._definition(node)
            return [node]
        for name in ("body", "orelse", "finalbody"):
            if isinstance(inner := getattr(node, name, None), list) and inner:
                setattr(node, name, self._body(inner))
        for handler in getattr(node, "handlers", []):
            handler.body = self._body(handler.body)
        for case in getattr(node, "cases", []):
            case.body = self._body(case.body)
        if not isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign | ast.Return | ast.Expr):
            return [node]
        if is_of_squares(node):
            return [node]
        self.number = len(self.probes.statements)
        # A copy as written: what is made of the tree below replaces its expressions.
        self.probes.statements[self.number] = (_copied(node), self.function)
        self.statement = node
        if isinstance(node, ast.Assign):
            return self._assign(node)
        if isinstance(node, ast.AugAssign):
            return self._augmented(node)
        if isinstance(node, ast.AnnAssign):
            if node.value is not None:
                node.value = self._probed(node.value, "store", ast.unparse(node.target))
            return [node]
        if isinstance(node, ast.Return):
            if node.value is not None:
                node.value = self._returned(node.value)
            return [node]
        return self._called(node)

    def _assign(self, node: ast.Assign) -> list[ast.stmt]:
        after: list[ast.stmt] = []
        target = node.targets[0]
        if isinstance(target, ast.Tuple | ast.List):
            value = node.value
            pairs = isinstance(value, ast.Tuple | ast.List) and (
                len(value.elts) == len(target.elts)
            )
            if pairs and isinstance(value, ast.Tuple | ast.List):
                value.elts = [
                    self._probed(part, "store", ast.unparse(name))
                    for part, name in zip(value.elts, target.elts, strict=True)
                ]
            else:
                node.value = self._within(value)
                after = [found for part in target.elts for found in self._again(part, "store")]
        else:
            node.value = self._probed(node.value, "store", ast.unparse(target))
            after = list(self._wholes(target))
        return [node, *after]

    def _augmented(self, node: ast.AugAssign) -> list[ast.stmt]:
        operator = type(node.op).__name__
        node.value = self._probed(node.value, "added", ast.unparse(node.target), operator)
        after = self._again(node.target, "changed", operator)
        return [node, *after, *self._wholes(node.target)]

    def _returned(self, value: ast.expr) -> ast.expr:
        if isinstance(value, ast.Tuple | ast.List):
            value.elts = [self._returned(part) for part in value.elts]
            return value
        if isinstance(value, ast.Dict):
            value.values = [self._returned(part) for part in value.values]
            return value
        return self._probed(value, "return", "")

    def _called(self, node: ast.Expr) -> list[ast.stmt]:
        """A call that stands alone may change its arguments."""
        call = node.value
        if not isinstance(call, ast.Call):
            return [node]
        arguments = [*call.args, *(keyword.value for keyword in call.keywords)]
        if isinstance(call.func, ast.Attribute):
            arguments.append(call.func.value)
        after = [_copied(part) for part in arguments if _is_place(part)]
        node.value = self._within(call)
        return [node, *(found for part in after for found in self._seen(part, "changed"))]

    def _wholes(self, target: ast.expr) -> Iterator[ast.stmt]:
        """After a part of an array was set, the array."""
        if isinstance(target, ast.Subscript) and _is_place(target.value):
            yield from self._seen(target.value, "whole")

    def _seen(self, place: ast.expr, kind: Kind) -> list[ast.stmt]:
        """A statement that shows a variable to a probe."""
        text = ast.unparse(place)
        shown = ast.Expr(self._call(_loaded(place), kind, text, text))
        return [ast.copy_location(shown, self.statement)]

    def _again(self, target: ast.expr, kind: Kind, operator: str = "") -> list[ast.stmt]:
        """A statement that assigns to a variable what a probe makes of it."""
        if isinstance(target, ast.Tuple | ast.List):
            return [found for part in target.elts for found in self._again(part, kind, operator)]
        if isinstance(target, ast.Starred) or not _is_place(target):
            return []
        text = ast.unparse(target)
        value = self._call(_loaded(target), kind, text, text, operator)
        return [ast.copy_location(ast.Assign([_copied(target)], value), self.statement)]

    # --- expressions ---

    def _probed(
        self, node: ast.expr, kind: Kind = "value", target: str = "", operator: str = ""
    ) -> ast.expr:
        """An expression in a probe, and its parts in theirs."""
        if isinstance(node, ast.Constant | ast.Compare | ast.BoolOp | ast.JoinedStr):
            return node
        if isinstance(node, ast.Tuple | ast.List | ast.Dict | ast.Starred | ast.Set):
            return self._within(node)
        text = ast.unparse(node)
        return self._call(self._within(node), kind, text, target, operator)

    def _call(
        self, node: ast.expr, kind: Kind, text: str, target: str, operator: str = ""
    ) -> ast.expr:
        number = len(self.probes.sites)
        self.probes.sites.append(
            ProbeSite(
                self.path,
                self.statement.lineno,
                self.statement.end_lineno or self.statement.lineno,
                kind,
                text,
                target,
                self.function,
                self.number,
                operator,
            )
        )
        call = ast.Call(ast.Name(PROBE, ast.Load()), [ast.Constant(number), node], [])
        return ast.copy_location(call, node)

    def _within(self, node: ast.expr) -> ast.expr:
        """An expression whose parts are in probes, and which is in none itself."""
        if isinstance(node, ast.BinOp):
            node.left, node.right = self._probed(node.left), self._probed(node.right)
        elif isinstance(node, ast.UnaryOp):
            node.operand = self._probed(node.operand)
        elif isinstance(node, ast.IfExp):
            node.body, node.orelse = self._probed(node.body), self._probed(node.orelse)
        elif isinstance(node, ast.Call):
            if isinstance(node.func, ast.Attribute):
                node.func.value = self._base(node.func.value, called=True)
            node.args = [self._argument(part) for part in node.args]
            for keyword in node.keywords:
                if keyword.arg != "out":
                    keyword.value = self._argument(keyword.value)
        elif isinstance(node, ast.Attribute | ast.Subscript):
            node.value = self._base(node.value)
        elif isinstance(node, ast.Tuple | ast.List | ast.Set):
            node.elts = [self._probed(part) for part in node.elts]
        elif isinstance(node, ast.Dict):
            node.values = [self._probed(part) for part in node.values]
        elif isinstance(node, ast.Starred | ast.NamedExpr | ast.Yield | ast.Await):
            if node.value is not None:
                node.value = self._probed(node.value)
        elif isinstance(node, ast.ListComp | ast.SetComp | ast.GeneratorExp):
            node.elt = self._probed(node.elt)
        elif isinstance(node, ast.DictComp):
            node.value = self._probed(node.value)
        elif isinstance(node, ast.Lambda):
            node.body = self._probed(node.body)
        return node

    def _argument(self, node: ast.expr) -> ast.expr:
        computed = isinstance(node, ast.BinOp | ast.UnaryOp | ast.Call)
        return self._probed(node, "argument" if computed else "value")

    def _base(self, node: ast.expr, called: bool = False) -> ast.expr:
        """What an attribute or an item is taken of: a probe where it is computed, or is called."""
        if isinstance(node, ast.Name) and node.id in ("self", "cls", "np", "numpy", "math"):
            return node
        if isinstance(node, ast.Name | ast.Attribute | ast.Subscript) and not called:
            return self._within(node)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "super":
            return node
        return self._probed(node)


def _placed(node: ast.stmt, places: dict[str, list[int]]) -> bool:
    """Gives statements the lines that they have in the file; whether any is there.

    Statements that read the same are taken in the order of the file.
    """
    found = False
    parts = [part for part in ast.walk(node) if isinstance(part, ast.stmt)]
    for part in sorted(parts, key=lambda part: part.lineno):
        lines = places.get(ast.unparse(part))
        if not lines:
            continue
        shift = (lines.pop(0) if len(lines) > 1 else lines[0]) - part.lineno
        found = True
        inside = {id(inner) for other in parts if other is not part for inner in ast.walk(other)
                  if len(list(ast.walk(other))) < len(list(ast.walk(part)))}  # fmt: skip
        for inner in ast.walk(part):
            if id(inner) not in inside and isinstance(inner, ast.stmt | ast.expr):
                inner.end_lineno = (inner.end_lineno or inner.lineno) + shift
                inner.lineno += shift
    return found


def _is_place(node: ast.expr) -> bool:
    """Whether it can be looked at twice: a name, an attribute, an item at a plain index."""
    if isinstance(node, ast.Name):
        return True
    if isinstance(node, ast.Attribute):
        return _is_place(node.value)
    if isinstance(node, ast.Subscript):
        return _is_place(node.value) and not any(
            isinstance(part, ast.Call | ast.NamedExpr) for part in ast.walk(node.slice)
        )
    return False


class _Loads(ast.NodeTransformer):
    def visit_Name(self, node: ast.Name) -> ast.AST:
        return ast.copy_location(ast.Name(node.id, ast.Load()), node)

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        self.generic_visit(node)
        node.ctx = ast.Load()
        return node

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        self.generic_visit(node)
        node.ctx = ast.Load()
        return node


def _loaded(node: ast.expr) -> ast.expr:
    """A place as it is read."""
    found = _Loads().visit(_copied(node))
    assert isinstance(found, ast.expr)
    return found


def _copied(node: Node) -> Node:
    return copy.deepcopy(node)
