"""
A run: the proxy's part of `logging-proxy run -- COMMAND`.

A run has a proxy process of its own, which listens on a loopback port of its own: whatever passes there
belongs to the run, and nothing has to be added to requests.  The process of the command line holds the other
end of a socket pair, the *link*.  It is told where the proxy listens, and closes its direction when COMMAND
has ended; then the proxy stops as it always does, and says how many exchanges there were.
"""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IHalfCloseableProtocol
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import ILogObserver, LogEvent
from twisted.python.failure import Failure
from zope.interface import implementer

from logging_proxy.configuration import Configuration
from logging_proxy.configuration.base_urls import VERSION, BaseURL, base_urls, proxy_url, variables_of
from logging_proxy.recording.rings import SpoolBusy
from logging_proxy.recording.tail import SpoolLock
from logging_proxy.service.child import ChildProcess
from logging_proxy.service.hello import captures_of

HOST = "127.0.0.1"
"""Where a run's proxy listens: reachable by COMMAND, and by no other machine."""

MOST_SLOTS = 1000
"""Runs at a time, each of which has a spool."""

LOOK = 2.5
"""Seconds between two looks for a reader of the spool; a logging server finds a new spool within one."""

_GOOD = frozenset({"complete", "client_closed"})

T = TypeVar("T")


def settings_of_run(configuration: Configuration, port: int = 0) -> Configuration:
    """The configuration of a run's proxy: a plain listener of its own, one process, and a silent console."""
    server = replace(configuration.server, host=HOST, port=port, workers=1, tls=None)
    return replace(configuration, server=server, logging=replace(configuration.logging, console=False))


BASE_URL = "LOGGING_PROXY_BASE_URL"
"""The variable that tells COMMAND the address of the run's proxy, for clients without one of their own."""


def hello(configuration: Configuration, port: int, everything: bool) -> dict[str, Any]:
    """
    The first line on the link: the variables for COMMAND, and where captures go.

    With `everything` a single destination takes all requests, and so those of every SDK.
    """
    urls, root = base_urls(configuration, port), proxy_url(configuration.server, port)
    variables = dict(variables_of(urls))
    if everything:
        variables = {**_variables_for(urls[0], root), **variables}
    variables[BASE_URL] = root
    return {"variables": variables, "captures": captures_of(configuration)}


def _variables_for(url: BaseURL, root: str) -> dict[str, str]:
    """
    The variables of the usual SDKs, for one destination of any kind at `/`.

    A destination that ends in a version is what OpenAI's SDK calls a base URL, and of no use to Anthropic's.
    """
    destination = url.route.destination.path.decode().rstrip("/")
    if VERSION.fullmatch(f"/{destination.rpartition('/')[2]}"):
        return {"OPENAI_BASE_URL": root}
    return {"OPENAI_BASE_URL": f"{root}/v1", "ANTHROPIC_BASE_URL": root}


# --- spools -------------------------------------------------------------------------------


def first_free_slot(root: Path, attempt: Callable[[Path], T]) -> T:
    """
    The result of `attempt` with the first spool directory for runs that no other run uses.

    The directories are used again by later runs.  Raises what `attempt` raises, but `SpoolBusy`.
    """
    for number in range(1, MOST_SLOTS):
        try:
            return attempt(root / f"run-{number}")
        except SpoolBusy:
            continue
    return attempt(root / f"run-{MOST_SLOTS}")


def is_read(spool: Path) -> bool:
    """Whether a logging server, or a process that ships spools to one, reads this spool."""
    lock = SpoolLock(str(spool))
    try:
        if not lock.acquire():
            return True
    except OSError:
        return False
    lock.release()
    return False


def any_is_read(root: Path) -> bool:
    """Whether a logging server reads the spools below `root`."""
    try:
        found = [each for each in root.iterdir() if each.is_dir() and not each.is_symlink()]
    except OSError:
        return False
    return any(map(is_read, found))


# --- counting -----------------------------------------------------------------------------


