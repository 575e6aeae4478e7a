"""Which arrays are parameters, and which are their gradients: by name, place and shape."""

from __future__ import annotations

import re
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from throughtime.arrays import Array

DEEPEST = 5  # containers within each other
MOST_ARRAYS = 400

NEUTRAL = {
    "params", "param", "parameters", "p", "weights", "theta", "self", "net", "model", "back",
    "out", "cache", "grads", "gradients", "grad", "gradient", "g", "deltas", "dparams", "derivs",
    "derivatives", "dtheta", "dweights", "diffs", "memory", "result", "lossdata", "given",
    "d_params", "gradparams", "paras", "para", "d_paras", "dparas", "vars", "dvars",
}  # fmt: skip
OF_GRADIENTS = re.compile(
    r"grad|^g$|deriv|delta|^d_?(p|par\w*|theta|weights|w|vars?)s?$|diff", re.I
)
PREFIX = re.compile(
    r"^(d(l|loss|e|j|c)_?(_?by_?|_?wrt_?)d_?|dl_?d|dloss_?d|de_?d|dj_?d|dc_?d(?=[A-Z])"
    r"|grads?_((acc|accum|accumulated|sum|total)_)?(of_|wrt_)?|gradients?_(of_)?|grad|deltas?_?"
    r"|nabla_?|partial_?|d_|del_|g_|diff_|acc_?d?|sum_d?|total_d|(?-i:g(?=[WUVB]))|d(?=[^_]))",
    re.I,
)
WORDS_IN_D = re.compile(  # that begin with a d which is no derivative's
    r"^d(ata|ense|ecod|ecay|evice|ict|oc|ate|rop|t$|im|ir|elim|ist|efault|isplay|igit|eep|one$)",
    re.I,
)
SUFFIX = re.compile(
    r"(_?grads?|_gradients?|_d|_diff|_delta|_deriv|_g|_bar|_dot|_acc(um)?|_updates?)$", re.I
)
VALUE = re.compile(
    r"^(v|val|value|values|data|a|arr|array)$"
)  # of a parameter that holds … (`V` is a weight)
BESIDE = re.compile(r"^(d|dv|g|grads?|gradients?|diff|deriv|derivative|delta)$")  # … both


@dataclass(frozen=True, eq=False)
class HeldArray:
    """An array that the user's code holds.

    Args:
        text: an expression for it, as `net.params['W']`.
        path: the names on the way to it.
        value: the array, as float64.
        raw: as the user's code holds it.
    """

    text: str
    path: tuple[str, ...]
    value: Array
    raw: Any

    @property
    def leaf(self) -> str:
        """The last name, or the last but one where the last is a number."""
        words = [part for part in self.path if not part.lstrip("-").isdigit()]
        return words[-1] if words else ""


def places(text: str, value: Any, path: Sequence[str] = (), depth: int = 0) -> Iterator[HeldArray]:
    """All arrays of numbers within a value, with expressions for them."""
    yield from _places(text, value, tuple(path), depth, set())


def _places(
    text: str, value: Any, path: tuple[str, ...], depth: int, seen: set[int]
) -> Iterator[HeldArray]:
    array = numbers(value)
    if array is not None:
        yield HeldArray(text, path, array, value)
        return
    if depth > DEEPEST or id(value) in seen:
        return
    if isinstance(value, str | bytes | type | types.ModuleType):
        return
    seen = seen | {id(value)}
    if isinstance(value, Mapping):
        words = _of_both(value)
        for key, part in list(value.items())[:MOST_ARRAYS]:
            if isinstance(key, str | int):
                own = words.get(key, (str(key),))
                yield from _places(f"{text}[{key!r}]", part, (*path, *own), depth + 1, seen)
    elif isinstance(value, list | tuple):
        for n, part in enumerate(value[:MOST_ARRAYS]):
            yield from _places(f"{text}[{n}]", part, (*path, str(n)), depth + 1, seen)
    elif (hasattr(value, "__dict__") and not callable(value)) or is_users(value):
        words = _of_both(vars(value))
        for key, part in list(held_by(value).items())[:MOST_ARRAYS]:
            own = words.get(key, (key,))
            yield from _places(f"{text}.{key}", part, (*path, *own), depth + 1, seen)


