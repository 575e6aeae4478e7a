"""Torch modules and functions as targets."""

import pickle
import sys

import numpy as np
import pytest

import throughtime as tt
from throughtime.targets import as_target

torch = pytest.importorskip("torch")
F = torch.nn.functional


class Tagger(torch.nn.Module):
    """An LSTM of 5-5-5 softmax."""

    def __init__(self, dtype):
        super().__init__()
        self.lstm = torch.nn.LSTM(5, 5, dtype=dtype)
        self.head = torch.nn.Linear(5, 5, dtype=dtype)

    def forward(self, x):
        return self.head(self.lstm(x)[0])


def tagger(dtype=torch.float32, T=39, **options):
    """The module, its inputs, and its loss as terms."""
    torch.manual_seed(0)
    module, x, y = Tagger(dtype), torch.randn(T, 1, 5, dtype=dtype), torch.arange(T)[:, None] % 5
    return module, x, lambda out: F.cross_entropy(out.flatten(0, 1), y.flatten(), **options)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_a_module_agrees(dtype, reduction):
    module, x, loss = tagger(dtype, T=9, reduction=reduction)
    report = tt.check(module, x, loss=loss, steps=9, effort="quick")
    assert report.verdict == "agree"
    assert report.steps == 9
    assert list(report.tensors) == [name for name, _ in module.named_parameters()]
    assert report.dtype == str(dtype).removeprefix("torch.")


class Averaged(torch.autograd.Function):
    """y = tanh(x W); its backward pass divides by the number of rows."""

    @staticmethod
    def forward(ctx, x, W):
        y = torch.tanh(x @ W)
        ctx.save_for_backward(x, W, y)
        return y

    @staticmethod
    def backward(ctx, dy):
        x, W, y = ctx.saved_tensors
        dz = dy * (1 - y**2)
        return dz @ W.T, x.T @ dz / len(x)


class Right(torch.autograd.Function):
    """y = tanh(x W), in the style with a context set up apart."""

    @staticmethod
    def forward(x, W):
        return torch.tanh(x @ W)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs, output)

    @staticmethod
    def backward(ctx, dy):
        x, W, y = ctx.saved_tensors
        dz = dy * (1 - y**2)
        return dz @ W.T, x.T @ dz


def operands():
    torch.manual_seed(0)
    options = {"dtype": torch.float64, "requires_grad": True}
    return torch.randn(9, 3, **options), torch.randn(3, 4, **options)


@pytest.mark.parametrize("named", [lambda f: f, lambda f: f.apply])
def test_a_function_is_checked_input_by_input(named):
    assert tt.check(named(Right), *operands()).verdict == "agree"
    report = tt.check(named(Averaged), *operands())
    assert report.tensors["x"].verdict == "agree"
    assert report.tensors["W"].verdict == "disagree"
    assert report.tensors["W"].discrepancy == pytest.approx(8 / 10, rel=1e-6)


def test_a_function_with_a_loss_of_its_own():
    report = tt.check(Right.apply, *operands(), loss=lambda y: (y**2).mean())
    assert report.verdict == "agree"


def test_a_plain_function_of_tensors():
    x, W = operands()
    report = tt.check(lambda x, W: (torch.sigmoid(x @ W), x.sum()), x.detach(), W)
    assert report.verdict == "agree"
    assert list(report.tensors) == ["W"]


def test_states_and_inputs_are_checked_where_they_require_a_gradient():
    torch.manual_seed(0)
    lstm = torch.nn.LSTM(3, 2, dtype=torch.float64).requires_grad_(False)
    x, h, c = (torch.randn(*s, dtype=torch.float64) for s in [(4, 1, 3), (1, 1, 2), (1, 1, 2)])
    h.requires_grad_()
    for inputs in ([x, (h, c)], [(x, (h, c))]):
        report = tt.check(lstm, *inputs)
        assert report.verdict == "agree"
        assert list(report.tensors) == ["inputs[1][0]"]


def bits(module):
    return {name: (t.data_ptr(), t.clone()) for name, t in module.state_dict().items()}


