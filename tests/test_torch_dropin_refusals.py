"""What throughtime.torch refuses, and where torch's own kernels answer."""

import subprocess
import sys

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

import throughtime.torch as ours  # noqa: E402
from dropin_examples import KINDS, B, H, I, T, inputs, pair  # noqa: E402
from throughtime.torch import forward  # noqa: E402

X = torch.zeros(T, B, I)
STATE = torch.zeros(1, B, H)


def packed(lengths):
    return torch.nn.utils.rnn.pack_padded_sequence(X[:, : len(lengths)], lengths)


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ((torch.zeros(T, B, I + 1),), RuntimeError),
        ((torch.zeros(T),), ValueError),
        ((torch.zeros(T, B, I, 1),), ValueError),
        ((X.double(),), ValueError),
        ((X.long(),), ValueError),
        ((X[:0],), RuntimeError),
        ((X, (STATE[:, :2], STATE)), RuntimeError),
        ((X, (STATE, STATE[:, :2])), RuntimeError),
        ((X, (STATE.expand(2, B, H), STATE)), RuntimeError),
        ((X[:, 0], (STATE, STATE)), RuntimeError),
        ((X, (STATE[0], STATE[0])), RuntimeError),
    ],
)
def test_torchs_messages_where_torch_has_good_ones(given, error):
    """The same kind of error, and for the most part the same words."""
    theirs, mine = torch.nn.LSTM(I, H), ours.LSTM(I, H)
    with pytest.raises(error) as wanted:
        theirs(*given)
    with pytest.raises(error) as found:
        mine(*given)
    a, b = str(wanted.value), str(found.value)
    words = set(a.split()) & set(b.split())
    assert len(words) > len(set(a.split())) / 2, (a, b)


@pytest.mark.parametrize(
    ("kind", "given", "error", "message"),
    [
        ("LSTM", ([1, 2],), TypeError, "input: expected a tensor or a PackedSequence, got list"),
        ("LSTM", (X, STATE), TypeError, r"hx: expected a tuple of two .* \(h_0, c_0\), got Tensor"),
        ("LSTM", (X, (STATE,)), TypeError, "hx: expected a tuple .*, got a tuple of Tensor"),
        ("LSTM", (X, (STATE, None)), TypeError, "hx: .* got a tuple of Tensor, NoneType"),
        ("GRU", (X, (STATE,)), TypeError, "hx: expected one tensor, h_0, got a tuple"),
        ("GRU", (X, STATE.double()), ValueError, r"hx\[0\]: expected torch.float32, got torch.f"),
        (
            "GRU",
            (X, STATE.to("meta")),
            RuntimeError,
            r"hx\[0\]: expected a tensor on cpu, got meta",
        ),
        (
            "RNN tanh",
            (X.to("meta"),),
            RuntimeError,
            "input: expected a tensor on cpu, where the weights are, got one on meta",
        ),
    ],
)
def test_our_messages_where_torch_has_none(kind, given, error, message):
    _, mine = pair(kind, dtype=torch.float32)
    with pytest.raises(error, match=f"{type(mine).__name__}: {message}"):
        mine(*given)


@pytest.mark.parametrize("limit", [None, "1MB"])
@pytest.mark.parametrize("freed", ["input", "state", "weight"])
def test_storage_that_was_freed(freed, limit):
    """Its address would be that of nothing; an empty state is not the same as none."""
    mine = ours.GRU(I, H, memory_limit=limit)
    x, state = torch.zeros(T, B, I), torch.zeros(1, B, H)
    gone = {"input": x, "state": state, "weight": mine.weight_hh_l0.data}[freed]
    gone.untyped_storage().resize_(0)
    message = r"got one of shape \(\d+, \d.*\) whose storage was freed|for storage of size 0"
    with pytest.raises(RuntimeError, match=message):
        mine(x, state)


