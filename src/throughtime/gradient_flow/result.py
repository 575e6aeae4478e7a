"""What was found about the flow of a gradient, and its text: verdict, advice, tables.

No line of the text is longer than 100 columns, unless a name is: sentences continue on the next
line, and tables below.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from itertools import pairwise
from textwrap import wrap

import numpy as np

from throughtime.arrays import Array, refuse
from throughtime.gradcheck import plain_data
from throughtime.gradient_flow.advice import Advice, Bias
from throughtime.gradient_flow.gates import Gate, GateHistory
from throughtime.gradient_flow.jacobians import Lyapunov
from throughtime.gradient_flow.verdict import Decay, FlowVerdict
from throughtime.storage import replace

JSON_VERSION = 1
TEXT_WIDTH = 100
LAGS_IN_A_TABLE = 8
SHARES_CAPTION = "Share of each parameter's gradient by the lag that it passed through"
PATH_NAMES = {"carry": "along {} alone", "gates": "through the gates alone", "both": "through both"}


@dataclass(frozen=True)
class LayerFlow:
    """One recurrent layer.

    E_t is the loss of step t with the weights that the network's loss gives it. Norms are those of
    one sequence's gradient, ‖∂E_t/∂s_k‖₂, averaged over sequences. Rows are end points t
    (`Flow.ends`), columns are lags l = t − k from 0; NaN where k would be before the first step.

    Attributes:
        kind, units: of the layer's cell.
        norms: "h", and for an LSTM "c", to (n, L): mean over sequences.
        spread: likewise the standard deviation over sequences.
        profile: part to (L,): mean of the norms over end points and sequences.
        profile_spread: part to (L,): standard deviation over sequences of their own profiles.
        profile_error: part to (L,): standard error of the profile that comes from looking at some
            end points only; 0 if all were looked at.
        paths: "carry", "gates", "both" to (L,): the share of the gradient with respect to
            `remembers` that went along the forget gates alone (in a GRU along z alone), through
            gates and weights at every step, or along both. They add up to 1, and where paths cancel
            one is negative. Empty for an RNN, which has no carry.
        time_constants: (H,), the steps after which a unit's carry alone leaves 1/e, from the mean
            logarithm of its forget gate (in a GRU of z); None for an RNN.
        gates: letter to the spread of that gate's values.
        dead: (H,), whether a unit gives nothing and can learn nothing.
        singular_values: (samples, n), of ∂s_t/∂s_{t−1} over the full state, h and c together.
        lyapunov: mean growth of small changes of the state, in the first eighth of the sequences;
            None if it was not asked for.
        decay: how the gradient with respect to `remembers` falls, each lag compared with the one
            before over the same losses.
        verdict, reason: on this layer.
        gate_history: letter to the spread of that gate's values over time.
        backwards: whether this is a second direction, which runs from the end to the beginning.
            Its lags are k − t, and its steps are counted from the end.
        ahead: part to (n, L − 1): norms at the lags −1, −2, …, if losses look at what comes after
            their own step (in a second direction: before it); otherwise empty.
        recurrent_profile: if losses look at several steps past the recurrence, part to (L,): the
            profile of what arrives at a step, by the steps that it goes back in the recurrence.
            `paths` and `decay` then belong to this profile. Otherwise it would be `profile` itself,
            and is empty.
        compared: (L,), 1 at lag 0: what the verdict is on. The gradient with respect to
            `remembers`, each lag compared with the one before over the same losses; a plain mean
            at lag l is over t ≥ l only, so that it also shows how large those losses are.
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
    compared: Array = field(default_factory=lambda: np.ones(1), repr=False)

    def title(self, number: int) -> str:
        """The layer in words, such as "layer 0 (LSTM)"."""
        return f"layer {number} ({self.kind}{', backwards' if self.backwards else ''})"

    @property
    def remembers(self) -> str:
        """The part of the state that remembers: "c" in an LSTM, otherwise "h"."""
        return "c" if "c" in self.norms else "h"

    def units_that_remember(self, steps: float) -> Array:
        """The units whose time constant is at least so many steps, longest first."""
        if self.time_constants is None:
            return np.zeros(0, np.intp)
        order = np.argsort(-self.time_constants, kind="stable")
        return np.asarray(order[self.time_constants[order] >= steps])


