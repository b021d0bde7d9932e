"""Sending directly: when it is allowed, and when it is not."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import socket
import struct
import termios
import time
from collections.abc import Callable
from threading import Thread
from typing import Any

import trustme
from twisted.internet import tcp
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, wrapClientTLS
from twisted.internet.interfaces import IProtocol
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import (
    Certificate,
    CertificateOptions,
    PrivateCertificate,
    optionsForClientTLS,
    trustRootFromCertificates,
)
from twisted.internet.task import Clock, deferLater
from twisted.internet.testing import StringTransport
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase

from logging_proxy.http.server import ServerLimits, Site
from logging_proxy.net import wire
from logging_proxy.net.wire import (
    LARGEST_READ,
    LOCAL_QUEUE,
    discard_data,
    half_closer,
    looks_closed,
    queue_length,
    read_directly,
    read_no_more,
    sender,
    unreceived,
)
from logging_proxy.test.http_stage import Desk
from logging_proxy.test.shortcut_stage import InPython

LARGE = 100_000


class NoReactor:
    def addReader(self, reader: object) -> None: ...

    removeReader = addWriter = removeWriter = addReader


class Pair:
    """A plain TCP transport of Twisted's, and the peer's socket."""

    def __init__(
        self,
        case: SynchronousTestCase,
        kind: type[tcp.Connection] = tcp.Connection,
        pair: Callable[[], tuple[socket.socket, socket.socket]] = socket.socketpair,
    ) -> None:
        ours, self.peer = pair()
        case.addCleanup(ours.close)
        case.addCleanup(self.peer.close)
        self.transport = kind(ours, Protocol(), NoReactor())  # type: ignore[arg-type]
        self.transport.connected = 1
        self.transport.protocol.makeConnection(self.transport)

    def flush(self) -> None:
        while self.transport.dataBuffer or self.transport._tempDataBuffer:
            assert self.transport.doWrite() is None


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        return ours, listener.accept()[0]


def reset(pair: Pair) -> None:
    """The peer resets the connection, and the news is there."""
    pair.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    pair.peer.close()
    poller = select.poll()
    poller.register(pair.transport.fileno(), 0)
    assert poller.poll(10_000)


class UnreceivedTests(SynchronousTestCase):
    def test_counted(self) -> None:
        """Bytes in the kernel's and the transport's queue count until the peer has received them."""
        for pair in (Pair(self, pair=tcp_pair), Pair(self)):
            self.assertEqual(unreceived(pair.transport), 0)
            while sender(pair.transport)(bytes(LARGE)):
                pass
            queued = queue_length(pair.transport)()
            self.assertGreater(unreceived(pair.transport), queued)
            pair.transport.write(bytes(LARGE))
            self.assertGreater(unreceived(pair.transport), queued + LARGE)
            self.receive_all(pair)

    def receive_all(self, pair: Pair) -> None:
        pair.peer.setblocking(False)
        for _ in range(6000):  # acknowledgements may be late
            pair.transport.doWrite()
            with contextlib.suppress(BlockingIOError):
                while pair.peer.recv(1 << 20):
                    pass
            if not unreceived(pair.transport):
                return
            time.sleep(0.01)
        self.fail("the peer has it all")

    def test_cannot_tell(self) -> None:
        """Other transports, and connections that are lost."""
        pair = Pair(self)
        pair.transport.connected = 0
        for transport in (StringTransport(), pair.transport):
            self.assertEqual(unreceived(transport), 0)


class DirectTests(SynchronousTestCase):
    def test_at_once(self) -> None:
        """When nothing is queued the bytes leave at once, and nothing is left to do."""
        pair = Pair(self)
        self.assertTrue(sender(pair.transport)(b"hello"))
        self.assertEqual(pair.peer.recv(99), b"hello")
        self.assertEqual(queue_length(pair.transport)(), 0)

    def test_behind_what_is_queued(self) -> None:
        """No byte overtakes those in either of the transport's two queues."""
        for partly_sent in (False, True):
            pair = Pair(self)
            pair.transport.write(b"first ")
            if partly_sent:
                pair.transport.SEND_LIMIT = 3
                pair.transport.doWrite()
            self.assertFalse(sender(pair.transport)(b"second"))
            pair.flush()
            self.assertEqual(pair.peer.recv(99), b"first second")

    def test_full(self) -> None:
        """Bytes that the kernel does not take are queued, in order and once."""
        pair = Pair(self)
        pair.peer.settimeout(60)
        send = sender(pair.transport)
        data = bytes(range(256)) * 8192
        self.assertFalse(send(data))
        self.assertFalse(send(b"end"))
        length = queue_length(pair.transport)
        self.assertGreater(length(), 3)
        received = b""
        while len(received) < len(data) + 3:
            received += pair.peer.recv(1 << 20)
            if length():
                pair.transport.doWrite()
        self.assertEqual((received, length()), (data + b"end", 0))

    def test_not_after_the_end(self) -> None:
        """After `loseConnection`, `loseWriteConnection` or the loss nothing is sent past the transport."""
        for end in ("loseConnection", "loseWriteConnection"):
            pair = Pair(self)
            send = sender(pair.transport)
            getattr(pair.transport, end)()
            self.assertFalse(send(b"late"))
            pair.peer.setblocking(False)
            self.assertRaises(BlockingIOError, pair.peer.recv, 1)
        pair = Pair(self)
        send = sender(pair.transport)
        pair.transport.connectionLost(Failure(CONNECTION_LOST))
        self.assertFalse(send(b"late"))
        self.assertEqual(pair.peer.recv(1), b"")
        self.assertEqual(queue_length(pair.transport)(), 0)

    def test_reset_by_peer(self) -> None:
        """An error of the socket is the reactor's to report: here the bytes are merely queued."""
        pair = Pair(self)
        pair.peer.close()
        self.assertFalse(sender(pair.transport)(b"hello"))
        self.assertIsInstance(pair.transport.doWrite(), Exception)

    def test_reset_before_the_end(self) -> None:
        """A send that takes a reset away from the read that follows says so; the read finds a proper end."""
        pair, failed = Pair(self, pair=tcp_pair), []
        send = sender(pair.transport, lambda: failed.append("reset"))
        self.assertTrue(send(b"hello"))
        reset(pair)
        for _ in range(2):
            self.assertFalse(send(b"more"))
            self.assertEqual(failed, ["reset"])
        self.assertEqual(pair.transport.socket.recv(9), b"")

    def test_reset_behind_the_end(self) -> None:
        """A peer that had ended its sending before has ended it in good order, whatever a send meets."""
        pair, failed = Pair(self, pair=tcp_pair), []
        send = sender(pair.transport, lambda: failed.append("reset"))
        pair.peer.sendall(b"all of it")
        pair.peer.shutdown(socket.SHUT_WR)
        reset(pair)
        self.assertFalse(send(b"more"))
        self.assertEqual([pair.transport.socket.recv(9) for _ in range(2)], [b"all of it", b""])
        self.assertEqual(failed, [])

    def test_no_room(self) -> None:
        """A full socket buffer is no loss of the connection."""
        pair, failed = Pair(self), []
        send = sender(pair.transport, lambda: failed.append("full"))
        while send(bytes(LARGE)):
            pass
        self.assertEqual(failed, [])

    def test_nothing(self) -> None:
        """An empty send counts as sent, also behind waiting bytes."""
        pair = Pair(self)
        pair.transport.write(b"first")
        self.assertTrue(sender(pair.transport)(b""))

    def test_other_transports(self) -> None:
        """Any other transport is written to."""
        transport = StringTransport()
        self.assertFalse(sender(transport)(b"hello"))
        self.assertEqual((transport.value(), queue_length(transport)()), (b"hello", 0))

    def test_gone(self) -> None:
        """The sender of a lost connection accepts all bytes, so that no direction waits for it."""
        self.assertTrue(discard_data(b"hello"))

    def test_renamed_names(self) -> None:
        """A Twisted without one of the private names fails when the connection is made, not later."""
        for name in ("_tempDataBuffer", "_writeDisconnecting", "dataBuffer", "disconnecting"):
            transport = Pair(self, _without(name)).transport
            self.assertRaises(AttributeError, sender, transport)
        for name in ("_tempDataLen", "offset"):
            transport = Pair(self, _without(name)).transport
            self.assertRaises(AttributeError, queue_length, transport)


class ReadTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.heard: list[bytes] = []
        self.memory: list[memoryview] = []
        self.begin(Pair(self))

    def begin(self, pair: Pair) -> None:
        self.pair = pair
        read_directly(pair.transport, self.hear, self.read_buffer)
        self.read = pair.transport.doRead

    def hear(self, data: bytes) -> None:
        self.heard.append(bytes(data))

    def read_buffer(self) -> memoryview | None:
        return self.memory.pop(0) if self.memory else None

    def test_what_is_there(self) -> None:
        """The peer's bytes are delivered in one piece; without bytes there is no call."""
        self.pair.peer.send(b"hello")
        self.assertIsNone(self.read())
        self.assertIsNone(self.read())
        self.assertEqual(self.heard, [b"hello"])

    def test_the_end(self) -> None:
        """The peer's end is told to the reactor as Twisted's own transports tell it."""
        self.pair.peer.close()
        self.assertIs(self.read(), CONNECTION_DONE)
        self.assertEqual(self.heard, [])

    def test_lost(self) -> None:
        """A socket that cannot be read is a lost connection."""
        self.pair.transport.socket.close()
        self.assertIs(self.read(), CONNECTION_LOST)

    def test_larger_and_smaller(self) -> None:
        """Reads grow where one is filled, and shrink when little comes."""
        self.pair.peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * LARGEST_READ)
        usual = self.pair.transport.bufferSize
        for comes, read in (
            (usual - 1, [usual - 1]),
            (2 * usual, [usual, usual]),
            (LARGEST_READ, [LARGEST_READ]),
            (usual + 1, [usual + 1]),
            (usual - 1, [usual - 1]),
            (usual + 1, [usual, 1]),
        ):
            self.comes(bytes(comes))
            for _ in read:
                self.assertIsNone(self.read())
            self.assertEqual([len(data) for data in self.heard], read)
            self.heard.clear()

    def comes(self, data: bytes) -> None:
        """All of `data` is there to be read."""
        sender = Thread(target=self.pair.peer.sendall, args=[data])
        sender.start()
        fd, waiting = self.pair.transport.fileno(), 0
        deadline = time.monotonic() + 60
        while waiting < len(data):
            (waiting,) = struct.unpack("i", fcntl.ioctl(fd, termios.FIONREAD, bytes(4)))
            self.assertLess(time.monotonic(), deadline)
        sender.join()

    def test_short_queue(self) -> None:
        """A peer on this machine that sends much has little waiting; others are left alone."""
        for host, short in (("127.0.0.1", True), ("::1", True), ("192.0.2.1", False), ("2001:db8::1", False)):
            options: list[tuple[int, int, int]] = []

            class Socket:
                family = socket.AF_INET

                def getpeername(self, host: str = host) -> tuple[str, int]:
                    return host, 80

                def setsockopt(self, *option: int, options: list[tuple[int, int, int]] = options) -> None:
                    options.append(option)  # type: ignore[arg-type]

            wire._keep_queue_short(Socket())  # type: ignore[arg-type]
            self.assertEqual(options, [(socket.SOL_SOCKET, socket.SO_RCVBUF, LOCAL_QUEUE)] if short else [])

    def test_much_comes(self) -> None:
        """The queue is seen to when a small read is filled, and not at every one that is."""
        seen: list[socket.socket] = []
        self.patch(wire, "_keep_queue_short", seen.append)
        self.begin(Pair(self))
        usual = self.pair.transport.bufferSize
        for size, times in ((usual - 1, 0), (usual, 1), (usual, 1), (usual - 1, 1), (usual, 2)):
            self.comes(bytes(size))
            self.read()
            self.assertEqual(seen, [self.pair.transport.socket] * times)

    def test_read_buffer(self) -> None:
        """Where much comes it goes where it is wanted, if it is wanted; little does not."""
        usual = self.pair.transport.bufferSize
        places = [bytearray(usual), bytearray(usual + 7)]
        for sent, place in ((usual, None), (usual, 0), (usual, 1), (5, None), (5, None)):
            self.memory[:] = [] if place is None else [memoryview(places[place])]
            data = os.urandom(sent)
            self.pair.peer.sendall(data)
            self.assertIsNone(self.read())
            self.assertEqual(self.heard.pop(), data)
            if place is not None:
                self.assertEqual(bytes(places[place][:sent]), data)
        self.memory[:] = [memoryview(places[0])]
        self.pair.peer.sendall(b"hello")
        self.read()
        self.assertEqual((self.heard, len(self.memory)), ([b"hello"], 1))

    def test_end_and_loss_with_a_read_buffer(self) -> None:
        """The end and the loss of a connection are reported as without a read buffer."""
        usual = self.pair.transport.bufferSize
        self.pair.peer.sendall(bytes(usual))
        self.read()
        self.memory[:] = [memoryview(bytearray(9)) for _ in range(3)]
        self.assertIsNone(self.read())
        self.pair.peer.close()
        self.assertIs(self.read(), CONNECTION_DONE)
        self.pair.transport.socket.close()
        self.assertIs(self.read(), CONNECTION_LOST)
        self.assertEqual((len(self.heard), self.memory), (1, []))

    def test_let_go(self) -> None:
        """Afterwards the transport reads as Twisted does, and does not refer to the protocol."""
        read_no_more(self.pair.transport)
        self.assertNotIn("doRead", vars(self.pair.transport))
        self.pair.peer.send(b"hello")
        self.pair.transport.doRead()
        self.assertEqual(self.heard, [])

    def test_without_tcp(self) -> None:
        """Other transports, TLS above all, stay as they are."""
        transport = StringTransport()
        read_directly(transport, self.hear, self.read_buffer)
        self.assertNotIn("doRead", vars(transport))


