"""throughtime.torch's modules beside torch.nn's: outputs, states, gradients, and all else."""

import copy
import io
import pickle

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

import throughtime as tt  # noqa: E402
import throughtime.torch as ours  # noqa: E402
from dropin_examples import KINDS, B, H, I, T, compare, everything, inputs, pair  # noqa: E402

OPTIONS = {
    "one layer": {},
    "no bias": {"bias": False},
    "batch first": {"batch_first": True, "num_layers": 2},
    "dropout": {"num_layers": 3, "dropout": 0.3},
    "both directions": {"bidirectional": True},
    "all": {"num_layers": 2, "bidirectional": True, "batch_first": True, "dropout": 0.5},
}
LENGTHS = {
    "full": {},
    "sorted": {"lengths": [6, 3, 1]},
    "unsorted": {"lengths": [3, 6, 1], "enforce_sorted": False},
    "equal": {"lengths": [6, 6, 6]},
}


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_outputs_states_and_gradients(kind, option, length, oracle):
    theirs, mine = pair(kind, **OPTIONS[option])
    x, state = inputs(theirs)
    for hx in ((), state):
        found, truth = (everything(m, x, hx, **LENGTHS[length]) for m in (mine, theirs))
        compare(oracle, found, truth)


@pytest.mark.parametrize("kind", KINDS)
def test_with_either_engine(kind, each_engine, oracle):
    theirs, mine = pair(kind, num_layers=2, bidirectional=True)
    x, state = inputs(theirs)
    compare(oracle, everything(mine, x, state), everything(theirs, x, state))
    ragged = LENGTHS["unsorted"]
    compare(oracle, everything(mine, x, state, **ragged), everything(theirs, x, state, **ragged))


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_one_sequence_without_a_batch(kind, batch_first, oracle):
    theirs, mine = pair(kind, bidirectional=True, batch_first=batch_first)
    x, state = inputs(theirs, batched=False)
    compare(oracle, everything(mine, x, state), everything(theirs, x, state))


@pytest.mark.parametrize("kind", KINDS)
def test_float32(kind, oracle):
    """Ours in float32 against torch in float64 with the same numbers."""
    theirs, mine = pair(kind, torch.float32, num_layers=2, bidirectional=True)
    x, state = inputs(mine)
    found = everything(mine, x, state)
    truth = everything(theirs.double(), x.double(), [part.double() for part in state])
    assert all(tensor.dtype == torch.float32 for tensor in found.values())
    found = {name: tensor.double() for name, tensor in found.items()}
    compare(oracle, found, truth, bound=3e-6)


