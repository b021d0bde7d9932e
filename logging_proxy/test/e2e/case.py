"""What the end-to-end tests share: a proxy in a process of its own, configured for the test."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from twisted.trial.unittest import SynchronousTestCase

import logging_proxy
from logging_proxy.demo.captures import Capture, wait_for_captures
from logging_proxy.demo.processes import POLL, Program, free_port, module
from logging_proxy.test.e2e.upstream import Script, Upstream

ROOT = Path(logging_proxy.__file__).resolve().parents[1]
PATIENCE = 60.0
"""Seconds that a test waits for something to happen: long, because it ends early on success."""

START_TIMEOUT = PATIENCE

RUNNING = " on http://"
"""What a service of ours says once it listens and its reactor runs."""


@dataclass(frozen=True, slots=True)
class Setup:
    """A configuration file and what it says."""

    path: Path
    port: int
    logging_port: int
    log_dir: Path


def write_configuration(folder: Path, routes: Mapping[str, Mapping[str, Any]], **sections: Any) -> Setup:
    """A configuration in `folder` with ports of its own; `sections` adds keys to sections."""
    port, logging_port = free_port(), free_port()
    tree: dict[str, dict[str, Any]] = {
        "server": {"host": "127.0.0.1", "port": port, "allowed_hosts": ["proxy.test"]},
        # A proxy that is killed leaves its ring for the next one: not in memory, where nobody tidies up.
        "logging": {"ring_dir": str(folder)},
        "logging_server": {"host": "127.0.0.1", "port": logging_port, "log_dir": str(folder / "logs")},
        "routes": {name: dict(route) for name, route in routes.items()},
    }
    for name, keys in sections.items():
        tree.setdefault(name, {}).update(keys)
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(tree, sort_keys=False))
    return Setup(path, port, logging_port, folder / "logs")


def environment() -> dict[str, str]:
    """The environment of child processes: this source tree first, output at once."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return dict(os.environ, PYTHONPATH=os.pathsep.join(paths), PYTHONUNBUFFERED="1")


def twistd(*arguments: str) -> list[str]:
    """The command of a twistd that ends with the tests, whatever ends them."""
    return module("logging_proxy.demo.tether", *arguments)


def run_twistd(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A twistd that ends by itself, with its output."""
    program = "from twisted.scripts.twistd import run; run()"
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=START_TIMEOUT,
    )


def is_running(program: Program) -> bool:
    """Whether a twistd of ours is beyond the point where a signal ends it without a word."""
    return RUNNING in program.words()


def wait_until(condition: Callable[[], bool], timeout: float = PATIENCE) -> bool:
    """Whether the condition came true in time."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL)
    return True


class EndToEndCase(SynchronousTestCase):
    """A test with a folder and with programs, all of which are gone after it."""

    variables: Mapping[str, str] = {}
    """What the proxy's environment has beside ours."""

    def setUp(self) -> None:
        self.stack = ExitStack()
        self.addCleanup(self.stack.close)
        self.folder = Path(tempfile.mkdtemp(prefix="logging-proxy-test-")).resolve()
        self.stack.callback(shutil.rmtree, self.folder, ignore_errors=True)

    def start_upstream(
        self, scripts: Mapping[str, Script], early: Mapping[str, Script] | None = None
    ) -> Upstream:
        """A scripted upstream that listens."""
        return self.stack.enter_context(Upstream(scripts, early))

    def configure(self, port: int, **sections: Any) -> Setup:
        """A configuration whose route `/up/` leads to a port of this machine."""
        route = {"pattern": "/up/", "destination": f"http://127.0.0.1:{port}/"}
        return write_configuration(self.folder, {"up": route}, **sections)

    def start_proxy(self, setup: Setup) -> Program:
        """The proxy, when it listens."""
        command = twistd("-n", "--pidfile=", "logging-proxy", "--config", str(setup.path))
        program = Program(
            "the proxy",
            command,
            self.folder / "proxy.log",
            folder=self.folder,
            environment={**environment(), **self.variables},
            patience=40,
        )
        self.stack.enter_context(program)
        program.wait_until(lambda: is_running(program), START_TIMEOUT)
        return program

    def capture_of(self, setup: Setup, path: str) -> Capture:
        """The one capture of the exchange with this path, when it has been written."""
        found = wait_for_captures(
            setup.log_dir, 1, wanted=lambda capture: capture.source_url.endswith(path), timeout=PATIENCE
        )
        self.assertEqual(len(found), 1, f"captures of {path} in {sorted(setup.log_dir.glob('*'))}")
        return found[0]
