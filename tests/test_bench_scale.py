"""`python -m benchmarks scale`: the model of time, its constants, and the table."""

import json
from importlib.util import find_spec

import pytest

from benchmarks import cli, scale, scale_worker
from benchmarks.scale import Computing, Interconnect, update_seconds, work_that_pays
from benchmarks.training import Model

TINY = Model(16, B=4, T=8)
OWN, NETWORK = Computing(1e-3, 1e-5, 10**6), Interconnect(50e-6, 1.25e9)


def test_a_ring_sends_twice_all_but_one_part():
    two, eight = NETWORK.reducing(10**6, 2), NETWORK.reducing(10**6, 8)
    assert two == pytest.approx(2 * 50e-6 + 4e6 / 1.25e9)
    assert eight == pytest.approx(14 * 50e-6 + 1.75 * 4e6 / 1.25e9)


@pytest.mark.parametrize("processes", [2, 8])
@pytest.mark.parametrize("efficiency", [0.5, 0.8])
def test_the_work_that_pays_is_where_the_prediction_says_so(processes, efficiency):
    work = work_that_pays(OWN, NETWORK, processes, efficiency)
    one, many = (update_seconds(OWN, NETWORK, work, n) for n in (1, processes))
    assert one / many / processes == pytest.approx(efficiency)
    even = work_that_pays(OWN, NETWORK, processes, 1 / processes)
    assert update_seconds(OWN, NETWORK, even, processes) == pytest.approx(
        update_seconds(OWN, NETWORK, even)
    )


def test_constants_come_back_from_the_times_that_they_give():
    reduced = [(n, NETWORK.reducing(n, 2)) for n in scale.SIZES]
    found = scale.fitted(reduced)
    assert found.latency == pytest.approx(NETWORK.latency, rel=0.1)
    assert found.bandwidth == pytest.approx(NETWORK.bandwidth, rel=1e-9)


@pytest.fixture
def measured(monkeypatch):
    """One process is measured; what two would have said is given."""

    def together(models, updates):
        answer = {"apart": [1e-3] * len(models), "together": [2e-3] * len(models)}
        return answer | {"reducing": [(n, NETWORK.reducing(n, 2)) for n in scale.SIZES]}

    monkeypatch.setattr(scale, "together", together)
    monkeypatch.setattr(scale, "MODELS", (TINY,))


@pytest.mark.usefixtures("measured")
def test_the_tables(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr("benchmarks.torch_layer.find", object)
    path = tmp_path / "scale.json"
    assert cli.main(["scale", "--quick", "--gigabits", "10", "--json", str(path)]) == 0
    told = capsys.readouterr().out
    assert "latency 50 µs, bandwidth 1.2 GB/s" in told
    assert "LSTM 4,8,8,16 float32 training" in told
    found = json.loads(path.read_text())
    (row,) = found["rows"]
    assert row["two_predicted_ms"] == pytest.approx(
        1 + 1e3 * NETWORK.reducing(row["numbers"], 2), rel=0.01
    )
    assert row["efficiency"] == pytest.approx(row["alone_ms"] / 4)
    assert [line["gigabits"] for line in found["elsewhere"]] == [10.0]


@pytest.mark.usefixtures("measured")
def test_what_is_refused(monkeypatch, capsys):
    assert cli.main(["scale", "--gigabits", "0"]) == 3
    monkeypatch.setattr("benchmarks.torch_layer.find", lambda: None)
    assert cli.main(["scale"]) == 3
    error = capsys.readouterr().err
    assert "processes meet through torch: pip install torch" in error


def test_a_process_measures_and_the_first_one_tells(capsys):
    scale_worker.main(json.dumps({"models": [vars(TINY)], "updates": [5]}))
    found = json.loads(capsys.readouterr().out)
    assert len(found["apart"]) == len(found["together"]) == 1
    assert [n for n, _ in found["reducing"]] == list(scale.SIZES)


@pytest.mark.skipif(find_spec("torch") is None, reason="processes meet through torch")
def test_two_processes_measure_together():
    found = scale.together([TINY], [5])
    assert found["together"][0] > 0
    assert scale.fitted(found["reducing"]).bandwidth > 0
