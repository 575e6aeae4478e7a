"""Recurrent networks with the habits of notebooks, and one to eight of their mistakes.

The styles beside this room have wide output layers, batches, time first and one mistake at a time.
Here a program may have one output or no output layer at all, a single sequence as columns, no
biases, one matrix for each gate, a loss of the last step, weights of 0.01, and several mistakes, as
published code has them. It is one implementation of its own: cells, heads and the loop over time
share no line with the engine, the other styles, or the mutants of the diagnosis.
"""

from corpus.notebooks.habits import CELLS, HEADS, STORED, Habits
from corpus.notebooks.mistakes import KINDS, Kind, flags, names, places, variants
from corpus.notebooks.program import Program, target

__all__ = [
    "CELLS",
    "HEADS",
    "KINDS",
    "STORED",
    "Habits",
    "Kind",
    "Program",
    "flags",
    "names",
    "places",
    "target",
    "variants",
]
