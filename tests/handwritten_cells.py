"""Backward passes through time of eight cells, written by hand, and mistakes to put into them.

Each is NumPy over rows of sequences, as people write it, and knows nothing of derived equations:
`step` takes a step forward and returns the new states and what it keeps, `step_back` takes it back.
A mistake is an edit of `step_back`'s text: what stands there, what stands there instead, and the
fault that this is; where two faults are the same here, both. "unknown" stands for what is no single
change of a line of the derived step.
"""

from dataclasses import dataclass

import numpy as np

import throughtime as tt
from derived_cells import CELLS as DERIVED
from derived_cells import made


@dataclass(frozen=True)
class HandWritten:
    """A cell by hand.

    Attributes:
        name: of the cell in `derived_cells.CELLS` that has the same equations.
        states: their names, the output first.
        code: of `step(p, x, *states)` and `step_back(p, g, kept, *dstates)`; the latter adds to
            the gradients `g` and returns δ of the states before the step.
        mistakes: (what stands there, what stands there instead, the fault's identifier).
    """

    name: str
    states: tuple[str, ...]
    code: str
    mistakes: tuple[tuple[str, str, str], ...]

    def with_mistakes(self, *numbers):
        """Its functions, with some of its mistakes."""
        code = self.code
        for number in numbers:
            right, wrong, _ = self.mistakes[number]
            assert code.count(right) == 1, (self.name, right, code.count(right))
            code = code.replace(right, wrong)
        space = {"np": np, "sigmoid": lambda z: 1 / (1 + np.exp(-z))}
        exec(compile(code, self.name, "exec"), space)
        return space["step"], space["step_back"]


@dataclass
class Network:
    """A recurrent layer by hand below a linear one, and a squared error.

    Attributes:
        cell: the cell by hand.
        p: parameters, with those of the linear layer, `Vy` and `dy`.
        x, y: inputs (T, B, I) and targets (T, B, O).
        start: the states before the first step, (B, n) each.
        mistakes: numbers of the mistakes that its backward pass has.
    """

    cell: HandWritten
    p: dict
    x: np.ndarray
    y: np.ndarray
    start: tuple
    mistakes: tuple = ()

    def __post_init__(self):
        self.step, self.step_back = self.cell.with_mistakes(*self.mistakes)

    def loss(self):
        return self._run()[0]

    def _run(self):
        states, kept, outputs = self.start, [], []
        for x in self.x:
            states, memory = self.step(self.p, x, *states)
            kept.append(memory)
            outputs.append(states[0])
        h = np.array(outputs)
        error = h @ self.p["Vy"].T + self.p["dy"] - self.y
        return float(np.mean(error**2)), kept, h, 2 * error / error.size

    def gradient(self):
        _, kept, h, dy = self._run()
        g = {name: np.zeros_like(array) for name, array in self.p.items()}
        g["Vy"] = np.einsum("tbo,tbh->oh", dy, h)
        g["dy"] = dy.sum(axis=(0, 1))
        later = [np.zeros_like(state) for state in self.start]
        for t in reversed(range(len(self.x))):
            later[0] = later[0] + dy[t] @ self.p["Vy"]
            later = list(self.step_back(self.p, g, kept[t], *later))
        return g


INDRNN = HandWritten(
    "indrnn",
    ("h",),
    """
def step(p, x, h):
    z = x @ p["W"].T + p["u"] * h + p["b"]
    return (np.maximum(z, 0),), (x, h, z)

def step_back(p, g, kept, dh):
    x, h, z = kept
    dz = dh * (z > 0)
    g["W"] += dz.T @ x
    g["u"] += (dz * h).sum(0)
    g["b"] += dz.sum(0)
    return (p["u"] * dz,)
""",
    (
        ("dz = dh * (z > 0)", "dz = dh * 1", "derivative_missing"),
        ("(z > 0)", "(h > 0)", "slope_of_previous_state"),
        ("(dz * h).sum(0)", "(dz * np.maximum(z, 0)).sum(0)", "current_h_for_previous"),
        ('return (p["u"] * dz,)', "return (dz,)", "wrong_operand_in_step"),
        ('return (p["u"] * dz,)', 'return (p["u"] * dh,)', "wrong_operand_in_step"),
        ('return (p["u"] * dz,)', "return (0 * dz,)", "dh_next_missing"),
        ('return (p["u"] * dz,)', 'return (2 * p["u"] * dz,)', "term_counted_twice"),
        ('return (p["u"] * dz,)', 'return (-p["u"] * dz,)', "wrong_term_in_step"),
        ('g["W"] += dz.T', 'g["W"] = dz.T', "only_last_step_kept"),
        ('g["b"] += dz', 'g["b"] += dh', "wrong_operand_in_step"),
    ),
)

