"""Faults that a gradient shows by itself: factors, rearrangements, what is added or cut."""

from __future__ import annotations

from throughtime.diagnosis.fault import Fault

OF_GRADIENTS = (
    # --- how the loss is reduced: one factor in every tensor ---
    Fault(
        "averaged_over_steps",
        "Your backward pass divides by T = {T}; your loss does not.",
        "Remove the division by T from the backward pass, or average the loss over the steps too.",
    ),
    Fault(
        "summed_over_steps",
        "Your loss is a mean over T = {T} steps; your backward pass does not divide by T.",
        "Divide δ of every step's output by T, or sum the loss over the steps.",
    ),
    Fault(
        "divided_by_batch",
        "Your backward pass divides by B = {B}; your loss does not.",
        "Remove the division by B from the backward pass, or average the loss over the sequences.",
    ),
    Fault(
        "summed_over_batch",
        "Your loss is a mean over B = {B} sequences; your backward pass does not divide by B.",
        "Divide δ of every output by B, or sum the loss over the sequences.",
    ),
    Fault(
        "divided_by_classes",
        "Your backward pass divides by the number of classes, {O}; your loss does not.",
        "Remove the division: the gradient of a cross-entropy by its logits is p − y, a sum over "
        "no classes.",
    ),
    Fault(
        "averaged_over_outputs",
        "Your loss is a mean over {O} outputs; your backward pass does not divide by their number.",
        "Divide δ of the outputs by {O}, or sum the squared errors in the loss.",
    ),
    Fault(
        "factor_two",
        "Your gradient is twice the gradient of your loss, in every tensor.",
        "Halve δ of the output, or write the loss without its ½.",
    ),
    Fault(
        "factor_half",
        "Your gradient is half the gradient of your loss, in every tensor.",
        "Double δ of the output.",
    ),
    Fault(
        "half_squared_error",
        "Your gradient is that of half the squared error; your loss has no ½.",
        "Put the 2 into δ of the output, 2 (y − ŷ), or the ½ into the loss.",
    ),
    Fault(
        "root_taken",
        "Your loss is the root of a mean square; your gradient is that of the mean square itself.",
        "Divide δ of the output by twice the loss, or leave the root out of the loss.",
    ),
    Fault(
        "wrong_sign",
        "Your gradient has the wrong sign: it is minus the gradient of your loss.",
        "Turn the sign of δ of the output, p − y, or return the gradient and not the update.",
    ),
    Fault(
        "scaled",
        "Your gradient is {factor} times the gradient of your loss, in every tensor.",
        "Look for a factor of {factor} between the loss and δ of the output.",
    ),
    # --- one tensor, one gate ---
    Fault(
        "tensor_scaled",
        "Your gradient of {where} is {factor} times what it should be; the rest is right.",
        "Look for a factor of {factor} where the gradient of {where} is added up or handed over.",
    ),
    Fault(
        "gate_scaled",
        "Your gradient of {where} is {factor} times what it should be, in all that belongs to "
        "this gate.",
        "Look for a factor of {factor} in this gate's δz.",
    ),
    Fault(
        "bias_averaged",
        "Your gradient of {where} is a mean over {over}; a bias needs the sum.",
        "Sum δz over steps and sequences for the bias, as the products do for the weights.",
    ),
    Fault(
        "bias_counted_twice",
        "Your gradient of {where} counts it twice, as if it were two biases.",
        "Where two biases act as one, each has the whole gradient, and their sum has it once.",
    ),
    Fault(
        "zero_gradient",
        "Your gradient of {where} is exactly 0; the loss depends on it.",
        "See whether δ is added into a temporary or a copy instead of the gradient that is handed "
        "over.",
    ),
    Fault(
        "gradient_transposed",
        "Your gradient of {where} is transposed.",
        "Swap the operands of its outer product, or the order in which its memory is read.",
    ),
    Fault(
        "gates_permuted",
        "The gates of your gradient stand in another order than in your parameters: {where}.",
        "Put the blocks of δz in the order in which the forward pass takes them.",
    ),
    Fault(
        "bias_of_gate_copied",
        "Your gradient of {where} is a copy of that of {other}.",
        "Hand over this gate's own sum of δz.",
    ),
    # --- what is added, cut or lost ---
    Fault(
        "weight_decay_missing",
        "Your gradient lacks the L2 term of your loss: {factor} W is missing in {where}.",
        "Add {factor} W to the gradient, or leave the L2 term out of the loss.",
    ),
    Fault(
        "weight_decay_doubled",
        "Your gradient has {factor} W more than your loss accounts for, in {where}: an L2 term "
        "counted twice, or one that the loss does not have.",
        "Add the L2 term's gradient once, and only where the loss has it.",
    ),
    Fault(
        "clipped_by_value",
        "Your gradient is clipped: no entry exceeds {limit}.",
        "Clip after the check, in the update; a clipped gradient is not the loss's.",
    ),
    Fault(
        "clipped_by_norm",
        "Your gradient is clipped: its norm is held at {limit}.",
        "Clip after the check, in the update; a clipped gradient is not the loss's.",
    ),
)
