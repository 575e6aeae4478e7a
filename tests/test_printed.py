"""Two gradients out of a printed text: which numbers, which is which, and what is not read."""

import random
import re
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

import throughtime as tt
from helpers import fault_names
from printed_forms import FORMATS, PASTED, STYLES
from throughtime.diagnosis.factor_meanings import KnownSizes, name_factor
from throughtime.diagnosis.factors import Ratio
from throughtime.diagnosis.printed import read

ASKED = """numerical:    backpropped:
-0.015223 -0.000385 0.000000 0.000000 -0.058794 -0.001509 -0.000381 -9.238e-06 9.537e-05 \
2.473e-06 0.000215 6.266e-06 -0.015223 -0.000385
"""
NUMBERS = ASKED.split()[2:]
IN_LINES = "numerical:    backpropped:\n" + "\n".join(
    f"{n} {g}" for n, g in zip(NUMBERS[::2], NUMBERS[1::2], strict=True)
)


# --- what is read ---


@pytest.mark.parametrize("form", PASTED)
def test_a_form_is_read(form):
    text, pairs, known = PASTED[form]
    found = read(text)
    assert found.known == known
    assert sum(array.size for array in found.gradient.values()) == pairs
    for name, array in found.gradient.items():
        np.testing.assert_allclose(array, found.numerical[name] / 2, rtol=1e-3)
    report = tt.compare(text=text)
    assert report.reading[0].startswith(f"{pairs} pairs")
    assert fault_names(report) == ["factor_half"]
    if not known:
        assert fault_names(report.otherwise) == ["factor_two"]


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("how", FORMATS)
def test_what_is_printed_is_read_back(style, how):
    rng = np.random.default_rng([len(style), len(how)])
    for factor, fault in ((1 / 17, "averaged_over_steps"), (17, "summed_over_steps")):
        shape = rng.integers(2, 6, 2)
        numerical = rng.standard_normal(shape) * 10.0 ** rng.uniform(-1, 0)
        text = STYLES[style](numerical * factor, numerical, FORMATS[how])
        report = tt.compare(text=text, steps=17)
        assert fault_names(report)[:1] == [fault], text
        assert f"{numerical.size} pairs" in report.reading[0]
        assert (report.otherwise is None) == (style not in ("without a heading", "a tuple"))


def test_names_and_indices_make_tensors():
    found = read("grad numgrad\nW[0][0] 0.5 1.0\nW[0][1] 2 4\nW[1,1] 3 6\nW(1,0) 1 2\nb_0 7 14")
    np.testing.assert_array_equal(found.gradient["W"], [[0.5, 2.0], [1.0, 3.0]])
    np.testing.assert_array_equal(found.numerical["b_0"], [14.0])
    blocks = read("dW numerical:\n[[1. 2.]\n [3. 4.]]\ndW backprop:\n[[5. 6.]\n [7. 8.]]")
    np.testing.assert_array_equal(blocks.numerical["dW"], [[1.0, 2.0], [3.0, 4.0]])
    counted = read("numeric analytic\n" + "\n".join(f"w_{k} {k}.5 {k}.25" for k in range(40)))
    assert list(counted.gradient) == ["w"]


def test_a_csv_file_and_pairs_without_a_heading_are_read_as_before():
    found = read("gradient,numerical\n1,2\n3,6\n-2,-4\n")
    np.testing.assert_array_equal(found.gradient["all"], [1.0, 3.0, -2.0])
    found = read("W[0,0]  0.5  1.0\nW[0, 1] | -1.5e-1 | −3e-1\nb;2;4\n------\n")
    np.testing.assert_array_equal(found.gradient["W"], [[0.5, -0.15]])
    np.testing.assert_array_equal(found.numerical["b"], [4.0])
    assert not found.known


def test_thousands_of_entries_are_read():
    rng = np.random.default_rng(0)
    n = rng.standard_normal(5000)
    rows = "\n".join(f"W_{k} {a:.6e} {a / 2:.6e}" for k, a in enumerate(n))
    assert fault_names(tt.compare(text=f"numerical backprop\n{rows}")) == ["factor_half"]


