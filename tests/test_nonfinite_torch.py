"""The first value of a torch model's run that is NaN or infinite."""

import pytest

import throughtime as tt

torch = pytest.importorskip("torch", reason="torch is not installed")
nn = torch.nn

T, B, WIDE, H = 9, 3, 4, 5


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.lower = nn.GRU(WIDE, H, batch_first=True)
        self.upper = nn.LSTM(H, H, num_layers=2, batch_first=True)
        self.head = nn.Linear(H, 2)

    def forward(self, x):
        return self.head(self.upper(torch.relu(self.lower(x)[0]))[0])


def model_and_inputs():
    torch.manual_seed(0)
    return Model(), torch.randn(B, T, WIDE)


def first(model, x, loss=None, **options):
    return tt.first_nonfinite(model, x, loss=loss or (lambda o: o.square().mean()), **options)


def test_nothing_where_all_is_finite():
    assert first(*model_and_inputs()) is None


def test_a_parameter_and_an_input():
    model, x = model_and_inputs()
    with torch.no_grad():
        x[1, 2, 3] = torch.inf
    assert str(first(model, x)) == "inputs, inputs[0][1, 2, 3]: value inf"
    with torch.no_grad():
        model.upper.bias_hh_l1[3] = torch.nan
    assert str(first(model, x)) == "parameters, upper.bias_hh_l1[3]: value nan"


def test_a_pre_activation_of_a_module_inside():
    model, x = model_and_inputs()
    with torch.no_grad():
        model.lower.weight_ih_l0[H + 1, 2] = 1e38  # gate z, unit 1
        x[...] = 0
        x[2, 4, 2] = 10
    found = first(model, x)
    assert found.where == "`lower` (GRU), layer 0"
    assert (found.step, found.sequence, found.gate, found.unit) == (4, 2, "z", 1)
    assert found.sources["W x"] == pytest.approx(1e39, rel=1e-6)
    assert first(model, x, of="upper") is None  # z is 1: the forward pass does without


def test_what_lies_between_and_above():
    model, x = model_and_inputs()
    with torch.no_grad():
        model.head.weight[1] = 3e38
        model.head.bias[1] = 3e38
    found = first(model, x)
    assert (found.where, found.quantity) == ("outputs", "value")
    assert found.name.endswith(", 1]")
    model, x = model_and_inputs()
    assert str(first(model, x, lambda o: o.sum() * 0 / 0)) == "loss, term[]: value nan"


def test_the_way_back():
    """d√v/dv at v = 0 is infinite; and what comes back may grow beyond all bounds by itself."""
    model, x = model_and_inputs()
    found = first(model, x, lambda o: (o[1, 5] - o[1, 5].detach()).abs().sqrt().sum())
    assert found.backward
    assert (found.where, found.quantity) == ("`upper` (LSTM)", "∂L/∂output")
    rnn = nn.RNN(1, 2)
    with torch.no_grad():
        for parameter in rnn.parameters():
            parameter.zero_()
        rnn.weight_hh_l0.copy_(1e20 * torch.eye(2))
    found = first(rnn, torch.zeros(T, B, 1), lambda o: o[1].sum())
    assert found.where == "the RNN, layer 0"
    assert (found.quantity, found.step) == ("δh", T - 3)


def test_a_scalar_loss_and_none():
    model, x = model_and_inputs()
    assert tt.first_nonfinite(model, x) is None
    with pytest.raises(TypeError, match="loss: expected a tensor, got float"):
        first(model, x, lambda o: 1.0)
