"""The flow while training: its budget, its record on disk, the line that is shown."""

import io
import json
import math

import numpy as np
import pytest

import throughtime as tt
from throughtime import cli
from throughtime.gradient_flow.record import Look, NormsSince
from throughtime.gradient_flow.recorder import LookBudget
from throughtime.training import DivergedError, load_checkpoint


class Clock:
    """Seconds that pass when they are told to."""

    now = 0.0

    def __call__(self):
        return self.now


# --- the budget ---


@pytest.mark.parametrize("cost", [0.05, 0.4, 3.0])
def test_looks_take_no_more_than_their_share(cost):
    clock = Clock()
    budget = LookBudget(0.03, clock)
    taken = []
    for _ in range(20_000):
        clock.now += 0.03  # an update
        if budget.due():
            with budget.look():
                clock.now += cost
            taken.append(budget.taken)
    assert budget.taken <= 0.03
    assert max(taken[1:]) <= 0.03  # the first one's cost could not be known
    assert budget.looks >= 0.9 * (0.03 * 600 / cost) - 1
    assert budget.spent == pytest.approx(budget.looks * cost)


@pytest.mark.parametrize("per_lag", [0.0, 0.002, 0.05])
@pytest.mark.parametrize("fixed", [0.001, 0.04])
def test_looks_grow_within_their_share_from_the_first_on(per_lag, fixed, monkeypatch):
    """Whatever a look takes, a fixed time and one in proportion to what it does."""
    clock, real, taken = Clock(), tt.flow, []
    net, (x, y) = network(), data(steps=30)

    def flow(*what, **options):
        found = real(*what, **options)
        clock.now += fixed + per_lag * found.batch * (found.max_lag + 1)
        return found

    monkeypatch.setattr("throughtime.questions.flow", flow)
    first = fixed + per_lag * 5
    one = recorder(share=0.03)
    one.budget.clock = clock
    turn = max(0.01, first / 5)  # a first look takes no more than five turns and 50 ms
    sizes = []
    for _ in range(30_000):
        clock.now += turn
        found = one.observe(net, x, y)
        if found is not None:
            sizes.append((found.batch, found.max_lag))
            taken.append(one.budget.taken)
        if len(sizes) == 6:
            break
    assert sizes == [(1, 4), (1, 16), (1, 29), (8, 29), (8, 29), (8, 29)]
    assert max(taken) <= 0.03


def test_before_the_first_look_the_line_says_when_it_comes():
    file, clock = Terminal(), Clock()
    one = tt.FlowRecorder(file=file)
    one.budget.clock = clock
    for _ in range(3):
        clock.now += 0.01
        one.line.shown -= 1
        one.note(0.5)
    assert "flow: no look yet, the time for it is earned in 3 s; |gradient| 0.5" in file.getvalue()
    assert one.budget.earned_in() == pytest.approx(0.1 / 0.03 - 0.02)
    one.close()


def test_a_look_that_was_asked_for_is_of_full_size():
    net, (x, y) = network(), data()
    one = recorder()
    assert one.look(net, x, y).max_lag == 11
    assert one.due_look(net, x, y).max_lag == 4
    assert one.due_look(net, x, y, max_lag=2, sequences=1).max_lag == 2


def test_one_slow_look_is_made_up_for():
    clock = Clock()
    budget = LookBudget(0.1, clock)
    costs = iter([0.1, 5.0, *[0.1] * 1000])
    for _ in range(10_000):
        clock.now += 0.1
        if budget.due():
            with budget.look():
                clock.now += next(costs)
    assert budget.taken <= 0.1
    assert budget.looks > 10


@pytest.mark.parametrize("share", [0, 1, -0.1, math.nan, "0.03"])
def test_a_share_is_between_0_and_1(share):
    with pytest.raises((ValueError, TypeError), match="share: expected"):
        tt.FlowRecorder(share=share)


# --- looks ---


def network(seed=0):
    layers = [tt.Embedding(5, 4), tt.LSTM(4, 6), tt.Dense(6, 5)]
    return tt.Network(layers, tt.SoftmaxCrossEntropy(), dtype="float64", seed=seed)


def data(steps=12, batch=20):
    x = np.random.default_rng(0).integers(0, 5, (steps + 1, batch))
    return x[1:], x[:-1]


def recorder(path=None, **options):
    return tt.FlowRecorder(path, live=False, **options)


