"""The title of a process, as `ps` and `top` show it (Linux)."""

from __future__ import annotations

import ctypes
import sys
from contextlib import suppress
from pathlib import Path

SELF = Path("/proc/self")

_ARG_START, _ARG_END = 48, 49
"""Fields of /proc/self/stat (`man 5 proc_pid_stat`)."""

LONGEST_NAME = 15
"""Characters of a process's short name, which `top` shows: what follows the colon."""


def set_title(title: str) -> None:
    """
    Let `ps` show `title`, such as `program: what it does`, in place of the command line, as far as it fits.

    The arguments are overwritten where the kernel reads them; Python has copied them.  Where that is not
    possible the command line stays.
    """
    if sys.platform != "linux":
        return
    with suppress(OSError, ValueError, IndexError):
        start, end = _arguments((SELF / "stat").read_text("utf-8", "replace"))
        if start and end - start == len((SELF / "cmdline").read_bytes()):
            ctypes.memmove(start, title.encode()[: end - start - 1].ljust(end - start, b"\0"), end - start)
        (SELF / "comm").write_text(title.partition(": ")[2].replace(" ", "-")[:LONGEST_NAME])


def _arguments(stat: str) -> tuple[int, int]:
    """Where the process's arguments begin and end."""
    fields = ["", "", *stat.rpartition(")")[2].split()]  # the name, in parentheses, may hold blanks
    return int(fields[_ARG_START - 1]), int(fields[_ARG_END - 1])
