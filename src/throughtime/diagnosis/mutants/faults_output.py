"""Faults of δ of the outputs: another loss, other targets, other steps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from throughtime.arrays import Array
from throughtime.diagnosis.mutants.interventions import Intervention, Mutation, mutation
from throughtime.diagnosis.mutants.losses import softmax
from throughtime.diagnosis.mutants.model import Forward, Model


def different_loss(model: Model) -> Iterator[Mutation]:
    """δ of the outputs belongs to another loss."""
    others = SOFTMAX_OTHERS if model.loss.kind == "softmax" else SQUARED_OTHERS
    if model.loss.kind not in ("softmax", "squared_error"):
        return
    for words, slope in others.items():
        yield mutation("different_loss", words, dy=_of_loss(slope))


def softmax_derivative_twice(model: Model) -> Iterator[Mutation]:
    """The softmax's Jacobian once more: p ⊙ (δ − p·δ)."""
    if model.loss.kind != "softmax":
        return

    def edit(dy: Array, run: Forward, **_: Any) -> Array:
        p = softmax(run.y)
        result: Array = p * (dy - (p * dy).sum(axis=-1, keepdims=True))
        return result

    yield mutation("softmax_derivative_twice", dy=edit)


def targets_shifted(model: Model) -> Iterator[Mutation]:
    """The target of another step."""
    if model.loss.last or model.steps < 2 or model.loss.kind in ("weighted", "given"):
        return
    t = np.arange(model.steps)
    for words, source in {
        "the next step's, the first one's at the end": (t + 1) % model.steps,
        "the next step's": np.minimum(t + 1, model.steps - 1),
        "the step before's": np.maximum(t - 1, 0),
        "the step before's, the last one's at the start": t - 1,
    }.items():
        yield mutation("targets_shifted", words, dy=_shifted(source))


def output_gradient_at_every_step(model: Model) -> Iterator[Mutation]:
    """The last step's error, or each step's own, sent in at every step."""
    if not model.loss.last or model.steps < 2:
        return

    def repeated(dy: Array, **_: Any) -> Array:
        return np.broadcast_to(dy.sum(axis=0), dy.shape)

    def own(dy: Array, model: Model, run: Forward, **_: Any) -> Array:
        whole = model.loss.whole(model.steps, model.data.lengths)[..., None]
        slope: Array = model.loss.errors(run.y, model.data.targets)[1] * whole
        return slope / (2 * run.loss) if model.loss.root else slope

    yield mutation("output_gradient_at_every_step", "the last step's error", dy=repeated)
    yield mutation("output_gradient_at_every_step", "each step's own error", dy=own)


def output_gradient_at_last_step_only(model: Model) -> Iterator[Mutation]:
    """Nothing but the last step's error. Below the head alone it would be `dh_overwritten`."""
    if model.loss.last or model.steps < 2:
        return

    def last(dy: Array, **_: Any) -> Array:
        return np.concatenate([0 * dy[:-1], dy[-1:]])

    yield mutation("output_gradient_at_last_step_only", dy=last)


def padding_counted(model: Model) -> Iterator[Mutation]:
    """Steps beyond a sequence's end count."""
    whole = (model.data.lengths == model.steps).all()
    if whole or model.loss.last or model.loss.kind == "given":
        return

    def edit(dy: Array, model: Model, run: Forward, **_: Any) -> Array:
        weights = model.loss.whole(model.steps, model.data.lengths)[..., None]
        slope: Array = model.loss.errors(run.y, model.data.targets)[1] * weights
        return slope

    yield mutation("padding_counted", dy=edit)


def _shifted(source: Array) -> Intervention:
    def edit(dy: Array, model: Model, run: Forward, **_: Any) -> Array:
        targets = model.data.targets[source]
        return model.loss.evaluate(run.y, targets, _weights(model))[1]

    return edit


def _of_loss(slope: Any) -> Intervention:
    def edit(dy: Array, model: Model, run: Forward, **_: Any) -> Array:
        result: Array = slope(run.y, model.data.targets) * _weights(model)[..., None]
        return result

    return edit


def _weights(model: Model) -> Array:
    return model.loss.weights(model.steps, model.data.lengths)


def _log_softmax(y: Array) -> Array:
    logs: Array = np.log(softmax(y))
    return logs


def _sigmoid_slope(y: Array) -> Array:
    p = softmax(y)
    result: Array = p * (1 - p)
    return result


SOFTMAX_OTHERS = {
    "2 (p − y) p (1 − p), a squared error of p": lambda y, k: (
        2 * (softmax(y) - k) * _sigmoid_slope(y)
    ),
    "(p − y) p (1 − p), half a squared error of p": lambda y, k: (
        (softmax(y) - k) * _sigmoid_slope(y)
    ),
    "log p − y": lambda y, k: _log_softmax(y) - k,
    "ŷ − y, a squared error of the logits": lambda y, k: y - k,
    "σ(ŷ) − y, a binary cross-entropy": lambda y, k: 1 / (1 + np.exp(-y)) - k,
    "−y/p, by p itself and not by the logits": lambda y, k: -k / softmax(y),
}
SQUARED_OTHERS = {
    "softmax(ŷ) − y, a cross-entropy": lambda y, k: softmax(y) - k,
    "sign(ŷ − y), an absolute error": lambda y, k: np.sign(y - k),
    "σ(ŷ) − y, a binary cross-entropy": lambda y, k: 1 / (1 + np.exp(-y)) - k,
    "tanh′ times the error, a squared error of tanh(ŷ)": lambda y, k: (
        2 * (np.tanh(y) - k) * (1 - np.tanh(y) ** 2)
    ),
}

OUTPUT = (  # those that set δ of the outputs anew come before those that alter it
    different_loss,
    targets_shifted,
    padding_counted,
    output_gradient_at_every_step,
    softmax_derivative_twice,
    output_gradient_at_last_step_only,
)
