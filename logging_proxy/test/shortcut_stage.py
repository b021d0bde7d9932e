"""
Tests with the C extension, and without it.

A play is one exchange through a proxy whose connections are sockets: the same play
must become the same story whether the C extension is there or not.
"""

from __future__ import annotations

import gc
import os
import select
import shutil
import socket
import sys
import sysconfig
import tempfile
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest import mock

from twisted.internet import tcp
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from logging_proxy.net import shortcut
from logging_proxy.proxy import directions
from logging_proxy.proxy.messages import MOMENT
from logging_proxy.recording.records import Kind
from logging_proxy.recording.ring import Ring
from logging_proxy.recording.writer import CaptureWriter
from logging_proxy.test.proxy_stage import Stage, get


class InPython:
    """The same tests without the C extension; to be named before their class."""

    def setUp(self) -> None:
        self.patch(shortcut, "compiled", False)  # type: ignore[attr-defined]
        super().setUp()  # type: ignore[misc]


def can_compile() -> bool:
    """Whether there is a compiler, and Python's headers."""
    compiler = (sysconfig.get_config_var("CC") or "cc").split()[0]
    header = Path(sysconfig.get_path("include")) / "Python.h"
    return shutil.which(compiler) is not None and header.exists()


def require_compiled() -> None:
    """Skip where there is nothing to test; where it could have been built, that it was not is a failure."""
    if shortcut.compiled:
        return
    if os.environ.get("PURE_PYTHON"):
        raise SkipTest("PURE_PYTHON is set")
    if not can_compile():
        raise SkipTest("there is no C compiler here, or Python's headers are missing")
    raise AssertionError(f"there is no C extension: {shortcut.trouble}")


class Selected:
    """The reactor of a transport: the descriptors that are read and written."""

    def __init__(self) -> None:
        self.reads: set[object] = set()
        self.later: list[Any] = []

    def addReader(self, reader: object) -> None:
        self.reads.add(reader)

    def removeReader(self, reader: object) -> None:
        self.reads.discard(reader)

    def addWriter(self, writer: object) -> None: ...

    def removeWriter(self, writer: object) -> None: ...

    def callLater(self, delay: float, call: Any, *of: Any) -> None:
        self.later.append((call, of))

    def turn(self) -> None:
        """The calls left for the next turn."""
        later, self.later = self.later, []
        for call, of in later:
            call(*of)


class Line(tcp.Connection):
    """A transport of ours on a socket, and the peer's socket."""

    def __init__(
        self,
        protocol: Any,
        room: int = 4096,
        pair: Callable[[], tuple[socket.socket, socket.socket]] = socket.socketpair,
    ) -> None:
        """The kernel has `room` for bytes that the peer has not read yet."""
        ours, self.far = pair()
        for each in (ours, self.far):
            each.setblocking(False)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, room)
        super().__init__(ours, protocol, Selected())  # type: ignore[arg-type]
        self.connected = 1
        self.startReading()
        self.protocol = self.ours = protocol
        protocol.makeConnection(self)

    def getPeer(self) -> IPv4Address:
        return IPv4Address("TCP", "192.0.2.7", 50000)

    def getHost(self) -> IPv4Address:
        return IPv4Address("TCP", "127.0.0.1", 5601)

    def setTcpNoDelay(self, enabled: object) -> None: ...

    @property
    def reading(self) -> bool:
        return self in self.reactor.reads  # type: ignore[attr-defined]

    def read(self) -> None:
        """Available bytes are read, as long as the transport reads."""
        while self.connected and self.reading and select.select([self.socket], [], [], 0)[0]:
            if why := self.doRead():
                self.connectionLost(Failure(why))

    def drain(self) -> bytes:
        """The bytes that have arrived at the peer, and those that wait."""
        taken = b""
        while True:
            try:
                more = self.far.recv(1 << 20)
            except BlockingIOError:
                waiting = self.dataBuffer or self._tempDataBuffer
                if self._aborting or not (self.connected and waiting):
                    return taken
                if why := self.doWrite():
                    self.connectionLost(Failure(why))
            except OSError:
                return taken
            else:
                taken += more
                if not more:
                    return taken

    def sip(self) -> bytes:
        """The peer reads: then the kernel has room, before the transport's waiting bytes are sent."""
        try:
            return self.far.recv(1 << 20)
        except OSError:
            return b""

    def close(self) -> None:
        if self.connected:
            self.connectionLost(Failure(ConnectionError()))
        self.far.close()


class RingStage(Stage):
    """With a real ring, which is small, and empty again after every record."""

    CAPACITY = 600 << 10

    def make_writer(self, passes: bool) -> CaptureWriter:
        with tempfile.TemporaryFile() as file:
            self.real = Ring.create(file.fileno(), self.CAPACITY, start=self.CAPACITY)
        return CaptureWriter(self.real, self._take, passes, self.clock)

    def _take(self) -> None:
        while self.real.taken != self.real.stored:
            with self.real.peek() as piece:
                self.ring.data += piece
                size = len(piece)
            self.real.take(size)

    def freeze_spool(self) -> None:
        self.real.take(self.real.stored - self.CAPACITY - self.real.taken)

    def thaw_spool(self) -> None:
        self.real.take(self.real.stored - self.real.taken)
        self.writer.spool_moved(self.writer.failure)


