"""How pages are meant to look: small pictures of whole pages, and how they are compared.

A screenshot becomes cells of 10 × 10 pixels, each with its mean luminance. Before it is taken, the
page is given the font that matplotlib brings along, in which every machine sets the same lines;
what is left between machines is how the edges of letters are smoothed. Pages look alike if their
heights differ by at most 1 %, and if no square of 10 × 10 cells differs by more than 6 of 255 on
average: letters smoothed in another way change it by 3, a figure that is missing, a table, or grey
ink instead of black by 9 and more.

`python tests/screens.py` draws the pictures anew.
"""

from __future__ import annotations

import base64
import io
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import throughtime as tt
from report_examples import full_report

FOLDER = Path(__file__).parent / "screens"
SCREENS = {"narrow-light": (360, False), "wide-light": (1200, False), "wide-dark": (1200, True)}
CELL = 10
SQUARE = 10  # cells
HEIGHT, LARGEST = 0.01, 6.0


def example_page(path: Path) -> Path:
    """A flow with a check in which everything occurs: located entries, points, notes."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 4, (45, 8))
    layers = [tt.GRU(4, 6), tt.LSTM(6, 8), tt.Dense(8, 4)]
    net = tt.Network(layers, tt.SoftmaxCrossEntropy(), dtype="float64", seed=1)
    found = tt.flow(net, x[5:], x[:-5], k2=10, clip=1.0, memory=30)
    found.to_html(path, check=full_report())
    return path


def with_own_font(page: Path, folder: Path) -> Path:
    """A copy of the page in which all text stands in matplotlib's DejaVu Sans."""
    from matplotlib import font_manager

    font = Path(font_manager.findfont("DejaVu Sans", fallback_to_default=False)).read_bytes()
    source = f"data:font/ttf;base64,{base64.b64encode(font).decode()}"
    style = f"@font-face {{ font-family: Own; src: url({source}); }}"
    style += "body * { font-family: Own !important; font-weight: 400 !important; }"
    text = page.read_text(encoding="utf-8").replace("</head>", f"<style>{style}</style></head>")
    policy = "default-src 'none';"
    copy = folder / "own_font.html"
    copy.write_text(text.replace(policy, f"{policy} font-src data:;"), encoding="utf-8")
    return copy


def cells(png: bytes) -> Any:
    """(rows, columns): mean luminance of each cell, 0 … 255."""
    from PIL import Image

    with Image.open(io.BytesIO(png)) as picture:
        values = np.asarray(picture.convert("L"), float)
    rows, columns = (size // CELL for size in values.shape)
    whole = values[: rows * CELL, : columns * CELL]
    return whole.reshape(rows, CELL, columns, CELL).mean(axis=(1, 3))


def compare(found: Any, name: str) -> None:
    """Fails where a page does not look as it did; the new picture is kept for the eye."""
    wanted = stored(name)
    taller = abs(len(found) / len(wanted) - 1)
    off = squares_off(found, wanted) if found.shape[1] == wanted.shape[1] else np.inf
    if taller > HEIGHT or off > LARGEST:
        now = Path(tempfile.gettempdir()) / f"throughtime-{name}.png"
        keep(found, now)
        raise AssertionError(
            f"{name} looks otherwise than {FOLDER / name}.png: height {taller:.1%} off, a square "
            f"by {off:.1f} of 255; now: {now}"
        )


def squares_off(found: Any, wanted: Any) -> float:
    """The largest mean difference of a square of cells."""
    rows = min(len(found), len(wanted))
    off = np.abs(found[:rows] - wanted[:rows])
    down, across = (np.arange(0, size, SQUARE) for size in off.shape)
    sums = np.add.reduceat(np.add.reduceat(off, down, axis=0), across, axis=1)
    return float(sums.max()) / SQUARE**2


def stored(name: str) -> Any:
    """What was drawn last."""
    from PIL import Image

    with Image.open(FOLDER / f"{name}.png") as picture:
        return np.asarray(picture.convert("L"), float)


def keep(values: Any, path: Path) -> None:
    """Writes cells as a small grey picture."""
    from PIL import Image

    Image.fromarray(np.round(values).astype(np.uint8)).save(path, optimize=True)


def main() -> None:
    """Draws all of them."""
    from browser import Browser

    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name, Browser(Path(name)) as browser:
        page = with_own_font(example_page(Path(name) / "page.html"), Path(name))
        for screen, (width, dark) in SCREENS.items():
            browser.open(page, width=width, dark=dark)
            keep(cells(browser.screenshot()), FOLDER / f"{screen}.png")
            print(FOLDER / f"{screen}.png")


if __name__ == "__main__":
    main()
