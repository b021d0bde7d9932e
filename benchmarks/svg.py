"""The SVG elements of charts, for light and dark pages, without scripts."""

from __future__ import annotations

from collections.abc import Iterable
from xml.sax.saxutils import escape

STYLE = """
  text { font: 12px system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; fill: #1f2328 }
  .card { fill: #ffffff; stroke: #d1d9e0 } .break { stroke: #ffffff; stroke-width: 3 }
  .title { font-weight: 600 } .quiet { fill: #59636e; font-size: 11px }
  .grid { stroke: #d1d9e0 } .axis { stroke: #59636e }
  .mark { fill: currentColor } .line { fill: none; stroke: currentColor; stroke-width: 2 }
  .a { color: #d9480f } .b { color: #f7a35c } .c { color: #9aa4ae } .d { color: #5b6b7c }
  @media (prefers-color-scheme: dark) {
    text { fill: #f0f6fc } .card { fill: #0d1117; stroke: #3d444d } .break { stroke: #0d1117 }
    .quiet { fill: #9198a1 } .grid { stroke: #2b3139 } .axis { stroke: #9198a1 }
    .a { color: #ff7b3d } .b { color: #c77d3f } .c { color: #6e7681 } .d { color: #a9b4c0 }
  }
"""


def picture(width: float, height: float, title: str, parts: Iterable[str]) -> str:
    """A complete picture on its own background, independent of the page's colour."""
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" '
        f'width="{width:g}" height="{height:g}" role="img">\n<title>{escape(title)}</title>\n'
        f"<style>{STYLE}</style>\n"
        f'<rect class="card" x="0.5" y="0.5" width="{width - 1:g}" height="{height - 1:g}" rx="6"/>\n'
        f"{body}\n</svg>\n"
    )


def text(x: float, y: float, words: str, kind: str = "", anchor: str = "start") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def box(x: float, y: float, width: float, height: float, kind: str) -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
    return f'<rect class="mark {kind}" {place} rx="1.5"/>'


def stroke(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def polyline(points: Iterable[tuple[float, float]], kind: str) -> str:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline class="line {kind}" points="{path}"/>'


def dot(x: float, y: float, kind: str) -> str:
    return f'<circle class="mark {kind}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>'
