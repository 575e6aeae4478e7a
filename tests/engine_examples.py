"""What the tests of the compiled engine share: cells of any size, runs, and all that comes back."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import throughtime as tt
from helpers import relative_error
from throughtime.cells import Tape, variants

DOUBLE, SINGLE = 1e-12, 2e-6  # relative, norm-wise

ENGINE = "worst error of the compiled engine"  # followed by what was measured; see conftest.py


def _of_any_size(name: str) -> Any:
    return lambda i, h: variants(i, h, projection=1 + 2 * h // 3)[name]


OPTIONS: dict[str, Any] = {
    name: _of_any_size(name)
    for name, cell in variants(1, 1).items()
    if cell.engine_number is not None
}


@dataclass(frozen=True)
class Example:
    """A cell with its parameters, a run, and the gradients that arrive from above."""

    cell: Any
    p: dict[str, Any]
    inputs: Any
    state: dict[str, Any] | None
    lengths: Any
    doutputs: Any
    dstate: dict[str, Any] | None

    def astype(self, dtype: str) -> Example:
        """The same numbers in another precision."""

        def cast(named: Any) -> Any:
            return None if named is None else {n: a.astype(dtype) for n, a in named.items()}

        indices = np.issubdtype(self.inputs.dtype, np.integer)
        return replace(
            self,
            p=cast(self.p),
            inputs=self.inputs if indices else self.inputs.astype(dtype),
            state=cast(self.state),
            doutputs=None if self.doutputs is None else self.doutputs.astype(dtype),
            dstate=cast(self.dstate),
        )


def example(
    name: str,
    shape: tuple[int, int, int, int],
    *,
    ragged: bool = False,
    indices: bool = False,
    states: bool = True,
    seed: int = 3,
) -> Example:
    """Random numbers that float32 holds exactly, so that both precisions are given the same.

    Weights are uniform in ±1/√N for N columns, biases and peepholes in ±½: no gate saturates, and
    gradients neither vanish nor explode. Ragged lengths go from 0 to T, and T is among them.
    """
    T, B, I, H = shape  # noqa: E741
    cell = OPTIONS[name](I, H)
    rng = np.random.default_rng([seed, *shape])

    def normal(*size: int) -> Any:
        return rng.standard_normal(size).astype("float32")

    p = {}
    for key, size in cell.shapes().items():
        scale = 1 / np.sqrt(size[1]) if len(size) == 2 else 0.5
        p[key] = (rng.uniform(-1, 1, size) * scale).astype("float32")
    lengths = None
    if ragged:
        lengths = rng.integers(0, T + 1, B)
        lengths[rng.integers(B)] = T
    sizes = cell.state_sizes
    return Example(
        cell,
        p,
        rng.integers(0, I, (T, B)) if indices else normal(T, B, I),
        {n: normal(B, s) for n, s in sizes.items()} if states else None,
        lengths,
        normal(T, B, cell.output_size),
        {n: normal(B, s) for n, s in sizes.items()} if states else None,
    ).astype("float64")


def forward(case: Example, engine: str) -> tuple[dict[str, Any], Tape]:
    """Everything that the forward pass gives, by name, and the tape."""
    with tt.engine(engine):
        outputs, final, tape = case.cell.forward(case.p, case.inputs, case.state, case.lengths)
    found = {"outputs": outputs}
    found |= {f"final state {n}": a for n, a in final.items()}
    found |= {f"state {n}": a for n, a in tape.states.items()}
    active = True if tape.active is None else tape.active
    found |= {f"kept {n}": np.where(active, a, 0) for n, a in tape.kept.items()}
    return found, tape


def backward(case: Example, tape: Tape, engine: str, **wishes: Any) -> dict[str, Any]:
    """Everything that the backward pass gives, by name."""
    with tt.engine(engine):
        g = case.cell.backward(case.p, tape, case.doutputs, case.dstate, **wishes)
    found = {f"d{n}": a for n, a in g.parameters.items()}
    found |= {f"dstate {n}": a for n, a in g.state.items()}
    found |= {f"delta {n}": a for n, a in g.deltas.items()}
    return found if g.inputs is None else found | {"dinputs": g.inputs}


def run(case: Example, engine: str = "compiled") -> dict[str, Any]:
    """Forward and backward."""
    found, tape = forward(case, engine)
    return found | backward(case, tape, engine)


def errors(ours: dict[str, Any], truth: dict[str, Any]) -> dict[str, float]:
    """‖ours − truth‖ / ‖truth‖ of each named array."""
    assert set(ours) == set(truth)
    return {name: relative_error(ours[name], truth[name]) for name in truth}


def sensitivity(case: Example, truth: dict[str, Any]) -> dict[str, float]:
    """By how much each result moves, relatively, where all data moves by half a float32 unit.

    Far more than 2⁻²⁴ where a sum's terms nearly cancel: then float32 cannot do better.
    """
    half_unit = 2.0**-24
    moved = dict.fromkeys(truth, 0.0)
    for seed in range(3):
        rng = np.random.default_rng(seed)

        def shake(named: Any, rng: Any = rng) -> Any:
            if isinstance(named, dict):
                return {name: shake(array) for name, array in named.items()}
            if named is None or np.issubdtype(named.dtype, np.integer):
                return named
            return named * (1 + half_unit * rng.choice([-1, 1], named.shape))

        changes = {
            n: shake(getattr(case, n)) for n in ("p", "inputs", "state", "doutputs", "dstate")
        }
        found = errors(run(replace(case, **changes), "readable"), truth)
        moved = {name: max(moved[name], found[name]) for name in moved}
    return moved


def assert_agrees(case: Example, record: Any = None) -> None:
    """The compiled engine, in both precisions, with the readable cells in float64.

    float64 within 1e-12. float32 within 2e-6, or where the problem itself is ill-conditioned,
    within sixteen times what half a unit in the last place of its data does to the result.
    """
    truth = run(case, "readable")
    double = errors(run(case), truth)
    assert max(double.values()) <= DOUBLE, _worst(double)
    single = errors(run(case.astype("float32")), truth)
    beyond = [name for name in single if not single[name] <= SINGLE]
    if beyond:
        allowed = sensitivity(case, truth)
        for name in beyond:
            assert single[name] <= 16 * allowed[name], f"{name}: {single[name]:.1e}"
            del single[name]
    if record:
        record("float64", max(double.values()))
        record("float32", max(single.values()))


def _worst(found: dict[str, float]) -> str:
    name = max(found, key=lambda n: found[n])
    return f"{name}: {found[name]:.2e}"


def assert_same_bits(ours: dict[str, Any], others: dict[str, Any]) -> None:
    assert set(ours) == set(others)
    for name in ours:
        assert ours[name].dtype == others[name].dtype, name
        assert ours[name].tobytes() == others[name].tobytes(), name


def python(code: str, *, timeout: float = 60, **environment: str) -> subprocess.CompletedProcess:
    """Runs code in a process of its own, which finds these modules."""
    return subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", code],
        capture_output=True,
        text=True,
        timeout=timeout,
        env=child_environment(**environment),
    )


def child_environment(**more: str) -> dict[str, str]:
    """This process's environment, where `import engine_examples` works, and `more`."""
    import os

    here = str(Path(__file__).parent)
    path = os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))
    return os.environ | {"PYTHONPATH": path} | more
