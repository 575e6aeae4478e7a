"""The layouts of the styles: how each implementation stores its matrices."""

from __future__ import annotations

from typing import Any

import numpy as np

from corpus import Setting
from throughtime.diagnosis import layouts
from throughtime.diagnosis.layouts import Layout

HELD: dict[str, dict[str, Any]] = {
    "gate_by_gate": {"W": "W{gate}", "U": "U{gate}", "b": "b{gate}", "head": "V", "head_bias": "c"},
    "concatenated": {"combined": "hx", "transposed": True, "head": "Wy", "head_bias": "by"}
    | {"head_transposed": True},
    "torch_function": {"W": "W_ih", "U": "W_hh", "b": "b_ih", "second_bias": "b_hh"}
    | {"head": "weight", "head_bias": "bias"},
    "compiled": {"W": "W", "combined": "xh", "head": "V", "head_bias": "c"},
}
CELLS: dict[tuple[str, str], dict[str, Any]] = {
    ("gate_by_gate", "LSTM"): {"order": "fioc"},
    ("gate_by_gate", "GRU"): {"order": "zrh", "reset_after": False, "keep": "1-z"},
    ("concatenated", "LSTM"): {"order": "ifog"},
    ("concatenated", "GRU"): {"reset_after": False},
}


def layout_of(style: str, s: Setting) -> Layout:
    """The layout of an implementation, its data and its loss."""
    held = HELD[style] | CELLS.get((style, s.cell), {})
    if style == "concatenated":
        ways = ("", "r")[: s.D]
        lanes = [f"{layer + 1}{way}" for layer in range(s.layers) for way in ways]
        names = {letter: tuple(letter + lane for lane in lanes) for letter in "WbR"}
        held = held | {"W": names["W"], "b": names["b"]}
        if s.projection:
            held = held | {"projection": names["R"]}
    regression = s.task == "regression"
    loss = ("root_squared_error" if s.root else "squared_error") if regression else "softmax"
    if s.cell == "RNN":
        held = held | {"nonlinearity": s.activation}
    start = np.array([[s.start(2 * n), s.start(2 * n + 1)] for n in range(s.layers * s.D)])
    make: Any = {"LSTM": layouts.lstm, "GRU": layouts.gru, "RNN": layouts.rnn}[s.cell]
    found: layouts.Layout = make(
        s.inputs(),
        s.answers() if regression else s.labels(),
        loss=loss,
        time=s.time,
        batch=s.batch,
        last=regression,
        layers=s.layers,
        bidirectional=s.bidirectional,
        lengths=s.lengths(),
        h0=start[:, 0, :, : s.P],
        c0=start[:, 1],
        decay=s.decay,
        mask=_mask(s),
        **held,
    )
    return found


def _mask(s: Setting) -> np.ndarray[Any, Any] | None:
    """The mask of the head: the first one that the generator draws after a reset."""
    if not s.dropout:
        return None
    kept = np.random.default_rng(s.seed).random((s.T, s.B, s.D * s.P)) >= s.dropout
    return np.asarray(kept / (1 - s.dropout), s.dtype)
