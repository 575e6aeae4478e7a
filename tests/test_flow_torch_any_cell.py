"""The flow in a `throughtime.torch.Recurrent`: as in torch's own module, and as in a network."""

import numpy as np
import pytest

import throughtime as tt

torch = pytest.importorskip("torch", reason="torch is not installed")
from torch import nn  # noqa: E402

from throughtime.torch import Recurrent  # noqa: E402

T, B, I, H = 6, 3, 2, 4  # noqa: E741


@tt.cell(W="4H I", U="4H H", b="4H")
def lstm(x, h, c, W, U, b):
    i, f, a, o = np.split(W @ x + U @ h + b, 4)
    c = tt.sigmoid(f) * c + tt.sigmoid(i) * np.tanh(a)
    return tt.sigmoid(o) * np.tanh(c), c


class Own(nn.Module):
    """A cell of this package, with torch's weights, and an output layer."""

    def __init__(self, given, cell, batch_first=False):
        super().__init__()
        self.rnn = Recurrent(cell, batch_first=batch_first, dtype=torch.float64)
        network = tt.from_torch(given.rnn.state_dict())
        for name, weight in self.rnn.weights().items():
            weight.data = torch.from_numpy(network.parameters[f"0.{name}"].copy())
        self.head = given.head

    def forward(self, x, lengths=None, state=None):
        return self.head_of(*self.rnn(x, state, lengths))

    def head_of(self, outputs, state):
        return self.head(outputs)


class Theirs(nn.Module):
    def __init__(self, bidirectional=False):
        super().__init__()
        torch.manual_seed(0)
        self.rnn = nn.LSTM(I, H, bidirectional=bidirectional, dtype=torch.float64)
        self.head = nn.Linear(H * (1 + bidirectional), 2, dtype=torch.float64)

    def forward(self, x, state=None):
        return self.head(self.rnn(x, state)[0])


def data(*shape):
    return torch.from_numpy(np.random.default_rng(1).standard_normal(shape or (T, B, I)))


def per_step(y):
    return (y**2).sum(-1)


def same(flow, expected):
    assert flow.layers.keys() == expected.layers.keys()
    for number, one in expected.layers.items():
        assert flow.layers[number].norms.keys() == one.norms.keys()
        for part, norms in one.norms.items():
            np.testing.assert_allclose(flow.layers[number].norms[part], norms, rtol=1e-10)
    assert flow.gradient_norm == pytest.approx(expected.gradient_norm)


@pytest.mark.parametrize("cell", [tt.LSTM(I, H), lstm(I, H)], ids=["built in", "by equations"])
def test_the_same_as_torchs_own_module(cell):
    theirs, x = Theirs(), data()
    own = Own(theirs, cell)
    expected = tt.flow(theirs, x, loss=per_step)
    flow = tt.flow(own, x, loss=per_step)
    same(flow, expected)
    assert flow.reason.startswith(f"layer 0 ({flow.top.kind})")
    assert any(f"`rnn` ({flow.top.kind})" in note for note in flow.notes)


def test_both_directions_and_losses_that_look_at_several_steps():
    theirs, x = Theirs(bidirectional=True), data()
    own = Own(theirs, tt.LSTM(I, H, bidirectional=True))

    def pooled(y):
        return (y.mean(0) ** 2).sum()

    same(tt.flow(own, x, loss=pooled), tt.flow(theirs, x, loss=pooled))


def test_the_last_state_is_followed_from_where_it_is_used():
    theirs, x = Theirs(), data()
    own = Own(theirs, lstm(I, H))
    own.head_of = lambda outputs, state: own.head(state["h"]) + state["c"].sum(1, keepdim=True)

    class Last(Theirs):
        def forward(self, x):
            _, (h, c) = self.rnn(x)
            return self.head(h[0]) + c[0].sum(1, keepdim=True)

    same(tt.flow(own, x, loss=per_step), tt.flow(Last(), x, loss=per_step))


def test_lengths_an_initial_state_and_the_batch_in_front():
    theirs, x = Theirs(), data()
    h, c = data(1, B, H), data(1, B, H) / 2
    expected = tt.flow(theirs, x, (h, c), loss=per_step)
    own = Own(theirs, lstm(I, H), batch_first=True)
    state = {"h": h[0], "c": c[0]}
    turned = tt.flow(own, x.transpose(0, 1), state=state, loss=per_step)
    same(turned, expected)

    lengths = torch.tensor([T, 2, 4])
    own = Own(theirs, lstm(I, H))
    packed = nn.utils.rnn.pack_padded_sequence(x, lengths, enforce_sorted=False)
    mask = (torch.arange(T)[:, None] < lengths).double()

    class Packed(Theirs):
        def forward(self, packed):
            return self.head(nn.utils.rnn.pad_packed_sequence(self.rnn(packed)[0])[0])

    def masked(y):
        return per_step(y) * mask

    expected = tt.flow(Packed(), packed, loss=masked)
    same(tt.flow(own, x, lengths=lengths, loss=masked), expected)


def test_class_indices():
    layer = Recurrent(lstm(5, H), dtype=torch.float64)
    classes = np.random.default_rng(0).integers(0, 5, (T, B))
    network = tt.Network([layer.cell], tt.MeanSquaredError(time="sum"), dtype="float64")
    for name, weight in layer.weights().items():
        network.parameters[f"0.{name}"] = weight.detach().numpy()
    expected = tt.flow(network, classes, np.zeros((T, B, H)))

    def loss(found):
        return (found[0] ** 2).mean(-1) / B

    flow = tt.flow(layer, torch.from_numpy(classes), loss=loss)
    same(flow, expected)


def test_called_step_by_step_it_is_refused_with_the_way_out():
    layer = Recurrent(lstm(I, H), dtype=torch.float64)

    class Loop(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = layer

        def forward(self, x):
            state, found = None, []
            for step in x:
                y, state = self.rnn(step[None], state)
                found.append(y)
            return torch.cat(found)

    with pytest.raises(ValueError, match=r"`rnn` \(lstm\): expected one call, got several; give"):
        tt.flow(Loop(), data(), loss=per_step)


def test_what_becomes_infinite_first():
    layer = Recurrent(lstm(I, H), dtype=torch.float64)
    x = data()
    assert tt.first_nonfinite(layer, x, loss=lambda found: found[1]["c"].sum()) is None
    found = tt.first_nonfinite(layer, x, loss=lambda found: (found[1]["c"] * 1e308 * 10).sum())
    assert found is not None
    x[2, 1] = 1e308
    layer.W.data[:] = 1e10
    found = tt.first_nonfinite(layer, x)
    assert (found.step, found.sequence) == (2, 1)
