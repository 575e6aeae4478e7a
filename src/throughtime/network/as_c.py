"""A network as one file of C99, for what has no Python: `throughtime export`."""

from __future__ import annotations

import re

from throughtime.arrays import positive, refuse
from throughtime.cells import WINDOW, cell_in_c, offsets
from throughtime.codegen import DenseInC, EmbeddingInC, LayerInC, LossInC, ProgramInC
from throughtime.equations import PLAIN, SINGLE
from throughtime.network.layers import Dense, Dropout, Embedding
from throughtime.network.losses import BinaryCrossEntropy, MeanSquaredError, SoftmaxCrossEntropy
from throughtime.network.network import Network
from throughtime.network.recurrent import RecurrentLayer

WORD = re.compile(r"[a-z]\w*", re.ASCII | re.IGNORECASE)
LOSSES = (BinaryCrossEntropy, MeanSquaredError, SoftmaxCrossEntropy)


def network_as_c(
    network: Network, name: str = "net", *, steps: int = WINDOW, weights: bool = True
) -> str:
    """A file of C99 that runs and trains a network, without allocation or dependency but math.h.

    Args:
        network: with layers in one direction.
        name: with which everything in the file begins.
        steps: the longest window, which NAME_STEPS changes when the file is compiled.
        weights: whether the file holds the parameters; without them it reads a blob.

    Returns:
        the file's text. It computes in the network's precision, and products, too, where the
        network has these in bfloat16. Dropout is left out: nothing is dropped.

    Raises:
        ValueError, TypeError: for a name that C cannot have, and what has no form in C.

    Example:
        >>> import throughtime as tt
        >>> from throughtime.network import network_as_c
        >>> text = network_as_c(tt.Network([tt.GRU(3, 4), tt.Dense(4, 2)]), "filter")
        >>> "void filter_step(const float *parameters" in text
        True
    """
    if not WORD.fullmatch(name):
        refuse("name", "a word of letters, digits and _ that begins with a letter", repr(name))
    steps = positive("steps", steps)
    dialect = SINGLE if network.dtype == "float32" else PLAIN
    places = offsets(network.parameters.shapes)
    layers: list[LayerInC] = []
    size = network.inputs
    for number, layer in enumerate(network.layers):
        own = {parameter: places[f"{number}.{parameter}"] for parameter in layer.shapes()}
        word, width = f"layer{number}", layer.output_size(size)
        if isinstance(layer, RecurrentLayer):
            if layer.cell.bidirectional:
                way_out = "a stream has no future; train one direction"
                refuse(f"layer {number}", "a layer that runs in one direction", "both", way_out)
            layers.append(cell_in_c(layer.cell, name, word, own, dialect))
        elif isinstance(layer, Dense):
            layers.append(DenseInC(word, size, width, own, dialect))
        elif isinstance(layer, Embedding):
            layers.append(EmbeddingInC(word, size, width, own, dialect))
        elif not isinstance(layer, Dropout):
            refuse(f"layer {number}", "a layer that has a form in C", type(layer).__name__)
        size = width
    if not layers:
        refuse("network", "a layer besides dropout", "none")
    loss = network.loss
    if loss is not None and type(loss) not in LOSSES:
        known = ", ".join(kind.__name__ for kind in LOSSES)
        refuse("loss", f"none, or one of {known}", type(loss).__name__, "export without a loss")
    inside = ", ".join(map(repr, network.specs))
    return ProgramInC(
        name,
        f"Network([{inside}])".replace("*/", ""),
        layers,
        network.parameters.shapes,
        dialect,
        steps,
        None if loss is None else LossInC(type(loss).__name__, loss.time == "mean"),
        network.parameters.flat if weights else None,
    ).text()
