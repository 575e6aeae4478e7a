"""Faults in what a statement changes, and not in what it computes: the sum, the index, the step."""

from dataclasses import replace

import pytest

from throughtime.source import Recipe
from throughtime.source.edits.edit import FileText
from throughtime.source.edits.executed import executed
from throughtime.source.edits.versions import Replaced, functions_of
from throughtime.source.lines import annotate
from throughtime.source.mending.mend import mend
from throughtime.source.recipe import Program

FEW_TRIALS = 45  # fewer than all faults take, and as many as the first does

SPELLER = '''
"""A network that spells: each target is the next input, and the first input is letter 0."""
import numpy as np


def bend(z):
    return np.tanh(z)


def slope(z):
    return 1 - np.tanh(z) ** 2


class Speller:
    def __init__(self, letters=5, units=3, length=6):
        draw = np.random.RandomState(4).randn
        self.W, self.U, self.V = draw(units, letters), draw(units, units), draw(letters, units)
        self.b, self.length = draw(units, 1), length
        self.dW, self.dU, self.dV, self.db = 0, 0, 0, 0

    def spell(self, inputs, targets):
        h, loss = np.zeros((len(self.U), 1)), 0
        self.hs, self.ps = {-1: h}, {}
        for t, (letter, target) in enumerate(zip(inputs, targets)):
            h = bend(self.W[:, [letter]] + self.U @ h + self.b)
            e = np.exp(self.V @ h)
            self.hs[t], self.ps[t] = h, e / e.sum()
            loss -= np.log(self.ps[t][target, 0]) / self.length
        return loss

    def go_back(self, inputs, targets):
        self.dW, self.dU = np.zeros_like(self.W), np.zeros_like(self.U)
        self.dV, self.db = np.zeros_like(self.V), np.zeros_like(self.b)
        self.carried = np.zeros_like(self.b)
        for t in reversed(range(len(targets))):
            self.dy = self.ps[t].copy()
            self.dy[targets[t]] -= 1
            shown = np.zeros((1, self.W.shape[1]))
            shown[0][inputs[t]] = 1
            self.dW += self.__one_step(t) @ shown

    def __one_step(self, t):
        dy = self.dy / self.length
        dz = (self.V.T @ dy + self.carried) * (1 - self.hs[t] ** 2)
        self.dV += dy @ self.hs[t].T
        self.dU += dz @ self.hs[t - 1].T
        self.db += dz
        self.carried = self.U.T @ dz
        return dz
'''


@pytest.fixture
def speller(tmp_path):
    return Recipe(
        tmp_path / "speller.py",
        setup="net = Speller(); y = np.random.randint(0, 5, 6); x = np.append(0, y[:-1])",
        loss="loss = net.spell(x, y)",
        gradient="net.spell(x, y); net.go_back(x, y)",
        parameters={name: f"net.{name}" for name in ("W", "U", "V", "b")},
        gradients={name: f"net.d{name}" for name in ("W", "U", "V", "b")},
    )


@pytest.fixture
def edits_alone(monkeypatch):
    """Without what the values in lines show."""
    monkeypatch.setattr("throughtime.source.mending.mend._Search._by_lines", lambda *_: None)


def mended(recipe, text, *faults):
    for right, mistaken in faults:
        assert text.count(right) == 1, right
        text = text.replace(right, mistaken)
    recipe.path.write_text(text)
    found = mend(recipe, progress=False)
    assert found.is_mended, str(found)
    return found


def changed(found):
    return [line for hunk in found.hunks for line in hunk.changed]


def test_what_a_matrix_was_given_goes_to_the_bias(speller):
    """NumPy adds a column to every column of a matrix, and says nothing."""
    found = mended(speller, SPELLER, ("self.db += dz", "self.dU += dz"))
    assert changed(found) == ["self.db += dz"]


def test_a_method_whose_name_is_private_is_edited_in_place(speller):
    """Python calls it by another name in its class; without that each try loads the whole file."""
    speller.path.write_text(SPELLER)
    program = Program(speller)
    path = speller.path.resolve()
    unit = next(u for u in FileText.of(path, SPELLER).units() if u.names[-1] == "__one_step")
    assert len(functions_of(program, Replaced(path, unit.names, ""))) == 1


