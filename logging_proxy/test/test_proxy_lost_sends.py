"""A send that meets a reset: the message is incomplete, whatever the next read reports."""

from __future__ import annotations

import select
import socket
import struct
from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.http.server import ServerLimits
from logging_proxy.recording.records import Flag, Kind
from logging_proxy.test.proxy_stage import get
from logging_proxy.test.shortcut_stage import Endpoint, InPython, Line, RingStage

UPLOAD = b"POST /api/x HTTP/1.1\r\nHost: here\r\nContent-Length: 1000\r\n\r\n"
RESPONSES = (
    b"HTTP/1.1 200 OK\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello",
)
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
END_OF_CHUNKS = b"\r\n0\r\n\r\n"


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        return ours, listener.accept()[0]


class TcpLine(Line):
    """A line over which a peer can reset; its reads end as the reactor ends them."""

    def __init__(self, protocol: Any, room: int = 1 << 16) -> None:
        super().__init__(protocol, room, tcp_pair)

    def read(self) -> None:
        while self.connected and self.reading and self._readable():
            if why := self.doRead():
                self.stopReading()
                end = self.readConnectionLost if isinstance(why, ConnectionDone) else self.connectionLost
                end(Failure(why))

    def comes(self, data: bytes) -> None:
        self.far.sendall(data)
        assert select.select([self.socket], [], [], 10)[0]
        self.read()

    def reset(self) -> None:
        """The peer resets; our side has not noticed yet."""
        self.far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.far.close()
        poller = select.poll()
        poller.register(self.socket, 0)
        assert poller.poll(10_000)

    def _readable(self) -> bool:
        return bool(select.select([self.socket], [], [], 0)[0])


class LostSendTests(SynchronousTestCase):
    def play(self, request: bytes, limits: ServerLimits | None = None) -> None:
        """A client whose request has reached the upstream."""
        self.stage, self.endpoint = RingStage(), Endpoint(1 << 16, TcpLine)
        self.stage.pool._endpoint = self.endpoint  # type: ignore[assignment]
        if limits is not None:
            self.stage.site.limits = limits
        self.client = TcpLine(self.stage.site.buildProtocol(None))
        self.addCleanup(self.client.close)
        self.addCleanup(self.stage.real.close)
        self.client.comes(request)
        self.upstream: TcpLine = self.endpoint.line  # type: ignore[assignment]
        self.addCleanup(self.upstream.close)

    def turn(self) -> None:
        """Whatever was put off."""
        for line in (self.client, self.upstream):
            line.reactor.turn()  # type: ignore[attr-defined]
        self.stage.pass_time(1)
        for line in (self.client, self.upstream):
            line.reactor.turn()  # type: ignore[attr-defined]

    def last(self, kind: Kind) -> bool:
        """Whether a piece of `kind` is recorded as the last."""
        records = self.stage.capture.records
        return any(record.kind is kind and record.flags & Flag.LAST for record in records)

    def received(self) -> bytes:
        """The bytes that the client received until the reset; an orderly end fails."""
        got = b""
        self.client.far.settimeout(0.05)
        for _ in range(1200):  # the reset waits for acknowledgements, which may be late
            try:
                data = self.client.far.recv(1 << 16)
            except TimeoutError:
                self.turn()
            except ConnectionResetError:
                return got
            else:
                self.assertTrue(data, "an end in good order")
                got += data
        self.fail("the connection stays")

    def test_response(self) -> None:
        """A response that is reset while a piece of the upload is sent is cut, however it is framed."""
        for response in RESPONSES:
            self.play(UPLOAD + b"some")
            self.upstream.comes(response)
            self.upstream.reset()
            self.client.comes(b"more")
            self.upstream.read()
            self.turn()
            self.assertEqual(self.stage.capture.outcome, "upstream_reset")
            self.assertFalse(self.last(Kind.RESPONSE_PIECE))
            self.assertEqual(self.stage.problems(), [])
            got = self.received()
            self.assertIn(b"hello", got)
            self.assertFalse(got.endswith(END_OF_CHUNKS))

    def test_what_came_before_the_reset(self) -> None:
        """The bytes that the upstream sent before its reset are read first, recorded and passed on."""
        self.play(UPLOAD + b"some")
        self.upstream.comes(RESPONSES[0])
        self.upstream.far.sendall(b" and more")
        self.upstream.reset()
        self.client.comes(b"more")
        self.upstream.read()
        self.turn()
        self.assertEqual(self.stage.capture.body(Kind.RESPONSE_PIECE), b"hello and more")
        self.assertEqual(self.stage.capture.outcome, "upstream_reset")
        self.assertIn(b" and more", self.received())

    def test_response_that_had_ended(self) -> None:
        """A response that only its end delimits is whole if that came before the reset."""
        self.play(UPLOAD + b"some")
        self.upstream.comes(RESPONSES[0])
        self.upstream.far.shutdown(socket.SHUT_WR)
        self.upstream.reset()
        self.client.comes(b"more")
        self.upstream.read()
        self.turn()
        self.assertEqual(self.stage.capture.outcome, "complete")
        self.assertTrue(self.client.far.recv(1 << 16).endswith(END_OF_CHUNKS))

    def test_upstream_resets_tunnel(self) -> None:
        """A tunnel's direction that is reset has no end, in the record or for the client."""
        self.play(get("/api/x", "Connection: Upgrade", "Upgrade: websocket"))
        self.upstream.comes(SWITCH + b"hello")
        self.upstream.reset()
        self.client.comes(b"more")
        self.upstream.read()
        self.turn()
        self.assertEqual(self.stage.capture.outcome, "upstream_reset")
        self.assertFalse(self.last(Kind.TUNNEL_UPSTREAM))
        self.assertTrue(self.received().endswith(b"hello"))

    def test_client_resets_tunnel(self) -> None:
        """So has the client's, and the upstream is reset."""
        self.play(get("/api/x", "Connection: Upgrade", "Upgrade: websocket"))
        self.upstream.comes(SWITCH + b"hello")
        self.client.reset()
        self.upstream.comes(b"more")
        self.client.read()
        self.turn()
        self.assertEqual(self.stage.capture.outcome, "client_closed")
        self.assertFalse(self.last(Kind.TUNNEL_CLIENT))
        self.assertFalse(self.upstream.connected)
        self.assertTrue(self.upstream._aborting)

    def test_client_that_may_end_its_sending(self) -> None:
        """A client that was reset does not wait for its answer, though one that ends its sending may."""
        self.play(get(), ServerLimits(half_close_cancels=False))
        self.upstream.comes(RESPONSES[0])
        self.client.reset()
        self.upstream.comes(b"more")
        self.client.read()
        self.turn()
        self.assertEqual(self.stage.capture.outcome, "client_closed")
        self.assertTrue(self.upstream._aborting)


class LostSendInPythonTests(InPython, LostSendTests): ...
