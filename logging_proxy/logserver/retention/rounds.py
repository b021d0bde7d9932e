"""What is done now and then: looking at sizes, and keeping within the limits of retention."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from logging_proxy.captures.stored import Stored
from logging_proxy.index import Index
from logging_proxy.logserver.process import Run
from logging_proxy.logserver.retention.keeper import FILES, OTHER_BYTES, Keeper, Step
from logging_proxy.logserver.retention.trust import Consent, WallClock
from logging_proxy.logserver.store.protocol import CaptureStore
from logging_proxy.logserver.telemetry.counters import Sizes

INTERVAL = 10.0

SHARE = 100
"""Looking at every file takes at most a hundredth of the time: a million exchanges have four million."""

LOOK_INTERVAL = 300.0
"""
Between two such looks at least, which find what others added and removed; what we do is counted.

Where much comes they cost: 3 µs a file, 11 of each exchange that came since the start.
"""

PAUSE = 0.02
"""Seconds between two steps of deleting, which are for storing captures."""


class Housekeeping(Service):
    """Keeps `sizes` fresh and the log directory within its limits, from start to stop."""

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        store: CaptureStore,
        index: Index | None,
        keeper: Keeper | None,
        run: Run,
        run_storage: Run,
        wall_seconds: Callable[[], float],
    ) -> None:
        """`clock` is monotonic; `wall_seconds` are since 1970, and are watched before they are believed."""
        self.sizes = Sizes()
        self.is_whole: Callable[[], bool] = lambda: True
        """Whether the index has all captures: without some of them the wrong ones would be deleted."""
        self._wall = WallClock(clock.seconds, wall_seconds)
        self._consent = Consent(clock.seconds)
        self._clock = clock
        self._store = store
        self._index = index
        self.keeper = keeper
        self._run = run
        self._run_storage = run_storage
        self._measure_at = 0.0
        self._measured = (0, 0)
        self._grown = self._freed = 0
        self._new_files = self._gone_files = 0
        self._stopping = False
        self._trouble = ""
        self._timer: IDelayedCall | None = None
        self._pause: Deferred[None] | None = None
        self._done: Deferred[None] | None = None

    def startService(self) -> None:
        super().startService()  # type: ignore[no-untyped-call]
        self._stopping = False
        self._done = Deferred.fromCoroutine(self._work())

    def stopService(self) -> Deferred[None] | None:
        super().stopService()  # type: ignore[no-untyped-call]
        self._stopping = True
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
            self._go_on()
        return self._done

    @property
    def trouble(self) -> str:
        """Why sizes or retention are not as they are to be; empty while they are."""
        return self._trouble or (self.keeper.trouble if self.keeper is not None else "")

    def stored(self, stored: Stored) -> None:
        """An exchange's files are on disk.  For the storage thread."""
        if stored.again:
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
                if self.keeper is not None and self.is_whole():
                    await self._keep(self.keeper)
                self._trouble = ""
            except Exception as error:
                # A disk or an index in trouble is no reason to end: tried again, told of once.
                reason = str(error) or type(error).__name__
                if reason != self._trouble and not self._stopping:
                    self._log.warn("housekeeping: {reason}", reason=reason)
                self._trouble = reason
            if not self._stopping:
                await self._sleep(INTERVAL)

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
        """What was measured, and what came and went since."""
        size, count = self._measured
        size = max(0, size + self._grown - self._freed)
        count = max(0, count + self._new_files - self._gone_files)
        self.sizes = replace(self.sizes, log_dir_bytes=size, log_dir_files=count)

    async def _keep(self, keeper: Keeper) -> None:
        exchanges, bodies, size = keeper.deleted.exchanges, keeper.deleted.bodies, keeper.deleted.bytes
        steps = keeper.plan(self.sizes, await self._now(keeper))
        try:
            while not self._stopping:
                step = await self._run(lambda: next(steps, None))
                if step is None:
                    break
                if step.rows:
                    await self._delete(keeper, step)
                    await self._sleep(PAUSE)
        finally:
            await self._run(steps.close)
            deleted = keeper.deleted
            freed = deleted.bytes - size
            gone, bare = deleted.exchanges - exchanges, deleted.bodies - bodies
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

    async def _now(self, keeper: Keeper) -> int | None:
        """Microseconds since 1970 when deletions for age may go by them, else None."""
        if not self._wall.trusted():
            self._consent.withdraw()
            return None
        now = int(self._wall.now * 1_000_000)
        if self._consent.given:
            return now
        if self._consent.announced:
            return None
        over, of = await self._run(lambda: keeper.over_age(now, self._store.has_bytes))
        return now if self._consent.ask(over, of) else None

    async def _delete(self, keeper: Keeper, step: Step) -> None:
        def delete_files() -> Step:
            self._store.open()
            return keeper.delete_files(step, self._store)

        done = await self._run_storage(delete_files)
        await self._run(lambda: keeper.delete_entries(done))

    def _sleep(self, seconds: float) -> Deferred[None]:
        self._pause = Deferred()
        self._timer = self._clock.callLater(seconds, self._go_on)
        return self._pause

    def _go_on(self) -> None:
        self._timer = None
        pause, self._pause = self._pause, None
        if pause is not None:
            pause.callback(None)
