"""Recurrent networks as strangers write them: of every kind, size and precision, from one number.

`case(seed)` is a right one: its gradient comes from a tape of its own, which shares no line with
the engine, the cells or the check.
"""

from throughtime.bench.strangers.cases import Case, case

__all__ = ["Case", "case"]
