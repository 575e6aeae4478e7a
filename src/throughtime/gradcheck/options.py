"""The options of `tt.check` by the kind of thing that is checked, for type checkers and editors.

What each of them means stands in the docstring of `tt.check`; the overloads there use these.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypedDict

from throughtime.arrays import Array
from throughtime.gradcheck.budget import EffortName
from throughtime.gradcheck.points import PointKind
from throughtime.gradcheck.target import Target


class CheckOptions(TypedDict, total=False):
    """Of every check."""

    diagnose: bool
    effort: EffortName
    entries: int | None
    points: Sequence[PointKind]
    evaluations: int | None
    seconds: float | None
    workers: int
    seed: int
    progress: bool | None


class NetworkOptions(CheckOptions, total=False):
    """Of a Network, beside its inputs and targets."""

    state: Mapping[str, Array] | None
    lengths: Array | None
    dropout_seed: int | None
    k1: int | None
    k2: int | None


class FileOptions(CheckOptions, total=False):
    """Of a shared library, or of something in a file."""

    timeout: float | None


class FunctionOptions(CheckOptions, total=False):
    """Of a torch module or function, a Keras model or a JAX function, beside its data."""

    loss: Callable[..., Any] | None
    reset: Callable[[], object] | None
    at_length: Callable[[int], Target] | None
    steps: int | None
    jit: bool | None


class ObjectOptions(CheckOptions, total=False):
    """Of an object of your own, beside its inputs and targets."""

    loss: str | Callable[..., Any] | None
    gradient: str | Callable[..., Any] | None
    loss_and_gradient: str | Callable[..., Any] | None
    update: str | Callable[..., Any] | None
    lr: float | None
    time_axis: int | None
    batch_axis: int | None
