"""Each probe of `torch_probes` gives with our modules what it gives with torch's, or says why."""

import copy
import re
import warnings

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

import throughtime.torch as ours  # noqa: E402
import torch_probes as probes  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore:torch.ao.quantization is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*isinstance.treespec:FutureWarning"),
]


def answer(probe, model):
    """What the probe gives, or its error."""
    torch.manual_seed(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, of which many probes have some
        try:
            return probe(model)
        except Exception as error:
            return error


def pair(kind="LSTM", **options):
    """A model with torch's module, and its copy with ours."""
    torch.manual_seed(0)
    theirs = probes.Net(kind, **options)
    mine = copy.deepcopy(theirs)
    assert ours.accelerate(mine) == 1
    return theirs, mine


def same(mine, theirs):
    """Asserts that two answers are equal up to rounding."""
    if isinstance(theirs, torch.Tensor):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)
    elif isinstance(theirs, list | tuple):
        assert len(mine) == len(theirs)
        for one, other in zip(mine, theirs, strict=True):
            same(one, other)
    else:
        assert mine == theirs


@pytest.mark.parametrize("name", [one for one in probes.PROBES if one not in probes.LONG_ONES])
def test_as_torchs(name):
    """Where torch's own module fails, ours does, with an error of the same kind."""
    if name in probes.WARNED:
        _, mine = pair()
        with pytest.warns(UserWarning, match=re.escape(probes.WARNED[name])):
            probes.PROBES[name](mine)
        return
    theirs, mine = (answer(probes.PROBES[name], model) for model in pair())
    if name in probes.REFUSED:
        assert isinstance(mine, Exception), mine
        message = str(mine)
        assert probes.REFUSED[name] in message
        assert "\n" not in message
        return
    if isinstance(theirs, Exception):
        assert type(mine) is type(theirs) or name in probes.MORE, mine
        return
    if isinstance(mine, Exception):
        raise mine
    same(mine, theirs)


@pytest.mark.parametrize("kind", ["RNN", "GRU"])
def test_what_torchscript_records_is_torchs_module(kind):
    """Its sizes are not those of the first input, and it holds the weights, not the results."""
    theirs, mine = pair(kind, num_layers=2, bidirectional=True)
    script = probes.traced(probes.frozen(mine))
    same(script(probes.LONG), theirs(probes.LONG))


def test_export_of_any_length():
    """Which torch's own module refuses; the operators take it."""
    _, mine = pair()
    t, b = torch.export.Dim("t"), torch.export.Dim("b")
    shapes = {"x": {0: t, 1: b}}
    found = torch.export.export(mine, (probes.X,), dynamic_shapes=shapes, strict=False)
    same(found.module()(probes.LONG), mine(probes.LONG))


def test_what_only_ours_have_is_recorded_as_operators():
    module = ours.LSTM(probes.I, probes.H, peepholes=True)
    script = probes.traced(module)
    same(script(probes.LONG), module(probes.LONG))


@pytest.mark.parametrize(
    ("what", "ask"),
    [
        ("memory_limit", lambda module: setattr(module, "memory_limit", "1MB")),
        ("taps", lambda module: ours.taps(module).__enter__()),
    ],
)
def test_what_cannot_be_recorded_names_the_way_out(what, ask):
    module = ours.LSTM(probes.I, probes.H)
    ask(module)
    with pytest.raises(RuntimeError, match=rf"^LSTM: {what}: .* throughtime.torch.restore\(model"):
        probes.traced(module)


def test_a_window_cannot_be_recorded():
    module = ours.LSTM(probes.I, probes.H)
    for window in ours.windows(module, probes.X, 2):
        with pytest.raises(RuntimeError, match=r"^LSTM: windows: .* throughtime.torch.restore"):
            probes.traced(module, window.batch)
        break


def test_a_cell_in_numpy_is_not_recorded():
    import throughtime as tt

    module = ours.Recurrent(tt.LSTM(probes.I, probes.H))
    with pytest.raises(
        RuntimeError, match=r"^Recurrent: expected an ordinary call, got one that is"
    ):
        probes.traced(module)


def test_a_backward_pass_that_is_recorded():
    theirs, mine = (model.rnn for model in pair())
    found = []
    for module in (theirs, mine):
        y = module(probes.X)[0]
        back = probes.backward_of(y, module)
        record = probes.make_fx(back)(torch.zeros_like(y))
        found.append(record(y.detach().cos()))
    same(*reversed(found))
