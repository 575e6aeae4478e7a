"""The flow in torch modules against T calls of torch.autograd.grad on an unrolled twin."""

import copy

import numpy as np
import pytest

import throughtime as tt

torch = pytest.importorskip("torch", reason="torch is not installed")
from unrolled_torch import steps_of  # noqa: E402

nn = torch.nn
cross_entropy = nn.functional.cross_entropy

T, B, CLASSES, WIDE, H = 9, 3, 7, 4, 5

CASES = {
    "tanh": (nn.RNN, {}),
    "relu": (nn.RNN, {"nonlinearity": "relu"}),
    "lstm": (nn.LSTM, {}),
    "lstm-projected": (nn.LSTM, {"proj_size": 3}),
    "lstm-3-layers": (nn.LSTM, {"num_layers": 3, "dropout": 0.4}),
    "lstm-projected-2-layers": (nn.LSTM, {"num_layers": 2, "proj_size": 2}),
    "lstm-without-bias": (nn.LSTM, {"bias": False}),
    "lstm-batch-first": (nn.LSTM, {"batch_first": True}),
    "gru": (nn.GRU, {}),
    "gru-2-layers-batch-first": (nn.GRU, {"num_layers": 2, "batch_first": True}),
}


class Model(nn.Module):
    """Indices (T, B) or (B, T) -> logits, by way of a vector, a recurrent module and two layers."""

    def __init__(self, kind, options):
        super().__init__()
        wide = options.get("proj_size") or H
        self.embedding = nn.Embedding(CLASSES, WIDE)
        self.rnn = kind(WIDE, H, **options)
        self.drop = nn.Dropout(0.5)
        self.middle = nn.Linear(wide, 6)
        self.head = nn.Linear(6, CLASSES)

    def above(self, h):
        return self.head(torch.tanh(self.middle(self.drop(h))))

    def forward(self, x, state=None):
        return self.above(self.rnn(self.embedding(x), state)[0])


def model_of(name, seed=0):
    kind, options = CASES[name]
    torch.manual_seed(seed)
    return Model(kind, options).double()


def data(batch_first=False, seed=1):
    x, y = torch.randint(0, CLASSES, (2, T, B), generator=torch.Generator().manual_seed(seed))
    return (x.T, y.T) if batch_first else (x, y)


def per_step(y):
    """The usual way in torch: flat, without a reduction."""
    return lambda o: cross_entropy(o.reshape(-1, CLASSES), y.reshape(-1), reduction="none")


def unrolled(rnn, x, state=None):
    """h and c of every layer and step as nodes of their own; x (T, B, WIDE)."""
    layers = []
    for layer in range(rnn.num_layers):
        begin = None if state is None else [part[layer] for part in state]
        layers.append(steps_of(rnn, f"l{layer}", x, begin))
        x = torch.stack(layers[-1]["h"])
    return layers


def by_autograd(layers, losses):
    """∂E_t/∂s_{t−l} by one call a step: layer, part -> (T, L, B, ·)."""
    steps = len(losses)
    found = [
        {part: np.zeros((steps, steps, *s[0].shape)) for part, s in one.items()} for one in layers
    ]
    for t, loss in enumerate(losses):
        nodes = [(n, part, k) for n, one in enumerate(layers) for part in one for k in range(t + 1)]
        tensors = [layers[n][part][k] for n, part, k in nodes]
        parts = torch.autograd.grad(loss, tensors, retain_graph=True, allow_unused=True)
        for (n, part, k), gradient in zip(nodes, parts, strict=True):
            if gradient is not None:
                found[n][part][t, t - k] = gradient.numpy()
    return found


def same(flow, expected, tolerance=1e-10):
    assert len(flow.gradients) == len(expected)
    for number, parts in enumerate(expected):
        assert set(flow.gradients[number]) == set(parts)
        for part, gradient in parts.items():
            own = flow.gradients[number][part]
            size = np.abs(gradient).max()
            assert size > 0
            assert np.abs(own - gradient).max() <= tolerance * size
            norms = np.linalg.norm(gradient, axis=3).mean(axis=2)  # (T, L), over sequences
            valid = np.tri(len(norms), dtype=bool)
            difference = np.abs(flow.layers[number].norms[part] - norms)[valid]
            assert difference.max() <= tolerance * norms.max()


