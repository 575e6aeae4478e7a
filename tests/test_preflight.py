"""Faults of the harness, one by one: each has its own message, and the parameters are put back."""

import numpy as np
import pytest

import throughtime as tt
from throughtime.cells import CELLS
from throughtime.derivatives.values import format_of, significant_bits
from throughtime.gradcheck.preflight import pattern, preflight
from throughtime.gradcheck.target import Evaluator


class Model:
    """y = tanh(x W + b), L = Σ y² by steps; what can go wrong is changed by each test."""

    def __init__(self, dtype="float64", T=6):
        rng = np.random.default_rng(0)
        self.W = rng.standard_normal((3, 2)).astype(dtype)
        self.b = rng.standard_normal(2).astype(dtype)
        self.x = rng.standard_normal((T, 3)).astype(dtype)
        self.rng = rng

    @property
    def parameters(self):
        return {"W": self.W, "b": self.b}

    def terms(self):
        return (np.tanh(self.x @ self.W + self.b) ** 2).sum(axis=1)

    def gradient(self):
        y = np.tanh(self.x @ self.W + self.b)
        delta = 2 * y * (1 - y**2)
        return {"W": self.x.T @ delta, "b": delta.sum(axis=0)}

    def target(self, loss=None, gradient=None, **options):
        loss, gradient = loss or self.terms, gradient or self.gradient
        return tt.Target(self.parameters, loss, gradient, steps=len(self.x), **options)


def fly(target, **options):
    return preflight(Evaluator(target), **options)


def refusal(target):
    """The message, once it is sure that the parameters stand where they stood."""
    before = {name: array.tobytes() for name, array in target.parameters.items()}
    with pytest.raises(tt.CheckError) as caught:
        fly(target)
    assert {name: array.tobytes() for name, array in target.parameters.items()} == before
    return str(caught.value)


# --- nothing is wrong ---


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_sound_target_passes_with_few_evaluations(dtype):
    model = Model(dtype)
    gradients, evaluator = [], None

    def gradient():
        gradients.append(1)
        return model.gradient()

    evaluator = Evaluator(model.target(gradient=gradient))
    before = model.W.tobytes()
    found = preflight(evaluator)
    assert found.loss == np.sum(model.terms(), dtype=np.float64)
    assert (found.gradient["W"] == model.gradient()["W"]).all()
    assert found.notes == ()
    assert evaluator.evaluations <= 10
    assert len(gradients) <= 3
    assert model.W.tobytes() == before


@pytest.mark.parametrize("cell", CELLS.values())
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e3])
def test_networks_pass_at_every_scale(cell, dtype, scale):
    net = tt.Network([cell(3, 4), tt.Dense(4, 3)], tt.SoftmaxCrossEntropy(), dtype=dtype)
    net.parameters *= scale
    rng = np.random.default_rng(0)
    inputs, targets = rng.standard_normal((5, 2, 3)).astype(dtype), rng.integers(0, 3, (5, 2))
    evaluator = Evaluator(tt.targets.network_target(net, inputs, targets))
    assert not preflight(evaluator).notes or scale == 1e3  # saturated gates may have gradient 0
    assert evaluator.evaluations <= 10


def test_sums_whose_order_changes_are_accepted_and_noted():
    model = Model("float32", T=60)

    def shuffled(rows):
        return float(np.cumsum(model.rng.permutation(rows), dtype=np.float32)[-1])

    def gradient():
        order = model.rng.permutation(60)
        twin = Model.__new__(Model)
        twin.x, twin.W, twin.b = model.x[order], model.W, model.b
        return twin.gradient()

    found = fly(model.target(lambda: shuffled(model.terms()), gradient))
    assert len(found.notes) == 1
    assert found.notes[0].startswith("Repeated evaluations differ in their last digits")


# --- the loss is not repeatable ---


