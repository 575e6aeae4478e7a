"""The same target at lengths and with parameters at which fewer mistakes show at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from throughtime.arrays import Array
from throughtime.diagnosis.experiments import Study
from throughtime.diagnosis.model_from_target import model_from_target
from throughtime.diagnosis.mutants.cells import GRU, LSTM
from throughtime.diagnosis.mutants.layout import Guess
from throughtime.diagnosis.mutants.model import Blocks, Model
from throughtime.diagnosis.mutants.staged_search import MutantStage
from throughtime.diagnosis.mutants.tested import limited, seen_of
from throughtime.diagnosis.observed import standing
from throughtime.diagnosis.tolerances import CLOSED_GATE, DRAWN_PARAMETERS, SAME_LOSS
from throughtime.gradcheck import Evaluator, Target

# Lengths at which little is handed from step to step, beside T = 1, where nothing is.
SHORT = (2, 3)


def stages(study: Study, model: Model, tolerance: float) -> Iterator[MutantStage]:
    """The stages that the target can be run at, those first at which the fewest mistakes show.

    A stage is left out where the network does not have the target's loss.

    Args:
        study: experiments on the target.
        model: the network behind it, at the parameters as they stand.
        tolerance: what counts as equal, relative to a block's largest entry.
    """
    drawn = _drawn(model, study.seed)
    cut = {b: 0.0 * w if b.layer >= 0 and b.kind[0] == "U" else w for b, w in drawn.items()}
    closed = _closed(model, cut)
    T = model.steps
    ways: list[tuple[str, int, Blocks]] = []
    if T > 1:
        ways.append(("at T = 1", 1, drawn))
        if closed is not cut:
            ways.append(("where nothing is handed from step to step", T, closed))
        ways.append(("with recurrent weights of 0", T, cut))
    ways += [(f"at T = {shorter}", shorter, drawn) for shorter in SHORT if shorter < T]
    ways.append(("with other parameters", T, drawn))
    for words, steps, blocks in ways:
        own = _stage(study, model, words, steps, blocks, tolerance)
        if own is not None:
            yield own


def _drawn(model: Model, seed: int) -> Blocks:
    """Parameters of order 1, at which nothing is small."""
    rng = np.random.default_rng(seed + 23)
    return {
        block: DRAWN_PARAMETERS * rng.standard_normal(w.shape) for block, w in model.blocks.items()
    }


def _closed(model: Model, blocks: Blocks) -> Blocks:
    """The same with gates closed through which states pass; themselves where there are none."""
    cell = model.cell
    if isinstance(cell, LSTM) and not cell.coupled:
        gate, value = cell.gates.index("f"), CLOSED_GATE
    elif isinstance(cell, GRU):
        gate, value = cell.gates.index("z"), CLOSED_GATE if cell.keep == "z" else -CLOSED_GATE
    else:
        return blocks
    own = [block for block in blocks if block.layer >= 0 and block[1:3] == ("b", gate)]
    if not own:
        return blocks
    return blocks | {block: np.full_like(blocks[block], value) for block in own}


def _stage(
    study: Study, model: Model, words: str, steps: int, blocks: Blocks, tolerance: float
) -> MutantStage | None:
    target = study.shorter(steps)
    if target is None:
        return None
    values = model.placement.tensors(blocks)
    there = _at(model, steps, values, target)
    found = _evaluated(study, target, values)
    if there is None or found is None:
        return None
    loss, gradient = found
    dtypes = {array.dtype.name for array in target.parameters.values()}
    near = max(SAME_LOSS.get(name, SAME_LOSS["float64"]) for name in dtypes)
    with np.errstate(all="ignore"):
        if not abs(there.value() - loss) <= near * max(1.0, abs(loss)):
            return None
    if not all(np.isfinite(g).all() for g in gradient.values()):
        return None
    seen = seen_of(there, gradient, tolerance)
    return MutantStage(words, there, limited(seen) or seen, proves=steps in (1, model.steps))


def _at(model: Model, steps: int, values: Mapping[str, Array], target: Target) -> Model | None:
    """The network on its first steps, with these parameters."""
    if steps == model.steps:
        return model.with_blocks(model.placement.blocks(values))
    layout = target.layout
    if layout is None or isinstance(layout, Guess):
        own: Model | None = _shortened(model, steps)
    else:
        with standing(target.parameters, values):
            own = model_from_target(target).model
    if own is None or own.steps != steps or set(own.blocks) != set(model.blocks):
        return None
    return own.with_blocks(model.placement.blocks(values))


def _shortened(model: Model, steps: int) -> Model | None:
    """The network on its first steps, where its data say what these are."""
    data = model.data
    if data.final is not None:
        return None
    targets = data.targets[-steps:] if model.loss.last else data.targets[:steps]
    return replace(
        model,
        data=replace(
            data,
            x=data.x[:steps],
            targets=targets,
            lengths=np.minimum(data.lengths, steps),
            mask=None if data.mask is None else data.mask[:steps],
            between=tuple(mask[:steps] for mask in data.between),
        ),
    )


def _evaluated(
    study: Study, target: Target, values: dict[str, Array]
) -> tuple[float, dict[str, Array]] | None:
    """The loss and the gradient with these parameters; None where there is none."""
    study.budget.count(1)
    with standing(target.parameters, {**study.values, **values}), np.errstate(all="ignore"):
        try:
            evaluator = Evaluator(target)
            return evaluator.loss(), {n: np.array(g) for n, g in evaluator.gradient().items()}
        except Exception:  # the user's own code, at a point that it was not meant for
            return None
