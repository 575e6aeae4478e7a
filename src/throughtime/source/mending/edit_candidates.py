"""All edits of a version of the user's files that may mend its gradient, and what each reaches.

A statement whose value the loss depends on belongs to the forward pass, and is left as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from throughtime.source.edits.begun_at_zero import BEGUN_AT_ZERO, begun_at_zero
from throughtime.source.edits.edit import Edit, FileText, Unit, edited
from throughtime.source.edits.executed import Executed
from throughtime.source.edits.kept_each_step import kept_edits
from throughtime.source.edits.statement_edits import (
    Surroundings,
    one_argument_functions,
    probes,
    unit_edits,
)
from throughtime.source.edits.unclipped import clips_of
from throughtime.source.edits.versions import Replaced, replaced_functions
from throughtime.source.lines.trials import Failed, Setting, Trials, Tried, Try
from throughtime.source.tolerances import (
    IN_CLIP_COST,
    IN_FORWARD_COST,
    SAME_LOSS,
)

BY_LINES = "as the values of lines show"  # the key of edits that were not tried among others
SCALING = ("a factor", "sign", "squared", "at one step", "a term at one", "not at the first")


@dataclass(frozen=True)
class Version:
    """A state of the user's files.

    Attributes:
        texts: path to text, of all files that take part.
        functions: those that differ from how they stand, by file and names.
        edits: made so far, one after another, each on the text that those before it left.
        whole: whether more differs than functions that can be put in alone.
    """

    texts: Mapping[Path, str]
    functions: Mapping[tuple[Path, tuple[str, ...]], Replaced]
    edits: tuple[Edit, ...] = ()
    whole: bool = False

    def tried_at(self, setting: Setting, *, loss: bool = False) -> Try:
        """The question what its gradient is."""
        if self.whole:
            return Try(setting, (), tuple(self.texts.items()), loss)
        return Try(setting, tuple(self.functions.values()), None, loss)


@dataclass(frozen=True)
class Candidates:
    """The edits of a version.

    Attributes:
        version: that they are edits of.
        edits: all of them.
        reach: line of a file to the tensors that what happens there has an effect on, where that
            is known.
        sizes: whole numbers by name, as they are at the setting that was looked at.
    """

    version: Version
    edits: tuple[Edit, ...]
    reach: Mapping[tuple[Path, int], frozenset[str]]
    _files: Mapping[Path, tuple[FileText, list[Unit]]]

    def with_edits(self, edits: Sequence[Edit]) -> Version | None:
        """The version with edits that do not overlap; None where that is no Python."""
        functions, whole = dict(self.version.functions), self.version.whole
        for path in {edit.path for edit in edits}:
            file, units = self._files[path]
            found = replaced_functions(file, units, [e for e in edits if e.path == path])
            made_anew = any(e.kind == BEGUN_AT_ZERO for e in edits)  # objects, too
            if found is None or made_anew:
                whole = True
            else:
                functions |= {(one.path, one.names): one for one in found}
        texts = edited(self.version.texts, edits)
        return Version(texts, functions, (*self.version.edits, *edits), whole)

    def unclipping(self) -> list[Edit]:
        """For each call of a function that clips one edit that takes it away.

        Only within functions: what stands outside of all is no gradient's.
        """
        found = []
        for path, (file, units) in self._files.items():
            for line, splice in clips_of(file):
                inside = any(u.node.lineno <= line <= (u.node.end_lineno or 0) for u in units)
                if inside:
                    kind = "a call removed"
                    found.append(Edit(path, (splice,), kind, line, 0.0, BY_LINES, (line,)))
        return found

    def reached(self, edit: Edit) -> frozenset[str] | None:
        """The tensors that an edit can change; None where that is not known."""
        found: frozenset[str] = frozenset()
        for line in edit.lines:
            part = self.reach.get((edit.path, line))
            if part is None:
                return None
            found |= part
        return found


def candidates(
    trials: Trials,
    version: Version,
    setting: Setting,
    elsewhere: Setting,
    whole_loss: bool = False,
    ratios: tuple[float, ...] = (),
) -> Candidates:
    """Looks at a version as it runs, and lists its edits.

    Args:
        trials: where it runs.
        version: of the files.
        setting: at which it is looked at.
        elsewhere: another one, where sizes that are the same by chance differ.
        whole_loss: whether statements that the loss depends on may be edited too.
        ratios: how many times too large gradients are at the setting, that are multiples.
    """
    texts = tuple(version.texts.items())
    ran: Executed = trials.ask("executed", Try(setting, (), texts))
    shorter: Executed = trials.ask("executed", Try(elsewhere, (), texts))
    files: dict[Path, tuple[FileText, list[Unit]]] = {}
    around: dict[Path, Surroundings] = {}
    for path, text in ran.texts.items():
        file = FileText.of(path, text)
        files[path] = (file, file.units())
    known = frozenset(name for _, units in files.values() for unit in units for name in unit.names)
    for path, (file, _) in files.items():
        lines = ran.gradient[path] | ran.loss.get(path, frozenset())
        functions = tuple(dict.fromkeys(one_argument_functions(file, lines)))
        values = ran.values.get(path, {})
        around[path] = Surroundings(file, ran.gradient[path], values,
                                    shorter.values.get(path, {}), known, functions,
                                    ratios)  # fmt: skip
    own = Version({**version.texts, **ran.texts}, version.functions, version.edits, version.whole)
    empty = Candidates(own, (), {}, files)
    units = list(_running(files, ran))
    looked = [probe for unit in units for probe in probes(unit, around[unit.path])]
    reach, forward = _reach(trials, empty, looked, setting)
    found: list[Edit] = []
    shared = all(ran.gradient[path] <= ran.loss.get(path, frozenset()) for path in ran.gradient)
    for unit in units:
        for edit in unit_edits(unit, around[unit.path]):
            if not whole_loss and {(edit.path, line) for line in edit.lines} <= forward:
                continue
            if "clip" in unit.names[-1].lower():
                edit = replace(edit, cost=edit.cost + IN_CLIP_COST)
            if edit.line in ran.loss.get(edit.path, ()) and not shared:
                if edit.kind.startswith(SCALING):
                    continue  # what is kept for the backward pass is no derivative
                edit = replace(edit, cost=edit.cost + IN_FORWARD_COST)
            found.append(edit)
    for path, (file, own_units) in files.items():
        found += begun_at_zero(file, ran.gradient[path])
        found += kept_edits(file, own_units, ran.gradient[path], ran.loss.get(path, frozenset()))
    return Candidates(own, tuple(found), reach, files)


def _running(files: Mapping[Path, tuple[FileText, list[Unit]]], ran: Executed) -> Iterator[Unit]:
    """The functions that the gradient runs."""
    for path, (_, units) in files.items():
        for unit in units:
            first, last = unit.node.body[0].lineno, unit.node.end_lineno or unit.node.lineno
            if any(first <= line <= last for line in ran.gradient[path]):
                yield unit


def _reach(
    trials: Trials, empty: Candidates, looked: Sequence[Edit], setting: Setting
) -> tuple[dict[tuple[Path, int], frozenset[str]], set[tuple[Path, int]]]:
    """What each statement has an effect on: tensors of the gradient; and those for the loss."""
    version = empty.version
    questions: list[tuple[str, Try]] = [("tried", version.tried_at(setting, loss=True))]
    for probe in looked:
        changed = empty.with_edits([probe])
        assert changed is not None
        questions.append(("tried", changed.tried_at(setting, loss=True)))
    answers: dict[int, Tried | Failed] = dict(trials.ask_all(questions))
    plain = answers[0]
    reach: dict[tuple[Path, int], frozenset[str]] = {}
    forward: set[tuple[Path, int]] = set()
    if isinstance(plain, Failed) or plain.products is None:
        return reach, forward
    unknown: set[tuple[Path, int]] = set()
    for number, probe in enumerate(looked, start=1):
        place, tried = (probe.path, probe.line), answers[number]
        if isinstance(tried, Failed) or tried.products is None:
            unknown.add(place)
            continue
        if not same_loss(plain.loss, tried.loss):
            forward.add(place)
        changed_ones = frozenset(
            name
            for name, product in plain.products.items()
            if not np.array_equal(product, tried.products[name])
        )
        reach[place] = reach.get(place, frozenset()) | changed_ones
    for place in unknown:
        reach.pop(place, None)
    return reach, forward


def same_loss(before: float | None, after: float | None) -> bool:
    """Whether an edit has left the loss as it was."""
    if before is None or after is None:
        return False
    return before == after or abs(before - after) <= SAME_LOSS * max(abs(before), abs(after))
