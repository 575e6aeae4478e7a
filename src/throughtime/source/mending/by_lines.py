"""What the values in lines show, as steps of a mend: several edits at once, each from its line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from throughtime.source.edits.edit import Edit, Splice
from throughtime.source.lines.trials import Failed, Setting, Trials, Try
from throughtime.source.mending.edit_candidates import Candidates, Version
from throughtime.source.mending.line_edits import edits_of_line, without_overlaps
from throughtime.source.mending.mend_steps import MendingStep, spoils, texts_mark
from throughtime.source.mending.standings import Standings
from throughtime.source.recipe import Recipe
from throughtime.source.tolerances import FEW_STEPS, LINES_SECONDS

WrongPart = tuple[Path, int, str]  # a line, and the expression or statement in it that is wrong
Proposals = dict[WrongPart, list[Edit]]  # what it may be instead, the likelier first


class ByLines(Standings):
    """What is mended by what the values in lines show.

    Args:
        recipe, trials, effort, progress: as of `Standings`.
    """

    def __init__(self, recipe: Recipe, trials: Trials, effort: str, progress: bool | None) -> None:
        super().__init__(recipe, trials, effort, progress)
        self._begin_at: set[tuple[Path, int]] = set()
        self._banned: set[tuple[int, tuple[Path, tuple[Splice, ...]]]] = set()
        # By a version's mark, and how many edits have led nowhere.
        self._by_lines_found: dict[tuple[Setting, int, int], MendingStep | None] = {}
        self._lines_answer = True

    def _by_lines(self, stage: Setting, step: MendingStep, known: Candidates) -> MendingStep | None:
        """What the values in lines show: the edits after which wrong lines have right ones.

        Such edits are made even where no tensor agrees more as yet, since other faults may hide
        what they mend; then lines that are wrong still are tried before others.
        """
        key = (self._shown_at(stage, step), texts_mark(step.version), len(self._banned))
        if key not in self._by_lines_found:
            self._by_lines_found[key] = self._looked_at_lines(stage, step, known)
        return self._by_lines_found[key]

    def _shown_at(self, stage: Setting, step: MendingStep) -> Setting:
        """The setting at which lines show as much as at one: few steps are looked at anyway.

        Where a gradient is wrong at few steps, more of them show the same.
        """
        if stage.length is None or stage.length <= FEW_STEPS or stage.point is None:
            return stage
        for few in self._stages:
            same = (few.point, few.seed, few.batch) == (stage.point, stage.seed, stage.batch)
            if same and few.length == FEW_STEPS and not self._is_done_at(step, [few]):
                return few
        return stage

    def _looked_at_lines(
        self, stage: Setting, step: MendingStep, known: Candidates
    ) -> MendingStep | None:
        own = self._proposed(stage, step, known)
        if own is None:
            return None
        soon = self._with(known, without_overlaps([edits[0] for edits in own.values()]))
        clear = all(len(edits) == 1 for edits in own.values())
        done = soon is not None and (clear or self._is_done_at(soon, [stage]))
        if soon is not None and done and self._is_believed(step.standing, soon.standing):
            return soon
        # At one step an index may be another by chance: before the first is the last.
        few = [s for s in self._stages if s.point is not None and (s.length or 0) <= FEW_STEPS]
        longer = self._proposed(few[-1], step, known) if few and few[-1] != stage else None
        together = _together(own, longer or {})
        sets = [together, {part: together[part] for part in own}, own]
        tried: dict[tuple[Edit, ...], tuple[MendingStep, list[list[Edit]]]] = {}
        for choices in (list(some.values()) for some in sets):
            first = tuple(without_overlaps([edits[0] for edits in choices]))
            if first not in tried and (step_of := self._with(known, first)) is not None:
                tried[first] = (step_of, choices)
        if not tried:
            return None
        best, choices = max(tried.values(), key=lambda found: found[0].total)
        best = self._bettered(known, best, choices)
        if self._is_believed(step.standing, best.standing):
            return best
        for edits in choices if len(choices) > 1 else ():
            found = self._with(known, edits[:1])
            if found is not None and self._is_believed(step.standing, found.standing):
                return found
        return None if spoils(step.standing, best.standing) else replace(best, sure=False)

    def _bettered(
        self, known: Candidates, best: MendingStep, choices: list[list[Edit]]
    ) -> MendingStep:
        """A step with other choices in place of single edits, or without one of them, if better."""
        for edits in choices:  # several sizes may have been the same number by chance
            for other in edits[1:]:
                if self._is_done(best):
                    break
                rest = [e for e in best.edits if e not in edits and not e.overlaps(other)]
                found = self._with(known, [*rest, other])
                if found is not None and found.total > best.total:
                    best = found
        for edit in best.edits if len(best.edits) > 1 else ():  # one may hide what others mend
            rest = [other for other in best.edits if other is not edit]
            found = None if self._is_done(best) else self._with(known, rest)
            if found is not None and found.total > best.total:
                best = found
        return best

    def _proposed(self, setting: Setting, step: MendingStep, known: Candidates) -> Proposals | None:
        """What the values at a setting propose, by line and what it says; None without answer."""
        whole = Try(setting, (), tuple(step.version.texts.items()))
        answer = next(self._trials.ask_all([("suspected", whole)], LINES_SECONDS))[1]
        if isinstance(answer, Failed):  # as where the values are too many
            self._lines_answer = False
            return None
        self._begin_at |= {(f.path.resolve(), n) for f in answer for n in (f.line, *f.doubtful)}
        found: Proposals = {}
        for finding in answer:
            if finding.status == "wrong" and finding.edit is not None:
                edits = edits_of_line(finding, known.version)
                allowed = [e for e in edits if not self._is_banned(step.version, (e,))]
                if allowed:
                    found[finding.path, finding.line, finding.edit[0]] = allowed
        return found

    def _with(self, known: Candidates, edits: Sequence[Edit]) -> MendingStep | None:
        """A step with edits; None where there are none, or what they make does not run."""
        version = known.with_edits(edits) if edits else None
        return None if version is None else MendingStep(version, tuple(edits), self._stand(version))

    def _is_banned(self, version: Version, edits: Sequence[Edit]) -> bool:
        """Whether an edit of a version has led nowhere before."""
        mark = texts_mark(version)
        return any((mark, (e.path, e.splices)) in self._banned for e in edits)


def _together(own: Proposals, longer: Proposals) -> Proposals:
    """What the values at two settings propose: first what both do, then what the longer does."""
    found = {**longer, **own}
    for part in own.keys() & longer.keys():
        here, there = ({e.splices for e in each[part]} for each in (own, longer))
        both = [e for e in longer[part] if e.splices in here]
        rest = [e for e in longer[part] if e.splices not in here]
        found[part] = [*both, *rest, *(e for e in own[part] if e.splices not in there)]
    return found
