"""Is this gradient right? Every entry looked at gets a numerical derivative with an error bar."""

from __future__ import annotations

from collections.abc import Mapping
from time import perf_counter
from typing import TYPE_CHECKING, NoReturn

import numpy as np

from throughtime.arrays import Array, refuse
from throughtime.checking.discrepancy import discrepancy, floor
from throughtime.checking.noise import loss_noise
from throughtime.checking.numerical import Differences
from throughtime.checking.preflight import preflight
from throughtime.checking.report import Point, Report, TensorReport, Verdict, Worst, worst_verdict
from throughtime.checking.target import CheckError, Evaluator, Target
from throughtime.progress import progress_bar

if TYPE_CHECKING:
    from tqdm import tqdm

ALL_UP_TO = 400  # parameters; of more, a sample of each tensor is perturbed
SAMPLE = 24  # entries a tensor

ACCUSED = 4.0  # error bars; the bars already hold two standard deviations of the noise
RESOLVED = 0.0025  # up to this floor d = 0.01 is accused: a gradient that is 2 % off


def check_target(
    target: Target,
    *,
    entries: int | None = None,
    epsilon: float | None = None,
    seed: int = 0,
    progress: bool | None = None,
) -> Report:
    """Compares a target's gradient with central differences of its loss.

    Each entry looked at is perturbed on its own, and *all* steps run from the initial state: a
    weight is the same number at every step, so it is moved once for the whole run.

    Args:
        target: what to check.
        entries: how many to perturb in each tensor: half of them where the gradient is
            largest, half drawn at random. By default all of a target of up to 400 parameters,
            else 24 a tensor.
        epsilon: the step of every difference; by default each tensor's own, the one with the
            smallest error bar.
        seed: of everything that is drawn.
        progress: whether to show a bar; by default in a terminal, after two seconds.

    Raises:
        CheckError: where the check cannot run: names or shapes that do not match, NaN, a loss
            that differs between two evaluations at the same point.
    """
    if entries is not None and entries < 1:
        refuse("entries", "at least 1", entries, error=CheckError)
    if epsilon is not None and not 0 < epsilon < np.inf:
        refuse("epsilon", "a positive number", epsilon, error=CheckError)
    start, rng = perf_counter(), np.random.default_rng(seed)
    evaluator = Evaluator(target)
    found = preflight(evaluator, seed=seed)
    loss, gradient = found.loss, found.gradient
    noise = loss_noise(evaluator, rng)
    differences = Differences(evaluator, loss, noise)
    chosen = {name: _choose(array, entries, gradient, rng) for name, array in gradient.items()}
    total = sum(indices.size for indices in chosen.values())
    tensors = {}
    with progress_bar(total, "check", "entry", progress) as bar:
        for name, indices in chosen.items():
            tensors[name] = _compare(
                differences, target.parameters[name], gradient[name], indices, epsilon, bar
            )
    verdict = worst_verdict([tensor.verdict for tensor in tensors.values()])
    d = discrepancy(*_joined(tensors, "gradient", "numerical"))
    rounding = floor(*_joined(tensors, "errors", "gradient", "numerical"))
    return Report(
        verdict=verdict,
        discrepancy=d,
        floor=rounding,
        tensors=tensors,
        smallest_error=max(tensor.smallest_error for tensor in tensors.values()),
        points=(Point("as given", target.steps, verdict, d, rounding, tensors),),
        seconds=perf_counter() - start,
        evaluations=evaluator.evaluations,
        noise=noise,
        loss=loss,
        dtype=" and ".join(sorted({str(a.dtype) for a in target.parameters.values()})),
        steps=target.steps,
        notes=found.notes,
    )


def _compare(
    differences: Differences,
    array: Array,
    gradient: Array,
    indices: Array,
    epsilon: float | None,
    bar: tqdm[NoReturn],
) -> TensorReport:
    """One tensor: numerical derivatives at `indices` beside the gradient there."""
    g = gradient.reshape(-1)[indices].astype(np.float64)
    steepest = int(indices[np.abs(g).argmax()])
    step = epsilon or differences.choose_step(array, steepest)
    numerical, errors = np.zeros_like(g), np.zeros_like(g)
    for place, entry in enumerate(indices):
        found = differences.derivative(array, int(entry), step)
        numerical[place], errors[place] = found.value, found.error
        bar.update()
    if np.isnan(numerical).any():
        way_out = "choose a larger epsilon, or none"
        refuse("epsilon", "a step that changes every entry", step, way_out, error=CheckError)
    # The gradient under test is itself rounded, relative to the largest number it sums.
    errors += np.finfo(array.dtype).eps * np.abs(g).max()
    furthest = int((np.abs(g - numerical) / np.maximum(errors, np.finfo(float).tiny)).argmax())
    index = np.unravel_index(int(indices[furthest]), array.shape)
    worst = Worst(tuple(int(i) for i in index), g[furthest], numerical[furthest], errors[furthest])
    d, rounding = discrepancy(g, numerical), floor(errors, g, numerical)
    verdict = judge(d, rounding)
    return TensorReport(
        verdict,
        d,
        rounding,
        array.shape,
        step,
        indices,
        g,
        numerical,
        errors,
        worst,
        smallest_error=2 * ACCUSED * rounding,
    )


def judge(d: float, rounding: float) -> Verdict:
    """The verdict on a discrepancy, from the discrepancy that errors alone would give."""
    if d > ACCUSED * rounding:
        return "disagree"
    return "agree" if rounding <= RESOLVED else "unresolved"


def _choose(
    array: Array, entries: int | None, gradient: Mapping[str, Array], rng: np.random.Generator
) -> Array:
    """Which entries of a tensor to perturb, in C order."""
    if entries is None:
        everything = sum(other.size for other in gradient.values())
        entries = array.size if everything <= ALL_UP_TO else SAMPLE
    if entries >= array.size:
        return np.arange(array.size)
    by_size = np.argsort(-np.abs(array), axis=None, kind="stable")
    largest, rest = by_size[: entries // 2], by_size[entries // 2 :]
    drawn = rng.choice(rest, entries - largest.size, replace=False)
    return np.sort(np.concatenate([largest, drawn]))


def _joined(tensors: Mapping[str, TensorReport], *names: str) -> list[Array]:
    return [np.concatenate([getattr(t, name) for t in tensors.values()]) for name in names]
