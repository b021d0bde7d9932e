"""Secrets in bodies, plain, streamed and compressed, through every outlet: none of them, all of the rest."""

from __future__ import annotations

import gzip
import json
import os
import zlib
from collections.abc import Iterator

from logging_proxy.test.cli_stage import command
from logging_proxy.test.test_secret_bodies import (
    CANARY,
    HARMLESS_LINES,
    MEMBERS,
    SECRETS,
    in_pieces,
    parts_of,
    seen,
    sse,
)
from logging_proxy.test.web_stage import ServerTestCase

WORD = "besideword"
REQUEST = json.dumps(
    {"model": "m", "texts": [f"{WORD} {text}" for text in SECRETS], "members": MEMBERS}
).encode()
STREAM = "".join(
    sse(list(in_pieces(json.dumps({"note": f"{WORD} {text}"}))))
    + sse([{"type": "x", "delta": part} for part in [*parts_of(text), " . "]])
    for text in (*SECRETS[:6], *SECRETS[40:46])
).encode()


class OutletTests(ServerTestCase):
    def keep(self, number: int, request: bytes, response: bytes, fields: bytes, kind: bytes) -> str:
        """Capture an exchange; `fields` and `kind` go into the heads."""
        script = self.script(number)
        self.record(
            script.head(b"Host: h\r\nContent-Type: application/json\r\n" + fields),
            script.request(request, last=True),
            script.response_head(b"HTTP/1.1 200 OK\r\nContent-Type: " + kind + b"\r\n" + fields + b"\r\n"),
            script.response(response, last=True),
            script.end(),
        )
        self.publish()
        return self.id_of(number)

    def told(self, id: str) -> Iterator[tuple[str, bytes]]:
        """What every outlet tells of an exchange."""
        yield "the API", json.dumps(self.get(f"/api/exchanges/{id}")).encode()
        yield "the list", json.dumps(self.get(f"/api/exchanges?q={WORD}")).encode()
        assert self.parts.index is not None
        yield "the index", repr(self.parts.index.texts(id)).encode()
        file = f"{self.mktemp()}.bin"
        for words in (
            ("show", id),
            ("show", id, "--body", "request"),
            ("show", id, "--body", "response"),
            ("show", id, "--json"),
            ("show", id, "--stream"),
            ("show", id, "--stream", "--json"),
            ("show", id, "--raw"),
            ("show", id, "--raw", "--body", "response"),
            ("search", WORD),
            ("search", WORD, "--json"),
            ("export", id, "--raw", "--half", "request"),
            ("export", id, "--raw", "--half", "response"),
            ("export", id, "--curl", "-o", file),
        ):
            status, out, err = command("--log-dir", self.log_dir, *words)
            self.assertEqual(status, 0, (words, err.text))
            if words[0] in ("show", "export"):
                self.assertIn("REDACTED: ", err.text, words)
            yield " ".join(words), out.raw + err.raw
            if words[2:] == ("--stream", "--json"):
                events = json.loads(out.text)["events"]
                yield "--stream, joined", "".join(f"data: {event['data']}\n" for event in events).encode()
        if os.path.exists(file):
            with open(file, "rb") as content:
                yield "the file for curl", content.read()

    def assertNothingTold(self, id: str) -> None:
        for outlet, data in self.told(id):
            text = seen(opened(data))
            at = text.find(CANARY)
            self.assertEqual(at, -1, (outlet, text[max(0, at - 80) : at + 20]))
            if outlet not in ("the API", "the list") and "--stream" not in outlet and "--curl" not in outlet:
                self.assertIn(WORD, text, outlet)

    def test_plain(self) -> None:
        """No outlet tells what a body has of secrets, and all of them tell what is beside."""
        self.assertNothingTold(self.keep(7, REQUEST, REQUEST, b"", b"application/json"))

    def test_streamed(self) -> None:
        """Nor what a stream sends in pieces."""
        self.assertNothingTold(self.keep(7, REQUEST, STREAM, b"", b"text/event-stream"))

    def test_compressed(self) -> None:
        """Nor what a compressed body has."""
        fields = b"Content-Encoding: gzip\r\n"
        id = self.keep(7, gzip.compress(REQUEST), gzip.compress(STREAM), fields, b"text/event-stream")
        self.assertNothingTold(id)

    def test_decoded(self) -> None:
        """A compressed body with secrets is exported decoded, with a head that is true; else it stays."""
        secret, harmless = gzip.compress(b'{"password":"hunter2"}'), gzip.compress(b'{"a":"b"}')
        fields = b"Content-Encoding: gzip\r\nContent-Length: %d\r\n"
        id = self.keep(7, secret, harmless, fields % len(secret), b"application/json")
        _, out, err = command("--log-dir", self.log_dir, "export", id, "--raw", "--half", "request")
        self.assertNotIn(b"Content-Encoding", out.raw)
        self.assertIn(b"Content-Length: 23\r\n", out.raw)
        self.assertTrue(out.raw.endswith(b'\r\n\r\n{"password":"REDACTED"}'), out.raw)
        self.assertIn("1 secret is REDACTED: password", err.text)
        _, out, err = command("--log-dir", self.log_dir, "export", id, "--raw", "--half", "response")
        self.assertTrue(out.raw.endswith(harmless))
        self.assertEqual(err.text, "")

    def test_unreadable(self) -> None:
        """What cannot be decoded is not exported, since nothing is known of it; `--reveal` gives it."""
        coded = zlib.compress(REQUEST)[5:] + b"\x00\xff"
        id = self.keep(7, coded, b"{}", b"Content-Encoding: rot13\r\n", b"application/json")
        for words in (("export", id, "--raw"), ("show", id, "--raw"), ("export", id, "--curl")):
            status, out, err = command("--log-dir", self.log_dir, *words)
            self.assertNotEqual(status, 0, words)
            self.assertEqual(out.raw, b"")
            self.assertIn("coding", err.text)
        status, out, err = command("--log-dir", self.log_dir, "export", id, "--raw", "--reveal")
        self.assertTrue(out.raw.endswith(coded))

    def test_harmless(self) -> None:
        """What only looks like a secret is shown and exported as it is, and nothing is said."""
        body = json.dumps({"texts": HARMLESS_LINES.strip().split("\n")}).encode()
        id = self.keep(7, body, body, b"", b"application/json")
        for words in (("export", id, "--raw"), ("show", id, "--raw", "--body", "response")):
            _, out, err = command("--log-dir", self.log_dir, *words)
            self.assertTrue(out.raw.endswith(body))
            self.assertEqual(err.text, "")


def opened(data: bytes) -> bytes:
    """`data`, with a gzip body in it decoded."""
    at = data.find(b"\x1f\x8b\x08")
    return data if at < 0 else data + zlib.decompressobj(31).decompress(data[at:])