def held_by(value: Any) -> dict[str, Any]:
    """The attributes of an object: its own, and lists and arrays that its class holds for it."""
    found = dict(vars(value))
    if is_library(type(value)):
        return found
    for kind in type(value).__mro__[:-1]:
        for key, part in vars(kind).items():
            if isinstance(part, np.ndarray | list | dict) and not key.startswith("__"):
                found.setdefault(key, part)
    return found


def _of_both(held: Mapping[Any, Any]) -> dict[Any, tuple[str, ...]]:
    """The names of a parameter's value and of its gradient, where one object holds both.

    `Wf.v` and `Wf.d` are `Wf` and its gradient.
    """
    arrays = {key: part for key, part in held.items()
              if isinstance(key, str) and isinstance(part, np.ndarray)}  # fmt: skip
    values = [key for key in arrays if VALUE.match(key)]
    gradients = [key for key in arrays if BESIDE.match(key)]
    if len(values) != 1 or len(gradients) != 1:
        return {}
    if arrays[values[0]].shape != arrays[gradients[0]].shape:
        return {}
    return {values[0]: (), gradients[0]: ("grad",)}


def is_users(value: Any) -> bool:
    """Whether it is an object of a class that some user's file defines, callable or not."""
    kind = type(value)
    return is_object(value) and any("__call__" in vars(base) for base in kind.__mro__)


def is_object(value: Any) -> bool:
    """Whether it is an object with attributes, of a class that is no library's."""
    code = isinstance(value, type | types.FunctionType | types.ModuleType)
    return hasattr(value, "__dict__") and not code and not is_library(type(value))


def is_library(kind: type) -> bool:
    """Whether a class is one of Python's or of a library's."""
    return str(kind.__module__).split(".")[0] in ("builtins", "numpy", "functools", "torch")


def summed(place: HeldArray, steps: int) -> HeldArray | None:
    """The sum of what is kept for each step, as some keep gradients; None where nothing is."""
    if not isinstance(place.raw, np.ndarray) or place.value.ndim < 2 or len(place.value) != steps:
        return None
    total = place.value.sum(axis=0)
    return HeldArray(f"np.sum({place.text}, axis=0)", place.path, total, total)


def numbers(value: Any) -> Array | None:
    """A value as an array of real numbers in floating point; None where it is none."""
    if isinstance(value, np.ndarray):
        if value.dtype.kind == "f":
            return value
        if value.dtype.kind == "O" and value.size:
            try:
                return value.astype(np.float64)
            except (TypeError, ValueError):
                return None
        return None
    if isinstance(value, tuple) and len(value) > 1 and all(isinstance(v, float) for v in value):
        return np.array(value)  # as a gradient that is returned number by number
    if isinstance(value, list) and value and not isinstance(value[0], np.ndarray):
        part = value
        while isinstance(part, list) and part:
            part = part[0]
        if isinstance(part, float):
            try:
                array = np.array(value, dtype=np.float64)
            except (TypeError, ValueError):
                return None
            return array if array.size else None
        return None
    if isinstance(value, np.floating) or type(value) is float:
        return np.array(float(value))
    tensor = str(type(value).__module__).split(".")[0] == "torch" and hasattr(value, "detach")
    if tensor and not isinstance(value, type):
        found = value.detach().cpu().numpy()
        return found if found.dtype.kind == "f" else None
    return None


def like(raw: Any, value: Array) -> Any:
    """An array as what the user's code holds: a list, a tensor of torch, a number or an array."""
    if isinstance(raw, list):
        return value.tolist()
    if isinstance(raw, float):
        return float(value)
    return raw.new_tensor(value) if hasattr(raw, "new_tensor") else value.copy()


