"""A loss whose own derivative is wrong, under a network whose backward pass is right."""

import pytest

import throughtime as tt

torch = pytest.importorskip("torch")


class Recogniser(torch.nn.Module):
    """Raw outputs, or their log-softmax, of every step."""

    def __init__(self, normalised):
        super().__init__()
        self.rnn = torch.nn.RNN(3, 4)
        self.out = torch.nn.Linear(4, 3)
        self.normalised = normalised

    def forward(self, x):
        outputs = self.out(self.rnn(x)[0])
        return outputs.log_softmax(-1) if self.normalised else outputs


class FirstOutputForgotten(torch.autograd.Function):
    """Σ y⁴, with a derivative that is 0 for the first output."""

    @staticmethod
    def forward(ctx, y):
        ctx.save_for_backward(y)
        return (y**4).sum()

    @staticmethod
    def backward(ctx, dloss):
        dy = 4 * dloss * ctx.saved_tensors[0] ** 3
        dy[..., 0] = 0
        return dy


def checked(normalised, loss):
    torch.manual_seed(1)
    model = Recogniser(normalised).double()
    x = torch.randn(8, 2, 3, dtype=torch.float64)
    return tt.check(model, x, loss=loss, progress=False)


def ctc(outputs):
    labels = torch.tensor([[1, 2], [2, 1]])
    lengths = torch.tensor([8, 6]), torch.tensor([2, 1])
    return torch.nn.functional.ctc_loss(outputs, labels, *lengths, reduction="sum")


def test_raw_outputs_in_a_ctc_loss_are_named_from_the_loss_alone():
    assert checked(True, ctc).verdict == "agree"
    report = checked(False, ctc)
    assert [cause.fault for cause in report.causes] == ["softmax_derivative_twice"]
    assert report.causes[0].where == "outputs"
    assert "Give the loss the log-softmax" in report.causes[0].evidence[0]


def test_the_output_whose_derivative_is_wrong_is_told_and_nothing_else_is_blamed():
    report = checked(False, FirstOutputForgotten.apply)
    assert report.verdict == "disagree"
    said = " ".join(report.notes)
    assert "that one is not the loss's" in said
    assert ", output 0 (counted from 0), it is +0.0000e+00; numerically" in said
    assert report.causes == ()
    assert "unknown" not in said
