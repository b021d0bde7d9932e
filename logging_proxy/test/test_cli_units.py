"""Times, sizes, tables: how numbers and rows look."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.cli import units
from logging_proxy.cli.paint import Paint, cut, wants_colour, width
from logging_proxy.cli.sources import Document
from logging_proxy.cli.tables import EXCHANGES, Column, Layout, exchange_cells, path_of, table


class UnitTests(SynchronousTestCase):
    def test_sizes(self) -> None:
        """Sizes have two or three digits and a unit."""
        for count, shown in (
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (9_949, "9.9 kB"),
            (9_950, "10 kB"),
            (999_499, "999 kB"),
            (999_500, "1.0 MB"),
            (45_300_000_000, "45 GB"),
            (7 * 10**12, "7.0 TB"),
        ):
            self.assertEqual(units.size(count), shown)

    def test_durations(self) -> None:
        """Durations have the unit that suits them."""
        for milliseconds, shown in (
            (0.03, "0.03 ms"),
            (4.12, "4.1 ms"),
            (412.2, "412 ms"),
            (1_240, "1.24 s"),
            (12_340, "12.3 s"),
            (59_960, "1 min 00 s"),
            (3_720_000, "1 h 02 min"),
            (50 * 3_600_000, "2 d 2 h"),
        ):
            self.assertEqual(units.duration(milliseconds), shown)

    def test_local_time(self) -> None:
        """A time that is none is a dash."""
        for value in (None, "", "yesterday", 7):
            self.assertEqual(units.local_time(value), "-")
        self.assertRegex(units.local_time("2025-09-13T02:11:09.123456+00:00", 6), r" \d\d:\d\d:09\.123456$")


class WidthTests(SynchronousTestCase):
    def test_wide(self) -> None:
        """East Asian characters take two columns, combining ones none."""
        self.assertEqual(width("日本"), 4)
        self.assertEqual(width("e\u0301"), 1)

    @given(st.text("a日e\u0301", max_size=20), st.integers(0, 20))
    def test_cut(self, text: str, columns: int) -> None:
        """A text that is cut fits, and is as it was when it fitted."""
        shown = cut(text, columns)
        self.assertLessEqual(width(shown), columns)
        if width(text) <= columns:
            self.assertEqual(shown, text)

    def test_colour(self) -> None:
        """Colour is for terminals, unless NO_COLOR is set, and for those who insist."""
        self.assertTrue(wants_colour("auto", True, {"TERM": "xterm"}))
        self.assertTrue(wants_colour("auto", True, {"NO_COLOR": ""}))
        self.assertFalse(wants_colour("auto", True, {"NO_COLOR": "1"}))
        self.assertFalse(wants_colour("auto", True, {"TERM": "dumb"}))
        self.assertFalse(wants_colour("auto", False, {}))
        self.assertTrue(wants_colour("always", False, {"NO_COLOR": "1"}))
        self.assertFalse(wants_colour("never", True, {}))


ROW: dict[str, Any] = {
    "id": "092d0424-3f1e-4f0f-8c5b-5c0a7d0e9f11",
    "started_at": "2025-09-13T02:11:09.123456+00:00",
    "processing_time_ms": 1240.0,
    "route": "lmstudio",
    "method": "POST",
    "status": 200,
    "outcome": "complete",
    "model": "qwen2.5",
    "source_url": "http://localhost:5601/lmstudio/v1/chat?a=1",
    "request": {"bytes": 1234},
    "response": {"bytes": 56},
}


def shown(row: Document) -> dict[str, str]:
    """The texts of an exchange's cells, by heading."""
    return {column.heading: text for column, (text, _) in zip(EXCHANGES, exchange_cells(row), strict=True)}


class TableTests(SynchronousTestCase):
    def test_aligned(self) -> None:
        """Columns are as wide as their widest cell; numbers stand right; line ends are clean."""
        columns = (Column("NAME"), Column("N", right=True), Column("LAST"))
        rows = [[("a", ""), ("1", ""), ("x", "")], [("日本語", ""), ("1000", ""), ("", "")]]
        self.assertEqual(
            list(table(columns, rows, Paint())),
            ["NAME       N  LAST", "a          1  x", "日本語  1000"],
        )

    def test_exchange(self) -> None:
        """A row tells when, which, what, how it ended, how long and how large."""
        expected = {
            "ID": "092d0424",
            "METHOD": "POST",
            "STATUS": "200",
            "OUTCOME": "complete",
            "ROUTE": "lmstudio",
            "MODEL": "qwen2.5",
            "TIME": "1.24 s",
            "SENT": "1.2 kB",
            "RECEIVED": "56 B",
            "PATH": "/lmstudio/v1/chat?a=1",
        }
        self.assertEqual(shown(ROW) | expected, shown(ROW))

    def test_under_way(self) -> None:
        """What has no outcome yet is under way; what is not known is a dash."""
        cells = shown({"id": "x", "outcome": None})
        names = ("STATUS", "OUTCOME", "ROUTE", "MODEL")
        self.assertEqual([cells[name] for name in names], ["-", "under way", "-", "-"])

    @given(st.integers(20, 200))
    def test_fits(self, columns: int) -> None:
        """No line is wider than the terminal; id and outcome stay while there is room for them."""
        cells = exchange_cells(ROW, short=columns < 120)
        layout = Layout(EXCHANGES, [cells], columns)
        for line in (layout.heading(Paint()), layout.line(cells, Paint())):
            self.assertLessEqual(width(line), columns)
        if columns >= 80:
            self.assertIn("complete", layout.line(cells, Paint()))

    def test_colours_change_nothing_else(self) -> None:
        """With colour the text is the same."""
        cells = exchange_cells(ROW)
        layout = Layout(EXCHANGES, [cells], None)
        painted = layout.line(cells, Paint(True))
        self.assertIn("\x1b[32mcomplete\x1b[0m", painted)
        for code in ("0", "2", "32", "36"):
            painted = painted.replace(f"\x1b[{code}m", "")
        self.assertEqual(painted, layout.line(cells, Paint()))

    def test_hostile(self) -> None:
        """Nothing that was captured acts on the terminal, whichever cell it is in."""
        evil = "\x1b]0;x\x07\r\n\u202e\x9b31m"
        row = {name: evil for name in (*ROW, "request", "response")} | {"processing_time_ms": 1}
        for text, _ in exchange_cells(row):
            self.assertTrue(text.isprintable(), text)

    def test_path(self) -> None:
        """A URL that is none is shown as it is."""
        self.assertEqual(path_of("http://[::1/x"), "http://[::1/x")
        self.assertEqual(path_of(None), "-")