@pytest.mark.parametrize("name", CASES)
def test_as_autograd_on_an_unrolled_twin(name):
    model = model_of(name)
    first = model.rnn.batch_first
    x, y = data(first)
    flow = tt.flow(model, x, loss=per_step(y), keep=True)

    twin = copy.deepcopy(model).eval()
    vectors = twin.embedding(x)
    layers = unrolled(twin.rnn, vectors.transpose(0, 1) if first else vectors)
    logits = [twin.above(h) for h in layers[-1]["h"]]
    targets = y.T if first else y
    losses = [cross_entropy(z, t, reduction="sum") for z, t in zip(logits, targets, strict=True)]
    same(flow, by_autograd(layers, losses))
    assert flow.loss == pytest.approx(float(sum(losses).detach()), rel=1e-12)


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
def test_the_bare_module_with_an_initial_state(kind):
    torch.manual_seed(0)
    rnn = kind(WIDE, H, 2).double()
    x, y = torch.randn(T, B, WIDE).double(), torch.randn(T, B, H).double()
    parts = [torch.randn(2, B, H).double() for _ in range(2 if kind is nn.LSTM else 1)]
    state = tuple(parts) if kind is nn.LSTM else parts[0]
    flow = tt.flow(rnn, x, state, loss=lambda o: (o[0] - y).square().sum(-1), keep=True)
    layers = unrolled(rnn, x, parts)
    losses = [(h - y[t]).square().sum() for t, h in enumerate(layers[-1]["h"])]
    same(flow, by_autograd(layers, losses))


def test_shares_and_bias_are_those_of_the_modules_own_gradient():
    model = model_of("lstm")
    x, y = data()
    flow = tt.flow(model, x, loss=per_step(y), k2=4)
    twin = copy.deepcopy(model).eval()
    per_step(y)(twin(x)).sum().backward()
    W, U = twin.rnn.weight_ih_l0.grad, twin.rnn.weight_hh_l0.grad
    b = twin.rnn.bias_ih_l0.grad
    norm = np.sqrt(sum(float(g.square().sum()) for g in (W, U, b)))
    assert flow.gradient_norm == pytest.approx(norm, rel=1e-12)
    assert flow.advice.window.k2 == 4
    assert 0 < flow.advice.window.relative_bias < 1
    assert flow.advice.clipping is None  # of other parameters nothing is known


