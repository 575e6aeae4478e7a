"""Files beside a user's file that run what it defines: how it is made and called stands there."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from throughtime.source.text import read_source
from throughtime.storage import read_bytes

MOST_SCRIPTS = 4  # that are read for one file
MOST_FILES = 200  # that are looked at for a name
LARGEST_SCRIPT = 2_000_000  # bytes; notebooks hold pictures
MOST_CODE = (
    200_000  # characters of Python, some 5,000 lines: more is data, which takes long to parse
)
LIKELY = ("train", "main", "run", "test", "example", "demo", "check", "grad")


@dataclass(frozen=True)
class Script:
    """A file that imports a user's file.

    Args:
        path: of it.
        tree: its syntax tree.
        module: the name under which it imports the user's file.
    """

    path: Path
    tree: ast.Module
    module: str


def scripts_beside(path: Path, tree: ast.Module) -> Iterator[Script]:
    """Files in the folder, the one above and those below that import a file, the likelier first."""
    own = {n.name for n in tree.body if isinstance(n, ast.ClassDef | ast.FunctionDef)}
    # Folders may hold anything: what does not name this file is not parsed.
    words = "|".join(re.escape(word) for word in (path.stem, path.resolve().parent.name))
    named = re.compile(rf"\b(?:{words})\b")
    found = 0
    for other in _near(path):
        try:
            if other.parent != path.parent and (other.parent / path.name).is_file():
                continue  # it imports another file of that name
            raw = read_bytes(other, LARGEST_SCRIPT).decode(errors="ignore")
            if "import" not in raw or not named.search(raw):
                continue
            text = read_source(other).text
            if len(text) > MOST_CODE:
                continue
            read = ast.parse(text)
        except (OSError, ValueError, SyntaxError):  # a device, too, which need not end
            continue
        module = _module(read, path, own)
        if module and not _is_another(module, other, path):
            yield Script(other, read, module)
            found += 1
        if found == MOST_SCRIPTS:
            return


def _is_another(module: str, script: Path, path: Path) -> bool:
    """Whether a script finds another file than the user's under a module's name.

    Two projects beside each other may both have their `layers/rnn.py`.
    """
    words = module.strip(".").split(".")
    for root in (script.parent, script.parent.parent):
        found = root.joinpath(*words).with_suffix(".py")
        if found.is_file():
            return found.resolve() != path.resolve()
    return False


def _near(path: Path) -> list[Path]:
    folders = [path.parent, path.parent.parent]
    files: dict[Path, int] = {}
    for distance, folder in enumerate(folders):
        for pattern in ("*.py", "*.ipynb", "*/*.py", "*/*.ipynb"):
            for n, other in enumerate(sorted(folder.glob(pattern))):
                if n > MOST_FILES:
                    break
                if other != path and not other.name.startswith("__"):
                    files.setdefault(other, distance)

    def rank(other: Path) -> tuple[int, int, str]:
        likely = [n for n, word in enumerate(LIKELY) if word in other.stem.lower()]
        return files[other], min(likely, default=len(LIKELY)), str(other)

    return sorted(files, key=rank)


def _module(tree: ast.Module, path: Path, own: set[str]) -> str:
    """The dotted name under which a file is imported, itself or by its package; "" if it is not."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            last = (node.module or "").rpartition(".")[2]
            names = {alias.name for alias in node.names}
            dots = "." * node.level
            if last == path.stem:
                return dots + (node.module or "")
            if path.stem in names and last in ("", path.parent.name):
                return f"{dots}{node.module or ''}.{path.stem}".replace("..", ".")
            if last == path.parent.name and names & (own | {"*"}):
                return f"{dots}{node.module}"
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.rpartition(".")[2] == path.stem:
                    return alias.name
    return ""
