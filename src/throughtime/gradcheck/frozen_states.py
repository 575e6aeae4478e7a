"""Truncated gradients, checked exactly: the loss whose full gradient a truncated one is.

Truncated backpropagation takes the state that enters a window for a constant. So it computes, to
the last digit, the full gradient of another loss: the one in which every window begins at the
state that the run carried into it *where the parameters stood*, and keeps that state while they
move. Of that loss numerical derivatives can be taken.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from throughtime.arrays import Array
from throughtime.gradcheck.target import Target


def frozen(
    parameters: Mapping[str, Array],
    loss: Callable[..., Any],
    gradient: Callable[..., Mapping[str, Array]],
    carried: Callable[..., Any],
    *,
    reset: Callable[[], object] | None = None,
    at_length: Callable[[int], Target] | None = None,
    steps: int | None = None,
) -> Target:
    """A target whose gradient is truncated: what is carried into its windows stands still.

    Args:
        parameters: as in Target.
        loss: called as `loss(states)`, or `loss(parameters, states)`: the windows' losses, or
            their sum, each window begun at its state in `states`.
        gradient: the truncated gradient, called as in Target.
        carried: called as `carried()`, or `carried(parameters)`: a run over all steps where the
            parameters stand; returns what it carries into the windows, in whatever form `loss`
            takes it.
        reset, at_length, steps: as in Target.

    Returns:
        a Target. Its states are taken wherever the check begins to look, at each point anew,
        and are kept while it moves parameters about there.

    Raises:
        CheckError: as Target does.

    Example:
        A network s_t = tanh(u s_{t−1} + x_t), L = Σ s_t²/2, in windows of two steps:

        >>> import numpy as np
        >>> import throughtime as tt
        >>> u, x = np.array([0.7]), np.array([0.3, -1.2, 0.8, 0.5, 1.1, -0.4])
        >>> def run(s, inputs):
        ...     states = [s]
        ...     for x_t in inputs:
        ...         states.append(np.tanh(u[0] * states[-1] + x_t))
        ...     return np.array(states)  # one more than inputs
        >>> def carried():
        ...     return run(0.0, x)[:-1:2]  # the states before steps 0, 2 and 4
        >>> def loss(states):
        ...     windows = [run(s, x[t : t + 2]) for s, t in zip(states, (0, 2, 4))]
        ...     return [s[1:] ** 2 / 2 for s in windows]
        >>> def gradient(back=2):
        ...     s, du = run(0.0, x), 0.0
        ...     for stop in (2, 4, 6):
        ...         ds = 0.0
        ...         for t in reversed(range(stop - back, stop)):
        ...             dz = (s[t + 1] + ds) * (1 - s[t + 1] ** 2)
        ...             du, ds = du + dz * s[t], u[0] * dz
        ...     return {"u": np.array([du])}
        >>> tt.check(tt.frozen({"u": u}, loss, gradient, carried)).verdict
        'agree'
        >>> tt.check(tt.frozen({"u": u}, loss, lambda: gradient(back=1), carried)).verdict
        'disagree'
    """
    before = (parameters,) if _required(loss) > 1 else ()
    states = _Carried(carried, (parameters,) if _required(carried) else ())

    def frozen_loss() -> Any:
        if not states.taken:
            states.take()
        return loss(*before, states.states)

    return Target(
        parameters,
        frozen_loss,
        gradient,
        reset=reset,
        at_length=at_length,
        steps=steps,
        freeze=states.take,
    )


@dataclass
class _Carried:
    """What a run carried into the windows, kept until it is taken anew."""

    run: Callable[..., Any]
    arguments: tuple[Any, ...]
    states: Any = None
    taken: bool = False

    def take(self) -> None:
        # A copy: the next run may write into the same arrays.
        self.states, self.taken = deepcopy(self.run(*self.arguments)), True


def _required(function: Callable[..., Any]) -> int:
    """How many arguments a function cannot do without."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    needed = inspect.signature(function).parameters.values()
    return sum(p.kind in kinds and p.default is p.empty for p in needed)
