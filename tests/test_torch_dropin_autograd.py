"""throughtime.torch's modules under torch's machinery: compilers, transforms, autocast, DDP."""

import contextlib
import copy
import subprocess
import sys
import textwrap

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

import throughtime as tt  # noqa: E402
import throughtime.torch as ours  # noqa: E402
from dropin_examples import KINDS, B, H, I, T, everything, inputs, pair  # noqa: E402
from throughtime import _engine  # noqa: E402
from throughtime.network.bfloat16 import nearest_bfloat16  # noqa: E402
from throughtime.torch import operators  # noqa: E402

ALL = {
    "RNN": lambda: ours.RNN(2, 2, nonlinearity="tanh"),
    "LSTM": lambda: ours.LSTM(2, 3, 2, bidirectional=True, proj_size=2),
    "LSTM peepholes": lambda: ours.LSTM(2, 2, peepholes=True),
    "GRU": lambda: ours.GRU(2, 2, bias=False),
    "original GRU": lambda: ours.GRU(2, 2, reset_after=False),
}


def as_function(module):
    """A function of inputs and parameters, and these."""
    torch.manual_seed(0)
    module.double().reset_parameters()
    names = [name for name, _ in module.named_parameters()]
    x = torch.randn(3, 2, 2, dtype=torch.float64, requires_grad=True)

    def outputs(x, *parameters):
        named = dict(zip(names, parameters, strict=True))
        return torch.func.functional_call(module, named, (x,))[0]

    return outputs, (x, *module.parameters())


@pytest.mark.parametrize("kind", ALL)
def test_first_and_second_derivatives(kind):
    function, given = as_function(ALL[kind]())
    assert torch.autograd.gradcheck(function, given, fast_mode=True)
    assert torch.autograd.gradgradcheck(function, given, fast_mode=True)