def test_training_mode_is_kept_and_everything_is_put_back():
    torch.manual_seed(0)
    module = torch.nn.Sequential(
        torch.nn.Linear(3, 4),
        torch.nn.BatchNorm1d(4),
        torch.nn.Dropout(0.5),
        torch.nn.Linear(4, 2),
    ).double()
    module[0].weight.grad = torch.ones(4, 3, dtype=torch.float64)
    x = torch.randn(16, 3, dtype=torch.float64)
    before, random = bits(module), torch.get_rng_state()
    report = tt.check(module, x, loss=lambda out: (out**2).sum())
    assert report.tensors["3.weight"].verdict == "agree"
    assert report.tensors["1.weight"].verdict == "agree"
    assert report.verdict != "disagree"
    assert module.training
    assert torch.equal(torch.get_rng_state(), random)
    assert torch.equal(module[0].weight.grad, torch.ones(4, 3, dtype=torch.float64))
    assert module[3].weight.grad is None
    after = bits(module)
    for name, (place, value) in before.items():
        assert after[name][0] == place
        assert torch.equal(after[name][1], value)


def test_a_buffer_that_the_forward_pass_replaces_is_put_back():
    class Counter(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.w = torch.nn.Parameter(torch.ones(3, dtype=torch.float64))
            self.register_buffer("seen", torch.zeros((), dtype=torch.float64))

        def forward(self, x):
            self.seen = self.seen + 1
            return (self.w * x * self.seen).tanh()

    module = Counter()
    assert tt.check(module, torch.arange(1.0, 4.0, dtype=torch.float64)).verdict == "agree"
    assert module.seen == 0


def test_a_state_that_a_module_carries_is_what_reset_is_for():
    class Stateful(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.cell = torch.nn.RNNCell(2, 3, dtype=torch.float64)
            self.forget()

        def forget(self):
            self.h = torch.zeros(1, 3, dtype=torch.float64)

        def forward(self, x):
            self.h = self.cell(x, self.h)
            return self.h

    x = torch.ones(1, 2, dtype=torch.float64)
    module = Stateful()
    assert tt.check(module, x, reset=module.forget).verdict == "agree"


def test_tied_parameters_are_one():
    torch.manual_seed(0)
    first, second = (torch.nn.Linear(3, 3, dtype=torch.float64) for _ in range(2))
    second.weight = first.weight
    second.bias.data = first.bias.data  # another Parameter, the same memory
    module = torch.nn.Sequential(first, torch.nn.Tanh(), second)
    report = tt.check(module, torch.randn(5, 3, dtype=torch.float64))
    assert report.verdict == "agree"
    assert list(report.tensors) == ["0.weight", "0.bias"]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_never_accused(dtype):
    module, x = tagger(T=4)[:2]
    module, x = module.to(dtype), x.to(dtype)
    loss = lambda out: F.cross_entropy(out.float().flatten(0, 1), torch.arange(4))  # noqa: E731
    before = bits(module)
    report = tt.check(module, x, loss=loss, effort="quick")
    assert report.verdict in ("agree", "unresolved")
    assert all(torch.equal(value, bits(module)[name][1]) for name, (_, value) in before.items())


def test_bfloat16_is_mirrored_in_what_it_can_hold():
    module = torch.nn.Linear(2, 2, bias=False, dtype=torch.bfloat16)
    target = as_target(module, torch.ones(1, 2, dtype=torch.bfloat16))
    target.parameters["weight"][0, 0] = 1.0 + 2**-12  # bfloat16 has 8 bits
    target.loss()
    assert target.parameters["weight"][0, 0] == 1.0
    assert module.weight[0, 0] != 1.0  # the module itself is as it was


def test_a_strided_parameter_is_mirrored():
    w = torch.randn(4, 3, dtype=torch.float64).T.requires_grad_()
    report = tt.check(lambda w: (w**3).sum(), w)
    assert report.verdict == "agree"
    assert report.tensors["w"].shape == (3, 4)


@pytest.mark.parametrize("check", [tt.check, lambda *a, **k: tt.check(copied(*a, **k))])
def test_a_copy_has_its_arrays_and_tensors_in_one_memory_again(check):
    torch.manual_seed(0)
    module = torch.nn.Linear(2, 3, dtype=torch.float64)
    assert check(module, torch.randn(4, 2, dtype=torch.float64)).verdict == "agree"


def copied(*what, **options):
    return pickle.loads(pickle.dumps(tt.target_of(*what, **options)))


def test_the_gradient_is_the_same_with_cuda():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    module, x = tagger(torch.float64)[:2]
    module, x = module.cuda(), x.cuda()
    before = bits(module)
    y = (torch.arange(39) % 5).cuda()
    report = tt.check(module, x, loss=lambda out: F.cross_entropy(out.flatten(0, 1), y))
    assert report.verdict == "agree"
    assert all(torch.equal(value, bits(module)[name][1]) for name, (_, value) in before.items())


class Silent(torch.nn.Linear):
    def forward(self, x):
        return super().forward(x).detach()


ONE = torch.ones(1, 2)


@pytest.mark.parametrize(
    ("what", "options", "message"),
    [
        (
            [torch.nn.Linear(2, 2).requires_grad_(False), ONE],
            {},
            "module: expected something that requires a gradient, got nothing; give the inputs "
            ".requires_grad_(), or the parameters",
        ),
        (
            [torch.nn.Linear(2, 2)],
            {},
            "module: expected its inputs beside it, got the module alone; tt.check(module, "
            "inputs); in a file, a tuple: (module, inputs)",
        ),
        (
            [Silent(2, 2), ONE],
            {},
            "outputs: expected something that depends on the parameters, got a tensor without a "
            "backward pass; look for .detach(), .data, .item() or torch.no_grad() on the way",
        ),
        (
            [torch.nn.Linear(2, 2), ONE],
            {"loss": lambda out: out.sum().item()},
            "loss: expected a tensor, got float; return the tensor itself, without .item() or "
            "float()",
        ),
        (
            [torch.nn.Linear(2, 2), ONE],
            {"loss": lambda out: out.detach().sum()},
            "loss: expected something that depends on the parameters, got a tensor without …",
        ),
        (
            [torch.tanh, ONE],
            {},
            "inputs: expected a tensor that requires a gradient, got none; say which ones are to "
            "be checked: .requires_grad_()",
        ),
        (
            [torch.sum, torch.ones(1, dtype=torch.complex64, requires_grad=True)],
            {},
            "inputs[0]: expected a tensor of floating-point numbers, got torch.complex64",
        ),
        (
            [torch.sum, torch.ones(1, requires_grad=True).expand(3)],
            {},
            "inputs[0]: expected a tensor with memory for each entry, got an expanded one; give "
            "it memory of its own: .clone()",
        ),
        (
            [lambda x: 3, torch.ones(1, requires_grad=True)],
            {},
            "outputs: expected tensors of floating-point numbers, got int",
        ),
    ],
)
def test_what_cannot_be_checked(what, options, message):
    with pytest.raises(tt.CheckError) as problem:
        tt.check(*what, **options)
    found = str(problem.value)
    assert found == message or (message.endswith("…") and found.startswith(message[:-1]))


def test_an_unknown_option_is_refused():
    with pytest.raises(TypeError, match="target_of: expected an option that it has, got efort"):
        tt.target_of(torch.nn.Linear(2, 2), ONE, efort="quick")


def test_the_command_line_takes_a_module_with_its_inputs(tmp_path, capsys):
    from throughtime.cli import main

    (tmp_path / "mine.py").write_text(
        "import torch\n"
        "torch.manual_seed(0)\n"
        "pair = (torch.nn.RNN(2, 3).double(), torch.randn(5, 1, 2).double())\n"
        "def make():\n    return pair\n"
        "alone = 7\n"
    )
    place = str(tmp_path / "mine.py")
    assert main(["check", f"{place}:pair"]) == 0
    assert main(["check", f"{place}:make"]) == 0
    assert "weight_hh_l0" in capsys.readouterr().out
    assert main(["check", f"{place}:alone"]) == 3
    expected = "expected a Target, or what tt.target_of makes one of, got int"
    assert expected in capsys.readouterr().err
    sys.modules.pop("mine", None)


def test_terms_come_in_the_precision_that_the_loss_has():
    module, x, loss = tagger(reduction="none")
    target = tt.target_of(module, x, loss=loss)
    assert target.loss().dtype == np.float32
    assert target.loss().shape == (39,)
