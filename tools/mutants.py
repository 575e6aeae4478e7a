"""Breaks every backward pass on purpose, in one place at a time; the tests must notice each.

A mutant is the package with one expression changed: a sign flipped, a term or a factor dropped,
a transpose forgotten, or a slice moved by one step. For each mutant, a copy of the package is put
in front of the installed one, and the fast tests run against it: first those of the changed file
and then, if they notice nothing, all of them. Every mutant that survives is shown with its change.

    python tools/mutants.py [--quick] [--jobs 2] [--list] [--only cells/lstm.py]

The exit status is 0 if every mutant is caught or known to change nothing, 1 if one survives, and 3
if the run itself could not be made.
"""

from __future__ import annotations

import argparse
import difflib
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from mutations import Mutant, mutants_of
from tqdm import tqdm

from throughtime import _engine

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "throughtime"
TIMEOUT = 120  # seconds; an endless loop counts as caught

# An editable installation puts its own finder before PYTHONPATH.
PREFER_THE_COPY = """\
import sys

sys.meta_path = [f for f in sys.meta_path if type(f).__name__ != "ScikitBuildRedirectingFinder"]
"""

STEP = {"step_backward", "parameter_gradients"}


@dataclass(frozen=True)
class MutatedFile:
    """The functions of one file that are mutated, and the tests that run first."""

    file: str
    functions: frozenset[str]
    first: tuple[str, ...]


def _place(file: str, functions: set[str], *first: str) -> MutatedFile:
    return MutatedFile(file, frozenset(functions), first)


CELLS, NETWORK = "tests/test_cells.py", "tests/test_network.py"
PLACES = [
    _place("functions.py", {"sigmoid_slope", "tanh_slope", "relu_slope"}, CELLS, "-k", "RNN"),
    _place("functions.py", {"outer_sum", "weight_gradient", "input_gradient"}, CELLS),
    _place(
        "cells/recurrence.py",
        {"backward", "added"},
        *(CELLS, "tests/test_properties.py", "-k", "RNN or upstream or stretch"),
    ),
    _place(
        "cells/tape.py",
        {"active_steps", "steps"},
        *(CELLS, "tests/test_properties.py", "-k", "RNN or upstream or stretch"),
    ),
    _place("cells/rnn.py", STEP, CELLS, "-k", "RNN"),
    _place("cells/lstm.py", STEP, CELLS, "-k", "LSTM"),
    _place("cells/gru.py", STEP, CELLS, "-k", "GRU"),
    _place(
        "network/layers.py",
        {"forward", "backward", "parameter_gradients", "steps"},
        *(NETWORK, CELLS, "-k", "Dense or Embedding or Dropout"),
    ),
    _place(
        "network/recurrent.py",
        {"backward", "parameter_gradients", "steps", "states", "state_after", "kept", "reverse"},
        *(NETWORK, CELLS, "-k", "inside or RNN or stacked"),
    ),
    _place(
        "network/bfloat16.py",
        {"forward", "backward", "parameter_gradients"},
        "tests/test_bfloat16.py",
    ),
    _place("network/losses.py", {"weights", "evaluate", "errors"}, "tests/test_losses.py"),
    _place(
        "network/stack.py",
        {"backward", "state_after"},
        *(NETWORK, CELLS, "-k", "stacked"),
    ),
    _place("network/network.py", {"backward", "gradients"}, NETWORK),
    _place(
        "network/data.py",
        {"steps"},
        *(NETWORK, "tests/test_truncation.py", "-k", "not frozen"),
    ),
    _place(
        "network/truncation.py",
        {"windows", "truncated_loss_and_gradient", "merged_windows", "differentiate_window"},
        *("tests/test_truncation.py", "-k", "not frozen"),
    ),
    _place(
        "network/per_step_gradients.py",
        {"contributions", "gradient", "norms"},
        *("tests/test_truncation.py", "-k", "contributions"),
    ),
]
ENGINES = ("readable", "compiled")  # at first the cells that are mutated compute the results
EVERY = (
    *("tests/test_cells.py", "tests/test_losses.py", "tests/test_network.py"),
    "tests/test_bad_input.py",
    *("tests/test_properties.py", "tests/test_torch_cells.py", "tests/test_torch_losses.py"),
    *("tests/test_truncation.py", "-k", "not frozen"),
)

