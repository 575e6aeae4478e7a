"""What a line's values show to be right in its place, as edits of the text."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator

from throughtime.source.edits.edit import Edit, FileText, Splice, splices_of
from throughtime.source.lines.annotate import LineFinding
from throughtime.source.mending.edit_candidates import BY_LINES, Version

COST_OF_OTHERS = 0.01  # more for each: of what does the same, the first is the likeliest


def edits_of_line(finding: LineFinding, version: Version) -> list[Edit]:
    """The edits that a finding proposes, the likeliest first; none where its text is not there.

    Args:
        finding: of a line of the version's text.
        version: of the files.
    """
    path = finding.path.resolve()
    if finding.edit is None or path not in version.texts:
        return []
    file = FileText.of(path, version.texts[path])
    found = []
    for number, (old, new) in enumerate([finding.edit, *finding.others]):
        for splices, kind in _changed(file, finding, old, new):
            cost = 1.0 + COST_OF_OTHERS * number
            found.append(Edit(path, splices, kind, finding.line, cost, BY_LINES, (finding.line,)))
    return found


def _changed(
    file: FileText, finding: LineFinding, old: str, new: str
) -> Iterator[tuple[tuple[Splice, ...], str]]:
    """What turns an expression or a statement of a line into another one, and that in words."""
    try:
        wanted = _plain(old)
    except SyntaxError:
        return
    for node in ast.walk(file.tree):
        line = getattr(node, "lineno", 0)
        if not finding.line <= line <= finding.last_line:
            continue
        if isinstance(node, ast.expr) and ast.unparse(node) == wanted:
            pairs = list(_least(node, ast.parse(new, mode="eval").body))
            if pairs:
                splices = [s for pair in pairs for s in _of_pair(file, *pair)]
                indices = [
                    n
                    for s in ast.walk(node)
                    if isinstance(s, ast.Subscript)
                    for n in ast.walk(s.slice)
                ]
                is_index = any(pairs[0][0] is part for part in indices)
                yield tuple(sorted(splices)), "index" if is_index else _kind(*pairs[0][:2])
            return
        if isinstance(node, ast.stmt) and ast.unparse(node) == wanted:
            yield _of_statement(file, node, new)
            return


def _plain(text: str) -> str:
    return ast.unparse(ast.parse(text.strip()))


def _of_statement(file: FileText, node: ast.stmt, new: str) -> tuple[tuple[Splice, ...], str]:
    """A statement removed, followed by another one, or with `+=` for `=`."""
    start, end = file.start(node), file.end(node)
    if not new:
        return (Splice(start, end, "pass"),), "a statement removed"
    first, _, rest = new.partition("\n")
    if rest:
        gap = f"\n{file.indentation(node)}" if file.alone(node) else "; "
        return (Splice(end, end, f"{gap}{rest}"),), "a factor"
    if isinstance(node, ast.Assign) and isinstance(ast.parse(first).body[0], ast.AugAssign):
        target = node.targets[0]
        between = file.data[file.end(target) : file.start(node.value)].decode()
        sign = file.end(target) + between.index("=")
        return (Splice(sign, sign, "+"),), "added up"
    return (Splice(start, end, first),), "another statement"


Pair = tuple[ast.expr, ast.expr, bool]  # a part, what takes its place, whether it is an operand


def _least(node: ast.expr, new: ast.expr, within: bool = False) -> Iterator[Pair]:
    """The smallest parts in which two expressions differ."""
    if ast.dump(node) == ast.dump(new):
        return
    parts, others = list(_children(node)), list(_children(new))
    if not _is_longer(node, new) and _kept(node) == _kept(new) and len(parts) == len(others):
        operands = isinstance(node, ast.BinOp | ast.UnaryOp | ast.Attribute)
        for part, other in zip(parts, others, strict=True):
            called_on = isinstance(node, ast.Subscript) and part is node.value
            yield from _least(part, other, operands or called_on)
        return
    yield node, new, within


def _is_longer(node: ast.expr, new: ast.expr) -> bool:
    """Whether something is added to an expression, or it is multiplied, perhaps several times."""
    while isinstance(new, ast.BinOp):
        if ast.dump(new.left) == ast.dump(node):
            return True
        new = new.left
    return False


def _of_pair(file: FileText, node: ast.expr, new: ast.expr, within: bool) -> tuple[Splice, ...]:
    """One part for another; what stays in it stays as it is written."""
    old, text = file.of_node(node), ast.unparse(new)
    if _is_longer(node, new):
        begin = ast.unparse(node)
        if text.startswith(f"({begin})"):
            text = f"({old}){text[len(begin) + 2 :]}"
        elif text.startswith(begin):
            text = old + text[len(begin) :]
    bare = isinstance(new, ast.BinOp | ast.UnaryOp | ast.IfExp)
    return splices_of(file.start(node), old, f"({text})" if bare and within else text)


def _kind(node: ast.expr, new: ast.expr) -> str:
    """What is done, in the words of other edits."""
    sums = ast.Add | ast.Sub
    if _is_longer(node, new):
        assert isinstance(new, ast.BinOp)
        return "a term added" if isinstance(new.op, sums) else "a factor"
    if isinstance(node, ast.BinOp) and ast.dump(new) in map(ast.dump, (node.left, node.right)):
        return "a term removed" if isinstance(node.op, sums) else "a factor removed"
    for one, other in ((node, new), (new, node)):
        if (
            isinstance(one, ast.Attribute)
            and one.attr == "T"
            and ast.dump(one.value) == (ast.dump(other))
        ):
            return "transposed"
    if isinstance(node, ast.Name | ast.Attribute) and isinstance(new, ast.Name | ast.Attribute):
        return "another variable"
    if (
        isinstance(node, ast.BinOp)
        and isinstance(new, ast.BinOp)
        and type(node.op) is not type(new.op)
    ):
        return "sign" if isinstance(node.op, sums) else "factor"
    return "another expression"


def _children(node: ast.expr) -> Iterator[ast.expr]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.expr):
            yield child
        elif isinstance(child, ast.keyword):
            yield child.value


def _kept(node: ast.expr) -> object:
    """What two expressions have in common that differ in their parts alone."""
    plain = [
        (name, value if not isinstance(value, ast.AST) else type(value))
        for name, value in ast.iter_fields(node)
        if not isinstance(value, ast.expr | list)
    ]
    signs = [type(op) for op in getattr(node, "ops", ())]
    names = [keyword.arg for keyword in getattr(node, "keywords", ())]
    return type(node), plain, signs, names, _sizes(node)


def _sizes(node: ast.expr) -> list[int]:
    return [len(value) for _, value in ast.iter_fields(node) if isinstance(value, list)]


def without_overlaps(edits: Iterable[Edit]) -> list[Edit]:
    """The first edits that can be made together."""
    found: list[Edit] = []
    for edit in edits:
        if not any(edit.overlaps(other) for other in found):
            found.append(edit)
    return found
