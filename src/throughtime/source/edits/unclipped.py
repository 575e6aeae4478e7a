"""A user's files without what clips: a clip hides which gradients are right before it."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from throughtime.arrays import Array
from throughtime.gradcheck import CheckError
from throughtime.source.edits.edit import FileText, Splice, spliced
from throughtime.source.recipe import Program
from throughtime.source.tolerances import SAME_FACTOR

Line = tuple[Path, int]


def unclipped_texts(
    texts: Mapping[Path, str], only: frozenset[Line] | None = None, factor: str = ""
) -> tuple[dict[Path, str], tuple[Line, ...]]:
    """The texts without calls that clip, and the lines that change; each keeps its number.

    Args:
        texts: path to text.
        only: lines; None: wherever there is such a call.
        factor: by which what was clipped is multiplied, which shows what depends on it; a call
            whose result is not used stays a statement that does nothing.

    Example:
        >>> path = Path("rnn.py")
        >>> unclipped_texts({path: "g = np.clip(g, -5, 5)"})[0][path]
        'g = g'
    """
    found: dict[Path, str] = {}
    lines: list[Line] = []
    for path, text in texts.items():
        file = FileText.of(path, text)
        own = [c for c in clips_of(file, factor) if only is None or (path, c[0]) in only]
        lines += [(path, line) for line, _ in own]
        found[path] = spliced(file.data, [splice for _, splice in own]).decode()
    return found, tuple(sorted(set(lines)))


def clips_of(file: FileText, factor: str = "") -> list[tuple[int, Splice]]:
    """The lines of a file on which something is clipped, and what takes each call away.

    Args:
        file: the file.
        factor: as in `unclipped_texts`.
    """
    found: list[tuple[int, Splice]] = []
    for node in ast.walk(file.tree):
        parts = _clip(node)
        if parts is None or node_lines(parts[0]) != 1:
            continue
        call, new = parts
        kept = file.of_node(new) if new else "pass"
        if new and factor:
            kept = f"({kept}) * {factor}"
        own = Splice(file.start(call), file.end(call), kept)
        if not any(own.start < s.end and s.start < own.end for _, s in found):
            found.append((call.lineno, own))
    return found


def node_lines(node: ast.expr | ast.stmt) -> int:
    """How many lines it stands on."""
    return (node.end_lineno or node.lineno) - node.lineno + 1


def _clip(node: ast.AST) -> tuple[ast.expr | ast.stmt, ast.expr | None] | None:
    """A call that clips, with what stays of it: nothing of a statement, else its argument."""
    if isinstance(node, ast.Expr) and _clips(node.value):
        return node, None
    if isinstance(node, ast.Assign | ast.Return) and isinstance(node.value, ast.Call):
        call = node.value
        if _clips(call):
            return call, call.args[0] if call.args else None
    return None


def _clips(node: ast.expr) -> bool:
    if not isinstance(node, ast.Call) or not node.args or isinstance(node.args[0], ast.Starred):
        return False
    called = node.func
    name = called.id if isinstance(called, ast.Name) else getattr(called, "attr", "")
    return "clip" in name.lower()


def without_clips(program: Program) -> tuple[Program, tuple[Line, ...]]:
    """A program whose gradient is not clipped, and the lines that clip it.

    Returns:
        the program itself, and no lines, where nothing that is clipped is the gradient's alone.
    """
    texts = program.texts()
    _, lines = unclipped_texts(texts)
    if not lines:
        return program, ()
    plain = _evaluated(program)
    acting = []
    for line in lines:
        free = program.with_texts(unclipped_texts(texts, frozenset({line}))[0])
        found = _evaluated(free)
        if plain is not None and found is not None and _is_clipped(plain, found):
            acting.append(line)
    if not acting:
        return program, ()
    return program.with_texts(unclipped_texts(texts, frozenset(acting))[0]), tuple(acting)


Evaluated = tuple[Array, dict[str, Array]]


def _evaluated(program: Program) -> Evaluated | None:
    """The loss and the gradient; None where it does not run."""
    try:
        return np.asarray(program.loss()), program.gradient()
    except CheckError:
        return None


def _is_clipped(plain: Evaluated, free: Evaluated) -> bool:
    """Whether the gradient alone is another one without a call."""
    if not np.array_equal(plain[0], free[0]):
        return False
    return any(
        clipped.shape != free[1][name].shape
        or np.abs(clipped - free[1][name]).max(initial=0.0)
        > SAME_FACTOR * np.abs(free[1][name]).max(initial=0.0)
        for name, clipped in plain[1].items()
    )
