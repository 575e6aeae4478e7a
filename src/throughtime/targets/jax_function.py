"""A JAX function and its arguments as a target; the gradient is that of `jax.grad`."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

import numpy as np

from throughtime.arrays import Array, refuse
from throughtime.gradcheck import CheckError, Target

MIRRORED = ("bfloat16",)  # as float32, which holds all of its values


def is_jax(what: object, *data: Any) -> bool:
    """Whether this is a callable followed by a pytree, where jax is imported."""
    jax = sys.modules.get("jax")
    if jax is None or not callable(what) or not data:
        return False
    return any(hasattr(leaf, "dtype") for leaf in jax.tree_util.tree_leaves(data[0]))


def jax_target(
    function: Callable[..., Any],
    parameters: Any,
    *arguments: Any,
    reset: Callable[[], object] | None = None,
    at_length: Callable[[int], Target] | None = None,
    steps: int | None = None,
    jit: bool = True,
) -> Target:
    """A JAX function of parameters and further arguments.

    The parameters are copied, since JAX's arrays cannot be changed. `jax.grad` uses the rules of
    `custom_vjp` and `custom_jvp`, so they are checked too.

    Args:
        function: called as `function(parameters, *arguments)`; returns the loss, or an array of
            its terms.
        parameters: a pytree of arrays; those of floating-point numbers are checked, under their
            path in the tree.
        arguments: passed on.
        reset, at_length, steps: as in Target.
        jit: whether to compile it. A compiled function draws from NumPy, or changes a state of
            its own, only once.

    Raises:
        CheckError: where there is no array of floating-point numbers, or one of float64 while JAX
            computes in float32.
    """
    tree = ParameterTree(function, parameters, arguments, jit)
    shortened = any(str(tree.leaves[place].dtype) in MIRRORED for place in tree.places.values())
    return Target(
        tree.arrays,
        tree.loss,
        tree.gradient,
        reset=reset,
        at_length=at_length,
        steps=steps,
        bits=8 if shortened else None,
    )


class ParameterTree:
    """A pytree of parameters whose floating-point leaves are NumPy arrays of our own."""

    def __init__(
        self, function: Callable[..., Any], parameters: Any, arguments: tuple[Any, ...], jit: bool
    ) -> None:
        jax = import_module("jax")
        self.function, self.arguments, self.jit = function, arguments, jit
        paths, self.form = jax.tree_util.tree_flatten_with_path(parameters)
        self.leaves = [leaf for _, leaf in paths]
        self.places = {
            _name(path, function): place
            for place, (path, leaf) in enumerate(paths)
            if _is_floating(leaf) and np.size(leaf)
        }
        if not self.places:
            expected = "an array of floating-point numbers"
            refuse("parameters", expected, "none", error=CheckError)
        self.arrays = {name: _copy(name, self.leaves[k]) for name, k in self.places.items()}
        self._compile()

    def _compile(self) -> None:
        jit = import_module("jax").jit if self.jit else lambda function: function
        self._compiled_terms, self._compiled_slopes = jit(self._terms), jit(self._slopes)

    def __getstate__(self) -> dict[str, Any]:
        return {name: v for name, v in vars(self).items() if not name.startswith("_compiled")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._compile()

    def loss(self) -> Array:
        """The loss or its terms."""
        return np.asarray(_widened(self._run(self._compiled_terms)))

    def gradient(self) -> Mapping[str, Array]:
        """`jax.grad` of the loss, by path."""
        found = self._run(self._compiled_slopes)
        return {
            name: np.asarray(_widened(part)) for name, part in zip(self.arrays, found, strict=True)
        }

    def _terms(self, moved: list[Any]) -> Any:
        return self.function(self._tree(moved), *self.arguments)

    def _slopes(self, moved: list[Any]) -> Any:
        jax = import_module("jax")
        return jax.grad(lambda moved: jax.numpy.sum(self._terms(moved)))(moved)

    def _run(self, what: Callable[[list[Any]], Any]) -> Any:
        """`what` of the arrays as they stand."""
        jax = import_module("jax")
        try:
            return what(self._moved())
        except jax.errors.ConcretizationTypeError as problem:
            text = str(problem).partition("\n")[0]
            way_out = "give jit=False to run it as it is"
            refuse("function", "one that jax.jit can compile", text, way_out, error=CheckError)

    def _moved(self) -> list[Any]:
        """The arrays as JAX's, copied; our own then hold what JAX made of them."""
        numpy = import_module("jax").numpy
        moved = []
        for array, place in zip(self.arrays.values(), self.places.values(), strict=True):
            dtype = self.leaves[place].dtype
            moved.append(numpy.array(array, dtype=dtype, copy=True))
            if str(dtype) in MIRRORED:
                array[...] = np.asarray(_widened(moved[-1]))
        return moved

    def _tree(self, moved: list[Any]) -> Any:
        leaves = list(self.leaves)
        for place, leaf in zip(self.places.values(), moved, strict=True):
            leaves[place] = leaf
        return import_module("jax").tree_util.tree_unflatten(self.form, leaves)


def _is_floating(leaf: Any) -> bool:
    jax = import_module("jax")
    return hasattr(leaf, "dtype") and bool(jax.numpy.issubdtype(leaf.dtype, jax.numpy.floating))


def _copy(name: str, leaf: Any) -> Array:
    jax = import_module("jax")
    if str(leaf.dtype) == "float64" and not jax.config.jax_enable_x64:
        way_out = "jax.config.update('jax_enable_x64', True), or .astype('float32')"
        actual = "float64, which JAX now computes in float32"
        refuse(name, "float32", actual, way_out, error=CheckError)
    return np.array(_widened(leaf))


def _widened(value: Any) -> Any:
    """bfloat16 as float32, since NumPy has none."""
    dtype = getattr(value, "dtype", None)
    return value.astype("float32") if str(dtype) in MIRRORED else value


def _name(path: tuple[Any, ...], function: Callable[..., Any]) -> str:
    """A path in the tree, such as `lstm.W` or `layers.0.b`; a tree of one leaf is its argument."""
    keys = [
        str(next(getattr(key, a) for a in ("key", "idx", "name") if hasattr(key, a)))
        for key in path
    ]
    return ".".join(keys) if keys else _first_argument(function)


def _first_argument(function: Callable[..., Any]) -> str:
    try:
        return next(iter(inspect.signature(function).parameters), "parameters")
    except (TypeError, ValueError):
        return "parameters"