@dataclass(frozen=True, repr=False)
class Flow:
    """Where the gradient of a run goes, through time, and what follows from it.

    Attributes:
        verdict: "exploding", "dead", "vanishing" or "healthy": the worst of the layers' verdicts.
        reason: which layer, at which lag, and the numbers.
        advice: what to do, with numbers.
        layers: recurrent layer to what was found there. In a network that runs both ways the
            directions are counted: 0 and 1 belong to the first recurrent layer, 2 and 3 to the
            second.
        share_lags: (S + 1,): stretch s of lags is share_lags[s] … share_lags[s + 1] − 1.
        shares: parameter to gate to (S,): the share of ∂L/∂(these rows) that came through each
            stretch of lags, ⟨part, whole⟩ / ‖whole‖². Shares add up to 1 over the stretches, and
            may be negative. A parameter without gates has the single entry "all".
        bias: what truncation gives up.
        ends: (n,), the steps t whose losses were followed back.
        steps, batch, max_lag: T, B, and the longest lag that was looked at.
        loss: of the whole run.
        gradient_norm: ‖∇L‖ over all parameters; an estimate if end points were sampled.
        dtype: of the network.
        notes: what else is worth knowing, in plain sentences.
        gradients: layer to part to (n, L, B, ·): the gradients themselves, with `keep=True`.
        gradients_ahead: likewise at the lags −1, −2, …, if losses look at several steps.
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
        """The recurrent layer nearest to the loss, in its first direction."""
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
            ValueError: if the layer has no carry, or with `carousel=False`.
        """
        if "carry" not in self.top.paths:
            refuse("carousel_share", "an LSTM or a GRU looked at with carousel=True", self.top.kind)
        return self.top.paths["carry"]

    def matrix(self, part: str = "h", layer: int | None = None) -> Array:
        """(T, T): ‖∂E_t/∂s_k‖ in row t, column k, averaged over sequences.

        0 for k > t (in a second direction for k < t) unless losses look ahead. NaN for what was
        not looked at: beyond `max_lag`, and in rows that were not sampled.

        Args:
            part: "h", or "c" in an LSTM.
            layer: its number; by default the recurrent layer nearest to the loss.
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

    def __repr__(self) -> str:
        layers = f"{len(self.layers)} layer{'s' * (len(self.layers) != 1)}"
        return (
            f"<{type(self).__name__}: {self.verdict}, T = {self.steps}, B = {self.batch}, {layers}>"
        )

    def __str__(self) -> str:
        return flow_text(self)

    def as_text(self, width: int) -> str:
        """What `print` shows, in lines of at most so many characters."""
        return flow_text(self, width)

    def as_dict(self) -> dict[str, object]:
        """The result as plain data, with `"version"`; numbers that are not finite become null."""
        fields = {
            name: value for name, value in vars(self).items() if not name.startswith("gradients")
        }
        return {
            "version": JSON_VERSION,
            **{name: plain_data(value) for name, value in fields.items()},
        }

    def to_json(self, path: str | os.PathLike[str]) -> None:
        """Writes all numbers except the gradients themselves."""
        replace(path, (json.dumps(self.as_dict(), indent=1) + "\n").encode())


def flow_text(flow: Flow, width: int = TEXT_WIDTH) -> str:
    """The whole result as text."""
    lines = [
        *_wrapped(f"{flow.verdict.upper()}: {flow.reason}", width),
        *_wrapped(circumstances(flow), width),
        "",
    ]
    for sentence in flow.advice.sentences:
        lines += _wrapped(sentence, width, "- ")
    for number, layer in flow.layers.items():
        lines += ["", *_layer(number, layer, flow.max_lag, width)]
    lines += ["", *_shares(flow, width)]
    if flow.notes:
        lines += ["", *(line for note in flow.notes for line in _wrapped(note, width))]
    return "\n".join(lines)


def circumstances(flow: Flow) -> str:
    """What was looked at, in one line."""
    ends = len(flow.ends)
    which = "all steps" if ends == flow.steps else f"{ends:,} of them"
    return (
        f"{flow.dtype}, T = {flow.steps:,}, B = {flow.batch}; losses of {which} followed back "
        f"up to {flow.max_lag} steps; ‖∇L‖ = {flow.gradient_norm:.3g}"
    )


def _layer(number: int, layer: LayerFlow, max_lag: int, width: int) -> list[str]:
    way = ", backwards" if layer.backwards else ""
    units = f"{layer.kind}, {layer.units} units{way}"
    rows = lag_rows(layer, max_lag)
    lines = [f"Layer {number} ({units}): {layer.verdict}", *_table(rows, width)]
    for fact in facts(layer):
        lines += _wrapped(fact, width, "  ", "    ")
    return lines


def lag_rows(layer: LayerFlow, max_lag: int) -> list[list[str]]:
    """Norms and paths at some lags: the headings first, and in each row its name first."""
    lags = some_lags(max_lag)
    rows = [["lag", *(str(lag) for lag in lags)]]
    for part, profile in layer.profile.items():
        rows.append([f"‖∂E/∂{part}‖", *(_size(profile[lag]) for lag in lags)])
        spread = layer.profile_spread[part]
        if np.nan_to_num(spread).any():  # 0 for a single sequence
            rows.append(["  ± over sequences", *(_size(spread[lag]) for lag in lags)])
    for part, profile in layer.recurrent_profile.items():
        rows.append([f"‖∂E/∂{part}‖ by recurrence", *(_size(profile[lag]) for lag in lags)])
    known = [lag for lag in lags if lag < len(layer.compared)]
    ratios = [*(_size(layer.compared[lag]) for lag in known), *("–" for _ in lags[len(known) :])]
    rows.append([f"‖∂E/∂{layer.remembers}‖ to lag 0 (verdict)", *ratios])
    for path, shares in layer.paths.items():
        name = PATH_NAMES[path].format("c" if layer.remembers == "c" else "z")
        rows.append([name, *(_percent(shares[lag]) for lag in lags)])
    return rows


def facts(layer: LayerFlow) -> list[str]:
    """What else was found in a layer, one line each."""
    lines = [_ahead(part, norms) for part, norms in layer.ahead.items()]
    if layer.time_constants is not None:
        q = np.quantile(layer.time_constants, [0.1, 0.5, 0.9, 1.0], method="nearest")
        longest = ", ".join(str(u) for u in layer.units_that_remember(0)[:3])
        which = "longest unit" if layer.units == 1 else "longest units"
        lines.append(
            f"time constants of the units: 10 % {q[0]:.3g}, median {q[1]:.3g}, 90 % {q[2]:.3g}, "
            f"longest {q[3]:.3g} steps ({which}: {longest})"
        )
    if layer.lyapunov is not None:
        first = layer.lyapunov.exponents[: min(4, len(layer.lyapunov.exponents))]
        values = ", ".join(f"{value:+.3g}" for value in first)
        settled = "a perturbation dies out at once"
        if np.isfinite(layer.lyapunov.drift):
            settled = f"settled within {layer.lyapunov.drift:.2g}"
        half_life = f"half-life {layer.lyapunov.half_life:.3g} steps"
        lines.append(f"Lyapunov exponents {values} per step, {settled}; {half_life}")
    if layer.singular_values.size:
        s = layer.singular_values
        lines.append(
            f"singular values of ∂sₜ/∂sₜ₋₁: largest {np.median(s[:, 0]):.3g}, median "
            f"{np.median(s):.3g}"
        )
    for letter, gate in layer.gates.items():
        low, high = ("closed", "open") if gate.activation == "sigmoid" else ("low", "high")
        lines.append(
            f"gate {letter}: mean {gate.mean:+.3f}, saturated {low} {_percent(gate.closed)}, "
            f"{high} {_percent(gate.open)}"
        )
    if layer.dead.any():
        some = ", ".join(str(unit) for unit in np.flatnonzero(layer.dead)[:8])
        lines.append(f"dead units: {int(layer.dead.sum())} of {layer.units} ({some})")
    return lines


def _ahead(part: str, norms: Array) -> str:
    """How much losses look at what comes after their own step, by lag."""
    known = np.isfinite(norms)
    mean = np.where(known, norms, 0).sum(axis=0) / np.maximum(1, known.sum(axis=0))
    some = ", ".join(f"{_size(mean[lag - 1])} at −{lag}" for lag in some_lags(len(mean)) if lag)
    return f"losses look ahead: ‖∂E/∂{part}‖ {some}"


def _shares(flow: Flow, width: int) -> list[str]:
    return [SHARES_CAPTION, *_table(share_rows(flow), width)]


def share_rows(flow: Flow) -> list[list[str]]:
    """Each parameter's shares that came through lag 0, 1, 2, …, in a few columns."""
    begins = flow.share_lags
    stops = [i for i in (1, 2, 3, 5, 9, 17, 33, 65, 129, 257, 513) if i <= flow.max_lag]
    cuts = sorted({0, *(int(np.searchsorted(begins, stop)) for stop in stops), len(begins) - 1})
    heads = []
    for left, right in pairwise(cuts):
        first, last = int(begins[left]), int(begins[right]) - 1
        heads.append(str(first) if first == last else f"{first}–{last}")
    rows = [["from lags", *heads]]
    for name, gates in flow.shares.items():
        for gate, values in gates.items():
            label = name if gate == "all" else f"{name} {gate}"
            sums = [values[a:b].sum() for a, b in pairwise(cuts)]
            rows.append([label, *(_percent(value) for value in sums)])
    return rows


