"""Optimisers, which update the flat vector of parameters in place, and gradient clipping.

The state of an optimiser consists of named arrays, which a checkpoint keeps. The learning rate is
given with each update, since a schedule may change it.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from throughtime import _engine
from throughtime.arrays import Array, floats, positive, refuse, same_names
from throughtime.engine_settings import use_compiled
from throughtime.parameters import Parameters


class Optimiser(ABC):
    """Turns gradients into updates of one vector."""

    moments: tuple[str, ...]  # names of the vectors of its state

    def __init__(self, size: int, dtype: object = "float32") -> None:
        self.updates = 0
        self.arrays: dict[str, Array] = {
            name: np.zeros(size, np.dtype(dtype))  # type: ignore[call-overload]
            for name in self.moments
        }

    def update(self, parameters: Array, gradient: Array, learning_rate: float) -> None:
        """One update of `parameters`, in place; both vectors as long as `size`, in `dtype`."""
        own = next(iter(self.arrays.values()))
        for name, given in (("parameters", parameters), ("gradient", gradient)):
            if given.dtype != own.dtype or given.shape != own.shape:
                kind = type(self).__name__
                actual = f"{given.dtype}, {given.shape}"
                way_out = f'{kind}({given.size}, "{given.dtype}")' if given.ndim == 1 else ""
                refuse(f"{kind}: {name}", f"{own.dtype}, {own.shape}", actual, way_out)
        self.updates += 1
        self._update(parameters, gradient, learning_rate)

    @abstractmethod
    def _update(self, parameters: Array, gradient: Array, rate: float) -> None: ...

    def state(self) -> dict[str, Array]:
        """Its state: the vectors, and the number of updates as `updates (1,)`."""
        return self.arrays | {"updates": np.array([self.updates], np.int64)}

    def restore(self, state: Mapping[str, Array]) -> None:
        """Continues from what `state` gave."""
        same_names("optimiser", state, self.state())
        counter = state["updates"]
        if counter.shape != (1,) or counter.dtype != np.int64:
            refuse("optimiser: updates", "one int64", f"{counter.shape} of {counter.dtype}")
        for name, own in self.arrays.items():
            own[...] = floats(f"optimiser: {name}", state[name], own.dtype, own.shape)
        self.updates = positive("optimiser: updates", counter[0], at_least=0)


class SGD(Optimiser):
    """Gradient descent with momentum: v ← μ v + g; θ ← θ − η v.

    Args:
        size: length of the vector.
        dtype: its precision.
        momentum: μ, from 0 to below 1.
    """

    moments = ("v",)

    def __init__(self, size: int, dtype: object = "float32", *, momentum: float = 0.9) -> None:
        super().__init__(size, dtype)
        self.momentum = _share("momentum", momentum)

    def _update(self, parameters: Array, gradient: Array, rate: float) -> None:
        v = self.arrays["v"]
        v *= self.momentum
        v += gradient
        parameters -= rate * v


class Adam(Optimiser):
    """Adam (Kingma and Ba 2015).

    m ← β₁ m + (1 − β₁) g; v ← β₂ v + (1 − β₂) g²;
    θ ← θ − η m̂ / (√v̂ + ε) with m̂ = m / (1 − β₁ᵗ), v̂ = v / (1 − β₂ᵗ).

    Args:
        size: length of the vector.
        dtype: its precision.
        betas: β₁ and β₂, from 0 to below 1.
        epsilon: ε, above 0.
    """

    moments = ("m", "v")

    def __init__(
        self,
        size: int,
        dtype: object = "float32",
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        epsilon: float = 1e-8,
    ) -> None:
        super().__init__(size, dtype)
        self.betas = _share("beta 1", betas[0]), _share("beta 2", betas[1])
        if not epsilon > 0:
            refuse("epsilon", "a number above 0", epsilon)
        self.epsilon = epsilon

    def _update(self, parameters: Array, gradient: Array, rate: float) -> None:
        m, v = self.arrays["m"], self.arrays["v"]
        beta1, beta2 = self.betas
        bias1, bias2 = 1 - beta1**self.updates, 1 - beta2**self.updates
        if use_compiled():
            numbers = (beta1, beta2, rate / bias1, math.sqrt(bias2), self.epsilon)
            _engine.adam(parameters, gradient, m, v, *numbers)
            return
        m *= beta1
        m += (1 - beta1) * gradient
        v *= beta2
        v += (1 - beta2) * gradient * gradient
        parameters -= (rate / bias1) * m / (np.sqrt(v) / math.sqrt(bias2) + self.epsilon)


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019): θ ← (1 − η λ) θ first.

    Args:
        size: length of the vector.
        dtype: its precision.
        weight_decay: λ, 0 or more.
        options: as in Adam.
    """

    def __init__(
        self, size: int, dtype: object = "float32", *, weight_decay: float = 0.01, **options: Any
    ) -> None:
        super().__init__(size, dtype, **options)
        if not weight_decay >= 0:
            refuse("weight_decay", "a number of at least 0", weight_decay)
        self.weight_decay = weight_decay

    def _update(self, parameters: Array, gradient: Array, rate: float) -> None:
        parameters *= 1 - rate * self.weight_decay
        super()._update(parameters, gradient, rate)


def _share(what: str, number: float) -> float:
    if not 0 <= number < 1:
        refuse(what, "a number from 0 to below 1", number)
    return number


class Norms(NamedTuple):
    """‖g‖₂ of a gradient before and after clipping."""

    before: float
    after: float


def clip(gradient: Parameters, largest: float | None, norm: float | None = None) -> Norms:
    """Scales the whole gradient, in place, so that its norm is at most `largest`.

    Args:
        gradient: finite; it keeps its direction.
        largest: the largest norm allowed, above 0; None clips nothing.
        norm: ‖g‖₂, where it is known already.

    Returns:
        the norm before and after.

    Example:
        >>> import throughtime as tt
        >>> from throughtime.training import clip
        >>> g = tt.Parameters({"W": (2,)}, dtype="float64")
        >>> g["W"] = [3.0, 4.0]
        >>> clip(g, 1.0)
        Norms(before=5.0, after=1.0)
        >>> g["W"]
        array([0.6, 0.8])
    """
    if largest is not None and not largest > 0:
        refuse("clip", "a norm above 0, or None", largest)
    before = gradient.norm() if norm is None else norm
    if not math.isfinite(before):
        refuse("gradient", "a finite norm", before)
    if largest is None or before <= largest:
        return Norms(before, before)
    gradient *= largest / before
    return Norms(before, gradient.norm())