def same_shape(a: Array, b: Array) -> bool:
    """Whether two shapes are equal but for axes of size 1."""
    return [n for n in a.shape if n != 1] == [n for n in b.shape if n != 1]


def key(place: HeldArray, *, gradient: bool) -> tuple[str, ...]:
    """The names on the way to an array, without those that say nothing, and without the d."""
    words = [_plain(part, gradient=gradient) for part in place.path]
    return tuple(word for word in words if word and word.lower() not in NEUTRAL)


def _plain(word: str, *, gradient: bool) -> str:
    low = word.strip("_")
    if gradient and low.lower() not in NEUTRAL and not WORDS_IN_D.match(low):
        stripped = PREFIX.sub("", low, count=1)
        low = stripped if stripped != low and stripped else SUFFIX.sub("", low) or low
    return low.replace("_", "").lower() if low.lower() not in NEUTRAL else low.lower()


def _is_gate(word: str) -> bool:
    """Whether the g at a name's end is a gate's, as in `W_g` beside `W_i`, and no gradient's."""
    return bool(re.fullmatch(r"[WUVRb]\w{0,2}_g", word))


def same_names(
    parameter: HeldArray, gradient: HeldArray, others: Sequence[HeldArray]
) -> list[HeldArray]:
    """Other arrays than a gradient that are called like it, and have its parameter's shape."""
    own = key(gradient, gradient=True)
    return [
        other
        for other in others
        if other.text != gradient.text
        and own
        and key(other, gradient=True)[-1:] == own[-1:]
        and other.value.shape == parameter.value.shape
    ]


def is_named_gradient(place: HeldArray) -> bool:
    """Whether some name on the way to an array says that it is a gradient."""
    gate = "['g']" in place.text  # beside those of 'i', 'f' and 'o'
    for part in place.path:
        word = part.strip("_")
        if gate and word == "g":
            continue
        if _is_gate(word):
            continue
        if OF_GRADIENTS.search(word) or SUFFIX.search(word):
            return True
    word = place.leaf.strip("_")
    return bool(PREFIX.match(word)) and len(word) > 1 and not WORDS_IN_D.match(word)


class Unpaired(NamedTuple):
    """What is left to be paired by the looser rules.

    Attributes:
        parameters, gradients: all of them.
        keys: the names of each gradient that tell whose it is.
        taken: the texts of parameters that have their gradient.
        used: the numbers of gradients that have their parameter.
    """

    parameters: Sequence[HeldArray]
    gradients: Sequence[HeldArray]
    keys: Sequence[tuple[str, ...]]
    taken: set[str]
    used: set[int]


def pairs(
    parameters: Sequence[HeldArray], gradients: Sequence[HeldArray], *, in_order: bool = False
) -> dict[str, tuple[HeldArray, HeldArray]]:
    """Each parameter with its gradient, by the parameter's dotted name.

    Args:
        parameters: the arrays that may be parameters.
        gradients: those that may be gradients, the likelier first.
        in_order: whether gradients that no name tells may be paired by order and shape.
    """
    found: dict[str, tuple[HeldArray, HeldArray]] = {}
    used: set[int] = set()

    def take(parameter: HeldArray, number: int) -> None:
        found[dotted(parameter)] = (parameter, gradients[number])
        used.add(number)

    inside = _within(gradients, parameters)
    keys = [key(inside(g), gradient=True) for g in gradients]
    gates = [(*k, "g") if g.leaf == "g" else k for k, g in zip(keys, gradients, strict=True)]
    ends, gate_ends = _by_end(keys), _by_end(gates)
    taken: set[str] = set()
    for rule in (_equal, _ends):
        for parameter in parameters:
            own = key(inside(parameter), gradient=False)
            theirs, last = keys, ends
            if parameter.leaf == "g" and len(parameter.path) > 1:  # a gate, and no gradient
                own, theirs, last = (*own, "g"), gates, gate_ends
            if parameter.text in taken or not own:
                continue
            for number in last.get(own[-1], ()):
                if (
                    number not in used
                    and rule(own, theirs[number])
                    and same_shape(parameter.value, gradients[number].value)
                ):
                    take(parameter, number)
                    taken.add(parameter.text)
                    break
    left = Unpaired(parameters, gradients, keys, taken, used)
    for parameter, number in _as_one_word(left):
        take(parameter, number)
        taken.add(parameter.text)
    for parameter, number in _but_first_letter(left):
        take(parameter, number)
    for parameter, number in _by_initial(left):
        take(parameter, number)
    if in_order and not found:
        found |= by_order(parameters, gradients)
    return found


