"""Which way a module's call is computed: every row of the two tables, and that it is followed."""

import re
from contextlib import contextmanager, nullcontext

import pytest

torch = pytest.importorskip("torch")

from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

import throughtime as tt  # noqa: E402
import throughtime.torch as ours  # noqa: E402
from throughtime.torch import execution, forward, fused  # noqa: E402
from throughtime.torch.execution import BACKWARD, FORWARD, REQUESTS, call_of, forward_row  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore:Anomaly Detection has been enabled"),
    pytest.mark.filterwarnings("ignore:throughtime.torch.LSTM. the engine computes"),
]

T, B, I, H = 4, 2, 3, 5  # noqa: E741


@contextmanager
def forward_mode(_):
    with torch.autograd.forward_ad.dual_level():
        yield


def counter(_):
    return FlopCounterMode(display=False)


def with_limit(module):
    module.memory_limit = "1MB"
    return nullcontext()


SITUATIONS = {  # what brings a call to each row: its dtype, device, batch, and what holds meanwhile
    "recorded": (torch.float32, "cpu", B, counter),
    "other precision": (torch.bfloat16, "cpu", B, nullcontext),
    "forward mode": (torch.float32, "cpu", B, forward_mode),
    "no numbers": (torch.float32, "meta", B, nullcontext),
    "memory limit": (torch.float32, "cpu", B, with_limit),
    "taps": (torch.float32, "cpu", B, ours.taps),
    "readable engine": (torch.float32, "cpu", B, lambda _: tt.engine("readable")),
    "anomaly detection": (torch.float32, "cpu", B, lambda _: torch.autograd.detect_anomaly(False)),
    "empty batch": (torch.float32, "cpu", 0, nullcontext),
    "ordinary": (torch.float32, "cpu", B, nullcontext),
}
ROWS = dict(zip(SITUATIONS, FORWARD, strict=True))


@contextmanager
def situation(name):
    dtype, device, batch, meanwhile = SITUATIONS[name]
    module = ours.LSTM(I, H, dtype=dtype, device=device)
    with meanwhile(module):
        yield module, torch.ones(T, batch, I, dtype=dtype, device=device)


@pytest.mark.parametrize("name", SITUATIONS)
def test_each_row_decides_about_its_calls(name):
    with situation(name) as (module, x):
        assert forward_row(call_of(module, x)) is ROWS[name]


WAYS = {
    "operators": "operator_direction",
    "reference": "reference_direction",
    "eager": "eager_direction",
    "fused": "fused_call",
}


@pytest.mark.parametrize("name", SITUATIONS)
def test_a_call_goes_the_way_of_its_row(name, monkeypatch):
    gone = set()
    spy(monkeypatch, torch.nn.LSTM, "forward", gone, "fallback")
    for way, function in WAYS.items():
        spy(monkeypatch, forward, function, gone, way)
    with situation(name) as (module, x):
        outputs, _ = module(x)
    assert gone == {ROWS[name].way}
    assert outputs.shape == (T, x.shape[1], H)


def spy(monkeypatch, module, function, gone, way):
    real = getattr(module, function)

    def noted(*args, **kwargs):
        gone.add(way)
        return real(*args, **kwargs)

    monkeypatch.setattr(module, function, noted)


def ask_for(what, module):
    """Asks a module for something that some ways cannot give; returns the call's options."""
    asked = {
        "peepholes=True": ("peepholes", True),
        "reset_after=False": ("reset_after", False),
        "taps": ("_taps", object()),
        "memory_limit": ("memory_limit", "1MB"),
        "windows": ("_carry", object()),
    }
    if what in asked:
        setattr(module, *asked[what])
    return {"states": what == "states=True"}


def refusals():
    return [(name, what) for name, row in ROWS.items() for what in row.refuses]


@pytest.mark.parametrize(("name", "what"), refusals())
def test_what_a_way_cannot_give_is_refused_with_the_reason(name, what):
    row = ROWS[name]
    with situation(name) as (module, x):
        options = ask_for(what, module)
        reason = row.reason.format(place="cpu in bfloat16", memory_limit="1MB")
        message = "^" + re.escape(f"LSTM: {what}: expected {row.expected}, got {reason}")
        with pytest.raises(row.error, match=message):
            module(x, **options)


def test_everything_that_can_be_asked_for_is_refused_somewhere():
    refused = {what for row in (*FORWARD, *BACKWARD) for what in row.refuses}
    assert refused | set(execution.WITHIN_WINDOWS) == set(REQUESTS)


@pytest.mark.parametrize("what", execution.WITHIN_WINDOWS)
def test_what_windows_cannot_give(what):
    module = ours.GRU(I, H)
    x = torch.ones(T, B, I)
    for _ in ours.windows(module, x, 2):
        options = ask_for(what, module)
        if what == "a PackedSequence":
            x = torch.nn.utils.rnn.pack_sequence(list(x.unbind(1)))
        with pytest.raises(RuntimeError, match=f"GRU: {what}: .*, got one within windows"):
            module(x, **options)
        break


def test_a_compiler_gets_operators():
    with situation("ordinary") as (module, x):
        seen = []

        def note(x):
            seen.append(forward_row(call_of(module, x)).way)
            return x

        torch.compile(note, backend="eager")(x)
    assert seen == ["operators"]


BACKWARD_CALLS = {  # how the forward pass went, and what is done about the backward pass
    "create_graph": ("fused", True, nullcontext),
    "recorded": ("fused", False, counter),
    "forward mode": ("fused", False, forward_mode),
    "by direction": ("eager", False, nullcontext),
    "taps afterwards": ("fused", False, ours.taps),
    "ordinary": ("fused", False, nullcontext),
}
BACKWARD_ROWS = dict(zip(BACKWARD_CALLS, BACKWARD, strict=True))


@pytest.mark.parametrize("name", BACKWARD_CALLS)
def test_each_row_decides_about_its_backward_passes(name, monkeypatch):
    way, create_graph, meanwhile = BACKWARD_CALLS[name]
    gone = set()
    for own, function in (
        ("double_backward", "module_gradients"),
        ("eager", "_by_direction"),
        ("fused", "backward"),
    ):
        spy(monkeypatch, fused, function, gone, own)
    module = ours.LSTM(I, H)
    with tt.engine("readable" if way == "eager" else "compiled"):
        outputs, _ = module(torch.ones(T, B, I))
        with meanwhile(module):
            with torch.set_grad_enabled(create_graph):
                row = execution.backward_row(module, way)
            torch.autograd.grad(outputs.sum(), module.weight_hh_l0, create_graph=create_graph)
    assert row is BACKWARD_ROWS[name]
    assert gone == (set() if way == "eager" else {row.way})


def test_the_ways_of_the_tables_are_those_that_are_described():
    ways = {row.way for row in (*FORWARD, *BACKWARD)}
    assert ways == {*WAYS, "fallback", "double_backward"}
    assert all(f"`{way}`" in execution.__doc__ for way in ways)
