"""Right recurrent networks as users write them, one for every seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import count
from typing import Any

import numpy as np

from benchmarks.strangers.losses import ADDED, CLASSES, NUMBERS, ONE, SHOWN, TERMS, Loss, Sum
from benchmarks.strangers.networks import CELLS, FORMATS, HEADS, Network, Rounding
from benchmarks.strangers.tape import gradient
from throughtime.arrays import Array
from throughtime.gradcheck import Target

LONGEST, SHORT, LONG = 500, 30, 0.07  # steps at most; all but the share `LONG` have at most `SHORT`
ALL_UNITS = 3000  # the largest H times T: long networks are narrow, to save time
WIDEST = 64  # the largest number of units, inputs and classes
MOST = 8  # the largest number of sequences
WEIGHTS = (1e-4, 2.0)  # standard deviations
TINY = (1e-12, 1e-8, 1e-7, 1e-5)
GRIDS = (8, 12, 16, 20)  # bits after the point
WORDS = 5  # rows of an embedding, so that some repeat and some are never used

# What may be rounded inside. If anything is, each is drawn equally often.
ROUNDED = (
    *(("float32", place) for place in ("states", "products", "branch", "weights")),
    *((f, place) for f in ("float16", "bfloat16") for place in ("states", "products", "branch")),
    *((f, "everything") for f in ("float16", "bfloat16")),
    *(("grid", place) for place in ("states", "products", "everything")),
    *(("int8", "weights"),) * 2,
)


@dataclass(frozen=True)
class Case:
    """One right network: its kind, its sizes, its precision, and how its loss is computed.

    Attributes:
        seed: the number that determines everything.
        attempt: how many networks were rejected before, because their loss or gradient was not
            finite.
        network, loss: their kinds.
        T, B, I, H, O: steps, sequences, inputs, hidden units, outputs.
        dtype: that of the parameters.
        data: the dtype of inputs, initial states and answers.
        inside: what is rounded in the forward pass.
        backward: "own": each derivative is computed in the precision of its value, with the
            values that the forward pass kept; "float64": in float64 with these values;
            "unrounded": as if the forward pass rounded nothing on purpose. The last is used only
            if the forward pass rounds to single precision. If it rounded to two or three digits,
            this gradient would measurably differ from that of the loss.
        weights, biases, states: standard deviations; those of biases and states may be 0.
        lengths: whether the target has `at_length`.
    """

    seed: int
    attempt: int
    network: Network
    loss: Loss
    T: int
    B: int
    I: int  # noqa: E741
    H: int
    O: int  # noqa: E741
    dtype: str
    data: str
    inside: Rounding
    backward: str
    weights: float
    biases: float
    states: float
    lengths: bool

    def __str__(self) -> str:
        sizes = " ".join(f"{name}={getattr(self, name)}" for name in "TBIHO")
        precision = f"{self.dtype}, {self.data} data" if self.data != self.dtype else self.dtype
        parts = [precision, *[str(self.inside)] * bool(self.inside.format)]
        parts += [f"backward {self.backward}"] * (self.backward != "own")
        scales = f"weights {self.weights:.2g}, biases {self.biases:.2g}, states {self.states:.2g}"
        parts += [scales, *["at_length"] * self.lengths]
        return f"{self.seed}: {self.network} | {sizes} | {', '.join(parts)} | {self.loss}"

    def to_dict(self) -> dict[str, Any]:
        """The entries of a row that describe the case."""
        return {"case": str(self), **asdict(self)}

    @property
    def coarsest(self) -> str:
        """The coarsest rounding in it: "int8", "grid", … "float32", or "float64" for none."""
        return coarsest(self.dtype, self.inside.format, self.loss.sum)

    def target(self, dtype: str = "") -> Target:
        """The network as a target, on request in another precision with nothing rounded."""
        return _Model(self, dtype).target(self.T)


COARSE: Mapping[str, Sequence[str]] = {
    "int8 weights": ("int8",),
    "fixed point": ("grid",),
    "bfloat16": ("bfloat16",),
    "float16": ("float16", "float16 at last"),
    "six digits": ("six digits", "printed as %.6f", "printed as %e"),
    "micro-units": ("micro-units",),
    "float32": ("float32", "float32 at last"),
}


def coarsest(dtype: str, inside: str, added: Sum) -> str:
    """The first of `COARSE` to which a precision, format or summation belongs, or "float64"."""
    own = (dtype, inside, added.format, added.added, added.shown)
    return next((name for name, what in COARSE.items() if set(own) & set(what)), "float64")


class _Model:
    """The parameters and data of a case, and the functions of both."""

    def __init__(self, case: Case, dtype: str = "") -> None:
        self.case, self.dtype = case, dtype
        self.to = Rounding() if dtype else case.inside
        self.p = self._parameters()
        size = {name: float(np.abs(a).max()) for name, a in self.p.items()}
        self.units = {name: (largest or 1.0) / 127 for name, largest in size.items()}
        self.wide = max(2, 2 * case.T)  # the number of steps for which there are data
        self.starts: dict[str, Array] = {}
        self.inputs, self.wanted = self._data()

    def _draw(self, stream: int) -> np.random.Generator:
        return np.random.default_rng([self.case.seed, self.case.attempt, stream])

    def _parameters(self) -> dict[str, Array]:
        c, rng, found = self.case, self._draw(1), {}
        for name, shape in c.network.shapes(c.I, c.H, c.O, WORDS).items():
            scale = c.biases if name[0] in "bcd" else c.weights
            drawn = rng.standard_normal(shape) * scale + (name[0] == "g")
            found[name] = drawn.astype(c.dtype).astype(self.dtype or c.dtype)
        return found

    def _data(self) -> tuple[Array, Array]:
        c, rng, steps = self.case, self._draw(2), (self.wide, self.case.B)
        inputs = rng.standard_normal((*steps, c.I)).astype(c.data)
        if c.network.embedding:
            inputs = rng.integers(0, WORDS, steps)
        if c.loss.error in CLASSES:
            return inputs, rng.integers(0, c.O, steps)
        if c.loss.error in ONE:
            return inputs, rng.integers(0, 2, steps).astype(c.data)
        return inputs, rng.standard_normal((*steps, c.O)).astype(c.data)

    def start(self, name: str) -> Array:
        """An initial state (B, ·), a different one for every name."""
        c = self.case
        if name not in self.starts:
            H = c.H if name[0] == "c" else c.network.per_lane(c.H)
            drawn = self._draw(10 + sum(map(ord, name))).standard_normal((c.B, H)) * c.states
            self.starts[name] = drawn.astype(c.data)
        return self.starts[name]

    def errors(self, p: Mapping[str, Any], T: int, to: Rounding) -> Any:
        """The errors (T, B), or (1, B) if only the last step answers."""
        weights = {n: to.at("weights", a, self.units[n]) for n, a in p.items()}
        y = self.case.network.answers(weights, self.inputs[:T], self.start, to)
        one = self.case.network.last or self.case.network.attention
        return self.case.loss.errors(y, self.wanted[T - 1 : T] if one else self.wanted[:T])

    def target(self, T: int) -> Target:
        """The target on that many steps."""
        c = self.case
        to = Rounding() if c.backward == "unrounded" else self.to
        wide = c.backward == "float64"

        def at_length(steps: int) -> Target:
            if steps > self.wide:
                raise ValueError(f"steps: expected at most {self.wide}, got {steps}")
            return self.target(steps)

        def loss() -> Any:
            errors = self.errors(self.p, T, self.to)
            return c.loss.of(errors) if self.dtype else c.loss.as_computed(errors)

        return Target(
            self.p,
            quietly(loss),
            quietly(
                lambda: gradient(lambda p: c.loss.of(self.errors(p, T, to)), self.p, wide=wide)
            ),
            steps=T,
            at_length=at_length if c.lengths else None,
        )


def quietly(function: Any) -> Any:
    """The function without NumPy's overflow warnings, since a check moves parameters far."""

    def call() -> Any:
        with np.errstate(all="ignore"):
            return function()

    return call


