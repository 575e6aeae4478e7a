"""Calls that make an object of a class of the user's: its sizes are small, by what they mean."""

from __future__ import annotations

import ast
import itertools
import re
from collections.abc import Iterable, Mapping, Sequence

from throughtime.source.finding.arrays_by_name import arrays_wanted, dictionaries
from throughtime.source.finding.calls import COUNTS, UNKNOWN, is_size, shapes_of
from throughtime.source.finding.candidates import (
    arguments,
    attributes,
    is_backward,
    is_forward,
    methods,
)
from throughtime.source.finding.settings_given import settings_of
from throughtime.source.finding.words import bases_of, keywords_read, words_for
from throughtime.source.meanings import INPUTS, VALUES, size_kind
from throughtime.source.slices import Slices

QUOTES = "'\""
DEEPEST_BASE = 4  # classes whose constructors pass what they are given on to the next one's
NO_DROPOUT = "'no'"  # where the file's own call says it in a word, as "yes"
DTYPE = re.compile(r"^(d|data|float|num(ber)?)_?type$", re.I)
NOTHING_MADE = "(lambda *given, **named: None)"
COUNTED_CELLS = re.compile(r"(num(ber)?(_of)?|n)_cells$", re.I)  # in a row, one for each step
MOST_KINDS = 2  # classes that are tried for one argument
FEWEST_READ = 2  # attributes of an argument, for its class to be known by them
SYMBOLS = re.compile(r"char|vocab|word|symbol|alphabet|token|letter|_?(list|set)$", re.I)
"""Arguments of constructors that may be the symbols themselves, and no number of them."""
DATA = re.compile(
    r"^_?((train|batch)_)?[xy]s?(_(train|data|batch|seq))?$|^(train(ing)?_)?data$", re.I
)
SOME_SYMBOLS = f"list({'abcdefgh'[:INPUTS]!r})"
ACTIVATION = re.compile(r"activ|nonlin|act_?f|^act$|squash", re.I)


def constructors(
    slices: Slices,
    name: str,
    depth: int = 0,
    *,
    single: bool = False,
    sizes: Mapping[str, int] | None = None,
) -> list[str]:
    """Calls that make an object of a class of the file.

    Args:
        slices: the file's statements.
        name: of the class.
        depth: of constructors that are given an object that is made here, too.
        single: whether there is a single output.
        sizes: of inputs and outputs that the class's code writes out.
    """
    node = slices.classes[name]
    classes = slices.classes
    make = methods(node, classes).get("__init__")
    if make is None:
        return [f"{name}()"]
    if wanted := arrays_wanted(make, method=True):
        words = [
            f"p[{n!r}]" if n in wanted else VALUES.get(size_kind(n), UNKNOWN)[0]
            for n in arguments(make, method=True)[0]
        ]
        made = f"(lambda p: {name}({', '.join(words)}))"
        return [f"{made}({text})" for text in dictionaries(wanted)]
    needed, given = arguments(make, method=True)
    passed = _passed_on(node, make, classes)
    given = {**passed[1], **given}
    named = [n for n in passed[0] if n not in needed and n not in given]
    makers = list(bases_of(name, classes))
    if make.args.kwarg is not None:
        named += [n for n in keywords_read(makers) if n not in (*needed, *given, *named)]
    small = [*named, *(n for n, default in given.items() if is_size(n, default))]
    small += [n for n, default in given.items() if _datum(n) and _lacks(default)]
    counted = _counted(methods(node, classes).values())
    written = own_literals(slices, name, [*needed, *given])
    functions = [*makers, *methods(node, classes).values()]
    statements = slices.statements
    choices: list[list[str]] = []
    for argument in [*needed, *small]:
        values = [*shapes_of(argument), *VALUES.get(size_kind(argument), UNKNOWN)]
        if argument in small and argument not in named:
            values = values[:1]
        if own_words := words_for(argument, functions, statements):
            counted_ = bool(COUNTS.search(argument))
            values = [*values[:1], *own_words] if counted_ else [*own_words, *values[:1]]
        if argument in needed and SYMBOLS.search(argument) and not COUNTS.search(argument):
            values += [SOME_SYMBOLS, f"np.array({SOME_SYMBOLS})"]
        if datum := _datum(argument):
            values = [datum]
        if use := _by_use(argument, make):
            values = [use]
        if settings := settings_of(argument, methods(node, classes).values()):
            values = [settings, *values]
        literal = written.get(argument, "")
        if size_kind(argument) in (sizes or {}):
            values = [str((sizes or {})[size_kind(argument)])]
        of_steps = size_kind(argument) in ("extent", "") or COUNTED_CELLS.search(argument)
        if of_steps and argument in counted:
            values = ["T"]
        if single:
            values = [_with_single_output(value, argument) for value in values]
        if ACTIVATION.search(argument):
            own = activations(classes)
            values = [*own, *([] if own else values), *filter(None, [literal])]
        elif literal and size_kind(argument) == "dropout":
            values = [NO_DROPOUT, *values] if literal[0] in QUOTES else values
        elif literal and (not size_kind(argument) or literal[0] in QUOTES):
            values = [literal, *values[:1]]
        inner = _class_named(argument, classes, name)
        if inner and depth < 2:
            kinds = [*_kinds_of(inner, classes), inner]
            ways = [constructors(slices, kind, depth + 1)[:2] for kind in kinds[:MOST_KINDS]]
            values = [*itertools.chain(*ways), *values]
        choices.append(values)
    found = []
    for chosen in _combinations(choices, 12):
        words = [
            value if n < len(needed) else f"{argument}={value}"
            for n, (argument, value) in enumerate(zip([*needed, *small], chosen, strict=True))
        ]
        found.append(f"{name}({', '.join(words)})")
    return found


