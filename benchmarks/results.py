"""Stores results as JSON, and makes the pictures and the table of docs/performance.md from them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks import bars, lines, report
from benchmarks.contenders import HERE
from benchmarks.curves import CURVES, Curve
from benchmarks.micro import Cost

RESULTS = HERE / "results"
PAGE = HERE.parent / "docs" / "performance.md"
BEGIN, END = "<!-- results: made by make bench -->\n", "<!-- end of results -->\n"

COMPARISON, MICRO = "side-by-side", "micro"
PARTS = (COMPARISON, *CURVES, MICRO)

INTRODUCTION = """# Results

Made by `make bench`; `make bench ONLY="connections micro"` makes single parts anew. The proxy and all that
it starts has one processor, load and upstream have another.

Figures behind single decisions in the code are in [decisions.md](decisions.md).
"""


def keep(folder: Path, part: str, machine: dict[str, str], measured: Any) -> None:
    """Write the figures of a part; `measured` must be serialisable as JSON."""
    folder.mkdir(parents=True, exist_ok=True)
    document = {"machine": machine, "measured": measured}
    (folder / f"{part}.json").write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")


def load(folder: Path, part: str) -> tuple[dict[str, str], Any] | None:
    """The machine and the figures of a part; None if it was never run."""
    path = folder / f"{part}.json"
    if not path.exists():
        return None
    document = json.loads(path.read_text())
    return document["machine"], document["measured"]


def draw(folder: Path) -> None:
    """Write the pictures and the page for all results in the folder."""
    sections = [INTRODUCTION]
    for part in PARTS:
        found = load(folder, part)
        if found is None:
            continue
        title, text, picture = _section(part, *found)
        shown = ""
        if picture is not None:
            (folder / f"{part}.svg").write_text(picture)
            shown = f"![{title}]({part}.svg)\n\n"
        sections.append(f"## {title}\n\n{shown}{text}")
    (folder / "README.md").write_text("\n".join(sections))


def _section(part: str, machine: dict[str, str], measured: Any) -> tuple[str, str, str | None]:
    """Title, text and picture."""
    if part == COMPARISON:
        return "Side by side", report.comparison(measured, machine), bars.draw(measured)
    if part == MICRO:
        return "Single parts", report.micro([Cost(**cost) for cost in measured], machine), None
    curve = Curve(**{**measured, "points": tuple(measured["points"])})
    return curve.title, report.curve(curve, machine), lines.draw(curve)


def text(folder: Path, part: str) -> str:
    """The table of a part, and its machine; empty if it was never run."""
    found = load(folder, part)
    return "" if found is None else _section(part, *found)[1]


def put_into_page(text: str, table: str) -> str:
    """The page with the table between its marks replaced.  Raises ValueError if there are no marks."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError("the page has no place for the table")
    return before + begin + table + end + after
