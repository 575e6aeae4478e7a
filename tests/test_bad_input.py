"""Wrong input is refused with one clear message: what, expected, actual, way out."""

import os
import re

import numpy as np
import pytest
from safetensors.numpy import save_file

import throughtime as tt
from throughtime import storage

T, B, I, H, K = 5, 2, 3, 4, 2  # noqa: E741
X, Y = np.ones((T, B, I)), np.zeros((T, B, K))
CLASSES = np.zeros((T, B), int)


def network(loss=None, dtype="float64"):
    return tt.Network([tt.LSTM(I, H), tt.Dense(H, K)], loss, dtype=dtype)


def refused(error, message):
    """`pytest.raises` with the whole message; a trailing … leaves its end open."""
    exact = re.escape(message.removesuffix("…")) + ("" if message.endswith("…") else "$")
    return pytest.raises(error, match="^" + exact)


FLOAT32 = "expected float64, got float32; convert it: .astype(np.float64), or the network: "
OTHER = FLOAT32 + ".astype(np.float32)"


def spoiled(array, place, value):
    copy = array.copy()
    copy[place] = value
    return copy


@pytest.mark.parametrize(
    ("inputs", "error", "message"),
    [
        (X[:, 0], ValueError, "expected (T, B, 3), got (5, 3); add a batch axis: inputs[:, None]"),
        (np.ones((T, B, 4)), ValueError, "expected (T, B, 3), got (5, 2, 4)"),
        (X[:0], ValueError, "expected at least one step and one sequence, got shape (0, 2, 3)"),
        (X[:, :0], ValueError, "expected at least one step and one sequence, got shape (5, 0, 3)"),
        (CLASSES[:0], ValueError, "expected at least one step and one sequence, got shape (0, 2)"),
        (X.astype(np.float32), TypeError, OTHER),
        (X.astype(int), TypeError, "expected float64, got int64; convert it: .astype(np.float64)"),
        (X.astype(bool), TypeError, "expected float64, got bool; convert it: .astype(np.float64)"),
        (X + 0j, TypeError, "expected float64, got complex128"),
        (X.astype(str), TypeError, "expected float64, got <U32"),
        (
            [[[1.0] * 3], [[2.0]]],
            ValueError,
            "expected numbers in equally long lists, got a list …",
        ),
        ([[["a", "b", "c"]]], ValueError, "expected numbers in equally long lists, got a list …"),
        (
            spoiled(X, (3, 1, 2), np.nan),
            ValueError,
            "expected finite numbers, got nan at (3, 1, 2) (1 of 30)",
        ),
        (
            spoiled(X, (0, 1), -np.inf),
            ValueError,
            "expected finite numbers, got -inf at (0, 1, 0) (3 of 30)",
        ),
        (CLASSES + 3, ValueError, "expected class indices from 0 to 2, got 3"),
        (CLASSES - 1, ValueError, "expected class indices from 0 to 2, got -1"),
        (
            np.full((T, B), 2**63, np.uint64),
            ValueError,
            "expected class indices from 0 to 2, got 9223372036854775808",
        ),
        (CLASSES[0], ValueError, "expected (T, B), got (2,); add a batch axis: inputs[:, None]"),
    ],
)
def test_inputs(inputs, error, message):
    with refused(error, f"inputs: {message}"):
        network().run(inputs)


@pytest.mark.parametrize("inputs", [np.ones((T, B)), X, X.astype(int)])
def test_an_embedding_takes_indices_alone(inputs):
    net = tt.Network([tt.Embedding(I, H)], dtype="float64")
    message = f"inputs: expected class indices (T, B), got {inputs.dtype}; class indices …"
    with refused(TypeError, message):
        net.run(inputs)