# --- what is not read is said ---


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("0.5 7.2e-0.6", "line 3: 7.2e-0.6 is no number; perhaps it was 7.2e-06"),
        ("0.5 7.2e-", "line 3: 7.2e- is no number"),
        ("0.5 0.015.00", "line 3: 0.015.00 is no number; perhaps two numbers"),
        ("O.512 0.25", "line 3: O.512 is no number"),
        ("0.5 nan", "line 3: nan beside 0.5"),
        ("-inf 0.5", "line 3: -inf beside 0.5"),
        ("0.5 - 0.25", "the sign of - 0.25 stands apart"),
        ("0.5 2.5 e-1", "line 3: 2.5 e-1 is no number: its exponent stands apart"),
        ("-5 e-1 0.25", "line 3: -5 e-1 is no number: its exponent stands apart"),
        ("0.5+0.1j 0.25", "is a complex number"),
        ("0.5 *****", r"line 3: \*\*\*\*\* is no number"),
        ("0.5", r"Line 3 was not read: 1 number, not 2 \(0.5\)"),
        ("0.5 0.25 0.75", "Line 3 was not read: 3 numbers, not 2"),
        ("0,1234 0.0617", "line 3: 0,1234 has decimal commas, or is several numbers"),
        ("0,1234,0,0617", "Passed over: line 3 '0,1234,0,0617'"),
        ("so far so good", "Passed over: line 3 'so far so good'"),
        ("eps = 1e-5", "Left aside: 'eps = 1e-5' in line 3"),
    ],
)
def test_what_cannot_be_read_is_said_with_its_line(row, said):
    text = f"numerical backprop\n0.123 0.0615\n{row}\n0.8 0.4\n-0.3 -0.15\n1e-1 5e-2"
    report = tt.compare(text=text)
    assert re.search(said, " ".join(report.notes))
    assert sum(tensor.size for tensor in report.tensors.values()) == 4
    assert fault_names(report) == ["factor_half"]


def test_numbers_that_were_glued_together_are_said():
    report = tt.compare(text="numerical backprop\n0.123-0.456\n0.5 0.25\n0.8 0.4")
    assert "read as two numbers each: 0.123-0.456 in line 2." in report.notes[0]


def test_damage_in_one_line_shifts_no_pair():
    damaged = ASKED.replace("6.266e-06", "6.266e-0.6")
    report = tt.compare(text=damaged, steps=39)
    assert "perhaps it was 6.266e-06" in report.notes[0]
    assert fault_names(report) == ["averaged_over_steps"]


def test_a_gradient_that_is_not_finite_never_agrees():
    text = "numerical backprop\n0.123 0.123\n0.5 {}\n0.8 0.8\n-0.3 -0.3"
    assert tt.compare(text=text.format("0.5")).verdict == "agree"
    assert tt.compare(text=text.format("nan")).verdict == "disagree"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "got nothing"),
        ("nothing here", "two numbers, gradient and numerical, got none: line 1 'nothing here'"),
        ("numerical: [1 2 3]\nanalytic: [1 2]", "3 behind 'numerical' in line 1, 2 behind"),
        ("There is a mistake! difference = 0.285093156781", "a difference alone tells no cause"),
        ("numerical backprop\nnan nan\nnan 0.5", "none of them finite"),
        ("0.1 0.5 0.2 0.9 0.4", "do not pair"),
        ("dW max diff 0.0617 mean diff 0.01\ndb max diff 0.02 mean diff 0.001", "tells no cause"),
        ("Greatest absolute difference: 0.4 at index (1, 0) (up to 1e-05 allowed)", "no cause"),
        ("  left: `0.0617`,\n right: `0.1234`', src/lib.rs:12:5", "do not pair"),
    ],
)
def test_a_text_without_pairs_is_refused(text, message):
    with pytest.raises(tt.CheckError, match=message):
        tt.compare(text=text)


def test_arrays_beside_a_text_are_refused_and_so_is_a_text_for_an_array():
    with pytest.raises(tt.CheckError, match="text: expected no gradients beside a text"):
        tt.compare([1.0], [1.0], text="1 2")
    with pytest.raises(tt.CheckError, match="text= reads two gradients"):
        tt.compare("0.1 0.2")
    with pytest.raises(tt.CheckError, match="numerical: expected an array"):
        tt.compare([1.0])


ALPHABET = "0123456789.-+eE \n\t,;:=[](){}|%/numerical backprop grad nan inf W_x'×⁻…±→>#*"
WORDS = re.findall(
    r"\S+|\n",
    "numerical backprop analytic: grad error 0.1 -0.2 1e-5 nan [ ] | , 3 W[0,1] e-0.6 ... array( \n"
    "tensor( => 1.0e-03* % 0.123456 -0.5 1e999 1e-999 ± None relative 7.5e- 0.1.2 \n \n \n \n \n",
)


def _garbage(rng, kind):
    if kind == "characters":
        return "".join(rng.choice(ALPHABET) for _ in range(rng.randrange(1, 200)))
    if kind == "words":
        return " ".join(rng.choice(WORDS) for _ in range(rng.randrange(1, 60)))
    if kind == "bytes":
        return bytes(rng.randrange(256) for _ in range(rng.randrange(300))).decode("latin-1")
    text = list(rng.choice([form[0] for form in PASTED.values()]))
    for _ in range(rng.randrange(1, 25)):
        place = rng.randrange(len(text))
        text[place : place + rng.randrange(2)] = rng.choice(ALPHABET)
    return "".join(text)


