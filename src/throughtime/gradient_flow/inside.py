"""A network that runs both ways, from inside: its recurrent layers, and what lies above as losses.

Of layers that run both ways each direction is a recurrence by itself, with what the layers above
hand to it. What lies below the lowest of them, and the head, have no part in any recurrence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from throughtime.arrays import Array, array_of, refuse, step_counts
from throughtime.gradient_flow.upstream import Losses, OwnStepSource, UpstreamGradient
from throughtime.gradient_flow.walk import through_head
from throughtime.network import Dropout, Layer, Network, RecurrentTape, checked_inputs

NOTE = (
    "Layers are the recurrent ones, each direction counted by itself, from 0; shares, bias and "
    "gradient norm are those of their parameters."
)


@dataclass(frozen=True)
class Inside:
    """What `network_flow` takes of the recurrent layers alone.

    Attributes:
        network: these layers, with the numbers of the whole one.
        inputs: what the lowest of them receives.
        state: by the names of `network`.
        lengths: (B,) or None.
        losses: of each step, as the layers see them.
    """

    network: Network
    inputs: Array
    state: Mapping[str, Array] | None
    lengths: Array | None
    losses: Losses


def inside(
    network: Network,
    inputs: object,
    targets: object,
    state: Mapping[str, Array] | None,
    lengths: object,
) -> Inside:
    """Runs the network, and its loss back through what lies above its recurrent layers.

    Raises:
        ValueError, TypeError: for one without a loss, data that do not fit, or another layer than
            Dropout between the recurrent ones.
    """
    numbers = sorted(network.recurrent)
    _stacked(network, numbers)
    if network.loss is None:
        refuse("loss", "a loss", "none", "build the network with loss=…")
    x = checked_inputs(network.layers[0], network.inputs, network.dtype, inputs)
    steps, batch = x.shape[:2]
    counts = step_counts(lengths, steps, batch)
    outputs, _, tape = network.forward(x, state, counts)
    weights = network.loss.weights(steps, batch, counts)
    wanted = network.loss.check_targets(array_of("targets", targets), outputs)
    loss = network.loss.evaluate(outputs, wanted, weights)
    arriving, _ = through_head(network, tape, numbers[-1], loss.doutputs)
    whole = UpstreamGradient(arriving[None], {})
    losses = Losses(OwnStepSource(arriving), whole, weights * loss.terms)
    lowest = tape.layers[numbers[0]]
    assert isinstance(lowest, RecurrentTape)
    own = None if state is None else _renumbered(state, numbers)
    x = lowest.directions[0].inputs
    return Inside(_alone(network, numbers), x, own, counts, losses)


def _stacked(network: Network, numbers: list[int]) -> None:
    between: list[Layer] = [network.layers[n] for n in range(numbers[0], numbers[-1])]
    others = [layer for layer in between if layer not in network.recurrent.values()]
    strange = [type(layer).__name__ for layer in others if not isinstance(layer, Dropout)]
    if strange:
        expected = "recurrent layers one upon another, where one of them runs both ways"
        refuse("network", expected, f"{strange[0]} between them", "look at each part by itself")


def _alone(network: Network, numbers: list[int]) -> Network:
    found = Network([network.specs[n] for n in numbers], dtype=network.dtype)
    for own, number in enumerate(numbers):
        for name, array in network.of_layer(number).items():
            found.parameters[f"{own}.{name}"] = array
    return found


def _renumbered(state: Mapping[str, Array], numbers: list[int]) -> dict[str, Array]:
    return {
        f"{numbers.index(int(number))}.{rest}": array
        for name, array in state.items()
        for number, _, rest in [name.partition(".")]
    }
