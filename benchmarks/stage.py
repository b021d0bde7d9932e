"""The surroundings of benchmarks: two processors, an upstream, and the proxies under test."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType

from benchmarks.contenders import TOOLS, Place, configure, ours
from benchmarks.processes import Server, free_ports, processors, raise_descriptor_limit

DESCRIPTORS = 4096
"""Limit on open files: 1,000 clients need as many connections to the upstream."""


class Stage:
    """A context manager with an upstream; on exit all programs have ended and all files are deleted."""

    def __init__(self) -> None:
        raise_descriptor_limit(DESCRIPTORS)
        self.proxy_processor, self.load_processor = processors()
        self._stack = ExitStack()

    def __enter__(self) -> Stage:
        self.folder = Path(tempfile.mkdtemp(prefix="benchmarks-"))
        self._stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
        try:
            self.upstream = self._start_upstream()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _start_upstream(self) -> int:
        (port,) = free_ports(1)
        command = (TOOLS / "upstream", "-listen", f"127.0.0.1:{port}")
        self._stack.enter_context(Server(command, port, self.load_processor, self.folder))
        return port

    @contextmanager
    def proxy(self, command: Callable[[Place], Sequence[str | Path]]) -> Iterator[tuple[Server, int]]:
        """A started, idle proxy and its port; its files are deleted afterwards."""
        port, logging_port = free_ports(2)
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        memory = Path(tempfile.mkdtemp(prefix="benchmarks-", dir="/dev/shm"))
        place = Place(folder, memory, port, self.upstream, logging_port)
        try:
            with Server(command(place), port, self.proxy_processor, folder) as server:
                server.settle()
                yield server, port
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            shutil.rmtree(memory, ignore_errors=True)

    @contextmanager
    def our_proxy(self, capture: bool = True, routes: int = 1) -> Iterator[tuple[Server, int]]:
        """Logging Proxy with `routes` routes, and its port."""
        with self.proxy(lambda place: ours(configure(place, capture, routes))) as running:
            yield running
