"""What would be right where a function is called, as far as a wrong line in it shows that."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from throughtime.arrays import Array
from throughtime.source.edits.edit import FUNCTION
from throughtime.source.events import CallSite
from throughtime.source.lines.first_wrong import WrongValues, WrongValueSearch
from throughtime.source.lines.line_changes import Steps, inner_of, near, steps_of, style_of
from throughtime.source.lines.line_finding import LineFinding
from throughtime.source.lines.what_fits import WhatFits
from throughtime.source.probes import ProbeSite


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
    site = search.code.probes.sites[fault.hypothesis.place[0]]
    statement, _ = search.code.probes.statements[site.statement]
    steps = steps_of(search, faults, fault)
    text = site.text
    if steps is not None and isinstance(statement, ast.AugAssign) and site.kind == "changed":
        steps, text = inner_of(statement, steps), ast.unparse(statement.value)
    elif site.kind not in ("store", "added", "return", "argument"):
        return []
    calls = [call for call in steps.calls if call is not None] if steps is not None else []
    if steps is None or len(calls) != len(steps.frames):
        return []
    if len({(call.path, call.line) for call in calls}) != 1:
        return []
    texts = search.code.program.texts()
    what = WhatFits(steps.frames, [], style_of(statement, search))
    for name, wanted in _arguments(what, text, site, steps, texts):
        argument = _argument_of(texts, calls[0], site, name)
        if argument is None:
            continue
        old, around, first, last = argument
        there = WhatFits([call.frame for call in calls], around, what.style)
        fits = [near(array) for array in wanted]
        fitting = there.expressions(old, wanted, fits)
        if fitting:
            noticed = (f"it is {name} in line {finding.line} of {site.function}",)
            changes = [(old, one.text) for one in fitting]
            return [
                replace(
                    finding, path=calls[0].path, line=first, last_line=last, target=old,
                    status="wrong", expected=fitting[0].text, noticed=noticed, edit=changes[0],
                    others=tuple(changes[1:]), doubtful=(),
                )
            ]  # fmt: skip
    return []


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
