"""torch.nn.RNN, LSTM and GRU in float64, with weights brought over: runs and gradients agree."""

from itertools import product

import numpy as np
import pytest

import throughtime as tt
from throughtime.torch import from_torch

torch = pytest.importorskip("torch", reason="torch is not installed")

from torch_reference import leaf  # noqa: E402

pytestmark = pytest.mark.usefixtures("each_engine")
T, B, I, H = 6, 3, 4, 5  # noqa: E741
LENGTHS = {"full": None, "ragged": [3, 6, 1]}
KINDS = {
    "RNN tanh": lambda **options: torch.nn.RNN(I, H, nonlinearity="tanh", **options),
    "RNN relu": lambda **options: torch.nn.RNN(I, H, nonlinearity="relu", **options),
    "LSTM": lambda **options: torch.nn.LSTM(I, H, **options),
    "LSTM projection": lambda **options: torch.nn.LSTM(I, H, proj_size=3, **options),
    "GRU": lambda **options: torch.nn.GRU(I, H, **options),
}
SHAPES = {
    f"{layers} layers, {'both directions' if both else 'one direction'}": {
        "num_layers": layers,
        "bidirectional": both,
    }
    for layers, both in product((1, 2, 3), (False, True))
}


def torchs_state(net, state):
    """Our state by name -> torch's h_0 and, for LSTM, c_0: (layers · directions, B, ·)."""
    parts = [
        np.stack([array for name, array in state.items() if name.endswith(f".{part}")])
        for part in ("h", "c")
        if any(name.endswith(f".{part}") for name in net.zero_state(1))
    ]
    return [leaf(part) for part in parts]


def names(net, ours):
    """Torch's names of the weights whose gradients ours must be."""
    number, *second, name = ours.split(".")
    layer = f"_l{number}" + "_reverse" * bool(second)
    torchs = {"W": ["weight_ih"], "U": ["weight_hh"], "R": ["weight_hr"], "c": ["bias_hh"]}
    both = ["bias_ih"] if isinstance(net.specs[0], tt.GRU) else ["bias_ih", "bias_hh"]
    return [base + layer for base in torchs.get(name, both)]


def problem(net, batch=B):
    rng = np.random.default_rng(7)
    state, dstate = net.zero_state(batch), net.zero_state(batch)
    state.flat[...] = rng.uniform(-1, 1, state.flat.size)
    dstate.flat[...] = rng.uniform(-1, 1, state.flat.size)
    doutputs = rng.standard_normal((T, batch, net.outputs))
    return rng.standard_normal((T, batch, I)), state, doutputs, dstate


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", KINDS)
def test_run_and_gradients(kind, shape, length, oracle):
    torch.manual_seed(0)
    module = KINDS[kind](**SHAPES[shape]).double()
    net = from_torch(module)
    inputs, state, doutputs, dstate = problem(net)
    lengths = LENGTHS[length]

    x, initial, upstream = leaf(inputs), torchs_state(net, state), torchs_state(net, dstate)
    given = x
    if lengths is not None:
        given = torch.nn.utils.rnn.pack_padded_sequence(x, lengths, enforce_sorted=False)
    y, final = module(given, tuple(initial) if len(initial) > 1 else initial[0])
    final = final if isinstance(final, tuple) else (final,)
    if lengths is not None:
        y, _ = torch.nn.utils.rnn.pad_packed_sequence(y, total_length=T)
    total = (y * torch.tensor(doutputs)).sum()
    total = total + sum((h * d.detach()).sum() for h, d in zip(final, upstream, strict=True))
    total.backward()

    ours = None if lengths is None else np.array(lengths)
    outputs, end, tape = net.forward(inputs, state, ours)
    found = net.backward(tape, doutputs, dstate)
    oracle("outputs", outputs, y.detach())
    oracle("gradient of inputs", found.inputs, x.grad)
    for what, mine, wanted in (
        ("final state", end, [v.detach() for v in final]),
        ("initial state", found.state, [v.grad for v in initial]),
    ):
        for part, value in zip(torchs_state(net, mine), wanted, strict=True):
            oracle(f"{what} or its gradient", part.detach(), value)
    weights = dict(module.named_parameters())
    for name, mine in found.parameters.items():
        for torchs in names(net, name):
            grad = weights[torchs].grad
            oracle(f"gradient of {name}", mine, grad[2 * H :] if name.endswith(".c") else grad)


