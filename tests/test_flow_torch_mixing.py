"""The flow in torch models that mix time past the recurrence, and in two directions."""

import numpy as np
import pytest

import throughtime as tt
from throughtime.gradient_flow.stack import Scaled

torch = pytest.importorskip("torch", reason="torch is not installed")
from unrolled_torch import derivatives, run_unrolled, shared  # noqa: E402

nn = torch.nn

T, B, WIDE, H = 8, 3, 4, 5
MODULES = {
    "rnn": lambda **o: nn.RNN(WIDE, H, **o),
    "lstm": lambda **o: nn.LSTM(WIDE, H, **o),
    "gru": lambda **o: nn.GRU(WIDE, H, **o),
    "lstm-2": lambda **o: nn.LSTM(WIDE, H, 2, **o),
    "lstm-projected": lambda **o: nn.LSTM(WIDE, H, 2, proj_size=3, **o),
    "gru-3": lambda **o: nn.GRU(WIDE, H, 3, **o),
    "lstm-both": lambda **o: nn.LSTM(WIDE, H, bidirectional=True, **o),
    "gru-both-2": lambda **o: nn.GRU(WIDE, H, 2, bidirectional=True, **o),
    "lstm-both-2-projected": lambda **o: nn.LSTM(WIDE, H, 2, bidirectional=True, proj_size=3, **o),
    "rnn-both-3": lambda **o: nn.RNN(WIDE, H, 3, bidirectional=True, **o),
}


LAGS = {"carousel": False, "spectrum": False, "keep": True}  # what takes time, left out


def width(rnn):
    return (getattr(rnn, "proj_size", 0) or H) * (2 if rnn.bidirectional else 1)


class Own(nn.Module):
    """Each step's answer from its own output."""

    def __init__(self, rnn):
        super().__init__()
        self.rnn, self.head = rnn, nn.Linear(width(rnn), 2)

    def forward(self, x):
        return torch.tanh(self.head(self.rnn(x)[0]))


class Attention(Own):
    """Each step looks at all of them, what comes after it too."""

    causal = False

    def forward(self, x):
        h = self.rnn(x)[0].transpose(0, 1)  # (B, T, ·)
        scores = h @ h.transpose(1, 2)
        if self.causal:
            scores = scores.masked_fill(torch.ones(T, T).triu(1).bool(), -torch.inf)
        return self.head((torch.softmax(scores, dim=2) @ h).transpose(0, 1))


class Causal(Attention):
    causal = True


class Convolved(Own):
    """Each step looks at its neighbours."""

    def __init__(self, rnn):
        super().__init__(rnn)
        self.mix = nn.Conv1d(width(rnn), width(rnn), 3, padding=1)

    def forward(self, x):
        h = self.rnn(x)[0].permute(1, 2, 0)
        return self.head(torch.tanh(self.mix(h)).permute(2, 0, 1))


class Above(Own):
    """Another recurrent module above, which runs both ways."""

    def __init__(self, rnn):
        super().__init__(rnn)
        self.upper = nn.LSTM(width(rnn), 3, bidirectional=True)
        self.head = nn.Linear(6, 2)

    def forward(self, x):
        return self.head(self.upper(torch.tanh(self.rnn(x)[0]))[0])


MODELS = [(name, kind) for name in MODULES for kind in (Attention, Above)]
MODELS += [(name, Own) for name in MODULES if "both" in name]  # others: test_flow_torch.py
MODELS += [(name, kind) for name in ("lstm", "gru-both-2") for kind in (Causal, Convolved)]


def model_of(name, kind=Own, **options):
    torch.manual_seed(3)
    return kind(MODULES[name](**options)).double()


def inputs(seed=1):
    return torch.randn(T, B, WIDE, generator=torch.Generator().manual_seed(seed)).double()


def squares(o):
    """(T, B), with weights that differ."""
    return o.square().sum(-1) * torch.linspace(1, 2, T).double()[:, None]


@pytest.mark.parametrize(("name", "kind"), MODELS, ids=lambda one: getattr(one, "__name__", one))
def test_losses_of_each_step_as_autograd_on_an_unrolled_twin(name, kind):
    model, x = model_of(name, kind), inputs()
    flow = tt.flow(model, x, loss=squares, of="rnn", **LAGS)
    outputs, lines = run_unrolled(model, "rnn", x)
    losses = squares(outputs)
    shared(flow, derivatives(losses.sum(1), lines), lambda layer: range(T))
    assert flow.loss == pytest.approx(float(losses.detach().sum()), rel=1e-12)


