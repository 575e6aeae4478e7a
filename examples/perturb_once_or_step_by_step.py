"""Is a weight perturbed once for the whole run, or step by step?

An LSTM is fed (1, 1) at each of four steps and should answer (0, 1). Its gradient is estimated
in two ways. *Once*: move a weight, run all four steps, subtract two losses. *Step by step*: at
each step, start from the state of the unperturbed run, move the weight for this step alone,
subtract two errors of this step; then add up the steps.

    python examples/perturb_once_or_step_by_step.py
"""

from __future__ import annotations

import numpy as np

import throughtime as tt
from throughtime.gradcheck import discrepancy

T, EPSILON = 4, 1e-5


def make() -> tuple[tt.Network, np.ndarray, np.ndarray]:
    """The network, what it is fed, and what it should answer."""
    net = tt.Network([tt.LSTM(2, 2)], tt.MeanSquaredError(time="sum"), dtype="float64", seed=0)
    return net, np.ones((T, 1, 2)), np.tile([0.0, 1.0], (T, 1, 1))


def derivatives(net: tt.Network, loss) -> tt.Parameters:
    """Central differences of a function of no arguments, weight by weight."""
    found = net.parameters.zeros_like()
    weights = net.parameters.flat
    for j in range(weights.size):
        kept = weights[j]
        weights[j] = kept + EPSILON
        above = loss()
        weights[j] = kept - EPSILON
        below = loss()
        weights[j] = kept
        found.flat[j] = (above - below) / (2 * EPSILON)
    return found


def once(net, inputs, targets) -> tt.Parameters:
    """One perturbation serves all four steps."""
    return derivatives(net, lambda: net.evaluate(inputs, targets).value)


def step_by_step(net, inputs, targets) -> tt.Parameters:
    """Each step on its own, from the state that the unperturbed run had before it."""
    _, _, tape = net.forward(inputs)
    states = [net.state_after(tape, t) for t in range(T)]

    def loss():
        steps = (slice(t, t + 1) for t in range(T))
        return sum(
            net.evaluate(inputs[t], targets[t], state=state).value
            for t, state in zip(steps, states, strict=True)
        )

    return derivatives(net, loss)


def main() -> dict[str, tuple[float, float]]:
    """Prints, tensor by tensor, how far each estimate is from BPTT and from TBPTT with k2 = 1."""
    net, inputs, targets = make()
    _, bptt = net.loss_and_gradient(inputs, targets)
    _, cut = tt.truncated_loss_and_gradient(net, inputs, targets, k1=1, k2=1)
    whole, stepwise = once(net, inputs, targets), step_by_step(net, inputs, targets)
    print("         once: d to BPTT    step by step: d to BPTT    flows through the state")
    rows = {}
    for name in net.parameters:
        d_once, d_steps = (discrepancy(bptt[name], n[name]) for n in (whole, stepwise))
        unseen = np.linalg.norm(bptt[name] - stepwise[name]) / np.linalg.norm(bptt[name])
        print(f"{name:8} {d_once:15.1e}    {d_steps:23.3f}    {unseen:22.0%}")
        rows[name] = (d_once, d_steps)
    d = discrepancy(cut.flat, stepwise.flat)
    print(f"\nstep by step against TBPTT that goes back k2 = 1 step: d = {d:.1e}")
    return rows


if __name__ == "__main__":
    main()
