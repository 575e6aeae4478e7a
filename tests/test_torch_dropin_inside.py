"""What throughtime.torch gives beyond torch.nn: every inner value, less memory, windows."""

import copy
import gc
import weakref

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

import throughtime as tt  # noqa: E402
import throughtime.torch as ours  # noqa: E402
import torch_reference  # noqa: E402
from dropin_examples import KINDS, B, H, I, P, T, compare, everything, inputs, pair  # noqa: E402
from throughtime.network.truncation import windows as stretches  # noqa: E402

RAGGED = {"lengths": [3, 6, 1], "enforce_sorted": False}
EXTRA = {
    "peepholes": lambda **o: ours.LSTM(I, H, peepholes=True, **o).double(),
    "peepholes and projection": lambda **o: ours.LSTM(
        I, H, proj_size=P, peepholes=True, **o
    ).double(),
    "original GRU": lambda **o: ours.GRU(I, H, reset_after=False, **o).double(),
}


def unrolled(kind, module, x):
    """Every h and c, from torch's cells; they retain their gradients."""
    cells = {"RNN": torch.nn.RNNCell, "LSTM": torch.nn.LSTMCell, "GRU": torch.nn.GRUCell}
    name, own = KINDS[kind]
    cell = cells[name](I, H, **own).double()
    cell.load_state_dict({n.removesuffix("_l0"): p for n, p in module.state_dict().items()})
    state, states = None, []
    for x_t in x:
        state = cell(x_t, state)
        states.append(state if isinstance(state, tuple) else (state,))
        for part in states[-1]:
            part.retain_grad()
    return cell, states


# --- states ---


@pytest.mark.parametrize("kind", ["RNN tanh", "LSTM", "GRU"])
def test_states_of_every_step(kind, oracle):
    theirs, mine = pair(kind)
    x, _ = inputs(theirs)
    _, states = unrolled(kind, theirs, x)
    outputs, _, (layer,) = mine(x, states=True)
    oracle("h", layer.h, torch.stack([s[0] for s in states]).detach())
    assert layer.h.data_ptr() == outputs.data_ptr()
    assert layer.reverse is None
    if kind == "LSTM":
        oracle("c", layer.c, torch.stack([s[1] for s in states]).detach())
        gates = layer.gates
        c_before = torch.cat([torch.zeros(1, B, H), layer.c[:-1]])
        oracle("c from the gates", gates["i"] * gates["a"] + gates["f"] * c_before, layer.c)
        oracle("h from the gates", gates["o"] * gates["tanh_c"], layer.h)
    else:
        assert layer.c is None
    if kind == "GRU":
        gates, h_before = layer.gates, torch.cat([torch.zeros(1, B, H), layer.h[:-1]])
        oracle("h from the gates", (1 - gates["z"]) * gates["n"] + gates["z"] * h_before, layer.h)


def test_states_of_both_directions_and_layers(oracle):
    _, mine = pair("LSTM projection", num_layers=2, bidirectional=True, batch_first=True)
    x, state = inputs(mine)
    outputs, (h, c), layers = mine(x, tuple(state), states=True)
    last = torch.cat([layers[1].h, layers[1].reverse.h], dim=2)
    oracle("outputs", last.transpose(0, 1), outputs.detach())
    oracle("final c", layers[0].c[-1], c[0].detach())
    oracle("final c, backwards", layers[0].reverse.c[0], c[1].detach())
    oracle("final h, backwards", layers[1].reverse.h[0], h[3].detach())


def test_states_of_a_packed_sequence(oracle):
    _, mine = pair("GRU", bidirectional=True)
    x, _ = inputs(mine)
    packed = torch.nn.utils.rnn.pack_padded_sequence(x, RAGGED["lengths"], enforce_sorted=False)
    outputs, _, (layer,) = mine(packed, states=True)
    y, lengths = torch.nn.utils.rnn.pad_packed_sequence(outputs)
    for b, steps in enumerate(lengths):
        both = torch.cat([layer.h[:steps, b], layer.reverse.h[:steps, b]], dim=1)
        oracle("h", both, y[:steps, b].detach())


