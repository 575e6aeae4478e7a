"""What happens to a gradient after the backward pass, read off it, given a mutant's gradient.

What the fits of its blocks have in common is named: a factor, an L2 term, a permutation, a clip.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from throughtime.diagnosis.mutants.fits import Fit
from throughtime.diagnosis.mutants.known_factors import contradicted, factors_of
from throughtime.diagnosis.mutants.model import EMBEDDING, HEAD, Block, Model
from throughtime.diagnosis.mutants.tested import TestedGradient
from throughtime.diagnosis.tolerances import (
    KNOWN_SCALE,
    SAME_SCALE,
)


def is_round(number: float, tolerance: float) -> bool:
    """Whether a number has at most two digits, as limits that people choose do: 0.25, or 5."""
    digits = float(f"{number:.1e}")
    return abs(digits - number) <= tolerance * number


@dataclass(frozen=True)
class FoundFault:
    """A fault that was found, and what is known of it.

    Attributes:
        fault: its identifier.
        where: the tensors, gates or steps that it concerns, in words.
        facts: numbers and names for its statement.
        alternatives: other faults that would have the same effect here.
        cost: as how many mistakes it counts beside others: what concerns many tensors at once is
            believed where no single mistake in the backward pass explains as much.
    """

    fault: str
    where: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)
    alternatives: tuple[str, ...] = ()
    cost: int = 1


def finishing(
    model: Model, fits: Mapping[Block, Fit | None], seen: TestedGradient, norm: float
) -> list[FoundFault]:
    """The faults that turn a mutant's gradient into the one under test, in the blocks that fit.

    Args:
        model: the network.
        fits: the fit of each block, from `fit_all`.
        seen: the gradient under test.
        norm: its norm.
    """
    fitted = {block: fit for block, fit in fits.items() if fit is not None}
    found = _moved(model, fitted)
    found += _decayed(model, fitted)
    found += _scaled(model, fitted, seen, norm)
    if seen.limit is not None:
        found.append(FoundFault("clipped_by_value", facts={"limit": f"{seen.limit:.6g}"}))
    return found


def gate_word(model: Model, block: Block) -> str:
    """Which gate a block belongs to, and of which layer: "gate o of layer 1"."""
    word, place = f"gate {model.gate_name(block)}", model.words(block.layer, block.direction)
    return f"{word} of {place}" if place else word


def tensor_of(model: Model, block: Block) -> str:
    """The tensor in which a block lies."""
    return model.placement.places[block].tensor


def block_word(model: Model, block: Block) -> str:
    """The tensor of a block, with its gate where the tensor holds several."""
    tensor = tensor_of(model, block)
    alone = not model.gate_name(block) or not block.gated
    others = {b.gate for b in model.placement.of(tensor)}
    return tensor if alone or len(others) == 1 else f"{tensor} ({gate_word(model, block)})"


def _moved(model: Model, fits: Mapping[Block, Fit]) -> list[FoundFault]:
    """Transposed blocks, blocks of the other direction, permuted gates, and copied biases."""
    found = []
    turned = [block for block, fit in fits.items() if fit.transposed]
    if turned:
        where = _words(block_word(model, block) for block in turned)
        found.append(FoundFault("gradient_transposed", where, {"where": where}))
    other = [block for block, fit in fits.items() if fit.source.direction != block.direction]
    if other:
        where = _words(tensor_of(model, block) for block in other)
        found.append(FoundFault("directions_swapped", where, {"where": where}))
    elsewhere = {b: f.source for b, f in fits.items() if b not in other and f.source != b}
    copied = [b for b, s in elsewhere.items() if (own := fits.get(s)) and own.source == s]
    biases = [b for b in copied if b.kind == elsewhere[b].kind and b.bias]
    whole = {(b.layer, b.gate, elsewhere[b]._replace(kind="")) for b in copied if b not in biases}
    biases = [b for b in biases if (b.layer, b.gate, elsewhere[b]._replace(kind="")) not in whole]
    matrices = [b for b in copied if b not in biases]
    # W with the gradient of its own gate's U has multiplied δ by h_{t−1}, and not by x_t.
    states = [b for b in matrices if b.kind == "W" and elsewhere[b] == b._replace(kind="U")]
    matrices = [b for b in matrices if b not in states]
    for block in states:
        where = f"{block_word(model, block)}: its own h_{{t−1}}"
        beside = ("another_tensors_gradient",)
        found.append(FoundFault("another_layers_input", where, {"where": where}, beside))
    for fault, those in (("bias_of_gate_copied", biases), ("another_tensors_gradient", matrices)):
        if those:
            where = _words(block_word(model, block) for block in those)
            source = _words(block_word(model, elsewhere[block]) for block in those)
            found.append(FoundFault(fault, where, {"where": where, "other": source}))
    permuted = sorted(
        {(b.gate, s.gate) for b, s in elsewhere.items() if b not in copied and b.gate != s.gate}
    )
    if permuted:
        names = {b.gate: model.gate_name(b) for own in elsewhere.items() for b in own}
        where = ", ".join(f"{names[s]} in the place of {names[b]}" for b, s in permuted)
        found.append(FoundFault("gates_permuted", where, {"where": where}))
    return found


def _decayed(model: Model, fits: Mapping[Block, Fit]) -> list[FoundFault]:
    """An L2 term that is missing or doubled, before or after all was scaled."""
    found: dict[str, list[str]] = {}
    for block, fit in fits.items():
        if fit.decay in (None, 1.0):
            continue
        name = "weight_decay_doubled" if fit.decay else "weight_decay_missing"
        found.setdefault(name, []).append(tensor_of(model, block))
    facts = {"factor": f"{model.decay:.6g}"}
    return [
        FoundFault(name, _words(tensors), facts | {"where": _words(tensors)})
        for name, tensors in found.items()
    ]


def _scaled(
    model: Model, fits: Mapping[Block, Fit], seen: TestedGradient, norm: float
) -> list[FoundFault]:
    """The fewest faults that give one factor in all blocks, and others in some."""
    scales = {
        block: fit.scale
        for block, fit in fits.items()
        if fit.scale is not None and not _copy_of(fit, block, fits, seen)
    }
    if not scales:
        return []
    bases = [1.0]
    for scale in scales.values():
        if scale and not any(_near(scale, base, seen.tolerance) for base in bases):
            bases.append(scale)
    if len(bases) == 2 and all(
        _near(scale, bases[1], seen.tolerance) for scale in scales.values() if scale
    ):
        bases = bases[1:]  # of the few blocks whose factor shows, all have this one
    ways = [
        all_scaled(model, base, seen, norm) + _some_scaled(model, scales, base, seen)
        for base in bases[:6]
    ]
    return min(ways, key=len)


def _copy_of(fit: Fit, block: Block, fits: Mapping[Block, Fit], seen: TestedGradient) -> bool:
    """Whether a block is a copy of another one, so that it has the same factor."""
    own = fits.get(fit.source)
    if fit.source == block or own is None or own.scale is None or own.source != fit.source:
        return False
    assert fit.scale is not None
    return _near(own.scale, fit.scale, seen.tolerance)


def all_scaled(model: Model, base: float, seen: TestedGradient, norm: float) -> list[FoundFault]:
    """The faults that multiply all of a gradient by one factor."""
    if base == 1:
        return []
    tolerance = KNOWN_SCALE * seen.tolerance
    facts = {"factor": f"{base:.6g}", "limit": f"{norm:.6g}"}
    ways = factors_of(model, base, tolerance)
    clipped = 0 < base < 1 and is_round(norm, tolerance)
    if clipped and not (ways and len(ways[0]) == 1):
        return [FoundFault("clipped_by_norm", facts=facts)]
    if not ways:
        return [FoundFault("scaled", facts=facts)]
    best, *others = ways
    if not contradicted(best):  # the loss is known: what it contradicts is no equal of the rest
        others = [way for way in others if not contradicted(way)]
    found = []
    for factor in best:
        rest = {one.fault for one in best} - {factor.fault}
        equals = [way for way in others if rest <= {one.fault for one in way}]
        rivals = {one.fault for way in equals for one in way} - rest - {factor.fault}
        rivals |= {"clipped_by_norm"} if clipped else set()  # a half may have a round norm
        found.append(FoundFault(factor.fault, "", facts, tuple(sorted(rivals))))
    return found


def _some_scaled(
    model: Model, scales: Mapping[Block, float], base: float, seen: TestedGradient
) -> list[FoundFault]:
    """The faults of blocks whose factor is not the common one."""
    groups: dict[float, list[Block]] = {}
    for block, scale in scales.items():
        ratio = scale / base
        if _near(ratio, 1, seen.tolerance):
            continue
        same = [r for r in groups if _near(r, ratio, seen.tolerance)]
        groups.setdefault(same[0] if same else ratio, []).append(block)
    return [
        one
        for ratio, blocks in groups.items()
        for one in _group(model, scales, ratio, blocks, seen)
    ]


def _group(
    model: Model,
    scales: Mapping[Block, float],
    ratio: float,
    blocks: list[Block],
    seen: TestedGradient,
) -> list[FoundFault]:
    """The faults that give some blocks one and the same factor."""
    facts = {"factor": f"{ratio:.6g}"}
    if ratio == 0:
        where = _words(_whole_tensors(model, scales, blocks))
        return [FoundFault("zero_gradient", where, {"where": where})]
    if all(block.bias for block in blocks):
        biases = _biases(model, scales, ratio, blocks, seen)
        if biases is not None:
            return [biases]
    if below := _all_below_the_head(model, scales, ratio, blocks, seen):
        return below
    gates = dict.fromkeys(_gate(model, block) for block in blocks if block.gated)
    for own in gates if any(model.gate_name(block) for block in blocks) else ():
        one = [b for b in blocks if b.gated and _gate(model, b) == own]
        all_of_it = [b for b in scales if b.gated and _gate(model, b) == own]
        # A peephole is a tensor by itself, which a factor of the gate's rows may leave out.
        all_of_it = [b for b in all_of_it if b.kind != "p" or b in one]
        if len(one) == len(all_of_it) > 1:
            rest = [block for block in blocks if block not in one]
            where = gate_word(model, one[0])
            here = [FoundFault("gate_scaled", where, facts | {"where": where})]
            whole = _whole_tensors(model, scales, blocks)
            if rest and len(whole) <= len({_gate(model, b) for b in blocks}):
                break  # whole tensors are fewer words than gates
            return here + (_group(model, scales, ratio, rest, seen) if rest else [])
    return [
        FoundFault("tensor_scaled", where, facts | {"where": where})
        for where in _whole_tensors(model, scales, blocks)
    ]


def _biases(
    model: Model,
    scales: Mapping[Block, float],
    ratio: float,
    blocks: list[Block],
    seen: TestedGradient,
) -> FoundFault | None:
    """The fault that gives biases alone a factor that is a size, or 1 over one; None: no size."""
    T, B, loss = model.steps, len(model.data.lengths), model.loss
    sizes = {"steps": T, "sequences": B, "steps and sequences": T * B}
    where = _words(_whole_tensors(model, scales, blocks))
    twice = ("bias_counted_twice",) if _near(ratio, 2, seen.tolerance) else ()
    means = {
        "steps": loss.time == "mean" and not loss.last,
        "sequences": loss.batch == "mean",
    }
    means["steps and sequences"] = all(means.values())
    for words, size in sizes.items():
        facts = {"where": where, "over": words, "factor": f"{ratio:.6g}"}
        if size > 1 and _near(ratio, 1 / size, seen.tolerance):
            return FoundFault("bias_averaged", where, facts)
        if size > 1 and means[words] and _near(ratio, size, seen.tolerance):
            return FoundFault("bias_not_averaged", where, facts, (*twice, "tensor_scaled"))
    if twice:
        facts = {"where": where, "factor": f"{ratio:.6g}"}
        return FoundFault("tensor_scaled", where, facts, twice)
    return None


BELOW = "all that lies below the output layer"


def _all_below_the_head(
    model: Model,
    scales: Mapping[Block, float],
    ratio: float,
    blocks: list[Block],
    seen: TestedGradient,
) -> list[FoundFault]:
    """One factor in everything below the output layer: δh of the loss has it, and no gate.

    Factors of several gates, or of several tensors, would be so many mistakes where one will do.
    """
    below = [b for b, scale in scales.items() if scale and (b.layer >= 0 or b.layer == EMBEDDING)]
    above = [block for block in scales if block.layer == HEAD and scales[block]]
    tensors = {tensor_of(model, block) for block in below}
    if not above or len(tensors) < 2 or not set(below) <= set(blocks) or set(above) & set(blocks):
        return []
    facts = {"factor": f"{ratio:.6g}", "where": BELOW}
    ways = [way for way in factors_of(model, ratio, KNOWN_SCALE * seen.tolerance, most=1) if way]
    likely = [way for way in ways if not contradicted(way)]
    names = [way[0].fault for way in likely or ways]
    if not names:
        return [FoundFault("tensor_scaled", BELOW, facts, cost=2)]
    return [FoundFault(names[0], BELOW, facts, (*names[1:], "tensor_scaled"), cost=2)]


def _gate(model: Model, block: Block) -> tuple[int, int, str]:
    """The layer, direction and gate of a block."""
    return block.layer, block.direction, model.gate_name(block)


def _whole_tensors(model: Model, scales: Mapping[Block, float], blocks: list[Block]) -> list[str]:
    """Names of tensors all of whose blocks are among these, and of other blocks."""
    found: dict[str, None] = {}
    for block in blocks:
        tensor = tensor_of(model, block)
        known = [b for b in model.placement.of(tensor) if b in scales]
        whole = all(b in blocks for b in known)
        found[tensor if whole else block_word(model, block)] = None
    return list(found)


def _near(a: float, b: float, tolerance: float) -> bool:
    return abs(a - b) <= SAME_SCALE * tolerance * max(abs(a), abs(b))


def _words(names: object) -> str:
    return ", ".join(dict.fromkeys(names))  # type: ignore[call-overload]