def test_second_derivatives_where_inputs_depend_on_each_other(oracle):
    """The state is a function of the inputs, which must not count twice."""
    found = []
    for module in pair("LSTM"):
        x = inputs(module)[0].requires_grad_()
        state = (x[:1, :, :1].expand(1, B, H), x[:1, :, 1:2].expand(1, B, H).tanh())
        y, _ = module(x, state)
        (dx,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
        dx.square().sum().backward()
        found.append([dx.detach(), x.grad, *(p.grad for p in module.parameters())])
    for truth, mine in zip(*found, strict=True):
        oracle("second derivative", mine, truth)


def test_second_derivatives_of_a_packed_sequence(oracle):
    found = []
    for module in pair("GRU", bidirectional=True):
        x = inputs(module)[0].requires_grad_()
        packed = torch.nn.utils.rnn.pack_padded_sequence(x, [3, 6, 1], enforce_sorted=False)
        y = module(packed)[0].data
        (dx,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
        dx.square().sum().backward()
        found.append([dx.detach(), x.grad, *(p.grad for p in module.parameters())])
    for truth, mine in zip(*found, strict=True):
        oracle("second derivative", mine, truth)


def test_torch_checkpoint_runs_the_forward_pass_again(oracle):
    theirs, mine = pair("GRU")
    x, _ = inputs(mine)
    y = torch.utils.checkpoint.checkpoint(lambda x: mine(x)[0], x, use_reentrant=False)
    y.square().sum().backward()
    theirs(x)[0].square().sum().backward()
    oracle("gradient", mine.weight_hh_l0.grad, theirs.weight_hh_l0.grad)


# --- registered operators ---


def operands(kind, sizes=None, reverse=False):
    module = ALL[kind]().double()
    W, U = module.weight_ih_l0.detach(), module.weight_hh_l0.detach()
    torch.manual_seed(0)
    lstm, H = module.mode == "LSTM", module.hidden_size
    x, h = torch.randn(3, 2, 2).double(), torch.randn(2, U.shape[1]).double()
    given = [
        x,
        h,
        torch.randn(2, H).double() if lstm else None,
        W,
        U,
        torch.randn(len(W)).double(),
        torch.randn(H).double() if module.mode == "GRU" and module.reset_after else None,
        module.weight_hr_l0.detach() if module.proj_size else None,
        module.weight_peephole_l0.detach() if module.peepholes else None,
    ]
    if sizes is not None:
        given[0] = torch.randn(sum(sizes), 2).double()
        sizes = torch.tensor(sizes)
    given = [None if t is None else t.clone().requires_grad_() for t in given]
    return *given, sizes, module.mode, module.reset_after, reverse


ORDERS = {
    "steps": {},
    "rows": {"sizes": [2, 1, 1]},
    "rows of one length": {"sizes": [2, 2]},
    "rows backwards": {"sizes": [2, 2, 1], "reverse": True},
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("kind", ALL)
def test_the_operators_pass_torchs_own_check(kind, order):
    given = operands(kind, **ORDERS[order])
    torch.library.opcheck(operators.recurrence, given)
    with torch.no_grad():
        every_h, last_c, every_c, inner, rows = operators.recurrence(*given)
    dc = torch.ones_like(last_c) if given[2] is not None else None
    drows = None if order == "steps" else torch.ones_like(rows)
    tape = (torch.ones_like(every_h), dc, drows, every_h, every_c, inner)
    tests = () if order == "steps" else ("test_schema", "test_faketensor")
    options = {"test_utils": tests} if tests else {}  # of rows there is no second derivative
    torch.library.opcheck(operators.recurrence_backward, (*tape, *given), **options)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("kind", ALL)
def test_the_operators_derivatives(kind, order):
    *tensors, sizes, mode, reset_after, reverse = operands(kind, **ORDERS[order])
    there = [t for t in tensors if t is not None]

    def function(*given):
        rest = iter(given)
        full = [None if t is None else next(rest) for t in tensors]
        every_h, last_c, _, _, rows = operators.recurrence(*full, sizes, mode, reset_after, reverse)
        found = (every_h, last_c) if tensors[2] is not None else (every_h,)
        return found if sizes is None else (*found, rows)

    assert torch.autograd.gradcheck(function, there, fast_mode=True)
    if sizes is None:
        assert torch.autograd.gradgradcheck(function, there, fast_mode=True)
        return
    with pytest.raises(RuntimeError, match="no further derivative of a PackedSequence, got one"):
        torch.autograd.gradgradcheck(function, there, fast_mode=True)


# --- compilers ---


@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated")  # torch's own use
@pytest.mark.parametrize(
    ("kind", "backend"),
    [("LSTM projection", "aot_eager"), ("GRU", "aot_eager"), ("LSTM", "inductor")],
)
def test_compile_traces_all_of_it(kind, backend, oracle):
    _, mine = pair(kind, num_layers=2, bidirectional=True, batch_first=True)
    model = torch.nn.ModuleDict({"rnn": mine})

    def forward(x, *state):
        y, final = model["rnn"](x, tuple(state) if len(state) > 1 else state[0])
        return torch.relu(y) * 2, final

    compiled = torch.compile(forward, fullgraph=True, backend=backend)
    x, state = inputs(mine)
    results = []
    for function in (forward, compiled):
        mine.zero_grad()
        own = x.clone().requires_grad_()
        y, final = function(own, *state)
        (y.square().sum() + sum(part.sum() for part in final)).backward()
        results.append([y.detach(), own.grad, *(p.grad for p in mine.parameters())])
    for plain, traced in zip(*results, strict=True):
        oracle("compiled", traced, plain)


def test_shapes_without_numbers():
    with torch.device("meta"):
        mine = ours.LSTM(I, H, 2, bidirectional=True, proj_size=2)
        y, (h, c) = mine(torch.empty(T, B, I))
    assert (y.shape, h.shape, c.shape) == ((T, B, 4), (4, B, 2), (4, B, H))
    assert y.is_meta


@pytest.mark.parametrize("state", ["zeros", "given"])
def test_compile_traces_a_packed_sequence(state, oracle):
    """Both directions, sequences that were not sorted, states of every step."""
    _, mine = pair("LSTM", num_layers=2, bidirectional=True)
    x, hx = inputs(mine)
    pack = torch.nn.utils.rnn.pack_padded_sequence
    packed = pack(x, [3, 6, 1], enforce_sorted=False)
    hx = tuple(hx) if state == "given" else None

    def forward(packed, hx):
        y, (h, c), layers = mine(packed, hx, states=True)
        last = layers[1].reverse
        return y.data, h, c, layers[0].h, last.c, last.gates["f"]

    compiled = torch.compile(forward, fullgraph=True, backend="aot_eager")
    results = []
    for function in (forward, compiled):
        mine.zero_grad()
        found = function(packed, hx)
        sum(t.square().sum() for t in found[:3]).backward()
        results.append([t.detach() for t in found] + [p.grad for p in mine.parameters()])
    for plain, traced in zip(*results, strict=True):
        oracle("compiled", traced, plain)


def test_compiled_states_of_another_batch_are_refused():
    mine = ours.GRU(I, H)
    pack = torch.nn.utils.rnn.pack_padded_sequence
    packed = pack(torch.zeros(T, B, I), [6, 3, 1])
    compiled = torch.compile(lambda p, h: mine(p, h)[1], fullgraph=True, backend="aot_eager")
    with pytest.raises(RuntimeError, match="as many sequences as the first step has, 3, got 2"):
        compiled(packed, torch.zeros(1, 2, H))


def test_what_a_traced_graph_cannot_give():
    mine = ours.GRU(I, H).to("meta")
    x = torch.randn(T, B, I, device="meta")
    message = "GRU: {}: expected an ordinary call, got one in a traced graph"
    with ours.taps(mine), pytest.raises(RuntimeError, match=message.format("taps")):
        mine(x)
    mine.memory_limit = "1MB"
    with pytest.raises(RuntimeError, match=message.format("memory_limit")):
        mine(x)


# --- transforms ---


PACKED = {"lengths": [3, 6, 1], "enforce_sorted": False}


def rows_of(module, x, lengths=None, **options):
    given = x
    if lengths is not None:
        given = torch.nn.utils.rnn.pack_padded_sequence(x, lengths, **options)
    y = module(given)[0]
    return y if lengths is None else y.data


@pytest.mark.parametrize("limit", [None, "1MB"])
@pytest.mark.parametrize("lengths", [{}, PACKED], ids=["equal", "packed"])
@pytest.mark.parametrize("kind", ["LSTM projection", "GRU"])
def test_many_gradients_as_one(kind, lengths, limit, oracle):
    """`is_grads_batched=True`, as `jacobian(vectorize=True)` and gradcheck use it."""
    found = []
    for module in pair(kind, num_layers=2, bidirectional=True):
        if hasattr(module, "memory_limit"):
            module.memory_limit = limit
        x = inputs(module)[0].requires_grad_()
        y = rows_of(module, x, **lengths)
        upstream = torch.randn(3, *y.shape, generator=torch.Generator().manual_seed(3)).double()
        given = [x, *module.parameters()]
        found.append(torch.autograd.grad(y, given, upstream, is_grads_batched=True))
    for theirs, mine in zip(*found, strict=True):
        oracle("batched", mine.detach(), theirs.detach())


def test_many_gradients_have_no_taps():
    mine = ours.GRU(I, H)
    y = mine(torch.zeros(T, B, I))[0]
    with ours.taps(mine), pytest.raises(RuntimeError, match=r"GRU: taps: .* is_grads_batched=True"):
        torch.autograd.grad(y, mine.weight_hh_l0, torch.ones(2, *y.shape), is_grads_batched=True)


def test_the_operators_have_a_rule_for_vmap(oracle):
    mine = ours.LSTM(I, H, peepholes=True).double()
    parameters = [p.detach() for p in mine.parameters()]
    W, U, b, cb, p = parameters
    xs = torch.randn(2, T, B, I, dtype=torch.float64)
    h, c = torch.zeros(2, B, H, dtype=torch.float64)

    def run(x):
        return operators.recurrence(x, h, c, W, U, b + cb, None, None, p, None, "LSTM", True, False)

    for found, each in zip(torch.vmap(run)(xs), zip(*map(run, xs), strict=True), strict=True):
        oracle("vmap", found, torch.stack(each))


def test_a_compiler_that_was_reset_traces_subclasses_too(oracle):
    class Scaled(torch.nn.LSTM):
        def forward(self, x):
            return super().forward(2 * x)

    theirs = Scaled(I, H).double()
    mine = copy.deepcopy(theirs)
    ours.accelerate(mine)
    x = torch.randn(T, B, I, dtype=torch.float64)
    torch._dynamo.reset()
    compiled = torch.compile(mine, fullgraph=True, backend="eager")
    oracle("compiled", compiled(x)[0].detach(), theirs(x)[0].detach())
    with pytest.raises(Exception, match="Attempted to wrap RNN, GRU, or LSTM"):  # torch's own
        torch.compile(theirs, fullgraph=True, backend="eager")(x)


@pytest.mark.parametrize("kind", KINDS)
def test_vmap_and_grad(kind, oracle):
    theirs, mine = pair(kind)
    xs = torch.randn(4, T, B, I, dtype=torch.float64)
    ys = torch.func.vmap(lambda x: mine(x)[0])(xs)
    oracle("vmap", ys.detach(), torch.stack([theirs(x)[0] for x in xs]).detach())
    parameters = {name: p.detach() for name, p in mine.named_parameters()}

    def loss(parameters, x):
        return torch.func.functional_call(mine, parameters, (x,))[0].square().sum()

    found = torch.func.vmap(torch.func.grad(loss), (None, 0))(parameters, xs)
    for k, x in enumerate(xs):
        theirs.zero_grad()
        theirs(x)[0].square().sum().backward()
        for name, parameter in theirs.named_parameters():
            oracle(name, found[name][k], parameter.grad)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")
def test_forward_mode(oracle):
    _, mine = pair("LSTM")
    x, _ = inputs(mine)
    v = torch.randn_like(x)
    _, found = torch.func.jvp(lambda x: mine(x)[0], (x,), (v,))
    step = 1e-6
    numerical = (mine(x + step * v)[0] - mine(x - step * v)[0]) / (2 * step)
    oracle("jvp", found.detach(), numerical.detach(), bound=1e-8)
    with pytest.raises(RuntimeError, match="states=True: expected an ordinary call"):
        torch.func.vmap(lambda x: mine(x, states=True)[0])(x[None])


# --- modes ---


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("low", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("lengths", [None, [6, 3, 1]])
@pytest.mark.parametrize("kind", KINDS)
def test_autocast_rounds_to_the_precision_that_torchs_have(kind, lengths, low):
    """Of outputs and state; products in bfloat16 apart, all is in the weights' precision."""
    in_bfloat16 = low is torch.bfloat16 and _engine.bfloat16()
    theirs, mine = pair(kind, dtype=torch.float32)
    x, state = inputs(mine)
    for inner in (torch.float32, low):
        for carried in (None, torch.float32, low):
            results = []
            for module in (theirs, mine):
                given = x.to(inner)
                if lengths:
                    given = torch.nn.utils.rnn.pack_padded_sequence(given, lengths)
                hx = None
                if carried is not None:
                    hx = tuple(part.to(carried) for part in state)
                    hx = hx if len(hx) > 1 else hx[0]
                with torch.autocast("cpu", dtype=low):
                    try:
                        y, final = module(given, hx)
                    except RuntimeError as problem:  # of processors without that precision
                        if module is mine or "create a primitive descriptor" not in str(problem):
                            raise
                        y, final = torch.empty(0, dtype=low), (torch.empty(0, dtype=low),) * 2
                final = final if isinstance(final, tuple) else (final,)
                results.append([y.data if lengths else y, *final])
            where = (inner, carried)
            assert [t.dtype for t in results[1]] == [t.dtype for t in results[0]], where
            full = mine.float()
            hx = None if carried is None else tuple(part.to(carried).float() for part in state)
            hx = hx[0] if hx and len(hx) == 1 else hx
            exact = x.to(inner).float()
            if lengths:
                exact = torch.nn.utils.rnn.pack_padded_sequence(exact, lengths)
            truth = full(exact, hx)[0]
            truth = truth.data if lengths else truth
            if in_bfloat16:
                assert torch.allclose(results[1][0].float(), truth, rtol=0, atol=0.01), where
            else:
                assert torch.equal(results[1][0], truth.to(results[1][0].dtype)), where


def test_autocast_leaves_float64_alone():
    _, mine = pair("GRU")
    x, _ = inputs(mine)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert mine(x)[0].dtype == torch.float64


@pytest.mark.parametrize("kind", KINDS)
def test_derivatives_under_autocast(kind):
    _, mine = pair(kind, dtype=torch.float32)
    x, _ = inputs(mine)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = torch.nn.Linear(I, I)(x)
        assert low.dtype == torch.bfloat16
        y, _ = mine(low)
        (dx,) = torch.autograd.grad(y.float().square().sum(), low, create_graph=True)
        dx.float().square().sum().backward()
    assert (y.dtype, dx.dtype) == (torch.bfloat16, torch.bfloat16)
    assert mine.weight_hh_l0.grad.dtype == torch.float32
    assert mine.weight_hh_l0.grad.any()


def test_windows_carry_the_state_unrounded_under_autocast():
    _, mine = pair("LSTM", dtype=torch.float32)
    x, _ = inputs(mine)
    state = {}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        pieces = [mine(window.batch)[0] for window in ours.windows(mine, x, 2, state=state)]
        truth, (_, c) = mine(x)
    assert torch.equal(torch.cat(pieces), truth)
    assert state[""][1].dtype is torch.float32
    assert torch.equal(state[""][1].bfloat16(), c)
    assert not torch.equal(state[""][1], c.float())


@pytest.mark.parametrize("kind", ["RNN tanh", "LSTM", "GRU"])
def test_autocast_to_bfloat16_multiplies_in_it(kind):
    """As a network with such products does, forward and backward, fused, with taps, and again."""
    if not _engine.bfloat16():
        pytest.skip("this processor has no products in bfloat16")
    _, mine = pair(kind, dtype=torch.float32, num_layers=2)
    x, _ = inputs(mine)
    net = tt.from_torch(mine)
    net = tt.Network(net.specs, tt.MeanSquaredError(), products="bfloat16")
    net.parameters.flat[...] = tt.from_torch(mine).parameters.flat
    outputs, _, tape = net.forward(x.numpy())
    expected = net.backward(tape, np.ones_like(outputs)).parameters

    def gradient(wanted=None):
        mine.zero_grad()
        looked_at = wanted(mine) if wanted else contextlib.nullcontext()
        with torch.autocast("cpu", dtype=torch.bfloat16), looked_at:
            y, _ = mine(x)
            y.float().sum().backward()
        given = nearest_bfloat16(outputs) if y.dtype is torch.bfloat16 else outputs
        assert np.array_equal(y.detach().float().numpy(), given)
        return [w.grad.clone() for w in mine.parameters()]

    found = gradient()
    for layer in (0, 1):
        own = getattr(mine, f"weight_hh_l{layer}").grad.numpy()
        assert np.array_equal(own, expected[f"{layer}.U"])
    tapped = gradient(ours.taps)
    assert all(map(torch.equal, tapped, found))
    mine.memory_limit = "10MB"
    assert all(map(torch.equal, gradient(), found))


def test_deterministic_mode():
    _, mine = pair("LSTM", num_layers=2, bidirectional=True)
    x, state = inputs(mine)
    ragged = {"lengths": [3, 6, 1], "enforce_sorted": False}
    free = everything(mine, x, state, **ragged)
    torch.use_deterministic_algorithms(True)
    try:
        bound = everything(mine, x, state, **ragged)
    finally:
        torch.use_deterministic_algorithms(False)
    for name, tensor in free.items():
        assert torch.equal(tensor, bound[name]), name


def test_anomaly_mode_says_where_a_nan_stands():
    _, mine = pair("GRU")
    x, _ = inputs(mine)
    x[2, 1, 3] = float("nan")
    assert torch.isnan(mine(x)[0][2:, 1]).all()  # as torch's do
    message = r"GRU: inputs of layer 0: expected finite numbers, got nan at \(2, 1, 3\)"
    with (
        pytest.warns(UserWarning, match="Anomaly Detection"),
        torch.autograd.detect_anomaly(),
        pytest.raises(ValueError, match=message),
    ):
        mine(x)


DDP = """
    import os, sys
    import torch
    import torch.distributed as dist
    import throughtime.torch as ours

    rank = int(sys.argv[1])
    store = dist.FileStore(sys.argv[2], 2)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=2)
    torch.manual_seed(0)
    lstm = ours.LSTM(3, 4, 2).double()
    x = torch.randn(5, 6, 3, dtype=torch.float64)
    model = torch.nn.parallel.DistributedDataParallel(lstm)
    model(x[:, rank::2])[0].square().mean().backward()
    both = [p.grad.clone() for p in lstm.parameters()]
    lstm.zero_grad()
    lstm(x)[0].square().mean().backward()
    for a, p in zip(both, lstm.parameters()):
        torch.testing.assert_close(a, p.grad, rtol=1e-12, atol=0)
    dist.destroy_process_group()
    print("equal")
"""


def test_distributed_data_parallel(tmp_path):
    """Two processes, each with half of the batch, find the whole batch's gradient."""
    script = tmp_path / "ddp.py"
    script.write_text(textwrap.dedent(DDP), encoding="utf-8")
    processes = [
        subprocess.Popen(
            [sys.executable, str(script), str(rank), str(tmp_path / "store")],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in (0, 1)
    ]
    try:
        answers = [process.communicate(timeout=300)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    for answer in answers:  # how torch's own threads end afterwards is not ours to say
        assert "equal" in answer.splitlines(), answer
