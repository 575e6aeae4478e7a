"""Files: what stands at a path stays what it is, damage is noticed, nothing is read without end."""

import json
import os
import stat
import subprocess
import sys
import threading

import numpy as np
import pytest

import throughtime as tt
from throughtime import storage

posix = pytest.mark.skipif(os.name != "posix", reason="of POSIX: links, modes, devices, pipes")


def files(folder):
    return sorted(path.name for path in folder.iterdir())


@posix
def test_a_symbolic_link_stays_one_and_its_target_is_replaced(tmp_path):
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_bytes(b"old")
    link.symlink_to(target)
    storage.replace(link, b"new")
    assert link.is_symlink()
    assert target.read_bytes() == b"new"
    assert files(tmp_path) == ["link", "target"]


@posix
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o444])
def test_a_files_mode_stays(tmp_path, mode):
    path = tmp_path / "secret"
    path.write_bytes(b"old")
    path.chmod(mode)
    storage.replace(path, b"new")
    assert stat.S_IMODE(path.stat().st_mode) == mode


@posix
def test_devices_and_pipes_are_written_to_and_stay_what_they_are(tmp_path):
    storage.replace("/dev/null", b"content")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    pipe, found = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: found.append(pipe.read_bytes()))
    reader.start()
    storage.replace(pipe, b"content")
    reader.join(10)
    assert found == [b"content"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)


@posix
def test_a_pipe_or_a_device_is_no_file_to_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", "/dev/zero", tmp_path):
        with pytest.raises(OSError, match="expected a file, got a"):
            storage.read_bytes(path)
    (tmp_path / "large").write_bytes(bytes(11))
    with pytest.raises(ValueError, match="expected at most 10 bytes, got 11"):
        storage.read_bytes(tmp_path / "large", most=10)


@posix
def test_what_a_killed_process_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path):
    path = tmp_path / "checkpoint"
    dead = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True
    )
    left = tmp_path / f".checkpoint.part-{dead.stdout.strip()}-abc"
    living = tmp_path / f".checkpoint.part-{os.getpid()}-abc"
    other = tmp_path / ".checkpoint.part-notes"
    for file in (left, living, other):
        file.write_bytes(b"part")
    storage.replace(path, b"whole")
    assert files(tmp_path) == sorted([living.name, other.name, "checkpoint"])


def network():
    return tt.Network([tt.LSTM(2, 3), tt.Dense(3, 2)], loss=tt.MeanSquaredError())


def test_no_flipped_bit_loads_silently(tmp_path):
    net, path = network(), tmp_path / "net"
    net.save(path)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    silent = []
    for _ in range(300):
        place, bit = int(rng.integers(len(whole))), int(rng.integers(8))
        damaged = bytearray(whole)
        damaged[place] ^= 1 << bit
        path.write_bytes(damaged)
        try:
            found = tt.Network.load(path)
        except (ValueError, TypeError):
            continue
        except UserWarning:  # warnings are errors here: the mark of the checksums was hit
            continue
        same = found.parameters.flat.tobytes() == net.parameters.flat.tobytes()
        if not same or found.describe() != net.describe():
            silent.append((place, bit))
    assert not silent


def test_a_damaged_number_is_named(tmp_path):
    path = tmp_path / "net"
    network().save(path)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="expected the content that was saved, got something else"):
        tt.Network.load(path)


def test_a_file_without_checksums_loads_with_a_word(tmp_path):
    from safetensors.numpy import save_file

    net, path = network(), tmp_path / "net"
    arrays = {name: np.ascontiguousarray(array) for name, array in net.parameters.items()}
    save_file(arrays, path, {"network": net.describe()})
    with pytest.warns(UserWarning, match="it has no checksums"):
        assert tt.Network.load(path).describe() == net.describe()


def test_a_small_file_cannot_ask_for_much_memory(tmp_path):
    net, path = network(), tmp_path / "net"
    large = net.describe().replace('"units": 3', '"units": 200000')
    assert large != net.describe()
    storage.write(path, dict(net.parameters), {"network": large})
    with pytest.raises(ValueError, match="expected at most the 80 parameters of the file"):
        tt.Network.load(path)


