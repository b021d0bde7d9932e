"""Idle connections over TLS: only a read tells whether a readable one is still open."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import struct
from typing import Any

from twisted.internet import tcp
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import CertificateOptions
from twisted.internet.task import Clock
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.net.wire import closed_by_peer, outlives_a_read, readable_check
from logging_proxy.test.certificates import identity
from logging_proxy.test.test_http_wire import tcp_pair

WHO = identity("localhost")


class NoReactor:
    def addReader(self, reader: object) -> None: ...

    removeReader = addWriter = removeWriter = addReader

    def callLater(self, delay: float, call: object, *arguments: object) -> None: ...


class Idle(Protocol):
    """Without a request: any input ends it, as in `ProxyClient`."""

    transport: Any

    def dataReceived(self, data: bytes) -> None:
        self.transport.abortConnection()


class SecurePair:
    """A TLS transport over TCP, after the handshake, and the peer, which is OpenSSL and the test."""

    def __init__(self, case: SynchronousTestCase, version: ssl.TLSVersion, tickets: int = 0) -> None:
        ours, self.peer = tcp_pair()
        for each in (ours, self.peer):
            case.addCleanup(each.close)
        self.below: Any = tcp.Connection(ours, None, NoReactor())  # type: ignore[arg-type]
        self.below.connected = 1
        factory = TLSMemoryBIOFactory(CertificateOptions(), True, Factory.forProtocol(Idle), Clock())
        self.transport: Any = factory.buildProtocol(None)
        self.below.protocol = self.transport
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.server = _context(case, version, tickets).wrap_bio(self._in, self._out, server_side=True)
        self.transport.makeConnection(self.below)
        self.peer.setblocking(False)
        self.peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._shake_hands()
        self.look = readable_check(self.transport)

    def _shake_hands(self) -> None:
        for _ in range(100_000):
            self._pump()
            if self.transport._handshakeDone:
                try:
                    self.server.do_handshake()
                except ssl.SSLWantReadError:
                    continue
                self.say()
                return
            self.say()
            self.below.doRead()
        raise AssertionError("no handshake")

    def _pump(self) -> None:
        """Our side's bytes reach the peer."""
        if self.below.dataBuffer or self.below._tempDataBuffer:
            self.below.doWrite()
        try:
            self._in.write(self.peer.recv(1 << 16))
            self.server.do_handshake()
        except (BlockingIOError, ssl.SSLWantReadError):
            pass

    def say(self) -> None:
        """The peer's bytes are sent."""
        self.peer.sendall(self._out.read())

    def close_notify(self) -> None:
        with contextlib.suppress(ssl.SSLWantReadError):
            self.server.unwrap()
        self.say()

    def waits(self) -> None:
        """Something has come."""
        assert select.select([self.below.socket], [], [], 60)[0]


def _context(case: SynchronousTestCase, version: ssl.TLSVersion, tickets: int) -> ssl.SSLContext:
    path = case.mktemp()
    with open(path, "wb") as file:
        file.write(WHO.key + WHO.certificate)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    context.minimum_version = context.maximum_version = version
    context.num_tickets = tickets
    return context


VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)


class IdleTests(SynchronousTestCase):
    def assertOpen(self, pair: SecurePair, expected: bool) -> None:
        pair.waits()
        self.assertEqual(outlives_a_read(pair.transport, pair.look), expected)

    def test_nothing(self) -> None:
        """A connection on which nothing has come has nothing to look at."""
        for version in VERSIONS:
            self.assertFalse(SecurePair(self, version).look())

    def test_tickets(self) -> None:
        """Session tickets that wait to be read are no end, and are read."""
        for tickets in (1, 2):
            pair = SecurePair(self, ssl.TLSVersion.TLSv1_3, tickets)
            self.assertOpen(pair, True)
            self.assertFalse(pair.look())

    def test_tickets_and_the_end(self) -> None:
        """Bytes after session tickets are noticed as well."""
        pair = SecurePair(self, ssl.TLSVersion.TLSv1_3, 2)
        pair.waits()
        pair.close_notify()
        self.assertOpen(pair, False)

    def test_close_notify(self) -> None:
        """A peer that says it closes has closed, though its TCP connection is there."""
        for version in VERSIONS:
            pair = SecurePair(self, version)
            pair.close_notify()
            self.assertOpen(pair, False)

    def test_end_of_tcp(self) -> None:
        """So has one that ends without a word."""
        for version in VERSIONS:
            pair = SecurePair(self, version)
            pair.peer.shutdown(socket.SHUT_WR)
            self.assertOpen(pair, False)

    def test_reset(self) -> None:
        """So has one that resets."""
        pair = SecurePair(self, ssl.TLSVersion.TLSv1_3)
        pair.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        pair.peer.close()
        self.assertOpen(pair, False)

    def test_unasked(self) -> None:
        """Unsolicited bytes end the connection."""
        for version in VERSIONS:
            pair = SecurePair(self, version)
            pair.server.write(b"HTTP/1.1 200 OK\r\n\r\n")
            pair.say()
            self.assertOpen(pair, False)

    def test_endless(self) -> None:
        """A peer that does not stop to send tickets is not waited for."""
        pair = SecurePair(self, ssl.TLSVersion.TLSv1_3, 1)
        self.assertFalse(outlives_a_read(pair.transport, lambda: True))


class ClosedByPeerTests(SynchronousTestCase):
    def test_told(self) -> None:
        """TLS knows whether its peer has said that it closes, whatever became of TCP."""
        for version in VERSIONS:
            pair = SecurePair(self, version)
            self.assertFalse(closed_by_peer(pair.transport))
            pair.close_notify()
            pair.waits()
            pair.below.doRead()
            self.assertTrue(closed_by_peer(pair.transport))

    def test_without_tls(self) -> None:
        """Nothing else says so."""
        self.assertFalse(closed_by_peer(SecurePair(self, VERSIONS[0]).below))
