"""Users' cells as compiled C: beside the readable ones, which are the truth."""

import os
import shutil
import stat
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import derived_cells
import throughtime as tt
from derived_cells import CELLS, made, parameters
from helpers import relative_error
from throughtime.cells.compiled_derived import Twin
from throughtime.codegen import Unavailable, cache, compiler, library, tolerances
from throughtime.network import RecurrentLayer
from throughtime.network.bfloat16 import RecurrentInBfloat16

FLOAT64, FLOAT32 = 1e-13, 5e-5
HAND_WRITTEN = ("rnn", "lstm", "gru", "original_gru", "whole_lstm")


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """A cache folder of these tests' own, and the compiler that is there."""
    folder = tmp_path_factory.getbasetemp() / "cells"
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    monkeypatch.delenv("THROUGHTIME_COMPILER", raising=False)
    with tt.engine("compiled"):
        yield folder


def cell_of(name, inputs=5, units=5):
    definition = CELLS.get(name) or getattr(derived_cells, name)
    fresh = type(definition)(definition.step, definition.shapes)  # without twins of other tests
    return made(fresh, inputs, units)


def both(cell, p, inputs, state, lengths, seed=0):
    """Forward and backward, readable and compiled: outputs, final state, tape, gradients."""
    found = []
    for engine in ("readable", "compiled"):
        rng = np.random.default_rng(seed)
        with tt.engine(engine):
            y, final, tape = cell.forward(p, inputs, state, lengths)
            dy = rng.standard_normal(y.shape).astype(y.dtype)
            dstate = {n: rng.standard_normal(a.shape).astype(a.dtype) for n, a in final.items()}
            found.append((y, final, tape, cell.backward(p, tape, dy, dstate)))
    return found


def errors(readable, compiled):
    """Relative errors of everything that the two give, by name."""
    (y, final, tape, g), (y2, final2, tape2, g2) = readable, compiled
    found = {"y": relative_error(y2, y)}
    for what, one, other in (
        ("final", final2, final),
        ("states", tape2.states, tape.states),
        ("kept", tape2.kept, tape.kept),
        ("δ", g2.deltas, g.deltas),
        ("δ before", g2.state, g.state),
        ("gradient", g2.parameters, g.parameters),
    ):
        assert one.keys() == other.keys(), what
        found |= {f"{what} {n}": relative_error(one[n], other[n]) for n in other}
    assert (g.inputs is None) == (g2.inputs is None)
    if g.inputs is not None:
        found["δx"] = relative_error(g2.inputs, g.inputs)
    return found


def drawn(cell, steps, batch, dtype, classes=False, seed=1):
    rng = np.random.default_rng(seed)
    shape = (steps, batch)
    if classes:
        inputs = rng.integers(0, cell.inputs, shape)
    else:
        inputs = rng.standard_normal((*shape, cell.inputs)).astype(dtype)
    # above 0, as the sums that some cells divide by are
    state = {
        n: np.abs(rng.standard_normal((batch, k))).astype(dtype)
        for n, k in cell.state_sizes.items()
    }
    return inputs, state


@pytest.mark.parametrize("name", [*CELLS, *HAND_WRITTEN])
def test_compiled_it_is_the_readable_cell(name):
    cell = cell_of(name)
    assert cell.runs_as("float64").startswith("compiled")
    p = parameters(cell)
    # B = 11 needs whole tiles of rows and what is left of them; T = 30 several chunks of steps.
    for steps, batch, lengths, classes in (
        (7, 5, None, False),
        (7, 5, [7, 3, 1, 5, 7], False),
        (30, 11, None, True),
        (30, 11, [30, *range(1, 11)], False),
    ):
        inputs, state = drawn(cell, steps, batch, "float64", classes)
        counts = None if lengths is None else np.array(lengths)
        found = errors(*both(cell, p, inputs, state, counts))
        assert max(found.values()) <= FLOAT64, (steps, found)


@pytest.mark.parametrize("name", ["layer_norm_lstm", "mlstm", "min_gru", "gru", "slstm"])
def test_in_float32_it_is_as_close_as_that_allows(name):
    cell = cell_of(name)
    assert cell.runs_as("float32").startswith("compiled")
    p = parameters(cell, dtype="float32")
    inputs, state = drawn(cell, 7, 5, "float32")
    readable, compiled = both(cell, p, inputs, state, None)
    assert compiled[3].parameters["W" if "W" in p else next(iter(p))].dtype == np.float32
    assert max(errors(readable, compiled).values()) <= FLOAT32


