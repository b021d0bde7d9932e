"""Refused input is recorded and named in the error, and both are the same for any split by TCP."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.http.gathering import MOMENT
from logging_proxy.http.server import ServerLimits
from logging_proxy.recording.records import Kind, Record
from logging_proxy.test.proxy_stage import Stage, Wire, get, limits, ok, post

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
HOST = b"Host: here\r\n"
CHUNKED_POST = b"POST /api/x HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"

RESPONSES: dict[str, tuple[bytes, bytes, str]] = {
    "not HTTP": (b"", b"SSH-2.0-x\r\nmore\r\n", "not an HTTP/1.1 response: SSH-2.0-x"),
    "no line at all": (b"", b"\x15\x03\x01\x00\x02\x02\x46", r"not an HTTP/1.1 response: \x15\x03\x01"),
    "status line": (b"", b"HTTP/1.1 2oo OK\r\nA: b\r\n\r\nx", "malformed status line: HTTP/1.1 2oo OK"),
    "bare LF": (
        b"",
        b"HTTP/1.1 200 OK\nA: b\nContent-Length: 2\n\nok",
        r"malformed status line: HTTP/1.1 200 OK\n",
    ),
    "field": (b"", OK + b"X y: z\r\nContent-Length: 2\r\n\r\nok", "malformed header field: X y: z"),
    "folded": (b"", OK + b"X: y\r\n z\r\n\r\nok", "malformed header field: (a continuation)"),
    "LF behind a bad field": (b"", OK + b"X y: z\r\nA: b\nC: d\r\n\r\n", "malformed header field: X y: z"),
    "two lengths": (
        b"",
        OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nok",
        "Content-Length fields that differ: Content-Length: 3",
    ),
    "length and chunks": (
        b"",
        OK + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "both Content-Length and Transfer-Encoding",
    ),
    "behind an interim head": (
        b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n",
        b"HTTP/1.1 2 OK\r\n\r\n",
        "malformed status line: HTTP/1.1 2 OK",
    ),
    "101 unasked": (
        b"",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\nraw",
        "switching protocols without being asked",
    ),
    "chunk line": (CHUNKED + b"2\r\nok\r\n", b"zz;a\r\nmore", "a malformed chunk line: zz;a"),
    "chunk line at once": (CHUNKED, b"zz\r\n", "a malformed chunk line: zz"),
    "chunk's end": (CHUNKED + b"2\r\nok", b"ko\r\n0\r\n\r\n", "a chunk longer than its size"),
    "trailer": (
        CHUNKED + b"2\r\nok\r\n",
        b"0;x=y\r\nA: b\r\nC d\r\n\r\n",
        "a malformed trailer field: C d",
    ),
}
"""The valid part, the refused part, and the beginning of the error."""

REQUESTS: dict[str, tuple[bytes, bytes, int, str]] = {
    "request line": (
        b"",
        b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
        400,
        "malformed request line: GET  / HTTP/1.1",
    ),
    "version": (
        b"",
        b"GET / HTTP/2.0\r\nHost: a\r\n\r\nx",
        505,
        "HTTP version not supported: GET / HTTP/2.0",
    ),
    "bare LF": (b"", b"GET / HTTP/1.1\nHost: a\n\n", 400, r"malformed request line: GET / HTTP/1.1\n"),
    "field": (b"", b"GET / HTTP/1.1\r\nX : y\r\nHost: a\r\n\r\n", 400, "malformed header field: X : y"),
    "LF behind a bad field": (
        *(b"", b"GET / HTTP/1.1\r\nX : y\r\nHost: a\nA: b\r\n\r\n"),
        *(400, "malformed header field: X : y"),
    ),
    "no Host": (b"", b"GET / HTTP/1.1\r\nA: b\r\n\r\nx", 400, "no Host field"),
    "TLS": (
        b"",
        b"\x16\x03\x01\x02\x00\x01\x00",
        400,
        "TLS on a port that speaks plain HTTP: use http:// in the URL",
    ),
    "coding": (
        *(b"", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\nx"),
        *(501, "transfer coding not supported"),
    ),
    "chunk line": (CHUNKED_POST + b"2\r\nok\r\n", b"2 \r\nko\r\n", 400, "a malformed chunk line: 2 "),
    "chunk line at once": (CHUNKED_POST, b"x\r\n", 400, "a malformed chunk line: x"),
    "chunk's end": (CHUNKED_POST + b"2\r\nok", b"!!!", 400, "a chunk longer than its size"),
    "trailer": (
        CHUNKED_POST + b"2\r\nok\r\n",
        b"0\r\nA : b\r\n\r\n",
        400,
        "a malformed trailer field: A : b",
    ),
}


def told(records: list[Record]) -> list[Any]:
    """The records' content, independent of the pieces of a body."""
    found: list[Any] = []
    for kind, flags, _, _, content in records:
        if found and found[-1][:2] == [kind, flags] and kind in (Kind.REQUEST_PIECE, Kind.RESPONSE_PIECE):
            found[-1][2] += content
        elif content or kind not in (Kind.REQUEST_PIECE, Kind.RESPONSE_PIECE):
            found.append([kind, flags, bytes(content)])
    return found


