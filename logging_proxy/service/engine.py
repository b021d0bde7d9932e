"""
Serving: what a process does that forwards and records, from sockets that listen to an end that loses nothing.

It is all of a proxy with one process, and the whole work of each of its workers when it has several.
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
from logging_proxy.http.server import ServerLimits, Site
from logging_proxy.net.admission import listen
from logging_proxy.net.listening import let_nobody_in
from logging_proxy.outbound.ourselves import Ourselves, Where, addresses_of
from logging_proxy.proxy.failures import Shutdown
from logging_proxy.proxy.forwarding import Forwarding
from logging_proxy.proxy.tree import RouteTree
from logging_proxy.recording.recorder import Recording
from logging_proxy.service.console import ConsoleObserver
from logging_proxy.service.output import Output
from logging_proxy.tls.listener import ListenerTLS

GRACE = 0.02
"""Seconds that a service that stops still accepts, and reads requests that have arrived already."""

LOOK = 0.02
"""Seconds between two looks at what is still in flight."""

FAREWELL = 1.0
"""Seconds that clients have to take the answers that interrupted exchanges get."""


class Entrance(Protocol):
    """How connections come in."""

    def site(self, tree: RouteTree, limits: ServerLimits, secure: bool) -> Site:
        """The site that they belong to."""

    def adopt(self, fd: int, family: int, factory: Any, room: Callable[[], int]) -> IListeningPort:
        """Accept on a socket that listens, of which a copy is made, as many as there is room for."""


class OwnEntrance:
    """That of a process which shares its sockets with nobody."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor

    def site(self, tree: RouteTree, limits: ServerLimits, secure: bool) -> Site:
        return Site(tree, self._reactor, limits, secure)

    def adopt(self, fd: int, family: int, factory: Any, room: Callable[[], int]) -> IListeningPort:
        return listen(self._reactor, fd, family, factory, room)


class Serving:
    """Forwards what comes in, and records it."""

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        configuration: Configuration,
        recording: Recording | None,
        output: Output,
        entrance: Entrance | None = None,
        server: Sequence[Where] = (),
    ) -> None:
        """
        `server` is where the embedded logging server listens.

        Raises `PEMError` for TLS settings that the configuration's checks have not seen.
        """
        self._reactor = reactor
        self._configuration = configuration
        self._recording = recording
        self._output = output
        self._entrance = OwnEntrance(reactor) if entrance is None else entrance
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
        if configuration.logging.console:
            yield ConsoleObserver(self._output)

    # --- start ------------------------------------------------------------------------------

    async def start(self, listeners: list[socket.socket]) -> None:
        """Record, and accept on sockets that listen; they are ours from now on."""
        self.begin()
        self.listen(listeners)

    def begin(self) -> None:
        """Be ready to record: this starts threads, and twistd must have made its daemon by now."""
        if self._recording is not None:
            self._recording.start()

    def listen(self, listeners: list[socket.socket]) -> None:
        """Accept on these sockets, which are all that there are."""
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
        Go on with another configuration; `listeners`, if there are any, take the place of those before.

        No connection is dropped: what is in flight finishes on the terms it began with.
        What cannot be used is raised before anything has changed, `PEMError` for TLS settings.
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
        """Do not wait for what is in flight when stopping, or any longer."""
        self._hurried = True

    async def stop(self) -> None:
        """
        Stop accepting, let what is in flight finish, and keep the last byte.

        What takes longer than the configuration allows is interrupted.
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
        Close the ports, when who has been let in is served.

        What the kernel has accepted by now, and requests that have arrived on
        connections that look idle, get their turns: closing would reset them.
        """
        self.site.closing = True
        await deferLater(self._reactor, GRACE)
        for port in self._ports:
            await self._close_port(port)
        await deferLater(self._reactor, 0)
        self.site.close()

    async def _close_port(self, port: Any) -> None:
        """Accept on a port no longer, but who is waiting there."""
        # A second descriptor: closing the last one resets who waits to be accepted.
        with socket.socket(fileno=os.dup(port.fileno())) as listener:
            let_nobody_in(listener)
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
        """Let exchanges finish; those that take too long are interrupted, and their connections aborted."""
        while self._in_flight() and self._reactor.seconds() < until and not self._hurried:
            await deferLater(self._reactor, LOOK)
        for exchange in self.forwarding.exchanges():
            exchange.interrupt(Failure(Shutdown("the proxy was stopped")))
        await self._connections_closed()
        for connection in list(self.site.connections):
            connection.abort()
        await self._connections_closed()

    async def _connections_closed(self) -> None:
        """Returns when all are, or after a moment."""
        until = self._reactor.seconds() + FAREWELL
        while self.site.connections and self._reactor.seconds() < until:
            await deferLater(self._reactor, LOOK)

    def _in_flight(self) -> int:
        return sum(1 for _ in self.forwarding.exchanges()) + len(self.site.connections)

    async def _stop_recording(self) -> None:
        if self._recording is not None:
            await self._recording.stop()


async def one_by_one(log: Logger, *steps: Callable[[], Awaitable[Any] | None]) -> None:
    """Take steps towards the end; one that fails does not keep the later ones from being taken."""
    for step in steps:
        try:
            result = step()
            if result is not None:
                await result
        except Exception:
            log.failure("stopping: {step} failed", step=getattr(step, "__name__", "a step"))


def server_limits(configuration: Configuration) -> ServerLimits:
    """What `configuration` says of clients' connections."""
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