@pytest.mark.parametrize("name", sorted({*CELLS, *HAND_WRITTEN} - {"mlstm"}))
def test_products_in_bfloat16_are_those_of_the_readable_form(name, products):
    """They differ by the order of sums, and where that moves a number across a rounding."""
    cell = cell_of(name, 37, 37)
    p = parameters(cell, dtype="float32")
    rounding, plain = RecurrentInBfloat16(cell), RecurrentLayer(cell)
    for steps, batch, lengths, classes in (
        (1, 12, None, False),
        (6, 5, [6, 3, 1, 5, 6], False),
        (6, 5, None, True),
    ):
        inputs, state = drawn(cell, steps, batch, "float32", classes)
        counts = None if lengths is None else np.array(lengths)
        readable, compiled = layer_both(rounding, p, inputs, state, counts)
        exact = layer_both(plain, p, inputs, state, counts)[1]
        assert {type(a) for a in readable.values()} == {np.ndarray}
        effects = [relative_error(exact[what], truth) for what, truth in readable.items()]
        assert classes or max(effects) > 1e-4, "something is rounded"
        for (what, truth), effect in zip(readable.items(), effects, strict=True):
            gap = relative_error(compiled[what], truth)
            assert gap <= 5e-6 + effect / (20 if steps == 1 else 2), (what, gap, effect)


def layer_both(layer, p, inputs, state, counts):
    """Forward and backward of a layer, readable and compiled, by name."""
    found = []
    for engine in ("readable", "compiled"):
        rng = np.random.default_rng(3)
        with tt.engine(engine):
            y, final, tape = layer.forward(p, inputs, state, counts, None)
            dy = rng.standard_normal(y.shape).astype(y.dtype)
            dstate = {n: rng.standard_normal(a.shape).astype(a.dtype) for n, a in final.items()}
            gradient = {n: np.zeros_like(a) for n, a in p.items()}
            g = layer.backward(p, tape, dy, dstate, True, True, gradient)
        own = {"y": y} | {f"d{n}": a for n, a in g.parameters.items()}
        own |= {f"final {n}": a for n, a in final.items()}
        own |= {f"dstate {n}": a for n, a in g.state.items()}
        found.append(own if g.inputs is None else own | {"dx": g.inputs})
    return found


def test_a_network_in_bfloat16_gives_the_same_bits_again_and_runs_without_a_compiler(
    products, monkeypatch
):
    monkeypatch.setattr("throughtime.cells.compiled_derived.WORK_OF_A_THREAD", 1.0)
    cell = cell_of("layer_norm_lstm", 3, 9)
    net = network(cell, "float32", products="bfloat16")
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((80, 16, 3)).astype("f")
    targets = rng.standard_normal((80, 16, 2)).astype("f")
    found = always_the_same(net, inputs, targets)
    with tt.engine("readable"):
        readable = net.loss_and_gradient(inputs[:9], targets[:9])
    monkeypatch.setenv("THROUGHTIME_COMPILER", "none")
    assert net.loss_and_gradient(inputs[:9], targets[:9])[0] == pytest.approx(readable[0], rel=1e-6)
    monkeypatch.undo()
    plain = network(cell, "float32").loss_and_gradient(inputs, targets)[1]
    assert 1e-5 < relative_error(found[1].flat, plain.flat) < 2e-2


def test_a_factor_that_is_too_long_for_bfloat16_is_multiplied_by_the_readable_form(
    products, monkeypatch
):
    monkeypatch.setattr("throughtime.codegen.source.MOST_IN_BFLOAT16", 8)
    cell = cell_of("mgu", 3, 9)
    assert "in bfloat16" in cell.twin(np.dtype("f"), bfloat16=True)
    net = network(cell, "float32", products="bfloat16")
    inputs, targets = np.ones((4, 2, 3), "f"), np.ones((4, 2, 2), "f")
    with tt.engine("readable"):
        readable = net.loss_and_gradient(inputs, targets)
    assert relative_error(net.loss_and_gradient(inputs, targets)[1].flat, readable[1].flat) < 1e-5


