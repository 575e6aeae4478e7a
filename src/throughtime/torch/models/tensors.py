"""Torch's tensors as arrays of a target, in shared memory where that is possible."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import numpy as np

from throughtime.arrays import Array, refuse
from throughtime.gradcheck import CheckError

SHARED = ("torch.float16", "torch.float32", "torch.float64")  # what NumPy has as well


@dataclass(frozen=True)
class Leaf:
    """A tensor that is checked, under all the names that it goes by, as an array.

    On the CPU both are one memory. Elsewhere, and in bfloat16, which NumPy lacks, the array is
    a mirror: it is written to the tensor for each evaluation, and what the tensor then holds,
    rounded to its precision, is written back to the array.
    """

    tensor: Any
    array: Array
    mirrored: bool
    aliases: list[Any] = field(default_factory=list)

    def join(self) -> None:
        """Gives the tensor the array's memory, where the two are to be one."""
        if not self.mirrored:
            for tensor in (self.tensor, *self.aliases):
                tensor.data = import_module("torch").from_numpy(self.array)

    @property
    def shortened(self) -> bool:
        """Whether the tensor, in bfloat16, holds less than the array."""
        return str(self.tensor.dtype) not in SHARED

    @contextlib.contextmanager
    def moved(self) -> Iterator[None]:
        """Meanwhile the tensor holds what the array holds; then it is put back."""
        if not self.mirrored:
            yield
            return
        torch = import_module("torch")
        own = self.tensor.detach().clone()
        self.tensor.data.copy_(torch.from_numpy(np.ascontiguousarray(self.array)))
        self.array[...] = as_array(self.tensor)
        try:
            yield
        finally:
            self.tensor.data.copy_(own)


def leaves_of(tensors: Mapping[str, Any]) -> dict[str, Leaf]:
    """The tensors as leaves; those that share one memory are one leaf, under its first name."""
    found: dict[str, Leaf] = {}
    places: dict[tuple[object, ...], Leaf] = {}
    for name, tensor in tensors.items():
        _refuse_odd(name, tensor)
        if not tensor.numel():
            continue
        place = (tensor.device, tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype)
        if place in places:
            places[place].aliases.append(tensor)
        else:
            places[place] = found[name] = _leaf(tensor)
    return found


def as_array(tensor: Any) -> Array:
    """A copy of a tensor's numbers; bfloat16 becomes float32, which holds all of its values."""
    torch = import_module("torch")
    value = tensor.detach().resolve_conj().resolve_neg().cpu()
    if str(value.dtype) not in SHARED and value.dtype.is_floating_point:
        value = value.to(torch.float32)
    return np.array(value.numpy())


def differentiate(outputs: Sequence[Any], leaves: Mapping[str, Leaf], seeds: Any) -> dict[str, Any]:
    """∂(Σ seeds · outputs) by each leaf, by torch's backward pass."""
    torch = import_module("torch")
    tensors = [t for leaf in leaves.values() for t in (leaf.tensor, *leaf.aliases)]
    found = iter(torch.autograd.grad(list(outputs), tensors, grad_outputs=seeds, allow_unused=True))
    gradient = {}
    for name, leaf in leaves.items():
        total = np.zeros(leaf.array.shape, leaf.array.dtype)
        for _ in (leaf.tensor, *leaf.aliases):
            part = next(found)
            if part is not None:
                total = total + as_array(part.to_dense() if part.is_sparse else part)
        gradient[name] = total
    return gradient


def walk(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """The tensors in nested tuples, lists and dictionaries, by a name such as `inputs[1][0]`."""
    torch = import_module("torch")
    if isinstance(value, torch.Tensor):
        yield name, value
    elif isinstance(value, Mapping):
        for key, part in value.items():
            yield from walk(f"{name}[{key!r}]", part)
    elif isinstance(value, tuple | list):
        for place, part in enumerate(value):
            yield from walk(f"{name}[{place}]", part)


def _leaf(tensor: Any) -> Leaf:
    shared = tensor.device.type == "cpu" and str(tensor.dtype) in SHARED
    if shared and tensor.is_contiguous():
        return Leaf(tensor, tensor.detach().numpy(), mirrored=False)
    return Leaf(tensor, as_array(tensor), mirrored=True)


def _refuse_odd(name: str, tensor: Any) -> None:
    if not tensor.dtype.is_floating_point:
        refuse(name, "a tensor of floating-point numbers", tensor.dtype, error=CheckError)
    if tensor.layout != import_module("torch").strided:
        refuse(name, "a dense tensor", tensor.layout, error=CheckError)
    if any(
        size > 1 and step == 0 for size, step in zip(tensor.shape, tensor.stride(), strict=True)
    ):
        way_out = "give it memory of its own: .clone()"
        refuse(name, "a tensor with memory for each entry", "an expanded one", way_out, CheckError)
