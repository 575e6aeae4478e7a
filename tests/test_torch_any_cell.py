"""A cell of this package inside torch, by autograd."""

import numpy as np
import pytest

import throughtime as tt
from derived_cells import BUILT_IN, CELLS, made
from helpers import relative_error

torch = pytest.importorskip("torch", reason="torch is not installed")
import throughtime.torch as ttt  # noqa: E402


@pytest.mark.parametrize("name", ["lstm", "mlstm", "rwkv", "peephole_lstm", "zoneout"])
@pytest.mark.parametrize("both", [False, True])
def test_torchs_own_gradient_check_agrees(name, both):
    cell = BUILT_IN["LSTM"][0] if name == "lstm" else made(CELLS[name])
    sizes = {letter: n for letter, n in cell.given if letter not in "IH"}
    given = dict(cell.given)
    cell = cell.definition(given["I"], given["H"], bidirectional=both, **sizes)
    layer = ttt.Recurrent(cell, dtype=torch.float64)
    torch.manual_seed(0)
    x = torch.randn(4, 2, cell.inputs, dtype=torch.float64, requires_grad=True)
    parts = layer.layer.state_sizes()
    state = {
        n: torch.randn(2, k, dtype=torch.float64, requires_grad=True) for n, k in parts.items()
    }
    lengths = torch.tensor([4, 2])

    def outputs(x, *state):
        y, final = layer(x, dict(zip(parts, state, strict=True)), lengths)
        return y, *final.values()

    assert torch.autograd.gradcheck(outputs, (x, *state.values()))
    parameters = dict(layer.named_parameters())

    def of_parameters(*given):
        own = dict(zip(parameters, given, strict=True))
        return torch.func.functional_call(layer, own, (x.detach(),))[0]

    assert torch.autograd.gradcheck(of_parameters, tuple(parameters.values()))


def test_it_is_the_cell_in_numpy_and_batch_first():
    cell = BUILT_IN["GRU"][0]
    layer = ttt.Recurrent(cell, batch_first=True, seed=3)
    x = torch.randn(2, 5, cell.inputs)
    p = {n: t.detach().numpy() for n, t in layer.named_parameters()}
    wanted, _, _ = cell.forward(p, x.numpy().transpose(1, 0, 2))
    found, state = layer(x)
    assert np.array_equal(found.detach().numpy(), wanted.transpose(1, 0, 2))
    assert torch.equal(state["h"], found[:, -1])


def test_under_autocast_products_are_in_bfloat16(products):
    """A layer between two of torch's, as the network with the same weights computes it."""
    cell = made(CELLS["coupled_lstm"], 6, 9)
    torch.manual_seed(0)
    before, layer, after = torch.nn.Linear(6, 6), ttt.Recurrent(cell, seed=2), torch.nn.Linear(9, 1)
    x = torch.randn(7, 3, 6)
    found = {}
    for enabled in (False, True):
        layer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            inner = before(x)
            outputs, state = layer(inner, {n: torch.ones(3, 9) for n in ("h", "c")})
            loss = after(outputs).float().square().mean()
        assert {outputs.dtype, state["c"].dtype} == {torch.float32}
        loss.backward()
        found[enabled] = layer.U.grad.numpy().copy()
    assert inner.dtype == torch.bfloat16
    net = tt.Network([cell], tt.MeanSquaredError(), products="bfloat16")
    for name, tensor in layer.named_parameters():
        net.parameters[f"0.{name}"][...] = tensor.detach().numpy()
    ones = {f"0.{n}": np.ones((3, 9), "f") for n in ("h", "c")}
    assert np.array_equal(
        net.forward(inner.detach().float().numpy(), state=ones)[0], outputs.detach().numpy()
    )
    assert 1e-3 < relative_error(found[True], found[False]) < 0.1


