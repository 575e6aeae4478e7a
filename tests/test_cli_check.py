"""`throughtime check`: exit statuses, files, messages."""

import json
import os
import sys
from pathlib import Path
from unittest.mock import Mock
from xml.etree import ElementTree

import pytest

from helpers import Terminal
from throughtime.arrays import CONTROL
from throughtime.cli import FAILED, main

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


def test_what_a_target_prints_stands_beside_the_report(target, capsys):
    body = "print('read')\ndef aloud(): print('evaluated'); return (w**2).sum()"
    assert main(["check", target(body, loss="aloud()")]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("AGREE: ")
    assert "evaluated" not in out
    assert err.startswith("read\nevaluated\n")


def test_a_function_that_returns_nothing(target, capsys):
    place = target("def run():\n    pass\n").replace(":target", ":run")
    assert main(["check", place]) == 3
    expected = "mine.py:run: expected a function that returns a target, got None; return one, or "
    assert expected in capsys.readouterr().err


def test_unresolved(target, capsys):
    """Beside a number so large, double precision has no digits left for the rest."""
    assert main(["check", target(loss="1e22 + (w**2).sum()")]) == 2
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
        ("nothing", "name: expected one of target, make, got 'nothing'"),
    ],
)
def test_names_that_are_no_target(target, capsys, name, message):
    assert main(["check", target().replace(":target", f":{name}")]) == 3
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("missing.py:target", "target: expected an existing Python file or notebook, got …"),
        ("mine", "target: expected a file, as lstm.py or lstm.py:NAME, or a shared library, got …"),
        ("", "target: expected a file, as lstm.py or lstm.py:NAME, or a shared library, got ''"),
        (
            "folder",
            "target: expected a file, as lstm.py or lstm.py:NAME, or a shared library, got the "
            "folder folder",
        ),
        (
            ".",
            "target: expected a file, as lstm.py or lstm.py:NAME, or a shared library, got the "
            "folder .; name a file in it, as a.py",
        ),
        ("folder:x", "target: expected an existing Python file, got the folder folder"),
        (
            "a.py",
            "target: expected a file, as lstm.py or lstm.py:NAME, or a shared library, got 'a.py'; "
            "name what to check in it: a.py:NAME",
        ),
        ("a.py:x", "a.py: expected the name of a class or function in it, got 'x'; it has none"),
        ("lib.so", "library: expected an existing file, got the folder lib.so"),
    ],
)
def test_places_that_are_no_target(capsys, tmp_path, monkeypatch, place, message):
    monkeypatch.chdir(tmp_path)
    for folder in ("folder", "lib.so"):
        (tmp_path / folder).mkdir()
    (tmp_path / "a.py").touch()
    assert main(["check", place]) == 3
    error = capsys.readouterr().err
    assert error.startswith(f"throughtime check: {message.removesuffix('…')}")
    assert message.endswith("…") or error == f"throughtime check: {message}\n"


@pytest.mark.parametrize(
    ("place", "code", "said"),
    [
        ("body", "1 / 0", "mine.py:4: ZeroDivisionError: division by zero"),
        ("loss", "1 / 0", "mine.py:5: ZeroDivisionError: division by zero"),
        ("loss", "{}['data']", "mine.py:5: KeyError: 'data'"),
        ("loss", "np.zeros(2) @ np.zeros(3)", "mine.py:5: ValueError: matmul: …"),
        ("body", "raise OSError('two\\nlines')", "mine.py:4: OSError: two lines"),
        ("body", "assert False", "mine.py:4: AssertionError"),
        ("body", "import json; json.loads('{')", "mine.py:4: JSONDecodeError: Expecting …"),
        ("body", "import no_such_module", "mine.py:4: ModuleNotFoundError: No module named …"),
    ],
)
def test_an_error_in_the_user_s_own_code_is_one_line_that_says_where(
    target, capsys, place, code, said
):
    """Where in their code, though it is a library that raises; a … leaves the end open."""
    assert main(["check", target(**{place: code})]) == 3
    (error,) = capsys.readouterr().err.splitlines()
    beginning, _, rest = error.partition("mine.py:")
    assert beginning.startswith("throughtime check: ")
    found = f"mine.py:{rest}"
    assert found == said or (said.endswith("…") and found.startswith(said[:-1]))


@pytest.mark.parametrize("place", ["body", "loss"])
@pytest.mark.parametrize("status", [0, 1, 2])
def test_code_that_exits_is_no_verdict(target, capsys, place, status):
    """Its exit status would be taken for one: 0 for a gradient that agrees."""
    code = {"body": f"raise SystemExit({status})", "loss": f"exec('raise SystemExit({status})')"}
    assert main(["check", target(**{place: code[place]})]) == 3
    assert f": SystemExit: {status}\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("needs", "mine.py:needs: expected a function that needs no argument, got one of (n, m); "),
        (
            "two",
            "loss: expected a function of no argument, or of the parameters, got one of (a, b)",
        ),
        ("empty", "mine.py:empty: expected a Target, or what tt.target_of makes one of, got tuple"),
    ],
)
def test_functions_of_too_many_arguments_and_an_empty_tuple(target, capsys, name, message):
    place = target(
        "def needs(n, *, m, k=1): return n\n"
        "two = tt.Target({'w': w}, lambda a, b: 1.0, lambda: {'w': w})\n"
        "empty = ()\n"
    )
    assert main(["check", place.replace(":target", f":{name}")]) == 3
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--json", "--html", "--junit", "--figure"])
def test_where_no_file_can_be_written_is_said_before_anything_is_measured(
    target, tmp_path, capsys, option
):
    place = target("1 / 0")  # which would be said if the file were looked at
    missing = tmp_path / "missing"
    assert main(["check", place, option, str(missing / "r")]) == 3
    expected = f"{option}: expected a file in an existing folder, got {missing / 'r'}; mkdir -p "
    assert expected in capsys.readouterr().err
    assert main(["check", place, option, str(tmp_path)]) == 3
    assert f"{option}: expected a file, got the folder {tmp_path}" in capsys.readouterr().err


