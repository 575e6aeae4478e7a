"""What the file's own calls of the passes are given: results of others, and what is kept."""

from __future__ import annotations

import ast
from collections.abc import Sequence

from throughtime.source.finding.candidates import arguments
from throughtime.source.finding.losses import is_filled, value_of
from throughtime.source.finding.models import Models
from throughtime.source.meanings import role


class CallSites(Models):
    """The models of one candidate, and what its passes are given in the file."""

    def at_call_sites(self, elements: list[tuple[str, str]]) -> dict[str, str]:
        """Arguments of the backward pass and the losses that are given results of the forward one.

        That is so where the file's own calls of them name what its call of the forward pass gave.
        """
        found: dict[str, str] = {}
        for scope in self.slices.scopes():
            found |= self._kept_at_calls_in(scope)
            found |= self._at_calls_in(scope, elements)
        return found

    def _kept_at_calls_in(self, scope: Sequence[ast.AST]) -> dict[str, str]:
        """Arguments of the backward pass that are given what the forward pass has kept.

        As in `self.bptt(errors, self.concat_inputs)`, of what the object holds by now.
        """
        found: dict[str, str] = {}
        if not self.method:
            return found
        needed, optional = arguments(self.candidate.backward, method=True)
        for call in self.slices.calls_of(self.candidate.backward.name, scope):
            if not ast.unparse(call.func).startswith("self."):
                continue
            words = dict(zip([*needed, *optional], call.args, strict=False))
            words |= {k.arg: k.value for k in call.keywords if k.arg}
            for name, value in words.items():
                text = ast.unparse(value)
                if not isinstance(value, ast.Attribute) or not text.startswith("self."):
                    continue
                kept = f"net.{text[5:]}"
                if self.role(name) != "upstream" and is_filled(value_of(self.bench, kept)):
                    found[name] = kept
                    self._sited.add((self.candidate.backward.name, name))
        return found

    def _at_calls_in(
        self, scope: Sequence[ast.AST], elements: list[tuple[str, str]]
    ) -> dict[str, str]:
        found: dict[str, str] = {}
        forward = self.candidate.forward
        assert forward is not None
        given: dict[str, str] = {}
        whole: dict[str, str] = {}
        for names in self.slices.results_of(forward.name, method=self.method, within=scope):
            if len(names) == len(elements):
                given |= {n: t for n, (_, t) in zip(names, elements, strict=True) if n}
            elif len(names) == 1:
                whole[names[0]] = "out"
        given = whole | given
        if not given:
            return found
        for function in self.used:
            needed, optional = arguments(function, method=self.method)
            every = [*needed, *optional]
            for call in self.slices.calls_of(function.name, scope):
                spread = any(isinstance(a, ast.Starred) for a in call.args)
                count = len(call.args) + len(call.keywords)
                if not spread and not len(needed) <= count <= len(every):
                    continue  # of another class's method
                words = dict(zip(every, call.args, strict=False))
                words |= {k.arg: k.value for k in call.keywords if k.arg}
                for name, value in words.items():
                    named = isinstance(value, ast.Name) and value.id in given
                    if named and role(name) != "upstream":
                        found[name] = given[value.id]  # type: ignore[attr-defined]
                        self._sited.add((function.name, name))
        return found
