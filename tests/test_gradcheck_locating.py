"""Where a gradient is wrong: rows, columns and gates, with what was measured of them."""

import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import throughtime as tt
from locating_examples import gru_target, smooth, spoilt
from throughtime.derivatives import START_EXPONENTS
from throughtime.gradcheck.areas import Area, Gates, gates_of
from throughtime.gradcheck.budget import Budget, effort_of
from throughtime.gradcheck.evaluation_point import EvaluationPoint
from throughtime.gradcheck.examination import MeasurementPlan
from throughtime.gradcheck.locating import locate
from throughtime.gradcheck.search_direction import DirectionBlock
from throughtime.gradcheck.target import Evaluator
from throughtime.gradcheck.verdict import rejects
from throughtime.gradcheck.workers import measure_serially
from throughtime.targets import network_target

EFFORTS = ("quick", "normal", "exhaustive")
GIVEN = {"points": ["as given"], "diagnose": False}


def said(report, name):
    """The sentences about places in a tensor."""
    return [note for note in report.notes if note.startswith(f"{name}: ")]


# --- gates ---


@pytest.mark.parametrize("effort", EFFORTS)
@pytest.mark.parametrize("seed", range(4))
def test_the_gate_that_is_wrong_is_named_with_its_very_rows(effort, seed):
    report = tt.check(gru_target(seed), effort=effort, seed=seed, diagnose=False)
    (sentence,) = said(report, "U")
    gate = "U: wrong throughout rows 8–11, the third of three gates if these are a GRU's: all "
    assert sentence.startswith(gate)
    measured = "row 7 agrees." if effort == "quick" else "all 16 entries there are wrong, and all"
    assert measured in sentence
    (area,) = report.tensors["U"].areas
    assert (area.rows, area.columns) == ((8, 11), (0, 3))
    assert area.wrong == area.looked >= 6
    assert report.tensors["U"].all_found
    assert not said(report, "W")
    assert not said(report, "b")


def test_a_right_one_has_no_such_sentence():
    report = tt.check(gru_target(right=True), effort="exhaustive")
    assert report.verdict == "agree"
    assert not any("wrong" in note for note in report.notes)


@pytest.mark.parametrize(("gates", "words"), [(4, "the second of four gates"), (None, "")])
def test_gates_that_are_given_are_named_and_others_are_not(gates, words):
    target = replace(smooth((32, 5), b=(8,)), gates=gates)
    (sentence,) = said(tt.check(spoilt(target, np.s_[8:16]), effort="quick", **GIVEN), "A")
    assert sentence.startswith(f"A: wrong throughout rows 8–15{', ' * bool(words)}{words}: all ")
    assert "row 7 and row 16 agree" in sentence


def test_a_network_says_which_gate_that_is():
    net = tt.Network([tt.LSTM(3, 4), tt.Dense(4, 3)], tt.SoftmaxCrossEntropy(), dtype="float64")
    rng = np.random.default_rng(0)
    honest = network_target(net, rng.standard_normal((5, 2, 3)), rng.integers(0, 3, (5, 2)))
    for name in ("0.W", "0.U", "0.b"):
        wrong = spoilt(honest, np.s_[8:12], 1.3, name)
        (sentence,) = said(tt.check(wrong, effort="quick", **GIVEN), name)
        assert "8–11, the third of four gates (a in PyTorch's order): " in sentence
    assert gates_of(honest, "1.W") == []


def test_a_layout_says_which_gate_that_is_be_it_of_columns():
    rng = np.random.default_rng(0)
    x, labels = rng.standard_normal((6, 3)), rng.integers(0, 5, 6)
    names = {"W": "W", "combined": "xh", "b": "b", "head": "V"}
    layout = tt.layouts.lstm(x, labels, order="fiog", transposed=True, **names)
    target = smooth((7, 16), name="W", b=(16,), V=(5, 4))
    target = replace(spoilt(target, np.s_[:, 4:8], name="W"), layout=layout)
    (sentence,) = said(tt.check(target, effort="quick", **GIVEN), "W")
    words = "W: wrong throughout columns 4–7, the second of four gates (i by its layout): all "
    assert sentence.startswith(words)
    assert "column 3 and column 8 agree" in sentence
    assert gates_of(target, "V") == []


