"""Gradients as programs print them, read back: numbers, words, columns, arrays."""

from throughtime.diagnosis.printed.numbers import rounded_by_printing
from throughtime.diagnosis.printed.reading import Reading, read

__all__ = ["Reading", "read", "rounded_by_printing"]
