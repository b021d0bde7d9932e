"""One request and its answer on a client's connection."""

from __future__ import annotations

from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.http.bodies import BARE_END, NOTHING_YET
from logging_proxy.http.faults import RequestFault
from logging_proxy.http.limits import NEWCOMER
from logging_proxy.http.protocols import Responder
from logging_proxy.test.http_stage import GET, OK, Client, Desk, Pending, PromptDesk

POST = b"POST /p HTTP/1.1\r\nhost: a\r\nX-B: 1\r\nx-a:  2 \r\nX-B: 3\r\n"
LENGTH = POST + b"Content-Length: 5\r\n\r\nhello"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\nT: 1\r\n\r\n"


class RequestTests(SynchronousTestCase):
    def ask(self, data: bytes, bytewise: bool) -> Pending:
        desk = Desk()
        client = Client(desk)
        (client.send_bytewise if bytewise else client.send)(data)
        self.assertEqual(client.read(), b"")
        (pending,) = desk.pending
        return pending

    def test_length(self) -> None:
        """A body with a length arrives whole, with the head as it was sent, also byte by byte."""
        for bytewise in (False, True):
            pending = self.ask(LENGTH, bytewise)
            self.assertEqual(
                pending.head.lines,
                (b"host: a\r\n", b"X-B: 1\r\n", b"x-a:  2 \r\n", b"X-B: 3\r\n", b"Content-Length: 5\r\n"),
            )
            self.assertEqual((pending.content, pending.framed, pending.done), (b"hello", b"hello", True))

    def test_chunked(self) -> None:
        """A chunked body arrives as payload and as wire bytes without extensions, with its trailers."""
        for bytewise in (False, True):
            pending = self.ask(CHUNKED, bytewise)
            self.assertEqual(pending.content, b"hello")
            self.assertEqual(pending.framed, b"5\r\nhello\r\n0\r\nT: 1\r\n\r\n")
            self.assertEqual((pending.done, pending.trailers), (True, b"T: 1\r\n"))

    def test_no_body(self) -> None:
        """Without framing there is no body, whatever the method."""
        for bytewise in (False, True):
            pending = self.ask(POST + b"\r\n", bytewise)
            self.assertEqual((pending.content, pending.done), (b"", True))

    def test_head_first(self) -> None:
        """The request is handed over at the end of its head, and the body piece by piece as it comes."""
        desk = Desk()
        client = Client(desk)
        client.send(POST + b"Content-Length: 5\r\n\r\n")
        (pending,) = desk.pending
        self.assertEqual((pending.content, pending.done), (b"", False))
        client.send(b"he")
        self.assertEqual((pending.content, pending.done), (b"he", False))
        client.send(b"llo")
        self.assertEqual((pending.content, pending.done), (b"hello", True))

    def test_empty_line_before(self) -> None:
        """One empty line before a request is ignored, a second is not; wherever the input is split."""
        for bytewise in (False, True):
            self.assertEqual(self.ask(b"\r\n" + GET, bytewise).head.raw, GET)
            client = Client(Desk())
            (client.send_bytewise if bytewise else client.send)(b"\r\n\r\n" + GET)
            self.assertTrue(client.read().startswith(b"HTTP/1.1 400 "))


