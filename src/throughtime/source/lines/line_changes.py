"""What would be right in a wrong line: changes of its text, from the values that it should have."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from throughtime.arrays import Array
from throughtime.source.events import CallSite, Event, Place
from throughtime.source.lines.first_wrong import WrongValues, WrongValueSearch
from throughtime.source.lines.held import Variables
from throughtime.source.lines.hypotheses import Hypothesis
from throughtime.source.lines.truths import Truth
from throughtime.source.lines.variants import noticed_variant
from throughtime.source.lines.what_fits import WhatFits
from throughtime.source.probes import ProbeSite
from throughtime.source.tolerances import FITS_NEARLY, LONGEST_NAME, MOST_FITTING

OPERANDS = ast.Name | ast.Attribute | ast.Subscript
Change = tuple[str, str]  # an expression or a statement, and what would be right in its place


@dataclass(frozen=True)
class Steps:
    """What there is each time that a line runs, with the other faults mended.

    Attributes:
        frames: its variables.
        before: the values as they are.
        wanted: what they should be, laid out as they are.
        fits: whether a value is what it should be.
        calls: where its function was called; None where that is not the user's code.
    """

    frames: list[Variables]
    before: list[Array]
    wanted: list[Array]
    fits: list[Callable[[Any], bool]]
    calls: list[CallSite | None] = field(default_factory=list)


def changes_of(
    search: WrongValueSearch,
    faults: Sequence[WrongValues],
    fault: WrongValues,
    *,
    simple: bool = False,
) -> tuple[list[Change], str]:
    """Small changes of a line after which its values are right at all steps; the first in words.

    Args:
        search: that found the faults.
        faults: all of them: the others are mended while this one is looked at.
        fault: the one whose line it is.
        simple: whether what is made of two variables is left out.
    """
    hypothesis = fault.hypothesis
    site = search.code.probes.sites[hypothesis.place[0]]
    statement, _ = search.code.probes.statements[site.statement]
    if hypothesis.unchanged:
        return [(ast.unparse(statement), "")], ""
    if site.kind == "store" and site.text == site.target:
        return [], ""
    steps = steps_of(search, faults, fault)
    if steps is None:
        return [], ""
    own = isinstance(statement, ast.AugAssign) and site.kind == "changed"
    if site.kind in ("store", "added", "return", "argument"):
        return _of_expression(search, site, statement, site.text, steps, simple)
    if own and isinstance(statement, ast.AugAssign):
        inner = inner_of(statement, steps)
        if inner is not None:
            text = ast.unparse(statement.value)
            return _of_expression(search, site, statement, text, inner, simple)
    if site.kind in ("changed", "whole"):
        return _scaled_after(search, site, statement, steps)
    return [], ""


def is_right_then(
    search: WrongValueSearch, faults: Sequence[WrongValues], fault: WrongValues
) -> bool:
    """Whether a line's values are right as it is once the true ones of others are put in."""
    site = search.code.probes.sites[fault.hypothesis.place[0]]
    statement, _ = search.code.probes.statements[site.statement]
    steps = steps_of(search, faults, fault)
    if steps is not None and isinstance(statement, ast.AugAssign) and site.kind == "changed":
        steps = inner_of(statement, steps)
        return steps is not None and _all_fit(
            WhatFits(steps.frames, [], "@"), ast.unparse(statement.value), steps
        )
    if steps is None or site.kind not in ("store", "added", "return", "argument"):
        return False
    return _all_fit(WhatFits(steps.frames, [], "@"), site.text, steps)


def steps_of(
    search: WrongValueSearch, faults: Sequence[WrongValues], fault: WrongValues
) -> Steps | None:
    """The variables each time that a line runs, with true values put in everywhere.

    Of an augmented assignment they are those before it.
    """
    hypothesis = fault.hypothesis
    events = fault.before.events[hypothesis.place]
    truths = {events[n].sequence: truth for n, truth in hypothesis.pairs}
    values = {events[n].sequence: events[n].value for n, _ in hypothesis.pairs}
    laid = search.values_of(hypothesis, fault.before)
    seen = {sequence: sequence for sequence in truths}  # where its variables are looked at
    site = search.code.probes.sites[hypothesis.place[0]]
    if site.kind == "changed":
        for event in _right_sides(site, hypothesis.place, fault):
            later = [sequence for sequence in truths if sequence > event.sequence]
            if later:
                seen[min(later)] = event.sequence
    recorded, _ = search.code.record_gradient(
        search.values_of_all(faults), frozenset(seen.values())
    )
    by_sequence = {event.sequence: event for event in recorded if event.frame is not None}
    found = Steps([], [], [], [])
    for sequence, truth in truths.items():
        looked = by_sequence.get(seen[sequence])
        if looked is None or looked.frame is None:
            return None
        found.frames.append(looked.frame)
        found.calls.append(looked.call)
        found.before.append(values[sequence])
        found.wanted.append(laid[sequence])
        found.fits.append(_fit(search, truth, hypothesis, values[sequence].shape))
    return found


