"""Losses that climb in stairs: rounded on the way, or inside, more coarsely than they move.

A small network, right by construction, with one thing rounded in each of the ways that people
round; it is never called wrong, and a gradient that is wrong is never accepted.
"""

import numpy as np
import pytest

import throughtime as tt
from benchmarks.strangers import case
from small_networks import Small
from throughtime.derivatives.values import rounded

SEEDS = range(3)


def straight(array):
    return array


def to_float32(array):
    return array.astype(np.float32).astype(np.float64)


def to_float16(array):
    return array.astype(np.float16).astype(np.float64)


def to_bfloat16(array):
    return rounded(array, 8)


def on_a_grid(array):
    return np.rint(array * 2**12) / 2**12


def half_in_float32(array):
    half = array.shape[-1] // 2
    return np.concatenate([to_float32(array[..., :half]), array[..., half:]], axis=-1)


def in_127_levels(array):
    unit = 0.02  # does not follow the weights
    return np.rint(array / unit) * unit


def one_by_one(terms):
    total = np.float32(0)
    for term in terms.astype(np.float32).ravel():
        total = np.float32(total + term)
    return float(total)


STATES = {
    "float32 states": to_float32,
    "float16 states": to_float16,
    "bfloat16 states": to_bfloat16,
    "fixed point": on_a_grid,
    "float32 in one branch": half_in_float32,
}
SUMS = {
    "one float32, step by step": one_by_one,
    "rounded for display": lambda terms: round(float(terms.sum()), 3),
    "printed with six digits": lambda terms: float(f"{terms.sum():.5e}"),
    "integers": lambda terms: int(np.rint(1e6 * terms).sum()) / 1e6,
    "float32 summed": lambda terms: float(terms.astype(np.float32).sum()),
}


def network(
    seed, *, states=straight, added=np.sum, weights=straight, size=0.5, factor=1.0, dtype="f8", T=9
):
    """h_t = tanh(W x_t + U h_{t−1}), L = Σ ‖V h_t − y_t‖², and its gradient times a factor.

    What is rounded is seen by the backward pass as it is by the loss.
    """
    rng = np.random.default_rng(seed)
    p = {"W": (4, 3), "U": (4, 4), "V": (2, 4)}
    p = {name: (size * rng.standard_normal(shape)).astype(dtype) for name, shape in p.items()}
    x, y = (rng.standard_normal((T, width)).astype(dtype) for width in (3, 2))

    def forward():
        q = {name: weights(array) for name, array in p.items()}
        h = [np.zeros(4, dtype)]
        for t in range(T):
            h.append(states(np.tanh(q["W"] @ x[t] + q["U"] @ h[-1])))
        h = np.array(h)
        return q, h, h[1:] @ q["V"].T - y

    def loss():
        return added(forward()[2] ** 2)

    def gradient():
        q, h, off = forward()
        g, later = {name: np.zeros_like(array) for name, array in p.items()}, 0.0
        g["V"] = 2 * off.T @ h[1:]
        for t in reversed(range(T)):
            dz = (2 * off[t] @ q["V"] + later) * (1 - h[t + 1] ** 2)
            g["W"] += np.outer(dz, x[t])
            g["U"] += np.outer(dz, h[t])
            later = dz @ q["U"]
        return {name: factor * array for name, array in g.items()}

    return tt.Target(p, loss, gradient, steps=T)


KINDS = (
    {name: {"states": what} for name, what in STATES.items()}
    | {name: {"added": what} for name, what in SUMS.items()}
    | {"quantised weights": {"weights": in_127_levels}}
)


@pytest.mark.parametrize("size", [0.5, 0.01])
@pytest.mark.parametrize("kind", KINDS)
def test_right_code_is_not_called_wrong(kind, size):
    for seed in SEEDS:
        target = network(seed, size=size, **KINDS[kind])
        assert tt.check(target, diagnose=False).verdict != "disagree"


@pytest.mark.parametrize("kind", KINDS)
def test_a_gradient_twice_too_large_is_called_wrong(kind):
    for seed in SEEDS:
        target = network(seed, factor=2.0, **KINDS[kind])
        assert tt.check(target, diagnose=False).verdict == "disagree"


