"""The proxy on real sockets: the few things that memory cannot show."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Any
from unittest import mock

import trustme
from OpenSSL import SSL
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import SSL4ClientEndpoint, TCP4ClientEndpoint
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.ssl import CertificateOptions
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from logging_proxy.http.deadlines import Deadlines
from logging_proxy.http.pool import Pool
from logging_proxy.http.server import ServerLimits, Site
from logging_proxy.proxy.endpoints import endpoint_for
from logging_proxy.proxy.headers import ForwardedPolicy
from logging_proxy.proxy.surroundings import Surroundings
from logging_proxy.proxy.tree import Ids, RouteResource, RouteTree
from logging_proxy.recording.events import CaptureObserver, Recorder, publisher
from logging_proxy.recording.records import Kind, RecordReader
from logging_proxy.recording.writer import CaptureWriter
from logging_proxy.test.proxy_stage import Captured, FakeRing, get, limits, ok, post, route

reactor: Any = _reactor

SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: bytes\r\n\r\n"


class Peer(Protocol):
    """A client or an upstream whose bytes and whose end are waited for."""

    def __init__(self) -> None:
        self.data = b""
        self.ended: Failure | None = None
        self.answers: Callable[[Peer], None] | None = None
        self._waiting: list[tuple[Callable[[], bool], Deferred[None]]] = []

    def dataReceived(self, data: bytes) -> None:
        self.data += data
        if self.answers is not None and b"\r\n\r\n" in self.data:
            answers, self.answers = self.answers, None
            answers(self)
        self._look()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.ended = reason
        self._look()

    def until(self, condition: Callable[[], bool]) -> Deferred[None]:
        done: Deferred[None] = Deferred()
        self._waiting.append((condition, done))
        self._look()
        return done

    def end(self) -> Deferred[None]:
        return self.until(lambda: self.ended is not None)

    def _look(self) -> None:
        for each in list(self._waiting):
            if each[0]():
                self._waiting.remove(each)
                each[1].callback(None)

    @property
    def transport_(self) -> Any:
        """The transport, untyped."""
        return self.transport


class Upstream(Factory):
    def __init__(self, answers: Callable[[Peer], None] | None) -> None:
        self.answers = answers
        self.peers: list[Peer] = []

    def buildProtocol(self, addr: object) -> Peer:
        peer = Peer()
        peer.answers = self.answers
        self.peers.append(peer)
        return peer


class SocketTests(TestCase):
    timeout = 120

    def setUp(self) -> None:
        self.ring = FakeRing()
        self.connections: list[Peer] = []

    def listen(
        self, answers: Callable[[Peer], None] | None = None, tls: CertificateOptions | None = None
    ) -> int:
        """An upstream that calls `answers` when a head has come; its port."""
        self.upstream = Upstream(answers)
        if tls is None:
            port = reactor.listenTCP(0, self.upstream, interface="127.0.0.1")
        else:
            port = reactor.listenSSL(0, self.upstream, tls, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        number: int = port.getHost().port
        return number

    def proxy(self, destination: str, server: ServerLimits | None = None) -> None:
        """The proxy before `destination`, at `self.port`."""
        writer = CaptureWriter(self.ring, lambda: None, True, reactor)  # type: ignore[arg-type]
        surroundings = Surroundings(
            Recorder(writer), ForwardedPolicy(), publisher(CaptureObserver(writer)), True, b"/404/"
        )
        ids = Ids(surroundings.random)
        options = route("api", "/api/", destination)
        endpoint = endpoint_for(reactor, options.destination, 5.0)
        secure = options.destination.scheme == "https"
        self.pool = Pool(endpoint, reactor, Deadlines(reactor), limits(), secure)
        self.tree = RouteTree(ids, surroundings)
        self.tree.mount(RouteResource(options, self.pool, ids, surroundings))
        self.site = Site(self.tree, reactor, server or ServerLimits())
        port = reactor.listenTCP(0, self.site, interface="127.0.0.1")
        self.port = port.getHost().port
        self.addCleanup(self._all_ended)
        self.addCleanup(port.stopListening)

    async def _ended(self) -> None:
        for connection in list(self.site.connections):
            connection.transport.abortConnection()
        for client in list(self.pool._open):
            client.transport.abortConnection()
        for peer in [*self.connections, *self.upstream.peers]:
            if peer.ended is None:
                peer.transport_.abortConnection()
                await peer.end()
        while self.site.connections or self.pool._open:
            await deferLater(reactor, 0.01)

    def _all_ended(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._ended())

    async def client(self, data: bytes) -> Peer:
        factory = Factory.forProtocol(Peer)
        peer: Any = await TCP4ClientEndpoint(reactor, "127.0.0.1", self.port).connect(factory)
        self.connections.append(peer)
        peer.transport_.write(data)
        assert isinstance(peer, Peer)
        return peer

    @property
    def capture(self) -> Captured:
        return Captured([record for record in RecordReader().feed(bytes(self.ring.data)) if record.exchange])

    def test_direct(self) -> Deferred[None]:
        """Small exchanges go through, and use connections again on both sides."""

        async def run() -> None:
            port = self.listen(lambda peer: peer.transport_.write(ok(b"abc")))
            self.proxy(f"http://127.0.0.1:{port}/")
            client = await self.client(get())
            await client.until(lambda: client.data == ok(b"abc"))
            self.upstream.peers[0].data = client.data = b""
            self.upstream.peers[0].answers = lambda peer: peer.transport_.write(ok(b"def"))
            client.transport_.write(get())
            await client.until(lambda: client.data == ok(b"def"))
            self.assertEqual(len(self.upstream.peers), 1)

        return Deferred.fromCoroutine(run())

    def test_large(self) -> Deferred[None]:
        """Large bodies go through in both directions, byte for byte, and are recorded as they went."""
        sent, answer = os.urandom(3_000_001), os.urandom(5_000_003)

        async def run() -> None:
            port = self.listen(lambda peer: None)
            self.proxy(f"http://127.0.0.1:{port}/")
            client = await self.client(post(sent))
            await deferLater(reactor, 0)
            while not self.upstream.peers:
                await deferLater(reactor, 0.01)
            upstream = self.upstream.peers[0]
            await upstream.until(lambda: upstream.data.endswith(sent[-100:]))
            self.assertEqual(upstream.data.partition(b"\r\n\r\n")[2], sent)
            uploaded = self.ring.read_into
            upstream.transport_.write(ok(answer))
            await client.until(lambda: len(client.data) >= len(ok(answer)))
            self.assertEqual(client.data, ok(answer))
            self.assertEqual(self.capture.body(Kind.REQUEST_PIECE), sent)
            self.assertEqual(self.capture.body(Kind.RESPONSE_PIECE), answer)
            self.assertTrue(self.capture.complete(Kind.REQUEST_PIECE))
            self.assertTrue(self.capture.complete(Kind.RESPONSE_PIECE))
            self.assertTrue(0 < uploaded < self.ring.read_into)

        return Deferred.fromCoroutine(run())

    def test_refused(self) -> Deferred[None]:
        """A port without a listener is a 502 at once."""

        async def run() -> None:
            self.upstream = Upstream(None)
            with socket.create_server(("127.0.0.1", 0)) as listener:
                port = listener.getsockname()[1]
            self.proxy(f"http://localhost:{port}/")
            client = await self.client(get())
            await client.until(lambda: b"(exchange " in client.data)
            self.assertTrue(client.data.startswith(b"HTTP/1.1 502 "))
            self.assertEqual(self.capture.outcome, "connect_failed")

        return Deferred.fromCoroutine(run())

    def test_reset_in_a_stream(self) -> Deferred[None]:
        """An upstream's reset becomes a reset of the client, after the bytes that came before it."""

        async def run() -> None:
            def answer(peer: Peer) -> None:
                peer.transport_.write(b"HTTP/1.1 200 OK\r\n\r\nabc")
                reactor.callLater(0.05, peer.transport_.abortConnection)

            self.proxy(f"http://127.0.0.1:{self.listen(answer)}/")
            client = await self.client(get(version="1.0"))
            await client.end()
            self.assertTrue(client.data.endswith(b"\r\n\r\nabc"))
            assert client.ended is not None
            self.assertFalse(client.ended.check(ConnectionDone))
            self.assertEqual(self.capture.outcome, "upstream_reset")

        return Deferred.fromCoroutine(run())

    def test_cut_while_the_client_is_slow(self) -> Deferred[None]:
        """Bytes that wait for a slow client when its response is cut are sent before the reset."""

        async def run() -> None:
            size = 4 << 20

            def answer(peer: Peer) -> None:
                peer.transport_.write(
                    b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (size * 2) + bytes(size)
                )
                peer.transport_.loseConnection()

            self.proxy(f"http://127.0.0.1:{self.listen(answer)}/")
            client = await self.client(get())
            client.transport_.pauseProducing()
            await deferLater(reactor, 0.3)
            client.transport_.resumeProducing()
            await client.end()
            self.assertTrue(client.data.endswith(bytes(size)))
            assert client.ended is not None
            self.assertFalse(client.ended.check(ConnectionDone))
            self.assertEqual(self.capture.outcome, "upstream_closed")
            self.assertEqual(len(self.capture.body(Kind.RESPONSE_PIECE)), size)

        return Deferred.fromCoroutine(run())

    def test_early_answer_then_reset(self) -> Deferred[None]:
        """An upstream that refuses a large upload and resets: the client gets the refusal."""

        async def run() -> None:
            refused = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nbig"

            def answer(peer: Peer) -> None:
                peer.transport_.getHandle().send(refused)
                peer.transport_.abortConnection()

            self.proxy(f"http://127.0.0.1:{self.listen(answer)}/")
            client = await self.client(post(bytes(20 << 20)))
            await client.until(lambda: client.data.endswith(b"big"))
            self.assertTrue(client.data.startswith(b"HTTP/1.1 413 "))
            self.assertEqual(self.capture.outcome, "complete")

        return Deferred.fromCoroutine(run())

    def test_client_leaves(self) -> Deferred[None]:
        """A client that half-closes has left: the upstream is closed at once."""

        async def run() -> None:
            self.proxy(f"http://127.0.0.1:{self.listen(lambda peer: None)}/")
            client = await self.client(get())
            while not (self.upstream.peers and self.upstream.peers[0].data):
                await deferLater(reactor, 0.01)
            started = reactor.seconds()
            client.transport_.loseWriteConnection()
            await self.upstream.peers[0].end()
            self.assertLess(reactor.seconds() - started, 0.1)
            self.assertEqual(self.capture.outcome, "client_closed")

        return Deferred.fromCoroutine(run())

    def test_half_close_allowed(self) -> Deferred[None]:
        """With `half_close: allow` it still gets its answer."""

        async def run() -> None:
            def answer(peer: Peer) -> None:
                reactor.callLater(0.1, peer.transport_.write, ok(b"abc"))

            port = self.listen(answer)
            self.proxy(f"http://127.0.0.1:{port}/", ServerLimits(half_close_cancels=False))
            client = await self.client(get())
            client.transport_.loseWriteConnection()
            await client.end()
            self.assertTrue(client.data.endswith(b"\r\n\r\nabc"))
            self.assertEqual(self.capture.outcome, "complete")

        return Deferred.fromCoroutine(run())

    # --- TLS ------------------------------------------------------------------------

    def authority(self, trusted: bool) -> trustme.CA:
        """A CA; `trusted` makes it the only one that OpenSSL knows while the test runs."""
        ca = trustme.CA()
        path = self.mktemp()
        (ca if trusted else trustme.CA()).cert_pem.write_to_path(path)
        patched = mock.patch.dict("os.environ", {"SSL_CERT_FILE": path})
        patched.start()
        self.addCleanup(patched.stop)
        return ca

    def tls(self, ca: trustme.CA, name: str) -> CertificateOptions:
        certificate = ca.issue_cert(name)
        context = SSL.Context(SSL.TLS_METHOD)
        certificate.configure_cert(context)
        options = CertificateOptions()
        options._context = context
        return options

    async def refused(self, port: int, error: str) -> None:
        self.proxy(f"https://localhost:{port}/")
        client = await self.client(get("/api/x", "Authorization: Bearer sk-secret"))
        await client.until(lambda: b"(exchange " in client.data)
        self.assertTrue(client.data.startswith(b"HTTP/1.1 502 "))
        self.assertIn(error.encode(), client.data)
        self.assertEqual(self.capture.outcome, "tls_failed")
        self.assertIn(error, self.capture.error)
        await deferLater(reactor, 0.05)
        self.assertEqual([peer.data for peer in self.upstream.peers], [b""] * len(self.upstream.peers))

    def test_unknown_authority(self) -> Deferred[None]:
        """A certificate of an unknown authority: 502, the reason in the capture, not a byte sent."""
        ca = self.authority(trusted=False)
        port = self.listen(tls=self.tls(ca, "localhost"))
        return Deferred.fromCoroutine(self.refused(port, "an authority that is not trusted"))

    def test_wrong_name(self) -> Deferred[None]:
        """The same for another's certificate."""
        ca = self.authority(trusted=True)
        port = self.listen(tls=self.tls(ca, "other.example"))
        return Deferred.fromCoroutine(self.refused(port, "is for other.example, not for localhost"))

    def test_plain_upstream(self) -> Deferred[None]:
        """A destination that speaks no TLS is tls_failed, and never sees the request."""

        async def run() -> None:
            self.authority(trusted=True)
            self.proxy(f"https://127.0.0.1:{self.listen(lambda peer: peer.transport_.write(b'what?'))}/")
            client = await self.client(get("/api/x", "Authorization: Bearer sk-secret"))
            while not self.upstream.peers:
                await deferLater(reactor, 0.01)
            self.upstream.peers[0].transport_.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            await client.until(lambda: b"(exchange " in client.data)
            self.assertTrue(client.data.startswith(b"HTTP/1.1 502 "))
            self.assertEqual(self.capture.outcome, "tls_failed")
            self.assertNotIn(b"sk-secret", self.upstream.peers[0].data)

        return Deferred.fromCoroutine(run())

    def test_verified(self) -> Deferred[None]:
        """A name that is verified is asked, and its connection used again."""

        async def run() -> None:
            ca = self.authority(trusted=True)
            port = self.listen(lambda peer: peer.transport_.write(ok(b"abc")), self.tls(ca, "localhost"))
            self.proxy(f"https://localhost:{port}/")
            client = await self.client(get())
            await client.until(lambda: client.data == ok(b"abc"))
            self.assertIn(b"\r\nHost: localhost:%d\r\n" % port, self.upstream.peers[0].data)
            self.assertIsNotNone(self.pool.take())

        return Deferred.fromCoroutine(run())

    def test_without_close_notify(self) -> Deferred[None]:
        """TLS that ends without close_notify is a cut, even of a body that lasts until the end."""

        async def run() -> None:
            def answer(peer: Peer) -> None:
                peer.transport_.write(b"HTTP/1.1 200 OK\r\n\r\nabc")
                below = peer.transport_.transport
                reactor.callLater(0.05, below.loseConnection)

            ca = self.authority(trusted=True)
            self.proxy(f"https://localhost:{self.listen(answer, self.tls(ca, 'localhost'))}/")
            client = await self.client(get())
            await client.end()
            self.assertTrue(client.data.endswith(b"3\r\nabc\r\n"))
            self.assertEqual(self.capture.outcome, "upstream_reset")

        return Deferred.fromCoroutine(run())

    def test_with_close_notify(self) -> Deferred[None]:
        """With it, the body is whole."""

        async def run() -> None:
            def answer(peer: Peer) -> None:
                peer.transport_.write(b"HTTP/1.1 200 OK\r\n\r\nabc")
                peer.transport_.loseConnection()

            ca = self.authority(trusted=True)
            self.proxy(f"https://localhost:{self.listen(answer, self.tls(ca, 'localhost'))}/")
            client = await self.client(get())
            await client.until(lambda: client.data.endswith(b"3\r\nabc\r\n0\r\n\r\n"))
            self.assertEqual(self.capture.outcome, "complete")

        return Deferred.fromCoroutine(run())

    # --- tunnels under TLS --------------------------------------------------------------

    def switching_upstream(self) -> int:
        """A TLS upstream that switches protocols and says hello."""
        ca = self.authority(trusted=True)
        return self.listen(lambda peer: peer.transport_.write(SWITCH + b"hello"), self.tls(ca, "localhost"))

    async def tunnel(self) -> tuple[Peer, Peer]:
        """A client and an upstream, both behind the switch."""
        client = await self.client(get("/api/x", "Connection: Upgrade", "Upgrade: bytes"))
        await client.until(lambda: client.data == SWITCH + b"hello")
        (upstream,) = self.upstream.peers
        upstream.data = b""
        return client, upstream

    def test_tunnel_to_tls(self) -> Deferred[None]:
        """A client that ends its direction closes the upstream's TLS in good order, behind its last byte."""

        async def run() -> None:
            self.proxy(f"https://localhost:{self.switching_upstream()}/")
            client, upstream = await self.tunnel()
            client.transport_.write(bytes(1 << 20))
            client.transport_.loseWriteConnection()
            await upstream.end()
            assert upstream.ended is not None
            self.assertTrue(upstream.ended.check(ConnectionDone))
            self.assertEqual(upstream.data, bytes(1 << 20))
            await client.end()
            self.assertEqual(self.capture.outcome, "complete")
            self.assertEqual(self.capture.body(Kind.TUNNEL_CLIENT), bytes(1 << 20))

        return Deferred.fromCoroutine(run())

    def test_tunnel_from_tls(self) -> Deferred[None]:
        """An upstream's close_notify reaches the client as the end, behind the last byte."""

        async def run() -> None:
            self.proxy(f"https://localhost:{self.switching_upstream()}/")
            client, upstream = await self.tunnel()
            upstream.transport_.write(bytes(1 << 20))
            upstream.transport_.loseConnection()
            await client.end()
            assert client.ended is not None
            self.assertTrue(client.ended.check(ConnectionDone))
            self.assertEqual(client.data, SWITCH + b"hello" + bytes(1 << 20))
            await self.until_recorded()
            self.assertEqual(self.capture.outcome, "complete")

        return Deferred.fromCoroutine(run())

    def test_tunnel_cut_under_tls(self) -> Deferred[None]:
        """Without close_notify it is a cut: the client is reset."""

        async def run() -> None:
            self.proxy(f"https://localhost:{self.switching_upstream()}/")
            client, upstream = await self.tunnel()
            upstream.transport_.transport.loseConnection()
            await client.end()
            assert client.ended is not None
            self.assertFalse(client.ended.check(ConnectionDone))
            self.assertEqual(self.capture.outcome, "upstream_reset")

        return Deferred.fromCoroutine(run())

    def test_tunnel_of_a_tls_client(self) -> Deferred[None]:
        """A client's TLS carries a tunnel too; its close is the upstream's end."""

        async def run() -> None:
            ca = trustme.CA()
            port = self.listen(lambda peer: peer.transport_.write(SWITCH + b"hello"))
            self.proxy(f"http://127.0.0.1:{port}/")
            secure = reactor.listenSSL(0, self.site, self.tls(ca, "localhost"), interface="127.0.0.1")
            self.addCleanup(secure.stopListening)
            number = secure.getHost().port
            endpoint = SSL4ClientEndpoint(reactor, "127.0.0.1", number, CertificateOptions(verify=False))
            client: Any = await endpoint.connect(Factory.forProtocol(Peer))
            self.connections.append(client)
            client.transport.write(get("/api/x", "Connection: Upgrade", "Upgrade: bytes"))
            await client.until(lambda: client.data == SWITCH + b"hello")
            client.transport.write(bytes(1 << 20))
            client.transport.loseConnection()
            (upstream,) = self.upstream.peers
            await upstream.end()
            self.assertTrue(upstream.data.endswith(bytes(1 << 20)))
            await self.until_recorded()
            self.assertEqual(self.capture.outcome, "complete")
            self.assertEqual(self.capture.body(Kind.TUNNEL_CLIENT), bytes(1 << 20))

        return Deferred.fromCoroutine(run())

    async def until_recorded(self) -> None:
        """Returns when the capture has its end."""
        while not self.capture.of(Kind.END):
            await deferLater(reactor, 0.01)

    def test_slow_client_is_not_given_up(self) -> Deferred[None]:
        """A client that reads little, but reads, is waited for; one that stops is not."""

        async def run() -> None:
            size = 32 << 20

            def answer(peer: Peer) -> None:
                peer.transport_.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + bytes(size))

            port = self.listen(answer)
            self.proxy(f"http://127.0.0.1:{port}/", ServerLimits(send_timeout=2.0))
            client = await self.client(get())
            for _ in range(10):
                client.transport_.pauseProducing()
                await deferLater(reactor, 0.3)
                client.transport_.resumeProducing()
                await deferLater(reactor, 0.005)
            self.assertLess(len(client.data), size)
            self.assertEqual(self.capture.of(Kind.END), [])
            client.transport_.pauseProducing()
            await self.until_recorded()
            self.assertEqual(self.capture.outcome, "client_closed")
            self.assertEqual(self.capture.error, "the client took nothing for 2 s")

        return Deferred.fromCoroutine(run())
