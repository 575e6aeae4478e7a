"""What would resolve a tensor whose error bars are too wide."""

from __future__ import annotations

import numpy as np

from throughtime.gradcheck.evaluation_point import Measured, Site
from throughtime.gradcheck.examination import Findings
from throughtime.gradcheck.tolerances import (
    BENT_RATIO,
    COARSE_LOSS,
    SHORT_SPACING,
    SINGLE_SPACING,
    SMALL_WEIGHTS,
)

BUDGET = "allow more evaluations or seconds: the budget ended before all was looked at"
UNDEFINED = "the loss is NaN or infinite, or raises, around this point: check its domain"
KINK = "the loss has a kink here, as a ReLU at 0: move the parameters or inputs a little"
TERMS = "return the loss as an array of per-step terms, which are then summed in float64"
DOUBLE = "compute the loss in float64"
UNROUNDED = "the loss carries few digits: return it unrounded, computed in float64"
INSIDE = (
    "something inside the loss is rounded to few digits, so that it climbs in stairs: keep states "
    "and activations in float64 for the check"
)
LARGER = "check at larger weights: these are so small that they hardly reach the loss"
SMOOTHER = "the loss curves at every step tried: check fewer steps, or smaller weights"
STEEPER = "this tensor hardly moves the loss here: check where its gradient is larger"
MORE = "look at more directions: effort='normal'"


def remedy(site: Site, name: str, found: Findings) -> str:
    """One sentence: what would help most, judged by what made the error bars wide."""
    measured = [*found.whole, *found.entries.values()]
    if not measured:
        return BUDGET
    if any(m.slope is None for m in measured):
        return UNDEFINED
    worst = max(measured, key=lambda m: m.error / max(m.line.unit, np.finfo(float).tiny))
    assert worst.slope is not None
    slope = worst.slope
    if site.noise.relative > COARSE_LOSS or site.noise.digits > SINGLE_SPACING:
        return UNROUNDED
    if (
        name in site.own_noise
        and site.noise.digits <= SHORT_SPACING
        and not _single_precision(site)
    ):
        return INSIDE
    if worst.broken:
        return KINK
    # With more digits the steps may be smaller, at which the loss curves less, too.
    if site.noise.digits > SHORT_SPACING or _single_precision(site):
        small = site.scales[name] < SMALL_WEIGHTS
        return TERMS if site.terms == 1 else LARGER if small else DOUBLE
    if slope.truncation + slope.kink > BENT_RATIO * slope.noise:
        return SMOOTHER
    if _resolved_along_each(measured, site):
        return MORE
    return LARGER if site.scales[name] < SMALL_WEIGHTS else STEEPER


def _single_precision(site: Site) -> bool:
    """Whether the noise is that of a shorter format than float64."""
    return bool(site.noise.deviation > 1e3 * np.finfo(float).eps * site.noise.level)


def _resolved_along_each(measured: list[Measured], site: Site) -> bool:
    return all(m.error < 0.01 * site.size_of(m.line) for m in measured)
