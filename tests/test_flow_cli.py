"""`throughtime flow`."""

import json

import numpy as np
import pytest

from throughtime.cli import main
from throughtime.cli.flow import excerpts
from training_examples import text, trainer


@pytest.fixture
def model(tmp_path, monkeypatch):
    """A checkpoint of a few updates, and the text that it was trained on."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "book.txt").write_text(text().characters)
    own = trainer()
    own.fit(3)
    own.save("model.safetensors")
    return tmp_path


def test_the_flow_of_a_checkpoint(model, capsys):
    given = ["flow", "model.safetensors", "book.txt", "--steps", "40", "--batch", "4"]
    assert main([*given, "--json", "flow.json"]) == 0
    printed = capsys.readouterr().out
    read = json.loads((model / "flow.json").read_text())
    assert (read["steps"], read["batch"]) == (40, 4)
    assert printed.startswith(read["verdict"].upper())
    assert "Windows of k1 = 16, k2 = 16 give" in printed  # as trained
    assert "at 0.5 it binds" in printed
    assert main([*given, "--k2", "5", "--clip", "0.25", "--tolerance", "0.3"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("\n- ") == 3  # a sentence is a line where nobody looks at a terminal
    assert "Windows of k1 = 5, k2 = 5 give" in printed
    assert "at 0.25 it binds" in printed
    assert "(asked: 0.3)" in " ".join(printed.split())  # a sentence goes on in a further line


def test_a_page_with_the_flow_and_a_check(model, capsys):
    pytest.importorskip("matplotlib")
    given = ["flow", "model.safetensors", "book.txt", "--steps", "24", "--batch", "3"]
    assert main([*given, "--html", "flow.html"]) == 0
    printed = capsys.readouterr().out
    assert "On 24 steps the gradient is checked.\nAGREE: " in printed
    page = (model / "flow.html").read_text(encoding="utf-8")
    assert "Where does the gradient go?" in page
    assert "Is the gradient right?" in page


def test_excerpts_are_contiguous_and_spread_over_the_text():
    inputs, targets = excerpts(np.arange(100), 10, 4)
    assert (inputs[0] == [0, 29, 59, 89]).all()
    assert (np.diff(inputs, axis=0) == 1).all()
    assert (targets == inputs + 1).all()
    assert targets[-1, -1] == 99


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.safetensors"], "expected an existing safetensors file, got none.safetensors"),
        (["model.safetensors", "none.txt"], "none.txt: expected an existing file or folder"),
        (["model.safetensors", "book.txt", "--steps", "99999"], "T + B = 100015 characters"),
        (["model.safetensors", "book.txt", "--steps", "0"], "steps: expected an integer of at"),
        (["model.safetensors", "book.txt", "--tolerance", "0"], "tolerance: expected"),
    ],
)
def test_wrong_input_is_refused(model, capsys, arguments, message):
    assert main(["flow", *arguments]) == 3
    assert message in capsys.readouterr().err