def always_the_same(net, inputs, targets):
    """Loss and gradient, which are the same bits on 1 to 3 threads and within little memory."""
    before = tt.engine_info()["threads"]
    found = []
    try:
        for threads in (1, 2, 3):
            tt.set_threads(threads)
            found.append(net.loss_and_gradient(inputs, targets))
    finally:
        tt.set_threads(before)
    found.append(net.loss_and_gradient(inputs, targets, memory_limit=280_000))
    for loss, gradient in found[1:]:
        assert loss == found[0][0]
        assert np.array_equal(gradient.flat, found[0][1].flat)
    return found[0]


def network(cell, dtype="float64", **options):
    layers = [cell, tt.Dense(cell.output_size, 2)]
    net = tt.Network(layers, loss=tt.MeanSquaredError(), dtype=dtype, **options)
    rng = np.random.default_rng(1)
    net.parameters.flat[...] = 0.6 * rng.standard_normal(net.parameters.flat.shape)
    return net


def test_a_network_gives_the_same_bits_again_on_any_number_of_threads_and_within_memory(
    monkeypatch,
):
    monkeypatch.setattr("throughtime.cells.compiled_derived.WORK_OF_A_THREAD", 1.0)
    net = network(cell_of("layer_norm_lstm", 3, 9))
    rng = np.random.default_rng(0)
    inputs, targets = rng.standard_normal((80, 16, 3)), rng.standard_normal((80, 16, 2))
    found = always_the_same(net, inputs, targets)
    with tt.engine("readable"):
        gradient = net.loss_and_gradient(inputs, targets)[1]
    assert relative_error(found[1].flat, gradient.flat) <= FLOAT64
    cut = tt.truncated_loss_and_gradient(net, inputs, targets, k1=5, k2=80)
    assert relative_error(cut[1].flat, found[1].flat) <= FLOAT64
    report = tt.check(net, inputs[:6, :3], targets[:6, :3])
    assert report.verdict == "agree", report


def test_both_directions_and_two_layers():
    definition = CELLS["mgu"]
    layers = [
        definition(3, 4, bidirectional=True),
        definition(8, 4),
        tt.Dense(4, 2),
    ]
    net = tt.Network(layers, loss=tt.MeanSquaredError(), dtype="float64")
    rng = np.random.default_rng(0)
    inputs, targets = rng.standard_normal((9, 3, 3)), rng.standard_normal((9, 3, 2))
    lengths = np.array([9, 4, 1])
    found = []
    for engine in ("readable", "compiled"):
        with tt.engine(engine):
            found.append(net.gradients(inputs, targets, lengths=lengths))
    assert layers[0].runs_as("float64").startswith("compiled")
    assert relative_error(found[1].parameters.flat, found[0].parameters.flat) <= FLOAT64
    assert relative_error(found[1].inputs, found[0].inputs) <= FLOAT64
    for one, other in zip(found[1].deltas, found[0].deltas, strict=True):
        for name in found[0].deltas[other]:
            assert (
                relative_error(found[1].deltas[one][name], found[0].deltas[other][name]) <= FLOAT64
            )


def test_extreme_numbers_are_what_numpy_makes_of_them():
    @tt.cell(w="H", u="H")
    def odd(x, h, a, w, u):
        seen = np.exp(w * x[0]) + np.expm1(u * x[0]) + tt.softplus(x[0] * w)
        return tt.sigmoid(x[0] * w) + np.tanh(x[0] * u) * h, np.maximum(seen, a) + tt.relu(x[0])

    cell = odd(1, 4)
    p = {"w": np.array([1.0, -1.0, 0.5, 2.0]), "u": np.array([1.0, -1.0, 1e-9, 1e-300])}
    inputs = np.array([0.0, -0.0, 1e-310, 1.0, -745.5, 709.7, 800.0, -1e9, np.inf, np.nan])
    with np.errstate(all="ignore"):
        readable, compiled = both(cell, p, inputs[:, None, None], None, None)
        for part in ("h", "a"):
            one, other = compiled[2].states[part], readable[2].states[part]
            np.testing.assert_allclose(one, other, rtol=1e-14, atol=1e-322)


