"""Training steps of a user's file and of those beside it, and what is typed where none is read."""

import ast
import os

import numpy as np
import pytest

import throughtime as tt
from found_files import verdict
from throughtime.source import Program, Slices, candidates, find
from throughtime.source.finding import scripts
from throughtime.source.finding.suggestions import training_step
from throughtime.source.finding.training_steps import regions
from throughtime.source.text import read_source as real

NET = """
import numpy as np

class Net:
    def __init__(self, n_in, n_hidden, n_out):
        self.W_i, self.W_g = np.random.randn(n_in, n_hidden), np.random.randn(n_hidden, n_hidden)
        self.params = {"W": {"g": np.random.randn(n_hidden, n_out)}}

    def forward(self, x):
        self.x, self.h = x, [np.zeros((len(x), len(self.W_g)))]
        for t in range(x.shape[1]):
            self.h.append(np.tanh(x[:, t] @ self.W_i + self.h[-1] @ self.W_g))
        return np.stack(self.h[1:], axis=1) @ self.params["W"]["g"]

    def backward(self, dout):
        self.grads = {"W": {"g": np.einsum("bth,bto->ho", np.stack(self.h[1:], axis=1), dout)}}
        self.dW_i, self.dW_g, carried = 0 * self.W_i, 0 * self.W_g, 0
        for t in reversed(range(self.x.shape[1])):
            dz = (dout[:, t] @ self.params["W"]["g"].T + carried) * (1 - self.h[t + 1] ** 2)
            self.dW_i += self.x[:, t].T @ dz
            self.dW_g += self.h[t].T @ dz
            carried = dz @ self.W_g.T
"""
LOSS = """
class MSELoss:
    def forward(self, pred, target):
        self.pred, self.target = pred, target
        return np.mean((pred - target) ** 2)

    def backward(self):
        return 2 * (self.pred - self.target) / SIZE
"""
SCRIPT = """
import numpy as np
import matplotlib.pyplot as plt
from net import Net, MSELoss

X = np.array([np.sin(np.linspace(0, 1 + k, 20)) for k in range(30)])[..., None]
Y = X ** 2
model, loss_fn, history = Net(1, 16, 1), MSELoss(), np.zeros(100)
for epoch in range(100):
    pred = model.forward(X)
    loss = loss_fn.forward(pred, Y)
    history[epoch] = np.array([[loss]])
    model.backward(loss_fn.backward())
    model.W_i -= 0.1 * model.dW_i
    print("loss %f" % loss)
plt.plot(history)
"""


def test_a_network_is_checked_with_the_loss_of_the_script_beside_it(write):
    write(SCRIPT, "train.py")
    found = find(write(NET + LOSS.replace("SIZE", "self.pred.size")), "Net")
    assert found.name == "the loop of line 9 of train.py"
    assert found.recipe.path.name == "train.py"
    assert list(found.recipe.parameters) == ["W_i", "W_g", "W.g"]
    assert dict(found.recipe.steps)["X"] == 1  # the other axes are no recurrence
    assert verdict(found) == "agree"
    assert verdict(find(write(NET + LOSS.replace("SIZE", "len(self.pred)")), "Net")) == "disagree"


def test_a_step_that_means_another_loss_is_left_aside(write):
    write(SCRIPT, "train.py")
    found = find(write(NET + LOSS.replace(" / SIZE", " ** 3 / self.pred.size")), "Net")
    assert found.name == "Net"
    assert "no gradient of its own loss" in found.notes[-1]
    assert verdict(found) == "agree"


def test_a_script_that_imports_another_file_of_that_name_is_not_run(write, tmp_path):
    path = write(NET + LOSS.replace("SIZE", "len(self.pred)"))
    write(NET + LOSS, "other/net.py")
    write(SCRIPT, "other/train.py")
    found = find(path, "Net")
    assert found.name == "Net"
    assert dict(found.recipe.sequences) == {"x": 0}
    assert Program(found.recipe).at_batch(1).gradient()["W_i"].shape == (5, 4)
    assert verdict(found) == "agree"


INLINE = """
import numpy as np

class Net:
    def __init__(self, n_in, n_hidden, rate=0.01):
        self.U, self.W = np.random.randn(n_hidden, n_in), np.random.randn(n_hidden, n_hidden)
        self.rate = rate

    def fit(self, X, Y, epochs=100):
        for epoch in range(epochs):
            for x, y in zip(X, Y):
                h = np.zeros((len(x) + 1, len(self.W)))
                for t in range(len(x)):
                    h[t] = np.tanh(self.U @ x[t] + self.W @ h[t - 1])
                loss = 0.5 * np.sum((h[:-1, 0] - y) ** 2)
                dU, dW, carried = 0 * self.U, 0 * self.W, np.zeros(len(self.W))
                for t in reversed(range(len(x))):
                    dh = carried.copy()
                    dh[0] += h[t, 0] - y[t]
                    dz = dh * (1 - h[t] ** 2)
                    dU += np.outer(dz, x[t])
                    dW += np.outer(dz, h[t - 1])
                    carried = self.W.T @ dz
                self.U -= self.rate * dU
                self.W -= self.rate * dW

if __name__ == "__main__":
    X = np.random.randn(20, 8, 2)
    Net(2, 10).fit(X, np.cumsum(X, axis=1)[..., 0])
"""


