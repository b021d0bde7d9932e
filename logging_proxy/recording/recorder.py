"""The recording side of a proxy put together: spool, writer, observer."""

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
Bytes of the ring: what the data path can run ahead of the disk before it waits.

Also what makes writes large: a body of 1 GiB was recorded at 1,070 MiB/s through a ring
of 8 MiB in small pages, 1,270 in huge ones, 1,450 through 16 MiB, 1,640 through 32.
"""

FLUSH_PATIENCE = 5.0
"""Seconds that records may wait for room when the service stops, before they are given up."""


class Recording:
    """
    What records the exchanges of one proxy, in the spool at `directory`.

    Opening it writes nothing; from `start` to `stop` there are threads.
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
    ) -> None:
        """`workers` is how many proxies share the room for rings.  Raises `SpoolBusy` and OSError."""
        self.directory = directory
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
        self.writer.write(NO_EXCHANGE, [(Kind.SESSION, 0, json.dumps(session).encode())])
        self._spool.start()

    async def stop(self) -> bool:
        """
        Returns when everything recorded is on disk.

        False if the disk does not take it: then it is in the ring, for the
        next start, as far as there is room.
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
    # The thread changes the spool first (`taken`, `failure`) and looks at the writer second;
    # the writer is changed first (`attentive`, `failure`) and the spool looked at second.
    # So whatever happens at once, at least one side sees what the other has done.

    def _moved(self) -> None:
        """Called on the spool's thread.  Wakes the reactor only if that changes anything."""
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
