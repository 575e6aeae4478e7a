"""Options: explicit and typed, and a wrong one is answered with the right one."""

import inspect

import numpy as np
import pytest

import throughtime as tt

QUESTIONS = (tt.check, tt.sweep, tt.flow, tt.first_nonfinite, tt.target_of)
TARGET = tt.Target({"w": np.ones(2)}, lambda: 1.0, lambda: {"w": np.ones(2)})


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.__name__)
def test_a_wrong_option_names_the_nearest_right_one(question):
    for name in [n for n in inspect.signature(question).parameters if len(n) > 4][2:]:
        if name not in ("unknown", "of_model"):
            with pytest.raises(TypeError, match=rf"{question.__name__}: .* did you mean {name}\?"):
                question(TARGET, **{name[:-1] + "_": 1})
    with pytest.raises(TypeError, match=r"got quux; help\(\) lists them"):
        question(TARGET, quux=1)


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.__name__)
def test_help_explains_every_option(question):
    text = inspect.getdoc(question).partition("Args:")[2].partition("\n\n")[0]
    explained = {name for line in text.split("\n") for name in line.partition(":")[0].split(", ")}
    names = set(inspect.signature(question).parameters) - {"unknown"}
    assert names <= {name.strip() for name in explained}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k1": 3}, "k1: expected a Network, which has this option, got a Target"),
        ({"timeout": 3.0}, "timeout: expected a library, which has this option, got a Target"),
        (
            {"jit": False},
            "jit: expected a Keras model or a JAX function, which has this option, got a Target",
        ),
    ],
)
def test_an_option_of_another_kind_of_thing_is_refused(options, message):
    with pytest.raises(TypeError, match=message):
        tt.check(TARGET, **options)
    with pytest.raises(TypeError, match=message):
        tt.target_of(TARGET, **options)


def test_options_of_torch_are_none_of_a_network():
    network = tt.Network([tt.RNN(2, 3)], tt.MeanSquaredError(), seed=0)
    x, y = np.ones((4, 1, 2), "f"), np.zeros((4, 1, 3), "f")
    with pytest.raises(TypeError, match="of: expected a torch module, which has this option"):
        tt.flow(network, x, y, of="rnn")
    with pytest.raises(TypeError, match="loss: expected a torch module, which has this option"):
        tt.first_nonfinite(network, x, y, loss=len)


def test_a_type_checker_sees_them(tmp_path):
    mypy = pytest.importorskip("mypy.api", reason="a type checker is part of the tools for linting")
    file = tmp_path / "user.py"
    file.write_text(
        "import throughtime as tt\n"
        "def ask(target: tt.Target) -> None:\n"
        "    tt.check(target, effort='quick', points=['as given'])\n"
        "    tt.check(target, efort='quick')\n"
        "    tt.check(target, effort='hard')\n"
        "    tt.flow(target, sequences='all')\n"
    )
    found, _, status = mypy.run(["--strict", "--config-file=", str(file)])
    errors = [line for line in found.splitlines() if ": error:" in line]
    assert (status, {int(line.split(":")[1]) for line in errors}) == (1, {4, 5, 6}), found


BY_KIND = """
import numpy as np
import throughtime as tt

def ask(target: tt.Target, network: tt.Network, f: type[str], mine: dict[str, int]) -> None:
    x = np.ones((3, 1, 2))
    tt.check(target, effort="quick")
    tt.check(target, k1=3)  # type: ignore[call-overload]
    tt.check(network, x, x, k1=3, lengths=np.ones(1, int), seed=1).to_frame("polars")
    tt.check(network, x, x, k1="3")  # type: ignore[call-overload]
    tt.check("./libmine.so", timeout=3.0)
    tt.check("./libmine.so", timeout="3")  # type: ignore[call-overload]
    tt.check(f, x, loss=len, steps=9, jit=False)
    tt.check(f, x, timeout=3.0)  # type: ignore[call-overload]
    tt.check(mine, x, x, lr=0.1, update="fit", time_axis=1)
    tt.check(mine, x, x, lr="0.1")  # type: ignore[call-overload]
    tt.layouts.lstm(x, x, order="ifgo", head="V", loss="binary", batch_first=True)
    tt.layouts.lstm(x, x, hed="V")  # type: ignore[call-arg]
    tt.layouts.gru(x, x, loss="binery")  # type: ignore[arg-type]
    tt.layouts.rnn(x, x, nonlinearity="gelu")  # type: ignore[arg-type]
    tt.layouts.guess(x, x, lengths=[3], time="sum")  # type: ignore[call-arg]
    tt.Network([tt.RNN(2, 3)], batch_first=True)
    tt.FlowRecorder(to=[print], live=False)
"""


def test_a_type_checker_sees_the_options_of_each_kind_of_target(tmp_path):
    """An expected error that does not come is an unused comment, which --strict reports."""
    mypy = pytest.importorskip("mypy.api", reason="a type checker is part of the tools for linting")
    file = tmp_path / "user.py"
    file.write_text(BY_KIND)
    found, _, status = mypy.run(["--strict", "--config-file=", str(file)])
    assert status == 0, found


def test_a_wrong_option_of_a_layout_names_the_nearest_right_one():
    x = np.ones((3, 1, 2))
    with pytest.raises(TypeError, match=r"layouts.lstm: .* got hed; did you mean head\?"):
        tt.layouts.lstm(x, x, hed="V")
    with pytest.raises(TypeError, match=r"layouts.gru: .* got reset_befor; did you mean reset_af"):
        tt.layouts.gru(x, x, reset_befor=True)
