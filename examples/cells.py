"""Recurrent cells by their forward equations alone; their backward passes are derived.

Each is the step of one sequence: input, states and parameters go in, the states after the step come
out, the output first.
"""

import numpy as np

import throughtime as tt


@tt.cell(W="H I", u="H", b="H")
def indrnn(x, h, W, u, b):
    """Independently recurrent network (Li et al. 2018, arXiv:1803.04831)."""
    # Each unit sees only itself.
    return tt.relu(W @ x + u * h + b)


@tt.cell(W="H I", U="H H", b="H")
def elman_relu(x, h, W, U, b):
    """Elman network (1990) with ReLU (Le, Jaitly and Hinton 2015, arXiv:1504.00941)."""
    return tt.relu(W @ x + U @ h + b)


@tt.cell(W_z="H I", b_z="H", W_h="H I", b_h="H")
def min_gru(x, h, W_z, b_z, W_h, b_h):
    """minGRU (Feng et al. 2024, arXiv:2410.01201): no gate sees the state."""
    z = tt.sigmoid(W_z @ x + b_z)
    return (1 - z) * h + z * (W_h @ x + b_h)


@tt.cell(W="3H I", b="3H")
def min_lstm(x, h, W, b):
    """minLSTM (Feng et al. 2024, arXiv:2410.01201): the two gates share the state between them."""
    z_f, z_i, candidate = np.split(W @ x + b, 3)
    f, i = tt.sigmoid(z_f), tt.sigmoid(z_i)
    return f / (f + i) * h + i / (f + i) * candidate


@tt.cell(W="3H I", v="2H", b="2H")
def sru(x, h, c, W, v, b):
    """Simple recurrent unit (Lei et al. 2018, arXiv:1709.02755); the highway needs I = H."""
    candidate, x_f, x_r = np.split(W @ x, 3)
    v_f, v_r = np.split(v, 2)
    b_f, b_r = np.split(b, 2)
    f = tt.sigmoid(x_f + v_f * c + b_f)
    r = tt.sigmoid(x_r + v_r * c + b_r)
    c = f * c + (1 - f) * candidate
    return r * c + (1 - r) * x, c


@tt.cell(W="3H I", V="3H I", x_last="I")
def qrnn(x, h, c, x_last, W, V):
    """Quasi-recurrent network (Bradbury et al. 2017, arXiv:1611.01576), of width 2."""
    z_a, z_f, z_o = np.split(W @ x + V @ x_last, 3)
    f, o = tt.sigmoid(z_f), tt.sigmoid(z_o)
    c = f * c + (1 - f) * np.tanh(z_a)
    return o * c, c, x


@tt.cell(W_f="H I", U_f="H H", b_f="H", W_h="H I", U_h="H H", b_h="H")
def mgu(x, h, W_f, U_f, b_f, W_h, U_h, b_h):
    """Minimal gated unit (Zhou et al. 2016, arXiv:1603.09420): one gate forgets and updates."""
    f = tt.sigmoid(W_f @ x + U_f @ h + b_f)
    candidate = np.tanh(W_h @ x + U_h @ (f * h) + b_h)
    return (1 - f) * h + f * candidate


@tt.cell(W="3H I", U="3H H", b="3H")
def coupled_lstm(x, h, c, W, U, b):
    """LSTM whose gates are coupled, f = 1 − i (Greff et al. 2017, arXiv:1503.04069)."""
    z_i, z_a, z_o = np.split(W @ x + U @ h + b, 3)
    i = tt.sigmoid(z_i)
    c = (1 - i) * c + i * np.tanh(z_a)
    return tt.sigmoid(z_o) * np.tanh(c), c


@tt.cell(W="4H I", U="4H H", b="4H", scale="H", shift="H")
def layer_norm_lstm(x, h, c, W, U, b, scale, shift):
    """LSTM with layer normalisation of the cell state (Ba et al. 2016, arXiv:1607.06450)."""
    z_i, z_f, z_a, z_o = np.split(W @ x + U @ h + b, 4)
    c = tt.sigmoid(z_f) * c + tt.sigmoid(z_i) * np.tanh(z_a)
    normed = (c - np.mean(c)) / np.sqrt(np.var(c) + 1e-5)
    return tt.sigmoid(z_o) * np.tanh(scale * normed + shift), c


@tt.cell(x="I+H", W="H I", U="H H", b="H")
def zoneout(x, h, W, U, b):
    """Zoneout (Krueger et al. 2017, arXiv:1606.01305); the mask is a part of the input."""
    size = W.shape[1]
    keep = x[size:]
    return keep * h + (1 - keep) * np.tanh(W @ x[:size] + U @ h + b)


@tt.cell(x="3I", last="I", W="3H I", U="3H H", V="3H I", b="3H", w_x="I", w_h="H I", mean="I")
def gru_d(x, h, last, W, U, V, b, w_x, w_h, mean):
    """GRU-D (Che et al. 2018, arXiv:1606.01865) of values, what was seen, and since when."""
    value, seen, since = np.split(x, 3)
    last = seen * value + (1 - seen) * last
    decay = np.exp(-np.maximum(w_x * since, 0))
    filled = seen * value + (1 - seen) * (decay * last + (1 - decay) * mean)
    h = np.exp(-np.maximum(w_h @ since, 0)) * h
    x_r, x_z, x_n = np.split(W @ filled + V @ seen + b, 3)
    U_r, U_z, U_n = np.split(U, 3)
    r, z = tt.sigmoid(x_r + U_r @ h), tt.sigmoid(x_z + U_z @ h)
    return (1 - z) * h + z * np.tanh(x_n + U_n @ (r * h)), last


