"""The command in memory: its output as text, and sources made for it."""

from __future__ import annotations

import io
import socket
from argparse import Namespace
from collections.abc import Iterator
from typing import Any, cast

from logging_proxy.cli.arguments import parser
from logging_proxy.cli.commands import Context
from logging_proxy.cli.main import run
from logging_proxy.cli.paint import Paint
from logging_proxy.cli.terminal import Terminal
from logging_proxy.test.web_stage import Pipe


class Output(io.TextIOWrapper):
    """Standard output that can be looked at."""

    def __init__(self) -> None:
        super().__init__(io.BytesIO(), "utf-8", newline="")

    @property
    def raw(self) -> bytes:
        self.flush()
        return cast(io.BytesIO, self.buffer).getvalue()

    @property
    def text(self) -> str:
        return self.raw.decode("utf-8")


def command(
    *arguments: str, columns: int | None = None, colour: bool = False, environ: dict[str, str] | None = None
) -> tuple[int, Output, Output]:
    """Runs a command line; status, output and errors."""
    out, err = Output(), Output()
    terminal = Terminal(out, err, Paint(colour), columns)
    options: Namespace = parser().parse_args(arguments)
    return run(Context(terminal, environ or {}, options)), out, err


class PipeSocket:
    """A socket whose other end is the site of a logging server in memory."""

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe
        self._read = 0

    def sendall(self, data: bytes) -> None:
        self._pipe.send(data)

    def recv(self, size: int) -> bytes:
        data: bytes = self._pipe.value()[self._read :]
        if not data:
            if self._pipe.disconnecting:
                return b""
            raise TimeoutError
        self._read += len(data)
        return data

    def makefile(self, mode: str) -> io.BytesIO:
        return io.BytesIO(self.recv(1 << 30))

    def settimeout(self, seconds: float) -> None: ...

    def close(self) -> None: ...


def connector(site: Any) -> Any:
    """What `Server` takes to connect to `site`."""

    def connect(host: str, port: int, secure: bool) -> socket.socket:
        return cast(socket.socket, PipeSocket(Pipe(site)))

    return connect


def until_none(events: Iterator[Any]) -> list[Any]:
    """What comes before the first None."""
    found = []
    for event in events:
        if event is None:
            break
        found.append(event)
    return found
