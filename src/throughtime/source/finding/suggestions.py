"""What to type where a file cannot be read: one training step as a line for `--with`."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Sequence

from throughtime.source.finding.candidates import Candidate, Function, arguments
from throughtime.source.finding.constructors import constructors
from throughtime.source.meanings import BATCH, HIDDEN, INPUTS, STEPS, VALUES, role, size_kind
from throughtime.source.slices import Slices

NUMBERS = f"np.random.randn({STEPS}, {INPUTS})"
CLASSES = f"np.random.randint({INPUTS}, size={STEPS})"
DATA = (
    NUMBERS,
    f"np.random.randn({STEPS}, {INPUTS}, 1)",
    CLASSES,
    f"np.random.randn({BATCH}, {STEPS}, {INPUTS})",
    f"np.random.randn({STEPS}, {BATCH}, {INPUTS})",
    f"np.random.randn({INPUTS}, {BATCH}, {STEPS})",
    f"np.random.randn({BATCH}, {STEPS})",
)
DRAWN = re.compile(r"\b([xy]) = np\.random\.\w+\([^;]*\)")
OF_CLASSES = re.compile(r"ind(ex|ices)|idx|ids?$|tokens?|words?|labels?", re.IGNORECASE)
LOSS = "loss = 0.5 * np.sum((out - y) ** 2)"
NO_DEFINITION = "no class or function"
MOST_NAMES = 8  # of a file's definitions that are said


def training_steps(slices: Slices, candidate: Candidate | None) -> Iterator[str]:
    """Lines that run a candidate as far as it is known, with one form of data after another.

    Where `...` stands for what is not known, there is one.
    """
    first = training_step(slices, candidate)
    yield first
    if "..." in first:
        return
    given = re.search(r"; y = (np\.random\.\w+\([^;]*\))", first)
    for data in DATA:
        for aim in dict.fromkeys((data, given[1] if given else data, *DATA)):
            yield _with_data(first, {"x": data, "y": aim})


def _with_data(line: str, forms: Mapping[str, str]) -> str:
    return DRAWN.sub(lambda found: f"{found[1]} = {forms[found[1]]}", line)


def training_step(slices: Slices, candidate: Candidate | None) -> str:
    """The line that runs a candidate as far as it is known; `...` stands for what is not."""
    if candidate is None:
        return f"net = ...; x = {NUMBERS}; y = {NUMBERS}; out = ...; loss = ...; ..."
    method = candidate.owner is not None
    prefix = "net." if method else ""
    passes = [f for f in (candidate.forward, candidate.backward) if f is not None]
    parts = []
    if candidate.owner is not None:
        made = constructors(slices, candidate.owner.name)[:1]
        short = made if made and len(made[0]) < 80 else [f"{candidate.owner.name}(...)"]
        parts.append(f"net = {short[0]}")
    elif any(role(name) == "parameters" for f in passes for name in arguments(f, method=False)[0]):
        parts.append("params = ...")
    names = [n for f in passes for n in arguments(f, method=method)[0]]
    parts += [
        f"{short} = {_data(names, kind)}" for short, kind in (("x", "inputs"), ("y", "target"))
    ]
    if any(role(n) == "state" for n in names):
        parts.append(f"h = np.zeros(({HIDDEN}, 1))")
    if candidate.forward is not None:
        parts.append(f"out = {_call(candidate.forward, prefix, method=method, first=True)}")
        parts.append(_loss(candidate, method))
        parts.append(_call(candidate.backward, prefix, method=method))
    else:
        parts.append(f"loss, *grads = {_call(candidate.backward, prefix, method=method)}")
    return "; ".join(parts)


def _loss(candidate: Candidate, method: bool) -> str:
    for prefix, function in candidate.losses:
        if prefix == "net." or not method:
            return f"loss = {_call(function, prefix, method=prefix == 'net.')}"
    return LOSS


def _data(names: Sequence[str], kind: str) -> str:
    """Numbers, or classes where an argument of that kind is called so."""
    own = [name for name in names if role(name) == kind]
    return CLASSES if any(map(OF_CLASSES.search, own)) else NUMBERS


def _call(function: Function, prefix: str, *, method: bool, first: bool = False) -> str:
    words = [_given(name) for name in arguments(function, method=method)[0]]
    if first:  # there is no output yet
        words = ["x" if "out" in word else word for word in words]
    return f"{prefix}{function.name}({', '.join(words)})"


def _given(name: str) -> str:
    """What a name means in the line."""
    kinds = {"inputs": "x", "target": "y", "prediction": "out", "upstream": "out - y",
             "parameters": "params", "state": "h", "rate": "0.1", "cache": "out[-1]"}  # fmt: skip
    if kind := role(name):
        return kinds[kind]
    sizes = VALUES.get(size_kind(name), ["..."])[0]
    return str(STEPS) if sizes == "T" else sizes


def definitions_said(tree: ast.Module) -> str:
    """The classes and functions of a file, in words."""
    names = [n.name for n in tree.body if isinstance(n, ast.ClassDef | ast.FunctionDef)]
    if not names:
        return NO_DEFINITION
    more = f" and {len(names) - MOST_NAMES} others" if len(names) > MOST_NAMES else ""
    return f"{', '.join(names[:MOST_NAMES])}{more}"


def is_autograd(tree: ast.Module, candidates: Sequence[Candidate]) -> bool:
    """Whether gradients are torch's own: modules, and `loss.backward()` without a pass by hand."""
    modules = {
        n.name
        for n in tree.body
        if isinstance(n, ast.ClassDef) and any("Module" in ast.unparse(b) for b in n.bases)
    }
    called = any(
        isinstance(part, ast.Call)
        and isinstance(part.func, ast.Attribute)
        and part.func.attr == "backward"
        and not part.args
        and "loss" in ast.unparse(part.func.value).lower()
        for part in ast.walk(tree)
    )
    by_hand = [c for c in candidates if re.search(r"back|bptt|grad|loss_?f", c.backward.name)]
    torch = any(
        (
            isinstance(n, ast.Import | ast.ImportFrom)
            and any((a.name or "").startswith("torch") for a in n.names)
        )
        or (isinstance(n, ast.ImportFrom) and (n.module or "").startswith("torch"))
        for n in tree.body
    )
    return torch and (called or bool(modules) or not candidates) and not by_hand
