"""The flow of a recurrence that a model steps in a loop of its own, against torch's autograd."""

import numpy as np
import pytest

import throughtime as tt

torch = pytest.importorskip("torch", reason="torch is not installed")
nn = torch.nn

T, B, WIDE, H = 7, 3, 4, 5


class Loop(nn.Module):
    """A model with a loop of its own; `nodes` has h and c of every step and layer."""

    def __init__(self, rnn):
        super().__init__()
        self.rnn, self.nodes = rnn, []

    def step(self, x, state):
        if isinstance(self.rnn, nn.RNNBase):
            return self.rnn(x, state)
        state = self.rnn(x, state)
        parts = state if isinstance(state, tuple) else (state,)
        self.nodes.append([parts])
        return parts[0], state

    def forward(self, x):
        self.nodes = []
        return self.loop(x)


class Plain(Loop):
    """No more than the loop."""

    def loop(self, x):
        state, outputs = None, []
        for x_t in x:
            h, state = self.step(x_t, state)
            outputs.append(h)
        return torch.stack(outputs)


class Attends(Loop):
    """A decoder whose input is its own attention over an encoding, asked by h and by c (DA-RNN)."""

    def __init__(self, rnn):
        super().__init__(rnn)
        self.ask, self.head = nn.Linear(2 * H, 2), nn.Linear(H, WIDE)

    def loop(self, x):
        h, c = x.new_zeros(2, x.shape[1], H)
        y, outputs = x[0], []
        for _ in range(T):
            weights = torch.softmax(
                torch.einsum("tbi,bi->tb", x[..., :2], self.ask(torch.cat([h, c], dim=1))), 0
            )
            context = torch.einsum("tb,tbi->bi", weights, x)
            h, (h, c) = self.step(y + context, (h, c))
            y = self.head(h)
            outputs.append(y)
        return torch.stack(outputs)


class FeedsBack(Loop):
    """An `nn.LSTM` of two layers, called once a step, batch first; its output is its input."""

    def __init__(self, rnn):
        super().__init__(rnn)
        self.head = nn.Linear(H, WIDE)

    def loop(self, x):
        state, y, outputs = None, x[:, :1], []
        for _ in range(T):
            out, state = self.step(y, state)
            y = self.head(out)
            outputs.append(y)
        return torch.cat(outputs, dim=1)


class Cells(FeedsBack):
    """The same model with a cell for each layer, whose states are nodes of their own."""

    def __init__(self, model):
        super().__init__(model.rnn)
        self.head, rnn = model.head, model.rnn
        kind = nn.LSTMCell if rnn.mode == "LSTM" else nn.GRUCell
        self.cells = [kind(WIDE if not n else H, H).double() for n in range(rnn.num_layers)]
        for n, cell in enumerate(self.cells):
            for name, parameter in cell.named_parameters():
                parameter.data.copy_(getattr(rnn, f"{name}_l{n}"))

    def step(self, x, state):
        x, after = x[:, 0], []
        for cell, own in zip(self.cells, state or [None] * len(self.cells), strict=True):
            own = cell(x, own)
            after.append(own if isinstance(own, tuple) else (own,))
            x = after[-1][0]
        self.nodes.append(after)
        return x[:, None], [one if len(one) > 1 else one[0] for one in after]


def derivatives(losses, nodes):
    """∂E_t/∂s_k for all k: layer, part -> (T, T, B, ·)."""
    tensors = [part for one in nodes for layer in one for part in layer]
    found = [{} for _ in nodes[0]]
    for t, loss in enumerate(losses):
        each = iter(torch.autograd.grad(loss, tensors, retain_graph=True, allow_unused=True))
        for k, one in enumerate(nodes):
            for layer, parts in enumerate(one):
                for name, tensor in zip("hc", parts, strict=False):
                    gradient = next(each)
                    shape = (len(losses), len(nodes), *tensor.shape)
                    own = found[layer].setdefault(name, np.zeros(shape))
                    if gradient is not None:
                        own[t, k] = gradient.numpy()
    return found


def same(flow, expected, tolerance=1e-10):
    for number, parts in enumerate(expected):
        for part, gradient in parts.items():
            size = np.abs(gradient).max()
            assert size > 0
            for t in range(len(gradient)):
                for k in range(t + 1):
                    own = flow.gradients[number][part][t, t - k]
                    assert np.abs(own - gradient[t, k]).max() <= tolerance * size, (part, t, k)


