"""What a user passes to `tt.check`, as a target: a table with one row for each kind."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

from throughtime.arrays import refuse
from throughtime.gradcheck import CheckError, Target
from throughtime.network import Network
from throughtime.targets.file import thing_in_file
from throughtime.targets.jax_function import is_jax, jax_target
from throughtime.targets.library import is_library, library_target
from throughtime.targets.network import network_target, truncated_target
from throughtime.torch import (
    function_target,
    is_function,
    is_module,
    module_target,
)


@dataclass(frozen=True)
class TargetKind:
    """One kind of thing that can be checked.

    Attributes:
        fits: whether `(what, *data)` is of this kind.
        make: makes the target from `(what, *data, **options)`.
        options: the names of the options that `make` takes; the others are the check's.
        shared: those of them that the check takes too.
    """

    fits: Callable[..., bool]
    make: Callable[..., Target]
    options: tuple[str, ...] = ()
    shared: tuple[str, ...] = ()


def target_of(what: object, *data: Any, **options: Any) -> Target:
    """The target that `tt.check(what, *data, **options)` would check.

    It is of use where a Target is wanted: in a file that the command line checks, or for several
    checks of one thing.

    Args:
        what: a Network, followed by `inputs, targets` (options `state`, `lengths`,
            `dropout_seed`; `k1`, `k2` where its gradient by truncated BPTT is meant); a torch
            module, followed by its inputs, or a torch function or `torch.autograd.Function`,
            followed by tensors (`loss`, a function of the outputs; by default they are weighted
            at random); a JAX function, followed by its arguments, of
            which the first is differentiated; `"./libmine.so"`, a shared library with the C
            interface (`timeout`); `"file.py:name"`, something of this list in a file; or a Target.
        data: what follows it.
        options: `reset`, `at_length` and `steps` for torch and JAX, as in Target; `jit` for
            JAX: False runs the function as it is; `seed` of what is drawn.

    Raises:
        TypeError: where `what` is none of these, or an option is unknown.
        CheckError: where no target can be made of it.

    Example:
        >>> import numpy as np
        >>> import throughtime as tt
        >>> net = tt.Network([tt.RNN(2, 3)], tt.MeanSquaredError(), seed=0)
        >>> target = tt.target_of(net, np.ones((9, 1, 2), "f"), np.zeros((9, 1, 3), "f"))
        >>> target.steps, tt.check(target).verdict
        (9, 'agree')
    """
    target, rest = as_target(what, *data, **options)
    unknown = [name for name in rest if name != "seed"]
    if unknown:
        way_out = "options of the check go to tt.check"
        refuse("target_of", "options of the target", ", ".join(unknown), way_out, error=TypeError)
    return target


def as_target(what: object, *data: Any, **options: Any) -> tuple[Target, dict[str, Any]]:
    """The target that `(what, *data)` stands for, and the options that are not the target's own.

    Raises:
        TypeError: where it is of no kind that can be checked.
    """
    for kind in KINDS:
        if kind.fits(what, *data):
            taken = {name: options[name] for name in kind.options if name in options}
            rest = {n: v for n, v in options.items() if n not in taken or n in kind.shared}
            return kind.make(what, *data, **taken), rest
    _refuse_unknown(what)


def is_known(what: object, *data: Any) -> bool:
    """Whether `(what, *data)` is of a kind that can be checked as it is."""
    return any(kind.fits(what, *data) for kind in KINDS)


def _alone(make: Callable[..., Target], name: str) -> Callable[..., Target]:
    """`make` for what has no data beside it."""

    def made(what: Any, *data: Any, **options: Any) -> Target:
        if data:
            refuse("check", f"{name} alone", f"{name} and {len(data)} more", error=TypeError)
        return make(what, **options)

    return made


def _network(network: Network, *data: Any, **options: Any) -> Target:
    if len(data) != 2:
        refuse("check", "a Network, inputs, targets", f"{1 + len(data)} things", error=TypeError)
    if "k1" in options:
        return truncated_target(network, *data, **options)
    if "k2" in options:
        refuse("k2", "k1 beside it, the steps between windows' ends", "none", error=TypeError)
    return network_target(network, *data, **options)


def _from_file(place: str | os.PathLike[str]) -> Target:
    found = thing_in_file(os.fspath(place))
    try:
        return target_of(*found) if isinstance(found, tuple) and found else target_of(found)
    except TypeError as problem:
        text = str(problem).removeprefix("check: ")
        raise CheckError(f"{os.fspath(place)}: {text}") from None


def _refuse_unknown(what: object) -> NoReturn:
    way_out = "wrap it: tt.Target(parameters=…, loss=…, gradient=…)"
    if callable(what) and {"torch", "jax"} & set(sys.modules):
        way_out += "; a torch function is followed by tensors, a JAX function by JAX arrays"
    expected = "a Target, or what tt.target_of makes one of"
    refuse("check", expected, type(what).__name__, way_out, error=TypeError)


TENSORS = ("loss", "reset", "at_length", "steps", "seed")

KINDS = (
    TargetKind(
        lambda what, *_: isinstance(what, Target), _alone(lambda target: target, "a Target")
    ),
    TargetKind(
        lambda what, *_: isinstance(what, Network),
        _network,
        ("state", "lengths", "dropout_seed", "k1", "k2"),
    ),
    TargetKind(
        lambda what, *_: is_library(what),
        _alone(library_target, "a library"),
        ("timeout", "seed"),
        ("seed",),
    ),
    TargetKind(lambda what, *_: isinstance(what, str | os.PathLike), _alone(_from_file, "a file")),
    TargetKind(is_module, module_target, TENSORS, ("seed",)),
    TargetKind(is_function, function_target, TENSORS, ("seed",)),
    TargetKind(is_jax, jax_target, ("reset", "at_length", "steps", "jit")),
)
