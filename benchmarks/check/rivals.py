"""The same check by `torch.autograd.gradcheck` and by `jax.test_util.check_grads`.

Each sees the target's loss as a function with a custom derivative. Each uses its own defaults.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np

from benchmarks import jax_layer, torch_layer
from throughtime.arrays import Array
from throughtime.gradcheck import Target

Rival = Callable[[Target], bool]  # returns whether it accepts the gradient


def rivals() -> dict[str, Rival]:
    """The tools that are installed, as rows name them: "torch_slow", "torch_fast" and "jax"."""
    found: dict[str, Rival] = {}
    if torch_layer.find():
        found["torch_slow"] = lambda target: torch_accepts(target, fast=False)
        found["torch_fast"] = lambda target: torch_accepts(target, fast=True)
    if jax_layer.find():
        found["jax"] = jax_accepts
    return found


def torch_accepts(target: Target, *, fast: bool) -> bool:
    """The answer of `gradcheck(f, parameters, fast_mode=fast)`."""
    torch = torch_layer.find()
    tensors = [torch.from_numpy(a.copy()).requires_grad_() for a in target.parameters.values()]
    with warnings.catch_warnings(), _restored(target), torch_layer.one_thread():
        warnings.simplefilter("ignore")  # that float32 will likely fail: this is measured
        f = _torch_function().apply
        return bool(
            torch.autograd.gradcheck(
                lambda *p: f(target, *p), tensors, fast_mode=fast, raise_exception=False
            )
        )


def jax_accepts(target: Target) -> bool:
    """The answer of `check_grads(f, parameters, order=1, modes=("rev",))`."""
    jax: Any = jax_layer.find()
    check = import_module("jax.test_util").check_grads
    arrays = [a.copy() for a in target.parameters.values()]
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", arrays[0].dtype == np.float64)
    try:
        with _restored(target):
            check(_jax_function(jax, target), arrays, order=1, modes=("rev",))
    except AssertionError:
        return False
    finally:
        jax.config.update("jax_enable_x64", before)
        jax.clear_caches()  # each target is a new function for jax, which caches all of them
    return True


class _restored:
    """Restores a target's parameters at the end."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.before = {name: array.copy() for name, array in target.parameters.items()}

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        _put(self.target, self.before.values())


def _put(target: Target, arrays: Any) -> None:
    for array, value in zip(target.parameters.values(), arrays, strict=True):
        array[...] = np.asarray(value)


def _loss(target: Target, arrays: Any) -> Array:
    """The loss at these parameters, in the precision in which the target computes it."""
    _put(target, arrays)
    if target.reset is not None:
        target.reset()
    value = np.asarray(target.loss())
    return np.asarray(value.sum(dtype=value.dtype))


def _gradient(target: Target, arrays: Any) -> list[Array]:
    _put(target, arrays)
    if target.reset is not None:
        target.reset()
    found = target.gradient()
    return [np.array(found[name]) for name in target.parameters]


@cache
def _torch_function() -> Any:
    torch = torch_layer.find()
    base: Any = torch.autograd.Function

    class Loss(base):  # type: ignore[misc]
        @staticmethod
        def forward(ctx: Any, target: Target, *parameters: Any) -> Any:
            ctx.target = target
            ctx.save_for_backward(*parameters)
            return torch.from_numpy(_loss(target, [p.detach().numpy() for p in parameters]))

        @staticmethod
        def backward(ctx: Any, *grads: Any) -> Any:
            arrays = [p.detach().numpy() for p in ctx.saved_tensors]
            with torch.enable_grad():  # the target may use autograd itself
                found = _gradient(ctx.target, arrays)
            return None, *(grads[0] * torch.from_numpy(g) for g in found)

    return Loss


def _jax_function(jax: Any, target: Target) -> Any:
    dtype = np.result_type(*target.parameters.values())
    scalar = jax.ShapeDtypeStruct((), dtype)
    shapes = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in target.parameters.values()]

    @jax.custom_vjp  # type: ignore[untyped-decorator]
    def f(*arrays: Any) -> Any:
        return jax.pure_callback(lambda *a: _loss(target, a).astype(dtype), scalar, *arrays)

    def forward(*arrays: Any) -> Any:
        return f(*arrays), arrays

    def backward(arrays: Any, cotangent: Any) -> Any:
        found = jax.pure_callback(lambda *a: _gradient(target, a), shapes, *arrays)
        return tuple(cotangent * g for g in found)

    f.defvjp(forward, backward)
    return f