MIN_GRU = HandWritten(
    "min_gru",
    ("h",),
    """
def step(p, x, h):
    z = sigmoid(x @ p["W_z"].T + p["b_z"])
    n = x @ p["W_h"].T + p["b_h"]
    return ((1 - z) * h + z * n,), (x, h, z, n)

def step_back(p, g, kept, dh):
    x, h, z, n = kept
    dgate = dh * (n - h)
    dzz = dgate * z * (1 - z)
    dn = dh * z
    g["W_z"] += dzz.T @ x
    g["b_z"] += dzz.sum(0)
    g["W_h"] += dn.T @ x
    g["b_h"] += dn.sum(0)
    return (dh * (1 - z),)
""",
    (
        ("dgate = dh * (n - h)", "dgate = dh * n", "update_gate_term_missing"),
        (
            "dgate = dh * (n - h)",
            "dgate = dh * (h - n)",
            "update_gate_exchanged|wrong_term_in_step",
        ),
        ("dgate * z * (1 - z)", "dgate", "derivative_missing"),
        (
            "dgate * z * (1 - z)",
            "dgate * sigmoid(z) * (1 - sigmoid(z))",
            "derivative_of_activated_value",
        ),
        ("dgate * z * (1 - z)", "dgate * (1 - z * z)", "wrong_operand_in_step"),
        ("dn = dh * z", "dn = dh * (1 - z)", "update_gate_exchanged"),
        ("dn = dh * z", "dn = dh", "wrong_operand_in_step"),
        ("return (dh * (1 - z),)", "return (dh * z,)", "update_gate_exchanged"),
        ("return (dh * (1 - z),)", "return (dh,)", "wrong_operand_in_step"),
        ("return (dh * (1 - z),)", "return (0 * dh,)", "dh_next_missing"),
        ('g["W_h"] += dn.T @ x', 'g["W_h"] += dzz.T @ x', "another_tensors_gradient"),
        ('g["b_h"] += dn.sum(0)', 'g["b_h"] += dn.mean(0)', "bias_averaged"),
    ),
)

MGU = HandWritten(
    "mgu",
    ("h",),
    """
def step(p, x, h):
    f = sigmoid(x @ p["W_f"].T + h @ p["U_f"].T + p["b_f"])
    r = f * h
    n = np.tanh(x @ p["W_h"].T + r @ p["U_h"].T + p["b_h"])
    return ((1 - f) * h + f * n,), (x, h, f, r, n)

def step_back(p, g, kept, dh):
    x, h, f, r, n = kept
    dn = dh * f * (1 - n**2)
    dr = dn @ p["U_h"]
    df = dh * (n - h) + dr * h
    dzf = df * f * (1 - f)
    g["W_h"] += dn.T @ x
    g["U_h"] += dn.T @ r
    g["b_h"] += dn.sum(0)
    g["W_f"] += dzf.T @ x
    g["U_f"] += dzf.T @ h
    g["b_f"] += dzf.sum(0)
    before = dh * (1 - f)
    before = before + dr * f
    return (before + dzf @ p["U_f"],)
""",
    (
        ("* (1 - n**2)", "", "derivative_missing"),
        ("(1 - n**2)", "(1 - np.tanh(n)**2)", "derivative_of_activated_value"),
        ("(1 - n**2)", "(1 - n)", "activation_for_derivative"),
        ('dn @ p["U_h"]', 'dn @ p["U_h"].T', "recurrent_untransposed"),
        ("dh * (n - h) + dr * h", "dh * (n - h)", "wrong_term_in_step"),
        ("dh * (n - h) + dr * h", "dh * n + dr * h", "update_gate_term_missing"),
        ("dh * (n - h) + dr * h", "dr * h", "wrong_term_in_step"),
        ("df * f * (1 - f)", "df * (1 - f)", "activation_for_derivative"),
        ("dn.T @ r", "dn.T @ h", "wrong_operand_in_step"),
        (
            'g["U_f"] += dzf.T @ h',
            'g["U_f"] += dzf.T @ ((1 - f) * h + f * n)',
            "current_h_for_previous",
        ),
        ("before = dh * (1 - f)", "before = 0 * dh", "direct_path_missing"),
        ("before = dh * (1 - f)", "before = dh * f", "update_gate_exchanged"),
        ("before = before + dr * f", "before = before", "wrong_term_in_step"),
        ("before = before + dr * f", "before = before + dr", "wrong_operand_in_step"),
        ('before + dzf @ p["U_f"]', "before", "wrong_term_in_step"),
        ('before + dzf @ p["U_f"]', 'before + dzf @ p["U_h"]', "wrong_matrix"),
        ('before + dzf @ p["U_f"]', "dh * (1 - f)", "direct_path_only"),
        ('g["b_f"] += dzf', 'g["b_f"] = dzf', "only_last_step_kept"),
    ),
)

