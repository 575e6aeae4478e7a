"""What a network is stacked from: recurrent layers, dense heads, embeddings, dropout."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, TypeAlias, cast

from throughtime.arrays import refuse
from throughtime.cells import CELLS, Cell
from throughtime.network.dense import Dense
from throughtime.network.dropout import Dropout
from throughtime.network.embedding import Embedding
from throughtime.network.layers import Layer, LayerTape
from throughtime.network.recurrent import Recurrent, RecurrentTape

Spec: TypeAlias = Cell | Layer  # what a user writes into the list of layers

KINDS: dict[str, Callable[..., Spec]] = {
    **CELLS,
    **{kind.__name__: kind for kind in (Dense, Embedding, Dropout)},
}


def as_layer(number: int, spec: object) -> Layer:
    """The layer that runs what the user wrote at place `number`."""
    if isinstance(spec, Cell):
        return Recurrent(spec)
    if isinstance(spec, Layer):
        return spec
    refuse(f"layer {number}", "one of " + ", ".join(KINDS), repr(spec), error=TypeError)


def describe(spec: Spec) -> dict[str, object]:
    """A layer as plain data, for a file."""
    return {"kind": type(spec).__name__, **asdict(cast(Any, spec))}


def build(description: Mapping[str, object]) -> Spec:
    """The layer that `describe` described."""
    options = dict(description)
    kind = options.pop("kind", None)
    if kind not in KINDS:
        refuse("layer kind", "one of " + ", ".join(KINDS), repr(kind))
    try:
        return KINDS[str(kind)](**options)
    except TypeError as problem:
        refuse(f"layer {kind}", "its own options", problem)


__all__ = [
    "Dense",
    "Dropout",
    "Embedding",
    "Layer",
    "LayerTape",
    "Recurrent",
    "RecurrentTape",
    "Spec",
    "as_layer",
    "build",
    "describe",
]
