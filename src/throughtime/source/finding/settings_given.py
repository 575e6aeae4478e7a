"""Constructors that are given all their settings in one argument: a dictionary, or an object."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable

from throughtime.source.finding.words import words_for
from throughtime.source.meanings import VALUES, size_kind

FEWEST_SETTINGS = 2  # keys or attributes that are read of an argument, for it to hold settings
HELD = re.compile(r"conf|param|option|opt|arg|setting|hyper|^cfg$|^hp$|spec", re.I)  # one is enough
LARGE = "1e6"  # where gradients are cut off
NOT_A_SETTING = {"keys", "values", "items", "get", "shape", "size", "T", "dtype", "copy", "ndim"}


def settings_of(argument: str, functions: Iterable[ast.FunctionDef]) -> str:
    """An expression of the settings that methods read of an argument; "" where it holds none.

    Args:
        argument: of the constructor.
        functions: the constructor, and the other methods, which may read it as an attribute.

    Example:
        >>> text = "def __init__(self, config):\\n    n, lr = config['hidden'], config['lr']"
        >>> settings_of("config", ast.parse(text).body)
        "{'hidden': 4, 'lr': 0.1}"
        >>> text = "def __init__(self, opt):\\n    n, lr = opt.hidden, opt.lr"
        >>> settings_of("opt", ast.parse(text).body)
        "__import__('types').SimpleNamespace(hidden=4, lr=0.1)"
    """
    keys: dict[str, str] = {}
    attributes: dict[str, str] = {}
    functions = list(functions)
    for part in (part for function in functions for part in ast.walk(function)):
        if isinstance(part, ast.Subscript) and _is(part.value, argument):
            key = part.slice.value if isinstance(part.slice, ast.Constant) else None
            if isinstance(key, str) and isinstance(part.ctx, ast.Load):
                keys[key] = _value(key, functions)
        elif isinstance(part, ast.Attribute) and _is(part.value, argument):
            setting = part.attr not in NOT_A_SETTING and isinstance(part.ctx, ast.Load)
            attributes |= {part.attr: _value(part.attr, functions)} if setting else {}
    least = 1 if HELD.search(argument) else FEWEST_SETTINGS
    if len(keys) >= least:
        return "{" + ", ".join(f"{key!r}: {value}" for key, value in keys.items()) + "}"
    if len(attributes) >= least and HELD.search(argument):
        inner = ", ".join(f"{name}={value}" for name, value in attributes.items())
        return f"__import__('types').SimpleNamespace({inner})"
    return ""


def _is(node: ast.expr, argument: str) -> bool:
    """Whether an expression is an argument, or the attribute that it is kept in."""
    if isinstance(node, ast.Attribute):
        return getattr(node.value, "id", "") == "self" and node.attr.strip("_") == argument
    return getattr(node, "id", "") == argument


def _value(name: str, functions: list[ast.FunctionDef]) -> str:
    """What a setting is by its name: a small size, a rate, a word that the code asks for."""
    kind = size_kind(name)
    if kind == "keep":
        return LARGE
    words = words_for(name, functions, ())
    return (words or VALUES.get(kind, ["4"]))[0]