@pytest.mark.parametrize(
    ("lengths", "error", "message"),
    [
        ([5, 0], ValueError, "expected from 1 to T = 5 steps, got 0 for sequence 1"),
        ([6, 5], ValueError, "expected from 1 to T = 5 steps, got 6 for sequence 0"),
        ([-1, 3], ValueError, "expected from 1 to T = 5 steps, got -1 for sequence 0"),
        (
            np.array([2**63, 1], np.uint64),
            ValueError,
            "expected from 1 to T = 5 steps, got 9223372036854775808 for sequence 0",
        ),
        ([5], ValueError, "expected (2,), got (1,)"),
        (5, ValueError, "expected (2,), got ()"),
        ([[5, 5]], ValueError, "expected (2,), got (1, 2)"),
        ([5.0, 5.0], TypeError, "expected integers, got float64"),
        ([True, True], TypeError, "expected integers, got bool"),
        ("55", TypeError, "expected integers, got <U2"),
        ([5, None], TypeError, "expected integers, got object"),
    ],
)
def test_lengths(lengths, error, message):
    with refused(error, f"lengths: {message}"):
        network().run(X, lengths=lengths)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"0.c": None}, ValueError, "state: expected the names 0.h, 0.c, got 0.c missing"),
        (
            {"0.c": None, "1.h": np.zeros((B, H))},
            ValueError,
            "state: expected the names 0.h, 0.c, got 0.c missing, 1.h unknown",
        ),
        ({"0.h": np.zeros((3, H))}, ValueError, "state['0.h']: expected (2, 4), got (3, 4)"),
        ({"0.h": np.zeros((B, H), np.float32)}, TypeError, f"state['0.h']: {OTHER}"),
        (
            {"0.c": np.full((B, H), np.inf)},
            ValueError,
            "state['0.c']: expected finite numbers, got inf at (0, 0) (8 of 8)",
        ),
    ],
)
def test_states(change, error, message):
    state = {"0.h": np.zeros((B, H)), "0.c": np.zeros((B, H))} | change
    with refused(error, message):
        network().run(X, {name: array for name, array in state.items() if array is not None})


def test_a_state_without_names():
    state = (np.zeros((B, H)), np.zeros((B, H)))
    with refused(TypeError, "state: expected a mapping of names to arrays, got tuple"):
        network().run(X, state)


def test_parameters_that_are_not_finite_are_named():
    net = network()
    net.parameters["0.U"][3, 1] = np.nan
    message = "parameters['0.U']: expected finite numbers, got nan at (3, 1) (1 of 64)"
    with refused(ValueError, message):
        net.run(X)


SUM = "expected probabilities that sum to 1 at every step, got a smallest one of "


@pytest.mark.parametrize(
    ("loss", "targets", "error", "message"),
    [
        (tt.MeanSquaredError, Y[:, 0], ValueError, "expected (5, 2, 2), got (5, 2)"),
        (tt.MeanSquaredError, Y[:4], ValueError, "expected (5, 2, 2), got (4, 2, 2)"),
        (tt.MeanSquaredError, Y.astype(np.float32), TypeError, OTHER),
        (
            tt.MeanSquaredError,
            Y.astype(int),
            TypeError,
            "expected float64, got int64; convert it: .astype(np.float64)",
        ),
        (
            tt.MeanSquaredError,
            Y * np.nan,
            ValueError,
            "expected finite numbers, got nan at (0, 0, 0) (20 of 20)",
        ),
        (
            tt.SoftmaxCrossEntropy,
            CLASSES + 2,
            ValueError,
            "expected class indices from 0 to 1, got 2",
        ),
        (
            tt.SoftmaxCrossEntropy,
            CLASSES - 1,
            ValueError,
            "expected class indices from 0 to 1, got -1",
        ),
        (
            tt.SoftmaxCrossEntropy,
            np.full((T, B), 2**63, np.uint64),
            ValueError,
            "expected class indices from 0 to 1, got 9223372036854775808",
        ),
        (tt.SoftmaxCrossEntropy, CLASSES.T, ValueError, "expected (5, 2), got (2, 5)"),
        (tt.SoftmaxCrossEntropy, Y.astype(int), ValueError, "expected (5, 2), got (5, 2, 2)"),
        (
            tt.SoftmaxCrossEntropy,
            CLASSES * 1.0,
            TypeError,
            "expected integers (T, B), or probabilities (T, B, K), got float64 (5, 2)",
        ),
        (tt.SoftmaxCrossEntropy, Y + 0.4, ValueError, SUM + "0.4 and a sum of 0.8"),
        (
            tt.SoftmaxCrossEntropy,
            Y + np.array([-0.5, 1.5]),
            ValueError,
            SUM + "-0.5 and a sum of 1",
        ),
        (tt.BinaryCrossEntropy, Y + 1.5, ValueError, "expected numbers from 0 to 1, got 1.5 … 1.5"),
        (tt.BinaryCrossEntropy, Y - 0.1, ValueError, "expected numbers from 0 to 1, got -0.1 …"),
        (tt.BinaryCrossEntropy, Y.astype(np.float32), TypeError, OTHER),
    ],
)
def test_targets(loss, targets, error, message):
    net = network(loss())
    before = net.parameters.copy()
    with refused(error, f"targets: {message}"):
        net.loss_and_gradient(X, targets)
    assert net.parameters == before