def test_a_method_that_does_everything_is_read_by_the_call_of_it(write):
    found = find(write(INLINE))
    assert dict(found.recipe.steps)["x"] == 0
    assert verdict(found) == "agree"
    assert verdict(find(write(INLINE.replace("self.W.T @ dz", "self.W @ dz")))) == "disagree"
    alone = INLINE[: INLINE.index("if __name__")].replace(
        "(self, X, Y, ", "(self, inputs, labels, "
    )
    alone = alone.replace("zip(X, Y)", "zip(inputs, labels)")
    assert verdict(find(write(alone))) == "agree"  # object and data are made up


def test_several_steps_one_after_another_are_no_gradient():
    outer = "            for x, y in"
    found = regions(ast.parse(INLINE.replace(outer, f"            total = 0\n{outer}")))
    assert {region.name for region in found} == {"the loop of line 12"}


def test_a_training_step_can_be_given_in_a_line(write):
    path = write(NET.replace("forward(self, x)", "apply_to(self, x, *, scale)"))
    with pytest.raises(tt.CheckError, match="--with") as refused:
        find(path)
    step = (
        "net = Net(2, 3, 1); x = np.random.randn(2, 6, 2); out = net.apply_to(x, scale=1); "
        "loss = 0.5 * np.sum(out ** 2); net.backward(out)"
    )
    found = find(path, setup=step)
    assert dict(found.recipe.steps) == {"x": 1}
    assert Program(found.recipe).parameters["W_i"].shape == (2, 3)
    assert verdict(found) == "agree"
    assert "net = Net(" in str(refused.value)


def test_the_line_that_a_refusal_says_runs_when_it_is_typed(write):
    odd = NET.replace(
        "self.x, self.h = x,", "assert x.shape == (6, 5); x = x[None]\n        self.x, self.h = x,"
    )
    odd = odd.replace('["W"]["g"]\n\n    def b', '["W"]["g"] ** 2\n\n    def b')
    odd = odd.replace(
        "dout):\n", "dout):\n        dout = np.sign(dout)[None] if dout.ndim < 3 else dout\n"
    )
    path = write(odd)
    with pytest.raises(tt.CheckError) as refused:
        find(path)
    line = str(refused.value).split('--with "')[1].rstrip('"')
    assert "net = Net(5, 4, 5)" in line
    assert verdict(find(path, setup=line)) == "disagree"


OLD = """
import numpy as np

class RNN:
    @staticmethod
    def init(n_in, n_hidden):
        return np.random.randn(n_in + n_hidden, n_hidden)

    @staticmethod
    def forward(X, W, h0):
        half = (X.shape[0] + 1) / 2 * 0
        h, d = [h0[half:]], W.shape[1] * 2 / 2
        for t in xrange(len(X)):
            h.append(np.tanh(np.hstack((X[t], h[-1])).dot(W[:, :d])))
        return np.array(h[1:]), (X, W, h)

    @staticmethod
    def backward(dh, cache):
        X, W, h = cache
        dW, carried = np.zeros(W.shape), 0
        for t in reversed(xrange(len(X))):
            dz = (dh[t] + carried) * (1 - h[t + 1] ** 2)
            dW += np.hstack((X[t], h[t])).T.dot(dz)
            carried = dz.dot(W.T)[:, X.shape[2]:]
        return dW

def check_gradient():
    n, b, d = (4, 2, 3)
    W, X, h0 = RNN.init(5, d), np.random.randn(n, b, 5), np.random.randn(b, d)
    H, cache = RNN.forward(X, W, h0)
    wrand = np.random.randn(*H.shape)
    parts = np.zeros(2)
    parts[0] = np.array([np.sum(H * wrand)])
    loss = float(np.ones((1, 1)) * parts[0])
    dW = RNN.backward(wrand, cache)
"""


def test_older_files_mean_what_they_meant(write):
    found = find(write(OLD))
    assert len(found.recipe.parameters) == 1
    assert any(note.startswith("Read as Python 2") for note in found.notes)
    assert list(found.recipe.steps.values()) == [0]
    assert verdict(found) == "agree"