class AnswerTests(SynchronousTestCase):
    def test_keep_alive(self) -> None:
        """After an answer that says so, the connection takes the next request."""
        desk = Desk()
        client = Client(desk)
        for _ in range(3):
            client.send(GET)
            pending = desk.pending.pop()
            self.assertTrue(pending.connection.may_keep_alive)
            pending.answer()
            self.assertEqual(client.read(), OK)
        self.assertFalse(client.ended)

    def test_in_respond(self) -> None:
        """A resource may answer inside `respond`."""
        client = Client(PromptDesk())
        for _ in range(2):
            client.send(GET)
            self.assertTrue(client.read().endswith(b"\r\n\r\n/one:"))
        self.assertFalse(client.ended)

    def test_client_that_closes(self) -> None:
        """A client that says close, or HTTP/1.0, is closed in good order after the answer."""
        for head in (GET[:-2] + b"Connection: close\r\n\r\n", b"GET / HTTP/1.0\r\n\r\n"):
            desk = Desk()
            client = Client(desk)
            client.send(head)
            self.assertFalse(desk.pending[0].connection.may_keep_alive)
            desk.pending[0].answer(keep_alive=False)
            self.assertEqual(client.read(), OK)
            self.assertTrue(client.closed)

    def test_answer_before_the_body(self) -> None:
        """An early answer closes: our direction ends, the rest of the body is read and dropped."""
        desk = Desk()
        client = Client(desk)
        client.send(POST + b"Content-Length: 99\r\n\r\nhello")
        (pending,) = desk.pending
        self.assertFalse(pending.connection.may_keep_alive)
        pending.answer(keep_alive=True)  # even if the responder were wrong about it
        self.assertEqual(client.read(), OK)
        self.assertEqual((client.half_closed, client.closed), (True, False))
        client.send(b"x" * 94 + GET)
        self.assertEqual((client.read(), len(desk.pending), pending.content), (b"", 1, b"hello"))

    def test_upload_goes_on(self) -> None:
        """After an early answer a body is taken as long as more of it comes, half a minute at most."""
        desk = Desk()
        client = Client(desk)
        client.send(POST + b"Content-Length: 99999\r\n\r\n")
        desk.pending[0].answer(keep_alive=False)
        self.assertTrue(client.half_closed)
        for _ in range(14):
            client.wait(2)
            client.send(b"more")
            self.assertFalse(client.closed)
        client.wait(3)
        self.assertTrue(client.closed)

    def test_upload_stops(self) -> None:
        """... and ends when nothing has come for a while, or the service stops."""
        for closing in (False, True):
            desk = Desk()
            client = Client(desk)
            client.send(POST + b"Content-Length: 99999\r\n\r\n")
            desk.pending[0].answer(keep_alive=False)
            client.site.closing = closing
            client.wait(4)
            client.send(b"more")
            client.wait(2)
            self.assertEqual(client.closed, closing)
            client.wait(4)
            self.assertTrue(client.closed)

    def test_linger_ends(self) -> None:
        """A client that does not close after the last answer is closed five seconds after it was sent."""
        desk = Desk()
        client = Client(desk)
        client.send(POST + b"Content-Length: 99\r\n\r\n")
        desk.pending[0].answer(keep_alive=False)
        client.connection.writeConnectionLost()
        client.wait(4.5)
        self.assertFalse(client.closed)
        client.wait(1.5)
        self.assertEqual((client.closed, client.aborted), (True, False))

    def test_abort(self) -> None:
        """A responder that aborts resets the connection; whatever happens after that says nothing more."""
        desk = Desk()
        client = Client(desk)
        client.send(GET)
        pending = desk.pending[0]
        pending.connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")
        pending.connection.abort()
        client.read()
        pending.answer()
        client.connection.abort()
        client.leave()
        client.wait(100)
        self.assertEqual((client.read(), client.aborted, pending.lost), (b"", True, []))