MODELS = {
    "LSTMCell": (lambda: Plain(nn.LSTMCell(WIDE, H)), False),
    "GRUCell": (lambda: Plain(nn.GRUCell(WIDE, H)), False),
    "RNNCell": (lambda: Plain(nn.RNNCell(WIDE, H, nonlinearity="relu")), False),
    "without-bias": (lambda: Plain(nn.LSTMCell(WIDE, H, bias=False)), False),
    "attention": (lambda: Attends(nn.LSTMCell(WIDE, H)), False),
    "LSTM": (lambda: FeedsBack(nn.LSTM(WIDE, H, 2, batch_first=True)), True),
    "GRU": (lambda: FeedsBack(nn.GRU(WIDE, H, batch_first=True)), True),
    "ours": (lambda: FeedsBack(tt.torch.LSTM(WIDE, H, 2, batch_first=True)), True),
}


@pytest.mark.parametrize("name", MODELS)
def test_as_autograd_through_the_models_own_loop(name):
    make, batch_first = MODELS[name]
    torch.manual_seed(0)
    model, x = make().double(), torch.randn(T, B, WIDE).double()
    x = x.transpose(0, 1) if batch_first else x
    flow = tt.flow(model, x, loss=lambda o: o.square().sum(-1), keep=True)
    twin = Cells(model) if batch_first else model
    losses = twin.eval()(x).square().sum(-1).sum(0 if batch_first else 1)
    same(flow, derivatives(losses, twin.nodes))
    assert flow.loss == pytest.approx(float(losses.detach().sum()), rel=1e-12)
    assert any("in a loop of its own, 7 steps" in note for note in flow.notes)
    assert "forward" not in vars(model.rnn)


def test_the_same_as_all_steps_in_one_call():
    torch.manual_seed(0)
    cell, whole = nn.LSTMCell(WIDE, H).double(), nn.LSTM(WIDE, H).double()
    whole.load_state_dict({f"{name}_l0": one for name, one in cell.state_dict().items()})
    x = torch.randn(T, B, WIDE).double()
    stepped = tt.flow(Plain(cell), x, loss=lambda o: o.square().sum(-1), k2=3)
    once = tt.flow(whole, x, loss=lambda o: o[0].square().sum(-1), k2=3)
    assert np.allclose(stepped.lag_norms, once.lag_norms, rtol=1e-12)
    assert np.allclose(stepped.carousel_share, once.carousel_share, rtol=1e-10)
    assert stepped.gradient_norm == pytest.approx(once.gradient_norm, rel=1e-12)
    assert stepped.advice.window.relative_bias == pytest.approx(once.advice.window.relative_bias)


class Episodes(Loop):
    """A policy whose state is reset where an episode ends."""

    def __init__(self, rnn, done):
        super().__init__(rnn)
        self.done = done

    def loop(self, x):
        state, outputs = x.new_zeros(x.shape[1], H), []
        for x_t, done in zip(x, self.done, strict=True):
            h, state = self.step(x_t, state * (1 - done)[:, None])
            outputs.append(h)
        return torch.stack(outputs)


def test_a_new_sequence_starts_where_the_state_is_reset():
    torch.manual_seed(0)
    cell, x = nn.GRUCell(WIDE, H).double(), torch.randn(T, B, WIDE).double()
    done = torch.zeros(T, B).double()
    done[3, 1] = done[5, 0] = done[5, 1] = 1
    flow = tt.flow(Episodes(cell, done), x, loss=lambda o: o.square().sum(-1), keep=True)
    runs = [(0, 0, 5), (1, 0, 3), (2, 0, 7), (1, 3, 5), (0, 5, 7), (1, 5, 7)]  # row, from, to
    assert flow.batch == len(runs)
    for number, (row, first, end) in enumerate(runs):
        one = x[first:end, row : row + 1]
        alone = tt.flow(Plain(cell), one, loss=lambda o: o.square().sum(-1), keep=True)
        count = end - first
        own = flow.gradients[0]["h"][:count, :count, number]
        assert np.allclose(own, alone.gradients[0]["h"][:, :, 0], rtol=1e-12, atol=1e-14)
    assert any("at step 3, 5 of the run: 3 rows make up 6 sequences" in n for n in flow.notes)


def test_a_detached_state_starts_a_new_sequence():
    class Windows(Plain):
        def loop(self, x):
            state, outputs = None, []
            for t, x_t in enumerate(x):
                state = state.detach() if t in (2, 4) else state
                h, state = self.step(x_t, state)
                outputs.append(h)
            return torch.stack(outputs)

    torch.manual_seed(0)
    x = torch.randn(T, B, WIDE).double()
    flow = tt.flow(Windows(nn.GRUCell(WIDE, H).double()), x, loss=lambda o: o.square().sum(-1))
    assert (flow.steps, flow.batch) == (3, 9)


