"""Writers of a recorder, and callbacks of trainers: with the real packages where they are there."""

import importlib.util
import math
import subprocess
import sys

import numpy as np
import pytest

import throughtime as tt
from throughtime.gradient_flow.recorder import LookBudget

NET = tt.Network([tt.LSTM(2, 3)], tt.MeanSquaredError(), dtype="float64", seed=0)
X, Y = np.random.default_rng(0).standard_normal((9, 2, 2)), np.zeros((9, 2, 3))


def looked(to, norm=2.0):
    with tt.FlowRecorder(live=False, to=to, clip=1.0) as recorder:
        recorder.note(norm)
        recorder.look(NET, X, Y)
    return recorder


class Kept:
    """Stands in for each kind of writer; `seen` has (update, values)."""

    def __init__(self):
        self.seen, self.axes = [], []


class Scalars(Kept):
    def add_scalar(self, name, value, step):
        if not self.seen or self.seen[-1][0] != step:
            self.seen.append((step, {}))
        self.seen[-1][1][name] = value


class Metrics(Kept):
    def log_metrics(self, metrics, step=None):
        self.seen.append((step, metrics))


class Runs(Kept):
    def define_metric(self, name, step_metric=None):
        self.axes.append((name, step_metric))

    def log(self, values):
        self.seen.append((values.pop("flow/update"), values))


class Function(Kept):
    def __call__(self, update, values):
        self.seen.append((update, dict(values)))


KINDS = [Scalars, Metrics, Runs, Function]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_writer_is_told_the_numbers_of_a_look(kind):
    writer = kind()
    recorder = looked(writer)
    ((update, values),) = writer.seen
    look = recorder.last
    assert update == 1
    assert values["flow/layer0/reach"] == look.layers["0"].reach
    assert values["flow/gradient_norm"] == 2.0
    assert (values["flow/clipped"], values["flow/exploding"]) == (1.0, 0.0)
    assert all(math.isfinite(value) for value in values.values())
    if kind is Runs:
        assert writer.axes == [("flow/update", None), ("flow/*", "flow/update")]


def test_several_writers_and_one_that_fails():
    def broken(update, values):
        raise OSError("disk full")

    first, last = Function(), Scalars()
    with tt.FlowRecorder(live=False, to=[first, broken, last]) as recorder:
        with pytest.warns(UserWarning, match="a writer failed and gets no more: OSError: disk"):
            recorder.look(NET, X, Y)
        recorder.note()
        recorder.look(NET, X, Y)
    assert [len(one.seen) for one in (first, last)] == [2, 2]


def test_a_writer_is_told_that_the_run_has_diverged():
    writer, x = Function(), X.copy()
    x[3] = np.inf
    with (
        pytest.raises(ValueError, match="expected a finite number, got nan"),
        tt.FlowRecorder(live=False, to=writer) as recorder,
    ):
        recorder.observe(NET, x, Y, norm=float("nan"))
    assert writer.seen == [(1, {"flow/diverged": 1.0})]


def test_what_is_no_writer():
    with pytest.raises(TypeError, match=r"to: expected a function of \(update, values\), or a wr"):
        tt.FlowRecorder(live=False, to=3)


def test_no_package_is_imported_for_it():
    code = "import sys, throughtime as tt; tt.FlowRecorder(live=False, to=print)\n"
    code += "import throughtime.integrations\n"
    names = ["torch", "tensorboard", "wandb", "mlflow", "lightning", "transformers"]
    subprocess.run(
        [sys.executable, "-c", code + f"assert not {{*{names}}} & {{*sys.modules}}"], check=True
    )


def test_tensorboard(tmp_path):
    pytest.importorskip("torch", reason="torch is not installed")
    tensorboard = pytest.importorskip("torch.utils.tensorboard", reason="TensorBoard")
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    with tensorboard.SummaryWriter(tmp_path) as writer:
        recorder = looked(writer)
    found = events.EventAccumulator(str(tmp_path)).Reload()
    (one,) = found.Scalars("flow/layer0/reach")
    assert (one.step, one.value) == (1, recorder.last.layers["0"].reach)


