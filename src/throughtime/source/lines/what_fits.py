"""What would have to stand in a line for its values to be right: texts, found from the values.

For each part of an expression it is known what that part would have to be, as long as only sums,
products, quotients and lists of blocks are around it. That is looked up among what the function
holds: variables, their slopes and complements, products with matrices, and two of them at a time.
"""

from __future__ import annotations

import ast
import contextlib
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import combinations_with_replacement, permutations, product
from typing import Any

import numpy as np

from throughtime.arrays import Array
from throughtime.source.lines.factors import OPERANDS, Factors, flat
from throughtime.source.lines.held import Made, Variables, held
from throughtime.source.lines.inverted import (
    factor_needed,
    factors_of,
    inverse,
    same_numbers_in,
    terms_of,
    with_parts,
)
from throughtime.source.lines.terms import CLOSE, possible_terms, sums_of_terms
from throughtime.source.tolerances import (
    FITS_NEARLY,
    LONGEST_NAME,
    MOST_ATOMS,
    MOST_FITTING,
    MOST_MADE,
    MOST_SUBTRACTED,
    TOO_SMALL_A_DIVISOR,
)

Fits = Sequence[Callable[[Any], bool]]
NAMED = re.compile(r"[A-Za-z_][\w.]*(\[[^\[\]]*\][\w.]*)*")  # a variable, an attribute, an item
BLOCKS = ("hstack", "concatenate", "vstack", "row_stack", "column_stack", "r_", "c_")


@dataclass(frozen=True)
class Fitting:
    """An expression whose values fit.

    Attributes:
        words: what is changed, as "with c[t] for dc".
        text: the whole expression.
        cost: how far it is from the one that stands there.
    """

    words: str
    text: str
    cost: float


