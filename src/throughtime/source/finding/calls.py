"""Calls of the user's functions: what is given for each argument, in the order of likelihood."""

from __future__ import annotations

import ast
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from throughtime.source.finding.candidates import Function, arguments
from throughtime.source.meanings import (
    BACKWARD,
    BATCH,
    INPUTS,
    LOSS,
    VALUES,
    role,
    size_kind,
)

COUNTS = re.compile(r"size|dim|num_?|^n_|len|count|units|rate$|_no$", re.I)
ARRAY = re.compile(  # and no size
    r"matrix|vectors|embeddings$|weights$|pretrained|initiali[sz]er|regulari[sz]er|optimi[sz]er",
    re.I,
)
AIM = re.compile(r"target|label|true|truth|desired|expected|gold|actual|answer", re.I)
UNKNOWN = ["4", "np.tanh", "'tanh'"]  # for an argument whose name says nothing
MOST_CALLS = 40  # of one function, for one form of the data


@dataclass(frozen=True)
class Call:
    """A call, and which of what it is given depends on a choice made elsewhere.

    Args:
        text: the call.
        given: argument to expression.
        sure: whether every argument is what its name, or a call in the file, says.
    """

    text: str
    given: Mapping[str, str] = field(default_factory=dict)
    sure: bool = True

    def takes(self, text: str) -> bool:
        """Whether some argument is this expression, or made of this name."""
        return any(re.search(rf"\b{re.escape(text)}\b", value) for value in self.given.values())


def role_of(name: str, aliases: Mapping[str, str]) -> str:
    """What an argument is: by its name; where that says little, by what the file gives for it."""
    alias = aliases.get(name, "")
    own, other = role(name), role(alias)
    if len(name) == 1 and not other and size_kind(alias) == "steps":
        return ""  # `t` that is given the number of steps, and no targets
    return own if own and (len(name) > 1 or not other) else other


def unnamed_aim(function: Function, needed: Sequence[str]) -> str:
    """The one array beside the inputs of a loss or a backward pass, whose name says nothing.

    It is the targets, though it may be called as a size is: `D`, of which `D[t]` is taken. "" where
    there is no such array, or another is called targets.
    """
    if not (BACKWARD.match(function.name) or LOSS.match(function.name)):
        return ""
    roles = {name: role(name) for name in needed}
    others = [name for name, kind in roles.items() if not kind and _is_array(name, function)]
    known = {"target", "prediction", "upstream"} & set(roles.values())
    return others[0] if len(others) == 1 and "inputs" in roles.values() and not known else ""


def _is_array(name: str, function: Function) -> bool:
    """Whether a function takes entries of an argument, or subtracts it from what a call gives."""
    for part in ast.walk(function):
        inner = part.value if isinstance(part, ast.Subscript) else None
        if isinstance(part, ast.BinOp) and isinstance(part.op, ast.Sub):
            inner = part.right if isinstance(part.left, ast.Call) else None
        if isinstance(inner, ast.Name) and inner.id == name:
            return True
    return False


@dataclass
class Pool:
    """What calls can be given.

    Args:
        named: names in the user's code, with the expression that has this value.
        roles: role to expressions.
        aliases: argument to the name of what the file's own calls give for it.
        meant: argument to its role, where those beside it say more than its name.
    """

    named: dict[str, str] = field(default_factory=dict)
    roles: dict[str, list[str]] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)
    meant: dict[str, str] = field(default_factory=dict)

    def role(self, name: str) -> str:
        """What an argument is, by the name of what it is given, or else by its own."""
        return self.meant.get(name) or role_of(name, self.aliases)

    def beside(self, names: Sequence[str]) -> Pool:
        """This, for one function's arguments: beside a `target`, `y` is what is predicted."""
        roles = {name: self.role(name) for name in names}
        aims = [name for name, kind in roles.items() if kind == "target"]
        if "prediction" in roles.values() or not any(map(AIM.search, aims)):
            return self
        return replace(self, meant={name: "prediction" for name in aims if not AIM.search(name)})

    def sure(self, name: str) -> bool:
        """Whether it is known what an argument is given, and not one of several things tried."""
        if name in self.named:
            return True
        kind = self.role(name)
        if kind in ("inputs", "prediction", "target", "upstream"):
            return len(self.roles.get(kind, [])) == 1
        return bool(kind) or size_kind(name) in VALUES

    def values(self, name: str, position: int) -> list[str]:
        """What an argument may be given."""
        if name in self.named:
            return [self.named[name]]
        kind = self.role(name)
        sizes = size_kind(name)
        found = list(self.roles.get(kind, []))
        if is_counted(name):
            return VALUES[sizes]
        if kind == "state":
            found = [*found, f"states[{position}]"]  # what a pass has returned goes first
        if sizes == "once":
            return VALUES[sizes]
        if kind in ("inputs", "") and sizes in VALUES and sizes != "inputs":
            size = VALUES[sizes][0]
            return [*found, size] if kind == "inputs" and found else [size, *found]
        if kind == "rate":
            return ["0.1"]
        if not found and sizes in VALUES:
            return VALUES[sizes]
        if not found and kind in ("", "inputs", "prediction", "target", "upstream"):
            every = ("inputs", "prediction", "target", "upstream")
            found = [text for other in every for text in self.roles.get(other, [])]
        return found


