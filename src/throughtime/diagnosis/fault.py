"""What a fault is: one file in `faults/`, whose docstring is its page."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from importlib import import_module
from inspect import getsource
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from throughtime.diagnosis.mutants.interventions import Mutation
    from throughtime.diagnosis.mutants.model import Model

LAST = 1_000  # a place or a rank behind all that are given


class Section(Enum):
    """A section of the index of faults: its title, and what holds for all faults in it."""

    REDUCTION = (
        "How the loss is reduced",
        "Every tensor is off by the same factor; the direction is right.",
    )
    TENSOR = "One tensor, one gate", "The rest of the gradient is right."
    ADDED_OR_CUT = "What is added, cut or lost", ""
    NEXT_STEP = (
        "What comes back from the next step",
        "The output layer is exact, and so is everything at T = 1.",
    )
    OPERANDS = (
        "Operands",
        "δ is right, but it is multiplied by a value that belongs to another step or sequence.",
    )
    PROJECTION_AND_DIRECTIONS = (
        "A projection, two directions",
        "These are faults of networks with a projection, h = R m where m = o ⊙ tanh c, or with a "
        "second direction, which runs backwards through time.",
    )
    STEP = "Inside a step", "The output layer is exact; T = 1 is already wrong."
    HEAD_AND_DATA = "Head and data", ""
    REFUSED = (
        "What no single gradient shows",
        "The check refuses these with a message of its own, since no verdict could rest on what "
        "it is given. `step_too_small` is a fault of someone else's numerical gradient.",
    )
    PLACES = "Places", "A diagnosis names a place where several faults would look the same."

    def __init__(self, title: str, text: str) -> None:
        self.title, self.text = title, text


@dataclass(frozen=True)
class Fault:
    """One way in which a backward pass goes wrong, or a place where it does.

    Attributes:
        module: `__name__` of its file, whose last part is the fault's identifier. Identifiers
            stay from version to version.
        sentence: what is wrong, in one sentence; {where}, {T} and others stand for what was found.
        remedy: what to change, in one sentence.
        section: its section in the index.
        place: its place within the section; faults without one come last. Steps of ten leave room.
        family: whether it is a place, which holds several faults that cannot be told apart there.
        mutations: yields the ways in which our own backward pass can have this fault, the likelier
            ones first; None where the fault is recognised in other ways.
        rank: its place among the faults that are tried on our own backward pass. The search
            prefers the lower rank, so the likelier fault has it. Those that set δ of the outputs
            anew come before those that alter it.
        systematic: whether its mutations are all single edits of a step, and not mistakes with a
            history; they are tried where no other fault explains the gradient.
    """

    module: str
    sentence: str
    remedy: str
    section: Section
    place: int = LAST
    family: bool = False
    mutations: Callable[[Model], Iterator[Mutation]] | None = None
    rank: int = LAST
    systematic: bool = False

    @property
    def name(self) -> str:
        """The identifier, in snake_case."""
        return self.module.rpartition(".")[2]

    @property
    def page(self) -> str:
        """The name of its page in the docs."""
        return self.name.replace("_", "-")

    @property
    def markdown(self) -> str:
        """Its page: the docstring of its file under a heading; other faults stand in brackets."""
        source = getsource(import_module(self.module))  # has the docstring even under -OO
        text = ast.get_docstring(ast.parse(source))
        return f"# {self.name}\n\n{text}\n"

    @property
    def summary(self) -> str:
        """What is wrong, in a sentence: the first of its page."""
        return " ".join(self.markdown.split("\n\n")[1].split())

    def said(self, facts: Mapping[str, str] | None = None) -> tuple[str, str]:
        """Sentence and remedy with what was found in place of the braces."""
        known = _Words(facts or {})
        return self.sentence.format_map(known), self.remedy.format_map(known)


class _Words(dict[str, str]):
    """Facts; one that is not known is given in general words."""

    def __missing__(self, key: str) -> str:
        return GENERAL.get(key, key)


GENERAL = {
    "where": "one tensor",
    "other": "another",
    "O": "the number of classes",
    "factor": "a factor",
    "limit": "some limit",
    "gate": "one gate",
    "state": "c",
    "sent": "f ⊙ δc",
    "where_from": "elsewhere",
}