def _right_sides(site: ProbeSite, place: Place, fault: WrongValues) -> Iterator[Event]:
    """The right sides of an augmented assignment, in the order in which they run."""
    for other, events in fault.before.events.items():
        own = events[0].site
        if own.kind == "added" and own.statement == site.statement and other[1] == place[1]:
            yield from events


def _fit(
    search: WrongValueSearch, truth: Truth, meant: Hypothesis, shape: tuple[int, ...]
) -> Callable[[Any], bool]:
    def fits(value: Any) -> bool:
        array = np.asarray(value, dtype=np.float64)
        if array.shape != shape:
            return False
        return search.meanings.is_truth(np.transpose(array, meant.axes) / meant.factor, truth)

    return fits


def inner_of(statement: ast.AugAssign, steps: Steps) -> Steps | None:
    """What the right side of `x += …` or `x *= …` should be, where x is known before it."""
    what = WhatFits(steps.frames, [], "@")
    right = what.arrays(ast.unparse(statement.value))
    at_first = what.arrays(ast.unparse(statement.target))
    if right is None or at_first is None:
        return None
    found = Steps(steps.frames, list(right), [], [], steps.calls)
    for x, wanted, fits in zip(at_first, steps.wanted, steps.fits, strict=True):
        with np.errstate(all="ignore"):
            needed = _between(statement.op, x, wanted)
        if needed is None or not np.isfinite(needed).all():
            return None
        if isinstance(statement.op, ast.Mult | ast.Div) and right[0].ndim < needed.ndim:
            # A factor of all entries stays one: what is wrong in some alone is wrong before.
            if np.ptp(needed) > FITS_NEARLY * float(np.abs(needed).max(initial=0.0)):
                return None
            needed = np.full(right[0].shape, float(np.mean(needed)))
        found.wanted.append(needed)
        found.fits.append(_redone(statement.op, x, fits))
    return found


def _between(op: ast.operator, x: Array, wanted: Array) -> Array | None:
    """By what x should be changed to be what is wanted."""
    if x.shape != wanted.shape:
        return None
    if isinstance(op, ast.Add):
        return np.asarray(wanted - x)
    if isinstance(op, ast.Sub):
        return np.asarray(x - wanted)
    if isinstance(op, ast.Mult):
        return np.asarray(wanted / x)
    return np.asarray(x / wanted) if isinstance(op, ast.Div) else None


def _redone(
    op: ast.operator, at_first: Array, fits: Callable[[Any], bool]
) -> Callable[[Any], bool]:
    def fit(value: Any) -> bool:
        with np.errstate(all="ignore"):
            if isinstance(op, ast.Add):
                return fits(at_first + value)
            if isinstance(op, ast.Sub):
                return fits(at_first - value)
            return fits(at_first * value if isinstance(op, ast.Mult) else at_first / value)

    return fit


def _of_expression(
    search: WrongValueSearch,
    site: ProbeSite,
    statement: ast.stmt,
    text: str,
    steps: Steps,
    simple: bool,
) -> tuple[list[Change], str]:
    others = others_of(search, site)
    locals_ = steps.frames[0][1]
    arrays = [
        name
        for name, value in locals_.items()
        if isinstance(value, np.ndarray) and value.dtype.kind == "f"
    ]
    found: list[tuple[str, str]] = []  # words, text
    noticed = noticed_variant(text, [*others, *arrays], steps.frames, steps.fits)
    if (
        noticed is not None
        and noticed[0].startswith("times")
        and not any(map(np.any, steps.wanted))
    ):
        noticed = None  # what should be 0 is so with any factor that happens to be 0
    if noticed is not None:
        found.append(noticed)
    sums = _sums(search, site)
    carried = carried_in(search, site) - sums
    what = WhatFits(steps.frames, others, style_of(statement, search), _numpy(text), sums, carried)
    changes: list[Change] = [(text, new) for _, new in found]
    if site.kind == "store" and (added := _added_up(what, site, text, steps)):
        return [added], "equals it with += for =" if added[1] else "right without this line"
    if noticed is None or len(noticed[1]) > len(text):  # a factor of all is said plainly
        scaled = [(factor, _times(text, factor)) for factor in what.factors(text, steps.wanted)]
        words = [(f"with the factor {f.strip()}", t) for f, t in scaled if _all_fit(what, t, steps)]
        found = [*words, *found]
    found += [(f.words, f.text) for f in what.expressions(text, steps.wanted, steps.fits, simple)]
    if not found:
        for factor in what.slopes_of_sums(text, steps.wanted):
            if _all_fit(what, new := _times(text, factor), steps):
                found.append((f"with the factor {factor.strip()}", new))
    if not found:
        found += _softmax(what, text, steps)
    if not found:
        parts = _block_by_block(what, text, steps, [*others, *arrays])
        found += [parts] if parts else []
    wrapped = _wrapped_names(search, site, steps)
    found.sort(key=lambda one: (_wraps(one[1], steps, wrapped), _fixed(one[1], text)))
    changes = list(dict.fromkeys((text, new) for _, new in found))[:MOST_FITTING]
    return changes, f"equals it {found[0][0]}" if found else ""


