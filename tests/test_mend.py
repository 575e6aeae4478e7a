"""What would be right in a user's own file: the edits, the search, and what comes out."""

import json
import multiprocessing
import os
import select
import signal
import threading
import warnings
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import throughtime as tt
from helpers import RNN_CLASS
from throughtime import cli
from throughtime.source import Recipe, find
from throughtime.source.edits.edit import Edit, FileText, Splice, alike, edited
from throughtime.source.edits.statement_edits import is_numerical
from throughtime.source.edits.versions import replaced_functions
from throughtime.source.lines import trials
from throughtime.source.lines.trials import Measured, Setting, Trials, Try
from throughtime.source.mending.agreement import WRONG, compared
from throughtime.source.mending.mend import mend

NETWORK = """
import numpy as np

def clip(grads, most=0.05):
    norm = np.sqrt(sum((g**2).sum() for g in grads))
    return [g * most / norm for g in grads] if norm > most else grads

class Net:
    def __init__(self, hidden=2):
        self.W, self.U = np.random.randn(hidden, 2), np.random.randn(hidden, hidden)
        self.V = np.random.randn(1, hidden)

    def forward(self, x, y):
        self.x, self.h, self.errors, loss = x, [np.zeros(len(self.U))], [], 0.0
        for t in range(len(x)):
            self.h.append(np.tanh(self.W @ x[t] + self.U @ self.h[-1]))
            self.errors.append(self.V @ self.h[-1] - y[t])
            loss += 0.5 * float((self.errors[-1] ** 2).sum())
        return loss

    def backward(self):
        dW, dU, dV = np.zeros_like(self.W), np.zeros_like(self.U), np.zeros_like(self.V)
        carried = np.zeros(len(self.U))
        for t in reversed(range(len(self.x))):
            dV += np.outer(self.errors[t], self.h[t + 1])
            dh = self.V.T @ self.errors[t] + carried
            dz = dh * (1 - self.h[t + 1] ** 2)
            dW += np.outer(dz, self.x[t])
            dU += np.outer(dz, self.h[t])
            carried = self.U.T @ dz
        return [dW, dU, dV]
"""

FAULTS = {
    "slope": ("(1 - self.h[t + 1] ** 2)", "(1 - np.tanh(self.h[t + 1]) ** 2)"),
    "transposed": ("self.U.T @ dz", "self.U @ dz"),
    "clipped": ("return [dW, dU, dV]", "return clip([dW, dU, dV])"),
    "overwritten": ("dU += np.outer(dz", "dU = np.outer(dz"),
    "averaged": ("return loss", "return loss / len(x)"),
    "earlier": ("np.outer(dz, self.h[t])", "np.outer(dz, self.h[t - 1])"),
}


def wrong(*faults):
    text = NETWORK
    for fault in faults:
        right, mistaken = FAULTS[fault]
        assert text.count(right) == 1
        text = text.replace(right, mistaken)
    return text


@pytest.fixture
def recipe(tmp_path):
    return Recipe(
        tmp_path / "net.py",
        setup="net = Net(); x = np.random.randn(3, 2); y = np.random.randn(3, 1)",
        loss="loss = net.forward(x, y)",
        gradient="net.forward(x, y); grads = net.backward()",
        parameters={name: f"net.{name}" for name in "WUV"},
        gradients={name: f"grads[{n}]" for n, name in enumerate("WUV")},
        steps={"x": 0, "y": 0},
    )


def mended(recipe, text):
    recipe.path.write_text(text)
    return mend(recipe, progress=False)


def changed(found):
    return [line[1:].strip() for line in found.diff().split("\n")
            if line[:1] == "+" and line[:2] != "++"]  # fmt: skip


def test_three_faults_that_hide_each_other(recipe):
    found = mended(recipe, wrong("slope", "transposed", "clipped"))
    assert found.is_mended
    assert found.verdict == "agree"
    said = " ".join(changed(found))
    assert "self.U.T @ dz" in said
    assert "np.tanh(self.h[t + 1])" not in found.after[recipe.path.resolve()]
    assert len(changed(found)) == 3
    assert recipe.path.read_text() == wrong("slope", "transposed", "clipped")