def test_no_loss():
    with refused(ValueError, "loss: expected a loss, got none; build the network with loss=…"):
        network().loss_and_gradient(X, Y)


@pytest.mark.parametrize(
    ("doutputs", "dstate", "error", "message"),
    [
        (Y.astype(np.float32), None, TypeError, f"doutputs: {OTHER}"),
        (Y[:3], None, ValueError, "doutputs: expected (5, 2, 2), got (3, 2, 2)"),
        (
            Y,
            {"0.h": np.zeros((B, H))},
            ValueError,
            "dstate: expected the names 0.h, 0.c, got 0.c missing",
        ),
        (
            Y,
            {"0.h": np.zeros((1, H)), "0.c": np.zeros((B, H))},
            ValueError,
            "dstate['0.h']: expected (2, 4), got (1, 4)",
        ),
        (
            Y,
            {"0.h": np.zeros((B, H)), "0.c": np.zeros((B, H), np.float32)},
            TypeError,
            f"dstate['0.c']: {OTHER}",
        ),
    ],
)
def test_upstream_gradients(doutputs, dstate, error, message):
    net = network()
    _, _, tape = net.forward(X)
    with refused(error, message):
        net.backward(tape, doutputs, dstate)


def test_upstream_gradients_of_a_stretch():
    net = network()
    _, _, tape = net.forward(X)
    assert net.backward(tape.steps(1, 4), Y[1:4]).inputs.shape == (3, B, I)
    with refused(ValueError, "doutputs: expected (3, 2, 2), got (5, 2, 2)"):
        net.backward(tape.steps(1, 4), Y)


