"""Networks at rest: zero inputs and states, so that every step is one linear map known in full."""

from __future__ import annotations

import numpy as np

import throughtime as tt


def logit(p):
    return np.log(p / (1 - p))


def rnn_at_rest(U, dtype="float64"):
    """h_t = tanh(U h_{t−1}) at h = 0: the Jacobian is U, and so it stays."""
    H = len(U)
    net = tt.Network([tt.RNN(1, H)], tt.MeanSquaredError(time="sum", batch="sum"), dtype=dtype)
    net.parameters.flat[...] = 0
    net.parameters["0.U"] = np.asarray(U, dtype)
    return net


def lstm_at_rest(i, f, o, u):
    """c_t = f c_{t−1} + i u h_{t−1}, h_t = o c_t, unit by unit; all are vectors (H,)."""
    H = len(f)
    net = tt.Network([tt.LSTM(1, H)], tt.MeanSquaredError(time="sum", batch="sum"), dtype="float64")
    net.parameters.flat[...] = 0
    net.parameters["0.b"] = np.concatenate([logit(i), logit(f), np.zeros(H), logit(o)])
    net.parameters["0.U"][2 * H : 3 * H] = np.diag(u)
    return net


def gru_at_rest(r, z, u):
    """h_t = z h_{t−1} + (1 − z) r u h_{t−1}, unit by unit."""
    H = len(z)
    net = tt.Network([tt.GRU(1, H)], tt.MeanSquaredError(time="sum", batch="sum"), dtype="float64")
    net.parameters.flat[...] = 0
    net.parameters["0.b"] = np.concatenate([logit(r), logit(z), np.zeros(H)])
    net.parameters["0.U"][2 * H :] = np.diag(u)
    return net


def at_rest(net, targets):
    """Zero inputs and these targets (T, B, H); ∂E_t/∂h_t, (T, B, H), comes with them."""
    T, B, H = targets.shape
    inputs = np.zeros((T, B, 1), net.dtype)
    return inputs, targets.astype(net.dtype), -2 * targets / H
