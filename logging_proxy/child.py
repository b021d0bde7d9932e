"""
The logging server as a child process of the proxy: started, watched, started again.

The child inherits its listening sockets and one end of a pipe whose other end
only the proxy holds: when the proxy dies, however it dies, the child reads the
pipe's end, empties the spool, and goes.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from socket import socket
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessDone, ProcessExitedAlready
from twisted.internet.interfaces import IDelayedCall, IProcessTransport, IReactorProcess, IReactorTime
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

PIPE_FD = 3
"""Where the child finds the pipe; its listening sockets follow."""

FIRST_WAIT, LONGEST_WAIT = 0.5, 15.0
"""Seconds until a child that ended is started again; doubled each time it does not last."""

LASTING = 30.0
"""Seconds after which a child counts as having lasted."""


MOST_IN_A_LINE = 16384
"""Bytes of the child's output that are kept while their line does not end."""


NICENESS = 10
"""How much the child gives way: exchanges wait for nobody, captures can wait in the spool."""


class _Child(ProcessProtocol):
    """One run of the child."""

    def __init__(self, owner: ChildProcess) -> None:
        self._owner = owner
        self._rest = {1: b"", 2: b""}

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        *lines, rest = (self._rest[childFD] + data).split(b"\n")
        self._rest[childFD] = rest[:MOST_IN_A_LINE]
        for line in lines:
            self._owner.said(line.decode("utf-8", "replace"))

    def processEnded(self, reason: Failure) -> None:
        for rest in filter(None, self._rest.values()):
            self._owner.said(rest.decode("utf-8", "replace"))
        self._owner.ended(reason)


class ChildProcess:
    """Keeps one child running from `start` to `stop`."""

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        arguments: Sequence[str],
        listeners: Sequence[socket],
        folder: str | None = None,
    ) -> None:
        """
        `arguments` are those of twistd; the sockets `listeners` are handed down, and are closed by `stop`.

        `folder` is the working directory, for relative paths mean the same as
        they do here, before twistd's `--rundir`.
        """
        self._reactor: IReactorProcess = reactor
        self._clock: IReactorTime = reactor
        self._arguments = arguments
        self._listeners = listeners
        self._folder = os.getcwd() if folder is None else folder
        self._process: IProcessTransport | None = None
        self._pipe = -1
        self._wait = FIRST_WAIT
        self._started_at = 0.0
        self._again: IDelayedCall | None = None
        self._stopped: Deferred[None] | None = None

    def start(self) -> None:
        """Start the child; if that fails, try again later."""
        self._again = None
        self._started_at = self._clock.seconds()
        try:
            self._spawn()
        except OSError as error:
            self._close_pipe()
            self._start_again(f"could not be started: {error.strerror}")

    def _spawn(self) -> None:
        reading_end, self._pipe = os.pipe()
        try:
            with open(os.devnull, "rb") as null:
                descriptors: dict[int, int | str] = {0: null.fileno(), 1: "r", 2: "r", PIPE_FD: reading_end}
                for number, listener in enumerate(self._listeners, PIPE_FD + 1):
                    descriptors[number] = listener.fileno()
                self._process = self._reactor.spawnProcess(
                    _Child(self),
                    sys.executable,
                    [sys.executable, "-P", "-c", self._program(), *self._arguments],
                    env=dict(os.environ, PYTHONPATH=os.pathsep.join(filter(None, sys.path))),
                    childFDs=descriptors,
                )
        finally:
            os.close(reading_end)

    def _program(self) -> str:
        """
        twistd, in a process group of its own, and behind the proxy where processor time is short.

        The keyboard's Ctrl-C is for the proxy, which ends the child when it has nothing more for it.
        Not a session of its own: Linux gives each session the same share (`sched_autogroup`), nice or not.
        """
        run = "from twisted.scripts.twistd import run; run()"
        return f"import os; os.setpgrp(); os.nice({NICENESS}); os.chdir({self._folder!r}); {run}"

    def said(self, line: str) -> None:
        """A line of the child's output."""
        self._log.info("{line}", line=line)

    def ended(self, reason: Failure) -> None:
        """The child is gone."""
        self._process = None
        self._close_pipe()
        if self._stopped is not None:
            self._stopped.callback(None)
        else:
            self._start_again("ended" if reason.check(ProcessDone) else str(reason.value).rstrip("."))

    def _start_again(self, how: str) -> None:
        if self._clock.seconds() - self._started_at > LASTING:
            self._wait = FIRST_WAIT
        self._log.warn("logging server: {how}; again in {wait} s", how=how, wait=self._wait)
        self._again = self._clock.callLater(self._wait, self.start)
        self._wait = min(self._wait * 2, LONGEST_WAIT)

    def stop(self, patience: float) -> Deferred[None]:
        """Let the child finish its work; after `patience` seconds it is ended.  Fires when it is gone."""
        stopped: Deferred[None] = Deferred()
        self._stopped = stopped
        for listener in self._listeners:
            listener.close()
        if self._again is not None:
            self._again.cancel()
            self._again = None
        if self._process is None:
            stopped.callback(None)
            return stopped
        self._close_pipe()
        kill = self._clock.callLater(patience, self._kill)
        stopped.addCallback(lambda _: kill.cancel() if kill.active() else None)
        return stopped

    def _kill(self) -> None:
        if self._process is not None:
            self._log.warn("logging server: did not end in time; killed, its work goes on at the next start")
            with suppress(ProcessExitedAlready):
                self._process.signalProcess("KILL")

    def _close_pipe(self) -> None:
        pipe, self._pipe = self._pipe, -1
        if pipe >= 0:
            os.close(pipe)
