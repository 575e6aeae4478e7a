"""Programs as targets: the line protocol, and everything that can go wrong with it."""

import os
import pickle
import shlex
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

import throughtime as tt
from throughtime.cli import main
from torture.tally import fork

# L = Σ (t + 1) w³ over T steps, in float32 or float64; each fault is one branch.
PROGRAM = """
import array, json, os, signal, subprocess, sys, time

fault, folder, dtype = sys.argv[1:4]
averaged = 1
code, T, resets = {"float32": "f", "float64": "d"}[dtype], 3, 0
about = {"names": ["W", "b"], "shapes": [[2, 3], [2]], "dtype": dtype, "steps": T,
         "optional": ["reset", "set_length"]}


def read(path):
    return array.array(code, open(path, "rb").read())


def say(answer):
    print(json.dumps(answer), flush=True)


for line in sys.stdin:
    request = json.loads(line)
    do = request["do"]
    exec(open(os.path.join(folder, "fault.py")).read()) if fault == do else None
    if do == "describe":
        say(about)
    elif do == "loss":
        scale = T * (T + 1) / 2
        say({"loss": scale * sum(w**3 for w in read(request["parameters"]))})
    elif do == "gradient":
        scale = T * (T + 1) / 2
        scale *= 3 / averaged
        found = array.array(code, [scale * w * w for w in read(request["parameters"])])
        open(request["gradient"], "wb").write(found.tobytes())
        say({})
    elif do == "initial":
        open(request["parameters"], "wb").write(array.array(code, range(1, 9)).tobytes())
        say({})
    elif do == "set_length" and request["steps"] > 5:
        say({"error": "there are 5 steps"})
    elif do == "set_length":
        T = request["steps"]
        say({})
    elif do == "reset":
        resets += 1
        say({})
exec(open(os.path.join(folder, "fault.py")).read()) if fault == "end" else None
"""


@pytest.fixture
def command(tmp_path):
    """The command line of the program, in which `code` runs when `place` is asked for."""

    def write(place="none", code="", dtype="float64"):
        (tmp_path / "program.py").write_text(PROGRAM)
        (tmp_path / "fault.py").write_text(code)
        script = str(tmp_path / "program.py")
        return [sys.executable, "-I", "-S", script, place, str(tmp_path), dtype]

    return write


def check(command, timeout=20.0):
    with tt.program_target(command, timeout=timeout) as target:
        return tt.check(target)


def message(command, timeout=20.0):
    """What the check says about a program that goes wrong, without the program's name."""
    with pytest.raises(tt.CheckError) as problem:
        check(command, timeout)
    return str(problem.value).replace(shlex.join(command), "P")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_right_program_agrees(command, dtype):
    report = check(command(dtype=dtype))
    assert report.verdict == "agree"
    assert report.dtype == dtype
    assert report.steps == 3
    assert [point.steps for point in report.points if point.steps != 3] == [1, 2]  # 6: no data
    assert list(report.tensors) == ["W", "b"]


def test_a_wrong_program_disagrees(command):
    report = check(command("gradient", "averaged = 3"))
    assert report.verdict == "disagree"
    assert report.discrepancy == pytest.approx(0.5, rel=1e-6)  # (3 − 1) / (3 + 1)


def test_a_length_whose_answer_was_not_waited_for_is_asked_for_again(command, monkeypatch):
    with tt.program_target(command()) as target:
        program, asked = target.program, []

        def interrupt(request):
            asked.append(request)
            if len(asked) == 1:
                raise KeyboardInterrupt

        monkeypatch.setattr(program.channel, "ask", interrupt)
        with pytest.raises(KeyboardInterrupt):
            program.set_length(2)
        for _ in range(2):
            program.set_length(3)
        assert [request["steps"] for request in asked] == [2, 3]