def test_a_coincidence_is_refuted_by_other_lengths(recipe):
    """There are as many units as steps: a division by either mends the gradient as it stands."""
    text = wrong("averaged").replace("hidden=2", "hidden=3")
    found = mended(recipe, text)
    assert found.is_mended
    assert all("self.x" in line or "len(" in line for line in changed(found))


@pytest.fixture
def few(monkeypatch):
    """Few tries, where nothing is there to be found."""
    monkeypatch.setattr("throughtime.source.mending.mend.TRIES_OF_A_STEP", 1500)
    monkeypatch.setattr("throughtime.source.mending.edit_pairs.MOST_PAIRS", 0)


def test_what_mends_at_one_length_alone_is_no_mend(recipe, few):
    """A factor is missing that no edit reaches; it is 3, and so is the number of steps."""
    text = NETWORK.replace("self.U @ self.h[-1]", "np.sqrt(9.0) * self.U @ self.h[-1]")
    found = mended(recipe, text.replace("= self.U.T @ dz", "= np.sqrt(9.0) * self.U.T @ dz"))
    assert not found.is_mended
    assert found.diff() == ""


def test_what_mends_with_one_set_of_data_alone_is_no_mend(recipe, few):
    """The data hold the number that is missing, by chance; other data hold another one."""
    recipe = replace(
        recipe,
        setup=f"{recipe.setup}; net.k = 7 if np.random.rand() < 0.5 else 5",
        loss="loss = net.forward(x, y) * 7",
    )
    text = NETWORK.replace("self.x, self.h,", "scale = self.k; self.x, self.h,")
    found = mended(recipe, text.replace("carried = np", "scale = self.k; carried = np"))
    assert not found.is_mended
    assert found.diff() == ""


@pytest.mark.parametrize("size", ["1e-5", "1e-6"])
def test_a_faint_penalty_is_found(recipe, size):
    text = NETWORK.replace("return [dW,", f"dU += {size} * self.U\n        return [dW,")
    found = mended(recipe, text)
    assert found.is_mended
    assert found.verdict == "agree"
    assert f"-        dU += {size} * self.U" in found.diff()


def test_a_statement_that_its_siblings_have_is_added(recipe):
    """A penalty of all weights in the loss, whose slope one gradient lacks."""
    penalty = "0.1 * sum((w**2).sum() for w in (self.W, self.U, self.V))"
    text = NETWORK.replace("return loss", f"return loss + {penalty}")
    lacking = "dW += 0.2 * self.W\n        dV += 0.2 * self.V\n        return [dW, dU, dV]"
    found = mended(recipe, text.replace("return [dW, dU, dV]", lacking))
    assert found.is_mended, str(found)
    assert changed(found) == ["dU += 0.2 * self.U"]


def test_a_faint_penalty_that_stays_is_not_called_mended(recipe, few):
    """In the loss alone, and so in no statement that may be edited."""
    recipe = replace(recipe, loss="loss = net.forward(x, y) + 1e-8 * (net.W**2).sum()")
    found = mended(recipe, NETWORK)
    assert not found.is_mended
    assert str(found).startswith("not mended: all 3 tensors agree to 3e-05 of their size, but")


SAFE = """
import numpy as np

class Net:
    def __init__(self):
        self.W, self.U, self.V = (np.random.randn(2, 2) for _ in range(3))

    def forward(self, x, y, eps=1e-6):
        self.x, self.h, self.p, self.y, loss = x, [np.zeros(2)], [], y, 0.0
        for t in range(len(x)):
            self.h.append(np.tanh(self.W @ x[t] + self.U @ self.h[-1]))
            self.p.append(np.exp(self.V @ self.h[-1]) / np.exp(self.V @ self.h[-1]).sum())
            loss -= np.log(self.p[-1] + eps)[int(y[t, 0] > 0)]
        return loss

    def backward(self):
        dW, dU, dV, carried = np.zeros((2, 2)), np.zeros((2, 2)), np.zeros((2, 2)), np.zeros(2)
        for t in reversed(range(len(self.x))):
            do = self.p[t] - np.eye(2)[int(self.y[t, 0] > 0)]
            dV += np.outer(do, self.h[t + 1])
            dz = (self.V.T @ do + carried) * (1 - self.h[t + 1] ** 2)
            dW += np.outer(dz, self.x[t])
            dU += np.outer(dz, self.h[t])
            carried = self.U.T @ dz
        return [dW, dU, dV]
"""


