"""Two gradients as numbers alone: verdicts, causes, the command line."""

import json

import numpy as np
import pytest

import throughtime as tt
from helpers import fault_names
from throughtime.cli import main
from throughtime.diagnosis.comparison_errors import quantum

RNG = np.random.default_rng(0)
SHAPES = {"W": (16, 3), "U": (16, 4), "b": (16,), "V": (3, 4), "c": (3,)}


@pytest.fixture
def numerical():
    return {name: RNG.standard_normal(shape) for name, shape in SHAPES.items()}


def test_equal_gradients_agree_and_have_no_cause(numerical):
    noisy = {n: a * (1 + 1e-7 * RNG.standard_normal(a.shape)) for n, a in numerical.items()}
    report = tt.compare(noisy, numerical)
    assert report.verdict == "agree"
    assert report.causes == ()


def test_unrelated_gradients_disagree_without_a_cause(numerical):
    other = {name: RNG.standard_normal(shape) for name, shape in SHAPES.items()}
    report = tt.compare(other, numerical)
    assert report.verdict == "disagree"
    assert report.causes == ()
    assert "unknown" in " ".join(report.notes)


@pytest.mark.parametrize(
    ("change", "fault", "sizes"),
    [
        (lambda g: {n: a / 39 for n, a in g.items()}, "averaged_over_steps", {"steps": 39}),
        (lambda g: {n: a * 39 for n, a in g.items()}, "summed_over_steps", {"steps": 39}),
        (lambda g: {n: a / 8 for n, a in g.items()}, "divided_by_batch", {"batch": 8}),
        (lambda g: {n: a / 5 for n, a in g.items()}, "divided_by_classes", {"outputs": 5}),
        (lambda g: {n: 2 * a for n, a in g.items()}, "factor_two", {}),
        (lambda g: {n: -a for n, a in g.items()}, "wrong_sign", {}),
        (lambda g: {n: 1.37 * a for n, a in g.items()}, "scaled", {}),
        (lambda g: {**g, "b": g["b"] / 39}, "bias_averaged", {"steps": 39}),
        (lambda g: {**g, "U": 1.5 * g["U"]}, "tensor_scaled", {}),
        (lambda g: {**g, "U": np.zeros_like(g["U"])}, "zero_gradient", {}),
        (lambda g: {**g, "V": g["V"].reshape(4, 3).T}, "gradient_transposed", {}),
        (lambda g: {**g, "U": turned(g["U"])}, "gradient_transposed", {}),
        (lambda g: of_rows(permuted, g), "gates_permuted", {}),
        (lambda g: {**g, "b": copied(g["b"])}, "bias_of_gate_copied", {}),
        (lambda g: {n: np.clip(a, -0.5, 0.5) for n, a in g.items()}, "clipped_by_value", {}),
        (lambda g: of_rows(scaled_rows, g), "gate_scaled", {}),
    ],
)
def test_a_fault_is_named(numerical, change, fault, sizes):
    report = tt.compare(change(numerical), numerical, **sizes)
    assert report.verdict == "disagree"
    assert fault_names(report) == [fault]
    assert report.causes[0].discrepancy_after < 1e-6 < report.causes[0].discrepancy_before


def of_rows(change, g):
    return {n: change(a) if len(a) == 16 else a for n, a in g.items()}


def copied(b):
    return np.concatenate([b[:8], b[:4], b[12:]])


def turned(a):
    return np.concatenate([block.T for block in np.split(a, 4)])


def permuted(a):
    i, f, o, g = np.split(a, 4)
    return np.concatenate([f, i, o, g])


def scaled_rows(a):
    return np.concatenate([a[:4], 1.5 * a[4:8], a[8:]])


def test_an_l2_term_needs_the_parameters(numerical):
    weights = {name: RNG.standard_normal(shape) for name, shape in SHAPES.items()}
    decayed = {n: a + 0.05 * weights[n] if n in "WUV" else a for n, a in numerical.items()}
    assert fault_names(tt.compare(decayed, numerical, weights)) == ["weight_decay_doubled"]
    assert fault_names(tt.compare(numerical, decayed, weights)) == ["weight_decay_missing"]
    assert fault_names(tt.compare(decayed, numerical)) == []


def test_a_number_that_may_be_a_size_is_said_so(numerical):
    report = tt.compare({n: a / 39 for n, a in numerical.items()}, numerical)
    (cause,) = report.causes
    assert cause.fault == "scaled"
    assert "averaged_over_steps" in cause.alternatives
    assert "39" in " ".join(cause.evidence)


def test_quantised_derivatives_are_blamed_for_what_they_are():
    true = 2 * RNG.standard_normal(60)
    report = tt.compare(true, 3.8147 * np.round(true * 3 / 3.8147) / 3)
    assert report.verdict == "unresolved"
    assert fault_names(report) == ["step_too_small"]


def test_a_quantum_is_not_seen_in_printed_digits():
    printed = np.round(RNG.standard_normal(60), 2)
    assert quantum(printed) == pytest.approx(0.01)
    assert tt.compare(printed, printed).causes == ()


@pytest.mark.parametrize(
    ("gradient", "numerical", "message"),
    [
        ({"a": np.ones(2)}, {"b": np.ones(2)}, "numerical: expected the names a, got b"),
        ({"a": np.ones(2)}, {"a": np.ones(3)}, r"the shape \(2,\), got \(3,\)"),
        (np.ones(2), [1.0, np.nan], "expected finite numbers, got nan"),
        (["x"], [1.0], "real numbers"),
        ([], [], "at least one number"),
    ],
)
def test_what_does_not_fit_is_refused(gradient, numerical, message):
    with pytest.raises(tt.CheckError, match=message):
        tt.compare(gradient, numerical)


def test_the_command_compares_files_and_says_it_with_its_exit_status(tmp_path, capsys, numerical):
    half, whole = tmp_path / "a.npz", tmp_path / "b.npz"
    np.savez(half, **{name: array / 2 for name, array in numerical.items()})
    np.savez(whole, **numerical)
    assert main(["compare", str(half), str(whole), "--json", str(tmp_path / "r.json")]) == 1
    assert "Your gradient is half the gradient of your loss" in capsys.readouterr().out
    written = json.loads((tmp_path / "r.json").read_text("utf-8"))
    assert written["causes"][0]["fault"] == "factor_half"
    assert main(["compare", str(whole), str(whole), "--quiet"]) == 0
    assert capsys.readouterr().out == ""


def test_the_command_reads_pairs(tmp_path, capsys):
    path = tmp_path / "pairs.csv"
    path.write_text("gradient,numerical\n1,2\n3,6\n-2,-4\n", encoding="utf-8")
    assert main(["compare", str(path)]) == 1
    assert "factor_half" in capsys.readouterr().out
    assert main(["compare", str(tmp_path / "none.csv")]) == 3
    path.write_text("nothing here", encoding="utf-8")
    assert main(["compare", str(path)]) == 3
    assert "two numbers" in capsys.readouterr().err
