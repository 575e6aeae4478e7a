"""The cells: one file a cell, which holds its description and its equations in plain NumPy.

The equations, forward and backward, are written to be read, and faster twins are tested against
them. The description says all that the rest of the package needs to know about a cell.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from throughtime.cells.compiled import (
    WORTH_KEEPING,
    dense_backward,
    dense_forward,
    embedding_backward,
    engine_cell,
    has_twin,
)
from throughtime.cells.description import (
    Activation,
    GateSpec,
    OptionSpec,
    ParameterSpec,
    Role,
    StateSpec,
)
from throughtime.cells.gru import GRU
from throughtime.cells.lstm import LSTM
from throughtime.cells.recurrence import Cell, added
from throughtime.cells.registry import CELLS, variants
from throughtime.cells.rnn import RNN
from throughtime.cells.tape import Columns, LocalGradients, State, Tape, active_steps
from throughtime.doors import door
from throughtime.functions import (
    input_gradient,
    is_indices,
    product,
    relu_slope,
    sigmoid,
    sigmoid_slope,
    tanh_slope,
    weight_gradient,
)

if TYPE_CHECKING:
    from throughtime.cells.derivation import (
        WINDOW,
        CellDerivation,
        cell_in_c,
        derive,
        offsets,
        whole_step,
    )
    from throughtime.cells.derived import CellDefinition, DerivedCell, cell
    from throughtime.cells.step_comparison import LineCorrection, StepComparison
    from throughtime.cells.step_equations import StepEquations
else:
    __getattr__ = door(
        __name__,
        {
            "derivation": "WINDOW CellDerivation cell_in_c derive offsets whole_step",
            "derived": "CellDefinition DerivedCell cell",
            "step_comparison": "StepComparison LineCorrection",
            "step_equations": "StepEquations",
        },
    )

__all__ = [
    "CELLS",
    "GRU",
    "LSTM",
    "RNN",
    "WINDOW",
    "WORTH_KEEPING",
    "Activation",
    "Cell",
    "CellDefinition",
    "CellDerivation",
    "Columns",
    "DerivedCell",
    "GateSpec",
    "LineCorrection",
    "LocalGradients",
    "OptionSpec",
    "ParameterSpec",
    "Role",
    "State",
    "StateSpec",
    "StepComparison",
    "StepEquations",
    "Tape",
    "active_steps",
    "added",
    "cell",
    "cell_in_c",
    "dense_backward",
    "dense_forward",
    "derive",
    "embedding_backward",
    "engine_cell",
    "has_twin",
    "input_gradient",
    "is_indices",
    "offsets",
    "product",
    "relu_slope",
    "sigmoid",
    "sigmoid_slope",
    "tanh_slope",
    "variants",
    "weight_gradient",
    "whole_step",
]