def test_weights_and_biases(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb", reason="Weights & Biases")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    with wandb.init(dir=tmp_path, project="flow") as run:
        run.log({"loss": 1.0}, step=5)  # the caller's own steps, ahead of the recorder's
        recorder = looked(run)
        assert run.summary["flow/layer0/reach"] == recorder.last.layers["0"].reach
        assert run.summary["flow/update"] == 1


@pytest.mark.filterwarnings("ignore")
def test_mlflow(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow", reason="MLflow")
    database = importlib.util.find_spec("sqlalchemy") is not None  # mlflow-skinny has none
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    place = f"sqlite:///{tmp_path / 'runs.db'}" if database else (tmp_path / "runs").as_uri()
    mlflow.set_tracking_uri(place)
    with mlflow.start_run() as run:
        recorder = looked(mlflow)
    history = mlflow.MlflowClient().get_metric_history(run.info.run_id, "flow/layer0/reach")
    assert [(one.step, one.value) for one in history] == [(1, recorder.last.layers["0"].reach)]


# --- trainers ---


@pytest.fixture
def every_update(monkeypatch):
    """Looks at every update, however long they take."""
    monkeypatch.setattr(LookBudget, "due", lambda budget: True)


@pytest.mark.filterwarnings("ignore")
def test_lightning(tmp_path, every_update):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    lightning = pytest.importorskip("lightning.pytorch", reason="Lightning")
    loggers = pytest.importorskip("lightning.pytorch.loggers")
    from throughtime.integrations import LightningFlow

    class Tagger(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.rnn, self.head = torch.nn.GRU(2, 4, batch_first=True), torch.nn.Linear(4, 1)

        def forward(self, x):
            return self.head(self.rnn(x)[0])[..., 0]

        def training_step(self, batch, _):
            return (self(batch[0]) - batch[1]).square().mean()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    torch.manual_seed(0)
    x, y = torch.randn(12, 7, 2), torch.randn(12, 7)
    batches = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=4)
    losses = lambda outputs, batch: (outputs - batch[1]).square()  # noqa: E731
    path, told = tmp_path / "run.flow.jsonl", Function()
    options = {
        "max_epochs": 1, "accelerator": "cpu", "enable_progress_bar": False,
        "enable_model_summary": False, "enable_checkpointing": False, "gradient_clip_val": 0.01,
    }  # fmt: skip

    def trained(data, logger=None, **settings):
        callback = LightningFlow(losses, **settings)
        assert isinstance(callback, lightning.Callback)
        trainer = lightning.Trainer(callbacks=[callback], logger=logger or False, **options)
        torch.manual_seed(1)
        trainer.fit(Tagger(), data)
        return callback

    callback = trained(batches, path=path, to=told)
    record = tt.FlowRecord.read(path)
    assert ([look.update for look in record.looks], record.ended) == ([1, 2, 3], "ended")
    assert record.clip == 0.01
    assert record.looks[0].norm > 0.01  # before clipping
    assert callback.recorder.look_at.steps == 7
    assert [update for update, _ in told.seen] == [1, 2, 3]
    logger = loggers.CSVLogger(tmp_path, name="csv")
    trained(batches, logger=logger)
    logger.save()
    assert "flow/layer0/reach" in (tmp_path / "csv/version_0/metrics.csv").read_text()
    x[5] = torch.inf
    with pytest.raises(
        ValueError, match=r"at update 2 \(inputs, inputs\[0\]\[1, 0, 0\]: value inf"
    ):
        trained(batches, path=path)
    assert tt.FlowRecord.read(path).ended == "diverged"


@pytest.mark.filterwarnings("ignore")
def test_transformers(tmp_path, every_update):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    transformers = pytest.importorskip("transformers", reason="Transformers")
    pytest.importorskip("accelerate", reason="Transformers' Trainer needs it")
    from throughtime.integrations import TrainerFlow

    class Tagger(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.head = torch.nn.LSTM(2, 4, batch_first=True), torch.nn.Linear(4, 1)

        def forward(self, x, labels=None):
            outputs = self.head(self.rnn(x)[0])[..., 0]
            return {"loss": (outputs - labels).square().mean(), "logits": outputs}

    torch.manual_seed(0)
    data = [{"x": torch.randn(7, 2), "labels": torch.randn(7)} for _ in range(12)]

    def trained(**settings):
        callback = TrainerFlow(
            lambda outputs, batch: (outputs["logits"] - batch["labels"]).square(), **settings
        )
        assert isinstance(callback, transformers.TrainerCallback)
        args = transformers.TrainingArguments(
            tmp_path / "out", per_device_train_batch_size=4, num_train_epochs=1, logging_steps=1,
            report_to=[], use_cpu=True, save_strategy="no", max_grad_norm=0.01, disable_tqdm=True,
        )  # fmt: skip
        torch.manual_seed(1)
        model = Tagger()
        trainer = transformers.Trainer(model, args, train_dataset=data, callbacks=[callback])
        trainer.train()
        assert not model._forward_pre_hooks
        return callback, trainer

    path = tmp_path / "run.flow.jsonl"
    callback, trainer = trained(path=path)
    record = tt.FlowRecord.read(path)
    assert ([look.update for look in record.looks], record.ended) == ([1, 2, 3], "ended")
    logged = [one["grad_norm"] for one in trainer.state.log_history if "grad_norm" in one]
    assert record.looks[1].norm == pytest.approx(logged[0], rel=1e-6)  # of the update before
    assert callback.recorder.look_at.steps == 7
    for one in data:
        one["x"][3] = torch.inf
    with pytest.raises(ValueError, match=r"got nan at update 1 \(inputs, x\[\d, 3, 0\]: v"):
        trained()


@pytest.mark.parametrize("name", ["LightningFlow", "TrainerFlow"])
def test_without_the_package_it_is_said(name, monkeypatch):
    from throughtime import integrations

    monkeypatch.setattr(integrations, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=rf"{name}: expected .*, got none; pip install"):
        getattr(integrations, name)
    with pytest.raises(AttributeError, match="no attribute 'KerasFlow'"):
        integrations.KerasFlow  # noqa: B018