@implementer(ILogObserver)
class Tally:
    """Counts the exchanges of a run, and those that failed: cut, not answered, or answered 4xx or 5xx."""

    def __init__(self) -> None:
        self.exchanges = self.errors = 0
        self._refused: set[bytes] = set()
        """Exchanges under way whose status is an error."""

    def __call__(self, event: LogEvent) -> None:
        if "exchange" not in event:
            return
        id = event["exchange"]
        if "method" in event:
            self.exchanges += 1
        if "response" in event and event["response"].partition(b" ")[2][:1] in (b"4", b"5"):
            self._refused.add(id)
        if "outcome" in event:
            self.errors += event["outcome"] not in _GOOD or id in self._refused
            self._refused.discard(id)

    def document(self) -> dict[str, int]:
        return {"exchanges": self.exchanges, "errors": self.errors}


# --- the link ------------------------------------------------------------------------------


@implementer(IHalfCloseableProtocol)
class _Link(Protocol):
    """Sends JSON lines to the command line, and reads nothing but its end."""

    transport: Any

    def __init__(self, ended: Callable[[], None]) -> None:
        self.closed: Deferred[None] = Deferred()
        self._ended = ended

    def say(self, document: Mapping[str, Any]) -> None:
        self.transport.write(json.dumps(document).encode("ascii") + b"\n")

    def readConnectionLost(self) -> None:
        self._ended()

    def writeConnectionLost(self) -> None:
        """The command line is gone; `connectionLost` follows."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._ended()
        self.closed.callback(None)


@dataclass(frozen=True, slots=True)
class Run:
    """What the command line says of a run: its name, and the descriptor of the link."""

    name: str
    link: int


class RunService(Service):
    """
    Keeps the link, and starts a logging server if no other process reads the run's spool.

    It is stopped after everything was recorded and, with a logging server of the run's own, stored.
    """

    def __init__(
        self,
        reactor: Any,
        link: int,
        hello: Mapping[str, Any],
        tally: Tally,
        has_reader: Callable[[], bool],
        make_server: Callable[[], ChildProcess | None],
        patience: float,
        stop: Callable[[], None] = lambda: os.kill(os.getpid(), signal.SIGTERM),
    ) -> None:
        """
        `hello` is the first line to the command line.  `stop` ends this process as SIGTERM does.

        `patience` is how many seconds the logging server has to empty the spool at the end.
        """
        self._reactor = reactor
        self._fd = link
        self._hello = hello
        self._tally = tally
        self._has_reader = has_reader
        self._make_server = make_server
        self._patience = patience
        self._stop = stop
        self._link = _Link(self._end)
        self._server: ChildProcess | None = None
        self._alone = False
        self._next: IDelayedCall | None = None

    def startService(self) -> None:
        super().startService()  # type: ignore[no-untyped-call]
        self._reactor.callWhenRunning(self._open)
        self._next = self._reactor.callLater(LOOK, self._look)

    def _open(self) -> None:
        os.set_blocking(self._fd, False)
        factory = Factory.forProtocol(lambda: self._link)
        factory.noisy = False
        self._reactor.adoptStreamConnection(self._fd, socket.AF_UNIX, factory)
        os.close(self._fd)
        self._link.say(self._hello)

    def _end(self) -> None:
        if self.running:
            self._stop()

    def _look(self) -> None:
        """Start a logging server after two looks that found no reader."""
        alone, self._alone = self._alone, not self._has_reader()
        if alone and self._alone:
            self._next = None
            self._start_server()
        else:
            self._next = self._reactor.callLater(LOOK, self._look)

    def _start_server(self) -> None:
        self._server = self._make_server()
        if self._server is not None:
            self._server.start()

    def stopService(self) -> Deferred[None]:
        super().stopService()  # type: ignore[no-untyped-call]
        return Deferred.fromCoroutine(self._leave())

    async def _leave(self) -> None:
        if self._next is not None:
            self._next.cancel()
        try:
            await self._store()
        finally:
            await self._say_goodbye()

    async def _store(self) -> None:
        """Let the run's own logging server, if one is needed, store everything."""
        if self._server is None and not self._has_reader():
            self._start_server()
        if self._server is not None:
            await self._server.stop(self._patience)

    async def _say_goodbye(self) -> None:
        if self._link.transport is not None and not self._link.closed.called:
            self._link.say(self._tally.document())
            self._link.transport.loseConnection()
            await self._link.closed