def test_what_lies_beside_a_file_and_does_not_name_it_is_not_parsed(tmp_path):
    """A folder may hold thousands of files, megabytes of data written as Python, and devices."""
    folder = tmp_path / "above" / "own"  # what other tests leave is not beside it
    folder.mkdir(parents=True)
    net = folder / "net.py"
    net.write_text("def f(x):\n    return x\n")
    (folder / "train.py").write_text("import net\n")
    (folder / "large.py").write_text("import net\n" + "x = 1\n" * 50_000)
    (folder / "other.py").write_text("import numpy\nbroken = (\n")
    (folder / "endless.py").symlink_to("/dev/zero")
    os.mkfifo(folder / "pipe.py")
    read = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scripts, "read_source", lambda path: read.append(path.name) or real(path))
        found = [one.path.name for one in scripts.scripts_beside(net, ast.parse(net.read_text()))]
    assert found == ["train.py"]
    assert sorted(read) == ["large.py", "train.py"]


TENSORS = """
import torch

class Net:
    def __init__(self, n_in, n_hidden):
        self.W, self.U = torch.randn(n_in, n_hidden), torch.randn(n_hidden, n_hidden)

    def forward(self, x):
        self.x, self.h = x, [torch.zeros(x.shape[0], self.U.shape[0])]
        for t in range(x.shape[1]):
            self.h.append(torch.tanh(x[:, t] @ self.W + self.h[-1] @ self.U))
        return self.h[-1]

    def loss(self, out, y):
        return ((out - y) ** 2).sum() / 2

    def backward(self, out, y):
        dh = out - y
        self.dW, self.dU = torch.zeros_like(self.W), torch.zeros_like(self.U)
        for t in range(self.x.shape[1] - 1, -1, -1):
            dz = dh * (1 - self.h[t + 1] ** 2)
            self.dW += self.x[:, t].T @ dz
            self.dU += self.h[t].T @ dz
            dh = dz @ self.U.T
"""


def test_tensors_of_torch_by_hand(write):
    torch = pytest.importorskip("torch")
    found = find(write(TENSORS))
    assert list(found.recipe.parameters) == ["W", "U"]
    assert verdict(found) == "agree"
    assert verdict(find(write(TENSORS.replace("@ self.U.T", "@ self.U")))) == "disagree"
    assert torch.get_default_dtype() == torch.float32


def test_gradients_that_are_torchs_own_are_said_to_be(write):
    text = "import torch\nclass M(torch.nn.Module):\n    def forward(self, x): return x\n"
    with pytest.raises(tt.CheckError, match="torch's own"):
        find(write(text))


LAYERS = """
import numpy as np

class LSTM:
    def __init__(self, n_in, n_hidden):
        self.W = np.random.randn(n_in, n_hidden)
    def forward(self, x):
        return x.nothing_has_this
    def backward(self, dout):
        self.dW = 0 * self.W

class Dense:
    def __init__(self, n_in, n_out, reg=0.001):
        self.W, self.b, self.reg = np.random.randn(n_in, n_out), np.random.randn(n_out), reg
    def forward(self, x):
        self.x = x
        return x @ self.W + self.b
    def backward(self, dout):
        self.dW, self.db = self.x.T @ dout + self.reg * self.W, dout.sum(axis=0)
"""


def test_a_layer_is_not_taken_for_the_network_beside_it(write):
    with pytest.raises(tt.CheckError, match=r"got LSTM: .*nothing_has_this"):
        find(write(LAYERS))
    dense = find(write(LAYERS), "Dense")  # its penalty is in no loss here, and is left out
    assert "net.reg = 0.0" in dense.recipe.setup
    assert verdict(dense) == "agree"


def test_wide_networks_are_drawn_so_that_they_do_not_saturate(write):
    path = write(NET.replace("n_in, n_hidden, n_out)", "n_in)").replace("n_hidden", "90").replace(
        "n_out", "2"))  # fmt: skip
    found = find(path)
    assert np.std(Program(found.recipe).parameters["W_g"]) < 0.3
    assert verdict(found) == "agree"


def test_a_suggested_step_names_nothing_before_it_is_made():
    """The forward pass is given data, and no output of its own; classes where it says so."""
    text = (
        "class Net:\n"
        "    def __init__(self, n_in, n_hidden): pass\n"
        "    def forward(self, word_indices, cache): return word_indices\n"
        "    def backward(self, word_indices, y_hat, labels): self.d = labels\n"
    )
    tree = ast.parse(text)
    slices = Slices(tree)
    (candidate, *_) = candidates(tree, slices)
    step = training_step(slices, candidate)
    before = step.partition("out = ")[2].partition(";")[0]
    assert "out" not in before
    assert "y = np.random.randint(" in step