class WhatFits(Factors):
    """Looks for expressions with the values that are wanted.

    Args:
        frames: the variables at each step.
        texts: variables, as they are written around the line.
        style: how a product of matrices is written: "np.dot" or "@".
        prefix: how NumPy is called.
        without: variables that are no operands, as sums that are only added to.
        carried: the variables that carry a gradient back.
    """

    def __init__(
        self,
        frames: Sequence[Variables],
        texts: Sequence[str],
        style: str,
        prefix: str = "np",
        without: Collection[str] = (),
        carried: Collection[str] = (),
    ) -> None:
        super().__init__(frames, prefix)
        self.style = style
        self._without, self._carried = frozenset(without), frozenset(carried)
        self._atoms = self._all_atoms(texts)
        self._tables: dict[tuple[int, ...], list[Made]] = {}

    # --- what is there ---

    def _all_atoms(self, texts: Sequence[str]) -> list[Made]:
        found: dict[str, Made] = {}
        for text in dict.fromkeys([*texts, *held(self.frames)]):
            if len(found) >= MOST_ATOMS or len(text) > LONGEST_NAME or text in self._without:
                continue
            arrays = self.arrays(text)
            if arrays is not None and any(a.any() for a in arrays):
                found[text] = Made(text, arrays, 0.0)
        return list(found.values())

    def _of_shape(self, shape: tuple[int, ...]) -> list[Made]:
        """All that has a shape: variables, what is made of one, and products with matrices."""
        if shape in self._tables:
            return self._tables[shape]
        own = [atom for atom in self._atoms if atom.values[0].shape == shape]
        table = [*own, *self._repeated(shape)]
        for atom in own:
            a = atom.text
            for text, cost in (
                (f"(1 - {a}**2)", 0.2),
                (f"{a} * (1 - {a})", 0.2),
                (f"(1 - {a})", 0.3),
                (f"{self.prefix}.tanh({a})", 0.3),
                (f"(1 - {self.prefix}.tanh({a}) ** 2)", 0.4),
                (f"{a}**2", 0.6),
            ):
                arrays = self.arrays(text)
                if arrays is not None:
                    table.append(Made(text, arrays, cost))
        table += self._differences(own)
        table += self._products(shape)
        self._tables[shape] = table[:MOST_MADE]
        return self._tables[shape]

    def _repeated(self, shape: tuple[int, ...]) -> Iterator[Made]:
        """What has a shape where it stands beside something that has: the same for each row."""
        for atom in self._atoms:
            own = atom.values[0].shape
            if own == shape or not own or np.prod(own) < 2:
                continue
            with contextlib.suppress(ValueError):
                values = tuple(np.broadcast_to(value, shape) for value in atom.values)
                yield Made(atom.text, values, 0.1)

    def _differences(self, own: Sequence[Made]) -> Iterator[Made]:
        """A candidate less the state before it, as the slope of a gate between the two has it."""
        forward = [a for a in own if a.text.split("[")[0] not in self._carried]
        if len(forward) > MOST_SUBTRACTED:
            return
        for one, other in permutations(forward, 2):
            pairs = zip(one.values, other.values, strict=True)
            yield Made(f"({one.text} - {other.text})", tuple(a - b for a, b in pairs), 0.4)

    def _products(self, shape: tuple[int, ...]) -> Iterator[Made]:
        """Products of two variables, as matrices, that have a shape."""
        by_shape: dict[tuple[int, ...], list[Made]] = {}
        for atom in self._atoms:
            if 1 <= atom.values[0].ndim <= 2:
                by_shape.setdefault(atom.values[0].shape, []).append(atom)
        for (a, left), (b, right) in product(by_shape.items(), repeat=2):
            if len(a) + len(b) >= 3:
                for turned in product((False, True), repeat=2):
                    yield from self._matrix_products(left, right, turned, shape)
            if len(a) == len(b) == 1 and a + b == shape:
                for one, other in product(left, right):
                    if one is not other:
                        pairs = zip(one.values, other.values, strict=True)
                        text = f"{self.prefix}.outer({one.text}, {other.text})"
                        yield Made(text, tuple(np.outer(x, y) for x, y in pairs), 0.3)

    def _matrix_products(
        self,
        left: Sequence[Made],
        right: Sequence[Made],
        turned: tuple[bool, ...],
        shape: tuple[int, ...],
    ) -> Iterator[Made]:
        """Products of all of one shape with all of another, each transposed or not."""
        shapes = []
        for some, turn in zip((left, right), turned, strict=True):
            own = some[0].values[0].shape
            if turn and len(own) < 2:
                return
            shapes.append(own[::-1] if turn else own)
        a, b = shapes
        if a[-1] != b[0] or (*a[:-1], *b[1:]) != shape:
            return
        for one, other in product(left, right):
            x, y = (_turned(one) if turned[0] else one), (_turned(other) if turned[1] else other)
            values = tuple(p @ q for p, q in zip(x.values, y.values, strict=True))
            plain = self.style == "@"
            text = f"{x.text} @ {y.text}" if plain else f"{self.style}({x.text}, {y.text})"
            yield Made(text, values, 0.3)

    # --- what is wanted ---

    def expressions(
        self, text: str, wanted: Sequence[Array], fits: Fits, simple: bool = False
    ) -> list[Fitting]:
        """Texts whose values fit, the nearest to the one that is there first.

        Args:
            text: the expression as it is.
            wanted: what its values should be, at each step.
            fits: for each step whether a value is what it should be there.
            simple: whether what is made of two variables is left out.
        """
        tree = ast.parse(text, mode="eval").body
        found: dict[str, Fitting] = {}
        parts = list(self._needed(tree, tuple(wanted)))
        alone = ((node, made) for node, needed in parts for made in self._of_one(node, needed))
        added = ((node, made) for node, needed in parts for made in self._term(node, needed))
        by_two = ((node, made) for node, needed in parts for made in self._pairs_of(needed))
        several = ((tree, made) for made in self._terms(tree, tuple(wanted)))
        swapped = ((tree, made) for made in self._swapped(tree, tuple(wanted)))
        for choices in (alone, added, by_two, swapped, several):  # two of them only where no one is
            if found or (simple and choices is not alone):
                break
            for node, made in choices:
                new = _put(tree, node, made.text)
                old = ast.unparse(node)
                if new == ast.unparse(tree) or new in found:
                    continue
                values = self.values(new)
                if values is None:
                    continue
                if not all(_fit(fit, value) for fit, value in zip(fits, values, strict=True)):
                    continue
                alike = SequenceMatcher(None, old, made.text).ratio()
                cost = made.cost + 1 - alike + 0.01 * len(new)
                words = _words(old, made.text)
                found[new] = Fitting(words, new, cost)
        return sorted(found.values(), key=lambda f: (f.cost, f.text))[:MOST_FITTING]

    def needed(self, text: str, wanted: Sequence[Array]) -> Iterator[tuple[ast.expr, list[Array]]]:
        """The parts of an expression, each with what it should be at each step."""
        tree = ast.parse(text, mode="eval").body
        for part, found in self._needed(tree, tuple(wanted)):
            yield part, list(found)

    def blocks(self, text: str, wanted: Sequence[Array]) -> Iterator[tuple[str, tuple[Array, ...]]]:
        """The wrong parts of what is put together of blocks, and what they should be."""
        tree = ast.parse(text, mode="eval").body
        for part, needed in self._blocks(tree, tuple(wanted)):
            yield ast.unparse(part), needed

    def _needed(
        self, node: ast.expr, wanted: tuple[Array, ...]
    ) -> Iterator[tuple[ast.expr, tuple[Array, ...]]]:
        """An expression and its parts, with what each should be."""
        yield node, wanted
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            yield from self._needed(node.operand, tuple(-w for w in wanted))
        elif isinstance(node, ast.BinOp):
            for part, other, left in (
                (node.left, node.right, True),
                (node.right, node.left, False),
            ):
                values = self.arrays(ast.unparse(other))
                own = self.arrays(ast.unparse(part))
                if values is None or own is None or own[0].shape != wanted[0].shape:
                    continue
                needed = tuple(
                    inverse(node.op, w, value, left)
                    for w, value in zip(wanted, values, strict=True)
                )
                if all(
                    n.shape == w.shape and np.isfinite(n).all()
                    for n, w in zip(needed, wanted, strict=True)
                ):
                    yield from self._needed(part, needed)
        if (pair := factors_of(node)) is not None:
            for part, other, left in ((pair[0], pair[1], True), (pair[1], pair[0], False)):
                values, own = self.arrays(ast.unparse(other)), self.arrays(ast.unparse(part))
                if values is None or own is None:
                    continue
                matrices = [
                    factor_needed(w, value, left) for w, value in zip(wanted, values, strict=True)
                ]
                known = tuple(m for m in matrices if m is not None and m.shape == own[0].shape)
                if len(known) == len(wanted):
                    yield from self._needed(part, known)
        if (inner := same_numbers_in(node)) is not None:
            values = self.arrays(ast.unparse(inner))
            if values is not None and values[0].size == wanted[0].size:
                turned = isinstance(node, ast.Attribute)
                shape = values[0].shape
                laid = tuple(w.T if turned else w.reshape(shape) for w in wanted)
                yield from self._needed(inner, laid)
        for part, needed in self._blocks(node, wanted):
            yield from self._needed(part, needed)

    def _blocks(
        self, node: ast.expr, wanted: tuple[Array, ...]
    ) -> Iterator[tuple[ast.expr, tuple[Array, ...]]]:
        """The parts of a list of blocks that are not what they should be."""
        if not isinstance(node, ast.Call) or not node.args:
            return
        name = ast.unparse(node.func).split(".")[-1]
        parts = node.args[0]
        if name not in BLOCKS or not isinstance(parts, ast.Tuple | ast.List):
            return
        arrays = [self.arrays(ast.unparse(part)) for part in parts.elts]
        if any(a is None or not a[0].ndim for a in arrays):
            return
        known = [a for a in arrays if a is not None]
        for axis in range(wanted[0].ndim):
            sizes = [a[0].shape[axis] if a[0].ndim > axis else 0 for a in known]
            joined = (
                [np.concatenate([a[n] for a in known], axis) for n in range(len(wanted))]
                if all(
                    a[0].ndim == wanted[0].ndim
                    and a[0].shape[:axis] == wanted[0].shape[:axis]
                    and a[0].shape[axis + 1 :] == wanted[0].shape[axis + 1 :]
                    for a in known
                )
                else None
            )
            now = self.arrays(ast.unparse(node))
            if joined is None or now is None or sum(sizes) != wanted[0].shape[axis]:
                continue
            if not all(np.array_equal(j, n) for j, n in zip(joined, now, strict=True)):
                continue
            edges = np.cumsum(sizes)[:-1]
            for number, part in enumerate(parts.elts):
                needed = tuple(np.split(w, edges, axis)[number] for w in wanted)
                wanted_there = flat(needed)
                off = float(np.abs(flat(known[number]) - wanted_there).max(initial=0.0))
                if off > FITS_NEARLY * float(np.abs(wanted_there).max(initial=0.0)):
                    yield part, needed
            return

    def _of_one(self, node: ast.expr, needed: tuple[Array, ...]) -> Iterator[Made]:
        """One thing in place of a part, or added to it, or times it.

        What should be 0 is that less itself, which says nothing.
        """
        if not flat(needed).any():
            return
        yield from self._that_are(needed)
        text = ast.unparse(node)
        own = self.arrays(text)
        if own is None or own[0].shape != needed[0].shape:
            return
        lacking = tuple(n - o for n, o in zip(needed, own, strict=True))
        for made in self._that_are(lacking):
            sum_of = (
                f"{text} - {made.text[2:-1]}" if made.text[:2] == "(-" else f"{text} + {made.text}"
            )
            yield Made(f"({sum_of})", needed, made.cost + 0.2)
        ratio = tuple(inverse(ast.Mult(), n, o, True) for n, o in zip(needed, own, strict=True))
        if all(np.isfinite(r).all() for r in ratio):
            for made in self._that_are(ratio):
                whole = f"({text})" if isinstance(node, ast.BinOp) else text
                yield Made(f"{whole} * {made.text}", needed, made.cost + 0.3)

    def _term(self, node: ast.expr, needed: tuple[Array, ...]) -> Iterator[Made]:
        """A part and a term that is missing in it, which is the product of two things."""
        text = ast.unparse(node)
        own = self.arrays(text)
        if own is None or own[0].shape != needed[0].shape or not flat(own).any():
            return
        lacking = tuple(n - o for n, o in zip(needed, own, strict=True))
        if float(np.abs(flat(lacking)).max()) > FITS_NEARLY * float(np.abs(flat(needed)).max()):
            for made in self._pairs_of(lacking, signs="*"):
                yield Made(f"({text} + {made.text})", needed, made.cost + 0.2)

    def _terms(self, node: ast.expr, needed: tuple[Array, ...]) -> Iterator[Made]:
        """An expression and several terms that are missing in it."""
        text = ast.unparse(node)
        own, shape = self.arrays(text), needed[0].shape
        if own is None or own[0].shape != shape or not flat(own).any() or not shape:
            return
        lacking = tuple(n - o for n, o in zip(needed, own, strict=True))
        variables = [atom for atom in self._atoms if atom.values[0].shape == shape]
        terms = possible_terms(self._of_shape(shape), variables, self._carried)
        for made in sums_of_terms(terms, lacking):
            yield Made(f"{text} + {made.text}", needed, made.cost)

    def _swapped(self, tree: ast.expr, wanted: tuple[Array, ...]) -> Iterator[Made]:
        """A sum with other operands in two or three of its terms."""
        shape = wanted[0].shape
        own = self.arrays(ast.unparse(tree))
        terms = terms_of(tree)
        if own is None or own[0].shape != shape or len(terms) < 2:
            return
        changes: dict[str, tuple[ast.expr, str]] = {}
        table: list[Made] = []
        for term, sign in terms:
            before = self.arrays(ast.unparse(term))
            if before is None:
                return
            for new in self._with_others(term):
                after = self.arrays(new)
                if after is None or after[0].shape != before[0].shape:
                    continue
                pairs = zip(after, before, strict=True)
                number = f"_{len(changes)}"
                changes[number] = (term, new)
                values = tuple(np.broadcast_to(sign * (a - b), shape) for a, b in pairs)
                table.append(Made(number, values, 0.2))
        lacking = tuple(n - o for n, o in zip(wanted, own, strict=True))
        for made in sums_of_terms(table, lacking):
            chosen = [changes[number] for number in made.text.split(" + ")]
            if len({id(term) for term, _ in chosen}) == len(chosen):
                text = with_parts(tree, {id(term): new for term, new in chosen})
                yield Made(text, wanted, made.cost)

    def _with_others(self, term: ast.expr) -> Iterator[str]:
        """A term with another variable of its shape for one of its own."""
        for node in ast.walk(term):
            text = ast.unparse(node) if isinstance(node, OPERANDS) else ""
            own = self.arrays(text) if text else None
            if own is None:
                continue
            for atom in self._atoms:
                if atom.values[0].shape == own[0].shape and atom.text != text:
                    yield with_parts(term, {id(node): atom.text})

    def slopes_of_sums(self, text: str, wanted: Sequence[Array]) -> list[str]:
        """Factors like ` * np.sum(p * y)`: the slope of a loss that is no logarithm of p.

        What is one number at each step, and another at each, is a sum over products of two.
        """
        own = self.arrays(text)
        shape = wanted[0].shape
        if own is None or own[0].shape != shape or len(own) < 2 or not shape:
            return []
        squares = np.array([float((o * o).sum()) for o in own])
        if not squares.all():
            return []
        factors = np.array([float((o * w).sum()) for o, w in zip(own, wanted, strict=True)])
        factors = factors / squares
        off = flat(tuple(f * o - w for f, o, w in zip(factors, own, wanted, strict=True)))
        if float(np.abs(off).max()) > CLOSE * float(np.abs(flat(tuple(wanted))).max(initial=0.0)):
            return []
        found = []
        atoms = [atom for atom in self._atoms if atom.values[0].shape == shape]
        for one, other in combinations_with_replacement(atoms, 2):
            pairs = zip(one.values, other.values, strict=True)
            sums = np.array([float((a * b).sum()) for a, b in pairs])
            with np.errstate(all="ignore"):
                rests = factors / sums
            if not np.isfinite(rests).all() or np.ptp(rests) > CLOSE * abs(float(rests[0])):
                continue
            product = f" * {self.prefix}.sum({one.text} * {other.text})"
            if abs(rests[0] - 1) < CLOSE:
                found.append(product)
            found += [f"{product}{size}" for size in self.named(float(rests[0]), text)]
        return found[:MOST_FITTING]

    def _that_are(self, needed: tuple[Array, ...]) -> Iterator[Made]:
        """Whatever has values by itself."""
        table = self._of_shape(needed[0].shape)
        size = float(np.abs(flat(needed)).max(initial=0.0))
        if not table or not size:
            return
        target = flat(needed)
        matrix = np.array([made.flat() for made in table])
        close = FITS_NEARLY * size
        off = np.abs(matrix - target).max(axis=1)
        for number in np.flatnonzero(off <= close):
            yield table[number]
        off = np.abs(matrix + target).max(axis=1)
        for number in np.flatnonzero(off <= close):
            yield Made(f"(-{table[number].text})", needed, table[number].cost + 0.5)

    def _pairs_of(self, needed: tuple[Array, ...], signs: str = "*+-") -> Iterator[Made]:
        """Two things that have values together."""
        table, target = self._of_shape(needed[0].shape), flat(needed)
        # What is one number everywhere is nothing that two variables make: a + (1 - a).
        if table and np.ptp(target) > FITS_NEARLY * float(np.abs(target).max(initial=0.0)):
            matrix = np.array([made.flat() for made in table])
            yield from _pairs(table, matrix, target, needed, signs)