class DirectInPythonTests(InPython, DirectTests): ...


class ReadInPythonTests(InPython, ReadTests): ...


def _without(missing: str) -> type[tcp.Connection]:
    class Renamed(tcp.Connection):
        def __getattribute__(self, name: str) -> Any:
            if name == missing:
                raise AttributeError(name)
            return super().__getattribute__(name)

    return Renamed


class LooksClosedTests(SynchronousTestCase):
    def test_open(self) -> None:
        """An idle connection looks open."""
        self.assertFalse(looks_closed(Pair(self).transport))

    def test_closed(self) -> None:
        """One that the peer has closed, or reset, does not."""
        pair = Pair(self)
        pair.peer.close()
        self.assertTrue(looks_closed(pair.transport))

    def test_data(self) -> None:
        """Nor does one with unsolicited bytes; they stay where they are."""
        pair = Pair(self)
        pair.peer.send(b"x")
        self.assertTrue(looks_closed(pair.transport))
        self.assertEqual(pair.transport.socket.recv(9), b"x")

    def test_unknown(self) -> None:
        """Where it cannot be known, nothing is suspected."""
        self.assertFalse(looks_closed(StringTransport()))


class _Anonymous(tcp.Connection):
    """A transport of TCP over a socket pair."""

    def getPeer(self) -> None:
        return None

    def setTcpNoDelay(self, enabled: bool) -> None: ...