def sized(function: Function, *, method: bool, most: int = 12) -> Iterator[str]:
    """What a function that makes a model or its parameters is given: sizes and settings."""
    needed, given = arguments(function, method=method)
    names = [*needed, *(name for name, default in given.items() if is_size(name, default))]
    choices = [
        [*shapes_of(name), *VALUES.get(size_kind(name), UNKNOWN)][: None if name in needed else 1]
        for name in names
    ]
    for chosen in itertools.islice(_likely_first(choices), most):
        yield ", ".join(
            value if n < len(needed) else f"{name}={value}"
            for n, (name, value) in enumerate(zip(names, chosen, strict=True))
        )


def shapes_of(name: str) -> list[str]:
    """Shapes of the inputs of a layer, where an argument is one by its name; else none."""
    several = [f"(T, {INPUTS})", f"({BATCH}, T, {INPUTS})", f"({INPUTS},)"]
    return several if "shape" in name.lower() else []


def is_counted(name: str) -> bool:
    """Whether a name is that of a number, as `hidden_size`, and of no state."""
    return size_kind(name) in VALUES and bool(COUNTS.search(name))


def is_size(name: str, default: ast.expr) -> bool:
    """Whether an argument is a size that is made small, though it has a default."""
    if not isinstance(default, ast.Constant):
        return False
    kind = "" if ARRAY.search(name) else size_kind(name)
    if type(default.value) is int:
        return kind in ("hidden", "inputs", "outputs", "steps", "batch", "once")
    return default.value is None and kind in ("hidden", "inputs", "outputs")


def calls(
    function: Function, prefix: str, pool: Pool, *, method: bool, most: int = MOST_CALLS
) -> Iterator[Call]:
    """The calls of a function, the likelier first; none where nothing is known for an argument."""
    needed, given = arguments(function, method=method)
    optional = [name for name in given if _is_wanted(name, given[name], pool)]
    names = [*needed, *optional]
    pool = pool.beside(names)
    states = [
        name
        for name in names
        if pool.role(name) == "state" and name not in pool.named and not is_counted(name)
    ]
    choices: list[Sequence[str]] = []
    for name in names:
        found = pool.values(name, states.index(name) if name in states else 0)
        if not found:
            return
        choices.append(list(dict.fromkeys(found)))
    for chosen in itertools.islice(_likely_first(choices), most):
        words = [
            value if n < len(needed) else f"{name}={value}"
            for n, (name, value) in enumerate(zip(names, chosen, strict=True))
        ]
        text = f"{prefix}{function.name}({', '.join(words)})"
        words_given = dict(zip(names, chosen, strict=True))
        yield Call(text, words_given, all(pool.sure(name) for name in names))


def _likely_first(choices: Sequence[Sequence[str]]) -> Iterator[tuple[str, ...]]:
    """All combinations; those with few values that are not the first ones come first."""
    numbered = itertools.product(*(range(len(choice)) for choice in choices))
    ordered = sorted(itertools.islice(numbered, 4000), key=sum)
    for numbers in ordered:
        values = tuple(choice[n] for choice, n in zip(choices, numbers, strict=True))
        wanted = [v for v, c in zip(values, choices, strict=True) if len(c) > 1]
        if len(set(wanted)) == len(wanted):  # no two arguments are given the same of several
            yield values
    for numbers in ordered:
        values = tuple(choice[n] for choice, n in zip(choices, numbers, strict=True))
        wanted = [v for v, c in zip(values, choices, strict=True) if len(c) > 1]
        if len(set(wanted)) != len(wanted):
            yield values


def _is_wanted(name: str, default: ast.expr, pool: Pool) -> bool:
    """Whether an argument with a default is given all the same: data, targets, a rate."""
    if name in pool.named:
        return True
    kind = pool.role(name)
    if isinstance(default, ast.Name) and kind == "parameters":
        return bool(pool.roles.get(kind))  # its value was a name of the file when it was defined
    none = isinstance(default, ast.Constant) and default.value is None
    if size_kind(name) == "once":
        return True
    if size_kind(name) in ("inputs", "outputs") and is_size(name, default):
        return True  # a pass that makes vectors of indices, vocab_size=27
    if kind == "rate":
        return isinstance(default, ast.Constant) and isinstance(default.value, float)
    return none and kind in ("target", "inputs") and bool(pool.roles.get(kind))
