"""The pytest plugin: a fixture `assert_gradients`, whose failure is a table and no traceback.

It stands beside the package, and imports it in the test that asks for the fixture: pytest loads
plugins of everything that is installed, for every run.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import throughtime as tt

EFFORTS = ("quick", "normal", "exhaustive")
UNRESOLVED = ("fail", "skip", "pass")


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--throughtime-effort`, and two lines of the ini file."""
    group = parser.getgroup("throughtime", "gradient checks (throughtime)")
    group.addoption(
        "--throughtime-effort",
        choices=EFFORTS,
        help="effort of assert_gradients, where a test names none",
    )
    parser.addini("throughtime_effort", "the same: quick, normal or exhaustive", default="")
    parser.addini("throughtime_unresolved", "unresolved checks: fail, skip or pass", default="fail")


def pytest_configure(config: pytest.Config) -> None:
    """Refuses values in the ini file that mean nothing."""
    for name, values in (("throughtime_effort", EFFORTS), ("throughtime_unresolved", UNRESOLVED)):
        value = config.getini(name)
        if value and value not in values:
            expected = ", ".join(values)
            raise pytest.UsageError(f"{name}: expected one of {expected}, got {value}")


@pytest.fixture
def assert_gradients(request: pytest.FixtureRequest) -> Callable[..., tt.Report]:
    """`assert_gradients(target_or_module, *data, **options)`: fails where they disagree.

    Takes what `throughtime.check` takes, and `unresolved="fail"`, `"skip"` or `"pass"`: what
    becomes of a check whose error bars are too wide for a verdict. It fails by default, since a
    test that cannot see an error should not be green. Returns the report.
    """
    config = request.config
    effort = config.getoption("--throughtime-effort") or config.getini("throughtime_effort")
    chosen = {"effort": effort} if effort else {}
    by_default = config.getini("throughtime_unresolved")

    def check(what: object, *data: Any, unresolved: str = by_default, **options: Any) -> tt.Report:
        __tracebackhide__ = True
        import throughtime as tt
        from throughtime.diagnosis import INTERRUPTED

        if unresolved not in UNRESOLVED:
            expected = ", ".join(map(repr, UNRESOLVED))
            raise ValueError(f"unresolved: expected one of {expected}, got {unresolved!r}")
        try:
            report = tt.check(what, *data, **chosen | options)
        except tt.CheckError as problem:
            pytest.fail(f"the gradient could not be checked\n\n{problem}", pytrace=False)
        if INTERRUPTED in report.notes:
            request.session.shouldstop = "Ctrl-C"  # it was meant for the session
        request.node.user_properties.append(("gradient", report.headline()))
        if report.verdict == "disagree" or (report.verdict, unresolved) == ("unresolved", "fail"):
            pytest.fail(str(report), pytrace=False)
        if (report.verdict, unresolved) == ("unresolved", "skip"):
            pytest.skip(_one_line(report))
        return report

    return check


def _one_line(report: tt.Report) -> str:
    remedy = f"; {report.remedy}" if report.remedy else ""
    return report.headline() + remedy
