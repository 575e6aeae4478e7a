"""A cell's step as a graph, recorded from its code, and what is derived from it.

Networks that only run forward and backward never need it, and it takes a while to import.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from throughtime.arrays import Shape
from throughtime.equations import (
    BackwardPass,
    LinearStep,
    Node,
    Phase,
    derive_backward,
    phase_from,
    trace_step,
)


@dataclass(frozen=True)
class StepEquations:
    """A step as a graph, and what follows from it.

    Attributes:
        backward: the derived backward pass; its input is z_x, or x for a cell whose equations are
            all that is known of it.
        kept: the nodes of what a step keeps, by name.
        linear: the derivative of the step.
        frontier: what `step_backward` gives as δz.
    """

    backward: BackwardPass
    kept: Mapping[str, Node]
    linear: LinearStep
    frontier: tuple[Node, ...]

    @cached_property
    def coefficients(self) -> Phase:
        """What `linear` multiplies by, from what a tape knows of every step."""
        trace = self.backward.trace
        return phase_from(
            [*self.kept.values(), *trace.parameters.values()], self.linear.coefficients
        )


def recorded(
    name: str,
    step: Callable[..., Any],
    shapes: Mapping[str, Shape],
    state_sizes: Mapping[str, int],
) -> StepEquations:
    """The equations of a step that is given z_x, with b's shape."""
    states = {state: (size,) for state, size in state_sizes.items()}
    trace, kept = trace_step(name, step, ("z_x", shapes["b"]), states, shapes)
    backward = derive_backward(trace)
    assert backward.inputs is not None
    linear = LinearStep(backward, [backward.inputs])
    return StepEquations(backward, kept, linear, (backward.inputs,))
