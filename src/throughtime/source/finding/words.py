"""Words that a file's own code looks for: keys of its tables, strings it compares with, `**kwargs`.

`activations[name]` and `if kind == "tanh":` say what an argument may be given.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping

Function = ast.FunctionDef


def words_for(
    argument: str, functions: Iterable[Function], statements: Iterable[ast.stmt]
) -> list[str]:
    """The strings that an argument, or an attribute of its name, may be, as Python writes them.

    Args:
        argument: of a constructor or a function.
        functions: whose code is looked at.
        statements: at the top of the file, where tables may stand.

    Example:
        >>> tree = ast.parse("def f(kind):\\n    return 1 if kind == 'tanh' else 2")
        >>> words_for("kind", tree.body, [])
        ["'tanh'"]
    """
    tables = dict(_tables(statements))
    found: dict[str, None] = {}
    for part in (part for function in functions for part in ast.walk(function)):
        if isinstance(part, ast.Compare) and _is(part.left, argument):
            for other in part.comparators:
                items = other.elts if isinstance(other, ast.Tuple | ast.List | ast.Set) else [other]
                found |= dict.fromkeys(_strings(items))
        elif isinstance(part, ast.Subscript) and _is(part.slice, argument):
            table = part.value if isinstance(part.value, ast.Dict) else None
            keys = table.keys if table else tables.get(getattr(part.value, "id", ""), [])
            found |= dict.fromkeys(_strings(keys))
    return list(found)


def keywords_read(functions: Iterable[Function]) -> list[str]:
    """The names that functions read from their `**kwargs` and cannot do without.

    Example:
        >>> tree = ast.parse("def f(**given):\\n    return given['size'], given.get('seed')")
        >>> keywords_read(tree.body)
        ['size']
    """
    found: dict[str, None] = {}
    for function in functions:
        rest = function.args.kwarg.arg if function.args.kwarg is not None else ""
        own: set[str] = set()
        for part in ast.walk(function):
            of_rest = getattr(getattr(part, "value", None), "id", None) == rest
            if rest and of_rest and isinstance(part, ast.Subscript):
                name = next(iter(_strings([part.slice])), "")[1:-1]
                if isinstance(part.ctx, ast.Store):
                    own.add(name)
                elif name and name not in own:
                    found[name] = None
    return list(found)


def _tables(statements: Iterable[ast.stmt]) -> Iterator[tuple[str, list[ast.expr | None]]]:
    """Dictionaries that statements write out, with their keys."""
    for node in statements:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict):
            for target in node.targets:
                if isinstance(target, ast.Name):
                    yield target.id, node.value.keys


def _is(node: ast.expr, name: str) -> bool:
    """Whether an expression is an argument, an attribute of its name, or `kwargs[name]`."""
    while isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and not node.args:
        node = node.func.value  # kind.lower()
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
        return node.slice.value == name
    return getattr(node, "attr", getattr(node, "id", "")).strip("_") == name.strip("_")


def _strings(nodes: Iterable[ast.expr | None]) -> list[str]:
    """Those of expressions that are strings, as Python writes them."""
    return [
        repr(node.value)
        for node in nodes
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]


def bases_of(name: str, classes: Mapping[str, ast.ClassDef]) -> Iterator[Function]:
    """The constructors of a class and of those that it inherits from."""
    waiting, known = [name], set()
    while waiting:
        node = classes.get(waiting.pop(0))
        if node is None or node.name in known:
            continue
        known.add(node.name)
        for part in node.body:
            if isinstance(part, Function) and part.name == "__init__":
                yield part
        waiting += [base.id for base in node.bases if isinstance(base, ast.Name)]
