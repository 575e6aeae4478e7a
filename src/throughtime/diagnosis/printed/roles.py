"""What the words beside printed numbers say: which are numerical, which are under test."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

Kind = Literal["gradient", "derived", "index"]


@dataclass(frozen=True)
class Role:
    """What a word says of the numbers that it stands by.

    Attributes:
        kind: "gradient": one of the two that are compared, whichever; "derived": an error, a
            difference or a ratio of the two; "index": a name or a place.
        trust: of two gradients the one with the higher trust is the one to compare with:
            numbers from differences, then what is expected, then a library, then one's own.
        weak: whether the word is used of either, as "gradient" is.
        text: the words as they stand there.
    """

    kind: Kind
    trust: int = 0
    weak: bool = False
    text: str = ""


NUMERICAL, EXPECTED, LIBRARY, UNDER_TEST, OWN = 10, 8, 5, 2, 1
ANYWHERE = re.compile(  # in a word, however it is put together
    r"numeri|numéri|числен|数值|numgrad|gradnum|ngrad|numdiff|finite|findiff|fdiff|approx"
)
STEMS = (  # with which a part of a word begins; the first row that fits counts
    (r"forwarddiff|reversediff|zygote|enzyme", Role("gradient", LIBRARY)),
    (r"central|perturb|estimat", Role("gradient", NUMERICAL)),
    (r"expect|desired|referen|truth|oracle", Role("gradient", EXPECTED)),
    (r"autograd|autodiff|pytorch|tensorflow|automatic", Role("gradient", LIBRARY)),
    (
        r"analy|anali|анали|解析|backprop|backward|bprop|rückw|rétro|retro|actual|computed|"
        r"calculated|obtained|symbolic|theoretic|implementation",
        Role("gradient", UNDER_TEST),
    ),
    (
        r"err|diff|ratio|relativ|absolut|discrepan|deviation|mismatch|toleran|quotient|écart|"
        r"fehler|abweich",
        Role("derived"),
    ),
)
PARTS: dict[str, Role] = {
    **dict.fromkeys(("num", "nd", "fd", "fdm"), Role("gradient", NUMERICAL)),
    **dict.fromkeys(
        ("ref", "true", "target", "correct", "gt", "should", "want", "wanted", "soll"),
        Role("gradient", EXPECTED),
    ),
    **dict.fromkeys(("torch", "jax", "tf", "theano", "keras", "ad"), Role("gradient", LIBRARY)),
    **dict.fromkeys(("bp", "bptt", "exact", "ana", "ist"), Role("gradient", UNDER_TEST)),
    **dict.fromkeys(
        ("mine", "my", "our", "ours", "manual", "custom", "hand", "numpy", "scratch"),
        Role("gradient", OWN),
    ),
    **dict.fromkeys(
        ("got", "grad", "grads", "gradient", "gradients", "derivative", "derivatives", "dtheta"),
        Role("gradient", UNDER_TEST, weak=True),
    ),
    **dict.fromkeys(("rel", "abs", "delta", "tol", "ok", "pass", "passed", "max"), Role("derived")),
    **dict.fromkeys(
        ("index", "idx", "ix", "i", "j", "k", "row", "col", "column", "param", "parameter",
         "parameters", "entry", "name", "tensor", "weight", "layer", "id", "coord", "element",
         "pos", "position", "variable", "var", "dim"),
        Role("index"),
    ),
}  # fmt: skip
OUTWARD = ("finite", "central", "forward", "one", "two", "sided")  # … differences are numerical
ERRORS = re.compile(r"err|diff|ratio|discrepan|deviation|mismatch|abweich|fehler|écart", re.I)


@lru_cache(maxsize=4096)
def role_of(word: str) -> Role | None:
    """What one word says; None where it says nothing.

    Example:
        >>> role_of("grad_numerical").trust, role_of("backpropped").trust, role_of("dWxh")
        (10, 2, None)
    """
    if word == "True":  # printed beside its numbers: they are close
        return None
    parts = _parts(word)
    whole = "".join(parts)
    if whole in PARTS:
        return PARTS[whole]
    if ANYWHERE.search(whole):
        return Role("gradient", NUMERICAL)
    for stem, role in STEMS:
        if any(re.match(stem, part) for part in parts) or re.match(stem, whole):
            return role
    beside = [part for part in parts if part not in PARTS or PARTS[part].weak]
    if len(parts) > 1 and all(len(part) <= 3 or part in PARTS for part in beside):
        strong = [PARTS[p] for p in parts if p in PARTS and PARTS[p].kind != "index"]
        return next((role for role in strong if not role.weak), next(iter(strong), None))
    return None


def phrase(words: Sequence[str]) -> Role | None:
    """What words that stand together say: the numerical gradient, the relative error, …

    Example:
        >>> phrase(["numerical", "gradient"]).trust, phrase(["numerical", "error"]).kind
        (10, 'derived')
        >>> phrase(["finite", "differences"]).trust
        10
    """
    text = " ".join(words)
    found = [role for role in map(role_of, words) if role is not None]
    if not found:
        return None
    last = _parts(words[-1])[-1:] or [""]
    if ERRORS.match(last[0]) and not {part for w in words for part in _parts(w)} & set(OUTWARD):
        return Role("derived", text=text)
    gradients = [role for role in found if role.kind == "gradient"]
    best = next((role for role in gradients if not role.weak), next(iter(gradients), found[0]))
    return Role(best.kind, best.trust, best.weak, text)


def _parts(word: str) -> list[str]:
    """A word's parts, in small letters: "gradNumerical" is "grad" and "numerical"."""
    split = re.sub(r"(?<=[a-zß-ÿ])(?=[A-Z])", "_", word)
    return [part for part in re.split(r"[\W_\d]+", split.lower()) if part]