def cuts(data: bytes) -> list[list[bytes]]:
    """`data` whole, in two pieces of any sizes, and bytewise."""
    return [
        [data],
        *([data[:at], data[at:]] for at in range(1, len(data))),
        [data[at : at + 1] for at in range(len(data))],
    ]


class ResponseTests(SynchronousTestCase):
    def play(self, pieces: list[bytes]) -> tuple[Stage, Wire]:
        stage = Stage()
        client = stage.client(get())
        for piece in pieces:
            stage.upstream.deliver(piece, last=False)
        stage.clock.advance(MOMENT)
        stage.turn()
        return stage, client

    def test_same_however_it_is_cut(self) -> None:
        """For any split, the client gets the valid part and then the refusal, and all of it is recorded."""
        for name, (good, bad, error) in RESPONSES.items():
            stage, client = self.play([good + bad])
            capture, received = stage.capture, client.received()
            self.assertEqual(capture.outcome, "protocol_error", name)
            self.assertTrue(capture.error.startswith(error), (name, capture.error))
            self.assertEqual(capture.refused(Kind.RESPONSE_PIECE), bad, name)
            self.assertEqual(stage.problems(), [], name)
            self.assertTrue(stage.upstream.aborted, name)
            for pieces in cuts(good + bad):
                again, other = self.play(pieces)
                self.assertEqual(told(again.capture.records), told(capture.records), (name, pieces))
                self.assertEqual(
                    (other.received(), other.aborted), (received, client.aborted), (name, pieces)
                )

    def test_good_bytes_are_passed_on(self) -> None:
        """A client has every chunk that came before the fault, and no clean end."""
        stage, client = self.play([CHUNKED + b"2\r\nok\r\nzz\r\n"])
        self.assertEqual(client.received(), CHUNKED + b"2\r\nok\r\n")
        self.assertTrue(client.aborted)
        self.assertEqual(stage.capture.body(Kind.RESPONSE_PIECE), b"ok")

    def test_at_most_a_head(self) -> None:
        """Of refused input as many bytes are recorded as a head may have, and at once."""
        for begun in (OK + b"A: " + b"b" * 300, b"x" * 300):
            stage = Stage(limits=limits(head_limit=200))
            client = stage.client(get())
            stage.upstream.deliver(begun, last=False)
            self.assertTrue(client.received().startswith(b"HTTP/1.1 502 "))
            self.assertEqual(stage.capture.refused(Kind.RESPONSE_PIECE), begun[:200])

    def test_not_whole(self) -> None:
        """An incomplete head or line at the end of the connection is recorded as well."""
        for good, held in ((b"", OK + b"Conte"), (CHUNKED, b"2"), (CHUNKED, b"0\r\nA: b\r\n")):
            for end in (Wire.fin, Wire.rst, None):
                stage = Stage(limits=limits(head_timeout=5, stream_timeout=5))
                stage.client(get())
                stage.upstream.deliver(good + held)
                if end is None:
                    stage.pass_time(6)
                else:
                    end(stage.upstream)
                stage.turn()
                self.assertEqual(stage.capture.refused(Kind.RESPONSE_PIECE), held)
                self.assertNotEqual(stage.capture.outcome, "complete")

    def test_client_leaves_meanwhile(self) -> None:
        """A client that leaves before the fault is judged has left, and nothing more is recorded."""
        stage = Stage()
        client = stage.client(get())
        stage.upstream.deliver(b"x\r\n", last=False)
        client.rst()
        stage.turn(1)
        self.assertEqual(stage.capture.outcome, "client_closed")
        self.assertEqual(stage.problems(), [])

    def test_upstream_ends_meanwhile(self) -> None:
        """The end of the connection ends the gathering of refused input."""
        for end in (Wire.fin, Wire.rst):
            stage = Stage()
            client = stage.client(get())
            stage.upstream.deliver(b"x\r\n", last=False)
            end(stage.upstream)
            self.assertTrue(client.received().startswith(b"HTTP/1.1 502 "))
            self.assertEqual(stage.capture.outcome, "protocol_error")
            self.assertEqual(stage.capture.refused(Kind.RESPONSE_PIECE), b"x\r\n")


