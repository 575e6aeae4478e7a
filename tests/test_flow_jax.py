"""The flow of a JAX step function against a Network of the same equations, and against jax.grad."""

import subprocess
import sys

import numpy as np
import pytest

import throughtime as tt

jax = pytest.importorskip("jax")
jnp = jax.numpy

T, B, I, H = 11, 3, 2, 4  # noqa: E741


@pytest.fixture(autouse=True)
def x64():
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", before)


def elman(p, h, x):
    h = jnp.tanh(x @ p["W"].T + h @ p["U"].T + p["b"])
    return h, h


def network():
    net = tt.Network([tt.RNN(I, H)], tt.MeanSquaredError(time="sum", batch="sum"), dtype="float64")
    rng = np.random.default_rng(0)
    net.parameters.flat[...] = rng.uniform(-0.7, 0.7, net.parameters.flat.size)
    x, y = rng.standard_normal((T, B, I)), rng.standard_normal((T, B, H))
    p = {name: jnp.asarray(net.parameters[f"0.{name}"]) for name in "WUb"}
    return net, x, y, p


def losses(y):
    return lambda ys: ((ys - y) ** 2).mean(-1)


def test_as_a_network_of_the_same_equations():
    """What step t − l receives is what step t − l − 1 of the network gives."""
    net, x, y, p = network()
    expected = tt.flow(net, x, y, keep=True)
    found = tt.flow(elman, p, jnp.zeros((B, H)), x, loss=losses(y), keep=True)
    assert (found.steps, found.batch, found.dtype) == (T, B, "float64")
    for t in range(T):
        for lag in range(t):
            own, other = found.gradients[0]["h"][t, lag], expected.gradients[0]["h"][t, lag + 1]
            assert np.abs(own - other).max() <= 1e-12 * max(np.abs(other).max(), 1e-6)
    norms = np.linalg.norm(found.gradients[0]["h"], axis=3).mean(axis=2)
    within = np.tri(T, dtype=bool)
    assert np.allclose(found.layers[0].norms["h"][within], norms[within], rtol=1e-12)
    assert found.loss == pytest.approx(expected.loss, rel=1e-12)
    assert found.gradient_norm == pytest.approx(expected.gradient_norm, rel=1e-12)
    assert np.allclose(found.bias.relative, expected.bias.relative, rtol=1e-9, atol=1e-12)
    for name in "WUb":
        (mine,), (other,) = found.shares[name].values(), expected.shares[f"0.{name}"].values()
        assert np.allclose(mine, other, rtol=1e-9, atol=1e-12)
    alone = tt.flow(elman, p, jnp.zeros((1, H)), x[:, :1], loss=losses(y[:, :1])).layers[0]
    other = tt.flow(net, x[:, :1], y[:, :1]).layers[0]
    assert np.allclose(alone.singular_values, other.singular_values, rtol=1e-9)
    assert np.allclose(alone.lyapunov.exponents, other.lyapunov.exponents, rtol=1e-6)
    assert "layer 0 (elman)" in str(found.reason)
    assert "no gates and no paths" in str(found)


def test_the_parts_of_a_state_and_one_sequence():
    """An LSTM whose state is a dictionary: its parts are told apart, and c is what remembers."""

    def lstm(p, s, x):
        i, f, a, o = jnp.split(p["W"] @ jnp.concatenate([x, s["h"]]), 4)
        c = jax.nn.sigmoid(f + 3) * s["c"] + jax.nn.sigmoid(i) * jnp.tanh(a)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return {"c": c, "h": h}, p["V"] @ h

    rng = np.random.default_rng(1)
    p = {"W": jnp.asarray(rng.standard_normal((4 * H, I + H)) / 2), "V": jnp.ones((1, H))}
    x = jnp.asarray(rng.standard_normal((T, I)))
    state = {"c": jnp.zeros(H), "h": jnp.zeros(H)}
    loss = lambda ys: (ys**2).sum(-1)  # noqa: E731
    found = tt.flow(lstm, p, state, x, loss=loss, keep=True)
    layer = found.layers[0]
    assert (layer.remembers, layer.units, found.batch) == ("c", 2 * H, 1)

    def of_state(t, k):
        """E_t as a function of the state that step k receives."""

        def value(s):
            for n in range(k, t + 1):
                s, y = lstm(p, s, x[n])
            return loss(y[None])[0]

        s = state
        for n in range(k):
            s, _ = lstm(p, s, x[n])
        return jax.grad(value)(s)

    for t, k in ((0, 0), (6, 6), (6, 2), (10, 0)):
        expected = of_state(t, k)
        for part in "ch":
            own = found.gradients[0][part][t, t - k, 0]
            assert np.allclose(own, expected[part], rtol=1e-10, atol=1e-14)