def test_a_residue_is_said_as_what_it_is_and_only_where_that_is_shown(recipe, few):
    found = mended(recipe, SAFE)
    assert not found.is_mended
    assert found.diff() == ""
    said = "that ε = 1e-06 (net.py:13) explains: without it all 3 tensors agree"
    assert said in str(found)
    penalty = replace(recipe, loss="loss = net.forward(x, y) + 1e-6 * (net.U**2).sum()")
    found = mended(penalty, SAFE)
    assert not found.is_mended
    assert "explains" not in str(found)


def test_a_clip_that_shows_at_twice_the_length_alone_is_taken_out(recipe):
    """What comes after three steps is large; the check looks at twice as many steps as well."""
    recipe = replace(
        recipe,
        data="late = (np.arange(6) > 2)[:, None]; x = np.random.randn(6, 2) * 0.1\n"
        "y = np.random.randn(6, 1) * 0.1 + 1000 * late",
        setup="net = Net()",
        length=3,
    )
    clip = "for g in (dW, dU, dV):\n            np.clip(g, -50, 50, out=g)\n        return [dW,"
    found = mended(recipe, NETWORK.replace("return [dW,", clip))
    assert found.is_mended
    assert "-            np.clip(g, -50, 50, out=g)" in found.diff()
    assert "Clip in the update: what is clipped is not the loss's gradient." in str(found)


@pytest.mark.parametrize("faults", [(), ("transposed",)])
def test_a_clip_that_nothing_reached_is_said(recipe, faults):
    """One of the backward pass: that of a value in the loss is no clip of the gradient."""
    gap = "\n            "
    text = wrong(*faults).replace("dz = dh *", f"dh = np.clip(dh, -500, 500){gap}dz = dh *")
    forward = f"self.h[-1] = np.clip(self.h[-1], -1, 1){gap}"
    text = text.replace("self.errors.append(", f"{forward}self.errors.append(")
    found = mended(recipe, text)
    assert found.is_mended
    line = 1 + text.split("\n").index("            dh = np.clip(dh, -500, 500)")
    assert found.idle_clips == ((recipe.path.resolve(), line),)
    assert f"net.py:{line} clips what is large" in str(found)
    assert "clips what is large" not in str(mended(recipe, wrong(*faults)))


def test_other_data_are_others_where_the_recipe_was_found(tmp_path):
    path = tmp_path / "net.py"
    path.write_text(RNN_CLASS)
    with Trials(find(path).recipe, {}, 1) as processes:
        one, other = (
            processes.ask("tried", Try(Setting("", seed=seed, point=1))).products for seed in (0, 1)
        )
    assert not np.isclose(one["W"], other["W"]).any()


def test_what_the_values_of_lines_show_is_mended_at_once(recipe, monkeypatch):
    """No edit is tried here but those that the lines' values propose."""
    monkeypatch.setattr("throughtime.source.mending.mend._Search._groups", lambda *_: [])
    found = mended(recipe, wrong("transposed", "earlier"))
    assert found.is_mended
    assert found.after[recipe.path.resolve()] == NETWORK
    assert {kind for hunk in found.hunks for kind in hunk.kinds} == {"transposed", "index"}


def test_right_code_has_nothing_to_mend(recipe):
    found = mended(recipe, NETWORK)
    assert (found.hunks, found.diff(), found.is_mended) == ((), "", True)
    assert str(found) == "nothing to mend: all 3 tensors agree\n"


def test_a_process_that_holds_jax_can_mend(recipe):
    pytest.importorskip("jax").numpy.ones(2).sum()  # from here on, every fork makes it warn
    assert mended(recipe, NETWORK).is_mended


def test_what_no_small_edit_mends_is_said(recipe, few):
    text = NETWORK.replace(
        "dz = dh * (1 - self.h[t + 1] ** 2)", "dz = np.sin(17 * dh + np.cos(9 * dh))"
    ).replace("np.tanh(", "np.arctan(")
    found = mended(recipe, text)
    assert not found.is_mended
    assert "V" in str(found).split("\n")[0]
    assert "1 of 3 tensors agree everywhere: V" in str(found)