FAULTS = [
    # place, what happens there, what the message says
    (
        "describe",
        "print('hello', flush=True)",
        "P: expected a JSON object on one line, got 'hello' when asked to describe itself; "
        "print whatever is not an answer to standard error",
    ),
    ("describe", "print('[1, 2]', flush=True); do = None", "P: expected a JSON object on one …"),
    (
        "describe",
        "say({'names': ['W']}); do = None",
        "P: description: expected the keys names, shapes and dtype, if need be steps and "
        "optional, got no shapes and no dtype",
    ),
    ("describe", "about['step'] = 3", "…, got an unknown 'step'"),
    (
        "describe",
        "about['dtype'] = 'float16'",
        "P: description: dtype: expected float32 or float64, got 'float16'",
    ),
    (
        "describe",
        "about['shapes'] = [[2, 3]]",
        "P: description: shapes: expected one for each of 2 names, got [[2, 3]]",
    ),
    (
        "describe",
        "about['shapes'] = [[2, 3], [0]]",
        "P: description: shapes: expected a list of lists of up to 32 sizes, each at least 1, …",
    ),
    ("describe", "about['shapes'] = 5", "…each at least 1, got 5"),
    (
        "describe",
        "about['names'] = ['W', 'W']",
        "P: description: names: expected names that differ, got ['W', 'W']",
    ),
    (
        "describe",
        "about['names'] = []; about['shapes'] = []",
        "P: description: names: expected a list of names, got []",
    ),
    (
        "describe",
        "about['steps'] = 0",
        "P: description: steps: expected a number of steps, at least 1, got 0",
    ),
    (
        "describe",
        "about['optional'] = ['rewind']",
        "P: description: optional: expected a list of some of reset, set_length, initial, got "
        "['rewind']",
    ),
    ("describe", "raise SystemExit", "P: ended with exit status 0 when asked to describe itself"),
    (
        "describe",
        "print('usage: program FILE', file=sys.stderr); raise SystemExit(2)",
        "P: ended with exit status 2 when asked to describe itself; its last words on standard "
        "error:\n    usage: program FILE",
    ),
    (
        "loss",
        "os.kill(os.getpid(), signal.SIGSEGV)",
        "P: died with SIGSEGV when asked for the loss",
    ),
    ("loss", "undefined", "…\n    NameError: name 'undefined' is not defined"),
    ("loss", "print('epoch 1', flush=True)", "…got 'epoch 1' when asked for the loss; print …"),
    (
        "loss",
        "say({'value': 3}); do = None",
        'P: expected {"loss": a number or a list of terms}, got \'{"value": 3}\'',
    ),
    (
        "loss",
        "say({'loss': None}); do = None",
        "…, got '{\"loss\": null}'; many languages write NaN and infinity as null",
    ),
    ("loss", "say({'loss': 'x'}); do = None", '…, got \'{"loss": "x"}\''),
    ("loss", "say({'loss': []}); do = None", "…, got '{\"loss\": []}'"),
    ("loss", "say({'error': 'no data.csv'}); do = None", "P: no data.csv"),
    (
        "loss",
        "sys.stdout.write('{\"loss\": 1.0}\\n' * 2); sys.stdout.flush(); do = None",
        "P: expected one line an answer, got one more, '{\"loss\": 1.0}'",
    ),
    (
        "loss",
        "sys.stdout.write('{\"loss\": 1.5'); sys.stdout.flush(); os._exit(0)",
        "P: ended with exit status 0 when asked for the loss, within the line '{\"loss\": 1.5'",
    ),
    (
        "loss",
        "sys.stdout.flush(); os.close(1); time.sleep(60)",
        "P: closed its standard output when asked for the loss",
    ),
    (
        "gradient",
        "raise MemoryError('out of memory')",
        "…\n    MemoryError: out of memory",
    ),
    (
        "gradient",
        "say({}); do = None",
        "P: gradient: expected 8 numbers of float64, 64 bytes, in g.bin, got no such file",
    ),
    (
        "gradient",
        "open(request['gradient'], 'wb').write(bytes(20)); say({}); do = None",
        "P: gradient: expected 8 numbers of float64, 64 bytes, in g.bin, got 20 bytes",
    ),
    (
        "gradient",
        "open(request['gradient'], 'wb').write(bytes(32)); say({}); do = None",
        "…got 32 bytes; are they float32?",
    ),
    (
        "gradient",
        "os.mkfifo(request['gradient']); say({}); do = None",
        "…in g.bin, got a device or a pipe",
    ),
    (
        "gradient",
        "open(request['gradient'], 'wb').truncate(2**40); say({}); do = None",
        "…in g.bin, got 1,099,511,627,776",
    ),
    ("loss", "print('[' * 10**5, flush=True); do = None", "P: expected a JSON object on one line…"),
    ("loss", "say({'loss': 10**400}); do = None", "…"),
    ("reset", "os.abort()", "P: died with SIGABRT when asked to reset"),
    (
        "end",
        "print('double free', file=sys.stderr, flush=True); os.abort()",
        "P: died with SIGABRT after its last answer; its last words on standard error:\n"
        "    double free",
    ),
    ("end", "raise SystemExit(7)", "P: ended with exit status 7 after its last answer"),
]


@pytest.mark.parametrize(("place", "code", "expected"), FAULTS)
def test_whatever_goes_wrong_is_one_clear_message(command, place, code, expected):
    """A … at an end of the expected message leaves that end open."""
    found = message(command(place, code))
    middle = expected.strip("…")
    assert found.startswith(middle) or expected.startswith("…")
    assert found.endswith(middle) or expected.endswith("…")
    assert middle in found


LATE = [
    ("time.sleep(60)", "got none; flush each answer, or give it longer: timeout"),
    (
        "sys.stdout.write('{\"loss\": 1'); sys.stdout.flush(); time.sleep(60)",
        "got a line without an end, '{\"loss\": 1'; end each answer with a newline and flush it",
    ),
]