def test_without_a_compiler_the_readable_cell_answers_and_says_so_once(monkeypatch, capfd):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.delenv("CC", raising=False)
    cell = cell_of("mgu", 3, 4)
    p = parameters(cell)
    inputs, state = drawn(cell, 4, 2, "float64")
    compiler._said.clear()
    for _ in range(3):
        readable, answered = both(cell, p, inputs, state, None)
    assert errors(readable, answered)["y"] == 0
    said = capfd.readouterr().err.splitlines()
    assert said == [
        "throughtime: mgu runs in NumPy: no C or C++ compiler was found; "
        "install g++ or clang++, or set CXX"
    ]
    assert cell.runs_as("float64").startswith("readable: no C or C++ compiler")


def script(folder, name, text):
    path = folder / name
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("echo 'x.c:1: error: no licence' >&2; exit 1", "failed: x.c:1: error: no licence"),
        ("exec sleep 60", "did not finish within 0.2 seconds"),
        ('case "$*" in *-dM*) exit 0;; esac; exit 3', "failed: exit status 3"),
        ('case "$*" in *-dM*) exit 0;; esac; sleep 60', "did not finish within 0.2 seconds"),
        (  # it says that all is well, and writes nothing that can be loaded
            'for word; do last=$1; shift; [ "$last" = -o ] && echo no > "$1"; done; exit 0',
            "cannot be loaded",
        ),
    ],
)
def test_a_compiler_that_fails_or_hangs_is_named_in_one_line(tmp_path, monkeypatch, text, said):
    monkeypatch.setenv("THROUGHTIME_COMPILER", script(tmp_path, "broken", text))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(tolerances, "PROBE_SECONDS", 0.2)
    monkeypatch.setattr(tolerances, "COMPILE_SECONDS", 0.2)
    cell = cell_of("mgu", 3, 4)
    why = cell.runs_as("float64")
    assert why.startswith("readable: ")
    assert said in why
    assert "\n" not in why
    inputs, state = drawn(cell, 3, 2, "float64")
    assert cell.forward(parameters(cell), inputs, state)[0].shape == (3, 2, 4)
    assert not list((tmp_path / "cache").rglob(".compiling-*"))


def test_a_compiler_that_is_not_there_is_said_by_its_name(monkeypatch):
    monkeypatch.setenv("THROUGHTIME_COMPILER", "no-such-compiler")
    assert "'no-such-compiler' was not found" in cell_of("mgu").runs_as()


C = "int answer(void) { return 42; }\n"


@pytest.mark.skipif(os.name != "posix", reason="permissions are those of POSIX")
def test_a_folder_that_others_may_write_to_is_not_loaded_from(own_cache, monkeypatch, capfd):
    folder = own_cache.with_name("shared")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    inner = folder / "throughtime" / "cells"
    inner.mkdir(parents=True)
    inner.chmod(0o777)
    loaded, about = library(C + "/* shared */", "answer")
    assert loaded.answer() == 42
    assert about.endswith("for this process")
    assert "other users may write to it" in capfd.readouterr().err
    assert not list(inner.iterdir())


def test_where_no_folder_can_be_made_it_is_compiled_for_this_process(tmp_path, monkeypatch, capfd):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    loaded, about = library(C + "/* none */", "answer")
    assert loaded.answer() == 42
    assert about.endswith("for this process")
    assert "cannot be used" in capfd.readouterr().err


