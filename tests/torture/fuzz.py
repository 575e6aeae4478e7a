"""The three parsers under atheris, which is guided by what each input reaches.

    pip install atheris
    PYTHONPATH=tests .venv/bin/python -m torture.fuzz file|line|text [-runs=100000]

It ends with a traceback where a parser raises what is no refusal. There are wheels of atheris for
some versions of Python on Linux only, so that no test needs it.
"""

from __future__ import annotations

import json
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

try:
    import atheris
except ImportError:
    atheris = None

if atheris is not None:
    with atheris.instrument_imports(include=["throughtime"]):
        import throughtime as tt
        from throughtime.diagnosis.printed import read
        from throughtime.gradient_flow import FlowRecord
        from throughtime.targets.channel import Channel
        from throughtime.targets.program import read_description
        from throughtime.training import load_checkpoint
from torture.tally import REFUSALS


def file(data: bytes) -> None:
    """A checkpoint, a network and a record, all from the same bytes."""
    path = Path(tempfile.gettempdir(), f"throughtime-fuzz-{id(file)}")
    path.write_bytes(data)
    for load in (load_checkpoint, tt.Network.load, tt.Parameters.load, FlowRecord.read):
        _refused(lambda load=load: load(path))


def line(data: bytes) -> None:
    """What a program answers, when asked to describe itself."""
    _refused(lambda: read_description("program", _Answers()._answer(data, "now")))


def text(data: bytes) -> None:
    """What a program printed."""
    _refused(lambda: read(data.decode(errors="replace")))


def _refused(parse: Callable[[], object]) -> None:
    try:
        parse()
    except (*REFUSALS, tt.CheckError):
        pass


if atheris is not None:

    class _Answers(Channel):
        """A channel without a program."""

        def __init__(self) -> None:
            self.name = "program"

        def _say(self, message: str) -> NoReturn:
            raise tt.CheckError(message)


SEEDS = {
    "line": [json.dumps({"names": ["W"], "shapes": [[2, 3]], "dtype": "float64", "steps": 3})],
    "text": ["W[0,0] 0.025 0.05\nb[0] 0.1 0.2\n", "analytic numeric\n1.0 1.0\n2.5e-3 2e-3\n"],
}


def _seeds(name: str, folder: Path) -> None:
    """What the fuzzer begins with."""
    for number, words in enumerate(SEEDS.get(name, [])):
        (folder / str(number)).write_text(words)
    if name == "file":
        net = tt.Network([tt.RNN(1, 1)], loss=tt.MeanSquaredError(), seed=0)
        net.save(folder / "network")
        net.parameters.save(folder / "parameters")


def main() -> None:
    """Fuzzes one of the parsers."""
    if atheris is None:
        sys.exit("fuzz: expected atheris, which is not installed; pip install atheris")
    parsers = {"file": file, "line": line, "text": text}
    if len(sys.argv) < 2 or sys.argv[1] not in parsers:
        sys.exit(f"fuzz: expected one of {', '.join(parsers)}")
    name = sys.argv.pop(1)
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as corpus:
        _seeds(name, Path(corpus))
        atheris.Setup([*sys.argv, corpus], parsers[name])
        atheris.Fuzz()


if __name__ == "__main__":
    main()