def carried(model, decay=0.5, has_reset=False):
    """A state that goes on from one evaluation to the next."""
    state = np.ones(2)

    def loss():
        for row in model.x:
            state[:] = np.tanh(decay * state + row @ model.W + model.b)
        return float((state**2).sum() + model.terms().sum())

    return loss, (lambda: None) if has_reset else None


@pytest.mark.parametrize("decay", [0.1, 0.9, 1.5])
@pytest.mark.parametrize("T", [1, 6])
def test_a_state_carried_between_evaluations(decay, T):
    model = Model(T=T)
    loss, _ = carried(model, decay)
    message = refusal(model.target(loss))
    assert message.startswith("loss: expected the same number at the same parameters, got ")
    assert "a state is carried from one evaluation into the next" in message
    assert message.endswith("put it back before each evaluation: Target(reset=…)")


def test_a_reset_that_does_not_put_the_state_back_is_blamed():
    model = Model()
    loss, reset = carried(model, has_reset=True)
    message = refusal(model.target(loss, reset=reset))
    assert message.endswith(
        "Target.reset is called before each evaluation and does not put all of it back"
    )


def test_a_state_that_has_settled_before_is_found_by_going_elsewhere():
    model = Model()
    loss, _ = carried(model, 0.3)
    for _ in range(100):
        loss()
    assert "a state is carried from one evaluation into the next" in refusal(model.target(loss))


def test_a_loss_that_remembers_where_it_has_been():
    model, largest = Model(), [0.0]

    def loss():
        largest[0] = max(largest[0], np.abs(model.W).max())
        return model.terms() / largest[0]

    message = refusal(model.target(loss))
    assert "once the parameters had been moved and put back" in message
    assert "a state, or a copy of the parameters" in message


@pytest.mark.parametrize("seed", range(20))
def test_dropout_without_a_seed(seed):
    model = Model()
    rng = np.random.default_rng(seed)

    def loss():
        return model.terms() * (rng.random(6) < 0.7) / 0.7

    message = refusal(model.target(loss))
    assert "do not settle: dropout, or another random draw; seed it before each" in message


def test_a_sum_that_is_not_set_back_and_batches_that_go_on():
    model = Model()
    total = [0.0]

    def adding():
        total[0] += model.terms().sum()
        return total[0]

    assert "each adds" in refusal(model.target(adding))
    batches = [0]

    def cycling():
        batches[0] += 1
        return model.terms()[batches[0] % 3 :].sum()

    message = refusal(model.target(cycling))
    assert "they come in a cycle: each evaluation is given other data" in message


def test_random_numbers_are_not_taken_for_a_state():
    rng = np.random.default_rng(0)
    found = [pattern(rng.standard_normal(16)) for _ in range(2000)]
    assert found.count("scatters") > 1995
    assert pattern([0.3] + 11 * [0.1]) == "settles"
    assert pattern(6 * [1, 2]) == "repeats"
    assert pattern([(-0.6) ** k for k in range(16)]) == "settles"


# --- the gradient ---


def test_a_gradient_that_is_accumulated():
    model = Model()
    buffers = {name: np.zeros_like(array) for name, array in model.parameters.items()}

    def gradient():
        for name, array in model.gradient().items():
            buffers[name] += array
        return buffers

    gradient()  # it may have been called before
    message = refusal(model.target(gradient=gradient))
    assert message.startswith("gradient['W']: expected the same numbers at the same parameters")
    assert "(and likewise b)" in message
    assert "it is accumulated without being set to zero" in message


@pytest.mark.parametrize(
    ("kept", "words"),
    [
        (lambda old, new, rng: 0.9 * old + new, "each call's change is 0.9 times the one before"),
        (lambda old, new, rng: new + (0.1 if old.any() else 0), "only the first call differs"),
        (lambda old, new, rng: new + rng.random(new.shape), "the changes follow no pattern"),
    ],
)
def test_a_gradient_that_is_not_reproducible(kept, words):
    model = Model()
    kept_b = [np.zeros(2)]

    def gradient():
        found = model.gradient()
        kept_b[0] = found["b"] = kept(kept_b[0], found["b"], model.rng)
        return found

    message = refusal(model.target(gradient=gradient))
    assert message.startswith("gradient['b']: expected the same numbers")
    assert words in message


