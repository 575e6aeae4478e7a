"""The roles of tensors: an output layer is verified, whatever its shape, or none is known."""

from dataclasses import replace

import numpy as np
import pytest

import throughtime as tt
from corpus import notebooks
from corpus.notebooks import Habits
from helpers import fault_names
from small_networks import Small
from throughtime.diagnosis.experiments import Study
from throughtime.diagnosis.recurrent_entries import of_siblings, state_size
from throughtime.gradcheck import Budget

pytestmark = pytest.mark.usefixtures("experiments_alone")


def roles(network, T=4):
    values = {name: np.array(array) for name, array in network.p.items()}
    return Study(network.target(T), values, Budget()).roles


HEADS = [
    ("squares", 1, ("V", "d")),
    ("squares", 3, ("V", "d")),
    ("logistic", 1, ("V", "d")),
    ("softmax", 3, ("V", "d")),
    ("two layers", 1, ("V", "d", "V1", "d1")),
    ("outside", 1, ()),
    ("none", 1, ()),
]


@pytest.mark.parametrize("columns", [False, True])
@pytest.mark.parametrize(("head", "outputs", "output"), HEADS)
def test_an_output_layer_is_recognised_or_its_absence(head, outputs, output, columns):
    found = roles(Small(head, outputs, columns=columns))
    assert found.output == output
    assert found.headless == (not output)
    assert found.vectors == ("b",)
    assert found.recurrent["U"].all()
    assert not found.recurrent["W"].any()
    assert found.units == 4


@pytest.mark.parametrize("order", ["UWV", "VWU", "WVU"])
@pytest.mark.parametrize(("head", "outputs"), [("squares", 3), ("softmax", 3), ("logistic", 1)])
def test_without_biases_the_order_of_the_names_says_nothing(head, outputs, order):
    """There the input weights cut everything off too."""
    found = roles(Small(head, outputs, bias=False, order=order))
    assert (found.head, found.head_bias, found.lower) == ("V", None, ())
    assert set(found.matrices) == {"W", "U"}


@pytest.mark.parametrize("sigmoid", [False, True])
def test_one_output_without_biases_is_known_by_the_one_sum_that_it_makes(sigmoid):
    found = roles(Small("absolute", 1, bias=False, sigmoid=sigmoid, order="WUV"))
    assert (found.head, found.headless) == ("V", False)
    column = roles(Small("none", bias=False, inputs=1))
    assert (column.head, column.settled) == (None, False)


def test_without_biases_and_output_layer_input_weights_are_no_output_layer():
    found = roles(Small("none", bias=False))
    assert found.head is None
    assert not found.settled


def test_in_a_network_of_one_unit_rows_and_columns_are_matrices():
    own = Habits("LSTM", head="linear", stored="gate by gate, [h, x]", H=1, O=2, columns=False)
    target = notebooks.target(own)
    values = {name: np.array(array) for name, array in target.parameters.items()}
    found = Study(target, values, Budget()).roles
    assert not found.headless
    assert found.head is not None
    assert target.parameters[found.head].size == 2


def test_a_column_of_input_weights_is_no_bias():
    found = roles(Small("squares", columns=True, inputs=1))
    assert found.vectors == ("b",)
    assert set(found.matrices) == {"W", "U"}


def test_rows_of_words_that_a_single_step_does_not_have_are_not_recurrent():
    found = roles(Small("squares", words=True))
    assert found.recurrent["U"].all()
    assert not found.recurrent["E"].any()


def test_a_combined_matrix_of_sigmoid_units_is_no_part_of_the_output_layer():
    class Combined(Small):
        """[U W] is one matrix, Z."""

        def __init__(self, **options):
            super().__init__(**options)
            self.p["Z"] = np.hstack([self.p.pop("U"), self.p.pop("W")])

        def states(self, T):
            self.p["U"], self.p["W"] = self.p["Z"][:, :4], self.p["Z"][:, 4:]
            found = super().states(T)
            del self.p["U"], self.p["W"]
            return found

    found = roles(Combined(head="two layers", words=True, sigmoid=True))
    assert set(found.output) == {"V", "d", "V1", "d1"}
    assert found.recurrent["Z"][:, :4].all()
    assert not found.recurrent["Z"][:, 4:].any()


