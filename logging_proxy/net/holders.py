"""Which process listens on a port, as far as `/proc` tells (Linux)."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")

_LISTENING = "0A"
"""TCP_LISTEN of `net/tcp_states.h`, as in /proc/net/tcp."""


@dataclass(frozen=True, slots=True)
class _Listener:
    inode: str
    user: int


def holder_of(port: int, proc: Path = PROC) -> str:
    """
    The process that listens on `port`, such as `twistd (pid 123)`, for the end of a sentence.

    A process of another user is not shown to everybody: then it is `a process of user root`.  Empty if
    nothing is known.
    """
    listeners = list(_listeners(port, proc))
    for listener in listeners:
        name = _process_with(f"socket:[{listener.inode}]", proc)
        if name:
            return name
    return f"a process of user {_name(listeners[0].user)}" if listeners else ""


def _listeners(port: int, proc: Path) -> Iterator[_Listener]:
    for table in ("tcp", "tcp6"):
        for line in _lines(proc / "net" / table)[1:]:
            fields = line.split()
            if len(fields) > 9 and fields[3] == _LISTENING and fields[1].endswith(f":{port:04X}"):
                yield _Listener(fields[9], int(fields[7]))


def _process_with(link: str, proc: Path) -> str:
    """The first process that has a descriptor of `link`, by name and number."""
    pids = sorted(int(name) for name in _names(proc) if name.isdecimal())
    for pid in pids:
        folder = proc / str(pid) / "fd"
        if any(_link(folder / name) == link for name in _names(folder)):
            (command, *_) = _lines(proc / str(pid) / "comm") or ["a process"]
            return f"{command} (pid {pid})"
    return ""


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text("utf-8", "replace").splitlines()
    except OSError:
        return []


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _link(path: Path) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _name(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return str(user)
