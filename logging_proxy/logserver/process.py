"""
The services of the logging server's process: storage, listeners, and the link to a parent process.

The reactor thread serves HTTP and schedules storage work; the work itself, which a slow disk may delay by
seconds, runs on the storage thread.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from twisted.application.service import MultiService
from twisted.internet import abstract
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IListeningPort, IReactorTime
from twisted.internet.main import CONNECTION_LOST
from twisted.logger import ILogObserver, Logger
from twisted.python.failure import Failure

from logging_proxy.logserver.ingest.consumer import TURN_BYTES
from logging_proxy.logserver.ingest.spools import RETRY_INTERVAL, Spools
from logging_proxy.logserver.threads import Worker
from logging_proxy.net.admission import listen
from logging_proxy.net.pause import Pause
from logging_proxy.net.services import TypedService
from logging_proxy.recording.tail import BUSY_INTERVAL, FIRST_IDLE, LONGEST_IDLE
from logging_proxy.service.output import Output
from logging_proxy.service.signals import Signals

UNWATCHED_INTERVAL = 0.05
"""Seconds between two reads of the spools while there is traffic but no viewer: fewer turns cost less CPU."""

DRAIN_LIMIT = 10.0
"""Deadline of a drain while nothing can be stored, in seconds; the spool keeps the rest."""


class Drainable(Protocol):
    """A consumer of spools that can be asked to empty them."""

    def drain(self) -> Deferred[None]:
        """Fires when the present content of the spools is processed, or cannot be."""

    def wake(self) -> None:
        """Reads the spools without waiting for the next turn."""


class StorageService(TypedService):
    """Has the spools read at intervals, from start to stop.  Everything stored before the stop is durable."""

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        spools: Spools,
        worker: Worker,
        before_close: Callable[[], None] = lambda: None,
        is_watched: Callable[[], bool] = lambda: False,
    ) -> None:
        """
        `before_close` is called on the storage thread, before the spools are closed.

        While `is_watched` returns true, the live feed has viewers and the spools are read more often.
        """
        self._before_close = before_close
        self._is_watched = is_watched
        self._clock = clock
        self._spools = spools
        self._worker = worker
        self._stopping = False
        self._draining: list[Deferred[None]] = []
        self._drain_until = 0.0
        self._pause = Pause(clock)
        self._idle = FIRST_IDLE
        self._done: Deferred[None] | None = None

    def startService(self) -> None:
        super().startService()
        self._worker.start()
        self._done = Deferred.fromCoroutine(self._work())

    def stopService(self) -> Deferred[None] | None:
        super().stopService()
        self._stopping = True
        self.wake()
        return self._done

    def wake(self) -> None:
        """Reads the spools now: a doorbell rang, or bytes were appended."""
        self._idle = FIRST_IDLE
        self._pause.end()

    def drain(self) -> Deferred[None]:
        """Fires when everything in the spools is stored, or cannot be for `DRAIN_LIMIT` seconds."""
        drained: Deferred[None] = Deferred()
        self._drain_until = self._clock.seconds() + DRAIN_LIMIT
        self._draining.append(drained)
        self.wake()
        return drained

    # --- the loop

    async def _work(self) -> None:
        while not self._stopping:
            patient = not self._awaited
            taken = await self._turn(patient)
            if not patient:  # a patient turn may leave bytes unread
                await self._settle_drains(taken)
            delay = self._delay(taken)
            if delay and not self._stopping:
                await self._pause.sleep(delay)
        await self._worker.run(self._finish)
        self._worker.stop()

    async def _turn(self, patient: bool) -> int:
        try:
            return int(await self._worker.run(partial(self._spools.turn, patient)))
        except Exception:
            # Spools handle expected errors themselves: this is a bug, and storage goes on.
            self._log.failure("storage")
            await self._pause.sleep(RETRY_INTERVAL)
            return 0

    async def _settle_drains(self, taken: int) -> None:
        if not self._draining or taken:
            return
        settled = await self._worker.run(self._spools.settle)
        if settled or self._clock.seconds() >= self._drain_until:
            draining, self._draining = self._draining, []
            for drained in draining:
                drained.callback(None)

    def _finish(self) -> None:
        """Stores the rest of the spools, at most one turn of it, and closes them."""
        self._spools.turn()
        self._spools.settle()
        self._before_close()
        self._spools.close()

    def _delay(self, taken: int) -> float:
        if taken >= TURN_BYTES:
            return 0.0
        if taken:
            self._idle = FIRST_IDLE
        if self._awaited:
            return BUSY_INTERVAL
        if taken:
            return UNWATCHED_INTERVAL
        delay, self._idle = self._idle, min(self._idle * 1.5, LONGEST_IDLE)
        return delay

    @property
    def _awaited(self) -> bool:
        """Whether a drain, a stop or a viewer waits for the content of the spools."""
        return bool(self._draining) or self._stopping or self._is_watched()


class Listeners(TypedService):
    """Serves a site on sockets that are listening already."""

    _log = Logger()

    def __init__(self, reactor: Any, sockets: list[socket.socket], site: Any) -> None:
        self._reactor = reactor
        self._sockets = sockets
        self._site = site
        self._ports: list[IListeningPort] = []

    def startService(self) -> None:
        super().startService()
        for listener in self._sockets:
            family, fd = listener.family, listener.detach()
            self._ports.append(listen(self._reactor, fd, family, self._site, self._site.admission.room))
            os.close(fd)

    async def _stop(self) -> None:
        ports, self._ports = self._ports, []
        for port in ports:
            result = port.stopListening()
            if isinstance(result, Deferred):
                await result

    def stopService(self) -> Deferred[None]:
        super().stopService()
        return Deferred.fromCoroutine(self._stop())


class _Pipe(abstract.FileDescriptor):
    """Reads the pipe from the parent process: each byte is a doorbell, end of file is the parent's exit."""

    def __init__(self, reactor: Any, fd: int, rang: Callable[[], None], closed: Callable[[], None]) -> None:
        super().__init__(reactor)
        self._fd = fd
        self._rang = rang
        self._closed = closed

    def fileno(self) -> int:
        return self._fd

    def doRead(self) -> Exception | None:
        try:
            data = os.read(self._fd, 4096)
        except BlockingIOError:
            return None
        except OSError:
            data = b""
        if not data:
            return CONNECTION_LOST
        self._rang()
        return None

    def connectionLost(self, reason: Failure) -> None:
        """Also called by the reactor, for an end of file that no read has seen."""
        super().connectionLost(reason)  # type: ignore[no-untyped-call]
        os.close(self._fd)
        self._closed()


