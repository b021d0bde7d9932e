"""Where benchmarks play: two processors, an upstream that is always there, and proxies that come and go."""

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
"""Open files: 2,000 clients, or 1,000 and as many connections to the upstream."""


class Stage:
    """Entered, it has an upstream; left, nothing of it runs and its files are gone."""

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
        """A proxy that runs and is idle, and its port; what it wrote is gone afterwards."""
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
        """Ours, with so many routes besides that to the upstream."""
        with self.proxy(lambda place: ours(configure(place, capture, routes))) as running:
            yield running
