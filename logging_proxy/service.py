"""
The proxy's service: everything that `twistd logging-proxy` starts and stops.

Here the parts meet: configuration, listeners, the engine with the tree of
routes, the recording, the logging server's process.
"""

from __future__ import annotations

import os
import socket
from typing import Any

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IListeningPort
from twisted.internet.task import deferLater
from twisted.logger import ILogObserver, Logger
from twisted.python.failure import Failure

from logging_proxy import __version__
from logging_proxy.capture.recording import Recording
from logging_proxy.child import ChildProcess
from logging_proxy.configuration.options import Configuration
from logging_proxy.http.deadlines import Deadlines
from logging_proxy.http.server import ServerLimits, Site
from logging_proxy.output import Output
from logging_proxy.proxy.endpoints import endpoint_for
from logging_proxy.proxy.failures import Shutdown
from logging_proxy.proxy.headers import ForwardedPolicy
from logging_proxy.proxy.pool import ClientLimits, Pool
from logging_proxy.proxy.tree import Ids, RouteResource, RouteTree, Surroundings
from logging_proxy.routing.mapping import Destination, destination_url
from logging_proxy.signals import Signals

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
    ) -> None:
        """The sockets `listeners` listen already; everything else begins with `startService`."""
        super().__init__()  # type: ignore[no-untyped-call]
        self._reactor = reactor
        self._configuration = configuration
        self._listeners = listeners
        self._recording = recording
        self._child = child
        self._output = output
        self._ports: list[IListeningPort] = []
        self._until = 0.0
        """When exchanges are interrupted, once the service stops."""
        self._deadlines = Deadlines(reactor)
        self._pools: dict[tuple[str, str, int], Pool] = {}
        self.tree = self._build_tree()
        self.site = Site(self.tree, reactor, _server_limits(configuration))

    def setServiceParent(self, parent: Any) -> None:
        """twistd asks its application for a log observer after this, and before it starts to log."""
        if hasattr(parent, "setComponent"):
            parent.setComponent(ILogObserver, self._output)
        super().setServiceParent(parent)  # type: ignore[no-untyped-call]

    # --- the tree of routes --------------------------------------------------------------

    def _build_tree(self) -> RouteTree:
        configuration = self._configuration
        server, logging = configuration.server, configuration.logging
        surroundings = Surroundings(
            recorder=self._recording.recorder if self._recording is not None else None,
            policy=ForwardedPolicy(server.forwarded, server.via),
            console=self._output.exchange if logging.console else None,
            record_unknown=logging.default,
            not_found=server.not_found.encode(),
        )
        ids = Ids(surroundings.random)
        tree = RouteTree(ids, surroundings)
        for route in configuration.routes:
            tree.mount(RouteResource(route, self._pool_for(route.destination), ids, surroundings))
        return tree

    def _pool_for(self, destination: Destination) -> Pool:
        """Routes to the same place share their connections."""
        key = (destination.scheme, destination.host, destination.port)
        pool = self._pools.get(key)
        if pool is None:
            limits = _client_limits(self._configuration)
            endpoint = endpoint_for(self._reactor, destination, limits.connect_timeout)
            secure = destination.scheme == "https"
            name = destination.authority.decode()
            pool = Pool(endpoint, self._reactor, self._deadlines, limits, secure, name)
            self._pools[key] = pool
        return pool

    # --- start ------------------------------------------------------------------------------

    def startService(self) -> None:
        """Start everything that has a thread or a process: twistd has made its daemon by now."""
        super().startService()  # type: ignore[no-untyped-call]
        self._output.start()
        if self._recording is not None:
            self._recording.start()
        if self._child is not None:
            self._child.start()
        for listener in self._listeners:
            family, fd = listener.family, listener.detach()
            self._ports.append(self._reactor.adoptStreamPort(fd, family, self.site))
            os.close(fd)
        self._reactor.callWhenRunning(Signals(self._reactor, self.hurry, self._output.rotate).install)
        self._say_hello()

    def _say_hello(self) -> None:
        configuration = self._configuration
        host: Any = self._ports[0].getHost()
        self._log.info(
            "Logging Proxy {version} on http://{host}:{port}",
            version=__version__,
            host=configuration.server.host,
            port=host.port,
        )
        for route in configuration.routes:
            self._log.info(
                "  {pattern} -> {destination} {log}",
                pattern=str(route.pattern),
                destination=destination_url(route.destination, route.destination.path).decode(),
                log="[log]" if route.logging else "[no-log]",
            )
        for warning in configuration.warnings:
            self._log.warn("{warning}", warning=str(warning))

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
            self._close_pools,
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
            stopping = port.stopListening()
            if stopping is not None:
                await stopping
        await deferLater(self._reactor, 0)
        self.site.close()

    async def _drain(self) -> None:
        """Let exchanges finish; those that take too long are interrupted, and their connections aborted."""
        while self._in_flight() and self._reactor.seconds() < self._until:
            await deferLater(self._reactor, LOOK)
        for route in self.tree.routes:
            for exchange in list(route.exchanges):
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
        return sum(len(route.exchanges) for route in self.tree.routes) + len(self.site.connections)

    def _close_pools(self) -> None:
        for pool in self._pools.values():
            pool.close()

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
        half_close_cancels=server.half_close == "cancel",
    )


def _client_limits(configuration: Configuration) -> ClientLimits:
    client, server = configuration.http_client, configuration.server
    return ClientLimits(
        connect_timeout=client.connect_timeout,
        head_timeout=client.head_timeout,
        stream_timeout=client.stream_timeout,
        head_limit=server.head_limit,
        header_fields=server.header_fields,
        pool_idle_timeout=client.pool_idle_timeout,
        pool_size=client.pool_size,
        pool_max_age=client.pool_max_age,
    )