def _turned(made: Made) -> Made:
    """A matrix, transposed; brackets stand around what is more than a name, such as 1 or a - b."""
    text = made.text if NAMED.fullmatch(made.text) else f"({made.text})"
    text = text.removesuffix(".T") if text.endswith(".T") else f"{text}.T"
    return Made(text, tuple(value.T for value in made.values), made.cost)


def _fit(fit: Callable[[Any], bool], value: Any) -> bool:
    try:
        return fit(value)
    except Exception:  # a value of another shape or kind
        return False


def _pairs(
    table: Sequence[Made], matrix: Array, target: Array, needed: tuple[Array, ...], signs: str
) -> Iterator[Made]:
    """Two things, multiplied, added, or one less the other, that have the values."""
    weights = np.random.default_rng(len(target)).standard_normal(len(target))
    keys = matrix @ weights
    order = np.argsort(keys)
    ranked = keys[order]
    largest = np.abs(matrix).max(axis=1, initial=0.0)
    with np.errstate(all="ignore"):
        divisor = np.where(np.abs(matrix) > TOO_SMALL_A_DIVISOR * largest[:, None], matrix, np.nan)
        wanted = {"*": target / divisor, "+": target - matrix, "-": matrix - target}
    for sign in signs:
        others = wanted[sign]
        usable = np.isfinite(others).all(axis=1)
        found = np.where(usable, np.nan_to_num(others) @ weights, np.nan)
        sizes = np.abs(np.nan_to_num(others)).max(axis=1, initial=0.0)
        for number in np.flatnonzero(usable & (sizes > 0)):
            reach = FITS_NEARLY * sizes[number] * float(np.abs(weights).sum()) ** 0.5
            low, high = np.searchsorted(ranked, [found[number] - reach, found[number] + reach])
            for second in map(int, order[low : min(high, low + 8)]):
                if sign != "-" and second < number and usable[second]:
                    continue  # the same, found the other way round
                off = float(np.abs(matrix[second] - others[number]).max())
                if off > FITS_NEARLY * sizes[number]:
                    continue
                a, b = table[int(number)], table[second]
                if sign != "*" and (a.text == b.text or a.names & b.names):
                    continue
                cost = 0.5 + a.cost + b.cost
                text = f"{a.text} {sign} {b.text}"
                yield Made(f"({text})" if sign in "+-" else text, needed, cost)


def _put(tree: ast.expr, node: ast.expr, text: str) -> str:
    """The expression with one of its parts replaced."""
    return with_parts(tree, {id(node): text})


def _words(old: str, new: str) -> str:
    if new.startswith(f"({old} + "):
        return f"with + {new[len(old) + 4 : -1]}"
    return f"with {new} for {old}"