def test_a_gradient_that_uses_what_the_last_loss_left_behind():
    model = Model()
    kept = {}

    def loss():
        kept["y"] = np.tanh(model.x @ model.W + model.b)
        return (kept["y"] ** 2).sum(axis=1)

    def gradient():
        delta = 2 * kept["y"] * (1 - kept["y"] ** 2)
        return {"W": model.x.T @ delta, "b": delta.sum(axis=0)}

    message = refusal(model.target(loss, gradient))
    assert "expected the gradient at the current parameters, got another" in message
    assert "let it run a forward pass of its own" in message


# --- what the functions do to the parameters ---


def test_weights_updated_inside_the_backward_pass():
    model = Model()

    def gradient():
        found = model.gradient()
        model.b -= 0.01 * found["b"]
        return found

    message = refusal(model.target(gradient=gradient))
    assert message.startswith(
        "parameters['b']: expected the gradient to leave it as it is, got 2 of"
    )
    assert "the change is -0.01 times the gradient: an update" in message


def test_weights_updated_in_a_copy_of_the_targets_own():
    model = Model()
    twin = Model()

    def loss():
        return model.terms() + twin.terms()

    def gradient():
        twin.W -= 0.01 * twin.gradient()["W"]
        return model.gradient()

    message = refusal(model.target(loss, gradient))
    assert "before the gradient was called and" in message
    assert "weights updated inside the backward pass in a copy" in message


def test_a_loss_that_changes_the_parameters():
    model = Model()

    def loss():
        model.W /= np.linalg.norm(model.W)
        return model.terms()

    message = refusal(model.target(loss))
    assert message.startswith("parameters['W']: expected the loss to leave it as it is, got 6 of 6")
    assert message.endswith("work on a copy")


def test_a_loss_that_writes_its_own_copy_back():
    model = Model()
    kept = model.W.copy()

    def loss():
        model.W[...] = kept
        return model.terms()

    message = refusal(tt.Target({"W": model.W}, loss, lambda: {"W": model.gradient()["W"]}))
    assert "it writes a copy of its own into them" in message


# --- parameters that are not used ---


def test_a_loss_that_works_on_copies():
    model, twin = Model(), Model()
    message = refusal(model.target(twin.terms, twin.gradient))
    assert message.startswith("loss: expected one that reacts to the parameters, got ")
    assert "it works on a copy: detached, converted to another dtype, or read once" in message


def test_a_tensor_whose_moves_are_rounded_away_need_be_no_copy():
    v, w = np.array([0.5, -0.3]), np.full(3, 1e-3)
    target = tt.Target(
        {"v": v, "w": w},
        lambda: float(1e-4 * (v**2).sum() + np.round(0.05 * w.sum())),
        lambda: {"v": 2e-4 * v, "w": np.full(3, 0.05)},
    )
    message = refusal(target)
    assert message.startswith("parameters['w']: expected a loss that reacts to it, got ")
    assert "or something on the way is rounded so coarsely that the moves are lost in it" in message


def test_a_loss_that_works_on_a_copy_of_one_tensor():
    model, twin = Model(), Model()
    twin.W = model.W
    message = refusal(model.target(twin.terms, twin.gradient))
    assert message.startswith("parameters['b']: expected a loss that reacts to it, got ")
    assert "after every entry of b was moved, whose gradient is" in message


def test_a_tensor_that_does_not_matter_is_noted():
    model = Model()
    spare = np.ones(3)
    target = tt.Target(
        {**model.parameters, "spare": spare},
        model.terms,
        lambda: {**model.gradient(), "spare": np.zeros(3)},
    )
    assert fly(target).notes == (
        "The loss does not react to spare at all, and its gradient is exactly 0: it does not "
        "matter here.",
    )


