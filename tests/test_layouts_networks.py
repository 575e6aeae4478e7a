"""Layouts that nobody declares: of our own networks, and of torch's modules."""

import dataclasses

import numpy as np
import pytest

import throughtime as tt
from throughtime.diagnosis.model_from_target import model_from_target
from throughtime.diagnosis.mutants import mutants

CLASSES = np.array([[0, 3], [1, 1], [3, 0], [0, 1], [2, 2]])


def agrees(target):
    """The model behind a target has its gradient; that it has its loss is why it is there."""
    found = model_from_target(target)
    assert found.notes == ()
    own = found.model.gradient()
    for name, array in target.gradient().items():
        np.testing.assert_allclose(own[name], array, rtol=1e-10, atol=1e-13)


def causes(target, gradient):
    """The faults that are named where a target's gradient is another."""
    wrong = dataclasses.replace(target, gradient=gradient)
    return [cause.fault for cause in tt.check(wrong, effort="quick", progress=False).causes]


# --- our own networks ---


@pytest.mark.parametrize(
    "layers",
    [
        [tt.RNN(3, 4), tt.Dense(4, 2)],
        [tt.RNN(3, 2, nonlinearity="relu"), tt.RNN(2, 2, nonlinearity="relu")],
        [tt.GRU(3, 4), tt.Dense(4, 2, bias=False)],
        [tt.GRU(3, 2, reset_after=False)],
        [tt.LSTM(3, 4), tt.LSTM(4, 4), tt.Dense(4, 2)],
        [tt.LSTM(3, 4, peepholes=True), tt.LSTM(4, 4, peepholes=True), tt.Dense(4, 2)],
        [tt.LSTM(3, 4, projection=2, peepholes=True)],
        [tt.LSTM(3, 3, projection=5), tt.LSTM(5, 3, projection=5), tt.Dense(5, 2)],
        [tt.RNN(3, 1, bidirectional=True)],
        [tt.GRU(3, 4, bidirectional=True), tt.GRU(8, 4, bidirectional=True), tt.Dense(8, 2)],
        [tt.LSTM(3, 4, projection=1, bidirectional=True)],
    ],
    ids=str,
)
@pytest.mark.parametrize("starting", [False, True])
def test_a_network_has_a_layout(layers, starting):
    net = tt.Network(layers, tt.MeanSquaredError(time="sum"), dtype="float64", seed=0)
    rng = np.random.default_rng(0)
    for array in net.parameters.values():
        array += 0.1 * rng.normal(size=array.shape)  # biases and peepholes are 0 otherwise
    x = rng.normal(size=(5, 2, 3))
    options = {"lengths": np.array([5, 3])}
    if starting:
        states = net.run(x).state.items()
        options["state"] = {name: rng.normal(size=array.shape) for name, array in states}
    agrees(tt.target_of(net, x, np.ones((5, 2, 2)), **options))


@pytest.mark.parametrize(
    "cells",
    [
        [tt.RNN(3, 4)],
        [tt.LSTM(3, 4), tt.LSTM(4, 4)],
        [tt.GRU(3, 2, bidirectional=True)],
    ],
    ids=str,
)
def test_a_network_with_an_embedding_has_a_layout(cells):
    layers = [tt.Embedding(4, 3), tt.Dropout(0.5), *cells, tt.Dense(4, 4)]  # nothing is dropped
    net = tt.Network(layers, tt.SoftmaxCrossEntropy(), dtype="float64", seed=0)
    agrees(tt.target_of(net, CLASSES, CLASSES[::-1].copy()))


@pytest.mark.parametrize(
    "layers",
    [
        [tt.LSTM(3, 5, projection=4), tt.LSTM(4, 4)],
        [tt.GRU(3, 2, bidirectional=True), tt.GRU(4, 4)],
        [tt.RNN(3, 4, nonlinearity="relu"), tt.RNN(4, 4)],
        [tt.RNN(3, 4), tt.Dense(4, 4), tt.Dense(4, 4)],
    ],
    ids=str,
)
def test_a_network_of_other_layers_has_none(layers):
    net = tt.Network(layers, tt.MeanSquaredError(), dtype="float64", seed=0)
    found = model_from_target(tt.target_of(net, np.ones((4, 1, 3)), np.ones((4, 1, 4))))
    assert found.model is None
    assert "The layout does not fit: layout of a Network: expected" in found.notes[0]


def test_an_embedding_that_keeps_the_last_of_each_class_is_named():
    """`dE[x] += dx` in NumPy adds but one of several entries that have the same index."""
    layers = [tt.Embedding(4, 3), tt.RNN(3, 4), tt.Dense(4, 4)]
    net = tt.Network(layers, tt.SoftmaxCrossEntropy(), dtype="float64", seed=0)
    target = tt.target_of(net, CLASSES, CLASSES[::-1].copy())

    def gradient():
        found = {name: array.copy() for name, array in target.gradient().items()}
        dx = net.gradients(CLASSES, CLASSES[::-1].copy()).deltas[0]["z"]
        found["0.E"] = np.zeros((4, 3))
        found["0.E"][CLASSES] += dx
        return found

    assert causes(target, gradient) == ["embedding_rows_counted_once"]


# --- torch ---


