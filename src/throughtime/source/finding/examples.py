"""How a file's own code, or a script beside it, makes an object: in several statements.

A network of layers is often made by `net = Net(...)`, `net.add(...)` and `net.compile(...)`. What
its author has written down needs no guess.
"""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Iterator, Sequence

from throughtime.gradcheck import CheckError
from throughtime.source.bench import Bench
from throughtime.source.finding.candidates import arguments, methods
from throughtime.source.meanings import BACKWARD, FORWARD, LOSS, VALUES, size_kind
from throughtime.source.slices import Slices, names_set

USES = re.compile(
    r"train|fit|learn|predict|sample|generat|plot|show|save|load|print|summary|evaluat|test|valid"
    r"|accura|score|read|export|check|preproc|sgd|adam|optimi[sz]e",
    re.I,
)
"""Methods that use an object, after which it is made."""
MADE_SMALL = ("batch", "steps", "once")
RECURRENT = re.compile(r"lstm|rnn|gru|recurr|elman|rlayer", re.I)


def examples(tree: ast.Module, slices: Slices, name: str) -> Iterator[str]:
    """Statements that leave an object of a class in `net`, as a file's own code makes it.

    Those alone that say more than a call of the class with numbers.

    Args:
        tree: of the file, or of a script that imports it.
        slices: of the file that defines the class.
        name: of the class.

    Example:
        >>> tree = ast.parse("class Net: pass\\nn = Net()\\nn.add(3)\\nn.fit(x)")
        >>> list(examples(tree, Slices(tree), "Net"))
        ['n = Net()\\nn.add(3)\\nnet = n']
    """
    found: dict[str, None] = {}
    for body in _scopes(tree):
        for n, node in enumerate(body):
            value = node.value if isinstance(node, ast.Assign) else None
            target = node.targets[0] if isinstance(node, ast.Assign) else None
            if not isinstance(value, ast.Call) or not isinstance(target, ast.Name):
                continue
            if getattr(value.func, "attr", getattr(value.func, "id", "")) != name:
                continue
            calls = list(_until_used(body[n + 1 :], target.id))
            if not calls and not _is_nested(value):
                continue
            made = [node, *(_made_small(call, slices, name) for call in calls)]
            found[_whole(tree, body[:n], made, target.id)] = None
    yield from sorted(found, key=lambda text: not RECURRENT.search(text))


def as_it_runs(bench: Bench, start: str, text: str) -> str:
    """Those statements of an example that run; "" where no object is left in `net`.

    What sets a size of data that are not there sets a small one.

    Args:
        bench: the user's file.
        start: statements that come before.
        text: the example.
    """
    kept: list[str] = []
    failures: list[str] = []
    if not bench.runs(start, failures):
        return ""
    for node in ast.parse(text).body:
        line = ast.unparse(node)
        for name in sorted(_lacking(node, bench)):
            if (kind := size_kind(name)) in VALUES:  # of a function that makes the network
                kept.append(f"{name} = {VALUES[kind][0]}")
                bench.go_on(kept[-1])
        try:
            bench.go_on(line)
            kept.append(line)
        except CheckError:
            if isinstance(node, ast.Expr) or line.startswith("net = "):
                return ""
            for name in sorted(names_set(node)):
                if (kind := size_kind(name)) in VALUES:
                    kept.append(f"{name} = {VALUES[kind][0]}")
                    bench.go_on(kept[-1])
    return "\n".join(kept) if "net" in bench.space else ""


def _lacking(node: ast.stmt, bench: Bench) -> set[str]:
    """The names that a call reads and that nothing has set."""
    if not isinstance(getattr(node, "value", None), ast.Call):
        return set()
    read = {p.id for p in ast.walk(node) if isinstance(p, ast.Name) and isinstance(p.ctx, ast.Load)}
    return {name for name in read if name not in bench.space and not hasattr(builtins, name)}


def _scopes(tree: ast.Module) -> Iterator[Sequence[ast.stmt]]:
    """The statements at the top, those under `if __name__ == …`, and those of each function."""
    yield tree.body
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            yield node.body
        elif isinstance(node, ast.If):
            yield node.body
            yield node.orelse


