"""Networks and cells as one file of C99: beside the engine, and checked by our own check."""

import ctypes
import shutil
import subprocess

import numpy as np
import pytest

import throughtime as tt
from derived_cells import CELLS, made
from helpers import relative_error
from throughtime.cli import main
from throughtime.gradcheck import check_target
from throughtime.network import Loss, network_as_c
from throughtime.training import SGD, Adam

STRICT = ("-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic")
COMPILER = next(filter(shutil.which, ("cc", "gcc", "clang")), None)
pytestmark = pytest.mark.skipif(COMPILER is None, reason="there is no C compiler")
BOUNDS = {"float32": 1e-6, "float64": 1e-13}

HARNESS = """
#include "net.c"
static net_window window;
double run(const REAL *p, const REAL *inputs, const REAL *targets, int steps, REAL *outputs,
           REAL *streamed, REAL *gradient, REAL *dinputs) {
    static REAL doutputs[NET_STEPS * NET_OUTPUTS];
    net_state state, dstate;
    double loss;
    int t;
    net_reset(&state);
    for (t = 0; t < steps; t++)
        net_step(p, &state, inputs + t * NET_INPUTS, streamed + t * NET_OUTPUTS);
    net_reset(&state);
    net_reset(&dstate);
    if (net_forward(p, &state, inputs, steps, outputs, &window)) return -1;
    loss = LOSS;
    net_backward(p, &window, doutputs, &dstate, gradient, dinputs);
    return loss;
}
int too_long(const REAL *p) {
    net_state state;
    net_reset(&state);
    return net_forward(p, &state, NULL, NET_STEPS + 1, NULL, &window);
}
void adam(REAL *p, const REAL *g, int times) {
    static net_moments moments;
    for (; times; times--) net_adam(p, g, &moments, 0.01);
}
"""


def built(folder, text, dtype, loss=True):
    """A shared library of a file of C, compiled as strictly as can be."""
    (folder / "net.c").write_text(text)
    given = "net_loss(outputs, targets, steps, doutputs)"
    own = given if loss else "0; memcpy(doutputs, targets, sizeof *outputs * steps * NET_OUTPUTS)"
    harness = HARNESS.replace("LOSS;", f"{own};")
    (folder / "harness.c").write_text(
        harness.replace("REAL", "float" if dtype == "float32" else "double")
    )
    library = folder / "net.so"
    command = [COMPILER, *STRICT, "-O1", "-shared", "-fPIC", "harness.c", "-o", library.name, "-lm"]
    subprocess.run(command, cwd=folder, check=True)
    found = ctypes.CDLL(str(library))
    found.run.restype = ctypes.c_double
    return found


def called(library, parameters, inputs, targets, outputs):
    """Loss, outputs of a window, outputs of a stream, gradient, δ of the inputs."""
    steps, dtype = len(inputs), parameters.dtype
    y, streamed = np.zeros((2, steps, outputs), dtype)
    gradient, dinputs = np.zeros_like(parameters), np.zeros_like(inputs)
    arrays = [parameters, inputs, targets]
    assert all(a.flags.c_contiguous and a.dtype == dtype for a in arrays)
    pointers = [ctypes.c_void_p(a.ctypes.data) for a in (*arrays, y, streamed, gradient, dinputs)]
    loss = library.run(*pointers[:3], steps, *pointers[3:])
    return loss, y, streamed, gradient, dinputs


def drawn(net, seed=0):
    rng = np.random.default_rng(seed)
    net.parameters.flat[...] = 0.5 * rng.standard_normal(net.parameters.flat.shape)
    return net


