"""Derivations: every line holds on live examples, and a wrong backward pass shows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import throughtime
from helpers import run_command
from throughtime.cells import GRU, LSTM, RNN
from throughtime.cli import explain as command
from throughtime.explain import DERIVATIONS, example, explain, relative_difference
from throughtime.explain.bptt import reach, truncated
from throughtime.explain.example import EXAMPLE_CELLS


def run(*arguments):
    return run_command(["explain", *arguments], command)


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("name", DERIVATIONS)
def test_every_line_agrees(name, seed):
    explained = explain(DERIVATIONS[name], seed)
    assert explained.agrees, explained.verdict


@pytest.mark.parametrize("name", DERIVATIONS)
def test_every_quoted_line_stands_in_the_source(name):
    derivation = DERIVATIONS[name]
    lines = [line for section in derivation.sections for line in section.lines]
    for line in lines:
        assert line.code
        assert line.quantities
        for quote in line.code:
            derivation.place(quote)


def test_a_quote_that_is_not_there_is_refused():
    with pytest.raises(LookupError, match=r"expected a line of cells/lstm\.py"):
        DERIVATIONS["lstm"].place("dc = dc * 2")


@pytest.mark.parametrize("name", EXAMPLE_CELLS)
def test_the_step_as_a_graph_is_the_cell(name):
    e = example(name, seed=4)
    recorded = e.recorded()
    for inner in set(recorded) & set(e.values):
        assert relative_difference(e[inner], recorded[inner]) < 1e-14, inner
    assert {"h", "x"} <= set(recorded) & set(e.values)
    assert relative_difference((e["δE"] ** 2).sum(axis=1) / 2, e.errors()[:, 0]) < 1e-14


@pytest.mark.parametrize("name", EXAMPLE_CELLS)
def test_what_is_derived_is_what_the_backward_pass_gives_and_what_a_move_shows(name):
    e = example(name, seed=4)
    given = [own for own in e.traced.nodes if f"δ{own}" in e.values and own not in e.p]
    if "gru" in name:
        given.remove("z")  # the gate there, and all pre-activations here
    assert {"h", "x"} <= set(given)
    for own in given:
        assert relative_difference(e.derived(own), e[f"δ{own}"]) < 1e-14, own
    for own in e.p:
        assert relative_difference(e.derived(own).sum(axis=0), e[f"δ{own}"]) < 1e-14, own
    for use, ends in e.traced.uses.items():
        if set(ends) <= set(e.traced.nodes):
            assert relative_difference(e.derived(use), e.numerical(use)) < 1e-9, use


def test_uses_of_a_value_add_up():
    e = example("lstm peepholes", seed=2)
    for whole, uses in {
        "h_before": ("h_in_i", "h_in_f", "h_in_a", "h_in_o"),
        "c_before": ("c_in_i", "c_in_f", "c_kept"),
        "c": ("c_in_o", "c_in_h", "c_carried"),
    }.items():
        parts = sum(e.derived(use) for use in uses)
        assert relative_difference(e.derived(whole), parts) < 1e-14


def test_an_unknown_value_is_refused():
    with pytest.raises(ValueError, match=r"value: expected one of .*, got 'q'"):
        example("rnn").numerical("q")


def test_a_value_moved_at_all_steps_is_the_sum_over_the_steps():
    e = example("lstm", seed=3)
    by_step, at_once = e.numerical("W"), e.numerical_at_all_steps("W")
    assert by_step.shape == (3, 8, 2)
    assert relative_difference(by_step.sum(axis=0), at_once) < 1e-9


def test_a_loss_does_not_depend_on_what_comes_later():
    terms = example("gru").terms("h_before")
    assert (terms[0, 1:] == 0).all()
    assert (terms[1, 2:] == 0).all()


@pytest.mark.parametrize(
    ("name", "cell", "fault", "marked"),
    [
        ("lstm", LSTM, lambda dz, b, a: (dz, b | {"c": b["c"] / 2}, a), "δc_t, both"),
        ("lstm", LSTM, lambda dz, b, a: (dz * [1, 1, 1, 1, 1, 1, 1, -1], b, a), "δz_o"),
        ("lstm", LSTM, lambda dz, b, a: (dz, b | {"h": -b["h"]}, a), "δh_t"),
        ("gru", GRU, lambda dz, b, a: (dz * [1, 1, 1, 1, 1, 0.9], b, a), "δz_n"),
        ("rnn", RNN, lambda dz, b, a: (dz * 1.00001, b, a), "δW, moved at all steps"),
    ],
)
def test_a_wrong_backward_pass_is_shown(monkeypatch, capsys, name, cell, fault, marked):
    right = cell.step_backward

    def wrong(self, p, kept, before, dstate):
        return fault(*right(self, p, kept, before, dstate))

    derivation = DERIVATIONS[name]
    plain = replace(derivation, sections=derivation.sections[:1])
    monkeypatch.setitem(DERIVATIONS, name, plain)
    assert run(name) == 0
    capsys.readouterr()
    monkeypatch.setattr(cell, "step_backward", wrong)
    assert run(name) == 1
    printed = capsys.readouterr().out
    assert "beyond 1e-09 (marked ✗)" in " ".join(printed.split())
    assert any(line.strip().startswith(marked) and "✗" in line for line in printed.splitlines())


@pytest.mark.parametrize("name", DERIVATIONS)
def test_printed_in_eighty_columns(name, capsys):
    assert run(name, "--seed", "7") == 0
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= 80
    assert "seed 7" in printed
    assert "all agree, largest relative difference" in " ".join(printed.split())


@pytest.mark.parametrize("arguments", [["elman"], ["lstm", "--seed", "-1"], []])
def test_a_wrong_command_is_refused(arguments, capsys):
    with pytest.raises(SystemExit):
        run(*arguments)
    assert "error:" in capsys.readouterr().err


def test_an_unknown_example_is_refused():
    with pytest.raises(ValueError, match=r"example: expected one of rnn, .*, got 'lsmt'"):
        example("lsmt")


def test_relative_difference_at_zero_and_of_different_shapes():
    zero, one = np.zeros(2), np.ones(2)
    assert relative_difference(zero, zero) == 0
    assert relative_difference(one, zero) == np.inf
    with pytest.raises(ValueError, match=r"expected shape \(2,\), got \(3,\)"):
        relative_difference(np.ones(3), one)


def test_relu_examples_stay_clear_of_the_kink():
    z = np.concatenate([example("rnn relu", seed).recorded()["z"] for seed in range(50)])
    assert np.abs(z).min() > 0.05


@pytest.mark.parametrize(("k1", "k2", "pairs"), [(2, 2, 6), (1, 2, 7), (4, 2, 3), (3, 3, 9)])
def test_reach_of_a_window(k1, k2, pairs):
    assert reach(4, k1, k2).sum() == pairs


def test_truncation_that_reaches_all_steps_is_exact_to_the_bit():
    e = example("rnn", steps=4)
    with throughtime.engine("readable"):
        assert (truncated(e, 1, 4) == e["δU"]).all()
