"""Keras models on the torch and the JAX backend as targets, each in a process of its own."""

import os
import subprocess
import sys
import textwrap
from importlib.util import find_spec

import numpy as np
import pytest

import throughtime as tt
from throughtime.targets.keras_model import _names, is_keras

BEGIN = """
import keras, numpy as np, throughtime as tt
rng = np.random.default_rng(0)
x, y = rng.standard_normal((5, 7, 3)).astype("f"), rng.standard_normal((5, 2)).astype("f")

def tagger(**options):
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Input((7, 3)), keras.layers.LSTM(4, dropout=0.5, **options)]
    model = keras.Sequential([*layers, keras.layers.Dense(2, kernel_regularizer="l2")])
    model.compile(loss="mse")
    return model
"""
CASES = {
    "right": """
        model = tagger()
        before = [np.array(keras.ops.convert_to_numpy(v.value)) for v in model.variables]
        report = tt.check(model, x, y)
        assert report.verdict == "agree", report
        assert list(report.tensors)[0] == "lstm/lstm_cell/kernel", list(report.tensors)
        after = [keras.ops.convert_to_numpy(v.value) for v in model.variables]
        assert all(map(np.array_equal, before, after))
        assert tt.check(model, x).verdict == "agree"
        wanted = keras.ops.convert_to_tensor(y)
        terms = lambda outputs: keras.ops.sum((outputs - wanted) ** 2, axis=1)
        assert tt.check(model, x, loss=terms, effort="quick").verdict == "agree"
        own = tt.target_of(model, x, y).loss()
        assert np.allclose(own, model.test_on_batch(x, y), rtol=1e-5), own
    """,
    "wrong": """
        @keras.ops.custom_gradient
        def halved(x):
            def grad(*args, upstream=None):
                return (args[0] if upstream is None else upstream) * 0.5
            return keras.ops.tanh(x) * 0 + x, grad

        class Wrong(keras.layers.Layer):
            def call(self, x):
                return halved(x)

        model = keras.Sequential([keras.layers.GRU(4), Wrong(), keras.layers.Dense(2)])
        report = tt.check(model, x, loss=lambda o: o.sum(), diagnose=False)
        assert report.verdict == "disagree"
        tensors = {name.split("/")[0]: one.verdict for name, one in report.tensors.items()}
        assert tensors == {"gru": "disagree", "dense": "agree"}, tensors
    """,
    "refused": """
        import pytest
        model = keras.Sequential([keras.layers.GRU(4)])
        with pytest.raises(tt.CheckError, match="compiled with a loss, got another; model.compile"):
            tt.check(model, x, y)
        with pytest.raises(TypeError, match="expected a Keras model, x and y, got 4 things"):
            tt.check(model, x, y, y)
        with pytest.raises(TypeError, match="k1: .* got a Keras model"):
            tt.check(model, x, k1=2)
        with pytest.raises(tt.CheckError, match="trainable variables, got none"):
            tt.check(keras.layers.Flatten(), x)
    """,
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_a_model_on_a_backend(backend, case):
    for package in ("keras", backend):
        if find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    code = BEGIN + textwrap.dedent(CASES[case])
    environment = {**os.environ, "KERAS_BACKEND": backend}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr


class Variable:
    def __init__(self, path):
        self.path = path


def test_names_leave_out_what_all_begin_with():
    variables = [Variable(f"sequential/lstm/{name}") for name in ("kernel", "bias")]
    assert _names(variables) == ["kernel", "bias"]
    assert _names([*variables, Variable("sequential/dense/bias")])[0] == "lstm/kernel"
    assert _names(variables[:1]) == ["kernel"]
    assert _names([variables[0]] * 2) == ["sequential/lstm/kernel"] * 2


def test_without_keras_nothing_is_a_keras_model():
    if "keras" not in sys.modules:
        assert not is_keras(tt.Network([tt.RNN(1, 1)]), np.ones(1))
