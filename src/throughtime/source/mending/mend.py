"""What would be right: the search for the edits after which a user's gradient agrees.

The numerical gradient is measured once, at several numbers of steps, points and data; each try
then costs one run of the user's gradient. One step shows faults that more of them hide: what it
shows is mended first, then what two show, and so on. An edit is believed where all that it mends
agrees with other data, at another point and with other lengths too; and in the end the check says.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from throughtime.source.edits.begun_at_zero import BEGUN_AT_ZERO
from throughtime.source.edits.carried import CARRIED_ON
from throughtime.source.edits.edit import Edit
from throughtime.source.edits.kept_each_step import KEPT_EACH_STEP
from throughtime.source.edits.missing_sums import MISSING_SUM
from throughtime.source.edits.region_text import RegionText, region_text
from throughtime.source.edits.statement_edits import ANOTHER_SUM
from throughtime.source.edits.versions import Replaced, changed_functions
from throughtime.source.lines.trials import Setting, Trials, Tried
from throughtime.source.mending.agreement import (
    EQUAL,
    WRONG,
    score,
    worse_somewhere,
)
from throughtime.source.mending.best_edits import BestEdits
from throughtime.source.mending.edit_candidates import (
    BY_LINES,
    Candidates,
    Version,
    candidates,
    same_loss,
)
from throughtime.source.mending.edit_pairs import angle, changes, mark, pairs_of
from throughtime.source.mending.mend_steps import (
    MendingStep,
    hunk_of,
    reverted,
    spoils,
    texts_mark,
)
from throughtime.source.mending.mended import Mended, Standing, line_as_found
from throughtime.source.mending.standings import by_number
from throughtime.source.recipe import Recipe
from throughtime.source.text import read_source
from throughtime.source.tolerances import (
    EDITS_AT_ONCE,
    FEWER_FIRST,
    LIKELY,
    MOST_MENDS,
    MOST_RATIOS,
    MOST_RETURNS,
    MOST_SILENT,
    MOST_TRIES,
    NEAR,
    NEAR_AT_LAST,
    PAIRS_AT_ONCE,
    SAME_FACTOR,
    TENSORS_OF_PAIRS,
    TRIES_OF_A_STEP,
)

# Kinds of edits that are few: what stays 0 as it stands is set, and each step keeps its values.
FEW_OF_A_KIND = (CARRIED_ON, MISSING_SUM, KEPT_EACH_STEP, BEGUN_AT_ZERO, ANOTHER_SUM)


def mend(
    recipe: Recipe,
    *,
    texts: Mapping[Path, str] | None = None,
    begin_at: Iterable[tuple[Path, int]] = (),
    effort: str = "normal",
    processes: int = 2,
    progress: bool | None = None,
) -> Mended:
    """Searches for the edits of a user's source after which its gradient is that of its loss.

    Args:
        recipe: how the file is run.
        texts: path to text, for files that are read otherwise than they stand.
        begin_at: files and lines that are wrong as far as is known: edits there are tried first.
        effort: of the check at the end.
        processes: that run the program, each within limits of time and memory.
        progress: whether to draw a bar; None: in a terminal, after two seconds.

    Returns:
        Mended: the edits, and how far the gradient agrees before and after each.

    Raises:
        CheckError: where the program cannot be run.
    """
    given = {path.resolve(): text for path, text in (texts or {}).items()}
    path = recipe.path.resolve()
    recipe = replace(recipe, path=path)  # tried versions run in another folder
    text = given.get(path) or read_source(path).text
    region = region_text(recipe, text)
    if region is not None:
        recipe, given = region.recipe, {**given, path: region.text}
    with Trials(recipe, given, processes) as trials:
        found = _Search(recipe, trials, given, set(begin_at), effort, progress).run()
    return found if region is None else _in_lines(found, region, text)


def _in_lines(found: Mended, region: RegionText, text: str) -> Mended:
    """What was found in a function that stands for lines of a file, in these lines."""
    path = region.path
    hunks = tuple(
        replace(
            hunk,
            lines=tuple((p, region.line(n) if p == path else n) for p, n in hunk.lines),
        )
        for hunk in found.hunks
    )
    after = {**found.after, path: region.taken_back(found.after[path])}
    clips = tuple((p, region.line(n) if p == path else n) for p, n in found.idle_clips)
    before = {**found.before, path: text}
    return replace(found, before=before, after=after, hunks=hunks, idle_clips=clips)


class _Search(BestEdits):
    def __init__(
        self,
        recipe: Recipe,
        trials: Trials,
        texts: Mapping[Path, str],
        begin_at: set[tuple[Path, int]],
        effort: str,
        progress: bool | None,
    ) -> None:
        super().__init__(recipe, trials, effort, progress)
        self._begin_at |= {(path.resolve(), line) for path, line in begin_at}
        self._texts = {path.resolve(): text for path, text in texts.items()}
        self._stuck: set[str] = set()
        self._looked_closely_at_lines = False
        self._as_found: Mapping[Path, str] = {}  # all files that run, before the first edit

    def run(self) -> Mended:
        """The search, from the first setting at which a tensor disagrees to the last."""
        with self._bar:
            return self._run()

    def _run(self) -> Mended:
        self._settle()
        path = self._recipe.path.resolve()
        text = self._texts.get(path) or read_source(path).text
        version = Version({path: text, **self._texts}, {})
        standing = self._stand(version)
        steps = [MendingStep(version, (), standing)]
        best = list(steps)
        for _ in range(MOST_RETURNS + 1):
            self._go_on(steps)
            best = max(best, self._sure(steps), key=lambda found: found[-1].total)
            weak = [n for n in range(1, len(steps)) if not self._helps_at_last(steps, n)]
            if self._is_done(steps[-1]) or not weak or self._tries >= self._most:
                break
            steps = self._back(steps, weak[-1])
        steps = self._without_needless(best)
        if not self._is_done(steps[-1]):
            if self._is_done_at(steps[-1], self._stages):  # what is left is faint
                return self._looked_closely(steps, ("disagree", 1.0, ""))
            return self._reported(steps, ("disagree", 1.0, ""))
        checked = self._checked(steps[-1].version.texts)
        if checked[0] == "agree":
            return self._reported(steps, checked)
        if explained := self._explained(steps[-1]):
            return self._reported(steps, checked, explained)
        return self._looked_closely(steps, checked)

    def _looked_closely(self, steps: list[MendingStep], checked: tuple[str, float, str]) -> Mended:
        """Where the check finds what the search has overlooked, as a faint penalty."""
        self._near = NEAR_AT_LAST
        begin = replace(steps[-1], standing=self._stand(steps[-1].version))
        closely = [begin]
        if not self._is_done(begin):
            self._most = min(MOST_TRIES, self._tries + TRIES_OF_A_STEP)
            self._go_on(closely)
            closely = self._without_needless(self._sure(closely))
        if len(closely) > 1 and self._is_done(closely[-1]):
            again = self._checked(closely[-1].version.texts)
            if again[0] == "agree":
                return self._reported([*steps[:-1], *closely], again)
        return self._reported(steps, checked)

    def _unclipped(self, step: MendingStep, known: Candidates) -> MendingStep | None:
        """Without what clips, at first: it hides which tensors are right; None where it is idle."""
        if step.version.edits:
            return None
        edits = [edit for edit in known.unclipping() if self._leaves_loss(known, edit)]
        found = known.with_edits(edits) if edits else None
        if found is None:
            return None
        standing = self._stand(found)
        if standing == step.standing or spoils(step.standing, standing):
            return None
        return MendingStep(
            found, tuple(edits), standing, sure=self._is_believed(step.standing, standing)
        )

    def _leaves_loss(self, known: Candidates, edit: Edit) -> bool:
        """Whether the loss stays as it is: what is clipped in the forward pass belongs to it."""
        version = known.with_edits([edit])
        if version is None:
            return False
        tries = [known.version.tried_at(self._looked, loss=True)]
        tries.append(version.tried_at(self._looked, loss=True))
        losses = dict(self._ask(tries))
        return same_loss(losses[0].loss, losses[1].loss)

    def _asks_lines(self, stage: Setting, step: MendingStep) -> bool:
        """Whether lines are looked at before edits are tried: at first, and as long as it helps."""
        if self._near < NEAR and (stage != self._stages[-1] or self._looked_closely_at_lines):
            return False
        self._looked_closely_at_lines = self._near < NEAR
        first = (BY_LINES, KEPT_EACH_STEP)
        return all(edit.key in first or edit.kind in first for edit in step.version.edits)

    def _go_on(self, steps: list[MendingStep]) -> None:
        """Adds steps until all agrees, or nothing is found."""
        while len(steps) <= MOST_MENDS and self._tries < self._most:
            found = self._next(steps[-1])
            if found is None:
                return
            steps.append(found)
            self._most = min(MOST_TRIES, self._tries + TRIES_OF_A_STEP)

    def _sure(self, steps: list[MendingStep]) -> list[MendingStep]:
        """Without the last steps, where these may as well be coincidences."""
        kept = list(steps)
        while not kept[-1].sure and not self._is_done(kept[-1]):
            kept.pop()
        return kept

    def _helps_at_last(self, steps: Sequence[MendingStep], number: int) -> bool:
        """Whether a step makes more agree at the whole length too; else it may be a coincidence."""
        last = self._stages[-1]
        before, after = steps[number - 1].standing[last], steps[number].standing[last]
        return score(after) > score(before)

    def _back(self, steps: Sequence[MendingStep], number: int) -> list[MendingStep]:
        """The steps before one that led nowhere, which is not taken again."""
        before, wrong = steps[number - 1], steps[number]
        self._stuck.clear()
        self._banned |= {(texts_mark(before.version), (e.path, e.splices)) for e in wrong.edits}
        return list(steps[:number])

    # The search

    def _next(self, step: MendingStep) -> MendingStep | None:
        """The next edit; None where all agrees or nothing is found."""
        if self._is_done(step):
            return None
        looked = step.standing[self._looked].values()
        ratios = _distinct(a.ratio for a in looked if WRONG < a.level < EQUAL)
        known = candidates(self._trials, step.version, self._looked, self._elsewhere, ratios=ratios)
        self._as_found = self._as_found or known.version.texts
        if (found := self._unclipped(step, known)) is not None:
            return found  # also where it shows with other data alone
        for stage in self._stages:
            wrong = {n for n, a in step.standing[stage].items() if a.level < EQUAL}
            if not wrong:
                continue
            shared = len(ratios) == 1 and len(wrong) > 1
            if shared and (found := self._factor_of_all(stage, step, known)) is not None:
                return found
            if (found := self._to_another_sum(stage, step, known)) is not None:
                return found
            if (found := self._kept_each_step(stage, step, known)) is not None:
                return found
            if self._asks_lines(stage, step):
                if (found := self._by_lines(stage, step, known)) is not None:
                    return found
            elif self._lines_answer and self._near == NEAR:
                # Beside edits that were found by trying, lines say what is sure, and that soon.
                found = self._by_lines(stage, step, known)
                if found is not None and found.sure:
                    return found
            found = self._at(stage, step, known, wrong)
            if found is not None:
                return found
            if self._tries >= self._most:
                return None
        return None

    def _at(
        self, stage: Setting, step: MendingStep, known: Candidates, wrong: set[str]
    ) -> MendingStep | None:
        """The best edit by what a setting shows; a pair of them where none alone is any."""
        now = step.standing[stage]
        edits = [e for e in known.edits if self._may_mend(known, e, wrong)]
        edits.sort(key=lambda e: (not self._is_suspect(e), e.cost))
        tried: dict[Edit, Tried] = {}
        unsure: MendingStep | None = None
        for group in self._groups(step, known, edits):
            hopeful: list[tuple[float, float, Edit]] = []
            for start in range(0, len(group), EDITS_AT_ONCE):
                part = group[start : start + EDITS_AT_ONCE]
                tried |= self._try_each(stage, known, part)
                whole = False
                for edit in part:
                    then = self._compared(tried[edit], stage)
                    if score(then) > score(now) and not worse_somewhere(now, then):
                        hopeful.append((-score(then), edit.cost, edit))
                        whole = whole or score(then) == len(now)
                last = start + EDITS_AT_ONCE >= len(group)
                if hopeful and (whole or last):  # where one mends all, dearer ones do no more
                    hopeful.sort(key=lambda found: found[:2])
                    some = [(edit,) for _, _, edit in hopeful]
                    found = self._best(step, known, some, tried)
                    if found is not None and found.sure:
                        return found
                    unsure = unsure or found
        if unsure is not None:
            return unsure
        if self._near < NEAR:  # what is faint is one fault
            return None
        if (by_lines := self._by_lines(stage, step, known)) is not None:
            return by_lines
        return self._pair(stage, step, known, tried, wrong)

    def _groups(
        self, step: MendingStep, known: Candidates, edits: Sequence[Edit]
    ) -> Iterator[list[Edit]]:
        """The edits in the order in which they are tried, those that are as likely together.

        A statement that a right tensor hangs on too is less likely to be wrong.
        """
        right = {
            name
            for name in self._shapes
            if all(found[name].level == EQUAL for found in step.standing.values())
        }
        groups: dict[tuple[bool, bool, bool], list[Edit]] = {}
        for edit in edits:
            reached = known.reached(edit)
            apart = reached is None or not reached & right
            key = (not self._is_suspect(edit), edit.cost > LIKELY, not apart)
            groups.setdefault(key, []).append(edit)
        for key in sorted(groups):
            yield groups[key]

    def _may_mend(self, known: Candidates, edit: Edit, wrong: set[str]) -> bool:
        reached = known.reached(edit)
        if edit.kind in (*FEW_OF_A_KIND, "a statement added") or reached is None:
            return True
        return bool(reached & wrong)

    def _is_suspect(self, edit: Edit) -> bool:
        """Whether a line is known to be wrong, or the edit is one of few of its kind."""
        return edit.kind in FEW_OF_A_KIND or any(
            (edit.path, line) in self._begin_at for line in edit.lines
        )

    def _pair(
        self,
        stage: Setting,
        step: MendingStep,
        known: Candidates,
        tried: Mapping[Edit, Tried],
        wrong: set[str],
    ) -> MendingStep | None:
        """Two edits where none alone makes anything agree: for the tensor that fewest reach."""
        truth, now = self._truth[stage], step.standing[stage]
        plain = self._plain(stage, step)
        useful: dict[bytes, Edit] = {}
        for edit, answer in sorted(tried.items(), key=lambda item: item[0].cost):
            if answer.products is None:
                continue
            if worse_somewhere(now, self._compared(answer, stage)):
                continue
            useful.setdefault(mark(answer), edit)
        useful.pop(mark(plain), None)
        silent = [
            edit
            for edit, answer in tried.items()
            if edit.cost <= LIKELY and mark(answer) == mark(plain)
        ]
        if all(a.level > WRONG for a in now.values()):  # a factor is wrong, perhaps two
            scaling = [
                edit
                for edit in useful.values()
                if all(a.level > WRONG for a in self._compared(tried[edit], stage).values())
            ]
            return self._try_pairs(stage, step, known, pairs_of(scaling))
        reaching = {
            name: [e for e in useful.values() if changes(plain, tried[e], name)]
            for name in wrong - self._stuck
        }
        for name in sorted(reaching, key=lambda name: len(reaching[name]))[:TENSORS_OF_PAIRS]:
            near = sorted(
                reaching[name],
                key=lambda e: (not self._is_suspect(e), angle(tried[e], truth, name), e.cost),
            )
            # What is multiplied by 0 as yet shows nothing alone, and may be the other half.
            beside = sorted(
                (e for e in silent if name in (known.reached(e) or ())),
                key=lambda e: (len(known.reached(e) or ()), e.cost),
            )[:MOST_SILENT]
            pairs = [*pairs_of(near), *pairs_of(near[:FEWER_FIRST], beside)]
            if (found := self._try_pairs(stage, step, known, pairs)) is not None:
                return found
            self._stuck.add(name)
            if self._tries >= self._most:
                break
        return None

    def _try_pairs(
        self,
        stage: Setting,
        step: MendingStep,
        known: Candidates,
        pairs: Sequence[tuple[Edit, Edit]],
    ) -> MendingStep | None:
        now = step.standing[stage]
        for start in range(0, len(pairs), PAIRS_AT_ONCE):
            group = pairs[start : start + PAIRS_AT_ONCE]
            tries = []
            for pair in group:
                version = known.with_edits(pair)
                assert version is not None
                tries.append(version.tried_at(stage))
            hopeful = []
            for number, answer in sorted(self._ask(tries), key=by_number):
                then = self._compared(answer, stage)
                if score(then) > score(now) and not worse_somewhere(now, then):
                    hopeful.append((score(then), group[number]))
            hopeful.sort(key=lambda found: (-found[0], found[1][0].cost + found[1][1].cost))
            if found := self._best(step, known, [pair for _, pair in hopeful], {}):
                return found
        return None

    def _plain(self, stage: Setting, step: MendingStep) -> Tried:
        return next(self._ask([step.version.tried_at(stage)]))[1]

    # What comes out

    def _without_needless(self, steps: list[MendingStep]) -> list[MendingStep]:
        """With one step more where a change is needless once the others are made."""
        last, texts = steps[-1], dict(steps[-1].version.texts)
        found = {**self._as_found, **steps[0].version.texts}
        for path, text in found.items():
            waiting = path in texts
            while waiting:
                waiting = False
                others = any(p != path and texts.get(p, t) != t for p, t in found.items())
                for less in reverted(text, texts[path], others):
                    version = self._version_of({**texts, path: less}, last.version.edits)
                    if (standing := self._no_worse(version, last.standing)) is not None:
                        texts[path], last, waiting = less, MendingStep(version, (), standing), True
                        break
        return steps if last is steps[-1] else [*steps, last]

    def _version_of(self, texts: Mapping[Path, str], edits: tuple[Edit, ...]) -> Version:
        """Texts as a version: functions that are put in, where no more than these differ."""
        functions: list[Replaced] = []
        for path, text in texts.items():
            changed = changed_functions(path, self._as_found.get(path, text), text)
            if changed is None:
                return Version(texts, {}, edits, whole=True)
            functions += changed
        return Version(texts, {(one.path, one.names): one for one in functions}, edits)

    def _no_worse(self, version: Version, before: Standing) -> Standing | None:
        """How far a version agrees, where no tensor agrees less; None where one does."""
        first = self._stages[-1]
        _, tried = next(self._ask([version.tried_at(first)]))
        if worse_somewhere(before[first], self._compared(tried, first)):
            return None
        standing = self._stand(version)
        return None if spoils(before, standing) else standing

    def _reported(
        self,
        steps: Sequence[MendingStep],
        checked: tuple[str, float, str],
        explained: tuple[str, ...] = (),
    ) -> Mended:
        first, last = steps[0], steps[-1]
        hunks = tuple(hunk_of(before, after, self._as_found) for before, after in pairwise(steps))
        known = {**self._as_found, **first.version.texts}
        before = {path: known.get(path, text) for path, text in last.version.texts.items()}
        after = last.version.texts
        clips = tuple(
            (path, line_as_found(before[path], after[path], n) if path in after else n)
            for path, n in self._idle_clips(last.version)
        )
        return Mended(
            self._recipe.path, before, after, hunks, first.standing, last.standing,
            *checked, self._tries, explained, clips,
        )  # fmt: skip


def _distinct(ratios: Iterable[float]) -> tuple[float, ...]:
    """Without those that are nearly the same as one before."""
    found: list[float] = []
    for ratio in ratios:
        if all(abs(ratio / other - 1) > SAME_FACTOR for other in found):
            found.append(ratio)
    return tuple(found[:MOST_RATIOS])
