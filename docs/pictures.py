"""Draws the pictures of the documentation: `python docs/pictures.py` writes docs/pictures/*.svg.

A step is a graph. It is drawn twice, forwards and backwards: the same nodes, every edge turned
round and labelled with the gradient that runs along it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

FOLDER = Path(__file__).parent / "pictures"
INK, RED, GREY = "#1f2933", "#c62828", "#8a94a0"
STYLE = (
    "text{font-family:'DejaVu Sans',Arial,sans-serif;font-size:14px;text-anchor:middle;"
    "dominant-baseline:central}.small{font-size:12px}"
)
Point = tuple[float, float]


@dataclass(frozen=True)
class Node:
    """A value (box), an operation (circle) or a point where a line forks (dot)."""

    at: Point
    text: str
    kind: str = "value"

    @property
    def half(self) -> Point:
        if self.kind == "dot":
            return 3, 3
        return (13, 13) if self.kind == "operation" else (max(22, 5 * len(self.text) + 6), 15)

    def draw(self, colour: str) -> str:
        (x, y), (w, h) = self.at, self.half
        if self.kind == "dot":
            return f'<circle cx="{x}" cy="{y}" r="3" fill="{colour}"/>'
        fill = {"value": "#eef2f6", "operation": "#ffffff", "gate": "#fff3cd"}[self.kind]
        if self.kind == "operation":
            shape = f'<circle cx="{x}" cy="{y}" r="13" fill="{fill}" stroke="{INK}"/>'
        else:
            shape = (
                f'<rect x="{x - w}" y="{y - h}" width="{2 * w}" height="{2 * h}" rx="5" '
                f'fill="{fill}" stroke="{INK}"/>'
            )
        return shape + _text(self.at, self.text, INK, "")


@dataclass(frozen=True)
class Edge:
    """A line from one node to another, by way of corners, with what runs along it backwards."""

    start: str
    end: str
    corners: tuple[Point, ...] = ()
    forwards: str = ""
    backwards: str = ""
    label_at: Point | None = None
    passes_gradient: bool = True


@dataclass(frozen=True)
class Graph:
    size: Point
    nodes: dict[str, Node]
    edges: tuple[Edge, ...]
    notes: dict[str, tuple[tuple[Point, str], ...]] = field(default_factory=dict)
    border: float | None = None  # x of a window's border

    def panel(self, way: str, top: float) -> str:
        colour = INK if way == "forwards" else RED
        parts = [_text((42, 16), way, GREY)]
        if self.border is not None:
            parts.append(
                f'<path d="M{self.border:g} 30V84M{self.border:g} 122V{self.size[1] - 40}" '
                f'stroke="{GREY}" stroke-dasharray="6 5"/>'
            )
        parts += [self._edge(edge, way, colour) for edge in self.edges]
        parts += [node.draw(colour) for node in self.nodes.values()]
        for at, text in self.notes.get(way, ()):
            parts.append(_text(at, text, colour))
        return f'<g transform="translate(0 {top})">{"".join(parts)}</g>'

    def _edge(self, edge: Edge, way: str, colour: str) -> str:
        if way == "backwards" and not edge.passes_gradient:
            return ""
        start, end = self.nodes[edge.start], self.nodes[edge.end]
        points = [start.at, *edge.corners, end.at]
        points[0], points[-1] = _border(start, points[1]), _border(end, points[-2])
        label = edge.forwards if way == "forwards" else edge.backwards
        if way == "backwards":
            points.reverse()
            end = start
        path = "M" + "L".join(f"{x:g} {y:g}" for x, y in points)
        marker = "" if end.kind == "dot" and way == "forwards" else f' marker-end="url(#{way})"'
        drawn = f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="1.4"{marker}/>'
        if label:
            return drawn + _text(edge.label_at or _beside(points), label, colour)
        return drawn

    def svg(self) -> str:
        width, height = self.size
        total = 2 * height + 10
        markers = "".join(
            f'<marker id="{way}" viewBox="0 0 8 8" refX="7.5" refY="4" markerWidth="7" '
            f'markerHeight="7" orient="auto"><path d="M0 0L8 4L0 8z" fill="{colour}"/></marker>'
            for way, colour in (("forwards", INK), ("backwards", RED))
        )
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {total}" '
            f'width="{width}" height="{total}"><style>{STYLE}</style><defs>{markers}</defs>'
            f'<rect width="{width}" height="{total}" rx="8" fill="#ffffff"/>'
            f"{self.panel('forwards', 0)}"
            f'<path d="M12 {height}H{width - 12}" stroke="#dde3e9"/>'
            f"{self.panel('backwards', height + 10)}</svg>\n"
        )


def _text(at: Point, text: str, colour: str, kind: str = "small") -> str:
    """Text in the middle of a point; `c_{t−1}` and `c_t` with true subscripts."""
    spans, down = [], 0
    for part in re.split(r"(_\{[^}]*\}|_\w)", text):
        if part.startswith("_"):
            inside, shift, size = part.strip("_{}"), 4 - down, ' font-size="75%"'
            down = 4
        else:
            inside, shift, size = part, -down, ""
            down = 0
        if inside:
            spans.append(f'<tspan dy="{shift}"{size}>{escape(inside)}</tspan>')
        else:
            down += -shift
    style = f' class="{kind}"' if kind else ""
    return f'<text{style} x="{at[0]:g}" y="{at[1]:g}" fill="{colour}">{"".join(spans)}</text>'


def _border(node: Node, towards: Point) -> Point:
    """Where a line to a point leaves the node: straight up or across where it can."""
    (x, y), (w, h) = node.at, node.half
    dx, dy = towards[0] - x, towards[1] - y
    if node.kind == "operation":
        scale = w / (dx * dx + dy * dy) ** 0.5
        return x + dx * scale, y + dy * scale
    if abs(dx) < w:
        return towards[0], y + (h if dy > 0 else -h)
    return x + (w if dx > 0 else -w), y


def _beside(points: list[Point]) -> Point:
    """Above the middle of a line that runs across; right of one that runs up or down."""
    (x1, y1), (x2, y2) = points[0], points[1]
    middle = ((x1 + x2) / 2, (y1 + y2) / 2)
    across = abs(x2 - x1) >= abs(y2 - y1)
    return (middle[0], middle[1] - 11) if across else (middle[0] + 16, middle[1])


def rnn() -> Graph:
    nodes = {
        "before": Node((70, 110), "s_{t−1}"),
        "x": Node((70, 170), "x_t"),
        "z": Node((250, 110), "z_t"),
        "s": Node((460, 110), "s_t"),
        "E": Node((460, 45), "E_t"),
        "later": Node((660, 110), "step t + 1"),
    }
    edges = (
        Edge("before", "z", forwards="U", backwards="Uᵀ δz_t"),
        Edge("x", "z", ((250, 170),), "W", "δx_t = Wᵀ δz_t", (165, 158)),
        Edge("z", "s", forwards="tanh", backwards="δz_t = δs_t ⊙ (1 − s_t²)"),
        Edge("s", "E", backwards="∂E_t/∂s_t", label_at=(500, 78)),
        Edge("s", "later", forwards="U", backwards="Uᵀ δz_{t+1}"),
    )
    notes = {"backwards": (((460, 141), "δs_t: both add up"),)}
    return Graph((760, 205), nodes, edges, notes)


def lstm() -> Graph:
    gates = {"f": 215, "i": 335, "a": 435, "o": 545}
    nodes = {
        "c_before": Node((62, 60), "c_{t−1}"),
        "keep": Node((215, 60), "⊙", "operation"),
        "add": Node((385, 60), "+", "operation"),
        "fork": Node((545, 60), "", "dot"),
        "c": Node((705, 60), "c_t"),
        "write": Node((385, 130), "⊙", "operation"),
        "tanh": Node((545, 112), "tanh", "gate"),
        "show": Node((545, 172), "⊙", "operation"),
        "h": Node((705, 172), "h_t"),
        "h_before": Node((62, 300), "h_{t−1}"),
        "x": Node((62, 345), "x_t"),
    } | {gate: Node((x, 235), gate, "gate") for gate, x in gates.items()}
    edges = [
        Edge("c_before", "keep", backwards="δc_t ⊙ f_t"),
        Edge("keep", "add", backwards="δc_t"),
        Edge("add", "fork", backwards="δc_t"),
        Edge("fork", "c", backwards="δc_{t+1} ⊙ f_{t+1}"),
        Edge("f", "keep", backwards="δf_t = δc_t ⊙ c_{t−1}", label_at=(134, 165)),
        Edge("write", "add", backwards="δc_t"),
        Edge("i", "write", ((335, 130),), backwards="δi_t", label_at=(315, 165)),
        Edge("a", "write", ((435, 130),), backwards="δa_t", label_at=(457, 165)),
        Edge("fork", "tanh"),
        Edge("tanh", "show", backwards="δh_t ⊙ o_t", label_at=(590, 143)),
        Edge("o", "show", backwards="δo_t = δh_t ⊙ tanh c_t", label_at=(628, 205)),
        Edge("show", "h", backwards="δh_t"),
    ]
    for gate, x in gates.items():
        edges.append(Edge("h_before", gate, ((x - 9, 300),)))
        edges.append(Edge("x", gate, ((x + 9, 345),)))
    notes = {
        "forwards": (((139, 289), "U"), ((139, 334), "W"), ((290, 40), "the carousel")),
        "backwards": (
            ((652, 92), "δh_t ⊙ o_t ⊙ (1 − tanh² c_t)"),
            (
                (350, 372),
                "δh_{t−1}: Uᵀ δz, what comes back from four gates added up; δx_t alike: Wᵀ δz",
            ),
            ((290, 22), "the carousel: factor f_t, no matrix, no tanh"),
        ),
    }
    return Graph((760, 390), nodes, tuple(edges), notes)


def gru() -> Graph:
    nodes = {
        "h_before": Node((62, 60), "h_{t−1}"),
        "leak": Node((230, 60), "⊙", "operation"),
        "add": Node((580, 60), "+", "operation"),
        "h": Node((705, 60), "h_t"),
        "new": Node((580, 130), "⊙", "operation"),
        "z": Node((230, 225), "z", "gate"),
        "r": Node((370, 225), "r", "gate"),
        "reset": Node((470, 225), "⊙", "operation"),
        "n": Node((580, 225), "n", "gate"),
        "x": Node((62, 340), "x_t"),
    }
    edges = (
        Edge("h_before", "leak", backwards="δh_t ⊙ z_t"),
        Edge("leak", "add", backwards="δh_t"),
        Edge("add", "h", backwards="δh_t"),
        Edge("z", "leak", (), "", "δh_t ⊙ h_{t−1}", (182, 170)),
        Edge("z", "new", ((230, 130),), "1 − z_t", "−δh_t ⊙ n_t", (405, 118)),
        Edge("new", "add", backwards="δh_t"),
        Edge("n", "new", backwards="δn_t = δh_t ⊙ (1 − z_t)", label_at=(664, 178)),
        Edge("r", "reset", backwards="δr_t"),
        Edge("reset", "n", backwards="δz_n"),
        Edge("h_before", "z", ((62, 290), (221, 290))),
        Edge("h_before", "r", ((62, 290), (361, 290))),
        Edge("h_before", "reset", ((62, 290), (470, 290))),
        Edge("x", "z", ((239, 340),)),
        Edge("x", "r", ((379, 340),)),
        Edge("x", "n", ((589, 340),)),
    )
    notes = {
        "forwards": (
            ((245, 175), "z_t"),
            ((140, 279), "U"),
            ((140, 329), "W"),
            ((425, 279), "U_n, c"),
        ),
        "backwards": (
            ((425, 279), "U_nᵀ (δz_n ⊙ r_t)"),
            (
                (350, 367),
                "δh_{t−1}: the leak, z, r and the candidate, four terms added up; δx_t = Wᵀ δz",
            ),
        ),
    }
    return Graph((760, 385), nodes, edges, notes)


def chain(steps: int, border_after: int | None = None) -> Graph:
    """The unrolled network; at a window's border the state passes and the gradient does not."""
    x = [60 + 640 / steps * k for k in range(steps + 1)]
    nodes = {"s0": Node((x[0], 110), "s_0")}
    edges = []
    for k in range(1, steps + 1):
        nodes |= {
            f"s{k}": Node((x[k], 110), f"s_{k}"),
            f"E{k}": Node((x[k], 50), f"E_{k}"),
            f"U{k}": Node((x[k], 178), "U", "gate"),
        }
        cut = border_after is not None and k == border_after + 1
        jacobian = f"∂s_{k}/∂s_{k - 1}" if k > 1 else ""
        edges += [
            Edge(f"s{k - 1}", f"s{k}", backwards=jacobian, passes_gradient=not cut),
            Edge(f"s{k}", f"E{k}"),
            Edge(f"U{k}", f"s{k}", backwards=f"from s_{k}", label_at=(x[k] - 34, 144)),
        ]
    notes = {
        "forwards": [((380, 212), "one and the same U at every step")],
        "backwards": [((380, 212), "∂L/∂U is the sum of all these terms")],
    }
    middle = None
    if border_after is not None:
        middle = (x[border_after] + x[border_after + 1]) / 2
        notes["forwards"].append(((middle, 96), "state carried"))
        notes["backwards"] = [
            ((380, 212), "the sum of these terms is the truncated gradient"),
            ((middle, 110), "no gradient"),
        ]
    fixed = {way: tuple(texts) for way, texts in notes.items()}
    return Graph((760, 232), nodes, tuple(edges), fixed, middle)


PICTURES = {
    "rnn": rnn,
    "lstm": lstm,
    "gru": gru,
    "bptt": lambda: chain(3),
    "tbptt": lambda: chain(4, border_after=2),
}

if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, graph in PICTURES.items():
        (FOLDER / f"{name}.svg").write_text(graph().svg(), encoding="utf-8")
