"""Damaged files of every kind that is read: none loads as something that nobody saved."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout, suppress
from pathlib import Path

import numpy as np

import throughtime as tt
from throughtime.cli.compare import arrays
from throughtime.gradient_flow import FlowRecord
from throughtime.source import Slices, candidates, read_source
from throughtime.training import Trainer, load_checkpoint
from torture.tally import Tally, folder, judged
from training_examples import settings, text

BATCH = 250  # mutations of a file that one process reads
COLUMNS = """\
numerical gradient: [[ 0.1  -2e-3  0.3]
 [ 4.0   5.0   6.0]]
gradient: tensor([[ 0.1, -2e-3, 0.3],
        [ 4.0, 5.0, 6.0]], dtype=float64)
"""
LARGE = (0, 1, 2**31 - 1, 2**32 - 1, 2**63 - 1, 2**64 - 1)


def mutated(content: bytes, draw: random.Random) -> bytes:
    """One of the ways in which files and lines are damaged."""
    size = len(content)
    a, b = sorted((draw.randrange(size + 1), draw.randrange(size + 1)))
    word = draw.choice(LARGE).to_bytes(8, "little")
    digits = str(10 ** draw.choice((1, 18, 19, 400))).encode()
    ways: list[Callable[[], bytes]] = [
        lambda: _flipped(content, draw),
        lambda: _flipped(content, draw),
        lambda: _flipped(content[:4096], draw) + content[4096:],  # headers are in front
        lambda: content[:a],
        lambda: content[b:],
        lambda: content[:a] + content[b:],
        lambda: content[:a] + content[a:b] * 2 + content[b:],
        lambda: content[:a] + bytes(b - a) + content[b:],
        lambda: content[:a] + draw.randbytes(draw.randrange(1, 9)) + content[a:],
        lambda: content[:a] + word + content[a + 8 :],
        lambda: word + content[8:],
        lambda: _number_replaced(content, digits, draw),
        lambda: content[:a] + draw.choice((b"[", b'{"a":')) * 10**4 + content[a:],
        lambda: content + content[a:b],
    ]
    return draw.choice(ways)()


def _flipped(content: bytes, draw: random.Random) -> bytes:
    if not content:
        return b"\x00"
    damaged = bytearray(content)
    damaged[draw.randrange(len(damaged))] ^= 1 << draw.randrange(8)
    return bytes(damaged)


def _number_replaced(content: bytes, digits: bytes, draw: random.Random) -> bytes:
    places = [k for k, byte in enumerate(content[:20_000]) if 48 <= byte <= 57]
    if not places:
        return content + digits
    place = draw.choice(places)
    return content[:place] + digits + content[place + 1 :]


def mutations(count: int, seed: int = 0) -> Tally:
    """`count` mutations, shared out among the kinds of files."""
    tally = Tally()
    with folder() as place:
        kinds = list(_kinds(place))
        for number, (name, path, read) in enumerate(kinds):
            whole, right = path.read_bytes(), read(path)
            own = count // len(kinds) + (number < count % len(kinds))
            draw = random.Random(f"{seed} {name}")
            for first in range(0, own, BATCH):
                contents = [mutated(whole, draw) for _ in range(min(BATCH, own - first))]
                tally.add(judged(_attempts(name, path, contents, whole, read, right)))
    return tally


def _attempts(
    name: str,
    path: Path,
    contents: list[bytes],
    whole: bytes,
    read: Callable[[Path], object],
    right: object,
) -> Iterator[tuple[str, Callable[[], str]]]:
    for number, content in enumerate(contents):

        def attempt(content: bytes = content) -> str:
            path.write_bytes(content)
            try:
                found = read(path)
            except UserWarning:
                return ""
            known = right is None or content == whole or found == right
            if isinstance(found, dict) and isinstance(right, dict):  # some of them may be missing
                known = found.items() <= right.items()
            return "" if known else "loads as something else"

        yield f"{name} {number}", attempt


def _kinds(place: Path) -> Iterator[tuple[str, Path, Callable[[Path], object]]]:
    """Name, a right file, and what it holds; None where nothing in a file vouches for it."""
    trainer = Trainer(text(), settings())
    trainer.fit(4, validate_every=3, out=place / "checkpoint")
    yield "checkpoint", place / "checkpoint", _checkpoint
    net = tt.Network([tt.GRU(2, 3), tt.Dense(3, 2)], loss=tt.MeanSquaredError(), seed=0)
    net.save(place / "network")
    yield "network", place / "network", _network
    net.parameters.save(place / "parameters")
    yield "parameters", place / "parameters", _parameters
    np.savez(place / "a.npz", **net.parameters)
    yield "npz", place / "a.npz", _arrays
    np.save(place / "a.npy", net.parameters.flat)
    yield "npy", place / "a.npy", lambda path: arrays(str(path)) and None
    pairs = "\n".join(f"W[{k},{k + 1}] {0.1 * k:.6g} {0.1 * k:.6g}" for k in range(40))
    (place / "pairs.txt").write_text(pairs)
    yield "pairs", place / "pairs.txt", _pairs
    from torture.own_files import NET  # whose file needs this one

    (place / "columns.txt").write_text(COLUMNS)
    yield "columns", place / "columns.txt", _pairs
    (place / "net.py").write_text(NET, "utf-8")
    yield "python", place / "net.py", _source
    cells = [{"cell_type": "code", "source": [line]} for line in NET.splitlines(keepends=True)]
    (place / "net.ipynb").write_text(json.dumps({"cells": cells, "nbformat": 4}))
    yield "notebook", place / "net.ipynb", _source
    recorder = tt.FlowRecorder(place / "flow.jsonl", live=False)
    x, y = np.ones((6, 2, 2)), np.zeros((6, 2, 2))
    recorder.look(net, x.astype("f4"), y.astype("f4"))
    recorder.close()
    yield "flow record", place / "flow.jsonl", lambda path: str(FlowRecord.read(path)) and None
    (place / "text.txt").write_text(text(60).characters, "utf-8")
    yield "text", place / "text.txt", _text


def _trusting(read: Callable[[], object]) -> object:
    """A file that says that it has no checksums says so in a warning, which counts as noticed."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return read()


