"""Training in several processes: the same numbers as one, through accidents too."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from throughtime.cli import main
from throughtime.training import Settings, Trainer, distributed, load_checkpoint, read
from throughtime.training.checkpoint import load, restarted, save
from throughtime.training.distributed import Launch, Processes, Pulse, ShardedGenerator, end_child
from training_examples import text, trainer

WORKER = Path(__file__).parent / "distributed_worker.py"
SMALL = ["--hidden", "6", "--embedding", "0", "--batch", "3", "--k1", "16", "--dropout", "0.2"]
CURVE = {
    "hidden": 6,
    "embedding": 5,
    "layers": 2,
    "batch": 3,
    "k1": 12,
    "k2": 7,
    "dropout": 0.3,
    "clip": 0.5,
    "dtype": "float64",
}


def torchrun(folder, *arguments, restarts=0, **environment):
    """Two processes on this machine, each in one thread."""
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*launch, "--max-restarts", restarts, WORKER, *arguments]
    return subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=folder,
        env=os.environ | environment | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    if find_spec("torch") is None:
        pytest.skip("torch is not installed: processes meet through torch.distributed")
    folder = tmp_path_factory.mktemp("together")
    (folder / "book.txt").write_text(text(1500).characters)
    return folder


@pytest.fixture(scope="module")
def killed(folder):
    """The second process dies at update 30; begun anew, at update 50."""
    options = [*SMALL, "--updates", 60, "--checkpoint-every", 20, "--out", "run.safetensors"]
    done = torchrun(
        folder, "train", "book.txt", *options, restarts=1, ACCIDENTS="30 SIGKILL,50 SIGKILL"
    )
    return done, load_checkpoint(folder / "run.safetensors")


@pytest.fixture(scope="module")
def stopped(folder, killed):
    """Resumed, with Ctrl-C pressed at update 45."""
    done = torchrun(folder, "train", "--resume", "run.safetensors", ACCIDENTS="45 SIGINT")
    return done, load_checkpoint(folder / "run.safetensors")


@pytest.fixture(scope="module")
def study(folder, stopped):
    """What `distributed_worker.study` found."""
    found = folder / "found.json"
    done = torchrun(folder, "study", "book.txt", "run.safetensors", json.dumps(CURVE), found)
    assert done.returncode == 0, done.stderr
    return json.loads(found.read_text())


def test_a_lost_worker_ends_the_attempt_with_a_message_and_a_restart_goes_on(killed):
    done, saved = killed
    assert done.returncode != 0
    message = "throughtime train: process 0: expected 2 processes at work, got "
    assert done.stderr.count(message) == 2
    assert "a worker is lost: start again with --resume" in done.stderr
    assert "60 updates, 20 updates done" in done.stdout
    assert done.stdout.count("processes 2, 1 or 2 streams and 1 thread each") == 2
    assert saved.position.updates == 40
    assert saved.launch.processes == 2


def test_ctrl_c_on_the_launcher_writes_a_checkpoint(stopped):
    done, saved = stopped
    assert done.returncode != 0
    assert "stopped   " in done.stdout
    assert "go on     torchrun … -m throughtime train --resume run.safetensors\n" in done.stdout
    assert 45 < saved.position.updates <= 60


def test_the_same_number_of_processes_goes_on_bit_for_bit(study, stopped):
    assert study["cut"] == stopped[1].position.updates
    assert study["before"] == 2
    assert study["same"]


def test_another_number_goes_on_and_says_so(folder, stopped, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    assert main(["train", "--resume", "run.safetensors", "--out", "alone.safetensors"]) == 0
    told = capsys.readouterr().out
    words = "the checkpoint is of 2: it goes on, but not bit for bit"
    assert f"processes 1, 3 streams and {distributed._engine.threads()} thread" in told
    assert words in told
    assert load_checkpoint("alone.safetensors").position.updates == 60


def test_two_processes_follow_one(folder, study):
    """Two layers, dropout, steps that no window reaches, clipping, streams that do not divide."""
    alone = Trainer(read([folder / "book.txt"]), Settings(**CURVE))
    updates = []
    alone.fit(updates=40, validate_every=20, watch=updates.append)
    assert study["size"] == 2
    assert study["share"] == [3, 5]
    assert study["characters"] == updates[0].characters
    np.testing.assert_allclose(study["bits"], [u.bits for u in updates], rtol=1e-9)
    np.testing.assert_allclose(study["norms"], [u.norm for u in updates], rtol=1e-9)
    np.testing.assert_allclose(study["held_out"], [r.held_out for r in alone.history], rtol=1e-9)
    difference = np.linalg.norm(study["flat"] - alone.network.parameters.flat)
    assert difference < 1e-9 * alone.network.parameters.norm()


def test_all_stop_where_one_wishes_it_and_follow_one_clock(study):
    assert study["stopped"] == 8  # the wish rides along with the next update


def test_what_processes_refuse_together(study):
    assert study["batch"] == (
        "batch: expected a stream at least for each of 2 processes, got 1; "
        "choose a larger batch, or fewer processes"
    )
    assert study["seed"] == (
        "settings: expected the same in all 2 processes, got something else in 1"
    )
    assert study["file"] == (
        "file: expected an existing file, on the first machine, got nowhere.safetensors"
    )


def test_a_silent_process_is_lost(study):
    assert study["lost"].startswith(
        "process 0: expected 2 processes at work, got no sign of life from 1 for 0.5 s; a worker"
    )


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="no /proc")
def test_a_hung_process_is_ended_if_it_is_the_launchers():
    sleeping = [sys.executable, "-c", "import time; time.sleep(60)"]
    with subprocess.Popen(sleeping) as child:
        end_child(child.pid, os.getppid())  # not its parent
        assert child.poll() is None
        child.send_signal(signal.SIGSTOP)
        end_child(child.pid, os.getpid())
        assert child.wait(10) == -signal.SIGKILL
    end_child(child.pid, os.getpid())  # gone


# --- without a launcher ---


def test_alone_where_nothing_is_set(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    assert distributed.join().size == 1


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"RANK": "2"},
            "RANK: expected an integer from 0 to 1, got '2'; start the run with torchrun",
        ),
        ({"WORLD_SIZE": "many"}, "WORLD_SIZE: expected an integer from 1, got 'many'"),
        ({"MASTER_PORT": ""}, "MASTER_PORT: expected an integer from 1 to 65535, got ''"),
        ({"MASTER_ADDR": ""}, "MASTER_ADDR: expected the first machine's name, got none"),
    ],
)
def test_variables_that_do_not_fit(monkeypatch, changed, message):
    whole = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}
    for name, value in (whole | changed).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=message):
        distributed.join()


def test_without_torch_one_line_says_what_to_do(monkeypatch, capsys, tmp_path):
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "MASTER_PORT": "29500"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MASTER_ADDR", "localhost")
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.chdir(tmp_path)
    assert main(["train", "book.txt"]) == 3
    error = capsys.readouterr().err
    assert error.startswith("throughtime train: RANK and WORLD_SIZE are set, as torchrun sets them")
    assert error.endswith("or unset both to train in a single process\n")
    assert error.count("\n") == 1


def test_masks_do_not_depend_on_who_draws_them():
    whole = np.random.default_rng(7).random((5, 4, 3), dtype=np.float32)
    part = ShardedGenerator(7, slice(1, 3), 4).random((5, 2, 3), dtype=np.float32)
    np.testing.assert_array_equal(part, whole[:, 1:3])


def test_a_checkpoint_without_a_launch_is_of_one_process(tmp_path):
    own = trainer()
    own.fit(updates=1, out=tmp_path / "c.safetensors")
    saved = load(tmp_path / "c.safetensors")
    assert saved.launch == Launch(1, "")
    with pytest.raises(ValueError, match="processes: expected an integer of at least 1, got 0"):
        Launch(0)
    with pytest.raises(ValueError, match="run: expected a string"):
        Launch(1, 3)


@pytest.mark.parametrize(
    ("written", "run", "count", "own"),
    [
        ("a", "a", "0", True),  # machines came or went
        ("a", "b", "1", False),
        ("", "", "0", False),
        ("none", "none", "0", False),  # torchrun's name for every run without one
        ("none", "none", "1", True),
    ],
)
def test_whose_checkpoint_it_is(tmp_path, monkeypatch, written, run, count, own):
    path = tmp_path / "c.safetensors"
    begun = trainer()
    begun.fit(updates=1, out=path)
    save(path, replace(load(path), launch=Launch(2, written)))
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", run)
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", count)
    assert restarted(path, Processes()) is own
    assert not restarted(tmp_path / "nothing", Processes())


class Store(dict):
    """Stands for torch's."""

    def set(self, name, value):
        self[name] = value.encode()

    def multi_get(self, names):
        return [self[name] for name in names]


def test_who_waits_counts_silence_in_his_own_looks():
    store = Store()
    pulses = [Pulse(store, rank, 3) for rank in range(3)]
    pulses[0].seen = store.multi_get("012")
    pulses[0].watch()
    assert Pulse.missed * Pulse.beat < 30  # seconds
    for look in range(Pulse.missed - 1):
        assert pulses[0].silent() == []
        store.set("0", str(look + 1))
        store.set("1", str(look // 10 + 1))  # slow, not lost
        pulses[0].seen = store.multi_get("012")
    assert pulses[0].silent() == [2]
    pulses[0].watch()
    assert pulses[0].silent() == []
