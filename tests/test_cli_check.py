"""`throughtime check`: exit statuses, files, messages."""

import json

import pytest

from throughtime.cli import main

HEAD = "import numpy as np\nimport throughtime as tt\nw = np.array([1.0, 2.0, 3.0])\n"


@pytest.fixture
def target(tmp_path):
    """Writes a target whose gradient is multiplied by a factor; returns its place."""

    def write(body="", factor=1, loss="(w**2).sum()"):
        path = tmp_path / "mine.py"
        path.write_text(
            f"{HEAD}{body}\n"
            f"target = tt.Target({{'w': w}}, lambda: {loss}, lambda: {{'w': {factor} * 2 * w}})\n"
            "def make():\n    return target\n"
            "other = 5\n"
        )
        return f"{path}:target"

    return write


def test_agree(target, capsys):
    assert main(["check", target()]) == 0
    assert capsys.readouterr().out.startswith("AGREE: ")


def test_disagree(target, capsys):
    assert main(["check", target(factor=0.5)]) == 1
    assert capsys.readouterr().out.startswith("DISAGREE: ")


def test_unresolved(target, capsys):
    """A loss that is rounded to a tenth says too little about its slope."""
    assert main(["check", target(loss="np.round((w**2).sum(), 1)")]) == 2
    assert capsys.readouterr().out.startswith("UNRESOLVED: ")


def test_a_function_that_makes_the_target(target):
    assert main(["check", target().replace(":target", ":make")]) == 0


def test_reports_and_figure(target, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    html, data, figure = (str(tmp_path / name) for name in ("r.html", "r.json", "sweep.png"))
    options = ["--html", html, "--json", data, "--sweep", "--figure", figure]
    assert main(["check", target(), *options]) == 0
    assert "smallest overall: d = " in capsys.readouterr().out
    assert json.loads((tmp_path / "r.json").read_text())["verdict"] == "agree"
    page = (tmp_path / "r.html").read_text()
    assert "<svg" in page
    assert "http://" not in page.replace("http://www.w3.org", "").replace(
        "http://purl.org", ""
    ).replace("http://creativecommons.org", "")
    assert (tmp_path / "sweep.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("other", "expected a throughtime.Target, or a function making one, got int"),
        ("nothing", "name: expected one of np, tt, w, target, make, other, got 'nothing'"),
    ],
)
def test_names_that_are_no_target(target, capsys, name, message):
    assert main(["check", target().replace(":target", f":{name}")]) == 3
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("missing.py:target", "target: expected an existing Python file, got missing.py"),
        ("mine", "target: expected file.py:name, got 'mine'"),
    ],
)
def test_places_that_are_no_target(capsys, place, message):
    assert main(["check", place]) == 3
    assert capsys.readouterr().err == f"throughtime check: {message}\n"


@pytest.mark.parametrize("place", ["body", "loss"])
def test_an_error_in_the_user_s_own_code_is_one_line_that_says_where(target, capsys, place):
    assert main(["check", target(**{place: "1 / 0"})]) == 3
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert "mine.py:" in error
    assert error.endswith("ZeroDivisionError: division by zero\n")


def test_wrong_usage_has_an_exit_status_of_its_own(capsys):
    for arguments in (["check"], ["check", "--entries", "x", "a.py:b"], ["nonsense"], []):
        with pytest.raises(SystemExit) as end:
            main(arguments)
        assert end.value.code == 3
    assert "usage: " in capsys.readouterr().err


def test_version_and_help(capsys):
    for option in ("--version", "--help"):
        with pytest.raises(SystemExit) as end:
            main([option])
        assert end.value.code == 0
    assert "throughtime" in capsys.readouterr().out