def test_a_look_is_that_of_the_flow():
    net, (x, y) = network(), data()
    with recorder(clip=0.5) as one:
        for norm in (0.1, 0.9, 0.4):
            one.note(norm)
        found = one.look(net, x, y)
    chosen = np.unique(np.linspace(0, 19, 8).astype(int))
    whole = tt.flow(net, x[:, chosen], y[:, chosen])
    assert (found.lag_norms == whole.lag_norms).all()
    assert found.layers[1].paths == {}  # the carousel is left out
    look, layer = one.last, one.last.layers["1"]
    assert (look.update, look.updates, look.batch, look.steps) == (3, 3, 8, 12)
    assert (look.norm, look.largest_norm, look.clipped) == (0.4, 0.9, pytest.approx(1 / 3))
    assert layer.kind == "LSTM"
    assert layer.lags == list(range(12))
    assert layer.profile == pytest.approx(whole.layers[1].profile["c"])
    assert layer.reach == whole.layers[1].decay.reach
    assert one.norms.count == 0  # since this look


def test_all_sequences_and_the_state_where_they_are_asked_for():
    net, (x, y) = network(), data()
    state = net.zero_state(20)
    state.flat[...] = np.random.default_rng(1).standard_normal(state.flat.size)
    one = recorder()
    found = one.look(net, x, y, state=state, sequences=3, carousel=True)
    assert found.batch == 3
    assert set(found.layers[1].paths) == {"carry", "gates", "both"}
    own = {name: part[[0, 9, 19]] for name, part in state.items()}
    expected = tt.flow(net, x[:, [0, 9, 19]], y[:, [0, 9, 19]], state=own)
    assert (found.lag_norms == expected.lag_norms).all()


def test_observing_looks_when_it_is_time_and_changes_nothing():
    net, (x, y) = network(), data()
    before = net.parameters.copy()
    one = recorder(share=0.5)
    one.budget.clock = clock = Clock()
    found = []
    for _ in range(40):
        clock.now += 0.1
        found.append(one.observe(net, x, y, norm=1.0))
    assert net.parameters == before
    places = [place for place, flow in enumerate(found) if flow is not None]
    assert places[0] == 11  # a first look is expected to last 0.55 s, half of the time
    assert one.updates == 40
    assert one.look_at is found[-1]
    sizes = [(flow.batch, flow.max_lag) for flow in found if flow is not None]
    assert sizes[:4] == [(1, 4), (1, 11), (8, 11), (8, 11)]  # the window has 12 steps


def test_medians_are_those_of_the_newest_norms():
    norms = NormsSince(None)
    assert math.isnan(norms.median)
    for norm in range(20_001):
        norms.add(float(norm))
    assert (norms.count, norms.largest, norms.share) == (20_001, 20_000.0, None)
    assert norms.median == 15_000.5
    assert norms.usual == pytest.approx(19_000.1)


# --- the record ---


def test_what_was_written_is_read_again(tmp_path):
    path, net = tmp_path / "run.jsonl", network()
    with recorder(path, clip=2.0) as one:
        looks = []
        for update in (10, 20):
            one.note(1.5, update)
            one.look(net, *data())
            looks.append(one.last)
    record = tt.FlowRecord.read(path)
    assert record.looks == looks
    assert (record.clip, record.ended, record.update) == (2.0, "ended", 20)
    rows = str(record).splitlines()
    assert rows[0].split() == [
        *("update", "verdict", "layer", "reach", "half-life", "|gradient|"),
        *("9", "of", "10", "largest", "clipped"),
    ]
    assert rows[1].split()[:4] == ["10", looks[0].verdict, "1", "(LSTM)"]
    assert rows[-2].startswith("2 looks, which took ")
    assert rows[-1] == "Ended at update 20."
    assert max(map(len, rows)) <= 100


def test_a_run_that_goes_on_replaces_what_came_after_its_checkpoint(tmp_path):
    path, net = tmp_path / "run.jsonl", network()
    for start, updates in ((0, (10, 20, 30)), (20, (25, 35))):
        one = recorder(path, update=start)  # and is killed: it never ends
        for update in updates:
            one.note(1.0, update)
            one.look(net, *data())
        with path.open("ab") as file:
            file.write(b'{"kind": "look", "upd')  # cut off in the midst of a line
    record = tt.FlowRecord.read(path)
    assert [look.update for look in record.looks] == [10, 20, 25, 35]
    assert record.ended == ""
    assert str(record).endswith("It still goes on, or was cut off.")


