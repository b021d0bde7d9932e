"""The surroundings of a fault test: a folder, the programs under test, and the resources they use."""

from __future__ import annotations

import json
import os
import resource
import shutil
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any

from logging_proxy.captures.names import METADATA
from logging_proxy.demo.captures import Capture, read_captures
from logging_proxy.demo.processes import Program
from logging_proxy.test.e2e.case import (
    PATIENCE,
    START_TIMEOUT,
    Setup,
    environment,
    is_running,
    twistd,
    wait_until,
    write_configuration,
)

MIB = 1 << 20
_TICKS = os.sysconf("SC_CLK_TCK")


class Process:
    """The resources of a running process, read from /proc."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._proc = Path(f"/proc/{pid}")

    def rss(self) -> float:
        """Resident memory, in MiB."""
        return int((self._proc / "statm").read_text().split()[1]) * resource.getpagesize() / MIB

    def fds(self) -> int:
        """The number of open descriptors."""
        return len(os.listdir(self._proc / "fd"))

    def cpu(self) -> float:
        """Processor time used so far, in seconds."""
        fields = (self._proc / "stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def children(self) -> list[int]:
        """The process ids of its children."""
        return [int(pid) for pid in (self._proc / f"task/{self.pid}/children").read_text().split()]


class Stage:
    """A context manager with a folder and programs; on exit the programs end and the folder is deleted."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self.folder = Path(tempfile.mkdtemp(prefix="logging-proxy-stress-")).resolve()
        self._stack.callback(shutil.rmtree, self.folder, ignore_errors=True)

    def __enter__(self) -> Stage:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def configure(self, routes: Mapping[str, str | Mapping[str, Any]], **sections: Any) -> Setup:
        """A configuration whose route `name` takes `/name/` and leads to a URL, or has these keys."""
        given = {
            name: {
                "pattern": f"/{name}/",
                **({"destination": route} if isinstance(route, str) else route),
            }
            for name, route in routes.items()
        }
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        return write_configuration(folder, given, **sections)

    def start(
        self,
        setup: Setup,
        command: Sequence[str] = (),
        service: str = "logging-proxy",
        variables: Mapping[str, str] = MappingProxyType({}),
    ) -> Program:
        """
        Start the proxy, or another service of the package, and wait until it listens.

        `command` replaces the twistd command; `variables` are added to the environment.
        """
        arguments = ["-n", "--pidfile=", service, "--config", str(setup.path)]
        program = Program(
            service,
            [*command, *arguments] if command else twistd(*arguments),
            setup.path.with_name(f"{service}.log"),
            folder=setup.path.parent,
            environment=environment() | dict(variables),
            patience=60,
        )
        self._stack.enter_context(program)
        program.wait_until(lambda: is_running(program), START_TIMEOUT)
        return program

    def on_exit(self, call: Callable[..., object], *arguments: Any) -> None:
        """Register a call for the exit of the stage; calls run in reverse order."""
        self._stack.callback(call, *arguments)


def captures(log_dir: Path, count: int, timeout: float = 60.0) -> list[Capture]:
    """The captures in `log_dir`, once there are `count` or after `timeout`."""
    # A file has its name a moment before its content.
    wait_until(lambda: _ended(log_dir) >= count and len(read_captures(log_dir)) >= count, timeout)
    return read_captures(log_dir)


def _ended(log_dir: Path) -> int:
    """The number of stored exchanges; the request's metadata is written last."""
    try:
        return sum(name.endswith(f"_request{METADATA}") for name in os.listdir(log_dir))
    except FileNotFoundError:
        return 0


def quiet(log_dir: Path, seconds: float = 1.0, timeout: float = 60.0) -> list[Capture]:
    """The captures in `log_dir`, once none has been added for some seconds."""
    deadline, before, since = time.monotonic() + timeout, -1, time.monotonic()
    while time.monotonic() < deadline and time.monotonic() - since < seconds:
        now = _ended(log_dir)
        if now != before:
            before, since = now, time.monotonic()
        time.sleep(0.05)
    return read_captures(log_dir)


def settled(setup: Setup, process: Process, seconds: float = 1.0) -> int:
    """The number of descriptors of a started proxy, once it has not changed for some seconds."""
    wait_until(lambda: health(setup) != {})
    before = -1
    while (now := process.fds()) != before:
        before = now
        time.sleep(seconds)
    return now


def health(setup: Setup) -> dict[str, Any]:
    """The health report of the logging server; empty if it does not respond."""
    url = f"http://127.0.0.1:{setup.logging_port}/health"
    try:
        with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
            value: dict[str, Any] = json.load(answer)
    except urllib.error.HTTPError as error:
        value = json.load(error)
    except (OSError, ValueError):
        return {}
    return value


def lost_exchanges(setup: Setup) -> int:
    """The logging server's count of exchanges with losses; -1 if it does not respond."""
    return int(health(setup).get("exchanges_lost", -1))
