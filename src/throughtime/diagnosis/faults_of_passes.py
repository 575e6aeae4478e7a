"""Faults of a backward pass, faults of the harness, and places where more is not known."""

from __future__ import annotations

from throughtime.diagnosis.fault import Fault

OF_PASSES = (
    # --- what comes back from the next step ---
    Fault(
        "dh_next_missing",
        "δh from the next step does not reach the step before.",
        "Add Uᵀδz of step t + 1 to δh of step t.",
    ),
    Fault(
        "dc_next_missing",
        "δc from the next step does not reach the step before.",
        "Add f ⊙ δc of step t + 1 to δc of step t.",
    ),
    Fault(
        "dh_overwritten",
        "δh from the next step replaces δh of this step's output, where the two add up.",
        "Write dh = dh_output + dh_next.",
    ),
    Fault(
        "only_last_step_kept",
        "One step's contribution is all that is left of your gradient of {where}: `=` where `+=` "
        "was meant.",
        "Add every step's contribution to the gradient.",
    ),
    Fault(
        "recurrent_untransposed",
        "δh of the step before is U δz; it should be Uᵀδz.",
        "Transpose the recurrent matrix where δ goes back a step.",
    ),
    Fault(
        "direct_path_only",
        "δh goes back along the direct path (1 − z) alone, and not through the gates.",
        "Add what comes back through the gates' pre-activations, Uᵀδz.",
    ),
    Fault(
        "direct_path_missing",
        "δh goes back through the gates alone, and not along the direct path.",
        "Add δh ⊙ z, or δh ⊙ (1 − z), whichever part of h_{{t−1}} your update keeps.",
    ),
    Fault(
        "term_counted_twice",
        "What comes back from the next step is added twice.",
        "Add it once.",
    ),
    Fault(
        "truncated",
        "Your backward pass stops after {k} steps; your loss looks back over all T = {T}.",
        "Carry δ on to the first step, or check the truncated gradient as what it is: "
        "tt.frozen says how.",
    ),
    Fault(
        "wrong_matrix",
        "δh goes back through the wrong block of the weights.",
        "Multiply each gate's δz by the transpose of that gate's own recurrent matrix.",
    ),
    # --- operands ---
    Fault(
        "current_h_for_previous",
        "The gradient of the recurrent weights, {where}, multiplies δz_t by h_t; it should be "
        "h_{{t−1}}.",
        "Take the state before the step: δU = Σ_t δz_t h_{{t−1}}ᵀ.",
    ),
    Fault(
        "current_c_for_previous",
        "The forget gate's δ, in {where}, is δc ⊙ c_t; it should be δc ⊙ c_{{t−1}}.",
        "Take the cell state before the step: δf_t = δc_t ⊙ c_{{t−1}}.",
    ),
    Fault(
        "wrapped_initial_state",
        "At the first step your backward pass reads h at index −1, which is the last state.",
        "Take the initial state for h_{{t−1}} at the first step.",
    ),
    Fault(
        "states_off_by_one",
        "Your backward pass reads every state one place early in a list that begins with h_0.",
        "In a list that begins with h_0, h_t is at index t + 1 and h_{{t−1}} at index t.",
    ),
    Fault(
        "last_cache_at_every_step",
        "Your backward pass uses one step's activations at every step.",
        "Keep every step's activations, each in an object of its own.",
    ),
    Fault(
        "time_reversed",
        "The gradient of the input weights, {where}, multiplies δz_t by the inputs of another "
        "step, as when time is reversed.",
        "Pair each step's δz with that step's own x.",
    ),
    Fault(
        "sequences_swapped",
        "The gradient of the input weights, {where}, multiplies a sequence's δz by another "
        "sequence's inputs.",
        "Pair each sequence's δz with its own x.",
    ),
    # --- a projection, two directions ---
    Fault(
        "projection_untransposed",
        "δh comes back through the projection as R δh; it should be Rᵀδh.",
        "Transpose R where δ goes back from h to m = o ⊙ tanh c: δm = Rᵀδh.",
    ),
    Fault(
        "projection_skipped",
        "δh goes into the cell as if nothing were projected: it does not pass through R.",
        "Take δm = Rᵀδh back first, and go on into the cell from there.",
    ),
    Fault(
        "wrong_projection_operand",
        "The gradient of the projection R is not Σ δh_t m_tᵀ: it has {where}.",
        "Add δh_t m_tᵀ of every step, with all of δh_t and with m_t = o_t ⊙ tanh c_t.",
    ),
    Fault(
        "directions_swapped",
        "What belongs to one direction goes to the other: {where}.",
        "Take the halves apart in the order in which the forward pass joined them.",
    ),
    Fault(
        "direction_not_reversed",
        "What the direction that runs backwards gets or gives is not turned to its own order of "
        "time: {where}.",
        "Reverse δh on its way into that direction and δx on its way out, as the forward pass "
        "reverses x and h.",
    ),
    # --- inside a step ---
    Fault(
        "derivative_of_activated_value",
        "The derivative of an activation, in {where}, is taken at the value already activated.",
        "Write it in terms of the activated value: a (1 − a) for σ, 1 − a² for tanh.",
    ),
    Fault(
        "derivative_missing",
        "The derivative of an activation is missing in {where}.",
        "Multiply δ by a (1 − a) where a = σ(z), by 1 − a² where a = tanh(z).",
    ),
    Fault(
        "gates_swapped_in_dc",
        "δ of the input gate and δ of the candidate are swapped, in {where}: each is multiplied "
        "by its own value and not by the other's.",
        "Write δi = δc ⊙ a and δa = δc ⊙ i.",
    ),
    Fault(
        "update_gate_term_missing",
        "The update gate's δ lacks the term of h_{{t−1}}.",
        "The update mixes two values, so its gate's δ is δh times their difference.",
    ),
    # --- head and data ---
    Fault(
        "softmax_derivative_twice",
        "The derivative of the softmax is applied twice.",
        "The gradient of the cross-entropy by the logits is p − y; nothing is multiplied to it.",
    ),
    Fault(
        "different_loss",
        "Your gradient belongs to another loss: δ of the outputs is not that of the loss you "
        "return.",
        "Derive δ of the outputs from the loss that is returned: p − y for softmax with "
        "cross-entropy.",
    ),
    Fault(
        "targets_shifted",
        "Your backward pass compares each output with the target of another step.",
        "Take the same target at step t in both passes.",
    ),
    Fault(
        "output_gradient_at_every_step",
        "Your backward pass sends the output's error in at every one of T = {T} steps; your loss "
        "looks at the last alone.",
        "Send δh from the output in at the last step, 0 before it.",
    ),
    Fault(
        "output_gradient_at_last_step_only",
        "Your backward pass sends the output's error in at one step alone; your loss looks at "
        "all T = {T}.",
        "Add every step's output gradient to δh of that step.",
    ),
    Fault(
        "padding_counted",
        "Your backward pass counts steps beyond a sequence's end.",
        "Set δ of the outputs to 0 from a sequence's length on.",
    ),
    Fault(
        "dropout_mask_redrawn",
        "Your backward pass drops other units than your forward pass.",
        "Keep the mask of the forward pass and multiply δ by the same one.",
    ),
    Fault(
        "lower_layer_overwritten",
        "The lower layer does not get all of δ.",
        "Hand δx of every step down, each at its own place, both directions' added up.",
    ),
    # --- what the check refuses, since no single gradient shows it ---
    Fault(
        "updated_in_backward",
        "Your backward pass changes the parameters.",
        "Leave the update to the caller.",
    ),
    Fault(
        "random_buffer",
        "Your gradient differs when it is called twice: it adds to a buffer that was not set to 0.",
        "Set every gradient's buffer to 0 before the backward pass.",
    ),
    Fault(
        "accumulated_without_zeroing",
        "Your gradient grows with every call: it adds to that of the call before.",
        "Set the gradients to 0 before every backward pass.",
    ),
    Fault(
        "state_carried",
        "Your loss starts from the state in which the call before ended.",
        "Start every run from the same initial state; tt.Target takes a reset.",
    ),
    Fault(
        "step_too_small",
        "The numerical gradient is quantised: it was taken with too small a step, and says "
        "nothing about yours.",
        "Take larger steps, sum the loss in float64, or leave both to tt.check.",
    ),
    # --- places, where more is not known ---
    Fault(
        "between_steps",
        "Your backward pass loses or distorts what it carries from a step to the one before; "
        "within a step it is right.",
        "Compare how δh and δc are handed back a step with the equations of the cell.",
        family=True,
    ),
    Fault(
        "inside_a_step",
        "Your backward pass is wrong within a single step, in {where}.",
        "Compare the δ of each gate with the equations of the cell.",
        family=True,
    ),
    Fault(
        "output_layer",
        "Your gradient of the output layer is wrong already, and with it what goes back from "
        "there.",
        "Compare δ of the outputs with the derivative of the loss that you return.",
        family=True,
    ),
)