@pytest.mark.parametrize("kind", ["characters", "words", "bytes", "damaged forms"])
def test_garbage_gives_a_message_or_a_result(kind):
    rng = random.Random(kind)
    for _ in range(150):
        text = _garbage(rng, kind)
        try:
            report = tt.compare(text=text)
        except tt.CheckError:
            continue
        assert str(report)
        assert report.as_dict()
        if kind != "damaged forms":
            assert set(fault_names(report)) <= {"zero_gradient"}, text


@pytest.mark.parametrize(
    "piece", ["1", "-", "[", "a", "W[0,", "0.1.", "1e", "1 ", "numeric ", "a.", "(1,", "1,"]
)
def test_what_repeats_without_end_is_answered(piece):
    with suppress(tt.CheckError):
        assert str(tt.compare(text=piece * 400))


# --- errors ---


@pytest.mark.parametrize("text", [ASKED, IN_LINES, " ".join(ASKED.split())])
def test_the_table_that_was_asked_about(text):
    report = tt.compare(text=text, steps=39)
    assert report.reading == (
        "7 pairs: the gradient is 'backpropped', column 2; the numerical one is 'numerical', "
        "column 1; printed to 6 decimals.",
    )
    assert fault_names(report) == ["averaged_over_steps"]
    assert "0.02562 ± 6e-05 = 1/T with T = 39." in report.causes[0].evidence
    assert "9.537e-05, their smallest step" in " ".join(report.notes)
    unknown = tt.compare(text=text).causes[0]
    assert unknown.fault == "scaled"
    assert "averaged_over_steps" in unknown.alternatives
    assert "= 1/39.0: T = 39?" in " ".join(unknown.evidence)


def test_the_documentation_shows_what_is_printed():
    page = (Path(__file__).parents[1] / "docs" / "diagnosis.md").read_text("utf-8")
    _, _, shown = page.partition("$ throughtime compare pasted.txt --steps 39\n")
    assert ASKED.strip() in page
    assert str(tt.compare(text=ASKED, steps=39)) == shown.partition("\n```")[0]


def test_the_same_numbers_as_arrays():
    numerical, gradient = (np.array(NUMBERS[k::2], dtype=np.float64) for k in (0, 1))
    assert fault_names(tt.compare(gradient, numerical, steps=39)) == ["averaged_over_steps"]
    assert fault_names(tt.compare(gradient, numerical, steps=39, error=1e-4)) == []


def test_digits_bound_what_differs():
    rows = [(0.1234, 0.1230), (0.5, 0.5003), (-0.8, -0.7999), (0.25, 0.2503)]
    fine = "numerical backprop\n" + "\n".join(f"{n:.5f} {g:.5f}" for n, g in rows)
    coarse = "numerical backprop\n" + "\n".join(f"{n:.3f} {g:.3f}" for n, g in rows)
    assert tt.compare(text=coarse).verdict == "agree"
    assert tt.compare(text=fine, error=1e-5).verdict == "disagree"
    assert tt.compare(text="numerical backprop\n0.1 0.1\n0.2 0.2\n0.3 0.3").verdict == "agree"


def _scattered(factor, scatter, size=40, seed=0):
    rng = np.random.default_rng(seed)
    n, e = rng.standard_normal((2, size))
    rows = [(a, factor * a * (1 + scatter * k)) for a, k in zip(n, e, strict=True)]
    return "numerical backprop\n" + "\n".join(f"{a:.6f} {b:.6f}" for a, b in rows)


def test_scatter_about_a_factor_is_taken_for_the_error():
    report = tt.compare(text=_scattered(1 / 39, 0.02), steps=39)
    assert fault_names(report) == ["averaged_over_steps"]
    assert "The entries scatter by" in " ".join(report.notes)


def test_scatter_about_1_resolves_nothing_and_one_wrong_entry_is_no_scatter():
    report = tt.compare(text=_scattered(1.0, 0.02))
    assert report.verdict == "unresolved"
    assert report.causes == ()
    assert "about a factor of 1" in " ".join(report.notes)
    n = np.random.default_rng(0).standard_normal(8)
    g = n.copy()
    g[3] *= 1.03
    assert tt.compare(g, n).verdict == "disagree"


