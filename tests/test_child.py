"""A task in a process of its own: whatever the user's file does, one line, and nothing is left."""

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

import throughtime as tt
from throughtime.cli import main
from throughtime.source import apart

NET = """
import numpy as np

class Net:
    def __init__(self, n_in, n_hidden):
        self.W = np.random.randn(n_hidden, n_in)
        self.U = np.random.randn(n_hidden, n_hidden)

    def forward(self, x):
        self.x, self.hs = x, [np.zeros(len(self.U))]
        for step in x:
            self.hs.append(np.tanh(self.W @ step + self.U @ self.hs[-1]))
        return np.array(self.hs[1:])

    def backward(self, dout):
        self.dW, self.dU = 0 * self.W, 0 * self.U
        d = 0
        for t in reversed(range(len(self.x))):
            dz = (dout[t] + d) * (1 - self.hs[t + 1] ** 2)
            self.dW += np.outer(dz, self.x[t])
            self.dU += np.outer(dz, self.hs[t])
            d = self.U.T @ dz
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A module of tasks, in a folder where children look for modules."""
    (tmp_path / "tasks.py").write_text(
        "import os, subprocess, sys, time\n"
        "from throughtime.gradcheck import CheckError\n"
        "def twice(n): return 2 * n\n"
        "def folder(): return os.getcwd(), open('a', 'w').write('b')\n"
        "def hang():\n    while True: pass\n"
        "def leave(): os._exit(7)\n"
        "def shout():\n    for _ in range(3_000): [os.write(n, b'a' * 999) for n in (1, 2)]\n"
        "    return 'done'\n"
        "def fork(): os.fork()\n"
        "def start(): subprocess.run(['true'])\n"
        "def write(path): open(path, 'w')\n"
        "def remove(path): os.remove(path)\n"
        "def much(): return len(bytearray(10**12))\n"
        "def refuse(): raise CheckError('no such thing')\n"
        "def wait(path):\n"
        "    try: open(path, 'w').close(); time.sleep(60)\n"
        "    except KeyboardInterrupt: return 'in order'\n"
        "def unready():\n"
        "    import signal\n"
        "    signal.signal(signal.SIGINT, signal.SIG_DFL)\n"
        "    wait('ready')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_a_task_returns_what_its_function_does_and_works_in_a_folder_that_goes(place):
    assert apart("tasks:twice", 21) == 42
    folder, _ = apart("tasks:folder")
    assert folder != str(Path.cwd())
    assert not Path(folder).exists()


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ("hang", "an end within 2 s, got none; allow more time: --timeout"),
        ("leave", "the file ended its process .exit status 7."),
        ("fork", "it starts another program"),
        ("start", "it starts another program"),
        ("much", "more than 8 GiB of memory"),
        ("refuse", "^no such thing$"),
    ],
)
def test_what_a_file_does_besides_is_one_line(place, task, said):
    with pytest.raises(tt.CheckError, match=said) as caught:
        apart(f"tasks:{task}", seconds=2 if task == "hang" else 60)
    assert "\n" not in str(caught.value)


def test_nothing_outside_its_folder_is_changed(place):
    (place / "kept").write_text("as it was")
    for task in ("write", "remove"):
        with pytest.raises(tt.CheckError, match="which a file under check may not"):
            apart(f"tasks:{task}", str(place / "kept"))
    assert (place / "kept").read_text() == "as it was"


def test_megabytes_are_not_collected(place, capfd):
    assert apart("tasks:shout") == "done"
    assert capfd.readouterr() == ("", "")


@pytest.fixture
def interruptible():
    """Ctrl-C works, also where the tests were started in the background, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def interrupted_when(seen):
    """Ctrl-C comes as soon as `seen()` holds."""

    def watch():
        while not seen():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=watch, daemon=True).start()


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_reaches_the_task_which_may_end_in_order(place, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    interrupted_when(lambda: any(place.glob("*/ready")))
    assert apart("tasks:wait", "ready") == "in order"


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_ends_a_task_that_does_not_take_it(place, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    interrupted_when(lambda: any(place.glob("*/ready")))
    with pytest.raises(KeyboardInterrupt):
        apart("tasks:unready")


def test_the_command_finds_and_checks_a_file_and_prints_it_as_python(tmp_path, capsys):
    (tmp_path / "net.py").write_text(NET)
    assert main(["check", str(tmp_path / "net.py"), "--effort", "quick"]) == 0
    said = capsys.readouterr().out
    assert said.startswith(
        "found: Net\n  parameters: W, U (2 arrays)\n  loss: drawn weights times out"
    )
    assert "gradient: net.backward(d)" in said
    assert "steps from x (T, I), axis 0" in said
    assert "Not looked for" in said
    (tmp_path / "wrong.py").write_text(NET.replace("self.U.T @ dz", "self.U @ dz"))
    wrong = [str(tmp_path / "wrong.py") + ":Net", "--evaluations", "300", "--with", "Net(2, 3)"]
    assert main(["check", *wrong]) == 1
    assert "DISAGREE" in capsys.readouterr().out
    assert main(["check", str(tmp_path / "net.py"), "--print-target"]) == 0
    (tmp_path / "test_net.py").write_text(capsys.readouterr().out)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_net.py"]
    assert subprocess.run(command, cwd=tmp_path, capture_output=True).returncode == 0


def test_options_of_a_users_own_file_are_refused_elsewhere(tmp_path, capsys):
    (tmp_path / "net.py").write_text(NET)
    assert main(["check", str(tmp_path / "net.py"), "--sweep"]) == 3
    assert "print one with --print-target" in capsys.readouterr().err
    assert main(["check", "--print-target", "libnothing.so"]) == 3
    assert "--print-target: expected your own file" in capsys.readouterr().err