COUPLED = HandWritten(
    "coupled_lstm",
    ("h", "c"),
    """
def step(p, x, h, c):
    z = x @ p["W"].T + h @ p["U"].T + p["b"]
    H = c.shape[1]
    i, a, o = sigmoid(z[:, :H]), np.tanh(z[:, H:2 * H]), sigmoid(z[:, 2 * H:])
    c_new = (1 - i) * c + i * a
    return (o * np.tanh(c_new), c_new), (x, h, c, i, a, o, c_new)

def step_back(p, g, kept, dh, dc):
    x, h, c, i, a, o, c_new = kept
    do = dh * np.tanh(c_new)
    dc = dc + dh * o * (1 - np.tanh(c_new) ** 2)
    di = dc * (a - c)
    da = dc * i
    dz = np.concatenate([di * i * (1 - i), da * (1 - a * a), do * o * (1 - o)], axis=1)
    g["W"] += dz.T @ x
    g["U"] += dz.T @ h
    g["b"] += dz.sum(0)
    return dz @ p["U"], dc * (1 - i)
""",
    (
        ("do = dh * np.tanh(c_new)", "do = dh * c_new", "wrong_operand_in_step"),
        ("dc = dc + dh * o *", "dc = dh * o *", "dc_next_missing"),
        ("dh * o * (1 - np.tanh(c_new) ** 2)", "dh * o", "derivative_missing"),
        ("(1 - np.tanh(c_new) ** 2)", "(1 - np.tanh(c) ** 2)", "slope_of_previous_state"),
        ("(1 - np.tanh(c_new) ** 2)", "(1 - c_new ** 2)", "wrong_operand_in_step"),
        ("dc = dc + dh * o *", "dc = dc + dh *", "wrong_operand_in_step"),
        ("di = dc * (a - c)", "di = dc * a", "update_gate_term_missing"),
        ("di = dc * (a - c)", "di = dc * (a - c_new)", "current_c_for_previous"),
        ("da = dc * i", "da = dc * a", "wrong_operand_in_step"),
        ("di * i * (1 - i)", "di", "derivative_missing"),
        ("da * (1 - a * a)", "da * (1 - np.tanh(a) ** 2)", "derivative_of_activated_value"),
        ("do * o * (1 - o)]", "dh * o * (1 - o)]", "wrong_operand_in_step"),
        ('g["U"] += dz.T @ h', 'g["U"] += dz.T @ (o * np.tanh(c_new))', "current_h_for_previous"),
        ('return dz @ p["U"], dc * (1 - i)', 'return dz @ p["U"], dc * i', "update_gate_exchanged"),
        ('return dz @ p["U"], dc * (1 - i)', 'return dz @ p["U"], dc', "wrong_operand_in_step"),
        (
            'return dz @ p["U"], dc * (1 - i)',
            'H = c.shape[1]; return sum(dz[:, k * H:(k + 1) * H] @ p["U"][k * H:(k + 1) * H].T'
            " for k in range(3)), dc * (1 - i)",
            "recurrent_untransposed",
        ),
        ('return dz @ p["U"], dc * (1 - i)', "return 0 * dh, dc * (1 - i)", "dh_next_missing"),
        ('g["U"] += dz.T', 'g["U"] = dz.T', "only_last_step_kept"),
    ),
)

