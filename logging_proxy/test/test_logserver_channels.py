"""Connections to the logging server: what each has time for, and who makes room for others."""

from __future__ import annotations

import resource
import uuid

from logging_proxy.logserver.web.channels import (
    BODY_PATIENCE,
    HEAD_TIMEOUT,
    IDLE_TIMEOUT,
    LEAST_SPEED,
    SEND_TIMEOUT,
)
from logging_proxy.test.logserver_spools import documents
from logging_proxy.test.web_stage import Pipe, ServerTestCase

ASK = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
MESSAGE = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


class ChannelTestCase(ServerTestCase):
    def wait(self, seconds: float) -> None:
        for _ in range(int(seconds * 2)):
            self.clock.advance(0.5)

    def lasts(self, pipe: Pipe, *, every: float, data: bytes, most: float) -> float:
        """For how long the connection is open while `data` comes every so many seconds."""
        began = self.clock.seconds()
        while not pipe.disconnecting and self.clock.seconds() - began < most:
            pipe.send(data)
            self.wait(every)
        return self.clock.seconds() - began


class TimeTests(ChannelTestCase):
    def test_idle(self) -> None:
        """A connection without a request is closed, a new one and one that has been served."""
        for data in (b"", ASK):
            pipe = self.connect()
            if data:
                pipe.send(data)
            self.wait(IDLE_TIMEOUT - 1)
            self.assertFalse(pipe.disconnecting)
            self.wait(2)
            self.assertTrue(pipe.disconnecting)

    def test_slow_head(self) -> None:
        """A head has an absolute deadline, however often a byte of it comes; so has the next one."""
        for before in (b"", ASK):
            pipe = self.connect()
            if before:
                pipe.send(before)
            lasted = self.lasts(pipe, every=2, data=b"E", most=60)
            self.assertLessEqual(lasted, HEAD_TIMEOUT + 2)
            self.assertGreaterEqual(lasted, HEAD_TIMEOUT)

    def put(self, size: int) -> Pipe:
        pipe = self.connect()
        head = f"PUT /{uuid.uuid4()}/request HTTP/1.1\r\nHost: localhost\r\nContent-Length: {size}\r\n\r\n"
        pipe.send(head.encode() + MESSAGE)
        return pipe

    def test_slow_body(self) -> None:
        """A body that comes byte by byte is cut, and kept as cut."""
        pipe = self.put(10_000)
        lasted = self.lasts(pipe, every=5, data=b"E", most=300)
        self.assertLessEqual(lasted, BODY_PATIENCE + 10)
        pipe.protocol.connectionLost()
        ((_, document),) = documents(self.log_dir).items()
        self.assertEqual(document["outcome"], "interrupted")

    def test_fast_enough(self) -> None:
        """A body with its least speed has all the time that it needs."""
        size = 2 * LEAST_SPEED * 600
        pipe = self.put(size)
        lasted = self.lasts(pipe, every=1, data=bytes(LEAST_SPEED), most=600)
        self.assertGreaterEqual(lasted, 600)
        self.assertFalse(pipe.disconnecting)

    def test_nothing_saved_up(self) -> None:
        """What came fast at first buys no time for later."""
        pipe = self.put(100 << 20)
        pipe.send(bytes(10 << 20))
        self.assertLessEqual(self.lasts(pipe, every=5, data=b"E", most=300), BODY_PATIENCE + 10)

    def test_answer_is_not_taken(self) -> None:
        """A client that takes nothing of what waits for it is let go."""
        pipe = self.connect()
        pipe.send(ASK)
        pipe.protocol.pauseProducing()  # as a transport does whose buffer is full
        self.wait(SEND_TIMEOUT + 1)
        self.assertTrue(pipe.aborted)

    def test_answer_is_taken(self) -> None:
        """One that goes on reading has its time for the next request."""
        pipe = self.connect()
        pipe.send(ASK)
        pipe.protocol.pauseProducing()
        self.wait(SEND_TIMEOUT - 1)
        pipe.protocol.resumeProducing()
        self.wait(IDLE_TIMEOUT - 1)
        self.assertFalse(pipe.disconnecting)
        self.wait(2)
        self.assertTrue(pipe.disconnecting)


class RoomTests(ChannelTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.patch(resource, "getrlimit", lambda which: (80, 80))
        self.admission = self.server.site.admission

    def test_limit(self) -> None:
        """There is a limit; who waits longest, be it in the middle of a head, makes room."""
        pipes = []
        for _ in range(10):
            pipes.append(self.connect())
            if len(pipes) % 2:
                pipes[-1].send(b"G")
            self.clock.advance(0.1)
        self.assertEqual(self.admission.room(), 0)
        self.assertTrue(all(pipe.disconnecting for pipe in pipes))

    def test_in_use(self) -> None:
        """An upload under way does not make room; a connection that has gone does."""
        for _ in range(10):
            pipe = self.connect()
            pipe.send(b"PUT /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n1")
        self.assertEqual(self.admission.room(), 0)
        self.assertFalse(pipe.disconnecting)
        pipe.protocol.connectionLost()
        self.assertEqual(self.admission.room(), 1)

    def test_websocket(self) -> None:
        """A viewer that has gone is not counted."""
        pipe = self.connect()
        pipe.send(
            b"GET /api/live HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MTIzNDU2Nzg5MDEyMzQ1Ng==\r\n\r\n"
        )
        self.assertIn(b"101 Switching", pipe.value())
        self.assertEqual(len(self.server.site.connections), 1)
        self.wait(HEAD_TIMEOUT + 1)
        self.assertFalse(pipe.disconnecting)
        self.assertIsNone(pipe.protocol.waits_since)
        pipe.protocol.connectionLost()
        self.assertEqual(len(self.server.site.connections), 0)
