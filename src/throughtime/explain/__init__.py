"""How a backward pass is derived: line by line, beside the code, with numbers that are checked.

`DERIVATIONS` holds them by name; `explain` prints one with the numbers of a small live example;
`example` gives that example itself, to try things on.
"""

from throughtime.explain.bptt import BPTT, TBPTT
from throughtime.explain.derivation import (
    Derivation,
    DerivationLine,
    DerivationSection,
    NumericalComparison,
    Quantity,
)
from throughtime.explain.example import Example, example, relative_difference
from throughtime.explain.gru import GRU
from throughtime.explain.lstm import LSTM
from throughtime.explain.rnn import RNN
from throughtime.explain.text import Explanation, explain

DERIVATIONS: dict[str, Derivation] = {
    derivation.name: derivation for derivation in (LSTM, GRU, RNN, BPTT, TBPTT)
}

__all__ = [
    "DERIVATIONS",
    "Derivation",
    "DerivationLine",
    "DerivationSection",
    "Example",
    "Explanation",
    "NumericalComparison",
    "Quantity",
    "example",
    "explain",
    "relative_difference",
]