PEEPHOLE = HandWritten(
    "peephole_lstm",
    ("h", "c"),
    """
def step(p, x, h, c):
    z = x @ p["W"].T + h @ p["U"].T + p["b"]
    zi, zf, za, zo = np.split(z, 4, axis=1)
    i, f, a = sigmoid(zi + p["p_i"] * c), sigmoid(zf + p["p_f"] * c), np.tanh(za)
    c_new = f * c + i * a
    o = sigmoid(zo + p["p_o"] * c_new)
    m = o * np.tanh(c_new)
    return (m @ p["R"].T, c_new), (x, h, c, i, f, a, o, m, c_new)

def step_back(p, g, kept, dh, dc):
    x, h, c, i, f, a, o, m, c_new = kept
    t = np.tanh(c_new)
    g["R"] += dh.T @ m
    dm = dh @ p["R"]
    dzo = dm * t * o * (1 - o)
    dc = dc + dm * o * (1 - t**2)
    dc = dc + dzo * p["p_o"]
    dzf = dc * c * f * (1 - f)
    dzi = dc * a * i * (1 - i)
    dza = dc * i * (1 - a**2)
    dz = np.concatenate([dzi, dzf, dza, dzo], axis=1)
    g["W"] += dz.T @ x
    g["U"] += dz.T @ h
    g["b"] += dz.sum(0)
    g["p_i"] += (dzi * c).sum(0)
    g["p_f"] += (dzf * c).sum(0)
    g["p_o"] += (dzo * c_new).sum(0)
    back = dc * f
    back = back + dzi * p["p_i"] + dzf * p["p_f"]
    return dz @ p["U"], back
""",
    (
        ("dm * t * o * (1 - o)", "dm * t", "derivative_missing"),
        ("dm * o * (1 - t**2)", "dm * (1 - t**2)", "wrong_operand_in_step"),
        ("dm * o * (1 - t**2)", "dm * o * (1 - m**2)", "wrong_operand_in_step"),
        ('dc = dc + dzo * p["p_o"]', "dc = dc", "peephole_path_missing"),
        ('dc = dc + dzo * p["p_o"]', 'dc = dc + dzo * p["p_f"]', "wrong_operand_in_step"),
        ("dc * c * f * (1 - f)", "dc * c_new * f * (1 - f)", "current_c_for_previous"),
        ("dc * a * i * (1 - i)", "dc * i * i * (1 - i)", "wrong_operand_in_step"),
        ("dza = dc * i * (1 - a**2)", "dza = dc * i * (1 + a**2)", "wrong_operand_in_step"),
        ("[dzi, dzf, dza, dzo]", "[dzf, dzi, dza, dzo]", "gates_permuted"),
        ("(dzf * c).sum(0)", "(dzf * c_new).sum(0)", "current_c_for_previous"),
        ("(dzo * c_new).sum(0)", "(dzo * c).sum(0)", "wrong_operand_in_step"),
        ("back = dc * f", "back = dc * i", "wrong_operand_in_step"),
        ('back + dzi * p["p_i"] + dzf * p["p_f"]', "back", "peephole_path_missing"),
        (
            'back + dzi * p["p_i"] + dzf * p["p_f"]',
            'back + dzi * p["p_i"]',
            "peephole_path_missing",
        ),
        ("dh.T @ m", "dh.T @ (o * c_new)", "wrong_operand_in_step"),
        ('dz @ p["U"], back', 'dz @ p["U"], 0 * back', "dc_next_missing"),
        ('dz @ p["U"], back', 'dz @ p["U"], 2 * back', "term_counted_twice"),
    ),
)

