"""How people call gates and layers: what names of arrays tell of what they hold.

Names only order what is tried; shapes and the loss decide. A gate may be one letter in a name, or
a word; a layer is a number.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations, permutations
from typing import NamedTuple, TypeAlias

from throughtime.arrays import Shape

# Letters that people use for a gate, by the letter that stands here.
LETTERS = {
    "LSTM": {"i": "i", "f": "f", "o": "o", "a": "agcju"},
    "GRU": {"r": "r", "z": "zu", "n": "nhcga"},
    "RNN": {"s": "shxzan"},
}
CANDIDATE = LETTERS["LSTM"]["a"]

# What a name of a gate begins with, cut down to small letters.
WORDS = {
    "LSTM": {
        "i": ("i", "u", "add", "write"),
        "f": ("f", "keep", "remember"),
        "o": ("o", "read"),
        "g": ("g", "c", "a", "j", "z", "n", "tilde", "hat", "bar", "mem", "new", "s"),
    },
    "GRU": {
        "r": ("r",),
        "z": ("z", "u"),
        "n": ("n", "h", "c", "g", "a", "s", "tilde", "hat", "bar", "mem", "x"),
    },
}
USUAL_ORDERS = {
    "LSTM": ("ifgo", "ifog", "fiog", "figo", "iofg", "gifo"),
    "GRU": ("rzn", "zrn"),
    "RNN": ("h",),
    "coupled": ("igo", "iog", "gio"),
}
LONGEST_KEY = 20  # letters of a gate's name: "candidate_gate", with some to spare
MOST_KEYS = 9  # names that differ in one part: more are no gates

# One name for each gate, in an order that all groups have; "" where a gate has none.
Group: TypeAlias = tuple[str, ...]


class Grouping(NamedTuple):
    """Arrays seen as groups of one for each gate.

    Attributes:
        keys: what the names of a group differ in, one for each gate; empty where the gates are
            known without.
        groups: the groups.
        letters: the gate of each array of a group, where that is known.
    """

    keys: tuple[str, ...]
    groups: tuple[Group, ...]
    letters: str = ""

    @property
    def covered(self) -> set[str]:
        """The names in its groups."""
        return {name for group in self.groups for name in group if name}


def groupings(shapes: Mapping[str, Shape], gates: int) -> list[Grouping]:
    """The ways to see arrays as groups of one for each gate; those that explain most come first."""
    held = _by_template(shapes)
    vectors = {name for name, shape in shapes.items() if len(shape) < 2 or min(shape) == 1}
    partly = _by_keys([own for own in held if vectors.issuperset(own.values())], gates - 1)
    found: dict[frozenset[Group], Grouping] = {}
    for keys, members in _by_keys(held, gates).items():
        smaller = [own for some, several in partly.items() if some < keys for own in several]
        grouping = _disjoint(tuple(members[0]), [*members, *(smaller if gates > 2 else ())])
        found.setdefault(frozenset(grouping.groups), grouping)
    ranked = sorted(found.values(), key=lambda one: -len(one.covered))
    joined = [_joined(ranked[0], other) for other in ranked if _apart(ranked[0], other)]
    best = {frozenset(one.groups): one for one in (*joined[:2], *ranked)}
    if not best and gates > 2:  # peepholes alone, which the candidate lacks
        for keys, members in partly.items():
            if sorted(_meanings("LSTM", tuple(keys))) in (["f", "i", "o"], ["i", "o"]):
                best |= {frozenset(own.groups): own for own in map(_by_letters, members)}
    return list(best.values())


def _by_letters(own: Mapping[str, str]) -> Grouping:
    """One group whose names tell the gates, while all other arrays hold every gate."""
    letters = _meanings("LSTM", tuple(own))
    return Grouping((), (tuple(own.values()),), "".join(letters))


def _by_template(shapes: Mapping[str, Shape]) -> list[dict[str, str]]:
    """Arrays of one shape whose names differ in one part: from that part to the name."""
    held: dict[tuple[str, str, Shape], dict[str, str]] = {}
    for name, shape in shapes.items():
        for start in range(len(name) + 1):
            for end in range(start, min(len(name), start + LONGEST_KEY) + 1):
                own = held.setdefault((name[:start], name[end:], shape), {})
                own.setdefault(name[start:end].lower(), name)
    shortest: dict[frozenset[str], dict[str, str]] = {}
    for own in held.values():
        if 1 < len(own) <= MOST_KEYS:
            names = frozenset(own.values())
            if names not in shortest or len("".join(own)) < len("".join(shortest[names])):
                shortest[names] = own
    return list(shortest.values())


def _by_keys(held: list[dict[str, str]], size: int) -> dict[frozenset[str], list[dict[str, str]]]:
    """Sets of so many arrays, by what their names differ in: by as few letters as possible."""
    best: dict[frozenset[str], tuple[int, tuple[str, ...], dict[str, str]]] = {}
    for own in held:
        for keys in combinations(own, size):
            names = frozenset(own[key] for key in keys)
            cost = sum(map(len, keys))
            if names not in best or cost < best[names][0]:
                best[names] = cost, keys, own
    found: dict[frozenset[str], list[dict[str, str]]] = {}
    for _, keys, own in sorted(best.values(), key=lambda one: one[0]):
        found.setdefault(frozenset(keys), []).append({key: own[key] for key in keys})
    return found


def _disjoint(keys: tuple[str, ...], members: list[dict[str, str]]) -> Grouping:
    """The groups with these keys of which none overlaps an earlier one."""
    taken: set[str] = set()
    groups: list[Group] = []
    for own in members:
        if not taken & set(own.values()):
            taken |= set(own.values())
            groups.append(tuple(own.get(key, "") for key in keys))
    return Grouping(keys, tuple(groups))


def _apart(one: Grouping, other: Grouping) -> bool:
    return not one.covered & other.covered


def _joined(one: Grouping, other: Grouping) -> Grouping:
    """Two groupings by different keys as one: gates that are known by name, or in their order."""
    places: list[int] = list(range(len(one.keys)))
    for kind in WORDS:
        known = [_meanings(kind, grouping.keys) for grouping in (one, other)]
        if all(len(set(own)) == len(own) and "" not in own for own in known):
            places = [known[1].index(gate) for gate in known[0]]
    turned = tuple(tuple(group[place] for place in places) for group in other.groups)
    return Grouping(one.keys, (*one.groups, *turned))


def _meanings(kind: str, keys: tuple[str, ...]) -> list[str]:
    """What each key means, at first sight."""
    return [
        next((gate for gate, words in WORDS[kind].items() if _short(key).startswith(words)), "")
        for key in keys
    ]


def _short(key: str) -> str:
    return re.sub(r"[^a-z]", "", key.lower())


def orders_by_name(kind: str, letters: str, keys: tuple[str, ...]) -> list[str]:
    """Every order of the gates for these keys; those that the keys speak for come first."""

    def likely(order: tuple[str, ...]) -> float:
        score = 0.0
        for letter, key in zip(order, keys, strict=True):
            words = WORDS[kind][letter]
            begins = [n for n, word in enumerate(words) if _short(key).startswith(word)]
            score += 1 / (1 + begins[0] / 10) if begins else 0
        return -score

    return ["".join(order) for order in sorted(permutations(letters), key=likely)]


def usual_orders(kind: str, letters: str) -> list[str]:
    """Every order of the gates: the usual ones first."""
    usual = [order for order in USUAL_ORDERS[kind] if len(order) == len(letters)]
    others = ("".join(order) for order in permutations(letters))
    return list(dict.fromkeys((*usual, *others)))


class Layered(NamedTuple):
    """Arrays of several layers: by layer from general names to names, and the arrays beside."""

    layers: tuple[Mapping[str, str], ...]
    rest: tuple[str, ...]


def _with_or_without_a_head(templates: Sequence[str]) -> Iterator[list[str]]:
    """All templates; then without those of a head of two layers, which have numbers too.

    Its matrices and biases differ in their first letter: "Wd1", "bd1", "Wd2", "bd2".
    """
    yield list(templates)
    keys: dict[str, list[str]] = {}
    for template in templates:
        keys.setdefault(re.sub(r"[^a-z]", "", template.lower())[1:], []).append(template)
    for own in keys.values():
        left = [template for template in templates if template not in own]
        if left and len(own) <= 2:
            yield left


def layered(shapes: Mapping[str, Shape]) -> list[Layered]:
    """The ways to see arrays as those of layers with numbers; the last is that there is one."""
    held: dict[str, dict[int, str]] = {}
    for name in shapes:
        for digits in re.finditer(r"\d+", name):
            template = f"{name[: digits.start()]}#{name[digits.end() :]}"
            held.setdefault(template, {})[int(digits.group())] = name
    by_numbers: dict[tuple[int, ...], list[str]] = {}
    for template, own in held.items():
        by_numbers.setdefault(tuple(sorted(own)), []).append(template)
    found = []
    for numbers, templates in by_numbers.items():
        first = numbers[0]
        if len(numbers) > 1 and first < 2 and numbers == tuple(range(first, first + len(numbers))):
            for kept in _with_or_without_a_head(templates):
                each = tuple({t: held[t][number] for t in kept} for number in numbers)
                names = {name for layer in each for name in layer.values()}
                found.append(Layered(each, tuple(name for name in shapes if name not in names)))
    found.sort(key=lambda one: len(one.rest))
    return [*found, Layered(({name: name for name in shapes},), ())]
