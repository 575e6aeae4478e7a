"""`throughtime check`: exit statuses, files, messages."""

import json
from pathlib import Path

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
        (
            "other",
            "mine.py:other: expected a Target, or what tt.target_of makes one of, got int; ",
        ),
        ("nothing", "name: expected one of w, target, make, other, got 'nothing'"),
    ],
)
def test_names_that_are_no_target(target, capsys, name, message):
    assert main(["check", target().replace(":target", f":{name}")]) == 3
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("missing.py:target", "target: expected an existing Python file, got missing.py"),
        ("mine", "target: expected file.py:name, or a shared library, got 'mine'"),
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
    for arguments in (["check", "--entries", "x", "a.py:b"], ["nonsense"], []):
        with pytest.raises(SystemExit) as end:
            main(arguments)
        assert end.value.code == 3
    assert "usage: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "target: expected a TARGET or --program, got neither; see --help"),
        (["a.py:b", "--program", "c"], "target: expected a TARGET or --program, got both; …"),
        (["--program"], "program: expected a command, got none"),
        (["a.py:b", "--timeout", "5"], "target: expected an existing Python file, got a.py"),
        (["./no.so"], "library: expected an existing file, got ./no.so"),
    ],
)
def test_what_is_not_to_be_checked(capsys, arguments, message):
    assert main(["check", *arguments]) == 3
    error = capsys.readouterr().err.removeprefix("throughtime check: ").removesuffix("\n")
    assert error == message or (message.endswith("…") and error.startswith(message[:-1]))


def test_a_time_limit_is_for_libraries_and_programs(target, capsys):
    assert main(["check", target(), "--timeout", "5"]) == 3
    expected = "--timeout: expected a library or a program, which it limits, got "
    assert expected in capsys.readouterr().err


def test_a_network_with_its_data(tmp_path, capsys):
    path = tmp_path / "net.py"
    path.write_text(
        "import numpy as np, throughtime as tt\n"
        "net = tt.Network([tt.RNN(2, 3)], tt.MeanSquaredError(), dtype='float64', seed=0)\n"
        "data = net, np.ones((4, 1, 2)), np.zeros((4, 1, 3))\n"
        "def make(): return data\n"
        "short = net, np.ones((4, 1, 2))\n"
    )
    assert main(["check", f"{path}:data", "--effort", "quick"]) == 0
    assert main(["check", f"{path}:make", "--evaluations", "500", "--seconds", "100"]) == 0
    capsys.readouterr()
    assert main(["check", f"{path}:short"]) == 3
    assert "short: expected a Network, inputs, targets, got 2 things" in capsys.readouterr().err


def test_quiet_says_nothing_but_errors(target, capsys):
    assert main(["check", target(factor=2), "--quiet", "--sweep"]) == 1
    assert main(["check", target("1 / 0"), "--quiet"]) == 3
    out, error = capsys.readouterr()
    assert out == ""
    assert "division by zero" in error


def test_junit(target, tmp_path):
    path = tmp_path / "r.xml"
    assert main(["check", target(factor=2), "--junit", str(path)]) == 1
    assert "<testsuite" in path.read_text()


def test_the_header_s_folder(capsys):
    assert main(["check", "--include"]) == 0
    folder = capsys.readouterr().out.strip()
    assert "tt_gradient" in (Path(folder) / "throughtime.h").read_text()


def test_version_and_help(capsys):
    for option in ("--version", "--help"):
        with pytest.raises(SystemExit) as end:
            main([option])
        assert end.value.code == 0
    assert "throughtime" in capsys.readouterr().out
