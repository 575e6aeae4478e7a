"""The mistakes of the notebooks: what each is called, where it is, and which programs can have it.

A mistake is written as its kind, or as kind and gate: "derivative_missing f". Many kinds have no
name in `throughtime.diagnosis.FAULTS`: then the right answer is the place, or nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from corpus.notebooks.habits import NO_HEAD, Habits

# Places. A mistake may be at two of them, where words for it differ.
REDUCTION = "reduction"
HEAD = "head"
STEP = "inside a step"
BETWEEN = "between steps"
OPERAND = "operand"
TENSOR = "one tensor or gate"
ADDED = "added, cut or lost"
PLACES = (REDUCTION, HEAD, STEP, BETWEEN, OPERAND, TENSOR, ADDED)


@dataclass(frozen=True)
class Kind:
    """One kind of mistake.

    Attributes:
        places: where it is.
        names: what the catalogue calls it; none: it has no name there.
        needs: whether a program can have it.
        gates: the gates in which it can be, each as one letter; "": it is in no gate.
    """

    places: frozenset[str]
    names: frozenset[str]
    needs: Callable[[Habits], bool]
    gates: Callable[[Habits], str]


def _always(_: Habits) -> bool:
    return True


def _no_gates(_: Habits) -> str:
    return ""


def _kind(
    places: str,
    names: str = "",
    needs: Callable[[Habits], bool] = _always,
    gates: Callable[[Habits], str] = _no_gates,
) -> Kind:
    return Kind(frozenset(places.split("; ")), frozenset(names.split()), needs, gates)


def _lstm(s: Habits) -> bool:
    return s.cell == "LSTM"


def _gru(s: Habits) -> bool:
    return s.cell == "GRU"


def _several(s: Habits) -> bool:
    return s.T > 1


def _in(*cells: str, T: int = 1) -> Callable[[Habits], bool]:
    return lambda s: s.cell in cells and s.T >= T


def _own_head(s: Habits) -> bool:
    return s.head not in NO_HEAD and s.head != "outside"


def _every(s: Habits) -> bool:
    return not s.last and s.T > 1


def _squared(s: Habits) -> bool:
    return s.error == "squared"


def _sigmoid_gates(s: Habits) -> str:
    return "".join(gate for gate in s.gates if gate in "fiorz")


def _all_gates(s: Habits) -> str:
    relu = s.cell == "RNN" and s.variant == "relu"
    return "" if relu else s.gates + "c" * (s.cell == "LSTM" and s.variant != "h = o c")


def _weights(s: Habits) -> str:
    return s.gates


def _operands(s: Habits) -> str:
    if s.cell != "LSTM":
        return "rn"
    return s.gates.replace("o", "") if s.variant == "h = o c" else s.gates + "c"


def _slopes(s: Habits) -> bool:
    return bool(_all_gates(s))


def _separate_gates(s: Habits) -> bool:
    return s.cell != "RNN"


CURRENT = "current_h_for_previous"
KINDS: Mapping[str, Kind] = {
    # --- how the loss is reduced ---
    "averaged_over_steps": _kind(
        REDUCTION, "averaged_over_steps", lambda s: _every(s) and s.time == "sum" and not s.root
    ),
    "summed_over_steps": _kind(
        REDUCTION, "summed_over_steps", lambda s: _every(s) and s.time == "mean" and not s.root
    ),
    "summed_over_batch": _kind(
        REDUCTION,
        "summed_over_batch",
        lambda s: s.B > 1 and s.batch == "mean" and not s.root and s.decay == 0,
    ),
    "divided_by_batch": _kind(
        REDUCTION,
        "divided_by_batch",
        lambda s: s.B > 1 and s.batch == "sum" and not s.root and s.decay == 0,
    ),
    "divided_by_classes": _kind(
        REDUCTION, "divided_by_classes", lambda s: s.error == "softmax" and s.O > 1
    ),
    "averaged_over_outputs": _kind(
        REDUCTION,
        "averaged_over_outputs",
        lambda s: s.outputs == "mean" and s.O > 1 and _squared(s) and not s.root,
    ),
    "factor_two": _kind(REDUCTION, "factor_two"),
    "factor_half": _kind(REDUCTION, "factor_half"),
    "wrong_sign": _kind(REDUCTION, "wrong_sign"),
    "half_squared_error": _kind(
        REDUCTION,
        "half_squared_error factor_half",
        lambda s: _squared(s) and not s.half and not s.root,
    ),
    "factor_two_of_square": _kind(
        REDUCTION, "factor_two", lambda s: _squared(s) and s.half and not s.root
    ),
    "root_taken": _kind(REDUCTION, "root_taken", lambda s: s.root),
    # --- head and data ---
    "softmax_derivative_twice": _kind(
        HEAD, "softmax_derivative_twice", lambda s: s.error == "softmax" and s.O > 1
    ),
    "diagonal_of_softmax": _kind(
        HEAD, "softmax_jacobian_diagonal", lambda s: s.error == "softmax" and s.O > 1
    ),
    "different_loss": _kind(
        HEAD,
        "different_loss softmax_derivative_twice",
        lambda s: s.error == "softmax" and s.O > 1,
    ),
    "sigmoid_derivative_twice": _kind(HEAD, "different_loss", lambda s: s.error == "binary"),
    "sigmoid_derivative_missing": _kind(
        HEAD,
        "different_loss derivative_missing",
        lambda s: s.head == "sigmoid, squared" and not s.root,
    ),
    "epsilon_in_log": _kind(HEAD, "epsilon_in_log", lambda s: s.epsilon > 0),
    "targets_shifted": _kind(HEAD, "targets_shifted", lambda s: _every(s) and not s.root),
    "last_dy_at_every_step": _kind(
        f"{HEAD}; {BETWEEN}", "last_output_gradient_at_every_step", lambda s: _every(s)
    ),
    "output_gradient_at_last_step_only": _kind(
        HEAD, "output_gradient_at_last_step_only", lambda s: _every(s) and not s.root
    ),
    "output_gradient_at_every_step": _kind(
        HEAD, "output_gradient_at_every_step", lambda s: s.last and s.T > 1 and not s.root
    ),
    "output_gradient_at_every_step_to_h": _kind(
        BETWEEN,
        "output_gradient_at_every_step",
        lambda s: s.last and s.T > 1 and s.head not in NO_HEAD,
    ),
    "head_takes_previous_h": _kind(
        f"{HEAD}; {OPERAND}", "states_off_by_one", lambda s: _own_head(s) and _several(s)
    ),
    "head_derivative_missing": _kind(HEAD, "derivative_missing", lambda s: s.head == "two layers"),
    # --- what comes back from the next step ---
    "dh_next_missing": _kind(BETWEEN, "dh_next_missing", _several),
    "dc_next_missing": _kind(BETWEEN, "dc_next_missing", _in("LSTM", T=2)),
    "dh_overwritten": _kind(BETWEEN, "dh_overwritten", _every),
    "recurrent_untransposed": _kind(
        f"{BETWEEN}; {STEP}", "recurrent_untransposed", lambda s: _several(s) and s.H > 1
    ),
    "wrong_matrix": _kind(BETWEEN, "wrong_matrix", _in("LSTM", T=2)),
    "direct_path_only": _kind(BETWEEN, "direct_path_only", _in("GRU", T=2)),
    "direct_path_missing": _kind(BETWEEN, "direct_path_missing", _in("GRU", T=2)),
    "reset_left_out": _kind(
        f"{BETWEEN}; {STEP}", "wrong_operand_in_step wrong_term_in_step", _in("GRU", T=2)
    ),
    "gate_left_out": _kind(
        BETWEEN, "wrong_term_in_step", lambda s: _lstm(s) and _several(s), lambda s: s.gates
    ),
    "gate_counted_twice": _kind(
        BETWEEN, "wrong_term_in_step", lambda s: _lstm(s) and _several(s), lambda s: s.gates
    ),
    "term_counted_twice": _kind(
        BETWEEN, "term_counted_twice", _several, lambda s: "hc" if _lstm(s) else "h"
    ),
    "truncated": _kind(BETWEEN, "truncated", lambda s: s.T > 3),
    "stale_delta_added": _kind(BETWEEN, "delta_not_cleared", lambda s: s.T > 2),
    "stale_dc_added": _kind(BETWEEN, "delta_not_cleared", _in("LSTM", T=3)),
    "two_steps_late": _kind(BETWEEN, "delta_arrives_late", lambda s: s.T > 2),
    "backward_loop_forwards": _kind(BETWEEN, "backward_in_forward_order", _several),
    "carried_before_the_slope": _kind(BETWEEN, "wrong_operand_in_step", _in("RNN", T=2)),
    "carried_without_f": _kind(
        f"{BETWEEN}; {STEP}", "wrong_operand_in_step wrong_term_in_step", _in("LSTM", T=2)
    ),
    "carried_with_i": _kind(f"{BETWEEN}; {STEP}", "wrong_operand_in_step", _in("LSTM", T=2)),
    "own_part_not_carried": _kind(
        BETWEEN, "wrong_operand_in_step wrong_term_in_step", _in("LSTM", T=2)
    ),
    "peephole_path_cut": _kind(
        f"{BETWEEN}; {STEP}",
        "peephole_path_missing",
        lambda s: s.variant == "peepholes" and _several(s),
    ),
    "carried_with_another_steps_f": _kind(BETWEEN, "wrong_operand_in_step", _in("LSTM", T=3)),
    "output_delta_accumulates": _kind(
        BETWEEN, "delta_not_cleared", lambda s: _every(s) and s.head not in NO_HEAD and s.T > 1
    ),
    "down_through_U": _kind(STEP, "another_layers_matrix", lambda s: s.layers > 1),
    "lower_layer_overwritten": _kind(
        BETWEEN, "lower_layer_overwritten", lambda s: s.layers > 1 and _every(s)
    ),
    # --- operands ---
    "current_h_for_previous": _kind(f"{OPERAND}; {STEP}", CURRENT),
    "current_h_of_one_gate": _kind(
        f"{OPERAND}; {STEP}", f"{CURRENT} wrong_operand_in_step", _separate_gates, lambda s: s.gates
    ),
    "wrapped_initial_state": _kind(f"{OPERAND}; {STEP}", "wrapped_initial_state"),
    "states_off_by_one": _kind(f"{OPERAND}; {STEP}", "states_off_by_one", _several),
    "last_cache_at_every_step": _kind(OPERAND, "last_cache_at_every_step", _several),
    "time_reversed": _kind(OPERAND, "time_reversed", _several),
    "only_last_step_kept": _kind(f"{OPERAND}; {BETWEEN}", "only_last_step_kept", _several),
    "only_last_step_of_bias_kept": _kind(
        f"{OPERAND}; {TENSOR}", "only_last_step_kept", lambda s: s.biases and s.T > 1
    ),
    "states_for_inputs": _kind(
        OPERAND,
        "another_layers_input",
        lambda s: (s.I == s.H or s.layers > 1) and (s.T > 1 or s.states),
        lambda s: s.gates,
    ),
    "wrong_layer_input": _kind(
        OPERAND, "another_layers_input", lambda s: s.layers > 1 and s.I == s.H
    ),
    "reset_left_out_of_product": _kind(
        f"{OPERAND}; {STEP}", "wrong_operand_in_step", lambda s: _gru(s) and (s.T > 1 or s.states)
    ),
    "gradient_transposed": _kind(
        f"{OPERAND}; {TENSOR}", "gradient_transposed", lambda s: s.H > 1 and s.T > 1
    ),
    "scatter_without_accumulation": _kind(
        OPERAND, "embedding_rows_counted_once", lambda s: s.embedding and s.T * s.B > 2
    ),
    "embedding_averaged": _kind(
        f"{OPERAND}; {TENSOR}", "embedding_averaged", lambda s: s.embedding
    ),
    "current_c_of_peepholes": _kind(
        f"{OPERAND}; {STEP}", "current_c_for_previous", lambda s: s.variant == "peepholes"
    ),
    "bias_of_first_sequence": _kind(
        f"{OPERAND}; {TENSOR}", "only_one_sequence_counts", lambda s: s.biases and s.B > 1
    ),
    # --- inside a step ---
    "derivative_missing": _kind(STEP, "derivative_missing", _slopes, _all_gates),
    "derivative_of_activated_value": _kind(
        STEP, "derivative_of_activated_value", _slopes, _all_gates
    ),
    "activation_again": _kind(
        STEP,
        "activation_for_derivative",
        lambda s: bool(_sigmoid_gates(s)),
        _sigmoid_gates,
    ),
    "half_of_the_derivative": _kind(
        STEP, "activation_for_derivative wrong_operand_in_step", _slopes, _all_gates
    ),
    "slope_at_previous": _kind(
        STEP,
        "slope_of_previous_state wrong_operand_in_step",
        lambda s: (s.cell == "RNN" and s.variant == "tanh") or (_lstm(s) and "c" in _all_gates(s)),
        lambda s: "h" if s.cell == "RNN" else "c",
    ),
    "wrong_operand": _kind(
        STEP,
        "wrong_operand_in_step update_gate_exchanged",
        lambda s: s.cell != "RNN",
        _operands,
    ),
    "doubled_term": _kind(STEP, "wrong_term_in_step", _in("LSTM")),
    "gates_swapped_in_dc": _kind(STEP, "gates_swapped_in_dc", _in("LSTM")),
    "current_c_for_previous": _kind(
        f"{STEP}; {OPERAND}", "current_c_for_previous", lambda s: _lstm(s) and "f" in s.gates
    ),
    "coupled_term_missing": _kind(
        STEP,
        "wrong_term_in_step update_gate_term_missing",
        lambda s: s.variant == "coupled" and (s.T > 1 or s.states),
    ),
    "update_gate_term_missing": _kind(
        STEP, "update_gate_term_missing", lambda s: _gru(s) and (s.T > 1 or s.states)
    ),
    "update_gate_constant": _kind(STEP, "wrong_operand_in_step wrong_term_in_step", _in("GRU")),
    "update_gate_sign": _kind(STEP, "update_gate_exchanged wrong_term_in_step", _in("GRU")),
    # --- one tensor, one gate ---
    "tensor_scaled": _kind(TENSOR, "tensor_scaled"),
    "gate_scaled": _kind(f"{TENSOR}; {STEP}", "gate_scaled", _separate_gates),
    "gates_permuted": _kind(f"{TENSOR}; {STEP}", "gates_permuted", _separate_gates),
    "bias_not_averaged": _kind(
        f"{TENSOR}; {REDUCTION}",
        "bias_not_averaged",
        lambda s: s.biases and s.B > 1 and s.batch == "mean" and not s.root,
    ),
    "bias_of_gate_copied": _kind(
        TENSOR,
        "bias_of_gate_copied another_tensors_gradient",
        lambda s: _separate_gates(s) and s.biases,
    ),
    "bias_averaged": _kind(TENSOR, "bias_averaged tensor_scaled", lambda s: s.biases and s.T > 1),
    "bias_counted_twice": _kind(TENSOR, "bias_counted_twice tensor_scaled", lambda s: s.biases),
    "tensor_copied": _kind(
        TENSOR,
        "another_tensors_gradient",
        lambda s: _separate_gates(s) and s.stored.startswith("gate by gate"),
    ),
    # --- what is added, cut or lost ---
    "weight_decay_missing": _kind(ADDED, "weight_decay_missing", lambda s: s.decay > 0),
    "weight_decay_doubled": _kind(ADDED, "weight_decay_doubled", lambda s: s.decay > 0),
    "penalty_in_gradient_only": _kind(
        ADDED, "weight_decay_only_in_gradient", lambda s: s.decay == 0
    ),
    "gradient_outside_the_loss": _kind(ADDED, "", lambda s: s.unused),
    "clipped_by_value": _kind(ADDED, "clipped_by_value"),
    "clipped_by_norm": _kind(ADDED, "clipped_by_norm"),
    "zero_gradient": _kind(ADDED, "zero_gradient"),
}

# What the program calls some of them, where it differs.
WRITTEN = {
    "current_h_of_one_gate": CURRENT,
    "current_c_of_peepholes": "current_c_for_previous",
}


def flags(mistakes: tuple[str, ...]) -> frozenset[str]:
    """Mistakes as the program asks for them."""
    found = set()
    for mistake in mistakes:
        kind, _, gate = mistake.partition(" ")
        own = "p" if kind == "current_c_of_peepholes" else gate
        found.add(" ".join(filter(None, (WRITTEN.get(kind, kind), own))))
    return frozenset(found)


def variants(kind: str, s: Habits) -> tuple[str, ...]:
    """The mistakes of a kind that this program can have."""
    if not KINDS[kind].needs(s):
        return ()
    gates = KINDS[kind].gates(s)
    return tuple(f"{kind} {gate}" for gate in gates) if gates else (kind,)


def names(mistakes: tuple[str, ...]) -> frozenset[str]:
    """Everything that the catalogue may call any of them."""
    return frozenset().union(*(KINDS[m.partition(" ")[0]].names for m in mistakes))


def places(mistakes: tuple[str, ...]) -> frozenset[str]:
    """Where they are."""
    return frozenset().union(*(KINDS[m.partition(" ")[0]].places for m in mistakes))
