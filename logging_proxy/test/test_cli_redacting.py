"""Bodies without their secrets, however long they are, and otherwise as they were."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.cli.body_json import LazyBody, json_pieces, with_members
from logging_proxy.cli.redacting import redacted_data
from logging_proxy.cli.secrets import Redactor
from logging_proxy.understanding.bodies import Body

KEY = "sk-proj-abcdefghijklmnopqrstuvwxyz0123456789"
PART = '--B\r\nContent-Disposition: form-data; name="{}"{}\r\n\r\n{}\r\n'.format
UPLOAD = (
    PART("model", "", "whisper-1").encode()
    + PART("api_key", "", "canary").encode()
    + PART("file", '; filename="a"\r\nContent-Type: audio/mpeg', "").encode()[:-2]
    + b"\xff\xfb\0\1\r\n"
    + PART("more", "", f"use {KEY}").encode()
    + b"--B--\r\n"
)
UPLOAD_TYPE = "multipart/form-data; boundary=B"


class BytesTests(SynchronousTestCase):
    def redacted(self, body: bytes, kind: str, redactor: Redactor | None = None) -> bytes:
        return b"".join(redacted_data(Body([body], kind, "identity"), redactor or Redactor()))

    def test_form(self) -> None:
        """JSON that was sent as a form is redacted as JSON."""
        body = b'{"password": "canary-12345", "a": "b=c&d"}'
        shown = self.redacted(body, "application/x-www-form-urlencoded")
        self.assertEqual(shown, b'{"password": "REDACTED", "a": "b=c&d"}')

    def test_parts(self) -> None:
        """Secret fields and secrets in texts go from an upload, and not a byte else."""
        redactor = Redactor()
        shown = self.redacted(UPLOAD, UPLOAD_TYPE, redactor)
        self.assertEqual(shown, UPLOAD.replace(b"canary", b"REDACTED").replace(KEY.encode(), b"REDACTED"))
        self.assertEqual(redactor.count, 2)

    def test_charsets(self) -> None:
        """A secret is found in every charset, and the body stays in its charset."""
        for charset in ("utf-8", "utf-8-sig", "gb18030", "shift_jis", "utf-16", "utf-16-be", "latin-1"):
            text = json.dumps({"password": "canary", "text": "abc"})
            kind = f"application/json; charset={charset.removesuffix('-sig')}"
            shown = self.redacted(text.encode(charset), kind)
            self.assertEqual(shown.decode(charset), text.replace("canary", "REDACTED"), charset)

    @given(st.binary(max_size=200), st.sampled_from(["", "gbk", "shift_jis", "euc-kr", "utf-8"]))
    def test_harmless(self, body: bytes, charset: str) -> None:
        """Bytes without a secret come back, whatever their charset is said to be."""
        body = bytes(byte if byte not in b"=:@" else 32 for byte in body)
        shown = self.redacted(body, f"text/plain; charset={charset}")
        self.assertEqual(shown, body)


class JsonTests(SynchronousTestCase):
    def lazy(self, data: bytes, kind: str, redactor: Redactor) -> LazyBody:
        return LazyBody(lambda: Body([data], kind), redactor)

    def view(self, data: bytes, kind: str = "") -> object:
        body = self.lazy(data, kind, Redactor())
        return json.loads("".join(json_pieces({"id": 1, "body": body})))["body"]

    def test_bodies(self) -> None:
        """Text is text, other bytes are base64, and what was wrong is said."""
        self.assertEqual(self.view('{"a": "é😀", "password": "canary"}'.encode()),
                         {"text": '{"a": "é😀", "password": "REDACTED"}'})  # fmt: skip
        self.assertEqual(self.view(b"\0\1\2\3"), {"base64": "AAECAw=="})
        self.assertEqual(
            self.view(b"mostly text \xff"),
            {"text": "mostly text \\xff", "trouble": "some bytes are invalid in their charset"},
        )

    def test_parts(self) -> None:
        """A multipart body has its parts, secret fields without their values."""
        self.assertEqual(
            self.view(UPLOAD, UPLOAD_TYPE),
            {
                "parts": [
                    {"name": "model", "text": "whisper-1"},
                    {"name": "api_key", "text": "REDACTED"},
                    {"name": "file", "filename": "a", "content_type": "audio/mpeg", "base64": "//sAAQ=="},
                    {"name": "more", "text": "use REDACTED"},
                ]
            },
        )

    def test_members(self) -> None:
        """A body's members stand beside others; what comes one by one is an array."""
        body = self.lazy(b"a", "", Redactor())
        self.assertEqual(json.loads("".join(with_members({"id": 1}, body))), {"id": 1, "text": "a"})
        self.assertEqual("".join(json_pieces({"a": iter([1, {"b": 2}])})), '{"a":[1,{"b":2}]}')

    def test_bounded(self) -> None:
        """A long body is held while it is searched, and no more than twice."""

        def pieces() -> Iterator[bytes]:
            yield b'{"image": "'
            for _ in range(200):
                yield b"QUJDabc+" * 10_000
            yield b'", "model": "m"}'

        tracemalloc.start()
        try:
            size = sum(map(len, json_pieces(LazyBody(lambda: Body(pieces(), ""), Redactor()))))
            self.assertGreater(size, 16_000_000)
            self.assertLess(tracemalloc.get_traced_memory()[1], 36 << 20)
        finally:
            tracemalloc.stop()
