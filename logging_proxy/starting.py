"""What both services' beginnings share: where the spools lie, and how a start that cannot be is given up."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NoReturn

from logging_proxy.configuration import Configuration
from logging_proxy.configuration.kinds import AUTO


def give_up(text: str) -> NoReturn:
    """Say why, and end with status 1."""
    sys.stderr.write(text.rstrip("\n") + "\n")
    raise SystemExit(1)


def spool_root(configuration: Configuration) -> Path:
    """The directory of the spools: the proxy puts its own there, the logging server looks there."""
    given = configuration.logging.spool_dir
    root = Path(given) if given is not None else Path(configuration.logging_server.log_dir) / ".spool"
    return root.absolute()


def worker_count(configuration: Configuration) -> int:
    """How many processes forward."""
    wanted = configuration.server.workers
    return processors() if wanted == AUTO else wanted


def processors() -> int:
    """The processors that this process may use."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    else:
        return os.cpu_count() or 1