def test_states_changed_in_place_are_noticed():
    _, mine = pair("LSTM")
    x, _ = inputs(mine)
    outputs, _, (layer,) = mine(x, states=True)
    layer.gates["f"].zero_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        outputs.sum().backward()


# --- taps ---


@pytest.mark.parametrize("kind", ["RNN relu", "LSTM", "GRU"])
def test_taps_record_what_torchs_cells_find(kind, oracle):
    theirs, mine = pair(kind)
    x, _ = inputs(theirs)
    weights = torch.randn(T, B, H, dtype=torch.float64)
    cell, states = unrolled(kind, theirs, x)
    (torch.stack([s[0] for s in states]) * weights).sum().backward()
    with ours.taps(mine) as taps:
        (mine(x)[0] * weights).sum().backward()
    (tap,) = taps[""]
    oracle("dh", tap.dh, torch.stack([s[0].grad for s in states]))
    if kind == "LSTM":
        oracle("dc", tap.dc, torch.stack([s[1].grad for s in states]))
    oracle("db is the sum of dz", tap.dz.sum((0, 1)), cell.bias_ih.grad)
    assert mine._taps is None


@pytest.mark.parametrize("lengths", [None, RAGGED])
def test_taps_in_a_model_in_both_directions(lengths, oracle):
    """Either direction is the gradient of the loss by its own biases, summed over steps."""
    _, lstm = pair("LSTM", num_layers=2, bidirectional=True)
    model = torch.nn.ModuleDict({"encoder": lstm})
    x, _ = inputs(lstm)
    with ours.taps(model) as taps:
        everything(lstm, x, **(lengths or {}))
    first, second = taps["encoder"]
    for layer, tap in enumerate((first, second)):
        for suffix, side in (("", tap), ("_reverse", tap.reverse)):
            bias = getattr(lstm, f"bias_ih_l{layer}{suffix}").grad
            oracle("bias", side.dz.sum((0, 1)), bias)
    if lengths:
        for b, steps in enumerate(lengths["lengths"]):
            for side in (first, first.reverse):
                assert not side.dz[steps:, b].any()
                assert side.dz[:steps, b].abs().sum(1).all()


def test_taps_tell_calls_apart():
    _, mine = pair("GRU")
    x, _ = inputs(mine)
    with ours.taps(mine) as taps:
        (mine(x)[0].sum() + 3 * mine(x)[0].sum()).backward()
    once, thrice = taps.calls("")
    torch.testing.assert_close(3 * once[0].dh, thrice[0].dh)
    with pytest.raises(KeyError, match="expected one call of it, got 2"):
        taps[""]
    with pytest.raises(KeyError, match="expected a module's name: '', got 'rnn'"):
        taps["rnn"]
    with ours.taps(mine) as taps, pytest.raises(ValueError, match="no other taps"), ours.taps(mine):
        pass
    with pytest.raises(KeyError, match="expected a backward pass through it, got none"):
        taps[""]


def test_taps_do_not_change_what_is_found():
    _, mine = pair("LSTM")
    x, state = inputs(mine)
    plain = everything(mine, x, state)
    with ours.taps(mine, per_sample=True):
        tapped = everything(mine, x, state)
    for name, tensor in plain.items():
        assert torch.equal(tensor, tapped[name]), name


