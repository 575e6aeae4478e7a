"""The flow in torch models that mix time past the recurrence, and in two directions."""

import numpy as np
import pytest

import throughtime as tt

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


MODELS = (Own, Attention, Causal, Convolved, Above)


def model_of(name, kind=Own, **options):
    torch.manual_seed(3)
    return kind(MODULES[name](**options)).double()


def inputs(seed=1):
    return torch.randn(T, B, WIDE, generator=torch.Generator().manual_seed(seed)).double()


def squares(o):
    """(T, B), with weights that differ."""
    return o.square().sum(-1) * torch.linspace(1, 2, T).double()[:, None]


@pytest.mark.parametrize("kind", MODELS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("name", MODULES)
def test_losses_of_each_step_as_autograd_on_an_unrolled_twin(name, kind):
    model, x = model_of(name, kind), inputs()
    flow = tt.flow(model, x, loss=squares, of="rnn", keep=True)
    outputs, lines = run_unrolled(model, "rnn", x)
    losses = squares(outputs)
    if kind is Own and not model.rnn.bidirectional:
        assert not flow.gradients_ahead  # the fast way
        assert not flow.top.recurrent_profile
        return
    shared(flow, derivatives(losses.sum(1), lines), lambda layer: range(T))
    assert flow.loss == pytest.approx(float(losses.detach().sum()), rel=1e-12)
