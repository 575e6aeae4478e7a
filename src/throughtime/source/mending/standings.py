"""How far versions of a program agree: at which steps, points and data, and what the check says."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from throughtime.arrays import refuse
from throughtime.gradcheck import CheckError
from throughtime.progress import expect, progress_bar
from throughtime.source.edits.executed import Executed
from throughtime.source.edits.unclipped import unclipped_texts
from throughtime.source.lines.trials import Failed, Measured, Setting, Trials, Tried, Try
from throughtime.source.mending.agreement import EQUAL, Agreement, compared
from throughtime.source.mending.belief import is_believed
from throughtime.source.mending.edit_candidates import Version, same_loss
from throughtime.source.mending.mend_steps import MendingStep
from throughtime.source.mending.mended import Standing
from throughtime.source.mending.residue import without_safety
from throughtime.source.recipe import Recipe
from throughtime.source.tolerances import NEAR, NOTHING, TRIES_OF_A_STEP

MARKED = "1.1875"  # times what a clip would leave as it is: what depends on it becomes another


class Standings:
    """How far versions of one program agree.

    Args:
        recipe, trials: how it is run, and where.
        effort: of the check.
        progress: whether to draw a bar.
    """

    def __init__(self, recipe: Recipe, trials: Trials, effort: str, progress: bool | None) -> None:
        self._recipe, self._trials, self._effort = recipe, trials, effort
        self._truth: dict[Setting, dict[str, Measured]] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._losses: dict[Setting, float | None] = {}
        self._tries, self._most = 0, TRIES_OF_A_STEP
        self._near = NEAR
        self._bar = progress_bar(0, "mending", "edits", progress)
        self._stages: list[Setting] = []
        self._others: list[Setting] = []

    def _settle(self) -> None:
        """Which numbers of steps, points and data are compared."""
        whole = Setting("as it stands")
        self._shapes, steps = self._trials.ask("shape", whole)
        lengths: list[int | None] = [None]
        if steps is not None:
            lengths = [*sorted({n for n in (1, 2, 3) if n < steps}), steps]
        for n in lengths:
            said = "" if n is None else f"T = {n}, "
            self._stages.append(Setting(f"{said}another point", n, None, 0, 1))
            self._others.append(Setting(f"{said}other data and another point", n, None, 1, 2))
        if self._recipe.sequences:
            self._others[-1] = replace(
                self._others[-1], name=f"{self._others[-1].name}, one sequence", batch=1
            )
        if steps is not None and self._recipe.length is not None:
            # Further on, as the check looks too: a value that is clipped may be so there alone.
            longer = Setting(f"T = {2 * steps}", 2 * steps)
            self._stages.append(longer)
            self._others.append(replace(longer, name=f"{longer.name}, other data", seed=1))
        self._stages.append(whole)
        settings = [*self._stages, *self._others]
        questions = [("measured", s, name) for s in settings for name in self._shapes]
        measured: dict[Setting, dict[str, Measured]] = {s: {} for s in settings}
        for number, answer in self._trials.ask_all(questions):
            if not isinstance(answer, Failed):
                measured[questions[number][1]][questions[number][2]] = answer
            elif questions[number][1] == whole:
                raise CheckError(answer.problem)
        complete = {s for s in settings if len(measured[s]) == len(self._shapes)}
        self._truth = {s: found for s, found in measured.items() if s in complete}
        self._stages = [s for s in self._stages if s in complete]
        plain = [s for s in self._stages if s.point is not None] or [whole]
        self._looked, fewer = plain[-1], plain[max(len(plain) - 2, 0)]
        self._elsewhere = replace(fewer, batch=1) if self._recipe.sequences else fewer
        self._others = [s for s in self._others if s in complete]
        if whole not in complete:
            refuse("gradient", "a program that runs", "none", error=CheckError)

    def _ask(self, tries: Sequence[Try]) -> Iterator[tuple[int, Tried]]:
        """Number and answer of each try; one without an answer has failed."""
        expect(self._bar, self._tries + len(tries))
        for number, answer in self._trials.ask_all([("tried", one) for one in tries]):
            self._tries += 1
            self._bar.update(1)
            yield (
                number,
                Tried(None, None, answer.problem) if isinstance(answer, Failed) else answer,
            )

    def _stand(self, version: Version) -> Standing:
        """How far a version agrees at all settings."""
        settings = list(self._truth)
        tries = [version.tried_at(setting, loss=True) for setting in settings]
        found: dict[Setting, Mapping[str, Agreement]] = {}
        for number, tried in self._ask(tries):
            setting = settings[number]
            self._losses.setdefault(setting, tried.loss)
            if tried.products is not None and not same_loss(self._losses[setting], tried.loss):
                tried = Tried(None)
            found[setting] = self._compared(tried, setting)
        return {setting: found[setting] for setting in settings}

    def _checked(self, texts: Mapping[Path, str]) -> tuple[str, float, str]:
        """The verdict of the check on texts, the discrepancy, and its report in words."""
        whole = Try(self._stages[-1], (), tuple(texts.items()))
        answer: tuple[str, float, str] = self._trials.ask("checked", whole, self._effort)
        return answer

    def _idle_clips(self, version: Version) -> tuple[tuple[Path, int], ...]:
        """The lines of a version that clip its gradient where that is large, and not here."""
        own = tuple(version.texts.items())
        ran = self._trials.ask("executed", Try(self._looked, (), own))
        texts = {**ran.texts, **version.texts}
        lines = [(p, n) for p, n in unclipped_texts(texts)[1] if n in ran.gradient.get(p, ())]
        if not lines:
            return ()
        plain = next(self._ask([Try(self._looked, (), tuple(texts.items()), loss=True)]))[1]
        found = []
        for path, line in lines:
            changed, _ = unclipped_texts(texts, frozenset({(path, line)}), MARKED)
            whole = Try(self._looked, (), tuple(changed.items()), loss=True)
            tried = next(self._ask([whole]))[1]
            if tried.products is None:  # as where what it clips is a list
                in_loss = line in ran.loss.get(path, ()) and path not in self._shared(ran)
            else:
                in_loss = not same_loss(plain.loss, tried.loss)
            if not in_loss:
                found.append((path, line))
        return tuple(found)

    def _shared(self, ran: Executed) -> set[Path]:
        """The files in which all that the gradient runs is run by the loss too: they are one."""
        return {p for p, lines in ran.gradient.items() if lines <= ran.loss.get(p, frozenset())}

    def _explained(self, step: MendingStep) -> tuple[str, ...]:
        """The small numbers in the loss without which the check agrees; none where it does not."""
        texts, small = without_safety(step.version.texts)
        if not small:
            return ()
        try:
            return small if self._checked(texts)[0] == "agree" else ()
        except CheckError:  # as where a logarithm needs them
            return ()

    def _compared(self, tried: Tried, setting: Setting) -> dict[str, Agreement]:
        return compared(tried.products, self._truth[setting], self._near)

    def _is_done(self, step: MendingStep) -> bool:
        return self._is_done_at(step, step.standing)

    def _is_done_at(self, step: MendingStep, settings: Iterable[Setting]) -> bool:
        return all(a.level == EQUAL for s in settings for a in step.standing[s].values())

    def _is_believed(self, before: Standing, after: Standing) -> bool:
        """Whether nothing agrees less, and other data at another point agree more as well."""
        return is_believed(before, after, (self._stages, self._others))

    def _shows(self, before: Standing, after: Standing) -> bool:
        """Whether anything that is not 0 agrees more: what is 0 agrees with whatever is 0 there."""
        for setting, found in after.items():
            truth = self._truth[setting]
            largest = max(float(np.abs(m.values).max(initial=0.0)) for m in truth.values())
            for name, agreement in found.items():
                size = float(np.abs(truth[name].values).max(initial=0.0))
                if agreement.level > before[setting][name].level and size > NOTHING * largest:
                    return True
        return False


def by_number(answer: tuple[int, Tried]) -> int:
    """Of a try: whichever process is first, the search goes the same way."""
    return answer[0]