def test_a_gradient_below_what_the_loss_can_show_is_left_to_the_error_bars():
    w = np.array([0.3, 0.2])
    target = tt.Target({"w": w}, lambda: 1e8 + 1e-12 * w.sum(), lambda: {"w": 0 * w + 1e-12})
    assert fly(target).loss == 1e8


def test_a_gradient_that_holds_nearby_alone_is_no_sign_of_a_copy():
    """Moves of random signs saturate every unit, and leave a loss of three digits as it is."""
    w = np.random.default_rng(0).standard_normal(2000) * 1e-4

    def loss():
        return float(np.float16(100 + 5e-4 * np.tanh(1000 * w).sum()))

    def gradient():
        return {"w": 0.5 * (1 - np.tanh(1000 * w) ** 2)}

    assert fly(tt.Target({"w": w}, loss, gradient)).loss == 100
    report = tt.check(tt.Target({"w": w}, loss, gradient), diagnose=False)
    assert report.headline() == "UNRESOLVED: no derivative was measured"  # each error is infinite
    copy = w.copy()

    def of_a_copy():
        return float(np.float16(100 + 5e-4 * np.tanh(1000 * copy).sum()))

    assert "it works on a copy" in refusal(tt.Target({"w": w}, of_a_copy, gradient))


def test_a_loss_of_exactly_0_has_the_size_that_it_has_elsewhere():
    """−log p of a probability that rounds to 1, and of logits in float32."""
    w, u = np.array([20.0], np.float32), np.array([0.01], np.float32)

    def loss():
        z = np.float32(w[0] + np.float32(0.1) * u[0])
        return float(np.maximum(z, 0) + np.log1p(np.exp(-np.abs(z))) - z)

    def gradient():
        dz = -np.exp(-np.float64(w[0]))
        return {"w": np.array([dz], np.float32), "u": np.array([0.1 * dz], np.float32)}

    assert fly(tt.Target({"w": w, "u": u}, loss, gradient)).loss == 0


def test_a_loss_that_fails_far_away_has_reacted():
    model = Model()
    W = model.W.copy()

    def loss():
        if not np.allclose(model.W, W, atol=0.1):
            raise ZeroDivisionError
        return model.terms()

    assert fly(model.target(loss)).notes == ()
    stays_near = []

    def watching():
        stays_near.append(np.abs(model.W - W).max())
        return model.terms()

    fly(model.target(watching), far=False)
    assert 0 < max(stays_near) < 5e-3


def test_arrays_that_overlap():
    shared = np.ones((4, 3))
    target = tt.Target({"a": shared[:3], "b": shared[2:]}, None, None)
    assert "expected arrays that do not overlap, got 'a' and 'b' sharing memory" in refusal(target)
    apart = tt.Target(
        {"a": shared[::2], "b": shared[1::2]},
        lambda: (shared**2).sum(),
        lambda: {"a": 2 * shared[::2], "b": 2 * shared[1::2]},
    )
    assert fly(apart).notes == ()


# --- NaN, infinity, and other forms ---


def test_parameters_that_became_nan():
    model = Model()
    target = model.target()
    model.W[1, 0] = np.inf
    assert refusal(target) == (
        "parameters['W']: expected finite numbers, got inf at (1, 0) (1 of 6)"
    )


def test_the_step_of_the_first_nan_is_named():
    model = Model()

    def loss():
        terms = model.terms()
        terms[4:] = np.nan
        return terms

    assert "got nan at step 4 of 0 … 5, in its term [4] (2 of 6 terms" in refusal(
        model.target(loss)
    )
    message = refusal(model.target(lambda: float(loss().sum())))
    assert message.startswith(
        "loss: expected a finite number, got nan; return the loss as an array"
    )


def test_terms_whose_sum_overflows():
    model = Model()
    message = refusal(model.target(lambda: np.full(3, 1e308)))
    assert message == "loss: expected a finite sum of its terms, got inf"


