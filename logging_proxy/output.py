"""
Where the service's own words go: the terminal or the log file.

One stream takes both console lines and diagnostics, so that they stay in order
and a log file that is rotated holds both.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Protocol, cast

from twisted.internet.interfaces import IReactorTime
from twisted.logger import ILogObserver, LogEvent, LogLevel, eventAsText
from twisted.python.logfile import LogFile
from zope.interface import implementer

from logging_proxy.console import exchange_line


class Stream(Protocol):
    def write(self, text: str) -> Any: ...

    def flush(self) -> None: ...


@implementer(ILogObserver)
class Output:
    """Writes lines; as an observer, those of diagnostics."""

    def __init__(
        self, stream: Stream, clock: IReactorTime, now: Callable[[], datetime] = datetime.now
    ) -> None:
        self._stream = stream
        self._clock = clock
        self._now = now
        self._lines: list[str] = []

    def __call__(self, event: LogEvent) -> None:
        level = event.get("log_level", LogLevel.info)
        namespace = str(event.get("log_namespace", "-"))
        quiet = level == LogLevel.debug or (
            level == LogLevel.info and not namespace.startswith("logging_proxy")
        )
        if quiet:
            return
        text = eventAsText(event, includeTimestamp=False, includeSystem=False)
        mark = "" if level == LogLevel.info else f"{level.name}: "
        self.line(f"{self._now():%Y-%m-%d %H:%M:%S} {mark}{text}")

    def exchange(self, id: bytes, method: bytes, target: bytes, where: str, recorded: bool) -> None:
        """An exchange has started."""
        self.line(exchange_line(self._now(), id, method, target, where, recorded))

    def line(self, text: str) -> None:
        """Lines of one reactor turn are written together: one system call for many."""
        self._lines.append(text)
        if len(self._lines) == 1:
            self._clock.callLater(0, self.flush)

    def flush(self) -> None:
        lines, self._lines = self._lines, []
        if lines:
            self._stream.write("\n".join(lines) + "\n")
            self._stream.flush()


def stream_for(options: Mapping[str, Any]) -> Stream | None:
    """
    The stream that twistd's options ask for; None for syslog, which twistd serves itself.

    Chosen as twistd does: the terminal in the foreground, else a file that SIGUSR1 rotates.
    """
    name = options.get("logfile")
    if options.get("syslog"):
        return None
    if name == "-" or (options.get("nodaemon") and not name):
        return sys.stdout
    file = LogFile.fromFullPath(name or "twistd.log", defaultMode=0o600)
    if not signal.getsignal(signal.SIGUSR1):
        signal.signal(signal.SIGUSR1, lambda number, frame: file.rotate())
    return cast(Stream, file)
