"""A fault that a diagnosis can name, and the words in which it is said."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    """One way in which a backward pass goes wrong, or a place where it does.

    Attributes:
        name: the identifier, snake_case; it stays.
        statement: what is wrong, one sentence; {where}, {T} and others stand for what was found.
        change: what to change, one sentence.
        family: whether it is a place, which holds several faults that cannot be told apart there.
    """

    name: str
    statement: str
    change: str
    family: bool = False

    @property
    def page(self) -> str:
        """The name of its page in the docs."""
        return self.name.replace("_", "-")

    def said(self, facts: Mapping[str, str] | None = None) -> tuple[str, str]:
        """Statement and change with what was found in their places."""
        known = _Words(facts or {})
        return self.statement.format_map(known), self.change.format_map(known)


class _Words(dict[str, str]):
    """What is not known is said in general words."""

    def __missing__(self, key: str) -> str:
        return GENERAL.get(key, key)


GENERAL = {
    "where": "one tensor",
    "other": "another",
    "O": "the number of classes",
    "factor": "a factor",
    "limit": "some limit",
    "gate": "one gate",
    "where_from": "elsewhere",
}