def _checkpoint(path: Path) -> object:
    saved = _trusting(lambda: load_checkpoint(path))
    described = json.dumps([saved.network.describe(), saved.vocabulary.characters])  # type: ignore[attr-defined]
    parts = (saved.network.parameters, saved.optimiser, saved.state)  # type: ignore[attr-defined]
    numbers = [(name, array.tobytes()) for part in parts for name, array in part.items()]
    rest = (saved.settings, saved.position, saved.plan, saved.source, saved.history, saved.recent)  # type: ignore[attr-defined]
    return described, numbers, rest


def _network(path: Path) -> object:
    net = _trusting(lambda: tt.Network.load(path))
    return net.describe(), net.parameters.flat.tobytes()  # type: ignore[attr-defined]


def _parameters(path: Path) -> object:
    found = _trusting(lambda: tt.Parameters.load(path))
    return [(n, a.tobytes()) for n, a in found.items()]  # type: ignore[attr-defined]


def _arrays(path: Path) -> object:
    """A zip file has a checksum for each array, and none for how many there are."""
    return {n: a.tobytes() for n, a in arrays(str(path)).items()}


def _pairs(path: Path) -> None:
    """Nothing vouches for what a program printed; it is read or refused."""
    from throughtime.cli import compare

    with redirect_stdout(io.StringIO()):
        tt.compare(text=compare._text(str(path)))


def _source(path: Path) -> None:
    """A user's own file, read and looked through, and not run."""
    import ast

    from throughtime.cli.own_file import is_own_file

    if is_own_file(str(path)):
        with suppress(SyntaxError):  # which is said
            tree = ast.parse(read_source(path).text)
            candidates(tree, Slices(tree))


def _text(path: Path) -> None:
    from throughtime.training import read

    read([path])
