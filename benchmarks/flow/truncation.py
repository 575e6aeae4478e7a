"""Whether the advised truncation keeps its bound on other data of the same kind."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np

from benchmarks.engine import Row
from benchmarks.flow.tasks import LinearNetwork, Task
from throughtime.arrays import Array, refuse
from throughtime.gradient_flow.advice import advise_truncation, tails
from throughtime.gradient_flow.lag_by_lag import linearised_run, measure_by_lag
from throughtime.network import Network, truncated_loss_and_gradient
from throughtime.progress import progress_bar
from throughtime.questions import flow

BOUNDS = (0.05, 0.1, 0.3)
LAGS = (10, 50, 200)
ROUNDING = 1e-4  # relative, of a gradient in float32


def runs(quick: bool, seeds: int) -> list[tuple[Task, str, str, int]]:
    """All combinations of task, cell, "at init" or "trained", and seed."""
    lags = LAGS[:2] if quick else LAGS
    tasks = [Task(name, lag) for name in ("copying", "adding") for lag in lags]
    return list(product(tasks, ("LSTM", "GRU"), ("at init", "trained"), range(seeds)))


def truncation_rows(quick: bool, seeds: int) -> list[Row]:
    """One row per run and bound: K, the predicted bias, and the bias on other data."""
    everything = runs(quick, seeds)
    rows: list[Row] = []
    with progress_bar(len(everything), "truncation", "runs") as bar:
        for task, cell, state, seed in everything:
            rows += _of_task(task, cell, state, seed)
            bar.update()
    for seed in range(10 if quick else 20 * seeds):
        rows += _linear(seed)
    return rows


def _of_task(task: Task, cell: str, state: str, seed: int) -> Iterator[Row]:
    rng = np.random.default_rng([task.lag, seed])
    network = task.network(cell, seed)
    if state == "trained":
        task.train(network, rng)
    seen, other = task.draw(rng), task.draw(rng)
    advised = _advised(network, *seen)
    truth = biases(network, *other, [row["K"] for row in advised])
    if seed == 0:
        _confirm(network, *other, advised[1]["K"], truth[1])
    name = f"{task.name} {task.lag}"
    for row, found in zip(advised, truth, strict=True):
        yield {"part": "truncation", "task": name, "cell": cell, "state": state, "seed": seed} | (
            row | {"bias": found, "held": found <= row["bound"]}
        )


def _linear(seed: int) -> Iterator[Row]:
    rng = np.random.default_rng([1, seed])
    linear = LinearNetwork(rng)
    advised = _advised(linear.network, *linear.draw(rng))
    targets = linear.draw(rng)[1]
    for row in advised:
        found = linear.bias(targets, row["K"])
        kind = {"part": "truncation", "task": "linear", "cell": "RNN", "state": "closed form"}
        yield kind | {"seed": seed} | row | {"bias": found, "held": found <= row["bound"]}


def _advised(network: Network, inputs: Array, targets: Array) -> list[Row]:
    """The advised K for every bound; the whole run if no shorter K is advised."""
    found = flow(network, inputs, targets, carousel=False, spectrum=False)
    T, rows = len(inputs), []
    for bound in BOUNDS:
        advice = advise_truncation(found.bias, bound, found.top.decay)
        K = T if advice.steps is None else min(advice.steps, T)
        rows.append({"bound": bound, "K": K, "T": T, "seen": advice.relative})
    return rows


def biases(network: Network, inputs: Array, targets: Array, steps: Sequence[int]) -> list[float]:
    """‖R_K‖ / ‖∇L‖ for each K, all in one pass backwards."""
    T = len(inputs)
    starts = sorted({0, *(K for K in steps if K < T)})
    outputs, _, tape = network.forward(inputs)
    run = linearised_run(network, tape, network.loss_of(outputs, targets))
    left, _, whole = tails(measure_by_lag(run, np.arange(T), T - 1, starts).by_lag)
    at = dict(zip(starts, left / whole, strict=True))
    return [float(at.get(K, 0.0)) for K in steps]


def _confirm(network: Network, inputs: Array, targets: Array, K: int, found: float) -> None:
    """Confirms that truncated BPTT, with windows that end at every step, has just this bias."""
    _, full = network.loss_and_gradient(inputs, targets)
    _, short = truncated_loss_and_gradient(network, inputs, targets, k1=1, k2=K)
    truth = (short - full).norm() / full.norm()
    if not abs(truth - found) <= ROUNDING + 1e-3 * truth:
        refuse(f"bias at K = {K}", f"that of truncated BPTT, {truth:.6g}", f"{found:.6g}")


def summary(rows: Sequence[Row]) -> list[Row]:
    """For every task and state: runs, the share that held, the median K, the worst excess."""
    kinds = list(dict.fromkeys((row["task"], row["state"]) for row in rows))
    found = [_summed(f"{task}, {state}", _chosen(rows, task, state)) for task, state in kinds]
    return [*found, _summed("all", rows)]


def _chosen(rows: Sequence[Row], task: str, state: str) -> list[Row]:
    return [row for row in rows if (row["task"], row["state"]) == (task, state)]


def _summed(name: str, rows: Sequence[Row]) -> Row:
    middle = [row for row in rows if row["bound"] == 0.1]
    return {
        "name": name,
        "runs": len(rows),
        "held": float(np.mean([row["held"] for row in rows])),
        "seen_held": float(np.mean([row["seen"] <= row["bound"] for row in rows])),
        "K": float(np.median([row["K"] for row in middle])),
        "share": float(np.median([row["K"] / row["T"] for row in middle])),
        "excess": max(row["bias"] / row["bound"] for row in rows),
    }