class ParentWatch(TypedService):
    """
    Ends this process after its parent.

    When the pipe closes, whether the parent exited or crashed, the ports are closed at once, so that a new
    proxy can bind them; then the spools are drained and the reactor is stopped.  SIGINT and SIGTERM are
    ignored: a terminal sends them to both processes, and the parent is still recording.
    """

    _log = Logger()

    def __init__(self, reactor: Any, fd: int, listeners: Listeners, work: Drainable) -> None:
        self._reactor = reactor
        self._listeners = listeners
        self._work = work
        self._pipe = _Pipe(reactor, fd, work.wake, self._parent_gone)
        os.set_blocking(fd, False)

    def startService(self) -> None:
        super().startService()
        self._pipe.startReading()  # type: ignore[no-untyped-call]
        self._reactor.callWhenRunning(_ignore_signals)

    def _parent_gone(self) -> None:
        gone = Deferred.fromCoroutine(self._leave())
        gone.addErrback(lambda failure: self._log.failure("draining", failure=failure))
        gone.addBoth(lambda _: self._reactor.stop())

    async def _leave(self) -> None:
        await self._listeners.stopService()
        await self._work.drain()


def _ignore_signals() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


class ServerService(MultiService):
    """
    The root service of the logging server; it also sets the log observer.

    A standalone server logs to its own `output` and ends with status 0 on a signal.  The child of a proxy
    logs to `observer` and ends when its parent's pipe closes.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        output: Output | None,
        observer: Any = None,
        greet: Callable[[Output], None] = lambda output: None,
    ) -> None:
        """`greet` writes a standalone server's first lines, once the reactor runs."""
        super().__init__()  # type: ignore[no-untyped-call]
        self._greet = greet
        self._reactor = reactor
        self._output = output
        self._observer = observer if output is None else output

    def setServiceParent(self, parent: Any) -> None:
        """Registers the log observer, for which twistd asks before it starts to log."""
        if hasattr(parent, "setComponent"):
            parent.setComponent(ILogObserver, self._observer)
        super().setServiceParent(parent)  # type: ignore[no-untyped-call]

    def startService(self) -> None:
        if self._output is not None:
            self._output.start()
            signals = Signals(self._reactor, self._reactor.stop, self._output.rotate, self._stay)
            self._reactor.callWhenRunning(signals.install)
            self._reactor.callWhenRunning(self._greet, self._output)
        super().startService()  # type: ignore[no-untyped-call]

    def _stay(self) -> None:
        self._log.info("SIGHUP: a logging server reads its configuration at the start only")
