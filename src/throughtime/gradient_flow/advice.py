"""What to do, with numbers: the memory the data need, clipping, truncation, and initialisation.

With truncation at K steps every loss reaches the lags 0 … K − 1. What is lost is the gradient
through the lags from K on, R_K; the relative bias is ‖R_K‖ / ‖∇L‖. Both are measured here, exactly,
over the lags that were followed. Beyond them the gradient is taken to fall geometrically, as
Aicher, Foti and Fox (2019, "Adaptively truncating backpropagation through time to control gradient
bias") assume for all lags beyond a measured one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from throughtime.arrays import Array
from throughtime.cells import is_indices
from throughtime.gradient_flow.tolerances import (
    BIAS_CONFIDENCE,
    CLIPPING_WINDOWS,
    ENOUGH_UNITS_REMEMBER,
    FEW_CLIPPING_WINDOWS,
    LEAST_CHRONO_MEMORY,
    MEMORY_COLUMNS,
    MEMORY_DRAWS,
    MEMORY_LAGS,
    MEMORY_STEPS,
    STUDENT_T,
    USUAL_NORM_QUANTILE,
)
from throughtime.gradient_flow.verdict import Decay
from throughtime.network import Network, differentiate_window
from throughtime.parameters import Parameters


@dataclass(frozen=True)
class WindowCost:
    """What TBPTT in windows gives up on these data.

    Attributes:
        k1, k2: steps between updates, and steps back.
        relative_bias: ‖truncated − full‖ / ‖full‖ for the gradient summed over the windows.
        alignment: cosine of the angle between the two gradients: below 0 an update goes uphill.
    """

    k1: int
    k2: int
    relative_bias: float
    alignment: float


@dataclass(frozen=True)
class Initialisation:
    """Forget gates for the memory that is needed.

    A unit with forget gate f remembers for 1/(1 − f) steps: σ(b) = 1 − 1/m for b = log(m − 1).
    Chrono initialisation spreads the units' memories over 1 … m (Tallec and Ollivier 2018).

    Attributes:
        layer: number of the LSTM layer.
        memory: m, in steps.
        forget_bias: log(m − 1).
        chrono: m, for `LSTM(…, chrono=m)`.
        remembering: the share of units whose time constant is at least m already.
        where: in a torch module, the biases to set, as `lstm.bias_ih_l0[32:64]`, each with its
            value; empty where it has none. None for a layer that takes `forget_bias=`.
    """

    layer: int
    memory: int
    forget_bias: float
    chrono: int
    remembering: float
    where: tuple[tuple[str, float], ...] | None = None

    @property
    def needed(self) -> bool:
        """Whether fewer than one unit in ten remembers that long already."""
        return self.remembering < ENOUGH_UNITS_REMEMBER


@dataclass(frozen=True)
class Advice:
    """What to do.

    Attributes:
        truncation: how many steps to differentiate.
        window: what the given k1 and k2 cost; None if none were given.
        clipping: whether a threshold binds, and one from the distribution; None if sequences have
            lengths of their own, and for a torch module without `windows=`.
        memory: the lag that is needed: given by the user, or told by inputs and targets; None if
            neither says anything.
        memory_from: "given", "data" or "".
        initialisation: for each LSTM layer, if a memory is known.
    """

    truncation: Truncation
    window: WindowCost | None
    clipping: Clipping | None
    memory: int | None
    memory_from: str
    initialisation: tuple[Initialisation, ...] = ()

    @property
    def sentences(self) -> tuple[str, ...]:
        """The advice in plain sentences: what lets gradients reach further back comes first."""
        found = [_initialisation(one) for one in self.initialisation if one.needed]
        truncation, steps = _truncation(self.truncation), self.truncation.steps
        if self.memory is not None and steps is not None and steps < self.memory:
            truncation += (
                f" That holds for the gradient as it is now; the data need {self.memory} steps."
            )
        found.append(truncation)
        if self.window:
            found.append(_window(self.window))
        if self.clipping:
            found.append(_clipping(self.clipping))
        if self.memory is not None and self.memory_from == "data":
            found.append(f"Inputs carry information about targets up to {self.memory} steps later.")
        return tuple(found)


def initialisations(constants: dict[int, Array], memory: int | None) -> tuple[Initialisation, ...]:
    """Advice for LSTM layers, by number, given the time constants of their units."""
    if memory is None or memory < LEAST_CHRONO_MEMORY:
        return ()
    bias = float(np.log(memory - 1))
    return tuple(
        Initialisation(number, memory, bias, memory, float((tau >= memory).mean()))
        for number, tau in constants.items()
    )


def _truncation(found: Truncation) -> str:
    asked = f"{found.asked:.3g}"
    if found.steps is None and np.isnan(found.relative):
        return "No truncation can be judged: there is no gradient to compare with."
    if found.steps is None:
        return (
            f"Do not truncate: at no length within this run does the bias stay below {asked} "
            f"(smallest: {_number(found.relative)}). Differentiate whole sequences."
        )
    if found.extrapolated:
        return (
            f"Follow every loss K = {found.steps} steps back for a relative bias below {asked}. "
            "This is an estimate: it lies beyond the lags that were looked at."
        )
    sure = ""
    if not np.isnan(found.upper):
        sure = f", below {_number(found.upper)} with {BIAS_CONFIDENCE:.0%} confidence"
    safe = ""
    if found.safe is not None and found.safe > found.steps:
        safe = f" K = {found.safe} suffices even if no two lags cancel."
    return (
        f"Follow every loss K = {found.steps} steps back: the relative bias is "
        f"{_number(found.relative)}{sure} (asked: {asked}).{safe}"
    )


def _window(found: WindowCost) -> str:
    return (
        f"Windows of k1 = {found.k1}, k2 = {found.k2} give a relative bias of "
        f"{_number(found.relative_bias)} and a cosine of {found.alignment:.3f} to the full "
        "gradient."
    )


def _clipping(found: Clipping) -> str:
    count = f"{len(found.norms)} window{'s' if len(found.norms) > 1 else ''}"
    steps = "" if found.window is None else f" of {found.window} steps"
    base = (
        f"Clip at {_number(found.threshold)}: nine of ten gradients stay below it "
        f"({count}{steps}; largest over median {found.ratio:.3g})"
    )
    if found.few:
        base += ", but so few windows tell little"
    if found.given is None:
        return base + "."
    return f"{base}; at {_number(found.given)} it binds in {found.binds:.0%} of them."


def _initialisation(found: Initialisation) -> str:
    if found.where is None:
        way = f"Start with LSTM(…, chrono={found.chrono}), or forget_bias={found.forget_bias:.2f}."
    elif not found.where:
        way = (
            f"Start with a forget gate's bias of {found.forget_bias:.2f}, which takes a layer with "
            "biases."
        )
    else:
        settings = " and ".join(f"{name} to {value:.3g}" for name, value in found.where)
        way = f"Before training, set {settings}."
    return (
        f"Layer {found.layer}: {found.remembering:.0%} of the units remember for {found.memory} "
        f"steps. {way}"
    )


def _number(value: float) -> str:
    return f"{value:.3g}"


# Student's t, one-sided 95 %, by degrees of freedom.


@dataclass(frozen=True)
class Bias:
    """What truncation gives up, by the number of steps K that each loss is followed back.

    Attributes:
        steps: (S,), K.
        relative: (S,), ‖R_K‖ / ‖∇L‖ on these data, with an estimate for the lags that were not
            followed.
        upper: (S,), what the bias stays below on other data of this kind with 95 % confidence,
            from its spread over up to eight groups of sequences; NaN if there is one group.
        bound: (S,), the norms of the gradients through the lags from K on, added up, over ‖∇L‖:
            what the bias stays below even if no two lags cancel.
        beyond: the part of `relative` that is an estimate, for lags that were not followed.
    """

    steps: Array
    relative: Array = field(repr=False)
    upper: Array = field(repr=False)
    bound: Array = field(repr=False)
    beyond: float = 0.0


def tails(by_lag: Sequence[Parameters]) -> tuple[Array, Array, float]:
    """‖R_K‖ at the start of each stretch, the sum of the norms from that stretch on, and ‖∇L‖."""
    rest = by_lag[0].zeros_like()
    left, sums, total = [], [], 0.0
    for one in reversed(by_lag):
        rest += one
        total += one.norm()
        left.append(rest.norm())
        sums.append(total)
    return np.array(left[::-1]), np.array(sums[::-1]), left[-1]


def truncation_bias(
    starts: Sequence[int],
    by_lag: Sequence[Parameters],
    groups: Sequence[Array],
    lags: int,
    steps: int,
    found: Decay,
) -> Bias:
    """The bias at every K at which a stretch of lags begins, and at the first K beyond them.

    Args:
        starts, by_lag: stretches of lags, and the gradients through them.
        groups: for each group of sequences, ‖R_K‖ / ‖∇L‖ by stretch, (S,).
        lags: how many lags were followed.
        steps: T; if all its lags were followed, there is nothing beyond them.
        found: how the gradient falls, for the estimate beyond these lags.
    """
    left, sums, whole = tails(by_lag)
    beyond = 0.0
    if lags < steps:
        beyond = by_lag[-1].norm() * _after(found.upper, lags - starts[-1])
    at = np.array([*starts[1:], lags])
    left, sums = np.append(left[1:], 0.0), np.append(sums[1:], 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        relative = (left + beyond) / whole
        bound = (sums + beyond) / whole
        share = float(np.float64(beyond) / whole)
    upper = np.full(len(at), np.nan)
    if len(groups) > 1:
        upper = np.maximum(relative, _foreseen(np.array([one[1:] for one in groups])) + share)
    return Bias(at, relative, upper, bound, share)


def _after(rate: float, length: int) -> float:
    """The rest of a geometric series after `length` terms, relative to the sum of these."""
    if not rate < 1:
        return np.inf
    return float(rate**length / (1 - rate**length))


def _foreseen(ratios: Array) -> Array:
    """The upper end of a prediction interval for one more group, and 0 after the last stretch.

    (groups, S) -> (S + 1,). It is computed in logarithms, since ratios of norms are skewed. The
    ratio for the whole data is not assumed to be steadier than that for a group: if the gradient is
    mostly noise, numerator and denominator both shrink with the number of sequences, and their
    ratio varies as much as before.
    """
    n = len(ratios)
    logs = np.log(np.maximum(ratios, np.finfo(np.float64).tiny))
    t = STUDENT_T[min(n - 2, len(STUDENT_T) - 1)]
    reach = t * logs.std(axis=0, ddof=1) * np.sqrt(1 + 1 / n)
    return np.append(np.exp(np.minimum(logs.mean(axis=0) + reach, 700.0)), 0.0)


@dataclass(frozen=True)
class Truncation:
    """The number of steps to differentiate, and what that costs.

    Attributes:
        steps: K, the smallest from which on the bias stays below `asked`; None if there is no such
            K within the run, and the gradient does not fall beyond it either.
        asked: the relative bias that was asked for.
        relative: the bias measured at K.
        upper: the bias with 95 % confidence; NaN if there was only one group of sequences.
        safe: the K at which the bound, which lets no two lags cancel, is below `asked`; None if
            there is no such K among the lags that were followed.
        extrapolated: whether K is beyond the lags that were followed, where the fall is an
            estimate.
    """

    steps: int | None
    asked: float
    relative: float
    upper: float
    safe: int | None
    extrapolated: bool


def advise_truncation(found: Bias, asked: float, fall: Decay) -> Truncation:
    """The smallest K whose bias, and that of every longer one, stays below `asked`."""
    worst = np.where(np.isnan(found.upper), found.relative, found.upper)
    place = _first_below(worst, asked)
    safe = _first_below(found.bound, asked)
    safe_steps = None if safe is None else int(found.steps[safe])
    if place is not None:
        relative, upper = float(found.relative[place]), float(found.upper[place])
        return Truncation(int(found.steps[place]), asked, relative, upper, safe_steps, False)
    if found.beyond > 0 and fall.upper < 1:
        more = int(np.ceil(np.log(asked / found.beyond) / np.log(fall.upper)))
        return Truncation(int(found.steps[-1]) + more, asked, asked, asked, safe_steps, True)
    last = float(found.relative[-1])
    return Truncation(None, asked, last, float(found.upper[-1]), safe_steps, False)


def _first_below(values: Array, asked: float) -> int | None:
    above = np.flatnonzero(~(values <= asked))
    place = int(above[-1]) + 1 if len(above) else 0
    return place if place < len(values) else None


@dataclass(frozen=True)
class Clipping:
    """Norms of the gradients that training in windows of this length would see.

    Attributes:
        window: steps of a window; None if the windows are the caller's own.
        norms: (n,), ‖∇‖₂ in each window, at the parameters as they are.
        threshold: the norm that nine of ten stay below: it leaves the ordinary update alone and
            stops the rare large one.
        given: the threshold to be judged, or None.
        binds: the share of windows that it would clip; NaN without a threshold.
        ratio: the largest norm over the median, which shows how heavy the tail is.
    """

    window: int | None
    norms: Array = field(repr=False)
    threshold: float
    given: float | None
    binds: float
    ratio: float

    @property
    def few(self) -> bool:
        """Whether there are too few windows to speak of a distribution."""
        return len(self.norms) < FEW_CLIPPING_WINDOWS


def advise_clipping(
    network: Network, inputs: Array, targets: Array, window: int, given: float | None
) -> Clipping | None:
    """Differentiates windows one after another, as TBPTT would, without updating anything.

    Returns None if all gradients are 0 or one overflows: then there is nothing to clip at.
    """
    state: Parameters | None = None
    norms: list[float] = []
    for begin in range(0, len(inputs), window)[:CLIPPING_WINDOWS]:
        part = slice(begin, begin + window)
        if len(inputs[part]) < window and norms:
            break  # a shorter last window is not comparable
        _, gradient, tape = differentiate_window(network, inputs[part], targets[part], state=state)
        state = network.state_after(tape, len(inputs[part]))
        norms.append(gradient.norm())
    return clipping_of(norms, window, given)


def clipping_of(norms: list[float], window: int | None, given: float | None) -> Clipping | None:
    """As `advise_clipping`, from the norms of some windows' gradients."""
    found = np.array(norms)
    if not (found.any() and np.isfinite(found).all()):
        return None
    binds = float((found > given).mean()) if given is not None else np.nan
    median = float(np.median(found))
    ratio = float(found.max() / median) if median > 0 else np.inf  # most are 0
    usual = float(np.quantile(found, USUAL_NORM_QUANTILE))
    return Clipping(window, found, usual, given, binds, ratio)


