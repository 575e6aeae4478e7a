"""What a line's values show to be right in place of an expression, as an edit of the text."""

from __future__ import annotations

import ast
from collections.abc import Iterable

from throughtime.source.edit_candidates import Version
from throughtime.source.edits import Edit, FileText, splices_of
from throughtime.source.lines import LineFinding


def edit_of_line(finding: LineFinding, version: Version) -> Edit | None:
    """The edit that a finding proposes; None where it has none, or its expression is not there.

    Args:
        finding: of a line of the version's text.
        version: of the files.
    """
    path = finding.path.resolve()
    if finding.edit is None or path not in version.texts:
        return None
    old, new = finding.edit
    file = FileText.of(path, version.texts[path])
    wanted = _plain(old)
    for node in ast.walk(file.tree):
        if not isinstance(node, ast.expr) or not finding.line <= node.lineno <= finding.last_line:
            continue
        if ast.unparse(node) == wanted:
            splices = splices_of(file.start(node), file.of_node(node), new)
            return Edit(path, splices, "as its values show", finding.line, 1.0, "", (finding.line,))
    return None


def _plain(text: str) -> str:
    return ast.unparse(ast.parse(text.strip(), mode="eval").body)


def without_overlaps(edits: Iterable[Edit]) -> list[Edit]:
    """The first edits that can be made together."""
    found: list[Edit] = []
    for edit in edits:
        if not any(edit.overlaps(other) for other in found):
            found.append(edit)
    return found
