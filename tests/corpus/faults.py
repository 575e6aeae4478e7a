"""The mistakes: a name, what it is in one sentence, and the network in which it shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

CELLS = ("RNN", "GRU", "LSTM")


@dataclass(frozen=True)
class Fault:
    """One mistake.

    Attributes:
        statement: what the backward pass does.
        one_step: whether the gradient is right at T = 1; None where that depends on the code.
        needs: what of a `Setting` the mistake takes to show.
        at_least: smallest sizes at which it does.
        shows_in: "gradient", which differs from the true one; or "harness": two calls at the same
            point differ, or the parameters do after a call.
        cells: those that can have it.
    """

    statement: str
    one_step: bool | None = False
    needs: Mapping[str, Any] = field(default_factory=dict)
    at_least: Mapping[str, int] = field(default_factory=dict)
    shows_in: Literal["gradient", "harness"] = "gradient"
    cells: tuple[str, ...] = CELLS


SEVERAL = {"T": 3}
REGRESSION = {"task": "regression"}
SOFTMAX: dict[str, Any] = {"task": "softmax"}
TRUNCATED_AT = 3  # steps
CLIPPED_AT = 0.1  # largest entry
CLIPPED_TO = 0.25  # norm of all
SCALED_BY = 1.5  # a tensor or a gate


def _later(statement: str, *, cells: tuple[str, ...] = CELLS, **needs: Any) -> Fault:
    """A mistake that a single step hides."""
    return Fault(statement, True, needs, SEVERAL, cells=cells)


FAULTS: dict[str, Fault] = {
    # --- how the loss is reduced ---
    "averaged_over_steps": _later("divides by T, the loss does not", time="sum", **SOFTMAX),
    "summed_over_steps": _later(
        "sums over the steps, the loss is their mean", time="mean", **SOFTMAX
    ),
    "divided_by_batch": Fault(
        "divides by B, the loss does not", needs=SOFTMAX | {"batch": "sum"}, at_least={"B": 2}
    ),
    "divided_by_classes": Fault("divides by the number of classes", needs=SOFTMAX),
    "factor_two": Fault("is twice the gradient"),
    "factor_half": Fault("is half the gradient"),
    "wrong_sign": Fault("is minus the gradient"),
    "tensor_scaled": Fault(f"multiplies one tensor's gradient by {SCALED_BY}"),
    "gate_scaled": Fault(f"multiplies one gate's gradient by {SCALED_BY}", cells=("GRU", "LSTM")),
    "bias_averaged": Fault("takes the mean where a bias needs the sum", None, at_least=SEVERAL),
    "averaged_over_outputs": Fault(
        "sums over the outputs, the loss is their mean", needs=REGRESSION
    ),
    "root_taken": Fault(
        "is of the mean square, the loss is its root", needs=REGRESSION | {"root": True}
    ),
    "half_squared_error": Fault("is of half the squared error", needs=REGRESSION),
    "different_loss": Fault("belongs to a squared error, not to the cross-entropy", needs=SOFTMAX),
    # --- what comes back from the next step ---
    "dh_next_missing": _later("leaves out δh from the next step"),
    "dc_next_missing": _later("leaves out δc from the next step", cells=("LSTM",)),
    "dh_overwritten": _later(
        "puts δh from the next step in place of the output's, not beside it", **SOFTMAX
    ),
    "only_last_step_kept": _later("assigns where it should add: one step's contribution is left"),
    "recurrent_untransposed": _later("multiplies by U where Uᵀ belongs"),
    "direct_path_only": _later("carries back the direct path of the update alone", cells=("GRU",)),
    "direct_path_missing": _later(
        "carries back what passes through the gates alone", cells=("GRU",)
    ),
    "term_counted_twice": _later("adds what the next step sends back twice"),
    "truncated": Fault(f"stops after {TRUNCATED_AT} steps", True, at_least={"T": TRUNCATED_AT + 1}),
    "wrong_matrix": _later("multiplies by the wrong block of the weights"),
    # --- operands ---
    "gradient_transposed": Fault("hands over δUᵀ for δU", None, {"states": True}),
    "current_h_for_previous": Fault("uses h_t where h_{t−1} belongs"),
    "current_c_for_previous": Fault("uses c_t where c_{t−1} belongs", cells=("LSTM",)),
    "wrapped_initial_state": Fault("reads h at index −1 at the first step, which is the last h"),
    "states_off_by_one": Fault("reads every state one place early in a list that begins with h_0"),
    "last_cache_at_every_step": _later("uses the last step's activations at every step"),
    "time_reversed": _later("multiplies by the inputs in the reverse order of time"),
    "sequences_swapped": Fault("multiplies by another sequence's inputs", at_least={"B": 2}),
    # --- a projection, two directions ---
    "projection_untransposed": Fault(
        "reads the memory of R, where Rᵀ belongs, as if it had the other shape",
        needs={"projection": True},
        cells=("LSTM",),
    ),
    "projection_skipped": Fault(
        "takes δh for δm, past the projection", needs={"projection": True}, cells=("LSTM",)
    ),
    "wrong_projection_operand": Fault(
        "multiplies by tanh c where m = o ⊙ tanh c belongs",
        needs={"projection": True},
        cells=("LSTM",),
    ),
    "directions_swapped": Fault(
        "gives each direction the other's half of δh", needs={"bidirectional": True}
    ),
    "direction_not_reversed": _later(
        "gives the direction that runs backwards δh in the order of time", bidirectional=True
    ),
    # --- inside a step ---
    "derivative_of_activated_value": Fault("applies σ′ or tanh′ to the value already activated"),
    "derivative_missing": Fault("leaves out the derivative of an activation"),
    "gates_swapped_in_dc": Fault("multiplies δc by i for δi and by a for δa", cells=("LSTM",)),
    "gates_permuted": Fault("hands over the gates' blocks in another order", cells=("GRU", "LSTM")),
    "bias_of_gate_copied": Fault(
        "hands over one gate's bias for another's too", cells=("GRU", "LSTM")
    ),
    "update_gate_term_missing": Fault(
        "leaves h_{t−1} out of the update gate's derivative", None, {"states": True}, cells=("GRU",)
    ),
    # --- head and data ---
    "softmax_derivative_twice": Fault(
        "multiplies by the derivative of the softmax once more", needs=SOFTMAX
    ),
    "targets_shifted": _later("compares with the targets one step on", **SOFTMAX),
    "output_gradient_at_every_step": _later(
        "sends the error in at every step, not the last", task="regression"
    ),
    "output_gradient_at_last_step_only": _later(
        "sends the error in at the last step alone", **SOFTMAX
    ),
    "padding_counted": Fault(
        "counts steps beyond a sequence's end", True, SOFTMAX | {"ragged": True}, {"T": 3, "B": 2}
    ),
    "dropout_mask_redrawn": Fault("draws another dropout mask", needs={"dropout": 0.5}),
    "lower_layer_overwritten": _later("hands one step's δx down to the layer below", layers=2),
    # --- what is added, cut or lost ---
    "weight_decay_missing": Fault("leaves out the L2 term", needs={"decay": 0.05}),
    "weight_decay_doubled": Fault("counts the L2 term twice", needs={"decay": 0.05}),
    "clipped_by_value": Fault(
        f"clips every entry to ±{CLIPPED_AT}", needs={"time": "sum", "batch": "sum"}
    ),
    "clipped_by_norm": Fault(
        f"clips the norm to {CLIPPED_TO}", needs={"time": "sum", "batch": "sum"}
    ),
    "zero_gradient": Fault("leaves one tensor's gradient at 0"),
    # --- what no single gradient shows ---
    "updated_in_backward": Fault("takes a step downhill itself", shows_in="harness"),
    "random_buffer": Fault("adds to a buffer that was never set to 0", shows_in="harness"),
    "accumulated_without_zeroing": Fault(
        "adds to the gradient of the call before", shows_in="harness"
    ),
    "state_carried": Fault(
        "starts from the state in which the call before ended", shows_in="harness"
    ),
}