def case(seed: int) -> Case:
    """The right network of this seed, always the same one.

    It is drawn again if the loss or its gradient at this point is not finite, either in float64 or
    in the precision in which it is computed.

    Example:
        >>> import throughtime as tt
        >>> from benchmarks.strangers import case
        >>> tt.check(case(17).target(), diagnose=False).verdict
        'agree'
    """
    for attempt in count():
        drawn = _drawn(seed, attempt)
        if finite(drawn.target("float64")) and finite(drawn.target()):
            return drawn
    raise AssertionError


def finite(target: Target) -> bool:
    """Whether loss and gradient are finite at the current parameters."""
    if not np.isfinite(target.loss()).all():
        return False
    return all(np.isfinite(a).all() for a in target.gradient().values())


class Draw:
    """Choices from a seed."""

    def __init__(self, *seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def of(self, options: Sequence[Any]) -> Any:
        """One of several options."""
        return options[int(self.rng.integers(len(options)))]

    def yes(self, share: float) -> bool:
        """True with this probability."""
        return bool(self.rng.random() < share)

    def between(self, low: float, high: float) -> float:
        """A number, log-uniform."""
        return float(low * (high / low) ** self.rng.random())

    def size(self, high: int, low: int = 1) -> int:
        """A whole number, log-uniform."""
        return max(low, min(high, int(self.between(low, high + 1))))


def _drawn(seed: int, attempt: int) -> Case:
    d = Draw(seed, attempt, 0)
    cell, head = d.of(CELLS), d.of(HEADS)
    network = Network(
        cell=cell,
        layers=2 if d.yes(0.15) else 1,
        both_ways=d.yes(0.2),
        embedding=d.yes(0.2),
        attention=d.yes(0.15),
        head=head,
        last=d.yes(0.3),
    )
    T = d.size((LONGEST if d.yes(LONG) else SHORT) // len(network.lanes()))
    H = d.size(min(WIDEST, ALL_UNITS // T), low=2 if cell == "layer norm" else 1)
    O = d.size(WIDEST)  # noqa: E741
    if head == "none":
        O = network.width(H)  # noqa: E741
    if head == "one output":
        O = 1  # noqa: E741
    dtype = d.of(("float32", "float64"))
    data = dtype if d.yes(0.75) else d.of(("float32", "float64"))
    inside = _inside(d, short=dtype == data == "float32")
    fourth = "unrounded" if inside.format == "float32" else "own"
    drawn = Case(
        seed=seed,
        attempt=attempt,
        network=network,
        loss=_loss(d, O),
        T=T,
        B=d.size(MOST),
        I=d.size(WIDEST),
        H=H,
        O=O,
        dtype=dtype,
        data=data,
        inside=inside,
        backward=d.of(("own", "own", "float64", fourth)),
        weights=d.between(*WEIGHTS),
        biases=0.0 if d.yes(0.5) else d.between(*WEIGHTS),
        states=0.0 if d.yes(0.5) else d.between(*WEIGHTS),
        lengths=d.yes(0.5),
    )
    own = replace(drawn.loss.sum, as_float=d.yes(0.5))
    return replace(drawn, loss=replace(drawn.loss, sum=own))


def _inside(d: Draw, *, short: bool) -> Rounding:
    """What is rounded: nothing in half of the networks; not to float32 if it is `short` already."""
    if d.yes(0.5):
        return Rounding()
    name, place = d.of([one for one in ROUNDED if not (short and one[0] == "float32")])
    return Rounding(name, place, d.of(GRIDS) if name == "grid" else 12)


def _loss(d: Draw, O: int) -> Loss:  # noqa: E741
    errors = [*NUMBERS, *ONE] if O == 1 else [*CLASSES, *NUMBERS]
    return Loss(
        error=d.of(errors),
        tiny=d.of(TINY),
        time=d.of(("mean", "sum")),
        batch=d.of(("mean", "sum")),
        halved=d.yes(0.15),
        early=d.yes(0.4),
        sum=sum_drawn(d),
    )


def sum_drawn(d: Draw) -> Sum:
    """A way to add up the terms of the loss."""
    return Sum(
        format=d.of(("float32", "float32", *FORMATS)) if d.yes(0.3) else "",
        added=d.of((*ADDED, *TERMS)),
        shown=d.of(tuple(SHOWN)) if d.yes(0.2) else "",
    )
