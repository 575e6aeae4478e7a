"""What to do, with numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from throughtime.arrays import Array
from throughtime.gradient_flow.clipping import Clipping
from throughtime.gradient_flow.tolerances import (
    BIAS_CONFIDENCE,
    ENOUGH_UNITS_REMEMBER,
    LEAST_CHRONO_MEMORY,
)
from throughtime.gradient_flow.truncating import Truncation


@dataclass(frozen=True)
class WindowCost:
    """What TBPTT in windows gives up on these data.

    Attributes:
        k1, k2: steps between updates, and steps back.
        relative_bias: ‖truncated − full‖ / ‖full‖, of the gradient summed over the windows.
        alignment: cosine of the angle between the two: below 0 an update goes uphill.
    """

    k1: int
    k2: int
    relative_bias: float
    alignment: float


@dataclass(frozen=True)
class Initialisation:
    """Forget gates for the memory that is asked for.

    A unit with forget gate f keeps for 1/(1 − f) steps: σ(b) = 1 − 1/m where b = log(m − 1). Chrono
    initialisation spreads the units' memories over 1 … m (Tallec and Ollivier 2018).

    Attributes:
        layer: number of the LSTM layer.
        memory: m, in steps.
        forget_bias: log(m − 1).
        chrono: m, for `LSTM(…, chrono=m)`.
        remembering: share of the units whose time constant is at least m as things are.
    """

    layer: int
    memory: int
    forget_bias: float
    chrono: int
    remembering: float

    @property
    def needed(self) -> bool:
        """Whether fewer than one unit in ten remembers that long already."""
        return self.remembering < ENOUGH_UNITS_REMEMBER


@dataclass(frozen=True)
class Advice:
    """What to do.

    Attributes:
        truncation: how many steps to differentiate.
        window: what the given k1 and k2 cost; None where none were given.
        clipping: whether a threshold binds, and one from the distribution; None where sequences
            have lengths of their own, and of a torch module without `windows=`.
        memory: the lag that is needed: the user's, or what inputs and targets tell; None where
            neither says anything.
        memory_from: "given", "data" or "".
        initialisation: for each LSTM layer, where a memory is known.
    """

    truncation: Truncation
    window: WindowCost | None
    clipping: Clipping | None
    memory: int | None
    memory_from: str
    initialisation: tuple[Initialisation, ...] = ()

    @property
    def sentences(self) -> tuple[str, ...]:
        """The advice in plain sentences."""
        found = [_truncation(self.truncation)]
        if self.window:
            found.append(_window(self.window))
        if self.clipping:
            found.append(_clipping(self.clipping))
        if self.memory is not None and self.memory_from == "data":
            found.append(f"Inputs tell of targets up to {self.memory} steps later.")
        found += [_initialisation(one) for one in self.initialisation if one.needed]
        return tuple(found)


def initialisations(constants: dict[int, Array], memory: int | None) -> tuple[Initialisation, ...]:
    """For LSTM layers, by number, given the time constants of their units."""
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
            f"No truncation: at no length within this run does the bias stay below {asked} "
            f"(smallest: {_number(found.relative)}). Differentiate whole sequences."
        )
    if found.extrapolated:
        return (
            f"Follow every loss K = {found.steps} steps back for a relative bias below {asked}: an "
            "estimate, beyond the lags that were looked at."
        )
    sure = ""
    if not np.isnan(found.upper):
        sure = f", below {_number(found.upper)} with {BIAS_CONFIDENCE:.0%} confidence"
    safe = ""
    if found.safe is not None and found.safe > found.steps:
        safe = f" Even if no two lags cancel: K = {found.safe}."
    return (
        f"Follow every loss K = {found.steps} steps back: relative bias "
        f"{_number(found.relative)}{sure} (asked: {asked}).{safe}"
    )


def _window(found: WindowCost) -> str:
    return (
        f"Windows of k1 = {found.k1}, k2 = {found.k2} give a relative bias of "
        f"{_number(found.relative_bias)}; cosine to the full gradient {found.alignment:.3f}."
    )


def _clipping(found: Clipping) -> str:
    count = f"{len(found.norms)} window{'s' if len(found.norms) > 1 else ''}"
    steps = "" if found.window is None else f" of {found.window} steps"
    base = (
        f"Clip at {_number(found.threshold)}: nine of ten gradients stay below it "
        f"({count}{steps}; largest over median {found.ratio:.3g})"
    )
    if found.few:
        base += ", but so few say little"
    if found.given is None:
        return base + "."
    return f"{base}; at {_number(found.given)} it binds in {found.binds:.0%} of them."


def _initialisation(found: Initialisation) -> str:
    return (
        f"Layer {found.layer}: {found.remembering:.0%} of the units remember for {found.memory} "
        f"steps. Start with LSTM(…, chrono={found.chrono}), or forget_bias="
        f"{found.forget_bias:.2f}."
    )


def _number(value: float) -> str:
    return f"{value:.3g}"
