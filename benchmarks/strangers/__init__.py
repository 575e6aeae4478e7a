"""Recurrent networks as users write them, of every kind, size and precision, each from one seed.

`case(seed)` is a right one. Its gradient comes from a separate tape, which shares no code with the
engine, the cells or the check. `wrong(seed)` is one of `implementations` with a mistake, in similar
settings.
"""

from benchmarks.strangers.cases import Case, case
from benchmarks.strangers.wrong import Wrong, wrong

__all__ = ["Case", "Wrong", "case", "wrong"]