NETWORKS = {
    "LSTM and GRU": lambda: tt.Network(
        [
            tt.Embedding(7, 5),
            tt.LSTM(5, 6, peepholes=True, projection=4),
            tt.Dropout(0.2),
            tt.GRU(4, 5),
            tt.Dense(5, 7),
        ],
        loss=tt.SoftmaxCrossEntropy(),
    ),
    "RNN and the original GRU": lambda: tt.Network(
        [tt.RNN(3, 4, nonlinearity="relu"), tt.GRU(4, 5, reset_after=False), tt.Dense(5, 2, False)],
        loss=tt.MeanSquaredError(time="sum"),
        dtype="float64",
    ),
    "layer normalisation": lambda: tt.Network(
        [CELLS["layer_norm_lstm"](3, 6), tt.Dense(6, 2)], loss=tt.BinaryCrossEntropy()
    ),
    "mLSTM": lambda: tt.Network(
        [CELLS["mlstm"](3, 4), tt.Dense(4, 2)], loss=tt.MeanSquaredError(), dtype="float64"
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_in_c_a_network_is_the_engines(name, tmp_path):
    net = drawn(NETWORKS[name]())
    dtype, bound = str(net.dtype), BOUNDS[str(net.dtype)]
    rng = np.random.default_rng(1)
    T, K = 9, net.outputs
    classes = isinstance(net.specs[0], tt.Embedding)
    if classes:
        given = rng.integers(0, net.inputs, (T, 1))
        x = np.eye(net.inputs, dtype=dtype)[given[:, 0]]
    else:
        given = rng.standard_normal((T, 1, net.inputs)).astype(dtype)
        x = np.ascontiguousarray(given[:, 0])
    if isinstance(net.loss, tt.SoftmaxCrossEntropy):
        targets = rng.integers(0, K, (T, 1))
        wanted = np.eye(K, dtype=dtype)[targets[:, 0]]
    else:
        targets = rng.uniform(0, 1, (T, 1, K)).astype(dtype)
        wanted = np.ascontiguousarray(targets[:, 0])
    library = built(tmp_path, network_as_c(net, steps=T), dtype)
    p = net.parameters.flat.copy()
    loss, y, streamed, gradient, dinputs = called(library, p, x, wanted, K)
    truth = net.gradients(given, targets)
    assert loss == pytest.approx(truth.loss.value, rel=bound)
    assert relative_error(y, net.run(given).outputs[:, 0]) <= bound
    assert np.array_equal(y, streamed)
    assert relative_error(gradient, truth.parameters.flat) <= bound
    for tensor in net.parameters:
        assert np.abs(truth.parameters[tensor]).max() > 0, tensor
    if not classes:
        assert relative_error(dinputs, truth.inputs[:, 0]) <= bound
    assert library.too_long(ctypes.c_void_p(p.ctypes.data)) == 1
    # the weights in the file are the parameters, to the bit
    weights = (ctypes.c_float if dtype == "float32" else ctypes.c_double) * p.size
    assert np.array_equal(np.array(weights.in_dll(library, "net_weights")), p)


def test_updates_are_those_of_training(tmp_path):
    net = drawn(NETWORKS["RNN and the original GRU"]())
    library = built(tmp_path, network_as_c(net, weights=False), "float64")
    rng = np.random.default_rng(2)
    p, g = net.parameters.flat, rng.standard_normal(net.parameters.flat.shape)
    for kind, update in (
        (SGD, lambda own, at: library.net_sgd(own, at, ctypes.c_double(0.01))),
        (Adam, lambda own, at: library.adam(own, at, 3)),
    ):
        options = {"momentum": 0.0} if kind is SGD else {}
        ours, theirs, optimiser = p.copy(), p.copy(), kind(p.size, "float64", **options)
        for _ in range(3 if kind is Adam else 1):
            optimiser.update(theirs, g.copy(), 0.01)
        update(*(ctypes.c_void_p(a.ctypes.data) for a in (ours, g)))
        assert relative_error(ours, theirs) <= 1e-14, kind
    library.net_clip.restype = ctypes.c_double
    long = g.copy()
    norm = library.net_clip(ctypes.c_void_p(long.ctypes.data), ctypes.c_double(0.5))
    assert norm == pytest.approx(np.linalg.norm(g), rel=1e-14)
    assert np.linalg.norm(long) == pytest.approx(0.5, rel=1e-14)


@pytest.mark.parametrize("name", CELLS)
def test_every_cell_of_the_gallery_compiles_as_strictly_as_can_be(name, tmp_path):
    derivation = tt.derive(CELLS[name])
    assert str(derivation.c) == derivation.c  # it is the two functions, as text
    (tmp_path / "net.c").write_text(derivation.c())
    command = [COMPILER, *STRICT, "-fsyntax-only", "net.c"]
    subprocess.run(command, cwd=tmp_path, check=True)


@pytest.mark.parametrize("name", ["min_gru", "gru_d", "slstm", "qrnn", "lru"])
def test_in_c_a_cell_is_the_readable_one(name, tmp_path):
    cell = made(CELLS[name], 3, 3)
    text = tt.derive(cell).c(steps=8, dtype="float64").replace(f"{name}_", "net_")
    text = text.replace(f"{name.upper()}_", "NET_")
    library = built(tmp_path, text, "float64", loss=False)
    rng = np.random.default_rng(3)
    shapes = cell.shapes()
    p = {n: 0.6 * rng.standard_normal(shape) for n, shape in shapes.items()}
    flat = np.concatenate([array.ravel() for array in p.values()])
    x, dy = rng.standard_normal((8, cell.inputs)), rng.standard_normal((8, cell.output_size))
    _, y, _, gradient, dinputs = called(library, flat, x, dy, cell.output_size)
    with tt.engine("readable"):
        outputs, _, tape = cell.forward(p, x[:, None])
        truth = cell.backward(p, tape, dy[:, None])
    found = np.concatenate([truth.parameters[n].ravel() for n in p])
    assert relative_error(y, outputs[:, 0]) <= 1e-13
    assert relative_error(gradient, found) <= 1e-13
    assert relative_error(dinputs, truth.inputs[:, 0]) <= 1e-13


@pytest.mark.parametrize("right", [True, False])
def test_our_own_check_agrees_and_finds_an_error_that_is_put_in(tmp_path, right):
    net = drawn(NETWORKS["RNN and the original GRU"]())
    text = network_as_c(net)
    if not right:
        text = text.replace("row[j] += d * x[j]", "row[j] += d")
        wrong = text.replace("row[j] += d * after->layer1_h[j]", "row[j] += d")
        assert wrong != text
        text = wrong
    (tmp_path / "net.c").write_text(text)
    library = tmp_path / "net.so"
    flags = [*STRICT, "-O1", "-shared", "-fPIC", "-DNET_CHECK"]
    subprocess.run([COMPILER, *flags, "net.c", "-o", library.name, "-lm"], cwd=tmp_path, check=True)
    with tt.library_target(library) as target:
        report = check_target(target, effort="quick")
    assert report.verdict == ("agree" if right else "disagree"), report


# --- the command ---


def test_the_command_exports_a_network_and_its_blob(tmp_path, capsys):
    net = drawn(tt.Network([tt.LSTM(2, 3), tt.Dense(3, 2)], loss=tt.MeanSquaredError()))
    saved, code, blob = (tmp_path / n for n in ("my.safetensors", "my net.c", "net.bin"))
    net.save(saved)
    assert main(["export", str(saved), "--c", str(code), "--blob", str(blob), "--steps", "4"]) == 0
    assert "my_net_step and others" in capsys.readouterr().out
    text = code.read_text()
    assert "my_net_weights" not in text
    assert "#define MY_NET_STEPS 4" in text
    library = built(tmp_path, text.replace("my_net", "net").replace("MY_NET", "NET"), "float32")
    read, content = np.zeros_like(net.parameters.flat), blob.read_bytes()
    at = ctypes.c_void_p(read.ctypes.data)
    assert library.net_load(at, content, ctypes.c_size_t(len(content) - 1)) == 1
    assert library.net_load(at, content, ctypes.c_size_t(len(content))) == 0
    assert np.array_equal(read, net.parameters.flat)


def test_the_command_exports_a_checkpoint_of_training(tmp_path):
    words = tmp_path / "text.txt"
    words.write_text("a small text about nothing. " * 40)
    saved = tmp_path / "model.safetensors"
    sizes = ["--hidden", "4", "--k1", "8", "--batch", "2", "--updates", "2"]
    assert main(["train", str(words), "--out", str(saved), *sizes]) == 0
    assert main(["export", str(saved), "--c", str(tmp_path / "2.c")]) == 0
    assert "void net_2_step(const float *parameters" in (tmp_path / "2.c").read_text()


def test_what_has_no_form_in_c_is_refused_in_one_line(tmp_path, capsys):
    class Own(Loss):
        def check_targets(self, targets, outputs):
            return targets

        def errors(self, outputs, targets):
            return outputs, targets

    both = tt.Network([tt.RNN(2, 3, bidirectional=True)])
    with pytest.raises(ValueError, match="layer 0: expected a layer that runs in one direction"):
        network_as_c(both)
    with pytest.raises(ValueError, match=r"loss: expected none, or one of .*, got Own"):
        network_as_c(tt.Network([tt.RNN(2, 3)], loss=Own()))
    with pytest.raises(ValueError, match="name: expected a word"):
        network_as_c(tt.Network([tt.RNN(2, 3)]), "2 nets")
    with pytest.raises(ValueError, match="steps: expected an integer of at least 1"):
        network_as_c(tt.Network([tt.RNN(2, 3)]), steps=0)
    saved = tmp_path / "both.safetensors"
    both.save(saved)
    for given, said in (
        ([str(saved), "--c", str(tmp_path / "n.c")], "one direction, got both"),
        ([str(saved), "--c", str(tmp_path / "no" / "n.c")], "a file in an existing folder"),
        ([str(tmp_path / "none"), "--c", str(tmp_path / "n.c")], "none"),
        (
            [str(saved), "--c", str(tmp_path / "n.c"), "--blob", str(tmp_path / "n.c")],
            "another file than that of --c",
        ),
    ):
        assert main(["export", *given]) == 3
        error = capsys.readouterr().err
        assert said in error
        assert error.count("\n") == 1
    assert not (tmp_path / "n.c").exists()
