"""What a user passes to `tt.check`, as a target: a table with one row for each kind."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Never, NoReturn

from throughtime.arrays import Array, refuse, refuse_unknown
from throughtime.gradcheck import CheckError, Target
from throughtime.targets.file import thing_in_file, without_its_name
from throughtime.targets.jax_function import is_jax, jax_target
from throughtime.targets.keras_model import is_keras, keras_target
from throughtime.targets.library import is_library, library_target

if TYPE_CHECKING:
    from throughtime.network import Network


@dataclass(frozen=True)
class TargetKind:
    """One kind of thing that can be checked.

    Attributes:
        name: of the kind, in messages.
        fits: whether `(what, *data)` is of this kind.
        make: makes the target from `(what, *data, **options)`.
        options: the names of the options that `make` takes.
        draws: whether it takes a `seed` too, for what it draws.
    """

    name: str
    fits: Callable[..., bool]
    make: Callable[..., Target]
    options: tuple[str, ...] = ()
    draws: bool = False


def target_of(
    what: object,
    *data: Any,
    seed: int = 0,
    state: Mapping[str, Array] | None = None,
    lengths: Array | None = None,
    dropout_seed: int | None = None,
    k1: int | None = None,
    k2: int | None = None,
    loss: Callable[..., Any] | None = None,
    reset: Callable[[], object] | None = None,
    at_length: Callable[[int], Target] | None = None,
    steps: int | None = None,
    jit: bool | None = None,
    timeout: float | None = None,
    **unknown: Never,
) -> Target:
    """The target that `tt.check(what, *data, …)` would check.

    It is of use where a Target is wanted: in a file that the command line checks, or for several
    checks of one thing.

    Args:
        what: a Network, followed by `inputs, targets`; a torch module, followed by its inputs, or
            a torch function or `torch.autograd.Function`, followed by tensors; a JAX function,
            followed by its arguments, of which the first is differentiated; a Keras model on the
            torch or JAX backend, followed by x, or by x and y; `"./libmine.so"`, a
            shared library with the C interface; `"file.py:name"`, something of this list in a
            file; or a Target.
        data: what follows it.
        seed: random seed of what is drawn for it.
        state, lengths, dropout_seed: of a Network's run, as in `Network.loss_and_gradient`.
        k1, k2: of a Network, where its gradient by truncated BPTT is meant.
        loss: a function of the outputs of a torch module or function, or of a Keras model; by
            default they are weighted at random, or a Keras model has the loss that it was compiled
            with, where y is given.
        reset, at_length, steps: for torch and JAX, as in Target.
        jit: for JAX: False runs the function as it is.
        timeout: of a shared library: seconds that each call may take.

    Raises:
        TypeError: where `what` is none of these, or an option is not one of its kind.
        CheckError: where no target can be made of it.

    Example:
        >>> import numpy as np
        >>> import throughtime as tt
        >>> net = tt.Network([tt.RNN(2, 3)], tt.MeanSquaredError(), seed=0)
        >>> target = tt.target_of(net, np.ones((9, 1, 2), "f"), np.zeros((9, 1, 3), "f"))
        >>> target.steps, tt.check(target).verdict
        (9, 'agree')
    """
    refuse_unknown("target_of", unknown, inspect.signature(target_of).parameters)
    return as_target(
        what,
        *data,
        seed=seed,
        state=state,
        lengths=lengths,
        dropout_seed=dropout_seed,
        k1=k1,
        k2=k2,
        loss=loss,
        reset=reset,
        at_length=at_length,
        steps=steps,
        jit=jit,
        timeout=timeout,
    )


def as_target(what: object, *data: Any, seed: int = 0, **options: Any) -> Target:
    """The target that `(what, *data)` stands for; options that are None are not given.

    Raises:
        TypeError: where it is of no kind that can be checked, or of one without such an option.
    """
    given = {name: value for name, value in options.items() if value is not None}
    for kind in KINDS:
        if kind.fits(what, *data):
            for name in given:
                if name not in kind.options:
                    owners = " or ".join(own.name for own in KINDS if name in own.options)
                    refuse(name, f"{owners}, which has this option", kind.name, error=TypeError)
            return kind.make(what, *data, **given, **({"seed": seed} if kind.draws else {}))
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
    from throughtime.targets.network import network_target, truncated_target

    if len(data) != 2:
        refuse("check", "a Network, inputs, targets", f"{1 + len(data)} things", error=TypeError)
    if "k1" in options:
        return truncated_target(network, *data, **options)
    if "k2" in options:
        refuse("k2", "k1 beside it, the steps between windows' ends", "none", error=TypeError)
    return network_target(network, *data, **options)


def _is_network(what: object, *_: Any) -> bool:
    """Where nobody has imported networks, this is none."""
    rooms = sys.modules.get("throughtime.network")
    return rooms is not None and isinstance(what, rooms.Network)


def _torch_module(what: object, *data: Any, **options: Any) -> Target:
    from throughtime.torch import module_target

    return module_target(what, *data, **options)


def _torch_function(what: object, *data: Any, **options: Any) -> Target:
    from throughtime.torch import function_target

    return function_target(what, *data, **options)


def _is_torch_module(what: object, *data: Any) -> bool:
    if "torch" not in sys.modules:
        return False
    from throughtime.torch import is_module

    return is_module(what, *data)


def _is_torch_function(what: object, *data: Any) -> bool:
    if "torch" not in sys.modules:
        return False
    from throughtime.torch import is_function

    return is_function(what, *data)


def _from_file(place: str | os.PathLike[str]) -> Target:
    found = thing_in_file(os.fspath(place))
    try:
        return as_target(*found) if isinstance(found, tuple) and found else as_target(found)
    except TypeError as problem:
        text = str(problem).removeprefix("check: ")
        way_out = without_its_name(os.fspath(place))
        raise CheckError(f"{os.fspath(place)}: {text}{way_out}") from None


def _refuse_unknown(what: object) -> NoReturn:
    way_out = "wrap it: tt.Target(parameters=…, loss=…, gradient=…)"
    if callable(what) and {"torch", "jax"} & set(sys.modules):
        way_out += "; a torch function is followed by tensors, a JAX function by JAX arrays"
    expected = "a Target, or what tt.target_of makes one of"
    refuse("check", expected, type(what).__name__, way_out, error=TypeError)


OF_A_RUN = ("state", "lengths", "dropout_seed", "k1", "k2")
OF_TENSORS = ("loss", "reset", "at_length", "steps")
OF_JAX = ("reset", "at_length", "steps", "jit")

KINDS = (
    TargetKind(
        "a Target",
        lambda what, *_: isinstance(what, Target),
        _alone(lambda target: target, "a Target"),
    ),
    TargetKind("a Network", _is_network, _network, OF_A_RUN),
    TargetKind(
        "a library",
        lambda what, *_: is_library(what),
        _alone(library_target, "a library"),
        ("timeout",),
        draws=True,
    ),
    TargetKind(
        "a file",
        lambda what, *_: isinstance(what, str | os.PathLike),
        _alone(_from_file, "a file"),
    ),
    TargetKind("a Keras model", is_keras, keras_target, (*OF_TENSORS, "jit"), draws=True),
    TargetKind("a torch module", _is_torch_module, _torch_module, OF_TENSORS, draws=True),
    TargetKind("a torch function", _is_torch_function, _torch_function, OF_TENSORS, draws=True),
    TargetKind("a JAX function", is_jax, jax_target, OF_JAX),
)
