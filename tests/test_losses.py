"""The losses: known values, reductions, and gradients that stay right for extreme outputs."""

import numpy as np
import pytest

import throughtime as tt
from helpers import numerical_gradient, relative_error
from throughtime.network import losses

T, B, K = 4, 3, 2
LENGTHS = np.array([4, 1, 2])
RNG = np.random.default_rng(0)
LOSSES = {
    "MeanSquaredError": (tt.MeanSquaredError, RNG.standard_normal((T, B, K))),
    "SoftmaxCrossEntropy, classes": (tt.SoftmaxCrossEntropy, RNG.integers(0, K, (T, B))),
    "SoftmaxCrossEntropy, probabilities": (
        tt.SoftmaxCrossEntropy,
        RNG.dirichlet(np.ones(K), (T, B)),
    ),
    "BinaryCrossEntropy": (tt.BinaryCrossEntropy, RNG.uniform(size=(T, B, K))),
}


def evaluate(loss, outputs, targets, lengths=None):
    net = tt.Network([tt.Dense(K, outputs.shape[2])], loss, dtype=outputs.dtype)
    return net.loss_of(outputs, targets, lengths)


@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["full", "ragged"])
@pytest.mark.parametrize("batch", ["mean", "sum"])
@pytest.mark.parametrize("time", ["mean", "sum"])
@pytest.mark.parametrize("name", LOSSES)
def test_gradient_and_terms(name, time, batch, lengths):
    kind, targets = LOSSES[name]
    loss = kind(time=time, batch=batch)
    outputs = np.random.default_rng(1).standard_normal((T, B, K))
    found = evaluate(loss, outputs, targets, lengths)
    numerical = numerical_gradient(lambda: evaluate(loss, outputs, targets, lengths).value, outputs)
    assert relative_error(found.doutputs, numerical) <= 1e-9
    assert relative_error(found.value, (found.weights * found.terms).sum()) <= 1e-15
    counted = np.ones((T, B), bool) if lengths is None else np.arange(T)[:, None] < lengths
    assert (found.weights > 0).tolist() == counted.tolist()
    assert not found.terms[~counted].any()
    assert not found.doutputs[~counted].any()


@pytest.mark.parametrize(
    ("time", "batch", "weights"),
    [
        ("sum", "sum", [[1, 1, 1], [1, 0, 1], [1, 0, 0], [1, 0, 0]]),
        ("sum", "mean", [[1 / 3] * 3, [1 / 3, 0, 1 / 3], [1 / 3, 0, 0], [1 / 3, 0, 0]]),
        ("mean", "sum", [[1 / 4, 1, 1 / 2], [1 / 4, 0, 1 / 2], [1 / 4, 0, 0], [1 / 4, 0, 0]]),
        (
            "mean",
            "mean",
            [[1 / 12, 1 / 3, 1 / 6], [1 / 12, 0, 1 / 6], [1 / 12, 0, 0], [1 / 12, 0, 0]],
        ),
    ],
)
def test_weights(time, batch, weights):
    found = tt.MeanSquaredError(time=time, batch=batch).weights(T, B, LENGTHS)
    assert relative_error(found, weights) <= 1e-15


def test_known_values():
    zeros, ones = np.zeros((3, 2, 4)), np.ones((3, 2, 4))
    assert evaluate(tt.MeanSquaredError(), zeros, ones * 3).value == 9
    assert evaluate(tt.MeanSquaredError(time="sum", batch="sum"), zeros, ones * 3).value == 54
    classes = np.zeros((3, 2), int)
    assert (
        relative_error(evaluate(tt.SoftmaxCrossEntropy(), zeros, classes).value, np.log(4)) < 1e-15
    )
    assert relative_error(evaluate(tt.BinaryCrossEntropy(), zeros, ones).value, np.log(2)) < 1e-15


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_extreme_outputs_neither_overflow_nor_lose_the_gradient(dtype):
    large = np.array([[[1e4, -1e4]]], dtype)
    found = evaluate(tt.SoftmaxCrossEntropy(), large, np.array([[1]]))
    assert found.value == 2e4
    assert found.doutputs.tolist() == [[[1, -1]]]
    found = evaluate(tt.SoftmaxCrossEntropy(), large, np.array([[[0.25, 0.75]]], dtype))
    assert found.value == 1.5e4
    assert found.doutputs.tolist() == [[[0.75, -0.75]]]
    found = evaluate(tt.BinaryCrossEntropy(), large, np.array([[[0, 1]]], dtype))
    assert found.value == 1e4
    assert found.doutputs.tolist() == [[[0.5, -0.5]]]
    small = evaluate(
        tt.BinaryCrossEntropy(), np.array([[[-40.0]]], dtype), np.zeros((1, 1, 1), dtype)
    )
    assert relative_error(small.value, np.exp(-40)) < 1e-6
    assert relative_error(small.doutputs, [[[np.exp(-40)]]]) < 1e-6


@pytest.mark.parametrize("name", LOSSES)
def test_float32_stays_float32(name):
    kind, targets = LOSSES[name]
    targets = targets if targets.dtype == int else targets.astype(np.float32)
    outputs = np.random.default_rng(1).standard_normal((T, B, K)).astype(np.float32)
    found = evaluate(kind(), outputs, targets, LENGTHS)
    assert found.doutputs.dtype == np.float32
    assert isinstance(found.value, float)
    double = targets if targets.dtype == int else targets.astype(np.float64)
    if "probabilities" in name:
        double = double / double.sum(axis=2, keepdims=True)
    truth = evaluate(kind(), outputs.astype(np.float64), double, LENGTHS)
    assert relative_error(found.value, truth.value) <= 1e-6
    assert relative_error(found.doutputs, truth.doutputs) <= 1e-6


def test_probabilities_that_are_classes_give_the_same():
    _, classes = LOSSES["SoftmaxCrossEntropy, classes"]
    outputs = np.random.default_rng(1).standard_normal((T, B, K))
    by_class = evaluate(tt.SoftmaxCrossEntropy(), outputs, classes)
    by_chance = evaluate(tt.SoftmaxCrossEntropy(), outputs, np.eye(K)[classes])
    assert relative_error(by_class.value, by_chance.value) <= 1e-15
    assert relative_error(by_class.doutputs, by_chance.doutputs) <= 1e-15


def test_probabilities_that_sum_to_almost_1_are_differentiated_as_they_are():
    """The loss is −Σ p log softmax(y) of the numbers given, and so is its gradient."""
    _, targets = LOSSES["SoftmaxCrossEntropy, probabilities"]
    targets = targets * (1 + 5e-5)
    outputs = np.random.default_rng(1).standard_normal((T, B, K))
    loss = tt.SoftmaxCrossEntropy()
    found = evaluate(loss, outputs, targets)
    softmax = np.exp(outputs) / np.exp(outputs).sum(axis=2, keepdims=True)
    assert relative_error(found.terms, -(targets * np.log(softmax)).sum(axis=2)) <= 1e-14
    numerical = numerical_gradient(lambda: evaluate(loss, outputs, targets).value, outputs)
    assert relative_error(found.doutputs, numerical) <= 1e-9


def test_targets_are_left_as_they_were():
    targets = np.full((T, B, K), 0.5)
    outputs = np.random.default_rng(1).standard_normal((T, B, K))
    before = outputs.copy()
    evaluate(tt.SoftmaxCrossEntropy(), outputs, targets)
    assert (targets == 0.5).all()
    assert np.array_equal(outputs, before)


def test_every_loss_is_tested():
    assert {kind for kind, _ in LOSSES.values()} == set(losses.LOSSES.values())
