"""Statements of a script as a function at the end of its text, and changes of it taken back.

A recipe may run lines of the file that stand in no function. Edits need a function: the lines are
put into one, word for word, and what is changed there is changed in the lines in the end.
"""

from __future__ import annotations

import ast
import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from throughtime.source.recipe import Recipe
from throughtime.source.squares import is_of_squares, without_squares
from throughtime.source.tolerances import (
    FEWEST_LINES,
)

NAME = "_lines_of_the_file"
INDENTATION = "    "


@dataclass(frozen=True)
class RegionText:
    """A file whose lines are run by a function that stands at its end.

    Attributes:
        path: of the file.
        recipe: that calls the function.
        text: with the function.
        start: the first line of the function's copies, from 1.
        places: for each line of the copies its line in the file, from 1, and what stands before
            it there and not here.
    """

    path: Path
    recipe: Recipe
    text: str
    start: int
    places: tuple[tuple[int, str], ...]

    def line(self, line: int) -> int:
        """The line of the file that a line of the text is a copy of, as far as it is one."""
        if line < self.start:
            return line
        return self.places[min(line - self.start, len(self.places) - 1)][0]

    def taken_back(self, text: str) -> str:
        """A changed text without the function, with its changes in the lines of the file."""
        head, _, tail = text.partition(f"\ndef {NAME}():\n")
        old, _, body = self.text.partition(f"\ndef {NAME}():\n")
        before, after = body.split("\n")[1:], tail.split("\n")[1:]
        lines = old.split("\n")
        matcher = difflib.SequenceMatcher(None, before, after, autojunk=False)
        for tag, a, b, c, d in reversed(matcher.get_opcodes()):
            if tag == "equal":
                continue
            near = self.places[min(a, len(self.places) - 1)]
            new = [near[1] + line[len(INDENTATION) :] for line in after[c:d]]
            if a == b:  # after the line before it
                near = self.places[max(a - 1, 0)]
                new = [near[1] + line[len(INDENTATION) :] for line in after[c:d]]
                lines[near[0] : near[0]] = new
                continue
            numbers = [number for number, _ in self.places[a:b]]
            for number in sorted(numbers[1:], reverse=True):
                del lines[number - 1]
            lines[numbers[0] - 1 : numbers[0]] = new
        return head if lines == old.split("\n") else _both(old, head, "\n".join(lines))


def _both(old: str, head: str, region: str) -> str:
    """Changes of functions and of a region, which do not overlap, in one text."""
    if head == old:
        return region
    lines, changed, found = old.split("\n"), region.split("\n"), head.split("\n")
    matcher = difflib.SequenceMatcher(None, lines, changed, autojunk=False)
    shift = difflib.SequenceMatcher(None, lines, found, autojunk=False).get_opcodes()
    for tag, a, b, c, d in reversed(matcher.get_opcodes()):
        if tag != "equal":
            at = next(e + min(a, y) - x for _, x, y, e, _ in shift if x <= a <= y)
            found[at : at + b - a] = changed[c:d]
    return "\n".join(found)


def region_text(recipe: Recipe, text: str) -> RegionText | None:
    """The text with a function of the lines that a recipe runs; None where it runs none."""
    try:
        tree, wanted = ast.parse(text), ast.parse(recipe.gradient).body
    except SyntaxError:
        return None
    texts = [ast.unparse(without_squares(node)) for node in wanted if not is_of_squares(node)]
    best: list[ast.stmt] = []
    first = 0
    for block in _blocks(tree):
        for start in range(len(texts)):
            found = _in_order(texts[start:], block)
            if len(found) > len(best):
                best, first = found, start
            if len(best) >= len(texts) - start:
                break
    if len(best) < FEWEST_LINES:
        return None
    lines = text.split("\n")
    body, places = _copies(best, lines)
    head = f"{INDENTATION}global {', '.join(sorted(_stored(best)))}"
    call = f"{NAME}()"
    gradient = "\n".join([*texts[:first], call, *texts[first + len(best) :]])
    copied = "\n".join(texts[first : first + len(best)])
    loss = "\n".join(ast.unparse(node) for node in ast.parse(recipe.loss).body)
    loss = loss.replace(copied, call) if copied in loss else recipe.loss
    whole = "\n".join([text, f"def {NAME}():", head, *body, ""])
    start = text.count("\n") + 4
    return RegionText(
        recipe.path.resolve(), replace(recipe, gradient=gradient, loss=loss), whole, start, places
    )


def _blocks(tree: ast.Module) -> Iterator[Sequence[ast.stmt]]:
    for node in ast.walk(tree):
        for name in ("body", "orelse", "finalbody"):
            block = getattr(node, name, None)
            if isinstance(block, list) and block and isinstance(block[0], ast.stmt):
                yield block


def _in_order(texts: Sequence[str], block: Sequence[ast.stmt]) -> list[ast.stmt]:
    """The statements of a block that begin a list of texts, in their order; some may be skipped."""
    found: list[ast.stmt] = []
    for node in block:
        if len(found) < len(texts) and ast.unparse(node) == texts[len(found)]:
            found.append(node)
    return found


def _copies(
    nodes: Sequence[ast.stmt], lines: Sequence[str]
) -> tuple[list[str], tuple[tuple[int, str], ...]]:
    """The lines of statements, indented as a function's, and where each comes from."""
    body: list[str] = []
    places: list[tuple[int, str]] = []
    for node in nodes:
        first = lines[node.lineno - 1]
        before = first[: len(first) - len(first.lstrip())]
        for number in range(node.lineno, (node.end_lineno or node.lineno) + 1):
            line = lines[number - 1]
            own = line[len(before) :] if line.startswith(before) else line.lstrip()
            body.append(INDENTATION + own if own.strip() else "")
            places.append((number, before))
    return body, tuple(places)


def _stored(nodes: Sequence[ast.stmt]) -> set[str]:
    """The names that statements set, but for those of their own comprehensions."""
    found: set[str] = set()
    inner: set[str] = set()
    for node in nodes:
        for part in ast.walk(node):
            if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
                found.add(part.id)
            if isinstance(part, ast.comprehension):
                inner |= {p.id for p in ast.walk(part.target) if isinstance(p, ast.Name)}
    return found - inner or {"_nothing"}