def test_every_line_is_json_without_nan(tmp_path):
    path = tmp_path / "run.jsonl"
    net = tt.Network([tt.RNN(1, 2)], tt.MeanSquaredError(), dtype="float64", seed=0)
    net.parameters["0.U"] = np.zeros((2, 2))  # nothing passes: no half-life, no rate
    with recorder(path) as one:
        one.look(net, np.ones((6, 2, 1)), np.ones((6, 2, 2)))
    for line in path.read_text().splitlines():
        json.loads(line, parse_constant=lambda name: pytest.fail(name))
    (look,) = tt.FlowRecord.read(path).looks
    assert look.norm is None
    assert look.layers["0"].half_life == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("some text\n", "expected a throughtime flow record, got something else"),
        ('{"format": "another"}\n', "expected a throughtime flow record, got something else"),
        (
            '{"format": "throughtime flow record", "version": 2}\n',
            "version: expected 1, got 2; it comes from a newer throughtime",
        ),
    ],
)
def test_another_file_is_neither_read_nor_written_to(content, message, tmp_path):
    path = tmp_path / "a.txt"
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
        tt.FlowRecord.read(path)
    with pytest.raises(ValueError, match=message):
        recorder(path)
    assert path.read_text() == content


def test_a_look_that_lacks_something_is_refused(tmp_path):
    path = tmp_path / "run.jsonl"
    recorder(path)
    with path.open("a") as file:
        file.write('{"kind": "look", "update": 3}\n')
    with pytest.raises(ValueError, match="look: expected all of its fields, got KeyError"):
        tt.FlowRecord.read(path)


def test_places_that_cannot_be_written(tmp_path):
    with pytest.raises(ValueError, match="a file in an existing folder"):
        recorder(tmp_path / "none" / "run.jsonl")
    with pytest.raises(ValueError, match="a file, got the folder"):
        recorder(tmp_path)


def test_a_disk_that_is_full_does_not_stop_the_run(tmp_path, monkeypatch):
    one, net = recorder(tmp_path / "run.jsonl"), network()

    def full(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr("throughtime.gradient_flow.recorder.append_line", full)
    with pytest.warns(UserWarning, match=r"the record .* ends here: No space left"):
        one.look(net, *data())
    one.look(net, *data())
    one.close()


# --- the line ---


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_the_line_says_verdict_reach_norm_and_clipping():
    file = Terminal()
    with tt.FlowRecorder(clip=1.0, file=file) as one:
        one.note(0.5)
        one.look(network(), *data())
        for norm in (0.5, 3.0):
            one.note(norm)
    shown = file.getvalue()
    number, layer = one.last.worst
    assert f"flow: {one.last.verdict}; layer {number} (LSTM): reach " in shown
    assert f"half-life {layer.half_life:.3g}; |gradient| 0.5, largest 0.5; 0% clipped" in shown


@pytest.mark.parametrize(("live", "shown"), [(None, False), (True, False), (False, False)])
def test_elsewhere_lines_come_seldom(live, shown):
    file = io.StringIO()
    with tt.FlowRecorder(live=live, file=file) as one:
        one.note(0.5)
        one.look(network(), *data())
        assert bool(file.getvalue()) is shown
        one.line.shown -= 20  # seconds
        one.note(0.5)
    assert bool(file.getvalue()) is (live is True)


# --- NaN ---


def test_a_norm_that_is_not_finite_stops_the_loop_and_is_written_down(tmp_path):
    path, net = tmp_path / "run.jsonl", network()
    net.parameters["1.W"] = np.sign(net.parameters["1.W"]) * 1e200
    net.parameters["0.E"] = np.sign(net.parameters["0.E"]) * 1e200
    with pytest.raises(DivergedError, match=r"layer 1 \(LSTM\), step 0") as caught:  # noqa: SIM117
        with recorder(path) as one:
            one.observe(net, *data(), norm=math.nan)
    assert caught.value.finding.gate in "ifao"
    record = tt.FlowRecord.read(path)
    assert (record.ended, record.update) == ("diverged", 1)
    assert "layer 1 (LSTM), step 0" in record.message
    assert str(record).splitlines()[-1].startswith("Diverged at update 1: norm of the gradient")


def test_a_torch_loop(tmp_path, monkeypatch):
    monkeypatch.setattr("throughtime.gradient_flow.recorder.FIRST_LOOK_TURNS", 1)
    torch = pytest.importorskip("torch", reason="torch is not installed")
    nn = torch.nn
    torch.manual_seed(0)

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.head = nn.LSTM(3, 4, num_layers=2, dropout=0.5), nn.Linear(4, 2)

        def forward(self, x):
            return self.head(self.rnn(x)[0])

    model, path = Model(), tmp_path / "run.jsonl"
    x, y = torch.randn(10, 12, 3), torch.randint(0, 2, (10, 12))
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)

    def losses(outputs):
        return nn.functional.cross_entropy(outputs.flatten(0, 1), y.flatten(), reduction="none")

    with recorder(path, clip=1.0, share=0.9) as one:
        one.budget.clock = clock = Clock()
        for _ in range(6):
            optimiser.zero_grad()
            losses(model(x)).mean().backward()
            norm = nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            clock.now += 1.0
            one.observe(model, x, loss=losses, norm=norm)
            optimiser.step()
    record = tt.FlowRecord.read(path)
    assert record.looks
    assert set(record.looks[0].layers) == {"0", "1"}
    assert [(look.batch, look.max_lag) for look in record.looks] == [(1, 4), (1, 9), (8, 9), (8, 9)]
    assert model.training
    with torch.no_grad():
        model.rnn.weight_ih_l1[0, 0] = torch.nan
    with pytest.raises(DivergedError, match=r"parameters, rnn.weight_ih_l1\[0, 0\]: value nan"):
        recorder().observe(model, x, loss=losses, norm=torch.tensor(torch.nan))