def test_a_loss_at_the_end_alone_and_gradients_beyond_the_range_of_float32():
    def shrinks(a, h, x):
        return a * h + x, a * h + x

    x = jnp.ones((60, 2, 3), "float32")
    last = jnp.zeros((60, 1), "float32").at[-1].set(1.0)
    found = tt.flow(
        shrinks,
        jnp.float32(0.1),
        jnp.zeros((2, 3), "float32"),
        x,
        loss=lambda ys: last * ys.sum(-1),
    )
    profile = found.layers[0].profile["h"]
    assert profile[59] == pytest.approx(np.sqrt(3) * 1e-60, rel=1e-4)
    assert found.layers[0].decay.rate == pytest.approx(0.1, rel=1e-5)
    assert found.verdict == "vanishing"


def test_lags_that_are_not_followed():
    _, x, y, p = network()
    whole = tt.flow(elman, p, jnp.zeros((B, H)), x, loss=losses(y))
    some = tt.flow(elman, p, jnp.zeros((B, H)), x, loss=losses(y), max_lag=3, spectrum=False)
    assert np.allclose(some.layers[0].profile["h"], whole.layers[0].profile["h"][:4], rtol=1e-13)
    assert "Lags beyond 3 were not looked at." in some.notes


def test_what_is_refused():
    _, x, y, p = network()
    h = jnp.zeros((B, H))
    for loss, message in (
        (lambda ys: losses(y)(ys).sum(), r"for T = 11, got shape \(\)"),
        (lambda ys: losses(y)(ys)[::-1], "got losses that look at others"),
        (lambda ys: losses(y)(ys).T, r"got shape \(3, 11\)"),
        (lambda ys: jnp.log(losses(y)(ys) * 0), "expected finite numbers"),
        (None, "loss: expected a function of the outputs"),
    ):
        with pytest.raises((ValueError, TypeError), match=message):
            tt.flow(elman, p, h, x, loss=loss)
    with pytest.raises(
        TypeError, match=r"k2: expected a Network or a torch module, .* got a JAX f"
    ):
        tt.flow(elman, p, h, x, loss=losses(y), k2=3)
    with pytest.raises(TypeError, match=r"state: expected .* all float64, got int64"):
        tt.flow(elman, p, jnp.zeros((B, H), int), x, loss=losses(y))
    with pytest.raises(ValueError, match=r"xs: expected arrays \(T, …\)"):
        tt.flow(elman, p, h, {"a": x, "b": x[1:]}, loss=losses(y))


def test_a_flax_cell():
    linen = pytest.importorskip("flax.linen", reason="flax")
    cell = linen.GRUCell(H)
    x = jax.random.normal(jax.random.key(0), (T, B, I), "float64")
    h = jnp.zeros((B, H))
    p = cell.init(jax.random.key(1), h, x[0])
    p = jax.tree_util.tree_map(lambda one: one.astype("float64"), p)
    found = tt.flow(cell.apply, p, h, x, loss=lambda ys: (ys**2).mean(-1))
    total = jax.grad(
        lambda p: (jax.lax.scan(lambda h, x: cell.apply(p, h, x), h, x)[1] ** 2).mean(-1).sum()
    )(p)
    size = np.sqrt(sum(float((g**2).sum()) for g in jax.tree_util.tree_leaves(total)))
    assert found.gradient_norm == pytest.approx(size, rel=1e-10)
    assert "params.hn.kernel" in found.shares


def test_jax_is_not_imported_for_others():
    code = "import sys, numpy as np, throughtime as tt\n"
    code += "net = tt.Network([tt.RNN(2, 3)], tt.MeanSquaredError(), seed=0)\n"
    code += "tt.flow(net, np.ones((4, 1, 2), 'f'), np.zeros((4, 1, 3), 'f'))\n"
    subprocess.run([sys.executable, "-c", code + "assert 'jax' not in sys.modules"], check=True)
