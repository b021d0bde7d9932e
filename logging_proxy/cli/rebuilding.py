"""Rebuilds or completes the index of a log directory."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress

from logging_proxy.captures.reader import CaptureReader
from logging_proxy.cli.sources import Trouble
from logging_proxy.index import IndexTrouble, Progress, SqliteIndex, rebuild
from logging_proxy.index.gone import remove_gone
from logging_proxy.index.sqlite import FILE

_COMPANIONS = ("-wal", "-shm")


class InUse(Trouble):
    """Another process, probably the logging server, has the index open."""


def rebuild_index(log_dir: str) -> Iterator[Progress]:
    """
    Build a new index; the old one is kept until the new one is complete.

    Raises `InUse` before anything is changed.
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
    """Add missing exchanges to the index.  May be used while a logging server runs."""
    path = os.path.join(log_dir, FILE)
    try:
        check_unused(path)
    except InUse:
        yield from _add(log_dir, path)
    else:
        yield from _fill(log_dir, path)


def _fill(log_dir: str, path: str) -> Iterator[Progress]:
    """Add everything, and mark the index as complete unless some files could not be read."""
    with closing(_open(path)) as index:
        unreadable = 0
        for progress in rebuild(CaptureReader(log_dir), index):
            unreadable = progress.unreadable
            yield progress
        for _ in remove_gone(CaptureReader(log_dir), index):
            yield progress
        if not unreadable:
            index.mark_whole(True)


def _add(log_dir: str, path: str) -> Iterator[Progress]:
    with closing(_open(path)) as index:
        for progress in rebuild(CaptureReader(log_dir), index):
            yield progress
        for _ in remove_gone(CaptureReader(log_dir), index):
            yield progress


def _open(path: str) -> SqliteIndex:
    try:
        return SqliteIndex(path)
    except IndexTrouble as error:
        raise Trouble(f"the index cannot be written: {error}") from None


def check_unused(path: str) -> None:
    """
    Raise `InUse` if another process has the database open.

    Leaving WAL mode requires exclusive access; the next process to open the database enters it again.
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
        # A damaged index is to be rebuilt anyway.
        return


def _remove(path: str) -> None:
    for name in (path, *(path + companion for companion in _COMPANIONS)):
        with suppress(FileNotFoundError):
            os.unlink(name)
