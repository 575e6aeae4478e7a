"""The examples of the targets: each agrees as it stands, and disagrees with one mistake put in."""

import importlib.util
import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from throughtime.cli import main

EXAMPLES = Path(__file__).parents[1] / "examples" / "targets"

# file, what it needs, a piece of its backward pass, the same with a mistake, tensors that it hits
CASES = [
    (
        "numpy_rnn.py",
        "numpy",
        'dh = w["Whh"].T @ dz',
        'dh = w["Whh"] @ dz',  # untransposed
        {"Wxh", "Whh", "bh"},
    ),
    (
        "torch_function.py",
        "torch",
        "dc = dc + dh * o",
        "dc = dh * o",  # what comes from the next step is lost
        {"z", "c"},
    ),
    (
        "jax_rnn.py",
        "jax",
        "(1 - y**2)",
        "(1 - jnp.tanh(y) ** 2)",  # of the activated value
        {"W", "U"},
    ),
    ("rnn.js", "node", "dh = earlier;", "", {"W", "U", "b"}),
]


def present(needed):
    return importlib.util.find_spec(needed) or shutil.which(needed)


@pytest.fixture
def verdicts(tmp_path):
    """Checks an example after a replacement; returns the exit status and each tensor's verdict."""

    def check(name, before="", after=""):
        text = (EXAMPLES / name).read_text(encoding="utf-8")
        assert before in text
        place, report = tmp_path / f"an_{name}", tmp_path / "report.json"
        place.write_text(text.replace(before, after) if before else text, encoding="utf-8")
        what = ["--program", "node", str(place)] if name.endswith(".js") else [f"{place}:target"]
        status = main(["check", "--json", str(report), *what])
        sys.modules.pop(place.stem, None)
        tensors = json.loads(report.read_text(encoding="utf-8"))["tensors"]
        return status, {name: tensor["verdict"] for name, tensor in tensors.items()}

    return check


@pytest.mark.parametrize(
    ("name", "needed", "right", "wrong", "hit"), CASES, ids=[case[0] for case in CASES]
)
def test_an_example_and_the_same_with_a_mistake(verdicts, name, needed, right, wrong, hit):
    if not present(needed):
        pytest.skip(f"{needed} is not installed")
    status, found = verdicts(name)
    assert status == 0
    assert set(found.values()) == {"agree"}
    status, found = verdicts(name, right, wrong)
    assert status == 1
    assert {tensor for tensor, verdict in found.items() if verdict == "disagree"} == hit


@pytest.mark.skipif(
    os.environ.get("THROUGHTIME_REQUIRE_ORACLES") != "1", reason="not required here"
)
def test_where_everything_is_required_no_example_is_skipped():
    assert [needed for _, needed, *_ in CASES if not present(needed)] == []
