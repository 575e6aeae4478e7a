"""Parameters that are single numbers, as arrays with no axes: the smallest networks have them."""

import numpy as np
import pytest

import throughtime as tt

X = np.random.default_rng(0).standard_normal((8, 6))
Y = X.sum(axis=1)


def network(fault="", *, wx=1.2, dtype="float64"):
    """s_t = wx x_t + wr s_{t−1} of eight sequences; the loss is the mean of (s_T − y)²."""
    p = {"wx": np.array(wx, dtype), "wr": np.array(0.9, dtype)}

    def states(T):
        S = np.zeros((8, T + 1))
        for t in range(T):
            S[:, t + 1] = p["wx"] * X[:, t] + p["wr"] * S[:, t]
        return S

    def gradient(T):
        S = states(T)
        ds, dwx, dwr = 2 * (S[:, -1] - Y), 0.0, 0.0
        for t in reversed(range(T)):
            dwx += np.mean(ds * X[:, t])
            dwr += np.mean(ds * S[:, t])
            ds = ds if fault == "dh_next" else ds * p["wr"]
        half = 0.5 if fault == "half" else 1.0
        return {"wx": half * dwx, "wr": half * dwr}

    def at_length(T):
        if T > 6:
            raise ValueError("6 steps")
        return tt.Target(
            p,
            lambda: np.mean((states(T)[:, -1] - Y) ** 2),
            lambda: gradient(T),
            steps=T,
            at_length=at_length,
        )

    return at_length(6)


@pytest.mark.parametrize("wx", [1.2, 0.0])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_right_ones_agree_wherever_they_stand(wx, dtype):
    report = tt.check(network(wx=wx, dtype=dtype), progress=False)
    assert report.verdict == "agree"
    assert {point.verdict for point in report.points} == {"agree"}


def test_a_factor_of_all_is_named_though_each_tensor_has_but_one_entry():
    report = tt.check(network("half"), progress=False)
    assert report.causes[0].fault == "factor_half"


def test_what_is_wrong_between_steps_is_placed_there():
    report = tt.check(network("dh_next"), progress=False)
    assert [cause.fault for cause in report.causes] == ["between_steps"]