def test_a_file_that_cannot_be_written_after_all(target, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(os, "replace", Mock(side_effect=OSError(28, "No space left on device")))
    path = tmp_path / "r.json"
    assert main(["check", target(), "--json", str(path)]) == 3
    said = f"throughtime check: --json {path}: No space left on device\n"
    assert capsys.readouterr().err == said


@pytest.mark.parametrize("columns", [40, 60, 100])
def test_a_narrow_terminal(target, columns, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdout", Terminal())
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("NO_COLOR", "1")
    assert main(["check", target(factor=0.5)]) == 1
    lines = sys.stdout.getvalue().splitlines()
    rows = [line for line in lines if "± " in line]
    assert max(map(len, set(lines) - set(rows) - {line for line in lines if "More: " in line})) <= (
        columns
    )
    assert len(rows) == 1
    assert rows[0].startswith("w " if columns == 100 else "  [")


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
        (["a.py:b", "--timeout", "5"], "target: expected an existing Python file or notebook, …"),
        (["./no.so"], "library: expected an existing file, got ./no.so"),
    ],
)
def test_what_is_not_to_be_checked(capsys, arguments, message):
    assert main(["check", *arguments]) == 3
    error = capsys.readouterr().err.removeprefix("throughtime check: ").removesuffix("\n")
    assert error == message or (message.endswith("…") and error.startswith(message[:-1]))


def test_a_seed_that_is_none(target, capsys):
    assert main(["check", target(), "--seed", "-1"]) == 3
    expected = "seed: expected an integer of at least 0, got -1"
    assert expected in capsys.readouterr().err


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


HOSTILE_NAMES = [
    r"$\frac{x$",
    "$x$ costs $",
    "\x1b[2J\x1b]0;owned\x07",
    "\ud800",
    "a\nAGREE: b",
    "_h",
]
HOSTILE_NAMES.append("\u202e")
HOSTILE = """
import numpy as np
import throughtime as tt

p = {{name: np.array([1.0, 2.0]) for name in {names!r}}}
target = tt.Target(
    p,
    lambda: sum(np.sum(a**3) for a in p.values()),
    lambda: {{name: {factor} * 3 * a**2 for name, a in p.items()}},
)
"""


@pytest.mark.parametrize("factor", [1.0, 1.5])
def test_no_name_breaks_an_output_or_reaches_the_terminal(tmp_path, capsys, factor):
    pytest.importorskip("matplotlib")
    (tmp_path / "f.py").write_text(HOSTILE.format(names=HOSTILE_NAMES, factor=factor))
    paths = {form: tmp_path / f"r.{form}" for form in ("html", "json", "junit", "figure.svg")}
    words = [f"--{form.partition('.')[0]}={path}" for form, path in paths.items()]
    assert main(["check", *words, f"{tmp_path / 'f.py'}:target"]) == (factor != 1)
    out, err = capsys.readouterr()
    assert not CONTROL.search(out + err)
    assert sum(line.startswith("AGREE:") for line in out.splitlines()) == (factor == 1)
    assert r"\x1b[2J" in out
    assert json.loads(paths["json"].read_text())["tensors"].keys() == set(HOSTILE_NAMES)
    ElementTree.parse(paths["junit"])
    page = paths["html"].read_text("utf-8")
    assert not CONTROL.search(page)
    assert r"$\frac{x$" in page
    assert not CONTROL.search(paths["figure.svg"].read_text("utf-8"))


def test_an_output_that_fails_costs_no_other_one(tmp_path, capsys, monkeypatch):
    (tmp_path / "f.py").write_text(HOSTILE.format(names=["w"], factor=1.0))
    paths = {form: tmp_path / f"r.{form}" for form in ("json", "html", "junit")}

    def fail(*_):
        raise RuntimeError("no page\ntoday")

    monkeypatch.setattr("throughtime.report.pages.check_page", fail)
    words = [f"--{form}={path}" for form, path in paths.items()]
    assert main(["check", *words, f"{tmp_path / 'f.py'}:target"]) == FAILED
    out, err = capsys.readouterr()
    assert out.startswith("AGREE")
    assert err.startswith(f"throughtime check: --html {paths['html']}: ")
    assert err.endswith(": RuntimeError: no page today\n")
    assert err.count("\n") == 1
    assert json.loads(paths["json"].read_text())["verdict"] == "agree"
    assert paths["junit"].exists()
