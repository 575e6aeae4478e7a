"""Hypothesis profile; the oracle's presence, and the worst error against it."""

from __future__ import annotations

import importlib.util
import os

import pytest
from hypothesis import settings

import throughtime as tt
from engine_examples import ENGINE
from helpers import relative_error
from throughtime import _engine
from throughtime.engine_settings import AT_START

settings.register_profile("throughtime", deadline=None, derandomize=True, max_examples=30)
settings.load_profile("throughtime")

# Modules of the oracle, which pytest would import to look for doctests.
WITH_TORCH = [
    "torch_reference.py",
    "dropin_examples.py",
    "unrolled_torch.py",
    "derived_in_torch.py",
    "torch_probes.py",
]
collect_ignore = [] if importlib.util.find_spec("torch") else WITH_TORCH

REQUIRED = "THROUGHTIME_REQUIRE_ORACLES"
ERROR = "error against torch"


def pytest_sessionstart(session: pytest.Session) -> None:
    """Where oracles are required, their absence ends the session at once."""
    if os.environ.get(REQUIRED) == "1" and importlib.util.find_spec("torch") is None:
        pytest.exit(
            f"{REQUIRED}=1, but torch is not installed: pip install torch, or unset {REQUIRED} "
            "to skip the tests against it",
            returncode=pytest.ExitCode.USAGE_ERROR,
        )


@pytest.fixture
def write(tmp_path):
    """Writes a file of a user's into a folder of the test's own."""

    def written(text, name="net.py"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    return written


@pytest.fixture(params=["readable"] if AT_START == "readable" else ["readable", "compiled"])
def each_engine(request):
    """Both engines in turn; the readable one alone where it was asked for at the start."""
    with tt.engine(request.param):
        yield request.param


@pytest.fixture(scope="module", params=_engine.available_isas())
def each_isa(request):
    """Every instruction set that this machine has, in turn."""
    before = _engine.isa()
    _engine.choose_isa(request.param)
    yield request.param
    _engine.choose_isa(before)


@pytest.fixture
def products():
    """Skips where the processor has no products in bfloat16."""
    if not _engine.bfloat16():
        pytest.skip("this processor has no products in bfloat16")


@pytest.fixture
def torch():
    """The module, where it is installed."""
    return pytest.importorskip("torch", reason="torch is not installed")


@pytest.fixture
def oracle(request):
    """`oracle(what, ours, truth)` asserts a relative error of at most 1e-12, and records it."""

    def check(what, ours, truth, bound=1e-12):
        error = relative_error(ours, truth)
        if bound == 1e-12:
            request.node.user_properties.append((ERROR, (error, f"{request.node.name}: {what}")))
        assert error <= bound, what

    return check


def pytest_terminal_summary(terminalreporter):
    """The worst relative error against torch in float64, over all tests of this session."""
    reports = [r for key in ("passed", "failed") for r in terminalreporter.stats.get(key, [])]
    properties = [pair for r in reports for pair in getattr(r, "user_properties", [])]
    errors = [tuple(value) for name, value in properties if name == ERROR]
    if errors:
        error, where = max(errors)
        terminalreporter.write_line(f"worst error against torch in float64: {error:.1e} ({where})")
    for kind in sorted({name for name, _ in properties if name.startswith(ENGINE)}):
        terminalreporter.write_line(f"{kind}: {max(v for n, v in properties if n == kind):.2g}")


@pytest.fixture
def experiments_alone(monkeypatch):
    """The diagnosis without a layout that it recovers: experiments have to tell."""
    monkeypatch.setattr("throughtime.diagnosis.mutant_match.with_layout", lambda study: None)