def _within(
    gradients: Sequence[HeldArray], parameters: Sequence[HeldArray]
) -> Callable[[HeldArray], HeldArray]:
    """Takes the one object that holds gradients and parameters off the names of what it holds.

    Whatever it is called: `m.cell.W` and `m.grad_W` are `cell.W` and `grad_W`.
    """
    roots = {g.path[0] for g in gradients if g.path}
    own = {p.path[0] for p in parameters if len(p.path) > 1}
    roots = roots if len(roots) == 1 and roots <= own else set()
    root = next(iter(roots), "")

    def inside(place: HeldArray) -> HeldArray:
        within = len(place.path) > 1 and place.path[0] == root
        return replace(place, path=place.path[1:]) if within else place

    return inside


def _as_one_word(left: Unpaired) -> list[tuple[HeldArray, int]]:
    """Further pairs, of ways that are the same in one word: `layers[0].W` and `["layer_0"]["W"]`.

    Those alone that leave no choice.
    """
    gradients, keys = left.gradients, left.keys
    found: list[tuple[HeldArray, int]] = []
    first = {id(g.raw): number for number, g in reversed(list(enumerate(gradients)))}
    for parameter in left.parameters:
        own = key(parameter, gradient=False)
        if parameter.text in left.taken or len(own) < 2 or own[-1].isdigit():
            continue
        word = _one_word(own)
        found += [
            (parameter, number)
            for number, words in enumerate(keys)
            if number not in left.used
            and first[id(gradients[number].raw)] == number  # kept in two dicts, it is one array
            and len(words) > 1
            and words[-1] == own[-1]
            and (word.endswith(_one_word(words)) or _one_word(words).endswith(word))
            and any(letter.isdigit() for letter in _one_word(words))
            and same_shape(parameter.value, gradients[number].value)
        ]
    ours = [parameter.text for parameter, _ in found]
    theirs = [number for _, number in found]
    return [pair for pair in found if ours.count(pair[0].text) == theirs.count(pair[1]) == 1]


def _one_word(words: Sequence[str]) -> str:
    """The names on the way to an array as one word, lists as their elements: `layer0w`."""
    return re.sub(r"s(?=\d)", "", "".join(words))


def _but_first_letter(left: Unpaired) -> list[tuple[HeldArray, int]]:
    """Further pairs, of names that differ in their first letter alone, as `wf` and `duf`.

    There have to be several with the same two letters, each with one partner of its shape.
    """
    gradients, keys = left.gradients, left.keys
    found: dict[tuple[str, str], list[tuple[HeldArray, int]]] = {}
    for parameter in left.parameters:
        own = key(parameter, gradient=False)
        if parameter.text in left.taken or len(own) != 1 or len(own[0]) < 2:
            continue
        rest = [n for n, words in enumerate(keys)
                if n not in left.used and len(words) == 1 and words[0][1:] == own[0][1:]
                and words[0][0].isalpha() and words[0] != own[0]
                and is_named_gradient(gradients[n])
                and same_shape(parameter.value, gradients[n].value)]  # fmt: skip
        if len(rest) == 1:
            letters = (own[0][0], keys[rest[0]][0][0])
            found.setdefault(letters, []).append((parameter, rest[0]))
    several = max(found.values(), key=len, default=[])
    numbers_ = [number for _, number in several]
    return several if len(set(numbers_)) == len(numbers_) > 1 else []


