"""What to type where a file cannot be read: one training step as a line for `--with`."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Sequence

from throughtime.source.finding.candidates import Candidate, Function, arguments, is_step, returned
from throughtime.source.finding.constructors import constructors, own_literals
from throughtime.source.finding.forms import Sizes
from throughtime.source.finding.models import IMPORT
from throughtime.source.finding.reading import Reading
from throughtime.source.meanings import BATCH, LONGEST, STEPS, VALUES, role, size_kind
from throughtime.source.slices import Slices

DRAWN = re.compile(r"\b([xy]) = np\.random\.\w+\([^;]*\)")
OF_CLASSES = re.compile(r"ind(ex|ices)|idx|ids?$|tokens?|words?|labels?", re.IGNORECASE)
LOSS = "loss = 0.5 * np.sum((out - y) ** 2)"
NO_DEFINITION = "no class or function"
MOST_NAMES = 8  # of a file's definitions that are said


def data_of(sizes: Sizes) -> tuple[str, ...]:
    """Expressions of data, the likelier first."""
    inputs = sizes.inputs
    return (
        f"np.random.randn({STEPS}, {inputs})",
        f"np.random.randn({STEPS}, {inputs}, 1)",
        f"np.random.randint({inputs}, size={STEPS})",
        f"np.random.randn({BATCH}, {STEPS}, {inputs})",
        f"np.random.randn({STEPS}, {BATCH}, {inputs})",
        f"np.random.randn({inputs}, {BATCH}, {STEPS})",
        f"np.random.randn({BATCH}, {inputs}, {STEPS})",
        f"np.random.randn({BATCH}, {STEPS})",
        f"np.random.randn({inputs}, 1)",
        f"np.random.randn({STEPS}, 1, 1)",
    )


def training_steps(
    slices: Slices, candidate: Candidate, sizes: Sizes | None = None, made: str = ""
) -> Iterator[str]:
    """Lines that run a candidate as far as it is known, with one form of data after another.

    Args:
        slices, candidate: what is run.
        sizes: of the data.
        made: a statement that makes what it needs, where one is known to run.
    """
    sizes = sizes or Sizes()
    first = training_step(slices, candidate, sizes, made)
    yield first
    given = re.search(r"; y = (np\.random\.\w+\([^;]*\))", first)
    aims = data_of(Sizes(sizes.outputs, sizes.hidden, sizes.outputs))
    for data in data_of(sizes):
        for aim in dict.fromkeys((given[1] if given else data, *aims)):
            yield _with_data(first, {"x": data, "y": aim})


def _with_data(line: str, forms: Mapping[str, str]) -> str:
    return DRAWN.sub(lambda found: f"{found[1]} = {forms[found[1]]}", line)


def training_step(
    slices: Slices, candidate: Candidate, sizes: Sizes | None = None, made: str = ""
) -> str:
    """The line that runs a candidate as far as it is known; arguments are as `training_steps`'."""
    sizes = sizes or Sizes()
    method = candidate.owner is not None
    prefix = "net." if method else ""
    passes = [f for f in (candidate.forward, candidate.backward) if f is not None]
    settings = {
        name: text
        for f in passes
        for name, text in own_literals(slices, f.name, arguments(f, method=method)[0]).items()
        if not size_kind(name)
    }
    parts = [made] if made else []
    if candidate.owner is not None and not made:
        calls = constructors(slices, candidate.owner.name)[:1]
        parts.append(f"net = {calls[0] if calls else candidate.owner.name + '()'}")
    names = [n for f in passes for n in arguments(f, method=method)[0]]
    if not method and not made and any(role(name) == "parameters" for name in names):
        parts.append(f"params = [np.random.randn({sizes.hidden}, {sizes.inputs})]")
    wide = {"inputs": sizes.inputs, "target": sizes.outputs}
    drawn = [
        f"{short} = {_data(names, kind, wide[kind])}"
        for short, kind in (("x", "inputs"), ("y", "target"))
    ]
    in_constructor = any(re.search(r"[(, =][xy][,)]", part) for part in parts)
    parts = [*drawn, *parts] if in_constructor else [*parts, *drawn]
    if any(role(n) == "rate" for n in names):
        parts.append("rate = 0.1")
    if any(role(n) == "state" for n in names):
        parts.append(f"h = np.zeros(({sizes.hidden}, 1))")

    def called(function: Function, prefix: str, *, first: bool = False) -> str:
        own = method if function in passes else prefix == "net."
        return _call(function, prefix, settings, method=own, first=first)

    if candidate.forward is not None:
        given = returned(candidate.forward)
        if len(given) > 1 and all(name.isidentifier() for name in given) and given[0] not in "xy":
            call = called(candidate.forward, prefix, first=True)
            settings |= {name: name for name in given}
            parts.append(f"{', '.join(given)} = {call}")
            parts.append(f"out = {next((n for n in given if role(n) == 'prediction'), given[0])}")
        else:
            call = called(candidate.forward, prefix, first=True)
            if is_step(candidate.forward, candidate.backward):
                single = re.sub(r"\bx\b", "v", call)
                call = f"[{single} for v in x]"
            kept = "" if given else _kept(candidate.forward)
            parts += [call, f"out = np.array({kept})"] if kept else [f"out = {call}"]
        losses = [(p, f) for p, f in candidate.losses if p == "net." or not method]
        parts.append(f"loss = {called(losses[0][1], losses[0][0])}" if losses else LOSS)
        parts.append(called(candidate.backward, prefix))
    else:
        parts.append(f"loss, *grads = {called(candidate.backward, prefix, first=True)}")
    return "; ".join(parts)


