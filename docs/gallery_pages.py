"""Writes the gallery of cells, docs/gallery.md, from examples/cells.py; `conf.py` calls it."""

from __future__ import annotations

import importlib.util
import inspect
from pathlib import Path

from generated import write_page

from throughtime.cells import CellDefinition, derive

HERE = Path(__file__).parent
EXAMPLES = HERE.parent / "examples" / "cells.py"
INTRODUCTION = """# A gallery of cells

Each of these cells is its forward step, which is shown whole; the backward pass below it is derived
([how](any-cell.md)). All of them stand in `examples/cells.py`. `throughtime derive
examples/cells.py:NAME --check` prints a derivation with numbers beside it, and `--numpy` prints it
as NumPy functions. The tests compare every gradient with PyTorch's autograd in float64, to 1e-12.
"""


def page() -> str:
    """The text of the page."""
    spec = importlib.util.spec_from_file_location("gallery_of_cells", EXAMPLES)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found = [INTRODUCTION]
    for name, cell in vars(module).items():
        if isinstance(cell, CellDefinition):
            found.append(_section(name, cell))
    return "\n".join(found)


def _section(name: str, cell: CellDefinition) -> str:
    summary = inspect.cleandoc(cell.__doc__ or "").partition("\n")[0]
    code = inspect.getsource(cell.step).rstrip()
    return f"""## {name}

{summary}

```py
{code}
```

```{{math}}
{derive(cell).latex.rstrip()}
```
"""


def write(path: Path = HERE / "gallery.md") -> None:
    """Writes the page if it has changed."""
    write_page(path, page())
