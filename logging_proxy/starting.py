"""What both services' beginnings share: where the spools lie, and how a start that cannot be is given up."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NoReturn

from logging_proxy.configuration import Configuration


def give_up(text: str) -> NoReturn:
    """Say why, and end with status 1."""
    sys.stderr.write(text.rstrip("\n") + "\n")
    raise SystemExit(1)


def spool_root(configuration: Configuration) -> Path:
    """The directory of the spools: the proxy puts its own there, the logging server looks there."""
    given = configuration.logging.spool_dir
    root = Path(given) if given is not None else Path(configuration.logging_server.log_dir) / ".spool"
    return root.absolute()
