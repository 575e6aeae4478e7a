"""What is left alone beside a larger difference is small itself."""

import numpy as np
import pytest

import throughtime as tt
from throughtime.diagnosis.experiments import Study
from throughtime.diagnosis.faint_part import faint_part
from throughtime.gradcheck import Budget


@pytest.mark.parametrize(("head", "faint"), [(2.0, False), (1 + 1e-6, True)])
def test_a_head_that_is_off_by_a_factor_is_not_faint_beside_what_is_off_by_thousands(head, faint):
    """With error bars as large as the entries, blocks in any order and transposes would fit."""
    rng = np.random.default_rng(0)
    p = {
        "W": 1e-3 * rng.standard_normal((4, 4)),
        "U": 1e-3 * rng.standard_normal((4, 4)),
        "V": rng.standard_normal((2, 4)),
        "d": rng.standard_normal(2),
    }
    x, y = rng.standard_normal((5, 4)), rng.standard_normal((5, 2))
    off = {"W": 20 * rng.standard_normal((4, 4)), "U": 1e4 * rng.standard_normal((4, 4))}

    def run():
        h = [np.zeros(4)]
        for t in range(5):
            h.append(np.tanh(p["W"] @ x[t] + p["U"] @ h[-1]))
        return np.array(h[1:])

    def loss():
        return 0.5 * ((run() @ p["V"].T + p["d"] - y) ** 2).sum()

    def gradient():
        dy = head * (run() @ p["V"].T + p["d"] - y)
        return off | {"V": dy.T @ run(), "d": dy.sum(axis=0)}

    values = {name: array.copy() for name, array in p.items()}
    study = Study(tt.Target(p, loss, gradient), values, Budget())
    observed = study.look()
    slack = faint_part(observed, study)
    assert (0 < slack < 1e-3) if faint else slack == 0
