"""What a body is, is told by its bytes where its type tells nothing, or something wrong."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.understanding.media_types import Form, form_of

GENERAL = (
    "",
    "application/octet-stream",
    "text/plain",
    "text/plain;charset=UTF-8",
    "binary",
    "application/x-thing",
)
FORM = "application/x-www-form-urlencoded"
JSON = "application/json"
EVENTS = "text/event-stream"
LINES = "application/x-ndjson"

SEEN = {
    Form.JSON: (
        b'{"model": "m"}',
        b'{\n  "model": "m",\n  "a": [1, {"b": 2}]\n}\n',
        b' \r\n[{"a": 1}]',
        b'["a", "b"]',
        b"[1, 2]",
        b"[\n]",
        b"{}",
        b"\xef\xbb\xbf{}",
        '{"text": "é"}'.encode("utf-16"),
        b'{"model": "cut',
        b'{"a long name',
    ),
    Form.JSON_LINES: (
        b'{"a": 1}\n{"a": 2}\n',
        b'{"a": {}}\r\n\r\n{"a": 2}',
        b'[{"a": 1}]\n[{"b": 2}]\n',
        b'\x1e{"a": 1}\n\x1e{"a": 2}\n',
        b'{"a": "%b"}\n{"b": 1}' % (b"x" * 10_000),
    ),
    Form.EVENTS: (
        b'data: {"a": 1}\n\ndata: [DONE]\n\n',
        b"event: message_start\r\ndata: {}\r\n\r\n",
        b": PROCESSING\n\n: PROCESSING\n\ndata: {}\n\n",
        b"\xef\xbb\xbfdata:x\r\rdata:y\r\r",
        b"id: 1\nretry: 100\nevent: a\ndata: b\n\nanything",
        b'data: {"cut',
        b"data: x\nda",
    ),
    Form.MULTIPART: (b'--B\r\nContent-Disposition: form-data; name="a"\r\n\r\nb\r\n--B--\r\n',),
}
"""Bodies whose bytes tell what they are."""


class BytesTests(SynchronousTestCase):
    def test_general_types(self) -> None:
        """Without a type, or with a type that tells nothing, the bytes decide."""
        for form, bodies in SEEN.items():
            for body in bodies:
                for kind in GENERAL:
                    self.assertIs(form_of(kind, body), form, f"{body[:40]!r} as {kind!r}")

    def test_wrong_types(self) -> None:
        """JSON as a form, a stream as JSON, an error in JSON as a stream: each is what it is."""
        for form in (Form.JSON, Form.JSON_LINES, Form.EVENTS):
            for body in SEEN[form]:
                for kind in (FORM, JSON, EVENTS, "image/png", "text/html"):
                    self.assertIs(form_of(kind, body), form, f"{body[:40]!r} as {kind}")
        self.assertIs(form_of(LINES, b'{\n"a": 1\n}'), Form.JSON)

    def test_lines_that_have_just_begun(self) -> None:
        """Of declared lines one is enough."""
        for body in (b'{"a": 1}\n', b'{"a": 1}', b'{"a', b""):
            self.assertIs(form_of(LINES, body), Form.JSON_LINES, body)

    def test_text_stays_text(self) -> None:
        """Prose, logs, templates, YAML and source code are not taken for something else."""
        for body in (
            b"[1] Smith et al.",
            b"[INFO] started",
            b"[true story]",
            b"{name} is a template",
            b"{{ mustache }}",
            b"id: 5\nname: x\n",
            b"data\nmore data\n",
            b"-- a comment in SQL\n",
            b"---\ntitle: x\n---\n",
            b": a colon\nand more",
            b"a=1 and b=2",
            b"\x1b[31mred\x1b[0m\n",
            "naïve".encode(),
        ):
            for kind in GENERAL:
                self.assertIs(form_of(kind, body), Form.TEXT, f"{body!r} as {kind!r}")

    def test_declared(self) -> None:
        """Where the bytes do not contradict it, the declared type is right."""
        for kind, body, form in (
            (JSON, b'"only a string"', Form.JSON),
            (JSON, b"[INFO", Form.JSON),
            (EVENTS, b": a comment\n\n", Form.EVENTS),
            (FORM, b"a=b&c=%41", Form.FIELDS),
            (FORM, b"a=b c", Form.FIELDS),
            ("text/html", b"<p>a</p>", Form.MARKUP),
            ("image/svg+xml", b"<svg>", Form.MARKUP),
            ("image/png", b"abc", Form.BINARY),
            ("multipart/form-data; boundary=B", b"preamble\r\n--B\r\n", Form.MULTIPART),
            ("application/vnd.api+json", b"1", Form.JSON),
            ("application/jsonl", b"1\n2\n", Form.JSON_LINES),
        ):
            self.assertIs(form_of(kind, body), form, f"{body!r} as {kind}")

    def test_not_a_form(self) -> None:
        """A text that `curl -d` sent as a form is a text."""
        self.assertIs(form_of(FORM, b"some words = or none"), Form.TEXT)
        self.assertIs(form_of("", b"a=b&c=d"), Form.FIELDS)

    def test_binary(self) -> None:
        """Bytes that are no text are binary under every type."""
        for body in (
            b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
            b"\x1f\x8b\x08\0\0\0",
            bytes(range(128, 256)),
            b"\0" * 9,
        ):
            for kind in (*GENERAL, JSON, EVENTS, LINES, FORM):
                self.assertIs(form_of(kind, body), Form.BINARY, f"{body[:8]!r} as {kind!r}")
        self.assertIs(form_of("", b"text first\n" * 1000 + b"\0" * 2000), Form.BINARY)

    def test_page(self) -> None:
        """A page without a type is markup."""
        for body in (b"<!DOCTYPE html><p>", b"<?xml version='1.0'?><a/>", b"\n<html>"):
            self.assertIs(form_of("", body), Form.MARKUP)

    @given(
        st.binary(max_size=300), st.text(max_size=40) | st.sampled_from([*GENERAL, FORM, JSON, EVENTS, LINES])
    )
    def test_anything(self, body: bytes, kind: str) -> None:
        """Any bytes under any type have a form."""
        self.assertIsInstance(form_of(kind, body), Form)

    @given(
        st.dictionaries(st.text(), st.integers() | st.text(), min_size=1), st.sampled_from(GENERAL), st.data()
    )
    def test_cut_json(self, value: dict[str, object], kind: str, data: st.DataObject) -> None:
        """JSON that is cut anywhere after its first quote is still seen as JSON."""
        body = json.dumps(value).encode()
        cut = data.draw(st.integers(body.index(b'"') + 1, len(body)))
        self.assertIs(form_of(kind, body[:cut]), Form.JSON)
