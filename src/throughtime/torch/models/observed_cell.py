"""What a `throughtime.torch.Recurrent` receives and returns in a run of a model.

Its state is a dictionary by the names of the cell's own states, and the steps of each sequence are
an argument of their own. What it computes is known: the flow takes the cell itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

import numpy as np

from throughtime.arrays import Array, refuse
from throughtime.network import Network
from throughtime.torch.models.observed_run import ObservedModule, TensorFormat, array


def is_own_layer(module: Any) -> bool:
    """Whether it is a layer that is made of a cell of this package."""
    own = import_module("throughtime.torch.any_cell").Recurrent
    return isinstance(module, own)


class ObservedCell(ObservedModule):
    """One call of such a layer; everything else is as for torch's own modules.

    Attributes:
        begun: the initial state by the network's names, (B, ·); None for zeros.
    """

    begun: dict[str, Array] | None = None

    @property
    def title(self) -> str:
        """`decoder` (elman)."""
        kind = self.module.cell.title
        return f"`{self.name}` ({kind})" if self.name else f"the {kind}"

    @property
    def bidirectional(self) -> bool:
        """Whether it runs both ways."""
        return bool(self.module.cell.bidirectional)

    @property
    def parts(self) -> list[str]:
        """The names of its state, as `forward` returns them: "h", "c"; "1.h" for the way back."""
        return list(self.module.layer.state_sizes())

    def ends(self, parts: Sequence[Any]) -> dict[str, Array]:
        """Derivatives by the last states, by the network's names."""
        each = zip(self.parts, parts, strict=True)
        return {f"0.{name}": array(part) for name, part in each if part is not None}

    def output_states(self) -> list[str]:
        """The states that are outputs, too: those of its directions."""
        return ["0.h", "0.1.h"][: 1 + self.bidirectional]

    def network(self) -> Network:
        """The cell as a network of one layer, with the module's own numbers."""
        weights = self.module.weights()
        dtype = str(next(iter(weights.values())).dtype).removeprefix("torch.")
        found = Network([self.module.cell], dtype=dtype)
        for name, tensor in weights.items():
            found.parameters[f"0.{name}"] = array(tensor)
        return found

    def note(self, args: Any, kwargs: Any, output: Any) -> Any:
        """Notes one call, and passes its outputs on as leaves."""
        named = dict(zip(("inputs", "state", "lengths"), args, strict=False)) | kwargs
        if not isinstance(output, tuple) or len(output) != 2 or not isinstance(output[1], Mapping):
            kind = type(self.module).__name__
            expected = "the forward method of throughtime.torch.Recurrent"
            refuse(self.title, expected, f"{kind}.forward", "name another module: of=…", TypeError)
        received, lengths = named["inputs"], named.get("lengths")
        self.format = TensorFormat(self.module.batch_first, False)
        steps = self.format.time_major(received)
        classes = not steps.dtype.is_floating_point
        self.inputs = np.array(steps.cpu().numpy()) if classes else array(steps)
        self.lengths = None if lengths is None else lengths.detach().cpu().numpy()
        if (state := named.get("state")) is not None:
            self.begun = {f"0.{name}": array(part) for name, part in state.items()}
        outputs, final = output
        leaves = [outputs, *(final[name] for name in self.parts)]
        self.given = [tensor.detach().requires_grad_() for tensor in leaves]
        first, *rest = (leaf.clone() for leaf in self.given)  # which may be changed in place
        return first, dict(zip(self.parts, rest, strict=True))
