"""
One direction of an exchange: bytes on their way from a source connection to a sink connection.

A direction passes bytes on in order, and pauses its source when the sink is slow or the spool is
full.  It is the producer registered with the sink's transport.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from logging_proxy.http.bodies import ChunkedReader, LengthReader
from logging_proxy.net.shortcut import fast_path
from logging_proxy.net.wire import unreceived
from logging_proxy.recording.events import Capture

if TYPE_CHECKING:
    from logging_proxy.net.shortcut._compiled import FastPath

MOST_WAITING = 65536
"""Bytes that wait in a direction, beside one read and the transport's 64 KiB, before the source is paused."""

LEAST_READ_SIZE, LARGEST_READ_SIZE = 64 << 10, 1 << 20
"""
Bytes of one read of a large body: doubled with each read, and back to the least where a sink is slow.

Large reads wake the peers up less often, which makes the same body cheaper.
"""

_shared = memoryview(bytearray(LARGEST_READ_SIZE))
"""Read buffer for bodies that are not recorded; a piece is sent or copied before the next read."""

_SINK, _SPOOL, _FULL = 1, 2, 4


class Source(Protocol):
    """The connection that a direction's bytes come from."""

    def pauseProducing(self) -> None: ...

    def resumeProducing(self) -> None: ...


class Sink(Protocol):
    """The connection that a direction's bytes go to."""

    transport: Any

    def send(self, data: bytes) -> bool: ...


