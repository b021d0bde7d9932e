"""
Signal handling of the proxy, and of a logging server started on its own.

SIGTERM and SIGINT end a service with exit status 0; with Twisted's handlers the process
would die of the signal.  A second SIGTERM or SIGINT ends the exchanges in flight at once.
SIGUSR1 rotates the log file, SIGHUP reloads the configuration.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

from twisted.logger import Logger


class Signals:
    """Signal handlers of one service; `hurry` is called on the second signal to stop."""

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        hurry: Callable[[], None],
        rotate: Callable[[], None],
        reload: Callable[[], None],
        install: Callable[[int, Any], Any] = signal.signal,
    ) -> None:
        self._reactor = reactor
        self._hurry = hurry
        self._rotate = rotate
        self._reload = reload
        self._install = install
        self._stopping = False

    def install(self) -> None:
        """
        Install the handlers.  To be called after the reactor has installed its own.

        SIGINT stays ignored if it was ignored at start-up, as in a shell's background jobs.
        """
        handlers: dict[int, Callable[[], None]] = {
            signal.SIGTERM: self._stop,
            signal.SIGHUP: self._reload,
            signal.SIGUSR1: self._rotate,
        }
        if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
            handlers[signal.SIGINT] = self._stop
        for number, handler in handlers.items():
            self._install(number, self._on_the_reactor(handler))

    def _on_the_reactor(self, handler: Callable[[], None]) -> Callable[[int, Any], None]:
        return lambda number, frame: self._reactor.callFromThread(handler)

    def _stop(self) -> None:
        if self._stopping:
            self._log.warn("stopping at once: exchanges in flight are interrupted")
            self._hurry()
            return
        self._stopping = True
        self._log.info("stopping: no new connections; exchanges in flight may finish")
        self._reactor.stop()
