"""A Keras model on the torch or the JAX backend as a target; the gradient is the backend's."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

import numpy as np

from throughtime.arrays import Array, refuse
from throughtime.gradcheck import CheckError, Target

BACKENDS = ("torch", "jax")


def is_keras(what: object, *_: Any) -> bool:
    """Whether this is a Keras model or layer; Keras is not imported to find that out."""
    keras = sys.modules.get("keras")
    layers = getattr(keras, "layers", None)
    return layers is not None and isinstance(what, layers.Layer)


def keras_target(
    model: Any,
    *data: Any,
    loss: Callable[[Any], Any] | None = None,
    reset: Callable[[], object] | None = None,
    at_length: Callable[[int], Target] | None = None,
    steps: int | None = None,
    jit: bool | None = None,
    seed: int = 0,
) -> Target:
    """A Keras model or layer, its inputs, and the targets of the loss that it was compiled with.

    Its trainable variables are copied and never changed. It runs with `training=False`, so that
    nothing is dropped out and no statistics move.

    Args:
        model: a model or a layer.
        data: `x`, or `x, y`; nested arrays as the model takes them.
        loss: a function of the outputs that returns a tensor, the loss or its terms, in place of
            the compiled one. Without it and without y the outputs are weighted at random.
        reset, at_length, steps: as in Target.
        jit: of the JAX backend: False runs the model as it is.
        seed: random seed of these weights.

    Raises:
        CheckError: on another backend, for a model that was not compiled with a loss where y is
            given, or one without trainable variables of float32 or float64.
    """
    keras = import_module("keras")
    backend = keras.backend.backend()
    if backend not in BACKENDS:
        way_out = "set KERAS_BACKEND=jax or torch, or check it as a program: tt.program_target"
        refuse("model", "Keras on the torch or the JAX backend", backend, way_out, CheckError)
    if len(data) not in (1, 2):
        refuse("check", "a Keras model, x and y", f"{1 + len(data)} things", error=TypeError)
    if jit is not None and backend != "jax":
        refuse("jit", "the JAX backend, which has this option", backend, error=TypeError)
    if len(data) == 2 and loss is None and not getattr(model, "compiled", False):
        way_out = "model.compile(loss=…), or loss=lambda outputs: …"
        refuse("model", "one that was compiled with a loss", "another", way_out, CheckError)
    evaluation = KerasEvaluation(model, data, loss, jit is not False, seed)
    return Target(
        evaluation.arrays,
        evaluation.loss,
        evaluation.gradient,
        reset=reset,
        at_length=at_length,
        steps=steps,
    )


class KerasEvaluation:
    """A model whose trainable variables take the values of NumPy arrays of our own.

    Attributes:
        arrays: by the variables' paths, without what all of them begin with.
    """

    def __init__(
        self, model: Any, data: Any, loss: Callable[[Any], Any] | None, jit: bool, seed: int
    ) -> None:
        self.keras = import_module("keras")
        self.model, self.own_loss = model, loss
        convert = self.keras.ops.convert_to_tensor
        tensors = [self.keras.tree.map_structure(convert, one) for one in data]
        self.x, self.y = tensors[0], tensors[1] if len(tensors) > 1 else None
        self.on_jax = self.keras.backend.backend() == "jax"
        if not model.built:
            model(self.x, training=False)
        with self.keras.StatelessScope():  # even a seed that is not drawn from would move on
            outputs = model(self.x, training=False)
        self.variables = list(model.trainable_variables)
        if not self.variables:
            refuse("model", "trainable variables", "none", error=CheckError)
        self.arrays = dict(
            zip(_names(self.variables), map(self._copy, self.variables), strict=True)
        )
        rng = np.random.default_rng(seed)
        self.weights = [
            convert(rng.standard_normal(tuple(one.shape)), dtype=one.dtype)
            for one in self.keras.tree.flatten(outputs)
        ]
        jax = import_module("jax") if self.on_jax else None
        compiled = jax.jit if jax is not None and jit else lambda function: function
        self._terms = compiled(self.terms)
        self._slopes = compiled(self.slopes) if jax is not None else self.slopes

    def _copy(self, variable: Any) -> Array:
        if str(variable.dtype) not in ("float32", "float64"):
            way_out = "build the model with dtype='float32'"
            refuse(variable.path, "float32 or float64", variable.dtype, way_out, CheckError)
        return np.array(self.keras.ops.convert_to_numpy(variable.value))

    def terms(self, values: list[Any]) -> Any:
        """The loss or its terms, with these values of the variables."""
        mapping = list(zip(self.variables, values, strict=True))
        with self.keras.StatelessScope(state_mapping=mapping):
            outputs = self.model(self.x, training=False)
            if self.own_loss is not None:
                return self.own_loss(outputs)
            if self.y is not None:
                return self.model.compute_loss(self.x, self.y, outputs, training=False)
            pairs = zip(self.keras.tree.flatten(outputs), self.weights, strict=True)
            return sum(self.keras.ops.sum(one * weight) for one, weight in pairs)

    def slopes(self, values: list[Any]) -> list[Any]:
        """The derivatives of their sum."""
        if self.on_jax:
            jax = import_module("jax")
            found: list[Any] = jax.grad(lambda moved: jax.numpy.sum(self.terms(moved)))(values)
            return found
        torch = import_module("torch")
        leaves = [value.detach().requires_grad_() for value in values]
        with torch.enable_grad():
            total = self.terms(leaves).sum()
        if not total.requires_grad:
            refuse("loss", "one that depends on the model", "another", error=CheckError)
        return list(torch.autograd.grad(total, leaves, allow_unused=True))

    def loss(self) -> Array:
        """The loss or its terms."""
        return np.asarray(self.keras.ops.convert_to_numpy(self._terms(self._values())))

    def gradient(self) -> Mapping[str, Array]:
        """By the variables' names; 0 where the loss does not depend on one."""
        found = self._slopes(self._values())
        return {
            name: np.zeros_like(array)
            if part is None
            else np.asarray(self.keras.ops.convert_to_numpy(part))
            for (name, array), part in zip(self.arrays.items(), found, strict=True)
        }

    def _values(self) -> list[Any]:
        """The arrays as they stand, as the backend's tensors with memory of their own."""
        convert = self.keras.ops.convert_to_tensor
        pairs = zip(self.arrays.values(), self.variables, strict=True)
        return [convert(array.copy(), dtype=variable.dtype) for array, variable in pairs]


def _names(variables: list[Any]) -> list[str]:
    """The variables' paths; what all of them begin with, such as the model's name, is left out."""
    paths = [variable.path.split("/") for variable in variables]
    shared = 0
    while all(len(path) > shared + 1 and path[shared] == paths[0][shared] for path in paths):
        shared += 1
    names = ["/".join(path[shared:]) for path in paths]
    return names if len(set(names)) == len(names) else [variable.path for variable in variables]
