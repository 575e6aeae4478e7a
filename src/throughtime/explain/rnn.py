"""The vanilla network's backward pass, line by line."""

from __future__ import annotations

from throughtime.explain.derivation import (
    Derivation,
    DerivationLine,
    DerivationSection,
    at_all_steps,
    at_each_step,
    before_the_first,
)
from throughtime.explain.example import example

TANH = (
    DerivationLine(
        "δs_t = ∂E_t/∂s_t + Uᵀ δz_{t+1}",
        "s_t reaches the loss on two paths: through E_t, since it is the output of step t, and "
        "through U into step t + 1. Effects on separate paths add. At t = T there is no step "
        "t + 1, and the second term is 0.",
        ('arriving = dlater | {"h": dlater["h"] + doutputs[t]}',),
        (at_each_step("δs_t", "h", "δh"),),
    ),
    DerivationLine(
        "δz_t = δs_t ⊙ (1 − s_t²)",
        "s_t = tanh z_t unit by unit, so that each unit's gradient is multiplied by its own "
        "slope, 1 − tanh² z. The slope is 1 at z = 0 and near 0 where the unit is saturated.",
        ('dz = ds * (tanh_slope(s) if self.nonlinearity == "tanh" else relu_slope(s))',),
        (at_each_step("δz_t", "z", "δz"),),
    ),
    DerivationLine(
        "step t's part of δs_{t−1} = Uᵀ δz_t",
        "s_{t−1,j} enters every pre-activation z_{t,i}, with the weight U_ij. Summing over all "
        "i that it reaches, Σ_i U_ij δz_{t,i}, is the product with the transposed matrix.",
        ('return dz, {"h": dz @ p["U"]}, {"h": ds}',),
        (at_each_step("Uᵀ δz_t", "h_before"),),
    ),
    DerivationLine(
        "δx_t = Wᵀ δz_t",
        "The same for the input, which enters every pre-activation through W.",
        ("return (rows(dz) @ W).reshape(*dz.shape[:-1], W.shape[1])",),
        (at_each_step("δx_t", "x", "δx"),),
    ),
    DerivationLine(
        "δW = Σ_t δz_t x_tᵀ",
        "At one step, W_ij multiplies x_{t,j} and feeds z_{t,i} alone: its effect is δz_{t,i} "
        "x_{t,j}. One W serves all steps, so that moving it moves all steps' z at once, and the "
        "effects add. Nothing divides by T unless the loss does.",
        (
            '"W": weight_gradient(dz, tape.inputs, self.inputs),',
            "return rows(left).T @ rows(right)",
        ),
        (
            at_each_step("W moved at step t alone", "W"),
            at_all_steps("δW, moved at all steps", "W"),
        ),
    ),
    DerivationLine(
        "δU = Σ_t δz_t s_{t−1}ᵀ",
        "U multiplies the previous state where W multiplies the input; otherwise the same.",
        ('"U": outer_sum(dz, tape.states["h"][:-1]),',),
        (
            at_each_step("U moved at step t alone", "U"),
            at_all_steps("δU, moved at all steps", "U"),
        ),
    ),
    DerivationLine(
        "δb = Σ_t δz_t",
        "A bias is a weight whose input is always 1.",
        ('"b": dz.sum(axis=(0, 1)),',),
        (at_all_steps("δb", "b"),),
    ),
    DerivationLine(
        "δs_0 = Uᵀ δz_1",
        "The state before the first step is no output: only the path through U is left.",
        ("dlater = dbefore", "state=dlater,"),
        (before_the_first("δs_0", "h"),),
    ),
)

RELU = (
    DerivationLine(
        "δz_t = δs_t ⊙ [z_t > 0]",
        "max(z, 0) has the slope 1 above 0 and 0 below: a unit passes its gradient whole or not "
        "at all. All other lines stay as they are.",
        ('dz = ds * (tanh_slope(s) if self.nonlinearity == "tanh" else relu_slope(s))',),
        (
            at_each_step("δz_t", "z", "δz"),
            at_all_steps("δU", "U"),
        ),
    ),
)

RNN = Derivation(
    "rnn",
    "The vanilla recurrent network",
    ("cells/rnn.py", "cells/recurrence.py", "functions.py"),
    (
        DerivationSection(
            "tanh",
            ("z_t = W x_t + U s_{t−1} + b", "s_t = tanh z_t"),
            lambda seed: example("rnn", seed),
            TANH,
        ),
        DerivationSection(
            "ReLU",
            ("s_t = max(z_t, 0)",),
            lambda seed: example("rnn relu", seed),
            RELU,
        ),
    ),
)
