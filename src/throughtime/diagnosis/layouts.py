"""`tt.layouts`: how a target's arrays hold a cell's matrices, and what its run was.

If the target has a layout, a diagnosis compares the gradient with backward passes that have faults
put in, and names those that give the same gradient down to rounding.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, Literal, TypedDict, Unpack

from throughtime.arrays import Array, refuse, refuse_unknown
from throughtime.cells import CellDefinition, DerivedCell
from throughtime.diagnosis.mutants.cells import ACTIVATIONS, GRU, LSTM, RNN, MutantCell
from throughtime.diagnosis.mutants.equation_layout import (
    OF_EQUATIONS,
    EquationLayout,
    ParameterNames,
)
from throughtime.diagnosis.mutants.layout import COMBINED, Guess, Layout, Names
from throughtime.diagnosis.mutants.losses import ModelLoss

__all__ = ["Guess", "Layout", "cell", "gru", "guess", "lstm", "rnn"]

LOSSES: dict[str, dict[str, Any]] = {
    "softmax": {"kind": "softmax"},
    "squared_error": {"kind": "squared_error"},
    "half_squared_error": {"kind": "squared_error", "half": True},
    "root_squared_error": {"kind": "squared_error", "root": True},
    "absolute_error": {"kind": "absolute_error"},
    "binary": {"kind": "binary"},
    "weighted": {"kind": "weighted"},
}
Combined = Literal[False, "xh", "hx", "xh1", "hx1", "1xh", "1hx"]
Reduction = Literal["", "sum", "mean"]
LossName = Literal[
    "softmax",
    "squared_error",
    "half_squared_error",
    "root_squared_error",
    "absolute_error",
    "binary",
    "weighted",
]


class LayoutOptions(TypedDict, total=False):
    """What `lstm`, `gru` and `rnn` have in common; `lstm` explains each."""

    second_bias: Names | None
    transposed: bool
    recurrent_transposed: bool | None
    combined: Combined
    layers: int
    bidirectional: bool
    head: Any
    head_bias: Any
    head_transposed: bool
    first_units: int
    embedding: str | None
    loss: LossName
    time: Reduction
    batch: Reduction
    outputs: Reduction
    output_activation: Literal["identity", "sigmoid", "tanh", "softmax"]
    epsilon: float
    scale: float
    batch_first: bool
    last: bool
    decay: float
    decay_biases: bool
    lengths: Any
    h0: Any
    c0: Any
    initial_h: str | None
    initial_c: str | None
    mask: Any


class KnownOfARun(TypedDict, total=False):
    """What may be known of a run whose layout is to be guessed."""

    lengths: Any
    h0: Any
    c0: Any
    mask: Any
    decay: float
    decay_biases: bool
    head: Any
    head_bias: Any


def lstm(
    inputs: Any,
    targets: Any,
    *,
    order: str = "ifgo",
    W: Names = "Wx",
    U: Names = "Wh",
    b: Names | None = "b",
    cell_activation: Literal["tanh", "identity"] = "tanh",
    coupled: bool = False,
    peepholes: Names | None = None,
    projection: Names | None = None,
    **options: Unpack[LayoutOptions],
) -> Layout:
    """The layout of an LSTM, for `Target(layout=…)`.

    Args:
        inputs: numbers (T, B, I), (T, I), or (T,) where I = 1, or classes (T, B) or (T,).
        targets: classes (T, B), or numbers (T, B, O); of the last step alone, (B,) or (B, O).
        order: the gates in the order of their blocks of rows: i, f, o and the candidate, which
            may be called g, a, c or j. With one matrix for each gate, the letters in their names.
        W, U: names of the matrices that multiply x_t and h_{t−1}. "W{gate}" stands for one matrix
            for each gate, and so does a dictionary from the letters in `order` to names; in
            "W{layer}" layers are numbered from 0; in "W{direction}" 0 is forwards and 1 backwards.
            A tuple holds one of these for each layer, or for each of its directions, layer after
            layer.
        b: name of the bias, in the same way; None where there is none.
        cell_activation: h = o ⊙ tanh(c), or h = o ⊙ c for "identity".
        coupled: whether f = 1 − i; `order` has no f then.
        peepholes: name of the vector that multiplies c_{t−1} in i and f, and c_t in o, in `order`
            without the candidate, or "p{gate}"; None where there is none.
        projection: name of R (P, H) where h = R (o ⊙ tanh(c)); None where nothing is projected.
        second_bias: name of a second bias, on the side of h_{t−1}, as in torch.
        transposed: False: z = W x, gates are rows; True: z = x W, gates are columns.
        recurrent_transposed: the same of U, where U is held in the other way.
        combined: "xh" or "hx" where `W` holds both matrices, over [x, h] or over [h, x]; with a "1"
            behind or in front, "xh1" … "1hx", where it holds the bias too, over a 1 there.
        layers: how many such layers are stacked.
        bidirectional: whether each of them also runs backwards through time, each sequence from
            its own end; h_t is [forwards, backwards], (2P,).
        head, head_bias: names of the output layer's matrix (O, H) and bias; None: none. Arrays,
            where the output layer is no parameter of the target.
        head_transposed: whether the matrix is (H, O).
        first_units: without an output layer, how many of the first units of h the loss sees.
        embedding: name of a matrix (classes, I) whose rows are looked up for inputs that are
            classes; None: classes are one-hot.
        loss: "softmax" (cross-entropy in nats), "squared_error", "half_squared_error",
            "root_squared_error", "absolute_error", "binary" (cross-entropy of σ(y)) or "weighted"
            (Σ targets·y).
        time, batch, outputs: "sum" or "mean" over steps, sequences, and outputs of one step; by
            default means, but sums over the outputs of a "softmax" and over all of "weighted".
        output_activation: "sigmoid", "tanh" or "softmax" where a squared or absolute error is that
            of activated outputs.
        epsilon: ε where the loss takes log(p + ε).
        scale: what the loss is multiplied with beside that.
        batch_first: whether inputs, targets and `mask` are (B, T, ·), or flat in this order. One
            sequence alone, (T, I) or (T,), is given as without.
        last: whether only the last step has a target.
        decay: λ of an L2 term λ/2 Σ W² over the matrices; with `decay_biases`, over biases too.
        lengths: the number of steps of every sequence (B,), where they differ.
        h0, c0: initial states (B, H), or (layers, B, H), or (layers, 2, B, H) with two directions;
            by default 0. If h is projected, h0 has size P.
        initial_h, initial_c: names of initial states (B, H) or (H, B) that are parameters.
        mask: what the head sees of h, (T, B, H): 0 where a unit is dropped.

    Raises:
        ValueError: if an argument is none of these.

    Example:
        >>> import numpy as np
        >>> import throughtime as tt
        >>> layout = tt.layouts.lstm(np.ones((6, 2)), np.zeros(6, int), order="fiog", W="W",
        ...     combined="xh", transposed=True, b="b", head="V", head_bias="c", time="sum")
        >>> layout.order
        'fiog'
    """
    if cell_activation not in ("tanh", "identity"):
        refuse("cell_activation", "'tanh' or 'identity'", repr(cell_activation))
    if coupled and order == "ifgo":
        order = "igo"
    cell = LSTM(cell_activation, coupled, bool(peepholes))
    own = _known(lstm, options) | {"p": peepholes or "", "R": projection or ""}
    return _layout(cell, inputs, targets, order, W, U, b, **own)


def gru(
    inputs: Any,
    targets: Any,
    *,
    order: str = "rzn",
    W: Names = "Wx",
    U: Names = "Wh",
    b: Names | None = "b",
    reset_after: bool = True,
    keep: Literal["z", "1-z"] = "z",
    **options: Unpack[LayoutOptions],
) -> Layout:
    """The layout of a GRU; it has the arguments of `lstm`, and two of its own.

    Args:
        order: the order of r, z (or u), and the candidate, n (or h, c, g).
        reset_after: whether n = tanh(W_n x + r ⊙ (U_n h)), as in torch, or
            tanh(W_n x + U_n(r ⊙ h)).
        keep: the share of h_{t−1} in h_t: "z": h = (1 − z) n + z h_{t−1}; "1-z": the reverse.

    Example:
        >>> import numpy as np
        >>> import throughtime as tt
        >>> tt.layouts.gru(np.ones((6, 2)), np.zeros((6, 1)), loss="squared_error", keep="1-z").cell
        GRU(reset_after=True, keep='1-z')
    """
    if keep not in ("z", "1-z"):
        refuse("keep", "'z' or '1-z'", repr(keep))
    own = _known(gru, options)
    return _layout(GRU(reset_after, keep), inputs, targets, order, W, U, b, **own)


def rnn(
    inputs: Any,
    targets: Any,
    *,
    W: Names = "Wx",
    U: Names = "Wh",
    b: Names | None = "b",
    order: str = "h",
    nonlinearity: Literal["tanh", "relu", "sigmoid", "identity"] = "tanh",
    **options: Unpack[LayoutOptions],
) -> Layout:
    """The layout of a vanilla RNN; it has the arguments of `lstm`, and one of its own.

    Args:
        nonlinearity: φ of h_t = φ(W x_t + U h_{t−1} + b).

    Example:
        >>> import numpy as np
        >>> import throughtime as tt
        >>> tt.layouts.rnn(np.ones((6, 2)), np.zeros(6, int), nonlinearity="relu").cell
        RNN(nonlinearity='relu')
    """
    if nonlinearity not in ACTIVATIONS:
        refuse("nonlinearity", "one of " + ", ".join(ACTIVATIONS), repr(nonlinearity))
    own = _known(rnn, options)
    return _layout(RNN(nonlinearity), inputs, targets, order, W, U, b, **own)


def _known(function: Callable[..., Layout], options: Mapping[str, Any]) -> dict[str, Any]:
    """The options; one that there is not names the nearest right one."""
    known = [*inspect.signature(function).parameters, *LayoutOptions.__annotations__]
    beside = {field.name for field in fields(Layout)}
    unknown = [name for name in options if name not in beside | {*known}]
    refuse_unknown(f"layouts.{function.__name__}", unknown, known)
    return dict(options)


def cell(
    of: CellDefinition | DerivedCell,
    inputs: Any,
    targets: Any,
    *,
    names: Mapping[str, ParameterNames] | None = None,
    transposed: bool | tuple[str, ...] = False,
    fixed: Mapping[str, Array] | None = None,
    states: Mapping[str, Any] | None = None,
    **options: Any,
) -> Layout:
    """The layout of any cell, given by its forward equations; its options are those of `lstm`.

    Args:
        of: what `tt.cell` made, with its sizes or without; they are read off the arrays then.
        inputs, targets: as in `lstm`.
        names: of parameters that are called otherwise in the target: `{"W": "weights"}`; with
            `{"W": ("W_i", "W_f")}`, or `{"W": "W_{gate}"}`, one tensor for each part that the step
            cuts the parameter into; "{layer}" and "{direction}" in a name stand for their numbers.
        transposed: the matrices that the target holds transposed; True for all of them. No need
            where the equations are written as the arrays are held.
        fixed: the values of parameters of the equations that are none of the target.
        states: initial states by their names in the equations, (B, n); by default 0.
        options: `layers`, `bidirectional`, `head`, `head_bias`, `head_transposed`, `first_units`,
            `embedding`, `loss`, `time`, `batch`, `outputs`, `output_activation`, `epsilon`,
            `scale`, `last`, `lengths`, `mask`, `decay`, `decay_biases`, `batch_first` and
            `initial_h`, as in `lstm`.

    Raises:
        ValueError: if an argument is none of these.

    Example:
        >>> import numpy as np
        >>> import throughtime as tt
        >>> @tt.cell(W="H I", u="H", b="H")
        ... def indrnn(x, h, W, u, b):
        ...     return tt.relu(W @ x + u * h + b)
        >>> layout = tt.layouts.cell(indrnn, np.ones((6, 2)), np.zeros((6, 1)), head="V")
        >>> p = {"W": np.ones((4, 2)), "u": np.ones(4), "b": np.zeros(4), "V": np.ones((1, 4))}
        >>> layout.model(p).steps
        6
    """
    if not isinstance(of, CellDefinition | DerivedCell):
        way_out = "decorate the step with @tt.cell, and give the shapes of its parameters"
        refuse("layout: cell", "a cell that tt.cell made", repr(of), way_out, error=TypeError)
    if unknown := sorted(set(options) & {"order", "W", "U", "b", "combined", "second_bias", "h0"}):
        way_out = "names= says what the parameters are called, states= how they start"
        refuse("layout of a cell", "none of an LSTM's own options", ", ".join(unknown), way_out)
    known = _layout(OF_EQUATIONS, inputs, targets, "", "", "", None, **options)
    return EquationLayout(
        **{name: getattr(known, name) for name in Layout.__dataclass_fields__},
        of=of,
        names=dict(names or {}),
        turned=transposed,
        fixed=dict(fixed or {}),
        states=dict(states or {}),
    )


KNOWN_OF_A_RUN = ("lengths", "h0", "c0", "mask", "decay", "decay_biases", "head", "head_bias")


def guess(inputs: Any, targets: Any = None, **known: Unpack[KnownOfARun]) -> Guess:
    """A layout to be guessed from names and shapes: the first one that has the target's loss.

    Tried are LSTMs, GRUs and RNNs in all their variants, of one layer or of several whose names
    have numbers; matrices in either orientation, two of them or one over [x, h] or [h, x], with a
    column for the bias or without; every order of the gates, in one matrix or in one for each gate;
    an embedding, a head, initial states among the parameters, or none; every loss and every
    reduction of it.

    Args:
        inputs: as in `lstm`, or with the axes T, B and I in any other order; single numbers too.
        targets: in the same way; None: none are known, as where the loss is Σ h.
        known: what else is known: `lengths`, `h0`, `c0`, `mask`, `decay`, `decay_biases`, and
            `head` and `head_bias`, where the output layer is no parameter.

    Example:
        >>> import numpy as np
        >>> import throughtime as tt
        >>> layout = tt.layouts.guess(np.ones((6, 1, 2)), np.zeros((6, 1), int))
        >>> len({one.order for one in layout.layouts({"W": (12, 5), "b": (12,), "V": (4, 3)})})
        36
    """
    run: dict[str, Any] = {**known}
    unknown = set(run) - set(KNOWN_OF_A_RUN)
    if unknown:
        refuse("guess", ", ".join(KNOWN_OF_A_RUN), ", ".join(sorted(unknown)))
    head, bias = run.pop("head", None), run.pop("head_bias", None)
    if head is not None:
        run["fixed_head"] = (head, bias)
    return Guess(inputs, targets, run)


def _layout(
    cell: MutantCell,
    inputs: Any,
    targets: Any,
    order: str,
    W: Names,
    U: Names,
    b: Names | None,
    *,
    second_bias: Names | None = None,
    transposed: bool = False,
    combined: Combined = False,
    layers: int = 1,
    bidirectional: bool = False,
    head: Any = None,
    head_bias: Any = None,
    embedding: str | None = None,
    loss: str = "softmax",
    time: str = "",
    batch: str = "",
    outputs: str = "",
    last: bool = False,
    output_activation: str = "identity",
    epsilon: float = 0.0,
    scale: float = 1.0,
    initial_h: str | None = None,
    initial_c: str | None = None,
    **run: Any,
) -> Layout:
    if loss not in LOSSES:
        refuse("loss", "one of " + ", ".join(LOSSES), repr(loss))
    if (combined or "") not in COMBINED:
        refuse("combined", "False, " + ", ".join(map(repr, COMBINED[1:])), repr(combined))
    reduced = ModelLoss(
        time=time,
        batch=batch,
        outputs=outputs,
        last=last,
        activation=output_activation,
        epsilon=epsilon,
        scale=scale,
        **LOSSES[loss],
    )
    fixed = None if head is None or isinstance(head, str) else (head, head_bias)
    if fixed is None:
        run |= {"V": head or "", "d": head_bias or ""}
    return Layout(
        cell,
        order,
        inputs,
        targets,
        W,
        U,
        "" if "1" in (combined or "") else b or "",
        second_bias or "",
        transposed=transposed,
        combined=combined or "",
        fixed_head=fixed,
        E=embedding or "",
        layers=layers,
        directions=2 if bidirectional else 1,
        loss=reduced,
        h_start=initial_h or "",
        c_start=initial_c or "",
        **run,
    )
