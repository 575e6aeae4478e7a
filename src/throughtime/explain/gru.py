"""The GRU's backward pass, line by line, in both forms of its reset gate."""

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

RESET_AFTER = (
    DerivationLine(
        "δh_t = ∂E_t/∂h_t + (what step t + 1 sends: line 7)",
        "h_t reaches the loss through E_t, as the output of step t, and through step t + 1, "
        "which uses it four times. Effects on separate paths add.",
        ('arriving = dlater | {"h": dlater["h"] + doutputs[t]}',),
        (at_each_step("δh_t", "h", "δh"),),
    ),
    DerivationLine(
        "δn_t = δh_t ⊙ (1 − z_t)",
        "The candidate is used once, in h_t = (1 − z_t) ⊙ n_t + z_t ⊙ h_{t−1}.",
        ("dn = dh * (1 - z)  # h = (1 − z) ⊙ n + z ⊙ h_{t−1}",),
        (at_each_step("δn_t", "n"),),
    ),
    DerivationLine(
        "δz_n = δn_t ⊙ (1 − n_t²)",
        "The candidate is a tanh.",
        ("dz_n = dn * tanh_slope(n)",),
        (at_each_step("δz_n", "z_n", "δz_n"),),
    ),
    DerivationLine(
        "δ(z_t) = δh_t ⊙ (h_{t−1} − n_t)   δz_z = δ(z_t) ⊙ z_t ⊙ (1 − z_t)",
        "The update gate mixes old and new: raising it by a little takes that much of n_t away "
        "and puts h_{t−1} in its place. (z_t is the gate; z_r, z_z, z_n are pre-activations.)",
        ("dz_z = dh * (h_before - n) * sigmoid_slope(z)",),
        (
            at_each_step("δ(z_t), the gate", "z"),
            at_each_step(
                "δz_z, before its σ",
                "z_z",
                "δz_z",
            ),
        ),
    ),
    DerivationLine(
        "δr_t = δz_n ⊙ (U_n h_{t−1} + c)",
        "The reset gate scales the finished product u_n = U_n h_{t−1} + c inside the candidate, "
        "so that product is its factor. This is why the forward pass keeps u_n.",
        ("dr = dz_n * u_n",),
        (at_each_step("δr_t", "r"),),
    ),
    DerivationLine(
        "δz_r = δr_t ⊙ r_t ⊙ (1 − r_t)",
        "The slope of σ.",
        ("dz_r = dr * sigmoid_slope(r)",),
        (at_each_step("δz_r", "z_r", "δz_r"),),
    ),
    DerivationLine(
        "step t's part of δh_{t−1} = δh_t ⊙ z_t + U_nᵀ(δz_n ⊙ r_t)   + U_rᵀ δz_r + U_zᵀ δz_z",
        "Four uses, four terms: the leak (what z_t keeps; the GRU's own carousel, whose factor "
        "is z_t and not 1), the candidate (through r_t, then U_n), and the two gates.",
        (
            "dh_before = dh * z  # term 1: the leak",
            "dh_before = dh_before + (dz_n * r) @ U_n  # term 2: through the candidate",
            'dh_before = dh_before + dz_rz @ p["U"][: 2 * H]',
        ),
        (
            at_each_step("the leak", "h_leaked"),
            at_each_step("through the candidate", "h_in_n"),
            at_each_step("through r", "h_in_r"),
            at_each_step("through z", "h_in_z"),
            at_each_step("all four", "h_before"),
        ),
    ),
    DerivationLine(
        "δx_t = Wᵀ δz_t",
        "The input enters both gates and the candidate, through its three blocks of W.",
        ("return (rows(dz) @ W).reshape(*dz.shape[:-1], W.shape[1])",),
        (at_each_step("δx_t", "x", "δx"),),
    ),
    DerivationLine(
        "δW = Σ_t δz_t x_tᵀ   δb = Σ_t δz_t",
        "One W serves all steps: each step's effect is δz_t x_tᵀ, and moving W once moves them "
        "all, so the effects add. A bias is a weight whose input is always 1.",
        (
            'gradients = {"W": weight_gradient(dz, tape.inputs, self.inputs)}',
            'gradients["b"] = dz.sum(axis=(0, 1))',
        ),
        (
            at_each_step("W moved at step t alone", "W"),
            at_all_steps("δW, moved at all steps", "W"),
            at_all_steps("δb", "b"),
        ),
    ),
    DerivationLine(
        "δU_r = Σ_t δz_r h_{t−1}ᵀ   δU_z = Σ_t δz_z h_{t−1}ᵀ   δU_n = Σ_t (δz_n ⊙ r_t) h_{t−1}ᵀ",
        "U_r and U_z feed their pre-activations directly. What U_n feeds is multiplied by r_t "
        "first, so that its gradient passes r_t on the way back; δz_n alone would be wrong.",
        (
            "dU_n = outer_sum(dz_n * r, h_before) if self.reset_after else",
            'gradients["U"] = np.concatenate([outer_sum(dz_rz, h_before), dU_n])',
        ),
        (
            at_each_step("U moved at step t alone", "U"),
            at_all_steps("δU, moved at all steps", "U"),
        ),
    ),
    DerivationLine(
        "δc = Σ_t δz_n ⊙ r_t",
        "The candidate's recurrent bias stands beside U_n h_{t−1}, behind the reset gate: that "
        "is what tells it from b_n, and why it cannot be merged with it.",
        ('gradients["c"] = (dz_n * r).sum(axis=(0, 1))',),
        (at_all_steps("δc", "c"),),
    ),
    DerivationLine(
        "δh_0 = (what step 1 sends)",
        "The state before the first step has no error of its own.",
        ("dlater = dbefore", "state=dlater,"),
        (before_the_first("δh_0", "h"),),
    ),
)

