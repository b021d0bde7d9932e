"""
A supervised child process of the proxy: started, watched, and restarted when it ends.

The child inherits one end of a socket pair, and only the proxy holds the other.
When the proxy dies, however it dies, the child reads EOF and ends.  The logging
server also inherits its listening sockets.
"""

from __future__ import annotations

import os
import socket
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import IO, Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessDone, ProcessExitedAlready
from twisted.internet.interfaces import IDelayedCall, IProcessTransport, IReactorProcess, IReactorTime
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

LINK_FD = 3
"""The child's descriptor of the link; its listening sockets have the numbers after it."""

FIRST_WAIT, LONGEST_WAIT = 0.5, 15.0
"""Seconds before a child that ended is restarted; doubled each time that the child ends early."""

LASTING = 30.0
"""Seconds of running after which the delay before a restart is reset."""


MOST_IN_A_LINE = 16384
"""Maximum bytes kept of an output line that is not complete; longer lines are cut."""


NICENESS = 10
"""Niceness of the logging server: captures can wait in the spool, exchanges cannot wait."""


PROGRAM = ("-P", "-m", "logging_proxy.service.child_main")
"""Python's arguments for a child process; title, niceness, directory and twistd's arguments follow."""


def _input(document: bytes) -> IO[bytes]:
    """An unnamed file with the content `document`, inaccessible to other processes."""
    if not document:
        return open(os.devnull, "rb")
    if sys.platform == "linux":
        file = os.fdopen(os.memfd_create("configuration"), "w+b")
    else:
        file = tempfile.TemporaryFile()
    file.write(document)
    file.seek(0)
    return file


class Link(Protocol):
    """The proxy's side of the connection to a child."""

    def attach(self, end: socket.socket) -> None:
        """A child has been started with the other end; the link takes ownership of `end`."""

    def finish(self) -> None:
        """Tell the child to finish its work and end."""

    def detach(self) -> None:
        """The child has ended."""


class Tether:
    """A link without messages: closing it tells the child to finish."""

    def __init__(self) -> None:
        self._end: socket.socket | None = None

    def attach(self, end: socket.socket) -> None:
        self._end = end

    def finish(self) -> None:
        self.detach()

    def detach(self) -> None:
        if self._end is not None:
            self._end.close()


class _Child(ProcessProtocol):
    """Receives the output of one child process, and its end."""

    def __init__(self, owner: ChildProcess) -> None:
        self._owner = owner
        self._rest = {1: b"", 2: b""}

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        lines, end, rest = (self._rest[childFD] + data).rpartition(b"\n")
        self._rest[childFD] = rest[:MOST_IN_A_LINE]
        if end:
            self._owner.said(childFD, lines.decode("utf-8", "replace"))

    def processEnded(self, reason: Failure) -> None:
        for childFD, rest in self._rest.items():
            if rest:
                self._owner.said(childFD, rest.decode("utf-8", "replace"))
        self._owner.ended(reason)


class ChildProcess:
    """Keeps a child process running from `start` to `stop`."""

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        name: str,
        arguments: Sequence[str],
        listeners: Sequence[socket.socket] = (),
        *,
        folder: str | None = None,
        document: bytes = b"",
        niceness: int = 0,
        link: Link | None = None,
        heard: Callable[[int, str], None] | None = None,
        title: str = "",
    ) -> None:
        """
        `arguments` are twistd's arguments.  The sockets `listeners` are inherited, and closed by `stop`.

        `folder` is the working directory; by default the current one, so that relative paths keep
        their meaning whatever twistd's `--rundir` is.  `document` is given to each process on its standard
        input.  `heard` is called with a descriptor's number and lines written there; without it, the
        lines are logged.  `title` is what `ps` shows of the process, by default the `name`.
        """
        self._reactor: IReactorProcess = reactor
        self._clock: IReactorTime = reactor
        self._name = name
        self._title = f"logging-proxy: {title or name}"
        self._arguments = arguments
        self._listeners = listeners
        self._folder = os.getcwd() if folder is None else folder
        self._document = document
        self._niceness = niceness
        self._link = Tether() if link is None else link
        self.said = self._log_lines if heard is None else heard
        self._process: IProcessTransport | None = None
        self._wait = FIRST_WAIT
        self._started_at = 0.0
        self._again: IDelayedCall | None = None
        self._kill_later: IDelayedCall | None = None
        self._stopped: Deferred[None] | None = None

    def start(self) -> None:
        """Start the child; on failure, try again later."""
        again, self._again = self._again, None
        self._started_at = self._clock.seconds()
        try:
            self._spawn()
        except OSError as error:
            self._restart_later(f"could not be started: {error.strerror}")
            return
        if again is not None:
            self._log.info("{name}: started again", name=self._name)

    def _spawn(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs, _input(self._document) as given:
            descriptors: dict[int, int | str] = {0: given.fileno(), 1: "r", 2: "r", LINK_FD: theirs.fileno()}
            for number, listener in enumerate(self._listeners, LINK_FD + 1):
                descriptors[number] = listener.fileno()
            try:
                self._process = self._reactor.spawnProcess(
                    _Child(self),
                    sys.executable,
                    [
                        sys.executable,
                        *PROGRAM,
                        self._title,
                        str(self._niceness),
                        self._folder,
                        *self._arguments,
                    ],
                    env=dict(os.environ, PYTHONPATH=os.pathsep.join(filter(None, sys.path))),
                    childFDs=descriptors,
                )
            except OSError:
                ours.close()
                raise
        self._link.attach(ours)

    def _log_lines(self, fd: int, lines: str) -> None:
        for line in lines.split("\n"):
            self._log.info("{line}", line=line)

    def ended(self, reason: Failure) -> None:
        """The process has ended: restart it, unless it was stopped."""
        self._process = None
        self._link.detach()
        if self._stopped is not None:
            self._stopped.callback(None)
        else:
            self._restart_later("ended" if reason.check(ProcessDone) else str(reason.value).rstrip("."))

    def _restart_later(self, how: str) -> None:
        if self._clock.seconds() - self._started_at > LASTING:
            self._wait = FIRST_WAIT
        self._log.warn("{name}: {how}; restarting in {wait} s", name=self._name, how=how, wait=self._wait)
        self._again = self._clock.callLater(self._wait, self.start)
        self._wait = min(self._wait * 2, LONGEST_WAIT)

    def stop(self, patience: float) -> Deferred[None]:
        """Let the child finish its work, and kill it after `patience` seconds.  Fires when it has ended."""
        self._stopped = stopped = Deferred[None]()
        for listener in self._listeners:
            listener.close()
        if self._again is not None:
            self._again.cancel()
            self._again = None
        if self._process is None:
            stopped.callback(None)
            return stopped
        self._link.finish()
        self.hasten(patience)
        stopped.addCallback(self._cancel_kill)
        return stopped

    def hasten(self, patience: float) -> None:
        """Shorten the time that a stopping child has to `patience` seconds from now."""
        if self._stopped is not None and not self._stopped.called:
            self._cancel_kill()
            self._kill_later = self._clock.callLater(patience, self._kill)

    def _cancel_kill(self, result: None = None) -> None:
        if self._kill_later is not None and self._kill_later.active():
            self._kill_later.cancel()

    def _kill(self) -> None:
        if self._process is not None:
            self._log.warn(
                "{name}: killed, because it did not end in time; its work continues at the next start",
                name=self._name,
            )
            with suppress(ProcessExitedAlready):
                self._process.signalProcess("KILL")
