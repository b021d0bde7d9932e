"""The service of a worker process: it forwards and records as ordered, and ends with the main process."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable
from typing import Any

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory
from twisted.logger import ILogObserver, Logger

from logging_proxy.recording.recorder import Recording
from logging_proxy.recording.spool import SpoolBusy, describe
from logging_proxy.service.engine import Serving, one_by_one
from logging_proxy.service.output import Output
from logging_proxy.workers.board import Board
from logging_proxy.workers.entrance import SharedEntrance
from logging_proxy.workers.orders import Begin, Hurry, Listen, Order, Stop, Subordinate, Use

GATHER = 0.05
"""Seconds for which output lines are collected before they are sent to the main process."""

ALONE = 5
"""Seconds that a worker has to end after the main process is gone, before the kernel ends it."""


class WorkerService(MultiService):
    """Runs a worker's engine, from the order to begin until the order to stop."""

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        worker: int,
        link: int,
        output: Output,
        alarm: Callable[[int], Any] = signal.alarm,
    ) -> None:
        """`link` is the descriptor of the socket through which orders come."""
        super().__init__()  # type: ignore[no-untyped-call]
        self._reactor = reactor
        self._worker = worker
        self._link = link
        self._output = output
        self._alarm = alarm
        self._serving: Serving | None = None
        self._stopping = False

    def setServiceParent(self, parent: Any) -> None:
        """Set the log observer: twistd asks for it after this call and before it starts to log."""
        if hasattr(parent, "setComponent"):
            parent.setComponent(ILogObserver, self._output)
        super().setServiceParent(parent)  # type: ignore[no-untyped-call]

    def startService(self) -> None:
        super().startService()  # type: ignore[no-untyped-call]
        self._output.start()
        self._reactor.callWhenRunning(_ignore_signals)
        os.set_blocking(self._link, False)
        factory = Factory.forProtocol(lambda: Subordinate(self.obey, self.alone))
        factory.noisy = False
        self._reactor.adoptStreamConnection(self._link, socket.AF_UNIX, factory)
        os.close(self._link)

    # --- orders ---------------------------------------------------------------------------

    async def obey(self, order: Order, attached: list[int]) -> None:
        """Carry out an order.  Takes ownership of the descriptors."""
        if isinstance(order, Begin):
            self._begin(order, attached[0])
        elif isinstance(order, Stop):
            self._stop()
        elif self._serving is None:
            for fd in attached:
                os.close(fd)
        elif isinstance(order, Hurry):
            self._serving.hurry()
        else:
            await self._go_on(self._serving, order, [socket.socket(fileno=fd) for fd in attached])

    async def _go_on(self, serving: Serving, order: Listen | Use, listeners: list[socket.socket]) -> None:
        if isinstance(order, Use):
            await serving.use(order.configuration, listeners)
        else:
            serving.listen(listeners)

    def _begin(self, order: Begin, board: int) -> None:
        entrance = SharedEntrance(self._reactor, Board(board), self._worker)
        os.close(board)
        try:
            recording = self._recording(order)
        except (SpoolBusy, OSError) as error:
            why = str(error) if isinstance(error, SpoolBusy) else f"{order.spool}: {describe(error)}"
            self._log.error("cannot begin: {why}", why=why)
            self._stop()
            return
        self._serving = Serving(
            self._reactor, order.configuration, recording, self._output, entrance, order.server
        )
        self._serving.begin()

    def _recording(self, order: Begin) -> Recording | None:
        if order.spool is None:
            return None
        return Recording(order.spool, order.logging, self._reactor, workers=order.workers)

    def alone(self) -> None:
        """
        The main process is gone: end at once, without waiting for exchanges in flight.

        A new proxy needs the port and the spools.  Clients see that their exchanges were
        cut, and the captures record it, as far as the short time allows.
        """
        if not self._stopping:
            # The signal keeps its default action: the kernel ends the process even if it hangs.
            self._alarm(ALONE)
            if self._serving is not None:
                self._serving.hurry()
            self._stop()

    # --- stop -----------------------------------------------------------------------------

    def _stop(self) -> None:
        if not self._stopping:
            self._stopping = True
            self._reactor.stop()

    def stopService(self) -> Deferred[None]:
        self._stopping = True
        return Deferred.fromCoroutine(self._end())

    async def _end(self) -> None:
        if self._serving is not None:
            await self._serving.stop()
        await one_by_one(self._log, super().stopService)
        self._output.close()


def _ignore_signals() -> None:
    """Signals are handled by the main process; service managers send them to every process of a service."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