def test_a_program_that_fails_is_refused(recipe):
    with pytest.raises(tt.CheckError, match="ZeroDivisionError"):
        mended(recipe, NETWORK.replace("return loss", "return loss / 0"))


def test_the_command_writes_and_keeps_the_file_as_it_was(tmp_path, capsys):
    path, text = tmp_path / "net.py", RNN_CLASS.replace("self.dU +=", "self.dU =")
    path.write_text(text)
    assert cli.main(["mend", str(path), "--write", "--json", str(tmp_path / "found.json")]) == 0
    said = capsys.readouterr().out
    assert "-            self.dU = np.outer(dz, self.h[t])\n" in said
    assert "+            self.dU += np.outer(dz, self.h[t])\n" in said
    assert path.read_text() == RNN_CLASS
    assert (tmp_path / "net.py.orig").read_text() == text
    data = json.loads((tmp_path / "found.json").read_text())
    assert data["mended"]
    assert data["steps"][0]["changed"] == ["self.dU += np.outer(dz, self.h[t])"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["found.json", "net.py", "net.py.orig"]


def test_a_backup_is_never_overwritten(tmp_path):
    path = tmp_path / "net.py"
    path.write_text("a = 1\n")
    (tmp_path / "net.py.orig").write_text("before\n")
    found = an_outcome(path, "a = 1\n", "a = 2\n")
    with pytest.raises(tt.CheckError, match=r"expected no net\.py\.orig, got one"):
        found.write()
    assert path.read_text() == "a = 1\n"


def test_ends_of_lines_and_encoding_stay(tmp_path):
    path = tmp_path / "net.py"
    path.write_bytes("# -*- coding: latin-1 -*-\r\nä = 1\r\n".encode("latin-1"))
    text = "# -*- coding: latin-1 -*-\nä = 1\n"
    an_outcome(path, text, text.replace("1\n", "2\n", 2).replace("latin-2", "latin-1")).write()
    assert path.read_bytes() == "# -*- coding: latin-1 -*-\r\nä = 2\r\n".encode("latin-1")


@pytest.mark.parametrize("layout", [{"indent": 1}, {"indent": None}, {"indent": 2}])
def test_a_notebook_is_written_into_its_cells(tmp_path, layout):
    from throughtime.source.text import read_source

    path = tmp_path / "net.ipynb"
    cells = [
        {"cell_type": "markdown", "metadata": {}, "source": ["# δ"]},
        {
            "cell_type": "code",
            "metadata": {},
            "outputs": [],
            "source": ["%matplotlib\n", "a = 1\n", "b = 2"],
        },
        {
            "cell_type": "code",
            "metadata": {},
            "outputs": [{"text": "é"}],
            "source": "c = 3\nd = 4\ne = 5",
        },
    ]
    book = {"cells": cells, "metadata": {"k": 1}, "nbformat": 4}
    path.write_text(json.dumps(book, ensure_ascii=False, **layout) + "\n", encoding="utf-8")
    text = read_source(path).text
    an_outcome(path, text, text.replace("b = 2", "b = 5\nb += 1").replace("d = 4\n", "")).write()
    cells[1]["source"] = ["%matplotlib\n", "a = 1\n", "b = 5\n", "b += 1"]
    cells[2]["source"] = "c = 3\ne = 5"
    assert path.read_text(encoding="utf-8") == json.dumps(book, ensure_ascii=False, **layout) + "\n"
    assert "b = 2" in (tmp_path / "net.ipynb.orig").read_text(encoding="utf-8")
    text = read_source(path).text
    (tmp_path / "net.ipynb.orig").unlink()
    with pytest.raises(tt.CheckError, match="a change within one cell"):
        an_outcome(path, text, text.replace("b += 1\nc = 3", "f = 6")).write()
    with pytest.raises(tt.CheckError, match=r"net\.ipynb as it was read, got another text"):
        an_outcome(path, "before\n", "after\n").write()


def an_outcome(path, before, after):
    from throughtime.source.mending.mended import Mended

    return Mended(path, {path: before}, {path: after}, (), {}, {}, "agree", 0.0, "agree", 0)


def test_c_is_not_read(tmp_path, capsys):
    (tmp_path / "lstm.cpp").write_text("int main() {}")
    assert cli.main(["mend", str(tmp_path / "lstm.cpp")]) == cli.FAILED
    assert "C and C++ are not read" in capsys.readouterr().err


SCRIPT = """
import numpy as np
W, U = np.random.randn(2, 2), np.random.randn(2, 2)
for epoch in range(3):
    for x in data:
        h, loss = {-1: np.zeros(2)}, 0
        for t in range(len(x)):
            h[t] = np.tanh(W @ x[t] + U @ h[t - 1])
            loss += 0.5 * (h[t] ** 2).sum()
        print(loss)
        dW, dU, carried = np.zeros_like(W), np.zeros_like(U), 0
        for t in reversed(range(len(x))):
            dz = (h[t] + carried) * (1 - h[t] ** 2)
            dW += np.outer(dz, x[t])  # in a script
            dU += np.outer(dz, h[t])
            carried = U.T @ dz
        W -= 0.1 * dW
"""


def test_lines_of_a_script_are_mended_where_they_stand(tmp_path):
    """The lines that a recipe runs stand in a loop; between them others that it does not run."""
    import ast

    path = tmp_path / "train.py"
    path.write_text(SCRIPT)
    body = ast.parse(SCRIPT).body[-1].body[0].body
    step = "\n".join(ast.unparse(body[n]) for n in (0, 1, 3, 4))
    recipe = Recipe(
        path,
        setup="x = np.random.randn(3, 2)",
        loss=step,
        gradient=step,
        parameters={"W": "W", "U": "U"},
        gradients={"W": "dW", "U": "dU"},
        steps={"x": 0},
        run=frozenset({3}),
    )
    found = mend(recipe, progress=False)
    assert found.is_mended
    assert changed(found) == ["dU += np.outer(dz, h[t - 1])"]
    assert found.after[path.resolve()] == SCRIPT.replace("dz, h[t])", "dz, h[t - 1])")
    assert found.hunks[0].lines == ((path.resolve(), 15),)


# The processes


@pytest.fixture
def processes(recipe, monkeypatch):
    monkeypatch.setattr(trials, "TRY_SECONDS", 0.3)
    recipe.path.write_text(NETWORK)
    with Trials(recipe, {}, 1) as found:
        yield found


def version(recipe, old, new):
    file = FileText.of(recipe.path.resolve(), NETWORK)
    start = file.data.index(old.encode())
    edit = Edit(file.path, (Splice(start, start + len(old), new),), "", 1, 1.0)
    return tuple(replaced_functions(file, file.units(), [edit]))


def tried(processes, recipe, old, new):
    return processes.ask("tried", Try(Setting(""), version(recipe, old, new)))


def test_what_hangs_is_ended(processes, recipe):
    loop = "for t in reversed(range(len(self.x))):"
    found = tried(processes, recipe, loop, "t = 0\n        while True:")
    assert found.products is None
    assert found.problem == "it takes too long"
    assert tried(processes, recipe, "dV +=", "dV -=").products is not None


def test_what_ends_its_process_is_replaced(processes, recipe):
    found = processes.ask_all([("tried", Try(Setting(""), version(
        recipe, "dh = self.V.T", "import os; os._exit(0); dh = self.V.T")))])  # fmt: skip
    assert "ended its process" in next(iter(found))[1].problem
    assert tried(processes, recipe, "dV +=", "dV -=").products is not None


def test_what_holds_an_exception_and_goes_on_is_ended(processes, recipe):
    text = "while 1:\n            try:\n                while 1: pass\n            except: pass\n"
    found = tried(processes, recipe, "carried = np.zeros(len(self.U))", text)
    assert found.products is None


def test_an_edit_lasts_for_one_try(processes, recipe):
    plain = processes.ask("tried", Try(Setting(""))).products
    other = tried(processes, recipe, "dV +=", "dV -=").products
    assert np.array_equal(other["V"], -plain["V"])
    again = processes.ask("tried", Try(Setting(""))).products
    assert all(np.array_equal(plain[name], again[name]) for name in plain)


def test_no_process_and_no_folder_is_left(recipe, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    recipe.path.write_text(NETWORK)
    with Trials(recipe, {}, 2) as found:
        list(found.ask_all([("shape", Setting(""))] * 2))
        pids = [worker._process.pid for worker in found._workers]
        assert list(tmp_path.glob("throughtime-*"))
    assert not list(tmp_path.glob("throughtime-*"))
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            __import__("os").kill(pid, signal.SIGCONT)


STARTS = (
    "if not __import__('ctypes').CDLL(None).fork(): "
    "__import__('os').setsid(); __import__('time').sleep(600)\n        "
)


@contextmanager
def nobody_left():
    """All that is started within holds an end of a pipe; afterwards nobody does."""
    own, held = os.pipe()
    try:
        yield
        os.close(held)
        assert select.select([own], [], [], 20)[0], "a process is left"
    finally:
        os.close(own)


@pytest.mark.parametrize("then", ["", "__import__('os')._exit(1)\n        "], ids=["", "exit"])
def test_what_an_edit_has_started_in_a_session_of_its_own_ends_too(recipe, then):
    """Also where it ends its own process, and leaves what it has started to others."""
    recipe.path.write_text(NETWORK)
    with nobody_left(), Trials(recipe, {}, 1) as found:
        found.ask("shape", Setting(""))
        edit = version(recipe, "carried = np.zeros", STARTS + then + "carried = np.zeros")
        answers = found.ask_all([("tried", Try(Setting(""), edit))])
        assert isinstance(next(iter(answers))[1], trials.Failed) == bool(then)
        assert found.ask("shape", Setting(""))


def asks_and_is_killed(recipe):
    with Trials(recipe, {}, 1) as found:
        found.ask("shape", Setting(""))
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGKILL)).start()
        tried(
            found, recipe, "carried = np.zeros", f"{STARTS}while True: pass\n        x = np.zeros"
        )


