"""What peepholes and projection add to the LSTM's backward pass."""

from __future__ import annotations

import numpy as np

from throughtime.arrays import Array
from throughtime.explain.derivation import Line, at_all_steps, at_each_step, later, outer
from throughtime.explain.example import Example


def _to_c_before(e: Example) -> Array:
    """δc_t ⊙ f_t + δz_i ⊙ p_i + δz_f ⊙ p_f, (T, H)."""
    p_i, p_f, _ = np.split(e.p["p"], 3)
    part: Array = e["δc"] * e["f"] + e["δz_i"] * p_i + e["δz_f"] * p_f
    return part


def _to_c(e: Example) -> Array:
    """The three terms of δc_t, (T, H)."""
    p_o = np.split(e.p["p"], 3)[2]
    through_h = e["δh"] * e["o"] * (1 - e["tanh_c"] ** 2)
    total: Array = later(_to_c_before(e)) + through_h + e["δz_o"] * p_o
    return total


def _peephole_gradient(e: Example) -> Array:
    """δp_i, δp_f, δp_o one after the other, each step's own, (T, 3H)."""
    terms = [e["δz_i"] * e["c_before"], e["δz_f"] * e["c_before"], e["δz_o"] * e["c"]]
    return np.concatenate(terms, axis=1)


def _m(e: Example) -> Array:
    m: Array = e["o"] * e["tanh_c"]
    return m


def _dm(e: Example) -> Array:
    dm: Array = e["δh"] @ e.p["R"]
    return dm


PEEPHOLES = (
    Line(
        "δc_t = (what step t + 1 sends) + δh_t ⊙ o_t ⊙ (1 − tanh² c_t) + δz_o ⊙ p_o",
        "The output gate now sees c_t, weighted by p_o: a third path. It is the gate of the "
        "same step, which is why δz_o must be known before δc_t.",
        ("dc = dc + dz_o * p_o  # term 3: the output gate sees c_t",),
        (
            at_each_step(
                "term 3, c as o_t sees it", "c_in_o", lambda e: e["δz_o"] * np.split(e.p["p"], 3)[2]
            ),
            at_each_step("δc_t, all three", "c", _to_c, "δc"),
        ),
    ),
    Line(
        "step t's part of δc_{t−1} = δc_t ⊙ f_t + δz_i ⊙ p_i + δz_f ⊙ p_f",
        "Input and forget gate see c_{t−1}: beside the carousel there are two more ways from "
        "cell state to cell state, and these do pass through a squashing function.",
        ("dc_before = dc_before + dz_i * p_i + dz_f * p_f",),
        (
            at_each_step("through i", "c_in_i", lambda e: e["δz_i"] * np.split(e.p["p"], 3)[0]),
            at_each_step("through f", "c_in_f", lambda e: e["δz_f"] * np.split(e.p["p"], 3)[1]),
            at_each_step("the carousel alone", "c_kept", lambda e: e["δc"] * e["f"]),
            at_each_step("all three", "c_before", _to_c_before),
        ),
    ),
    Line(
        "δp_i = Σ_t δz_i ⊙ c_{t−1}   δp_f = Σ_t δz_f ⊙ c_{t−1}   δp_o = Σ_t δz_o ⊙ c_t",
        "A peephole is a weight from one unit to its own gate: no matrix, so no outer product. "
        "Each is paired with the cell state that it saw, before the step or after it.",
        ("terms = [dz_i * c[:-1], dz_f * c[:-1], dz_o * c[1:]]",),
        (
            at_each_step("p moved at step t alone", "p", _peephole_gradient),
            at_all_steps(
                "δp, moved at all steps", "p", lambda e: _peephole_gradient(e).sum(axis=0)
            ),
        ),
    ),
)

PROJECTION = (
    Line(
        "δm_t = Rᵀ δh_t",
        "What used to be h_t is now m_t, and reaches everything else through R alone.",
        ('dm = dh @ p["R"] if self.projection else dh',),
        (at_each_step("δm_t", "m", _dm),),
    ),
    Line(
        "δo_t = δm_t ⊙ tanh c_t",
        "As before, with δm_t in place of δh_t.",
        ("do = dm * tanh_c  # h = o ⊙ tanh c",),
        (at_each_step("δo_t", "o", lambda e: _dm(e) * e["tanh_c"]),),
    ),
    Line(
        "δc_t = δc_{t+1} ⊙ f_{t+1} + δm_t ⊙ o_t ⊙ (1 − tanh² c_t)",
        "The same here: the carousel runs in the H cell states and knows nothing of R.",
        ("dc = dc + dm * o * tanh_slope(tanh_c)",),
        (
            at_each_step(
                "δc_t",
                "c",
                lambda e: later(e["δc"] * e["f"]) + _dm(e) * e["o"] * (1 - e["tanh_c"] ** 2),
                "δc",
            ),
        ),
    ),
    Line(
        "δR = Σ_t δh_t m_tᵀ",
        "R is a weight like any other: the gradient of what it feeds times what it multiplies. "
        "δh_t is the full one, with what comes from step t + 1.",
        ('gradients["R"] = outer_sum(deltas["h"], m)',),
        (
            at_each_step("R moved at step t alone", "R", lambda e: outer(e["δh"], _m(e))),
            at_all_steps("δR, moved at all steps", "R", lambda e: e["δh"].T @ _m(e)),
        ),
    ),
)
