"""Layers whose products of matrices are in bfloat16: factors are rounded, sums are float32.

What is rounded is the factors of W x, U h, R m and of what the backward pass multiplies: δz with U,
W, x and h. States, gates, sums over steps, parameters and their gradients are float32 numbers; so
is a column of W that a class index selects. The compiled engine has such products where the
processor has them. What the readable one computes here, with factors rounded in NumPy, is what they
mean: the two differ by the order of their sums.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from throughtime import _engine
from throughtime.arrays import Array, refuse
from throughtime.cells import LocalGradients, State, Tape
from throughtime.engine_settings import engine, products_in_bfloat16, use_compiled
from throughtime.network.layers import Dense, Dropout, Embedding, InputTape, Layer, LayerTape
from throughtime.network.recurrent import RecurrentLayer, RecurrentTape

PRODUCTS = ("float32", "bfloat16")
FLOAT32 = "leave products out, or give products='float32'"


def checked_products(products: object, dtype: np.dtype[Any]) -> bool:
    """Whether products are in bfloat16; refused where they cannot be.

    Raises:
        ValueError: for another word, for float64, and for a processor without such products.
    """
    if products not in PRODUCTS:
        refuse("products", "'float32' or 'bfloat16'", repr(products))
    if products == "float32":
        return False
    if dtype != np.float32:
        refuse("products", "a network in float32, for bfloat16", str(dtype), FLOAT32)
    if use_compiled() and not _engine.bfloat16():
        expected = "a processor with AVX512_BF16, or AArch64 with BF16, for bfloat16"
        refuse("products", expected, f"the instruction set {_engine.isa()}", FLOAT32)
    return True


def in_bfloat16(number: int, layer: Layer) -> Layer:
    """The layer at position `number` with products in bfloat16; without products, the same.

    Raises:
        TypeError: for a layer that has no such form.
    """
    cell = layer.cell if type(layer) is RecurrentLayer else None
    if cell is not None and cell.multiplies_in_bfloat16:
        return RecurrentInBfloat16(cell)
    if type(layer) is Dense:
        return DenseInBfloat16(layer.inputs, layer.outputs, layer.bias)
    if isinstance(layer, Embedding | Dropout):
        return layer
    what = layer.cell.title if isinstance(layer, RecurrentLayer) else type(layer).__name__
    expected = "RNN, LSTM, GRU, Dense, Embedding or Dropout, for products in bfloat16"
    if cell is not None:
        expected = "a cell in which a product of matrices is one of a parameter with a vector"
    refuse(f"layer {number}", expected, what, FLOAT32, error=TypeError)


class _InBfloat16(Layer):
    """What it is mixed in with computes, with products in bfloat16."""

    def _compiled(self) -> bool:
        """Whether the compiled engine multiplies; otherwise the readable form does."""
        return use_compiled()

    def forward(
        self,
        p: Mapping[str, Array],
        inputs: Array,
        state: State | None,
        lengths: Array | None,
        rng: np.random.Generator | None,
    ) -> tuple[Array, State, LayerTape]:
        if self._compiled():
            with products_in_bfloat16():
                return super().forward(p, inputs, state, lengths, rng)  # type: ignore[safe-super]
        with engine("readable"):
            y, final, tape = super().forward(_all(p), inputs, state, lengths, rng)  # type: ignore[safe-super]
        return _plain(y), _all(final, _plain), _tape(tape, _plain)

    def backward(
        self,
        p: Mapping[str, Array],
        tape: LayerTape,
        doutputs: Array,
        dstate: State | None,
        need_inputs: bool,
        need_deltas: bool,
        gradient: Mapping[str, Array],
    ) -> LocalGradients:
        rest = (doutputs, dstate, need_inputs, need_deltas, gradient)
        if self._compiled():
            with products_in_bfloat16():
                return super().backward(p, tape, *rest)  # type: ignore[safe-super]
        with engine("readable"):
            found = super().backward(_all(p), _tape(tape, _round), *rest)  # type: ignore[safe-super]
        return LocalGradients(
            _all(found.parameters, _plain),
            None if found.inputs is None else _plain(found.inputs),
            _all(found.state, _plain),
            _all(found.deltas, _plain),
        )

    def parameter_gradients(
        self, p: Mapping[str, Array], tape: LayerTape, deltas: Mapping[str, Array]
    ) -> dict[str, Array]:
        rounded = _all(p), _tape(tape, _round), _all(deltas)
        with engine("readable"):
            return _all(super().parameter_gradients(*rounded), _plain)


@dataclass(frozen=True)
class RecurrentInBfloat16(_InBfloat16, RecurrentLayer):
    """A recurrent layer whose products are in bfloat16."""

    def _compiled(self) -> bool:
        return use_compiled() and self.cell.compiles_in_bfloat16


@dataclass(frozen=True)
class DenseInBfloat16(_InBfloat16, Dense):
    """A Dense layer whose products are in bfloat16."""


# --- the readable form ---


def nearest_bfloat16(array: Array) -> Array:
    """The nearest numbers in bfloat16, as float32; of two as near, the one whose last bit is 0.

    As processors do it: below the smallest normal number all is 0, and what rounds to more than
    the largest number is infinite.

    Example:
        >>> import numpy as np
        >>> nearest_bfloat16(np.array([1, 1 + 2**-8, 1 + 3 * 2**-8], np.float32))
        array([1.      , 1.      , 1.015625], dtype=float32)
    """
    bits = np.ascontiguousarray(array, np.float32).view(np.uint32)
    tie = (bits >> np.uint32(16)) & np.uint32(1)
    with np.errstate(over="ignore"):
        near = (bits + np.uint32(0x7FFF) + tie) & np.uint32(0xFFFF0000)
    near = np.where(bits & np.uint32(0x7F800000), near, bits & np.uint32(0x80000000))
    nearest: Array = near.view(np.float32).reshape(np.shape(array))
    return np.where(np.isnan(array), array, nearest)


class _Rounding(np.ndarray[Any, Any]):
    """Numbers whose matrix products are in bfloat16, as are those of all that follows from them."""

    def __array_ufunc__(self, ufunc: Any, method: Any, *inputs: Any, **options: Any) -> Any:
        given = [_plain(x) if isinstance(x, np.ndarray) else x for x in inputs]
        if ufunc is np.matmul:
            given = [nearest_bfloat16(x) for x in given]
        if "out" in options:
            options["out"] = tuple(map(_plain, options["out"]))
        found = getattr(ufunc, method)(*given, **options)
        return found.view(_Rounding) if isinstance(found, np.ndarray) else found


def _round(array: Array) -> Array:
    return array if array.dtype.kind in "iu" else array.view(_Rounding)


def _plain(array: Array) -> Array:
    return np.asarray(array)


def _all(arrays: Mapping[str, Array], each: Any = _round) -> dict[str, Array]:
    return {name: each(array) for name, array in arrays.items()}


def _tape(tape: LayerTape, each: Any) -> LayerTape:
    if isinstance(tape, RecurrentTape):
        return RecurrentTape(tuple(_of_steps(one, each) for one in tape.directions), tape.lengths)
    assert isinstance(tape, InputTape)
    return InputTape(each(tape.inputs))


def _of_steps(tape: Tape, each: Any) -> Tape:
    return Tape(each(tape.inputs), _all(tape.states, each), _all(tape.kept, each), tape.active)
