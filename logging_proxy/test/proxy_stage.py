"""
The proxy between a scripted client and a scripted upstream, all in memory.

`Wire` is one end of a connection: what a protocol of ours holds as its
transport, and what the test plays the peer with.  `Stage` is a whole proxy of
routes, engine and recording, on a clock that the test turns.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, cast

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHalfCloseableProtocol, IHandshakeListener
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogEvent
from twisted.python.failure import Failure

from logging_proxy.configuration.options import RouteOptions
from logging_proxy.http.deadlines import Deadlines
from logging_proxy.http.pool import ClientLimits, Pool
from logging_proxy.http.proxy_client import ProxyClient
from logging_proxy.http.server import ServerConnection, ServerLimits, Site
from logging_proxy.proxy.headers import ForwardedPolicy
from logging_proxy.proxy.surroundings import Surroundings
from logging_proxy.proxy.tree import Ids, RouteResource, RouteTree
from logging_proxy.recording.events import CaptureObserver, Recorder, publisher
from logging_proxy.recording.records import OUTCOMES, Flag, Kind, Record, RecordReader, decode_request_head
from logging_proxy.recording.writer import CaptureWriter
from logging_proxy.routing.mapping import parse_destination
from logging_proxy.routing.patterns import parse

READ_SIZE = 65536
"""The most bytes that a transport reads at a time."""

WALL = 1_000_000_000_000_000_000


class Wire:
    """A transport whose peer is the test: `deliver`, `fin`, `rst` come from there, `sent` got there."""

    bufferSize = 65536
    disconnecting = False
    TLS = False
    """Whether our side has no half to close."""

    def __init__(self, clock: Clock, protocol: Any, port: int = 50000) -> None:
        self.sent = bytearray()
        self.protocol = protocol
        self.aborted = False
        self.closed = False
        """Whether our side has ended its sending in good order."""
        self.lost = False
        self.reading = True
        self.stalled = False
        """Whether the peer does not read."""
        self.buffer = bytearray()
        self.producer: Any = None
        self.streaming = True
        self.most_buffered = 0
        self._clock = clock
        self._port = port
        self._paused_producer = False
        self._inbox: deque[bytes | Failure] = deque()

    def connect(self) -> Wire:
        self.protocol.makeConnection(self)
        return self

    # --- what the test does ---------------------------------------------------

    def deliver(self, data: bytes, size: int = READ_SIZE, last: bool = True) -> None:
        """
        The peer sends `data`, which is read in pieces of `size`.

        If that is `last` for a while, what is faulty in it is judged.
        """
        for at in range(0, len(data), size):
            self._inbox.append(data[at : at + size])
        self._read()
        if last:
            self.settle()

    def settle(self) -> None:
        """No more bytes come for a moment, so that a fault is judged."""
        gathering = getattr(self.protocol, "_gathering", None)
        if gathering is not None:
            gathering.finish()

    def fin(self) -> None:
        self._inbox.append(Failure(ConnectionDone()))
        self._read()

    def close_notify(self) -> None:
        """TLS ends, and with it the connection."""
        self._lose(Failure(ConnectionDone()))

    def rst(self) -> None:
        """Known at once, even while reading is paused."""
        self._lose(Failure(ConnectionLost()))

    def handshake(self) -> None:
        """TLS has verified the peer."""
        assert IHandshakeListener.providedBy(self.protocol)
        self.protocol.handshakeCompleted()

    def take(self, size: int | None = None) -> bytes:
        """The peer reads the waiting bytes, or `size` of them; returns them."""
        taken = bytes(self.buffer[:size])
        del self.buffer[: len(taken)]
        self.sent += taken
        self._sent()
        return taken

    def received(self) -> bytes:
        """The bytes that have arrived at the peer since the last call."""
        data = bytes(self.sent)
        self.sent.clear()
        return data

    @property
    def waiting(self) -> int:
        """Bytes that the peer has sent and our side has not read."""
        return sum(len(each) for each in self._inbox if isinstance(each, bytes))

    def _read(self) -> None:
        while self._inbox and self.reading and not (self.lost or self.aborted or self.disconnecting):
            piece = self._inbox.popleft()
            if isinstance(piece, bytes):
                self.protocol.dataReceived(piece)
            elif IHalfCloseableProtocol.providedBy(self.protocol):
                self.protocol.readConnectionLost()
            else:
                self._lose(piece)

    def _lose(self, reason: Failure) -> None:
        if self.lost:
            return
        self.lost = True
        producer, self.producer = self.producer, None
        if producer is not None:
            producer.stopProducing()
        self.protocol.connectionLost(reason)

    def _sent(self) -> None:
        if self.buffer or self.lost:
            return
        if self.producer is not None and (self._paused_producer or not self.streaming):
            self._paused_producer = False
            self.producer.resumeProducing()
        elif self.disconnecting and self.producer is None:
            self.closed = True
            self._clock.callLater(0, self._lose, Failure(ConnectionDone()))

    # --- ITransport, IConsumer, IPushProducer -----------------------------------

    def write(self, data: bytes) -> None:
        if self.lost or self.aborted or not data:
            return
        self.buffer += data
        self.most_buffered = max(self.most_buffered, len(self.buffer))
        if self.producer is not None and self.streaming and len(self.buffer) > self.bufferSize:
            self._paused_producer = True
            self.producer.pauseProducing()
        if not self.stalled:
            self.take()

    def loseConnection(self) -> None:
        if not self.disconnecting and not self.aborted:
            self.disconnecting = True
            self._sent()

    def abortConnection(self) -> None:
        if not self.lost and not self.aborted:
            self.aborted = True
            self.buffer.clear()
            self._clock.callLater(0, self._lose, Failure(ConnectionAborted()))

    def loseWriteConnection(self) -> None:
        self.closed = True

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        if self.producer is not None:
            raise RuntimeError("a producer is registered already")
        self.producer, self.streaming = producer, streaming
        if self.lost:
            producer.stopProducing()

    def unregisterProducer(self) -> None:
        self.producer = None
        if self.disconnecting:
            self._sent()

    def pauseProducing(self) -> None:
        self.reading = False

    def resumeProducing(self) -> None:
        self.reading = True
        self._clock.callLater(0, self._read)

    def getPeer(self) -> IPv4Address:
        return IPv4Address("TCP", "192.0.2.7", self._port)

    def getHost(self) -> IPv4Address:
        return IPv4Address("TCP", "127.0.0.1", 5601)


class FakeEndpoint:
    """Connects at once, or when the test says so."""

    def __init__(self, clock: Clock) -> None:
        self.wires: list[Wire] = []
        self.manual = False
        self.failure: BaseException | None = None
        self.pending: list[tuple[Deferred[Any], Any]] = []
        self.cancelled = 0
        self._clock = clock

    def connect(self, factory: Any) -> Deferred[Any]:
        connected: Deferred[Any] = Deferred(self._cancel)
        self.pending.append((connected, factory))
        if not self.manual:
            self.finish(self.failure)
        return connected

    def finish(self, failure: BaseException | None = None) -> None:
        """The oldest attempt fails, or succeeds."""
        connected, factory = self.pending.pop(0)
        if failure is not None:
            connected.errback(failure)
            return
        wire = Wire(self._clock, factory.buildProtocol(None))
        self.wires.append(wire)
        wire.connect()
        connected.callback(wire.protocol)

    def _cancel(self, connected: Deferred[Any]) -> None:
        self.cancelled += 1
        self.pending = [each for each in self.pending if each[0] is not connected]


class FakeRing:
    """A ring that keeps everything, and has no room while `frozen`."""

    capacity = 1 << 60

    def __init__(self) -> None:
        self.data = bytearray()
        self.frozen = False
        self.stored = 0
        self.read_into = 0
        """How many times bytes were read into it."""

    @property
    def taken(self) -> int:
        return self.stored - self.capacity if self.frozen else self.stored

    @property
    def room(self) -> int:
        return self.capacity - (self.stored - self.taken)

    def tell(self, trouble: str) -> None:
        """The test does not need it."""

    def store(self, data: bytes) -> None:
        self.stored += len(data)
        self.data += data

    def read_buffer(self, ahead: int, least: int, most: int) -> memoryview | None:
        if self.frozen or most < least:
            return None
        self._place = memoryview(bytearray(most))
        return self._place

    def store_read(self, ahead: bytes, size: int) -> None:
        self.read_into += 1
        self.store(ahead + self._place[:size])


@dataclass
class Captured:
    """The records of one exchange, read back."""

    records: list[Record] = field(default_factory=list)

    def of(self, kind: Kind) -> list[bytes]:
        return [record.content for record in self.records if record.kind == kind]

    def body(self, kind: Kind) -> bytes:
        """The content of the pieces of `kind`."""
        return self._pieces(kind, 0)

    def refused(self, kind: Kind) -> bytes:
        """The content of the refused pieces of `kind`."""
        return self._pieces(kind, Flag.REFUSED)

    def _pieces(self, kind: Kind, flag: int) -> bytes:
        return b"".join(
            record.content
            for record in self.records
            if record.kind == kind and record.flags & Flag.REFUSED == flag
        )

    def complete(self, kind: Kind) -> bool:
        """Whether a piece of `kind` is marked as the body's last."""
        return any(record.flags & Flag.LAST for record in self.records if record.kind == kind)

    @property
    def kinds(self) -> list[str]:
        return [record.kind.name for record in self.records]

    @property
    def outcome(self) -> str:
        (end,) = self.of(Kind.END)
        return OUTCOMES[end[0]]

    @property
    def error(self) -> str:
        (end,) = self.of(Kind.END)
        return end[1:].decode()

    @property
    def opening(self) -> Any:
        (payload,) = self.of(Kind.REQUEST_HEAD)
        return decode_request_head(payload)


