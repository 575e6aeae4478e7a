"""Code that is made of a step's equations: C for all steps, and what compiles and keeps it.

It knows a step's graph, and neither cells nor networks.
"""

from throughtime.codegen.c_layers import CellInC, DenseInC, EmbeddingInC, LayerInC
from throughtime.codegen.c_program import LossInC, ProgramInC
from throughtime.codegen.cache import Unavailable
from throughtime.codegen.compiler import SETTING, library, say
from throughtime.codegen.loop import Loop
from throughtime.codegen.places import Function, of_input
from throughtime.codegen.plan import (
    LoopPlan,
    Product,
    Stage,
    multiplies_by_parameters_alone,
    plain,
    size,
)
from throughtime.codegen.source import CellSource, cell_source
from throughtime.codegen.sums import Sums
from throughtime.codegen.tolerances import OF_A_FUNCTION, WORK_OF_A_THREAD

__all__ = [
    "OF_A_FUNCTION",
    "SETTING",
    "WORK_OF_A_THREAD",
    "CellInC",
    "CellSource",
    "DenseInC",
    "EmbeddingInC",
    "Function",
    "LayerInC",
    "Loop",
    "LoopPlan",
    "LossInC",
    "Product",
    "ProgramInC",
    "Stage",
    "Sums",
    "Unavailable",
    "cell_source",
    "library",
    "multiplies_by_parameters_alone",
    "of_input",
    "plain",
    "say",
    "size",
]
