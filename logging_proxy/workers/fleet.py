"""
The fleet: worker processes that forward and record.  Used by the proxy's main process, which does neither.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, DeferredList, gatherResults, succeed
from twisted.internet.protocol import Factory
from twisted.logger import Logger

from logging_proxy.configuration import Configuration
from logging_proxy.outbound.ourselves import Where
from logging_proxy.service.child import ChildProcess
from logging_proxy.service.output import Output
from logging_proxy.workers.board import Board, new_board_file
from logging_proxy.workers.orders import Begin, Commander, HasDescriptor, Hurry, Listen, Order, Stop, Use

START_PATIENCE = 10.0
"""Seconds that ready workers wait for the others, so that connections are shared from the start."""

USE_PATIENCE = 5.0
"""Seconds that workers have to apply a new configuration before it is reported as in use."""

STOP_PATIENCE = 10.0
"""Seconds beyond `shutdown_timeout` that a worker has to end, and the whole timeout after a second signal."""


class Worker:
    """A worker, and the link to its current process."""

    def __init__(self, reactor: Any, attached: Callable[[Worker], None], gone: Callable[[], None]) -> None:
        """`attached` is called when a process has been started, `gone` when it has ended."""
        self._reactor = reactor
        self._attached = attached
        self._gone = gone
        self._commander: Commander | None = None
        self.begun: Deferred[None] = Deferred()
        """Fires when the worker's first process is ready, or has ended."""

    def give(self, order: Order, attached: Sequence[HasDescriptor] = ()) -> Deferred[None]:
        """
        Send an order, if a process is running.

        A process that starts later gets the current state, not the orders that it missed.
        """
        return succeed(None) if self._commander is None else self._commander.give(order, attached)

    # --- Link

    def attach(self, end: socket.socket) -> None:
        commander = self._commander = Commander()
        factory = Factory.forProtocol(lambda: commander)
        factory.noisy = False
        with end:
            end.setblocking(False)
            self._reactor.adoptStreamConnection(end.fileno(), socket.AF_UNIX, factory)
        self._attached(self)

    def finish(self) -> None:
        self.give(Stop())

    def detach(self) -> None:
        if self._commander is not None and self._commander.transport is not None:
            self._commander.transport.loseConnection()
        self._commander = None
        self._gone()


class Fleet:
    """An engine of several processes, each of which is restarted when it ends."""

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        configuration: Configuration,
        spools: Sequence[Path | None],
        output: Output,
        arguments: Sequence[str],
        server: Sequence[Where] = (),
    ) -> None:
        """
        Create a worker for each of `spools`, to which it records.

        `arguments` are twistd's arguments, to which each worker's number is added.
        `server` is where the embedded logging server listens.
        """
        self._reactor = reactor
        self._configuration = configuration
        self._logging = configuration.logging
        self._output = output
        self._server = tuple(server)
        self._count = len(spools)
        self._board_file = new_board_file(self._count)
        self._board = Board(self._board_file.fileno())
        self._listeners: list[socket.socket] = []
        self._open = False
        self._workers: list[Worker] = []
        self._children: list[ChildProcess] = []
        for number, spool in enumerate(spools, 1):
            self._add(number, spool, [*arguments, f"--worker={number}"])

    def _add(self, number: int, spool: Path | None, arguments: list[str]) -> None:
        name = f"worker {number}"

        def attached(worker: Worker) -> None:
            self._begin(worker, spool)

        def heard(fd: int, lines: str) -> None:
            if fd == 1:
                self._output.pass_on(lines)
            else:
                for line in lines.split("\n"):
                    self._log.warn("{name}: {line}", name=name, line=line)

        worker = Worker(self._reactor, attached, lambda: self._board.leave(number))
        self._workers.append(worker)
        title = f"worker {number} of {self._count}"
        child = ChildProcess(self._reactor, name, arguments, link=worker, heard=heard, title=title)
        self._children.append(child)

    def _begin(self, worker: Worker, spool: Path | None) -> None:
        begin = Begin(self._configuration, spool, self._logging, self._count, self._server)
        begun = worker.give(begin, [self._board_file])
        if self._open:
            worker.give(Listen(), self._listeners)
        elif not worker.begun.called:
            begun.addCallback(lambda _: None if worker.begun.called else worker.begun.callback(None))

    # --- Engine

    async def start(self, listeners: list[socket.socket]) -> None:
        """Let all workers begin to accept together, so that early ones do not take the others' share."""
        self._listeners = listeners
        for child in self._children:
            child.start()
        await self._all([worker.begun for worker in self._workers], START_PATIENCE)
        self._open = True
        await self._tell(Listen(), self._listeners)

    async def use(self, configuration: Configuration, listeners: list[socket.socket]) -> None:
        self._configuration = configuration
        old: list[socket.socket] = []
        if listeners:
            old, self._listeners = self._listeners, listeners
        used = self._tell(Use(configuration), listeners if self._open else [])
        for listener in old:
            listener.close()
        await used

    def hurry(self) -> None:
        for worker, child in zip(self._workers, self._children, strict=True):
            worker.give(Hurry())
            child.hasten(STOP_PATIENCE)

    async def stop(self) -> None:
        patience = self._configuration.server.shutdown_timeout + STOP_PATIENCE
        stopping = [child.stop(patience) for child in self._children]
        # Keeping our copies open would leave clients in an accept queue that no worker reads any more.
        listeners, self._listeners = self._listeners, []
        for listener in listeners:
            listener.close()
        await gatherResults(stopping)
        self._board_file.close()

    def _tell(self, order: Order, attached: Sequence[HasDescriptor] = ()) -> Deferred[None]:
        return self._all([worker.give(order, attached) for worker in self._workers], USE_PATIENCE)

    def _all(self, done: list[Deferred[None]], patience: float) -> Deferred[None]:
        """Fires when all have fired, or after `patience` seconds: a hung worker does not block the others."""
        all_done: Deferred[Any] = DeferredList(done, consumeErrors=True)
        return all_done.addTimeout(patience, self._reactor, lambda result, timeout: None)