def _by_initial(left: Unpaired) -> Iterator[tuple[HeldArray, int]]:
    """Further pairs of one object: `layer.weights` with `layer.nabla_w`, `.biases` with `.db`.

    The parameter is the only one there that begins with that letter and has that shape.
    """
    for number, gradient in enumerate(left.gradients):
        own, owner = left.keys[number], gradient.path[:-1]
        if number in left.used or not own or len(own[-1]) != 1 or not is_named_gradient(gradient):
            continue
        meant = [
            p
            for p in left.parameters
            if p.path[:-1] == owner
            and p.text not in left.taken
            and len(p.leaf) > 1
            and p.leaf.strip("_").lower().startswith(own[-1])
            and not is_named_gradient(p)
            and same_shape(p.value, gradient.value)
        ]
        if len(meant) == 1:
            yield meant[0], number


def _by_end(keys: Sequence[tuple[str, ...]]) -> dict[str, list[int]]:
    """The numbers of keys by their last words: models of many nodes hold many arrays."""
    found: dict[str, list[int]] = {}
    for number, words in enumerate(keys):
        if words:
            found.setdefault(words[-1], []).append(number)
    return found


def by_order(
    parameters: Sequence[HeldArray], gradients: Sequence[HeldArray]
) -> dict[str, tuple[HeldArray, HeldArray]]:
    """Pairs by order: the longest run of gradients whose shapes are those of the parameters."""
    best: list[tuple[HeldArray, HeldArray]] = []
    for start in range(len(gradients)):
        run: list[tuple[HeldArray, HeldArray]] = []
        rest = list(gradients[start:])
        for parameter in parameters:
            if rest and same_shape(parameter.value, rest[0].value):
                run.append((parameter, rest.pop(0)))
        if len(run) > len(best):
            best = run
    best += _alone(parameters, gradients, best)
    return {dotted(parameter): (parameter, gradient) for parameter, gradient in best}


def _alone(
    parameters: Sequence[HeldArray],
    gradients: Sequence[HeldArray],
    known: Sequence[tuple[HeldArray, HeldArray]],
) -> list[tuple[HeldArray, HeldArray]]:
    """Further pairs: where one parameter and one gradient alone have a shape of two long axes."""
    found = []
    for parameter in parameters:
        shape = [n for n in parameter.value.shape if n != 1]
        same = [p for p in parameters if same_shape(p.value, parameter.value)]
        theirs = [g for g in gradients if same_shape(g.value, parameter.value)]
        taken = any(parameter is p for p, _ in known) or any(
            g is h for g in theirs for _, h in known
        )
        if len(shape) > 1 and len(same) == len(theirs) == 1 and not taken:
            found.append((parameter, theirs[0]))
    return found


def _equal(parameter: tuple[str, ...], gradient: tuple[str, ...]) -> bool:
    return bool(parameter) and parameter == gradient


def _ends(parameter: tuple[str, ...], gradient: tuple[str, ...]) -> bool:
    """Whether the shorter of two ways is the end of the other."""
    if not parameter or not gradient:
        return False
    shorter = min(len(parameter), len(gradient))
    if all(word.isdigit() for word in parameter[-shorter:]):
        return False  # places in lists, which say nothing by themselves
    return parameter[-shorter:] == gradient[-shorter:]


def dotted(place: HeldArray) -> str:
    """A parameter's name in the report."""
    words = [part for part in place.path if part]
    ours = len(words) > 1 and words[0] in ("net", "self")
    words = words[1:] if ours else words
    said = [w for w in words[:-1] if w.strip("_").lower() not in NEUTRAL]
    said += [w for w in words[-1:] if w == "g" or w.strip("_").lower() not in NEUTRAL]
    # The object's own name alone, of `m.weights`, names no parameter.
    alone = not ours and len(words) > 1 and said == words[:1]
    words = said if any(not w.isdigit() for w in said) and not alone else words
    return ".".join(word.lstrip("_") for word in words)
