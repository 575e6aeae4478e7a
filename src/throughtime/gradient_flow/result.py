"""What was found about the flow of a gradient."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field

import numpy as np

from throughtime.arrays import Array, refuse
from throughtime.gradcheck import plain_data
from throughtime.gradient_flow.advice import Advice
from throughtime.gradient_flow.gate_history import GateHistory
from throughtime.gradient_flow.jacobians import Lyapunov
from throughtime.gradient_flow.text import text
from throughtime.gradient_flow.truncating import Bias
from throughtime.gradient_flow.verdict import Decay, FlowVerdict, Gate
from throughtime.storage import replace

JSON_VERSION = 1


@dataclass(frozen=True)
class LayerFlow:
    """One recurrent layer.

    E_t is the loss of step t with the weights that the network's loss gives it; norms are of one
    sequence's gradient, ‖∂E_t/∂s_k‖₂, and averaged over sequences. Rows are end points t
    (`Flow.ends`), columns lags l = t − k from 0; NaN where k would lie before the first step.

    Attributes:
        kind, units: of the cell.
        norms: "h", for LSTM also "c": (n, L), mean over sequences.
        spread: the same: standard deviation over sequences.
        profile: part to (L,): mean of the norms over end points and sequences.
        profile_spread: part to (L,): standard deviation over sequences of their own profiles.
        profile_error: part to (L,): standard error of the profile that comes from looking at some
            end points only; 0 where all were looked at.
        paths: "carry", "gates", "both": (L,), the share of the gradient with respect to `carried`
            that took this way, along the forget gates alone (LSTM; GRU: along z alone), through
            gates and weights at every step, or along both; they add up to 1, and where paths
            cancel one is negative. Empty for an RNN, which has no carry.
        time_constants: (H,), steps after which a unit's carry alone leaves 1/e, from the mean
            logarithm of its forget gate (of z); None for an RNN.
        gates: letter to how its values are spread.
        dead: (H,), whether a unit gives nothing and can learn nothing.
        singular_values: (samples, n), of ∂s_t/∂s_{t−1} over the full state, h and c together.
        lyapunov: mean growth of small changes of the state, as of the first eighth of the
            sequences; None where it was not asked for.
        decay: how the gradient with respect to `remembers` falls, each lag compared with the one
            before over the same losses.
        verdict, reason: on this layer.
        gate_history: letter to how its values are spread over time.
        backwards: whether this is a second direction, which runs from the end to the beginning:
            its lags are k − t, and where steps are counted they are counted from the end.
        ahead: part to (n, L − 1): norms at the lags −1, −2, …, where losses look at what comes
            after their own step (of a second direction: before it); else empty.
        recurrent_profile: where losses look at several steps past the recurrence, part to (L,):
            the profile of what arrives at a step, over the steps that it goes back in the
            recurrence. `paths` and `decay` are then of this; else it would be `profile` itself,
            and is empty.
    """

    kind: str
    units: int
    norms: dict[str, Array] = field(repr=False)
    spread: dict[str, Array] = field(repr=False)
    profile: dict[str, Array] = field(repr=False)
    profile_spread: dict[str, Array] = field(repr=False)
    profile_error: dict[str, Array] = field(repr=False)
    paths: dict[str, Array] = field(repr=False)
    time_constants: Array | None = field(repr=False)
    gates: dict[str, Gate] = field(repr=False)
    dead: Array = field(repr=False)
    singular_values: Array = field(repr=False)
    lyapunov: Lyapunov | None
    decay: Decay
    verdict: FlowVerdict
    reason: str
    gate_history: dict[str, GateHistory] = field(default_factory=dict, repr=False)
    backwards: bool = False
    ahead: dict[str, Array] = field(default_factory=dict, repr=False)
    recurrent_profile: dict[str, Array] = field(default_factory=dict, repr=False)

    def title(self, number: int) -> str:
        """layer 0 (LSTM)."""
        return f"layer {number} ({self.kind}{', backwards' if self.backwards else ''})"

    @property
    def remembers(self) -> str:
        """The part of the state that keeps: "c" of an LSTM, else "h"."""
        return "c" if "c" in self.norms else "h"

    def units_that_remember(self, steps: float) -> Array:
        """Numbers of the units whose time constant is at least so many steps, longest first."""
        if self.time_constants is None:
            return np.zeros(0, np.intp)
        order = np.argsort(-self.time_constants, kind="stable")
        return np.asarray(order[self.time_constants[order] >= steps])


@dataclass(frozen=True)
class Flow:
    """Where the gradient of a run goes, through time, and what follows from it.

    Attributes:
        verdict: "exploding", "dead", "vanishing" or "healthy": the worst of the layers'.
        reason: which layer, at which lag, and the numbers.
        advice: what to do, with numbers.
        layers: recurrent layer to what was found there; of what runs both ways, its recurrent
            layers' directions are counted: 0 and 1 are the first one's, 2 and 3 the second's.
        share_lags: (S + 1,): stretch s of lags is share_lags[s] … share_lags[s + 1] − 1.
        shares: parameter to gate to (S,): the share of ∂L/∂(these rows) that came through each
            stretch of lags: ⟨part, whole⟩ / ‖whole‖², which add up to 1 over the stretches, and
            may be negative. A parameter without gates has the one entry "all".
        bias: what truncation gives up.
        ends: (n,), the steps t whose losses were followed back.
        steps, batch, max_lag: T, B, and the longest lag that was looked at.
        loss: of the whole run.
        gradient_norm: ‖∇L‖ over all parameters; estimated where end points were sampled.
        dtype: of the network.
        notes: what else is worth knowing, in plain sentences.
        gradients: layer to part to (n, L, B, ·): the gradients themselves, where `keep=True`.
        gradients_ahead: the same at the lags −1, −2, …, where losses look at several steps.
    """

    verdict: FlowVerdict
    reason: str
    advice: Advice
    layers: dict[int, LayerFlow]
    share_lags: Array
    shares: dict[str, dict[str, Array]] = field(repr=False)
    bias: Bias
    ends: Array = field(repr=False)
    steps: int
    batch: int
    max_lag: int
    loss: float
    gradient_norm: float
    dtype: str
    notes: tuple[str, ...] = ()
    gradients: dict[int, dict[str, Array]] = field(default_factory=dict, repr=False)
    gradients_ahead: dict[int, dict[str, Array]] = field(default_factory=dict, repr=False)

    @property
    def nearest(self) -> int:
        """The number of the recurrent layer nearest to the loss, in its first direction."""
        return max(number for number, layer in self.layers.items() if not layer.backwards)

    @property
    def top(self) -> LayerFlow:
        """The recurrent layer nearest to the loss; of two directions the first."""
        return self.layers[self.nearest]

    @property
    def lag_norms(self) -> Array:
        """(T, T): ‖∂E_t/∂h_k‖ in row t, column k, of the layer nearest to the loss.

        0 for k > t, unless losses look ahead.
        """
        return self.matrix("h")

    @property
    def carousel_share(self) -> Array:
        """(L,), by lag: the share of that layer's gradient that flows along the carry alone.

        Raises:
            ValueError: where the layer has no carry, or `carousel=False`.
        """
        if "carry" not in self.top.paths:
            refuse("carousel_share", "an LSTM or a GRU looked at with carousel=True", self.top.kind)
        return self.top.paths["carry"]

    def matrix(self, part: str = "h", layer: int | None = None) -> Array:
        """(T, T): ‖∂E_t/∂s_k‖ in row t, column k, averaged over sequences.

        0 for k > t unless losses look ahead; of a second direction, for k < t. NaN where it was
        not looked at: beyond `max_lag`, and in rows that were not sampled.

        Args:
            part: "h", or "c" of an LSTM.
            layer: its number; the recurrent layer nearest to the loss without it.
        """
        number = self.nearest if layer is None else layer
        if number not in self.layers:
            refuse("layer", f"one of {', '.join(map(str, self.layers))}", number)
        norms = self.layers[number].norms
        if part not in norms:
            refuse("part", " or ".join(norms), repr(part))
        one, T = self.layers[number], self.steps
        lags = np.arange(T)[:, None] - np.arange(T)
        lags = -lags if one.backwards else lags
        full = np.where((lags >= 0) | bool(one.ahead), np.nan, 0.0)
        for row, t in enumerate(self.ends):
            behind = (lags[t] >= 0) & (lags[t] <= self.max_lag)
            full[t, behind] = norms[part][row, lags[t, behind]]
            if one.ahead:
                before = (lags[t] < 0) & (lags[t] >= -self.max_lag)
                full[t, before] = one.ahead[part][row, -1 - lags[t, before]]
        return full

    def __str__(self) -> str:
        return text(self)

    def as_dict(self) -> dict[str, object]:
        """The result as plain data, with `"version"`; what is not finite is null."""
        fields = {
            name: value for name, value in vars(self).items() if not name.startswith("gradients")
        }
        return {
            "version": JSON_VERSION,
            **{name: plain_data(value) for name, value in fields.items()},
        }

    def to_json(self, path: str | os.PathLike[str]) -> None:
        """Writes all numbers, but for the gradients themselves."""
        replace(path, (json.dumps(self.as_dict(), indent=1) + "\n").encode())
