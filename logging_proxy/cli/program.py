"""A program in the foreground: found, started, given the signals of this process, and waited for."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

NOT_EXECUTABLE, NOT_FOUND = 126, 127
"""The exit statuses of a shell for a command that cannot be started."""

FROM_SIGNAL = 128
"""Added to a signal's number, it is a shell's exit status for a program that the signal ended."""

PASSED_ON = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
FROM_TERMINAL = (signal.SIGINT, signal.SIGQUIT)
"""A terminal sends these to the program as well, which is in the same process group."""


class CannotStart(Exception):
    """The program cannot be started; `status` is the exit status to end with."""

    def __init__(self, text: str, status: int) -> None:
        super().__init__(text)
        self.status = status


def find_program(name: str, environ: Mapping[str, str]) -> str:
    """The path of a program, found as a shell does.  Raises `CannotStart`."""
    path = shutil.which(name, path=environ.get("PATH", os.defpath))
    if path is not None:
        return path
    if os.path.dirname(name) and os.path.exists(name):
        raise CannotStart(f"{name}: not an executable file", NOT_EXECUTABLE)
    raise CannotStart(f"{name}: no such command", NOT_FOUND)


class Program:
    """Runs one program with this process's standard streams and process group."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._process: subprocess.Popen[bytes] | None = None
        self._pending: list[int] = []
        self.late: Callable[[], None] = lambda: None
        """Called for a signal that comes after the program has ended."""

    @contextmanager
    def signals(self) -> Iterator[None]:
        """Pass signals on to the program while the context is entered; ignored ones stay ignored."""
        before: dict[signal.Signals, Any] = {}
        for number in (*PASSED_ON, *FROM_TERMINAL):
            if signal.getsignal(number) != signal.SIG_IGN:
                before[number] = signal.signal(number, self._got)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _got(self, number: int, frame: FrameType | None) -> None:
        if self._process is None:
            self._pending.append(number)
        elif self._process.returncode is not None:
            self.late()
        elif number not in FROM_TERMINAL or not in_foreground():
            self._send(number)

    def _send(self, number: int) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.send_signal(number)

    def run(self, path: str, words: list[str], environ: Mapping[str, str]) -> int:
        """The exit status of the program `path` with the arguments `words`.  Raises `CannotStart`."""
        if self._pending:
            return FROM_SIGNAL + self._pending[0]
        try:
            # Descriptors that a shell has opened for the program are inherited; ours are not inheritable.
            self._process = subprocess.Popen(words, executable=path, env=dict(environ), close_fds=False)
        except OSError as error:
            raise CannotStart(f"{path}: {error.strerror}", NOT_EXECUTABLE) from None
        for number in self._pending:
            self._send(number)
        status = self._process.wait()
        return status if status >= 0 else FROM_SIGNAL - status


def in_foreground() -> bool:
    """Whether this process group gets the signals of its terminal's keys."""
    for stream in (sys.stdin, sys.stderr, sys.stdout):
        with suppress(OSError, ValueError, AttributeError):
            return os.tcgetpgrp(stream.fileno()) == os.getpgrp()
    return False
