"""JAX functions as targets."""

import numpy as np
import pytest

import throughtime as tt

jax = pytest.importorskip("jax")
jnp = jax.numpy


@pytest.fixture
def x64():
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", before)


def parameters(dtype):
    rng = np.random.default_rng(0)
    draw = lambda *shape: jnp.asarray(rng.uniform(-0.5, 0.5, shape), dtype)  # noqa: E731
    return {"rnn": {"W": draw(4, 3), "U": draw(4, 4)}, "heads": [draw(2, 4), draw(2)]}


def loss(p, xs):
    """An RNN whose outputs should be 1."""

    def step(h, x):
        h = jnp.tanh(p["rnn"]["W"] @ x + p["rnn"]["U"] @ h)
        return h, ((p["heads"][0] @ h + p["heads"][1] - 1) ** 2).sum()

    return jax.lax.scan(step, jnp.zeros(4, xs.dtype), xs)[1]


def inputs(dtype):
    return jnp.asarray(np.random.default_rng(1).standard_normal((9, 3)), dtype)


@pytest.mark.parametrize("reduce", [jnp.sum, jnp.mean, lambda terms: terms])
def test_a_pytree_of_parameters_in_float32(reduce):
    report = tt.check(
        lambda p, xs: reduce(loss(p, xs)), parameters("float32"), inputs("float32"), steps=9
    )
    assert report.verdict == "agree"
    assert report.dtype == "float32"
    assert report.steps == 9
    assert list(report.tensors) == ["heads.0", "heads.1", "rnn.U", "rnn.W"]


def test_float64(x64):
    report = tt.check(lambda p, xs: loss(p, xs).sum(), parameters("float64"), inputs("float64"))
    assert report.verdict == "agree"
    assert report.dtype == "float64"


def rule(factor):
    """tanh with a rule of its own, which is off by a factor."""

    @jax.custom_vjp
    def squash(z):
        return jnp.tanh(z)

    squash.defvjp(
        lambda z: (jnp.tanh(z), jnp.tanh(z)),
        lambda y, dy: (factor * dy * (1 - y**2),),
    )
    return squash


@pytest.mark.parametrize(("factor", "verdict"), [(1, "agree"), (0.5, "disagree")])
def test_rules_of_its_own_are_checked(factor, verdict):
    squash, w = rule(factor), jnp.linspace(-1.0, 1.0, 5)
    report = tt.check(lambda w: jnp.sum(squash(w)), w)
    assert report.verdict == verdict
    assert list(report.tensors) == ["w"]


def test_what_is_no_floating_point_number_stays_as_it_is():
    tree = {"table": jnp.ones((3, 2)), "row": jnp.array(1), "rate": 0.5}
    report = tt.check(lambda p: (p["rate"] * p["table"][p["row"]] ** 2).sum(), tree)
    assert report.verdict == "agree"
    assert list(report.tensors) == ["table"]


def test_bfloat16_is_mirrored_in_what_it_can_hold():
    target = tt.target_of(lambda w: (w**2).sum(), jnp.ones(3, jnp.bfloat16))
    (w,) = target.parameters.values()
    w[0] = 1 + 2**-12
    target.loss()
    assert w.tolist() == [1, 1, 1]
    assert target.gradient()["w"].dtype == np.float32


def test_a_copy_moves_with_its_own_arrays():
    cloudpickle = pytest.importorskip("cloudpickle")
    target = tt.target_of(lambda w: (w**2).sum(), jnp.arange(1.0, 4.0))
    copy = cloudpickle.loads(cloudpickle.dumps(target))
    copy.parameters["w"][0] = 3
    assert copy.loss() == 22
    assert target.loss() == 14


def test_control_flow_on_values_needs_jit_false():
    def branching(w):
        return w**2 if w[0] > -1e6 else w

    w = jnp.arange(1.0, 4.0)
    assert tt.check(branching, w, jit=False).verdict == "agree"
    with pytest.raises(tt.CheckError) as problem:
        tt.check(branching, w)
    assert str(problem.value).startswith("function: expected one that jax.jit can compile, got ")
    assert str(problem.value).endswith("; give jit=False to run it as it is")


def test_messages():
    with pytest.raises(tt.CheckError) as problem:
        tt.check(lambda w: (w**2).sum(), np.ones(3))
    assert str(problem.value) == (
        "w: expected float32, got float64, which JAX now computes in float32; "
        "jax.config.update('jax_enable_x64', True), or .astype('float32')"
    )
    with pytest.raises(tt.CheckError) as problem:
        tt.check(lambda w: w.sum(), jnp.arange(3))
    assert str(problem.value) == (
        "parameters: expected an array of floating-point numbers, got none"
    )