class FaultTests(SynchronousTestCase):
    def test_malformed_head(self) -> None:
        """A malformed head is answered with its status, the wall clock's Date, and the connection's end."""
        for bytewise in (False, True):
            for data, status in (
                (b"GET / HTTP/1.1\r\n\r\n", b"400 Bad Request"),
                (b"GET / HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n", b"400 Bad Request"),
                (b"GET / HTTP/3.0\r\nHost: a\r\n\r\n", b"505 HTTP Version Not Supported"),
                (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: br\r\n\r\n", b"501 Not Implemented"),
            ):
                desk = Desk()
                client = Client(desk)
                (client.send_bytewise if bytewise else client.send)(data + GET)
                head, _, body = client.read().partition(b"\r\n\r\n")
                self.assertTrue(head.startswith(b"HTTP/1.1 " + status + b"\r\n"), head)
                self.assertIn(b"\r\nDate: Tue, 14 Nov 2023 22:13:20 GMT\r\n", head)
                self.assertIn(b"\r\nContent-Length: %d\r\n" % len(body), head)
                self.assertTrue(head.endswith(b"\r\nConnection: close"))
                self.assertEqual((desk.pending, client.half_closed), ([], True))

    def test_malformed_body(self) -> None:
        """A malformed body is 400 while no answer has begun, and the responder is told."""
        for head_first in (False, True):
            desk = Desk()
            client = Client(desk)
            pieces = [POST + b"Transfer-Encoding: chunked\r\n\r\n", b"5 \r\nhello\r\n"]
            client.send_pieces(pieces if head_first else [b"".join(pieces)])
            self.assertTrue(client.read().startswith(b"HTTP/1.1 400 "))
            self.assertTrue(client.half_closed)
            (pending,) = desk.pending
            self.assertEqual((pending.refused, pending.kept, pending.lost), (400, pieces[1], []))

    def test_malformed_body_after_informational(self) -> None:
        """A 100 (Continue) is not yet the answer."""
        desk = Desk()
        client = Client(desk)
        client.send(POST + b"Transfer-Encoding: chunked\r\n\r\n")
        desk.pending[0].connection.send(b"HTTP/1.1 100 Continue\r\nA: b\r\n\r\n")
        client.send(b"x\r\n")
        self.assertIn(b"\r\n\r\nHTTP/1.1 400 ", client.read())

    def test_malformed_body_during_the_answer(self) -> None:
        """Once an answer has begun nothing else is written into it: the connection is reset."""
        for begun in (b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"):
            desk = Desk()
            client = Client(desk)
            client.send(POST + b"Transfer-Encoding: chunked\r\n\r\n")
            desk.pending[0].begin(begun)
            client.send(b"x\r\n")
            self.assertEqual((client.read(), client.aborted), (begun, True))
            self.assertEqual((desk.pending[0].refused, desk.pending[0].lost), (400, []))

    def test_refused_by_the_resource(self) -> None:
        """A `RequestFault` out of `respond` is answered like one of the engine's own."""

        class Refusing(Desk):
            def take(self, pending: Pending) -> Pending:
                raise RequestFault(508, "again")

        client = Client(Refusing())
        client.send(POST + b"Content-Length: 9\r\n\r\n")
        self.assertTrue(client.read().startswith(b"HTTP/1.1 508 Loop Detected\r\n"))
        self.assertTrue(client.half_closed)

    def test_broken_resource(self) -> None:
        """Any other exception is logged and resets this connection, now or for a pipelined request."""

        class Broken(Desk):
            def take(self, pending: Pending) -> Pending:
                if pending.head.target == b"/bad":
                    raise ZeroDivisionError
                return pending

        desk = Broken()
        client = Client(desk)
        client.send(GET + GET.replace(b"/one", b"/bad"))
        desk.pending[0].answer()
        client.clock.advance(0)
        self.assertTrue(client.aborted)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)


class LossTests(SynchronousTestCase):
    def test_client_leaves(self) -> None:
        """The responder is told once; bytes that it sends afterwards are discarded."""
        desk = Desk()
        client = Client(desk)
        client.send(GET)
        pending = desk.pending[0]
        client.reset()
        self.assertEqual(len(pending.lost), 1)
        pending.answer()
        pending.connection.abort()
        pending.connection.pauseProducing()
        pending.connection.resumeProducing()
        client.wait(100)
        self.assertEqual((client.read(), len(pending.lost), client.site.connections), (b"", 1, set()))
        self.assertEqual(client.clock.getDelayedCalls(), [])

    def test_lost_inside_respond(self) -> None:
        """A responder whose client is lost before `respond` returns is told as well."""

        class Losing(Desk):
            def take(self, pending: Pending) -> Pending:
                pending.connection.connectionLost(Failure(ConnectionError()))
                return pending

        desk = Losing()
        Client(desk).send(GET)
        self.assertEqual(len(desk.pending[0].lost), 1)

    def test_told_nothing_after_the_end(self) -> None:
        """After `finish` the responder hears no more of its client."""
        desk = Desk()
        client = Client(desk)
        client.send(GET)
        desk.pending[0].answer()
        client.reset()
        self.assertEqual(desk.pending[0].lost, [])

    def test_refuses_inside_client_lost(self) -> None:
        """A responder that gives up its connection when told of the loss does no harm."""

        class Aborting(Pending):
            def clientLost(self, reason: Failure) -> None:
                super().clientLost(reason)
                self.connection.abort()

        class AbortingDesk(Desk):
            def take(self, pending: Pending) -> Pending:
                return Aborting(pending.connection, pending.head, BARE_END if pending.done else NOTHING_YET)

        for lose in (Client.reset, Client.leave, lambda client: client.connection.readConnectionLost()):
            desk = AbortingDesk()
            client = Client(desk)
            client.send(GET)
            lose(client)
            self.assertEqual(len(desk.pending[0].lost), 1)


class FlowTests(SynchronousTestCase):
    def test_pause(self) -> None:
        """A responder that pauses the body stops the reading, and resumes it."""
        desk = Desk()
        client = Client(desk)
        client.send(POST + b"Content-Length: 5\r\n\r\n")
        connection = desk.pending[0].connection
        connection.pauseProducing()
        self.assertEqual(client.transport.producerState, "paused")
        connection.resumeProducing()
        self.assertEqual(client.transport.producerState, "producing")

    def test_paused_at_the_end(self) -> None:
        """A body that was still held back when the answer came does not leave the connection deaf."""
        desk = Desk()
        client = Client(desk)
        client.send(LENGTH)
        desk.pending[0].connection.pauseProducing()
        desk.pending[0].answer()
        self.assertEqual(client.transport.producerState, "producing")
        client.send(GET)
        self.assertEqual(len(desk.pending), 2)

    def test_paused_and_refused(self) -> None:
        """An early answer to a body that is held back reads on, so that the client can see it."""
        desk = Desk()
        client = Client(desk)
        client.send(POST + b"Content-Length: 9\r\n\r\n")
        desk.pending[0].connection.pauseProducing()
        desk.pending[0].answer(keep_alive=False)
        self.assertEqual((client.transport.producerState, client.half_closed), ("producing", True))

    def test_late_producer_calls(self) -> None:
        """Pausing between requests, or while closing, changes nothing."""
        desk = Desk()
        client = Client(desk)
        client.send(GET)
        connection = desk.pending[0].connection
        desk.pending[0].answer()
        connection.pauseProducing()
        connection.resumeProducing()
        self.assertEqual(client.transport.producerState, "producing")
        client.wait(76)
        self.assertTrue(client.closed)


class CloseTests(SynchronousTestCase):
    def test_idle_and_busy(self) -> None:
        """A closing site ends idle connections at once, busy ones with an answer that says close."""
        desk = Desk()
        client = Client(desk)
        client.send(GET)
        client.site.close()
        self.assertFalse(client.ended)
        self.assertFalse(client.connection.may_keep_alive)
        desk.pending[0].answer(keep_alive=False)
        self.assertTrue(client.closed)
        idle = Client(desk)
        idle.send(GET)
        desk.pending[-1].answer(keep_alive=True)
        self.assertFalse(idle.ended)
        idle.site.close()
        self.assertTrue(idle.closed)

    def test_empty_line(self) -> None:
        """An empty line is nothing of a request: the connection is idle."""
        for line in (b"\r\n", b"\r"):
            desk = Desk()
            client = Client(desk)
            client.send(GET)
            desk.pending[0].answer()
            client.send(line)
            client.site.close()
            self.assertTrue(client.closed)

    def test_newcomer(self) -> None:
        """A new connection without a request is closed, unless the request comes soon."""
        desk = Desk()
        client, silent = Client(desk), Client(desk)
        for each in (client, silent):
            each.site.close()
            self.assertFalse(each.ended)
        client.send(GET)
        desk.pending[0].answer(keep_alive=desk.pending[0].connection.may_keep_alive)
        self.assertEqual((client.read(), client.closed), (OK, True))
        silent.wait(0.9)
        self.assertFalse(silent.ended)
        silent.wait(0.7)
        self.assertTrue(silent.closed)

    def test_promised_to_stay(self) -> None:
        """An answer that began before the site closed, and said keep-alive, still ends the connection."""
        desk = Desk()
        client = Client(desk)
        client.send(GET)
        client.site.close()
        desk.pending[0].answer(keep_alive=True)
        self.assertTrue(client.closed)

    def test_request_on_its_way(self) -> None:
        """A connection in the middle of a head is answered first."""
        desk = Desk()
        client = Client(desk)
        client.send(GET[:9])
        client.site.close()
        self.assertFalse(client.ended)
        client.send(GET[9:])
        desk.pending[0].answer(keep_alive=desk.pending[0].connection.may_keep_alive)
        self.assertEqual((client.read(), client.closed), (OK, True))

    def test_request_that_does_not_come(self) -> None:
        """A head that was begun and does not go on holds up the end for a moment only."""
        client = Client(Desk())
        client.send(GET[:9])
        client.site.close()
        client.wait(NEWCOMER + 1)
        self.assertTrue(client.ended)


_: type[Responder] = Pending