def test_the_letter_that_was_read_is_the_input_and_not_the_target(speller, edits_alone):
    found = mended(speller, SPELLER, ("shown[0][inputs[t]]", "shown[0][targets[t]]"))
    assert changed(found) == ["shown[0][inputs[t]] = 1"]


def test_where_the_inputs_are_not_at_hand_they_are_the_targets_before(speller, edits_alone):
    hidden = SPELLER.replace("go_back(self, inputs, targets)", "go_back(self, targets)")
    recipe = replace(speller, gradient="net.spell(x, y); net.go_back(y)")
    found = mended(recipe, hidden, ("shown[0][inputs[t]]", "shown[0][targets[t]]"))
    assert changed(found) == ["shown[0][targets[t - 1] if t > 0 else 0] = 1"]


def test_an_edit_names_nothing_that_only_the_lines_that_run_it_have(speller):
    """They set `x` and `y` beside what the file sets; whoever runs the file has neither."""
    speller.path.write_text(SPELLER)
    values = executed(Program(speller), {}).values[speller.path.resolve()]
    assert not {"x", "y"} & {name for found in values.values() for name in found}


def test_both_terms_of_the_cross_entropy_of_a_softmax(speller, edits_alone):
    """δ of `-y log p - (1 - y) log(1 - p)` is p - y for a sigmoid, and not for a softmax."""
    text = SPELLER.replace(
        "loss -= np.log(self.ps[t][target, 0]) / self.length",
        "y = np.eye(len(self.V))[:, [target]]; p = self.ps[t]\n"
        "            loss -= np.sum(y * np.log(p) + (1 - y) * np.log(1 - p)) / self.length",
    ).replace(
        "self.dy = self.ps[t].copy()\n            self.dy[targets[t]] -= 1",
        "p, y = self.ps[t], np.eye(len(self.V))[:, [targets[t]]]\n            self.dy = p - y",
    )
    found = mended(speller, text)
    assert changed(found) == ["self.dy = ((p - y) / (1 - p) - p * np.sum((p - y) / (1 - p)))"]


def test_a_size_of_the_object_that_the_method_does_not_mention(speller, edits_alone):
    """All tensors are too large by the number of steps, which stands in the loss alone."""
    found = mended(speller, SPELLER, ("dy = self.dy / self.length", "dy = self.dy"))
    assert "/ self.length" in "".join(changed(found))


SEVERAL = (
    ("* (1 - self.hs[t] ** 2)", "* slope(self.hs[t])"),
    ("dV += dy @ self.hs[t].T", "dV += dy @ self.hs[t - 1].T"),
)


def test_each_fault_found_is_worth_as_many_trials_again(speller, monkeypatch):
    """Where trials end before all faults of a pass are found, no line says what is right."""
    text = SPELLER
    for right, mistaken in SEVERAL:
        text = text.replace(right, mistaken)
    speller.path.write_text(text)
    monkeypatch.setattr(annotate, "TRIALS_OF_A_MEND", FEW_TRIALS)
    edits = [finding.edit for finding in annotate.suspected(Program(speller))]
    assert len(edits) == len(SEVERAL)
    assert all(edits)


def test_a_change_that_is_alone_in_its_file_is_taken_back_where_it_is_needless(speller):
    """What clips goes first, here in two files; in one of them it clips nothing."""
    helper = "def bend(z):\n    z = np.clip(z, -700, 700)\n    return np.tanh(z)\n"
    (speller.path.parent / "bends.py").write_text(f"import numpy as np\n\n\n{helper}")
    text = SPELLER.replace("def bend(z):\n    return np.tanh(z)\n", "from bends import bend\n")
    clip = "        self.dW = np.clip(self.dW, -1e-3, 1e-3)\n"
    text = text.replace("\n    def __one_step", f"{clip}\n    def __one_step")
    found = mended(speller, text)
    assert "bends.py" not in found.diff()
    assert "+        self.dW = self.dW" in found.diff()