def test_one_gate_alone_that_a_single_step_does_not_show_is_not_recurrent():
    idle, seen = np.ones((2, 3), bool), np.zeros((2, 3), bool)
    found = of_siblings({"Wf": idle, "Wi": seen, "Wo": seen, "U": np.ones((2, 2), bool)})
    assert not found["Wf"].any()
    assert found["U"].all()
    assert state_size(found) == 2


# --- what is said ---


@pytest.mark.parametrize(
    ("head", "outputs"), [("squares", 1), ("squares", 3), ("none", 1), ("outside", 1)]
)
@pytest.mark.parametrize(
    ("mistake", "fault"),
    [
        ("nothing handed back", "dh_next_missing"),
        ("handed back twice", "term_counted_twice"),
        ("averaged", "averaged_over_steps"),
    ],
)
def test_faults_are_named_whatever_the_output_layer(head, outputs, mistake, fault):
    network = Small(head, outputs, columns=True, mistake=mistake)
    of_steps = head == "outside" and fault != "averaged_over_steps"  # what it adds to δ is unknown
    expected = "between_steps" if of_steps else fault
    assert fault_names(tt.check(network.target(), progress=False)) == [expected]


@pytest.mark.parametrize("order", ["UWV", "VWU"])
def test_an_output_layer_that_agrees_is_not_called_wrong(order):
    network = Small("squares", 1, bias=False, order=order, mistake="nothing handed back")
    (cause,) = tt.check(network.target(), progress=False).causes
    assert cause.fault == "dh_next_missing"
    assert "The output layer, V, agrees." in cause.evidence


@pytest.mark.parametrize("head", ["outside", "squares"])
@pytest.mark.parametrize(
    ("mistake", "fault"),
    [
        ("last slope", "last_cache_at_every_step"),
        ("nothing handed back", "dh_next_missing"),
    ],
)
def test_states_that_are_never_zero_give_no_false_name(head, mistake, fault):
    """With sigmoid units no state is 0, and recurrent weights act where all else is."""
    network = Small(head, sigmoid=True, mistake=mistake)
    (cause,) = tt.check(network.target(), progress=False).causes
    assert cause.fault == ("between_steps" if head == "outside" else fault)
    assert fault in (cause.fault, *cause.alternatives)


@pytest.mark.parametrize("bias", [False, True])
def test_the_loss_of_one_output_that_was_differentiated_is_named(bias):
    network = Small("absolute", 1, bias=bias, sigmoid=True, mistake="squared")
    (cause,) = tt.check(network.target(), progress=False).causes
    assert cause.fault == "different_loss"
    assert "your gradient that of half a squared error" in cause.evidence[-1]
    assert tt.check(Small("absolute", 1, bias=bias, sigmoid=True).target()).verdict == "agree"


def test_a_second_layer_of_cells_is_no_part_of_the_output_layer():
    own = Habits(
        "GRU", "before, 1-z", "one output", "[x, h]", columns=False, layers=2, one_hot=True
    )
    program = replace(own, T=2, B=2, I=1, H=5, O=1, one_hot=True, names=3, scale=1.0, seed=5037)
    target = notebooks.target(program, ("term_counted_twice h",), lengths=True)
    values = {name: np.array(array) for name, array in target.parameters.items()}
    assert Study(target, values, Budget()).roles.output == ("W_out", "b_out")


def test_of_an_operand_at_t_1_no_place_within_the_step_is_said():
    own = Habits("RNN", "tanh", "linear", "two", T=4, I=3, H=3, O=2, states=True)
    target = notebooks.target(own, ("states_for_inputs h", "stale_delta_added"), lengths=True)
    (first, *_) = tt.check(target, progress=False).causes
    assert first.fault == "operand_of_one_tensor"
