"""What each line of a user's backward pass computes, which line is wrong, and what it should be."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from throughtime.arrays import Array, refuse
from throughtime.derivatives import derivative
from throughtime.gradcheck import CheckError, Report, listed
from throughtime.source.edits.unclipped import without_clips
from throughtime.source.events import Event, Instrumented, Place
from throughtime.source.lines.call_changes import changes_at_call, in_doubt
from throughtime.source.lines.first_wrong import WrongValues, WrongValueSearch
from throughtime.source.lines.in_words import elsewhere, step_of, times_of
from throughtime.source.lines.line_changes import changes_of, is_right_then
from throughtime.source.lines.line_finding import LineFinding, Status, with_doubts
from throughtime.source.lines.matching import SEVERAL, DerivativeMatch, DerivativeReading
from throughtime.source.lines.overwritten import Overwritten
from throughtime.source.lines.too_few_steps import ShortLoop, loop_of
from throughtime.source.lines.truths import PLACE, Truths
from throughtime.source.probes import ProbeSite
from throughtime.source.recipe import Program
from throughtime.source.tolerances import (
    CLOSE_ENOUGH,
    ERROR_BARS,
    FEW_STEPS,
    LONGEST_NAME,
    MANY_STEPS,
    MOST_TRIALS,
    NAMED_FACTOR,
    TRIALS_OF_A_MEND,
)

NAME = re.compile(r"[A-Za-z_][\w.]*")
KEPT_BY_NAME = re.compile(NAME.pattern + r"(\[(['\"])\w*\2\])+")  # `self.grads['b']`
CLIPPED = "it is clipped here"
LAST_PART = ", the part of the last step"
ONLY_CLIPPED = "it was right before this line, which clips it"
WORST: tuple[Status, ...] = ("wrong", "follows", "right", "unknown")


def annotate(
    program: Program, report: Report | None = None, *, length: int | None = None
) -> tuple[LineFinding, ...]:
    """What each line of the backward pass is, in the order of lines.

    The derivative of the loss by every value of the forward pass is measured, and the values of
    the backward pass are looked up among them. No line is called wrong where the gradient is
    right.

    Args:
        program: a file with its recipe.
        report: what a check found; where it agrees, no line is looked for that is wrong.
        length: the number of steps; None: a few, or as many as show that a gradient is wrong.

    Raises:
        CheckError: where the program cannot be run, or is too long to look at every value.
    """
    wrong = report is None or report.verdict != "agree"
    chosen, shown = at_few_steps(program, length)
    if not (wrong and shown):
        return _looked_at(chosen, False).all()
    free, clipping = without_clips(chosen)
    findings = _looked_at(free, True).all()
    return _with_clips(findings, chosen, free, clipping) if clipping else findings


def _with_clips(
    findings: Sequence[LineFinding],
    program: Program,
    free: Program,
    lines: Sequence[tuple[Path, int]],
) -> tuple[LineFinding, ...]:
    """With lines that clip what was the gradient, or would be."""
    last = max((finding.order for finding in findings), default=0)
    found = list(findings)
    texts = program.texts()
    clipped, whole = program.gradient(), free.gradient()
    mended = tuple(name for name in whole if not np.array_equal(clipped[name], whole[name]))
    noticed = CLIPPED if any(finding.expected for finding in findings) else ONLY_CLIPPED
    for number, (path, line) in enumerate(lines, start=1):
        code = texts[path].split("\n")[line - 1].strip()
        own = [f for f in findings if (f.path, f.line) == (path, line)]
        found = [f for f in found if f not in own]
        found.append(
            LineFinding(
                path, line, line, own[0].function if own else "", own[0].target if own else code,
                "wrong", expected="what it was before", noticed=(noticed,),
                mended=mended if noticed == ONLY_CLIPPED else (), order=last + number,
            )
        )  # fmt: skip
    return tuple(sorted(found, key=lambda f: (str(f.path), f.line)))


def suspected(program: Program) -> list[LineFinding]:
    """The faults in the order in which they run; several of one line one by one.

    Raises:
        CheckError: as `annotate`.
    """
    chosen, shown = at_few_steps(program, None)
    return _looked_at(without_clips(chosen)[0], True, steps_only=True).of_faults() if shown else []


def _looked_at(program: Program, with_faults: bool, steps_only: bool = False) -> _Findings:
    code = Instrumented(program)
    if not code.probes.sites:
        refuse("the program", "a file with functions", "none", error=CheckError)
    with code.program.entered():  # once for all its evaluations, which are many
        search = WrongValueSearch(code, Truths(code))
        search.most_trials = TRIALS_OF_A_MEND if steps_only else MOST_TRIALS
        written = search.restore_kept(steps_only) if with_faults else []
        return _Findings(search, search.faults() if with_faults else [], written)


def at_few_steps(program: Program, length: int | None) -> tuple[Program, bool]:
    """The program at as few steps as show that its gradient is wrong, and whether it is."""
    if length is not None:
        program = program.at_length(length)
    if length is not None or program.length is None:
        return program, _is_wrong(program)
    shown: list[Program] = []
    for number in sorted({min(few, program.length) for few in (FEW_STEPS, *MANY_STEPS)}):
        try:
            chosen = program.at_length(number)
            if _is_wrong(chosen):
                return chosen, True
            shown.append(chosen)
        except CheckError:  # as where the file expects so many steps as it was made for
            continue
    if not shown:
        return program, _is_wrong(program)
    return shown[0], False


def _is_wrong(program: Program) -> bool:
    """Whether a parameter's gradient, along one direction, is plainly not the loss's slope."""
    with program.entered():
        return _differs(program)


def _differs(program: Program) -> bool:
    gradient = program.gradient()
    for name, value in program.parameters.items():
        before = value.copy()
        along = np.random.default_rng(value.size).standard_normal(value.shape)

        def loss(step: float, value: Array = value, before: Array = before) -> Any:
            value[...] = before + step * along  # noqa: B023
            return program.loss()

        try:
            found = derivative(loss, 0.0)
        finally:
            value[...] = before
        if gradient[name].shape != value.shape:
            return True
        given = float(np.sum(gradient[name] * along))
        off = abs(given - found.value)
        if off > ERROR_BARS * found.error + CLOSE_ENOUGH[-1] * abs(found.value):
            return True
    return False


def first_wrong(findings: Sequence[LineFinding]) -> LineFinding | None:
    """The wrong line that runs first, or the first doubtful one; None where there is neither."""
    wrong = [finding for finding in findings if finding.status == "wrong"]
    doubtful = [finding for finding in findings if finding.expected]
    return min(wrong or doubtful, key=lambda finding: finding.order, default=None)


class _Findings:
    """Puts into words what a search has found."""

    def __init__(
        self,
        search: WrongValueSearch,
        faults: Sequence[WrongValues],
        kept: Sequence[Overwritten] = (),
    ) -> None:
        self.search, self.faults, self.kept = search, faults, kept
        mended = search.values_of_all(faults)
        self.end = search.run(mended) if mended else search.start
        self.steps = search.code.program.length

    def all(self) -> tuple[LineFinding, ...]:
        """One for each line."""
        with self.search.code.program.entered():
            return self._all()

    def of_faults(self) -> list[LineFinding]:
        """One for each fault."""
        with self.search.code.program.entered():
            found = [self._of_fault(fault, n) for n, fault in enumerate(self.faults, start=1)]
            for number, fault in enumerate(self.faults):
                if found[number].edit is None:
                    at_call = changes_at_call(self.search, self.faults, fault, found[number])
                    found += at_call or self._in_series(fault, found[number])
            return found

    def _in_series(self, fault: WrongValues, finding: LineFinding) -> list[LineFinding]:
        """Lines that a wrong one is made of and that are wrong too: none shows alone.

        Only variables whose names say what they should be, and which a small change makes that.
        """
        by_place: dict[Place, list[WrongValues]] = defaultdict(list)
        for made in self.search.made_of(fault):
            by_place[made.place].append(WrongValues(made, fault.before, fault.before, fault.mended))
        chosen: list[tuple[WrongValues, list[tuple[str, str]], str]] = []
        waiting = list(by_place)
        while waiting:
            place = waiting.pop(0)
            known = [*self.faults, *(other for other, _, _ in chosen)]
            if any(is_right_then(self.search, known, other) for other in by_place[place]):
                continue
            found = [(o, *changes_of(self.search, known, o, simple=True)) for o in by_place[place]]
            found = [one for one in found if one[1]]
            if len(found) > 1:  # the one after which more is right
                later = [other for further in waiting for other in by_place[further]] + [fault]
                found.sort(
                    key=lambda one: sum(
                        is_right_then(self.search, [*known, one[0]], other) for other in later
                    ),
                    reverse=True,
                )
            chosen += found[:1]
        known = [*self.faults, *(other for other, _, _ in chosen)]
        then = changes_of(self.search, known, fault, simple=True)[0] if chosen else []
        if not then and not (chosen and is_right_then(self.search, known, fault)):
            return []
        sites = self.search.code.probes.sites
        own = [
            replace(_finding(sites[other.hypothesis.place[0]], "wrong"), noticed=(words,),
                    edit=changes[0], others=tuple(changes[1:]), expected="as named")
            for other, changes, words in chosen
        ]  # fmt: skip
        return [*own, replace(finding, edit=then[0], others=tuple(then[1:]))] if then else own

    def _all(self) -> tuple[LineFinding, ...]:
        by_line: dict[tuple[Path, int], list[LineFinding]] = defaultdict(list)
        faulty = {fault.hypothesis.place for fault in self.faults}
        for place, events in self.search.start.events.items():
            site = events[0].site
            shown = site.assigns or site.kind == "added"
            if shown and place in self.search.carried and place not in faulty:
                found = self._of_place(place, events)
                if found is not None:
                    by_line[site.path, site.line].append(found)
        for order, fault in enumerate(self.faults, start=1):
            found = self._of_fault(fault, order + bool(self.kept))
            if found.status == "wrong" and found.edit is None:  # it may be given what is wrong
                at_call = changes_at_call(self.search, self.faults, fault, found)
                found = at_call[0] if at_call else in_doubt(self.search, self.faults, fault, found)
            by_line[found.path, found.line].append(found)
        if self.kept:
            found = self._of_kept(self.kept[0])
            by_line[found.path, found.line] = [found]
        lines = sorted(by_line, key=lambda k: (str(k[0]), k[1]))
        return with_doubts([_of_line(by_line[key]) for key in lines], self._read_in)

    def _of_place(self, place: Place, events: Sequence[Event]) -> LineFinding | None:
        site = events[0].site
        if not any(event.value.any() for event in events):
            return None
        readings = self.search.meanings.readings(events)
        finding = _finding(site, "unknown")
        if readings:
            return replace(finding, status="right", meaning=self.words(readings[0], len(events)))
        later = self.end.events.get(place, ())
        if (self.faults or self.kept) and later and self.search.meanings.readings(later):
            return replace(finding, status="follows")
        return finding

    def _of_kept(self, kept: Overwritten) -> LineFinding:
        """A value that is read where it has been written over; or kept without being copied."""
        before, after = self.search.start, self.search.run(self.search.kept)
        names = [n for n, score in after.scores.items() if score > before.scores[n]]
        parts = self.search.parts
        mended = tuple(dict.fromkeys(parts[name][0] if name in parts else name for name in names))
        line = kept.kept.line
        if kept.but:
            return replace(
                _finding(kept.read, "wrong"), mended=mended, order=1,
                expected=f"{kept.kept.target or kept.kept.text} as in line {line} at that step",
                noticed=(f"right at all steps but the {kept.but}",),
            )  # fmt: skip
        if kept.by is None:
            others = dict.fromkeys(one.read.text.removesuffix(".T") for one in self.kept)
            others.pop(kept.read.text.removesuffix(".T"), None)
            also = (f"the same is true of {listed(list(others))}",) if others else ()
            return replace(
                _finding(kept.read, "wrong"), target=kept.read.text, mended=mended, order=1,
                expected=f"what line {line} made at that step",
                noticed=("it is what that made at the last step: each step overwrites it", *also),
            )  # fmt: skip
        text = kept.kept.text
        changed = f"line {kept.by.line} changes its array before line {kept.read.line} reads it"
        plain = PLACE.fullmatch(text) is not None
        return replace(
            _finding(kept.kept, "wrong"), mended=mended, order=1, expected=f"a copy of {text}",
            noticed=(changed,), edit=(text, f"{text}.copy()") if plain else None,
        )  # fmt: skip

    def _of_fault(self, fault: WrongValues, order: int) -> LineFinding:
        hypothesis = fault.hypothesis
        site = self.search.code.probes.sites[hypothesis.place[0]]
        events = fault.after.events.get(hypothesis.place, ())
        readings = self.search.meanings.readings(events)
        expected = self.words(readings[0], len(events), own=site.path) if readings else ""
        if not expected:
            expected = f"∂L/∂{hypothesis.group.name or hypothesis.pairs[0][1].name}"
        if (loop := loop_of(self.search, fault)) is not None:
            return self._of_loop(loop, fault, order)
        changes, words = changes_of(self.search, self.faults, fault)
        said = [text for text in self._noticed(fault) if text.split("it is ")[-1] != expected]
        unknown = fault.unknown or (() if changes else self._copied(fault))
        found = replace(
            _finding(site, "unknown" if unknown else "wrong"),
            expected=expected,
            noticed=(*said, *([words] if words else [])),
            edit=changes[0] if changes else None,
            others=tuple(changes[1:]),
            doubtful=tuple(sorted({line for e in unknown for line in self._made(e)})),
            mended=fault.mended,
            order=order,
        )
        return self._of_sum(found, site) if site.kind == "return" else found

    def _of_loop(self, loop: ShortLoop, fault: WrongValues, order: int) -> LineFinding:
        """A loop that leaves steps out: what it does at the others is right."""
        site = loop.site
        return LineFinding(
            site.path, loop.line, loop.line, site.function, f"`{loop.text}`", "wrong",
            expected=f"run for {loop.steps} steps", mended=fault.mended, order=order,
            noticed=(f"it is run for {loop.runs}: {loop.sum} is the part of "
                     f"{'that one' if loop.runs == 1 else 'those'} alone", *loop.made),
        )  # fmt: skip

    def _copied(self, fault: WrongValues) -> tuple[Event, ...]:
        """The values of a line that only passes on what is made elsewhere, and is no derivative."""
        hypothesis = fault.hypothesis
        site = self.search.code.probes.sites[hypothesis.place[0]]
        events = fault.before.events[hypothesis.place]
        own = [event for event in events if event.sequence == hypothesis.first]
        if site.kind == "changed":
            own = [
                added
                for others in fault.before.events.values()
                for added in others
                if added.site.kind == "added"
                and added.site.statement == site.statement
                and added.sequence < hypothesis.first
            ][-1:]
        passed = site.kind in ("store", "added", "changed") and hypothesis.group.data is False
        return tuple(
            event
            for event in own
            if passed
            and PLACE.fullmatch(event.site.text)
            and event.value.any()
            and not self.search.meanings.matches(event.value)
        )

    def _of_sum(self, finding: LineFinding, returned: ProbeSite) -> LineFinding:
        """Where a sum is returned by its name, the line that adds to it is wrong, no return.

        Or else what that is made of, where this goes into no sum that is right.
        """
        sites = [
            site
            for site in self.search.code.probes.sites
            if (site.path, site.function) == (returned.path, returned.function)
        ]
        adding = [s for s in sites if s.kind == "added" and _sum(s) == returned.text]
        if len(adding) != 1:
            return finding
        own = adding[0]
        if self._is_right(own):
            return finding
        right = {s.text for s in sites if s.kind == "return" and self._is_right(s)}
        cleared = set().union(
            *(self._read(s) for s in sites if s.kind == "added" and _sum(s) in right)
        )
        carried = {place[0] for place in self.search.carried}
        made = {
            site.line
            for number, site in enumerate(self.search.code.probes.sites)
            if site in sites and site.assigns and number in carried
            and site.target.split("[")[0] in self._read(own) - cleared - {_sum(own)}
        }  # fmt: skip
        return replace(finding, line=own.line, last_line=own.last_line, target=own.target,
                       status="unknown" if made else "wrong", edit=None, others=(),
                       doubtful=tuple(sorted(made - {own.line})))  # fmt: skip

    def _is_right(self, site: ProbeSite) -> bool:
        """Whether the values at a place are derivatives that are known."""
        return any(
            bool(self.search.meanings.readings(events))
            for events in self.search.start.events.values()
            if events[0].site == site
        )

    def _read(self, site: ProbeSite) -> set[str]:
        """The variables that a statement names."""
        statement, _ = self.search.code.probes.statements[site.statement]
        return {node.id for node in ast.walk(statement) if isinstance(node, ast.Name)}

    def _read_in(self, finding: LineFinding) -> set[str]:
        """The variables that the statement of a line names on its right-hand side."""
        found: set[str] = set()
        for site in self.search.code.probes.sites:
            if site.assigns and (site.path, site.line) == (finding.path, finding.line):
                statement, _ = self.search.code.probes.statements[site.statement]
                value = getattr(statement, "value", None) or statement
                found |= {node.id for node in ast.walk(value) if isinstance(node, ast.Name)}
        return found

    def _made(self, event: Event) -> list[int]:
        """The lines that assign a variable of which an event is the use."""
        sites = [
            site
            for site in self.search.code.probes.sites
            if site.assigns and site.function == event.site.function
        ]
        for kept in (KEPT_BY_NAME, NAME):  # `grads["b"]`, or else whatever sets `grads`
            own = kept.match(event.site.text)
            made = [site.line for site in sites if own and _begins_alike(own, kept, site)]
            if made:
                return made
        return [event.site.line]

    # --- words ---

    def words(self, reading: DerivativeReading, count: int, own: Path | None = None) -> str:
        """What a reading says, as "∂L/∂c_{t−1} (line 44)"."""
        group = reading.group
        if group is SEVERAL:
            return "∂L/∂ of several values, each by its own"
        name, times = group.name, times_of(reading.factor)
        if group.kind == "whole":
            index = next(index for index in reading.indices if index is not None)
            return f"{times}∂L/∂{group.truths[index].name if count == 1 else 'each parameter'}"
        where = f"line {group.site.line}" if group.site is not None else ""
        several = len(group.truths) > 1
        if group.kind == "use" and group.site is not None:
            text = group.site.text
            if not PLACE.fullmatch(text):
                short = text if len(text) <= LONGEST_NAME else f"{text[: LONGEST_NAME - 1]}…"
                text = f"({short})"
            later = elsewhere(reading) if count > 1 else ""
            lines = sorted({group.site.line, *(site.line for site in group.also)})
            if len(lines) > 1:
                where = f"lines {', '.join(map(str, lines[:-1]))} and {lines[-1]}"
            return f"{times}∂L/∂{text} as used in {where}{later}"
        step = step_of(reading, count) if several and group.kind == "variable" else ""
        if step and name.endswith("_"):
            name = f"({name})"
        words = f"{times}∂L/∂{name}{step}"
        if group.kind == "term" and several:
            words += ", the part of one step"
        elif group.kind == "suffix" and count > 1:
            words += " summed from step t on"
        elif group.kind == "suffix" and several:
            last = len(group.truths) - next(i for i in reading.indices if i is not None)
            if last < len(group.truths):
                words += f", the part of the last {last} steps" if last > 1 else LAST_PART
        elif own is not None and group.kind == "variable" and where:
            words += f" ({where})"
        return words

    def _noticed(self, fault: WrongValues) -> list[str]:
        hypothesis, said = fault.hypothesis, []
        events = fault.before.events[hypothesis.place]
        if hypothesis.unchanged:
            return ["it was right before this line, which changes it"]
        values = [(events[n].value, truth) for n, truth in hypothesis.pairs if not truth.is_zero]
        if not any(value.any() for value, _ in values):
            site = self.search.code.probes.sites[hypothesis.place[0]]
            name = site.text if site.kind == "value" else site.target
            return [f"{name} is 0 at every step: nothing is passed on"]
        factors = [
            self.search.meanings.factor(
                np.transpose(value, hypothesis.axes) / hypothesis.factor, truth
            )
            for value, truth in values
        ]
        known = [factor for factor in factors if factor is not None]
        if len(known) == len(factors) and max(known) - min(known) < 1e-4 * abs(known[0]):
            said.append(self._factor(known[0]))
        elif any(factor == 1.0 for factor in factors):
            right = [factor == 1.0 for factor in factors]
            if all(right[1:]) or all(right[:-1]):
                which = "last" if not right[0] else "first"
                said.append(f"right at all steps but the {which}")
        readings = self.search.meanings.readings(events)
        if readings and readings[0].exact:
            only = readings[0].group.kind in ("use", "term") and hypothesis.partial
            if hypothesis.partial:
                said.append(f"it is {'only ' * only}{self.words(readings[0], len(events))}")
        elif not said:
            scaled = [(value / hypothesis.factor, truth) for value, truth in values]
            said += self._difference(scaled, hypothesis.axes)
        return said

    def _factor(self, factor: float) -> str:
        """A factor in words, with what has that size."""
        if abs(factor + 1) < NAMED_FACTOR:
            return "it has the other sign"
        size = factor if abs(factor) > 1 else 1 / factor
        words = f"it is {factor:.6g} times that"
        names = []
        if self.steps and abs(size - self.steps) < NAMED_FACTOR * size:
            names.append("the number of steps")
        shapes = {
            f"an axis of {name}"
            for name, value in self.search.code.program.parameters.items()
            if abs(size) > 1.5 and any(abs(size - n) < NAMED_FACTOR * n for n in value.shape)
        }
        names += sorted(shapes)[:1]
        if names:
            words += f" ({abs(size):.6g} is {' or '.join(names)})"
        return words

    def _difference(self, values: Sequence[tuple[Any, Any]], axes: tuple[int, ...]) -> list[str]:
        """Whether what lacks or is too much is a derivative by itself."""
        for sign, words in ((1.0, "it lacks"), (-1.0, "it has once too often")):
            common: set[tuple[int, int]] | None = None
            first: dict[tuple[int, int], DerivativeMatch] = {}
            for value, truth in values:
                meant = self.search.truths.full(truth).reshape(-1)
                off = sign * (meant - np.transpose(value, axes).reshape(-1))
                if float(np.abs(off).max()) < 1e-6 * float(np.abs(truth.along).max()):
                    continue
                matches = [
                    m
                    for m in self.search.meanings.matches(off.reshape(truth.shape))
                    if m.factor == 1.0
                ]
                own = {(id(m.group), id(m.axes)): m for m in matches}
                groups = {(key[0], 0) for key in own}
                first |= {(id(m.group), 0): m for m in matches}
                common = groups if common is None else common & groups
            for key in common or ():
                group = first[key].group
                where = f" through line {group.site.line}" if group.site else ""
                if group.name.isidentifier():
                    return [f"{words} ∂L/∂{group.name}{where}"]
        return []


def _begins_alike(own: re.Match[str], kept: re.Pattern[str], site: ProbeSite) -> bool:
    """Whether an assignment is to what a text names."""
    target = kept.match(site.target)
    return target is not None and target[0] == own[0]


def _finding(site: ProbeSite, status: Status) -> LineFinding:
    target = site.target or ("return" if site.kind == "return" else site.text)
    return LineFinding(site.path, site.line, site.last_line, site.function, target, status)


def _sum(site: ProbeSite) -> str:
    """The variable that a statement adds to, or to a part of."""
    return site.target.split("[")[0]


def _of_line(found: Sequence[LineFinding]) -> LineFinding:
    """One finding for a line: the worst, and what several right ones say."""
    worst = min(found, key=lambda finding: (WORST.index(finding.status), finding.order))
    doubtful = [finding for finding in found if finding.expected and finding.status == "unknown"]
    if doubtful and worst.status != "wrong":
        worst = doubtful[0]
    same = [finding for finding in found if finding.status == worst.status]
    noticed = tuple(dict.fromkeys(text for finding in same for text in finding.noticed))
    mended = tuple(dict.fromkeys(name for finding in same for name in finding.mended))
    expected = "; ".join(dict.fromkeys(finding.expected for finding in same if finding.expected))
    meanings = list(dict.fromkeys(finding.meaning for finding in same if finding.meaning))
    one = len({finding.target for finding in same}) == 1
    meaning = "; ".join(meanings[:1] if one else meanings)
    return replace(worst, meaning=meaning, expected=expected, noticed=noticed, mended=mended)


__all__ = ["LineFinding", "annotate", "at_few_steps", "first_wrong"]
