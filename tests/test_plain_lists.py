"""Networks written without NumPy: their matrices are lists, and every entry has its own loop."""

import pytest

from found_files import report_of, verdict
from throughtime.source import find, which_line
from throughtime.source.mending.mend import mend

PLAIN = """
import math
import random

random.seed(3)

class PlainRNN:
    def __init__(self, n_in, n_hid, n_out):
        self.n_in, self.n_hid, self.n_out, self.lr = n_in, n_hid, n_out, 0.05
        self.wx = [[random.uniform(-0.5, 0.5) for _ in range(n_in)] for _ in range(n_hid)]
        self.wh = [[random.uniform(-0.5, 0.5) for _ in range(n_hid)] for _ in range(n_hid)]
        self.wy = [[random.uniform(-0.5, 0.5) for _ in range(n_hid)] for _ in range(n_out)]
        self.bh = [0.0] * n_hid

    def forward(self, sequence):
        self.xs, self.hs, self.ys = sequence, [[0.0] * self.n_hid], []
        for x in sequence:
            h = []
            for i in range(self.n_hid):
                z = self.bh[i]
                for j in range(self.n_in):
                    z += self.wx[i][j] * x[j]
                for j in range(self.n_hid):
                    z += self.wh[i][j] * self.hs[-1][j]
                h.append(math.tanh(z))
            self.hs.append(h)
            self.ys.append([sum(w * a for w, a in zip(row, h)) for row in self.wy])
        return self.ys

    def loss(self, targets):
        total = 0.0
        for y, target in zip(self.ys, targets):
            for a, b in zip(y, target):
                total += 0.5 * (a - b) ** 2
        return total

    def backward(self, targets):
        dwx = [[0.0] * self.n_in for _ in range(self.n_hid)]
        dwh = [[0.0] * self.n_hid for _ in range(self.n_hid)]
        dwy = [[0.0] * self.n_hid for _ in range(self.n_out)]
        dbh = [0.0] * self.n_hid
        carried = [0.0] * self.n_hid
        for t in reversed(range(len(self.xs))):
            dy = [self.ys[t][k] - targets[t][k] for k in range(self.n_out)]
            for k in range(self.n_out):
                for i in range(self.n_hid):
                    dwy[k][i] += dy[k] * self.hs[t + 1][i]
            dh = [sum(self.wy[k][i] * dy[k] for k in range(self.n_out)) + carried[i]
                  for i in range(self.n_hid)]
            dz = [dh[i] * (1 - self.hs[t + 1][i] ** 2) for i in range(self.n_hid)]
            for i in range(self.n_hid):
                dbh[i] += dz[i]
                for j in range(self.n_in):
                    dwx[i][j] += dz[i] * self.xs[t][j]
                for j in range(self.n_hid):
                    dwh[i][j] += dz[i] * self.hs[t][j]
            carried = [sum(self.wh[j][i] * dz[j] for j in range(self.n_hid))
                       for i in range(self.n_hid)]
        for i in range(self.n_hid):
            self.bh[i] -= self.lr * dbh[i]
            for j in range(self.n_in):
                self.wx[i][j] -= self.lr * dwx[i][j]
            for j in range(self.n_hid):
                self.wh[i][j] -= self.lr * dwh[i][j]
        for k in range(self.n_out):
            for i in range(self.n_hid):
                self.wy[k][i] -= self.lr * dwy[k][i]
"""


@pytest.fixture
def path(tmp_path):
    found = tmp_path / "plain.py"
    found.write_text(PLAIN)
    return found


def test_it_is_found_and_right(path):
    found = find(path)
    assert sorted(found.recipe.parameters) == ["bh", "wh", "wx", "wy"]
    assert verdict(found) == "agree"


def test_a_list_that_is_wrong_is_told(path):
    path.write_text(PLAIN.replace("self.wh[j][i] * dz[j]", "self.wh[i][j] * dz[j]"))
    found = find(path)
    told = which_line(found.recipe, report_of(found), 0).lines
    assert [one.code.strip()[:10] for one in told if one.status == "wrong"] == ["carried = "]


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("self.wh[j][i] * dz[j]", "self.wh[i][j] * dz[j]"),
        ("self.hs[t + 1][i] ** 2)", "self.hs[t + 1][i])"),
    ],
    ids=["untransposed", "slope"],
)
def test_what_is_wrong_in_a_list_is_mended(path, right, wrong):
    path.write_text(PLAIN.replace(right, wrong))
    done = mend(find(path).recipe, progress=False)
    assert done.is_mended
    (added,) = (one for one in done.diff().splitlines() if one.startswith("+ "))
    assert right.rstrip(")") in added
