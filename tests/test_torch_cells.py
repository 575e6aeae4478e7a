"""Every cell, option and layer against torch's autograd in float64, step by step."""

from dataclasses import replace

import numpy as np
import pytest

from helpers import CLASSES, cases, example, network, one_hot

torch = pytest.importorskip("torch", reason="torch is not installed")
from torch_reference import leaf, run  # noqa: E402

pytestmark = pytest.mark.usefixtures("each_engine")
CASES = cases()
SIZES = {"T=1 B=1": (1, 1), "T=7 B=4": (7, 4)}


def truth(net, case, masks):
    """Outputs, final state and all gradients by torch, in float64."""
    T, B = case.inputs.shape[:2]
    p = {name: leaf(array) for name, array in net.parameters.items()}
    state = {name: leaf(array) for name, array in case.state.items()}
    numbers = one_hot(case.inputs, CLASSES) if case.inputs.ndim == 2 else case.inputs
    x = leaf(numbers)
    lengths = [T] * B if case.lengths is None else case.lengths
    outputs, final = run(net, p, x, state, lengths, masks)
    total = (outputs * torch.tensor(case.doutputs)).sum()
    for name, value in final.items():
        total = total + (value * torch.tensor(case.dstate[name])).sum()
    total.backward()
    found = {"outputs": outputs, "gradient of inputs": x.grad}
    found |= {f"final state {n}": v for n, v in final.items()}
    found |= {f"gradient of {n}": v.grad for n, v in p.items()}
    found |= {f"gradient of initial state {n}": v.grad for n, v in state.items()}
    return {what: value.detach().numpy() for what, value in found.items()}


def compare(net, case, check):
    outputs, final, tape = net.forward(
        case.inputs, case.state, case.lengths, dropout_seed=case.dropout_seed
    )
    back = net.backward(tape, case.doutputs, case.dstate)
    ours = {"outputs": outputs, "gradient of inputs": back.inputs}
    ours |= {f"final state {n}": v for n, v in final.items()}
    ours |= {f"gradient of {n}": v for n, v in back.parameters.items()}
    ours |= {f"gradient of initial state {n}": v for n, v in back.state.items()}
    masks = {n: getattr(layer, "mask", None) for n, layer in enumerate(tape.layers)}
    wanted = truth(net, case, masks)
    if back.inputs is None:
        assert case.inputs.ndim == 2
        del ours["gradient of inputs"], wanted["gradient of inputs"]
    assert set(ours) == set(wanted)
    for what, array in ours.items():
        assert array.dtype == net.dtype
        check(what, array, wanted[what])


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("ragged", [True, False], ids=["ragged", "full"])
@pytest.mark.parametrize("name", CASES)
def test_float64(name, ragged, size, oracle):
    net = network(CASES[name])
    compare(net, example(net, *SIZES[size], ragged=ragged), oracle)


@pytest.mark.parametrize("name", CASES)
def test_float32_against_float64(name, oracle):
    """float32 has 6e-8 of relative rounding; some tens of operations add up."""
    net = network(CASES[name], "float32")
    case = example(net, 7, 4)
    compare(net, case, lambda *args: oracle(*args, bound=2e-6))


def test_one_hot_numbers_and_indices_have_the_same_truth(oracle):
    net = network(CASES["LSTM of indices"])
    case = example(net, 7, 4)
    compare(net, replace(case, inputs=one_hot(case.inputs, CLASSES)), oracle)


def test_relu_at_its_kink(oracle):
    """Where z is exactly 0, torch's slope is 0, and so is ours."""
    net = network(CASES["RNN relu"])
    case = example(net, 7, 4)
    net.parameters.flat[...] = 0
    net.parameters["0.U"] = np.eye(3)
    compare(net, case, oracle)