@pytest.mark.parametrize("lengths", [None, RAGGED["lengths"]])
def test_taps_that_come_after_the_forward_pass(lengths, oracle):
    """With dropout's factors as they were."""
    _, mine = pair("LSTM", num_layers=2, bidirectional=True, dropout=0.5)
    x, _ = inputs(mine)
    found = []
    for before in (True, False):
        given = x
        if lengths:
            pack = torch.nn.utils.rnn.pack_padded_sequence
            given = pack(x, lengths, enforce_sorted=False)
        torch.manual_seed(4)
        mine.zero_grad()
        if before:
            with ours.taps(mine) as taps:
                y = mine(given)[0]
                (y.data if lengths else y).square().sum().backward()
        else:
            y = mine(given)[0]
            with ours.taps(mine) as taps:
                (y.data if lengths else y).square().sum().backward()
        parts = [part for tap in taps[""] for part in (tap.dz, tap.reverse.dc)]
        found.append([*parts, *(p.grad for p in mine.parameters())])
    for truth, tensor in zip(*found, strict=True):
        oracle("tapped", tensor, truth)


@pytest.mark.parametrize("lengths", [{}, RAGGED])
@pytest.mark.parametrize("kind", [*KINDS, *EXTRA])
def test_gradients_of_each_sequence(kind, lengths, oracle):
    options = {"num_layers": 2, "bidirectional": True}
    mine = EXTRA[kind](**options) if kind in EXTRA else pair(kind, **options)[1]
    x, state = inputs(mine)
    with ours.taps(mine, per_sample=True) as taps:
        whole = everything(mine, x, state, **lengths)
    samples = taps.samples("")
    assert samples.keys() == dict(mine.named_parameters()).keys()
    for name, array in samples.items():
        assert array.shape == (B, *getattr(mine, name).shape)
        oracle(name, array.sum(0), whole[f"gradient of {name}"])


def test_the_gradient_of_one_sequence_is_that_of_its_loss(oracle):
    _, mine = pair("LSTM")
    x, _ = inputs(mine)
    with ours.taps(mine, per_sample=True) as taps:
        mine(x)[0].square().sum().backward()
    for b in range(B):
        mine.zero_grad()
        mine(x[:, b : b + 1])[0].square().sum().backward()
        oracle("sample", taps.samples("")["weight_hh_l0"][b], mine.weight_hh_l0.grad)


# --- what torch's modules have not ---


def reference(mine, x, state):
    """The module's outputs by the tests' own recurrence."""
    peepholes, original = mine.peepholes, not mine.reset_after
    if mine.mode == "LSTM":
        cell = tt.LSTM(I, H, peepholes=peepholes, projection=mine.proj_size or None)
    else:
        cell = tt.GRU(I, H, reset_after=not original)
    net = tt.Network([cell], dtype="float64")
    p = {
        "0.W": mine.weight_ih_l0,
        "0.U": mine.weight_hh_l0,
        "0.b": mine.bias_ih_l0 + mine.bias_hh_l0,
    }
    if peepholes:
        p["0.p"] = mine.weight_peephole_l0
    if mine.proj_size:
        p["0.R"] = mine.weight_hr_l0
    names = ("0.h", "0.c")
    initial = {name: part[0] for name, part in zip(names, state, strict=False)}
    return torch_reference.run(net, p, x, initial, [T] * B, {})


@pytest.mark.parametrize("kind", EXTRA)
def test_peepholes_and_the_original_gru(kind, oracle):
    mine = EXTRA[kind]()
    x, state = inputs(mine)
    found = everything(mine, x, state)
    x = x.requires_grad_()
    y, final = reference(mine, x, state)
    parts = [final[name][None] for name in final]
    weights = torch.arange(y.numel(), dtype=y.dtype).cos().view(y.shape)
    mine.zero_grad()
    ((y * weights).sum() + sum((part**2).sum() for part in parts)).backward()
    oracle("outputs", found["outputs"], y.detach())
    oracle("inputs", found["gradient of inputs"], x.grad)
    for name, parameter in mine.named_parameters():
        oracle(name, found[f"gradient of {name}"], parameter.grad)


