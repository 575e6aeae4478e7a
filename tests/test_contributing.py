"""The contributors' guide: a toy cell and a toy loss, made exactly as it says, in a copy."""

import os
import re
import shutil
import subprocess
import sys
import textwrap
from importlib.util import find_spec
from pathlib import Path

import pytest

from throughtime import _engine

ROOT = Path(__file__).parents[1]
GUIDE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")

# An editable installation puts a finder of its own before PYTHONPATH.
PREFER_THE_COPY = """\
import sys

sys.meta_path = [f for f in sys.meta_path if type(f).__name__ != "ScikitBuildRedirectingFinder"]
"""


class Copy:
    """A copy of the package and its tests, which the guide is followed in."""

    def __init__(self, folder):
        self.folder = folder
        ignored = shutil.ignore_patterns("__pycache__", "corpus", "screens")
        for name in ("src", "tests"):
            shutil.copytree(ROOT / name, folder / name, ignore=ignored)
        shutil.copy(_engine.__file__, folder / "src" / "throughtime")
        shutil.copy(ROOT / "pyproject.toml", folder)
        (folder / "src" / "sitecustomize.py").write_text(PREFER_THE_COPY, encoding="utf-8")

    def edit(self, path, *changes):
        """Each (old, new) once."""
        file = self.folder / path
        text = file.read_text(encoding="utf-8")
        for old, new in changes:
            assert text.count(old) >= 1, f"{path}: {old}"
            text = text.replace(old, new, 1)
        file.write_text(text, encoding="utf-8")

    def export(self, name, room, source):
        """From its file through the room's `__init__` to the package's."""
        self.edit(
            f"src/throughtime/{room}/__init__.py",
            ("\n__all__ = [\n", f"\nfrom {source} import {name}\n\n__all__ = [\n    {name!r},\n"),
        )
        self.edit(
            "src/throughtime/__init__.py",
            ("__all__ = [", f"from throughtime.{room} import {name}\n\n__all__ = [\n    {name!r},"),
        )

    def run(self, *command):
        paths = os.pathsep.join(str(self.folder / name) for name in ("src", "tests"))
        return subprocess.run(
            [sys.executable, "-W", "error", *command],
            cwd=self.folder,
            env=os.environ | {"PYTHONPATH": paths},
            capture_output=True,
            text=True,
            check=False,
        )

    def python(self, code):
        """What the code prints."""
        done = self.run("-c", textwrap.dedent(code))
        assert done.returncode == 0, done.stderr
        return done.stdout

    def passes(self, *selection):
        done = self.run("-m", "pytest", "-q", "-p", "no:cacheprovider", *selection)
        assert done.returncode == 0, done.stdout + done.stderr


def code_for(path):
    """The block of the guide that begins with the name of this file."""
    blocks = re.findall(r"^ *```python\n(.*?)^ *```$", GUIDE, re.S | re.M)
    found = [textwrap.dedent(block) for block in blocks]
    (own,) = (block for block in found if block.startswith(f"# {path}\n"))
    return own.split("\n", 1)[1]


@pytest.fixture(scope="module")
def cell(tmp_path_factory):
    """A copy with the guide's cell."""
    copy = Copy(tmp_path_factory.mktemp("cell"))
    path = "src/throughtime/cells/ugrnn.py"
    (copy.folder / path).write_text(code_for(path), encoding="utf-8")
    copy.edit(
        "src/throughtime/cells/registry.py",
        ("\n# Every cell.", "\nfrom throughtime.cells.ugrnn import UGRNN\n\n# Every cell."),
        ("(RNN, LSTM, GRU)", "(RNN, LSTM, GRU, UGRNN)"),
    )
    copy.export("UGRNN", "cells", "throughtime.cells.ugrnn")
    step = code_for("tests/torch_reference.py")
    copy.edit(
        "tests/torch_reference.py",
        ("STEPS = {", f"{step}\n\nSTEPS = {{tt.UGRNN: _ugrnn, "),
    )
    return copy


@pytest.fixture(scope="module")
def loss(tmp_path_factory):
    """A copy with the guide's loss."""
    copy = Copy(tmp_path_factory.mktemp("loss"))
    path = "src/throughtime/network/losses.py"
    copy.edit(
        path,
        ("\nLOSSES:", f"\n{code_for(path)}\n\nLOSSES:"),
        ("SoftmaxCrossEntropy, BinaryCrossEntropy)", "SoftmaxCrossEntropy, LogCosh)"),
        ("for kind in (MeanSquaredError,", "for kind in (BinaryCrossEntropy, MeanSquaredError,"),
    )
    copy.export("LogCosh", "network", "throughtime.network.losses")
    copy.edit(
        "tests/test_losses.py",
        ("LOSSES = {", 'LOSSES = {\n    "LogCosh": (tt.LogCosh, RNG.standard_normal((T, B, K))),'),
    )
    reference = "def log_cosh(y, t):\n    return torch.log(torch.cosh(y - t)).mean(2)\n\n\n"
    copy.edit(
        "tests/test_torch_losses.py",
        (
            "LOSSES = {",
            f'{reference}LOSSES = {{\n    "LogCosh": (tt.LogCosh, log_cosh, NUMBERS),',
        ),
    )
    return copy


