"""
The output of the service: to the terminal, a log file, or syslog.

Console lines and diagnostics share one stream, so that they stay in order and a rotated log file has both.
A thread writes them, because a stopped terminal or a pager may block for hours while the proxy has to go on.
Lines beyond the buffer are dropped and counted.
"""

from __future__ import annotations

import os
import re
import stat
import sys
import syslog
import threading
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Protocol

from twisted.logger import ILogObserver, LogEvent, LogLevel, eventAsText
from zope.interface import implementer

from logging_proxy.redaction.redact import redact_url
from logging_proxy.service.console import safe
from logging_proxy.service.dressing import Dress, colours_allowed

MOST_WAITING = 10_000
"""Lines that may wait to be written; further ones are dropped and counted."""

GATHER = 0.01
"""Seconds for which lines are gathered to be written together."""

CLOSE_PATIENCE = 1.0
"""Seconds for writing the last lines when the service stops."""

ROTATE_SIZE = 64 << 20
"""Bytes after which a log file is rotated.  Twisted's 1 MB would hold 7,000 exchanges."""

INDENT = 4
"""Spaces before the lines of one text after the first."""

MOST_LINES = 200
"""Lines of one event that are written; a traceback may have more."""


class CannotLog(Exception):
    """The text says why, in one line."""


class Sink(Protocol):
    """Takes encoded lines, on the output's thread; may block, and may raise OSError."""

    def write(self, data: bytes) -> None: ...

    def rotate(self) -> None: ...


@implementer(ILogObserver)
class Output:
    """Writes lines; as a log observer, it writes diagnostics.  May be called from any thread."""

    def __init__(
        self, sink: Sink, now: Callable[[], float] = time.time, name: str = "", gather: float = GATHER
    ) -> None:
        """
        `name` precedes diagnostics where several processes share one output.

        Lines that come within `gather` seconds are written together.
        """
        self.dropped = 0
        self._name = f"{name}: " if name else ""
        self._gather = gather
        self._sink = sink
        self._now = now
        self._second = -1
        self._time = ""
        self._lines: list[str] = []
        self._more = 0
        """Lines within the texts of `_lines`, beyond one for each text."""
        self._adding = threading.Lock()
        self._work = threading.Event()
        self._closing = threading.Event()
        self._rotate = False
        self._writing = False
        self._stuck = False
        self._started = False

    def start(self) -> None:
        """Begin to write.  Earlier lines were kept, through a fork as well."""
        # Made here, since not even an unstarted thread survives a fork.
        threading.Thread(target=self._run, name="output", daemon=True).start()
        self._started = True

    def close(self) -> None:
        """Write the lines that are left, for at most `CLOSE_PATIENCE` seconds."""
        self._closing.set()
        if not self._started:
            self._write_all()
        until = time.monotonic() + CLOSE_PATIENCE
        while (self._lines or self._writing) and not self._stuck:
            self._work.set()
            time.sleep(GATHER / 10)
            self._stuck = time.monotonic() > until

    def rotate(self) -> None:
        """Begin a new log file, if it is a file."""
        self._rotate = True
        self._work.set()

    # --- lines ------------------------------------------------------------------------

    def __call__(self, event: LogEvent) -> None:
        level = event.get("log_level", LogLevel.info)
        namespace = str(event.get("log_namespace", "-"))
        quiet = level == LogLevel.debug or (
            level == LogLevel.info and not namespace.startswith("logging_proxy")
        )
        if not quiet:
            mark = "" if level == LogLevel.info else f"{level.name}: "
            self.say(mark + eventAsText(event, includeTimestamp=False, includeSystem=False))

    def say(self, text: str) -> None:
        """Write `text` with the time and without secrets in URLs; lines after the first are indented."""
        self._say([safe(redact_url(line)) for line in text.split("\n", MOST_LINES)])

    def _say(self, lines: list[str]) -> None:
        self.line(f"{self.stamp()} {self._name}" + ("\n" + " " * INDENT).join(lines[:MOST_LINES]))

    def confide(self, secret: str, otherwise: str) -> None:
        """Write `secret` as `say` does, secrets included, if the output is a terminal, else `otherwise`."""
        if isinstance(self._sink, Terminal) and self._sink.has_a_person():
            self._say([safe(line) for line in secret.split("\n", MOST_LINES)])
        else:
            self.say(otherwise)

    def room(self) -> int:
        """Columns for the lines of a text after the first; 0 if the output is no terminal."""
        columns = self._sink.columns() if isinstance(self._sink, Terminal) else 0
        return max(columns - INDENT, 0)

    def line(self, text: str) -> None:
        """Write `text` as it is, if need be cut to the width of a terminal."""
        with self._adding:
            if len(self._lines) >= MOST_WAITING:
                self.dropped += 1
                return
            self._lines.append(text)
            first = len(self._lines) == 1
        if first:
            self._work.set()

    def pass_on(self, text: str) -> None:
        """Write lines of another output as they are: all of them, or none."""
        more = text.count("\n")
        with self._adding:
            if len(self._lines) + self._more >= MOST_WAITING:
                self.dropped += 1 + more
                return
            self._lines.append(text)
            self._more += more
        self._work.set()

    def stamp(self) -> str:
        """The time as lines begin with it."""
        now = int(self._now())
        if now != self._second:
            self._time = f"{datetime.fromtimestamp(now):%Y-%m-%d %H:%M:%S}"
            self._second = now
        return self._time

    # --- the thread -------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            self._work.wait()
            self._closing.wait(self._gather)
            self._work.clear()
            self._write_all()

    def _write_all(self) -> None:
        with self._adding:
            lines, self._lines = self._lines, []
            more, self._more = self._more, 0
            dropped, self.dropped = self.dropped, 0
            self._writing = True
        if dropped:
            lines.append(f"{self.stamp()} {self._name}warn: {dropped} lines could not be written")
        try:
            if self._rotate:
                self._rotate = False
                self._sink.rotate()
            if lines:
                self._sink.write((self._text(lines) + "\n").encode("utf-8", "backslashreplace"))
        except OSError:
            # It cannot be reported now; the count is reported when writing works again.
            with self._adding:
                self.dropped += dropped + len(lines) - bool(dropped) + more
        finally:
            self._writing = False

    def _text(self, lines: list[str]) -> str:
        text = "\n".join(lines)
        return self._sink.dressed(text) if isinstance(self._sink, Terminal) else text


