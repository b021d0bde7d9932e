"""The proxy of a run: a child process, told apart from the program by a process group of its own."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from typing import IO, Any

from logging_proxy.redaction.redact import redact_url
from logging_proxy.service.child import PROGRAM
from logging_proxy.service.console import safe

MOST_COMPLAINTS = 10
"""Lines of the proxy's warnings and errors that are shown at the end."""

_MARKS = ("warn: ", "error: ", "critical: ")


class ProxyFailed(Exception):
    """The proxy could not be started; the text has its own words."""


class RunningProxy:
    """
    A proxy for one run, from `start` to `stop`; it ends with this process, however that ends.

    Its output is kept, for a program that uses the whole terminal must not be disturbed.
    """

    def __init__(self, name: str, arguments: list[str]) -> None:
        """`name` is the run's, `arguments` are those of the service."""
        self.variables: Mapping[str, str] = {}
        self._name = name
        self._arguments = [*arguments, f"--run={name}"]
        self._output: IO[bytes] = tempfile.TemporaryFile()
        self._process: subprocess.Popen[bytes] | None = None
        self._link: socket.socket | None = None
        self._lines: IO[bytes] | None = None

    def start(self) -> None:
        """Return when the proxy accepts connections.  Raises `ProxyFailed`."""
        ours, theirs = socket.socketpair()
        with theirs:
            service = ["logging-proxy", *self._arguments, f"--link={theirs.fileno()}"]
            twistd = ["-n", "--pidfile=", "--logfile=-", *service]
            self._process = subprocess.Popen(
                [sys.executable, *PROGRAM, f"logging-proxy: run {self._name}", "0", os.getcwd(), *twistd],
                stdin=subprocess.DEVNULL,
                stdout=self._output,
                stderr=subprocess.STDOUT,
                env=dict(os.environ, PYTHONPATH=os.pathsep.join(filter(None, sys.path))),
                pass_fds=[theirs.fileno()],
            )
        self._link, self._lines = ours, ours.makefile("rb")
        hello = self._read()
        if hello is None:
            self._process.wait()
            raise ProxyFailed("\n".join(self._words()) or "the proxy could not be started")
        self.variables = hello["variables"]

    def stop(self) -> Mapping[str, int] | None:
        """
        Let exchanges in flight finish and everything be stored; the counts of the run.

        None if the proxy has ended before.
        """
        if self._link is None or self._process is None:
            return None
        try:
            self._link.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # it has ended
        summary = self._read()
        self._link.close()
        self._process.wait()
        return summary

    def hurry(self) -> None:
        """While `stop` waits: interrupt the exchanges in flight."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)

    def complaints(self) -> list[str]:
        """The proxy's warnings and errors, the first ones."""
        return [line for line in self._words() if any(mark in line for mark in _MARKS)][:MOST_COMPLAINTS]

    def _read(self) -> dict[str, Any] | None:
        if self._lines is None:
            return None
        try:
            line = self._lines.readline()
        except OSError:
            return None
        return json.loads(line) if line.endswith(b"\n") else None

    def _words(self) -> list[str]:
        self._output.seek(0)
        text = self._output.read().decode("utf-8", "replace")
        return [safe(redact_url(line)) for line in text.splitlines()]


def replaced(environ: Mapping[str, str], variables: Mapping[str, str]) -> list[str]:
    """A line for each variable that led elsewhere before: keys for that place would go to another one."""
    return [
        f"{name} was {safe(redact_url(environ[name]), 200)}: it leads to the proxy's route now; "
        "with --to URL it leads to that destination"
        for name, url in variables.items()
        if environ.get(name, url) != url and environ[name]
    ]


def variables_for(environ: Mapping[str, str], variables: Mapping[str, str]) -> dict[str, str]:
    """
    The environment of a program behind a proxy.

    If the program uses outbound proxies, it must not use them to reach this machine: ours will.
    """
    made = {**environ, **variables}
    proxies = {"http_proxy", "https_proxy", "all_proxy"}
    if any(name.lower() in proxies and value for name, value in environ.items()):
        exceptions = environ.get("no_proxy") or environ.get("NO_PROXY") or ""
        hosts = ",".join(filter(None, [exceptions, "127.0.0.1", "localhost"]))
        made.update(no_proxy=hosts, NO_PROXY=hosts)
    return made
