"""
The proxy's service: everything that `twistd logging-proxy` starts and stops.

Here the parts meet: configuration, listeners, the engine with the tree of
routes, the recording, the logging server's process.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable
from typing import Any

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.logger import ILogObserver, Logger
from twisted.python.failure import Failure

from logging_proxy import __version__, changes
from logging_proxy.capture.recording import Recording
from logging_proxy.child import ChildProcess
from logging_proxy.configuration import Configuration, ConfigurationError
from logging_proxy.http.server import ServerLimits, Site
from logging_proxy.listening import CannotListen, bind
from logging_proxy.output import Output
from logging_proxy.proxy.failures import Shutdown
from logging_proxy.proxy.forwarding import Forwarding
from logging_proxy.routing.mapping import destination_url
from logging_proxy.signals import Signals
from logging_proxy.tls.listener import ListenerTLS
from logging_proxy.tls.pem import PEMError

CHILD_PATIENCE = 20.0
"""Seconds that the logging server has to empty the spool when the service stops."""

GRACE = 0.02
"""Seconds that a service that stops still accepts, and reads requests that have arrived already."""

LOOK = 0.02
"""Seconds between two looks at what is still in flight."""

FAREWELL = 1.0
"""Seconds that clients have to take the answers that interrupted exchanges get."""


class ProxyService(MultiService):
    """The proxy, and the logging server it started."""

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        configuration: Configuration,
        listeners: list[socket.socket],
        recording: Recording | None,
        child: ChildProcess | None,
        output: Output,
        reread: Callable[[], Configuration],
    ) -> None:
        """
        The sockets `listeners` listen already; everything else begins with `startService`.

        `reread` gives the configuration as it is now, or raises `ConfigurationError`.
        """
        super().__init__()  # type: ignore[no-untyped-call]
        self._reactor = reactor
        self._configuration = configuration
        self._listeners = listeners
        self._recording = recording
        self._child = child
        self._output = output
        self._ports: list[Any] = []
        self._until = 0.0
        """When exchanges are interrupted, once the service stops."""
        self._reread = reread
        recorder = recording.recorder if recording is not None else None
        self.forwarding = Forwarding(reactor, recorder, output.exchange, output.trouble)
        tree = self.forwarding.use(configuration)
        tls = configuration.server.tls
        self._tls = ListenerTLS(tls) if tls is not None else None
        self.site = Site(tree, reactor, _server_limits(configuration), secure=tls is not None)

    def setServiceParent(self, parent: Any) -> None:
        """twistd asks its application for a log observer after this, and before it starts to log."""
        if hasattr(parent, "setComponent"):
            parent.setComponent(ILogObserver, self._output)
        super().setServiceParent(parent)  # type: ignore[no-untyped-call]

    # --- start ------------------------------------------------------------------------------

    def startService(self) -> None:
        """Start everything that has a thread or a process: twistd has made its daemon by now."""
        super().startService()  # type: ignore[no-untyped-call]
        self._output.start()
        if self._recording is not None:
            self._recording.start()
        if self._child is not None:
            self._child.start()
        self._ports = self._adopt(self._listeners)
        signals = Signals(self._reactor, self.hurry, self._output.rotate, self.reload)
        self._reactor.callWhenRunning(signals.install)
        self._say_hello()

    def _adopt(self, listeners: list[socket.socket]) -> list[Any]:
        """Accept on sockets that listen."""
        factory = self.site if self._tls is None else self._tls.wrap(self.site, self._reactor)
        ports = []
        for listener in listeners:
            family, fd = listener.family, listener.detach()
            ports.append(self._reactor.adoptStreamPort(fd, family, factory))
            os.close(fd)
        return ports

    def _say_hello(self) -> None:
        configuration = self._configuration
        host: Any = self._ports[0].getHost()
        self._log.info(
            "Logging Proxy {version} on {scheme}://{host}:{port}",
            version=__version__,
            scheme=self.site.scheme.decode(),
            host=configuration.server.host,
            port=host.port,
        )
        self._say_routes()

    def _say_routes(self) -> None:
        configuration = self._configuration
        for route in configuration.routes:
            self._log.info(
                "  {pattern} -> {destination} {log}",
                pattern=str(route.pattern),
                destination=destination_url(route.destination, route.destination.path).decode(),
                log="[log]" if route.logging else "[no-log]",
            )
        for warning in configuration.warnings:
            self._log.warn("{warning}", warning=str(warning))

    # --- a new configuration --------------------------------------------------------------

    def reload(self) -> None:
        """
        Read the configuration again and go on with it.

        A bad one is reported and the old one stays.  No connection is dropped:
        what is in flight finishes on the terms it began with.
        """
        old = self._configuration
        try:
            new = self._reread()
            self._listen_as(old, new)
        except (ConfigurationError, CannotListen, PEMError) as error:
            self._log.error("the configuration stays as it was: {why}", why=str(error))
            return
        self._configuration = new
        self.site.use(self.forwarding.use(new), _server_limits(new))
        self._log.info("the configuration has been read again")
        for line in changes.routes(old, new):
            self._log.info("  {line}", line=line)
        for key in changes.waiting(old, new):
            self._log.warn("{key} has changed; that takes effect at the next start", key=key)
        self._say_routes()

    def _listen_as(self, old: Configuration, new: Configuration) -> None:
        """Listen where `new` says, with its certificate.  Raises before anything has changed."""
        was, to_be = old.server, new.server
        moved = (was.host, was.port) != (to_be.host, to_be.port)
        listeners = bind(to_be.host, to_be.port) if moved else []
        try:
            if self._tls is not None and to_be.tls is not None:
                self._tls.use(to_be.tls)
            else:
                self._tls = ListenerTLS(to_be.tls) if to_be.tls is not None else None
        except PEMError:
            for listener in listeners:
                listener.close()
            raise
        self.site.scheme = b"http" if self._tls is None else b"https"
        if moved:
            for port in self._ports:
                port.stopListening()
            self._ports = self._adopt(listeners)
        elif (was.tls is None) != (to_be.tls is None):
            for port in self._ports:
                port.factory = self.site if self._tls is None else self._tls.wrap(self.site, self._reactor)

    # --- stop -------------------------------------------------------------------------------

    def stopService(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._stop())

    def hurry(self) -> None:
        """Do not wait for what is in flight any longer."""
        self._until = self._reactor.seconds()

    async def _stop(self) -> None:
        """
        Stop accepting, let what is in flight finish, keep the last byte, then end the child.

        A step that fails does not keep the later ones from being taken.
        """
        self._until = self._reactor.seconds() + self._configuration.server.shutdown_timeout
        for step in (
            self._stop_accepting,
            self._drain,
            self.forwarding.close,
            self._stop_recording,
            self._stop_child,
            super().stopService,
        ):
            try:
                result: Any = step()
                if result is not None:
                    await result
            except Exception:
                self._log.failure("stopping: {step} failed", step=getattr(step, "__name__", "a step"))
        self._log.info("stopped")
        self._output.close()

    async def _stop_accepting(self) -> None:
        """
        Close the ports, when who has been let in is served.

        What the kernel has accepted by now, and requests that have arrived on
        connections that look idle, get their turns: closing would reset them.
        """
        self.site.closing = True
        await deferLater(self._reactor, GRACE)
        for port in self._ports:
            # A second descriptor: closing the last one resets who waits to be accepted.
            with socket.socket(fileno=os.dup(port.fileno())) as listener:
                stopping = port.stopListening()
                if stopping is not None:
                    await stopping
                self._accept_all(listener, port.factory)
        await deferLater(self._reactor, 0)
        self.site.close()

    def _accept_all(self, listener: socket.socket, factory: Any) -> None:
        """Accept who is waiting."""
        listener.setblocking(False)
        with contextlib.suppress(OSError):
            while True:
                accepted, _ = listener.accept()
                self._reactor.adoptStreamConnection(accepted.fileno(), accepted.family, factory)
                accepted.close()

    async def _drain(self) -> None:
        """Let exchanges finish; those that take too long are interrupted, and their connections aborted."""
        while self._in_flight() and self._reactor.seconds() < self._until:
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

    async def _stop_child(self) -> None:
        if self._child is not None:
            await self._child.stop(CHILD_PATIENCE)


def _server_limits(configuration: Configuration) -> ServerLimits:
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
