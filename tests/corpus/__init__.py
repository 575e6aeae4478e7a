"""Small recurrent networks as people write them, right ones and ones with a mistake.

Each style is a room of its own that shares no line with another, nor with the engine. What their
backward passes get wrong has a name in `faults.FAULTS`.
"""

from corpus.faults import CELLS, FAULTS, Conditions
from corpus.registry import Entry, catalogue, correct, features, make, styles
from corpus.setting import Setting

__all__ = [
    "CELLS",
    "FAULTS",
    "Conditions",
    "Entry",
    "Setting",
    "catalogue",
    "correct",
    "features",
    "make",
    "styles",
]