def test_a_batch_that_shrinks_as_its_captions_end():
    """The loss is (steps, rows), with entries that no step of the module stands behind."""
    lengths = [7, 5, 2]

    class Captions(Loop):
        def __init__(self, rnn):
            super().__init__(rnn)
            self.head = nn.Linear(H, 1)

        def loop(self, x):
            h, c = x.new_zeros(2, B, H)
            found = []
            for t in range(T):
                n = sum(one > t for one in lengths)
                h, (h, c) = self.step(x[t, :n], (h[:n], c[:n]))
                found.append(nn.functional.pad(self.head(h)[:, 0], (0, B - n)))
            return torch.stack(found)

    torch.manual_seed(0)
    model, x = Captions(nn.LSTMCell(WIDE, H)).double(), torch.randn(T, B, WIDE).double()
    flow = tt.flow(model, x, loss=lambda o: o.square(), keep=True)
    for row, count in enumerate(lengths):
        alone = Plain(model.rnn)
        only = x[:count, row : row + 1]
        head = model.head
        one = tt.flow(alone, only, loss=lambda o: head(o).square().sum(-1), keep=True)  # noqa: B023
        own = flow.gradients[0]["c"][:count, :count, row]
        assert np.allclose(own, one.gradients[0]["c"][:, :, 0], rtol=1e-10, atol=1e-14)
    assert flow.batch == B


@pytest.mark.parametrize("sizes", [(3, 1, 3), (1, 4, 2)])
def test_calls_of_several_steps(sizes):
    class Pieces(Loop):
        def loop(self, x):
            state, outputs = None, []
            for piece in x.split(sizes):
                out, state = self.rnn(piece, state)
                outputs.append(out)
            return torch.cat(outputs)

    torch.manual_seed(0)
    rnn, x = nn.LSTM(WIDE, H, 2).double(), torch.randn(T, B, WIDE).double()
    flow = tt.flow(Pieces(rnn), x, loss=lambda o: o.square().sum(-1), keep=True)
    once = tt.flow(rnn, x, loss=lambda o: o[0].square().sum(-1), keep=True)
    assert any("7 steps in 3 calls" in note for note in flow.notes)
    for number in (0, 1):
        for part in "hc":
            own, whole = flow.gradients[number][part], once.gradients[number][part]
            assert np.abs(own - whole).max() <= 1e-12 * np.abs(whole).max()


class TwoCells(nn.Module):
    def __init__(self):
        super().__init__()
        self.lower, self.upper = nn.LSTMCell(WIDE, H), nn.GRUCell(H, H)

    def forward(self, x):
        low, high, outputs = None, None, []
        for x_t in x:
            low = self.lower(x_t, low)
            high = self.upper(low[0], high)
            outputs.append(high)
        return torch.stack(outputs)


def test_of_two_cells_the_upper_one_unless_named():
    torch.manual_seed(0)
    model, x = TwoCells().double(), torch.randn(T, B, WIDE).double()
    loss = lambda o: o.square().sum(-1)  # noqa: E731
    assert tt.flow(model, x, loss=loss).top.kind == "GRU"
    lower = tt.flow(model, x, loss=loss, of="lower")
    assert lower.top.kind == "LSTM"
    assert any("past a layer's recurrence" in note for note in lower.notes)


def test_one_sequence_without_a_batch_axis():
    torch.manual_seed(0)
    cell, x = nn.LSTMCell(WIDE, H).double(), torch.randn(T, WIDE).double()
    alone = tt.flow(Plain(cell), x, loss=lambda o: o.square().sum(-1), keep=True)
    beside = tt.flow(Plain(cell), x[:, None], loss=lambda o: o.square().sum(-1), keep=True)
    assert np.allclose(alone.gradients[0]["c"], beside.gradients[0]["c"], rtol=1e-14)


