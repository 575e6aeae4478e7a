"""Values that record what is done to them, in place of arrays.

What is not understood is refused with the line that holds it.
"""

from __future__ import annotations

import linecache
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Any, NoReturn

import numpy as np

from throughtime.arrays import Shape
from throughtime.equations.graph import Graph, Node


class EquationError(ValueError):
    """A step that cannot be traced: where, why, and what to write instead."""


class ShapeError(EquationError):
    """A step whose shapes do not fit."""


class Traced:
    """Stands for an array of one sequence at one step, and records what is done to it.

    Args:
        node: its place in the graph.
    """

    __array_priority__ = 1000.0
    __hash__ = object.__hash__

    def __init__(self, node: Node) -> None:
        self.node = node

    @property
    def shape(self) -> Shape:
        """The shape that the array has."""
        return self.node.shape

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.node.shape)

    @property
    def size(self) -> int:
        """The number of entries."""
        return int(np.prod(self.node.shape))

    @property
    def T(self) -> Traced:
        """The transposed matrix."""
        return self if self.ndim < 2 else apply("transpose", self)

    def __len__(self) -> int:
        if not self.shape:
            refuse_here("len() of a single number", "use the number itself")
        return self.shape[0]

    def __repr__(self) -> str:
        return f"Traced{self.shape}"

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *given: Any, **options: Any) -> Any:
        if "out" in options:
            refuse_here(*IN_PLACE)
        how = UFUNCS.get(ufunc.__name__)
        if method != "__call__" or how is None or options:
            extra = f".{method}" if method != "__call__" else ""
            words = f" with {', '.join(options)}" if options else ""
            refuse_here(f"np.{ufunc.__name__}{extra}{words} is not known here", KNOWN)
        return how(*given)

    def __array_function__(
        self, function: Callable[..., Any], types: Any, given: Any, options: Any
    ) -> Any:
        how = FUNCTIONS.get(function.__name__)
        if how is None:
            refuse_here(f"{_name_of(function)} is not known here", KNOWN)
        try:
            return how(*given, **options)
        except TypeError as problem:
            if isinstance(problem, EquationError):
                raise
            refuse_here(f"{_name_of(function)}: {problem}", KNOWN)

    def __array__(self, *_: Any, **__: Any) -> NoReturn:
        refuse_here(
            "a value of the step was made a plain array, or put into one",
            "use it as it is, and build arrays of it with np.concatenate or np.stack",
        )

    def __float__(self) -> NoReturn:
        refuse_here(
            "a value of the step was made a Python number",
            "keep it an array, and take np.tanh in place of math.tanh",
        )

    __int__ = __complex__ = __index__ = __float__

    def __bool__(self) -> NoReturn:
        refuse_here(
            "if, and, or, not and while cannot look at a value that differs from step to step",
            "write np.where(condition, one, other)",
        )

    def __iter__(self) -> Iterator[Traced]:
        return (self[k] for k in range(len(self)))

    def __getitem__(self, key: Any) -> Traced:
        return _item(self, key)

    def __setitem__(self, key: Any, value: Any) -> NoReturn:
        refuse_here(
            IN_PLACE[0],
            "build a new one with np.concatenate, np.stack or np.where",
        )

    def _in_place(self, other: Any) -> NoReturn:
        refuse_here(*IN_PLACE)

    __iadd__ = __isub__ = __imul__ = __itruediv__ = __ipow__ = __imatmul__ = _in_place

    def __add__(self, other: Any) -> Traced:
        return apply("add", self, other)

    def __radd__(self, other: Any) -> Traced:
        return apply("add", other, self)

    def __sub__(self, other: Any) -> Traced:
        return apply("subtract", self, other)

    def __rsub__(self, other: Any) -> Traced:
        return apply("subtract", other, self)

    def __mul__(self, other: Any) -> Traced:
        return apply("multiply", self, other)

    def __rmul__(self, other: Any) -> Traced:
        return apply("multiply", other, self)

    def __truediv__(self, other: Any) -> Traced:
        return apply("divide", self, other)

    def __rtruediv__(self, other: Any) -> Traced:
        return apply("divide", other, self)

    def __matmul__(self, other: Any) -> Traced:
        return apply("matmul", self, other)

    def __rmatmul__(self, other: Any) -> Traced:
        return apply("matmul", other, self)

    def __pow__(self, other: Any) -> Traced:
        return apply("power", self, other)

    def __rpow__(self, other: Any) -> Traced:
        return apply("power", other, self)

    def __neg__(self) -> Traced:
        return apply("negative", self)

    def __pos__(self) -> Traced:
        return self

    def __abs__(self) -> Traced:
        return apply("absolute", self)

    def __gt__(self, other: Any) -> Traced:
        return apply("greater", self, other)

    def __ge__(self, other: Any) -> Traced:
        return apply("greater_equal", self, other)

    def __lt__(self, other: Any) -> Traced:
        return apply("less", self, other)

    def __le__(self, other: Any) -> Traced:
        return apply("less_equal", self, other)

    def __eq__(self, other: object) -> Traced:  # type: ignore[override]
        return apply("equal", self, other)

    def __ne__(self, other: object) -> Traced:  # type: ignore[override]
        return apply("not_equal", self, other)

    def sum(self, axis: int | None = None, keepdims: bool = False) -> Traced:
        """The sum over an axis, or over all entries."""
        return _sum(self, axis, keepdims=keepdims)

    def mean(self, axis: int | None = None, keepdims: bool = False) -> Traced:
        """The mean over an axis, or over all entries."""
        return _mean(self, axis, keepdims=keepdims)

    def var(self, axis: int | None = None, *, ddof: int = 0, keepdims: bool = False) -> Traced:
        """The variance over an axis, or over all entries, divided by their number less `ddof`."""
        return _variance(self, axis, ddof=ddof, keepdims=keepdims)

    def std(self, axis: int | None = None, *, ddof: int = 0, keepdims: bool = False) -> Traced:
        """The square root of the variance."""
        return apply("sqrt", self.var(axis, ddof=ddof, keepdims=keepdims))

    def max(self, axis: int | None = None, keepdims: bool = False) -> Traced:
        """The largest entry along an axis, or of all."""
        return _max(self, axis, keepdims=keepdims)

    def min(self, axis: int | None = None, keepdims: bool = False) -> Traced:
        """The smallest entry along an axis, or of all."""
        return -_max(-self, axis, keepdims=keepdims)

    def astype(self, _: Any, **__: Any) -> Traced:
        """Itself: its precision is the network's."""
        return self

    def __and__(self, other: Any) -> Traced:
        return _logic("multiply", self, other)

    def __or__(self, other: Any) -> Traced:
        return _logic("maximum", self, other)

    def __invert__(self) -> Traced:
        return _logic("subtract", 1, self)

    __rand__, __ror__ = __and__, __or__

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("_"):  # NumPy asks for __array_interface__ and the like
            raise AttributeError(name)
        refuse_here(f".{name} of a value is not known here", KNOWN)

    def reshape(self, *shape: Any) -> Traced:
        """The same entries in another shape."""
        found: Traced = _reshape(self, shape[0] if len(shape) == 1 else shape)
        return found

    def ravel(self) -> Traced:
        """All entries in a row."""
        return self.reshape(-1)

    flatten = ravel

    def dot(self, other: Any) -> Traced:
        """The matrix product."""
        return apply("matmul", self, other)

    def transpose(self) -> Traced:
        """The transposed matrix."""
        return self.T

    def clip(self, low: Any = None, high: Any = None) -> Traced:
        """No smaller than `low`, and no larger than `high`."""
        found: Traced = _clip(self, low, high)
        return found

    def copy(self) -> Traced:
        """Itself: nothing here is changed in place."""
        return self


