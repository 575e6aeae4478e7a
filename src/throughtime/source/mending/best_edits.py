"""Which of the edits that were tried is the best, and edits that are tried before all others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from throughtime.source.edits.edit import Edit
from throughtime.source.edits.kept_each_step import KEPT_EACH_STEP
from throughtime.source.edits.statement_edits import ANOTHER_SUM
from throughtime.source.lines.trials import Setting, Tried
from throughtime.source.mending.agreement import score
from throughtime.source.mending.by_lines import ByLines
from throughtime.source.mending.edit_candidates import Candidates
from throughtime.source.mending.edit_pairs import mark
from throughtime.source.mending.mend_steps import MendingStep, mends_more, spoils
from throughtime.source.mending.standings import by_number
from throughtime.source.tolerances import (
    FACTORS_OF_ALL,
    MOST_ALTERNATIVES,
    MOST_HOPEFUL,
    SAME_TRIED,
)

A_FACTOR = "a factor"


class BestEdits(ByLines):
    """Tries edits of a version, each alone, and compares what they give."""

    # Edits that are tried before all others

    def _factor_of_all(
        self, stage: Setting, step: MendingStep, known: Candidates
    ) -> MendingStep | None:
        """One factor that makes all right which share it: at δ of the output, as a rule.

        Lines would put it at every gradient.
        """
        now = step.standing[stage]
        edits = sorted((e for e in known.edits if e.kind == A_FACTOR), key=lambda e: e.cost)
        tried = self._try_each(stage, known, edits[:FACTORS_OF_ALL])
        whole = [(e,) for e in tried if score(self._compared(tried[e], stage)) == len(now)]
        found = self._best(step, known, whole, tried) if whole else None
        return found if found is not None and found.sure else None

    def _to_another_sum(
        self, stage: Setting, step: MendingStep, known: Candidates
    ) -> MendingStep | None:
        """What is added to one gradient, and belongs to another that stays 0.

        Lines would take it from the one, and add it to the other, in two edits.
        """
        now = step.standing[stage]
        edits = [edit for edit in known.edits if edit.kind == ANOTHER_SUM]
        tried = self._try_each(stage, known, edits) if edits else {}
        better = [(e,) for e in tried if score(self._compared(tried[e], stage)) > score(now)]
        found = self._best(step, known, better, tried) if better else None
        return found if found is not None and found.sure else None

    def _kept_each_step(
        self, stage: Setting, step: MendingStep, known: Candidates
    ) -> MendingStep | None:
        """Values that each step overwrites, kept for each: what is wrong besides shows after it.

        It need not make a tensor agree by itself, only bring them nearer; then it is not sure.
        """
        edits = [edit for edit in known.edits if edit.kind == KEPT_EACH_STEP]
        for edit in sorted(edits, key=lambda edit: -len(edit.splices)):
            banned = self._is_banned(step.version, (edit,))
            found = None if banned else self._with(known, [edit])
            if found is None or spoils(step.standing, found.standing):
                continue
            if (found.total, -found.far) > (step.total, -step.far):
                return replace(found, sure=self._is_believed(step.standing, found.standing))
        return None

    # The best of several

    def _try_each(
        self, stage: Setting, known: Candidates, edits: Sequence[Edit]
    ) -> dict[Edit, Tried]:
        versions = [known.with_edits([edit]) for edit in edits]
        tries = [v.tried_at(stage) for v in versions if v is not None]
        return {edits[number]: tried for number, tried in sorted(self._ask(tries), key=by_number)}

    def _best(
        self,
        step: MendingStep,
        known: Candidates,
        hopeful: Sequence[tuple[Edit, ...]],
        tried: Mapping[Edit, Tried],
    ) -> MendingStep | None:
        """Of edits that help at one setting the one that helps most at all, with others beside it.

        Edits that give the very same gradient are looked at once, and said as alternatives.
        """
        same: dict[bytes, list[tuple[Edit, ...]]] = {}
        for edits in hopeful:
            if self._is_banned(step.version, edits):
                continue
            same.setdefault(
                mark(tried[edits[0]]) if len(edits) == 1 else repr(edits).encode(), []
            ).append(edits)
        steps = []
        for alternatives in list(same.values())[:MOST_HOPEFUL]:
            ordered = self._by_last(known, alternatives)
            for edits, mark_at_last in ordered[:SAME_TRIED]:
                version = known.with_edits(edits)
                if version is None:
                    continue
                standing = self._stand(version)
                if self._is_believed(step.standing, standing):
                    others = tuple(e for e, m in ordered if m == mark_at_last and e is not edits)
                    sure = self._shows(step.standing, standing)
                    steps.append(MendingStep(version, edits, standing, others, sure))
                    break
        if not steps:
            return None
        steps.sort(key=lambda s: (round(s.total, 6), -round(s.far, 1), -s.cost), reverse=True)
        return self._beside(step, known, steps)

    def _by_last(
        self, known: Candidates, alternatives: Sequence[tuple[Edit, ...]]
    ) -> list[tuple[tuple[Edit, ...], bytes]]:
        """Edits with one gradient at one setting, the best at the whole length first.

        Each comes with the mark of its gradient there.
        """
        if len(alternatives) == 1:
            return [(alternatives[0], b"")]
        last = self._stages[-1]
        some = alternatives[:MOST_ALTERNATIVES]
        versions = [known.with_edits(edits) for edits in some]
        found = []
        for number, tried in self._ask([v.tried_at(last) for v in versions if v is not None]):
            edits, then = some[number], self._compared(tried, last)
            cost = sum(edit.cost for edit in edits)
            found.append((-score(then), cost, number, edits, mark(tried)))
        return [(edits, mark) for _, _, _, edits, mark in sorted(found)]

    def _beside(
        self, step: MendingStep, known: Candidates, steps: Sequence[MendingStep]
    ) -> MendingStep:
        """The best step, with further ones that mend what it leaves."""
        best = steps[0]
        for other in steps[1:]:
            if any(a.overlaps(b) for a in best.edits for b in other.edits):
                continue
            if not mends_more(best.standing, other.standing) or (best.sure and not other.sure):
                continue
            version = known.with_edits([*best.edits, *other.edits])
            if version is None:
                continue
            standing = self._stand(version)
            if self._is_believed(best.standing, standing):
                edits, sure = (*best.edits, *other.edits), best.sure or other.sure
                best = MendingStep(version, edits, standing, best.others, sure)
        return best
