"""Every way in which an exchange can end: outcome, bytes in the capture, and what the client is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from OpenSSL import SSL
from twisted.internet import error
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.proxy.failures import Shutdown, verdict
from logging_proxy.recording.records import OUTCOMES, Kind
from logging_proxy.test.proxy_stage import Captured, Stage, Wire, get, limits, ok, post
from logging_proxy.tls.verification import CertificateRefused

BODY = b"0123456789"
LENGTH = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"
CHUNKS = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"
UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\n\r\nabc"
CHUNKED_POST = b"POST /api/x HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n0123\r\n"

Step = Callable[[Stage, Wire], object]


def answers(data: bytes) -> Step:
    return lambda stage, client: stage.upstream.deliver(data)


def sends(data: bytes) -> Step:
    return lambda stage, client: client.deliver(data)


def waits(seconds: float) -> Step:
    return lambda stage, client: stage.pass_time(seconds)


def connecting(failure: BaseException) -> Step:
    return lambda stage, client: stage.endpoint.finish(failure)


def handshake(failure: BaseException) -> Step:
    return lambda stage, client: stage.upstream._lose(Failure(failure))


def up_fin(stage: Stage, client: Wire) -> None:
    stage.upstream.fin()


def up_rst(stage: Stage, client: Wire) -> None:
    stage.upstream.rst()


def fin(stage: Stage, client: Wire) -> None:
    client.fin()


def rst(stage: Stage, client: Wire) -> None:
    client.rst()


def stops(stage: Stage, client: Wire) -> None:
    for route in stage.tree.routes:
        for exchange in list(route.exchanges):
            exchange.interrupt(Failure(Shutdown("stopped")))


@dataclass(frozen=True)
class End:
    """A request, what happens then, and what must have come of it."""

    request: bytes
    steps: tuple[Step, ...]
    status: int
    """What the client gets, 0 for nothing."""
    up: int
    """Bytes of the request's body in the capture; with `up_whole` they are all of it."""
    up_whole: bool
    down: int | None
    """The same of the response; None where it is ours, which is always whole."""
    down_whole: bool


HALF_POST = post(BODY)[:-4]