def class_of_argument(
    function: ast.FunctionDef, name: str, classes: Mapping[str, ast.ClassDef]
) -> str:
    """The class whose constructor sets all that a function reads of an argument; "" for none.

    Example:
        >>> text = "class Net:\\n    def __init__(self):\\n        self.W, self.b = 1.0, 2.0"
        >>> text += "\\ndef forward(net, x):\\n    return net.W * x + net.b"
        >>> made, function = ast.parse(text).body
        >>> class_of_argument(function, "net", {"Net": made})
        'Net'
    """
    read = {
        part.attr
        for part in ast.walk(function)
        if isinstance(part, ast.Attribute) and getattr(part.value, "id", "") == name
    }
    if len(read) < FEWEST_READ:
        return ""
    for kind, node in classes.items():
        own = methods(node, classes)
        sets = attributes(own["__init__"], ast.Store) if "__init__" in own else set()
        if read <= sets | own.keys():
            return kind
    return ""


def _by_use(argument: str, make: ast.FunctionDef) -> str:
    """What a constructor is given for a type of numbers, or for what it calls; "" for the rest.

    What it calls makes an optimiser, or a layer of another kind: nothing that a gradient needs.
    """
    for part in ast.walk(make):
        if not isinstance(part, ast.Call):
            continue
        if getattr(part.func, "id", "") == argument and not ACTIVATION.search(argument):
            return NOTHING_MADE
        typed = [k.value for k in part.keywords if k.arg == "dtype"]
        typed += part.args[:1] if getattr(part.func, "attr", "") == "astype" else []
        if any(getattr(value, "id", "") == argument for value in typed):
            return "float"
    return "float" if DTYPE.search(argument) else ""


def _counted(functions: Iterable[ast.FunctionDef]) -> set[str]:
    """The attributes that a class's loops run to, as `range(self.input_length)`: steps."""
    return {
        part.args[-1].attr
        for function in functions
        for part in ast.walk(function)
        if isinstance(part, ast.Call)
        and getattr(part.func, "id", "") == "range"
        and isinstance(part.args[-1], ast.Attribute)
        and re.search(r"forward|feed|fprop|__call__|predict|propag", function.name, re.I)
    }


def _with_single_output(value: str, argument: str) -> str:
    """What an argument is given where the network has one output."""
    if size_kind(argument) == "outputs":
        return "1"
    return re.sub(r"^\[(\d+), (\d+), \d+\]$", r"[\1, \2, 1]", value)


def data_of_constructor(slices: Slices, name: str) -> tuple[str, ...]:
    """The names among `x` and `y` that a class's constructor is given: `Net(X, y, hidden=4)`."""
    make = methods(slices.classes[name], slices.classes).get("__init__")
    if make is None:
        return ()
    needed, given = arguments(make, method=True)
    names = [*needed, *(n for n, default in given.items() if _lacks(default))]
    return tuple(dict.fromkeys(filter(None, map(_datum, names))))