@pytest.mark.parametrize("wanted", ["weight_hh_l0", "weight_ih_l1", "bias_hh_l0", "inputs"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_subset_requires_gradients(kind, wanted, oracle):
    grads = []
    for module in pair(kind, num_layers=2):
        x, _ = inputs(module)
        x.requires_grad_(wanted == "inputs")
        for name, parameter in module.named_parameters():
            parameter.requires_grad_(name == wanted)
        module(x)[0].square().sum().backward()
        grads.append([x.grad] + [p.grad for p in module.parameters()])
    for truth, found in zip(*grads, strict=True):
        assert (truth is None) == (found is None)
        if truth is not None:
            oracle("gradient", found, truth)


@pytest.mark.parametrize("kind", KINDS)
def test_inputs_states_and_upstream_gradients_with_gaps(kind, oracle):
    results = []
    for module in pair(kind, bidirectional=True):
        x, state = inputs(module)
        x = torch.stack([x, x], dim=-1)[..., 0].transpose(0, 1).contiguous().transpose(0, 1)
        state = [torch.stack([part, part], dim=-1)[..., 1] for part in state]
        assert not x.is_contiguous()
        assert not state[0].is_contiguous()
        y, _ = module(x, tuple(state) if len(state) > 1 else state[0])
        y.sum().backward()  # an expanded gradient
        results.append([y.detach(), *[p.grad for p in module.parameters()]])
    for truth, found in zip(*results, strict=True):
        oracle("result", found, truth)


@pytest.mark.parametrize("kind", KINDS)
def test_evaluation_and_no_grad(kind, oracle):
    theirs, mine = pair(kind, num_layers=2, dropout=0.5)
    x, _ = inputs(theirs)
    with torch.no_grad():
        y, truth = mine.eval()(x)[0], theirs.eval()(x)[0]
    assert not y.requires_grad
    oracle("outputs", y, truth)
    with torch.inference_mode():
        oracle("outputs", mine(x)[0], truth)


@pytest.mark.parametrize("kind", KINDS)
def test_outputs_changed_in_place(kind, oracle):
    """They are the memory that the backward pass reads; torch's are not."""
    grads = []
    for module in pair(kind):
        x, _ = inputs(module)
        x.requires_grad_()
        y, _ = module(x)
        y.mul_(2).relu_()
        y.square().sum().backward()
        grads.append([x.grad, *[p.grad for p in module.parameters()]])
    for truth, found in zip(*grads, strict=True):
        oracle("gradient", found, truth)


def test_what_the_gradient_needs_may_not_change():
    _, mine = pair("LSTM")
    x, _ = inputs(mine)
    y, _ = mine(x)
    with torch.no_grad():
        mine.weight_hh_l0.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()
    y, _ = mine(x)
    y.sum().backward()
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        y.sum().backward()


def test_saved_tensors_go_with_the_graph():
    """The tape is torch's to save: hooks see it, and after the backward pass it is gone."""
    _, mine = pair("LSTM")
    x, _ = inputs(mine)
    packed = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda t: packed.append(t.numel()) or t, lambda t: t
    ):
        y, _ = mine(x)
    tape = T * B * 5 * H + 2 * (T + 1) * B * H  # gates; h and c with the initial ones
    assert tape <= max(packed) < tape + 3 * 16  # each begins a cache line
    y.sum().backward()


# --- modules as torch's are modules ---


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_it_looks_like_torchs(kind, option):
    theirs, mine = pair(kind, **OPTIONS[option])
    assert repr(mine) == repr(theirs)
    assert mine.state_dict().keys() == theirs.state_dict().keys()
    names = ("input_size", "hidden_size", "num_layers", "bias", "batch_first", "dropout")
    for name in (*names, "bidirectional", "proj_size", "mode"):
        assert getattr(mine, name) == getattr(theirs, name)
    theirs.load_state_dict(mine.state_dict())
    torch.manual_seed(5)
    theirs.reset_parameters()
    torch.manual_seed(5)
    mine.reset_parameters()
    for a, b in zip(mine.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_first_weights_from_the_same_seed(kind):
    name, own = KINDS[kind]
    modules = []
    for library in (torch.nn, ours):
        torch.manual_seed(3)
        modules.append(getattr(library, name)(I, H, 2, bidirectional=True, **own))
    for a, b in zip(*(m.parameters() for m in modules), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("way", ["deepcopy", "pickle", "save"])
def test_copies_compute_the_same(way):
    mine = ours.LSTM(I, H, peepholes=True, memory_limit="1MB").double()
    x, _ = inputs(mine)
    if way == "deepcopy":
        copied = copy.deepcopy(mine)
    elif way == "pickle":
        copied = pickle.loads(pickle.dumps(mine))
    else:
        buffer = io.BytesIO()
        torch.save(mine, buffer)
        buffer.seek(0)
        copied = torch.load(buffer, weights_only=False)
    assert repr(copied) == repr(mine) == "LSTM(4, 5, peepholes=True, memory_limit='1MB')"
    assert torch.equal(copied(x)[0], mine(x)[0])
    assert copied.weight_hh_l0.data_ptr() != mine.weight_hh_l0.data_ptr()


def test_parameters_replaced_or_moved(oracle):
    theirs, mine = pair("LSTM")
    for module in (theirs, mine):
        module.float().double()
        module.weight_hh_l0 = torch.nn.Parameter(torch.ones(4 * H, H, dtype=torch.float64) / 9)
    x, _ = inputs(theirs)
    compare(oracle, everything(mine, x), everything(theirs, x))
    parameters = {"weight_ih_l0": torch.zeros(4 * H, I, dtype=torch.float64)}
    found, truth = (torch.func.functional_call(m, parameters, (x,))[0] for m in (mine, theirs))
    oracle("outputs", found.detach(), truth.detach())


def test_a_parametrised_weight(oracle):
    mine = ours.GRU(I, H).double()
    theirs = torch.nn.GRU(I, H).double()
    theirs.load_state_dict(mine.state_dict())
    with torch.no_grad():
        theirs.weight_hh_l0.mul_(2)

    class Twice(torch.nn.Module):
        def forward(self, weight):
            return 2 * weight

    torch.nn.utils.parametrize.register_parametrization(mine, "weight_hh_l0", Twice())
    x, _ = inputs(theirs)
    y = mine(x)[0]
    oracle("outputs", y.detach(), theirs(x)[0].detach())
    y.sum().backward()
    theirs(x)[0].sum().backward()
    found = mine.parametrizations.weight_hh_l0.original.grad
    oracle("gradient", found, 2 * theirs.weight_hh_l0.grad)


def test_weights_with_gaps(oracle):
    theirs, mine = pair("LSTM projection", num_layers=2)
    x, state = inputs(theirs)
    truth = everything(theirs, x, state)
    for name, parameter in list(mine.named_parameters()):
        apart = torch.stack([parameter.detach(), parameter.detach()], dim=-1)[..., 1]
        setattr(mine, name, torch.nn.Parameter(apart))
        assert not getattr(mine, name).is_contiguous()
    compare(oracle, everything(mine, x, state), truth)


@pytest.mark.parametrize("kind", KINDS)
def test_steps_beyond_a_sequences_end_are_never_read(kind, monkeypatch, oracle):
    from throughtime.torch import fused

    theirs, mine = pair(kind, num_layers=2, bidirectional=True)
    x, state = inputs(theirs)
    made = fused._numbers

    def poisoned(shape, dtype):
        numbers = made(shape, dtype)
        numbers.fill(float("nan"))
        return numbers

    monkeypatch.setattr(fused, "_numbers", poisoned)
    for lengths in (LENGTHS["sorted"], {"lengths": [6, 1, 1]}):
        found, truth = (everything(m, x, state, **lengths) for m in (mine, theirs))
        compare(oracle, found, truth)


def test_an_empty_batch():
    _, mine = pair("LSTM")
    x = torch.zeros(T, 0, I, dtype=torch.float64, requires_grad=True)
    y, (h, c) = mine(x)
    assert (y.shape, h.shape, c.shape) == ((T, 0, H), (1, 0, H), (1, 0, H))
    y.sum().backward()
    assert not mine.weight_hh_l0.grad.any()


# --- memory is shared ---


def test_no_copies_on_the_way(monkeypatch):
    """Inputs, weights and gradients are one memory on both sides."""
    from throughtime import _engine

    seen = []
    for name in ("stack_forward", "stack_backward"):
        whole = getattr(_engine, name)

        def watched(stack, whole=whole, **given):
            seen.append(given)
            return whole(stack, **given)

        monkeypatch.setattr(_engine, name, watched)
    mine = ours.LSTM(I, H)
    x = torch.randn(T, B, I, requires_grad=True)
    hx = (torch.randn(1, B, H, requires_grad=True), torch.randn(1, B, H, requires_grad=True))
    y, (h, c) = mine(x, hx)
    dy = torch.randn(T, B, H)
    y.backward(dy)
    names = list(mine.parameters())
    both = {"x": x.data_ptr(), "weights": [w.data_ptr() for w in names], "masks": []}
    forward, backward = seen
    tape = forward["tape"]
    assert tape < y.data_ptr() < tape + 4 * mine(x)[0].numel() * 7
    outputs = {"outputs": 0, "h": h.data_ptr(), "c": c.data_ptr()}  # 0: they are the tape's memory
    states = {"h0": hx[0].data_ptr(), "c0": hx[1].data_ptr()}
    assert forward | both | states | outputs == forward
    gradients = {"dx": x.grad.data_ptr(), "dweights": [w.grad.data_ptr() for w in names]}
    gradients |= {"dh0": hx[0].grad.data_ptr(), "dc0": hx[1].grad.data_ptr()}
    given = {"tape": tape, "doutputs": dy.data_ptr()}
    assert backward | both | given | gradients == backward


# --- a model accelerated ---


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = torch.nn.Embedding(7, I)
        self.encoder = torch.nn.ModuleDict({"rnn": torch.nn.LSTM(I, H, 2, dropout=0.2)})
        self.decoder = torch.nn.GRU(H, H, batch_first=True)
        self.plain = torch.nn.RNN(H, H)
        self.head = torch.nn.Linear(H, 2)

    def forward(self, indices):
        y, _ = self.encoder["rnn"](self.embedding(indices))
        y, _ = self.decoder(torch.relu_(y.transpose(0, 1)))
        y, _ = self.plain(y.transpose(0, 1))
        return self.head(y)


def train(model, optimiser, steps):
    losses = []
    for step in range(steps):
        torch.manual_seed(step)
        indices = torch.randint(7, (T, B))
        loss = (model(indices) ** 2).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.detach())
    return torch.stack(losses)


def test_accelerate_and_restore_in_the_middle_of_training(oracle):
    torch.manual_seed(0)
    model = Model().double()
    twin = copy.deepcopy(model)
    optimiser, other = (torch.optim.Adam(m.parameters(), 0.01) for m in (model, twin))
    parameters, linear = dict(model.named_parameters()), model.head
    calls = []
    model.decoder.register_forward_hook(lambda *_: calls.append(1))
    found = [train(model, optimiser, 3)]
    assert ours.accelerate(model) == 3
    assert ours.accelerate(model) == 0
    assert [type(m) for m in (model.encoder["rnn"], model.decoder, model.plain)] == [
        ours.LSTM,
        ours.GRU,
        ours.RNN,
    ]
    assert model.head is linear
    found.append(train(model, optimiser, 3))
    assert ours.restore(model) == 3
    assert ours.restore(model) == 0
    assert type(model.decoder) is torch.nn.GRU
    found.append(train(model, optimiser, 3))
    truth = torch.cat([train(twin, other, 3) for _ in range(3)])
    oracle("losses", torch.cat(found), truth, bound=1e-11)
    assert len(calls) == 9
    now = dict(model.named_parameters())
    assert all(now[name] is parameter for name, parameter in parameters.items())
    assert "accelerated" not in vars(model.decoder)


class Named(torch.nn.LSTM):
    """Derived, with torch's forward pass."""


class Scaled(torch.nn.LSTM):
    """Its forward pass calls torch's."""

    def forward(self, x, hx=None):
        return super().forward(2 * x, hx)


class Alone(torch.nn.GRU):
    """Its forward pass is its own."""

    def forward(self, x):
        return x


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")
def test_accelerate_leaves_others_alone():
    kept, replaced = ours.GRU(I, H), torch.nn.GRU(I, H)
    replaced.forward = replaced.forward
    script = torch.jit.script(torch.nn.Sequential(torch.nn.LSTM(I, H)))
    model = torch.nn.ModuleList([torch.nn.LSTMCell(I, H), kept, Alone(I, H), replaced, script])
    with pytest.warns(UserWarning, match="accelerate leaves as it is") as found:
        assert ours.accelerate(model) == 0
    (one,) = found
    assert str(one.message) == (
        "throughtime.torch.accelerate leaves as it is '2' (Alone): Alone.forward computes by "
        "itself, without super().forward; '3' (GRU): its forward method was replaced on the object;"
        " '4.0' (LSTM): a script is compiled already; accelerate the model before"
    )
    with pytest.warns(UserWarning, match=r"restore leaves .* '1' \(GRU\): it was built as through"):
        assert ours.restore(model) == 0
    assert type(kept) is ours.GRU
    alone = torch.nn.LSTM(I, H)
    assert ours.accelerate(alone, memory_limit="1MB") == 1
    assert alone.memory_limit == "1MB"
    copied = copy.deepcopy(alone)
    assert ours.restore(copied) == 1
    assert type(copied) is torch.nn.LSTM
    assert not hasattr(copied, "memory_limit")


@pytest.mark.parametrize("kind", KINDS)
def test_a_swapped_module_is_an_instance_of_torchs(kind):
    theirs, built = pair(kind)
    swapped = copy.deepcopy(theirs)
    ours.accelerate(swapped)
    for module in (built, swapped):
        assert isinstance(module, type(theirs))
        assert isinstance(module, getattr(ours, type(theirs).__name__))


@pytest.mark.parametrize("cls", [Named, Scaled])
def test_classes_derived_from_torchs(cls, oracle):
    theirs = cls(I, H, 2, bidirectional=True).double()
    mine = copy.deepcopy(theirs)
    assert (ours.accelerate(mine), ours.accelerate(mine)) == (1, 0)
    assert isinstance(mine, cls)
    assert isinstance(mine, ours.LSTM)
    x, state = inputs(theirs)
    compare(oracle, everything(mine, x, state), everything(theirs, x, state))
    with ours.taps(mine) as taps:  # the engine's, whoever calls it
        mine(x)[0].sum().backward()
    assert len(taps[""]) == 2
    for copied in (copy.deepcopy(mine), pickle.loads(pickle.dumps(mine))):
        assert type(copied) is type(mine)
        assert torch.equal(copied(x)[0], mine(x)[0])
        assert ours.restore(copied) == 1
        assert type(copied) is cls
    assert repr(mine) == repr(theirs)


@pytest.mark.parametrize("first", ["accelerate", "parametrise"])
@pytest.mark.parametrize("cls", [torch.nn.LSTM, Scaled])
def test_parametrised_modules(cls, first, oracle):
    """Whichever comes first, both can be undone."""
    theirs = cls(I, H).double()
    mine = copy.deepcopy(theirs)
    norm = torch.nn.utils.parametrizations.weight_norm
    norm(theirs, "weight_hh_l0")
    for step in (first, {"accelerate": "parametrise", "parametrise": "accelerate"}[first]):
        if step == "accelerate":
            assert ours.accelerate(mine) == 1
        else:
            norm(mine, "weight_hh_l0")
    assert isinstance(mine, ours.LSTM)
    x, state = inputs(torch.nn.LSTM(I, H).double())
    compare(oracle, everything(mine, x, state), everything(theirs, x, state))
    assert ours.restore(mine) == 1
    assert not isinstance(mine, ours.LSTM)
    compare(oracle, everything(mine, x, state), everything(theirs, x, state))
    assert ours.accelerate(mine) == 1
    torch.nn.utils.parametrize.remove_parametrizations(mine, "weight_hh_l0")
    assert isinstance(mine, ours.LSTM)
    assert ours.restore(mine) == 1
    assert type(mine) is cls


@pytest.mark.filterwarnings("ignore:torch.ao.quantization is deprecated:DeprecationWarning")
def test_quantisation_is_told_that_it_passes_by():
    mine = ours.LSTM(I, H)
    with pytest.warns(UserWarning, match=r"its own modules by their exact type.*restore\(model\)"):
        torch.ao.quantization.quantize_dynamic(mine, {torch.nn.LSTM})


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")
def test_script_compiles_torchs_module(oracle):
    class Model(torch.nn.Module):
        def __init__(self, rnn):
            super().__init__()
            self.rnn = rnn

        def forward(self, x):
            return self.rnn(x)[0]

    theirs, mine = pair("LSTM")
    x, _ = inputs(theirs)
    oracle("script", torch.jit.script(Model(mine))(x).detach(), theirs(x)[0].detach())
    message = "LSTM: torch.jit.script: expected torch's own options, got peepholes=True; use torch"
    with pytest.raises(RuntimeError, match=message):
        torch.jit.script(Model(ours.LSTM(I, H, peepholes=True)))


def test_accelerate_says_when_there_is_nothing_to_do():
    with pytest.warns(UserWarning, match=r"no torch\.nn\.RNN, LSTM or GRU in this model"):
        assert ours.accelerate(torch.nn.Linear(1, 1)) == 0
    with pytest.raises(TypeError, match=r"model: expected a torch\.nn\.Module, got int"):
        ours.accelerate(3)


def test_our_networks_read_them():
    mine = ours.LSTM(I, H, 2)
    x = torch.randn(T, B, I)
    y = mine(x)[0].detach()
    assert torch.allclose(torch.from_numpy(tt.from_torch(mine).run(x.numpy()).outputs), y)