def test_weights_freed_before_the_backward_pass():
    mine = ours.LSTM(I, H)
    y = mine(X)[0].sum()
    mine.weight_hh_l0.data.untyped_storage().resize_(0)
    with pytest.raises(RuntimeError, match="whose storage was freed"):
        y.backward()


@pytest.mark.parametrize("limit", [None, "1MB"])
def test_options_that_the_weights_do_not_have(limit):
    mine = ours.LSTM(I, H, memory_limit=limit)
    mine.num_layers = 2
    message = r"num_layers=2.*expected the options .* 4 weights, got others, which have 8"
    with pytest.raises(RuntimeError, match=message):
        mine(X)


def test_a_packed_sequence_of_another_batch():
    message = r"Expected hidden\[0\] size \(1, 2, 5\), got \[1, 3, 5\]"
    with pytest.raises(RuntimeError, match=message):
        ours.LSTM(I, H)(packed([6, 2]), (STATE, STATE))


def test_rows_that_no_batch_has():
    data = torch.zeros(6, I)
    for sizes, message in (
        ([3, 2], "a sum of 6, the rows of data, got 5"),
        ([2, 3, 1], "sizes from the batch's down to 1"),
        ([2, 1, 2], "sizes from the batch's down to 1"),
        ([4, 0, 2], "sizes from the batch's down to 1"),
    ):
        crafted = torch.nn.utils.rnn.PackedSequence(data, torch.tensor(sizes))
        with pytest.raises(ValueError, match=message):
            ours.GRU(I, H)(crafted)


def test_weights_that_do_not_fit():
    for name, tensor, error, message in (
        ("weight_hh_l0", torch.zeros(3 * H, I), ValueError, r"shape \(15, 5\), got \(15, 4\)"),
        ("bias_hh_l1", torch.zeros(3 * H).double(), ValueError, "torch.float32, as the first, got"),
        ("weight_ih_l1", torch.zeros(3 * H, H).to("meta"), RuntimeError, "on cpu, as the first"),
    ):
        mine = ours.GRU(I, H, 2)
        setattr(mine, name, torch.nn.Parameter(tensor))
        with pytest.raises(error, match=f"GRU: {name}: expected .*{message}"):
            mine(X)


def test_a_module_without_numbers():
    mine = ours.LSTM(I, H, device="meta")
    message = r"expected a tensor on meta, .*; module\.to_empty\(device='cpu'\), then load its"
    with pytest.raises(RuntimeError, match=message):
        mine(X)
    mine.to_empty(device="cpu").load_state_dict(ours.LSTM(I, H).state_dict())
    mine(X)


def test_constructors_refuse_as_torchs_do():
    for build in (
        lambda library: library.RNN(I, H, nonlinearity="relu6"),
        lambda library: library.LSTM(I, 0),
        lambda library: library.LSTM(I, H, proj_size=H),
        lambda library: library.GRU(I, H, dropout=2),
        lambda library: library.GRU(I, H, proj_size=2),
        lambda library: library.RNN(I, H, proj_size=2),
    ):
        messages = []
        for library in (torch.nn, ours):
            with pytest.raises(ValueError, match=r"\w") as problem:
                build(library)
            messages.append(str(problem.value))
        assert messages[0] == messages[1]
    with pytest.raises(TypeError, match="unexpected keyword argument 'units'"):
        ours.GRU(I, H, units=2)
    with pytest.warns(UserWarning, match="dropout option adds dropout after all but last"):
        ours.GRU(I, H, dropout=0.5)


@pytest.mark.parametrize("kind", KINDS)
def test_nan_goes_through_as_in_torch(kind):
    theirs, mine = pair(kind)
    x, _ = inputs(theirs)
    x[3, 1, 0] = float("nan")
    x[4, 0, 0] = float("inf")
    assert torch.equal(mine(x)[0].isnan(), theirs(x)[0].isnan())


# --- where the engine cannot compute ---


@pytest.fixture(autouse=True)
def _nothing_said():
    forward._warned.clear()
    yield
    forward._warned.clear()


