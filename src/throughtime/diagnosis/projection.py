"""A projection h = R m: what is wrong on the way through it, or in its own gradient.

Where all entries of R are the same, Rᵀ is R read in the other shape; where R is as near to the
identity as its shape allows, Rᵀδh is δh, filled up with zeros.
"""

from __future__ import annotations

import numpy as np

from throughtime.diagnosis.observed import Observed
from throughtime.diagnosis.simple_points import right
from throughtime.diagnosis.study import Study

EVEN = 0.3  # every entry of R

Found = tuple[str, str]
"""A fault and a sentence."""


def wrong_projection(observed: Observed, study: Study) -> Found | None:
    """A fault of the projection's own gradient."""
    name = study.roles.projection
    if name is None or observed.wrong() != (name,):
        return None
    return "wrong_projection_operand", f"Only the projection, {name}, is wrong."


def through_projection(study: Study) -> Found | None:
    """A fault of the way back through it, from T = 1 where what lies below is wrong."""
    name = study.roles.projection
    if name is None:
        return None
    shape = np.asarray(study.values[name]).shape
    for fault, values, words in (
        ("projection_untransposed", np.full(shape, EVEN), "all entries of {} are the same"),
        ("projection_skipped", np.eye(*shape), "{} is the identity, as far as its shape allows"),
    ):
        if right(study.look(1, {name: values})):
            return fault, f"Where {words.format(name)}, the gradient agrees at T = 1."
    return None
