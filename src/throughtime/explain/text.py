"""A derivation with the numbers of a live example, for a terminal."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

from throughtime.explain.derivation import (
    SHOWN_STEP,
    Derivation,
    DerivationLine,
    DerivationSection,
    NumericalComparison,
)
from throughtime.explain.example import AGREES_WITHIN, Example

WIDTH = 79


@dataclass(frozen=True)
class Explanation:
    """A derivation with the numbers of a live example.

    Attributes:
        body: all lines, to be printed.
        lines: how many there are.
        comparisons: every quantity that was compared.
    """

    body: str
    lines: int
    comparisons: tuple[NumericalComparison, ...]

    @property
    def agrees(self) -> bool:
        """Whether every quantity agrees with its numerical derivative."""
        return all(comparison.agrees for comparison in self.comparisons)

    @property
    def worst(self) -> NumericalComparison:
        """The quantity with the largest relative difference."""
        return max(self.comparisons, key=lambda comparison: comparison.difference)

    @property
    def verdict(self) -> str:
        """How many lines were checked, and how well they agree."""
        checked = f"{self.lines} lines checked, {len(self.comparisons)} quantities"
        wrong = [comparison.label for comparison in self.comparisons if not comparison.agrees]
        if wrong:
            return f"{checked}; beyond {AGREES_WITHIN:.0e} (marked ✗): {'; '.join(wrong)}."
        worst = f"{self.worst.difference:.1e} ({self.worst.label})"
        return f"{checked}; all agree, largest relative difference {worst}."

    def __str__(self) -> str:
        return "\n".join([self.body, "", *_wrapped(self.verdict, "")])


def explain(derivation: Derivation, seed: int = 0) -> Explanation:
    """Checks every line of a derivation on a small live example, and writes it down.

    Example:
        >>> from throughtime.explain import DERIVATIONS
        >>> explained = explain(DERIVATIONS["rnn"])
        >>> explained.agrees
        True
        >>> explained.verdict.split("; ")[0]
        '9 lines checked, 12 quantities'
    """
    out = [f"{derivation.title} ({derivation.name})", "", *_wrapped(HOW, "")]
    compared: list[NumericalComparison] = []
    number = 0
    for section in derivation.sections:
        e = section.example(seed)
        out += ["", *_heading(section, e, seed)]
        for line in section.lines:
            number += 1
            found = [quantity.compare(e) for quantity in line.quantities]
            out += ["", *_line(derivation, line, number, found)]
            if line.note:
                out += _wrapped(line.note(e), "    ")
            compared += found
    return Explanation("\n".join(out), number, tuple(compared))


HOW = (
    "Each line: the equation, why it holds, the code that computes it, and two numbers: the "
    "value that the package's own backward pass gives, and a numerical derivative that knows "
    "no derivation. For it the forward equations are run again with one number moved up and "
    "down by a little, and the losses are subtracted. A term that the backward pass does not hand "
    "out is derived from the same equations. The entry shown, named in brackets, is the "
    f"largest one, at step {SHOWN_STEP} where there is one for each step; the difference, "
    "‖value − numerical‖ / ‖numerical‖, is over all entries and all steps."
)


def _heading(section: DerivationSection, e: Example, seed: int) -> list[str]:
    title = section.title[0].upper() + section.title[1:]
    sizes = f"I = {e.cell.inputs}, H = {e.cell.units}, T = {e.steps}"
    example = (
        f"Example: {sizes}, one sequence, float64, seed {seed}; "
        "L = Σ_t E_t, E_t = ½‖output_t − y_t‖²."
    )
    out = [title, "─" * len(title), *(f"    {equation}" for equation in section.forward)]
    return [*out, *_wrapped(example, "")]


def _line(
    derivation: Derivation, line: DerivationLine, number: int, found: list[NumericalComparison]
) -> list[str]:
    equations = line.equation.split("   ")
    out = [f"{number:2}. {equations[0].strip()}"]
    out += [f"    {equation.strip()}" for equation in equations[1:]]
    out += _wrapped(line.why, "    ")
    for quote in line.code:
        file, row = derivation.place(quote)
        out += [f"    {file}:{row}", f"    {quote}"]
    out.append(f"    {'':<34}{'value':>14}{'numerical':>14}{'difference':>12}")
    return out + [_comparison(comparison) for comparison in found]


def _comparison(c: NumericalComparison) -> str:
    entry = f" [{', '.join(map(str, c.entry))}]" if c.entry else ""
    mark = "" if c.agrees else " ✗"
    values = f"{c.value:14.9f}{c.numerical:14.9f}{c.difference:12.0e}"
    return f"    {c.label + entry:<34}{values}{mark}"


def _wrapped(text: str, indent: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=indent, subsequent_indent=indent)
