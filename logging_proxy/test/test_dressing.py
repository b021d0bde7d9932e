"""Lines on terminals of every width, and their colours."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.service.console import Progress, asked_for, end_line, exchange_line
from logging_proxy.service.dressing import Dress, colours_allowed
from logging_proxy.service.figures import cut_middle, elapsed, width

ID = bytes.fromhex("092d04243f1e4f0f8c5b5c0a7d0e9f11")
BEGIN = (
    "2025-09-13 02:11:09 [092d0424] POST /lmstudio/v1/chat/completions -> "
    "http://127.0.0.1:1234/v1/chat/completions [log]"
)
END = "2025-09-13 02:11:10 [092d0424] 200 complete 7.9 s · first byte 352 ms · 1.2 kB → 16 kB"
FAILED = (
    "2025-09-13 02:11:10 [092d0424] 502 connect_failed 0.4 ms · 0 B → 85 B: "
    "no connection to 127.0.0.1:1234 could be made: Connection refused"
)
BRIEF = (
    "2025-09-13 02:11:10 [092d0424] 404 complete 0.4 ms · 0 B → 85 B · "
    "GET /a/path/that/is/long/enough/to/be/cut"
)

COLOURS = re.compile(r"\x1b\[[0-9;]*m")


class WidthTests(SynchronousTestCase):
    def rows(self, line: str, columns: int) -> list[str]:
        return Dress(colour=False)(line, columns).split("\n")

    def test_widths(self) -> None:
        """What is too wide is cut where it is known best; a reason is never cut."""
        cases: dict[tuple[str, int], list[str]] = {
            (BEGIN, 160): [BEGIN],
            (BEGIN, 120): [BEGIN],
            (BEGIN, 100): [
                "2025-09-13 02:11:09 [092d0424] POST /lmstudio/v1/chat/completions -> "
                "http://127.0…/completions [log]"
            ],
            (BEGIN, 80): ["02:11:09 [092d0424] POST /lmstudio/v1/chat/completions -> http://1…letions [log]"],
            (BEGIN, 60): ["02:11:09 [092d0424] POST /lmstudio/v1/chat/completions [log]"],
            (END, 100): [END],
            (END, 80): ["02:11:10 [092d0424] 200 complete 7.9 s · first byte 352 ms · 1.2 kB → 16 kB"],
            (END, 60): ["02:11:10 [092d0424] 200 complete 7.9 s · 1.2 kB → 16 kB"],
            (FAILED, 140): [FAILED],
            (FAILED, 80): [
                "02:11:10 [092d0424] 502 connect_failed 0.4 ms · 0 B → 85 B",
                "    no connection to 127.0.0.1:1234 could be made: Connection refused",
            ],
            (FAILED, 60): [
                "02:11:10 [092d0424] 502 connect_failed 0.4 ms · 0 B → 85 B",
                "    no connection to 127.0.0.1:1234 could be made:",
                "    Connection refused",
            ],
            (END + " · POST /v1/chat/completions", 120): [END + " · POST /v1/chat/completions"],
            (END + " · POST /v1/chat/completions", 80): [
                "02:11:10 [092d0424] 200 complete 7.9 s · 1.2 kB → 16 kB · POST /v1/…/completions"
            ],
            (BRIEF, 80): ["02:11:10 [092d0424] 404 complete 0.4 ms · 0 B → 85 B · GET /a/path…ugh/to/be/cut"],
            (BRIEF, 60): ["02:11:10 [092d0424] 404 complete 0.4 ms · GET /a/…/to/be/cut"],
        }
        for (line, columns), expected in cases.items():
            self.assertEqual(self.rows(line, columns), expected, columns)

    def test_unknown_width(self) -> None:
        """A terminal that does not tell its width gets whole lines."""
        for line in (BEGIN, END, FAILED, BRIEF):
            self.assertEqual(self.rows(line, 0), [line])

    def test_diagnostics(self) -> None:
        """Other lines stay whole, and lose their date where the others do."""
        said = "2025-09-13 02:11:09 warn: " + "x" * 200
        self.assertEqual(self.rows(said, 120), [said])
        self.assertEqual(self.rows(said, 80), [said[11:]])
        self.assertEqual(
            self.rows("    openai  OPENAI_BASE_URL=http://x", 20), ["    openai  OPENAI_BASE_URL=http://x"]
        )

    @given(
        st.integers(60, 200),
        st.sampled_from([b"GET", b"POST", b"PROPPATCH"]),
        st.text(max_size=300),
        st.text(max_size=300),
        st.booleans(),
    )
    def test_never_broken(self, columns: int, method: bytes, path: str, where: str, logged: bool) -> None:
        """Whatever is asked for, no line is wider than the terminal."""
        target = b"/" + path.replace(" ", "+").encode("utf-8", "backslashreplace")
        url = "http://up.example/" + where.replace(" ", "+").encode("utf-8", "backslashreplace").decode()
        progress = Progress(0.0, (method, target))
        progress.took = progress.first_byte = 99.0
        for line in (
            exchange_line("2025-09-13 02:11:09", ID, method, target, url, logged),
            end_line(
                "2025-09-13 02:11:09", ID, progress, "upstream_timeout", (10**13, 10**13), "", "why " * 30
            ),
            end_line("2025-09-13 02:11:09", ID, progress, "complete", (0, 0), asked_for(method, target)),
        ):
            for row in self.rows(line, columns):
                self.assertLessEqual(width(row), columns, row)


class ColourTests(SynchronousTestCase):
    def test_by_class(self) -> None:
        """Status and outcome have the colour of their class; nothing else changes."""
        cases = {
            "200 complete": "32",
            "101 complete": "32",
            "304 complete": "36",
            "404 complete": "33",
            "503 complete": "31",
            "200 client_closed": "33",
            "- client_closed": "33",
            "200 upstream_reset": "31",
            "502 connect_failed": "31",
        }
        for result, code in cases.items():
            line = END.replace("200 complete", result)
            painted = Dress(colour=True)(line, 200)
            self.assertIn(f"\x1b[{code}m{result}\x1b[0m", painted)
            self.assertEqual(COLOURS.sub("", painted), line)
            self.assertEqual(Dress(colour=False)(line, 200), line)

    def test_diagnostics(self) -> None:
        """The level of a diagnostic has a colour; a client's text has none."""
        for said, expected in (
            ("warn: x", "\x1b[33mwarn: \x1b[0mx"),
            ("worker 2: error: x", "worker 2: \x1b[31merror: \x1b[0mx"),
            ("x warn: y", "x warn: y"),
        ):
            line = Dress(colour=True)(f"2025-09-13 02:11:09 {said}", 0)
            self.assertEqual(line, f"2025-09-13 02:11:09 {expected}")
        self.assertEqual(Dress(colour=True)(BEGIN, 200), BEGIN)

    def test_asked_for(self) -> None:
        """`NO_COLOR` and a dumb terminal are respected."""
        self.assertTrue(colours_allowed({"TERM": "xterm"}))
        self.assertTrue(colours_allowed({"NO_COLOR": ""}))
        self.assertFalse(colours_allowed({"NO_COLOR": "1", "TERM": "xterm"}))
        self.assertFalse(colours_allowed({"TERM": "dumb"}))


class FigureTests(SynchronousTestCase):
    def test_elapsed(self) -> None:
        """Durations have two or three digits and a unit."""
        cases = {
            0.0: "0.0 ms",
            0.00042: "0.4 ms",
            0.0099: "9.9 ms",
            0.00999: "10 ms",
            0.352: "352 ms",
            0.9996: "1.0 s",
            7.94: "7.9 s",
            59.96: "1 min 00 s",
            123: "2 min 03 s",
            3599.6: "1 h 00 min",
            7384: "2 h 03 min",
        }
        for seconds, expected in cases.items():
            self.assertEqual(elapsed(seconds), expected)

    def test_cut_middle(self) -> None:
        """Beginning and end stay, and wide characters count twice."""
        cases = [
            ("abcdef", 6, "abcdef"),
            ("abcdefg", 6, "abc…fg"),
            ("日本語日本語", 8, "日本…語"),
            ("ab", 1, "…"),
        ]
        for text, columns, expected in cases:
            self.assertEqual(cut_middle(text, columns), expected)
            self.assertLessEqual(width(cut_middle(text, columns)), columns)
        self.assertEqual(cut_middle("ab", 0), "")
