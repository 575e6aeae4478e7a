"""The flow of this package's own bidirectional networks against an unrolled twin in torch."""

import numpy as np
import pytest

import throughtime as tt
from throughtime.torch import from_torch

torch = pytest.importorskip("torch", reason="torch is not installed")
from unrolled_torch import derivatives, run_unrolled, shared  # noqa: E402

nn = torch.nn

T, B, CLASSES, WIDE, H = 8, 3, 6, 4, 5
LAGS = {"carousel": False, "spectrum": False, "keep": True}  # what takes time, left out
MODULES = {
    "rnn": lambda: nn.RNN(WIDE, H, bidirectional=True),
    "lstm-projected": lambda: nn.LSTM(WIDE, H, bidirectional=True, proj_size=3),
    "gru-2": lambda: nn.GRU(WIDE, H, 2, bidirectional=True),
}
rng = np.random.default_rng(0)
SYMBOLS, TARGETS = rng.integers(0, CLASSES, (2, T, B))


class Model(nn.Module):
    """Symbols -> vectors -> a module that runs both ways -> logits."""

    def __init__(self, rnn):
        super().__init__()
        width = (getattr(rnn, "proj_size", 0) or H) * 2
        self.vectors = nn.Embedding(CLASSES, WIDE)
        self.rnn, self.head = rnn, nn.Linear(width, CLASSES)

    def forward(self, x):
        return self.head(self.rnn(self.vectors(x))[0])


def twins(name):
    """The same numbers in torch and here."""
    torch.manual_seed(0)
    model = Model(MODULES[name]()).double()
    inner = from_torch(model.rnn)
    width = model.head.in_features
    specs = [tt.Embedding(CLASSES, WIDE), *inner.specs, tt.Dropout(0.5), tt.Dense(width, CLASSES)]
    net = tt.Network(specs, tt.SoftmaxCrossEntropy(time="sum"), dtype="float64")
    for name_, array in inner.parameters.items():
        number, _, rest = name_.partition(".")
        net.parameters[f"{int(number) + 1}.{rest}"] = array
    top = len(specs) - 1
    net.parameters["0.E"] = model.vectors.weight.detach().numpy()
    net.parameters[f"{top}.W"] = model.head.weight.detach().numpy()
    net.parameters[f"{top}.b"] = model.head.bias.detach().numpy()
    return net, model


def each_loss(outputs):
    """(T, B), as the network weighs them: the mean over sequences."""
    y = torch.as_tensor(TARGETS)
    found = nn.functional.cross_entropy(outputs.flatten(0, 1), y.flatten(), reduction="none")
    return found.reshape(T, B) / B


@pytest.mark.parametrize("name", MODULES)
def test_all_pairs_against_torch(name):
    net, model = twins(name)
    flow = tt.flow(net, SYMBOLS, TARGETS, **LAGS)
    outputs, lines = run_unrolled(model, "rnn", torch.as_tensor(SYMBOLS))
    losses = each_loss(outputs)
    assert flow.loss == pytest.approx(float(losses.sum().detach()), rel=1e-12)
    shared(flow, derivatives(losses.sum(dim=1), lines), lambda layer: range(T))
    assert [layer.backwards for layer in flow.layers.values()] == [False, True] * len(lines[::2])


@pytest.mark.parametrize("name", MODULES)
def test_the_rest_is_what_torch_s_twin_has(name):
    net, model = twins(name)
    ours = tt.flow(net, SYMBOLS, TARGETS)
    theirs = tt.flow(model, torch.as_tensor(SYMBOLS), loss=each_loss)
    assert ours.verdict == theirs.verdict
    assert ours.gradient_norm == pytest.approx(theirs.gradient_norm, rel=1e-10)
    assert ours.shares.keys() == theirs.shares.keys()
    for parameter, gates in ours.shares.items():
        for gate, share in gates.items():
            np.testing.assert_allclose(share, theirs.shares[parameter][gate], atol=1e-10)
    assert any("each direction counted by itself" in note for note in ours.notes)
    assert "backwards" in str(ours)


def test_lengths_and_an_initial_state():
    net, _ = twins("gru-2")
    lengths = np.array([8, 5, 3])
    begin = {name: rng.uniform(-0.5, 0.5, array.shape) for name, array in net.zero_state(B).items()}
    flow = tt.flow(net, SYMBOLS, TARGETS, state=begin, lengths=list(lengths), **LAGS)
    # Each sequence alone, as long as it is: nothing of it knows of the others.
    for b, n in enumerate(lengths):
        some = {name: array[b : b + 1] for name, array in begin.items()}
        alone = tt.flow(net, SYMBOLS[:n, b : b + 1], TARGETS[:n, b : b + 1], state=some, **LAGS)
        for number, parts in alone.gradients.items():
            for part, gradient in parts.items():
                own = flow.gradients[number][part][:n, :n, b : b + 1] * B
                np.testing.assert_allclose(own, gradient, atol=1e-10 * np.abs(gradient).max())


def test_a_direction_more_in_some_layers_only():
    layers = [tt.LSTM(WIDE, H, bidirectional=True), tt.LSTM(2 * H, H), tt.Dense(H, 2)]
    net = tt.Network(layers, tt.MeanSquaredError(), dtype="float64", seed=1)
    x, y = rng.standard_normal((T, B, WIDE)), rng.standard_normal((T, B, 2))
    flow = tt.flow(net, x, y, keep=True)
    assert [layer.backwards for layer in flow.layers.values()] == [False, True, False]
    # ∂E_t/∂h_t of the top layer is the head's alone.
    found = net.gradients(x, y)
    top = flow.gradients[2]["h"][:, 0]
    np.testing.assert_allclose(top, found.loss.doutputs @ net.parameters["2.W"], rtol=1e-10)
    # All losses together, through the recurrence and past it, are δh of every step below.
    for line, prefix in ((0, ""), (1, "1.")):
        total = np.zeros((T, B, H))
        for t in range(T):
            for k in range(T):
                lag = k - t if line else t - k
                behind, before = flow.gradients[line]["h"], flow.gradients_ahead[line]["h"]
                total[k] += behind[t, lag] if lag >= 0 else before[t, -1 - lag]
        expected = found.deltas[0][f"{prefix}h"]
        np.testing.assert_allclose(total, expected, atol=1e-10 * np.abs(expected).max())


def test_what_is_refused():
    x, y = rng.standard_normal((T, B, WIDE)), rng.standard_normal((T, B, 2))
    both = tt.GRU(WIDE, H, bidirectional=True)
    between = [both, tt.Dense(2 * H, WIDE), tt.GRU(WIDE, 2)]
    net = tt.Network(between, tt.MeanSquaredError(), dtype="float64")
    with pytest.raises(ValueError, match=r"one upon another.*got Dense between them"):
        tt.flow(net, x, y)
    head = [both, tt.Dense(2 * H, 2)]
    with pytest.raises(ValueError, match="a loss, got none"):
        tt.flow(tt.Network(head, dtype="float64"), x, y)
    net = tt.Network(head, tt.MeanSquaredError(), dtype="float64")
    with pytest.raises(ValueError, match="a second direction, which begins at the end"):
        tt.flow(net, x, y, k2=3)
    with pytest.raises(ValueError, match="clip: expected a run that can be cut"):
        tt.flow(net, x, y, clip=1.0)
    with pytest.raises(ValueError, match="targets: expected"):
        tt.flow(net, x, y[:-1])
