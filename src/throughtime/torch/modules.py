"""The modules: torch's constructors, parameters and attributes, with a forward pass on the engine.

They derive from `torch.nn.RNN`, `LSTM` and `GRU`, which have the parameters, copying, saving and
moving, and whose forward pass answers where the engine cannot.
"""

from __future__ import annotations

import warnings
from typing import Any, Literal, TypeAlias

import torch

from throughtime.arrays import refuse
from throughtime.network import byte_count
from throughtime.torch.classes import torchs_twin
from throughtime.torch.compiler import let_compilers_trace
from throughtime.torch.forward import forward
from throughtime.torch.models.weights import peephole_name

Limit: TypeAlias = int | str | None


class _Recurrent(torch.nn.RNNBase):
    """What the three have in common."""

    torchs: type[torch.nn.RNNBase]  # torch's own module, which computes what the engine cannot

    # Attributes of the class too, for modules that were torch's before.
    memory_limit: Limit = None
    peepholes = False
    reset_after = True
    _taps: Any = None  # records the backward pass
    _carry: Any = None  # gives the initial state, and takes one from within the run

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        let_compilers_trace(cls)

    def _finish(self, memory_limit: Limit) -> None:
        if memory_limit is not None:
            byte_count(memory_limit)
            self.memory_limit = memory_limit

    def forward(self, input: Any, hx: Any = None, *, states: bool = False) -> Any:
        """As the class says; see `execution` for how a call is computed."""
        return forward(self, input, hx, states)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "qconfig":
            message = (
                f"throughtime.torch.{type(self).__name__}: torch's quantisation finds its own "
                "modules by their exact type, and leaves this one as it is; call "
                "throughtime.torch.restore(model) first"
            )
            warnings.warn(message, stacklevel=3)
        super().__setattr__(name, value)

    def __getstate__(self) -> dict[str, Any]:
        """Of a copy or a file, which is in no loop over `windows` and has no taps."""
        state: dict[str, Any] = super().__getstate__()
        return {name: part for name, part in state.items() if name not in ("_carry", "_taps")}

    def __prepare_scriptable__(self) -> torch.nn.Module:
        """What `torch.jit.script` compiles in its place: torch's own module with its parameters.

        Raises:
            RuntimeError: where the module has an option that torch's does not have.
        """
        for option, torchs in (("peepholes", False), ("reset_after", True)):
            if getattr(self, option) is not torchs:
                actual = f"{option}={getattr(self, option)}"
                what, expected = f"{type(self).__name__}: torch.jit.script", "torch's own options"
                refuse(what, expected, actual, "use torch.jit.trace", RuntimeError)
        return torchs_twin(self)

    def extra_repr(self) -> str:
        """Torch's, and the options that torch does not have."""
        parts = [super().extra_repr()]
        if self.peepholes:
            parts.append("peepholes=True")
        if not self.reset_after:
            parts.append("reset_after=False")
        if self.memory_limit is not None:
            parts.append(f"memory_limit={self.memory_limit!r}")
        return ", ".join(parts)


class RNN(_Recurrent, torch.nn.RNN):
    """`torch.nn.RNN` on the engine; called as `LSTM` is, without c.

    Args:
        input_size, …, dtype: those of `torch.nn.RNN`.
        memory_limit: as in `LSTM`.
        others: what torch refuses, such as `proj_size`.

    Example:
        >>> import torch
        >>> import throughtime as tt
        >>> rnn = tt.torch.RNN(3, 4, nonlinearity="relu", batch_first=True)
        >>> outputs, h = rnn(torch.ones(2, 5, 3))
        >>> tuple(outputs.shape), tuple(h.shape)
        ((2, 5, 4), (1, 2, 4))
    """

    torchs = torch.nn.RNN

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: Literal["tanh", "relu"] = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Any = None,
        dtype: Any = None,
        *,
        memory_limit: Limit = None,
        **others: Any,
    ) -> None:
        options = (num_layers, nonlinearity, bias, batch_first, dropout, bidirectional)
        super().__init__(input_size, hidden_size, *options, device=device, dtype=dtype, **others)
        self._finish(memory_limit)


