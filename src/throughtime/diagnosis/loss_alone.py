"""The derivative of a loss by a network's outputs, compared with the loss alone.

Where the network's own backward pass is right, what is wrong came in with this derivative, and no
step of the network needs to be looked at.
"""

from __future__ import annotations

import numpy as np

from throughtime.arrays import Array
from throughtime.diagnosis.experiments import Study
from throughtime.diagnosis.mutants.model import Model
from throughtime.diagnosis.observed import CandidateCause, Observed
from throughtime.diagnosis.through_a_softmax import through_a_softmax
from throughtime.gradcheck import Target

OUTPUTS = "outputs"


def loss_alone(model: Model, study: Study) -> tuple[Observed, CandidateCause | None] | None:
    """The derivative by the outputs beside the numerical one, and what explains the difference.

    Args:
        model: the network behind the target, whose loss is evaluated at its outputs.
        study: gives the budget.

    Returns:
        None where the loss cannot be evaluated at outputs near by, or its derivative is right.
    """
    outputs = {OUTPUTS: np.array(model.forward().y)}
    data, weights = model.data, model.loss.weights(model.steps, model.data.lengths)

    def loss() -> float:
        return model.loss.evaluate(outputs[OUTPUTS], data.targets, weights)[0]

    def gradient() -> dict[str, Array]:
        return {OUTPUTS: model.loss.evaluate(outputs[OUTPUTS], data.targets, weights)[1]}

    values = {OUTPUTS: outputs[OUTPUTS].copy()}
    alone = Study(Target(outputs, loss, gradient), values, study.budget, seed=study.seed)
    observed = alone.look()
    if observed is None or not observed.wrong():
        return None
    return observed, through_a_softmax(observed, alone)


def worst_output(observed: Observed) -> str:
    """A sentence on the output whose derivative is furthest off."""
    own = observed.sampled[OUTPUTS]
    worst = int(observed.z(OUTPUTS).argmax())
    t, b, k = np.unravel_index(own.places[worst], observed.gradient[OUTPUTS].shape)
    return (
        f"At step {t} of sequence {b}, output {k} (counted from 0), it is "
        f"{observed.beside(OUTPUTS)[worst]:+.4e}; numerically it is {own.numerical[worst]:+.4e}."
    )