def line_of(reading: Reading) -> str:
    """A reading as one line of statements; "" where it has compound ones."""
    data = reading.data.replace(f"{IMPORT}\n", "").replace("draw.standard_normal(", "0.0 + randn(")
    data = re.sub(r"0\.0 \+ randn\(\((.*?)\)\)", r"np.random.randn(\1)", data)
    data = data.replace("0.0 + randn(", "np.random.randn(").replace(str(LONGEST), str(STEPS))
    data = data.replace("draw.integers(", "np.random.randint(")
    gradient = re.sub(r"\b0\.1(?=[,)])", "rate", reading.gradient)
    rate = "" if gradient == reading.gradient else "rate = 0.1"
    texts = (data, reading.setup, rate, reading.run, reading.loss, gradient)
    lines = [line for text in texts for line in text.splitlines() if line.strip()]
    if any(line[0].isspace() or line.endswith(":") for line in lines) or "loss" not in reading.loss:
        return ""
    return "; ".join(dict.fromkeys(lines))


def _kept(forward: Function) -> str:
    """Where a forward pass that returns nothing keeps its output, "" where that is not clear."""
    found = ""
    for part in ast.walk(forward):
        place = part
        if isinstance(part, ast.Call) and getattr(part.func, "attr", "") == "append":
            place = part.func.value  # type: ignore[attr-defined]
        elif not (isinstance(part, ast.Attribute) and isinstance(part.ctx, ast.Store)):
            continue
        name = ast.unparse(place)
        if name.startswith("self.") and role(name[5:]) in ("prediction", "state"):
            better = role(name[5:]) == "prediction" or place is not part
            found = name if better or not found else found
    return re.sub("^self", "net", found)


def _data(names: Sequence[str], kind: str, size: int) -> str:
    """Numbers, or classes where an argument of that kind is called so."""
    own = [name for name in names if role(name) == kind]
    if any(map(OF_CLASSES.search, own)):
        return f"np.random.randint({size}, size={STEPS})"
    return f"np.random.randn({STEPS}, {size})"


def _call(
    function: Function,
    prefix: str,
    settings: Mapping[str, str],
    *,
    method: bool,
    first: bool = False,
) -> str:
    words = [settings.get(name) or _given(name) for name in arguments(function, method=method)[0]]
    if first:  # there is no output yet
        words = ["x" if "out" in word else word for word in words]
    return f"{prefix}{function.name}({', '.join(words)})"


def _given(name: str) -> str:
    """What a name means in the line; the data where it says nothing."""
    kinds = {"inputs": "x", "target": "y", "prediction": "out", "upstream": "out - y",
             "parameters": "params", "state": "h", "rate": "rate", "cache": "out[-1]"}  # fmt: skip
    if kind := role(name):
        return kinds[kind]
    sizes = VALUES.get(size_kind(name), ["x"])[0]
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