class Endpoint:
    """Connects to a `Line`."""

    def __init__(self, room: int, kind: Callable[[Any, int], Line] = Line) -> None:
        self.room = room
        self.kind = kind

    def connect(self, factory: Any) -> Deferred[Any]:
        self.line = self.kind(factory.buildProtocol(None), self.room)
        return succeed(self.line.ours)


@dataclass
class Story:
    """The story of a body on its way."""

    received: bytes = b""
    """The bytes that have arrived on the other side."""
    answer: bytes = b""
    """The bytes sent to the body's sender."""
    records: list[tuple[Kind, int, bytes]] = field(default_factory=list)
    states: list[tuple[Any, ...]] = field(default_factory=list)
    """After each step: whether the source is read, both deadlines, which sides are there, a read's size."""
    ends: list[tuple[str, int, int]] = field(default_factory=list)
    """Outcome and sizes of both bodies, as observers are told them."""
    short: int = 0
    """How many times the shorter way was there before a step."""


@dataclass
class Play:
    """
    One exchange, whose body is told in steps.

    Bytes are sent by the body's source, and read; words are what happens
    meanwhile (see `_step`).  `head` begins what the source says.
    """

    head: bytes
    upload: bool = False
    logging: bool = True
    room: int = 4096

    def tell(self, steps: list[Any]) -> Story:
        endpoint, story = Endpoint(self.room), Story()

        def observe(event: Any) -> None:
            if "outcome" in event:
                story.ends.append((event["outcome"], event["sent"], event["received"]))

        self.stage = RingStage(logging=self.logging, observers=[observe])  # type: ignore[list-item]
        self.stage.pool._endpoint = endpoint  # type: ignore[assignment]
        client = Line(self.stage.site.buildProtocol(None), self.room)
        client.far.send(self.head if self.upload else get())
        client.read()
        self.upstream = upstream = endpoint.line
        self.source, self.sink = (client, upstream) if self.upload else (upstream, client)
        if not self.upload:
            upstream.far.recv(9999)
            steps = [self.head, *steps]
        try:
            for step in steps:
                self.stage.clock.advance(MOMENT / 2)
                story.short += bool(getattr(vars(self.source).get("doRead"), "fast_path", None))
                self._step(step, story)
                for line in (self.source, self.sink):
                    line.reactor.turn()  # type: ignore[attr-defined]
                story.states.append(self._state())
            self.stage.thaw_spool()
            self.stage.turn()
            story.received += self.sink.drain()
            story.answer += self.source.drain()
            story.records = [
                (r.kind, r.flags, r.content) for each in self.stage.captures for r in each.records
            ]
        finally:
            client.close()
            upstream.close()
            self.stage.real.close()
        return story

    def _state(self) -> tuple[Any, ...]:
        source, sink = self.source, self.sink
        deadlines = (source.ours.deadline, sink.ours.deadline)
        half = source.ours._responder.request if self.upload and source.ours._responder else None
        read_size = getattr(half if self.upload else source.ours._receiver, "_read_size", None)
        return source.reading, *deadlines, bool(source.connected), bool(sink.connected), read_size

    def _step(self, step: Any, story: Story) -> None:
        source, sink = self.source, self.sink
        if isinstance(step, bytes):
            self._send(step)
        elif step == "drain":
            story.received += sink.drain()
        elif step == "sip":
            story.received += sink.sip()
        elif step == "freeze":
            self.stage.freeze_spool()
        elif step == "thaw":
            self.stage.thaw_spool()
        elif step == "fail":
            self.stage.freeze_spool()
            self.stage.writer.spool_moved("disk full")
        elif step == "work":
            self.stage.thaw_spool()
            self.stage.writer.spool_moved(None)
        elif step == "leave":
            sink.far.close()
            sink.read()
        elif step == "answer":
            self.upstream.far.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            self.upstream.read()
        else:
            assert step == "end"
            source.far.close()
            source.read()

    def _send(self, data: bytes) -> None:
        """As much as the system takes at once."""
        if self.source.connected:
            try:
                self.source.far.send(data)
            except OSError:
                return
            self.source.read()


class ShortcutCase(SynchronousTestCase):
    def setUp(self) -> None:
        require_compiled()

    def same(self, play: Play, steps: list[Any]) -> Story:
        """The story of these steps with the C extension; it must be the same without."""
        with mock.patch.object(shortcut, "compiled", False):
            expected = play.tell(steps)
        found = play.tell(steps)
        self.assertEqual(expected.short, 0)
        self.assertEqual(replace(found, short=0), expected)
        return found

    def watch_sources(self) -> list[weakref.ref[object]]:
        """The sources of all fast paths that are made from now on."""
        made: list[weakref.ref[object]] = []
        real = shortcut.fast_path

        def watched(sink: Any, **parts: Any) -> Any:
            made.append(weakref.ref(parts["source"]))
            return real(sink, **parts)

        self.patch(directions, "fast_path", watched)
        return made


def blocks_left(play: Play, steps: list[Any]) -> int:
    """
    How many blocks of memory more there are after these steps than before: the least of several plays.

    A leak shows in every play; what the interpreter keeps for itself (free lists, specialised code) in some.
    """
    return min(_blocks_left(play, steps) for _ in range(4))


def _blocks_left(play: Play, steps: list[Any]) -> int:
    gc.collect()
    before = sys.getallocatedblocks()
    play.tell(steps)
    gc.collect()
    return sys.getallocatedblocks() - before
