"""Small SVG charts without a library: a page that follows the reader's light or dark mode, axes, and marks.

The colours are mostly Okabe and Ito's, which people who see few colours can tell apart; shapes differ too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

STYLE = """
.page { fill: #ffffff; }
text { font: 12px system-ui, sans-serif; fill: #24292f; }
.title { font-weight: 600; font-size: 14px; }
.soft { fill: #57606a; font-size: 11px; }
.grid { stroke: #d8dee4; stroke-width: 1; }
.base { stroke: #57606a; stroke-width: 1.5; }
.budget { stroke: #d55e00; stroke-width: 2; }
.line { fill: none; stroke-width: 2; }
@media (prefers-color-scheme: dark) {
  .page { fill: #0d1117; }
  text { fill: #e6edf3; }
  .soft { fill: #9198a1; }
  .grid { stroke: #30363d; }
  .base { stroke: #9198a1; }
}
"""
COLOURS = {
    "gproxy": "#d55e00",
    "haproxy": "#0072b2",
    "nginx": "#009e73",
    "caddy": "#56b4e9",
    "pen": "#cc79a7",
    "gevent": "#e69f00",
    "asyncio": "#b59f00",
    "proxy.py": "#8c6bb1",
    "direct": "#8b949e",
}
RADIUS = 5.0


@dataclass(frozen=True)
class Scale:
    """A logarithmic axis: values from low to high on pixels from start to end."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        share = math.log(min(max(value, self.low), self.high) / self.low) / math.log(self.high / self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self, steps: Sequence[float]) -> list[float]:
        """Powers of ten times these steps, within the scale."""
        powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        found = [step * 10.0**power for power in powers for step in steps]
        return [value for value in found if self.low <= value <= self.high]


def around(values: Sequence[float], start: float, end: float) -> Scale:
    """A scale on which all of these have a place, and a little air."""
    return Scale(min(values) / 1.25, max(values) * 1.25, start, end)


def page(width: float, height: float, parts: Sequence[str]) -> str:
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" '
        f'height="{height:g}" role="img">\n<style>{STYLE}</style>\n'
        f'<rect width="100%" height="100%" class="page"/>\n{body}\n</svg>\n'
    )


def text(x: float, y: float, words: str, kind: str = "", anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}">{escape(words)}</text>'


def line(x1: float, y1: float, x2: float, y2: float, kind: str = "grid") -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>'


def path(points: Sequence[tuple[float, float]], name: str) -> str:
    way = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline points="{way}" class="line" style="stroke: {COLOURS[name]}"/>'


def mark(x: float, y: float, name: str, hint: str) -> str:
    """A polygon with a number of corners of its own, or a circle; the hint shows under a mouse."""
    corners = {"gproxy": 0, "haproxy": 4, "nginx": 3, "caddy": 5, "pen": 6}.get(name, 8)
    fill = f'style="fill: {COLOURS[name]}"'
    title = f"<title>{escape(hint)}</title>"
    if not corners:
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{RADIUS + 1:g}" {fill}>{title}</circle>'
    turns = [2 * math.pi * (corner / corners - 0.25) for corner in range(corners)]
    points = " ".join(f"{x + RADIUS * math.cos(turn):.1f},{y + RADIUS * math.sin(turn):.1f}" for turn in turns)
    return f'<polygon points="{points}" {fill}>{title}</polygon>'


def legend(x: float, y: float, names: Sequence[str]) -> list[str]:
    parts = []
    for name in names:
        parts += [mark(x, y - 4, name, name), text(x + 10, y, name)]
        x += 26 + 7.2 * len(name)
    return parts


def number(value: float) -> str:
    return f"{value:g}" if value < 1000 else f"{value / 1000:g}k"