LAYER = "expected one of RNN, LSTM, GRU, Dense, Embedding, Dropout, got "
ONE = "expected an integer of at least 1, got "


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: tt.LSTM(0, 4), ValueError, f"inputs: {ONE}0"),
        (lambda: tt.LSTM(3, -1), ValueError, f"units: {ONE}-1"),
        (lambda: tt.LSTM(3.0, 4), TypeError, f"inputs: {ONE}3.0"),
        (lambda: tt.LSTM(3, "4"), TypeError, f"units: {ONE}'4'"),
        (lambda: tt.GRU(True, 4), TypeError, f"inputs: {ONE}True"),
        (lambda: tt.LSTM(3, 4, projection=0), ValueError, f"projection: {ONE}0"),
        (
            lambda: tt.LSTM(3, 4, chrono=2),
            ValueError,
            "chrono: expected an integer of at least 3, got 2",
        ),
        (
            lambda: tt.LSTM(3, 4, forget_bias=np.nan),
            ValueError,
            "forget_bias: expected a finite number, got nan",
        ),
        (
            lambda: tt.LSTM(3, 4, forget_bias="1"),
            TypeError,
            "forget_bias: expected a finite number, got '1'",
        ),
        (
            lambda: tt.RNN(3, 4, "sigmoid"),
            ValueError,
            "nonlinearity: expected 'tanh' or 'relu', got 'sigmoid'",
        ),
        (lambda: tt.Dropout(1), ValueError, "rate: expected a number from 0 to below 1, got 1.0"),
        (
            lambda: tt.Dropout(-0.1),
            ValueError,
            "rate: expected a number from 0 to below 1, got -0.1",
        ),
        (lambda: tt.Dropout(np.nan), ValueError, "rate: expected a finite number, got nan"),
        (lambda: tt.Dropout(None), TypeError, "rate: expected a finite number, got None"),
        (lambda: tt.Dense(3, 0), ValueError, f"outputs: {ONE}0"),
        (lambda: tt.Embedding(0, 3), ValueError, f"classes: {ONE}0"),
        (
            lambda: tt.MeanSquaredError(time="average"),
            ValueError,
            "time: expected 'mean' or 'sum', got 'average'",
        ),
        (lambda: tt.Network([]), ValueError, "layers: expected at least one layer, got none"),
        (
            lambda: tt.Network(tt.Dense(3, 4)),
            TypeError,
            "layers: expected a list of layers, got Dense(inputs=3, outputs=4, bias=True); put it "
            "into one",
        ),
        (lambda: tt.Network([tt.Dense(3, 4), 7]), TypeError, f"layer 1: {LAYER}7"),
        (lambda: tt.Network([tt.GRU]), TypeError, f"layer 0: {LAYER}<class …"),
        (
            lambda: tt.Network([tt.LSTM(3, 4), tt.Dense(5, 2)]),
            ValueError,
            "layer 1: inputs: expected 4, the outputs of layer 0, got 5",
        ),
        (
            lambda: tt.Network([tt.LSTM(3, 4, bidirectional=True), tt.Dense(4, 2)]),
            ValueError,
            "layer 1: inputs: expected 8, the outputs of layer 0, got 4",
        ),
        (
            lambda: tt.Network([tt.LSTM(3, 4), tt.Embedding(4, 2)]),
            ValueError,
            "layer 1: expected a layer that takes numbers, got Embedding",
        ),
        (
            lambda: tt.Network([tt.Dropout(0.5), tt.Dense(3, 2)]),
            ValueError,
            "layer 0: expected a layer that fixes the number of inputs, got Dropout",
        ),
        (
            lambda: tt.Network([tt.Dense(3, 2)], "mse"),
            TypeError,
            "loss: expected one of MeanSquaredError, SoftmaxCrossEntropy, BinaryCrossEntropy, "
            "got 'mse'",
        ),
        (
            lambda: tt.Network([tt.Dense(3, 2)], tt.MeanSquaredError),
            TypeError,
            "loss: expected one of MeanSquaredError, SoftmaxCrossEntropy, BinaryCrossEntropy, "
            "got <class 'throughtime.network.losses.MeanSquaredError'>; "
            "call it: MeanSquaredError()",
        ),
        (
            lambda: network(dtype="float16"),
            TypeError,
            "dtype: expected float32 or float64, got float16",
        ),
        (
            lambda: network(dtype="single precision"),
            TypeError,
            "dtype: expected float32 or float64, got 'single precision'",
        ),
        (lambda: network(dtype=None), TypeError, "dtype: expected float32 or float64, got None"),
        (
            lambda: tt.Network([tt.Dense(3, 2)], seed=-1),
            ValueError,
            "seed: expected an integer of at least 0, got -1",
        ),
        (
            lambda: network().run(X, dropout_seed="a"),
            TypeError,
            "dropout_seed: expected an integer of at least 0, got 'a'",
        ),
        (
            lambda: tt.Network([tt.LSTM(2**40, 2**40)]),
            ValueError,
            "parameters: expected at most 281474976710656 numbers, got 9671406556921431444160512; "
            "choose smaller layers",
        ),
    ],
)
def test_layers_and_options(make, error, message):
    with refused(error, message):
        make()


def test_sizes_are_pythons_own_integers():
    """NumPy's would overflow in 4·H·I, and JSON does not know them."""
    assert tt.LSTM(np.int32(2**20), np.int32(2**20)).shapes()["W"] == (2**22, 2**20)
    layers = [
        tt.Embedding(np.int64(3), np.uint8(3)),
        tt.LSTM(np.int8(3), np.int16(4), projection=np.int64(2), forget_bias=np.float32(1)),
        tt.Dropout(np.float64(0.5)),
        tt.Dense(np.int64(2), np.int64(2)),
    ]
    description = tt.Network(layers).describe()
    assert tt.Network.from_description(description).describe() == description


def test_a_rate_of_numpy_keeps_float32():
    net = tt.Network([tt.Dense(3, 3), tt.Dropout(np.float64(0.5))])
    outputs, _, _ = net.forward(np.ones((2, 2, 3), np.float32), dropout_seed=0)
    assert outputs.dtype == np.float32