def test_a_header_without_end_is_refused(tmp_path):
    path = tmp_path / "net"
    path.write_bytes((2**40).to_bytes(8, "little") + b"{}")
    with pytest.raises(ValueError, match="a header of"):
        storage.read(path)


def test_a_cell_from_equations_is_no_data_for_a_file(tmp_path):
    @tt.cell(W="H I", U="H H", b="H")
    def elman(x, h, W, U, b):
        return np.tanh(W @ x + U @ h + b)

    net = tt.Network([elman(2, 3), tt.Dense(3, 1)], loss=tt.MeanSquaredError())
    with pytest.raises(TypeError, match="save `parameters`"):
        net.save(tmp_path / "net")
    net.parameters.save(tmp_path / "p")
    twin = tt.Network(net.specs, net.loss, seed=1)
    for name, array in tt.Parameters.load(tmp_path / "p").items():
        twin.parameters[name] = array
    assert np.array_equal(twin.parameters.flat, net.parameters.flat)


@posix
def test_a_file_is_kept_for_one_process_and_its_number_is_said(tmp_path):
    path = tmp_path / "checkpoint"
    code = (
        f"from throughtime import storage\nwith storage.exclusively({str(path)!r}): print('got it')"
    )

    def another():
        words = [sys.executable, "-c", code]
        return subprocess.run(words, capture_output=True, text=True, timeout=60)

    with storage.exclusively(path):
        refused = another()
        assert f"got one of process {os.getpid()}; wait until it has ended" in refused.stderr
    assert another().stdout == "got it\n"
    assert files(tmp_path) == []


@posix
@pytest.mark.parametrize("pipe", [True, False])
def test_standard_output_is_written_to_by_its_name_too(tmp_path, pipe):
    """A pipe has no path, and a file that a shell redirects to must not be replaced."""
    code = (
        "from throughtime import storage\nprint('before', flush=True)\n"
        "storage.replace('/dev/stdout', b'content\\n')"
    )
    words = [sys.executable, "-c", code]
    if pipe:
        assert subprocess.run(words, capture_output=True).stdout == b"before\ncontent\n"
    else:
        out = tmp_path / "out"
        with out.open("wb") as file:
            subprocess.run(words, stdout=file, check=True)
        assert out.read_bytes() == b"before\ncontent\n"
        assert files(tmp_path) == ["out"]


@posix
def test_a_file_in_memory_is_a_file(tmp_path):
    if not os.path.isdir("/dev/shm"):
        return
    path = f"/dev/shm/throughtime-test-{os.getpid()}"
    try:
        for content in (b"first", b"second"):
            storage.replace(path, content)
        with open(path, "rb") as file:
            assert file.read() == b"second"
    finally:
        os.unlink(path)


def test_more_tensors_than_any_network_has_are_refused_at_once(tmp_path):
    path = tmp_path / "many"
    entry = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    header = json.dumps({f"t{number}": entry for number in range(20_000)}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(ValueError, match="expected at most 16,384 tensors, got 20,000"):
        storage.read(path)


def test_a_copy_is_whole_or_not_there_with_the_files_mode_and_overwrites_nothing(
    tmp_path, monkeypatch
):
    path, copy = tmp_path / "net.py", tmp_path / "net.py.orig"
    path.write_text("old")
    path.chmod(0o600)
    storage.keep_copy(path, copy, b"old")
    assert (copy.read_text(), stat.S_IMODE(copy.stat().st_mode)) == ("old", 0o600)
    with pytest.raises(FileExistsError):
        storage.keep_copy(path, copy, b"newer")
    assert copy.read_text() == "old"
    copy.unlink()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        storage.keep_copy(path, copy, b"old")
    monkeypatch.undo()
    assert [one.name for one in tmp_path.iterdir()] == ["net.py"]

    def without_links(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("os.link", without_links)
    storage.keep_copy(path, copy, b"old")
    assert copy.read_text() == "old"
