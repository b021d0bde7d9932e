"""Resources of twisted.web on our engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IPushProducer
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request
from twisted.web.static import Data, File
from zope.interface import implementer

from logging_proxy.test.http_stage import Client, SlowTransport

Answer = tuple[bytes, dict[bytes, list[bytes]], bytes]


def answer(data: bytes) -> Answer:
    """Status line, fields by lower-case name, and body."""
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    fields: dict[bytes, list[bytes]] = {}
    for line in lines:
        name, _, value = line.partition(b": ")
        fields.setdefault(name.lower(), []).append(value)
    return first, fields, body


class Mirror(Resource):
    """Answers with the request."""

    isLeaf = True

    def render(self, request: Request) -> bytes:
        assert request.content is not None and request.args is not None
        request.setHeader(b"X-Path", b"|".join([request.uri, *(request.postpath or ())]))
        request.setHeader(b"X-Args", repr(sorted(request.args.items())).encode())
        request.setHeader(b"X-Cookie", request.getCookie(b"c") or b"")
        request.setHeader(b"X-Two", b",".join(request.requestHeaders.getRawHeaders(b"two", [])))
        body: bytes = request.method + b":" + request.content.read()
        return body


class Waiting(Resource):
    """Leaves the answering to the test."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[Request] = []
        self.ends: list[object] = []

    def render(self, request: Request) -> int:
        self.requests.append(request)
        request.notifyFinish().addBoth(self.ends.append)
        return NOT_DONE_YET


class Broken(Resource):
    isLeaf = True

    def render(self, request: Request) -> bytes:
        raise ZeroDivisionError


@implementer(IPushProducer)
class Producer:
    def __init__(self) -> None:
        self.calls: list[str] = []

    def pauseProducing(self) -> None:
        self.calls.append("pause")

    def resumeProducing(self) -> None:
        self.calls.append("resume")

    def stopProducing(self) -> None:
        self.calls.append("stop")


class ResourceTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.root = Resource()
        self.waiting = Waiting()
        self.root.putChild(b"data", Data(b"some data", "text/x-data"))
        self.root.putChild(b"mirror", Mirror())
        self.root.putChild(b"waiting", self.waiting)
        self.root.putChild(b"broken", Broken())

    def ask(self, client: Client, first: bytes, *lines: bytes, body: bytes = b"") -> Answer:
        client.send(b"\r\n".join((first, b"Host: a", *lines, b"", body)))
        return answer(client.read())

    def test_data(self) -> None:
        """A resource's answer has its length, and the connection stays."""
        client = Client(self.root)
        for _ in range(2):
            first, fields, body = self.ask(client, b"GET /data HTTP/1.1")
            self.assertEqual((first, body), (b"HTTP/1.1 200 OK", b"some data"))
            self.assertEqual(fields[b"content-type"], [b"text/x-data"])
            self.assertEqual(fields[b"content-length"], [b"9"])
            self.assertNotIn(b"connection", fields)
        self.assertFalse(client.ended)

    def test_head(self) -> None:
        """HEAD has the fields of GET and no body."""
        client = Client(self.root)
        first, fields, body = self.ask(client, b"HEAD /data HTTP/1.1")
        self.assertEqual((first, fields[b"content-length"], body), (b"HTTP/1.1 200 OK", [b"9"], b""))
        self.assertEqual(self.ask(client, b"GET /data HTTP/1.1")[2], b"some data")

    def test_old_client(self) -> None:
        """HTTP/1.0 gets its answer and the end of the connection."""
        client = Client(self.root)
        _, fields, body = self.ask(client, b"GET /data HTTP/1.0", b"Connection: keep-alive")
        self.assertEqual((body, fields[b"connection"], client.closed), (b"some data", [b"close"], True))

    def test_what_a_resource_sees(self) -> None:
        """Path, arguments, cookies, repeated fields and content are those of the request."""
        for framing, body in (
            (b"Content-Length: 5", b"hello"),
            (b"Transfer-Encoding: chunked", b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"),
        ):
            for first, uri in (
                (b"POST /mirror/a%2Fb/c?x=1&y=&x=2 HTTP/1.1", b"/mirror/a%2Fb/c?x=1&y=&x=2"),
                (b"POST http://a/mirror/a%2Fb/c?x=1&y=&x=2 HTTP/1.1", b"/mirror/a%2Fb/c?x=1&y=&x=2"),
            ):
                lines = (b"Cookie: b=1; c=2", b"two: 1", framing, b"Two:  2 ")
                _, fields, content = self.ask(Client(self.root), first, *lines, body=body)
                self.assertEqual(content, b"POST:hello")
                self.assertEqual(fields[b"x-path"], [uri + b"|a/b|c"])
                self.assertEqual(fields[b"x-args"], [b"[(b'x', [b'1', b'2']), (b'y', [b''])]"])
                self.assertEqual((fields[b"x-cookie"], fields[b"x-two"]), ([b"2"], [b"1,2"]))

    def test_expecting_client(self) -> None:
        """A client that waits for a 100 (Continue) gets one, unless its body is there already."""
        for body, interim in ((b"", True), (b"hello", False)):
            client = Client(self.root)
            lines = (b"Content-Length: 5", b"Expect: 100-continue")
            first, _, _ = self.ask(client, b"POST /mirror HTTP/1.1", *lines, body=body)
            self.assertEqual(first, b"HTTP/1.1 100 Continue" if interim else b"HTTP/1.1 200 OK")
            if interim:
                client.send(b"hello")
                self.assertEqual(answer(client.read())[2], b"POST:hello")

    def test_errors(self) -> None:
        """Missing, forbidden and failing resources answer as in twisted.web; the connection stays usable."""
        client = Client(self.root)
        for first, status in (
            (b"GET /nothing HTTP/1.1", b"HTTP/1.1 404 "),
            (b"POST /data HTTP/1.1", b"HTTP/1.1 405 "),
            (b"BREW /data HTTP/1.1", b"HTTP/1.1 501 "),
            (b"GET /broken HTTP/1.1", b"HTTP/1.1 500 "),
        ):
            got, fields, body = self.ask(client, first)
            self.assertTrue(got.startswith(status), got)
            self.assertEqual(fields[b"content-length"], [b"%d" % len(body)])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(self.ask(client, b"GET /data HTTP/1.1")[2], b"some data")

    def test_special_targets(self) -> None:
        """`OPTIONS *` is answered; there are no tunnels."""
        self.assertEqual(self.ask(Client(self.root), b"OPTIONS * HTTP/1.1")[0][:13], b"HTTP/1.1 200 ")
        self.assertEqual(self.ask(Client(self.root), b"CONNECT a:1 HTTP/1.1")[0][:13], b"HTTP/1.1 501 ")

    def test_later(self) -> None:
        """A resource may answer later, in pieces, which are chunks; pipelined requests wait."""
        client = Client(self.root)
        client.send(b"GET /waiting HTTP/1.1\r\nHost: a\r\n\r\nGET /data HTTP/1.1\r\nHost: a\r\n\r\n")
        self.assertEqual(client.read(), b"")
        (request,) = self.waiting.requests
        request.write(b"one")
        _, fields, body = answer(client.read())
        self.assertEqual((fields[b"transfer-encoding"], body), ([b"chunked"], b"3\r\none\r\n"))
        request.finish()
        self.assertEqual((client.read(), self.waiting.ends), (b"0\r\n\r\n", [None]))
        client.clock.advance(0)
        self.assertEqual(answer(client.read())[2], b"some data")

    def test_resource_that_closes(self) -> None:
        """A resource's own `Connection: close` is kept to, and said once."""
        client = Client(self.root)
        client.send(b"GET /waiting HTTP/1.1\r\nHost: a\r\n\r\n")
        request = self.waiting.requests[0]
        request.setHeader(b"Connection", b"close")
        request.finish()
        self.assertEqual(answer(client.read())[1][b"connection"], [b"close"])
        self.assertTrue(client.closed)

    def test_producer(self) -> None:
        """A resource's producer is the transport's while it is registered."""
        client = Client(self.root)
        client.send(b"GET /waiting HTTP/1.1\r\nHost: a\r\n\r\n")
        request, producer = self.waiting.requests[0], Producer()
        request.registerProducer(producer, True)
        self.assertIs(client.transport.producer, producer)
        request.unregisterProducer()
        self.assertIs(client.transport.producer, None)

    def test_client_leaves(self) -> None:
        """The request is told, its producer stopped, and writing on does no harm."""
        for lose in (Client.reset, lambda client: client.connection.readConnectionLost()):
            client = Client(self.root)
            client.send(b"GET /waiting HTTP/1.1\r\nHost: a\r\n\r\n")
            request, producer = self.waiting.requests.pop(), Producer()
            request.registerProducer(producer, True)
            request.write(b"one")
            lose(client)
            request.write(b"two")
            self.assertEqual(producer.calls, ["stop"])
            self.assertIs(client.transport.producer, None)
            self.assertIsInstance(self.waiting.ends.pop(), Failure)
            self.assertNotIn(b"two", client.read())

    def test_given_up(self) -> None:
        """A resource that drops its connection resets it, and its request ends."""
        client = Client(self.root)
        client.send(b"GET /waiting HTTP/1.1\r\nHost: a\r\n\r\n")
        self.waiting.requests[0].loseConnection()
        self.assertTrue(client.aborted)
        self.assertIsInstance(self.waiting.ends.pop(), Failure)
        client.leave()
        self.assertEqual(self.flushLoggedErrors(CancelledError), [])


class FileTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.content = bytes(range(256)) * 2000
        folder = Path(self.mktemp())
        folder.mkdir()
        (folder / "big.bin").write_bytes(self.content)
        self.root = File(str(folder))

    def test_file(self) -> None:
        """A file, which a pull producer sends, arrives whole and with flow control."""
        transport = SlowTransport()
        client = Client(self.root, transport=transport)
        client.send(b"GET /big.bin HTTP/1.1\r\nHost: a\r\n\r\n")
        self.assertLess(client.connection._queue_length(), 200_000)
        for _ in range(20):
            transport.drain(50_000)
            self.assertLess(client.connection._queue_length(), 200_000)
        _, fields, body = answer(transport.sent)
        self.assertEqual(fields[b"content-length"], [b"%d" % len(self.content)])
        self.assertEqual(body, self.content)
        client.send(b"HEAD /big.bin HTTP/1.1\r\nHost: a\r\n\r\n")
        transport.drain(50_000)
        self.assertEqual(answer(transport.sent[-len(self.content) :])[2][-4:], b"")

    def test_range(self) -> None:
        """A range of it is that range."""
        transport = SlowTransport()
        client = Client(self.root, transport=transport)
        client.send(b"GET /big.bin HTTP/1.1\r\nHost: a\r\nRange: bytes=10-19\r\n\r\n")
        transport.drain(50_000)
        first, _, body = answer(transport.sent)
        self.assertEqual((first[:12], body), (b"HTTP/1.1 206", self.content[10:20]))

    def test_client_leaves(self) -> None:
        """A client that leaves in the middle ends the producer."""
        transport = SlowTransport()
        client = Client(self.root, transport=transport)
        client.send(b"GET /big.bin HTTP/1.1\r\nHost: a\r\n\r\n")
        transport.drain(70_000)
        producer: Any = transport.producer
        transport.abortConnection()
        self.assertIs(transport.producer, None)
        assert producer is not None
        self.assertIs(producer.request, None)