def test_what_an_edit_has_started_ends_where_mend_itself_is_killed(recipe):
    recipe.path.write_text(NETWORK)
    with nobody_left():
        process = multiprocessing.get_context("fork").Process(
            target=asks_and_is_killed, args=(recipe,)
        )
        with warnings.catch_warnings():
            # JAX, where another test has imported it, warns of any fork.
            warnings.filterwarnings("ignore", r"os\.fork\(\) was called", RuntimeWarning)
            process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL


# The edits


def test_an_edit_leaves_the_rest_as_it_is_formatted():
    text = "def f(a, b):\n    return (a  @ b)   # ä\n"
    file = FileText.of(Path("f.py"), text)
    product = file.tree.body[0].body[0].value
    splice = Splice(file.start(product.right), file.end(product.right), "b.T")
    edit = Edit(Path("f.py"), (splice,), "transposed", 2, 1.0)
    assert edited({Path("f.py"): text}, [edit])[Path("f.py")] == text.replace("b)   #", "b.T)   #")


def test_the_same_edit_everywhere_is_one():
    one = Edit(Path("f.py"), (Splice(0, 1, "x"),), "index", 1, 1.0, "index h 1")
    other = replace(one, splices=(Splice(5, 6, "x"),), line=2)
    (both,) = alike([one, other, replace(one, key="", line=3)])
    assert both.lines == (1, 2)
    assert both.splices == (Splice(0, 1, "x"), Splice(5, 6, "x"))