def test_on_a_full_disk_the_readable_cell_answers(monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.TemporaryDirectory", full)
    why = cell_of("mgu", 2, 3).runs_as("float64")
    assert why == "readable: there is no room for a file: No space left on device"


def test_a_damaged_library_is_made_again(own_cache):
    source = C + "/* damaged */"
    _, about = library(source, "answer")
    path = Path(about.partition(": ")[2])
    # Its header says that it is longer: whoever loads half of one is ended by SIGBUS.
    whole = path.read_bytes()
    for damaged in (b"\x7fELF, and nothing behind it", bytes(len(whole)), whole[: len(whole) // 2]):
        path.write_bytes(damaged)
        assert cache.kept(path.parent, path.stem[:40]) is None
        path.unlink()  # for one that is loaded is not loaded again
    path.write_bytes(damaged)
    code = (
        f"from throughtime.codegen import library; print(library({source!r}, 'answer')[0].answer())"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (found.returncode, found.stdout) == (0, "42\n")
    assert "compiling answer" in found.stderr
    assert [one.read_bytes() for one in path.parent.glob(path.name)] == [whole]


@pytest.mark.skipif(os.name != "posix", reason="permissions are those of POSIX")
def test_a_folder_whose_place_others_can_give_away_is_not_loaded_from(tmp_path, monkeypatch, capfd):
    """They could rename it, and put another one there between two looks at it."""
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    (tmp_path / "link").symlink_to(tmp_path / "open")
    for number, place in enumerate(("open", "link")):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / place))
        loaded, about = library(f"{C}/* above {number} */", "answer")
        assert loaded.answer() == 42
        assert about.endswith("for this process")
        assert f"other users may write to {tmp_path / 'open'}" in capfd.readouterr().err
    assert not list((tmp_path / "open").iterdir())
    (tmp_path / "open").chmod(0o1777)  # as /tmp, where nobody moves what others own
    assert "for this process" not in library(C + "/* sticky */", "answer")[1]


def test_a_library_that_is_a_link_or_has_another_content_is_not_loaded(own_cache, tmp_path):
    _, about = library(C + "/* theirs */", "answer")
    theirs = Path(about.partition(": ")[2])
    for change in (
        lambda path: (
            path.rename(tmp_path / "elsewhere.so"),
            path.symlink_to(tmp_path / "elsewhere.so"),
        ),
        lambda path: path.chmod(0o722),
        lambda path: path.rename(path.with_name(path.name.replace(path.stem[-32:], "0" * 32))),
    ):
        source = f"{C}/* mine {change.__code__.co_firstlineno} */"
        _, about = library(source, "answer")
        mine = Path(about.partition(": ")[2])
        change(mine)
        assert cache.kept(mine.parent, mine.stem[:40]) is None
    assert cache.kept(theirs.parent, theirs.stem[:40]) is not None


def test_what_a_killed_process_left_is_removed(own_cache):
    ended = subprocess.Popen(["true"])
    ended.wait()
    _, about = library(C + "/* first */", "answer")
    folder = Path(about.partition(": ")[2]).parent
    left, busy = folder / f".compiling-{ended.pid}-a", folder / f".compiling-{os.getpid()}-a"
    for place in (left, busy):
        place.mkdir()
        (place / "cell.c").write_text("")
    library(C + "/* second */", "answer")
    assert not left.exists()
    assert busy.exists()
    shutil.rmtree(busy)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("yes", "did not finish within 0.5 seconds"),
        ("head -c 9000000 /dev/zero", "printed more than 4,000,000 bytes"),
        ("head -c 9000000 /dev/zero >&2; exit 1", "failed: "),
        ("printf 'error: \\033[2Jx\\007' >&2; exit 1", r"failed: error: \x1b[2Jx\x07"),
        ("setsid sleep 20 & exit 1", "failed: exit status 1"),
        ('case "$*" in *-dM*) exit 0;; esac; exit 0', "without an error and without a library"),
        ('case "$*" in *-dM*) exit 0;; esac; for w; do l=$1; shift; [ "$l" = -o ] && o=$1; done; '
         "echo 'int nothing;' | cc -shared -x c - -o $o", "has none of its functions"),
    ],
)  # fmt: skip
def test_a_compiler_that_says_too_much_or_does_nothing(tmp_path, monkeypatch, text, said):
    monkeypatch.setenv("THROUGHTIME_COMPILER", script(tmp_path, "broken", text))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(tolerances, "PROBE_SECONDS", 0.5 if text == "yes" else 60.0)
    monkeypatch.setattr(tolerances, "LAST_WORDS_SECONDS", 0.2 if "setsid" in text else 60.0)
    why = cell_of("mgu", 3, 4).runs_as("float64")
    assert why.startswith("readable: ")
    assert said in why
    assert why.isprintable()


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone bounds a running process")
def test_a_compiler_whose_caller_is_killed_does_not_run_for_ever(tmp_path):
    """Its time on the processor is bounded from its start, by the system."""
    told = compiler.run([script(tmp_path, "slow", "sleep 0.3; ulimit -t")], 7.0)
    assert told == "8\n"