GRADIENTS = [
    (
        lambda g: g | {"b": g["b"] * np.nan},
        "gradient['b']: expected finite numbers, got nan at [0]",
    ),
    (lambda g: g | {"W": g["W"].T}, "gradient['W']: expected (3, 2), got (2, 3); transposed?"),
    (lambda g: g | {"W": g["W"].ravel()}, "got (6,); as many entries in another form"),
    (lambda g: g | {"b": g["b"][None]}, "got (1, 2); an axis of 1 too many or too few"),
    (lambda g: g | {"b": g["b"][:1]}, "gradient['b']: expected (2,), got (1,)"),
    (lambda g: {"W": g["W"]}, "gradient: expected the names W, b, got b missing"),
    (lambda g: g | {"V": 0}, "gradient: expected the names W, b, got V unknown"),
    (lambda g: {"W": g["W"], "db": g["b"]}, "got b missing, db unknown (is it b?)"),
    (lambda g: g | {"b": 1j * g["b"]}, "expected an array of real numbers, got complex128"),
    (lambda g: g | {"b": "two"}, "expected an array of real numbers, got str"),
    (lambda g: list(g.values()), "got list; return {'W': …, 'b': …}"),
]


@pytest.mark.parametrize(("change", "words"), GRADIENTS)
def test_gradients_in_the_wrong_form(change, words):
    model = Model()
    assert words in refusal(model.target(gradient=lambda: change(model.gradient())))


def test_losses_in_the_wrong_form():
    model = Model()
    assert "expected a number, or an array of terms, got str" in refusal(model.target(lambda: "x"))
    assert "got an empty array" in refusal(model.target(list))
    torch = pytest.importorskip("torch", reason="needs torch")
    message = refusal(model.target(lambda: torch.ones(1, requires_grad=True)))
    assert message.endswith("got Tensor; convert it: .detach().cpu().numpy()")


# --- precision ---


def test_a_dtype_that_changed_silently_is_noted():
    model = Model("float32")

    def converted(dtype):
        found = {name: array.astype(dtype) for name, array in model.gradient().items()}
        return fly(model.target(gradient=lambda: found if dtype else model.gradient())).notes

    target = model.target(gradient=lambda: {n: a.astype("f8") for n, a in model.gradient().items()})
    assert fly(target).notes == (
        "The gradient of W, b comes in float64, the parameters are in float32.",
    )
    target = model.target(gradient=lambda: {n: a.astype("f2") for n, a in model.gradient().items()})
    assert fly(target).notes == (
        "The gradient of W, b comes in float16, the parameters are in float32; it carries 3 "
        "digits.",
    )


def test_fewer_digits_than_the_parameters_have_are_noted():
    model = Model()
    notes = fly(model.target(lambda: float(np.float32(model.terms().sum())))).notes
    assert notes == (
        "The loss carries 7 digits (float32), its parameters are float64: it is converted on the "
        "way, and the error bars are as wide as float32 makes them.",
    )
    target = model.target(
        gradient=lambda: {n: np.float64(np.float32(a)) for n, a in model.gradient().items()}
    )
    assert fly(target).notes == (
        "The gradient of W comes in float64 but carries 7 digits: it was computed in float32.",
    )


def test_formats_are_told_by_their_bits():
    rng = np.random.default_rng(0)
    for name in ("float16", "float32", "float64"):
        assert format_of([rng.standard_normal(5).astype(name).astype("f8")]) == name
    assert significant_bits(np.array([0.0, 5.0])) == 3
    assert format_of([np.array([1.0, 2.0, 3.0, 0.5])]) == "float64"  # too simple to tell


def test_a_loss_that_is_constant_here_is_not_only_called_a_copy():
    p = {"w": np.full(3, 5.0)}
    target = tt.Target(p, lambda: float(np.clip(p["w"], -1, 1).sum()), lambda: {"w": np.zeros(3)})
    with pytest.raises(tt.CheckError, match="the loss is constant here, as where it is clipped"):
        tt.check(target, points=("as given",))
