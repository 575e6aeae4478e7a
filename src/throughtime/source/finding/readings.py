"""Readings: ways to run a candidate, each tried, and judged by how much of its gradient is right.

Which form of data, which loss and which upstream gradient an author had in mind is not written
down. A reading under which more tensors of the gradient equal the numerical derivative is the
likelier one: a wrong backward pass does not become right by a wrong form of its data. So a right
backward pass is found by the reading under which it is right, and a wrong one by the reading under
which most of it is.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from throughtime.arrays import Array
from throughtime.gradcheck import CheckError
from throughtime.source.bench import Bench
from throughtime.source.containers import by_structure
from throughtime.source.finding.other_gradients import beside, is_share, other_gradients
from throughtime.source.finding.reading import DRAWN, Reading
from throughtime.source.finding.slopes import as_array, loss_of, slopes
from throughtime.source.finding.updates import is_added, is_moved, is_plain_descent
from throughtime.source.finding.used_data import uses_data
from throughtime.source.meanings import STEPS, role
from throughtime.source.pairing import (
    HeldArray,
    is_named_gradient,
    numbers,
    pairs,
    places,
    summed,
)
from throughtime.source.tolerances import POINT_WIDTH
from throughtime.source.user_files import State

STATE_NAME = re.compile(r"^_*(prev|last)?_?(h|c|s|state|hidden)s?_?(prev|last|state|t|0)?_*$", re.I)
OF_STATE = re.compile(r"^_*(b|bias)_", re.I)  # `b_hidden` is the bias of the hidden units
STATE_END = re.compile(r"(^|_)states?$", re.I)  # as in `output_state`, which is no prediction
SUMMED = 1e-9  # relative: a sum in another order differs by 1e-15, a recurrence by its whole effect
ROUNDINGS = 100  # by which such a sum may differ: more than SUMMED in float32 alone
DATA = re.compile(  # names of no parameters; `d` is drawn for the gradient of an output
    r"^([xyd]s?|(input|target|label)s?|[xy]_?(data|train|batch|seq)|(train_?)?data(_[xy])?)$"
)
FEWEST_RIGHT = 2  # tensors, for the sign of an update by a drawn gradient to be believed
REDRAWN = 0.5  # rms of parameters that are drawn anew: what matters and does not saturate a cell


@dataclass(frozen=True)
class Judged:
    """A reading that runs.

    Args:
        reading: what was run.
        parameters, gradients: name to expression, as in `Recipe`.
        right: names of the tensors whose gradient equals the numerical derivative.
        moves: names of those that the loss depends on.
        redrawn: the statement that draws the parameters anew.
        update: whether the gradient is read from an update of the parameters.
        shapes: of the parameters.
        before: the statement before the update, where there is one.
        recurrent: whether the loss is more than a sum over the axis that is taken for time.
        right_at_one: whether some tensor is right on one step: a fault that is carried from step
            to step does not show there, but data or a loss that are misread do.
        silent: whether all of the gradient is exactly 0, as where it is given the predictions for
            targets.
        factor: what several tensors of the gradient are too large by, where that is the same.
        inert: whether the loss does not react at all to some parameter, as to recurrent weights
            where there is a single step.
        unmoved: matrices that are moved as parameters are, and that the loss does not react to.
        downhill: whether the user's code adds its gradients to the parameters, so that they are
            those of the loss with the other sign, with which they are read.
    """

    reading: Reading
    parameters: dict[str, str]
    gradients: dict[str, str]
    right: tuple[str, ...]
    moves: tuple[str, ...]
    redrawn: str
    update: bool
    shapes: dict[str, tuple[int, ...]]
    before: str = ""
    recurrent: bool = True
    right_at_one: bool = False
    silent: bool = False
    factor: float | None = None
    downhill: bool = False
    inert: bool = False
    unmoved: tuple[str, ...] = ()

    @property
    def settled(self) -> bool:
        """Whether no other reading can be likelier."""
        every = len(self.right) == len(self.gradients) > 1
        return self.recurrent and every and not self.reading.passes_over

    @property
    def believed(self) -> bool:
        """Whether the reading is more than a guess."""
        doubtful = self.reading.needs_agreement or (self.silent and not self.reading.literal)
        data_alone = all(map(is_data, self.moves))
        return not data_alone and (self.confirmed or not doubtful)

    @property
    def confirmed(self) -> bool:
        """Whether some tensor is right, at one step at least, or several up to one factor."""
        return bool(self.right) or self.right_at_one or self.of_own_loss

    @property
    def of_own_loss(self) -> bool:
        """Whether several tensors are right up to one factor for the loss that the file has."""
        return self.factor is not None and self.reading.own_loss

    @property
    def rank(self) -> tuple[float, ...]:
        """The larger, the likelier."""
        share = len(self.right) / max(len(self.moves), 1)
        if self.reading.enlarges and len(self.right) < 2:
            share = 0.0  # that a single tensor is right of a loss that nobody means is by chance
        return (
            self.recurrent,
            not self.silent,
            not self.inert,
            # Right up to a factor for the file's own loss goes before right for a guess.
            share == 1.0 or self.of_own_loss,
            self.confirmed or not (self.reading.passes_over or self.reading.needs_agreement),
            not self.reading.passes_over,
            round(share, 2),
            self.right_at_one,
            self.reading.fits,
            len(self.moves),
            -self.reading.order,
        )


def is_data(name: str) -> bool:
    """Whether a dotted name is one of data, of which a gradient alone is no check of a network."""
    return bool(DATA.match(name.rpartition(".")[2].strip("_").lower()))


def likeliest(bench: Bench, readings: Iterable[Reading]) -> Judged | None:
    """The likeliest of all readings, up to one that settles it; None where nothing runs."""
    best: Judged | None = None
    for reading in readings:
        found = judged(bench, reading)
        if found is None or not found.moves:
            continue
        if best is None or found.rank > best.rank:
            best = found
        if found.settled:
            break
    return best


def judged(bench: Bench, reading: Reading) -> Judged | None:
    """Runs a reading; None where it does not run, or no parameter has a gradient.

    Args:
        bench: the user's file.
        reading: what is tried.
    """
    run = (reading.run, reading.gradient, reading.loss)
    if not uses_data([name for name, _ in reading.steps], reading.setup, "\n".join(run)):
        return None
    try:
        with bench.files.entered():  # once for all runs
            return _judged(bench, reading)
    except CheckError:
        return None


def _judged(bench: Bench, reading: Reading, states: frozenset[str] = frozenset()) -> Judged | None:
    """As `judged`, without what is known to be a state."""
    bench.run(reading.begin)
    start = bench.state()
    held = [place for place in parameters_of(bench, reading) if place.text not in states]
    if not held:
        return None
    bench.run(f"{reading.run}\n{reading.gradient}", start)
    found, update, after = _pairs(bench, reading, held)
    if not found:
        return None
    names = {name: parameter.text for name, (parameter, _) in found.items()}
    redrawn = _redrawing([p for p, _ in found.values()]) if reading.redraw else ""
    if redrawn:
        bench.run(f"{reading.begin}\n{redrawn}")
        start = bench.state()
    before = ""
    gradients = {name: gradient.text for name, (_, gradient) in found.items()}
    if update:
        before = _before(names)
        gradients = {n: f"(before[{n!r}] - {g}) / {reading.rate}" for n, g in gradients.items()}
    bench.run(f"{before}\n{reading.run}\n{reading.gradient}", start)
    given = {
        name: np.array(as_array(bench.value(text)), dtype=np.float64)
        for name, text in gradients.items()
    }
    right, moves, factor, inert = slopes(bench, reading.evaluate, start, names, given)
    if not update and len(right) < len(moves):
        weights = {n: pair for n, pair in found.items() if not is_state(pair[0])}
        others = other_gradients(weights, right, after)
        better = _of_others(bench, reading, start, names, others)
        gradients |= better
        right = tuple(n for n in moves if n in right or n in better)
        gradients |= beside(better, others, right)
    idle = [] if update or states or not inert else _untouched(bench, start, inert, gradients)
    if 0 < len(idle) < len(found):  # a cell of a further step, which is not run at this length
        return _judged(bench, reading, frozenset(found[name][0].text for name in idle))
    if update and not states and 0 < len(inert) < len(found):
        # What a run sets anew, whatever it was, is a state and no parameter.
        left = [found[name][0] for name in inert]
        of_weights = tuple(name for name in inert if _is_matrix(found[name][0]))
        rest = _judged(bench, reading, frozenset(place.text for place in left))
        unmoved = (*of_weights, *rest.unmoved) if rest else ()
        return rest and replace(rest, inert=rest.inert or bool(of_weights), unmoved=unmoved)
    # A state that a run begins with may have a δ on the way, called as its gradient would be;
    # data are no parameters, though their gradient may be there, and a share is no gradient.
    texts = [] if update else list(bench.files.texts().values())
    begun_with = [
        n
        for n, (p, _) in found.items()
        if is_data(n)
        or (n not in right and is_state(p) and not _is_bias(n, found))
        or (n not in right and is_share(texts, gradients[n]))
    ]
    if 0 < len(begun_with) < len(found):
        for held_of in (found, names, gradients, given):
            for name in begun_with:
                del held_of[name]
        moves = tuple(name for name in moves if name in found)
    # An update by what is drawn for the upstream gradient says nothing of its sign, while one by
    # the gradient of a loss does.
    any_sign = not update or DRAWN in reading.loss
    downhill = not right and any_sign and is_added(bench.files.texts().values(), names)
    if downhill:
        other = slopes(bench, reading.evaluate, start, names, {n: -g for n, g in given.items()})
        several = len(other[0]) >= FEWEST_RIGHT or not update  # a sign and a rate are two guesses
        downhill = several and not all(map(is_data, other[0]))
    if downhill:
        right, moves, factor, inert = other
        gradients = {name: f"-np.asarray({text})" for name, text in gradients.items()}
    shapes = {name: parameter.value.shape for name, (parameter, _) in found.items()}
    if update and not reading.literal:
        # An optimiser's steps are no gradients: read so only where some tensor is right.
        own = reading.own_loss or reading.anchored
        plain = own and is_plain_descent(bench.files.texts().values(), names)
        reading = replace(reading, needs_agreement=reading.needs_agreement or not plain)
    recurrent = _recurrent(bench, reading, redrawn, names)
    one = (
        not right
        and bool(reading.steps)
        and _right_at_one(bench, reading, redrawn, before, gradients, names)
    )
    return Judged(
        reading,
        names,
        gradients,
        right,
        moves,
        redrawn,
        update,
        shapes,
        before,
        recurrent,
        one,
        not any(array.any() for array in given.values()),
        factor,
        downhill,
        any(name in found for name in inert),
    )


def _untouched(
    bench: Bench, start: State, inert: Sequence[str], gradients: dict[str, str]
) -> list[str]:
    """Those of parameters that the loss does not react to whose gradients no run has set."""
    after: dict[str, np.ndarray] = {}
    for name in inert:
        with contextlib.suppress(CheckError):
            after[name] = np.array(as_array(bench.value(gradients[name])))
    bench.run("", start)
    found = []
    for name, value in after.items():
        with contextlib.suppress(CheckError):
            before = as_array(bench.value(gradients[name]))
            if value.any() and np.array_equal(before, value):
                found.append(name)
    return found


def _of_others(
    bench: Bench,
    reading: Reading,
    start: State,
    names: dict[str, str],
    others: dict[str, list[HeldArray]],
) -> dict[str, str]:
    """Parameters with expressions of other gradients of theirs that are right.

    A cell keeps what its last call gave, and the network the sum of it, both as `dW`.
    """
    found: dict[str, str] = {}
    for name, several in others.items():
        for place in several:
            bench.run(f"{reading.run}\n{reading.gradient}", start)
            value = np.array(as_array(bench.value(place.text)), dtype=np.float64)
            if slopes(bench, reading.evaluate, start, {name: names[name]}, {name: value})[0]:
                found[name] = place.text
                break
    return found


def _is_bias(name: str, found: Iterable[str]) -> bool:
    """Whether a `c` stands beside `b`: the bias of the outputs, beside that of the states."""
    way, _, leaf = name.rpartition(".")
    return leaf == "c" and f"{way}.b".lstrip(".") in set(found)


def is_state(place: HeldArray) -> bool:
    """Whether an array is a state by its name, and no matrix of weights."""
    shape = place.value.shape
    thin = len(shape) < 2 or min(shape) == 1
    if OF_STATE.match(place.leaf):
        return False
    state = role(place.leaf) == "state" or bool(STATE_END.search(place.leaf.strip("_")))
    return bool(STATE_NAME.match(place.leaf)) or (state and thin)


def _right_at_one(
    bench: Bench,
    reading: Reading,
    redrawn: str,
    before: str,
    gradients: dict[str, str],
    names: dict[str, str],
) -> bool:
    """Whether some tensor of the gradient is right on a single step."""
    try:
        bench.run(f"{reading.begun(1)}\n{redrawn}")
        start = bench.state()
        bench.run(f"{before}\n{reading.run}\n{reading.gradient}", start)
        given = {
            name: np.array(as_array(bench.value(text)), dtype=np.float64)
            for name, text in gradients.items()
        }
        return bool(slopes(bench, reading.evaluate, start, names, given)[0])
    except CheckError:
        return False


def _recurrent(bench: Bench, reading: Reading, redrawn: str, names: dict[str, str]) -> bool:
    """Whether steps depend on those before: over an axis of sequences the loss is a sum, or mean.

    Along an axis of time, parameters have one shape whatever its length. Where nothing is said of
    an axis, there is nothing to doubt.
    """
    if not reading.steps:
        return True
    loss = reading.loss.replace(DRAWN, "np.ones(")
    count = min(STEPS, reading.longest)  # a user's own data may be shorter
    values: list[float] = []
    shapes: set[tuple[tuple[int, ...], ...]] = set()
    try:
        for part in (f":{count}", *(f"{n}:{n + 1}" for n in range(count))):
            lines = [f"{name} = {name}[{':, ' * axis}{part}]" for name, axis in reading.steps]
            bench.run("\n".join((reading.data, *lines, reading.setup)))
            shapes.add(tuple(np.shape(bench.value(text)) for text in names.values()))
            if len(shapes) > 1:
                return False
            whole = (reading.data, *lines, reading.setup, redrawn, reading.run, loss)
            bench.run("\n".join(whole))
            values.append(loss_of(bench))
    except CheckError:
        return True
    total, single = values[0], values[1:]
    near = max(SUMMED, ROUNDINGS * _rounding(bench, names)) * max(map(abs, values))
    # Where the first entry alone gives the same, a loss takes one sequence of several.
    others = (sum(single), sum(single) / count, single[0])
    return not any(abs(total - other) <= near for other in others)


def _rounding(bench: Bench, names: dict[str, str]) -> float:
    """The rounding of the coarsest parameters, relative."""
    raws = [bench.value(text) for text in names.values()]
    kinds = [raw.dtype for raw in raws if isinstance(raw, np.ndarray) and raw.dtype.kind == "f"]
    return max((float(np.finfo(kind).eps) for kind in kinds), default=0.0)


def parameters_of(bench: Bench, reading: Reading) -> list[HeldArray]:
    """The arrays that may be parameters, before anything is run."""
    found: list[HeldArray] = []
    for root in reading.roots:
        try:
            value = bench.value(root)
        except CheckError:
            continue
        named = root == "params" and isinstance(value, tuple | list)
        if named and len(value) == len(reading.names):
            for n, (part, name) in enumerate(zip(value, reading.names, strict=True)):
                found += list(places(f"params[{n}]", part, ("params", name or str(n))))
        else:
            found += list(places(root, value, tuple(root.split("."))))
    unique: dict[str, HeldArray] = {}
    # The arrays themselves; a part of one is another matter. Of several names the shortest counts:
    # a network that takes the arrays of its cells for its own adds up their gradients beside them.
    known: dict[int, str] = {}
    for place in found:
        if isinstance(place.raw, np.ndarray):
            before = known.setdefault(id(place.raw), place.text)
            if before != place.text:
                if len(place.path) >= len(unique[before].path):
                    continue
                del unique[before]
                known[id(place.raw)] = place.text
        unique.setdefault(place.text, place)
    return list(unique.values())


def _pairs(
    bench: Bench, reading: Reading, held: Sequence[HeldArray]
) -> tuple[dict[str, tuple[HeldArray, HeldArray]], bool, list[HeldArray]]:
    """Parameters with their gradients; whether they are to be read from an update.

    Then all arrays that may be gradients.
    """
    copies = {place.text: place.value.copy() for place in held}
    after: list[HeldArray] = []
    back = bench.space.get("back")
    if back is not None:
        after += _named(back, reading.back_names)
    for root in reading.roots:
        value = bench.space.get(root) if root.isidentifier() else bench.value(root)
        names = dict(reading.kept_names).get(root, ())
        after += _named(value, names, root)
    # Kept for each step, or for each sequence; the two numbers differ.
    kept_for = [STEPS, *(np.shape(bench.value(name))[axis] for name, axis in reading.sequences)]
    after += [other for n in kept_for for p in after if (other := summed(p, n)) is not None]
    returned = [p for p in after if _root(p) == "back" or _root(p) in reading.kept]
    named = [p for p in after if p not in returned and is_named_gradient(p)]
    # What no run has touched, as an optimiser's `W_delta`, is no gradient.
    named = [p for p in named if p.text not in copies or not _is_stale(p, copies[p.text])]
    changed = []
    for place in held:
        now = numbers(bench.value(place.text))
        before = copies[place.text]
        if now is not None and now.shape == before.shape and not np.array_equal(now, before):
            changed.append(place)
    gradient_texts = {p.text for p in named}
    likely = [p for p in held if not is_named_gradient(p) or p.text not in gradient_texts]
    if not likely:
        likely = list(held)
    found = pairs(likely, [*returned, *named], in_order=False)
    alike = by_structure(likely, [*returned, *named])
    theirs = {g.text for _, g in alike.values()}
    by_name = [n for n, (_, g) in found.items() if g.text in theirs]
    if len(by_name) < len(alike):
        found = {n: pair for n, pair in found.items() if n not in by_name} | alike
    plain = [p for p in returned if np.any(p.value)]
    if len(found) < 2:
        ordered = pairs(likely, plain, in_order=True)
        if len(ordered) > len(found):
            found = ordered
    # A step that returns parameters gives what they are after its update, and no gradients.
    stepped = {n: (p, g) for n, (p, g) in found.items()
               if g in returned and g.leaf in reading.moved}  # fmt: skip
    if stepped and len(stepped) == len(found):
        return stepped, True, []
    # A parameter itself is given back, as it was or as it is after the update.
    found = {
        n: (p, g)
        for n, (p, g) in found.items()
        if g.raw is not p.raw and (isinstance(g.raw, float) or g.raw is not bench.value(p.text))
    }
    # What the run itself changes is a state kept among the parameters, unless all of them change.
    states = {place.text for place in changed}
    kept = {n: (p, g) for n, (p, g) in found.items() if p.text not in states}
    changed = [p for p in changed if p in likely and p.value.ndim and not is_state(p)]
    if changed and not any(np.any(gradient.value) for _, gradient in found.values()):
        found, kept = {}, {}  # set back to 0 after the update
    # Whatever a run fills, step by step, is no matrix of weights.
    moved_weights = any(map(_is_matrix, changed)) or not any(
        _is_matrix(p) for p, _ in kept.values()
    )
    if kept and (len(kept) >= len(changed) or not moved_weights):
        return kept, False, [*returned, *named]
    if len(changed) > len(found):
        moved = {}
        still = [p for p in likely if p not in changed and np.ndim(p.raw) and not is_state(p)]
        # One that the user's code moves, and that stays, has a gradient of 0.
        texts = list(bench.files.texts().values())
        for place in (*changed, *(p for p in still if is_moved(texts, p.leaf))):
            name = next(iter(pairs([place], [_as_gradient(place)])), place.text)
            moved[name] = (place, place)
        return moved, True, []
    return found, False, [*returned, *named]


def _is_stale(place: HeldArray, before: Array) -> bool:
    """Whether an array of numbers that are not all 0 is as it was before the passes."""
    return bool(place.value.any()) and np.array_equal(place.value, before)


def _is_matrix(place: HeldArray) -> bool:
    return place.value.ndim > 1 and min(place.value.shape) > 1


def _root(place: HeldArray) -> str:
    """The variable in which an array is."""
    return re.split(r"[.\[,]", place.text.removeprefix("np.sum("))[0]


def _as_gradient(place: HeldArray) -> HeldArray:
    return replace(place, path=(*place.path[:-1], f"d{place.path[-1]}"))


def _named(back: object, names: Sequence[str], root: str = "back") -> list[HeldArray]:
    """The arrays in what a backward pass returned, with the names of its `return`."""
    if isinstance(back, tuple | list) and len(names) == len(back):
        found = []
        for n, (part, name) in enumerate(zip(back, names, strict=True)):
            found += list(places(f"{root}[{n}]", part, ("back", name or str(n))))
        return found
    return list(places(root, back, tuple(root.split("."))))


def _redrawing(parameters: Sequence[HeldArray]) -> str:
    """A statement that gives arrays values of ordinary size, so that no fault is hidden."""
    arrays = [
        p.text
        for p in parameters
        if isinstance(p.raw, np.ndarray) and p.raw.dtype.kind == "f" and p.raw.flags.writeable
    ]
    if not arrays:
        return ""
    listed = ", ".join(arrays)
    widest = max((max(p.value.shape) for p in parameters if p.value.ndim > 1), default=1)
    drawn = f"{REDRAWN} * draw.standard_normal(array.shape)"
    if widest > POINT_WIDTH:
        drawn += f" * min(1.0, {POINT_WIDTH:g} / max(array.shape or (1,))) ** 0.5"
    return f"for array in [{listed}]:\n    array[...] = {drawn}"


def _before(names: dict[str, str]) -> str:
    inner = ", ".join(f"{name!r}: np.array({text})" for name, text in names.items())
    return f"before = {{{inner}}}"