@pytest.mark.parametrize(
    ("kind", "size"),
    [(kind, size) for kind in KINDS for size in (1e-2, 1e-4)][:-1],  # which rounds all to 0
)
def test_a_wrong_gradient_is_not_accepted_where_stairs_hide_it(kind, size):
    for seed in SEEDS:
        target = network(seed, size=size, factor=2.0, **KINDS[kind])
        assert tt.check(target, points=["as given"], diagnose=False).verdict != "agree"


@pytest.mark.parametrize("kind", ["float32 states", "one float32, step by step", "integers"])
def test_fine_stairs_are_resolved(kind):
    for seed in SEEDS:
        assert tt.check(network(seed, **KINDS[kind]), diagnose=False).verdict == "agree"


@pytest.mark.parametrize("size", [0.5, 0.1, 0.01, 0.003])
def test_everything_in_float32_and_the_loss_added_up_step_by_step(size):
    for seed in range(6):
        target = network(seed, added=one_by_one, size=size, dtype="f4", T=39)
        assert tt.check(target, diagnose=False).verdict != "disagree"


def test_states_in_float32_under_a_gradient_that_rounds_nothing():
    """The slope in V is then off by the rounding of h, to all digits and at any step."""
    for seed in range(5):
        rounds, exact = network(seed, states=to_float32), network(seed)
        for name, array in exact.parameters.items():
            rounds.parameters[name][...] = array

        def gradient(exact=exact, rounds=rounds):
            for name, array in rounds.parameters.items():
                exact.parameters[name][...] = array
            return exact.gradient()

        target = tt.Target(rounds.parameters, rounds.loss, gradient)
        assert tt.check(target, diagnose=False).verdict == "agree"


def test_a_loss_that_never_moves_is_unresolved_with_a_remedy():
    w = np.array([0.3, -0.2])
    target = tt.Target(
        {"w": w, "v": np.array([2.0])},
        lambda: np.round(1e3 + 1e-3 * np.tanh(w).sum(), 1),
        lambda: {"w": 1e-3 * (1 - np.tanh(w) ** 2), "v": np.zeros(1)},
    )
    report = tt.check(target, points=["as given"], diagnose=False)
    assert report.tensors["w"].verdict == "unresolved"
    assert report.tensors["w"].remedy


def test_the_numerical_derivative_of_a_staircase_covers_the_slope():
    for seed in range(20):
        at = float(np.random.default_rng(seed).uniform(-1, 1))
        found = tt.derivative(lambda w: 1.2345 * float(np.float32(np.tanh(w))), at)
        assert abs(found.value - 1.2345 * (1 - np.tanh(at) ** 2)) <= 3 * found.error
        assert found.error < 1e-3


# --- strangers' networks, coarsely rounded inside, that were once called wrong ---

# Number of the network in `benchmarks.strangers`, seed of the check.
ONCE_ACCUSED = [
    (201251, 0),  # bfloat16 terms that only moves of twice the weights' size carry over a tread
    (201251, 1),
    (201251, 6),
    (53939, 2),  # steps of a thousand times the weights' size, where everything has saturated
    (53939, 4),  # a state's grid that cuts the path through the recurrent weights
    (53939, 7),
    (70528, 3),  # float16 products: exactly smooth, with another slope, up to a quarter of the size
    (1007066, 0),  # bfloat16 products whose scatter is far smaller than the loss
    (1305831, 0),  # a branch in float16, in which no step moves most of the tensors
    (1305831, 1),
    (4006505, 0),  # a tread that ends at 17 times the size of what is moved
]


@pytest.mark.parametrize(("number", "seed"), ONCE_ACCUSED)
def test_stairs_that_no_short_move_crosses_accuse_no_one(number, seed):
    report = tt.check(case(number).target(), seed=seed, diagnose=False)
    assert report.verdict != "disagree", report


def test_a_difference_seen_at_one_point_alone_is_told():
    report = tt.check(case(53939).target(), seed=7, diagnose=False)
    assert any("but not at a distant point" in note for note in report.notes)


@pytest.mark.parametrize("seed", [0, 7])
def test_a_smooth_loss_that_bends_over_long_moves_is_not_taken_for_stairs(seed):
    # Over a long move the wrong gradient adds up to next to nothing, by chance.
    target = Small(mistake="reversed", head="none").target(6, False)
    report = tt.check(target, diagnose=False, progress=False, seed=seed)
    assert report.tensors["W"].verdict == "disagree"
    assert "W: wrong throughout: all 12 entries are wrong." in report.notes
    assert not any("scatters" in note for note in report.notes)
