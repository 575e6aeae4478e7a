"""Derived gradients beside torch's autograd in float64, of the same forward equations."""

import pytest

from derived_cells import BUILT_IN, CELLS, made

pytest.importorskip("torch", reason="torch is not installed")
from derived_in_torch import errors

DEFINED = {**CELLS, **{name: derived.definition for name, (derived, _) in BUILT_IN.items()}}


@pytest.mark.parametrize("name", DEFINED)
def test_every_gradient_is_autograds(name):
    off = errors(made(DEFINED[name]))
    assert max(off.values()) <= 1e-12, off