class ClosingSiteTests(SynchronousTestCase):
    def test_request_not_read_yet(self) -> None:
        """A site that closes leaves a connection open whose next request is already in the socket."""
        for sent, closing in ((b"", True), (b"GET / HTTP/1.1\r\n", False)):
            pair = Pair(self, _Anonymous)
            desk = Desk()
            site = Site(desk, Clock(), ServerLimits())
            connection = site.buildProtocol(None)
            connection.makeConnection(pair.transport)
            connection.dataReceived(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            desk.pending[0].answer(keep_alive=True)
            pair.peer.send(sent)
            site.close()
            self.assertEqual(bool(pair.transport.disconnecting), closing)


class Collector(Protocol):
    def __init__(self) -> None:
        self.received = b""
        self.lost: Deferred[bytes] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: object = None) -> None:
        self.lost.callback(self.received)


class TlsTests(TestCase):
    """With a real TLS pair: that nothing leaves in clear cannot be seen on a fake."""

    def listen(self, wrapped: Factory) -> int:
        from twisted.internet import reactor

        self.authority = trustme.CA()
        leaf = self.authority.issue_cert("localhost")
        private = leaf.private_key_pem.bytes() + leaf.cert_chain_pems[0].bytes()
        options: CertificateOptions = PrivateCertificate.loadPEM(private).options()
        factory = TLSMemoryBIOFactory(options, False, wrapped)
        port: Any = reactor.listenTCP(0, factory, interface="127.0.0.1")  # type: ignore[arg-type]
        self.addCleanup(port.stopListening)
        number: int = port.getHost().port
        return number

    def connect(self, port: int) -> Deferred[IProtocol]:
        from twisted.internet import reactor

        root = Certificate.loadPEM(self.authority.cert_pem.bytes())
        options = optionsForClientTLS("localhost", trustRootFromCertificates([root]))
        endpoint = wrapClientTLS(options, TCP4ClientEndpoint(reactor, "127.0.0.1", port))
        return endpoint.connect(Factory.forProtocol(Collector))

    async def test_early_answer(self) -> None:
        """Over TLS every byte goes through TLS, and an answer that closes early arrives whole."""
        from twisted.internet import reactor

        answer = b"HTTP/1.1 413 no\r\nContent-Length: 100000\r\n\r\n" + b"x" * 100_000
        seen = []

        class Refusing(Desk):
            def take(self, pending: Any) -> Any:
                transport = pending.connection.transport
                seen.append((type(transport).__name__, half_closer(transport), pending.done))
                for at in range(0, len(answer), 10_000):
                    pending.connection.send(answer[at : at + 10_000])
                pending.connection.finish(False)
                return pending

        site = Site(Refusing(), reactor, ServerLimits(), secure=True)
        client: Any = await self.connect(self.listen(site))
        client.transport.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n")
        self.assertEqual(await client.lost, answer)
        self.assertEqual(seen, [("BufferingTLSTransport", None, False)])
        while site.connections:  # or trial's time-out
            await deferLater(reactor, 0.01)
