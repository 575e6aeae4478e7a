"""Gradients as programs print them, read back: numbers, words, columns, arrays."""

from throughtime.diagnosis.printed.numbers import rounded_by_printing
from throughtime.diagnosis.printed.reading import ParsedGradients, read

__all__ = ["ParsedGradients", "read", "rounded_by_printing"]
