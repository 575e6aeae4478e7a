"""Named arrays in one flat vector: parameters, gradients and carried states.

The optimiser, the check and files use one contiguous vector; the equations use names and shapes.
Both share the same memory.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from os import PathLike
from typing import Any, Self

import numpy as np

from throughtime import _engine, storage
from throughtime.arrays import (
    LARGEST_SIZE,
    PRECISIONS,
    Array,
    Shape,
    array_of,
    fits,
    precision,
    refuse,
    same_names,
)


class Parameters(Mapping[str, Array]):
    """A mapping from names to writable views of one flat contiguous vector.

    Args:
        shapes: name to shape, in the order in which the vector holds them.
        dtype: float32 or float64.
        flat: the vector to use; zeros where it is not given.

    Arithmetic (`+ - * /`, also in place) acts on the whole vector, with a number or with
    Parameters of the same names and shapes.

    Example:
        >>> p = Parameters({"W": (2, 3), "b": (2,)}, dtype="float64")
        >>> p["b"] = [1.0, 2.0]
        >>> p.flat
        array([0., 0., 0., 0., 0., 0., 1., 2.])
        >>> (2 * p)["b"]
        array([2., 4.])
    """

    __array_ufunc__ = None  # NumPy scalars on the left leave the arithmetic to this class

    def __init__(
        self, shapes: Mapping[str, Shape], dtype: object = "float32", flat: Array | None = None
    ) -> None:
        self.shapes: dict[str, Shape] = dict(shapes)
        size = sum(math.prod(shape) for shape in self.shapes.values())
        if size > LARGEST_SIZE:
            refuse("parameters", f"at most {LARGEST_SIZE} numbers", size, "choose smaller layers")
        if flat is None:
            flat = np.zeros(size, precision(dtype))
        fits("flat", flat, (size,))
        precision(flat.dtype)
        if not flat.flags.c_contiguous:
            refuse("flat", "a contiguous vector", f"strides {flat.strides}", "give a copy")
        self.flat: Array = flat
        sizes = [math.prod(shape) for shape in self.shapes.values()]
        stops = itertools.accumulate(sizes)
        places = [slice(stop - size, stop) for size, stop in zip(sizes, stops, strict=True)]
        self._places = dict(zip(self.shapes, places, strict=True))
        self._views: dict[str, Array] = {}  # made when they are first needed

    @classmethod
    def of(cls, arrays: Mapping[str, Array], dtype: object = None) -> Parameters:
        """Copies named arrays into one vector; without `dtype`, all must have the same one."""
        arrays = {name: array_of(name, array) for name, array in arrays.items()}
        dtypes = {str(array.dtype) for array in arrays.values()}
        if dtype is None and len(dtypes) > 1:
            way_out = "give dtype= to convert them"
            refuse("arrays", "one dtype", " and ".join(sorted(dtypes)), way_out, error=TypeError)
        chosen = dtype if dtype is not None else next(iter(dtypes), "float32")
        copy = cls({name: array.shape for name, array in arrays.items()}, chosen)
        for name, array in arrays.items():
            copy[name] = array
        return copy

    @property
    def dtype(self) -> np.dtype[Any]:
        """float32 or float64."""
        return self.flat.dtype

    def __getitem__(self, name: str) -> Array:
        view = self._views.get(name)
        if view is None:
            view = self.flat[self._places[name]].reshape(self.shapes[name])
            self._views[name] = view
        return view

    def __setitem__(self, name: str, values: object) -> None:
        if name not in self.shapes:
            refuse("name", "one of " + ", ".join(self.shapes), repr(name), error=KeyError)
        array = array_of(name, values)
        if array.dtype.kind not in "iuf":
            refuse(name, "numbers", array.dtype, error=TypeError)
        fits(name, array, self.shapes[name])
        self[name][...] = array

    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes)

    def __len__(self) -> int:
        return len(self.shapes)

    def __repr__(self) -> str:
        tensors = ", ".join(f"{name} {shape}" for name, shape in self.shapes.items())
        return f"Parameters({self.flat.size} × {self.dtype}: {tensors})"

    def like(self, flat: Array) -> Parameters:
        """The same names and shapes over another vector of the same size."""
        fast = flat.shape == self.flat.shape and flat.flags.c_contiguous
        if not fast or flat.dtype not in PRECISIONS:
            return Parameters(self.shapes, flat.dtype, flat)  # which raises what is wrong
        twin = object.__new__(Parameters)  # nothing but the vector is new
        twin.shapes, twin._places, twin.flat, twin._views = self.shapes, self._places, flat, {}
        return twin

    def zeros_like(self) -> Parameters:
        """The same names and shapes, all zero."""
        return self.like(np.zeros(self.flat.size, self.flat.dtype))

    def copy(self) -> Parameters:
        """The same names, shapes and numbers in memory of their own."""
        return self.like(self.flat.copy())

    def astype(self, dtype: object) -> Parameters:
        """A copy in float32 or float64."""
        return self.like(self.flat.astype(precision(dtype)))

    def update(self, arrays: Mapping[str, Array]) -> None:
        """Copies arrays of the same names and shapes into the vector."""
        same_names("parameters", arrays, self)
        for name, array in arrays.items():
            self[name] = array

    def save(self, path: str | PathLike[str], metadata: Mapping[str, str] | None = None) -> None:
        """Writes a safetensors file, completely or not at all, with `metadata` in it."""
        storage.write(path, self, metadata)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Parameters:
        """Reads what `save` wrote, or any safetensors file whose tensors share one precision."""
        return cls.of(storage.read(path)[0])

    def dot(self, other: Parameters) -> float:
        """Σ self·other over the whole vector, summed in float64."""
        if not isinstance(other, Parameters):
            refuse("operand", "Parameters", type(other).__name__, error=TypeError)
        return float(np.dot(self.flat.astype(np.float64), self._operand(other).astype(np.float64)))

    def norm(self) -> float:
        """‖self‖₂ over the whole vector, summed in float64."""
        return math.sqrt(_engine.sum_of_squares(self.flat))

    def _operand(self, other: object) -> Any:
        if isinstance(other, Parameters):
            if other.shapes != self.shapes or other.dtype != self.dtype:
                refuse("operand", f"the names, shapes and dtype of {self!r}", repr(other))
            return other.flat
        if isinstance(other, int | float | np.number):
            return float(other)  # a NumPy float64 would turn a float32 vector into float64
        refuse("operand", "a number or Parameters", type(other).__name__, error=TypeError)

    def __eq__(self, other: object) -> bool:
        """Same names, shapes, dtype and bits."""
        if not isinstance(other, Parameters):
            return NotImplemented
        same_form = list(self.shapes.items()) == list(other.shapes.items())
        return same_form and self.dtype == other.dtype and bool((self.flat == other.flat).all())

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[Any, ...]:
        # Copies and pickles keep views and vector one memory.
        return (Parameters, (self.shapes, self.dtype, self.flat))

    def __add__(self, other: object) -> Parameters:
        return self.like(self.flat + self._operand(other))

    def __sub__(self, other: object) -> Parameters:
        return self.like(self.flat - self._operand(other))

    def __mul__(self, other: object) -> Parameters:
        return self.like(self.flat * self._operand(other))

    def __truediv__(self, other: object) -> Parameters:
        return self.like(self.flat / self._operand(other))

    def __neg__(self) -> Parameters:
        return self.like(-self.flat)

    __radd__ = __add__
    __rmul__ = __mul__

    def __iadd__(self, other: object) -> Self:
        self.flat += self._operand(other)
        return self

    def __isub__(self, other: object) -> Self:
        self.flat -= self._operand(other)
        return self

    def __imul__(self, other: object) -> Self:
        self.flat *= self._operand(other)
        return self

    def __itruediv__(self, other: object) -> Self:
        self.flat /= self._operand(other)
        return self
