"""The larger part of a difference first: a faint one beside it is left alone meanwhile.

An ε in a logarithm, or a loss that is computed in another way than its gradient, shifts δ of every
output a little. Beside another fault it would be seen first, since the output layer is looked at
first, though it explains next to nothing. So differences as small as that do not count until what
is larger is explained.
"""

from __future__ import annotations

import numpy as np

from throughtime.diagnosis.experiments import Study
from throughtime.diagnosis.factors import over
from throughtime.diagnosis.observed import Observed
from throughtime.diagnosis.tolerances import COVERED, FAINT, LARGEST_FAINT


def faint_part(observed: Observed, study: Study) -> float:
    """How far entries may be off, of a tensor's largest, beside what is off by far more.

    Returns:
        0 where all that differs is of one size.
    """
    wrong = observed.wrong()
    off = {name: _off(observed, name, 1.0) for name in observed.sampled}
    largest = max((off[name] for name in wrong), default=0.0)
    if not largest:
        return 0.0
    if not over(observed, list(observed.sampled)).fits:
        factor, left = _common_factor(observed)
        covered = COVERED * left / abs(factor) if factor else np.inf
        if _is_faint(factor, left) and covered < LARGEST_FAINT and _elsewhere(study, factor):
            return covered
    if min(off[name] for name in wrong) >= FAINT * largest:
        return 0.0
    output = study.roles.output
    faint = max((off[name] for name in output), default=0.0)
    # An error bar may hide it in one of them, where it is as large as in the others all the same.
    alike = faint <= COVERED * min((off[name] for name in output), default=0.0)
    off_together = set(output) <= set(wrong) or (study.roles.head in wrong and alike)
    # What is far off may be so by many times its size: beside it, nothing would seem to differ.
    if output and off_together and faint < min(FAINT * largest, LARGEST_FAINT / COVERED):
        return COVERED * faint
    return 0.0


def left_alone(observed: Observed) -> str:
    """A sentence on tensors in which a faint difference was left alone; "" where there is none."""
    exact = observed.with_slack(0.0)
    names = [name for name in exact.wrong() if name not in observed.wrong()]
    if not names:
        return ""
    size = max(_off(observed, name, 1.0) for name in names)
    return (
        f"Besides that, {', '.join(names)} differ by {size:.1g} of their largest entries: look for "
        "an ε in a logarithm, or for a loss that is computed differently from its gradient."
    )


def _off(observed: Observed, name: str, factor: float) -> float:
    """How far the gradient is from a multiple of the derivative, of the tensor's largest."""
    own = observed.sampled[name]
    told = np.isfinite(own.errors)
    n, g = own.numerical[told], observed.beside(name)[told]
    size = float(np.abs(n).max(initial=0.0))
    return float(np.abs(g - factor * n).max(initial=0.0)) / size if size else 0.0


def _common_factor(observed: Observed) -> tuple[float, float]:
    """The factor of all tensors together, and how far off it leaves the one it fits worst.

    Each tensor counts by the size of its own entries.
    """
    above = below = 0.0
    for name, own in observed.sampled.items():
        told = np.isfinite(own.errors)
        n, g = own.numerical[told], observed.beside(name)[told]
        square = float(n @ n)
        if square:
            above, below = above + float(g @ n) / square, below + 1
    factor = above / below if below else 0.0
    return factor, max(_off(observed, name, factor) for name in observed.sampled)


def _is_faint(factor: float, left: float) -> bool:
    """Whether what a factor leaves is little beside what it does."""
    effect = abs(1 - factor) / max(1.0, abs(factor))
    return bool(factor) and left / abs(factor) < FAINT * effect


def _elsewhere(study: Study, factor: float) -> bool:
    """Whether the factor is the same with other parameters; where nothing shows it, it may be.

    Where outputs are small, the derivative of an activation is as good as a number: σ′(0) = 1/4.
    """
    there = study.elsewhere()
    if there is None or not any(own.numerical.any() for own in there.sampled.values()):
        return True
    other, left = _common_factor(there)
    effect = abs(1 - factor) / max(1.0, abs(factor))
    return _is_faint(other, left) and abs(other / factor - 1) < COVERED * FAINT * effect
