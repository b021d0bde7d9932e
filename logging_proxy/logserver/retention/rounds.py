"""Periodic work: measuring the log directory and the index, and applying retention."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from logging_proxy.captures.stored import Stored
from logging_proxy.index import Index
from logging_proxy.logserver.retention.policy import FILES, OTHER_BYTES, Retention, Step
from logging_proxy.logserver.retention.trust import Consent, WallClock
from logging_proxy.logserver.store.protocol import CaptureStore
from logging_proxy.logserver.telemetry.counters import Sizes
from logging_proxy.logserver.threads import Run
from logging_proxy.net.pause import Pause
from logging_proxy.net.services import TypedService

INTERVAL = 10.0

SHARE = 100
"""A measurement of all files may take at most one part in `SHARE` of the time."""

LOOK_INTERVAL = 300.0
"""
Least seconds between two measurements of all files.

In between, sizes are computed from what the server stores and deletes; a measurement finds the changes of
others.
"""

PAUSE = 0.02
"""Seconds between two steps of deletion, in which the storage thread can store captures."""


class Housekeeping(TypedService):
    """Keeps `sizes` up to date and the log directory within its limits, from start to stop."""

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        store: CaptureStore,
        index: Index | None,
        retention: Retention | None,
        run: Run,
        run_storage: Run,
        wall_seconds: Callable[[], float],
    ) -> None:
        """`clock` is monotonic; `wall_seconds`, since 1970, is compared with it before it is trusted."""
        self.sizes = Sizes()
        self.is_whole: Callable[[], bool] = lambda: True
        """Whether the index has all captures; otherwise retention would delete the wrong ones."""
        self._wall = WallClock(clock.seconds, wall_seconds)
        self._consent = Consent(clock.seconds)
        self._clock = clock
        self._store = store
        self._index = index
        self.retention = retention
        self._run = run
        self._run_storage = run_storage
        self._measure_at = 0.0
        self._measured = (0, 0)
        self._grown = self._freed = 0
        self._new_files = self._gone_files = 0
        self._stopping = False
        self._trouble = ""
        self._pause = Pause(clock)
        self._done: Deferred[None] | None = None

    def startService(self) -> None:
        super().startService()
        self._stopping = False
        self._done = Deferred.fromCoroutine(self._work())

    def stopService(self) -> Deferred[None] | None:
        super().stopService()
        self._stopping = True
        self._pause.end()
        return self._done

    @property
    def trouble(self) -> str:
        """The reason why sizes are unknown or limits exceeded; empty when all is well."""
        return self._trouble or (self.retention.trouble if self.retention is not None else "")

    def stored(self, stored: Stored) -> None:
        """Notes an exchange whose files are on disk.  Called on the storage thread."""
        if stored.replayed:
            return
        exchange = stored.exchange
        self._new_files += FILES
        self._grown += exchange.request.size + OTHER_BYTES
        if exchange.response is not None:
            self._grown += exchange.response.size

    async def _work(self) -> None:
        while not self._stopping:
            try:
                await self._look()
                if self.retention is not None and self.is_whole():
                    await self._keep(self.retention)
                self._trouble = ""
            except Exception as error:
                # Errors of the disk or the index do not end the loop: retried, and each reason logged once.
                reason = str(error) or type(error).__name__
                if reason != self._trouble and not self._stopping:
                    self._log.warn("housekeeping: {reason}", reason=reason)
                self._trouble = reason
            if not self._stopping:
                await self._pause.sleep(INTERVAL)

    async def _look(self) -> None:
        began = self._clock.seconds()
        if began >= self._measure_at:
            self._grown = self._freed = self._new_files = self._gone_files = 0
            self._measured = await self._run(self._store.measure)
            ended = self._clock.seconds()
            self._measure_at = ended + max(LOOK_INTERVAL, SHARE * (ended - began))
        self._estimate()
        index = self._index
        if index is not None:
            counts = await self._run(index.counts)
            self.sizes = replace(
                self.sizes,
                index_bytes=counts.index_bytes,
                exchanges=counts.exchanges,
                oldest=counts.oldest,
            )

    def _estimate(self) -> None:
        """The last measurement, plus what was stored and minus what was deleted since."""
        size, count = self._measured
        size = max(0, size + self._grown - self._freed)
        count = max(0, count + self._new_files - self._gone_files)
        self.sizes = replace(self.sizes, log_dir_bytes=size, log_dir_files=count)

    async def _keep(self, retention: Retention) -> None:
        before, deleted = replace(retention.deleted), retention.deleted
        steps = retention.plan(self.sizes, await self._now(retention))
        try:
            while not self._stopping:
                step = await self._run(lambda: next(steps, None))
                if step is None:
                    break
                if step.rows:
                    await self._delete(retention, step)
                    await self._pause.sleep(PAUSE)
        finally:
            await self._run(steps.close)
            freed = deleted.bytes - before.bytes
            gone, bare = deleted.exchanges - before.exchanges, deleted.bodies - before.bodies
            self._freed += freed
            self._gone_files += FILES * gone + FILES // 2 * bare
            self._estimate()
            if gone or bare:
                self._log.info(
                    "retention: deleted {exchanges} exchanges, and the bytes of {bodies} more: {size} bytes",
                    exchanges=gone,
                    bodies=bare,
                    size=freed,
                )

    async def _now(self, retention: Retention) -> int | None:
        """The time in microseconds since 1970 if limits of age may be applied, else None."""
        if not self._wall.trusted():
            self._consent.withdraw()
            return None
        now = int(self._wall.now * 1_000_000)
        if self._consent.given:
            return now
        if self._consent.announced:
            return None
        over, of = await self._run(lambda: retention.over_age(now, self._store.has_bytes))
        return now if self._consent.ask(over, of) else None

    async def _delete(self, retention: Retention, step: Step) -> None:
        def delete_files() -> Step:
            self._store.open()
            return retention.delete_files(step, self._store)

        done = await self._run_storage(delete_files)
        await self._run(lambda: retention.delete_entries(done))
