"""Answers of our own."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.http.heads import parse_request_head
from logging_proxy.proxy.answers import Reply, answer
from logging_proxy.recording.records import Flag, Kind
from logging_proxy.test.proxy_stage import get

GET = parse_request_head(get(), 200)


class AnswerTests(SynchronousTestCase):
    def test_whole(self) -> None:
        """Status, date, own fields, a type that no browser guesses about, and the length."""
        ours = answer(GET, True, 0.0, Reply(404, b"no\n", "", ((b"A", b"1"),)))
        self.assertEqual(
            ours.head,
            b"HTTP/1.1 404 Not Found\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nA: 1\r\n"
            b"Content-Type: text/plain; charset=utf-8\r\nX-Content-Type-Options: nosniff\r\n"
            b"Content-Length: 3\r\n\r\n",
        )
        self.assertEqual((ours.body, ours.keep_alive), (b"no\n", True))

    def test_empty(self) -> None:
        """Nothing has no type."""
        self.assertNotIn(b"Content-Type", answer(GET, True, 0.0, Reply(200, b"", "")).head)

    def test_reasons(self) -> None:
        """Every status has its reason phrase."""
        for status in (200, 307, 400, 404, 405, 500, 502, 503, 504, 508):
            line = answer(GET, True, 0.0, Reply(status, b"", "")).head.partition(b"\r\n")[0]
            self.assertRegex(line, rb"^HTTP/1\.1 \d{3} [A-Z][A-Za-z ]+$")

    def test_close(self) -> None:
        """A connection that does not stay is told so; HTTP/1.0's never does."""
        old = parse_request_head(get("/x", "Connection: keep-alive", version="1.0"), 200)
        for head, may in ((GET, False), (old, True)):
            ours = answer(head, may, 0.0, Reply(404, b"no\n", ""))
            self.assertIn(b"\r\nConnection: close\r\n", ours.head)
            self.assertFalse(ours.keep_alive)

    def test_bad_request(self) -> None:
        """A malformed request is the last of its connection."""
        self.assertFalse(answer(GET, True, 0.0, Reply(400, b"no\n", "")).keep_alive)

    def test_records(self) -> None:
        """It is recorded as ours, and as complete."""
        ours = answer(GET, True, 0.0, Reply(404, b"no\n", ""))
        self.assertEqual(
            ours.records,
            ((Kind.RESPONSE_HEAD, Flag.OURS, ours.head), (Kind.RESPONSE_PIECE, Flag.LAST, b"no\n")),
        )
