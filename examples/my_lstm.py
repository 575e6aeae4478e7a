"""An LSTM in NumPy, batch first, as one writes it oneself. Its backward pass has a mistake."""

import numpy as np


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


class LSTM:
    """Reads sequences x (B, T, I), and gives an output (B, O) after the last step."""

    def __init__(self, input_size, hidden_size, output_size):
        draw, size = np.random.default_rng(0).standard_normal, input_size + hidden_size
        self.hidden_size = hidden_size
        self.Wf = draw((size, hidden_size)) / np.sqrt(size)
        self.Wi = draw((size, hidden_size)) / np.sqrt(size)
        self.Wc = draw((size, hidden_size)) / np.sqrt(size)
        self.Wo = draw((size, hidden_size)) / np.sqrt(size)
        self.bf, self.bi = np.ones(hidden_size), np.zeros(hidden_size)
        self.bc, self.bo = np.zeros(hidden_size), np.zeros(hidden_size)
        self.Wy = draw((hidden_size, output_size)) / np.sqrt(hidden_size)
        self.by = np.zeros(output_size)

    def forward(self, x):
        h = c = np.zeros((x.shape[0], self.hidden_size))
        self.cache = []
        for t in range(x.shape[1]):
            z = np.hstack([x[:, t], h])
            f = sigmoid(z @ self.Wf + self.bf)
            i = sigmoid(z @ self.Wi + self.bi)
            g = np.tanh(z @ self.Wc + self.bc)
            o = sigmoid(z @ self.Wo + self.bo)
            c_prev, c = c, f * c + i * g
            h = o * np.tanh(c)
            self.cache.append((z, f, i, g, o, c_prev, c))
        self.h = h
        return h @ self.Wy + self.by

    def loss(self, y_pred, y):
        return 0.5 * np.sum((y_pred - y) ** 2)

    def backward(self, y_pred, y):
        grads = {name: np.zeros_like(getattr(self, name)) for name in vars(self) if name[0] in "Wb"}
        dy = y_pred - y
        grads["Wy"], grads["by"] = self.h.T @ dy, dy.sum(axis=0)
        dh, dc_next = dy @ self.Wy.T, 0
        for z, f, i, g, o, c_prev, c in reversed(self.cache):
            tc = np.tanh(c)
            dc = dc_next + dh * o * (1 - tc**2)
            do = dh * tc * o * (1 - o)
            df = dc * c_prev * f * (1 - f)
            di = dc * g * i * (1 - i)
            dg = dc * i * (1 - g**2)
            dz = 0
            for gate, delta in zip("fico", (df, di, dg, do), strict=True):
                grads["W" + gate] += z.T @ delta
                grads["b" + gate] += delta.sum(axis=0)
                dz = dz + delta @ getattr(self, "W" + gate).T
            dh = dz[:, -self.hidden_size :]
            dc_next = dc * i
        return grads
