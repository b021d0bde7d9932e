"""Child processes that end with their parent, and free ports for them."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

POLL = 0.02
"""Seconds between two checks of a condition."""


class ProgramError(Exception):
    """A child process failed; the message contains its last output."""


class Program:
    """
    A child process that runs while the context is entered.

    Its output is written to a file.  It runs in a session of its own, so that the terminal's signals reach
    the parent only.  Its standard input is a pipe held by the parent (see `logging_proxy.demo.tether`).
    """

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        output: Path,
        *,
        folder: Path | None = None,
        environment: Mapping[str, str] | None = None,
        patience: float = 10.0,
    ) -> None:
        """`patience` is the number of seconds that `stop` waits after SIGTERM before it sends SIGKILL."""
        self.name = name
        self.output = output
        self._arguments = list(arguments)
        self._folder = folder
        self._environment = None if environment is None else dict(environment)
        self._patience = patience
        self._process: subprocess.Popen[bytes] | None = None
        self._begin = 0

    def __enter__(self) -> Program:
        with self.output.open("ab") as output:
            self._begin = output.tell()
            self._process = subprocess.Popen(
                self._arguments,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self._folder,
                env=self._environment,
                start_new_session=True,
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The process; raises `ProgramError` before the context is entered."""
        if self._process is None:
            raise ProgramError(f"{self.name} was not started")
        return self._process

    def stop(self) -> int:
        """
        Stop the process with SIGTERM, or with SIGKILL if it does not end in time.

        Returns the exit status, which is negative if a signal ended the process.
        """
        process = self.process
        if process.poll() is None:
            process.terminate()
        try:
            return process.wait(self._patience)
        except subprocess.TimeoutExpired:
            self.kill_all()
            return process.wait()
        finally:
            if process.stdin is not None:
                process.stdin.close()

    def kill_all(self) -> None:
        """Send SIGKILL to the process and to all processes that it has started."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass

    def wait_until(self, ready: Callable[[], bool], timeout: float) -> None:
        """Wait for `ready()`; raises `ProgramError` if the process ends first or `timeout` passes."""
        deadline = time.monotonic() + timeout
        while not ready():
            status = self.process.poll()
            if status is not None:
                raise ProgramError(f"{self.name} ended with status {status}:\n{self.last_words()}")
            if time.monotonic() > deadline:
                raise ProgramError(f"{self.name} was not ready after {timeout:g} s:\n{self.last_words()}")
            time.sleep(POLL)

    def words(self) -> str:
        """All output of this process."""
        return self.output.read_bytes()[self._begin :].decode("utf-8", "replace")

    def last_words(self, lines: int = 15) -> str:
        """The last lines of the output."""
        return "\n".join(self.words().splitlines()[-lines:])


def module(name: str, *arguments: str) -> list[str]:
    """The command line that runs a module with this Python."""
    return [sys.executable, "-m", name, *arguments]


def is_listening(host: str, port: int) -> bool:
    """Whether a server accepts connections there.  A timeout, as from a closing listener, counts as no."""
    try:
        socket.create_connection((host, port), timeout=0.5).close()
    except OSError:
        return False
    return True


def is_free(host: str, port: int) -> bool:
    """Whether we could listen on the port, on every address of `host`."""
    for family, kind, protocol, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        try:
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
        except OSError as error:
            # An address that this machine does not have (::1 without IPv6) cannot conflict.
            if error.errno == errno.EADDRINUSE:
                return False
    return True


PORTS = range(15_000, 32_000)
"""
Below the ports that the system uses for outgoing connections: such a connection
could take a port before the server listens on it, or while it is restarted.
"""


def free_port(ports: Sequence[int] = PORTS) -> int:
    """A port that is free on 127.0.0.1 and is not returned by other calls, in any process."""
    # SystemRandom, because tests seed `random` to repeat themselves.
    for port in random.SystemRandom().sample(ports, min(len(ports), 200)):
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            claim = _claim(port)
            if len(_CLAIMS) == _MOST_CLAIMS:
                _CLAIMS.popleft().close()
            _CLAIMS.append(claim)
            return port
    raise OSError("no free port")


def _claim(port: int) -> socket.socket:
    """
    Claim a port by binding the UDP port of the same number, which only `free_port` uses.

    A server takes seconds to start, and may be restarted.  Its port is free in the meantime
    and could be given to another test that runs at the same time.
    """
    claim = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        claim.bind(("127.0.0.1", port))
    except OSError:
        claim.close()
        raise
    return claim


_CLAIMS: deque[socket.socket] = deque()
_MOST_CLAIMS = 64
"""Claims held at once.  By the time the oldest is released, its server listens or has ended."""
