"""Console lines: exactly as promised, without secrets, and nothing that a terminal would act upon."""

from __future__ import annotations

import unicodedata

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.service.console import LONGEST, Progress, end_line, exchange_line, safe, shown

ID = bytes.fromhex("092d04243f1e4f0f8c5b5c0a7d0e9f11")
TIME = "2025-09-13 02:11:09"


class LineTests(SynchronousTestCase):
    def line(self, target: bytes, where: str = "NOT_FOUND", recorded: bool = True) -> str:
        return exchange_line(TIME, ID, b"POST", target, where, recorded)

    def test_logged(self) -> None:
        """The line of an exchange has the form that tools build on."""
        self.assertEqual(
            self.line(b"/lmstudio/v1/chat/completions", "http://127.0.0.1:1234/v1/chat/completions"),
            "2025-09-13 02:11:09 [092d0424] POST /lmstudio/v1/chat/completions -> "
            "http://127.0.0.1:1234/v1/chat/completions [log]",
        )

    def test_not_logged(self) -> None:
        """It says where an exchange is not recorded, and what no route takes."""
        self.assertEqual(self.line(b"/x", recorded=False), f"{TIME} [092d0424] POST /x -> NOT_FOUND [no-log]")

    def test_secrets(self) -> None:
        """Neither target nor destination shows a secret; identifiers stay."""
        canary = "CANARY1234567890"
        line = self.line(
            f"/v1?key={canary}&api_key={canary}&X-Amz-Signature={canary}&model=gpt&max=5#access_token={canary}".encode(),
            f"http://user:{canary}@host/v1?sig={canary}&page=2",
        )
        self.assertNotIn(canary, line)
        for kept in ("&model=gpt", "&max=5", "REDACTED:REDACTED@host", "&page=2"):
            self.assertIn(kept, line)

    def test_odd_method(self) -> None:
        """A method that is no ASCII does not end the line's making."""
        self.assertIn("\\xff", exchange_line(TIME, ID, b"\xff", b"/", "x", True))

    def test_long_method(self) -> None:
        """A method may be a token of any length; a line shows its beginning."""
        line = exchange_line(TIME, ID, b"M" * 8000, b"/", "x", True)
        self.assertIn(f"] {'M' * 64}… / -> x", line)

    @given(st.binary(max_size=200), st.text(max_size=200))
    def test_one_line(self, target: bytes, where: str) -> None:
        """Whatever a client sends, the result is one line of characters that a terminal only shows."""
        line = self.line(target, where)
        self.assertTrue(line.isprintable(), ascii(line))
        self.assertEqual(line.splitlines(), [line])
        bad = [each for each in line if unicodedata.category(each) in ("Cc", "Cf", "Zl", "Zp", "Cs")]
        self.assertEqual(bad, [])
        self.assertTrue(line.startswith(f"{TIME} [092d0424] POST "))


class SafeTests(SynchronousTestCase):
    def test_escapes(self) -> None:
        """Controls, separators and bidirectional marks are escapes that can be read."""
        cases = {
            "a\x1b[2Jb": "a\\x1b[2Jb",
            "\r\n\t\0": "\\x0d\\x0a\\x09\\x00",
            "\x7f\x80\x9b\x9f": "\\x7f\\x80\\x9b\\x9f",
            "\u2028\u2029": "\\u2028\\u2029",
            "\u202e\u2066\u200e\u061c": "\\u202e\\u2066\\u200e\\u061c",
            "\U000e0041": "\\U000e0041",
            "\udc9b": "\\udc9b",
        }
        for text, expected in cases.items():
            self.assertEqual(safe(text), expected)

    def test_text(self) -> None:
        """Text in any language stays as it is."""
        for text in ("plain", "Grüße", "日本語", "emoji \U0001f600"):
            self.assertEqual(safe(text), text)

    def test_length(self) -> None:
        """What is long is cut, escapes included."""
        self.assertEqual(safe("x" * LONGEST), "x" * LONGEST)
        self.assertEqual(safe("x" * (LONGEST + 1)), "x" * LONGEST + "…")
        self.assertEqual(len(safe("\x1b" * LONGEST)), LONGEST + 1)
        self.assertLessEqual(len(shown(b"/" + b"\xff" * 100_000)), LONGEST + 1)

    def test_bytes(self) -> None:
        """A target is read as UTF-8 where it is UTF-8; other bytes are escapes."""
        self.assertEqual(shown("/ü".encode()), "/ü")
        self.assertEqual(shown(b"/\xfc\x9b"), "/\\xfc\\x9b")
        self.assertEqual(shown("/\u009b".encode()), "/\\x9b")


class EndLineTests(SynchronousTestCase):
    def line(
        self,
        outcome: str = "complete",
        status: str = "200",
        took: float = 7.94,
        first_byte: float | None = 0.352,
        sizes: tuple[int, int] = (1234, 15_900),
        asked: str = "",
        error: str = "",
    ) -> str:
        progress = Progress(0.0, (b"POST", b"/x"))
        progress.status, progress.took, progress.first_byte = status, took, first_byte
        line = end_line("2025-09-13 02:11:10", ID, progress, outcome, sizes, asked, error)
        begin, _, rest = line.partition("[092d0424] ")
        self.assertEqual(begin, "2025-09-13 02:11:10 ")
        return rest

    def test_lines(self) -> None:
        """The second line has status, outcome, times, sizes, and the reason if there is one."""
        cases = [
            (self.line(), "200 complete 7.9 s · first byte 352 ms · 1.2 kB → 16 kB"),
            (
                self.line(status="429", took=0.0803, first_byte=0.08),
                "429 complete 80 ms · first byte 80 ms · 1.2 kB → 16 kB",
            ),
            (
                self.line("client_closed", took=75.0),
                "200 client_closed 1 min 15 s · first byte 352 ms · 1.2 kB → 16 kB",
            ),
            (self.line("client_closed", "-", 2.0, None, (5, 0)), "- client_closed 2.0 s · 5 B → 0 B"),
            (
                self.line("connect_failed", "502", 0.0004, None, (0, 85), error="a\nb"),
                "502 connect_failed 0.4 ms · 0 B → 85 B: a\\x0ab",
            ),
            (
                self.line(asked="POST /v1/x"),
                "200 complete 7.9 s · first byte 352 ms · 1.2 kB → 16 kB · POST /v1/x",
            ),
        ]
        for line, expected in cases:
            self.assertEqual(line, expected)