def test_a_factor_that_is_known_coarsely_gives_a_range_and_no_size():
    report = tt.compare(text=_scattered(1 / 39, 0.02, size=12))
    (cause,) = report.causes
    assert cause.fault == "scaled"
    assert cause.alternatives == ()
    assert re.search("It lies between 1/4.* and 1/3.*, which is too wide", cause.evidence[1])
    assert not re.search("T = 39", str(report))


@pytest.mark.parametrize("pairs", [1, 2])
def test_one_or_two_pairs_name_nothing(pairs):
    rows = "\n".join(["0.123456 0.003166", "-0.812345 -0.020829"][:pairs])
    report = tt.compare(text=f"numerical backprop\n{rows}", steps=39)
    assert report.verdict == "disagree"
    assert report.causes == ()
    assert "0.02564" in report.notes[-1]


def test_a_grid_tells_which_column_is_numerical():
    rows = "\n".join(f"{g} {n}" for n, g in zip(NUMBERS[::2], NUMBERS[1::2], strict=True))
    report = tt.compare(text=rows, steps=39)
    assert fault_names(report) == ["averaged_over_steps"]
    assert "Column 2 lies on a grid of 9.537e-05" in report.reading[1]
    assert report.otherwise is None


def test_both_readings_are_said_where_nothing_tells():
    report = tt.compare(text="0.25 0.5\n-0.125 -0.25\n1.5 3.0\n0.75 1.5")
    text = str(report)
    assert "nothing says which of them is the numerical one" in report.reading[0]
    first = text.index("With column 1 as the gradient")
    half, second = text.index("factor_half"), text.index("With column 2 as the gradient")
    assert first < half < second < text.index("factor_two")
    assert report.as_dict()["otherwise"]["causes"][0]["fault"] == "factor_two"
    assert tt.compare(text="0.25 0.25\n0.5 0.5\n-1.5 -1.5").otherwise is None


def test_entries_that_are_equal_by_their_digits_are_no_copies():
    rows = {"W": "0.00 0.00,0.01 0.01,0.01 0.00,0.02 0.02", "b": "0.01 0.01,-0.01 -0.01,0.02 0.02"}
    lines = [f"{name} {row}" for name, own in rows.items() for row in own.split(",")]
    text = "\n".join(["backprop numerical", *lines])
    report = tt.compare(text=text, error=1e-3)
    assert report.verdict == "disagree"
    assert report.causes == ()
    assert "no sign that they were copied" in report.notes[0]


def test_a_wide_factor_is_not_named_after_a_size_that_was_given():
    wide = name_factor(Ratio(1 / 39, 0.001, True, 9), KnownSizes(39))
    assert wide.faults == ("scaled",)
    assert "between 1/45.17 and 1/34.32" in wide.evidence[-1]
    narrower = name_factor(Ratio(1 / 39, 0.0002, True, 9), KnownSizes(39))
    assert narrower.faults == ("averaged_over_steps",)
    assert narrower.evidence[-1].startswith("1/40 would fit as well; T = 39 is named")


def test_what_is_not_explained_says_how_near_a_factor_comes_and_what_would_tell():
    n = np.random.default_rng(0).standard_normal(12)
    report = tt.compare(n * np.linspace(0.02, 0.03, 12), n, steps=39)
    assert report.causes == ()
    assert "The nearest factor is 0.02" in report.notes[1]
    assert "tt.check" in report.notes[2]


def test_a_number_that_is_a_binary_step_by_chance_is_no_grid():
    n = np.array([0.05960464, 0.1071, -0.31415926, 0.2718281, 0.5772156, -0.83462684])
    rows = "\n".join(f"{a:.8f} {1.7 * a:.8f}" for a in n)
    report = tt.compare(text=f"numerical backprop\n{rows}")
    assert fault_names(report) == ["scaled"]
    assert "smallest step" not in str(report)


def test_rows_that_numpy_breaks_make_one_matrix():
    n = np.random.default_rng(0).standard_normal((8, 8))
    report = tt.compare(text=f"U numerical:\n{n}\nU backprop:\n{n.T}")
    assert fault_names(report) == ["gradient_transposed"]
    assert report.tensors["U"].shape == (8, 8)


def test_two_entries_exchanged_are_no_gates_in_another_order():
    text = "numerical backprop\n0.512 -0.257\n-0.257 0.512\n0.833 0.833\n0.1 0.1"
    assert tt.compare(text=text).causes == ()


def test_rows_of_different_lengths_are_no_blocks():
    report = tt.compare(text="0.1 0.2\n0.3 0.6 0.9\n\n0.5 1.0\n0.7 1.4 2.1\n0.2 0.4\n0.4 0.8")
    assert len(re.findall("was not read: 3 numbers, not 2", " ".join(report.notes))) == 2