LAYOUTS = {
    "(T, B)": lambda e: e.reshape(T, B),
    "flat": lambda e: e,
    "(B, T)": lambda e: e.reshape(T, B).T,
    "(T,)": lambda e: e.reshape(T, B).sum(1),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_of_the_terms_gives_the_same(layout):
    model = model_of("gru")
    x, y = data()
    plain, other = per_step(y), LAYOUTS[layout]
    flow = tt.flow(model, x, loss=lambda o: other(plain(o)), keep=True)
    expected = tt.flow(model, x, loss=plain, keep=True)
    assert (flow.gradients[0]["h"] == expected.gradients[0]["h"]).all()
    assert flow.loss == pytest.approx(expected.loss, rel=1e-14)


def test_with_as_many_steps_as_sequences_the_layout_is_found_out():
    model = model_of("lstm-batch-first")
    x = torch.randint(0, CLASSES, (T, T), generator=torch.Generator().manual_seed(3))
    loss = per_step(x)
    flow = tt.flow(model, x, loss=lambda o: loss(o).reshape(T, T), keep=True)
    turned = tt.flow(model, x, loss=lambda o: loss(o).reshape(T, T).T, keep=True)
    assert (flow.gradients[0]["c"] == turned.gradients[0]["c"]).all()


def test_batch_first_says_how_the_losses_are_meant():
    model = model_of("lstm-batch-first")
    x, y = data(batch_first=True)
    losses = lambda o: per_step(y)(o).reshape(B, T)  # noqa: E731
    found = tt.flow(model, x, loss=losses, batch_first=True)
    assert np.array_equal(found.lag_norms, tt.flow(model, x, loss=losses).lag_norms)
    with pytest.raises(ValueError, match=r"\(T, B\) or .* for T = 9 and B = 3, got shape \(3, 9\)"):
        tt.flow(model, x, loss=losses, batch_first=False)
    with pytest.raises(ValueError, match=r"\(B, T\) or .* for T = 9 and B = 3, got shape \(9, 3\)"):
        tt.flow(model, x, loss=lambda o: losses(o).T, batch_first=True)


@pytest.mark.parametrize("enforce_sorted", [True, False])
@pytest.mark.parametrize("padded", [True, False], ids=["padded", "packed"])
def test_a_packed_sequence_has_lengths_and_an_order_of_its_own(enforce_sorted, padded):
    utils = nn.utils.rnn
    lengths = torch.tensor([T, 6, 4] if enforce_sorted else [4, T, 6])
    torch.manual_seed(0)
    rnn, head = nn.LSTM(WIDE, H).double(), nn.Linear(H, 1).double()
    x, h0, c0 = torch.randn(T, B, WIDE).double(), *torch.randn(2, 1, B, H).double()

    class Packed(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.head = rnn, head

        def forward(self, x, lengths):
            packed = utils.pack_padded_sequence(x, lengths, enforce_sorted=enforce_sorted)
            out, _ = self.rnn(packed, (h0, c0))
            return self.head(utils.pad_packed_sequence(out)[0] if padded else out.data)[..., 0]

    flow = tt.flow(Packed(), x, lengths, loss=lambda o: o.square(), keep=True)
    for b, n in enumerate(lengths.tolist()):
        column = slice(b, b + 1)
        layers = unrolled(rnn, x[:n, column], (h0[:, column], c0[:, column]))
        losses = [head(h).square().sum() for h in layers[-1]["h"]]
        (expected,) = by_autograd(layers, losses)
        for part, gradient in expected.items():
            own = flow.gradients[0][part][:n, :n, column]
            assert np.abs(own - gradient).max() <= 1e-10 * np.abs(gradient).max()


def test_one_sequence_without_a_batch_axis():
    torch.manual_seed(0)
    rnn = nn.GRU(WIDE, H).double()
    x = torch.randn(T, WIDE).double()
    alone = tt.flow(rnn, x, loss=lambda o: o[0].square().sum(-1), keep=True)
    beside = tt.flow(rnn, x[:, None], loss=lambda o: o[0].square().sum(-1), keep=True)
    assert (alone.gradients[0]["h"] == beside.gradients[0]["h"]).all()


@pytest.mark.parametrize("last", ["outputs", "state"])
def test_one_loss_a_sequence_at_its_last_step(last):
    class Many(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.head = nn.LSTM(WIDE, H, 2), nn.Linear(H, 1)

        def forward(self, x):
            out, (h, _) = self.rnn(x)
            return self.head(out[-1] if last == "outputs" else h[-1])[:, 0]

    torch.manual_seed(0)
    model, x = Many().double(), torch.randn(T, B, WIDE).double()
    flow = tt.flow(model, x, loss=lambda o: o.square(), keep=True)
    layers = unrolled(model.rnn, x)
    expected = by_autograd(layers, [model.head(layers[-1]["h"][-1]).square().sum()] * T)
    for number, parts in enumerate(expected):
        for part, gradient in parts.items():
            own = flow.gradients[number][part]
            reached = own[T - 1]
            assert not own[: T - 1].any()
            assert np.abs(reached - gradient[T - 1]).max() <= 1e-10 * np.abs(reached).max()


class Two(nn.Module):
    """A recurrent module on another."""

    def __init__(self):
        super().__init__()
        self.lower, self.upper, self.head = nn.GRU(WIDE, H), nn.LSTM(H, H), nn.Linear(H, 2)

    def forward(self, x):
        return self.head(self.upper(torch.tanh(self.lower(x)[0]))[0])


def test_of_several_modules_the_one_nearest_to_the_loss_unless_named():
    torch.manual_seed(0)
    model, x = Two().double(), torch.randn(T, B, WIDE).double()
    loss = lambda o: o.square().sum(-1)  # noqa: E731
    flow = tt.flow(model, x, loss=loss)
    assert flow.top.kind == "LSTM"
    assert "`upper` (LSTM)" in flow.notes[-1]
    assert tt.flow(model, x, loss=loss, of="lower").top.kind == "GRU"
    with pytest.raises(ValueError, match=r"of: expected one of 'lower', 'upper', got 'head'"):
        tt.flow(model, x, loss=loss, of="head")


def test_the_model_is_left_as_it_was():
    model = model_of("lstm-3-layers")
    model.head.eval()
    model.norm = nn.BatchNorm1d(CLASSES).double()
    x, y = data()
    plain = model.forward
    model.forward = lambda x: model.norm(plain(x).reshape(-1, CLASSES))
    model.embedding.weight.grad = torch.ones_like(model.embedding.weight)
    model.middle.weight.requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    random = torch.get_rng_state()
    with torch.no_grad():
        tt.flow(model, x, loss=per_step(y))
    assert (torch.get_rng_state() == random).all()
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert (model.embedding.weight.grad == 1).all()
    assert model.head.weight.grad is None
    with pytest.raises(ZeroDivisionError):
        tt.flow(model, x, loss=lambda o: 1 / 0)
    assert [module.training for module in model.modules()] == modes
    assert not any(module._forward_hooks for module in model.modules())


def test_outputs_that_are_changed_in_place():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = nn.RNN(WIDE, H)

        def forward(self, x):
            out, _ = self.rnn(x)
            out *= 2
            return out

    torch.manual_seed(0)
    model, x = Scaled().double(), torch.randn(T, B, WIDE).double()
    flow = tt.flow(model, x, loss=lambda o: o.sum(-1), keep=True)
    assert np.allclose(flow.gradients[0]["h"][:, 0], 2)


def test_some_sequences_only():
    model = model_of("lstm")
    x, y = data()
    some = tt.flow(model, x, loss=per_step(y), keep=True, sequences=2)
    whole = tt.flow(model, x, loss=per_step(y), keep=True)
    assert some.batch == 2
    expected = whole.gradients[0]["c"][:, :, [0, 2]]
    assert np.abs(some.gradients[0]["c"] - expected).max() <= 1e-12 * np.abs(expected).max()


REFUSED = {
    "no recurrent module": (
        lambda: (nn.Linear(WIDE, H), torch.randn(T, B, WIDE)),
        {"loss": lambda o: o.sum(-1)},
        "an nn.RNN, nn.LSTM or nn.GRU inside, got Linear",
    ),
    "no loss": (
        lambda: (nn.LSTM(WIDE, H), torch.randn(T, B, WIDE)),
        {},
        r"loss: expected a function .* got none",
    ),
    "too many axes": (
        lambda: (nn.LSTM(WIDE, H), torch.randn(T, B, WIDE)),
        {"loss": lambda o: o[0].square()},
        r"for T = 9 and B = 3, got shape \(9, 3, 5\)",
    ),
    "no tensor": (
        lambda: (nn.LSTM(WIDE, H), torch.randn(T, B, WIDE)),
        {"loss": lambda o: 1.0},
        "got float",
    ),
    "nan": (
        lambda: (nn.LSTM(WIDE, H), torch.randn(T, B, WIDE)),
        {"loss": lambda o: (o[0].sum(-1) * 0).log().sqrt() * torch.nan},
        r"got nan at \(0, 0\)",
    ),
    "independent": (
        lambda: (nn.LSTM(WIDE, H), torch.randn(T, B, WIDE)),
        {"loss": lambda o: o[0].detach().sum(-1)},
        "depends on the output of the LSTM",
    ),
    "a threshold": (
        lambda: (nn.LSTM(WIDE, H), torch.randn(T, B, WIDE)),
        {"loss": lambda o: o[0].sum(-1), "clip": 1.0},
        "clip: expected the losses that it would clip.*windows=",
    ),
    "half precision": (
        lambda: (nn.LSTM(WIDE, H).bfloat16(), torch.randn(T, B, WIDE).bfloat16()),
        {"loss": lambda o: o[0].sum(-1)},
        "expected float32 or float64, got bfloat16; look at a copy",
    ),
    "weights that are not finite": (
        lambda: (broken(nn.LSTM(WIDE, H)), torch.randn(T, B, WIDE)),
        {"loss": lambda o: o[0].nan_to_num().sum(-1)},
        r"weight_hh_l0: expected finite numbers, got nan at \(2, 1\)",
    ),
}


def broken(rnn):
    with torch.no_grad():
        rnn.weight_hh_l0[2, 1] = torch.nan
    return rnn


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_and_why(case):
    make, options, message = REFUSED[case]
    torch.manual_seed(0)
    model, *inputs = make()
    with pytest.raises((ValueError, TypeError), match=message):
        tt.flow(model, *inputs, **options)


class Called(nn.Module):
    """Calls its recurrent module in one of several ways."""

    def __init__(self, rnn, way="module(x)"):
        super().__init__()
        self.rnn, self.way, self.head = rnn, way, nn.Linear(H, 2)

    def forward(self, x, scale=1.0):
        x = scale * x
        if self.way == "module(x)":
            out = self.rnn(x)
        elif self.way == "module.forward(x)":
            out = self.rnn.forward(x)
        else:
            out = self.rnn.forward(hx=None, input=x)
        return self.head(out[0])


def lags(model, x, **options):
    flow = tt.flow(model, x, loss=lambda o: o.square().sum(-1), **options)
    return flow.lag_norms


WAYS = ["module(x)", "module.forward(x)", "module.forward(input=x)"]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("whose", ["torch's", "accelerated", "built"])
def test_whoever_computes_the_module_and_however_it_is_called(whose, way):
    torch.manual_seed(0)
    model = Called(nn.LSTM(WIDE, H)).double()
    x = torch.randn(T, B, WIDE).double()
    expected = lags(model, x)
    model.way = way
    if whose == "accelerated":
        tt.torch.accelerate(model)
    if whose == "built":
        built = tt.torch.LSTM(WIDE, H).double()
        built.load_state_dict(model.rnn.state_dict())
        model.rnn = built
    assert np.abs(lags(model, x) - expected).max() <= 1e-10 * np.abs(expected).max()
    assert "forward" not in vars(model.rnn)


class DropConnect(nn.Module):
    """Sets the recurrent weight of a module at each call, as models with weight dropout do."""

    def __init__(self, rnn):
        super().__init__()
        self.rnn, self.raw = rnn, rnn.weight_hh_l0
        del rnn._parameters["weight_hh_l0"]

    def forward(self, x):
        self.rnn.weight_hh_l0 = nn.functional.dropout(self.raw, 0.5, self.training)
        return self.rnn.forward(x)[0]


@pytest.mark.parametrize("whose", ["torch's", "accelerated"])
@pytest.mark.parametrize("question", [tt.flow, tt.first_nonfinite])
def test_a_model_that_sets_its_weights_trains_on_afterwards(question, whose):
    """In evaluation mode, in which it is looked at, such a model sets its raw parameter."""
    rnn = nn.LSTM(WIDE, H).double()
    model = DropConnect(rnn)
    if whose == "accelerated":
        tt.torch.accelerate(model)
    x = torch.randn(T, B, WIDE).double()
    names, outputs, weight = [n for n, _ in model.named_parameters()], model(x), rnn.weight_hh_l0
    question(model, x, loss=lambda y: y.square().sum(-1))
    assert [n for n, _ in model.named_parameters()] == names
    assert rnn.weight_hh_l0 is weight
    assert torch.equal(rnn.forward(x)[0], outputs)
    model(x).sum().backward()


def test_keyword_arguments_are_the_models():
    torch.manual_seed(0)
    model = Called(nn.GRU(WIDE, H)).double()
    x = torch.randn(T, B, WIDE).double()
    assert np.array_equal(lags(model, x, scale=2.0), lags(model, 2 * x))
    for name in ("state", "sclae"):
        with pytest.raises(TypeError, match=f"{name}: expected an argument of Called.forward"):
            lags(model, x, **{name: 2.0})
    assert tt.first_nonfinite(model, x, scale=1.0) is None
    assert abs(tt.first_nonfinite(model, x, scale=torch.inf).value) == np.inf


@pytest.mark.parametrize(
    "make",
    [
        lambda: tt.torch.LSTM(WIDE, H, 2, peepholes=True),
        lambda: tt.torch.GRU(WIDE, H, reset_after=False),
    ],
    ids=["peepholes", "original GRU"],
)
def test_modules_that_torch_does_not_have(make):
    """The gradient by h_t, as taps on the module record it."""
    torch.manual_seed(0)
    module = make().double()
    x = torch.randn(T, B, WIDE).double()
    flow = tt.flow(module, x, loss=lambda o: o[0][-1].square().sum(-1), keep=True)
    with tt.torch.taps(module) as taps:
        module(x)[0][-1].square().sum().backward()
    for layer, tap in enumerate(taps[""]):
        found, truth = flow.gradients[layer]["h"][T - 1, ::-1], tap.dh.numpy()
        assert np.abs(found - truth).max() <= 1e-10 * np.abs(truth).max()


def test_of_two_modules_the_one_nearest_to_the_loss_whichever_is_accelerated():
    torch.manual_seed(0)
    model = nn.ModuleDict({"a": nn.GRU(WIDE, H), "b": nn.GRU(H, H)})
    model.forward = lambda x: model["b"](model["a"](x)[0])[0]
    tt.torch.accelerate(model["a"])
    flow = tt.flow(model, torch.randn(T, B, WIDE), loss=lambda o: o.sum(-1))
    assert any("`b`" in note for note in flow.notes)


def test_a_forward_that_is_not_torchs_is_named():
    class Outputs(nn.LSTM):
        def forward(self, x):
            return super().forward(x)[0]

    with pytest.raises(TypeError, match=r"a forward method that takes .* got Outputs\.forward"):
        tt.flow(Outputs(WIDE, H), torch.randn(T, B, WIDE), loss=lambda o: o.sum(-1))


def test_a_module_that_is_more_than_its_weights_say_is_refused():
    class Noisy(nn.LSTM):
        def forward(self, x, hx=None):
            out, state = super().forward(x, hx)
            return out + 1, state

    with pytest.raises(ValueError, match="expected those that its weights give, got others"):
        tt.flow(Noisy(WIDE, H), torch.randn(T, B, WIDE), loss=lambda o: o[0].sum(-1))


def test_normalised_weights_count_as_they_are_used():
    torch.manual_seed(0)
    plain = nn.LSTM(WIDE, H).double()
    normed = nn.utils.parametrizations.weight_norm(copy.deepcopy(plain), "weight_hh_l0")
    x = torch.randn(T, B, WIDE).double()
    flows = [
        tt.flow(m, x, loss=lambda o: o[0].square().sum(-1), keep=True) for m in (plain, normed)
    ]
    first, second = (flow.gradients[0]["c"] for flow in flows)
    assert np.abs(first - second).max() <= 1e-12 * np.abs(first).max()


def test_clipping_is_of_the_whole_models_gradient_as_it_is_trained():
    model, criterion = model_of("lstm"), nn.CrossEntropyLoss()
    model.norm = nn.BatchNorm1d(CLASSES).double()
    plain = model.forward
    model.forward = lambda x: model.norm(plain(x).reshape(-1, CLASSES))
    batches = [data(seed=seed) for seed in range(10)]
    losses = (criterion(model(x), y.reshape(-1)) for x, y in batches)
    expected, random = [], torch.get_rng_state()
    buffers = [buffer.clone() for buffer in model.norm.buffers()]
    for x, y in batches:  # with dropout, in training mode
        model.zero_grad()
        criterion(model(x), y.reshape(-1)).backward()
        expected.append(float(nn.utils.clip_grad_norm_(model.parameters(), 1e9)))
    model.zero_grad()
    torch.set_rng_state(random)
    for buffer, before in zip(model.norm.buffers(), buffers, strict=True):
        buffer.data.copy_(before)
    x, y = data()
    threshold = float(np.median(expected))
    flow = tt.flow(model, x, loss=per_step(y), windows=losses, clip=threshold)
    found = flow.advice.clipping
    assert found.norms == pytest.approx(expected, rel=1e-12)
    assert found.binds == 0.5
    assert found.threshold == pytest.approx(np.quantile(expected, 0.9), rel=1e-12)
    assert any(
        "Clip at" in one and "(10 windows; largest" in one and "binds in 50%" in one
        for one in flow.advice.sentences
    )
    assert (torch.get_rng_state() == random).all()
    assert all(map(torch.equal, model.norm.buffers(), buffers))
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize(
    ("windows", "message"),
    [
        ([], "windows: expected losses, .* got none"),
        ([torch.ones(3, requires_grad=True)], r"got torch.Size\(\[3\]\) at place 0"),
        ([1.0], "got float at place 0"),
        ([torch.ones((), requires_grad=True) * 2], "got another at place 0"),
    ],
)
def test_windows_that_are_none(windows, message):
    x, y = data()
    with pytest.raises((TypeError, ValueError), match=message):
        tt.flow(model_of("gru"), x, loss=per_step(y), windows=windows)


def advised(name):
    """The advice on a model's start, for data that need three steps."""
    x, y = data("batch_first" in CASES[name][1])
    loss = lambda out: cross_entropy(out.flatten(0, 1), y.flatten())  # noqa: E731
    flow = tt.flow(model_of(name), x, loss=loss, memory=5)
    return " ".join(flow.advice.sentences)


def test_the_forget_bias_is_advised_in_the_words_of_the_model():
    said = advised("lstm-3-layers")
    assert "set rnn.bias_ih_l0[5:10] to 1.39 and rnn.bias_hh_l0[5:10] to 0" in said
    assert "rnn.bias_ih_l2[5:10] to 1.39" in said
    assert "chrono" not in said
    assert "takes a layer with biases" in advised("lstm-without-bias")
