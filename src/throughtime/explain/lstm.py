"""The LSTM's backward pass, line by line."""

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

PLAIN = (
    DerivationLine(
        "δh_t = ∂E_t/∂h_t + Uᵀ δz_{t+1}",
        "h_t reaches the loss on two paths: through E_t, since it is the output of step t, and "
        "through the four gates of step t + 1. Effects on separate paths add. At t = T there is "
        "no step t + 1, and the second term is 0.",
        ('arriving = dlater | {"h": dlater["h"] + doutputs[t]}',),
        (at_each_step("δh_t", "h", "δh"),),
    ),
    DerivationLine(
        "δo_t = δh_t ⊙ tanh c_t",
        "o_t is used once, in h_t = o_t ⊙ tanh c_t, unit by unit: the derivative of a product "
        "by one factor is the other factor. (Without a projection, dm is δh.)",
        ("do = dm * tanh_c  # h = o ⊙ tanh c",),
        (at_each_step("δo_t", "o"),),
    ),
    DerivationLine(
        "δz_o = δo_t ⊙ o_t ⊙ (1 − o_t)",
        "o = σ(z_o), and the slope of σ is σ(1 − σ): at most 1/4, and near 0 where the gate is "
        "fully open or shut.",
        ("dz_o = do * sigmoid_slope(o)",),
        (at_each_step("δz_o", "z_o", "δz_o"),),
    ),
    DerivationLine(
        "δc_t = δc_{t+1} ⊙ f_{t+1} + δh_t ⊙ o_t ⊙ (1 − tanh² c_t)",
        "c_t is used twice: step t + 1 carries it on, multiplied by f_{t+1} (term 1), and step "
        "t shows it through h_t = o_t ⊙ tanh c_t (term 2). Both must be there, and no shape "
        "tells if one is missing.",
        ("dc = dc + dm * o * tanh_slope(tanh_c)",),
        (
            at_each_step("term 1, c as step t+1 sees it", "c_carried"),
            at_each_step(
                "term 2, c as h_t sees it",
                "c_in_h",
            ),
            at_each_step(
                "δc_t, both",
                "c",
                "δc",
            ),
        ),
    ),
    DerivationLine(
        "δi_t = δc_t ⊙ a_t",
        "c_t = i_t ⊙ a_t + f_t ⊙ c_{t−1} is the only place where i_t is used; the other factor "
        "is a_t.",
        ("di = dc * a  # c = i ⊙ a + f ⊙ c_{t−1}",),
        (at_each_step("δi_t", "i"),),
    ),
    DerivationLine(
        "δa_t = δc_t ⊙ i_t",
        "The same product, by its other factor: an input gate near 0 keeps the candidate from "
        "learning as well as from being stored.",
        ("da = dc * i",),
        (at_each_step("δa_t", "a"),),
    ),
    DerivationLine(
        "δf_t = δc_t ⊙ c_{t−1}",
        "The second product of c_t, by f_t: what the gate lets through is the old cell state, "
        "so that is what it is blamed with.",
        ('df = dc * before["c"]',),
        (at_each_step("δf_t", "f"),),
    ),
    DerivationLine(
        "δz_i = δi_t ⊙ i_t ⊙ (1 − i_t)   δz_f = δf_t ⊙ f_t ⊙ (1 − f_t)",
        "Two sigmoids again.",
        ("dz_i = di * sigmoid_slope(i)", "dz_f = df * sigmoid_slope(f)"),
        (
            at_each_step("δz_i", "z_i", "δz_i"),
            at_each_step("δz_f", "z_f", "δz_f"),
        ),
    ),
    DerivationLine(
        "δz_a = δa_t ⊙ (1 − a_t²)",
        "The candidate is a tanh, and its slope in terms of its value is 1 − a².",
        ("dz_a = da * tanh_slope(a)",),
        (at_each_step("δz_a", "z_a", "δz_a"),),
    ),
    DerivationLine(
        "step t's part of δc_{t−1} = δc_t ⊙ f_t",
        "The error carousel: from cell state to cell state, no matrix and no squashing function "
        "in between, one factor a unit and step. In 1997 that factor was the constant 1. Since "
        "the forget gate came (2000) it is f_t, between 0 and 1, which the network itself sets: "
        "after n steps the product of n of them is left.",
        ("dc_before = dc * f  # the error carousel",),
        (at_each_step("δc_t ⊙ f_t", "c_before"),),
    ),
    DerivationLine(
        "step t's part of δh_{t−1} = Uᵀ δz_t",
        "h_{t−1} enters z_i, z_f, z_a and z_o, each through its own block of U. Four paths, so "
        "four terms: U_iᵀ δz_i + U_fᵀ δz_f + U_aᵀ δz_a + U_oᵀ δz_o. With the four blocks "
        "stacked in one U and the four δz in one δz, that sum is the one product Uᵀ δz.",
        ('dh_before = dz @ p["U"]  # Uᵀ δz: the sum over the four gates',),
        (
            at_each_step("through i", "h_in_i"),
            at_each_step("through f", "h_in_f"),
            at_each_step("through a", "h_in_a"),
            at_each_step("through o", "h_in_o"),
            at_each_step("Uᵀ δz_t, all four", "h_before"),
        ),
    ),
    DerivationLine(
        "δx_t = Wᵀ δz_t",
        "The input enters the same four gates, through W.",
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
        "δU = Σ_t δz_t h_{t−1}ᵀ",
        "U multiplies the previous output where W multiplies the input; otherwise the same.",
        ('"U": outer_sum(dz, h[:-1]),',),
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
        "δh_0 = Uᵀ δz_1   δc_0 = δc_1 ⊙ f_1",
        "The state before the first step has no error of its own and no tanh to show itself "
        "through: only the paths into step 1 are left.",
        ("dlater = dbefore", "state=dlater,"),
        (
            before_the_first("δh_0", "h"),
            before_the_first("δc_0", "c"),
        ),
    ),
)

