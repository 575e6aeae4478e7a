"""Several processes find what one finds, bit for bit; copies that are no copies are noticed."""

import sys
import threading

import numpy as np
import pytest

import throughtime as tt
from benchmarks.several import each
from throughtime import cli

joblib = pytest.importorskip("joblib")
pytest.importorskip("cloudpickle")
get_reusable_executor = pytest.importorskip("joblib.externals.loky").get_reusable_executor

MODULE = """
import numpy as np

W = np.ones((6, 6))


def loss():
    return (np.sin(W) ** 2).sum()


def gradient():
    return {"W": np.sin(2 * W)}
"""


def own_target(change=1.0):
    rng = np.random.default_rng(0)
    W, x = rng.standard_normal((12, 12)), rng.standard_normal((5, 12))
    return tt.Target(
        {"W": W}, lambda: (np.tanh(x @ W) ** 2).sum(), lambda: {"W": change * exact(W, x)}
    )


def exact(W, x):
    y = np.tanh(x @ W)
    return x.T @ (2 * y * (1 - y**2))


@pytest.fixture(autouse=True)
def no_workers_left(request):
    """Workers are kept for the next call; these would know nothing of a new PYTHONPATH."""
    yield
    if request.node.name.startswith(("test_a_loss", "test_a_target")):
        get_reusable_executor().shutdown(wait=True)


@pytest.mark.parametrize("change", [1.0, 1.01])
def test_two_workers_find_what_one_finds(change):
    one = tt.check(own_target(change), seed=3, effort="exhaustive")
    two = tt.check(own_target(change), seed=3, effort="exhaustive", workers=2)
    assert one.verdict == two.verdict == ("agree" if change == 1 else "disagree")
    assert one.discrepancy == two.discrepancy
    np.testing.assert_array_equal(one.tensors["W"].numerical, two.tensors["W"].numerical)
    assert two.evaluations >= one.evaluations


@pytest.fixture(scope="module")
def dask_cluster():
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster),
    ):
        yield


@pytest.mark.usefixtures("dask_cluster")
def test_a_dask_cluster_of_two_workers():
    with joblib.parallel_config(backend="dask"):
        report = tt.check(own_target(), seed=3, effort="exhaustive", workers=-1)
    assert report.verdict == "agree"
    assert report.discrepancy == tt.check(own_target(), seed=3, effort="exhaustive").discrepancy


@pytest.mark.usefixtures("dask_cluster")
def test_a_sweep_over_a_dask_cluster():
    with joblib.parallel_config(backend="dask"):
        two = tt.sweep(own_target(), epsilons=(1e-5, 1e-2), workers=-1)
    one = tt.sweep(own_target(), epsilons=(1e-5, 1e-2))
    np.testing.assert_array_equal(two.tensors["W"], one.tensors["W"])
    np.testing.assert_array_equal(two.overall, one.overall)


@pytest.mark.usefixtures("dask_cluster")
def test_cases_of_a_benchmark_over_a_dask_cluster():
    with joblib.parallel_config(backend="dask"):
        assert list(each(abs, [-3, 2, -1], -1, "test")) == [3, 2, 1]


def test_a_sweep_in_two_processes_of_this_machine():
    two = tt.sweep(own_target(), epsilons=(1e-4,), workers=2)
    np.testing.assert_array_equal(two.overall, tt.sweep(own_target(), epsilons=(1e-4,)).overall)


def test_a_target_that_does_not_pickle_says_so():
    W, lock = np.ones((8, 8)), threading.Lock()

    def loss():
        with lock:
            return (W**2).sum()

    target = tt.Target({"W": W}, loss, lambda: {"W": 2 * W})
    for effort in ("quick", "exhaustive"):  # also where so few lines are no work for several
        with pytest.raises(tt.CheckError, match=r"workers: expected a target that pickles.*func"):
            tt.check(target, workers=2, effort=effort)


def test_a_loss_that_looks_at_its_modules_arrays_is_noticed(tmp_path, monkeypatch):
    (tmp_path / "global_arrays.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    import global_arrays as module

    module.W += 0.5  # so that a fresh import stands elsewhere
    target = tt.Target({"W": module.W}, module.loss, module.gradient)
    assert tt.check(target).verdict == "agree"
    try:
        with pytest.raises(
            tt.CheckError, match=r"a copy of the target: expected the loss .* as here"
        ):
            tt.check(target, workers=2, effort="exhaustive")
        with pytest.raises(tt.CheckError, match=r"a copy of the target: expected the loss"):
            tt.sweep(target, epsilons=(1e-4,), workers=2)
    finally:
        del sys.modules["global_arrays"]


@pytest.mark.parametrize("workers", [0, -2, 1.5, True])
def test_wrong_numbers_of_workers(workers):
    with pytest.raises(tt.CheckError, match="workers: expected a positive integer, or -1"):
        tt.check(own_target(), workers=workers)


def test_a_file_on_the_command_line_may_keep_its_arrays_in_its_module(tmp_path, capsys):
    file = tmp_path / "arrays_of_a_file.py"
    target = 'import throughtime as tt\n\ntarget = tt.Target({"W": W}, loss, gradient)\n'
    file.write_text(MODULE + "\n\nW += 0.5\n" + target)
    options = ["check", f"{file}:target", "--workers", "2", "--effort", "exhaustive"]
    try:
        assert cli.main(options) == 0
    finally:
        sys.modules.pop("arrays_of_a_file", None)
        sys.path.remove(str(tmp_path))
    assert "AGREE" in capsys.readouterr().out
