"""How much and how long a client may take."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.http.limits import LINGER, STALL, ServerLimits
from logging_proxy.test.http_stage import GET, OK, Client, Desk, SlowTransport

LIMITS = ServerLimits(head_limit=200, header_fields=3)
BODY = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n"


class SizeTests(SynchronousTestCase):
    def check(self, data: bytes, status: int) -> None:
        """The status is the same for the input as a whole and byte by byte; 0 is none."""
        for bytewise in (False, True):
            client = Client(Desk(), LIMITS)
            (client.send_bytewise if bytewise else client.send)(data)
            self.assertEqual(client.read()[:13], b"HTTP/1.1 %d " % status if status else b"", data)

    def test_head(self) -> None:
        """A head of exactly the limit is taken; beyond it is 431, or 414 if the first line is too long."""
        start = b"GET / HTTP/1.1\r\nHost: a\r\nA: "
        self.check(start + b"x" * (200 - len(start) - 4) + b"\r\n\r\n", 0)
        self.check(start + b"x" * (201 - len(start) - 4) + b"\r\n\r\n", 431)
        self.check(start + b"x" * 300, 431)
        self.check(b"GET /" + b"x" * 300, 414)
        self.check(b"GET /" + b"x" * 300 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414)

    def test_long_target(self) -> None:
        """The default limits take a request line of 8,000 bytes (RFC 9112 §3)."""
        desk = Desk()
        Client(desk).send(b"GET /" + b"x" * 8000 + b" HTTP/1.1\r\nHost: a\r\n\r\n")
        self.assertEqual(len(desk.pending), 1)

    def test_fields(self) -> None:
        """One field more than allowed is 431."""
        self.check(b"GET / HTTP/1.1\r\nHost: a\r\nA: b\r\nA: b\r\n\r\n", 0)
        self.check(b"GET / HTTP/1.1\r\nHost: a\r\nA: b\r\nA: b\r\nA: b\r\n\r\n", 431)

    def test_garbage(self) -> None:
        """Bytes that cannot begin a request are refused before their line is complete."""
        self.check(b"\x16\x03\x01\x02\x00\x01", 400)
        self.check(b"\x00", 400)
        self.check(b"\r\r", 400)
        self.check(b"GET / HTTP/1.1\nHost: a\n\n", 400)

    def test_body_behind_the_head_does_not_count(self) -> None:
        """The limit of the head does not apply to a body in the same read."""
        desk = Desk()
        Client(desk, LIMITS).send(BODY.replace(b"9", b"900") + b"x" * 900)
        self.assertEqual(len(desk.pending[0].content), 900)


class HeadTimeTests(SynchronousTestCase):
    def test_absolute(self) -> None:
        """A head has ten seconds from its first byte, however busily it drips."""
        client = Client(Desk())
        client.wait(60)
        for at in range(9):
            client.send(GET[at : at + 1])
            client.wait(1)
        self.assertEqual(client.read(), b"")
        client.send(GET[9:10])
        client.wait(2)
        self.assertTrue(client.read().startswith(b"HTTP/1.1 408 "))
        self.assertTrue(client.half_closed)

    def test_every_head_anew(self) -> None:
        """The time is that of one head, not of the connection."""
        desk = Desk()
        client = Client(desk)
        for _ in range(3):
            client.send(GET[:9])
            client.wait(8)
            client.send(GET[9:])
            desk.pending.pop().answer()
        self.assertEqual(client.read(), OK * 3)

    def test_idle(self) -> None:
        """A connection that asks nothing is closed after its time, without a word; also after an answer."""
        for asked in (b"", GET, b"\r\n", b"\r"):
            desk = Desk()
            client = Client(desk)
            client.send(asked)
            for pending in desk.pending:
                client.wait(200)
                self.assertFalse(client.ended, "a request may take as long as it wants")
                pending.answer()
            client.wait(74)
            self.assertFalse(client.ended, asked)
            client.wait(2)
            self.assertEqual((client.closed, client.aborted), (True, False))
            self.assertEqual(client.read(), OK if asked == GET else b"")


class BodyTimeTests(SynchronousTestCase):
    def test_idle(self) -> None:
        """A body may take as long as it wants, but not pause for a minute."""
        desk = Desk()
        client = Client(desk)
        client.send(BODY)
        for _ in range(8):
            client.wait(50)
            client.send(b"x")
        self.assertFalse(client.ended)
        client.wait(61)
        self.assertTrue(client.read().startswith(b"HTTP/1.1 408 "))
        self.assertEqual((desk.pending[0].refused, desk.pending[0].lost), (408, []))

    def test_idle_while_we_hold_it(self) -> None:
        """The time does not run while we pause reading."""
        desk = Desk()
        client = Client(desk)
        client.send(BODY)
        desk.pending[0].connection.pauseProducing()
        client.send(b"x")  # read before the pause
        client.wait(500)
        self.assertFalse(client.ended)
        desk.pending[0].connection.resumeProducing()
        client.wait(59)
        self.assertFalse(client.ended)
        client.wait(2)
        self.assertTrue(client.ended)

    def test_idle_during_the_answer(self) -> None:
        """When an answer has begun, no 408 is written into it."""
        desk = Desk()
        client = Client(desk)
        client.send(BODY)
        desk.pending[0].begin(b"HTTP/1.1 200 OK\r\n")
        client.wait(61)
        self.assertEqual((client.read(), client.aborted), (b"HTTP/1.1 200 OK\r\n", True))


class ClosingTimeTests(SynchronousTestCase):
    def closing(self, body_done: bool) -> tuple[Client, SlowTransport]:
        transport = SlowTransport()
        desk = Desk()
        client = Client(desk, transport=transport)
        client.send(GET if body_done else BODY)
        desk.pending[0].answer(b"x" * 10_000, keep_alive=False)
        return client, transport

    def test_slow_reader(self) -> None:
        """The last bytes go to a client that reads slowly, as long as it reads at all."""
        for body_done in (True, False):
            client, transport = self.closing(body_done)
            for _ in range(10):
                client.wait(STALL - 2)
                self.assertFalse(transport.disconnected)
                transport.drain(1000)
            client.wait(STALL + LINGER + 1)
            self.assertEqual((transport.sent, transport.disconnected), (b"x" * 10_000, 1))

    def test_no_reader(self) -> None:
        """A client that takes nothing of them is reset after a minute, and leaves nothing behind."""
        for body_done in (True, False):
            client, transport = self.closing(body_done)
            client.wait(STALL + 1)
            self.assertEqual((transport.sent, transport.disconnected), (b"", 1))
            self.assertEqual(client.clock.getDelayedCalls(), [])

    def test_no_reader_that_half_closes(self) -> None:
        """Nor is a client kept that ends its own direction and does not read."""
        client, transport = self.closing(body_done=False)
        client.connection.readConnectionLost()
        client.wait(STALL + 1)
        self.assertTrue(transport.disconnected)

    def test_linger_starts_when_all_is_sent(self) -> None:
        """The client has its five seconds from when it could read the whole answer."""
        client, transport = self.closing(body_done=False)
        client.wait(STALL - 5)
        transport.drain(20_000)
        self.assertTrue(transport.half_closed)
        client.wait(LINGER - 1)
        self.assertFalse(transport.disconnected)
        client.wait(2)
        self.assertTrue(transport.disconnected)
