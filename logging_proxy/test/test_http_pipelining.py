"""Requests that come before the answer to the one before them."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.http.limits import MOST_PIPELINED, MOST_UNSENT
from logging_proxy.test.http_stage import GET, OK, Client, Desk, PromptDesk, SlowTransport

CLOSE = b"Connection: close\r\n\r\n"


def requests(number: int) -> list[bytes]:
    """GETs and POSTs in turn, each with a target of its own."""
    return [
        b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % n
        if n % 2
        else b"POST /%d HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc" % n
        for n in range(number)
    ]


class OrderTests(SynchronousTestCase):
    def test_one_at_a_time(self) -> None:
        """The next request is handed over when the one before it has been answered."""
        desk = Desk()
        client = Client(desk)
        client.send(b"".join(requests(3)))
        for n in range(3):
            self.assertEqual([pending.head.target for pending in desk.pending], [b"/%d" % n])
            desk.pending.pop().answer(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%d" % n)
            self.assertEqual(client.read()[-1:], b"%d" % n)
            client.clock.advance(0)
        self.assertEqual((desk.pending, client.ended), ([], False))

    @given(st.lists(st.integers(0, 400), max_size=8), st.integers(1, 6), st.booleans())
    @settings(max_examples=60, deadline=None)
    def test_any_split(self, cuts: list[int], number: int, prompt: bool) -> None:
        """However they arrive, each request is answered once, in order, with its own body."""
        data = b"".join(requests(number))
        places = [0, *sorted(cut % len(data) for cut in cuts), len(data)]
        desk = PromptDesk() if prompt else Desk()
        client = Client(desk)
        for start, end in zip(places, places[1:], strict=False):
            client.send_pieces([data[start:end]])
            while desk.pending and desk.pending[0].done:
                pending = desk.pending.pop()
                body = pending.head.target + b":" + pending.content
                pending.answer(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
                client.clock.advance(0)
        bodies = [answer.partition(b"\r\n\r\n")[2] for answer in client.read().split(b"HTTP/1.1 200 OK")[1:]]
        self.assertEqual(bodies, [b"/%d:" % n + (b"" if n % 2 else b"abc") for n in range(number)])

    def test_answered_in_respond(self) -> None:
        """Requests that are answered at once need no turn of the reactor each."""
        client = Client(PromptDesk())
        client.connection.dataReceived(b"".join(requests(50)))
        self.assertEqual(client.read().count(b"HTTP/1.1 200 OK"), 50)
        self.assertLessEqual(len(client.clock.getDelayedCalls()), 2)

    def test_after_close(self) -> None:
        """Input after a request that closes the connection is not answered; the answer arrives intact."""
        desk = Desk()
        client = Client(desk)
        client.send(GET[:-2] + CLOSE + GET)
        desk.pending[0].answer(keep_alive=False)
        client.clock.advance(0)
        self.assertEqual((client.read(), len(desk.pending), client.half_closed), (OK, 1, True))

    def test_malformed_second(self) -> None:
        """A malformed request is answered in its turn, after those before it."""
        desk = Desk()
        client = Client(desk)
        client.send(GET + b"BAD\r\n\r\n")
        self.assertEqual(client.read(), b"")
        desk.pending[0].answer()
        client.turn()
        self.assertTrue(client.read().startswith(OK + b"HTTP/1.1 400 "))
        self.assertEqual(desk.refused, [b"BAD\r\n\r\n"])

    def test_answered_between_two_reads(self) -> None:
        """Bytes that arrive before the buffered ones were taken up stay behind them."""
        desk = Desk()
        client = Client(desk)
        client.send(GET + GET[:10])
        desk.pending.pop().answer()
        client.connection.dataReceived(GET[10:])
        self.assertEqual([pending.head.raw for pending in desk.pending], [GET])

    def test_client_leaves_before_its_second(self) -> None:
        """A request that waits for its turn is never begun for a client that has left."""
        desk = Desk()
        client = Client(desk)
        client.send(GET + GET)
        desk.pending[0].answer()
        client.leave()
        self.assertEqual((len(desk.pending), client.clock.getDelayedCalls()), (1, []))


class BoundTests(SynchronousTestCase):
    def test_read_ahead(self) -> None:
        """No more than the bound is read ahead; an answer, not the responder, goes on with the reading."""
        desk = Desk()
        client = Client(desk)
        client.send(GET)
        number = MOST_PIPELINED // len(GET) + 1
        client.send(GET * number)
        self.assertEqual(client.transport.producerState, "paused")
        desk.pending[0].connection.resumeProducing()
        self.assertEqual(client.transport.producerState, "paused")
        for _ in range(number + 1):
            desk.pending.pop().answer()
            client.clock.advance(0)
        self.assertEqual(client.read(), OK * (number + 1))
        self.assertEqual(client.transport.producerState, "producing")

    def test_client_that_does_not_read(self) -> None:
        """A client that reads no answers is not read from until it does; no request is lost."""
        transport = SlowTransport()
        client = Client(PromptDesk(), transport=transport)
        target = b"/" + b"x" * 999
        ask = b"GET " + target + b" HTTP/1.1\r\nHost: a\r\n\r\n"
        asked = 0
        while transport.reading and asked < 1000:
            client.send(ask * 20)
            asked += 20
        self.assertLess(asked, 1000)
        self.assertLess(client.connection._queue_length(), MOST_UNSENT + 2000)
        for _ in range(10):
            transport.drain(100_000)
            client.clock.advance(0.05)
        self.assertTrue(transport.reading)
        self.assertEqual(transport.sent.count(b"\r\n\r\n" + target), asked)
        client.send(ask)
        transport.drain(10_000)
        self.assertEqual(transport.sent.count(b"\r\n\r\n" + target), asked + 1)

    def test_client_that_never_reads(self) -> None:
        """Such a client does not keep its connection."""
        transport = SlowTransport()
        client = Client(PromptDesk(), transport=transport)
        while transport.reading:
            client.send(b"GET /" + b"x" * 9999 + b" HTTP/1.1\r\nHost: a\r\n\r\n")
        client.wait(75 + 60 + 2)
        self.assertTrue(transport.disconnected)
        self.assertEqual(client.clock.getDelayedCalls(), [])
