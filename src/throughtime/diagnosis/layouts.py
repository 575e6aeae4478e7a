"""`tt.layouts`: how a target's arrays hold a cell's matrices, and what its run was.

If the target has a layout, a diagnosis compares the gradient with backward passes that have faults
put in, and names those that give the same gradient down to rounding.
"""

from __future__ import annotations

from typing import Any, Literal

from throughtime.arrays import refuse
from throughtime.diagnosis.mutants.cells import ACTIVATIONS, GRU, LSTM, RNN, Cell
from throughtime.diagnosis.mutants.layout import Guess, Layout, Names
from throughtime.diagnosis.mutants.losses import Loss

__all__ = ["Guess", "Layout", "gru", "guess", "lstm", "rnn"]

LOSSES: dict[str, dict[str, Any]] = {
    "softmax": {"kind": "softmax"},
    "squared_error": {"kind": "squared_error"},
    "half_squared_error": {"kind": "squared_error", "half": True},
    "root_squared_error": {"kind": "squared_error", "root": True},
    "binary": {"kind": "binary"},
    "weighted": {"kind": "weighted"},
}
Combined = Literal[False, "xh", "hx"]


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
    **options: Any,
) -> Layout:
    """The layout of an LSTM, for `Target(layout=…)`.

    Args:
        inputs: numbers (T, B, I) or (T, I), or classes (T, B) or (T,).
        targets: classes (T, B), or numbers (T, B, O); of the last step alone, (B,) or (B, O).
        order: the gates in the order of their blocks of rows: i, f, o and the candidate, which
            may be called g, a, c or j. With one matrix for each gate, the letters in their names.
        W, U: names of the matrices that multiply x_t and h_{t−1}. "W{gate}" stands for one matrix
            for each gate; in "W{layer}" layers are numbered from 0; in "W{direction}" 0 is forwards
            and 1 backwards. A tuple holds one name for each layer, or for each of its directions,
            layer after layer.
        b: name of the bias, in the same way; None where there is none.
        cell_activation: h = o ⊙ tanh(c), or h = o ⊙ c for "identity".
        coupled: whether f = 1 − i; `order` has no f then.
        peepholes: name of the vector that multiplies c_{t−1} in i and f, and c_t in o, in `order`
            without the candidate, or "p{gate}"; None where there is none.
        projection: name of R (P, H) where h = R (o ⊙ tanh(c)); None where nothing is projected.
        second_bias: name of a second bias, on the side of h_{t−1}, as in torch.
        transposed: False: z = W x, gates are rows; True: z = x W, gates are columns.
        combined: "xh" or "hx" where `W` holds both matrices, over [x, h] or over [h, x].
        layers: how many such layers are stacked.
        bidirectional: whether each of them also runs backwards through time, each sequence from
            its own end; h_t is [forwards, backwards], (2P,).
        head, head_bias: names of the output layer's matrix (O, H) and bias; None: none.
        head_transposed: whether the matrix is (H, O).
        embedding: name of a matrix (classes, I) whose rows are looked up for inputs that are
            classes; None: classes are one-hot.
        loss: "softmax" (cross-entropy in nats), "squared_error", "half_squared_error",
            "root_squared_error", "binary" (cross-entropy of σ(y)) or "weighted" (Σ targets·y).
        time, batch, outputs: "sum" or "mean" over steps, sequences, and outputs of one step.
        last: whether only the last step has a target.
        epsilon: ε where the cross-entropy of a softmax is −log(p + ε).
        decay: λ of an L2 term λ/2 Σ W² over the matrices; with `decay_biases`, over biases too.
        lengths: the number of steps of every sequence (B,), where they differ.
        h0, c0: initial states (B, H), or (layers, B, H), or (layers, 2, B, H) with two directions;
            by default 0. If h is projected, h0 has size P.
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
    options |= {"p": peepholes or "", "R": projection or ""}
    return _layout(cell, inputs, targets, order, W, U, b, **options)


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
    **options: Any,
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
    return _layout(GRU(reset_after, keep), inputs, targets, order, W, U, b, **options)


def rnn(
    inputs: Any,
    targets: Any,
    *,
    W: Names = "Wx",
    U: Names = "Wh",
    b: Names | None = "b",
    order: str = "h",
    nonlinearity: Literal["tanh", "relu", "sigmoid", "identity"] = "tanh",
    **options: Any,
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
    return _layout(RNN(nonlinearity), inputs, targets, order, W, U, b, **options)


def guess(inputs: Any, targets: Any, **run: Any) -> Guess:
    """A layout to be guessed from names and shapes: the first one that has the target's loss.

    Tried are LSTMs, GRUs and RNNs of one layer in all their variants, with two matrices or one over
    [x, h] or [h, x], by rows or by columns, with every order of the gates or one matrix for each
    gate, one bias or two, and every reduction of the loss.

    Args:
        inputs, targets: as in `lstm`.
        run: what else is known: `lengths`, `h0`, `c0`, `mask`, `decay`, `decay_biases`.

    Example:
        >>> import numpy as np
        >>> import throughtime as tt
        >>> layout = tt.layouts.guess(np.ones((6, 1, 2)), np.zeros((6, 1), int))
        >>> len({one.order for one in layout.layouts({"W": (12, 5), "b": (12,), "V": (4, 3)})})
        24
    """
    unknown = set(run) - {"lengths", "h0", "c0", "mask", "decay", "decay_biases"}
    if unknown:
        refuse("guess", "lengths, h0, c0, mask, decay, decay_biases", ", ".join(sorted(unknown)))
    return Guess(inputs, targets, run)


def _layout(
    cell: Cell,
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
    head: str | None = None,
    head_bias: str | None = None,
    head_transposed: bool = False,
    embedding: str | None = None,
    loss: str = "softmax",
    time: str = "mean",
    batch: str = "mean",
    outputs: str = "mean",
    last: bool = False,
    epsilon: float = 0.0,
    **run: Any,
) -> Layout:
    if loss not in LOSSES:
        refuse("loss", "one of " + ", ".join(LOSSES), repr(loss))
    if combined not in (False, "xh", "hx"):
        refuse("combined", "False, 'xh' or 'hx'", repr(combined))
    reduced = Loss(
        time=time, batch=batch, outputs=outputs, last=last, epsilon=epsilon, **LOSSES[loss]
    )
    return Layout(
        cell,
        order,
        inputs,
        targets,
        W,
        U,
        b or "",
        second_bias or "",
        transposed=transposed,
        combined=combined or "",
        V=head or "",
        d=head_bias or "",
        head_transposed=head_transposed,
        E=embedding or "",
        layers=layers,
        directions=2 if bidirectional else 1,
        loss=reduced,
        **run,
    )
