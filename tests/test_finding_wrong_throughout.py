"""Functions with one loss beside them: believed where nothing of the gradient is right, or not."""

import pytest

from found_files import report_of, verdict
from throughtime.gradcheck import CheckError
from throughtime.source import find
from throughtime.source.finding.updates import is_plain_descent

NETWORK = """
import numpy as np

n_in, n_hid, n_out = 4, 8, 4
rate = 0.05
U = np.random.randn(n_hid, n_in) * 0.1
W = np.random.randn(n_hid, n_hid) * 0.1
V = np.random.randn(n_out, n_hid) * 0.1

def {loss}

def forward(xs):
    hs, ys = [np.zeros((n_hid, 1))], []
    for x in xs:
        hs.append(np.tanh(U @ x + W @ hs[-1]))
        ys.append({output})
    return ys, hs

def backward(xs, targets, ys, hs):
    {moved}
    dU, dW, dV = map(np.zeros_like, (U, W, V))
    dh_next = np.zeros((n_hid, 1))
    for t in reversed(range(len(xs))):
        dy = {slope}
        dV += dy @ hs[t + 1].T
        dz = (V.T @ dy + dh_next) * (1 - hs[t + 1] ** 2)
        dU += dz @ xs[t].T
        dW += dz @ hs[t].T
        dh_next = W.T @ dz
    {end}
"""

RETURNED = {"moved": '"""The gradients."""', "end": "return dU, dW, dV"}
MOVED = {"moved": "global U, W, V", "end": "U -= rate * dU; W -= rate * dW; V -= rate * dV"}
# Something beside the gradient moves the parameters.
KEPT = {
    "moved": "global U, W, V",
    "end": "U -= rate * dU / 3; W -= rate * dW + U.sum(); V -= rate * dV",
}
SIGMOID = "1 / (1 + np.exp(-V @ hs[-1]))"
SQUARES = """compute_loss(targets, ys):
    return 0.5 * sum(((t - y) ** 2).sum() for t, y in zip(targets, ys))"""
SOFTMAX = "np.exp(V @ hs[-1]) / np.exp(V @ hs[-1]).sum()"
SHOWN = """mse(y_true, y_pred):
    return np.mean([(a - b) ** 2 for a, b in zip(y_true, y_pred)])"""


def written(path, **parts):
    path.write_text(NETWORK.format(**parts))
    return path


@pytest.mark.parametrize("end", [RETURNED, MOVED], ids=["returned", "moved"])
def test_a_gradient_without_the_slope_of_the_outputs_is_judged_by_the_files_one_loss(tmp_path, end):
    path = written(
        tmp_path / "net.py", loss=SQUARES, output=SIGMOID, slope="ys[t] - targets[t]", **end
    )
    report = report_of(find(path))
    assert report.verdict == "disagree"
    assert all(tensor.verdict == "disagree" for tensor in report.tensors.values())


@pytest.mark.parametrize("end", [RETURNED, MOVED], ids=["returned", "moved"])
def test_with_the_slope_it_agrees(tmp_path, end):
    slope = "(ys[t] - targets[t]) * ys[t] * (1 - ys[t])"
    assert (
        verdict(
            find(written(tmp_path / "net.py", loss=SQUARES, output=SIGMOID, slope=slope, **end))
        )
        == "agree"
    )


def test_an_update_that_is_more_than_a_rate_times_a_gradient_is_none(tmp_path):
    path = written(
        tmp_path / "net.py", loss=SQUARES, output=SIGMOID, slope="ys[t] - targets[t]", **KEPT
    )
    with pytest.raises(CheckError, match="may be misread"):
        find(path)


@pytest.mark.parametrize("end", [RETURNED, MOVED], ids=["returned", "moved"])
def test_a_loss_that_is_only_shown_accuses_no_one(tmp_path, end):
    path = written(
        tmp_path / "net.py", loss=SHOWN, output=SOFTMAX, slope="ys[t] - targets[t]", **end
    )
    found = find(path)
    assert any("cross-entropy" in line for line in found.said)
    assert verdict(found) == "agree"


def test_what_an_update_may_be_made_of():
    assert is_plain_descent(["W = W - eta * self.grads['dW']"], ["W"])
    assert not is_plain_descent(["W -= eta * (dW + decay * W)"], ["W"])
    assert not is_plain_descent(["W -= eta * dW"], ["W", "b"])
