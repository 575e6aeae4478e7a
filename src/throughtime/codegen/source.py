"""The C source of a cell: forward and backward over all steps, and what is summed over them.

    NAME_forward     from the states before the first step to those after each
    NAME_backward    from δ of the outputs and of the last state to δ within each step
    NAME_sums_K      from these, row by row, what δ of parameters and inputs still need

Arrays come from the caller, in the order of `Function.arrays`. One row is one sequence at one step.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from throughtime.codegen.backward_loop import BackwardWriter
from throughtime.codegen.forward_loop import ForwardWriter
from throughtime.codegen.loop import Loop
from throughtime.codegen.places import CNames, WrittenStep
from throughtime.codegen.plan import size
from throughtime.codegen.preamble import FUNCTIONS, MOST_IN_BFLOAT16, preamble
from throughtime.codegen.sums import Sums
from throughtime.equations import BackwardPass, Dialect, StepProgram


@dataclass
class CellSource:
    """The source of a cell.

    Attributes:
        text: the C source.
        forward, backward: the two loops over steps.
        parameters: what is summed over steps for δ of the parameters.
        everything: the same, and δ of the inputs.
    """

    text: str
    forward: Loop
    backward: Loop
    parameters: Sums
    everything: Sums


def cell_source(
    name: str,
    backward: BackwardPass,
    program: StepProgram,
    dtype: np.dtype[np.floating],
    bfloat16: bool = False,
) -> CellSource:
    """The source of a derived step, and what its functions take.

    Args:
        name: of the cell; functions begin with it.
        backward: the derivation.
        program: its phases.
        dtype: float32 or float64.
        bfloat16: whether products of matrices with the vectors of a step are in bfloat16, by the
            functions that `tt_use` is given; in float32 alone.

    Raises:
        ValueError: for a factor that is too long for that.
    """
    single = dtype == np.float32
    real = "float" if single else "double"
    dialect = Dialect(real, "f" if single else "", FUNCTIONS, lanes=True)
    step = WrittenStep(name, backward, program, dialect, CNames(backward))
    forward, forward_code = ForwardWriter(step).loop()
    back, backward_code = BackwardWriter(step).loop()
    for wanted in (*forward.packed.values(), *back.packed.values()) if bfloat16 else ():
        if size(wanted.vector) > MOST_IN_BFLOAT16:
            raise ValueError(f"a factor of {size(wanted.vector)} numbers, in bfloat16")
    parameters = Sums(f"{name}_sums", step, with_inputs=False)
    everything = Sums(f"{name}_all", step, with_inputs=True)
    products = ", products in bfloat16" * bfloat16
    about = f"/* {name}: compiled from its equations; {real}{products}. */\n"
    parts = [*forward_code, *backward_code, *parameters.code, *everything.code]
    text = "\n\n".join([about + preamble(dtype, bfloat16), *parts]) + "\n"
    return CellSource(text, forward, back, parameters, everything)