@pytest.mark.parametrize(("code", "expected"), LATE)
def test_an_answer_that_does_not_come_in_time(command, code, expected):
    found = message(command("loss", code), timeout=0.5)
    assert found == f"P: expected an answer within 0.5 s when asked for the loss, {expected}"


def test_a_program_that_does_not_read_a_long_question(command, monkeypatch):
    """Its pipe is full; the checker does not wait for ever to write into it."""
    from throughtime.targets.channel import Channel

    code = "import time; time.sleep(60)"
    places = {"loss": "when asked for the loss"}
    channel = Channel([sys.executable, "-c", code], "P", places, timeout=0.5)
    with pytest.raises(tt.CheckError, match="its standard input to be read within"):
        channel.ask({"do": "loss", "words": "x" * 10**6})


def test_a_line_that_never_ends(command, monkeypatch):
    monkeypatch.setattr("throughtime.targets.channel.LONGEST_LINE", 10**6)
    found = message(command("loss", "while True: sys.stdout.write('x' * 4096)"))
    assert found.startswith("P: expected a line of JSON, got 1,")
    assert found.endswith("bytes without a line's end when asked for the loss")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["no-such-program"], "program: expected a command that can be run, got 'no-such-program'"),
        ([], "program: expected a command, got none"),
        ("", "program: expected a command, got none"),
    ],
)
def test_what_is_no_command(words, expected):
    with pytest.raises(tt.CheckError, match="^" + expected):
        tt.program_target(words)


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf")])
def test_a_timeout_that_is_none(command, timeout):
    with pytest.raises(tt.CheckError, match="timeout: expected a positive number of seconds"):
        tt.program_target(command(), timeout=timeout)


def test_length_and_reset_are_passed_on(command):
    with tt.program_target(command()) as target:
        w = target.parameters.flat
        for steps in (1, 5, 3):
            shorter = target.at_length(steps)
            assert shorter.steps == steps
            assert shorter.loss() == pytest.approx(steps * (steps + 1) / 2 * (w**3).sum())
        assert target.loss() == pytest.approx(6 * (w**3).sum())
        assert target.reset is not None
        with pytest.raises(tt.CheckError, match=r"there are 5 steps$"):
            target.at_length(6)
        with pytest.raises(ValueError, match="steps: expected an integer of at least 1, got 0"):
            target.at_length(0)


def test_initial_parameters_are_the_program_s_or_drawn(command):
    with tt.program_target(command()) as target, tt.program_target(command(), seed=1) as other:
        assert np.abs(target.parameters["W"]).max() <= 1 / np.sqrt(3)
        assert target.parameters != other.parameters
    own = command("describe", "about['optional'] = ['initial']")
    with tt.program_target(own) as target:
        assert target.parameters.flat.tolist() == [1, 2, 3, 4, 5, 6, 7, 8]
        assert target.reset is None
        assert target.at_length is None


def test_a_loss_may_be_terms(command):
    terms = (
        "say({'loss': [T * (T + 1) / 2 * w**3 for w in read(request['parameters'])]}); do = None"
    )
    assert check(command("loss", terms)).verdict == "agree"


def test_a_copy_starts_a_process_of_its_own_at_the_same_parameters(command):
    with tt.program_target(command()) as target:
        target.parameters["W"][0, 0] = 2.5
        with pickle.loads(pickle.dumps(target.at_length(2))) as copy:
            assert copy.steps == 2
            assert copy.parameters == target.parameters
            assert copy.loss() == target.at_length(2).loss()
            copy.parameters["W"][0, 0] = 3.0
            assert copy.loss() != target.at_length(2).loss()


def fail():
    raise tt.CheckError


def gone(pid):
    """Whether a process has ended; one that nobody has waited for yet counts as ended."""
    try:
        os.kill(pid, 0)
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] == "Z"
    except (ProcessLookupError, FileNotFoundError):
        return True


def wait_for(condition):
    for _ in range(500):
        if condition():
            return True
        time.sleep(0.02)
    return False


