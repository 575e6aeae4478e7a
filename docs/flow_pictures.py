"""Draws the figures of the flow for README and documentation.

`python docs/flow_pictures.py` trains the network of examples/flow_report.py, writes its report, and
takes pictures of it: docs/figures/flow_*.png. Chromium or Chrome photographs the page.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "figures"
sys.path[:0] = [str(ROOT / "examples"), str(ROOT / "tests")]  # for the two that follow

import flow_report  # noqa: E402

import throughtime as tt  # noqa: E402
from browser import Browser  # noqa: E402

DRAWN = {
    "lag_heatmap": tt.plots.lag_heatmap,
    "lag_profile": tt.plots.lag_profile,
    "carousel": tt.plots.carousel,
    "time_constants": tt.plots.time_constants,
    "singular_values": tt.plots.singular_values,
    "lyapunov": tt.plots.lyapunov,
    "truncation_bias": tt.plots.truncation_bias,
    "gate_f": lambda flow: tt.plots.gate_histogram(flow, "f"),
}
PAGES = {"page": (1000, 900, False), "page_phone": (360, 1180, True)}  # width, height, dark


def main() -> None:
    """All of them."""
    with tempfile.TemporaryDirectory() as name:
        page = Path(name) / "report.html"
        flow, _ = flow_report.main([str(page)])
        for figure, draw in DRAWN.items():
            tt.plots.save(draw(flow), str(FOLDER / f"flow_{figure}.png"))
        with Browser(Path(name)) as browser:
            for shot, (width, height, dark) in PAGES.items():
                browser.open(page, width=width, dark=dark)
                (FOLDER / f"flow_{shot}.png").write_bytes(browser.screenshot(height))
    for path in sorted(FOLDER.glob("flow_*.png")):
        smaller(path)
        print(path.relative_to(ROOT), path.stat().st_size)


def smaller(path: Path) -> None:
    """Of 224 colours, which a figure of this kind can do with."""
    with Image.open(path) as picture:
        few = picture.convert("RGB").quantize(224, dither=Image.Dither.NONE)
    few.save(path, optimize=True)


if __name__ == "__main__":
    main()