def test_sampling_models_run_with_the_same_numbers_and_are_left_as_they_were():
    class Samples(FeedsBack):
        def loop(self, x):
            warm, state = self.step(x[:, :2], None)
            y, outputs = self.head(warm[:, -1:]), [self.head(warm)]
            for _ in range(T - 2):
                out, state = self.step(y + torch.randn_like(y), state)
                y = self.head(out)
                outputs.append(y)
            return torch.cat(outputs, dim=1)

    torch.manual_seed(0)
    model, x = Samples(nn.GRU(WIDE, H, batch_first=True)), torch.randn(B, T, WIDE)
    before = torch.get_rng_state()
    first = tt.flow(model, x, loss=lambda o: o.square().sum(-1))
    assert (torch.get_rng_state() == before).all()
    assert model.training
    assert first.steps == T
    again = tt.flow(model, x, loss=lambda o: o.square().sum(-1))
    assert np.array_equal(first.lag_norms, again.lag_norms)


def test_where_no_state_is_handed_on():
    class Dropped(Plain):
        def loop(self, x):
            state, outputs = x.new_zeros(B, H), []
            for x_t in x:
                h, state = self.step(x_t, state * 0.9)
                outputs.append(h)
            return torch.stack(outputs)

    class Once(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell = nn.LSTMCell(WIDE, H)

        def forward(self, x):
            return self.cell(x)[0]

    x, loss = torch.randn(T, B, WIDE), lambda o: o.sum(-1)
    message = r"`rnn` \(GRUCell\): expected a state that is handed in as it was handed out .* got "
    with pytest.raises(ValueError, match=message + "none in 7 steps; what is done to the state"):
        tt.flow(Dropped(nn.GRUCell(WIDE, H)), x, loss=loss)
    with pytest.raises(ValueError, match="got none in 1 steps; give a model whose forward method"):
        tt.flow(Once(), x[0], loss=loss)
    both = Plain(nn.GRU(WIDE, H, bidirectional=True))
    with pytest.raises(ValueError, match="expected one call, of a module that runs both ways"):
        tt.flow(both, x[:, None], loss=lambda o: o.sum((1, 2, 3)))


def test_losses_that_fit_no_step_say_how_many_there_are():
    with pytest.raises(ValueError, match=r"for T = 7 and B = 3, got shape \(6, 3\)"):
        tt.flow(Plain(nn.GRUCell(WIDE, H)), torch.randn(T, B, WIDE), loss=lambda o: o[1:].sum(-1))


def test_the_first_value_that_is_not_finite():
    torch.manual_seed(0)
    model, x = Plain(nn.GRUCell(WIDE, H)), torch.zeros(T, B, WIDE)
    with torch.no_grad():
        model.rnn.weight_ih[H + 1, 2] = 1e38  # gate z, unit 1
    x[4, 2, 2] = 10
    found = tt.first_nonfinite(model, x, loss=lambda o: o.square().mean())
    assert found.where == "`rnn` (GRUCell)"
    assert (found.step, found.sequence, found.gate, found.unit) == (4, 2, "z", 1)


def test_what_a_step_receives_from_the_one_before_it():
    """The lower cell fails first, at step 3; what follows from that is not named."""
    torch.manual_seed(0)
    model, x = TwoCells(), torch.zeros(T, B, WIDE)
    with torch.no_grad():
        model.lower.weight_ih[0, 0] = 1e38
    x[3, 1, 0] = 100
    found = tt.first_nonfinite(model, x, loss=lambda o: o.square().mean())
    assert (found.where, found.step, found.sequence) == ("`lower` (LSTMCell)", 3, 1)

    class Divides(Plain):
        def loop(self, x):
            state, outputs = None, []
            for t, x_t in enumerate(x):
                h, state = self.step(x_t / (t != 2), state)
                outputs.append(h)
            return torch.stack(outputs)

    found = tt.first_nonfinite(Divides(nn.GRUCell(WIDE, H)), torch.ones(T, B, WIDE))
    assert (found.where, found.step) == ("given to `rnn` (GRUCell)", 2)


def test_the_way_back_through_the_loop():
    rnn = nn.RNNCell(1, 2)
    with torch.no_grad():
        for parameter in rnn.parameters():
            parameter.zero_()
        rnn.weight_hh.copy_(1e20 * torch.eye(2))
    found = tt.first_nonfinite(Plain(rnn), torch.zeros(T, B, 1), loss=lambda o: o[-1].sum())
    assert (found.where, found.quantity, found.step) == ("`rnn` (RNNCell)", "δh", T - 3)
    model = Plain(nn.LSTMCell(WIDE, H))
    loss = lambda o: (o[1, 2] - o[1, 2].detach()).abs().sqrt().sum()  # noqa: E731
    found = tt.first_nonfinite(model, torch.randn(T, B, WIDE), loss=loss)
    assert (found.quantity, found.step, found.sequence) == ("∂L/∂output", 1, 2)