# One child, and one that leaves session and parent, as a daemon does.
DAEMON = "import os, sys; os.setsid(); os.fork() and os._exit(0); print(os.getpid(), flush=True)"
CHILD = (
    f"words = [sys.executable, '-S', '-c', {DAEMON!r} + '; import time; time.sleep(600)']\n"
    "daemon = int(subprocess.Popen(words, stdout=subprocess.PIPE).stdout.readline())\n"
    "child = subprocess.Popen([sys.executable, '-S', '-c', 'import time; time.sleep(600)'])\n"
    "open(os.path.join(folder, 'pids'), 'w').write(f'{os.getpid()} {child.pid} {daemon}')\n"
)


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="looks at processes in /proc")
@pytest.mark.parametrize("way", ["close", "forget", "fail", "deaf"])
def test_the_program_and_its_children_are_gone_at_the_end(command, tmp_path, way):
    deaf = "signal.signal(signal.SIGTERM, signal.SIG_IGN); say(about); time.sleep(600)"
    code = CHILD + (deaf if way == "deaf" else "")
    target = tt.program_target(command("describe", code), timeout=0.5)
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    assert not any(map(gone, pids))
    if way == "forget":
        del target
    elif way == "close":
        target.close()
        target.close()
        with pytest.raises(tt.CheckError, match="has been closed; make the target anew"):
            target.loss()
    else:
        answer = target.loss if way == "deaf" else fail
        with pytest.raises(tt.CheckError), target:
            answer()
    assert wait_for(lambda: all(map(gone, pids)))


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="looks at processes in /proc")
@pytest.mark.parametrize(
    ("name", "status"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", -1), ("SIGKILL", -9)]
)
def test_the_program_is_gone_after_an_interruption(command, tmp_path, name, status):
    code = CHILD + "open(os.path.join(folder, 'ready'), 'w').close()\nwhile True: pass"
    words = [sys.executable, "-c", START, "check", "--program", *command("loss", code)]
    checker = subprocess.Popen(words, stderr=subprocess.PIPE, start_new_session=True)
    try:
        assert wait_for((tmp_path / "ready").exists)
        checker.send_signal(getattr(signal, name))
        _, errors = checker.communicate(timeout=20)
    finally:
        checker.kill()
    assert checker.returncode == status
    assert b"Traceback" not in errors
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    assert wait_for(lambda: all(map(gone, pids)))


START = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # also where it was ignored
from throughtime.cli import main
sys.exit(main())
"""


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="looks at processes in /proc")
def test_a_fork_of_the_checker_leaves_the_program_alone(command):
    with tt.program_target(command()) as target:
        child = fork()
        if not child:
            target.program.channel.kill()
            os._exit(0)
        os.waitpid(child, 0)
        assert np.isfinite(target.loss())


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="looks at processes in /proc")
def test_a_program_outlives_the_thread_that_started_it(command):
    found = []
    thread = threading.Thread(target=lambda: found.append(tt.program_target(command())))
    thread.start()
    thread.join()
    with found[0] as target:
        assert np.isfinite(target.loss())


def test_the_command_line(command, capfd):
    assert main(["check", "--program", *command()]) == 0
    assert capfd.readouterr().out.startswith("AGREE")
    assert main(["check", "--timeout", "5", "--program", *command("loss", "os.abort()")]) == 3
    out, error = capfd.readouterr()
    assert out == ""
    assert error.startswith("throughtime check: ")
    assert error.endswith("died with SIGABRT when asked for the loss\n")
    assert main(["check", "--program", *command("end", "raise SystemExit(4)")]) == 3
    out, error = capfd.readouterr()
    assert out.startswith("AGREE")
    assert error.endswith("ended with exit status 4 after its last answer\n")


def test_a_loss_printed_with_few_digits_is_noted(command, capfd):
    loss = "T * (T + 1) / 2 * sum(w**3 for w in read(request['parameters']))"
    code = f"say({{'loss': round({loss}, 6)}}); do = None"
    main(["check", "--program", *command("loss", code)])
    assert "print it with 17 (%.17g)" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("nan", np.nan),
        ("-nan", np.nan),
        ("-nan(ind)", np.nan),
        ("NaN", np.nan),
        ("inf", np.inf),
        ("-inf", -np.inf),
        ("Infinity", np.inf),
        ("1.#QNAN", np.nan),
        ("-1.#INF", -np.inf),
        ("null", np.nan),
        ("[1.5, -nan, inf]", [1.5, np.nan, np.inf]),
        ("[1.5, null]", [1.5, np.nan]),
    ],
)
def test_a_loss_that_is_no_number_at_some_point_ends_nothing(command, said, meant):
    """It is written as in C, C++ or JavaScript, once a loss has been a number."""
    code = f"do = do if T == 3 else print('{{\"loss\": {said}}}', flush=True)"
    with tt.program_target(command("loss", code)) as target:
        first = target.loss()
        assert np.isfinite(first).all()
        target.program.set_length(2)
        assert np.array_equal(target.program.loss(2), meant, equal_nan=True)
        assert np.array_equal(target.loss(), first)


def test_a_diagnosis_that_cannot_look_again_says_so(monkeypatch):
    from throughtime.diagnosis.experiments import Study

    W = np.ones((2, 3))
    target = tt.Target({"W": W}, lambda: np.sum(W**3), lambda: {"W": W**2})
    monkeypatch.setattr(Study, "look", lambda *_, **__: None)
    report = tt.check(target)
    assert report.causes == ()
    assert any("could not be computed again" in note for note in report.notes)
