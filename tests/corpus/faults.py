"""The faults that these networks can have, and what it takes for each of them to show.

What a fault is, `throughtime.diagnosis.FAULTS` says; here stands what is particular to this corpus.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

CELLS = ("RNN", "GRU", "LSTM")


@dataclass(frozen=True)
class Conditions:
    """When a fault shows.

    Attributes:
        one_step: whether the gradient is right at T = 1; None where that depends on the code.
        needs: the settings, see `Setting`, without which the fault does not show.
        at_least: the smallest sizes at which it does.
        shows_in: "gradient", which differs from the true one; or "harness": two calls at the same
            point differ, or the parameters do after a call.
        cells: those that can have it.
    """

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


def _later(*, cells: tuple[str, ...] = CELLS, **needs: Any) -> Conditions:
    """A fault that a single step hides."""
    return Conditions(True, needs, SEVERAL, cells=cells)


FAULTS: dict[str, Conditions] = {
    # --- how the loss is reduced ---
    "averaged_over_steps": _later(time="sum", **SOFTMAX),
    "summed_over_steps": _later(time="mean", **SOFTMAX),
    "divided_by_batch": Conditions(needs=SOFTMAX | {"batch": "sum"}, at_least={"B": 2}),
    "divided_by_classes": Conditions(needs=SOFTMAX),
    "factor_two": Conditions(),
    "factor_half": Conditions(),
    "wrong_sign": Conditions(),
    "tensor_scaled": Conditions(),
    "gate_scaled": Conditions(cells=("GRU", "LSTM")),
    "bias_averaged": Conditions(None, at_least=SEVERAL),
    "averaged_over_outputs": Conditions(needs=REGRESSION),
    "root_taken": Conditions(needs=REGRESSION | {"root": True}),
    "half_squared_error": Conditions(needs=REGRESSION),
    "different_loss": Conditions(needs=SOFTMAX),  # a squared error
    # --- what comes back from the next step ---
    "dh_next_missing": _later(),
    "dc_next_missing": _later(cells=("LSTM",)),
    "dh_overwritten": _later(**SOFTMAX),
    "only_last_step_kept": _later(),
    "recurrent_untransposed": _later(),
    "direct_path_only": _later(cells=("GRU",)),
    "direct_path_missing": _later(cells=("GRU",)),
    "term_counted_twice": _later(),
    "truncated": Conditions(True, at_least={"T": TRUNCATED_AT + 1}),
    "wrong_matrix": _later(),
    # --- operands ---
    "gradient_transposed": Conditions(None, {"states": True}),  # of U
    "current_h_for_previous": Conditions(),
    "current_c_for_previous": Conditions(cells=("LSTM",)),
    "wrapped_initial_state": Conditions(),
    "states_off_by_one": Conditions(),
    "last_cache_at_every_step": _later(),  # the last step's
    "time_reversed": _later(),  # all steps
    "sequences_swapped": Conditions(at_least={"B": 2}),
    # --- a projection, two directions ---
    "projection_untransposed": Conditions(  # the memory of R read as if it had the other shape
        needs={"projection": True}, cells=("LSTM",)
    ),
    "projection_skipped": Conditions(needs={"projection": True}, cells=("LSTM",)),
    "wrong_projection_operand": Conditions(  # tanh c for o ⊙ tanh c
        needs={"projection": True}, cells=("LSTM",)
    ),
    "directions_swapped": Conditions(needs={"bidirectional": True}),  # the halves of δh
    "direction_not_reversed": _later(bidirectional=True),  # δh
    # --- inside a step ---
    "derivative_of_activated_value": Conditions(),
    "derivative_missing": Conditions(),
    "gates_swapped_in_dc": Conditions(cells=("LSTM",)),
    "gates_permuted": Conditions(cells=("GRU", "LSTM")),
    "bias_of_gate_copied": Conditions(cells=("GRU", "LSTM")),
    "update_gate_term_missing": Conditions(None, {"states": True}, cells=("GRU",)),
    # --- head and data ---
    "softmax_derivative_twice": Conditions(needs=SOFTMAX),
    "targets_shifted": _later(**SOFTMAX),  # the next step's
    "output_gradient_at_every_step": _later(task="regression"),
    "output_gradient_at_last_step_only": _later(**SOFTMAX),
    "padding_counted": Conditions(True, SOFTMAX | {"ragged": True}, {"T": 3, "B": 2}),
    "dropout_mask_redrawn": Conditions(needs={"dropout": 0.5}),
    "lower_layer_overwritten": _later(layers=2),
    # --- what is added, cut or lost ---
    "weight_decay_missing": Conditions(needs={"decay": 0.05}),
    "weight_decay_doubled": Conditions(needs={"decay": 0.05}),
    "clipped_by_value": Conditions(needs={"time": "sum", "batch": "sum"}),
    "clipped_by_norm": Conditions(needs={"time": "sum", "batch": "sum"}),
    "zero_gradient": Conditions(),
    # --- what no single gradient shows ---
    "updated_in_backward": Conditions(shows_in="harness"),
    "random_buffer": Conditions(shows_in="harness"),
    "accumulated_without_zeroing": Conditions(shows_in="harness"),
    "state_carried": Conditions(shows_in="harness"),
}
