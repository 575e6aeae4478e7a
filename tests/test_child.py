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
from throughtime.source import apart, child
from throughtime.source.lines.trials import TimeLimit, alarm
from torture import own_files

NET = own_files.NET.replace("        misbehave()\n", "")


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
        "def telling(path, how):\n"
        "    from throughtime.source import tell\n"
        "    if how: how = getattr(os, how)('stage.txt')\n"
        "    os.makedirs('elsewhere'); os.chdir('elsewhere')\n"
        "    tell('looking\\x1b')\n"
        "    while not os.path.exists(path): time.sleep(0.01)\n"
        "    return 'done'\n"
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


@pytest.mark.parametrize("how", ["", "mkdir"])
def test_a_task_tells_what_it_does(place, how, monkeypatch):
    """Also where its code has changed the folder; nothing put in the way stops who waits."""
    monkeypatch.setattr(child, "EVERY", 0.05)
    heard = []

    def told(words):
        heard.append(words)
        if words or how:
            (place / "heard").touch()

    assert apart("tasks:telling", str(place / "heard"), how, seconds=60, told=told) == "done"
    assert set(heard) - {""} == ({"looking\x1b"} if not how else set())


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


# What a file may try besides, and what it may not leave.

TASKS = """
import atexit, ctypes, os, shutil, sqlite3, tempfile, threading, time

def at_exit():
    atexit.register(time.sleep, 600)
    threading.Thread(target=time.sleep, args=(600,)).start()
    return "done"

def closed():
    for number in range(200):
        try: os.close(number)
        except OSError: pass
    return "done"

def daemon(path):
    if not ctypes.CDLL(None).fork():
        os.setsid()
        time.sleep(600)
    return "done"

def answer():
    open("answer.pickle", "w").write("no pickle")
    os._exit(0)

def exchanged(path):
    open("own", "w").write("other")
    os.replace("own", path)

def linked(path):
    os.link(path, "own")

def moved(path):
    shutil.move(path, "own")

def touched(path):
    os.utime(path, (0, 0))

def database(path):
    sqlite3.connect(path + ".db").execute("create table a(b)")

def within(path):
    with tempfile.TemporaryDirectory() as folder:
        shutil.copyfile(path, folder + "/own")
        os.symlink(path, "link")
        os.rename(folder + "/own", "own")
    sqlite3.connect(":memory:").close()
    return open("own").read()

def shown():
    raise ValueError("x" * 10**6)
"""


@pytest.fixture
def tasks(tmp_path, monkeypatch):
    (tmp_path / "more_tasks.py").write_text(TASKS)
    (tmp_path / "kept").write_text("as it was")
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_threads_and_what_is_to_run_at_the_end_are_not_waited_for(tasks):
    assert apart("more_tasks:at_exit", seconds=60) == "done"


def test_a_file_that_closes_everything_has_its_answer_still(tasks):
    assert apart("more_tasks:closed") == "done"


def test_an_answer_of_the_files_own_is_none(tasks):
    with pytest.raises(tt.CheckError, match="has written over what was to be answered"):
        apart("more_tasks:answer")


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="looks at processes in /proc")
def test_what_a_file_has_started_in_a_session_of_its_own_ends_with_it(tasks, monkeypatch):
    from torture.programs import MARK
    from torture.tally import processes_with

    monkeypatch.setenv(MARK, str(tasks))
    assert apart("more_tasks:daemon", "") == "done"
    assert processes_with(f"{MARK}={tasks}") == []


@pytest.mark.parametrize("task", ["exchanged", "linked", "moved", "touched", "database"])
def test_no_way_around_leads_out_of_the_folder(tasks, task):
    before = sorted(tasks.iterdir()), (tasks / "kept").stat()
    with pytest.raises(tt.CheckError, match="which a file under check may not"):
        apart(f"more_tasks:{task}", str(tasks / "kept"))
    assert (sorted(tasks.iterdir()), (tasks / "kept").stat()) == before


def test_within_its_folder_a_file_does_what_it_likes(tasks):
    assert apart("more_tasks:within", str(tasks / "kept")) == "as it was"


def test_modules_of_the_working_directory_are_not_taken_for_pythons_own(tasks, monkeypatch):
    for name in ("random", "numpy", "types", "queue"):
        (tasks / f"{name}.py").write_text("raise SystemExit('not this one')")
    monkeypatch.chdir(tasks)
    (tasks / "elsewhere").mkdir()
    (tasks / "elsewhere" / "far_task.py").write_text("def one(): return 1")
    monkeypatch.setattr(sys, "path", [str(tasks / "elsewhere"), *sys.path[1:]])
    assert apart("far_task:one") == 1


def test_a_long_message_is_cut(tasks):
    with pytest.raises(tt.CheckError) as caught:
        apart("more_tasks:shown")
    assert len(str(caught.value)) < 2000


def test_a_try_that_waits_for_the_machine_is_not_ended_as_one_that_works_too_long():
    def work():
        while True:
            pass

    with alarm(0.4):
        time.sleep(0.6)  # as on a machine that does something else
    with pytest.raises(TimeLimit), alarm(0.1):
        work()
    with pytest.raises(TimeLimit), alarm(0.02):
        time.sleep(60)
