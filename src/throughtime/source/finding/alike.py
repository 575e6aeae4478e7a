"""When to leave what is varied: where tries fail for the same reason whatever it is."""

from __future__ import annotations

from collections.abc import Iterator

from throughtime.source.finding.reading import Reading

SAME_FAILURES = 2  # repetitions of one failure, after which what is varied is not its reason


class Alike:
    """Notices that tries fail for the same reason whatever is varied, so that it is left alone."""

    def __init__(self) -> None:
        self._last, self._count, self._kind = "", 0, False

    def enough(self, *, kind: bool = False) -> bool:
        """Whether tries failed alike, up to the last one; one of another kind may still run."""
        return self._count >= SAME_FAILURES and kind == self._kind

    def watch(
        self, readings: Iterator[Reading], failures: list[str], *, kind: bool = False
    ) -> Iterator[Reading]:
        """The readings of one try; `enough` afterwards, if it gave none, as others before it."""
        if kind != self._kind:
            self._last, self._count, self._kind = "", 0, kind
        before, any_given = len(failures), False
        for reading in readings:
            any_given = True
            yield reading
        said = failures[-1] if len(failures) > before else ""
        same = not any_given and bool(said) and said == self._last
        self._last, self._count = said, self._count + 1 if same else 0