LAYER_NORM = HandWritten(
    "layer_norm_lstm",
    ("h", "c"),
    """
def step(p, x, h, c):
    z = x @ p["W"].T + h @ p["U"].T + p["b"]
    zi, zf, za, zo = np.split(z, 4, axis=1)
    i, f, a, o = sigmoid(zi), sigmoid(zf), np.tanh(za), sigmoid(zo)
    c_new = f * c + i * a
    std = np.sqrt(c_new.var(axis=1, keepdims=True) + 1e-5)
    n = (c_new - c_new.mean(axis=1, keepdims=True)) / std
    t = np.tanh(p["scale"] * n + p["shift"])
    return (o * t, c_new), (x, h, c, i, f, a, o, t, n, std, c_new)

def step_back(p, g, kept, dh, dc):
    x, h, c, i, f, a, o, t, n, std, c_new = kept
    do = dh * t
    dy = dh * o * (1 - t**2)
    g["scale"] += (dy * n).sum(0)
    g["shift"] += dy.sum(0)
    dn = dy * p["scale"]
    inner = dn - dn.mean(axis=1, keepdims=True) - n * (dn * n).mean(axis=1, keepdims=True)
    dc = dc + inner / std
    dz = np.concatenate(
        [dc * a * i * (1 - i), dc * c * f * (1 - f), dc * i * (1 - a**2), do * o * (1 - o)], axis=1
    )
    g["W"] += dz.T @ x
    g["U"] += dz.T @ h
    g["b"] += dz.sum(0)
    return dz @ p["U"], dc * f
""",
    (
        ("dy = dh * o * (1 - t**2)", "dy = dh * o", "derivative_missing"),
        ("dy = dh * o * (1 - t**2)", "dy = dh * (1 - t**2)", "wrong_operand_in_step"),
        ('dn = dy * p["scale"]', "dn = dy", "wrong_operand_in_step"),
        ("- dn.mean(axis=1, keepdims=True)", "", "wrong_term_in_step"),
        ("- n * (dn * n).mean(axis=1, keepdims=True)", "", "wrong_term_in_step"),
        ("inner / std", "inner", "wrong_operand_in_step"),
        ("(dy * n).sum(0)", "(dy * c_new).sum(0)", "wrong_operand_in_step"),
        ("dc * c * f * (1 - f)", "dc * c_new * f * (1 - f)", "current_c_for_previous"),
        ("dc * a * i * (1 - i)", "dc * a * (1 - i)", "activation_for_derivative"),
        ("do = dh * t", "do = dh * np.tanh(c_new)", "unknown"),
        ("dc = dc + inner / std", "dc = inner / std", "dc_next_missing"),
        ('dz @ p["U"], dc * f', 'dz @ p["U"], dc * o', "wrong_operand_in_step"),
    ),
)

DEEP = HandWritten(
    "deep_transition",
    ("h",),
    """
def step(p, x, h):
    inner = np.tanh(x @ p["W"].T + h @ p["U"].T + p["b"])
    new = np.tanh(inner @ p["V"].T + p["c"])
    return (new,), (x, h, inner, new)

def step_back(p, g, kept, dh):
    x, h, inner, new = kept
    dz = dh * (1 - new**2)
    g["V"] += dz.T @ inner
    g["c"] += dz.sum(0)
    dinner = dz @ p["V"]
    dzi = dinner * (1 - inner**2)
    g["W"] += dzi.T @ x
    g["U"] += dzi.T @ h
    g["b"] += dzi.sum(0)
    return (dzi @ p["U"],)
""",
    (
        ("dz = dh * (1 - new**2)", "dz = dh", "derivative_missing"),
        ("(1 - new**2)", "(1 - h**2)", "slope_of_previous_state"),
        ("(1 - new**2)", "(1 - np.tanh(new)**2)", "derivative_of_activated_value"),
        ("(1 - inner**2)", "(1 - new**2)", "wrong_operand_in_step"),
        ('dz @ p["V"]', 'dz @ p["V"].T', "wrong_operand_in_step"),
        ('dz @ p["V"]', 'dz @ p["U"]', "wrong_matrix"),
        ('dzi @ p["U"]', 'dzi @ p["U"].T', "recurrent_untransposed"),
        ('dzi @ p["U"]', 'dinner @ p["U"]', "wrong_operand_in_step"),
        ("dz.T @ inner", "dz.T @ new", "wrong_operand_in_step"),
        ("dzi.T @ h", "dzi.T @ new", "current_h_for_previous"),
        ("dzi.T @ h", "dzi.T @ inner", "wrong_operand_in_step"),
        ('g["b"] += dzi', 'g["b"] += dz', "wrong_operand_in_step|another_tensors_gradient"),
    ),
)

