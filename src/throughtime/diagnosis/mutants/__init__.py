"""Our own backward pass with faults put in, and the search for those that match a gradient."""

from __future__ import annotations

from typing import TYPE_CHECKING

from throughtime.doors import door

if TYPE_CHECKING:
    from throughtime.diagnosis.mutants.layout import Layout
    from throughtime.diagnosis.mutants.losses import detached
    from throughtime.diagnosis.mutants.matches import (
        Match,
        agrees,
        explain,
        explain_in_stages,
        explained_by,
    )
    from throughtime.diagnosis.mutants.model import Model
    from throughtime.diagnosis.mutants.mutations import Mutant, mutants, mutants_of
    from throughtime.diagnosis.mutants.networks import NetworkLayout, TorchLayout
    from throughtime.diagnosis.mutants.search import passes
else:
    __getattr__ = door(
        __name__,
        {
            "layout": "Layout",
            "losses": "detached",
            "matches": "Match agrees explain explain_in_stages explained_by",
            "model": "Model",
            "mutations": "Mutant mutants mutants_of",
            "networks": "NetworkLayout TorchLayout",
            "search": "passes",
        },
    )

__all__ = [
    "Layout",
    "Match",
    "Model",
    "Mutant",
    "NetworkLayout",
    "TorchLayout",
    "agrees",
    "detached",
    "explain",
    "explain_in_stages",
    "explained_by",
    "mutants",
    "mutants_of",
    "passes",
]
