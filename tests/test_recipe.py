"""A user's own file, run by a recipe: each evaluation from the same start, other lengths."""

import json
from dataclasses import replace

import numpy as np
import pytest

import throughtime as tt
from throughtime.source import Program, Recipe, read_source

NETWORK = """
import random
import numpy as np
from activation import squash

print("this line is no definition, and is not run")
open("nowhere", "w").write("nor is this")
SIZE = 3

class Net:
    calls = 0

    def __init__(self):
        self.W = np.random.randn(SIZE, 2)
        self.U = [[0.1] * SIZE for _ in range(SIZE)]
        self.b = np.zeros(SIZE, dtype="float32")

    def forward(self, x, y):
        Net.calls += 1
        self.seen = [np.zeros(SIZE)]
        for step in x:
            self.seen.append(squash(self.W @ step + np.array(self.U) @ self.seen[-1] + self.b))
        self.x, self.error = x, self.seen[-1] - y
        noise = random.random() + np.random.rand()
        return np.array([[0.5 * (self.error**2).sum() + noise * 0.1 * Net.calls]])

    def backward(self):
        self.dW, self.dU, self.db = np.zeros((SIZE, 2)), np.zeros((SIZE, SIZE)), np.zeros(SIZE)
        dh = self.error
        for t in reversed(range(len(self.x))):
            dz = dh * (1 - self.seen[t + 1] ** 2)
            self.dW += np.outer(dz, self.x[t])
            self.dU += np.outer(dz, self.seen[t])
            self.db += dz
            dh = np.array(self.U).T @ dz
"""


@pytest.fixture
def recipe(tmp_path):
    (tmp_path / "activation.py").write_text(
        "import numpy as np\ndef squash(z): return np.tanh(z)\n"
    )
    (tmp_path / "net.py").write_text(NETWORK)
    size = NETWORK.split("\n").index("SIZE = 3") + 1
    return Recipe(
        tmp_path / "net.py",
        setup="net = Net(); x = np.random.randn(5, 2); y = np.random.randn(SIZE)",
        loss="loss = net.forward(x, y)",
        gradient="net.forward(x, y); net.backward()",
        parameters={name: f"net.{name}" for name in "WUb"},
        gradients={name: f"net.d{name}" for name in "WUb"},
        steps={"x": 0},
        run=frozenset({size}),
    )


def test_every_evaluation_begins_from_the_same_state(recipe):
    program = Program(recipe)
    assert program.loss() == program.loss()
    program.gradient()
    assert program.loss() == program.loss()


def test_arrays_lists_and_other_files_are_run_and_checked_at_other_lengths(recipe):
    program = Program(recipe)
    assert program.parameters["b"].dtype == np.float32
    report = tt.check(program.target(), progress=False)
    assert report.verdict == "agree"
    assert program.length == 5
    shorter = program.at_length(1)
    assert shorter.parameters is program.parameters
    assert shorter.loss() != program.loss()
    assert np.all(shorter.gradient()["U"] == 0)


def test_the_file_is_run_with_another_text(recipe):
    text = NETWORK.replace(".T @ dz", " @ dz.sum() @ np.eye(SIZE)")
    program = Program(recipe, texts={recipe.path: NETWORK.replace("self.seen[t] ", "self.x[t] ")})
    assert program.loss() == Program(recipe).loss()
    changed = Program(
        recipe, texts={recipe.path: text.replace("np.array(self.U) @ dz.sum()", "dz")}
    )
    assert changed.loss() == program.loss()
    assert not np.allclose(changed.gradient()["W"], Program(recipe).gradient()["W"])


def test_nothing_is_left_behind(recipe, tmp_path, capfd):
    import sys

    before, path = set(sys.modules), list(sys.meta_path)
    Program(recipe).gradient()
    assert {"net", "activation"}.isdisjoint(set(sys.modules) - before)
    assert sys.meta_path == path
    assert capfd.readouterr().out == ""
    assert sorted(file.name for file in tmp_path.iterdir()) == ["activation.py", "net.py"]


def test_too_long_and_no_array(recipe):
    with pytest.raises(tt.CheckError, match="x: steps: expected from 1 to 5, got 6"):
        Program(recipe).at_length(6)
    with pytest.raises(tt.CheckError, match="parameter N: expected an array of numbers"):
        Program(replace(recipe, parameters={"N": "net"}))


def test_a_notebooks_cells_are_its_text(tmp_path):
    cells = [
        {"cell_type": "markdown", "source": ["# Title"]},
        {"cell_type": "code", "source": ["%matplotlib inline\n", "import numpy as np\n", "a = 1"]},
        {"cell_type": "code", "source": "b = 2"},
    ]
    (tmp_path / "net.ipynb").write_text(json.dumps({"cells": cells}))
    found = read_source(tmp_path / "net.ipynb")
    assert found.text == "# %matplotlib inline\nimport numpy as np\na = 1\nb = 2\n"
    assert found.place(4) == "net.ipynb, cell 2, line 1"


# Files that hold no Python, or too much of it.


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"x = '\xff'\n", "expected Python text, got "),
        (b"# coding: rot13\nk = 1\n", "expected Python text, got "),
        (b"# coding: undefined\nk = 1\n", "expected Python text, got "),
        (b"# coding: no-such\nk = 1\n", "expected Python text, got "),
        (b"x = 1\0\n", "characters that are none"),
        (b"x = 1\n" * 200_000, "at most 1,000,000 characters of Python, got 1,200,000"),
    ],
)  # fmt: skip
def test_what_is_no_python_is_said_in_one_line(tmp_path, data, said):
    path = tmp_path / "net.py"
    path.write_bytes(data)
    with pytest.raises(tt.CheckError) as caught:
        read_source(path)
    assert said in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000, '{"cells": ' + "[" * 100_000, '{"cells": 7}', "[]", "7", "{}", "",
        '{"cells": [{"cell_type": "code", "source": 7}]}',
        '{"cells": [{"cell_type": "code", "source": [null]}]}',
        '{"cells": [{"cell_type": "code", "source": {"a": 1}}', '{"cells": [7]}',
        '{"cells": [{"cell_type": "code", "source": "x = 1\\u0000"}]}',
        '{"cells": [{"cell_type": "code", "source": "x = \'\\ud800\'"}]}',
        '{"cells": [{"cell_type": "code", "source": ' + '"' + "x = 1\\n" * 200_000 + '"}]}',
    ],
    ids=lambda text: text[:50],
)  # fmt: skip
def test_what_is_no_notebook_is_said_in_one_line(tmp_path, text):
    path = tmp_path / "net.ipynb"
    path.write_text(text)
    with pytest.raises(tt.CheckError, match=r"^.*net\.ipynb: expected ") as caught:
        read_source(path)
    assert len(str(caught.value)) < 500


def test_a_pipe_or_a_device_is_no_source(tmp_path):
    import os

    os.mkfifo(tmp_path / "net.py")
    (tmp_path / "link.py").symlink_to("/dev/zero")
    for name in ("net.py", "link.py", "none.py"):
        with pytest.raises(tt.CheckError, match="expected an existing Python file"):
            read_source(tmp_path / name)
