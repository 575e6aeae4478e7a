"""What happens to a gradient after the backward pass: read off it, given a mutant's gradient."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from throughtime.diagnosis.mutants.blocks import Block
from throughtime.diagnosis.mutants.fit import Fit, TestedGradient
from throughtime.diagnosis.mutants.model import Model
from throughtime.diagnosis.mutants.scales import is_round, named


@dataclass(frozen=True)
class FoundFault:
    """A fault that was found.

    Attributes:
        fault: its identifier.
        where: tensors, gates or steps, in words.
        facts: numbers and names for its statement.
        alternatives: other faults that would do just the same here.
    """

    fault: str
    where: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)
    alternatives: tuple[str, ...] = ()


def finishing(
    model: Model, fits: Mapping[Block, Fit | None], seen: TestedGradient, norm: float
) -> list[FoundFault]:
    """The faults that turn the mutant's gradient into this one, for blocks that fit.

    Args:
        model: the network.
        fits: by block, from `fit_all`.
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
    """ "gate o", and of which layer."""
    word, lane = f"gate {model.cell.gates[block.gate]}", model.words(block.layer, block.direction)
    return f"{word} of {lane}" if lane else word


def tensor_of(model: Model, block: Block) -> str:
    """The tensor in which a block lies."""
    return model.placement.places[block].tensor


def block_word(model: Model, block: Block) -> str:
    """A tensor, and the gate where it holds several."""
    tensor = tensor_of(model, block)
    alone = len(model.cell.gates) == 1 or not block.gated
    others = {b.gate for b in model.placement.of(tensor)}
    return tensor if alone or len(others) == 1 else f"{tensor} ({gate_word(model, block)})"


def _moved(model: Model, fits: Mapping[Block, Fit]) -> list[FoundFault]:
    """Transposed blocks, those of the other direction, permuted gates, copied biases."""
    found = []
    turned = [block for block, fit in fits.items() if fit.transposed]
    if turned:
        where = _words(block_word(model, block) for block in turned)
        found.append(FoundFault("gradient_transposed", where, {"where": where}))
    other = [block for block, fit in fits.items() if fit.source.direction != block.direction]
    if other:
        where = _words(tensor_of(model, block) for block in other)
        found.append(FoundFault("directions_swapped", where, {"where": where}))
    elsewhere = {b: f.source for b, f in fits.items() if f.source.gate != b.gate}
    copied = [b for b, s in elsewhere.items() if (own := fits.get(s)) and own.source == s]
    for fault, kinds in (("bias_of_gate_copied", "bcd"), ("gates_permuted", "WU")):
        if those := [block for block in copied if block.kind in kinds]:
            where = _words(block_word(model, block) for block in those)
            source = _words(block_word(model, elsewhere[block]) for block in those)
            found.append(FoundFault(fault, where, {"where": where, "other": source}))
    permuted = sorted({(b.gate, s.gate) for b, s in elsewhere.items() if b not in copied})
    if permuted:
        names = model.cell.gates
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
    """One factor in all blocks, and others in some: the fewest faults that give these."""
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
    ways = [
        _all_scaled(model, base, seen, norm) + _some_scaled(model, scales, base, seen)
        for base in bases[:6]
    ]
    return min(ways, key=len)


def _copy_of(fit: Fit, block: Block, fits: Mapping[Block, Fit], seen: TestedGradient) -> bool:
    """Whether a block is another's copy, so that its factor is that one's."""
    own = fits.get(fit.source)
    if fit.source == block or own is None or own.scale is None or own.source != fit.source:
        return False
    assert fit.scale is not None
    return _near(own.scale, fit.scale, seen.tolerance)


def _all_scaled(model: Model, base: float, seen: TestedGradient, norm: float) -> list[FoundFault]:
    if base == 1:
        return []
    tolerance = 10 * seen.tolerance
    facts = {"factor": f"{base:.6g}"}
    if 0 < base < 1 and is_round(norm, tolerance):
        return [FoundFault("clipped_by_norm", facts={"limit": f"{norm:.6g}"})]
    ways = named(model, base, tolerance)
    if not ways:
        return [FoundFault("scaled", facts=facts)]
    best, *others = ways
    found = []
    for place, factor in enumerate(best):
        rivals = {way[place].fault for way in others if len(best) == 1} - {factor.fault}
        found.append(FoundFault(factor.fault, "", facts, tuple(sorted(rivals))))
    return found


def _some_scaled(
    model: Model, scales: Mapping[Block, float], base: float, seen: TestedGradient
) -> list[FoundFault]:
    """Blocks whose factor is not that of all."""
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
    """One factor that some blocks have."""
    facts = {"factor": f"{ratio:.6g}"}
    T, B = model.steps, len(model.data.lengths)
    if ratio == 0:
        where = _words(_whole_tensors(model, scales, blocks))
        return [FoundFault("zero_gradient", where, {"where": where})]
    overs = {"steps": 1 / T, "sequences": 1 / B, "steps and sequences": 1 / (T * B)}
    over = [
        words
        for words, value in overs.items()
        if value != 1 and _near(ratio, value, seen.tolerance)
    ]
    if over and all(block.kind in "bcd" for block in blocks):
        where = _words(_whole_tensors(model, scales, blocks))
        return [FoundFault("bias_averaged", where, {"where": where, "over": over[0]})]
    gates = dict.fromkeys(_gate(block) for block in blocks if block.gated)
    for own in gates if len(model.cell.gates) > 1 else ():
        one = [b for b in blocks if b.gated and _gate(b) == own]
        all_of_it = [b for b in scales if b.gated and _gate(b) == own]
        if len(one) == len(all_of_it) > 1:
            rest = [block for block in blocks if block not in one]
            where = gate_word(model, one[0])
            here = [FoundFault("gate_scaled", where, facts | {"where": where})]
            whole = _whole_tensors(model, scales, blocks)
            if rest and len(whole) <= len({_gate(b) for b in blocks}):
                break  # whole tensors are fewer words than gates
            return here + (_group(model, scales, ratio, rest, seen) if rest else [])
    return [
        FoundFault("tensor_scaled", where, facts | {"where": where})
        for where in _whole_tensors(model, scales, blocks)
    ]


def _gate(block: Block) -> tuple[int, int, int]:
    """Which gate of which layer and direction."""
    return block.layer, block.direction, block.gate


def _whole_tensors(model: Model, scales: Mapping[Block, float], blocks: list[Block]) -> list[str]:
    """Tensors all of whose blocks are among these, then blocks of tensors that are not."""
    found: dict[str, None] = {}
    for block in blocks:
        tensor = tensor_of(model, block)
        known = [b for b in model.placement.of(tensor) if b in scales]
        whole = all(b in blocks for b in known)
        found[tensor if whole else block_word(model, block)] = None
    return list(found)


def _near(a: float, b: float, tolerance: float) -> bool:
    return abs(a - b) <= 100 * tolerance * max(abs(a), abs(b))


def _words(names: object) -> str:
    return ", ".join(dict.fromkeys(names))  # type: ignore[call-overload]
