from typing import TypeAlias

from throughtime.arrays import Array

_Maybe: TypeAlias = Array | None

class Cell:
    def __init__(
        self,
        *,
        kind: int,
        inputs: int,
        units: int,
        outputs: int,
        relu: bool = False,
        peepholes: bool = False,
        projection: bool = False,
        reset_after: bool = False,
        bfloat16: bool = False,
    ) -> None: ...

# `inputs` or `classes`; `h` and `c` are the states, `c_bias` is a parameter. All are contiguous.
def forward(
    cell: Cell,
    *,
    W: Array,
    U: Array,
    b: Array,
    p: _Maybe = None,
    R: _Maybe = None,
    c_bias: _Maybe = None,
    inputs: _Maybe = None,
    classes: _Maybe = None,
    lengths: _Maybe = None,
    h: Array,
    c: _Maybe = None,
    kept: Array,
) -> None: ...

# `fresh`: what the parameters' gradients hold before the call is ignored, and never read.
def backward(
    cell: Cell,
    *,
    W: Array,
    U: Array,
    b: Array,
    p: _Maybe = None,
    R: _Maybe = None,
    c_bias: _Maybe = None,
    inputs: _Maybe = None,
    classes: _Maybe = None,
    lengths: _Maybe = None,
    h: Array,
    c: _Maybe = None,
    kept: Array,
    doutputs: _Maybe = None,
    dh: Array,
    dc: _Maybe = None,
    dW: Array,
    dU: Array,
    db: Array,
    dp: _Maybe = None,
    dR: _Maybe = None,
    dc_bias: _Maybe = None,
    dinputs: _Maybe = None,
    delta_h: _Maybe = None,
    delta_c: _Maybe = None,
    delta_z: _Maybe = None,
    fresh: bool = False,
) -> None: ...

# A module's first cell, layers, directions, and whether there are biases.
class Stack:
    def __init__(self, first: Cell, layers: int, directions: int, biases: bool, /) -> None: ...
    # Numbers that a tape has room for; for every side where its h, c and gates begin in it.
    def places(
        self, steps: int, batch: int, ragged: bool, dropout: bool, /
    ) -> tuple[int, list[tuple[int, int, int]]]: ...

# All but the sizes are addresses, 0 for None, which are not validated. `running`: of how many
# sequences run at each step; `masks`: dropout's factors; `h0` and `c0` are the initial states, `h`
# and `c` the final ones, `dh` and `dc` the gradients by these.
def stack_forward(
    stack: Stack,
    *,
    float64: bool,
    steps: int,
    batch: int,
    rows: int,
    running: int,
    x: int,
    weights: list[int],
    masks: list[int],
    tape: int,
    h0: int,
    c0: int,
    outputs: int,
    h: int,
    c: int,
) -> None: ...
def stack_backward(
    stack: Stack,
    *,
    float64: bool,
    steps: int,
    batch: int,
    rows: int,
    running: int,
    x: int,
    weights: list[int],
    masks: list[int],
    tape: int,
    doutputs: int,
    dh: int,
    dc: int,
    dx: int,
    dh0: int,
    dc0: int,
    dweights: list[int],
) -> None: ...

# W, b, inputs, classes, outputs.
def dense_forward(steps: int, batch: int, /, *arrays: _Maybe, bfloat16: bool = False) -> None: ...

# W, inputs, classes, doutputs, dW, db, dinputs.
def dense_backward(steps: int, batch: int, /, *arrays: _Maybe, bfloat16: bool = False) -> None: ...
def embedding_backward(classes: Array, doutputs: Array, dE: Array, /) -> None: ...

# Outputs (N, K), classes (N), weights (N), errors (N), doutputs (N, K).
def softmax(
    outputs: Array, classes: Array, weights: Array, errors: Array, doutputs: Array, /
) -> None: ...
def sum_of_squares(x: Array, /) -> float: ...
def adam(
    parameters: Array,
    gradient: Array,
    m: Array,
    v: Array,
    beta1: float,
    beta2: float,
    rate: float,
    root: float,
    epsilon: float,
    /,
) -> None: ...

# Kind, starts, U, factors, carry, through h, arriving; total, squares, by sequence, sums.
def lags(kind: int, /, *arrays: _Maybe) -> None: ...
def sigmoid(source: Array, target: Array, /) -> None: ...
def tanh(source: Array, target: Array, /) -> None: ...
def set_threads(count: int, /) -> None: ...
def threads() -> int: ...
def chunk_steps(batch: int, /) -> int: ...
def empty(steps: int, batch: int, size: int, double: bool, /) -> Array: ...
def release_workspace() -> int: ...

# A function that was compiled at run time, by its address, which is not validated; nor are shapes.
def run_steps(
    function: int,
    steps: int,
    batch: int,
    first: int,
    last: int,
    active: _Maybe,
    arrays: list[_Maybe],
    work: Array,
) -> None: ...
def run_sums(function: int, count: int, arrays: list[_Maybe], work: Array, /) -> None: ...
def isa() -> str: ...

# The products in bfloat16 that the instruction set in use has here; "" for none.
def bfloat16() -> str: ...

# Where their functions `along` and `multiply` begin (native/bfloat16.hpp); 0 for none.
def bfloat16_functions() -> tuple[int, int]: ...
def choose_isa(name: str, /) -> None: ...
def available_isas() -> list[str]: ...
def peak(seconds: float, /) -> float: ...