# NumPy asks for `out=` where an array of its own stands on the left of +=.
IN_PLACE = ("a value is changed in place", "write z = z + a instead of z += a or out=z")
KNOWN = (
    "write it with arithmetic, @, np.tanh, np.exp, np.log, np.sqrt, np.where, np.maximum, np.clip, "
    "np.split, np.concatenate, np.sum, np.mean, np.outer, np.einsum, tt.sigmoid, tt.softplus, "
    "tt.softmax"
)


CONDITIONS = {"greater", "greater_equal", "less", "less_equal", "equal", "not_equal"}


def _condition(node: Node) -> bool:
    """Whether a value is true or false in every entry."""
    if node.operation in ("multiply", "maximum", "subtract"):
        return all(_condition(x) or x.value == 1 for x in node.operands)
    return node.operation in CONDITIONS


def _logic(operation: str, *given: Any) -> Traced:
    """and, or and not of conditions, which are 1 where they hold and 0 elsewhere."""
    if not all(_condition(x.node) for x in given if isinstance(x, Traced)):
        refuse_here("and, or, not of values that are no conditions", "compare them: (h > 0) & …")
    return apply(operation, *given)


def traced(x: Any) -> bool:
    """Whether a value is traced."""
    return isinstance(x, Traced)


def apply(operation: str, *given: Any, **attributes: Any) -> Traced:
    """An operation on traced values and numbers."""
    graph = next(x.node.graph for x in given if isinstance(x, Traced))
    nodes = [_node(graph, x) for x in given]
    try:
        return Traced(graph.apply(operation, *nodes, **attributes))
    except ValueError as problem:
        shapes = " and ".join(str(node.shape) for node in nodes)
        why = "" if "broadcast" in str(problem) else f" ({problem})"
        way_out = "compare them with the shapes that @tt.cell gives the parameters"
        refuse_here(f"the shapes {shapes} do not fit{why}", way_out, ShapeError)