class TestParameters:
    @pytest.mark.parametrize(
        ("name", "values", "error", "message"),
        [
            ("0.U", np.zeros((3, 3)), ValueError, "0.U: expected (16, 4), got (3, 3)"),
            ("1.b", [1j, 0], TypeError, "1.b: expected numbers, got complex128"),
            ("1.b", ["a", "b"], TypeError, "1.b: expected numbers, got <U1"),
            (
                "1.b",
                [[1], [1, 2]],
                ValueError,
                "1.b: expected numbers in equally long lists, got a list …",
            ),
        ],
    )
    def test_assignment(self, name, values, error, message):
        with refused(error, message):
            network().parameters[name] = values

    def test_unknown_name(self):
        with pytest.raises(KeyError, match=r"expected one of 0.W, 0.U, 0.b, 1.W, 1.b, got '9.U'"):
            network().parameters["9.U"] = 0

    @pytest.mark.parametrize(
        ("flat", "error", "message"),
        [
            (np.zeros(5), ValueError, "flat: expected (6,), got (5,)"),
            (
                np.zeros(12)[::2],
                ValueError,
                "flat: expected a contiguous vector, got strides (16,); give a copy",
            ),
            (np.zeros(6, int), TypeError, "dtype: expected float32 or float64, got int64"),
        ],
    )
    def test_vector(self, flat, error, message):
        with refused(error, message):
            tt.Parameters({"W": (2, 3)}, flat=flat)

    @pytest.mark.parametrize(
        ("operation", "message"),
        [
            (lambda p: p + "a", "expected a number or Parameters, got str"),
            (lambda p: p * np.ones(2), "expected a number or Parameters, got ndarray"),
            (lambda p: p + 1j, "expected a number or Parameters, got complex"),
            (lambda p: p.dot(3), "expected Parameters, got int"),
        ],
    )
    def test_operands(self, operation, message):
        with refused(TypeError, f"operand: {message}"):
            operation(tt.Parameters({"b": (2,)}))

    def test_operands_of_another_form(self):
        p = tt.Parameters({"b": (2,)})
        for other in (tt.Parameters({"a": (2,)}), p.astype("float64")):
            message = (
                "operand: expected the names, shapes and dtype of "
                f"Parameters(2 × float32: b (2,)), got {other!r}"
            )
            with refused(ValueError, message):
                p + other

    def test_update_from_another_network(self):
        p = network().parameters
        before = p.copy()
        other = tt.Network([tt.GRU(I, H)], dtype="float64").parameters
        message = (
            "parameters: expected the names 0.W, 0.U, 0.b, 1.W, 1.b, "
            "got 1.W missing, 1.b missing, 0.c unknown"
        )
        with refused(ValueError, message):
            p.update(other)
        wider = tt.Network([tt.LSTM(I, H), tt.Dense(H, 3)], dtype="float64").parameters
        with refused(ValueError, "1.W: expected (2, 4), got (3, 4)"):
            p.update(wider)
        assert p == before