ENDS: dict[str, dict[str, End]] = {
    "complete": {
        "a length": End(get(), (answers(ok(b"abc")),), 200, 0, True, 3, True),
        "nothing": End(get(), (answers(ok(b"")),), 200, 0, True, 0, True),
        "204": End(get(), (answers(b"HTTP/1.1 204 No Content\r\n\r\n"),), 204, 0, True, 0, True),
        "304": End(get(), (answers(b"HTTP/1.1 304 Not Modified\r\n\r\n"),), 304, 0, True, 0, True),
        "HEAD": End(get().replace(b"GET", b"HEAD"), (answers(LENGTH[:-3]),), 200, 0, True, 0, True),
        "chunks": End(get(), (answers(CHUNKS + b"0\r\n\r\n"),), 200, 0, True, 3, True),
        "until close": End(get(), (answers(UNTIL_CLOSE), up_fin), 200, 0, True, 3, True),
        "an upload": End(post(BODY), (answers(ok(b"abc")),), 200, 10, True, 3, True),
        "chunks up": End(CHUNKED_POST, (sends(b"0\r\n\r\n"), answers(ok(b"abc"))), 200, 4, True, 3, True),
        "an early answer": End(HALF_POST, (answers(ok(b"abc")),), 200, 6, False, 3, True),
        "an error of theirs": End(
            get(), (answers(ok(b"abc").replace(b"200 OK", b"500 No")),), 500, 0, True, 3, True
        ),
        "no route": End(get("/elsewhere"), (), 404, 0, True, None, True),
        "a redirect of ours": End(get("/api"), (), 307, 0, True, None, True),
        "climbing out": End(get("/api/../../x"), (), 307, 0, True, None, True),
        "escaped climbing": End(get("/api/%2e%2e/%2e%2e/x"), (), 400, 0, True, None, True),
        "CONNECT": End(b"CONNECT h:443 HTTP/1.1\r\nHost: h\r\n\r\n", (), 405, 0, True, None, True),
        "OPTIONS *": End(b"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", (), 200, 0, True, None, True),
        "the last stop": End(
            get("/api/x", "Max-Forwards: 0").replace(b"GET", b"TRACE"), (), 200, 0, True, None, True
        ),
    },
    "client_closed": {
        "while uploading, in order": End(HALF_POST, (fin,), 0, 6, False, 0, False),
        "while uploading, reset": End(HALF_POST, (rst,), 0, 6, False, 0, False),
        "while uploading chunks": End(CHUNKED_POST, (rst,), 0, 4, False, 0, False),
        "while waiting, in order": End(post(BODY), (fin,), 0, 10, True, 0, False),
        "while waiting, reset": End(post(BODY), (rst,), 0, 10, True, 0, False),
        "in a stream, in order": End(get(), (answers(CHUNKS), fin, waits(2)), 200, 0, True, 3, False),
        "in a stream, reset": End(get(), (answers(CHUNKS), rst, waits(2)), 200, 0, True, 3, False),
        "in a body": End(get(), (answers(LENGTH), rst), 200, 0, True, 3, False),
    },
    "upstream_closed": {
        "before its head": End(post(BODY), (up_fin,), 502, 10, True, None, True),
        "in its head": End(get(), (answers(LENGTH[:20]), up_fin), 502, 0, True, None, True),
        "while uploading": End(HALF_POST, (up_fin,), 502, 6, False, None, True),
        "in a body": End(get(), (answers(LENGTH), up_fin), 200, 0, True, 3, False),
        "in chunks": End(get(), (answers(CHUNKS), up_fin), 200, 0, True, 3, False),
        "in a chunk": End(get(), (answers(CHUNKS + b"5\r\nde"), up_fin), 200, 0, True, 5, False),
        "in the last chunk": End(get(), (answers(CHUNKS + b"0\r\n"), up_fin), 200, 0, True, 3, False),
        "in its trailers": End(get(), (answers(CHUNKS + b"0\r\nA: b\r\n"), up_fin), 200, 0, True, 3, False),
    },
    "upstream_reset": {
        "before its head": End(post(BODY), (up_rst,), 502, 10, True, None, True),
        "in its head": End(get(), (answers(LENGTH[:20]), up_rst), 502, 0, True, None, True),
        "in a body": End(get(), (answers(LENGTH), up_rst), 200, 0, True, 3, False),
        "in chunks": End(get(), (answers(CHUNKS), up_rst), 200, 0, True, 3, False),
        "until close": End(get(), (answers(UNTIL_CLOSE), up_rst), 200, 0, True, 3, False),
    },
    "upstream_timeout": {
        "before its head": End(post(BODY), (waits(61),), 504, 10, True, None, True),
        "in its head": End(get(), (answers(LENGTH[:20]), waits(61)), 504, 0, True, None, True),
        "in a body": End(get(), (answers(LENGTH), waits(61)), 200, 0, True, 3, False),
        "in chunks": End(get(), (answers(CHUNKS), waits(61)), 200, 0, True, 3, False),
    },
    "protocol_error": {
        "no head": End(post(BODY), (answers(b"garbage"),), 502, 10, True, None, True),
        "two lengths": End(
            get(),
            (answers(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"),),
            *(502, 0, True, None, True),
        ),
        "a bad chunk with the head": End(get(), (answers(CHUNKS + b"x\r\n"),), 200, 0, True, 3, False),
        "a bad chunk": End(get(), (answers(CHUNKS), answers(b"x\r\n")), 200, 0, True, 3, False),
        "a bad chunk of the client's": End(CHUNKED_POST, (sends(b"x\r\n"),), 400, 4, False, None, True),
        "a body that does not come": End(HALF_POST, (waits(61),), 408, 6, False, None, True),
        "a bad chunk behind the answer's head": End(
            CHUNKED_POST, (answers(CHUNKS), sends(b"x\r\n")), 200, 4, False, 3, False
        ),
    },
    "interrupted": {
        "while uploading": End(HALF_POST, (stops,), 503, 6, False, None, True),
        "while waiting": End(post(BODY), (stops,), 503, 10, True, None, True),
        "in a stream": End(get(), (answers(CHUNKS), stops), 200, 0, True, 3, False),
    },
}

CONNECTING: dict[str, tuple[BaseException, int]] = {
    "refused": (error.ConnectionRefusedError(), 502),
    "no route": (error.NoRouteError(), 502),
    "no such name": (error.DNSLookupError(), 502),
    "in time": (error.TimeoutError(), 504),
    "the kernel's time": (error.TCPTimedOutError(), 504),
}

HANDSHAKES: dict[str, BaseException] = {
    "not trusted": SSL.Error([("SSL routines", "", "certificate verify failed")]),
    "another's name": CertificateRefused("the certificate is self-signed"),
    "closed": error.ConnectionDone(),
    "reset": error.ConnectionLost(),
}

ID = b"00010203-0405-4607-8809-0a0b0c0d0e0f"


class OutcomeTests(SynchronousTestCase):
    def stage(self, **more: bool) -> Stage:
        return Stage(limits=limits(head_timeout=60.0, stream_timeout=60.0), **more)  # type: ignore[arg-type]

    def check(self, outcome: str) -> None:
        for name, end in ENDS[outcome].items():
            stage = self.stage()
            client = stage.client(end.request)
            for step in end.steps:
                step(stage, client)
            stage.turn()
            self.check_end(stage, client, end, outcome, f"{outcome}: {name}")

    def check_end(self, stage: Stage, client: Wire, end: End, outcome: str, name: str) -> None:
        received = client.received()
        status = int(received.split(b" ")[1]) if received else 0
        self.assertEqual(status, end.status, name)
        self.assertEqual(stage.problems(), [], name)
        capture = stage.capture
        self.assertEqual(capture.outcome, outcome, name)
        self.assertEqual(len(capture.body(Kind.REQUEST_PIECE)), end.up, name)
        self.assertEqual(capture.complete(Kind.REQUEST_PIECE), end.up_whole, name)
        if end.down is None:
            self.assertEqual(received, self.recorded_answer(capture), name)
        else:
            self.assertEqual(len(capture.body(Kind.RESPONSE_PIECE)), end.down, name)
        self.assertEqual(capture.complete(Kind.RESPONSE_PIECE), end.down_whole, name)
        failed = outcome != "complete"
        self.assertEqual(bool(capture.error), failed and outcome != "client_closed", name)
        if failed and end.status >= 400:
            self.assertIn(b" (exchange " + ID + b")\n", received, name)
        if failed and 0 < end.status < 400:
            self.assertTrue(client.aborted or client.lost, name)

    def recorded_answer(self, capture: Captured) -> bytes:
        return capture.body(Kind.RESPONSE_HEAD) + capture.body(Kind.RESPONSE_PIECE)

    def test_complete(self) -> None:
        """Whole on both sides, whatever the framing; and what we answer ourselves."""
        self.check("complete")

    def test_client_closed(self) -> None:
        """The client has left: what had passed by then."""
        self.check("client_closed")

    def test_upstream_closed(self) -> None:
        """The upstream has ended in good order, but too early."""
        self.check("upstream_closed")

    def test_upstream_reset(self) -> None:
        """The upstream has reset its connection."""
        self.check("upstream_reset")

    def test_upstream_timeout(self) -> None:
        """The upstream was silent for too long."""
        self.check("upstream_timeout")

    def test_protocol_error(self) -> None:
        """One of them did not keep to the protocol."""
        self.check("protocol_error")

    def test_interrupted(self) -> None:
        """The proxy ended first."""
        self.check("interrupted")

    def test_connect_failed(self) -> None:
        """There was no connection: the request is in the capture, and our answer."""
        for name, (failure, status) in CONNECTING.items():
            stage = self.stage()
            stage.endpoint.manual = True
            client = stage.client(post(BODY))
            connecting(failure)(stage, client)
            self.check_end(stage, client, End(b"", (), status, 10, True, None, True), "connect_failed", name)

    def test_tls_failed(self) -> None:
        """TLS did not come about: the same, and nothing was sent."""
        for name, failure in HANDSHAKES.items():
            stage = self.stage(secure=True)
            client = stage.client(post(BODY))
            handshake(failure)(stage, client)
            self.assertEqual(stage.upstream.received(), b"")
            self.check_end(stage, client, End(b"", (), 502, 10, True, None, True), "tls_failed", name)

    def test_leaving_while_connecting(self) -> None:
        """A client that leaves before there is a connection."""
        for leave in (fin, rst):
            stage = self.stage()
            stage.endpoint.manual = True
            client = stage.client(post(BODY))
            leave(stage, client)
            self.check_end(stage, client, End(b"", (), 0, 10, True, 0, False), "client_closed", "connecting")

    def test_every_outcome(self) -> None:
        """No outcome is without its way here."""
        self.assertEqual({*ENDS, "connect_failed", "tls_failed"}, set(OUTCOMES))

    def test_one_mapping(self) -> None:
        """The status that a client gets is the one that `verdict` gives."""
        for failure, status in CONNECTING.values():
            self.assertEqual(verdict(Failure(failure)).status, status)
