"""Starts programs, pins them to a processor, measures them through /proc, and ends them."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import TracebackType

from logging_proxy.demo.processes import free_port

START_SECONDS, STOP_SECONDS = 30.0, 20.0
LONGEST_SETTLING = 120.0
QUIET = 0.02
"""A program is idle if it uses less than these seconds of processor time within 0.3 s."""


class Trouble(Exception):
    """A benchmark cannot run here; the message says why."""


def processors() -> tuple[int, int]:
    """The processor for the measured program, and the one for load generator and upstream."""
    if not hasattr(os, "sched_getaffinity"):
        raise Trouble("benchmarks need Linux: they pin programs to processors and read /proc")
    usable = sorted(os.sched_getaffinity(0))
    if len(usable) < 2:
        raise Trouble("benchmarks need two processors: one for the proxy, one for the load")
    return usable[0], usable[1]


def raise_descriptor_limit(count: int) -> None:
    """Raise the limit on open files, for this process and its children."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < count:
        raise Trouble(f"benchmarks need {count} open files, and 'ulimit -Hn' says {hard}")
    if soft != resource.RLIM_INFINITY and soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))


def free_ports(count: int) -> list[int]:
    """Free ports on the loopback interface."""
    try:
        return [free_port() for _ in range(count)]
    except OSError:
        raise Trouble("no free ports") from None


def run(command: Sequence[str | Path], processor: int, timeout: float = 300) -> str:
    """Run a program to its end on one processor; returns its standard output."""
    pin = partial(os.sched_setaffinity, 0, {processor})
    words = [str(word) for word in command]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=timeout, preexec_fn=pin)
    except subprocess.TimeoutExpired:
        raise Trouble(f"{words[0]} was not done after {timeout:g} s") from None
    return done.stdout


class Server:
    """A context manager: a program that listens on a port, pinned with its children to one processor."""

    def __init__(self, command: Sequence[str | Path], port: int, processor: int, folder: Path) -> None:
        self._command = [str(word) for word in command]
        self._port = port
        self._pin = partial(os.sched_setaffinity, 0, {processor})
        self._folder = folder
        self._held = False
        self._output = folder / f"{Path(self._command[0]).name}-{port}.log"

    def __enter__(self) -> Server:
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self._folder,
                start_new_session=True,
                preexec_fn=self._pin,
            )
        try:
            self._wait_until_it_listens()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        return self._process.pid

    def _wait_until_it_listens(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self._port), 1).close()
                return
            time.sleep(0.05)
        words = self._output.read_text(errors="replace")[-2000:]
        raise Trouble(f"{self._command[0]} does not listen on port {self._port}:\n{words}")

    def stop(self) -> None:
        """Send SIGTERM, then SIGKILL to all remaining processes; SIGKILL at once if children are stopped."""
        tree = self.tree()
        if self._process.poll() is None and not self._held:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_SECONDS)
        for pid in tree:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()

    def hold_children(self) -> None:
        """
        Stop all child processes for good, so that only the started process runs.

        Their work in the background is never done.
        """
        self._held = True
        for pid in self.tree()[1:]:
            os.kill(pid, signal.SIGSTOP)

    # --- what it uses -------------------------------------------------------------------

    def tree(self) -> list[int]:
        """The process ids of the program and of all its descendants."""
        return _tree(self.pid)

    def cpu(self) -> float:
        """Processor time of the started process, in seconds."""
        return _cpu(self.pid)

    def tree_cpu(self) -> float:
        """Processor time of the process and its descendants, in seconds."""
        return sum(_cpu(pid) for pid in self.tree())

    def memory(self) -> int:
        """Resident memory of the started process, in bytes."""
        return _status(self.pid, "VmRSS")

    def tree_memory(self) -> int:
        return sum(_status(pid, "VmRSS") for pid in self.tree())

    def peak(self) -> int:
        """The highest value that `memory` has had."""
        return _status(self.pid, "VmHWM")

    def tree_peak(self) -> int:
        return sum(_status(pid, "VmHWM") for pid in self.tree())

    def settle(self) -> None:
        """Wait until background work (files, index) is done."""
        deadline = time.monotonic() + LONGEST_SETTLING
        before, now = -1.0, self.tree_cpu()
        while now - before > QUIET and time.monotonic() < deadline:
            time.sleep(0.3)
            before, now = now, self.tree_cpu()


def _tree(pid: int) -> list[int]:
    found = [pid]
    with contextlib.suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            for child in Path(f"/proc/{pid}/task/{task}/children").read_text().split():
                found += _tree(int(child))
    return found


def _cpu(pid: int) -> float:
    """The clock id of clock_getcpuclockid(3), which includes ended threads and counts nanoseconds."""
    with contextlib.suppress(OSError):
        return time.clock_gettime(~pid << 3 | 2)
    return 0.0


def _status(pid: int, field: str) -> int:
    with contextlib.suppress(OSError):
        match = re.search(rf"{field}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
        return int(match[1]) << 10 if match else 0
    return 0
