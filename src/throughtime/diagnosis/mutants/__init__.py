"""Our own backward pass with faults put in, and the search for those that match a gradient."""

from throughtime.diagnosis.mutants.layout import Layout
from throughtime.diagnosis.mutants.losses import detached
from throughtime.diagnosis.mutants.model import Model
from throughtime.diagnosis.mutants.networks import NetworkLayout, TorchLayout
from throughtime.diagnosis.mutants.search import Match, Mutant, explain, mutants, mutants_of, passes

__all__ = [
    "Layout",
    "Match",
    "Model",
    "Mutant",
    "NetworkLayout",
    "TorchLayout",
    "detached",
    "explain",
    "mutants",
    "mutants_of",
    "passes",
]