@tt.cell(x="I+1", W="H I", U="H H", b="H", F="H H", G="H H", A="H H")
def cfc(x, h, W, U, b, F, G, A):
    """Closed-form continuous-time network (Hasani et al. 2022, arXiv:2106.13898)."""
    time = x[-1]  # since the last step
    backbone = np.tanh(W @ x[:-1] + U @ h + b)
    gate = tt.sigmoid(-(F @ backbone) * time)
    return gate * np.tanh(G @ backbone) + (1 - gate) * np.tanh(A @ backbone)


@tt.cell(W="H I", U="H H", b="H", tau="H", A="H")
def liquid(x, h, W, U, b, tau, A):
    """Liquid time constant (Hasani et al. 2021, arXiv:2006.04439), a step of its fused solver."""
    f = tt.sigmoid(W @ x + U @ h + b)
    dt = 0.1
    return (h + dt * f * A) / (1 + dt * (tt.softplus(tau) + f))


@tt.cell(W="4H I", U="4H H", b="4H")
def slstm(x, h, c, n, m, W, U, b):
    """sLSTM (Beck et al. 2024, arXiv:2405.04517): exponential gates, kept in range by m."""
    z_i, z_f, z_a, z_o = np.split(W @ x + U @ h + b, 4)
    top = np.maximum(z_f + m, z_i)
    i, f = np.exp(z_i - top), np.exp(z_f + m - top)
    c = f * c + i * np.tanh(z_a)
    n = f * n + i
    return tt.sigmoid(z_o) * c / (n + 1e-3), c, n, top


@tt.cell(C="H H", m="1", Q="H I", K="H I", V="H I", W_o="H I", w="2 I", b="2")
def mlstm(x, h, C, n, m, Q, K, V, W_o, w, b):
    """mLSTM (Beck et al. 2024, arXiv:2405.04517): its memory is a matrix."""
    q, k, v = Q @ x, K @ x / np.sqrt(len(h)), V @ x
    z = w @ x + b
    z_i, z_f = z[:1], z[1:]
    top = np.maximum(z_f + m, z_i)
    i, f = np.exp(z_i - top), np.exp(z_f + m - top)
    C = f * C + i * np.outer(v, k)
    n = f * n + i * k
    return tt.sigmoid(W_o @ x) * (C @ q) / np.maximum(np.abs(np.sum(n * q)), 1), C, n, top


@tt.cell(R="H I", K="H I", V="H I", w="H", u="H")
def rwkv(x, h, num, den, top, R, K, V, w, u):
    """The wkv step of RWKV (Peng et al. 2023, arXiv:2305.13048), kept in range by `top`."""
    r, k, v = tt.sigmoid(R @ x), K @ x, V @ x
    now = np.maximum(top, u + k)
    old, new = np.exp(top - now), np.exp(u + k - now)
    h = r * (old * num + new * v) / (old * den + new)
    later = np.maximum(top - np.exp(w), k)
    old, new = np.exp(top - np.exp(w) - later), np.exp(k - later)
    return h, old * num + new * v, old * den + new, later


@tt.cell(nu="H", theta="H", B="H I", D="H I", C="H H", E="H H")
def lru(x, h, re, im, nu, theta, B, D, C, E):
    """Linear recurrent unit (Orvieto et al. 2023, arXiv:2303.06349); complex numbers as pairs."""
    size = np.exp(-np.exp(nu))
    a, b = size * np.cos(theta), size * np.sin(theta)
    scale = np.sqrt(1 - size**2)
    re, im = a * re - b * im + scale * (B @ x), b * re + a * im + scale * (D @ x)
    return C @ re - E @ im, re, im


spike = tt.surrogate(lambda v: np.where(v > 0, 1.0, 0.0), lambda v: 1 / (1 + 10 * np.abs(v)) ** 2)


@tt.cell(W="H I", U="H H", b="H")
def lif(x, s, v, W, U, b):
    """Leaky integrate-and-fire neurons, with a surrogate slope (Zenke and Ganguli 2018)."""
    v = 0.9 * v * (1 - tt.stop_gradient(s)) + W @ x + U @ s + b
    return spike(v - 1), v


@tt.cell(W="H I", U="H H", Q="H H", M="6 H", b="H")
def attention(x, h, W, U, Q, M, b):
    """An Elman network that reads a fixed memory of six rows by attention."""
    weights = tt.softmax(M @ (Q @ h) / np.sqrt(len(h)))
    return np.tanh(W @ x + U @ (weights @ M) + b)


@tt.cell(W="H I", U="H H", b="H", V="H H", c="H")
def deep_transition(x, h, W, U, b, V, c):
    """Deep transition network (Pascanu et al. 2014, arXiv:1312.6026): two layers between steps."""
    inner = np.tanh(W @ x + U @ h + b)
    return np.tanh(V @ inner + c)


@tt.cell(h="P", W="4H I", U="4H P", b="4H", p_i="H", p_f="H", p_o="H", R="P H")
def peephole_lstm(x, h, c, W, U, b, p_i, p_f, p_o, R):
    """LSTM with peepholes (Gers and Schmidhuber 2000) and a projection (Sak et al. 2014)."""
    z_i, z_f, z_a, z_o = np.split(W @ x + U @ h + b, 4)
    i, f = tt.sigmoid(z_i + p_i * c), tt.sigmoid(z_f + p_f * c)
    c = f * c + i * np.tanh(z_a)
    o = tt.sigmoid(z_o + p_o * c)
    return R @ (o * np.tanh(c)), c