# What peepholes and projection add.

PEEPHOLES = (
    DerivationLine(
        "δc_t = (what step t + 1 sends) + δh_t ⊙ o_t ⊙ (1 − tanh² c_t) + δz_o ⊙ p_o",
        "The output gate now sees c_t, weighted by p_o: a third path. It is the gate of the "
        "same step, which is why δz_o must be known before δc_t.",
        ("dc = dc + dz_o * p_o  # term 3: the output gate sees c_t",),
        (
            at_each_step("term 3, c as o_t sees it", "c_in_o"),
            at_each_step("δc_t, all three", "c", "δc"),
        ),
    ),
    DerivationLine(
        "step t's part of δc_{t−1} = δc_t ⊙ f_t + δz_i ⊙ p_i + δz_f ⊙ p_f",
        "Input and forget gate see c_{t−1}: beside the carousel there are two more ways from "
        "cell state to cell state, and these do pass through a squashing function.",
        ("dc_before = dc_before + dz_i * p_i + dz_f * p_f",),
        (
            at_each_step("through i", "c_in_i"),
            at_each_step("through f", "c_in_f"),
            at_each_step("the carousel alone", "c_kept"),
            at_each_step("all three", "c_before"),
        ),
    ),
    DerivationLine(
        "δp_i = Σ_t δz_i ⊙ c_{t−1}   δp_f = Σ_t δz_f ⊙ c_{t−1}   δp_o = Σ_t δz_o ⊙ c_t",
        "A peephole is a weight from one unit to its own gate: no matrix, so no outer product. "
        "Each is paired with the cell state that it saw, before the step or after it.",
        ("terms = [dz_i * c[:-1], dz_f * c[:-1], dz_o * c[1:]]",),
        (
            at_each_step("p moved at step t alone", "p"),
            at_all_steps("δp, moved at all steps", "p"),
        ),
    ),
)

PROJECTION = (
    DerivationLine(
        "δm_t = Rᵀ δh_t",
        "What used to be h_t is now m_t, and reaches everything else through R alone.",
        ('dm = dh @ p["R"] if self.projection else dh',),
        (at_each_step("δm_t", "m"),),
    ),
    DerivationLine(
        "δo_t = δm_t ⊙ tanh c_t",
        "As before, with δm_t in place of δh_t.",
        ("do = dm * tanh_c  # h = o ⊙ tanh c",),
        (at_each_step("δo_t", "o"),),
    ),
    DerivationLine(
        "δc_t = δc_{t+1} ⊙ f_{t+1} + δm_t ⊙ o_t ⊙ (1 − tanh² c_t)",
        "The same here: the carousel runs in the H cell states and knows nothing of R.",
        ("dc = dc + dm * o * tanh_slope(tanh_c)",),
        (
            at_each_step(
                "δc_t",
                "c",
                "δc",
            ),
        ),
    ),
    DerivationLine(
        "δR = Σ_t δh_t m_tᵀ",
        "R is a weight like any other: the gradient of what it feeds times what it multiplies. "
        "δh_t is the full one, with what comes from step t + 1.",
        ('gradients["R"] = outer_sum(deltas["h"], m)',),
        (
            at_each_step("R moved at step t alone", "R"),
            at_all_steps("δR, moved at all steps", "R"),
        ),
    ),
)

LSTM = Derivation(
    "lstm",
    "Long short-term memory",
    ("cells/lstm.py", "cells/recurrence.py", "functions.py"),
    (
        DerivationSection(
            "as it stands today, with forget gate",
            (
                "z = W x_t + U h_{t−1} + b, in four blocks z_i, z_f, z_a, z_o",
                "i_t = σ(z_i)   f_t = σ(z_f)   a_t = tanh z_a   o_t = σ(z_o)",
                "c_t = i_t ⊙ a_t + f_t ⊙ c_{t−1}",
                "h_t = o_t ⊙ tanh c_t",
            ),
            lambda seed: example("lstm", seed),
            PLAIN,
        ),
        DerivationSection(
            "with peepholes: the lines that change",
            ("z_i = … + p_i ⊙ c_{t−1}   z_f = … + p_f ⊙ c_{t−1}   z_o = … + p_o ⊙ c_t",),
            lambda seed: example("lstm peepholes", seed),
            PEEPHOLES,
        ),
        DerivationSection(
            "with a projection: the lines that change",
            ("m_t = o_t ⊙ tanh c_t   h_t = R m_t",),
            lambda seed: example("lstm projection", seed),
            PROJECTION,
        ),
    ),
)
