"""
The life of a process that forwards and records: listen, reload, drain, stop without losing anything.

A proxy with one process has one `Serving`; with several, each worker has its own.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, Protocol

from twisted.internet.interfaces import IListeningPort
from twisted.internet.task import deferLater
from twisted.logger import ILogObserver, Logger
from twisted.python.failure import Failure

from logging_proxy.configuration import Configuration
from logging_proxy.configuration.options import BRIEF
from logging_proxy.http.server import ServerLimits, Site
from logging_proxy.net.admission import listen
from logging_proxy.net.listening import drop_syns
from logging_proxy.outbound.ourselves import Ourselves, Where, addresses_of
from logging_proxy.proxy.failures import Shutdown
from logging_proxy.proxy.forwarding import Forwarding
from logging_proxy.proxy.tree import RouteTree
from logging_proxy.recording.recorder import Recording
from logging_proxy.service.console import ConsoleObserver
from logging_proxy.service.output import Output
from logging_proxy.tls.listener import ListenerTLS

GRACE = 0.02
"""Seconds for which a stopping service still accepts connections and reads requests that have arrived."""

LOOK = 0.02
"""Seconds between two checks for exchanges in flight."""

FAREWELL = 1.0
"""Seconds that clients have to receive the answers to interrupted exchanges."""


class Entrance(Protocol):
    """How connections are accepted."""

    def site(self, tree: RouteTree, limits: ServerLimits, secure: bool) -> Site:
        """The site that they belong to."""

    def adopt(self, fd: int, family: int, factory: Any, room: Callable[[], int]) -> IListeningPort:
        """Accept on a copy of a listening socket, while `room` says that there is room."""


class OwnEntrance:
    """The entrance of a process that shares its sockets with no other process."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor

    def site(self, tree: RouteTree, limits: ServerLimits, secure: bool) -> Site:
        return Site(tree, self._reactor, limits, secure)

    def adopt(self, fd: int, family: int, factory: Any, room: Callable[[], int]) -> IListeningPort:
        return listen(self._reactor, fd, family, factory, room)


