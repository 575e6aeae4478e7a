"""∂s_t/∂s_{t−1} over the full state, its singular values, and the Lyapunov spectrum.

The state of an LSTM is h *and* c. Leaving c fixed would leave out the carousel: what remains
forgets within a step, however open the forget gates are.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from throughtime.arrays import Array
from throughtime.cells import State
from throughtime.gradient_flow.linear import Linear
from throughtime.gradient_flow.tolerances import LYAPUNOV_CHECKPOINTS, LYAPUNOV_STEPS


@dataclass(frozen=True)
class Lyapunov:
    """Mean growth per step of small changes of a layer's state, direction by direction.

    Attributes:
        exponents: (q,) descending, in nats per step: a change grows as exp(exponent · steps).
            Above 0: exploding; −ln 2 / exponent: the half-life.
        spread: (q,) standard deviation over sequences; 0 where there is one.
        convergence: (checkpoints, q): the running estimate after `steps` steps.
        steps: (checkpoints,).
    """

    exponents: Array
    spread: Array
    convergence: Array = field(repr=False)
    steps: Array = field(repr=False)

    @property
    def half_life(self) -> float:
        """Steps after which the longest-lived change is halved; infinite where it grows."""
        first = float(self.exponents[0])
        return float(-np.log(2) / first) if first < 0 else np.inf

    @property
    def drift(self) -> float:
        """How far the first exponent still moved in the second half of the run; NaN at −∞."""
        half = self.convergence[(len(self.convergence) - 1) // 2]
        with np.errstate(invalid="ignore"):
            return float(abs(half[0] - self.exponents[0]))


def jacobian(one: Linear, step: int) -> Array:
    """J = ∂s_t/∂s_{t−1}, (B, n, n), over all parts of the state, h first.

    Row: after, column: before. Rows of the identity go one step back: eᵢᵀ J is sᵢ's gradient.
    """
    eye = np.eye(sum(one.sizes.values()), dtype=one.dtype)
    _, before = one.vjp(step, _state(one, np.repeat(eye[:, None], one.batch, axis=1)))
    return _joined(before).transpose(1, 0, 2)


def singular_values(one: Linear, samples: int, lengths: Array) -> Array:
    """Those of J at `samples` steps spread evenly, each of another sequence: (samples, n)."""
    T = one.steps
    steps = np.unique(np.linspace(0, T - 1, min(samples, T)).astype(int))
    found = []
    for number, t in enumerate(steps):
        living = np.flatnonzero(lengths > t)
        if len(living):
            J = jacobian(one, int(t))[living[number % len(living)]]
            found.append(np.linalg.svd(J, compute_uv=False))
    return np.array(found)


def lyapunov(
    one: Linear, lengths: Array, count: int, transient: int, rng: np.random.Generator
) -> Lyapunov:
    """The first `count` exponents, by QR (Benettin et al. 1980; Engelken et al. 2023).

    Directions go *forwards* in time, Q_t R_t = J_t Q_{t−1}: products in the other order have the
    same singular values only in the limit, and their QR does not settle on the same directions.
    The first `transient` steps turn the directions and do not count.
    """
    T, batch = min(one.steps, LYAPUNOV_STEPS), one.batch
    size = sum(one.sizes.values())
    count = min(count, size)
    start = rng.standard_normal((batch, size, count))
    Q = np.linalg.qr(start)[0].astype(one.dtype)
    sums, steps = np.zeros((batch, count)), np.zeros(batch)
    checkpoints = min(LYAPUNOV_CHECKPOINTS, T - transient)
    marks = np.unique(np.linspace(transient + 1, T, checkpoints).astype(int))
    convergence = []
    for t in range(T):
        living = lengths > t
        moved = one.jvp(t, _state(one, Q.transpose(2, 0, 1)))
        new, R = np.linalg.qr(_joined(moved).transpose(1, 2, 0)[living])
        Q[living] = new
        if t >= transient:
            with np.errstate(divide="ignore"):
                stretch = np.abs(np.diagonal(R, axis1=1, axis2=2)).astype(np.float64)
                sums[living] += np.log(stretch)
            steps[living] += 1
        if t + 1 in marks:
            convergence.append(_mean(sums, steps))
    used = steps > 0
    each = sums[used] / steps[used, None]
    mean = _mean(sums, steps)
    order = np.argsort(-mean)
    finite = np.where(np.isfinite(each), each, np.nan)
    spread = finite.std(axis=0)[order]
    return Lyapunov(mean[order], spread, np.array(convergence)[:, order], marks)


def _mean(sums: Array, steps: Array) -> Array:
    used = steps > 0
    return np.asarray((sums[used] / steps[used, None]).mean(axis=0))


def _state(one: Linear, rows: Array) -> State:
    """(n, B, all parts) by part."""
    places = np.cumsum(list(one.sizes.values()))[:-1]
    return dict(zip(one.sizes, np.split(rows, places, axis=2), strict=True))


def _joined(state: State) -> Array:
    return np.concatenate(list(state.values()), axis=2)
