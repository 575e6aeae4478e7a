"""A recipe as Python that says the same, for a test suite."""

from __future__ import annotations

from pathlib import Path

from throughtime.source.recipe import Recipe

HEAD = '''"""The gradient of {name}, checked; written by `throughtime check --print-target`."""

from pathlib import Path

import throughtime as tt
from throughtime.source import Program, Recipe

recipe = Recipe(
    Path({path!r}),{comment}
'''

RELATIVE = "  # from the folder in which this is run"
TAIL = """)


def test_gradient():
    report = tt.check(Program(recipe).target(), progress=False)
    assert report.verdict == "agree", report
"""


def as_python(recipe: Recipe, name: str, folder: str = "") -> str:
    """The lines of Python that run a recipe and check its gradient.

    Args:
        recipe: how the file is run.
        name: of what is checked in it.
        folder: where the lines will be run; a file outside of it, or of "", has its whole path.
    """
    path, comment, here = recipe.path, "", Path(folder).resolve()
    if folder and path.is_relative_to(here):
        path, comment = path.relative_to(here), RELATIVE
    lines = [HEAD.format(name=name, path=str(path), comment=comment)]
    for field in ("data", "setup", "loss", "gradient"):
        lines.append(f"    {field}={_text(getattr(recipe, field))},\n")
    for field in ("parameters", "gradients", "steps", "sequences"):
        value = dict(getattr(recipe, field))
        inner = "".join(f"        {key!r}: {part!r},\n" for key, part in value.items())
        lines.append(f"    {field}={{\n{inner}    }},\n" if value else f"    {field}={{}},\n")
    if recipe.run:
        lines.append(f"    run=frozenset({sorted(recipe.run)}),\n")
    for field in ("length", "batch"):
        lines.append(f"    {field}={getattr(recipe, field)!r},\n")
    return "".join((*lines, TAIL))


def _text(text: str) -> str:
    """A text as a literal, one of its lines a line."""
    lines = text.split("\n")
    if len(lines) == 1:
        return repr(text)
    inner = "".join(f"\n        {line + chr(10)!r}" for line in lines[:-1])
    return f"({inner}\n        {lines[-1]!r}\n    )"