def _lacks(default: ast.expr) -> bool:
    """Whether a default stands for nothing: None, or a word such as 'none'."""
    return isinstance(default, ast.Constant) and isinstance(default.value, str | None)


def _datum(argument: str) -> str:
    """`x` or `y` for an argument of a constructor that is data by its name, else ""."""
    if not DATA.match(argument):
        return ""
    return "y" if "y" in argument.lower() else "x"


def own_literals(slices: Slices, name: str, every: Sequence[str]) -> dict[str, str]:
    """What the file's own calls of a class or function write out for its arguments.

    As `optimizer="SGD"` and `is_train=True`; of several calls the first one counts.
    """
    found: dict[str, str] = {}
    for call in slices.calls_of(name):
        words = dict(zip(every, call.args, strict=False))
        words |= {k.arg: k.value for k in call.keywords if k.arg}
        for argument, value in words.items():
            if isinstance(value, ast.Constant) and isinstance(value.value, str | int | float):
                found.setdefault(argument, ast.unparse(value))
    return found


def _kinds_of(name: str, classes: dict[str, ast.ClassDef]) -> list[str]:
    """The classes of the file that inherit from one, as `SquaredLoss` does from `Loss`."""
    return [
        other
        for other, node in classes.items()
        if other != name and name in {getattr(base, "id", "") for base in node.bases}
    ]


def _passed_on(
    node: ast.ClassDef, make: ast.FunctionDef, classes: dict[str, ast.ClassDef], depth: int = 0
) -> tuple[list[str], dict[str, ast.expr]]:
    """The arguments of its base's constructor that a class takes as `**kwargs`, as `arguments`.

    Those that it gives itself, as in `super().__init__(n_hidden, **kwargs)`, are not among them.
    """
    if make.args.kwarg is None or depth > DEEPEST_BASE:
        return [], {}
    rest = make.args.kwarg.arg
    for part in ast.walk(make):
        if not isinstance(part, ast.Call) or getattr(part.func, "attr", "") != "__init__":
            continue
        if rest not in {getattr(k.value, "id", "") for k in part.keywords if k.arg is None}:
            continue
        for base in node.bases:
            parent = classes.get(getattr(base, "id", ""))
            inner = methods(parent, classes).get("__init__") if parent is not None else None
            if parent is None or inner is None:
                continue
            needed, given = arguments(inner, method=True)
            called_on = getattr(part.func, "value", None)
            explicit = isinstance(called_on, ast.Name)  # Base.__init__(self, ...)
            known = {k.arg for k in part.keywords if k.arg}
            known |= set([*needed, *given][: len(part.args) - explicit])
            more = _passed_on(parent, inner, classes, depth + 1)
            every = {**given, **more[1]}
            wanted = [n for n in (*needed, *more[0]) if n not in known]
            return wanted, {n: d for n, d in every.items() if n not in known}
    return [], {}


def activations(classes: dict[str, ast.ClassDef]) -> list[str]:
    """Objects of the file's classes of activation functions: small, with both passes."""
    found = []
    for name, node in classes.items():
        own = methods(node, classes)
        needed = arguments(own["__init__"], method=True)[0] if "__init__" in own else []
        both = any(map(is_forward, own.values())) and any(map(is_backward, own.values()))
        if both and not needed and re.search(r"tanh|sigmoid|relu|activ", name, re.I):
            found.append(f"{name}()")
    return sorted(found, key=lambda text: "tanh" not in text.lower())[:2]


def _combinations(choices: Sequence[Sequence[str]], most: int) -> list[tuple[str, ...]]:
    """Combinations, the first values first."""
    numbered = sorted(
        itertools.islice(itertools.product(*(range(len(c)) for c in choices)), 2000), key=sum
    )
    return [tuple(c[n] for c, n in zip(choices, ns, strict=True)) for ns in numbered[:most]]


def _class_named(argument: str, classes: dict[str, ast.ClassDef], own: str) -> str:
    """The class of the file that an argument is named after, "" if none."""
    low = argument.lower().replace("_", "")
    for name in classes:
        if name != own and name.lower().replace("_", "") == low:
            return name
    for name in classes:
        other = name.lower().replace("_", "")
        if name != own and len(other) > 3 and (other in low or low in other) and len(low) > 3:
            return name
    return ""
