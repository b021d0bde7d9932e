"""
The proxy's service: everything that `twistd logging-proxy` starts and stops.

Forwarding is done by an engine: this process, or a fleet of workers.  The service
owns what exists once per proxy: listening sockets, output, signals, the
configuration and its changes, and the logging server's process.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any, Protocol

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred
from twisted.logger import ILogObserver, Logger
from twisted.python.failure import Failure

from logging_proxy.configuration import Configuration, ConfigurationError
from logging_proxy.configuration.base_urls import proxy_url
from logging_proxy.net import shortcut
from logging_proxy.net.listening import CannotListen, bind
from logging_proxy.service import changes
from logging_proxy.service.child import ChildProcess
from logging_proxy.service.engine import one_by_one
from logging_proxy.service.hello import route_lines
from logging_proxy.service.output import Output
from logging_proxy.service.signals import Signals
from logging_proxy.tls.listener import ListenerTLS
from logging_proxy.tls.pem import PEMError

CHILD_PATIENCE = 20.0
"""Seconds that the logging server has to empty the spool at shutdown."""


class Engine(Protocol):
    """Forwards and records: `Serving` in this process, `Fleet` in worker processes."""

    async def start(self, listeners: list[socket.socket]) -> None:
        """Accept on listening sockets, which the engine takes over.  Returns once it accepts."""

    async def use(self, configuration: Configuration, listeners: list[socket.socket]) -> None:
        """
        Switch to another configuration, and to `listeners` in place of the current ones if there are any.

        No connection is dropped.  Returns when the change has taken effect.
        """

    def hurry(self) -> None:
        """End the exchanges in flight at once."""

    async def stop(self) -> None:
        """Stop.  Everything recorded is safe when this returns."""


class ProxyService(MultiService):
    """The proxy, and the logging server process that it started."""

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        configuration: Configuration,
        listeners: list[socket.socket],
        engine: Engine,
        child: ChildProcess | None,
        output: Output,
        reread: Callable[[], Configuration],
        greet: Callable[[Configuration, int], None],
    ) -> None:
        """
        The sockets `listeners` are listening already; everything else begins with `startService`.

        `reread` loads the configuration again, and may raise `ConfigurationError`.
        `greet` writes the lines that tell what was started; it is called with the proxy's port.
        """
        super().__init__()  # type: ignore[no-untyped-call]
        self._reactor = reactor
        self._configuration = configuration
        self._listeners = listeners
        self._engine = engine
        self._child = child
        self._output = output
        self._reread = reread
        self._greet = greet
        self._port = configuration.server.port
        self._stopping = False

    def setServiceParent(self, parent: Any) -> None:
        """Set the log observer: twistd asks for it after this call and before it starts to log."""
        if hasattr(parent, "setComponent"):
            parent.setComponent(ILogObserver, self._output)
        super().setServiceParent(parent)  # type: ignore[no-untyped-call]

    # --- start ------------------------------------------------------------------------------

    def startService(self) -> None:
        """Start threads and processes, which must not exist before twistd has daemonized."""
        super().startService()  # type: ignore[no-untyped-call]
        self._output.start()
        if self._child is not None:
            self._child.start()
        signals = Signals(self._reactor, self.hurry, self._output.rotate, self.reload)
        self._reactor.callWhenRunning(signals.install)
        Deferred.fromCoroutine(self._start()).addErrback(self._cannot_start)

    async def _start(self) -> None:
        self._port = self._listeners[0].getsockname()[1]
        await self._engine.start(self._listeners)
        if not self._stopping:
            self._say_hello()

    def _cannot_start(self, failure: Failure) -> None:
        self._log.failure("the proxy cannot start", failure)
        self._reactor.callWhenRunning(self._reactor.stop)

    def _say_hello(self) -> None:
        if shortcut.trouble is not None:
            self._log.warn("streams cost a third more without the C extension: {why}", why=shortcut.trouble)
        self._say_warnings()
        self._greet(self._configuration, self._port)

    def _say_warnings(self) -> None:
        for warning in self._configuration.warnings:
            self._output.say(warning.as_warning())

    # --- a new configuration --------------------------------------------------------------

    def reload(self) -> None:
        """
        Load the configuration again and switch to it.

        If it has mistakes, they are logged and the current configuration stays.  No connection
        is dropped; exchanges in flight finish with the configuration they began with.
        """
        if self._stopping:
            return
        old = self._configuration
        try:
            new = self._reread()
            listeners = _listeners_for(old, new)
        except (ConfigurationError, CannotListen, PEMError) as error:
            self._log.error("the configuration stays as it was: {why}", why=str(error))
            return
        self._configuration = new
        port = listeners[0].getsockname()[1] if listeners else self._port
        used = Deferred.fromCoroutine(self._engine.use(new, listeners))
        used.addCallbacks(lambda _: self._say_changes(old, new, port), self._cannot_use, errbackArgs=(old,))

    def _cannot_use(self, failure: Failure, old: Configuration) -> None:
        self._configuration = old
        self._log.failure("the configuration stays as it was: it cannot be used", failure)

    def _say_changes(self, old: Configuration, new: Configuration, port: int) -> None:
        self._port = port
        self._log.info("the configuration has been read again")
        changed = list(changes.routes(old, new))
        if changed or proxy_url(old.server) != proxy_url(new.server):
            lines = route_lines(new, self._port, self._output.room())
            self._output.say("\n".join([*changed, "the routes are now:", *lines]))
        for key in changes.waiting(old, new):
            self._log.warn("{key} has changed; that takes effect at the next start", key=key)
        self._say_warnings()

    # --- stop -------------------------------------------------------------------------------

    def hurry(self) -> None:
        """End the exchanges in flight at once."""
        self._engine.hurry()

    def stopService(self) -> Deferred[None]:
        self._stopping = True
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        """Stop the engine before the logging server, so that the latter gets everything recorded."""
        await one_by_one(self._log, self._engine.stop, self._stop_child, super().stopService)
        self._log.info("stopped")
        self._output.close()

    async def _stop_child(self) -> None:
        if self._child is not None:
            await self._child.stop(CHILD_PATIENCE)


def _listeners_for(old: Configuration, new: Configuration) -> list[socket.socket]:
    """
    Listening sockets for `new`, if its address differs from that of `old`.

    Raises `CannotListen`, or `PEMError` if the certificate cannot be used.
    """
    was, to_be = old.server, new.server
    if to_be.tls is not None:
        ListenerTLS(to_be.tls)
    return bind(to_be.host, to_be.port) if (was.host, was.port) != (to_be.host, to_be.port) else []