def _until_used(body: Sequence[ast.stmt], name: str) -> Iterator[ast.stmt]:
    """The statements that call methods of an object, up to the first that uses it."""
    for node in body:
        call = node.value if isinstance(node, ast.Expr) else None
        own = isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute)
        if own and getattr(call.func.value, "id", "") == name:  # type: ignore[union-attr]
            called: str = call.func.attr  # type: ignore[union-attr]
            passes = FORWARD.match(called) or BACKWARD.match(called) or LOSS.match(called)
            if passes or USES.search(called):
                return
            yield node
        elif isinstance(node, ast.If):
            yield from _until_used(node.body, name)
        elif any(isinstance(p, ast.Name) and p.id == name for p in ast.walk(node)):
            return


def _is_nested(call: ast.Call) -> bool:
    """Whether a call is given lists, or results of other calls: layers, and no numbers."""
    parts = [*call.args, *(k.value for k in call.keywords)]
    return any(isinstance(p, ast.Call | ast.List | ast.Tuple) for part in parts
               for p in ast.walk(part))  # fmt: skip


def _made_small(node: ast.stmt, slices: Slices, owner: str) -> ast.stmt:
    """A call of a method with a small number of sequences and steps."""
    assert isinstance(node, ast.Expr)
    assert isinstance(node.value, ast.Call)
    call = node.value
    own = methods(slices.classes[owner], slices.classes) if owner in slices.classes else {}
    method = own.get(getattr(call.func, "attr", ""))
    needed, given = arguments(method, method=True) if method is not None else ([], {})
    small = ast.parse(ast.unparse(node)).body[0]
    assert isinstance(small, ast.Expr)
    assert isinstance(small.value, ast.Call)
    for n, name in enumerate([*needed, *given][: len(small.value.args)]):
        small.value.args[n] = _small(name, small.value.args[n])
    for word in small.value.keywords:
        word.value = _small(word.arg or "", word.value)
    missing = [n for n in given if size_kind(n) in MADE_SMALL and n not in
               {*[*needed, *given][: len(call.args)], *(k.arg for k in call.keywords)}]  # fmt: skip
    for name in missing:
        value = ast.parse(VALUES[size_kind(name)][0], mode="eval").body
        small.value.keywords.append(ast.keyword(name, value))
    return ast.fix_missing_locations(small)


def _small(name: str, value: ast.expr) -> ast.expr:
    if size_kind(name) in MADE_SMALL and not isinstance(value, ast.List | ast.Tuple | ast.Call):
        return ast.parse(VALUES[size_kind(name)][0], mode="eval").body
    return value


def _whole(
    tree: ast.Module, before: Sequence[ast.stmt], made: Sequence[ast.stmt], name: str
) -> str:
    """The statements with those before them that set what they need, and the file's imports."""
    read = {p.id for node in made for p in ast.walk(node) if isinstance(p, ast.Name)} - {name}
    definitions: list[ast.stmt] = [
        node
        for node in tree.body
        if isinstance(node, ast.Import | ast.ImportFrom | ast.FunctionDef | ast.ClassDef)
    ]
    inner = [n for n in before if not isinstance(n, ast.FunctionDef | ast.ClassDef)]
    outer = [n for n in tree.body if n not in inner and not isinstance(n, ast.If)]
    slices = Slices(ast.Module(definitions, []), [*outer, *inner], in_order=True)
    constants = slices.text({n for n in read if slices.is_own(n)})
    used = read | {p.id for p in ast.walk(ast.parse(constants)) if isinstance(p, ast.Name)}
    imports = [
        ast.unparse(node)
        for node in tree.body
        if isinstance(node, ast.Import | ast.ImportFrom)
        and (used | {"*"}) & {(alias.asname or alias.name).split(".")[0] for alias in node.names}
    ]
    lines = [*imports, constants, *map(ast.unparse, made)]
    lines += [f"net = {name}"] if name != "net" else []
    return "\n".join(filter(None, lines))
