"""Printed numbers: their values, and how far the true ones may lie from them, by their digits."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from throughtime.arrays import Array

PLAIN = r"(?:\d+(?:\.\d*)?|\.\d+)"
EXPONENT = r"(?:[eEdD][-+]?\d+)"
NUMBER = re.compile(rf"[-+]?{PLAIN}{EXPONENT}?")
NOT_FINITE = re.compile(
    r"[-+]?(?:1\.#(?:IND|QNAN|INF)\d*|-?nan\(\w*\)|(?:nan|inf(?:inity)?|none|null)(?!\w))", re.I
)
# What copying and pasting, or a narrow field, has made of a number, and what it may have been.
DAMAGED = re.compile(
    rf"[-+]?\d*\.\d+(?:\.\d+)+{EXPONENT}?"  # 0.0150.001: two numbers without a space, or a typo
    rf"|[-+]?{PLAIN}[eE][-+]?\d*\.\d+{EXPONENT}?"  # 9.2e-0.6
    rf"|[-+]?{PLAIN}[eE][-+]?(?![-+\w.])"  # 9.2e-
    rf"|[-+]?{PLAIN}{EXPONENT}?[-+]{PLAIN}{EXPONENT}?[ij](?!\w)|[-+]?{PLAIN}[ij](?!\w)"  # 1+2j
    r"|(?<!\S)[-+]?[OolI]\.\d{2,}"  # the letter O for a nought
    r"|(?<=[\s:=])\*{3,}(?=\s|$)"  # a field that was too narrow
    rf"|(?<![\w.])[-+]?{PLAIN} +[eE][-+]?\d+(?![\w.])"  # 9.2 e-06
    rf"|(?<=[\s:=,(\[])- +{PLAIN}{EXPONENT}?"  # a sign that stands apart, or a subtraction
)
WITH_POINT_IN_EXPONENT = re.compile(rf"([-+]?{PLAIN}[eE][-+]?)(\d*)\.(\d+)")
WHOLE_DIGITS = 15  # significant ones: so many are not printed, but what a float64 holds
FEW = 6  # numbers to one decimal that are rather written by hand than rounded
LARGEST = 1e100  # the square of a larger number may be infinite
LEAST_SIGNIFICANT = 3  # digits, for numbers in an array to look printed: 0.5 is rather exact


@dataclass(frozen=True)
class Number:
    """A number as it was printed.

    Attributes:
        value: NaN where it is not finite or could not be read.
        text: as it stands there.
        line: its line, counted from 1.
        decimals: digits after the point, of the mantissa if it has an exponent; None where there
            is no point.
        significant: digits from the first that is not 0 to the last.
        exponent: as printed; None where there is none.
        scale: what the print says all its numbers are to be multiplied with.
        percent: whether a percent sign follows.
        problem: why it could not be read, "" if it could.
    """

    value: float
    text: str
    line: int = 0
    decimals: int | None = None
    significant: int = 0
    exponent: int | None = None
    scale: float = 1.0
    percent: bool = False
    problem: str = ""

    @property
    def whole(self) -> bool:
        """Whether it was printed without point and exponent, as an index is."""
        return self.decimals is None and self.exponent is None and np.isfinite(self.value)


def number(text: str, line: int = 0, scale: float = 1.0, percent: bool = False) -> Number:
    """A number from its text.

    Example:
        >>> number("-0.0150").significant, number("9.238e-06").exponent, number("nan").value
        (3, -6, nan)
    """
    if not NUMBER.fullmatch(text):
        return Number(np.nan, text, line, percent=percent)
    mantissa, _, power = text.lower().replace("d", "e").partition("e")
    try:
        exponent = int(power) if power else None
        value = float(f"{mantissa}e{exponent or 0}") * scale
    except (ValueError, OverflowError):
        value, exponent = np.inf, None
    point = "." in mantissa
    decimals = len(mantissa.partition(".")[2]) if point else None
    digits = mantissa.lstrip("+-").replace(".", "").lstrip("0")
    if not abs(value) < LARGEST:
        return Number(np.nan, text, line, problem=f"{text} is too large to be compared")
    return Number(value, text, line, decimals, len(digits), exponent, scale, percent)


def damaged(text: str, line: int) -> Number:
    """What cannot be read as a number, though it was one; with what it may have been."""
    point = WITH_POINT_IN_EXPONENT.fullmatch(text)
    said = f"{text} is no number"
    if point:
        power = point[2].lstrip("0") + point[3]
        said += f"; perhaps it was {point[1]}{power.zfill(2)}"
    elif re.search(r"\d +[eE]", text):
        said = f"{text} is no number: its exponent stands apart"
    elif text.startswith("- "):
        said = f"the sign of {text} stands apart: is it negative, or a difference?"
    elif text[-1] in "ij":
        said = f"{text} is a complex number"
    elif text.count(".") > 1:
        said += "; perhaps two numbers stand there without a space"
    return Number(np.nan, text, line, problem=said)


def half_units(column: Sequence[Number]) -> Array:
    """Half a unit of the last digit of each number of a column.

    Where digits differ in number, trailing noughts were left out: NumPy prints to a common place,
    C's %g to a common number of significant digits. Whole numbers, in a column of such, are exact.

    Example:
        >>> half_units([number(text) for text in ("0.25", "1.", "-0.5")]).round(6)
        array([0.005, 0.005, 0.005])
        >>> half_units([number(text) for text in ("2", "40")])
        array([0., 0.])
    """
    if all(one.whole or not np.isfinite(one.value) for one in column):
        return np.zeros(len(column))
    fixed = [one for one in column if one.exponent is None and np.isfinite(one.value)]
    powered = [one for one in column if one.exponent is not None]
    decimals = max((one.decimals or 0 for one in fixed), default=0)
    mantissa = max((one.decimals or 0 for one in powered), default=0)
    significant = max((one.significant for one in fixed), default=0)
    general = _to_significant_digits(fixed, significant)
    ragged = len({one.decimals or 0 for one in fixed}) > 1 or len(fixed) < FEW
    if significant < LEAST_SIGNIFICANT and decimals < 2 and ragged:
        decimals = LEAST_SIGNIFICANT  # 0.5 beside 1.0 was written by hand
    if significant >= WHOLE_DIGITS or mantissa >= WHOLE_DIGITS - 1:
        decimals = mantissa = WHOLE_DIGITS
    places = []
    for one in column:
        if one.exponent is not None:
            place = one.exponent - mantissa
        elif general and one.value:
            first = int(np.floor(np.log10(abs(one.value / one.scale))))
            place = first - significant + 1
        else:
            place = -decimals
        places.append(0.5 * 10.0 ** float(np.clip(place, -300, 300)) * one.scale)
    return np.array(places)


def _to_significant_digits(fixed: Sequence[Number], significant: int) -> bool:
    """Whether it is the number of significant digits that the numbers have in common."""
    longest = [one.decimals or 0 for one in fixed if one.significant == significant]
    return len(longest) > 2 and len(set(longest)) > 1


def digits_of(column: Sequence[Number]) -> str:
    """How a column was printed, in words: "to 6 decimals", "to 5 significant digits", …"""
    read = [one for one in column if np.isfinite(one.value)]
    fixed = [one for one in read if one.exponent is None]
    if not read:
        return "as no finite number"
    if all(one.whole for one in read):
        return "as whole numbers"
    if 2 * len(fixed) < len(read):
        mantissa = max((one.decimals or 0) for one in read if one.exponent is not None)
        return _counted(mantissa + 1, "significant digit")
    significant = max(one.significant for one in fixed)
    if significant >= WHOLE_DIGITS or _to_significant_digits(fixed, significant):
        return _counted(significant, "significant digit")
    return _counted(max(one.decimals or 0 for one in fixed), "decimal")


def _counted(count: int, what: str) -> str:
    return f"to {count} {what}{'s' * (count != 1)}"


def rounded_by_printing(array: Array) -> Array | None:
    """Half units of the last digit of an array's numbers; None where they are not rounded.

    Example:
        >>> rounded_by_printing(np.array([0.015223, -0.000385, 0.0]))
        array([5.e-07, 5.e-07, 5.e-07])
        >>> rounded_by_printing(np.array([1 / 3, 0.25, 0.1]))
    """
    flat = array.reshape(-1)
    full = WHOLE_DIGITS if array.dtype == np.float64 else 8
    for sample in (flat[:200], flat):  # what is not printed shows soon
        texts = [_shortest(value) for value in sample]
        column = [number(text) for text in texts]
        most = max((one.significant for one in column), default=0)
        if not LEAST_SIGNIFICANT <= most < full - 2:
            return None
    return half_units(column)


def _shortest(value: np.floating) -> str:
    text = str(value)
    return text[:-2] if text.endswith(".0") else text


def commonest(values: Sequence[int]) -> int:
    """The commonest of some numbers, the first of equally common ones; 0 of none."""
    return Counter(values).most_common(1)[0][0] if values else 0