def test_a_torch_module_says_which_gate_that_is():
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    honest = tt.target_of(torch.nn.GRU(3, 4).double(), torch.randn(5, 2, 3).double())
    wrong = spoilt(honest, np.s_[8:], 1.3, "weight_hh_l0")
    for effort in EFFORTS[:2]:
        (sentence,) = said(tt.check(wrong, effort=effort, **GIVEN), "weight_hh_l0")
        assert "rows 8–11, the third of three gates (n in PyTorch's order): all " in sentence


def test_a_torch_function_is_told_its_gate():
    torch = pytest.importorskip("torch")

    class GRU(torch.autograd.Function):
        """One that its author differentiates himself: dU of the candidate lacks the factor r."""

        @staticmethod
        def forward(ctx, W, U, x):
            with torch.enable_grad():
                leaves = [tensor.detach().requires_grad_() for tensor in (W, U)]
                h, products = x.new_zeros(x.shape[1], U.shape[1]), []
                for x_t in x:
                    z_x, z_h = x_t @ leaves[0].T, h @ leaves[1].T
                    r, z, _ = torch.sigmoid(z_x + z_h).chunk(3, 1)
                    u = z_h.chunk(3, 1)[2]
                    n = torch.tanh(z_x.chunk(3, 1)[2] + r * u)
                    products.append((h, r, u))
                    h = (1 - z) * n + z * h
            ctx.run = leaves, products, h
            return h.detach()

        @staticmethod
        def backward(ctx, dh):
            leaves, products, h = ctx.run
            found = torch.autograd.grad(
                h, [*leaves, *(u for _, _, u in products)], dh, allow_unused=True
            )
            W, U = found[0], found[1].clone()
            rows = slice(2 * len(U) // 3, None)
            U[rows] = sum((du / r).T @ h for du, (h, r, _) in zip(found[2:], products, strict=True))
            return W, U, None

    torch.manual_seed(0)
    W, U = (torch.randn(12, n, dtype=torch.float64, requires_grad=True) for n in (3, 4))
    x = torch.randn(6, 2, 3, dtype=torch.float64)
    for effort in EFFORTS[:2]:
        report = tt.check(GRU, W, U, x, effort=effort, diagnose=False)
        assert report.tensors["W"].verdict == "agree"
        (sentence,) = said(report, "U")
        assert sentence.startswith("U: wrong throughout rows 8–11, the third of three gates if ")


@pytest.mark.parametrize(
    ("shapes", "name", "expected"),
    [
        ({"U": (12, 4)}, "U", [(3, 0)]),
        ({"U": (4, 16), "b": (16,)}, "b", [(4, 0)]),
        ({"U": (4, 16), "b": (1, 16)}, "b", [(4, 1)]),
        ({"W": (12, 3), "U": (12, 4)}, "U", [(3, 0), (4, 0)]),
        ({"W1": (20, 5), "W2": (3, 20)}, "W1", []),  # another layer takes in its outputs
        ({"W": (7, 5), "V": (3, 7)}, "W", []),
        ({"U": (3, 1)}, "U", []),
    ],
)
def test_what_shapes_tell_of_gates(shapes, name, expected):
    arrays = {n: np.ones(shape) for n, shape in shapes.items()}
    found = gates_of(tt.Target(arrays, lambda: 0.0, lambda: arrays), name)
    assert [(g.count, g.axis) for g in found] == expected
    assert not any(g.certain for g in found)


def test_no_gate_is_named_where_rows_are_only_a_part_of_it_or_two_readings_fit():
    assert Gates(3, certain=False).words(Area((9, 12), (0, 4)), (12, 4)) == ""
    assert Gates(3).words(Area((9, 12), (0, 4)), (12, 4)) == "within the third of three gates"
    assert Gates(3).words(Area((0, 12), (0, 4)), (12, 4)) == ""
    assert Gates(3).words(Area((8, 12), (0, 2)), (12, 4)) == ""
    assert Gates(4).words(Area((3, 9), (0, 4)), (12, 4)) == "the second and third of four gates"
    assert Gates(6).words(Area((2, 4), (0, 4)), (12, 4)) == "gate 2 of 6"


# --- rows and columns ---


@pytest.mark.parametrize("effort", EFFORTS)
@pytest.mark.parametrize(
    ("shape", "where", "words"),
    [
        ((20, 6), np.s_[19], "row 19"),  # an embedding, its padding row trained
        ((20, 6), np.s_[0], "row 0"),
        ((30, 8), np.s_[:, 5], "column 5"),
        ((24, 9), np.s_[:, 4:], "columns 4–8"),
        ((24, 9), np.s_[5:17, 2:7], "columns 2–6 of rows 5–16"),
        ((40,), np.s_[13:29], "entries 13–28"),
        ((9, 4, 3), np.s_[2:5], "rows 2–4"),
    ],
)
def test_borders_are_where_they_are(shape, where, words, effort):
    for seed in range(3):
        target = spoilt(smooth(shape, seed=seed), where)
        report = tt.check(target, effort=effort, seed=seed, **GIVEN)
        (sentence,) = said(report, "A")
        assert sentence.startswith(f"A: wrong throughout {words}: all ")
        assert re.search("agrees?[.]", sentence)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_what_is_wrong_in_two_places_is_no_stretch_between_them(dtype):
    where = np.s_[[*range(16), *range(32, 48)]]
    report = tt.check(spoilt(smooth((64, 40), dtype), where), effort="exhaustive", **GIVEN)
    assert said(report, "A")[0].startswith(
        "A: wrong throughout rows 0–15 and rows 32–47: all 1,280"
    )
    report = tt.check(spoilt(smooth((64, 40), dtype), where), **GIVEN)
    rows = {area.rows for area in report.tensors["A"].areas}
    assert rows
    assert rows <= {(0, 15), (32, 47)}


def test_a_row_that_hides_from_one_direction_does_not_hide_from_another():
    honest = smooth((20, 30))
    moves = DirectionBlock("A", 0, 600, 1).moves(600)[
        9 * 30 : 10 * 30
    ]  # of the first direction, in row 9

    def gradient():
        found = honest.gradient()
        found["A"][10:] *= 2
        off = np.random.default_rng(0).standard_normal(30)
        found["A"][9] += off - moves * (off @ moves) / (moves @ moves)
        return found

    report = tt.check(replace(honest, gradient=gradient), effort="quick", **GIVEN)
    assert said(report, "A")[0].startswith("A: wrong throughout rows 9–19: all ")
    assert "row 8 agrees." in said(report, "A")[0]


def test_a_row_that_the_loss_hardly_sees_is_not_said_to_agree():
    rng = np.random.default_rng(0)
    A = (0.3 * rng.standard_normal((20, 30))).astype("f4")
    slopes = rng.standard_normal((20, 30)).astype("f4")
    slopes[9] *= np.float32(1e-7)
    target = tt.Target(
        {"A": A}, lambda: np.sum(np.sin(A) * slopes, dtype="f4"), lambda: {"A": np.cos(A) * slopes}
    )
    report = tt.check(spoilt(target, np.s_[10:], 2.0), effort="quick", **GIVEN)
    (sentence,) = said(report, "A")
    assert sentence.startswith("A: wrong throughout rows 10–19: all ")
    assert sentence.endswith("wrong; it cannot be told whether row 9 agrees.")


def test_many_areas_and_entries_are_each_found_once():
    wrong = np.zeros((120, 40), bool)
    for rows in (slice(0, 10), slice(30, 45), slice(80, 101)):
        wrong[rows] = True
    wrong[60, 7] = wrong[115, 30] = True
    report = tt.check(spoilt(smooth((120, 40)), wrong), effort="exhaustive", entries=1, **GIVEN)
    tensor = report.tensors["A"]
    assert {area.rows for area in tensor.areas} == {(0, 9), (30, 44), (80, 100)}
    assert len(tensor.areas) == 3
    assert {(60, 7), (115, 30)} <= {entry.index for entry in tensor.wrong}
    assert tensor.all_found


@given(st.integers(0, 10**6), st.sampled_from(["quick", "normal"]))
@settings(max_examples=60)
def test_nothing_false_is_said_of_a_place(seed, effort):
    """Whatever is wrong: rows, columns, rectangles, single entries or all."""
    rng = np.random.default_rng(seed)
    dtype = str(rng.choice(["float64", "float32"]))
    rows, columns = (int(n) for n in rng.integers(2, 50, 2))
    wrong = np.zeros((rows, columns), bool)
    for _ in range(rng.integers(1, 3)):
        r, c = (np.sort(rng.integers(0, n + 1, 2)) for n in (rows, columns))
        spans = [slice(*r), slice(*c), slice(None), int(rng.integers(min(rows, columns)))]
        a, b = rng.choice(4, 2)
        wrong[spans[0 if a == 1 else a], spans[1 if b == 0 else b]] = True
    target = spoilt(smooth((rows, columns), dtype, seed=seed), wrong, 2.0)
    report = tt.check(target, effort=effort, seed=seed, **GIVEN)
    assert report.verdict == ("disagree" if wrong.any() else "agree")
    tensor, told = report.tensors["A"], np.zeros_like(wrong)
    for entry in tensor.wrong:
        assert wrong[entry.index]
        told[entry.index] = True
    for area in tensor.areas:
        inside = places(area.rows, area.columns)
        assert wrong[inside].all() or area.wrong < area.looked
        told[inside] = True
    if tensor.all_found and len(tensor.wrong) < 64:
        assert not (wrong & ~told).any()
    areas = [sentence for sentence in said(report, "A") if "entries" in sentence]
    for sentence, area in zip(areas, tensor.areas, strict=False):
        right = re.search("wrong, and (.*) agrees?[.]$", sentence)
        for kind, place in re.findall(r"(row|column) (\d+)", right[1] if right else ""):
            here = (int(place), int(place))
            row = kind == "row"
            strip = places(here, area.columns) if row else places(area.rows, here)
            assert not wrong[strip].any()


def places(rows, columns):
    """All entries from the first row and column to the last."""
    return np.s_[rows[0] : rows[1] + 1, columns[0] : columns[1] + 1]


def test_entries_that_are_strewn_about_are_no_stretch():
    rng = np.random.default_rng(0)
    wrong = np.zeros((60, 50), bool)
    wrong[rng.integers(0, 60, 5), rng.integers(0, 50, 5)] = True
    report = tt.check(spoilt(smooth((60, 50)), wrong), **GIVEN)
    assert {entry.index for entry in report.tensors["A"].wrong} == set(
        zip(*np.nonzero(wrong), strict=True)
    )
    assert report.tensors["A"].all_found
    assert not said(report, "A")
    every = tt.check(spoilt(smooth((12, 4)), rng.random((12, 4)) < 0.4), **GIVEN)
    assert re.fullmatch("A: [0-9]+ of its 48 entries are wrong.", said(every, "A")[0])


# --- what was measured is what is said ---


@pytest.mark.parametrize("effort", ["quick", "normal"])
@pytest.mark.parametrize("where", [np.s_[:], np.s_[100:]])
def test_nothing_is_said_that_the_budget_did_not_reach(where, effort):
    target = spoilt(smooth((200, 50)), where)
    most = tt.check(target, effort=effort, **GIVEN).evaluations
    for evaluations in range(32, most + 1, 5):
        report = tt.check(target, effort=effort, evaluations=evaluations, **GIVEN)
        looked = report.tensors["A"].indices.size
        for sentence in said(report, "A"):
            assert "samples" not in sentence
            numbers = [int(n) for n in re.findall(r"([0-9]+) entr", sentence)]
            assert all(0 < number <= looked for number in numbers)
            assert numbers or "was not searched further" in sentence


# --- what it costs ---


def a_million(n, seed, *, right=False):
    """A loss of n parameters, one of which has a gradient that is off by 1 % of the rms."""
    rng = np.random.default_rng(seed)
    A, w, place = rng.standard_normal(n), rng.standard_normal(n), int(rng.integers(n))
    calls = []

    def loss():
        calls.append(1)
        t = np.tanh(w)
        return np.sum(np.log1p(np.exp(A * w))) / 1000 + 0.5 * np.sum(t[1:] * t[:-1]) / 1000

    def gradient():
        e, t = np.exp(A * w), np.tanh(w)
        neighbours = np.concatenate([[0], t[:-1]]) + np.concatenate([t[1:], [0]])
        g = A * e / (1 + e) / 1000 + 0.5 * neighbours * (1 - t**2) / 1000
        g[place] += 0 if right else 0.01 * np.sqrt(np.mean(g**2))
        return {"w": g}

    return tt.Target({"w": w}, loss, gradient), place, calls


@pytest.mark.parametrize(("n", "seeds"), [(10**6, 1), (10**5, 12)])
@pytest.mark.parametrize("effort", ["quick", "normal"])
def test_one_wrong_entry_among_a_million_takes_few_losses(n, seeds, effort):
    for seed in range(seeds):
        target, place, calls = a_million(n, seed)
        report = tt.check(target, effort=effort, seed=seed)
        assert [entry.index for entry in report.tensors["w"].wrong] == [(place,)]
        assert report.tensors["w"].all_found
        assert len(calls) <= 260  # the diagnosis, which has nothing to go by, among them
        assert any(f"the {n - 1:,} others agree" in note for note in report.notes)


def test_one_entry_is_told_by_its_place_and_not_by_halving():
    """Halving 10⁵ entries takes 17 measurements of 6 losses at least."""
    for seed in range(12):
        target, place, _ = a_million(10**5, seed)
        point = EvaluationPoint(target, Evaluator(target).gradient(), Budget(), seed)
        point.survey()
        rejecting = point.measure(
            MeasurementPlan(point, effort_of("quick")).over_tensor("w", 0, START_EXPONENTS)
        )
        before = point.budget.used
        found = locate(point, rejecting, measure_serially, 8)
        assert [k for k, entry in found.entries.items() if rejects(entry)] == [place]
        assert found.ended
        assert point.budget.used - before <= 80


def test_a_clean_bill_for_a_million_takes_few_losses():
    target, _, calls = a_million(10**6, 0, right=True)
    assert tt.check(target).verdict == "agree"
    assert len(calls) <= 60


def test_the_one_entry_of_a_small_tensor_is_diagnosed():
    """It may be a whole bias."""
    target = spoilt(smooth((50, 40), b=(1,)), np.s_[:], 2.0, name="b")
    notes = " ".join(tt.check(target, effort="quick", points=["as given"]).notes)
    assert "The diagnosis took" in notes
    assert "was looked for" not in notes


def test_tensors_that_are_wrong_throughout_share_one_sentence():
    rng = np.random.default_rng(0)
    tensors = {"A": rng.standard_normal((2, 3)), "B": rng.standard_normal(4), "C": np.ones(2)}
    target = tt.Target(
        tensors,
        lambda: sum(float((w**3).sum()) for w in tensors.values()),
        lambda: {name: (3 if name == "C" else 1) * w**2 for name, w in tensors.items()},
    )
    report = tt.check(target, diagnose=False)
    about = [note for note in report.notes if "throughout" in note]
    assert about == ["A and B: wrong throughout: all 10 entries are wrong."]


@pytest.mark.parametrize(("beside", "said"), [
    (2, "; along the 3 others the loss does not change at all, so that nothing can be told."),
    (3, ", and 3 of the 6 others agree; along the other 3 the loss does not change at all"),
])  # fmt: skip
def test_entries_along_which_the_loss_is_flat_are_not_said_to_agree(beside, said):
    """A loss that does not change may not depend on an entry, or round it away."""
    W = np.random.default_rng(0).standard_normal((3, beside + 1))
    weights = np.ones(beside + 1)
    weights[-1] = 0.0
    wrong = np.array([3.0, 3.0, *[2.0] * (beside - 2), 0.1])
    report = tt.check(
        tt.Target({"W": W}, lambda: float((weights * W**2).sum()), lambda: {"W": wrong * W}),
        diagnose=False,
    )
    assert any(said in note for note in report.notes), report.notes