def data_memory(
    inputs: Array, targets: Array, max_lag: int, rng: np.random.Generator
) -> int | None:
    """The longest lag l at which x_{t−l} says more about the target at t than chance, linearly.

    Compares Σ (covariance of x_{t−l} and y_t)² with its value for inputs and targets of different
    sequences, or, if there is one sequence, of different times. A lag counts if it exceeds the
    largest value of any lag in all of 20 such draws, which gives about 95 % confidence for the
    whole. Of longer runs the first 4096 steps are looked at.

    Returns:
        the lag; None if there is none, which does not mean that no memory is needed: a dependency
        on two inputs together shows in no single covariance.
    """
    x, y = _columns(inputs[:MEMORY_STEPS]), _columns(targets[:MEMORY_STEPS])
    if not x.size or not y.size:
        return None
    lags = min(max_lag, len(x) - 2, MEMORY_LAGS)
    if lags < 1:
        return None
    found = _covariances(x, y, lags)
    chance = 0.0
    for _ in range(MEMORY_DRAWS):
        chance = max(chance, float(_covariances(_elsewhere(x, rng), y, lags).max()))
    beyond = np.flatnonzero(found > chance)
    return int(beyond[-1]) if len(beyond) else None


def _covariances(x: Array, y: Array, lags: int) -> Array:
    """n Σ cov² of x_{t−l} with y_t by lag, for n pairs: by chance the same at all lags.

    All lags are computed at once, as a product of Fourier transforms, with enough zeros appended
    that no lag wraps around.
    """
    T, B = x.shape[:2]
    unit = 2 ** max(0, int(np.log2(T + lags)) - 3)  # lengths with small factors are fast
    length = -(-(T + lags) // unit) * unit
    # Chance is coarser than single precision by far. (frequencies, B, columns)
    X, Y = (np.fft.rfft(one.astype(np.float32), length, axis=0) for one in (x, y))
    products = np.fft.irfft(X.conj().transpose(0, 2, 1) @ Y, length, axis=0)[: lags + 1]
    return np.asarray((products**2).sum(axis=(1, 2)) / ((T - np.arange(lags + 1)) * B))


def _elsewhere(x: Array, rng: np.random.Generator) -> Array:
    """The inputs of other sequences, or, if there is only one, of another time."""
    T, B = x.shape[:2]
    shifted = x if T < 4 else np.roll(x, int(rng.integers(T // 4, T - T // 4 + 1)), axis=0)
    return shifted[:, rng.permutation(B)]


def _columns(values: Array) -> Array:
    """(T, B, at most 16) centred columns; for classes, one-hot columns of the most frequent."""
    if is_indices(values) and values.ndim == 2:
        classes, counts = np.unique(values, return_counts=True)
        frequent = classes[np.argsort(-counts)[:MEMORY_COLUMNS]]
        array = (values[..., None] == frequent).astype(np.float64)
    else:
        array = values.astype(np.float64)
    array = array - array.mean(axis=(0, 1))
    if array.shape[2] > MEMORY_COLUMNS:  # the directions in which they vary most
        flat = array.reshape(-1, array.shape[2])
        _, vectors = np.linalg.eigh(flat.T @ flat)
        array = array @ vectors[:, -MEMORY_COLUMNS:]
    scale = array.std(axis=(0, 1))
    return np.asarray(array[..., scale > 0] / scale[scale > 0])
