"""Strangers' programs with one to eight mistakes, one for every seed, and what is known of each."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import count, islice
from typing import Any

import numpy as np

from benchmarks.diagnose.cases import gradient_of
from benchmarks.diagnose.strangers_layouts import layout_of
from benchmarks.strangers.cases import Draw
from corpus import notebooks
from corpus.notebooks import HEADS, KINDS, Habits
from throughtime.arrays import Array
from throughtime.diagnosis import layouts
from throughtime.gradcheck import Target

KNOWN = ("layout", "guessed", "at_length", "plain", "functions")
SHARES = (0.15, 0.15, 0.4, 0.15, 0.15)
NUMBERS = ((1, 0.55), (2, 0.15), (3, 0.1), (4, 0.05), (5, 0.05), (6, 0.04), (7, 0.03), (8, 0.03))
VISIBLE = 1e-3  # of a tensor's norm: each mistake changes some tensor by more, beside the others
VARIANTS: Mapping[str, Sequence[str]] = {
    "RNN": ("tanh", "tanh", "tanh", "relu", "sigmoid"),
    "LSTM": ("", "", "", "", "peepholes", "coupled", "h = o c"),
    "GRU": ("before, z", "before, 1-z", "after, z", "after, 1-z"),
}
WEIGHTS = (0.01, 0.01, 0.1, 0.3, 0.5, 0.5, 1.0)
PATIENCE = 400  # attempts to find a program with a layout
EPSILONS = (1e-2, 1e-3, 1e-5, 1e-8)


@dataclass(frozen=True)
class Stranger:
    """One program with its mistakes.

    Attributes:
        seed: the number that determines everything.
        habits: what the program is like.
        mistakes: those of its backward pass, as `notebooks.KINDS` calls them.
        known: what the diagnosis is given. "functions": loss and gradient alone; "plain": also T;
            "at_length": also the program at other lengths; "guessed": also
            `layouts.guess(inputs, targets)`; "layout": instead of that its layout.
    """

    seed: int
    habits: Habits
    mistakes: tuple[str, ...]
    known: str

    def __str__(self) -> str:
        return f"{self.seed}: {self.known} | {self.habits} | {' + '.join(self.mistakes)}"

    def target(self) -> Target:
        """The target, as the diagnosis is given it."""
        steps, lengths = self.known != "functions", self.known not in ("functions", "plain")
        own = notebooks.target(self.habits, self.mistakes, lengths=lengths, steps=steps)
        if self.known == "layout":
            return _laid_out(own, self.habits)
        if self.known == "guessed":
            return _guessed(own, self.habits)
        return own

    def gradient(
        self, mistakes: Sequence[str] | None = None, *, T: int = 0, dtype: str = "float64"
    ) -> dict[str, Array]:
        """The gradient in float64, on request with other mistakes or at another length.

        The parameters are those of this program, in its own precision.
        """
        own = notebooks.target(self.habits).parameters
        s = replace(self.habits, dtype=dtype, T=T or self.habits.T)
        given = {name: array.astype(dtype) for name, array in own.items()}
        chosen = self.mistakes if mistakes is None else tuple(mistakes)
        return gradient_of(notebooks.target(s, chosen, given))

    @cached_property
    def wrong(self) -> dict[str, Array]:
        """Its own gradient."""
        return self.gradient()

    @cached_property
    def right(self) -> dict[str, Array]:
        """The gradient without its mistakes."""
        return self.gradient(())

    def to_dict(self) -> dict[str, Any]:
        """The entries of a row that describe the case."""
        return {
            "case": str(self),
            "seed": self.seed,
            "faults": list(self.mistakes),
            "known": self.known,
            "cell": self.habits.cell,
            "head": self.habits.head,
            "habits": asdict(self.habits),
        }


def stranger(seed: int) -> Stranger:
    """The program of this seed, always the same one.

    Mistakes that the others hide are left out. It is drawn again if none is left, if its loss or
    gradient is not finite, or if no layout can describe it although one is to be given. Where no
    program with this mistake has a layout, it is known at other lengths instead.

    Example:
        >>> import throughtime as tt
        >>> from benchmarks.diagnose.strangers import stranger
        >>> tt.check(stranger(3).target(), diagnose=False).verdict
        'disagree'
    """
    for attempt in count():
        drawn = _drawn(seed, attempt)
        if drawn is None:
            continue
        with np.errstate(all="ignore"):
            mistakes = visible(drawn)
            finite = all(np.isfinite(array).all() for array in drawn.wrong.values())
        if mistakes and finite:
            return replace(drawn, mistakes=mistakes)
    raise AssertionError


def visible(drawn: Stranger) -> tuple[str, ...]:
    """The mistakes without those that change no tensor beside the others."""
    chosen = drawn.mistakes
    for mistake in drawn.mistakes:
        fewer = tuple(one for one in chosen if one != mistake)
        if changed(drawn.gradient(chosen), drawn.gradient(fewer)) < VISIBLE:
            chosen = fewer
    return chosen


def changed(one: Mapping[str, Array], other: Mapping[str, Array]) -> float:
    """The largest relative distance of any tensor."""

    def off(a: Array, b: Array) -> float:
        size = max(float(np.linalg.norm(a)), float(np.linalg.norm(b)))
        return float(np.linalg.norm(a - b)) / size if size else 0.0

    return max(off(one[name], other[name]) for name in one)


def _drawn(seed: int, attempt: int) -> Stranger | None:
    d = Draw(seed, attempt, 2)
    # The seed alone determines how many mistakes there are, and the first kind: kinds that few
    # programs can have come as often as others.
    kind, number, known = _determined(seed)
    s = habits(d, seed)
    own = notebooks.variants(kind, s)
    if not own:
        return None
    mistakes = [d.of(own)]
    others = [name for name in KINDS if name != kind and notebooks.variants(name, s)]
    for place in d.rng.permutation(len(others))[: number - 1]:
        mistakes.append(d.of(notebooks.variants(others[place], s)))
    drawn = Stranger(seed, s, tuple(mistakes), known)
    if known == "layout" and attempt < PATIENCE:
        return drawn if layout_of(s) is not None else None
    return replace(drawn, known="at_length") if known == "layout" else drawn


def _determined(seed: int) -> tuple[str, int, str]:
    """The first kind of mistake, how many there are, and what is known, if it can be known."""
    first = Draw(seed, 0, 3)
    kind = first.of(tuple(KINDS))
    number = int(first.rng.choice([n for n, _ in NUMBERS], p=[share for _, share in NUMBERS]))
    return kind, number, str(first.rng.choice(KNOWN, p=SHARES))


def seeds_with(known: Collection[str], first: int, number: int) -> list[int]:
    """The first seeds, from one on, whose programs are given one of these amounts of knowledge.

    Of a "layout", there may be none for the program that is drawn; it is then known at other
    lengths.
    """
    fitting = (seed for seed in count(first) if _determined(seed)[2] in known)
    return list(islice(fitting, number)) if known else []


def habits(d: Draw, seed: int) -> Habits:
    """A program."""
    cell, head = d.of(notebooks.CELLS), d.of(HEADS)
    T, H = d.size(10, 1 if d.yes(0.05) else 2), d.size(8, 1 if d.yes(0.05) else 2)
    O = H if head in ("sum of h", "squared h") else d.size(8, 2)  # noqa: E741
    O = 1 if head == "one output" else O  # noqa: E741
    O = d.of((1, O)) if head.startswith("sigmoid") else O  # noqa: E741
    last, squared = d.yes(0.25), head in ("squared h", "one output", "linear", "outside")
    logs = head in ("softmax", "sigmoid, cross-entropy")
    variant = d.of(VARIANTS[cell])
    relu = variant == "relu"  # whose kink is at 0, where states without a bias may lie
    return Habits(
        cell=cell,
        variant=variant,
        head=head,
        stored=d.of(notebooks.STORED),
        names=int(d.rng.integers(4)),
        columns=d.yes(0.6),
        biases=d.yes(0.75) or relu,
        head_first=d.yes(0.3),
        T=T,
        B=1 if d.yes(0.6) else d.size(4, 2),
        I=H if d.yes(0.15) else d.size(8),
        H=H,
        O=O,
        answers="last step" if last else "every step",
        time="sum" if last or d.yes(0.6) else "mean",
        batch=d.of(("sum", "mean")),
        outputs="mean" if squared and d.yes(0.4) else "sum",
        half=squared and d.yes(0.4),
        root=squared and d.yes(0.08),
        epsilon=d.of(EPSILONS) if logs and d.yes(0.25) else 0.0,
        one_hot=d.yes(0.4),
        embedding=d.yes(0.12),
        layers=2 if d.yes(0.15) else 1,
        decay=0.05 if d.yes(0.08) else 0.0,
        scale=d.of(WEIGHTS),
        bias=1.0 if d.yes(0.4) or relu else 0.0,
        states=d.yes(0.15),
        unused=d.yes(0.04),
        dtype="float64" if d.yes(0.8) else "float32",
        seed=seed,
        longest=T if d.yes(0.3) else max(T, 12),
    )


def _laid_out(own: Target, s: Habits) -> Target:
    """The target with its layout, at every length."""

    def at_length(T: int) -> Target:
        assert own.at_length is not None
        return _laid_out(own.at_length(T), replace(s, T=T))

    return replace(own, layout=layout_of(s), at_length=at_length)


def _guessed(own: Target, s: Habits) -> Target:
    """The target with a guess from its data, in the order in which the program holds them."""

    def at_length(T: int) -> Target:
        assert own.at_length is not None
        return _guessed(own.at_length(T), replace(s, T=T))

    x, wanted = s.inputs()[: s.T], s.targets()[: s.T]
    if s.embedding is False and s.B == 1:
        x = x[:, 0]
        wanted = wanted[:, 0]
    wanted = wanted[-1] if s.last else wanted
    run: dict[str, Any] = {"decay": s.decay} if s.decay else {}
    if s.states:
        layers = range(s.layers)
        run |= {f"{k}0": np.array([s.start(layer, k) for layer in layers]) for k in "hc"}
    return replace(own, layout=layouts.guess(x, wanted, **run), at_length=at_length)