def _node(graph: Graph, given: Any) -> Node:
    if isinstance(given, Traced):
        if given.node.graph is not graph:
            refuse_here("a value of an earlier call was kept", "compute it within the step")
        return given.node
    array = np.asarray(given)
    if array.dtype.kind not in "biuf":
        refuse_here(f"a {array.dtype} value takes part", "use real numbers")
    if array.ndim == 0:
        return graph.constant(float(array))
    if (array == array.flat[0]).all():  # np.ones, np.zeros, np.full
        constant = graph.constant(float(array.flat[0]))
        return graph.apply("broadcast", constant, shape=array.shape)
    return graph.apply("numbers", numbers=tuple(map(float, array.ravel())), shape=array.shape)


def _item(x: Traced, key: Any) -> Traced:
    """x[key] for numbers and slices without a step, None and … among them."""
    keys = list(key) if isinstance(key, tuple) else [key]
    if Ellipsis in [k for k in keys if not isinstance(k, Traced)]:
        at = next(n for n, k in enumerate(keys) if k is Ellipsis)
        missing = x.ndim - sum(k is not None and k is not Ellipsis for k in keys)
        keys[at : at + 1] = [slice(None)] * missing
    shape: list[int] = []
    axis = 0
    for k in keys:
        if k is None:
            shape.append(1)
            continue
        if axis >= x.ndim:
            refuse_here(f"{len(keys)} indices for an array of shape {x.shape}", "leave some out")
        size = x.shape[axis]
        if isinstance(k, slice) and k.step in (None, 1):
            start, stop, _ = k.indices(size)
        elif isinstance(k, int | np.integer) and not isinstance(k, bool):
            if not -size <= k < size:
                refuse_here(f"index {k} of an axis with {size} entries", "count from 0")
            start = int(k) % size
            stop = start + 1
        else:
            refuse_here(
                "an index that is not a number or a plain slice", "use np.split or np.where"
            )
        if stop <= start:
            refuse_here(f"an empty slice, [{start}:{stop}]", "compare it with the sizes")
        if isinstance(k, slice):
            shape.append(stop - start)
        x = _part(x, axis, start, stop)
        axis += 1
    shape += x.shape[axis:]
    return x if tuple(shape) == x.shape else apply("reshape", x, shape=tuple(shape))


def _part(x: Traced, axis: int, start: int, stop: int) -> Traced:
    if (start, stop) == (0, x.shape[axis]):
        return x
    if axis == 0:
        return apply("part", x, start=start, stop=stop)
    if axis == 1 and x.ndim == 2:
        return apply("transpose", apply("part", x.T, start=start, stop=stop))
    refuse_here("a slice of an axis behind the second", "reshape to a matrix first")


def _reduce(name: str) -> Callable[..., Traced]:
    def reduced(x: Any, axis: Any = None, *, keepdims: bool = False) -> Traced:
        if axis is not None and not isinstance(axis, int | np.integer):
            refuse_here(f"np.{name} over the axes {axis}", "reduce one axis after the other")
        if not x.shape:
            return x  # type: ignore[no-any-return]
        if axis is not None and not -x.ndim <= axis < x.ndim:
            refuse_here(f"axis {axis} of an array of shape {x.shape}", "count axes from 0")
        own = None if axis is None else int(axis) % x.ndim
        if x.ndim == 1:
            own = 0
        return apply(name, x, axis=own, keepdims=bool(keepdims))

    return reduced


_sum, _mean, _max = _reduce("sum"), _reduce("mean"), _reduce("max")