@pytest.mark.parametrize(
    ("text", "numerical"),
    [
        ("dW += np.outer(dz, x)", True),
        ("g = sigmoid(z)", True),
        ("np.save('grads', dW)", False),
        ("open('log', 'w').write(str(dW))", False),
        ("print(dW)", False),
        ("os.remove('weights')", False),
        ("exec(text)", False),
        ("with open('f') as f: pass", False),
    ],
)
def test_what_reaches_out_is_not_edited(text, numerical):
    import ast

    assert is_numerical(ast.parse(text).body[0], frozenset({"sigmoid"})) == numerical


IN_TWO_FILES = """
import numpy as np
from net import Net
"""


def test_an_edit_of_another_file_stands_in_the_diff(recipe):
    """The file that is run may only use the one that is wrong."""
    (recipe.path.parent / "net.py").write_text(wrong("transposed"))
    other = replace(recipe, path=recipe.path.parent / "main.py")
    other.path.write_text(IN_TWO_FILES)
    found = mend(other, progress=False)
    assert found.is_mended
    assert "b/net.py" in found.diff()
    assert "+            carried = self.U.T @ dz" in found.diff()
    assert found.hunks[0].changed == ("carried = self.U.T @ dz",)


def test_what_clips_in_the_forward_pass_belongs_to_the_loss(recipe):
    """Without it the loss would be another one; the clip of the gradient beside it goes."""
    clip = "np.clip(self.W @ x[t] + self.U @ self.h[-1], -0.4, 0.4)"
    text = wrong("transposed", "clipped").replace("self.W @ x[t] + self.U @ self.h[-1]", clip)
    gate = "* (np.abs(self.h[t + 1]) < np.tanh(0.4) - 1e-9)"
    slope = "(1 - self.h[t + 1] ** 2)"
    text = text.replace(slope, f"{slope} {gate}")
    found = mended(recipe, text)
    after = found.after[recipe.path.resolve()]
    assert found.is_mended, str(found)
    assert clip in after
    assert "return [dW, dU, dV]" in after


