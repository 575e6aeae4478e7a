"""Torch's recurrent modules beside ours with the same weights, and what is asked of both."""

from __future__ import annotations

import torch

import throughtime.torch as ours

torch.set_num_threads(1)  # small examples: a second thread only waits

T, B, I, H, P = 6, 3, 4, 5, 3  # noqa: E741
KINDS = {
    "RNN tanh": ("RNN", {}),
    "RNN relu": ("RNN", {"nonlinearity": "relu"}),
    "LSTM": ("LSTM", {}),
    "LSTM projection": ("LSTM", {"proj_size": P}),
    "GRU": ("GRU", {}),
}


def pair(kind, dtype=torch.float64, **options):
    """Torch's module and ours, with the same weights."""
    name, own = KINDS[kind]
    torch.manual_seed(0)
    theirs = getattr(torch.nn, name)(I, H, **own, **options).to(dtype)
    mine = getattr(ours, name)(I, H, **own, **options).to(dtype)
    mine.load_state_dict(theirs.state_dict())
    return theirs, mine


def inputs(module, batched=True):
    """Inputs in the form that the module wants, and an initial state."""
    generator = torch.Generator().manual_seed(1)
    dtype = module.weight_ih_l0.dtype

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=dtype)

    sides = module.num_layers * (1 + module.bidirectional)
    x = normal(B, T, I) if module.batch_first else normal(T, B, I)
    sizes = [module.proj_size or module.hidden_size]
    sizes += [module.hidden_size] if module.mode == "LSTM" else []
    state = [normal(sides, B, size) for size in sizes]
    if batched:
        return x, state
    return x.select(0 if module.batch_first else 1, 0), [part[:, 0] for part in state]


def everything(module, x, state=(), lengths=None, enforce_sorted=True):
    """Outputs, final state, and all gradients, by name."""
    x = x.detach().requires_grad_()
    state = [part.detach().requires_grad_() for part in state]
    given = x
    if lengths is not None:
        given = torch.nn.utils.rnn.pack_padded_sequence(
            x, lengths, batch_first=module.batch_first, enforce_sorted=enforce_sorted
        )
    hx = None if not state else tuple(state) if len(state) > 1 else state[0]
    torch.manual_seed(2)  # of dropout
    outputs, final = module(given, hx)
    rows = outputs if lengths is None else outputs.data
    final = final if isinstance(final, tuple) else (final,)
    weights = torch.arange(rows.numel(), dtype=rows.dtype).cos().view(rows.shape)
    loss = (rows * weights).sum() + sum((part**2).sum() for part in final)
    module.zero_grad()
    loss.backward()
    found = {"outputs": rows.detach(), "gradient of inputs": x.grad}
    for k, part in enumerate(final):
        found[f"final state {k}"] = part.detach()
    for k, part in enumerate(state):
        found[f"gradient of initial state {k}"] = part.grad
    found |= {f"gradient of {n}": p.grad for n, p in module.named_parameters()}
    return found


def compare(oracle, mine, theirs, **options):
    """Asserts that all are equal up to rounding."""
    assert mine.keys() == theirs.keys()
    for name, truth in theirs.items():
        if truth is None:
            assert mine[name] is None, name
            continue
        assert mine[name].shape == truth.shape, name
        assert mine[name].dtype == truth.dtype, name
        oracle(name, mine[name], truth, **options)