LIMITS = ClientLimits()


def route(name: str, pattern: str, destination: str, logging: bool = True) -> RouteOptions:
    """A route's options, with these values only."""
    known = {
        "name": name,
        "pattern": parse(pattern),
        "destination": parse_destination(destination),
        "logging": logging,
        "line": 1,
    }
    values: dict[str, Any] = {each.name: known.get(each.name) for each in fields(RouteOptions)}
    return RouteOptions(**values)


class Stage:
    """A proxy; routes are given as name: (pattern, destination)."""

    def __init__(
        self,
        routes: dict[str, tuple[str, str]] | None = None,
        *,
        server: ServerLimits | None = None,
        limits: ClientLimits = LIMITS,
        policy: ForwardedPolicy | None = None,
        not_found: str = "/404/",
        logging: bool = True,
        pass_on_failure: bool = True,
        secure: bool = False,
        observers: Sequence[ILogObserver] = (),
    ) -> None:
        """`observers` are told of exchanges as well."""
        self.clock = Clock()
        self.ring = FakeRing()
        self.writer = self.make_writer(pass_on_failure)
        self.console: list[str] = []
        surroundings = self.surroundings = Surroundings(
            recorder=Recorder(self.writer),
            policy=policy or ForwardedPolicy(),
            publish=publisher(
                CaptureObserver(self.writer), cast(ILogObserver, self._console_line), *observers
            ),
            record_unknown=logging,
            not_found=not_found.encode(),
            wall_ns=lambda: WALL,
            random=lambda size: bytes(index % 251 for index in range(size)),
        )
        ids = Ids(surroundings.random)
        self.endpoint = FakeEndpoint(self.clock)
        self.deadlines = Deadlines(self.clock)
        self.pool = Pool(self.endpoint, self.clock, self.deadlines, limits, secure, "up")  # type: ignore[arg-type]
        self.tree = RouteTree(ids, surroundings)
        for name, (pattern, destination) in (routes or {"api": ("/api/", "http://up.example/")}).items():
            options = route(name, pattern, destination, logging)
            self.tree.mount(RouteResource(options, self.pool, ids, surroundings))
        self.site = Site(self.tree, self.clock, server or ServerLimits())
        self.clients: list[Wire] = []

    def make_writer(self, passes: bool) -> CaptureWriter:
        return CaptureWriter(self.ring, lambda: None, passes, self.clock)  # type: ignore[arg-type]

    def _console_line(self, event: LogEvent) -> None:
        if "method" in event:
            log = "[no-log]" if event["capture"] is None else "[log]"
            method, target = event["method"].decode(), event["target"].decode()
            self.console.append(f"{method} {target} -> {event['where']} {log}")

    # --- peers --------------------------------------------------------------------

    def client(self, data: bytes = b"", size: int = READ_SIZE) -> Wire:
        """A new client, which sends `data`."""
        wire = Wire(self.clock, self.site.buildProtocol(None), 50000 + len(self.clients)).connect()
        self.clients.append(wire)
        wire.deliver(data, size)
        return wire

    @property
    def upstream(self) -> Wire:
        """The youngest connection to the destination."""
        return self.endpoint.wires[-1]

    def turn(self, seconds: float = 0) -> None:
        """Let the reactor turn, or time pass."""
        self.clock.advance(seconds)
        self.clock.advance(0)
        for wire in (*self.clients, *self.endpoint.wires):
            wire.settle()

    def pass_time(self, seconds: float) -> None:
        """Time passes in steps, as deadlines are looked at."""
        for _ in range(round(seconds * 2)):
            self.clock.advance(0.5)

    # --- what was recorded ------------------------------------------------------------

    def freeze_spool(self) -> None:
        self.ring.frozen = True

    def thaw_spool(self) -> None:
        self.ring.frozen = False
        self.writer.spool_moved(self.writer.failure)

    @property
    def captures(self) -> list[Captured]:
        """The records of each exchange, in the order of their beginnings."""
        found: dict[int, Captured] = {}
        for record in RecordReader().feed(bytes(self.ring.data)):
            found.setdefault(record.exchange, Captured()).records.append(record)
        return [found[number] for number in sorted(found) if number]

    @property
    def capture(self) -> Captured:
        """The records of the only exchange."""
        (only,) = self.captures
        return only

    def capture_bytes(self, kind: Kind) -> int:
        """How much of `kind` was recorded."""
        return sum(len(capture.body(kind)) for capture in self.captures)

    @property
    def in_flight(self) -> int:
        return sum(len(route.exchanges) for route in self.tree.routes)

    def problems(self) -> list[str]:
        """Faults that no exchange may have: a capture without an end, or records after it."""
        wrong = []
        for capture in self.captures:
            kinds = capture.kinds
            if kinds[0] != "REQUEST_HEAD" or kinds.count("REQUEST_HEAD") != 1:
                wrong.append(f"does not begin with one head: {kinds}")
            if kinds[-1] != "END" or kinds.count("END") != 1:
                wrong.append(f"does not end with one END: {kinds}")
        if self.in_flight:
            wrong.append(f"{self.in_flight} exchanges still in flight")
        return wrong


def get(target: str = "/api/x", *fields: str, host: str = "here", version: str = "1.1") -> bytes:
    """A GET."""
    lines = [f"GET {target} HTTP/{version}", *([f"Host: {host}"] if host else []), *fields, "", ""]
    return "\r\n".join(lines).encode()


def post(body: bytes, *fields: str, target: str = "/api/x") -> bytes:
    """A POST with a Content-Length."""
    lines = [f"POST {target} HTTP/1.1", "Host: here", *fields, f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode() + body


def ok(body: bytes = b"ok", *fields: str) -> bytes:
    """A response with a Content-Length."""
    lines = ["HTTP/1.1 200 OK", *fields, f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode() + body


def limits(**changes: Any) -> ClientLimits:
    return replace(LIMITS, **changes)


def client_of(wire: Wire) -> ProxyClient:
    assert isinstance(wire.protocol, ProxyClient)
    return wire.protocol


def connection_of(wire: Wire) -> ServerConnection:
    assert isinstance(wire.protocol, ServerConnection)
    return wire.protocol
