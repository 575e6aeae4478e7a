"""The losses against torch's own in float64: value, terms and gradient, for every reduction."""

import numpy as np
import pytest

import throughtime as tt

torch = pytest.importorskip("torch", reason="torch is not installed")
pytestmark = pytest.mark.usefixtures("each_engine")
functional = torch.nn.functional
T, B, K = 6, 4, 3
LENGTHS = {"full": None, "ragged": np.array([6, 1, 3, 5])}
RNG = np.random.default_rng(3)
CLASSES = RNG.integers(0, K, (T, B))
PROBABILITIES = RNG.dirichlet(np.ones(K), (T, B))
NUMBERS = RNG.standard_normal((T, B, K))
CHANCES = RNG.uniform(size=(T, B, K))


def squares(y, target):
    return functional.mse_loss(y, target, reduction="none").mean(2)


def softmax(y, target):
    swapped = target if target.ndim == 2 else target.permute(0, 2, 1)
    return functional.cross_entropy(y.permute(0, 2, 1), swapped, reduction="none")


def binary(y, target):
    return functional.binary_cross_entropy_with_logits(y, target, reduction="none").mean(2)


LOSSES = {
    "MeanSquaredError": (tt.MeanSquaredError, squares, NUMBERS),
    "SoftmaxCrossEntropy, classes": (tt.SoftmaxCrossEntropy, softmax, CLASSES),
    "SoftmaxCrossEntropy, probabilities": (tt.SoftmaxCrossEntropy, softmax, PROBABILITIES),
    "BinaryCrossEntropy": (tt.BinaryCrossEntropy, binary, CHANCES),
}


@pytest.mark.parametrize("scale", [1.0, 300.0], ids=["usual outputs", "large outputs"])
@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("batch", ["mean", "sum"])
@pytest.mark.parametrize("time", ["mean", "sum"])
@pytest.mark.parametrize("name", LOSSES)
def test_loss(name, time, batch, length, scale, oracle):
    kind, reference, targets = LOSSES[name]
    outputs = scale * np.random.default_rng(4).standard_normal((T, B, K))
    lengths = LENGTHS[length]
    net = tt.Network([tt.Dense(K, K)], kind(time=time, batch=batch), dtype="float64")
    found = net.loss_of(outputs, targets, lengths)

    y = torch.tensor(outputs, requires_grad=True)
    terms = reference(y, torch.tensor(targets))
    own = [terms[:n, b] for b, n in enumerate([T] * B if lengths is None else lengths)]
    sequences = torch.stack([e.mean() if time == "mean" else e.sum() for e in own])
    value = sequences.mean() if batch == "mean" else sequences.sum()
    value.backward()

    oracle("value", found.value, value.item())
    oracle("gradient", found.doutputs, y.grad)
    for b, errors in enumerate(own):
        oracle("terms", found.terms[: len(errors), b], errors.detach())
        assert not found.terms[len(errors) :, b].any()


def test_default_reductions_are_torchs_own(oracle):
    """Mean over time and batch is what torch calls reduction="mean"."""
    outputs = np.random.default_rng(4).standard_normal((T, B, K))
    net = tt.Network([tt.Dense(K, K)], tt.MeanSquaredError(), dtype="float64")
    wanted = functional.mse_loss(torch.tensor(outputs), torch.tensor(NUMBERS)).item()
    oracle("value", net.loss_of(outputs, NUMBERS).value, wanted)
