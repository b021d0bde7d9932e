"""What `show` writes: heads, bodies, JSON laid out; safe for a terminal whatever was captured."""

from __future__ import annotations

import gzip
import json

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.cli import render
from logging_proxy.cli.jsontext import is_json, json_fragments, lines_of
from logging_proxy.cli.matching import Search
from logging_proxy.cli.messages import Message, open_message
from logging_proxy.cli.paint import Paint
from logging_proxy.cli.redacting import redacted_events
from logging_proxy.cli.secrets import Redactor
from logging_proxy.cli.sources import Exchange, Found
from logging_proxy.cli.streams import StreamEvent
from logging_proxy.understanding.media_types import Form

KEY = "sk-proj-abcdefghijklmnopqrstuvwxyz"
PLAIN = Paint()

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=20,
)


def message(head: bytes, body: bytes = b"") -> Message:
    content = head.replace(b"\n", b"\r\n") + b"\r\n\r\n" + body
    return open_message(lambda: iter([content]))


def body_text(message: Message, reveal: bool = True) -> str:
    return "\n".join(render.body_lines(message.body(), Redactor(reveal), PLAIN))


class JSONTests(SynchronousTestCase):
    def lay_out(self, text: str, reveal: bool = False) -> list[str]:
        return list(lines_of(json_fragments([Redactor(reveal).body(text, Form.JSON)], PLAIN)))

    def test_layout(self) -> None:
        """Members and items stand on lines of their own; what is empty stays in one."""
        self.assertEqual(
            self.lay_out('{"a":[1,{"b":null}],"c":[],"d":{},"e":"x"}'),
            [
                *("{", '  "a": [', "    1,", "    {", '      "b": null', "    }", "  ],"),
                *('  "c": [],', '  "d": {},', '  "e": "x"', "}"),
            ],
        )

    def test_exact(self) -> None:
        """Numbers, duplicates and order stay as they were sent."""
        text = '{"z":1.10,"a":1e400,"z":100000000000000000000000000001}'
        self.assertEqual("".join(line.strip() for line in self.lay_out(text)).replace(": ", ":"), text)

    @given(JSON)
    def test_same_value(self, value: object) -> None:
        """Laid out it is the same value, and every line can be printed."""
        lines = self.lay_out(json.dumps(value, ensure_ascii=False), reveal=True)
        self.assertEqual(json.loads("\n".join(lines)), value)
        for line in lines:
            self.assertTrue(line.isprintable(), line)

    def test_secrets(self) -> None:
        """Members that are named like secrets lose their values, and known secrets go wherever they stand."""
        inner = json.dumps({"password": "hunter22", "x": 1})
        text = json.dumps({"api_key": "abc", "text": f"use {KEY} now", "arguments": inner, KEY: 1})
        shown = "\n".join(self.lay_out(text))
        for secret in ("abc", KEY, "hunter22"):
            self.assertNotIn(secret, shown)
        json.loads(shown)
        self.assertIn(KEY, "\n".join(self.lay_out(text, reveal=True)))

    def test_too_deep(self) -> None:
        """JSON that is too deep for Python's parser is laid out like any other; what is cut is no JSON."""
        deep = "[" * 100_000 + "]" * 100_000
        self.assertTrue(is_json(deep))
        self.assertEqual(sum(1 for _ in self.lay_out(deep)), 2 * 100_000 - 1)
        self.assertFalse(is_json('{"a":'))