# --- the command ---

QUICK = ["--hidden", "8", "--embedding", "4", "--batch", "4", "--k1", "8"]


@pytest.fixture
def text(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "text.txt"
    path.write_text("To and fro, and to and fro again. " * 60)
    return str(path)


def test_train_writes_a_record_beside_the_checkpoint(text, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("throughtime.gradient_flow.recorder.FIRST_LOOK_SECONDS", 0.0)
    monkeypatch.setattr("throughtime.cli.train_flow.SHARE", 0.9)
    arguments = ["train", text, *QUICK, "--out", "m.safetensors", "--flow"]
    assert cli.main([*arguments, "--updates", "60"]) == 0
    printed = capsys.readouterr().out
    assert "flow      looked at in at most 90% of the time, record m.flow.jsonl\n" in printed
    record = tt.FlowRecord.read("m.flow.jsonl")
    assert record.looks
    assert f"flow      {record.looks[-1].verdict}: " in printed
    assert (record.ended, record.update, record.clip) == ("ended", 60, 1.0)
    more = ["train", "--resume", "m.safetensors", "--updates", "120", "--flow"]
    assert cli.main(more) == 0
    assert "record m.flow.jsonl (appended to it)" in capsys.readouterr().out
    updates = [look.update for look in tt.FlowRecord.read("m.flow.jsonl").looks]
    assert updates == sorted(updates)
    assert updates[-1] > 60
    assert cli.main(["flow", "--record", "m.flow.jsonl"]) == 0
    assert capsys.readouterr().out == f"{tt.FlowRecord.read('m.flow.jsonl')}\n"


def test_watching_changes_no_bit_of_the_training(text, monkeypatch):
    monkeypatch.setattr("throughtime.gradient_flow.recorder.FIRST_LOOK_SECONDS", 0.0)
    monkeypatch.setattr("throughtime.cli.train_flow.SHARE", 0.9)
    base = ["train", text, *QUICK, "--updates", "40", "--dropout", "0.2", "--k2", "4"]
    assert cli.main([*base, "--out", "a.safetensors"]) == 0
    assert cli.main([*base, "--out", "b.safetensors", "--flow", "b.jsonl"]) == 0
    first, second = (load_checkpoint(f"{n}.safetensors") for n in "ab")
    assert first.network.parameters == second.network.parameters
    assert tt.FlowRecord.read("b.jsonl").looks


def test_a_short_run_says_that_no_look_fitted_in(text, capsys):
    assert cli.main(["train", text, *QUICK, "--updates", "5", "--flow"]) == 0
    assert "no look fitted into 3% of the time" in capsys.readouterr().out


def test_a_run_that_diverges_ends_in_one_line_and_keeps_the_checkpoint(text, capsys):
    base = ["train", text, *QUICK, "--optimiser", "sgd", "--clip", "0", "--flow"]
    arguments = [*base, "--learning-rate", "1e38", "--updates", "99", "--checkpoint-every", "1"]
    assert cli.main(arguments) == 3
    (line,) = capsys.readouterr().err.splitlines()
    assert "expected a finite number" in line
    assert "choose a lower learning rate" in line
    record = tt.FlowRecord.read("throughtime.flow.jsonl")
    assert record.ended == "diverged"
    assert record.message in line
    saved = int(line.rsplit("at update ", 1)[1]) if "stays as it was" in line else None
    if saved is None:
        assert line.endswith("no checkpoint was written before")
    else:
        kept = load_checkpoint("throughtime.safetensors")
        assert kept.place.updates == saved
        assert np.isfinite(kept.network.parameters.flat).all()


def test_a_text_behind_the_option_is_not_taken_for_the_record(text, capsys):
    assert cli.main(["train", "--flow", text, "--updates", "5"]) == 3
    assert "put --flow behind the texts, or write --flow=" in capsys.readouterr().err
    assert cli.main(["train", "--flow", ".", "--updates", "5"]) == 3
    assert "got the folder ." in capsys.readouterr().err


def test_a_look_says_all_that_is_documented():
    net = network()
    one = recorder()
    one.look(net, *data())
    assert Look.from_line(json.loads(json.dumps(one.last.as_line()))) == one.last