ORIGINAL = (
    DerivationLine(
        "δ(r_t ⊙ h_{t−1}) = U_nᵀ δz_n",
        "Here the reset gate acts on the state, and U_n multiplies what is left of it: going "
        "back, U_nᵀ comes first.",
        ("dreset = dz_n @ U_n  # with respect to r ⊙ h_{t−1}",),
        (at_each_step("δ(r_t ⊙ h_{t−1})", "r⊙h"),),
    ),
    DerivationLine(
        "δr_t = U_nᵀ δz_n ⊙ h_{t−1}",
        "The gate's factor is the state itself, no longer the finished product.",
        ("dr = dreset * h_before",),
        (
            at_each_step("δr_t", "r"),
            at_each_step(
                "δz_r, before its σ",
                "z_r",
                "δz_r",
            ),
        ),
    ),
    DerivationLine(
        "step t's part of δh_{t−1} = δh_t ⊙ z_t + U_nᵀ δz_n ⊙ r_t   + U_rᵀ δz_r + U_zᵀ δz_z",
        "r_t now multiplies after U_nᵀ, since going forward it came before U_n.",
        ("dh_before = dh_before + dreset * r  # term 2: through the candidate",),
        (
            at_each_step("through the candidate", "h_in_n"),
            at_each_step("all four", "h_before"),
        ),
    ),
    DerivationLine(
        "δU_n = Σ_t δz_n (r_t ⊙ h_{t−1})ᵀ",
        "What U_n multiplies is r_t ⊙ h_{t−1}, and what it feeds is z_n itself.",
        ("else outer_sum(dz_n, r * h_before)",),
        (at_all_steps("δU, all three blocks", "U"),),
    ),
)

GRU = Derivation(
    "gru",
    "Gated recurrent unit",
    ("cells/gru.py", "cells/recurrence.py", "functions.py"),
    (
        DerivationSection(
            "the reset gate acts after the product",
            (
                "r_t = σ(W_r x_t + U_r h_{t−1} + b_r)   z_t = σ(W_z x_t + U_z h_{t−1} + b_z)",
                "n_t = tanh(W_n x_t + b_n + r_t ⊙ (U_n h_{t−1} + c))",
                "h_t = (1 − z_t) ⊙ n_t + z_t ⊙ h_{t−1}",
            ),
            lambda seed: example("gru", seed),
            RESET_AFTER,
        ),
        DerivationSection(
            "as published, reset before the product: the lines that change",
            ("n_t = tanh(W_n x_t + b_n + U_n (r_t ⊙ h_{t−1}))",),
            lambda seed: example("gru original", seed),
            ORIGINAL,
        ),
    ),
)
