"""Writes the reference, docs/api/: a page for each function and class, and an index of them."""

from __future__ import annotations

import inspect
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from generated import write_folder
from sphinx.ext.autodoc.mock import mock

HERE = Path(__file__).parent
INTRODUCTION = """# Everything public

`import throughtime as tt`. Arrays are time-major: `T` steps, `B` sequences, `I` input features,
`H` hidden units. Each name has a page of its own.
"""

# Section to the names in it; a name without a dot is one of `throughtime`. What stands behind a
# bar are the members that are shown, * for all.
SECTIONS = {
    "Checking": (
        "check", "Target", "target_of", "library_target", "program_target", "Report | *", "Cause",
        "compare", "Comparison | circumstances", "derivative", "Derivative", "sweep", "Sweep | *",
        "frozen", "CheckError",
    ),
    "Layouts": (
        "layouts.lstm", "layouts.gru", "layouts.rnn", "layouts.cell", "layouts.guess",
    ),
    "The flow of gradients": (
        "flow",
        "Flow | top, lag_norms, carousel_share, matrix, plot, to_frame, to_json, to_html, as_dict",
        "first_nonfinite", "NonFinite | place", "FlowRecorder | observe, note, look, close",
        "FlowRecord | read", "gradient_flow.Look", "gradient_flow.network_flow",
        "torch.module_flow", "gradient_flow.LayerFlow | remembers, units_that_remember",
        "gradient_flow.advice.Advice | sentences", "gradient_flow.advice.Truncation",
        "gradient_flow.advice.Bias", "gradient_flow.advice.WindowCost",
        "gradient_flow.advice.Clipping", "gradient_flow.advice.Initialisation",
        "gradient_flow.jacobians.Lyapunov | half_life, drift", "gradient_flow.verdict.Decay",
        "gradient_flow.gates.Gate", "gradient_flow.gates.GateHistory", "training.DivergedError",
    ),
    "Network": ("Network | * inherited", "Run", "Gradients", "Parameters | *"),
    "Cells and layers": ("RNN", "LSTM", "GRU", "Dense", "Embedding", "Dropout"),
    "Losses": ("MeanSquaredError", "SoftmaxCrossEntropy", "BinaryCrossEntropy"),
    "Through time": ("truncated_loss_and_gradient", "contributions", "Contributions | *"),
    "A cell from its forward equations": (
        "cell", "derive", "cells.CellDerivation | compare, checked", "cells.StepComparison",
        "sigmoid", "relu", "softplus", "gelu", "softmax", "logsumexp",
        "stop_gradient", "surrogate", "EquationError",
    ),
    "Figures": tuple(f"plots.{name}" for name in import_module("throughtime.plots").__all__),
    "The engine": (
        "engine", "engine_info", "set_threads", "release_workspace", "precision_cost",
        "PrecisionCost",
    ),
    "With PyTorch": (
        "from_torch", "to_torch", "torch_state_dict", "torch.LSTM", "torch.GRU", "torch.RNN",
        "torch.Recurrent", "torch.accelerate", "torch.restore", "torch.taps",
        "torch.Taps | calls, samples", "torch.LayerTap", "torch.LayerStates", "torch.windows",
        "torch.Window | new",
    ),
    "The derivations": (
        "explain.explain", "explain.example", "explain.relative_difference", "explain.Example",
        "explain.Explanation", "explain.NumericalComparison",
    ),
}  # fmt: skip


def pages() -> dict[str, str]:
    """File names and texts; where torch is not installed, its pages are made without it."""
    with mock([] if find_spec("torch") else ["torch"]):
        return _pages()


def _pages() -> dict[str, str]:
    index, names, found = [INTRODUCTION], [], {}
    for section, entries in SECTIONS.items():
        index += [f"\n## {section}\n", "| | |", "|---|---|"]
        for entry in entries:
            name, _, members = (part.strip() for part in entry.partition("|"))
            names.append(name)
            index.append(f"| [`{_shown(name)}`]({_file(name)}.md) | {_summary(name)} |")
            found[_file(name)] = _page(name, members)
    contents = ["", "```{toctree}", ":hidden:", "", *map(_file, names), "```", ""]
    found["index"] = "\n".join([*index, *contents])
    return {f"{name}.md": text for name, text in found.items()}


def write(folder: Path = HERE / "api") -> None:
    """Writes the pages."""
    write_folder(folder, pages())


def thing(name: str) -> object:
    """What a name of the reference stands for."""
    found: object = import_module("throughtime")
    place = "throughtime"
    for part in name.split("."):
        place = f"{place}.{part}"
        found = getattr(found, part, None) or import_module(place)
    return found


def _file(name: str) -> str:
    """The name of a page's file; some file systems take `flow` and `Flow` for one name."""
    return f"{name}-class" if isinstance(thing(name), type) else name


def _shown(name: str) -> str:
    first, *rest = name.split(".")
    return f"tt.{name}" if not rest or first in ("layouts", "plots", "torch") else rest[-1]


def _summary(name: str) -> str:
    """The first sentence of a docstring, on one line of a table."""
    text = inspect.getdoc(thing(name)) or ""
    return " ".join(text.partition("\n\n")[0].split()).replace("|", "\\|")


def _page(name: str, members: str) -> str:
    own = thing(name)
    kind = "exception" if isinstance(own, type) and issubclass(own, Exception) else "class"
    kind = kind if isinstance(own, type) else "function"
    options = []
    if members:
        listed = members.replace("inherited", "").replace("*", "").strip()
        options.append(f"   :members: {listed}".rstrip())
        options += ["   :inherited-members:"] * ("inherited" in members)
    directive = "\n".join([f".. auto{kind}:: throughtime.{name}", *options])
    return f"# {_shown(name)}\n\n```{{eval-rst}}\n{directive}\n```\n"