def test_under_autocast_a_cell_without_such_products_stays_in_float32():
    layer = ttt.Recurrent(made(CELLS["mlstm"]))
    x = torch.randn(4, 2, layer.cell.inputs)
    plain = layer(x)[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(layer(x)[0], plain)
        low = layer(x.bfloat16())[0]
    assert low.dtype == torch.float32
    assert torch.equal(low, layer(x.bfloat16().float())[0])


def test_it_trains_is_saved_and_loaded():
    torch.manual_seed(0)
    layer, head = ttt.Recurrent(made(CELLS["mgu"], 3, 8)), torch.nn.Linear(8, 1)
    x = torch.randn(6, 16, 3)
    y = x.sum(dim=(0, 2))[:, None]
    optimiser = torch.optim.Adam([*layer.parameters(), *head.parameters()], lr=0.02)
    losses = []
    for _ in range(60):
        optimiser.zero_grad()
        loss = torch.nn.functional.mse_loss(head(layer(x)[0][-1]), y)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 3
    twin = ttt.Recurrent(made(CELLS["mgu"], 3, 8), seed=1)
    twin.load_state_dict(layer.state_dict())
    assert torch.equal(twin(x)[0], layer(x)[0])


def test_a_change_between_the_passes_is_noticed():
    layer = ttt.Recurrent(BUILT_IN["RNN"][0])
    outputs, _ = layer(torch.randn(3, 2, 3))
    with torch.no_grad():
        layer.U.mul_(2.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        outputs.sum().backward()


def test_class_indices_and_wrong_inputs():
    layer = ttt.Recurrent(BUILT_IN["LSTM"][0])
    classes = torch.tensor([[0, 2], [1, 1]])
    one_hot = torch.nn.functional.one_hot(classes, 3).float()
    assert torch.allclose(layer(classes)[0], layer(one_hot)[0])
    with pytest.raises(ValueError, match=r"inputs: expected \(T, B, 3\), got \(4, 3\)"):
        layer(torch.zeros(4, 3))
    with pytest.raises(TypeError, match="float32 throughout, got torch"):
        layer(torch.zeros(4, 2, 3, dtype=torch.float64))
    with pytest.raises(ValueError, match="expected the parts h, c, got h"):
        layer(torch.zeros(4, 2, 3), {"h": torch.zeros(2, 4)})
    with pytest.raises(TypeError, match="call it with its sizes"):
        ttt.Recurrent(CELLS["mgu"])


@pytest.mark.parametrize("name", [*CELLS, "lstm", "gru", "both directions"])
def test_the_cell_in_torch_s_own_operations_is_the_cell(name):
    """Outputs and gradients of the equations that torch differentiates, against those of NumPy."""
    written = {"lstm": BUILT_IN["LSTM"][1], "gru": BUILT_IN["GRU"][1]}
    written["both directions"] = CELLS["slstm"](2, 3, bidirectional=True)
    cell = written.get(name) or made(CELLS[name])
    layer = ttt.Recurrent(cell, dtype=torch.float64)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(0.6 * torch.randn_like(parameter))
    x = torch.randn(5, 3, cell.inputs, dtype=torch.float64, requires_grad=True)
    lengths = torch.tensor([5, 3, 1])
    width = cell.output_size * (1 + cell.bidirectional)
    weights = torch.randn(5, 3, width, dtype=torch.float64)
    given = [x, *layer.parameters()]
    found = []
    for differentiable in (False, True):
        y, final = layer(x, None, lengths)
        loss = (y * weights).sum() + sum((part**2).sum() for part in final.values())
        found.append(torch.autograd.grad(loss, given, create_graph=differentiable))
    for ours, again in zip(*found, strict=True):
        assert torch.allclose(ours, again, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", ["slstm", "layer_norm_lstm", "lru"])
@pytest.mark.parametrize("both", [False, True])
def test_the_gradient_of_a_cell_written_once_can_be_differentiated(name, both):
    cell = CELLS[name](2, 3, bidirectional=both)
    layer = ttt.Recurrent(cell, dtype=torch.float64)
    torch.manual_seed(0)
    parts = layer.layer.state_sizes()
    x = torch.randn(3, 2, 2, dtype=torch.float64, requires_grad=True)
    state = {
        n: torch.randn(2, k, dtype=torch.float64, requires_grad=True) for n, k in parts.items()
    }
    lengths = torch.tensor([3, 2])

    def outputs(x, *state):
        return layer(x, dict(zip(parts, state, strict=True)), lengths)[0]

    assert torch.autograd.gradgradcheck(outputs, (x, *state.values()))


def test_a_surrogate_slope_stays_one_in_the_second_derivative():
    """d/dx of spike is the slope that was set, and its derivative that of the slope."""
    cell = made(CELLS["lif"], 1, 1)
    layer = ttt.Recurrent(cell, dtype=torch.float64)
    with torch.no_grad():
        layer.W.fill_(1.0)
        layer.U.fill_(0.0)
        layer.b.fill_(0.0)
    x = torch.tensor([[[1.3]]], dtype=torch.float64, requires_grad=True)
    y, _ = layer(x)
    (slope,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(slope.sum(), x)
    assert slope.item() == pytest.approx(1 / (1 + 10 * 0.3) ** 2, rel=1e-12)
    assert second.item() == pytest.approx(-20 / (1 + 10 * 0.3) ** 3, rel=1e-12)
