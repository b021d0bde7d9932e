"""Tolerated faults of a destination: corrected for the client, and recorded as they came."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.recording.records import Kind
from logging_proxy.test.proxy_stage import Stage, Wire, get

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


class LeniencyTests(SynchronousTestCase):
    def answered(self, answer: bytes, size: int, request: bytes = b"") -> tuple[Stage, Wire]:
        stage = Stage()
        client = stage.client(request or get())
        stage.upstream.deliver(answer, size)
        stage.turn()
        return stage, client

    def check(self, came: bytes, onward: bytes, request: bytes = b"") -> None:
        """`came` goes on as `onward`, is kept as it came, and is complete."""
        for size in (1, 7, 1000):
            stage, client = self.answered(came, size, request)
            self.assertEqual(client.received(), onward)
            capture = stage.capture
            self.assertEqual((capture.outcome, stage.problems()), ("complete", []))
            self.assertEqual(capture.of(Kind.RESPONSE_HEAD), [came[: came.index(b"\r\n\r\n") + 4]])
            self.assertFalse(stage.upstream.aborted)

    def test_blank_before_the_colon(self) -> None:
        """A proxy removes it (RFC 9112 §5.1); in fields that it reads itself it counts as well."""
        self.check(
            OK + b"X-A : b\r\nX-B\t :c\r\nContent-Length: 2\r\n\r\nok",
            OK + b"X-A: b\r\nX-B:c\r\nContent-Length: 2\r\n\r\nok",
        )
        self.check(
            OK + b"Connection : x-a\r\nX-A : b\r\nContent-Length: 2\r\n\r\nok",
            OK + b"Content-Length: 2\r\n\r\nok",
        )
        hint = b"HTTP/1.1 103 Early Hints\r\nLink : a\r\n\r\n"
        stage, client = self.answered(hint + OK + b"Content-Length: 0\r\n\r\n", 1000)
        self.assertTrue(client.received().startswith(b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n"))
        self.assertEqual(stage.capture.of(Kind.INFORMATIONAL), [hint])

    def test_in_trailers(self) -> None:
        """The same in trailers, of which those that may not go on do not, however they are written."""
        trailers = b"X-A : b\r\nContent-Length : 5\r\n"
        came = CHUNKED + b"2\r\nok\r\n0\r\n" + trailers + b"\r\n"
        self.check(came, CHUNKED + b"2\r\nok\r\n0\r\nX-A: b\r\n\r\n")
        stage, _ = self.answered(came, 1000)
        self.assertEqual(stage.capture.body(Kind.RESPONSE_TRAILERS), trailers)

    def test_blanks_in_chunk_lines(self) -> None:
        """Blanks around a size have no meaning and are not forwarded; neither are extensions."""
        for line in (b"2  ", b"2\t", b"2 ;a=b", b"2;", b"2; a b"):
            self.check(CHUNKED + line + b"\r\nok\r\n0 \r\n\r\n", CHUNKED + b"2\r\nok\r\n0\r\n\r\n")

    def test_equal_lengths(self) -> None:
        """Lengths that agree become one (RFC 9110 §8.6)."""
        for lines in (
            b"Content-Length: 2\r\nContent-Length: 2\r\n",
            b"Content-Length: 2, 2\r\n",
            b"Content-Length: 002\r\n",
        ):
            self.check(OK + lines + b"\r\nok", OK + b"Content-Length: 2\r\n\r\nok")
            self.check(
                OK + lines + b"\r\n", OK + b"Content-Length: 2\r\n\r\n", get().replace(b"GET", b"HEAD")
            )

    def test_status(self) -> None:
        """A status that no class has is passed on; to the client it is as good as a 5xx (RFC 9110 §15)."""
        for status in (b"600", b"999"):
            answer = b"HTTP/1.1 " + status + b" Odd\r\nContent-Length: 2\r\n\r\nok"
            self.check(answer, answer)

    def test_upgrade_required(self) -> None:
        """A 426 names the protocol, in Upgrade and in Connection (RFC 9110 §15.5.22)."""
        self.check(
            b"HTTP/1.1 426 X\r\nConnection: upgrade\r\nUpgrade: TLS/1.3\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 426 X\r\nUpgrade: TLS/1.3\r\nContent-Length: 0\r\nConnection: Upgrade\r\n\r\n",
        )
        self.check(
            OK + b"Connection: upgrade\r\nUpgrade: h2c\r\nContent-Length: 0\r\n\r\n",
            OK + b"Content-Length: 0\r\n\r\n",
        )

    def test_large_heads(self) -> None:
        """A response's head may be four times a request's, and have more fields."""
        head = (
            OK
            + b"".join(b"X-%d: %b\r\n" % (n, b"v" * 200) for n in range(990))
            + b"Content-Length: 0\r\n\r\n"
        )
        self.assertTrue(200_000 < len(head) < 262_144)
        stage, client = self.answered(head, 65536)
        self.assertEqual(client.received(), head)
        self.assertEqual(stage.capture.of(Kind.RESPONSE_HEAD), [head])

    def test_requests_are_read_strictly(self) -> None:
        """None of this is tolerated in requests, whose senders are not chosen by the operator."""
        start = b"POST /api/x HTTP/1.1\r\nHost: here\r\n"
        for request in (
            start + b"X-A : b\r\n\r\n",
            start + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\nok",
            start + b"Content-Length: 2, 2\r\n\r\nok",
            start + b"Content-Length: 02\r\n\r\nok",
            start + b"Transfer-Encoding: chunked\r\n\r\n2 \r\nok\r\n0\r\n\r\n",
            start + b"Transfer-Encoding: chunked\r\n\r\n2;\r\nok\r\n0\r\n\r\n",
            start + b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nA : b\r\n\r\n",
        ):
            stage = Stage()
            client = stage.client(request)
            stage.turn()
            self.assertTrue(client.received().startswith(b"HTTP/1.1 400 "), request)