SLSTM = HandWritten(
    "slstm",
    ("h", "c", "n", "m"),
    """
def step(p, x, h, c, n, m):
    z = x @ p["W"].T + h @ p["U"].T + p["b"]
    zi, zf, za, zo = np.split(z, 4, axis=1)
    top = np.maximum(zf + m, zi)
    i, f, a, o = np.exp(zi - top), np.exp(zf + m - top), np.tanh(za), sigmoid(zo)
    c_new, n_new = f * c + i * a, f * n + i
    h_new = o * c_new / (n_new + 1e-3)
    kept = (x, h, c, n, zf + m >= zi, i, f, a, o, c_new, n_new, h_new)
    return (h_new, c_new, n_new, top), kept

def step_back(p, g, kept, dh, dc, dn, dm):
    x, h, c, n, first, i, f, a, o, c_new, n_new, h_new = kept
    do = dh * c_new / (n_new + 1e-3)
    dc = dc + dh * o / (n_new + 1e-3)
    dn = dn - dh * h_new / (n_new + 1e-3)
    df = dc * c + dn * n
    di = dc * a + dn
    dtop = dm - df * f - di * i
    dzf = df * f + dtop * first
    dzi = di * i + dtop * ~first
    dz = np.concatenate([dzi, dzf, dc * i * (1 - a**2), do * o * (1 - o)], axis=1)
    g["W"] += dz.T @ x
    g["U"] += dz.T @ h
    g["b"] += dz.sum(0)
    return dz @ p["U"], dc * f, dn * f, dzf
""",
    (
        ("dc = dc + dh * o", "dc = dc + dh", "wrong_operand_in_step"),
        ("dc = dc + dh * o / (n_new + 1e-3)", "dc = dh * o / (n_new + 1e-3)", "dc_next_missing"),
        ("dn = dn - dh * h_new / (n_new + 1e-3)", "dn = dn", "wrong_term_in_step"),
        ("dn = dn - dh", "dn = dn + dh", "wrong_term_in_step"),
        ("df = dc * c + dn * n", "df = dc * c", "wrong_term_in_step"),
        ("df = dc * c + dn * n", "df = dc * c_new + dn * n", "current_c_for_previous"),
        ("di = dc * a + dn", "di = dc * a", "wrong_term_in_step"),
        ("dtop = dm - df * f - di * i", "dtop = 0 * dm", "wrong_term_in_step"),
        ("dtop = dm - df * f - di * i", "dtop = dm - di * i", "wrong_term_in_step"),
        ("dzf = df * f + dtop * first", "dzf = df + dtop * first", "derivative_missing"),
        ("dzi = di * i + dtop * ~first", "dzi = di * i", "wrong_term_in_step"),
        ("dn * f, dzf", "dn, dzf", "wrong_operand_in_step"),
        ("dc * f, dn * f, dzf", "dc * f, dn * f, 0 * dzf", "dc_next_missing"),
        ("dc * i * (1 - a**2)", "dc * i", "derivative_missing"),
    ),
)

CELLS = {
    one.name: one for one in (INDRNN, MIN_GRU, MGU, COUPLED, PEEPHOLE, LAYER_NORM, DEEP, SLSTM)
}


def network(name, mistakes=(), seed=0, steps=6, dtype="float64"):
    """(the cell by its equations, the network by hand), of few units and two sequences."""
    cell = made(DERIVED[name], 2, 3)
    rng = np.random.default_rng(seed)

    def drawn(size, *shape):
        return (size * rng.standard_normal(shape)).astype(dtype)

    p = {own: drawn(0.6, *shape) for own, shape in cell.shapes().items()}
    p |= {"Vy": drawn(1, 2, cell.output_size), "dy": drawn(1, 2)}
    x, y = drawn(1, steps, 2, cell.inputs), drawn(1, steps, 2, 2)
    start = tuple(drawn(0.3, 2, size) for size in cell.state_sizes.values())
    return cell, Network(CELLS[name], p, x, y, start, tuple(mistakes))


def target_of(cell, net):
    """The network as a target whose layout is the cell's equations."""
    states = dict(zip(cell.derivation.trace.states, net.start, strict=True))
    layout = tt.layouts.cell(
        cell.definition,
        net.x,
        net.y,
        states=states,
        head="Vy",
        head_bias="dy",
        loss="squared_error",
    )
    return tt.Target(net.p, net.loss, net.gradient, layout=layout, steps=len(net.x))
