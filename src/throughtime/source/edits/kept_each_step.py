"""Values that a layer keeps for its backward pass in attributes, where each step overwrites them.

`self.x = x` in a `forward` that is called at every step, and `self.x` in its `backward`: all steps
go back with the last one's values. Kept on a stack, each step finds its own.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Sequence

from throughtime.source.edits.edit import Edit, FileText, Unit

KEPT_EACH_STEP = "kept at each step"  # the kind of these edits, in words
COST, COST_OF_ALL = 1.0, 1.3


def kept_edits(
    file: FileText, units: Sequence[Unit], ran: frozenset[int], loss: frozenset[int]
) -> list[Edit]:
    """For each class what its backward pass reads is put on a stack by its forward pass.

    Args:
        file: the file.
        units: its functions.
        ran: the lines that the gradient ran.
        loss: those that the loss ran.
    """
    classes: dict[tuple[str, ...], list[Unit]] = defaultdict(list)
    for unit in units:
        if len(unit.names) > 1 and unit.plain and unit.node.args.args:
            classes[unit.names[:-1]].append(unit)
    found = []
    for methods in classes.values():
        apart = not all(_lines(m) & loss for m in methods if _lines(m) & ran)
        ahead = [m for m in methods if _lines(m) & loss and (apart or not _goes_back(m))]
        back = [m for m in methods if _lines(m) & ran and m not in ahead]
        for forward in ahead:
            found += [e for b in back if (e := _edit(file, forward, b)) is not None]
    if len(found) > 1 and not any(a.overlaps(b) for a in found for b in found if a is not b):
        splices = tuple(sorted(s for edit in found for s in edit.splices))
        lines = tuple(sorted(edit.line for edit in found))
        found.append(Edit(file.path, splices, KEPT_EACH_STEP, lines[0], COST_OF_ALL, "", lines))
    return found


def _goes_back(unit: Unit) -> bool:
    """By its name, where one program runs both passes, and the loss both too."""
    return re.search("back|grad|bptt|bprop", unit.names[-1], re.IGNORECASE) is not None


def _lines(unit: Unit) -> set[int]:
    first = unit.node.body[0].lineno
    return set(range(first, (unit.node.end_lineno or first) + 1))


def _edit(file: FileText, forward: Unit, backward: Unit) -> Edit | None:
    own, other = (unit.node.args.args[0].arg for unit in (forward, backward))
    read = set(_attributes(backward.node, other, ast.Load))
    read -= set(_attributes(backward.node, other, ast.Store))
    names = [n for n in dict.fromkeys(_attributes(forward.node, own, ast.Store)) if n in read]
    last, first = forward.node.body[-1], backward.node.body[0]
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
        first = backward.node.body[min(1, len(backward.node.body) - 1)]
    if not names or not file.alone(last) or not file.alone(first):
        return None
    known = file.data.decode()
    stack = next(n for n in ("steps", "kept_steps", "kept_of_each_step") if f".{n}" not in known
                 or n == "kept_of_each_step")  # fmt: skip
    kept = ", ".join(f"{own}.{name}" for name in names)
    taken = ", ".join(f"{other}.{name}" for name in names)
    if len(names) > 1:
        kept = f"({kept})"
    push = f'{own}.{stack} = [*getattr({own}, "{stack}", []), {kept}]'
    pushed = file.above(last, push) if isinstance(last, ast.Return) else file.below(last, push)
    popped = file.above(first, f"{taken} = {other}.{stack}.pop()")
    splices, line = tuple(sorted((pushed, popped))), first.lineno
    return Edit(file.path, splices, KEPT_EACH_STEP, line, COST, "", (line,))


def _attributes(node: ast.AST, owner: str, context: type[ast.expr_context]) -> list[str]:
    """The names of an object's attributes that a function reads, or sets, in their order."""
    found = [
        part
        for part in ast.walk(node)
        if isinstance(part, ast.Attribute)
        and isinstance(part.ctx, context)
        and isinstance(part.value, ast.Name)
        and part.value.id == owner
    ]
    return [part.attr for part in sorted(found, key=lambda part: (part.lineno, part.col_offset))]
