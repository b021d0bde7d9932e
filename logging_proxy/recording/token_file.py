"""
The token that the logging server makes for itself: the file `.token` in the log directory.

Whoever can read the captures there can read it too, and nobody else.  It is there as a whole or not
at all, and stays the same from start to start; to have another one, delete it and start again.
"""

from __future__ import annotations

import os
import re
import secrets
import stat
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from logging_proxy.configuration.listeners import LOOPBACK, address, is_loopback
from logging_proxy.net.peer_user import ROOT, Address, user_of_listener
from logging_proxy.recording.directories import check_private, make_directory_apart

NAME = ".token"
_TEMPORARY = f"{NAME}.tmp"

_FORM = re.compile(rb"([A-Za-z0-9_-]{43})\n")
"""32 random bytes in base64url."""

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Kept:
    """The token of a log directory."""

    token: str = field(repr=False)
    owner: int


def keep_token(log_dir: str) -> str:
    """
    The token of the log directory, made if there is none yet, or none that only we can read.

    Raises OSError and `UnsafeDirectory`.
    """
    make_directory_apart(Path(log_dir))
    folder = os.open(log_dir, _DIRECTORY)
    try:
        check_private(log_dir, os.fstat(folder))
        kept = _read(folder, private=True)
        return kept.token if kept is not None else _made(folder)
    finally:
        os.close(folder)


def token_for(
    url: str, log_dir: str, who_listens: Callable[[Address, int], int | None] = user_of_listener
) -> str | None:
    """
    The token of a log directory for the logging server at `url`; None when there is none that we can read.

    It only goes to this machine, and there to the user to whom it belongs, as far as that can be told:
    somebody else may wait at the port of a server that does not run.
    """
    found = _found(log_dir)
    where = _on_this_machine(url)
    if found is None or not where:
        return None
    trusted = (None, ROOT, found.owner)
    return found.token if all(who_listens(*each) in trusted for each in where) else None


def _on_this_machine(url: str) -> list[tuple[Address, int]]:
    """The addresses and ports at which who is asked for `url` may listen; none beyond loopback."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        return []
    if not is_loopback(host):
        return []
    one = address(host)
    return [(each, port) for each in (LOOPBACK if one is None else [one])]


def _found(log_dir: str) -> Kept | None:
    try:
        folder = os.open(log_dir, _DIRECTORY)
    except OSError:
        return None
    try:
        return _read(folder)
    finally:
        os.close(folder)


def _read(folder: int, private: bool = False) -> Kept | None:
    """With `private` only a token that nobody else can read or have put there."""
    try:
        fd = os.open(NAME, _READ, dir_fd=folder)
    except OSError:
        return None
    with open(fd, "rb", buffering=0) as file:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode) or (private and not _is_private(found)):
            return None
        match = _FORM.fullmatch(file.read(64) or b"")
    return Kept(match[1].decode("ascii"), found.st_uid) if match else None


def _is_private(found: os.stat_result) -> bool:
    others = stat.S_IRWXG | stat.S_IRWXO
    return found.st_uid == os.geteuid() and found.st_nlink == 1 and not found.st_mode & others


def _made(folder: int) -> str:
    """A new token, durable before it has its name."""
    token = secrets.token_urlsafe(32)
    with suppress(FileNotFoundError):
        os.unlink(_TEMPORARY, dir_fd=folder)
    fd = os.open(_TEMPORARY, _CREATE, 0o600, dir_fd=folder)
    with open(fd, "wb") as file:
        file.write(token.encode("ascii") + b"\n")
        file.flush()
        os.fsync(fd)
    os.rename(_TEMPORARY, NAME, src_dir_fd=folder, dst_dir_fd=folder)
    os.fsync(folder)
    return token
