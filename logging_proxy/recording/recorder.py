"""The recording side of a proxy: spool, writer and observer, started and stopped together."""

from __future__ import annotations

import json
import os
import secrets
import time
from pathlib import Path
from typing import Any

from twisted.internet.defer import CancelledError
from twisted.internet.threads import deferToThreadPool

from logging_proxy import __version__
from logging_proxy.configuration.options import LoggingOptions
from logging_proxy.recording.events import CaptureObserver, Recorder
from logging_proxy.recording.records import Kind
from logging_proxy.recording.spool import Disk, Pace, Spool
from logging_proxy.recording.writer import NO_EXCHANGE, CaptureWriter

RING_SIZE = 32 << 20
"""
Bytes of the ring: the data path may be that far ahead of the disk before it has to wait.

A larger ring also makes larger writes, and so records large bodies faster.
"""

FLUSH_PATIENCE = 5.0
"""Seconds for which records may wait for room when the service stops; then they are lost."""


class Recording:
    """
    Records the exchanges of one proxy in the spool at `directory`.

    Making it writes nothing; its threads run from `start` to `stop`.
    """

    def __init__(
        self,
        directory: Path,
        options: LoggingOptions,
        reactor: Any,
        disk: Disk | None = None,
        pace: Pace | None = None,
        ring_size: int = RING_SIZE,
        workers: int = 1,
        run: str = "",
    ) -> None:
        """
        `workers` is how many processes share the space for rings; `run` names the run that all exchanges
        belong to, if there is one.  Raises `SpoolBusy` and OSError.
        """
        self.directory = directory
        self._run = run
        self._reactor = reactor
        ring_directory = Path(options.ring_dir)
        self._spool = Spool(
            directory,
            ring_directory,
            ring_size,
            options.spool_limit,
            self._moved,
            disk,
            pace or Pace(sync=options.fsync_interval),
            workers,
        )
        passes = options.on_capture_error == "pass"
        self.writer = CaptureWriter(self._spool.ring, self._spool.stored, passes, reactor)
        self.observer = CaptureObserver(self.writer)
        self.recorder = Recorder(self.writer, 1 + secrets.randbits(39))

    def start(self) -> None:
        session = {"version": __version__, "pid": os.getpid(), "wall_ns": time.time_ns()}
        if self._run:
            session["run"] = self._run
        self.writer.write(NO_EXCHANGE, [(Kind.SESSION, 0, json.dumps(session).encode())])
        self._spool.start()

    async def stop(self) -> bool:
        """
        Return when all records are on disk.

        False if the disk does not take them: then they stay in the ring for the next start, as far as
        there is room.
        """
        if self.writer.full:
            try:
                await self.writer.when_room().addTimeout(FLUSH_PATIENCE, self._reactor, _given_up)
            except CancelledError:
                pass
        self.writer.close()
        pool = self._reactor.getThreadPool()
        on_disk: bool = await deferToThreadPool(self._reactor, pool, self._spool.close)
        return on_disk

    # --- from the spool's thread to the reactor's ------------------------------------------
    #
    # The spool's thread changes the spool first (`taken`, `failure`) and reads the writer second;
    # the reactor's thread changes the writer first (`attentive`, `failure`) and reads the spool second.
    # So when both change at once, at least one of the two threads sees the change of the other.

    def _moved(self) -> None:
        """Called on the spool's thread.  Wakes the reactor only if the writer has to know."""
        if self.writer.attentive or self.writer.failure != self._spool.failure:
            self._reactor.callFromThread(self._tell_writer)

    def _tell_writer(self) -> None:
        failure = self._spool.failure
        self.writer.spool_moved(failure)
        while failure != self._spool.failure:
            failure = self._spool.failure
            self.writer.spool_moved(failure)


def _given_up(result: Any, timeout: float) -> Any:
    return result
