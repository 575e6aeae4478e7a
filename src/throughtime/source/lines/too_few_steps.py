"""Loops of a backward pass that leave steps out, while all that they do is right."""

from __future__ import annotations

import ast
from dataclasses import dataclass

from throughtime.source.lines.first_wrong import WrongValues, WrongValueSearch
from throughtime.source.probes import ProbeSite
from throughtime.source.text import read_source


@dataclass(frozen=True)
class ShortLoop:
    """A loop that should run more often.

    Attributes:
        site: of the sum in it.
        sum: the variable that is summed.
        line, text: of the loop.
        runs, steps: how often it runs, and how often the forward pass uses the parameter.
        made: where what it runs over is assigned, in words.
    """

    site: ProbeSite
    sum: str
    line: int
    text: str
    runs: int
    steps: int
    made: tuple[str, ...]


def loop_of(search: WrongValueSearch, fault: WrongValues) -> ShortLoop | None:
    """The loop that explains a fault: a sum of right terms, of which some are missing."""
    hypothesis = fault.hypothesis
    if hypothesis.group.kind != "whole":
        return None
    sites = search.code.probes.sites
    own = sites[hypothesis.place[0]]
    events = fault.before.events[hypothesis.place]
    readings = [r for r in search.meanings.readings(events[-1:]) if r.exact]
    name = hypothesis.pairs[0][1].name
    part = next(
        (r.group for r in readings if r.group.kind in ("term", "suffix") and r.group.name == name),
        None,
    )
    if part is None:
        return None
    variable = (own.target or own.text).split("[")[0]
    adding = [
        (site, found)
        for place, found in fault.before.events.items()
        if (site := sites[place[0]]).kind == "added"
        and (site.path, site.function) == (own.path, own.function)
        and site.target.split("[")[0] == variable
    ]
    if len(adding) != 1 or len(adding[0][1]) >= len(part.truths):
        return None
    site, added = adding[0]
    if site.operator == "Sub":  # an update, whose loop is one over parameters or examples
        return None
    source = ast.parse(read_source(site.path).text)
    around = [
        node
        for node in ast.walk(source)
        if isinstance(node, ast.For | ast.While)
        and node.lineno < site.line <= (node.end_lineno or node.lineno)
    ]
    if not around:
        return None
    loop = max(around, key=lambda node: node.lineno)
    over = loop.iter if isinstance(loop, ast.For) else loop.test
    head = ast.unparse(over)
    text = (
        f"for {ast.unparse(loop.target)} in {head}"
        if isinstance(loop, ast.For)
        else f"while {head}"
    )
    functions = [
        node
        for node in ast.walk(source)
        if isinstance(node, ast.FunctionDef)
        and node.lineno < site.line <= (node.end_lineno or node.lineno)
    ]
    names = {node.id for node in ast.walk(over) if isinstance(node, ast.Name)}
    lines = sorted(
        node.lineno
        for node in ast.walk(max(functions, key=lambda node: node.lineno) if functions else source)
        if isinstance(node, ast.Assign)
        and node.lineno < loop.lineno
        and any(isinstance(t, ast.Name) and t.id in names for t in node.targets)
    )
    made = (f"what it runs over is made in line {' or '.join(map(str, lines))}",) if lines else ()
    ends = [node.lineno for node in ast.walk(loop) if isinstance(node, ast.Break)]
    if ends:
        made = (f"it may be left in line {' or '.join(map(str, ends))}",)
    return ShortLoop(site, variable, loop.lineno, text, len(added), len(part.truths), made)
