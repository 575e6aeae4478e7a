"""Whether small numbers that a loss adds for safety explain what a check still finds.

The gradient that is meant is that of `log(p)` or `e / s`, while the loss says `log(p + 1e-6)` or
`e / (s + 1e-8)`. Nothing is taken for such a residue before the check agrees without it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from throughtime.gradcheck import CheckError, Report, Target, check_target
from throughtime.source.edits.edit import FileText, Splice, spliced
from throughtime.source.recipe import Program, Recipe
from throughtime.source.text import read_source
from throughtime.source.tolerances import LARGEST_SAFETY

LOGARITHMS = ("log", "log2", "log10")


@dataclass(frozen=True)
class WithoutSafety:
    """A user's program with 0 in place of the small numbers that its loss adds for safety.

    Args:
        target: of the program.
        report: what a quick check of it says.
        numbers: each with its place, as "ε = 1e-06 (rnn.py:48)".
    """

    target: Target
    report: Report
    numbers: tuple[str, ...]

    def explains(self, discrepancy: float) -> bool:
        """Whether the numbers explain all that a check finds; a large discrepancy is no residue."""
        return discrepancy <= LARGEST_SAFETY and self.report.verdict == "agree"

    def residue(self, discrepancy: float) -> str:
        """What is said beside the check without the numbers, where it agrees."""
        said = ", ".join(self.numbers)
        them = "it" if len(self.numbers) == 1 else "them"
        return (
            f"Checked with 0 in place of {said} in the loss: with {them} the gradient, which is "
            f"that of the loss that is meant, is off by d = {discrepancy:.1e}."
        )

    @property
    def note(self) -> str:
        """What a diagnosis of this program has to say beside its causes."""
        return f"The causes were sought with 0 in place of {', '.join(self.numbers)} in the loss."


def checked_without_safety(recipe: Recipe, seed: int) -> WithoutSafety | None:
    """A user's program without small numbers, checked.

    None where its loss has none, or needs them.

    Args:
        recipe: how the file is run.
        seed: of the check.
    """
    path = recipe.path.resolve()
    texts, small = without_safety({path: read_source(path).text})
    if not small:
        return None
    try:
        recipe = replace(recipe, path=path)
        target = Program(recipe, texts=texts, seed=seed).target()
        if np.array_equal(target.loss(), Program(recipe, seed=seed).loss()):
            return None  # those of an optimiser
        report = check_target(target, seed=seed, effort="quick", progress=False)
    except (CheckError, ArithmeticError):  # as where a logarithm needs them
        return None
    return WithoutSafety(target, report, small)


def without_safety(texts: Mapping[Path, str]) -> tuple[dict[Path, str], tuple[str, ...]]:
    """The texts with 0 for each small number that is added within a logarithm or a divisor.

    Args:
        texts: by path.

    Returns:
        the texts, and each number with its place, as "ε = 1e-06 (rnn.py:48)".
    """
    found: dict[Path, str] = {}
    said: list[str] = []
    for path, text in texts.items():
        file = FileText.of(path, text)
        known = dict(_small_names(file.tree))
        terms = {file.start(term): term for term in _terms(file.tree, known)}
        splices = [Splice(at, file.end(term), "0.0") for at, term in terms.items()]
        found[path] = spliced(file.data, splices).decode()
        said += [f"ε = {_size(t, known):.3g} ({path.name}:{t.lineno})" for t in terms.values()]
    return found, tuple(dict.fromkeys(said))


def _terms(tree: ast.AST, known: Mapping[str, float]) -> Iterator[ast.expr]:
    for node in ast.walk(tree):
        within: ast.expr | None = None
        if isinstance(node, ast.Call) and _last_name(node.func) in LOGARITHMS and node.args:
            within = node.args[0]
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            within = node.right
        if within is None:
            continue
        for part in ast.walk(within):
            if isinstance(part, ast.BinOp) and isinstance(part.op, ast.Add):
                yield from (t for t in (part.left, part.right) if _size(t, known))


def _size(term: ast.expr, known: Mapping[str, float]) -> float:
    """Of a small number, as it stands or under a name; 0 of anything else."""
    try:
        number = ast.literal_eval(term) if isinstance(term, ast.Constant | ast.BinOp) else None
    except (ValueError, TypeError, SyntaxError):
        number = None
    if number is None:
        return known.get(_last_name(term), 0.0)
    return float(number) if _is_small(number) else 0.0


def _is_small(number: object) -> bool:
    return isinstance(number, float) and 0.0 < number <= LARGEST_SAFETY


def _last_name(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else getattr(node, "attr", "")


def _small_names(tree: ast.AST) -> Iterator[tuple[str, float]]:
    """Names that stand for a small number: assigned once, or as an argument's default."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
            if _is_small(node.value.value):
                for target in node.targets:
                    yield _last_name(target), float(str(node.value.value))
        elif isinstance(node, ast.arguments):
            positional = [*node.posonlyargs, *node.args]
            start = len(positional) - len(node.defaults)
            pairs = [*zip(positional[start:], node.defaults, strict=True),
                     *zip(node.kwonlyargs, node.kw_defaults, strict=True)]  # fmt: skip
            for argument, default in pairs:
                if isinstance(default, ast.Constant) and _is_small(default.value):
                    yield argument.arg, float(str(default.value))