def test_their_parameters_are_named_drawn_and_saved():
    mine = ours.LSTM(I, H, 2, bidirectional=True, peepholes=True)
    names = [name for name in mine.state_dict() if "peephole" in name]
    assert names == [f"weight_peephole_l{k}{s}" for k in (0, 1) for s in ("", "_reverse")]
    assert mine.weight_peephole_l0.shape == (3 * H,)
    assert 0 < mine.weight_peephole_l1_reverse.abs().max() <= H**-0.5
    assert "reset_after" not in repr(ours.GRU(I, H))


# --- memory ---


@pytest.mark.parametrize("lengths", [{}, {"lengths": [900, 600, 40]}])
@pytest.mark.parametrize("kind", [*KINDS, *EXTRA])
def test_a_memory_limit_gives_the_same_bits(kind, lengths):
    options = {"num_layers": 2, "bidirectional": True}
    mine = EXTRA[kind](**options) if kind in EXTRA else pair(kind, **options)[1]
    x = torch.randn(900, B, I, dtype=torch.float64)
    _, state = inputs(mine)
    whole = everything(mine, x, state, **lengths)
    mine.memory_limit = "1MB"
    within = everything(mine, x, state, **lengths)
    for name, tensor in whole.items():
        assert torch.equal(tensor, within[name]), name


def test_a_memory_limit_keeps_less():
    mine = ours.LSTM(16, 16)
    x = torch.randn(20_000, 1, 16)

    def kept():
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t: sizes.append(t.numel() * t.element_size()) or t, lambda t: t
        ):
            mine(x)
        return sum(sizes)

    whole = kept()
    mine.memory_limit = "2MB"
    outputs_and_inputs = 2 * x.numel() * 4
    assert kept() < outputs_and_inputs + 2e6 < whole


def test_a_memory_limit_that_is_too_small_names_the_smallest():
    mine = ours.LSTM(I, H, memory_limit=1000)
    x = torch.randn(900, B, I)
    with pytest.raises(ValueError, match=r"memory_limit: expected at least \d+ bytes") as caught:
        mine(x)
    mine.memory_limit = int(str(caught.value).split("at least ")[1].split()[0])
    mine(x)[0].sum().backward()
    with pytest.raises(ValueError, match="memory_limit: expected bytes, or text"):
        ours.GRU(I, H, memory_limit="a lot")


# --- windows ---


class Reader(torch.nn.Module):
    """Two recurrent modules that are called without a state."""

    def __init__(self, batch_first=False):
        super().__init__()
        self.first = ours.LSTM(I, H, 2, batch_first=batch_first)
        self.second = ours.GRU(H, H, batch_first=batch_first)
        self.head = torch.nn.Linear(H, 1)

    def forward(self, x):
        return self.head(self.second(self.first(x)[0])[0])


def truth_of(model, x, k1, k2):
    """Losses and gradient of every window, each from the state of a run from the start."""
    found = []
    for w in stretches(len(x), k1, k2):
        with torch.no_grad():
            first, state = model.first(x[: w.start]) if w.start else (None, None)
            hidden = model.second(first)[1] if w.start else None
        y, _ = model.first(x[w.start : w.stop], state)
        y, _ = model.second(y, hidden)
        loss = (model.head(y)[w.first - w.start :] ** 2).sum()
        model.zero_grad()
        loss.backward()
        found.append((loss.detach(), [p.grad.clone() for p in model.parameters()]))
    return found


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize(("k1", "k2"), [(4, 4), (3, 8), (5, 2), (4, 100), (23, 23)])
def test_windows_carry_the_state_and_reach_back_k2(k1, k2, batch_first, oracle):
    torch.manual_seed(0)
    model = Reader().double()
    x = torch.randn(23, B, I, dtype=torch.float64)
    truth = truth_of(model, x, k1, k2)
    for module in (model.first, model.second):
        module.batch_first = batch_first
    given = x.transpose(0, 1) if batch_first else x
    found = []
    for window in ours.windows(model, given, k1, k2):
        outputs = model(window.batch)
        outputs = outputs.transpose(0, 1) if batch_first else outputs
        loss = (outputs[window.new] ** 2).sum()
        model.zero_grad()
        loss.backward()
        found.append((loss.detach(), [p.grad.clone() for p in model.parameters()]))
    assert len(found) == len(truth)
    for (loss, gradients), (wanted, parts) in zip(found, truth, strict=True):
        oracle("loss", loss, wanted)
        for mine, theirs in zip(gradients, parts, strict=True):
            oracle("gradient", mine, theirs)
    assert model.first._carry is None