# Changes that affect no result: (file, the changed line) -> the reason.
EQUIVALENT = {
    (
        "cells/recurrence.py",
        "if (False and (use_compiled() and compiled.has_twin(self))):",
    ): "which engine answers does not change the results",
    (
        "cells/recurrence.py",
        "if (compiled.has_twin(self)):",
    ): "which engine answers does not change the results",
    (
        "cells/recurrence.py",
        "if (use_compiled()):",
    ): "every cell of the package has a twin; only a class derived from one has not",
    (
        "cells/tape.py",
        "(None),",
    ): "what the compiled twin is not handed in one array, it puts together itself",
    (
        "network/losses.py",
        "if not ((is_indices(targets))):",
    ): "which engine answers does not change the results",
    (
        "network/layers.py",
        "if (False and (use_compiled())):",
    ): "which engine answers does not change the results",
    (
        "network/layers.py",
        "kept = ((rng.random(inputs.shape, dtype=np.float32)) > (self.rate))",
    ): "the masks differ where a draw equals the rate exactly, once in 2²⁴ draws",
    (
        "network/recurrent.py",
        "source = np.where(((t) <= (lengths)), lengths - 1 - t, t)",
    ): "moves only a step beyond the sequence's end, which nothing reads",
    (
        "network/recurrent.py",
        "source = (lengths - 1 - t)",
    ): "beyond the sequence's end it counts from the batch's end, and nothing reads those steps",
    (
        "network/losses.py",
        "sigma = np.where(((outputs) > (0)), 1, decay) / (1 + decay)",
    ): "at 0 itself both sides are 1",
    (
        "network/truncation.py",
        "doutputs = (loss.doutputs[window.start:window.stop])",
    ): "what is set to 0 belongs to windows that are done",
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="every tenth mutant alone")
    parser.add_argument("--jobs", type=int, default=2, help="tests at a time (default: 2)")
    parser.add_argument("--list", action="store_true", help="show the mutants, run nothing")
    parser.add_argument("--only", default="", metavar="FILE", help="the mutants of one file")
    options = parser.parse_args()

    places = [place for place in PLACES if options.only in ("", place.file)]
    if not places:
        print(f"--only: expected one of {', '.join(p.file for p in PLACES)}", file=sys.stderr)
        return 3
    if options.list:
        for place, mutant in _mutants(places, PACKAGE, options.quick):
            print(f"{place.file}:{mutant.line}: {mutant.what}: {mutant.after}")
        return 0
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the copies are removed
    try:
        with Copies(options.jobs) as copies:
            mutants = _mutants(places, copies.pristine, options.quick)
            copies.check([place.first for place in places])
            survivors = copies.run(mutants)
            whole = not (options.quick or options.only)
            return _report(mutants, survivors, whole, copies.pristine)
    except Unusable as problem:
        print(problem, file=sys.stderr)
        return 3


def _mutants(
    places: list[MutatedFile], package: Path, quick: bool
) -> list[tuple[MutatedFile, Mutant]]:
    found = [
        (place, mutant)
        for place in places
        for mutant in mutants_of((package / place.file).read_text("utf-8"), place.functions)
    ]
    return found[::10] if quick else found


class Unusable(Exception):
    """The run would be meaningless, or its tests could not be run."""