class LSTM(_Recurrent, torch.nn.LSTM):
    """`torch.nn.LSTM` on the engine.

    `forward(input, hx=None, *, states=False)` takes and returns what torch's does: the input is
    (T, B, I), (B, T, I) with `batch_first`, (T, I) without a batch, or a PackedSequence; `hx` is
    (h_0, c_0); the results are the outputs and (h_n, c_n). With `states=True` a third result is a
    list of `LayerStates`, one for each layer: h, c and the gates of every step.

    Args:
        input_size, …, dtype: those of `torch.nn.LSTM`.
        peepholes: the gates also see the cell state (Gers and Schmidhuber 2000), by parameters
            `weight_peephole_l0` and so on, (3H,), in the order i, f, o.
        memory_limit: bytes, or text such as "64MB", that all layers together may keep between
            the forward and the backward pass, inputs and outputs not counted. The backward pass
            then runs segments of steps a second time; the gradients are the same to the bit.

    Raises:
        ValueError, TypeError, RuntimeError: as torch's; from the forward pass, ValueError for a
            memory limit that is too small, with the smallest that is not.

    Example:
        >>> import torch
        >>> import throughtime as tt
        >>> lstm = tt.torch.LSTM(3, 4, peepholes=True)
        >>> outputs, (h, c), states = lstm(torch.ones(5, 2, 3), states=True)
        >>> tuple(outputs.shape), tuple(states[0].c.shape), list(states[0].gates)
        ((5, 2, 4), (5, 2, 4), ['i', 'f', 'a', 'o', 'tanh_c'])
    """

    torchs = torch.nn.LSTM

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: Any = None,
        *,
        peepholes: bool = False,
        memory_limit: Limit = None,
    ) -> None:
        options = (num_layers, bias, batch_first, dropout, bidirectional, proj_size)
        super().__init__(input_size, hidden_size, *options, device=device, dtype=dtype)
        if peepholes:
            self.peepholes = True
            for names in self._all_weights:
                name = peephole_name(names[0])
                vector = torch.empty(3 * hidden_size, device=device, dtype=dtype)
                setattr(self, name, torch.nn.Parameter(vector))
            self.reset_parameters()
        self._finish(memory_limit)


class GRU(_Recurrent, torch.nn.GRU):
    """`torch.nn.GRU` on the engine; called as `LSTM` is, without c.

    Args:
        input_size, …, dtype: those of `torch.nn.GRU`.
        reset_after: False for the GRU as published (Cho et al. 2014), whose reset gate acts
            before the recurrent product: n = tanh(W_n x + b_n + U_n (r ⊙ h)).
        memory_limit: as in `LSTM`.
        others: what torch refuses, such as `proj_size`.

    Example:
        >>> import torch
        >>> import throughtime as tt
        >>> gru = tt.torch.GRU(3, 4, reset_after=False)
        >>> gru
        GRU(3, 4, reset_after=False)
        >>> tuple(gru(torch.ones(5, 3))[0].shape)  # one sequence, without a batch
        (5, 4)
    """

    torchs = torch.nn.GRU

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Any = None,
        dtype: Any = None,
        *,
        reset_after: bool = True,
        memory_limit: Limit = None,
        **others: Any,
    ) -> None:
        options = (num_layers, bias, batch_first, dropout, bidirectional)
        super().__init__(input_size, hidden_size, *options, device=device, dtype=dtype, **others)
        if not reset_after:
            self.reset_after = False
        self._finish(memory_limit)


def named_modules(model: object, what: str) -> dict[str, Any]:
    """The modules of `throughtime.torch` inside a model, by their names there.

    Args:
        model: any module.
        what: the name of the function that looks for them, for messages.

    Raises:
        TypeError: where the model is no module.
        ValueError: where it has none of them inside.
    """
    if not isinstance(model, torch.nn.Module):
        refuse(f"{what}: model", "a torch.nn.Module", type(model).__name__, error=TypeError)
    found = {n: m for n, m in model.named_modules() if isinstance(m, RNN | LSTM | GRU)}
    if not found:
        torchs = (torch.nn.RNN, torch.nn.LSTM, torch.nn.GRU)
        left = [n or "itself" for n, m in model.named_modules() if isinstance(m, torchs)]
        actual = f"torch's own ({', '.join(left)})" if left else "no recurrent module"
        way_out = "call throughtime.torch.accelerate(model) first" if left else ""
        refuse(f"{what}: model", "a module of throughtime.torch inside", actual, way_out)
    return found