def module(torch, kind, *, embedding=False, head=True, batch_first=False):
    """A usual module: an embedding or none, a recurrent layer or two, a head or none."""
    torch.manual_seed(0)

    class Tagger(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.look_up = torch.nn.Embedding(4, 3) if embedding else None
            self.inner = getattr(torch.nn, kind)(3, 4, batch_first=batch_first)
            self.head = torch.nn.Linear(4, 4) if head else None

        def forward(self, x):
            h = self.inner(x if self.look_up is None else self.look_up(x))[0]
            return h if self.head is None else self.head(h)

    return Tagger().double()


def inputs(torch, *, embedding=False):
    drawn = torch.randn(5, 2, 3, dtype=torch.float64)
    return torch.from_numpy(CLASSES) if embedding else drawn


@pytest.mark.parametrize("kind", ["RNN", "GRU", "LSTM"])
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_a_torch_module_has_a_layout(torch, kind, batch_first, bidirectional, dropout):
    torch.manual_seed(0)
    options = {"num_layers": 3, "batch_first": batch_first, "dtype": torch.float64}
    options |= {"bidirectional": bidirectional, "dropout": dropout}
    agrees(tt.target_of(getattr(torch.nn, kind)(3, 4, **options), inputs(torch)))


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_torch_module_with_a_projection_has_a_layout(torch, bidirectional):
    torch.manual_seed(0)
    options = {"num_layers": 2, "proj_size": 2, "dropout": 0.2, "dtype": torch.float64}
    own = torch.nn.LSTM(3, 4, bidirectional=bidirectional, **options)
    agrees(tt.target_of(own, inputs(torch)))
    agrees(tt.target_of(own, inputs(torch), loss=lambda found: found[0].square().sum()))


@pytest.mark.parametrize("bidirectional", [False, True])
def test_what_torch_drops_in_single_precision_is_known_too(torch, bidirectional):
    torch.manual_seed(0)
    options = {"num_layers": 3, "dropout": 0.4, "bidirectional": bidirectional}
    found = model_from_target(tt.target_of(torch.nn.LSTM(3, 4, **options), inputs(torch).float()))
    assert found.model is not None
    assert len(found.model.data.between) == 2


def test_what_was_drawn_before_torch_drops_leaves_no_mutants(torch):
    """The masks are others then, and with them the loss."""
    own = torch.nn.LSTM(3, 4, num_layers=2, dropout=0.4, dtype=torch.float64)
    own.register_forward_pre_hook(lambda *_: torch.rand(1) and None)
    found = model_from_target(tt.target_of(own, inputs(torch)))
    assert found.model is None
    assert "Our model of it has the loss" in found.notes[0]


@pytest.mark.parametrize("embedding", [False, True])
@pytest.mark.parametrize("head", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
def test_a_torch_module_around_one_has_a_layout(torch, embedding, head, batch_first):
    own = module(torch, "LSTM", embedding=embedding, head=head, batch_first=batch_first)
    agrees(tt.target_of(own, inputs(torch, embedding=embedding)))


@pytest.mark.parametrize("batch_first", [False, True])
def test_a_torch_module_with_a_loss_of_its_own_has_a_layout(torch, batch_first):
    own = module(torch, "GRU", embedding=True, batch_first=batch_first)
    x = inputs(torch, embedding=True)
    loss = lambda y: torch.nn.functional.cross_entropy(y.flatten(0, 1), x.flatten())  # noqa: E731
    agrees(tt.target_of(own, x, loss=loss))


def test_a_loss_may_look_at_the_last_step_alone(torch):
    own = torch.nn.Sequential()
    own.inner = torch.nn.RNN(3, 4, dtype=torch.float64)
    own.head = torch.nn.Linear(4, 2, dtype=torch.float64)
    own.forward = lambda x: own.head(own.inner(x)[0][-1])
    agrees(tt.target_of(own, inputs(torch), loss=lambda y: y.square().mean(dim=1)))


def test_a_loss_of_a_modules_outputs_and_no_states(torch):
    own = torch.nn.LSTM(3, 4, dtype=torch.float64)
    agrees(tt.target_of(own, inputs(torch), loss=lambda found: found[0].square().sum()))
    of_states = tt.target_of(own, inputs(torch), loss=lambda found: found[1][1].square().sum())
    found = model_from_target(of_states)
    assert found.model is None
    assert "expected a loss of every step's outputs" in found.notes[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda torch, own: own.add_module("more", torch.nn.Linear(2, 2)), "got LSTM, Linear"),
        (lambda torch, own: setattr(own, "look_up", torch.nn.Embedding(4, 3, 0)), "padding_idx"),
    ],
)
def test_another_torch_module_has_none(torch, change, message):
    own = module(torch, "LSTM")
    change(torch, own)
    own.double()
    found = model_from_target(tt.target_of(own, inputs(torch, embedding=own.look_up is not None)))
    assert found.model is None
    assert message in found.notes[0]


def test_a_torch_module_whose_state_is_cut_is_diagnosed(torch):
    own = module(torch, "RNN", embedding=True)
    x = inputs(torch, embedding=True)
    target = tt.target_of(own, x, loss=lambda y: y.square().mean())
    model = model_from_target(target).model
    cut = next(mutants(model, ["dh_next_missing"]))
    assert causes(target, lambda: cut.gradient) == ["dh_next_missing"]