RUN = """
    import numpy as np
    import throughtime as tt

    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((9, 3, 2)), rng.standard_normal((9, 3, 2))
"""


class TestCell:
    def test_check_and_flow(self, cell):
        shown = cell.python(
            RUN
            + """
    net = tt.Network([tt.UGRNN(2, 4), tt.UGRNN(4, 3), tt.Dense(3, 2)], tt.MeanSquaredError(),
                     dtype="float64", seed=0)
    report = tt.check(net, x, y)
    assert report.verdict == "agree", report
    flow = tt.flow(net, x, y, lengths=np.array([9, 4, 7]), spectrum=True)
    layer = flow.layers[0]
    assert layer.kind == "UGRNN" and set(layer.gates) == {"z", "n"}
    assert layer.lyapunov is not None and np.isfinite(layer.profile["h"]).all()
    print(flow)
    """
        )
        assert "gate z: mean" in shown
        assert "saturated closed" in shown

    def test_files_and_training_know_it(self, cell):
        cell.python(
            RUN
            + """
    from throughtime.training import Settings

    net = tt.Network([tt.UGRNN(2, 3)], dtype="float64", seed=0)
    net.save("network.safetensors")
    assert tt.Network.load("network.safetensors").run(x).gates[0]["z"].shape == (9, 3, 3)
    assert isinstance(Settings(cell="ugrnn").specs(8)[1], tt.UGRNN)
    """
        )

    def test_a_wrong_gradient_is_told_what_is_missing(self, cell):
        shown = cell.python(
            RUN
            + """
    net = tt.Network([tt.UGRNN(2, 4), tt.Dense(4, 2)], tt.MeanSquaredError(), dtype="float64",
                     seed=0)
    target = tt.target_of(net, x, y)
    halved = {name: array.copy() for name, array in target.gradient().items()}
    halved["0.U"] *= 0.5
    wrong = tt.Target(target.parameters, target.loss, lambda: halved, layout=target.layout)
    report = tt.check(wrong)
    assert report.verdict == "disagree"
    print(report)
    """
        )
        assert "expected an RNN, LSTM or GRU, got UGRNN" in shown

    def test_explain_offers_the_others(self, cell):
        shown = cell.python(
            """
    from throughtime.explain import DERIVATIONS, example

    assert "ugrnn" not in DERIVATIONS
    try:
        example("ugrnn")
    except ValueError as refusal:
        print(refusal)
    """
        )
        assert "expected one of rnn," in shown

    def test_torch_is_told_what_is_missing(self, cell):
        shown = cell.python(
            RUN
            + """
    try:
        tt.torch_state_dict(tt.Network([tt.UGRNN(2, 3)]))
    except ValueError as refusal:
        print(refusal)
    """
        )
        assert "expected what torch.nn.RNN, LSTM or GRU can hold, got a layer UGRNN" in shown

    def test_numerical_gradients(self, cell):
        cell.passes("tests/test_cells.py", "-k", "UGRNN")

    @pytest.mark.skipif(not find_spec("torch"), reason="torch is not installed")
    def test_oracle(self, cell):
        cell.passes("tests/test_torch_cells.py", "-k", "UGRNN")


class TestLoss:
    def test_check_and_flow(self, loss):
        loss.python(
            RUN
            + """
    net = tt.Network([tt.GRU(2, 4), tt.Dense(4, 2)], tt.LogCosh(time="sum"), dtype="float64",
                     seed=0)
    report = tt.check(net, x, y)
    assert report.verdict == "agree", report
    assert tt.flow(net, x, y).loss > 0
    net.save("network.safetensors")
    assert tt.Network.load("network.safetensors").loss == tt.LogCosh(time="sum")
    """
        )

    def test_a_wrong_gradient_is_told_what_is_missing(self, loss):
        shown = loss.python(
            RUN
            + """
    net = tt.Network([tt.GRU(2, 4), tt.Dense(4, 2)], tt.LogCosh(), dtype="float64", seed=0)
    target = tt.target_of(net, x, y)
    halved = {name: array.copy() for name, array in target.gradient().items()}
    halved["0.U"] *= 0.5
    wrong = tt.Target(target.parameters, target.loss, lambda: halved, layout=target.layout)
    print(tt.check(wrong))
    """
        )
        assert "expected one of the losses" in shown

    def test_numerical_gradients(self, loss):
        loss.passes("tests/test_losses.py", "-k", "LogCosh or every_loss")

    @pytest.mark.skipif(not find_spec("torch"), reason="torch is not installed")
    def test_oracle(self, loss):
        loss.passes("tests/test_torch_losses.py", "-k", "LogCosh")
