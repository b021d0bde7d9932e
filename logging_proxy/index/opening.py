"""Opening the index of a log directory, whatever state its file is in."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable

from twisted.logger import Logger

from logging_proxy.index.sqlite import FILE, SqliteIndex
from logging_proxy.index.values import IndexTrouble

_log = Logger()


def _tell(reason: str) -> None:
    _log.error("captures are stored but not indexed: {reason}", reason=reason)


def open_index(log_dir: str, tell: Callable[[str], None] = _tell) -> SqliteIndex | None:
    """
    The index of a log directory; None when it cannot be used, for captures are stored without one.

    A file that is damaged is put aside, and the index built anew.  `tell` hears why there is none.
    """
    path = os.path.join(log_dir, FILE)
    try:
        try:
            return SqliteIndex(path)
        except IndexTrouble as error:
            if not _is_damage(error.__cause__):
                raise
            _log.error("{reason}: put aside as {path}.damaged, and made anew", reason=str(error), path=path)
            _put_aside(path)
            return SqliteIndex(path)
    except (IndexTrouble, OSError) as error:
        tell(str(error))
        return None


def _is_damage(cause: BaseException | None) -> bool:
    code = getattr(cause, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def _put_aside(path: str) -> None:
    os.replace(path, f"{path}.damaged")
    for suffix in ("-wal", "-shm"):
        if os.path.exists(path + suffix):
            os.unlink(path + suffix)