def test_other_precisions_are_torchs_and_that_is_said_once(recwarn):
    theirs, mine = (m.bfloat16() for m in pair("LSTM", dtype=torch.float32))
    x, state = inputs(mine)
    for _ in range(2):
        y, _ = mine(x, tuple(state))
    truth, _ = theirs(x, tuple(state))
    assert torch.equal(y, truth)
    said = [str(warning.message) for warning in recwarn]
    assert said == [
        "throughtime.torch.LSTM: the engine computes on the CPU in float32 and float64; "
        "on cpu in bfloat16 torch's own kernels answer"
    ]
    message = "LSTM: states=True: expected weights on the CPU in float32 or float64, got cpu in bf"
    with pytest.raises(RuntimeError, match=message):
        mine(x, states=True)


@pytest.mark.parametrize(
    ("what", "module"),
    [
        ("peepholes=True", lambda: ours.LSTM(I, H, peepholes=True)),
        ("reset_after=False", lambda: ours.GRU(I, H, reset_after=False)),
        ("memory_limit", lambda: ours.RNN(I, H, memory_limit="1MB")),
    ],
)
def test_what_torchs_kernels_cannot_give(what, module):
    mine = module().bfloat16()
    message = rf"{what}: expected weights on the CPU .*; move the model: \.to\('cpu', torch\.fl"
    with pytest.raises(RuntimeError, match=message):
        mine(X.bfloat16())


def test_taps_and_windows_refuse_there():
    mine = ours.GRU(I, H).bfloat16()
    with ours.taps(mine), pytest.raises(RuntimeError, match="GRU: taps: expected weights"):
        mine(X.bfloat16())
    for window in ours.windows(mine, X.bfloat16(), 3):
        with pytest.raises(RuntimeError, match="GRU: windows: expected weights"):
            mine(window.batch)
        break


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("kind", KINDS)
def test_on_cuda_torchs_kernels_answer(kind, recwarn):
    theirs, mine = (m.cuda() for m in pair(kind))
    x, state = inputs(theirs)
    x, hx = x.cuda(), tuple(part.cuda() for part in state)
    hx = hx if len(hx) > 1 else hx[0]
    for _ in range(2):
        y, _ = mine(x, hx)
    assert torch.equal(y, theirs(x, hx)[0])
    assert sum("torch's own kernels answer" in str(w.message) for w in recwarn) == 1
    with pytest.raises(RuntimeError, match="got cuda in float64"):
        mine(x, states=True)
    assert mine.cpu()(x.cpu())[0].device.type == "cpu"


def test_without_torch_one_line_says_what_to_install():
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import importlib.util as u; find = u.find_spec\n"
        "u.find_spec = lambda name, *rest: None if name == 'torch' else find(name, *rest)\n"
        "import throughtime as tt\n"
        "try: from throughtime.torch import LSTM\n"
        "except ImportError as problem: print(problem)\n"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    expected = "throughtime.torch: expected PyTorch, got none; pip install torch\n"
    assert answer == expected


def test_a_higher_derivative_has_no_taps():
    mine = ours.GRU(I, H)
    x = X.clone().requires_grad_()
    message = "taps: expected an ordinary backward pass, got create_graph=True"
    with ours.taps(mine):
        y = mine(x)[0].sum()
        with pytest.raises(RuntimeError, match=message):
            torch.autograd.grad(y, x, create_graph=True)


def test_samples_want_to_be_asked_for():
    mine = ours.GRU(I, H, memory_limit="60KB")
    with (
        ours.taps(mine) as taps,
        pytest.raises(ValueError, match=r"samples: expected taps\(model, per_sample=True\)"),
    ):
        taps.samples("")
    x = torch.zeros(900, 1, I)
    with (
        ours.taps(mine, per_sample=True),
        pytest.raises(ValueError, match="per_sample: expected no memory_limit"),
    ):
        mine(x)[0].sum().backward()
