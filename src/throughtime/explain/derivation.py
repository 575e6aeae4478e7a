"""A derivation as data: equation, reason, the code that computes it, and a check with numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from typing import TypeAlias

import numpy as np

from throughtime.arrays import Array, refuse
from throughtime.explain.example import AGREES_WITHIN, Example, relative_difference

SHOWN_STEP = 2  # the step, from 1, whose numbers are shown: it has one before and one after it

Values: TypeAlias = Callable[[Example], Array]


@dataclass(frozen=True)
class NumericalComparison:
    """One quantity with its numbers.

    Attributes:
        label: what it is called.
        entry: index of the entry that is shown, the largest one (of the shown step).
        value: that entry as the backward pass gives it.
        numerical: that entry as a numerical derivative.
        difference: relative difference over *all* entries and steps, ‖value − n‖ / ‖n‖.
    """

    label: str
    entry: tuple[int, ...]
    value: float
    numerical: float
    difference: float

    @property
    def agrees(self) -> bool:
        """Whether the difference is within what the numerical derivative is good for."""
        return self.difference <= AGREES_WITHIN


@dataclass(frozen=True)
class Quantity:
    """What a line computes, in up to three independent ways.

    Attributes:
        label: what it is called.
        right: it as it is derived from the forward equations.
        numerical: the same without any derivation.
        own: what the real backward pass hands out for it, where it does.
        per_step: whether the first axis is time.
    """

    label: str
    right: Values
    numerical: Values
    own: Values | None = None
    per_step: bool = True

    def compare(self, example: Example) -> NumericalComparison:
        """The numbers of a live example."""
        right, numerical = self.right(example), self.numerical(example)
        value = right if self.own is None else self.own(example)
        worst = max(relative_difference(array, numerical) for array in (right, value))
        shown = numerical[SHOWN_STEP - 1] if self.per_step else numerical
        largest = np.unravel_index(int(np.abs(shown).argmax()), shown.shape)
        entry = tuple(int(n) for n in largest)
        place = (SHOWN_STEP - 1, *entry) if self.per_step else entry
        return NumericalComparison(
            self.label, entry, float(value[place]), float(shown[entry]), worst
        )


@dataclass(frozen=True)
class DerivationLine:
    """One line of a derivation.

    Attributes:
        equation: as it is written by hand.
        why: through which paths the quantity reaches the loss, and what is therefore summed.
        code: the lines of the source that compute it, literally.
        quantities: what is checked.
        note: a sentence with numbers of the live example.
    """

    equation: str
    why: str
    code: tuple[str, ...]
    quantities: tuple[Quantity, ...]
    note: Callable[[Example], str] | None = None


@dataclass(frozen=True)
class DerivationSection:
    """Lines that share an example.

    Attributes:
        title: of the section.
        forward: the forward equations that are differentiated.
        example: makes the example from a seed.
        lines: in the order of the backward pass.
    """

    title: str
    forward: tuple[str, ...]
    example: Callable[[int], Example]
    lines: tuple[DerivationLine, ...]


@dataclass(frozen=True)
class Derivation:
    """A whole backward pass, or what is made of it.

    Attributes:
        name: as on the command line.
        title: in words.
        sources: files of the package that the quoted code stands in, its own one first.
        sections: the plain form first, its options after it.
    """

    name: str
    title: str
    sources: tuple[str, ...]
    sections: tuple[DerivationSection, ...]

    def place(self, quote: str) -> tuple[str, int]:
        """File and line number of a quoted line; refuses a quote that does not stand there."""
        for name in self.sources:
            source = (files("throughtime") / name).read_text(encoding="utf-8")
            for number, text in enumerate(source.splitlines(), start=1):
                if quote in text:
                    return name, number
        refuse("quote", "a line of " + ", ".join(self.sources), repr(quote), error=LookupError)


def at_each_step(label: str, name: str, own: str | None = None) -> Quantity:
    """A quantity of every step, compared with moving `name` at that step alone."""
    handed_out = None if own is None else _value(own)
    return Quantity(label, lambda e: e.derived(name), lambda e: e.numerical(name), handed_out)


def at_all_steps(label: str, name: str) -> Quantity:
    """A parameter's gradient, compared with moving it once for the whole run."""

    def derived(e: Example) -> Array:
        total: Array = e.derived(name).sum(axis=0)
        return total

    own = _value(f"δ{name}")
    return Quantity(label, derived, lambda e: e.numerical_at_all_steps(name), own, per_step=False)


def before_the_first(label: str, name: str) -> Quantity:
    """The gradient of an initial state, compared with moving what the first step sees of it."""
    seen, own = f"{name}_before", _value(f"δ{name}_0")
    right: Values = lambda e: e.derived(seen)[0]  # noqa: E731
    return Quantity(label, right, lambda e: e.numerical(seen)[0], own, per_step=False)


def _value(name: str) -> Values:
    return lambda e: e[name]
