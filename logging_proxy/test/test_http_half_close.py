"""A client that ends its sending: gone, or still waiting, as the configuration has it."""

from __future__ import annotations

from twisted.internet.error import ConnectionDone
from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.http.limits import ServerLimits
from logging_proxy.test.http_stage import GET, OK, Client, Desk

ALLOW = ServerLimits(half_close_cancels=False)
BODY = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n1234"


class CancelTests(SynchronousTestCase):
    def test_during_the_answer(self) -> None:
        """Its responder is told at once that the client has closed, and the answer is cut visibly."""
        desk = Desk()
        client = Client(desk)
        client.send(GET)
        client.connection.readConnectionLost()
        self.assertTrue(desk.pending[0].lost[0].check(ConnectionDone))
        self.assertTrue(client.aborted)

    def test_idle(self) -> None:
        """An idle connection closes in good order, so that an answer still queued is sent."""
        desk = Desk()
        client = Client(desk)
        client.send(GET)
        desk.pending[0].answer()
        client.connection.readConnectionLost()
        self.assertEqual((client.closed, client.aborted, desk.pending[0].lost), (True, False, []))

    def test_lingering(self) -> None:
        """Lingering waits for the client's FIN."""
        desk = Desk()
        client = Client(desk)
        client.send(BODY)
        desk.pending[0].answer(keep_alive=False)
        self.assertFalse(client.closed)
        client.connection.readConnectionLost()
        self.assertEqual((client.closed, client.aborted), (True, False))


class AllowTests(SynchronousTestCase):
    def test_waits(self) -> None:
        """A client that has asked completely gets its answer, and the connection ends after it."""
        desk = Desk()
        client = Client(desk, ALLOW)
        client.send(GET)
        client.connection.readConnectionLost()
        pending = desk.pending[0]
        self.assertEqual((pending.lost, client.ended), ([], False))
        self.assertFalse(pending.connection.may_keep_alive)
        pending.answer(keep_alive=False)
        self.assertEqual((client.read(), client.closed, client.aborted), (OK, True, False))

    def test_promised_to_stay(self) -> None:
        """Also when the answer had begun, with keep-alive: no further request can come."""
        desk = Desk()
        client = Client(desk, ALLOW)
        client.send(GET)
        client.connection.readConnectionLost()
        desk.pending[0].answer(keep_alive=True)
        self.assertTrue(client.closed)

    def test_pipelined(self) -> None:
        """All requests that came before the end are answered."""
        desk = Desk()
        client = Client(desk, ALLOW)
        client.send(GET + GET)
        client.connection.readConnectionLost()
        desk.pending[0].answer(keep_alive=desk.pending[0].connection.may_keep_alive)
        client.clock.advance(0)
        self.assertFalse(client.ended)
        desk.pending[1].answer(keep_alive=desk.pending[1].connection.may_keep_alive)
        self.assertEqual((client.read(), client.closed), (OK + OK, True))

    def test_between_two(self) -> None:
        """An end that is seen between an answer and the next pipelined request loses neither."""
        desk = Desk()
        client = Client(desk, ALLOW)
        client.send(GET + GET)
        desk.pending[0].answer()
        client.connection.readConnectionLost()
        client.clock.advance(0)
        desk.pending[1].answer(keep_alive=desk.pending[1].connection.may_keep_alive)
        self.assertEqual((client.read(), client.closed), (OK + OK, True))

    def test_incomplete(self) -> None:
        """A client that ends in the middle of its request, or before one, waits for nothing."""
        for data in (BODY, GET[:9], b""):
            desk = Desk()
            client = Client(desk, ALLOW)
            client.send(data)
            client.connection.readConnectionLost()
            self.assertTrue(client.closed)
            self.assertEqual([len(pending.lost) for pending in desk.pending], [1] * len(desk.pending))
