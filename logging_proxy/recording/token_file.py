"""
The token that the logging server creates for itself: the file `.token` in the log directory.

Only users who can read the captures there can read it.  The file is created atomically,
and stays the same over restarts; to get a new token, delete it and start again.
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
class StoredToken:
    """The token of a log directory."""

    token: str = field(repr=False)
    owner: int


def keep_token(log_dir: str) -> str:
    """
    The token of the log directory; a new one if there is none yet, or one that others can read.

    Raises OSError and `UnsafeDirectory`.
    """
    make_directory_apart(Path(log_dir))
    folder = os.open(log_dir, _DIRECTORY)
    try:
        check_private(log_dir, os.fstat(folder))
        stored = _read(folder, private=True)
        return stored.token if stored is not None else _create(folder)
    finally:
        os.close(folder)


def token_for(
    url: str, log_dir: str, listening_user: Callable[[Address, int], int | None] = user_of_listener
) -> str | None:
    """
    The token of a log directory for the logging server at `url`; None when we can read none.

    It is only sent to this machine, and only to a server of the token's owner, as far as that can be
    determined: while no server runs, another user's program may listen at its port.
    """
    found = _stored_token(log_dir)
    where = _loopback_addresses(url)
    if found is None or not where:
        return None
    trusted = (None, ROOT, found.owner)
    return found.token if all(listening_user(*each) in trusted for each in where) else None


def _loopback_addresses(url: str) -> list[tuple[Address, int]]:
    """The loopback addresses and ports that `url` may lead to; none if its host is another machine."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        return []
    if not is_loopback(host):
        return []
    one = address(host)
    return [(each, port) for each in (LOOPBACK if one is None else [one])]


def _stored_token(log_dir: str) -> StoredToken | None:
    try:
        folder = os.open(log_dir, _DIRECTORY)
    except OSError:
        return None
    try:
        return _read(folder)
    finally:
        os.close(folder)


def _read(folder: int, private: bool = False) -> StoredToken | None:
    """The token in a directory; with `private` only one that no other user can have read or written."""
    try:
        fd = os.open(NAME, _READ, dir_fd=folder)
    except OSError:
        return None
    with open(fd, "rb", buffering=0) as file:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode) or (private and not _is_private(found)):
            return None
        match = _FORM.fullmatch(file.read(64) or b"")
    return StoredToken(match[1].decode("ascii"), found.st_uid) if match else None


def _is_private(found: os.stat_result) -> bool:
    others = stat.S_IRWXG | stat.S_IRWXO
    return found.st_uid == os.geteuid() and found.st_nlink == 1 and not found.st_mode & others


def _create(folder: int) -> str:
    """A new token, synced before it gets its name."""
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
