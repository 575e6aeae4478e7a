"""A step's equations: traced, differentiated, and run over many sequences.

A user writes the forward step of one sequence in NumPy. `trace` turns it into a graph,
`derive_backward` derives δ of everything in it, and `program` compiles both for batches.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from throughtime.doors import door
from throughtime.equations import einstein, operations  # both fill tables of what is known
from throughtime.equations.functions import (
    gelu,
    logsumexp,
    relu,
    sigmoid,
    softmax,
    softplus,
    stop_gradient,
    surrogate,
)

if TYPE_CHECKING:
    from throughtime.equations.backward import BackwardPass, Line, delta_after, derive_backward
    from throughtime.equations.c_code import C_STYLE, SINGLE, StepInC, as_c, helpers
    from throughtime.equations.c_statements import PLAIN, Dialect, Statements
    from throughtime.equations.evaluation import Function, Values
    from throughtime.equations.graph import OPERATIONS, Graph, Node, reachable
    from throughtime.equations.linear_step import Carry, Edges, LinearStep, ProductBlock
    from throughtime.equations.live_example import LineCheck, LiveExample
    from throughtime.equations.operations import ELEMENTWISE
    from throughtime.equations.phases import (
        NO_MOVES,
        Phase,
        StepProgram,
        dense,
        phase_from,
        program,
    )
    from throughtime.equations.printing import (
        TEXT,
        Writer,
        Written,
        as_latex,
        as_numpy,
        as_text,
    )
    from throughtime.equations.recording import Trace, trace, trace_step
    from throughtime.equations.sites import Site, Term, depending_on_delta, ends_of, sites_of, terms
    from throughtime.equations.tracing import EquationError
else:
    __getattr__ = door(
        __name__,
        {
            "backward": "BackwardPass Line delta_after derive_backward",
            "c_code": "C_STYLE SINGLE StepInC as_c helpers",
            "c_statements": "PLAIN Dialect Statements",
            "evaluation": "Function Values",
            "graph": "OPERATIONS Graph Node reachable",
            "linear_step": "ProductBlock Carry Edges LinearStep",
            "live_example": "LineCheck LiveExample",
            "operations": "ELEMENTWISE",
            "phases": "NO_MOVES Phase StepProgram dense phase_from program",
            "printing": "TEXT Writer Written as_latex as_numpy as_text",
            "recording": "Trace trace trace_step",
            "sites": "Site Term depending_on_delta ends_of sites_of terms",
            "tracing": "EquationError",
        },
    )

__all__ = [
    "C_STYLE",
    "ELEMENTWISE",
    "NO_MOVES",
    "OPERATIONS",
    "PLAIN",
    "SINGLE",
    "TEXT",
    "BackwardPass",
    "Carry",
    "Dialect",
    "Edges",
    "EquationError",
    "Function",
    "Graph",
    "Line",
    "LineCheck",
    "LinearStep",
    "LiveExample",
    "Node",
    "Phase",
    "ProductBlock",
    "Site",
    "Statements",
    "StepInC",
    "StepProgram",
    "Term",
    "Trace",
    "Values",
    "Writer",
    "Written",
    "as_c",
    "as_latex",
    "as_numpy",
    "as_text",
    "delta_after",
    "dense",
    "depending_on_delta",
    "derive_backward",
    "einstein",
    "ends_of",
    "gelu",
    "helpers",
    "logsumexp",
    "operations",
    "phase_from",
    "program",
    "reachable",
    "relu",
    "sigmoid",
    "sites_of",
    "softmax",
    "softplus",
    "stop_gradient",
    "surrogate",
    "terms",
    "trace",
    "trace_step",
]