def _wrapped_names(search: WrongValueSearch, site: ProbeSite, steps: Steps) -> set[str]:
    """Variables that are an item before the first of a list: the last, by Python's indices."""
    functions = {other.statement for other in search.code.probes.sites
                 if (other.path, other.function) == (site.path, site.function)}  # fmt: skip
    found = set()
    for number in functions:
        statement, _ = search.code.probes.statements[number]
        if not isinstance(statement, ast.Assign) or not isinstance(statement.value, ast.Subscript):
            continue
        if _wraps(ast.unparse(statement.value), steps, set()):
            found |= {ast.unparse(target) for target in statement.targets}
    return found


def _fixed(new: str, old: str) -> int:
    """How many items more a text names by a number: in a loop the step is the likelier index."""
    return len(re.findall(r"\[-?\d+\]", new)) - len(re.findall(r"\[-?\d+\]", old))


def _wraps(text: str, steps: Steps, names: set[str]) -> bool:
    """Whether an expression looks before the first item of a list, where that is the last one.

    What is right by such an item is so by chance: where there is but one step, the last item is
    the one that is meant.
    """
    for node in ast.walk(ast.parse(text, mode="eval")):
        if isinstance(node, ast.Name) and node.id in names:
            return True
        if not isinstance(node, ast.Subscript) or isinstance(node.slice, ast.Constant):
            continue
        for space in steps.frames:
            try:
                index = eval(ast.unparse(node.slice), {**space[0], **space[1]})
                held = eval(ast.unparse(node.value), {**space[0], **space[1]})
            except Exception:  # whatever the user's own objects raise
                continue
            whole = isinstance(index, int) and not isinstance(index, bool)
            if whole and index < 0 and isinstance(held, list | tuple | np.ndarray):
                return True
    return False


def _all_fit(what: WhatFits, text: str, steps: Steps) -> bool:
    values = what.values(text)
    return values is not None and all(
        fit(value) for fit, value in zip(steps.fits, values, strict=True)
    )


def others_of(search: WrongValueSearch, site: ProbeSite) -> list[str]:
    """Variables as they are written in the function, and those of the object."""
    return [
        other.text
        for other in search.code.probes.sites
        if other.kind == "value"
        and other.path == site.path
        and len(other.text) <= LONGEST_NAME
        and (other.function == site.function or other.text.startswith("self."))
    ]


def _sums(search: WrongValueSearch, site: ProbeSite) -> set[str]:
    """Variables of the function that are added to, and that nothing is computed from."""
    added, read = set(), set()
    for other in search.code.probes.sites:
        if (other.path, other.function) != (site.path, site.function):
            continue
        node, _ = search.code.probes.statements[other.statement]
        if isinstance(node, ast.AugAssign) and isinstance(node.op, ast.Add | ast.Sub):
            added.add(ast.unparse(node.target))
        if isinstance(node, ast.Assign | ast.AugAssign):
            read |= {ast.unparse(n) for n in ast.walk(node.value) if isinstance(n, OPERANDS)}
    return added - read


def carried_in(search: WrongValueSearch, site: ProbeSite) -> set[str]:
    """Variables of the function that carry a gradient back."""
    found = set()
    for place in search.carried:
        other = search.code.probes.sites[place[0]]
        if (other.path, other.function) == (site.path, site.function) and other.assigns:
            found.add((other.target or other.text).split("[")[0])
    return found