class TestFiles:
    WHOLE = "expected a whole safetensors file of NumPy's number types, got …"

    @staticmethod
    def header(text, body=b""):
        return len(text).to_bytes(8, "little") + text + body

    @pytest.mark.parametrize(
        "spoil",
        [
            lambda whole: b"",
            lambda whole: b"abc",
            lambda whole: whole[:50],
            lambda whole: whole[:-1],
            lambda whole: whole + b"more",
            lambda whole: (2**62).to_bytes(8, "little") + whole[8:],
            lambda whole: (2**64 - 1).to_bytes(8, "little") + whole[8:],
            lambda whole: TestFiles.header(b"[" * 100_000),
            lambda whole: TestFiles.header(b"\xff\xfe{}"),
            lambda whole: TestFiles.header(
                b'{"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}}'
            ),
            lambda whole: TestFiles.header(
                b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[-4,0]}}', b"1234"
            ),
            lambda whole: TestFiles.header(
                b'{"a":{"dtype":"BF16","shape":[1],"data_offsets":[0,2]}}', b"12"
            ),
            lambda whole: b"\x80\x04\x95" + whole,  # what a pickle begins with
        ],
        ids=range(13),
    )
    def test_hostile_and_truncated(self, tmp_path, spoil):
        path = tmp_path / "net.safetensors"
        network().save(path)
        path.write_bytes(spoil(path.read_bytes()))
        with refused(ValueError, f"{path}: {self.WHOLE}"):
            tt.Parameters.load(path)

    def test_missing(self, tmp_path):
        for path in (tmp_path / "none.safetensors", tmp_path):
            message = f"file: expected an existing safetensors file, got {path}"
            with refused(FileNotFoundError, message):
                tt.Parameters.load(path)

    def test_tensors_that_are_no_parameters(self, tmp_path):
        path = tmp_path / "x.safetensors"
        save_file({"a": np.zeros(3, int)}, path)
        with refused(TypeError, "dtype: expected float32 or float64, got int64"):
            tt.Parameters.load(path)
        save_file({"a": np.zeros(3), "b": np.zeros(3, np.float32)}, path)
        with refused(TypeError, "arrays: expected one dtype, got float32 and float64; give …"):
            tt.Parameters.load(path)

    def test_no_folder(self, tmp_path):
        folder = tmp_path / "none"
        message = f"path: expected an existing folder, got {folder}; mkdir -p {folder}"
        with refused(ValueError, message):
            network().save(folder / "net.safetensors")
        with refused(ValueError, f"path: expected a file, got the folder {tmp_path}"):
            network().save(tmp_path)
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("fails", ["replace", "fsync", "fdopen"])
    def test_a_write_that_fails_half_way_leaves_the_old_file(self, tmp_path, monkeypatch, fails):
        path = tmp_path / "net.safetensors"
        network().save(path)
        before = path.read_bytes()

        def broken(*args, **kwargs):
            raise OSError("no space left on device")

        monkeypatch.setattr(os, fails, broken)
        other = network()
        other.parameters.flat[...] = 1
        with pytest.raises(OSError, match="no space left on device"):
            other.save(path)
        monkeypatch.undo()
        assert path.read_bytes() == before
        assert list(tmp_path.iterdir()) == [path]

    def test_a_failed_first_write_leaves_nothing(self, tmp_path, monkeypatch):
        def broken(*args):
            raise KeyboardInterrupt

        monkeypatch.setattr(os, "fsync", broken)
        with pytest.raises(KeyboardInterrupt):
            storage.replace(tmp_path / "x", b"content")
        assert list(tmp_path.iterdir()) == []


GIVES = "description: expected what Network.describe gives, got "


@pytest.mark.parametrize(
    ("description", "actual"),
    [
        ("no JSON", "'no JSON' (Expecting value: line 1 column 1 (char 0))"),
        ("{}", "'{}' (no 'layers')"),
        ("[]", "'[]' (list indices must be integers or slices, not str)"),
        (None, "'None' (…"),
        ("[" * 100_000, f"'{'[' * 60}' (…"),
        (
            '{"layers":[{"kind":"os"}],"loss":null,"dtype":"float32"}',
            '\'{"layers":[{"kind":"os"}],"loss":null,"dtype":"float32"}\' (layer kind: '
            "expected one of RNN, LSTM, GRU, Dense, Embedding, Dropout, got 'os')",
        ),
        (
            '{"loss":null,"layers":[{"kind":"RNN","size":3}],"dtype":"float32"}',
            '\'{"loss":null,"layers":[{"kind":"RNN","size":3}],"dtype":"flo\' (layer …',
        ),
        ('{"layers":[],"loss":{"kind":"x"},"dtype":"float32"}', '\'{"layers":[],"loss":{…'),
    ],
    ids=range(8),
)
def test_descriptions(description, actual):
    with refused(ValueError, GIVES + actual):
        tt.Network.from_description(description)


def test_a_bidirectional_tape_cannot_be_cut():
    net = tt.Network([tt.RNN(I, H, bidirectional=True)], dtype="float64")
    _, _, tape = net.forward(X)
    message = "a bidirectional layer cannot be cut in time: it needs the future"
    with refused(ValueError, message):
        tape.steps(0, 2)


def test_masked_arrays_are_refused_since_their_masks_would_be_ignored():
    net = tt.Network([tt.Embedding(5, 2), tt.LSTM(2, 3)], tt.MeanSquaredError())
    x, y = np.zeros((4, 1), int), np.zeros((4, 1, 3), "float32")
    masked = [(np.ma.masked_array(x, x == 0), y), (x, np.ma.masked_array(y, y == 0))]
    for data in masked:
        for call in (net.evaluate, net.loss_and_gradient):
            with pytest.raises(TypeError, match="expected an array without a mask, got a masked"):
                call(*data)
    with pytest.raises((TypeError, ValueError), match="an array without a mask"):
        tt.compare({"W": np.ma.masked_array(np.ones(3), True)}, {"W": np.ones(3)})