@implementer(IPushProducer)
class Direction:
    """
    One direction of an exchange.

    Nothing is passed on before `sink` is set, nor while the spool is full.  Call `finished` after the
    last bytes; `ended` is then called once everything has been handed to the sink.  Subclasses add to
    `_counted` what they receive.
    """

    __slots__ = (
        "_capture",
        "_counted",
        "_finished",
        "_passing",
        "_paused",
        "_registered",
        "_source",
        "_read_size",
        "_waiting",
        "_waiting_size",
        "sink",
    )

    def __init__(self, source: Source, capture: Capture | None) -> None:
        self.sink: Sink | None = None
        self._source: Source | None = source
        self._capture = capture
        self._counted = 0
        self._passing: FastPath | None = None
        self._waiting: list[bytes] = []
        self._waiting_size = 0
        self._paused = 0
        self._registered = False
        self._finished = False
        self._read_size = LEAST_READ_SIZE

    def pass_on(self, data: bytes) -> None:
        """Send `data`, which has been recorded, or keep it until it may be sent."""
        sink, capture = self.sink, self._capture
        if sink is None or self._waiting or (capture is not None and capture.writer.full):
            self._wait(data)
        elif data and not sink.send(data) and not self._registered:
            self._register(sink)

    def read_buffer(self, most: int) -> memoryview | None:
        """
        Memory to read the next piece into, that of the recording if there is one; None for any.

        Only while nothing waits, since bytes that wait have to be copied.  For the same reason large
        reads are only for a sink whose peer keeps up: many stalled peers would hold much memory.
        """
        sink, capture = self.sink, self._capture
        if sink is None or self._waiting or (capture is not None and capture.writer.full):
            return None
        if self._read_size > LEAST_READ_SIZE and unreceived(sink.transport) >= self._read_size:
            self._read_size = max(LEAST_READ_SIZE, self._read_size // 4)
        size = min(most, self._read_size)
        if size < LEAST_READ_SIZE:
            return None  # an ordinary read has the body's end in it as well
        self._read_size = min(2 * self._read_size, LARGEST_READ_SIZE)
        return _shared[:size] if capture is None else capture.read_buffer(size)

    def _fast_path(
        self, body: ChunkedReader | LengthReader, kind: int, *must_be_false: tuple[object, str], **parts: Any
    ) -> FastPath | None:
        """
        A faster implementation of reading, recording and passing on `body`, if the sink has one.

        It is used while the attributes in `must_be_false`, pairs of an object and a name, are false.

        Pieces of a body with a length are read into the memory that `read_buffer` would give.
        """
        sink, capture = self.sink, self._capture
        if sink is None:
            return None
        must_be_false += ((self, "_waiting"),)
        if isinstance(body, ChunkedReader):
            must_be_false += ((body, "_held"), (body, "_left"), (body, "_last"))
        else:
            parts |= {"counted": body, "least": LEAST_READ_SIZE, "largest": LARGEST_READ_SIZE}
        if capture is None:
            parts["shared"] = _shared
        elif capture.writer.writing is None:
            return None
        else:
            writer = capture.writer
            parts |= {"exchange": capture.number, "writer": writer, "writing": writer.writing}
        self._counted = self.size
        self._passing = fast_path(sink, direction=self, kind=kind, must_be_false=must_be_false, **parts)
        return self._passing

    def flow_to(self, sink: Sink) -> None:
        """From now on bytes go to `sink`; waiting bytes go at once."""
        self.sink = sink
        self._flush()

    def finished(self) -> None:
        """No more bytes will come."""
        if self._waiting:
            self._finished = True
        else:
            self.ended()

    @property
    def size(self) -> int:
        """Bytes of content so far: the body without chunk framing, or what a tunnel has carried."""
        return self._counted if self._passing is None else self._counted + self._passing.passed

    def count(self, size: int) -> None:
        """Add bytes of content that did not come the ordinary way."""
        self._counted += size

    @property
    def idle(self) -> bool:
        """Whether all bytes have been sent: nothing waits, and the sink applies no back-pressure."""
        return not self._waiting and not self._paused

    def stop(self) -> None:
        """End the direction and drop the waiting bytes; the sink is released, and the source reads again."""
        sink, self.sink = self.sink, None
        source, self._source = self._source, None
        if self._passing is not None:  # it knows this direction: a cycle
            self._counted, self._passing = self.size, None
        self._waiting.clear()
        self._finished = False
        if self._registered and sink is not None and sink.transport is not None:
            self._registered = False
            sink.transport.unregisterProducer()
        if self._paused & _SINK:
            self.sink_flows()
        if self._paused and source is not None:
            # The source is a connection that outlives the exchange: left paused, it would never read again.
            self._paused = 0
            source.resumeProducing()

    def ended(self) -> None:
        """All bytes have been handed to the sink.  For subclasses."""

    def sink_stalls(self) -> None:
        """The sink applies back-pressure.  For subclasses."""

    def sink_flows(self) -> None:
        """The sink applies back-pressure no more.  For subclasses."""

    # --- waiting --------------------------------------------------------------------

    def _wait(self, data: bytes) -> None:
        if data:
            self._waiting.append(data)
            self._waiting_size += len(data)
        capture = self._capture
        if capture is not None and capture.writer.full:
            self._await_room(capture)
        elif self._waiting_size > MOST_WAITING:
            self._pause(_FULL)

    def _await_room(self, capture: Capture) -> None:
        if not self._paused & _SPOOL:
            self._pause(_SPOOL)
            capture.when_room().addCallback(self._spool_has_room, capture)

    def _spool_has_room(self, _: None, capture: Capture) -> None:
        if self._source is None:
            return
        if capture.writer.full:  # another waiter, called before us, has filled it again
            capture.when_room().addCallback(self._spool_has_room, capture)
            return
        self._flush()
        self._resume(_SPOOL)

    def _flush(self) -> None:
        capture, sink = self._capture, self.sink
        if sink is None:
            return
        if capture is not None and capture.writer.full:
            self._await_room(capture)
            return
        if self._waiting:
            data = b"".join(self._waiting)
            self._waiting.clear()
            self._waiting_size = 0
            if not sink.send(data) and not self._registered:
                self._register(sink)
        self._resume(_FULL)
        if self._finished:
            self._finished = False
            self.ended()

    def withdraw(self) -> bytes:
        """Stop, and return the bytes that still wait."""
        waiting = b"".join(self._waiting)
        self.stop()
        return waiting

    # --- flow control ------------------------------------------------------------------

    def _register(self, sink: Sink) -> None:
        """Register with a sink that could not send everything at once; over plain TCP most never need it."""
        if sink.transport is not None:
            self._registered = True
            sink.transport.registerProducer(self, True)

    def pauseProducing(self) -> None:
        self._read_size = LEAST_READ_SIZE
        self._pause(_SINK)
        self.sink_stalls()

    def resumeProducing(self) -> None:
        self.sink_flows()
        self._resume(_SINK)

    def stopProducing(self) -> None:
        """The sink's connection is lost; it informs the exchange itself."""
        self._registered = False

    def _pause(self, reason: int) -> None:
        if not self._paused and self._source is not None:
            self._source.pauseProducing()
        self._paused |= reason

    def _resume(self, reason: int) -> None:
        if self._paused & reason:
            self._paused &= ~reason
            if not self._paused and self._source is not None:
                self._source.resumeProducing()