class Copies:
    """Copies of the package and its tests, one for each test that runs at the same time.

    Nothing is read from the working tree after they are made. Otherwise a file that is edited
    during the run could break the tests, and every mutant would seem to be caught.
    """

    def __init__(self, jobs: int) -> None:
        self.jobs = jobs

    def __enter__(self) -> Self:
        self.folder = Path(tempfile.mkdtemp(prefix="mutants-"))
        self.free: queue.Queue[Path] = queue.Queue()
        first = self.folder / "pristine"
        self.pristine = first / "throughtime"
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(PACKAGE, self.pristine, ignore=ignored)
        shutil.copy(_engine.__file__, self.pristine)
        shutil.copytree(ROOT / "tests", first / "tests", ignore=ignored)
        shutil.copy(ROOT / "pyproject.toml", first)
        (first / "sitecustomize.py").write_text(PREFER_THE_COPY)
        for job in range(self.jobs):
            self.free.put(shutil.copytree(first, self.folder / str(job)))
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.folder)

    def check(self, selections: list[tuple[str, ...]]) -> None:
        """Confirms that the copy is imported and that every selection passes without a mutant."""
        copy = self.folder / "0"
        found = subprocess.run(
            [sys.executable, "-c", "import throughtime; print(throughtime.__file__)"],
            env=_environment(copy, ENGINES[0]),
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        if not found.startswith(str(copy)):
            raise Unusable(f"the tests would import {found.strip()} in place of that in {copy}")
        for selection, engine in _stages(*dict.fromkeys(selections)):
            if _fail(copy, selection, engine):
                raise Unusable(f"without a mutant, {' '.join(selection)} fails ({engine})")

    def run(self, mutants: list[tuple[MutatedFile, Mutant]]) -> list[tuple[MutatedFile, Mutant]]:
        """The mutants that no test notices."""
        with ThreadPoolExecutor(self.jobs) as pool:
            caught = list(
                tqdm(
                    pool.map(lambda pair: self._caught(*pair), mutants),
                    total=len(mutants),
                    desc="mutants",
                    unit="",
                )
            )
        return [pair for pair, noticed in zip(mutants, caught, strict=True) if not noticed]

    def _caught(self, place: MutatedFile, mutant: Mutant) -> bool:
        copy = self.free.get()
        path = copy / "throughtime" / place.file
        try:
            path.write_text(mutant.source, encoding="utf-8")
            caught = any(_fail(copy, *stage) for stage in _stages(place.first))
            if not caught:
                tqdm.write(f"survived: {place.file}:{mutant.line}: {mutant.after}", sys.stderr)
            return caught
        finally:
            shutil.copy(self.pristine / place.file, path)
            self.free.put(copy)


def _stages(*first: tuple[str, ...]) -> list[tuple[tuple[str, ...], str]]:
    """The tests and their engine: first those of the file, then all, then all compiled."""
    return [(selection, ENGINES[0]) for selection in first] + [(EVERY, e) for e in ENGINES]


def _environment(copy: Path, engine: str) -> dict[str, str]:
    """The environment, in which the copy comes first."""
    one_core = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    chosen = {"PYTHONPATH": str(copy), "THROUGHTIME_ENGINE": engine}
    return os.environ | one_core | chosen | {"PYTHONDONTWRITEBYTECODE": "1"}


def _fail(copy: Path, selection: tuple[str, ...], engine: str) -> bool:
    """Whether a test fails or does not end; any other problem ends the run."""
    plugins = ["-p", "no:cacheprovider", "-p", "no:xdist"]
    command = [sys.executable, "-m", "pytest", "-x", "-q", *plugins, *selection]
    try:
        done = subprocess.run(
            command,
            cwd=copy,
            env=_environment(copy, engine),
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
        )
    except subprocess.TimeoutExpired:
        return True
    if done.returncode not in (0, 1):  # 1: the tests ran, and some failed
        raise Unusable(f"{done.stdout}{done.stderr}\npytest ended with {done.returncode}")
    return done.returncode == 1


def _report(
    mutants: list[tuple[MutatedFile, Mutant]],
    survivors: list[tuple[MutatedFile, Mutant]],
    whole: bool,
    package: Path,
) -> int:
    known = [(p, m) for p, m in survivors if (p.file, m.after) in EQUIVALENT]
    unknown = [pair for pair in survivors if pair not in known]
    made = Counter(place.file for place, _ in mutants)
    alive = Counter(place.file for place, _ in unknown)
    same = Counter(place.file for place, _ in known)
    print(f"{'file':24} {'made':>6} {'caught':>7} {'equivalent':>11} {'survived':>9}")
    for file in made:
        caught = made[file] - alive[file] - same[file]
        print(f"{file:24} {made[file]:6} {caught:7} {same[file]:11} {alive[file]:9}")
    total = len(mutants) - len(survivors)
    print(f"{'all':24} {len(mutants):6} {total:7} {len(known):11} {len(unknown):9}")
    for place, mutant in unknown:
        before = (package / place.file).read_text(encoding="utf-8").splitlines()
        change = difflib.unified_diff(before, mutant.source.splitlines(), lineterm="", n=0)
        print(f"\nsurvived: src/throughtime/{place.file}:{mutant.line}: {mutant.what}")
        print("\n".join(list(change)[3:]))
    stale = set(EQUIVALENT) - {(place.file, mutant.after) for place, mutant in known}
    if whole and stale:
        print("\nno longer survivors, to be taken off the list of equivalents:")
        print("\n".join(f"{file}: {line}" for file, line in sorted(stale)))
    return 1 if unknown or (whole and stale) else 0


if __name__ == "__main__":
    sys.exit(main())
