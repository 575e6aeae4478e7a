"""What would be right where a function is called, as far as a wrong line in it shows that."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from throughtime.arrays import Array
from throughtime.source.edits.edit import FUNCTION
from throughtime.source.events import CallSite
from throughtime.source.lines.first_wrong import WrongValues, WrongValueSearch
from throughtime.source.lines.inverted import with_parts
from throughtime.source.lines.line_changes import (
    Steps,
    carried_in,
    inner_of,
    near,
    steps_of,
    style_of,
)
from throughtime.source.lines.line_finding import LineFinding
from throughtime.source.lines.what_fits import WhatFits
from throughtime.source.probes import ProbeSite

PARAMETERS = ("term", "suffix", "whole")  # kinds of derivatives: of a step, of several, of all


def changes_at_call(
    search: WrongValueSearch,
    faults: Sequence[WrongValues],
    fault: WrongValues,
    finding: LineFinding,
) -> list[LineFinding]:
    """Another argument for a wrong line that is right but for one that its function is given.

    Args:
        search: that found the faults.
        faults: all of them: the others are mended while this one is looked at.
        fault: the one whose line it is.
        finding: what is said of that line.

    Returns:
        the call, with what would be right in it; nothing where no argument fits.
    """
    for one in _wrongly_given(search, faults, fault):
        there = WhatFits([call.frame for call in one.calls], one.around, one.style)
        fits = [near(array) for array in one.wanted]
        fitting = [fit.text for fit in there.expressions(one.text, one.wanted, fits)]
        fitting = fitting or [
            new for new in _other_steps(one.text) if _all_near(fits, there.values(new))
        ]
        if fitting:
            noticed = (f"it is {one.name} in line {finding.line} of {finding.function}",)
            changes = [(one.text, new) for new in fitting]
            return [
                replace(
                    finding, path=one.calls[0].path, line=one.first, last_line=one.last,
                    target=one.text, status="wrong", expected=fitting[0], noticed=noticed,
                    edit=changes[0], others=tuple(changes[1:]), doubtful=(),
                )
            ]  # fmt: skip
    return []


def in_doubt(
    search: WrongValueSearch,
    faults: Sequence[WrongValues],
    fault: WrongValues,
    finding: LineFinding,
) -> LineFinding:
    """A line that multiplies what its function is given by a right gradient is no more suspect
    than its caller, where no change of its own would make it right."""
    if fault.hypothesis.group.kind not in PARAMETERS:
        return finding
    back = carried_in(search, search.code.probes.sites[fault.hypothesis.place[0]])
    for one in _wrongly_given(search, faults, fault):
        if one.name in back or one.calls[0].path != finding.path:
            continue
        return replace(
            finding, status="unknown", doubtful=(one.first,),
            noticed=(f"unless {one.name} should be another value where it is given",),
        )  # fmt: skip
    return finding


@dataclass(frozen=True)
class _Given:
    """An argument that a wrong line stands on, and what it should be for the line to be right.

    Attributes:
        name, text: what it is in the function, and as it is written in the call.
        wanted: what it should be, at each step.
        calls: of the function, at each step.
        around: the variables there.
        first, last: the lines of the call.
        style: how a product of matrices is written.
    """

    name: str
    text: str
    wanted: list[Array]
    calls: list[CallSite]
    around: list[str]
    first: int
    last: int
    style: str


def _wrongly_given(
    search: WrongValueSearch, faults: Sequence[WrongValues], fault: WrongValues
) -> Iterator[_Given]:
    site = search.code.probes.sites[fault.hypothesis.place[0]]
    statement, _ = search.code.probes.statements[site.statement]
    steps = steps_of(search, faults, fault)
    text = site.text
    if steps is not None and isinstance(statement, ast.AugAssign) and site.kind == "changed":
        steps, text = inner_of(statement, steps), ast.unparse(statement.value)
    elif site.kind not in ("store", "added", "return", "argument"):
        return
    calls = [call for call in steps.calls if call is not None] if steps is not None else []
    if steps is None or len(calls) != len(steps.frames):
        return
    if len({(call.path, call.line) for call in calls}) != 1:
        return
    texts, style = search.code.program.texts(), style_of(statement, search)
    for name, wanted in _arguments(WhatFits(steps.frames, [], style), text, site, steps, texts):
        argument = _argument_of(texts, calls[0], site, name)
        if argument is not None:
            old, around, first, last = argument
            yield _Given(name, old, wanted, calls, around, first, last, style)


def _all_near(fits: Sequence[Callable[[Any], bool]], values: Sequence[Any] | None) -> bool:
    """Whether each value is what it should be; no values are not."""
    return values is not None and all(fit(value) for fit, value in zip(fits, values, strict=True))


def _other_steps(text: str) -> Iterator[str]:
    """An argument of another step: `h[t]` or `h[t + 1] if … else zero` for the one before, as
    long as there is one, and for the one after."""
    tree = ast.parse(text, mode="eval").body
    whole = tree.body if isinstance(tree, ast.IfExp) else tree
    for part in ast.walk(whole):
        for index, size in _indices(part):
            step = index.left if isinstance(index, ast.BinOp) else index
            if not isinstance(step, ast.Name):
                continue
            own = with_parts(whole, {id(index): step.id})
            rest = ast.unparse(tree.orelse) if isinstance(tree, ast.IfExp) else ""
            before, after = (with_parts(whole, {id(index): f"{step.id}{by}1"}) for by in "-+")
            if not rest:
                yield from (own, before, after)
            rest = rest or f"np.zeros_like({own})"
            yield f"{before} if {step.id} > 0 else {rest}"
            yield f"{after} if {step.id} < {size} - 1 else {rest}"


def _indices(part: ast.AST) -> Iterator[tuple[ast.expr, str]]:
    """The indices of an item that may be a step, `t` or `t - 1`, with how many there are."""
    if not isinstance(part, ast.Subscript):
        return
    base = ast.unparse(part.value)
    several = part.slice.elts if isinstance(part.slice, ast.Tuple) else None
    for axis, index in enumerate(several or [part.slice]):
        moved = isinstance(index, ast.BinOp) and isinstance(index.op, ast.Add | ast.Sub)
        if isinstance(index, ast.Name) or moved:
            yield index, f"{base}.shape[{axis}]" if several else f"len({base})"


def _arguments(
    what: WhatFits, text: str, site: ProbeSite, steps: Steps, texts: dict[Path, str]
) -> Iterator[tuple[str, list[Array]]]:
    """The arguments of a line's function that stand in it, with what each should be."""
    function = _function_at(texts.get(site.path, ""), site.line)
    if function is None:
        return
    stored = {
        node.id
        for node in ast.walk(function)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }
    given = {argument.arg for argument in function.args.args} - stored
    for part, wanted in what.needed(text, steps.wanted):
        if isinstance(part, ast.Name) and part.id in given:
            yield part.id, wanted


