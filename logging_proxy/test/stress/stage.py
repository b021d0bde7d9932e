"""Where a fault test plays: a folder, a proxy in a process of its own, and what that process uses."""

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
    """What a running process uses, read from /proc."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._proc = Path(f"/proc/{pid}")

    def rss(self) -> float:
        """Resident memory, in MiB."""
        return int((self._proc / "statm").read_text().split()[1]) * resource.getpagesize() / MIB

    def fds(self) -> int:
        """How many descriptors are open."""
        return len(os.listdir(self._proc / "fd"))

    def cpu(self) -> float:
        """Seconds of processor time so far."""
        fields = (self._proc / "stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def children(self) -> list[int]:
        """The processes that it started."""
        return [int(pid) for pid in (self._proc / f"task/{self.pid}/children").read_text().split()]


class Stage:
    """A folder that is gone afterwards, and programs that have ended by then."""

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
        The proxy, or another service of ours, when it listens.

        `command` may stand for twistd's; `variables` are added to the environment.
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
        """Done when the stage is left, before what was done earlier is undone."""
        self._stack.callback(call, *arguments)


def captures(log_dir: Path, count: int, timeout: float = 60.0) -> list[Capture]:
    """What was captured, as soon as `count` exchanges have ended there; after `timeout`, what there is."""
    # A name is there a moment before what is in the file.
    wait_until(lambda: _ended(log_dir) >= count and len(read_captures(log_dir)) >= count, timeout)
    return read_captures(log_dir)


def _ended(log_dir: Path) -> int:
    """The requests' metadata are the last that is written of an exchange."""
    try:
        return sum(name.endswith(f"_request{METADATA}") for name in os.listdir(log_dir))
    except FileNotFoundError:
        return 0


def quiet(log_dir: Path, seconds: float = 1.0, timeout: float = 60.0) -> list[Capture]:
    """What was captured, when no more has come for some seconds."""
    deadline, before, since = time.monotonic() + timeout, -1, time.monotonic()
    while time.monotonic() < deadline and time.monotonic() - since < seconds:
        now = _ended(log_dir)
        if now != before:
            before, since = now, time.monotonic()
        time.sleep(0.05)
    return read_captures(log_dir)


def health(setup: Setup) -> dict[str, Any]:
    """What the logging server says of itself; nothing if it does not answer."""
    url = f"http://127.0.0.1:{setup.logging_port}/health"
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            value: dict[str, Any] = json.load(answer)
    except urllib.error.HTTPError as error:
        value = json.load(error)
    except (OSError, ValueError):
        return {}
    return value


def lost_exchanges(setup: Setup) -> int:
    """How many exchanges the logging server knows to have lost something; -1 if it does not say."""
    return int(health(setup).get("exchanges_lost", -1))