class Pooled(Own):
    """One answer a sequence, from the mean over time."""

    def forward(self, x):
        return self.head(self.rnn(x)[0].mean(0))


class AtLast(Own):
    """One answer a sequence, from the last step and from the last state."""

    def forward(self, x):
        out, final = self.rnn(x)
        h = final[0] if isinstance(final, tuple) else final
        ways = 2 if self.rnn.bidirectional else 1
        return self.head(out[-1] + torch.cat(list(h[-ways:]), dim=1))


class AllStates(Own):
    """One answer from the last states of all layers, c of an LSTM too."""

    def forward(self, x):
        final = self.rnn(x)[1]
        parts = final if isinstance(final, tuple) else (final,)
        weighed = [part.sum(2) * (n + 1) for n, part in enumerate(parts)]
        return torch.tanh(sum(weighed)).T


LOSSES = {
    "each sequence": lambda o: o.square().sum(1),
    "one number": lambda o: (o.square().sum(1) * torch.arange(1, B + 1)).mean(),
}


def at_its_end(layer):
    """A loss of the whole stands at the end, of a second direction at the beginning."""
    return [0 if layer.backwards else T - 1]


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("kind", [Pooled, AtLast, AllStates], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("name", MODULES)
def test_one_loss_a_sequence_or_in_all(name, kind, loss):
    model, x = model_of(name, kind), inputs()
    flow = tt.flow(model, x, loss=LOSSES[loss], **LAGS)
    outputs, lines = run_unrolled(model, "rnn", x)
    whole = LOSSES[loss](outputs).sum()
    assert flow.loss == pytest.approx(float(whole.detach()), rel=1e-12)
    expected = derivatives([whole], lines)
    if kind is AtLast and not model.rnn.bidirectional:  # the fast way
        for number, parts in enumerate(expected):
            for part, gradient in parts.items():
                own = flow.gradients[number][part][T - 1, ::-1]
                assert np.abs(own - gradient[0]).max() <= 1e-10 * np.abs(gradient).max()
        return
    shared(flow, expected, at_its_end)
    assert not any(layer.ahead for layer in flow.layers.values())


def test_a_number_that_looks_at_many_steps_is_said_to():
    flow = tt.flow(model_of("lstm", Pooled), inputs(), loss=LOSSES["one number"])
    assert "looks at 8 steps directly" in flow.notes[-1]
    last = tt.flow(model_of("lstm", AtLast), inputs(), loss=LOSSES["one number"])
    assert not any("directly" in note for note in last.notes)


class Seq2Seq(nn.Module):
    """A decoder that begins with the encoder's state and looks at its outputs."""

    def __init__(self, kind, attends):
        super().__init__()
        self.encoder, self.decoder = kind(WIDE, H, 2), kind(WIDE, H, 2)
        self.attends, self.head = attends, nn.Linear(H, 2)

    def forward(self, x, y):
        out, state = self.encoder(x)
        h = self.decoder(y, state)[0]
        if self.attends:
            scores = torch.einsum("tbh,sbh->tbs", h, out)
            h = h + torch.einsum("tbs,sbh->tbh", torch.softmax(scores, dim=2), out)
        return self.head(h)


@pytest.mark.parametrize("attends", [False, True])
@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
def test_an_encoder_whose_state_a_decoder_takes_over(kind, attends):
    torch.manual_seed(0)
    model, x, y = Seq2Seq(kind, attends).double(), inputs(), inputs(2)[:5]

    def whole(o):
        return o.square().sum()

    flow = tt.flow(model, x, y, loss=whole, of="encoder", **LAGS)
    outputs, lines = run_unrolled(model, "encoder", x, y)
    shared(flow, derivatives([whole(outputs)], lines), at_its_end)
    with pytest.raises(ValueError, match="or their sum, one loss of the whole run"):
        tt.flow(model, x, y, loss=lambda o: o.square().sum(-1), of="encoder")

    own = tt.flow(model, x, y, loss=lambda o: o.square().sum(-1), of="decoder", keep=True)
    outputs, lines = run_unrolled(model, "decoder", x, y)
    expected = derivatives(outputs.square().sum((1, 2)), lines)
    for number, parts in enumerate(expected):  # the fast way
        for part, gradient in parts.items():
            for t in range(5):
                one = own.gradients[number][part][t, : t + 1][::-1]
                difference = np.abs(one - gradient[t, : t + 1]).max()
                assert difference <= 1e-10 * np.abs(gradient).max()


@pytest.mark.parametrize("name", ["lstm", "gru-both-2"])
def test_layouts_of_losses_that_look_at_several_steps(name):
    """(B, T), flat in either order, (T,), and square, are told apart by their sequences."""
    model, x = model_of(name, Attention), inputs()
    expected = tt.flow(model, x, loss=squares, **LAGS)
    layouts = {
        "(B, T)": lambda e: e.T,
        "flat": lambda e: e.flatten(),
        "flat, batch first": lambda e: e.T.flatten(),
        "(T,)": lambda e: e.sum(1),
    }
    for layout in layouts.values():
        flow = tt.flow(model, x, loss=lambda o, layout=layout: layout(squares(o)), **LAGS)
        for number, parts in expected.gradients.items():
            for part, gradient in parts.items():
                assert np.allclose(flow.gradients[number][part], gradient, rtol=1e-12, atol=0)
        assert flow.loss == pytest.approx(expected.loss, rel=1e-12)
    square = torch.randn(T, T, WIDE, generator=torch.Generator().manual_seed(5)).double()
    one = tt.flow(model, square, loss=squares, **LAGS)
    other = tt.flow(model, square, loss=lambda o: squares(o).T, **LAGS)
    assert (one.gradients[0]["h"] == other.gradients[0]["h"]).all()


def test_as_many_sequences_as_steps_and_one_loss_each():
    model = model_of("gru", Pooled)
    x = torch.randn(T, T, WIDE, generator=torch.Generator().manual_seed(5)).double()
    flow = tt.flow(model, x, loss=LOSSES["each sequence"], keep=True)
    outputs, lines = run_unrolled(model, "rnn", x)
    shared(flow, derivatives([outputs.square().sum()], lines), at_its_end)


def test_sequences_that_depend_on_one_another_are_refused():
    class Across(Own):
        def forward(self, x):
            h = self.rnn(x)[0]
            return self.head(h - h.mean(1, keepdim=True))

    model, x = model_of("lstm", Across), inputs()
    with pytest.raises(ValueError, match="give its sum"):
        tt.flow(model, x, loss=lambda o: o.square().sum((0, 2)))  # one a sequence
    flow = tt.flow(model, x, loss=lambda o: o.square().sum(), keep=True)
    outputs, lines = run_unrolled(model, "rnn", x)
    shared(flow, derivatives([outputs.square().sum()], lines), at_its_end)


@pytest.mark.parametrize("name", ["lstm", "lstm-both", "gru-both-2"])
@pytest.mark.parametrize("enforce_sorted", [True, False])
def test_packed_sequences(name, enforce_sorted):
    utils = nn.utils.rnn
    lengths = torch.tensor([T, 6, 3] if enforce_sorted else [3, T, 6])

    class Packed(Own):
        """Attends within each sequence."""

        def forward(self, x, lengths):
            packed = utils.pack_padded_sequence(x, lengths, enforce_sorted=enforce_sorted)
            h = utils.pad_packed_sequence(self.rnn(packed)[0])[0].transpose(0, 1)
            there = torch.arange(h.shape[1]) < lengths[:, None]
            scores = (h @ h.transpose(1, 2)).masked_fill(~there[:, None], -torch.inf)
            return self.head((torch.softmax(scores, dim=2) @ h).transpose(0, 1))

    model, x = model_of(name, Packed), inputs()
    flow = tt.flow(model, x, lengths, loss=squares, **LAGS)
    alone = Attention(model.rnn)
    alone.head = model.head
    weights = torch.linspace(1, 2, T).double()
    each = [
        (alone(x[:n, b : b + 1]).square().sum((1, 2)) * weights[:n]).sum()
        for b, n in enumerate(lengths.tolist())
    ]
    assert flow.gradient_norm == pytest.approx(norm_of(model.rnn, torch.stack(each)), rel=1e-10)
    for b, n in enumerate(lengths.tolist()):
        outputs, lines = run_unrolled(alone, "rnn", x[:n, b : b + 1])
        losses = outputs.square().sum((1, 2)) * weights[:n]
        for number, parts in enumerate(derivatives(losses, lines)):
            sign = -1 if flow.layers[number].backwards else 1
            for part, gradient in parts.items():
                for t in range(n):
                    for k in range(n):
                        lag = sign * (t - k)
                        found = flow.gradients if lag >= 0 else flow.gradients_ahead
                        own = found[number][part][t, lag if lag >= 0 else -1 - lag, b]
                        size = np.abs(gradient).max()
                        assert np.abs(own - gradient[t, k, 0]).max() <= 1e-10 * size
    layer = flow.layers[0]
    row = 4  # one sequence is over by then: the mean is over the two others
    kept = np.linalg.norm(flow.gradients[0]["h"][row, 0], axis=1)
    assert layer.norms["h"][row, 0] == pytest.approx(kept[lengths.numpy() > row].mean(), rel=1e-12)


def norm_of(rnn, losses):
    """Of the gradient by a module's parameters, its two biases counted as the one that they are."""
    named = dict(rnn.named_parameters())
    parts = torch.autograd.grad(losses.sum(), list(named.values()))
    total = 0.0
    for name, part in zip(named, parts, strict=True):
        if "bias_hh" in name:  # but for a GRU's candidate, which has one of its own
            part = part[-H:] if isinstance(rnn, nn.GRU) else part[:0]
        total += float(part.square().sum())
    return np.sqrt(total)


@pytest.mark.parametrize("name", ["lstm", "gru-3", "lstm-both", "gru-both-2"])
@pytest.mark.parametrize("kind", [Attention, AllStates], ids=lambda kind: kind.__name__)
def test_gradient_norm_and_shares_are_those_of_the_module(name, kind):
    model, x = model_of(name, kind), inputs()
    loss = squares if kind is Attention else LOSSES["one number"]
    flow = tt.flow(model, x, loss=loss, spectrum=False, carousel=False)
    assert flow.gradient_norm == pytest.approx(norm_of(model.rnn, loss(model(x))), rel=1e-12)
    lines = len(flow.layers)
    assert {int(one.split(".")[0]) for one in flow.shares} == set(range(lines))
    for gates in flow.shares.values():
        for values in gates.values():
            assert values.sum() == pytest.approx(1, rel=1e-10)


def test_bias_is_that_of_a_recurrence_cut_after_k_steps():
    """The head looks where it likes; what K steps of the recurrence give up is what is asked."""
    model, x = model_of("rnn", Attention), inputs()
    flow = tt.flow(model, x, loss=squares)
    model.eval()
    h = model.rnn(x)[0].detach().requires_grad_()
    model.rnn.forward = lambda x: (h, None)
    (arriving,) = torch.autograd.grad(squares(model(x)).sum(), h)
    del model.rnn.forward
    W = list(model.rnn.parameters())[:3]

    def gradient(steps):
        """Each arriving gradient goes back over so many steps."""
        total = [torch.zeros_like(p) for p in W]
        for s in range(T):
            begin = max(0, s + 1 - steps)
            state = None if begin == 0 else h[begin - 1 : begin].detach()
            out = model.rnn(x[begin : s + 1], state)[0][-1]
            parts = torch.autograd.grad(out, W, arriving[s])
            total = [a + b for a, b in zip(total, parts, strict=True)]
        return torch.cat([p.flatten() for p in total])

    full = gradient(T)
    for steps in (1, 2, 4):
        expected = float((gradient(steps) - full).norm() / full.norm())
        place = list(flow.bias.steps).index(steps)
        assert flow.bias.relative[place] == pytest.approx(expected, rel=1e-9)


def test_only_some_losses_lags_and_sequences():
    model, x = model_of("lstm-both", Attention), inputs()
    whole = tt.flow(model, x, loss=squares, keep=True)
    some = tt.flow(model, x, loss=squares, keep=True, sequences=2, max_lag=3, sample=4)
    assert some.batch == 2
    assert len(some.ends) == 4
    for number in (0, 1):
        for part in "hc":
            behind = whole.gradients[number][part][some.ends, :4][:, :, [0, 2]]
            before = whole.gradients_ahead[number][part][some.ends, :3][:, :, [0, 2]]
            assert np.allclose(some.gradients[number][part], behind, rtol=1e-10, atol=1e-16)
            assert np.allclose(some.gradients_ahead[number][part], before, rtol=1e-10, atol=1e-16)
    assert np.isnan(some.matrix()).any()


def test_losses_go_back_some_at_a_time(monkeypatch):
    model, x = model_of("gru-both-2", Attention), inputs()
    whole = tt.flow(model, x, loss=squares)
    monkeypatch.setattr("throughtime.gradient_flow.pairs.PAIRS_NUMBERS", 1)
    one_by_one = tt.flow(model, x, loss=squares)
    for number, layer in whole.layers.items():
        for part, norms in layer.norms.items():
            other = one_by_one.layers[number].norms[part]
            assert np.allclose(other, norms, rtol=1e-12, equal_nan=True)


def test_what_float32_cannot_hold_is_scaled():
    """Of a loss at the last step alone, which a mean with weights 0 hides among those of others."""
    torch.manual_seed(0)
    rnn = nn.RNN(1, 2, 2).double()
    with torch.no_grad():
        for name, p in rnn.named_parameters():
            p.copy_(1e-6 * torch.eye(2) if "weight_hh" in name else 0.5 * p)
    x = 0.01 * torch.randn(12, 1, 1).double()
    loss = lambda o: o[0][-1].square().sum() + o[1][0].sum()  # noqa: E731
    exact = tt.flow(rnn, x, loss=loss)
    single = tt.flow(rnn.float(), x.float(), loss=loss)
    for number in (0, 1):
        deep = exact.layers[number].norms["h"][-1]
        assert deep[-1] < 1e-50
        assert np.allclose(single.layers[number].norms["h"][-1], deep, rtol=1e-4)


def test_windows_that_cannot_be_cut_are_refused():
    x = inputs()
    with pytest.raises(ValueError, match=r"k1, k2: expected a run .* got a second direction"):
        tt.flow(model_of("lstm-both"), x, loss=squares, k2=3)
    with pytest.raises(ValueError, match=r"k1, k2: expected a run .* looks at the last state"):
        tt.flow(model_of("lstm", AllStates), x, loss=LOSSES["one number"], k2=3)
    flow = tt.flow(model_of("lstm", Attention), x, loss=squares, k2=3)
    assert 0 < flow.advice.window.relative_bias < 1


def test_the_long_run_of_a_pooled_classifier():
    """Where end points are sampled, the one that there is is never left out."""
    torch.manual_seed(0)
    model = Pooled(nn.LSTM(WIDE, H, bidirectional=True)).double()
    x = torch.randn(1100, 2, WIDE).double()
    flow = tt.flow(model, x, loss=LOSSES["each sequence"], sequences=1, spectrum=False)
    assert list(flow.ends) == [0, 1099]
    assert np.isfinite(flow.layers[0].norms["h"][1]).all()
    assert np.isfinite(flow.layers[1].norms["h"][0]).all()
    last = AtLast(nn.GRU(WIDE, H)).double()
    flow = tt.flow(last, x, loss=LOSSES["each sequence"], spectrum=False)
    assert list(flow.ends) == [1099]
    assert flow.layers[0].norms["h"][0, 0] > 0


def test_text_page_and_json(tmp_path):
    flow = tt.flow(model_of("lstm-both", Attention), inputs(), loss=squares)
    text = str(flow)
    assert "Layer 1 (LSTM, 5 units, backwards)" in text
    assert "losses look ahead: ‖∂E/∂c‖ " in text
    assert "‖∂E/∂c‖ by recurrence" in text
    assert "past a layer's recurrence" in text
    assert max(map(len, text.splitlines())) <= 100
    flow.to_json(tmp_path / "flow.json")
    assert '"ahead"' in (tmp_path / "flow.json").read_text()
    assert flow.top is flow.layers[0]
    matrix = flow.matrix("c", 1)
    assert matrix.shape == (T, T)
    assert (matrix > 0).all()
    own = tt.flow(model_of("lstm-both"), inputs(), loss=squares)
    assert not own.layers[1].recurrent_profile
    assert "past a layer's recurrence" not in str(own)
    own = own.matrix("c", 1)
    assert (own[np.tril_indices(T, -1)] == 0).all()  # nothing of the past reaches it
    assert (own[np.triu_indices(T)] > 0).all()


def test_the_verdict_is_on_the_recurrence():
    """A mean over time hands as much to every step, however soon the recurrence forgets."""
    model = model_of("rnn", Pooled)
    with torch.no_grad():
        model.rnn.weight_hh_l0.copy_(1e-3 * torch.eye(H))
    flow = tt.flow(model, inputs(), loss=LOSSES["each sequence"])
    profile, recurrent = (one["h"] for one in (flow.top.profile, flow.top.recurrent_profile))
    assert profile[-1] > 0.5 * profile[0]
    assert recurrent[1] < 0.01 * recurrent[0]
    assert flow.verdict == "vanishing"
    assert flow.top.decay.falls_at == 1


def test_numbers_of_far_apart_sizes_are_added_up():
    def of(*pairs):
        values, powers = np.array(pairs, np.float32).T
        return Scaled({"h": values[:, None]}, powers.astype(np.int32))

    one = of((1, -300), (1, 5), (0, 7), (3, 2), (1, -300), (0, 0))
    other = of((1, 0), (1, -300), (1, -300), (1, 1), (3, -301), (0, 9))
    found = one + other
    exact = np.ldexp(found.parts["h"][:, 0].astype(float), found.powers)
    assert list(exact) == [1, 32, 2.0**-300, 14, 2.5 * 2.0**-300, 0]
