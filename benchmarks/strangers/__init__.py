"""Recurrent networks as strangers write them: of every kind, size and precision, from one number.

`case(seed)` is a right one: its gradient comes from a tape of its own, which shares no line with
the engine, the cells or the check. `wrong(seed)` is one of `implementations` with a mistake, in
settings of the same kind.
"""

from benchmarks.strangers.cases import Case, case
from benchmarks.strangers.wrong import Wrong, wrong

__all__ = ["Case", "Wrong", "case", "wrong"]