class Serving:
    """Forwards requests and records exchanges, for one configuration at a time."""

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        configuration: Configuration,
        recording: Recording | None,
        output: Output,
        entrance: Entrance | None = None,
        server: Sequence[Where] = (),
        observers: Sequence[ILogObserver] = (),
    ) -> None:
        """
        `server` is where the embedded logging server listens; `observers` are further ones of exchanges.

        Raises `PEMError` for TLS settings that the configuration's checks have not seen.
        """
        self._reactor = reactor
        self._configuration = configuration
        self._recording = recording
        self._output = output
        self._entrance = OwnEntrance(reactor) if entrance is None else entrance
        self._more_observers = observers
        self._ports: list[Any] = []
        self._hurried = False
        recorder = recording.recorder if recording is not None else None
        self._ourselves = Ourselves(server)
        self.forwarding = Forwarding(
            reactor, recorder, self._observers, self._ourselves, socket.gethostname()
        )
        tree = self.forwarding.use(configuration)
        tls = configuration.server.tls
        self._tls = ListenerTLS(tls) if tls is not None else None
        self.site = self._entrance.site(tree, server_limits(configuration), tls is not None)

    def _observers(self, configuration: Configuration) -> Iterator[ILogObserver]:
        """The observers of exchanges; a new one has its line here."""
        if self._recording is not None:
            yield self._recording.observer
        console = configuration.logging.console
        if console:
            yield ConsoleObserver(self._output, brief=console == BRIEF)
        yield from self._more_observers

    # --- start ------------------------------------------------------------------------------

    async def start(self, listeners: list[socket.socket]) -> None:
        """Record, and accept on `listeners`, which are listening sockets; this takes them over."""
        self.begin()
        self.listen(listeners)

    def begin(self) -> None:
        """Be ready to record.  This starts threads, so twistd must have forked its daemon before."""
        if self._recording is not None:
            self._recording.start()

    def listen(self, listeners: list[socket.socket]) -> None:
        """Accept on `listeners`, which are all of the listening sockets."""
        self._ourselves.listen_on(addresses_of(listeners))
        factory = self._factory()
        for listener in listeners:
            family, fd = listener.family, listener.detach()
            self._ports.append(self._entrance.adopt(fd, family, factory, self.site.admission.room))
            os.close(fd)

    def _factory(self) -> Any:
        return self.site if self._tls is None else self._tls.wrap(self.site, self.site, self._reactor)

    # --- a new configuration ----------------------------------------------------------------

    async def use(self, configuration: Configuration, listeners: list[socket.socket]) -> None:
        """
        Go on with another configuration; `listeners`, if there are any, replace the present ones.

        No connection is dropped: an exchange in flight finishes with the configuration it began with.
        A configuration that cannot be used raises before anything has changed, `PEMError` for TLS settings.
        """
        old, new = self._configuration.server.tls, configuration.server.tls
        made = None if new is None else ListenerTLS(new)
        tree = self.forwarding.use(configuration)
        self._configuration = configuration
        if self._tls is not None and new is not None:
            self._tls.use(new)
        else:
            self._tls = made
        self.site.scheme = b"http" if self._tls is None else b"https"
        self.site.use(tree, server_limits(configuration))
        if listeners:
            ports, self._ports = self._ports, []
            self.listen(listeners)
            for port in ports:
                await self._close_port(port)
        elif (old is None) != (new is None):
            factory = self._factory()
            for port in self._ports:
                port.factory = factory

    # --- stop -------------------------------------------------------------------------------

    def hurry(self) -> None:
        """Do not wait for exchanges in flight when stopping, or stop waiting for them."""
        self._hurried = True

    async def stop(self) -> None:
        """
        Stop accepting, let exchanges finish, and return when the last byte is recorded.

        Exchanges that take longer than the configuration allows are interrupted.
        """
        until = self._reactor.seconds() + self._configuration.server.shutdown_timeout
        await one_by_one(
            self._log,
            self._stop_accepting,
            lambda: self._drain(until),
            self.forwarding.close,
            self._stop_recording,
        )

    async def _stop_accepting(self) -> None:
        """
        Close the ports, after serving the connections in their accept queues.

        Connections that the kernel has accepted, and requests that have arrived on seemingly idle
        connections, get their turns first: closing would reset them.
        """
        self.site.closing = True
        await deferLater(self._reactor, GRACE)
        for port in self._ports:
            await self._close_port(port)
        await deferLater(self._reactor, 0)
        self.site.close()

    async def _close_port(self, port: Any) -> None:
        """Stop listening on `port`, after accepting the connections in its accept queue."""
        # A second descriptor: closing the last one would reset the connections in the accept queue.
        with socket.socket(fileno=os.dup(port.fileno())) as listener:
            drop_syns(listener)
            stopping = port.stopListening()
            if stopping is not None:
                await stopping
            self._accept_all(listener, port.factory)

    def _accept_all(self, listener: socket.socket, factory: Any) -> None:
        listener.setblocking(False)
        with contextlib.suppress(OSError):
            while self.site.admission.room():
                accepted, _ = listener.accept()
                self._reactor.adoptStreamConnection(accepted.fileno(), accepted.family, factory)
                accepted.close()

    async def _drain(self, until: float) -> None:
        """Let exchanges finish; at `until` those left are interrupted and their connections aborted."""
        while self._in_flight() and self._reactor.seconds() < until and not self._hurried:
            await deferLater(self._reactor, LOOK)
        for exchange in self.forwarding.exchanges():
            exchange.interrupt(Failure(Shutdown("the proxy was stopped")))
        await self._connections_closed()
        for connection in list(self.site.connections):
            connection.abort()
        await self._connections_closed()

    async def _connections_closed(self) -> None:
        """Return when all connections are closed, or after `FAREWELL` seconds."""
        until = self._reactor.seconds() + FAREWELL
        while self.site.connections and self._reactor.seconds() < until:
            await deferLater(self._reactor, LOOK)

    def _in_flight(self) -> int:
        return sum(1 for _ in self.forwarding.exchanges()) + len(self.site.connections)

    async def _stop_recording(self) -> None:
        if self._recording is not None:
            await self._recording.stop()


async def one_by_one(log: Logger, *steps: Callable[[], Awaitable[Any] | None]) -> None:
    """Take the steps of stopping in order; one that fails is logged, and does not prevent the later ones."""
    for step in steps:
        try:
            result = step()
            if result is not None:
                await result
        except Exception:
            log.failure("stopping: {step} failed", step=getattr(step, "__name__", "a step"))


def server_limits(configuration: Configuration) -> ServerLimits:
    """The limits that `configuration` sets for clients' connections."""
    server = configuration.server
    return ServerLimits(
        head_limit=server.head_limit,
        header_fields=server.header_fields,
        head_timeout=server.head_timeout,
        body_timeout=server.body_timeout,
        keep_alive_timeout=server.keep_alive_timeout,
        send_timeout=server.send_timeout,
        half_close_cancels=server.half_close == "cancel",
    )
