"""Child processes that are never left behind, and the ports they listen on."""

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
"""Seconds between two looks at something that has no notification."""


class ProgramError(Exception):
    """A child process did not do what it was started for; the message says so, with its last words."""


class Program:
    """
    A child process, running while the context is entered.

    Its output goes to a file.  It gets a session of its own, so that the keyboard's signals reach only
    us, and its standard input is a pipe that ends with us (see `logging_proxy.demo.tether`).
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
        """`patience` is how long `stop` waits after SIGTERM, in seconds, before it kills."""
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
        """The process; an error before the context is entered."""
        if self._process is None:
            raise ProgramError(f"{self.name} was not started")
        return self._process

    def stop(self) -> int:
        """
        End the process with SIGTERM, or with SIGKILL if that does not help.

        The exit status is returned, negative if a signal ended it.
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
        """SIGKILL to the process and to all that it started."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass

    def wait_until(self, ready: Callable[[], bool], timeout: float) -> None:
        """Return when `ready()`; `ProgramError` if the process ends before that, or `timeout` passes."""
        deadline = time.monotonic() + timeout
        while not ready():
            status = self.process.poll()
            if status is not None:
                raise ProgramError(f"{self.name} ended with status {status}:\n{self.last_words()}")
            if time.monotonic() > deadline:
                raise ProgramError(f"{self.name} was not ready after {timeout:g} s:\n{self.last_words()}")
            time.sleep(POLL)

    def words(self) -> str:
        """The output, from this process's first word on."""
        return self.output.read_bytes()[self._begin :].decode("utf-8", "replace")

    def last_words(self, lines: int = 15) -> str:
        """The end of the output."""
        return "\n".join(self.words().splitlines()[-lines:])


def module(name: str, *arguments: str) -> list[str]:
    """The command that runs a module with this Python."""
    return [sys.executable, "-m", name, *arguments]


def is_listening(host: str, port: int) -> bool:
    """Whether somebody accepts connections there; who is just closing the port may give no answer at all."""
    try:
        socket.create_connection((host, port), timeout=0.5).close()
    except OSError:
        return False
    return True


def is_free(host: str, port: int) -> bool:
    """Whether we could listen there, on every address of `host`."""
    for family, kind, protocol, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        try:
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
        except OSError as error:
            # An address that this machine does not have (::1 without IPv6) is in nobody's way.
            if error.errno == errno.EADDRINUSE:
                return False
    return True


PORTS = range(15_000, 32_000)
"""
Below those that the system gives to outgoing connections: one of these
could take a port before a server does, or while it is started again.
"""


def free_port(ports: Sequence[int] = PORTS) -> int:
    """A port of 127.0.0.1 that nobody uses now, and that no other call gives, here or in another process."""
    # Not `random`'s own state, which tests set to have the same again.
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
    UDP's port of this number, for which only programs that look for a free port compete.

    A server takes seconds to start, and may be started again: meanwhile its
    port is nobody's, and tests that run side by side would be given it twice.
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
"""Whoever was given a port before so many others listens there, or is over."""