def _variance(x: Any, axis: int | None = None, *, ddof: int = 0, keepdims: bool = False) -> Traced:
    centred = x - _mean(x, axis, keepdims=x.ndim > 1)
    variance = _mean(centred**2, axis, keepdims=keepdims)
    number = x.size if axis is None else x.shape[axis]
    return variance * (number / (number - ddof)) if ddof else variance


def _deviation(x: Any, axis: int | None = None, *, ddof: int = 0, keepdims: bool = False) -> Traced:
    return apply("sqrt", _variance(x, axis, ddof=ddof, keepdims=keepdims))


def _norm(x: Any, ord: Any = None, axis: int | None = None, keepdims: bool = False) -> Traced:
    if ord not in (None, 2) or (ord == 2 and x.ndim > 1 and axis is None):
        refuse_here(f"the norm of order {ord}", "write it with np.sum")
    return apply("sqrt", _sum(x**2, axis, keepdims=keepdims))


def _split(x: Any, into: Any, axis: int = 0) -> list[Traced]:
    if isinstance(x, Traced) and -x.ndim <= axis < x.ndim:
        size = x.shape[axis]
        if isinstance(into, int | np.integer):
            if into < 1 or size % into:
                refuse_here(
                    f"np.split of {size} entries into {into}", "give equal parts, or places"
                )
            ends = [size // into * (k + 1) for k in range(into)]
        else:
            ends = [min(int(k) % (size + 1) if k < 0 else int(k), size) for k in into] + [size]
        starts = [0, *ends[:-1]]
        found = zip(starts, ends, strict=True)
        return [_part(x, axis % x.ndim, start, stop) for start, stop in found]
    refuse_here("np.split of something else than a traced array", KNOWN)


def _concatenate(given: Sequence[Any], axis: int = 0) -> Traced:
    first = next(x for x in given if isinstance(x, Traced))
    rank = first.ndim
    if axis % rank == 0:
        return apply("concatenate", *given)
    if axis % rank == 1 and rank == 2:
        turned = [x.T if isinstance(x, Traced) else np.asarray(x).T for x in given]
        return apply("concatenate", *turned).T
    refuse_here("np.concatenate along an axis behind the second", "reshape to matrices first")


def _stack(given: Sequence[Any], axis: int = 0) -> Traced:
    rows = [_reshape(x, (1, *np.shape(x))) for x in given]
    joined = apply("concatenate", *rows)
    if axis == 0 or (axis in (-1, 1) and joined.ndim == 2):
        return joined if axis == 0 else joined.T
    refuse_here("np.stack along this axis", "stack along the first one")


def _reshape(x: Any, shape: Any) -> Any:
    if not isinstance(x, Traced):
        return np.reshape(x, shape)
    try:
        new = np.broadcast_to(0, x.shape).reshape(shape).shape
    except ValueError as problem:
        refuse_here(str(problem), "compare it with the sizes", ShapeError)
    return x if new == x.shape else apply("reshape", x, shape=new)


def _clip(x: Any, low: Any = None, high: Any = None) -> Any:
    x = x if low is None else apply("maximum", x, low)
    return x if high is None else apply("minimum", x, high)


def _unary(name: str) -> Callable[[Any], Traced]:
    return lambda x: apply(name, x)


def _binary(name: str) -> Callable[[Any, Any], Traced]:
    return lambda a, b: apply(name, a, b)


BINARY = (
    *("add", "subtract", "multiply", "divide", "power", "matmul", "maximum", "minimum"),
    *("equal", "not_equal", "less", "less_equal", "greater", "greater_equal"),
)
UNARY = (
    *("tanh", "exp", "log", "log1p", "expm1", "sqrt", "sin", "cos", "arctan"),
    *("absolute", "sign", "negative"),
)
UFUNCS: dict[str, Callable[..., Any]] = {
    **{name: _binary(name) for name in BINARY},
    **{name: _unary(name) for name in UNARY},
    "true_divide": _binary("divide"),
    "fmax": _binary("maximum"),
    "fmin": _binary("minimum"),
    "float_power": _binary("power"),
    "square": lambda x: x**2,
    "reciprocal": lambda x: 1 / x,
    "positive": lambda x: x,
    "fabs": _unary("absolute"),
    "logaddexp": lambda a, b: b + apply("softplus", a - b),
    "logical_not": lambda x: _logic("subtract", 1, x),
    "invert": lambda x: _logic("subtract", 1, x),
    **dict.fromkeys(("logical_and", "bitwise_and"), lambda a, b: _logic("multiply", a, b)),
    **dict.fromkeys(("logical_or", "bitwise_or"), lambda a, b: _logic("maximum", a, b)),
    "log2": lambda x: np.log(x) / np.log(2),
    "log10": lambda x: np.log(x) / np.log(10),
    "exp2": lambda x: 2**x,
    "tan": lambda x: np.sin(x) / np.cos(x),
    "sinh": lambda x: (np.exp(x) - np.exp(-x)) / 2,
    "cosh": lambda x: (np.exp(x) + np.exp(-x)) / 2,
    "expit": _unary("sigmoid"),  # scipy.special's
}
FUNCTIONS: dict[str, Callable[..., Any]] = {
    "sum": _sum,
    "max": _max,
    "amax": _max,
    "min": lambda x, axis=None, **options: -_max(-x, axis, **options),
    "amin": lambda x, axis=None, **options: -_max(-x, axis, **options),
    "mean": _mean,
    "var": _variance,
    "std": _deviation,
    "norm": _norm,
    "split": _split,
    "array_split": _split,
    "hsplit": lambda x, into: _split(x, into, axis=0 if x.ndim == 1 else 1),
    "vsplit": _split,
    "concatenate": _concatenate,
    "hstack": lambda given: _concatenate(given, axis=min(1, max(np.ndim(x) for x in given) - 1)),
    "append": lambda x, y: _concatenate([x, y]),
    "stack": _stack,
    "vstack": lambda given: _concatenate([x if np.ndim(x) > 1 else x[None] for x in given]),
    "where": lambda condition, yes, no: apply("where", condition, yes, no),
    "clip": _clip,
    "outer": lambda a, b: apply("outer", _reshape(a, -1), _reshape(b, -1)),
    "dot": lambda a, b: apply("matmul" if np.ndim(a) and np.ndim(b) else "multiply", a, b),
    "inner": lambda a, b: apply("matmul", a, b.T),
    "reshape": lambda x, shape: _reshape(x, shape),
    "ravel": lambda x: _reshape(x, -1),
    "squeeze": lambda x: _reshape(x, tuple(n for n in x.shape if n != 1)),
    "expand_dims": lambda x, axis: _reshape(
        x, np.expand_dims(np.broadcast_to(0, x.shape), axis).shape
    ),
    "transpose": lambda x: x.T,
    "broadcast_to": lambda x, shape: apply("broadcast", x, shape=tuple(shape)),
    "zeros_like": lambda x, dtype=None: np.zeros(x.shape),
    "ones_like": lambda x, dtype=None: np.ones(x.shape),
    "full_like": lambda x, value, dtype=None: np.full(x.shape, value),
    "shape": lambda x: x.shape,
    "ndim": lambda x: x.ndim,
    "size": lambda x: x.size,
    "copy": lambda x: x,
}


def _name_of(function: Callable[..., Any]) -> str:
    """A function of NumPy as one writes it: np.sort, np.linalg.solve."""
    module = str(getattr(function, "__module__", "")).removeprefix("numpy").removeprefix(".")
    inner = f"{module}." if module in ("linalg", "fft", "random") else ""
    return f"np.{inner}{function.__name__}"


def refuse_here(why: str, way_out: str, kind: type[EquationError] = EquationError) -> NoReturn:
    """Refuses the expression of the user's step that is being run."""
    raise kind(f"{_here()}: {why}; {way_out}")


def _here() -> str:
    """File, line and source of the innermost call outside this package and NumPy."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and _inside(frame):
        frame = frame.f_back
    return "the step" if frame is None else _place(frame, frame.f_lineno)


def place_of(problem: BaseException) -> str:
    """The same of where an exception came from, as it is caught."""
    places = [own for own in traceback.walk_tb(problem.__traceback__) if not _inside(own[0])]
    return _place(*places[-1]) if places else "the step"


def _inside(frame: FrameType) -> bool:
    name: str = frame.f_globals.get("__name__", "")
    return f"{name}.".startswith(("throughtime.equations.", "throughtime.functions.", "numpy."))


def _place(frame: FrameType, line: int) -> str:
    file = frame.f_code.co_filename
    text = linecache.getline(file, line).strip()
    short = file.replace("\\", "/").rpartition("/")[2]
    return f"{short}, line {line}" + (f", `{text}`" if text else "")