class BodyTests(SynchronousTestCase):
    def test_decoded(self) -> None:
        """Content codings are undone."""
        head = b"HTTP/1.1 200 OK\nContent-Encoding: gzip\nContent-Type: application/json"
        self.assertEqual(body_text(message(head, gzip.compress(b'{"a":1}'))), '{\n  "a": 1\n}')

    def test_cut(self) -> None:
        """A coded body that was cut is shown as far as it goes, and said to be cut."""
        head = b"HTTP/1.1 200 OK\nContent-Encoding: gzip\nContent-Type: text/plain"
        shown = body_text(message(head, gzip.compress(b"all of it" * 1000)[:-10]))
        self.assertIn("all of it", shown)
        self.assertIn("[the body ends in the middle]", shown)

    def test_text(self) -> None:
        """Of a text the lines stay, tabs become spaces, and all else that is not printable an escape."""
        shown = body_text(message(b"HTTP/1.1 200 OK\nContent-Type: text/plain", b"a\tb\r\n\x1b[31mred\rx\n"))
        self.assertEqual(shown, "a       b\n\\x1b[31mred\\x0dx")

    def test_binary(self) -> None:
        """Of what is no text the beginning is shown in hex."""
        shown = body_text(message(b"HTTP/1.1 200 OK\nContent-Type: image/png", b"\x89PNG\x00\x1b" * 100))
        self.assertIn("[image/png, 600 bytes, not text]", shown)
        self.assertIn("89 50 4e 47 00 1b", shown)
        self.assertEqual(len(shown.splitlines()), 17)

    @given(
        st.binary(max_size=300),
        st.sampled_from(["", "text/html", "application/json", "x/\x1b", "a;charset=x"]),
    )
    def test_anything(self, body: bytes, kind: str) -> None:
        """Whatever a body holds, every line of it can be printed."""
        head = f"HTTP/1.1 200 OK\nContent-Type: {kind}".encode()
        for line in body_text(message(head, body)).splitlines():
            self.assertTrue(line.isprintable(), line)

    def test_charset(self) -> None:
        """A declared charset is used, one that is not known is not; invalid bytes are seen, and said."""
        head = "HTTP/1.1 200 OK\nContent-Type: application/json; charset={}".format
        for charset, text in (
            ("gb2312", "数据库针"),
            ("x-sjis", "データ"),
            ("utf-16", "针"),
            ("latin1", "é"),
        ):
            body = f'"{text}"'.encode(charset.removeprefix("x-"))
            self.assertEqual(body_text(message(head(charset).encode(), body)), f'"{text}"')
        self.assertEqual(body_text(message(head("rot13").encode(), '"é"'.encode())), '"é"')
        shown = body_text(
            message(b"HTTP/1.1 200 OK\nContent-Type: text/plain", b"valid for the most\xff part")
        )
        self.assertIn("most\\xff part", shown)
        self.assertIn("[some bytes are invalid in their charset]", shown)

    def test_shortened(self) -> None:
        """A long body is shown in part, and how to see the rest is said; colours end with their line."""
        lines = list(render.shortened((str(n) for n in range(1000)), "do this", PLAIN))
        self.assertEqual(len(lines), render.SHOWN_LINES + 1)
        self.assertIn("do this", lines[-1])
        paint = Paint(True)
        (first, *_) = render.shortened([paint("x" * 100_000, "green")], "do this", paint)
        self.assertEqual(first, "x" * render.SHOWN_LINE + "…")


class HeadTests(SynchronousTestCase):
    HEAD = (
        b"POST /v1/chat?key=topsecret HTTP/1.1\nHost: a\nauthorization: Bearer " + KEY.encode() + b"\n"
        b"X-Evil: \x1b[2J\nCookie: sid=1"
    )

    def lines(self, redactor: Redactor) -> list[str]:
        return list(render.head_lines(message(self.HEAD), ">", redactor, PLAIN))

    def test_redacted(self) -> None:
        """Order and case stay, secrets go, from the target too, and are counted."""
        redactor = Redactor()
        self.assertEqual(
            self.lines(redactor),
            [
                "> POST /v1/chat?key=REDACTED HTTP/1.1",
                *("> Host: a", "> authorization: REDACTED", "> X-Evil: \\x1b[2J", "> Cookie: REDACTED"),
            ],
        )
        self.assertEqual(redactor.count, 3)

    def test_revealed(self) -> None:
        """What is to be revealed is there; escapes stay escapes."""
        shown = "\n".join(self.lines(Redactor(True)))
        self.assertIn(KEY, shown)
        self.assertIn("key=topsecret", shown)
        self.assertNotIn("\x1b", shown)

    def test_summary_of_anything(self) -> None:
        """The summary of an exchange of which everything is hostile, or missing, can be printed."""
        evil = "\x1b[2J\u202e"
        names = ("method", "source_url", "destination_url", "route", "client", "model", "error", "outcome")
        row = {"id": evil, **{name: evil for name in names}, "response": {"filename": evil, "bytes": 3}}
        for exchange in (Exchange(row), Exchange({"id": "x"})):
            for line in render.summary(exchange, Redactor(), PLAIN):
                self.assertTrue(line.isprintable(), line)


class LineTests(SynchronousTestCase):
    def test_event(self) -> None:
        """An event has its time, the gap before it, its kind and its data in one line that fits."""
        event = StreamEvent(1_250_000, f'{{"token":"{KEY}"}}\nx\x1b', "delta", whole=False)
        (event,) = redacted_events([event], Redactor())
        line = render.event_line(event, 1_000_000, PLAIN)
        self.assertRegex(line, r"^ +1\.250000 s +\+250 ms  delta  \{")
        self.assertTrue(line.endswith("[cut]"))
        self.assertNotIn(KEY, line)
        self.assertTrue(line.isprintable())
        self.assertEqual(len(render.event_line(event, 0, PLAIN, 60)), 60)

    def test_snippet(self) -> None:
        """Words that were found are marked, and nothing else changes."""
        found = Found({}, "response", "…the Quick\x1b fox…")
        self.assertEqual(
            render.snippet_line(found, Search("quick"), PLAIN), "    response: …the Quick\\x1b fox…"
        )
        self.assertIn("\x1b[1;33mQuick\x1b[0m", render.snippet_line(found, Search("quick"), Paint(True)))

    def test_json_is_ascii(self) -> None:
        """JSON lines hold nothing that a terminal acts upon."""
        line = render.json_line({"a": "\x1b\x9b\u202eé"})
        self.assertTrue(line.isascii() and line.isprintable())
