"""The workers' spool directories, and those left by former workers."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path

from twisted.logger import Logger

from logging_proxy import __version__
from logging_proxy.recording.disk import SegmentFiles, next_offset
from logging_proxy.recording.records import Kind, encode
from logging_proxy.recording.rings import SpoolBusy, lock_spool, ring_path
from logging_proxy.recording.spool import describe
from logging_proxy.recording.writer import NO_EXCHANGE

_NO_LIMIT = 1 << 62

_log = Logger()


def spool_directories(root: Path, port: int, workers: int) -> list[Path]:
    """
    The spool directories of the workers of a proxy on this port.

    A worker has the same directory at every start; the first worker has that of a proxy with one process.
    """
    return [root / (str(port) if number == 1 else f"{port}-{number}") for number in range(1, workers + 1)]


def former_spools(root: Path, port: int, workers: int) -> list[Path]:
    """Non-empty spools that this proxy left when it had more workers."""
    found = {path.parent for path in root.glob(f"{port}-*/*.seg")}
    return sorted(found - set(spool_directories(root, port, workers)))


def end_sessions(spools: Sequence[Path]) -> None:
    """
    Mark the exchanges under way in abandoned spools as interrupted.

    The spools' rings have been emptied before.  Spools with errors are left for the next start.
    """
    for spool in spools:
        try:
            _end_session(spool)
        except SpoolBusy:
            continue
        except OSError as error:
            _log.warn(
                "{spool}: cannot mark its exchanges as interrupted: {why}",
                spool=str(spool),
                why=describe(error),
            )


def _end_session(spool: Path) -> None:
    lock = lock_spool(spool)
    try:
        if ring_path(spool) is None:
            # To a reader, the beginning of a session ends the one before.
            session = {"version": __version__, "pid": os.getpid(), "wall_ns": time.time_ns()}
            record = encode(Kind.SESSION, 0, NO_EXCHANGE, time.monotonic_ns(), json.dumps(session).encode())
            with contextlib.closing(SegmentFiles(spool, next_offset(spool), _NO_LIMIT)) as files:
                files.append(record)
    finally:
        os.close(lock)