def _table(rows: list[list[str]], most: int) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines: list[str] = []
    for left, right in pairwise(_breaks(widths, most)):
        if lines:
            lines.append("")
        for row in rows:
            cells = map(str.rjust, row[left:right], widths[left:right])
            lines.append("  " + "  ".join([row[0].ljust(widths[0]), *cells]))
    return lines


def _breaks(widths: list[int], most: int) -> list[int]:
    """The columns at which a table has to be broken, each part with the first column in front."""
    found, used = [1], 2 + widths[0]
    for column, width in enumerate(widths[1:], 1):
        if used + 2 + width > most and column > found[-1]:
            found.append(column)
            used = 2 + widths[0]
        used += 2 + width
    return [*found, len(widths)]


def _wrapped(sentence: str, width: int, first: str = "", further: str | None = None) -> list[str]:
    """Lines of at most so many columns; further ones are indented like the first, or as given."""
    indent = " " * len(first) if further is None else further
    return wrap(
        sentence,
        width,
        initial_indent=first,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def some_lags(max_lag: int) -> list[int]:
    """A few lags that represent all: 0, 1 and then ever larger steps up to the last."""
    if max_lag < LAGS_IN_A_TABLE:
        return list(range(max_lag + 1))
    spread = np.geomspace(1, max_lag, LAGS_IN_A_TABLE - 1)
    return sorted({0, *(round(lag) for lag in spread)})


def _size(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.2g}"


def _percent(value: float | Array) -> str:
    return "–" if np.isnan(value) else f"{100 * float(value):.0f} %".replace("-0 %", "0 %")