def test_windows_go_on_from_batch_to_batch(oracle):
    model = Reader().double()
    x = torch.randn(20, B, I, dtype=torch.float64)
    state = {}
    pieces = []
    for part in (x[:7], x[7:]):
        for window in ours.windows(model, (part, part), 4, state=state):
            pieces.append(model(window.batch[0])[window.new].detach())
    oracle("outputs", torch.cat(pieces), model(x).detach())
    assert state.keys() == {"first", "second"}
    assert [tuple(s.shape) for s in state["first"]] == [(2, B, H), (2, B, H)]


def test_the_graph_of_old_windows_goes():
    model = Reader()
    optimiser = torch.optim.SGD(model.parameters(), 1e-3)
    x = torch.randn(2000, 2, I)
    alive = []
    for number, window in enumerate(ours.windows(model, x, 5, 10)):
        loss = (model(window.batch)[window.new] ** 2).mean()
        alive.append(weakref.ref(loss))
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        if number == 20:
            gc.collect()
            before = tensors()
    assert number == 399
    assert sum(ref() is not None for ref in alive) == 1  # the loop's own variable
    gc.collect()
    assert tensors() <= before + 2


def tensors():
    return sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())


def test_leaving_the_loop_early_leaves_the_modules_as_they_were():
    model = Reader()
    for window in ours.windows(model, torch.randn(20, B, I), 5):
        model(window.batch)
        break
    gc.collect()
    assert model.first._carry is None
    assert model(torch.randn(3, B, I)).shape == (3, B, 1)


def test_windows_refuse_what_they_cannot_carry():
    x = torch.randn(9, B, I)
    cases = [
        (ours.LSTM(I, H, bidirectional=True), x, "one direction, got a bidirectional one"),
        (torch.nn.LSTM(I, H), x, r"call throughtime\.torch\.accelerate\(model\) first"),
        (torch.nn.Linear(I, H), x, "got no recurrent module"),
        (ours.LSTM(I, H, memory_limit="1MB"), x, "expected no memory_limit"),
        (ours.GRU(I, H), (x, x[:5]), "as many steps in all tensors"),
    ]
    for model, batch, message in cases:
        with pytest.raises(ValueError, match=message):
            ours.windows(model, batch, 3)
    with pytest.raises(TypeError, match="expected tensors with time as axis 0, got list"):
        ours.windows(ours.GRU(I, H), ([1, 2],), 3)
    mixed = torch.nn.ModuleList([ours.GRU(I, H), torch.nn.GRU(I, H)])
    with pytest.raises(ValueError, match=r"'1': expected a module of throughtime\.torch"):
        ours.windows(mixed, x, 3)
    gru = ours.GRU(I, H)
    for window in ours.windows(gru, x, 3):
        with pytest.raises(ValueError, match="hx: expected no initial state within windows"):
            gru(window.batch, torch.zeros(1, B, H))
        break
    with pytest.raises(ValueError, match="expected every recurrent module to be called"):
        list(ours.windows(gru, x, 3))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (lambda x, w: (w, x), "'first': steps: expected the window's 3, got 20 in one call"),
        (lambda x, w: (w, w), "'first': expected one call within each window, got a second one"),
        (lambda x, w: (x,), "steps: expected the window's 3, got 20"),
        (lambda x, w: (w[:2],), "steps: expected the window's 3, got 2 in one call"),
        (lambda x, w: (w[:1],), "steps: expected the window's 3, got 1 in one call"),
    ],
    ids=["validation", "second call", "whole", "half a window", "stepwise"],
)
def test_within_a_window_a_module_is_called_once_on_all_of_it(given, message):
    """Any other call would begin in the carried state, and replace it."""
    model, x = Reader(), torch.randn(20, B, I)
    for window in ours.windows(model, x, 3):
        *before, last = given(x, window.batch)
        for one in before:
            model(one)
        with pytest.raises(RuntimeError, match=message) as found:
            model(last)
        assert "anything else within window.paused()" in str(found.value)
        break