class UnaskedTests(SynchronousTestCase):
    def test_same_however_it_is_cut(self) -> None:
        """Bytes after a response get a capture of their own; the response is complete."""
        more = b"secret\r\nHTTP/1.1 200 OK\r\n\r\n"
        self.check(b"HTTP/1.1 204 No Content\r\n\r\n", more)
        self.check(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n", more)

    def check(self, answer: bytes, more: bytes) -> None:
        first: list[Any] = []
        for pieces in cuts(answer + more):
            stage = Stage()
            client = stage.client(get())
            for piece in pieces:
                stage.upstream.deliver(piece, last=False)
            stage.clock.advance(MOMENT)
            stage.turn()
            self.assertEqual(client.received(), answer.replace(b"Connection: close\r\n", b""))
            complete, unasked = stage.captures
            self.assertEqual((complete.outcome, unasked.outcome), ("complete", "protocol_error"))
            self.assertEqual(unasked.refused(Kind.RESPONSE_PIECE), more)
            self.assertEqual(unasked.error, f"upstream: {len(more)} unsolicited bytes: secret REDACTED")
            self.assertEqual(stage.console[1:], ["- - -> UNASKED http://up.example/ [log]"])
            self.assertEqual(stage.problems(), [])
            self.assertTrue(stage.upstream.aborted)
            first = first or [told(each.records) for each in stage.captures]
            self.assertEqual([told(each.records) for each in stage.captures], first)

    def test_closed_connection(self) -> None:
        """A connection that is not to be used again is closed when nothing has come for a moment."""
        stage = Stage()
        stage.client(get())
        stage.upstream.deliver(ok(b"ok", "Connection: close"), last=False)
        stage.clock.advance(MOMENT * 0.9)
        self.assertFalse(stage.upstream.disconnecting)
        stage.clock.advance(MOMENT * 0.1)
        self.assertEqual((stage.upstream.disconnecting, stage.upstream.aborted), (True, False))
        stage.turn()
        self.assertEqual(len(stage.captures), 1)

    def test_not_recorded(self) -> None:
        """Of a route that is not recorded there is only the line."""
        stage = Stage(logging=False)
        stage.client(get())
        stage.upstream.deliver(ok() + b"x")
        self.assertEqual((stage.captures, len(stage.console)), ([], 2))

    def test_farewell(self) -> None:
        """A 408 on an idle connection is how some servers say that they close it."""
        stage = Stage()
        stage.client(get())
        stage.upstream.deliver(ok())
        stage.upstream.deliver(b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n")
        self.assertEqual((len(stage.captures), len(stage.console)), (1, 1))
        self.assertTrue(stage.upstream.aborted)

    def test_never_the_next_response(self) -> None:
        """A connection on which something came meanwhile is not used again."""
        stage = Stage()
        client = stage.client(get())
        stage.upstream.deliver(ok() + ok(b"poison"), last=False)
        client.received()
        client.deliver(get())
        stage.turn()
        self.assertEqual(len(stage.endpoint.wires), 2)
        stage.upstream.deliver(ok(b"mine"))
        self.assertEqual(client.received(), ok(b"mine"))


class RequestTests(SynchronousTestCase):
    def play(self, pieces: list[bytes], **options: Any) -> tuple[Stage, Wire]:
        stage = Stage(**options)
        client = stage.client()
        for piece in pieces:
            client.deliver(piece, last=False)
        stage.clock.advance(MOMENT)
        stage.turn()
        return stage, client

    def test_same_however_it_is_cut(self) -> None:
        """Client, upstream, console and capture are given the same, and all of it is kept."""
        for name, (good, bad, status, error) in REQUESTS.items():
            stage, client = self.play([good + bad])
            capture, received = stage.capture, client.received()
            self.assertTrue(received.startswith(b"HTTP/1.1 %d " % status), name)
            self.assertEqual(
                received, capture.body(Kind.RESPONSE_HEAD) + capture.body(Kind.RESPONSE_PIECE), name
            )
            self.assertEqual(capture.outcome, "protocol_error", name)
            self.assertTrue(capture.error.startswith("client: " + error), (name, capture.error))
            self.assertEqual(capture.refused(Kind.REQUEST_PIECE), bad, name)
            self.assertEqual(len(stage.console), 1, name)
            self.assertEqual(stage.problems(), [], name)
            sent = [bytes(wire.sent) for wire in stage.endpoint.wires]
            for pieces in cuts(good + bad):
                again, other = self.play(pieces)
                self.assertEqual(told(again.capture.records), told(capture.records), (name, pieces))
                self.assertEqual((other.received(), again.console), (received, stage.console), (name, pieces))
                self.assertEqual([bytes(wire.sent) for wire in again.endpoint.wires], sent, (name, pieces))

    def test_good_bytes_are_passed_on(self) -> None:
        """The upstream gets the bytes before the fault, also when they came with the head."""
        stage, _ = self.play([CHUNKED_POST + b"2\r\nok\r\n2 \r\nko\r\n"])
        self.assertTrue(stage.upstream.received().endswith(b"\r\n\r\n2\r\nok\r\n"))
        self.assertEqual(stage.capture.body(Kind.REQUEST_PIECE), b"ok")

    def test_too_long(self) -> None:
        """A head that is too long is answered at once, and kept up to the limit."""
        for data, status in (
            (b"GET /" + b"a" * 300, 414),
            (b"GET / HTTP/1.1\r\nA: " + b"b" * 300, 431),
            (b"GET / HTTP/1.1\r\nHost: a\r\nA: " + b"b" * 300 + b"\r\n\r\n", 431),
        ):
            for size in (1, 7, 1000):
                stage = Stage(server=ServerLimits(head_limit=200))
                client = stage.client()
                client.deliver(data, size, last=False)
                self.assertTrue(client.received().startswith(b"HTTP/1.1 %d " % status))
                self.assertEqual(stage.capture.refused(Kind.REQUEST_PIECE), data[:200])

    def test_too_late(self) -> None:
        """An incomplete head is a 408, and recorded; a connection that only waits is no request."""
        stage = Stage()
        idle = stage.client(b"\r\n")
        client = stage.client(b"GET /x HTTP/1.1\r\nHo")
        stage.pass_time(80)
        self.assertTrue(client.received().startswith(b"HTTP/1.1 408 "))
        self.assertEqual((idle.received(), idle.closed), (b"", True))
        self.assertEqual(stage.capture.refused(Kind.REQUEST_PIECE), b"GET /x HTTP/1.1\r\nHo")
        self.assertEqual(stage.console, ["GET /x -> REQUEST_TIMEOUT [log]"])

    def test_body_too_late(self) -> None:
        """A line of a body that does not come to its end is kept."""
        stage = Stage()
        client = stage.client(CHUNKED_POST + b"2\r\nok\r\n1")
        stage.pass_time(61)
        self.assertTrue(client.received().startswith(b"HTTP/1.1 408 "))
        self.assertEqual(stage.capture.refused(Kind.REQUEST_PIECE), b"1")

    def test_what_is_told(self) -> None:
        """Method and target are told if the request line is one; the capture has the proxy's address."""
        for line, shown, url in (
            (b"PUT /a?b HTTP/1.1", "PUT /a?b", b"http://127.0.0.1:5601/a?b"),
            (b"PUT  /a HTTP/1.1", "- -", b"http://127.0.0.1:5601"),
        ):
            stage, _ = self.play([line + b"\r\nA\r\n\r\n"])
            self.assertEqual(stage.console, [f"{shown} -> BAD_REQUEST [log]"])
            opening = stage.capture.opening
            self.assertEqual((opening.source_url, opening.route), (url, b""))
            self.assertEqual(opening.head, line + b"\r\n" if shown != "- -" else b"")

    def test_not_recorded(self) -> None:
        """Where unknown requests are not recorded there is only the line."""
        stage, client = self.play([b"x\r\n\r\n"], logging=False)
        self.assertEqual((stage.captures, stage.console), ([], ["- - -> BAD_REQUEST [no-log]"]))
        self.assertTrue(client.received().startswith(b"HTTP/1.1 400 "))

    def test_full_spool(self) -> None:
        """The answer is sent when its records have room."""
        for data in (b"x\r\n\r\n", CHUNKED_POST + b"x\r\n"):
            stage = Stage()
            client = stage.client()
            stage.freeze_spool()
            client.deliver(data)
            self.assertEqual(client.received(), b"")
            stage.thaw_spool()
            stage.turn()
            self.assertTrue(client.received().startswith(b"HTTP/1.1 400 "))
            self.assertTrue(client.closed)
            self.assertEqual(stage.problems(), [])

    def test_answer_recorded_already(self) -> None:
        """Once a response's head is recorded no 400 is said in its place, though it waits to be sent."""
        stage = Stage()
        client = stage.client(CHUNKED_POST)
        stage.freeze_spool()
        stage.upstream.deliver(OK + b"Content-Length: 9\r\n\r\nabc")
        client.deliver(b"x\r\n")
        stage.thaw_spool()
        stage.turn()
        self.assertEqual(client.received(), OK + b"Content-Length: 9\r\nConnection: close\r\n\r\nabc")
        self.assertTrue(client.aborted)
        self.assertEqual(stage.capture.outcome, "protocol_error")

    def test_client_ends_meanwhile(self) -> None:
        """A client that ends its direction is answered at once, one that leaves is not; both are told of."""
        for data in (b"x\r\n\r\n", CHUNKED_POST + b"x\r\n"):
            for end in (Wire.fin, Wire.rst):
                stage = Stage()
                client = stage.client()
                client.deliver(data, last=False)
                end(client)
                self.assertEqual(client.received()[:12], b"HTTP/1.1 400" if end is Wire.fin else b"")
                stage.turn()
                self.assertEqual(stage.capture.outcome, "protocol_error")
                self.assertEqual(stage.problems(), [])

    def test_answered_meanwhile(self) -> None:
        """An answer that comes before the fault is judged is the answer."""
        stage = Stage()
        client = stage.client(CHUNKED_POST)
        client.deliver(b"x\r\n", last=False)
        stage.upstream.deliver(ok())
        stage.turn(1)
        self.assertTrue(client.received().startswith(b"HTTP/1.1 200 OK\r\n"))
        self.assertEqual(stage.capture.outcome, "complete")
        self.assertEqual(stage.problems(), [])

    def test_pipelined(self) -> None:
        """It is answered in its turn."""
        stage = Stage()
        client = stage.client(post(b"a") + b"BAD\r\n\r\n")
        stage.upstream.deliver(ok())
        stage.turn()
        received = client.received()
        self.assertTrue(received.startswith(ok() + b"HTTP/1.1 400 "))
        self.assertEqual([each.outcome for each in stage.captures], ["complete", "protocol_error"])
