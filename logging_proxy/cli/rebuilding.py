"""Making the index of a log directory anew, or adding what it lacks."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress

from logging_proxy.captures.reader import CaptureReader
from logging_proxy.cli.sources import Trouble
from logging_proxy.index import IndexTrouble, Progress, SqliteIndex, rebuild
from logging_proxy.index.sqlite import FILE

_COMPANIONS = ("-wal", "-shm")


class InUse(Trouble):
    """A program, most likely the logging server, has the index open."""


def make_anew(log_dir: str) -> Iterator[Progress]:
    """
    A new index in place of the old one, which stays until the new one is done.

    Raises `InUse` before anything is done.
    """
    path = os.path.join(log_dir, FILE)
    new = f"{path}.new"
    check_unused(path)
    _remove(new)
    try:
        yield from _fill(log_dir, new)
        check_unused(path)
        os.replace(new, path)
    finally:
        _remove(new)


def add_missing(log_dir: str) -> Iterator[Progress]:
    """What the index lacks.  Does no harm while a logging server runs."""
    path = os.path.join(log_dir, FILE)
    try:
        check_unused(path)
    except InUse:
        yield from _add(log_dir, path)
    else:
        yield from _fill(log_dir, path)


def _fill(log_dir: str, path: str) -> Iterator[Progress]:
    """Adds everything, after which the index is known to be whole; not if files could not be read."""
    with closing(_open(path)) as index:
        unreadable = 0
        for progress in rebuild(CaptureReader(log_dir), index):
            unreadable = progress.unreadable
            yield progress
        if not unreadable:
            index.mark_whole(True)


def _add(log_dir: str, path: str) -> Iterator[Progress]:
    with closing(_open(path)) as index:
        yield from rebuild(CaptureReader(log_dir), index)


def _open(path: str) -> SqliteIndex:
    try:
        return SqliteIndex(path)
    except IndexTrouble as error:
        raise Trouble(f"the index cannot be written: {error}") from None


def check_unused(path: str) -> None:
    """
    Raises `InUse` while another process has the database open.

    Leaving WAL mode needs it alone; whoever opens the database next enters it again.
    """
    if not os.path.exists(path):
        return
    try:
        with closing(sqlite3.connect(path, timeout=0.2, isolation_level=None)) as connection:
            connection.execute("PRAGMA journal_mode = DELETE")
    except sqlite3.OperationalError as error:
        if "locked" in str(error):
            raise InUse(
                "the index is in use: stop the logging server first, or add what is missing with --missing"
            ) from None
    except sqlite3.DatabaseError:
        # Damaged: one more reason to make it anew.
        return


def _remove(path: str) -> None:
    for name in (path, *(path + companion for companion in _COMPANIONS)):
        with suppress(FileNotFoundError):
            os.unlink(name)