# --- sinks ----------------------------------------------------------------------------


def sink_for(options: Mapping[str, Any]) -> Sink:
    """
    The sink that twistd's options ask for: the terminal in the foreground, else a file, or syslog.

    Raises OSError when the file cannot be opened, and `CannotLog`.
    """
    name = options.get("logfile")
    if options.get("syslog"):
        return Syslog(str(options.get("prefix") or "logging-proxy"), int(options.get("facility") or 0))
    if name == "-" and not options.get("nodaemon"):
        raise CannotLog("a daemon cannot log to standard output")
    if name == "-" or (options.get("nodaemon") and not name):
        return Terminal(_descriptor_of(sys.stdout), Dress(colours_allowed(os.environ)))
    return LogFile(os.path.abspath(name or "twistd.log"))


def _descriptor_of(stream: Any) -> int:
    """The descriptor of `stream`, to write without its buffer and encoding: twistd replaces the object."""
    try:
        return int(stream.fileno())
    except (AttributeError, OSError, ValueError):
        return os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)


class Terminal:
    """A terminal or a pipe, by its descriptor; lines are dressed for a terminal only."""

    def __init__(self, fd: int, dress: Dress) -> None:
        self._fd = fd
        self._dress = dress
        self._gone = False

    def write(self, data: bytes) -> None:
        while data and not self._gone:
            try:
                data = data[os.write(self._fd, data) :]
            except BlockingIOError:  # another process has made it non-blocking
                time.sleep(GATHER)
            except OSError:
                self._gone = True
                raise

    def rotate(self) -> None:
        """There is nothing to rotate."""

    def has_a_person(self) -> bool:
        """Whether it is a terminal; a pipe may end in a log that other users read."""
        return os.isatty(self._fd)

    def columns(self) -> int:
        """The terminal's width; 0 if it has none."""
        try:
            return os.get_terminal_size(self._fd).columns
        except OSError:
            return 0

    def dressed(self, text: str) -> str:
        """How lines look there."""
        if not self.has_a_person():
            return text
        columns = self.columns()
        return "\n".join(self._dress(line, columns) for line in text.split("\n"))


class Syslog:
    """The system's log, line by line; it adds the time of each line itself."""

    _TIME = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d ")

    def __init__(self, prefix: str, facility: int) -> None:
        syslog.openlog(prefix, syslog.LOG_PID, facility or syslog.LOG_USER)

    def write(self, data: bytes) -> None:
        for line in data.decode("utf-8").splitlines():
            syslog.syslog(self._TIME.sub("", line, count=1))

    def rotate(self) -> None:
        """There is nothing to rotate."""


class LogFile:
    """
    A file that only its owner can read, and that becomes `.1` when it is rotated.

    twisted.python.logfile is not used: it changes the umask of the process for a moment, which affects
    files that other threads create.
    """

    def __init__(self, path: str, rotate_size: int = ROTATE_SIZE) -> None:
        self._path = path
        self._rotate_size = rotate_size
        self._fd = self._open()

    def write(self, data: bytes) -> None:
        if self._size() >= self._rotate_size:
            self.rotate()
        while data:
            data = data[os.write(self._fd, data) :]

    def rotate(self) -> None:
        """
        Begin a new file.

        The numbers of earlier files go up by one.  A file that logrotate has moved away stays there.
        """
        if not stat.S_ISREG(os.fstat(self._fd).st_mode):
            return
        if os.path.exists(self._path) and os.path.samestat(os.stat(self._path), os.fstat(self._fd)):
            self._count_up()
        old, self._fd = self._fd, self._open()
        os.close(old)

    def _count_up(self) -> None:
        number = 1
        while os.path.exists(f"{self._path}.{number}"):
            number += 1
        for each in range(number, 1, -1):
            os.rename(f"{self._path}.{each - 1}", f"{self._path}.{each}")
        os.rename(self._path, f"{self._path}.1")

    def _size(self) -> int:
        found = os.fstat(self._fd)
        return found.st_size if stat.S_ISREG(found.st_mode) else 0

    def _open(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