@pytest.mark.parametrize("kind", KINDS)
def test_class_indices(kind, oracle):
    """Indices here, one-hot vectors there."""
    torch.manual_seed(0)
    module = KINDS[kind](bidirectional=True).double()
    net = from_torch(module)
    indices = np.random.default_rng(1).integers(0, I, (T, B))
    y, _ = module(torch.nn.functional.one_hot(torch.tensor(indices), I).double())
    y.square().sum().backward()
    outputs, _, tape = net.forward(indices)
    found = net.backward(tape, 2 * outputs)
    oracle("outputs", outputs, y.detach())
    oracle("gradient of W", found.parameters["0.W"], module.weight_ih_l0.grad)
    oracle("gradient of U", found.parameters["0.1.U"], module.weight_hh_l0_reverse.grad)


@pytest.mark.parametrize("kind", KINDS)
def test_float32(kind, oracle):
    """Our float32 against torch in float64 with the same numbers."""
    torch.manual_seed(0)
    module = KINDS[kind](num_layers=2, bidirectional=True)
    net = from_torch(module)
    assert net.dtype == "float32"
    inputs = np.random.default_rng(2).standard_normal((T, B, I), dtype=np.float32)
    x = leaf(inputs)
    y, _ = module.double()(x)
    y.sum().backward()
    outputs, _, tape = net.forward(inputs)
    found = net.backward(tape, np.ones_like(outputs))
    assert outputs.dtype == found.inputs.dtype == np.float32
    oracle("outputs", outputs, y.detach(), bound=2e-6)
    oracle("gradient of inputs", found.inputs, x.grad, bound=2e-6)


def test_dropout_between_layers_with_the_same_mask(oracle):
    """torch draws its masks elsewhere, so the two layers are run one by one around ours."""
    torch.manual_seed(0)
    module = torch.nn.LSTM(I, H, num_layers=2, dropout=0.3).double()
    net = from_torch(module)
    assert [type(spec).__name__ for spec in net.specs] == ["LSTM", "Dropout", "LSTM"]
    inputs = np.random.default_rng(2).standard_normal((T, B, I))
    outputs, _, tape = net.forward(inputs, dropout_seed=3)
    mask = tape.layers[1].mask
    assert 0 < (mask == 0).mean() < 1
    x = leaf(inputs)
    first, second = torch.nn.LSTM(I, H).double(), torch.nn.LSTM(H, H).double()
    state = module.state_dict()
    first.load_state_dict({k: v for k, v in state.items() if k.endswith("l0")})
    second.load_state_dict({k.replace("l1", "l0"): v for k, v in state.items() if "l1" in k})
    y, _ = second(first(x)[0] * torch.tensor(mask))
    y.square().sum().backward()
    oracle("outputs", outputs, y.detach())
    found = net.backward(tape, 2 * outputs)
    oracle("gradient of inputs", found.inputs, x.grad)
    oracle("gradient of U", found.parameters["0.U"], first.weight_hh_l0.grad)


def test_dropout_is_off_in_evaluation(oracle):
    torch.manual_seed(0)
    module = torch.nn.GRU(I, H, num_layers=2, dropout=0.3).double().eval()
    inputs = np.random.default_rng(2).standard_normal((T, B, I))
    y, _ = module(torch.tensor(inputs))
    oracle("outputs", from_torch(module).run(inputs).outputs, y.detach())


def test_embedding_and_dense(oracle):
    """A whole torch model, its parts brought over one by one."""
    torch.manual_seed(0)
    embedding, head = torch.nn.Embedding(7, I).double(), torch.nn.Linear(H, 3).double()
    middle = torch.nn.GRU(I, H).double()
    layers = [tt.Embedding(7, I), *from_torch(middle).specs, tt.Dense(H, 3)]
    net = tt.Network(layers, tt.SoftmaxCrossEntropy(), dtype="float64")
    net.parameters["0.E"] = embedding.weight.detach()
    for name, array in from_torch(middle).parameters.items():
        net.parameters["1" + name.removeprefix("0")] = array
    net.parameters["2.W"], net.parameters["2.b"] = head.weight.detach(), head.bias.detach()
    rng = np.random.default_rng(2)
    inputs, targets = rng.integers(0, 7, (T, B)), rng.integers(0, 3, (T, B))

    scores = head(middle(embedding(torch.tensor(inputs)))[0])
    truth = torch.nn.functional.cross_entropy(scores.flatten(0, 1), torch.tensor(targets).ravel())
    truth.backward()
    loss, gradient = net.loss_and_gradient(inputs, targets)
    oracle("loss", loss, truth.item())
    oracle("gradient of E", gradient["0.E"], embedding.weight.grad)
    oracle("gradient of the head", gradient["2.W"], head.weight.grad)
    oracle("gradient of the GRU", gradient["1.U"], middle.weight_hh_l0.grad)