def style_of(statement: ast.stmt, search: WrongValueSearch) -> str:
    """How a product of matrices is written here."""
    texts = [ast.unparse(statement)]
    texts += [ast.unparse(node) for node, _ in search.code.probes.statements.values()]
    for text in texts:
        for style in ("np.dot(", "np.matmul(", " @ "):
            if style in text:
                return style.strip().removesuffix("(")
    return "@"


def _numpy(text: str) -> str:
    return "numpy" if "numpy." in text else "np"


def _times(text: str, factor: str) -> str:
    """An expression with a factor behind it."""
    product = isinstance(ast.parse(text, mode="eval").body, ast.BinOp) and any(
        sign in text for sign in "+-"
    )
    return ast.unparse(
        ast.parse(f"({text}){factor}" if product else f"{text}{factor}", mode="eval")
    )


def _added_up(what: WhatFits, site: ProbeSite, text: str, steps: Steps) -> Change | None:
    """`+=` for `=`, where what there was before is all that lacks; nothing for `= 0`."""
    if not site.target:
        return None
    values = what.arrays(f"{site.target} + ({text})")
    if values is None or not all(fit(value) for fit, value in zip(steps.fits, values, strict=True)):
        return None
    own = what.arrays(text)
    begins_anew = own is not None and not any(array.any() for array in own)
    return f"{site.target} = {text}", "" if begins_anew else f"{site.target} += {text}"


def _softmax(what: WhatFits, text: str, steps: Steps) -> list[tuple[str, str]]:
    """Times the slope of softmax, with a factor where one is needed."""
    shape = steps.wanted[0].shape
    found = []
    names = dict.fromkeys(
        made.text for made in what._of_shape(shape) if not made.cost and made.text != text
    )
    axes = [""]
    if len(shape) > 1 and min(shape) > 1:
        axes = [", axis=-1, keepdims=True", ", axis=0, keepdims=True"]
    elif len(shape) > 1:
        axes = [""]
    for p in names:
        for axis in axes:
            new = f"{p} * (({text}) - np.sum(({text}) * {p}{axis}))"
            values = what.arrays(new)
            if values is None:
                continue
            if all(fit(value) for fit, value in zip(steps.fits, values, strict=True)):
                found.append(
                    ("with the slope of softmax", ast.unparse(ast.parse(new, mode="eval")))
                )
                continue
            for factor in what.factors(new, steps.wanted):
                scaled = _times(new, factor)
                if _all_fit(what, scaled, steps):
                    found.append(("with the slope of softmax", scaled))
    return found


def _block_by_block(
    what: WhatFits, text: str, steps: Steps, others: Sequence[str]
) -> tuple[str, str] | None:
    """Where several blocks of a list are wrong: each with a text of its own that fits."""
    new, words = text, []
    for part, wanted in what.blocks(text, steps.wanted):
        fits = [near(array) for array in wanted]
        single = noticed_variant(part, others, steps.frames, fits)
        if single is None:
            fitting = what.expressions(part, wanted, fits)
            single = (fitting[0].words, fitting[0].text) if fitting else None
        if single is None:
            return None
        if new.count(part) != 1:
            return None
        new = new.replace(part, single[1])
        words.append(single[0])
    return (" and ".join(words), new) if words else None


def near(wanted: Array) -> Callable[[Any], bool]:
    """Whether a value is nearly what is wanted, as a test of values."""

    def fit(value: Any) -> bool:
        array = np.asarray(value, dtype=np.float64)
        size = float(np.abs(wanted).max(initial=0.0))
        return array.shape == wanted.shape and bool((np.abs(array - wanted) <= 1e-4 * size).all())

    return fit


def _scaled_after(
    search: WrongValueSearch, site: ProbeSite, statement: ast.stmt, steps: Steps
) -> tuple[list[Change], str]:
    """A further statement that divides what is made entry by entry."""
    name = site.text if site.kind == "changed" else site.target or site.text
    if not name.isidentifier() or isinstance(statement, ast.Expr):
        return [], ""
    what = WhatFits(steps.frames, [], "@")
    own = np.concatenate([value.reshape(-1) for value in steps.before])
    wanted = np.concatenate([value.reshape(-1) for value in steps.wanted])
    square = float(own @ own)
    if not square:
        return [], ""
    factor = float(own @ wanted) / square
    if float(np.abs(factor * own - wanted).max()) > 1e-4 * float(np.abs(wanted).max(initial=0.0)):
        return [], ""
    old = ast.unparse(statement)
    found = []
    for text in what.named(factor):
        sign, size = text.strip().split(" ", 1)
        found.append((old, f"{old}\n{name} {sign}= {size}"))
    return found, f"equals it after {found[0][1].splitlines()[1]}" if found else ""