def test_a_compiler_whose_command_has_a_quotation_mark_too_few(monkeypatch):
    monkeypatch.setenv("THROUGHTIME_COMPILER", "cc 'x")
    assert "is no command: No closing quotation" in cell_of("mgu").runs_as()


def test_two_that_compile_the_same_do_not_disturb_each_other(own_cache):
    source, found = C + "/* at once */", []
    threads = [
        threading.Thread(target=lambda: found.append(library(source, "answer")[0].answer()))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [42] * 4
    assert not list(own_cache.rglob(".compiling-*"))


def test_what_decides_is_in_the_name_of_a_library(own_cache, monkeypatch):
    _, first = library(C, "answer")
    assert library(C, "answer")[1] == first
    monkeypatch.setattr(compiler, "FORM", "another")
    assert library(C, "answer")[1] != first
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(own_cache))
    monkeypatch.setattr(compiler, "OPTIONS", (*compiler.OPTIONS, "-g"))
    monkeypatch.setenv("THROUGHTIME_COMPILER", "cc")
    assert library(C, "answer")[1] != first


def test_code_that_is_too_large_is_left_to_numpy(monkeypatch):
    monkeypatch.setattr(tolerances, "MOST_CODE", 10_000)
    why = cell_of("gru_d").runs_as("float64")
    assert why.startswith("readable: its C code would have ")
    assert why.endswith("more than the 10,000 that are compiled")
    with pytest.raises(Unavailable):
        library(" " * 10_001, "blank")


def test_what_the_compiled_code_does_not_expect_goes_to_the_readable_cell(monkeypatch):
    cell = cell_of("mgu", 3, 4)
    assert cell.runs_as("float64").startswith("compiled")
    called = []
    for word in ("forward", "backward", "add_parameters"):
        own = getattr(Twin, word)

        def noted(self, *given, _own=own, _word=word, **more):
            called.append(_word)
            return _own(self, *given, **more)

        monkeypatch.setattr(Twin, word, noted)
    p = parameters(cell)
    inputs, state = drawn(cell, 4, 2, "float64")
    _, _, tape = cell.forward(p, inputs, state)
    assert called == ["forward"]
    wrong = {
        "state": (p, inputs, {"h": state["h"][:, :3]}),
        "inputs": (p, inputs[..., :2], state),
        "class": (p, np.full((4, 2), 3), state),
        "parameter": (p | {"U_f": p["U_f"][:3]}, inputs, state),
    }
    called.clear()
    for given in wrong.values():
        with pytest.raises((ValueError, IndexError)):
            cell.forward(*given)
    for doutputs in (np.zeros((4, 2, 3)), np.zeros((3, 2, 4))):
        with pytest.raises((ValueError, IndexError)):
            cell.backward(p, tape, doutputs)
    mixed, _, _ = cell.forward(p, inputs.astype("float32"), state)
    assert mixed.shape == (4, 2, 4)
    short = tape._replace(kept={n: a[:, :1] for n, a in tape.kept.items()})
    assert cell.backward(p, short, np.zeros((4, 2, 4))) is not None
    assert called == []
    strided = np.asfortranarray(inputs)
    y, _, _ = cell.forward({n: np.asfortranarray(a) for n, a in p.items()}, strided, state)
    assert np.array_equal(y, tape.states["h"][1:])


@tt.cell(steps="H I", real="H H", batch="H", first="H", LANES="")
def double(row, rows, later_rows, steps, real, batch, first, LANES):
    """Whose names mean something in C, or in what is generated."""
    memcpy = steps @ row + real @ rows + batch
    t1, sum1 = np.tanh(memcpy), tt.softmax(memcpy)
    α = t1 * LANES + np.mean(sum1 * first)
    frontier = np.tanh(α) * later_rows
    work = frontier + sum1 * np.sum(frontier * frontier)
    return work, later_rows * 0.5 + t1


def test_names_that_mean_something_in_c_are_no_matter():
    for dtype, bound in (("float64", FLOAT64), ("float32", FLOAT32)):
        cell = double(3, 4)
        assert cell.runs_as(dtype).startswith("compiled"), cell.runs_as(dtype)
        p = parameters(cell, dtype=dtype)
        inputs, state = drawn(cell, 5, 3, dtype)
        found = errors(*both(cell, p, inputs, state, np.array([5, 2, 4])))
        assert max(found.values()) <= bound, found
