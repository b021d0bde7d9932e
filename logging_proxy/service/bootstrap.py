"""Start-up shared by both services: reactor, garbage collector, spool directory, fatal errors."""

from __future__ import annotations

import gc
import os
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

from logging_proxy.configuration import Configuration
from logging_proxy.configuration.kinds import AUTO


def give_up(text: str) -> NoReturn:
    """Print the reason and exit with status 1."""
    sys.stderr.write(text.rstrip("\n") + "\n")
    raise SystemExit(1)


def install_reactor() -> Any:
    """
    Install our reactor, unless another one is installed (`twistd --reactor=...`) or this is not Linux.

    In every case its clock is monotonic, so that setting the wall clock does not change timeouts.
    """
    if sys.platform == "linux":
        from logging_proxy.net.reactor import install

        install()
    from twisted.internet import reactor

    return make_monotonic(reactor)


def make_monotonic(reactor: Any) -> Any:
    """Make the reactor use `time.monotonic`.  To be called before any call is scheduled."""
    if reactor.seconds is not time.monotonic:
        reactor.seconds = time.monotonic
    return reactor


def spare_the_collector() -> None:
    """
    Run the cyclic garbage collector rarely, and never over the objects that exist at start-up.

    An exchange leaves no cyclic garbage on either side, and collections cost time when storing
    large batches and pauses in the proxy.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 50)


def spool_root(configuration: Configuration) -> Path:
    """The directory of all spools: the proxy writes its spools there, and the logging server reads them."""
    given = configuration.logging.spool_dir
    root = Path(given) if given is not None else Path(configuration.logging_server.log_dir) / ".spool"
    return root.absolute()


def worker_count(configuration: Configuration) -> int:
    """The number of forwarding processes."""
    wanted = configuration.server.workers
    return processors() if wanted == AUTO else wanted


def processors() -> int:
    """The number of processors available to this process."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    else:
        return os.cpu_count() or 1
