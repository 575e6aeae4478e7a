"""Whatever a user hands to `tt.check`, as a target: one table, a row a kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

from throughtime.arrays import refuse
from throughtime.checking import Target
from throughtime.network import Network
from throughtime.targets.network import network_target


@dataclass(frozen=True)
class Kind:
    """One kind of thing that can be checked.

    Attributes:
        fits: whether `(what, *data)` is of this kind.
        make: makes the target from `(what, *data, **options)`.
        options: the names of the options that `make` takes; the others are the check's.
    """

    fits: Callable[..., bool]
    make: Callable[..., Target]
    options: tuple[str, ...] = ()


def as_target(what: object, *data: Any, **options: Any) -> tuple[Target, dict[str, Any]]:
    """The target that `(what, *data)` stands for, and the options that are not the target's own.

    Raises:
        TypeError: where it is of no kind that can be checked.
    """
    for kind in KINDS:
        if kind.fits(what, *data):
            own = {name: options[name] for name in kind.options if name in options}
            rest = {name: value for name, value in options.items() if name not in own}
            return kind.make(what, *data, **own), rest
    _refuse_unknown(what)


def _given(target: Target, *data: Any) -> Target:
    if data:
        refuse("check", "a Target alone", f"a Target and {len(data)} more", error=TypeError)
    return target


def _network(network: Network, *data: Any, **options: Any) -> Target:
    if len(data) != 2:
        refuse("check", "a Network, inputs, targets", f"{1 + len(data)} things", error=TypeError)
    return network_target(network, *data, **options)


def _refuse_unknown(what: object) -> NoReturn:
    way_out = "wrap it: tt.Target(parameters=…, loss=…, gradient=…)"
    refuse("check", "a Target or a Network", type(what).__name__, way_out, error=TypeError)


KINDS = (
    Kind(lambda what, *_: isinstance(what, Target), _given),
    Kind(
        lambda what, *_: isinstance(what, Network), _network, ("state", "lengths", "dropout_seed")
    ),
)
