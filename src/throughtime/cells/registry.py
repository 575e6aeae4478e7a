"""All cells, by name, and all their variants."""

from __future__ import annotations

from itertools import product
from typing import Any

from throughtime.cells.description import SOME_SIZE
from throughtime.cells.gru import GRU
from throughtime.cells.lstm import LSTM
from throughtime.cells.recurrence import Cell
from throughtime.cells.rnn import RNN

# Every cell. Files of networks, the command line and the tests take their cells from here.
CELLS: dict[str, type[Cell]] = {kind.__name__: kind for kind in (RNN, LSTM, GRU)}


def variants(inputs: int, units: int, projection: int | None = None) -> dict[str, Cell]:
    """Every cell with every combination of the options that change its equations, by name.

    Args:
        inputs, units: I and H.
        projection: P of a variant that projects its output; H − 1, at least 1, if not given.

    Example:
        >>> list(variants(2, 3))
        ['RNN tanh', 'RNN relu', 'LSTM', 'LSTM projection', 'LSTM peepholes',
         'LSTM peepholes projection', 'GRU', 'GRU original']
        >>> variants(2, 3)["GRU original"]
        GRU(inputs=2, units=3, bidirectional=False, reset_after=False)
    """
    size = max(1, units - 1) if projection is None else projection
    found = {}
    for kind, cell in CELLS.items():
        for chosen in product(*(option.values.items() for option in cell.option_specs)):
            words = [kind, *(word for word, _ in chosen if word)]
            options: dict[str, Any] = {
                option.name: size if value is SOME_SIZE else value
                for option, (_, value) in zip(cell.option_specs, chosen, strict=True)
            }
            found[" ".join(words)] = cell(inputs, units, **options)
    return found