def _argument_of(
    texts: dict[Path, str], call: CallSite, site: ProbeSite, name: str
) -> tuple[str, list[str], int, int] | None:
    """An argument as it is written in a call, the variables around that, and its lines."""
    function = _function_at(texts.get(site.path, ""), site.line)
    around = _function_at(texts.get(call.path, ""), call.line)
    if function is None or around is None:
        return None
    names = [argument.arg for argument in function.args.args]
    for node in ast.walk(around):
        if not isinstance(node, ast.Call):
            continue
        called = node.func
        last = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
        if last != function.name or not node.lineno <= call.line <= (node.end_lineno or 0):
            continue
        method = names[:1] == ["self"] and isinstance(called, ast.Attribute)
        by_name = {k.arg: k.value for k in node.keywords if k.arg is not None}
        by_place = dict(zip(names[1:] if method else names, node.args, strict=False))
        argument = by_name.get(name, by_place.get(name))
        if argument is not None:
            operands = ast.Name | ast.Attribute | ast.Subscript
            texts_around = [ast.unparse(n) for n in ast.walk(around) if isinstance(n, operands)]
            return ast.unparse(argument), texts_around, node.lineno, node.end_lineno or node.lineno
    return None


def _function_at(text: str, line: int) -> ast.FunctionDef | ast.AsyncFunctionDef | None:
    """The innermost function that a line of a file is in."""
    found = [
        node
        for node in ast.walk(ast.parse(text))
        if isinstance(node, FUNCTION) and node.lineno <= line <= (node.end_lineno or 0)
    ]
    return min(found, key=lambda node: (node.end_lineno or 0) - node.lineno, default=None)