def test_what_clips_is_taken_out_first_and_hides_nothing(recipe, monkeypatch):
    """A norm that is clipped, a slope and a product transposed: no tensor agrees at first."""
    monkeypatch.setattr("throughtime.source.mending.mend._Search._groups", lambda *_: [])
    found = mended(recipe, wrong("clipped", "slope", "transposed"))
    assert found.is_mended
    assert "clip([" not in found.after[recipe.path.resolve()]


@pytest.mark.parametrize(
    ("right", "mistaken"),
    [
        ("carried = self.U.T @ dz", "carried = self.U.T @ dh"),
        ("self.V.T @ self.errors[t] + carried", "self.V.T @ self.errors[t]"),
        ("dV += np.outer", "dV = np.outer"),
        ("dh * (1 - self.h[t + 1] ** 2)", "dh * self.h[t + 1] * (1 - self.h[t + 1])"),
        ("self.V.T @ self.errors[t] + carried", "2 * self.V.T @ self.errors[t] + carried"),
        (
            "np.outer(self.errors[t], self.h[t + 1])",
            "np.outer(self.errors[t], self.h[t + 1]) / len(self.x)",
        ),
    ],
)
def test_the_values_of_a_line_say_what_would_be_right(recipe, monkeypatch, right, mistaken):
    """No edit is tried but those that the values propose."""
    monkeypatch.setattr("throughtime.source.mending.mend._Search._groups", lambda *_: [])
    assert NETWORK.count(right) == 1
    found = mended(recipe, NETWORK.replace(right, mistaken))
    assert found.is_mended
    assert len(found.hunks) == 1


def test_that_a_wrong_tensor_is_a_multiple_of_the_right_one_is_no_chance():
    along = trials.directions("W", (4, 5))
    draw = np.random.default_rng(0)
    right = draw.standard_normal((20_000, len(along)))
    near = right * (1 + 0.03 * draw.standard_normal(right.shape))
    levels = [
        compared({"W": found}, {"W": Measured("W", values, np.zeros(len(along)))})["W"].level
        for found, values in zip(near, right, strict=True)
    ]
    assert set(levels) == {WRONG}


def test_a_slope_among_kinks_is_that_of_where_it_is_taken():
    draw = np.random.default_rng(4)
    places = 1 + draw.choice([-1, 1], 300) * np.geomspace(1e-4, 0.3, 300)
    sizes = 3 * draw.standard_normal(300)

    def loss(w):  # as of a long recurrence of ReLUs
        return np.sum(w**3) + np.sum(sizes * np.maximum(w[0] - places, 0))

    value, error = trials._slope(loss, np.array([1.0, 1.0]), np.array([1.0, 0.5]))
    assert abs(value - (4.5 + np.sum(sizes[places < 1]))) < 1e-5
    assert error < 1e-5
