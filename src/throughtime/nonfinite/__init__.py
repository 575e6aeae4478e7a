"""NaN and infinity: the first value of a run that is one, and what it was made of."""

from throughtime.nonfinite.find import Search, first_in_network
from throughtime.nonfinite.result import DivergedError, NonFinite

__all__ = ["DivergedError", "NonFinite", "Search", "first_in_network"]