def test_validation_while_windows_are_paused(oracle):
    """Training goes on as without it, and validation is what it is outside."""
    losses = []
    for pauses in (False, True):
        torch.manual_seed(0)
        model = Reader().double()
        x = torch.randn(20, B, I, dtype=torch.float64)
        optimiser = torch.optim.SGD(model.parameters(), 0.1)
        loop = ours.windows(model, x, 3, 5)
        for window in loop:
            loss = (model(window.batch)[window.new] ** 2).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
            if pauses:
                with window.paused(), torch.no_grad():
                    validation = model(x[:7])
                with loop.paused(), loop.paused():
                    assert torch.equal(model(x[:7]), validation)
                outside = copy.deepcopy(model)  # a copy is in no loop
                oracle("validation", validation, outside(x[:7]).detach())
    half = len(losses) // 2
    assert losses[:half] == losses[half:]


def test_a_window_again_for_optimisers_with_a_closure(oracle):
    model, x = Reader().double(), torch.randn(20, B, I, dtype=torch.float64)
    pieces = []
    for window in ours.windows(model, x, 3):
        for _ in range(2):
            window.again()
            last = model(window.batch)[window.new].detach()
        pieces.append(last)
    oracle("outputs", torch.cat(pieces), model(x).detach())
    with pytest.raises(
        ValueError, match=r"Window.paused: expected a window that windows\(…\) gave"
    ):
        ours.Window(x, 0, 0, 3).paused()


@pytest.mark.parametrize("reentrant", [False, True])
def test_a_checkpoint_runs_a_window_again(reentrant, oracle):
    model, x = Reader().double(), torch.randn(20, B, I, dtype=torch.float64)
    gradients = []
    for checkpoint in (False, True):
        model.zero_grad()
        for window in ours.windows(model, x.clone().requires_grad_(), 3, 5):
            if checkpoint:
                y = torch.utils.checkpoint.checkpoint(model, window.batch, use_reentrant=reentrant)
            else:
                y = model(window.batch)
            y[window.new].square().sum().backward()
        gradients.append([p.grad.clone() for p in model.parameters()])
    for one, other in zip(*gradients, strict=True):
        oracle("gradient", one, other)


def test_a_loop_that_an_error_left_open_does_not_stand_in_the_way():
    model, x = Reader(), torch.randn(20, B, I)
    old = ours.windows(model, x, 3)
    next(old)
    for window in ours.windows(model, x, 3):
        model(window.batch)
    with pytest.raises(RuntimeError, match="windows: expected one loop at a time over a model"):
        next(old)
    late = ours.windows(model, x, 3)
    next(late)
    late.close()
    assert model(x).shape == (20, B, 1)


def test_taps_within_windows(oracle):
    mine = ours.GRU(I, H).double()
    x = torch.randn(12, B, I, dtype=torch.float64)
    found = []
    for window in ours.windows(mine, x, 4):
        with ours.taps(mine) as taps:
            mine(window.batch)[0].sum().backward()
        found.append(taps[""][0].dz)
    assert [tuple(dz.shape) for dz in found] == [(4, B, 3 * H)] * 3
    oracle("bias", sum(dz.sum((0, 1)) for dz in found), mine.bias_ih_l0.grad)


def test_compare_notices():
    """What the others rely on."""
    with pytest.raises(AssertionError):
        compare(lambda *_: None, {"a": torch.ones(2)}, {"a": torch.ones(3)})
