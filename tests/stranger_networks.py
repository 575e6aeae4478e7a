"""A network as people write one, with places for what differs among them."""

BASE = """
import numpy as np

{before}
class Net:
    {attributes}
    def __init__(self, {made}, hidden_size=4):
        {making}
        self.U = np.random.randn(hidden_size, {inputs})
        self.W = np.random.randn(hidden_size, hidden_size)
        self.V = np.random.randn({outputs}, hidden_size)
        {more}

    def forward(self, {given}):
        self.hs, self.xs, self.ys = [np.zeros((len(self.W), {columns}))], [], []
        for t in range(len(x)):
            {step}
            self.hs.append(np.tanh(self.U @ self.xs[-1] + self.W @ self.hs[-1]))
            self.ys.append(self.V @ self.hs[-1])
        return {result}

    def backward(self, {back}):
        {first}
        dU, dW, dV = np.zeros_like(self.U), np.zeros_like(self.W), np.zeros_like(self.V)
        dh = 0
        for t in reversed(range(len(d))):
            dV += d[t] @ self.hs[t + 1].T
            dz = (self.V.T @ d[t] + dh) * (1 - self.hs[t + 1] ** 2)
            dU += dz @ self.xs[t].T
            dW += dz @ self.hs[t].T
            dh = self.W.T @ dz
        {end}
{methods}
"""
PLAIN = {
    "before": "",
    "attributes": "",
    "made": "input_size, output_size",
    "making": "",
    "inputs": "input_size",
    "outputs": "output_size",
    "more": "",
    "given": "x",
    "columns": "1",
    "step": "self.xs.append(x[t].reshape(-1, 1))",
    "result": "np.array(self.ys)",
    "back": "d",
    "first": "",
    "end": "self.dU, self.dW, self.dV = dU, dW, dV",
    "methods": "",
}
