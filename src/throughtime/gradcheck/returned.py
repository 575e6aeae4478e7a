"""What a target's functions return: refused where it has not the form that was agreed on."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

import numpy as np

from throughtime.arrays import Array, refuse


def loss_terms(value: Any) -> Array:
    """What the loss returned, copied: an array of real numbers in the precision it came in."""
    try:
        terms = np.asarray(value).copy()
        if terms.dtype.kind not in "biuf":  # lists of Python's numbers, other libraries' numbers
            terms = np.array(value, dtype=np.float64)
    except (TypeError, ValueError, RuntimeError):  # torch: a tensor that requires a gradient
        terms = np.empty(0, dtype=object)
    if terms.dtype.kind not in "biuf":
        way_out = "convert it: .detach().cpu().numpy()" if hasattr(value, "detach") else ""
        refuse("loss", "a number, or an array of terms", type(value).__name__, way_out)
    if not terms.size:
        refuse("loss", "a number, or an array of terms", "an empty array")
    return terms


def finite_terms(terms: Array, steps: int | None) -> None:
    """Refuses NaN and infinity in the loss, and names the step where the terms tell of it."""
    bad = np.argwhere(~np.isfinite(terms))
    if not len(bad):
        return
    place = tuple(int(i) for i in bad[0])
    if not place:
        way_out = (
            "return the loss as an array of terms a step, and the first bad step is named here"
        )
        refuse("loss", "a finite number", terms.item(), way_out)
    where = f"in its term {_index(place)}"
    if steps is not None and terms.shape[0] == steps:
        where = f"at step {place[0]} of 0 … {steps - 1}, {where}"
    how_many = f"{len(bad)} of {terms.size} terms are not finite"
    way_out = "look for an overflow, a logarithm of 0 or a division by 0 there"
    refuse("loss", "finite terms", f"{terms[place]} {where} ({how_many})", way_out)


def gradient_arrays(found: object, parameters: Mapping[str, Array]) -> dict[str, Array]:
    """What the gradient returned, copied: every name there, every shape right, real numbers."""
    if not isinstance(found, Mapping):
        kind = type(found).__name__
        way_out = "return {" + ", ".join(f"{name!r}: …" for name in parameters) + "}"
        refuse("gradient", "a mapping from names", kind, way_out)
    _names(found, parameters)
    return {name: _copy(name, found[name], array) for name, array in parameters.items()}


def finite_gradient(gradient: Mapping[str, Array]) -> None:
    """Refuses NaN and infinity, and names the parameter, the entry and how many there are."""
    for name, array in gradient.items():
        bad = np.argwhere(~np.isfinite(array))
        if len(bad):
            place = tuple(int(i) for i in bad[0])
            seen = f"{array[place]} at {_index(place)} ({len(bad)} of {array.size} entries)"
            way_out = "the loss is finite here, so it arises in the backward pass"
            refuse(f"gradient[{name!r}]", "finite numbers", seen, way_out)


def _names(found: Mapping[str, object], parameters: Mapping[str, Array]) -> None:
    """Refuses missing and superfluous names, and pairs those that look alike."""
    missing = [name for name in parameters if name not in found]
    unknown = [str(name) for name in found if name not in parameters]
    if not missing and not unknown:
        return
    parts = [f"{name} missing" for name in missing]
    for name in unknown:
        alike = get_close_matches(name, missing, n=1, cutoff=0.5)
        parts.append(f"{name} unknown" + (f" (is it {alike[0]}?)" if alike else ""))
    way_out = "its names are those of Target.parameters, no more and no fewer"
    expected = "the names " + ", ".join(parameters)
    refuse("gradient", expected, ", ".join(parts), way_out)


def _copy(name: str, value: Any, parameter: Array) -> Array:
    """One tensor of the gradient, in memory of its own."""
    what = f"gradient[{name!r}]"
    try:
        copy = np.asarray(value).copy()
    except (TypeError, ValueError, RuntimeError):
        copy = np.empty(0, dtype=object)
    if copy.dtype.kind not in "biuf":
        kind = copy.dtype if copy.dtype.kind == "c" else type(value).__name__
        way_out = "convert it: .detach().cpu().numpy()" if hasattr(value, "detach") else ""
        refuse(what, "an array of real numbers", kind, way_out)
    if copy.shape != parameter.shape:
        way_out = _other_shape(copy.shape, parameter.shape)
        refuse(what, parameter.shape, copy.shape, way_out)
    return copy


def _other_shape(found: tuple[int, ...], wanted: tuple[int, ...]) -> str:
    """What may have happened to a shape."""
    if len(found) > 1 and found == wanted[::-1]:
        return "transposed? return its .T"
    if tuple(n for n in found if n != 1) == tuple(n for n in wanted if n != 1):
        return f"an axis of 1 too many or too few: .reshape{wanted}"
    if np.prod(found) == np.prod(wanted):
        return f"as many entries in another form: .reshape{wanted}, if their order is this one's"
    return ""


def _index(place: tuple[int, ...]) -> str:
    return "[" + ", ".join(map(str, place)) + "]"
