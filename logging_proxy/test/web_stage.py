"""A logging server in memory: its site on a string transport, its work done at once, its disk a folder."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass, replace
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, execute
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.captures.stored import Stored
from logging_proxy.configuration import LoggingServerOptions, Secret
from logging_proxy.index.entries import entry_of_stored
from logging_proxy.logserver.server import ServerParts
from logging_proxy.logserver.store.directory import LogDirectory
from logging_proxy.logserver.threads import Threads
from logging_proxy.logserver.web.access import make_gate
from logging_proxy.logserver.web.visitors import Visitors
from logging_proxy.test.logserver_spools import Script, SpoolWriter

OWN_USER = 1000
"""The user that the server runs as."""

KEPT_TOKEN = "kept-in-the-log-directory-000000000000000000"
"""What the server asks others for, where no token is configured."""


class ClockReactor(Clock):
    """Time, and calls from threads, which here are made at once."""

    def callFromThread(self, call: Any, *args: Any) -> None:
        call(*args)


class AtOnce:
    """A `Worker` that does its work when it is asked."""

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def run(self, work: Any) -> Deferred[Any]:
        return execute(work)


def at_once() -> Threads:
    """Threads that do their work when they are asked."""
    return Threads(AtOnce(), execute, execute, execute, execute, execute)


class IndexAtOnce:
    """What an `Indexer` does, without its threads."""

    trouble = ""
    is_whole = True
    progress = None
    waiting = 0

    def __init__(self, parts: ServerParts) -> None:
        self._parts = parts
        self.held: list[Stored] | None = None
        """With a list, what is stored waits in it."""

    def on_stored(self, stored: Stored) -> None:
        if self.held is not None:
            self.held.append(stored)
            return
        entry = entry_of_stored(stored, self._parts.reader.body)
        assert self._parts.index is not None
        self._parts.index.add([entry])
        self._parts.observers.indexed([entry])

    def look_again(self) -> None: ...


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    """By lower-case name."""
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def problem(self) -> str:
        """The last part of a problem's type."""
        if self.headers["content-type"] != "application/problem+json":
            raise AssertionError(f"{self.status}: no problem details")
        return str(self.json()["type"]).rpartition(":")[2]


class Pipe(StringTransport):
    """One connection to the site, which may be left open."""

    def __init__(self, site: Any, address: str = "127.0.0.1") -> None:
        super().__init__(IPv4Address("TCP", "127.0.0.1", 8080), IPv4Address("TCP", address, 50001))
        self.aborted = self.half_closed = False
        self.protocol = site.buildProtocol(self.getPeer())
        self.protocol.makeConnection(self)

    def abortConnection(self) -> None:
        self.aborted = True
        self.disconnecting = True

    def loseWriteConnection(self) -> None:
        self.half_closed = True

    def send(self, data: bytes) -> None:
        self.protocol.dataReceived(data)

    def reply(self, method: str = "GET") -> Reply:
        """The answer that came; fails when there is none, or more than one."""
        head, _, body = self.value().partition(b"\r\n\r\n")
        status_line, *lines = head.decode("latin-1").split("\r\n")
        fields = [line.partition(": ") for line in lines]
        headers = {name.lower(): value for name, _, value in fields}
        if method != "HEAD" and len(body) != int(headers.get("content-length", len(body))):
            raise AssertionError(f"{len(body)} bytes, not {headers['content-length']}")
        return Reply(int(status_line.split(" ")[1]), headers, body)


class ServerTestCase(SynchronousTestCase):
    """`ask` for one request and its answer; `capture` for an exchange that a proxy records."""

    options = LoggingServerOptions()
    token: str | None = None
    local = True
    user: int | None = OWN_USER
    """Whose every connection is; None when that cannot be told."""

    def setUp(self) -> None:
        self.log_dir = os.path.abspath(self.mktemp())
        self.clock = ClockReactor()
        self.clock.advance(1_000_000)
        began = time.time() - self.clock.seconds()
        self.wall_ahead = 0.0
        """Seconds by which the wall clock has been set."""
        self.wall_seconds = lambda: began + self.clock.seconds() + self.wall_ahead
        self.build()

    def build(self) -> None:
        """The server; again, for another life of it."""
        directory = LogDirectory(self.log_dir)
        directory.open()
        root = os.path.join(self.log_dir, ".spool")
        self.parts = ServerParts(
            self.clock,
            self.options,
            directory,
            root,
            1 << 30,
            at_once(),
            wall_seconds=self.wall_seconds,
            routes=("configured",),
        )
        self.indexer = IndexAtOnce(self.parts)
        indexer: Any = self.indexer
        self.parts.observers.indexer = indexer
        options = replace(self.options, token=Secret(self.token) if self.token is not None else None)
        visitors = Visitors(lambda transport: self.user, lambda: OWN_USER)
        gate = make_gate(options, self.local, self.clock.seconds, lambda: KEPT_TOKEN, visitors)
        self.server = self.parts.assemble(gate)
        self.spools = self.parts.spools
        assert self.parts.index is not None
        self.index = self.parts.index
        self.addCleanup(self.index.close)
        self.addCleanup(self.spools.close)
        self.writer = SpoolWriter(os.path.join(root, "5601"))

    # --- requests

    def connect(self, address: str = "127.0.0.1") -> Pipe:
        return Pipe(self.server.site, address)

    def ask(
        self,
        method: str,
        target: str,
        data: bytes = b"",
        *,
        host: str = "localhost:8080",
        address: str = "127.0.0.1",
        **headers: str,
    ) -> Reply:
        fields = {"Host": host, **{name.replace("_", "-"): value for name, value in headers.items()}}
        if data:
            fields["Content-Length"] = str(len(data))
        lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
        pipe = self.connect(address)
        pipe.send("\r\n".join([*lines, "", ""]).encode("utf-8") + data)
        return pipe.reply(method)

    def get(self, target: str, **more: Any) -> Any:
        """The JSON of an address that answers 200."""
        reply = self.ask("GET", target, **more)
        self.assertEqual(reply.status, 200, reply.body)
        return reply.json()

    # --- captures

    def record(self, *records: bytes) -> None:
        """What a proxy records reaches the server; files are written, none published."""
        self.writer.block(b"".join(records))
        self.clock.advance(1)
        self.spools.turn()

    def publish(self) -> None:
        self.spools.settle()

    def capture(self, number: int = 1, request: bytes = b"{}", response: bytes = b"{}", **more: Any) -> str:
        """A whole exchange, published and indexed; its id."""
        script = self.script(number, **more)
        self.record(*script.simple(request, response))
        self.publish()
        return self.id_of(number)

    def script(self, number: int = 1, **more: Any) -> Script:
        """Exchange `number`, which begins that many seconds after the first one."""
        fields: dict[str, Any] = {"wall_ns": Script.wall_ns + number * 1_000_000_000, **more}
        return Script(number, bytes([number]) * 16, **fields)

    def id_of(self, number: int) -> str:
        text = f"{number:02x}" * 16
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
