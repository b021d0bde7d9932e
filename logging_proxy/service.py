"""
The proxy's service: everything that `twistd logging-proxy` starts and stops.

Here the parts meet: configuration, listeners, the engine with the tree of
routes, the recording, the logging server's process.
"""

from __future__ import annotations

import json
import os
import socket
import time
from pathlib import Path
from typing import Any

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IListeningPort
from twisted.internet.task import deferLater
from twisted.logger import ILogObserver, Logger
from twisted.python.failure import Failure

from logging_proxy import __version__
from logging_proxy.capture.events import CaptureObserver, Recorder
from logging_proxy.capture.records import Kind
from logging_proxy.capture.spool import Spool
from logging_proxy.capture.writer import CaptureWriter
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

RING_SIZE = 8 << 20
"""Bytes of the ring: what the data path can run ahead of the disk before it waits."""

CHILD_PATIENCE = 20.0
"""Seconds that the logging server has to empty the spool when the service stops."""


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
        output: Output | None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._reactor = reactor
        self._configuration = configuration
        self._listeners = listeners
        self._recording = recording
        self._child = child
        self._output = output
        self._ports: list[IListeningPort] = []
        self._deadlines = Deadlines(reactor)
        self._pools: dict[tuple[str, str, int], Pool] = {}
        self.tree = self._build_tree()
        self.site = Site(self.tree, reactor, _server_limits(configuration))

    def setServiceParent(self, parent: Any) -> None:
        """twistd asks its application for a log observer after this, and before it starts to log."""
        if self._output is not None and hasattr(parent, "setComponent"):
            parent.setComponent(ILogObserver, self._output)
        super().setServiceParent(parent)  # type: ignore[no-untyped-call]

    # --- the tree of routes --------------------------------------------------------------

    def _build_tree(self) -> RouteTree:
        configuration = self._configuration
        server, logging = configuration.server, configuration.logging
        surroundings = Surroundings(
            recorder=self._recording.recorder if self._recording is not None else None,
            policy=ForwardedPolicy(server.forwarded, server.via),
            console=self._output.exchange if self._output is not None and logging.console else None,
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

    # --- start and stop --------------------------------------------------------------------

    def startService(self) -> None:
        super().startService()  # type: ignore[no-untyped-call]
        if self._recording is not None:
            self._recording.start(self._reactor)
        if self._child is not None:
            self._child.start()
        for listener in self._listeners:
            family, fd = listener.family, listener.detach()
            self._ports.append(self._reactor.adoptStreamPort(fd, family, self.site))
            os.close(fd)
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

    def stopService(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        """Stop accepting, let what is in flight finish, keep the last byte, then end the child."""
        for port in self._ports:
            await _deferred(port.stopListening())
        self.site.close()
        until = self._reactor.seconds() + self._configuration.server.shutdown_timeout
        while self._in_flight() and self._reactor.seconds() < until:
            await deferLater(self._reactor, 0.05)
        self._interrupt()
        while self.site.connections and self._reactor.seconds() < until + 1:
            await deferLater(self._reactor, 0.05)
        for pool in self._pools.values():
            pool.close()
        if self._recording is not None:
            await self._recording.stop(self._reactor)
        if self._child is not None:
            await self._child.stop(CHILD_PATIENCE)
        if self._output is not None:
            self._output.flush()
        await _deferred(super().stopService())  # type: ignore[no-untyped-call]

    def _in_flight(self) -> int:
        return sum(len(route.exchanges) for route in self.tree.routes) + len(self.site.connections)

    def _interrupt(self) -> None:
        """Time is up: what is still in flight ends now, and says so in its capture."""
        for route in self.tree.routes:
            for exchange in list(route.exchanges):
                exchange.interrupt(Failure(Shutdown("the proxy was stopped")))
        for connection in list(self.site.connections):
            connection.abort()


async def _deferred(result: Any) -> None:
    if isinstance(result, Deferred):
        await result


class Recording:
    """The recording side: spool, writer, observer."""

    def __init__(self, spool_directory: Path, configuration: Configuration) -> None:
        """Raises `SpoolBusy` and OSError."""
        logging = configuration.logging
        self._reactor: Any = None
        self.directory = spool_directory
        self._spool = Spool(
            spool_directory, Path(logging.ring_dir), RING_SIZE, logging.spool_limit, self._moved
        )
        passes = logging.on_capture_error == "pass"
        self.writer = CaptureWriter(self._spool.ring, self._spool.stored, passes)
        self.recorder = Recorder(CaptureObserver(self.writer))

    def start(self, reactor: Any) -> None:
        self._reactor = reactor
        session = {"version": __version__, "pid": os.getpid(), "wall_ns": time.time_ns()}
        self.writer.write(0, [(Kind.SESSION, 0, json.dumps(session).encode())])
        self._spool.start()

    def _moved(self) -> None:
        """Called on the spool's thread.  Wakes the reactor only if somebody waits or something failed."""
        if self.writer.full or self.writer.failure != self._spool.failure:
            self._reactor.callFromThread(self._tell_writer)

    def _tell_writer(self) -> None:
        self.writer.spool_moved(self._spool.failure)

    def stop(self, reactor: Any) -> Deferred[None]:
        """Fires when everything recorded is on disk."""
        from twisted.internet.threads import deferToThreadPool

        done: Deferred[None] = deferToThreadPool(reactor, reactor.getThreadPool(), self._spool.close)
        return done


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
