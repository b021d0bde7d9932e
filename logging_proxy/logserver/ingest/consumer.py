"""
The path of one spool into the store: read, assemble, store, checkpoint, delete segments.

A consumer is crash-only.  After any exception it is closed and reopened from its last checkpoint, as after
a crash of the process; every step may be repeated.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from typing import Any

from twisted.logger import Logger
from zlib_ng.zlib_ng import crc32

from logging_proxy.captures.events import Event, ResponseStarted, Started
from logging_proxy.captures.exchanges import Exchange
from logging_proxy.captures.stored import Stored
from logging_proxy.logserver.ingest.assembly import Assembler, restore_tally
from logging_proxy.logserver.ingest.observer import Observer
from logging_proxy.logserver.ingest.records import Damage, RecordStream
from logging_proxy.logserver.store.protocol import CaptureStore, Preview
from logging_proxy.recording.records import Record
from logging_proxy.recording.tail import Piece, SpoolTail, load_json, save_durably

CHECKPOINT = "consumer.json"
VERSION, EARLIER = 2, 1
"""Versions of the checkpoint; the earlier one has no checksum."""

TURN_BYTES = 1 << 20
"""Bytes read in one turn: small enough that other spools are served within milliseconds."""

COMMIT_INTERVAL = 0.1
"""Seconds between two commits while the consumer keeps up with the spool."""

BEHIND_INTERVAL = 0.5
"""
Seconds between two commits while there is a backlog.

A commit writes directory blocks and inodes, however few files are new, so larger commits are cheaper.
"""

COMMIT_EXCHANGES = 1024
COMMIT_BYTES = 8 << 20
"""Bytes read from the spool since the last commit: small bodies stay in memory until then."""

CHECKPOINT_INTERVAL = 1.0
CHECKPOINT_SHARE = 20
"""A checkpoint may take at most a 20th of the time: with many long streams it is megabytes of JSON."""

CHECKPOINT_BYTES = 32 << 20
"""Bytes read until a checkpoint is forced, so that segments are deleted before the spool is full."""


LOG_INTERVAL = 1.0
"""Seconds between two log lines about damage; every damage is counted."""

DAMAGED_TIMEOUT = 24 * 3600 * 10**9
"""Nanoseconds without a record after which an exchange affected by damage counts as ended."""


def _encode(state: dict[str, Any]) -> bytes:
    return json.dumps(state, separators=(",", ":")).encode("ascii")


class SpoolConsumer:
    """
    Moves one spool's captures into a store, and tells `observer` what happens.

    Every method may raise OSError; afterwards `close`, then `open` again.
    """

    _log = Logger()

    def __init__(
        self,
        path: str,
        store: CaptureStore,
        seconds: Callable[[], float],
        observer: Observer,
    ) -> None:
        self.path = path
        self.stored = 0
        self.assembler = Assembler()
        self._store = store
        self._seconds = seconds
        self._observer = observer
        self._logged_at, self._unlogged = float("-inf"), 0
        """When damage was last logged, and how many damages were not logged since."""
        self._reset(None)

    def _reset(self, offset: int | None) -> None:
        self.assembler = Assembler()
        self._writer = self._store.writer()
        self._tail = SpoolTail(self.path, offset)
        self._stream = RecordStream(offset)
        self._durable = offset
        self._committed_at = float("-inf")
        self._gathered = 0
        """Bytes read since the last commit."""
        self._next_checkpoint = 0.0

    @property
    def offset(self) -> int | None:
        """The stream offset after the last record that was handled; None before the first."""
        return self._stream.offset

    @property
    def open_exchanges(self) -> int:
        return len(self.assembler.open)

    def open(self) -> None:
        """Continues from the checkpoint; without one, from the oldest segment."""
        if not os.path.exists(os.path.join(self.path, CHECKPOINT)):
            self._reset(None)
            return
        try:
            self._restore(load_json(self.path, CHECKPOINT))
        except (KeyError, TypeError, ValueError, AttributeError, AssertionError):
            self._log.error("{path}: checkpoint unreadable; reading the spool from its start", path=self.path)
            self._writer.close()
            self._reset(None)
            self.assembler.tally.damages += 1

    def _restore(self, state: dict[str, Any]) -> None:
        if state["version"] not in (VERSION, EARLIER):
            raise ValueError("another version")
        if state["version"] == VERSION and state.pop("check") != crc32(_encode(state)):
            raise ValueError("damaged")
        self._reset(int(state["offset"]))
        self.assembler.tally = restore_tally(state.get("tally", (0, 0, 0, 0, 0)))
        self.assembler.restore(state["exchanges"])
        self.assembler.run = str(state.get("run", ""))
        self._writer.restore(self.assembler.open, state["files"])
        for exchange in self.assembler.open.values():
            self._observer.event(Started(exchange))
            if exchange.response is not None:
                self._observer.event(ResponseStarted(exchange))

    def close(self) -> None:
        """Drops everything since the last checkpoint."""
        self._writer.close()
        self._tail.close()

    # --- turns

    def turn(self) -> int:
        """Reads, stores and commits what is due; the bytes read, 0 when all was read before."""
        taken = self._read()
        if taken < TURN_BYTES:
            # Else the next turn follows at once, and finds most exchanges whole.
            self._writer.flush()
        self._gathered += taken
        now = self._seconds()
        if self._writer.finished and self._is_due(
            now, BEHIND_INTERVAL if taken >= TURN_BYTES else COMMIT_INTERVAL
        ):
            self._commit()
        if self._durable != self.offset and (now >= self._next_checkpoint or self._much_to_delete()):
            self.checkpoint()
        return taken

    def _is_due(self, now: float, interval: float) -> bool:
        much = self._writer.finished >= COMMIT_EXCHANGES or self._gathered >= COMMIT_BYTES
        return much or now >= self._committed_at + interval

    def _much_to_delete(self) -> bool:
        return (self.offset or 0) - (self._durable or 0) >= CHECKPOINT_BYTES

    def settle(self) -> None:
        """Commits and checkpoints now."""
        if self._writer.dirty or self._durable != self.offset:
            self.checkpoint()

    def lengths(self) -> tuple[int, int]:
        """The stream offsets up to which the spool is read, and is written (approximately)."""
        return self.offset or 0, self._tail.end()

    def backlog(self) -> int:
        return self._tail.backlog()

    @property
    def read_until(self) -> int | None:
        """The time of the last record that was read, in nanoseconds since 1970; None when it is unknown."""
        offset = self.assembler.wall_offset
        return None if offset is None else self.assembler.last_time + offset

    def find(self, id: bytes) -> Exchange | None:
        """An exchange whose files are not published yet."""
        unpublished = [*self.assembler.open.values(), *self._writer.finished_exchanges()]
        return next((exchange for exchange in unpublished if exchange.uuid == id), None)

    def preview(self, exchange: Exchange) -> Preview:
        """The metadata so far of an exchange, to be made in another thread."""
        return self._writer.preview(exchange)

    def checkpoint(self) -> None:
        """Makes everything that was handled durable, then deletes the segments before it."""
        began = self._seconds()
        self._end_damaged()
        self._tell(self._writer.settle())
        self._tail.sync()
        offset = self.offset
        state = {
            "version": VERSION,
            "offset": offset,
            "tally": self.assembler.tally.state(),
            "run": self.assembler.run,
            "exchanges": self.assembler.checkpoint(),
            "files": self._writer.checkpoint(),
        }
        if offset is not None:
            data = _encode(state)  # encoded once, for it may be megabytes
            save_durably(self.path, CHECKPOINT, b'%b,"check":%d}' % (data[:-1], crc32(data)))
            self._tail.delete_before(offset)
        self._durable = offset
        ended = self._seconds()
        self._next_checkpoint = ended + max(CHECKPOINT_INTERVAL, CHECKPOINT_SHARE * (ended - began))

    def _commit(self) -> None:
        self._tell(self._writer.commit())

    def _tell(self, committed: list[Stored]) -> None:
        self.assembler.stored()
        self.stored += sum([not stored.replayed for stored in committed])
        for stored in committed:
            self._observer.stored(stored)
        self._committed_at, self._gathered = self._seconds(), 0

    # --- reading

    def _read(self) -> int:
        taken = 0
        while taken < TURN_BYTES:
            piece = self._tail.peek()
            if piece is None:
                if self._tail.rewound:
                    self._start_over()
                    return TURN_BYTES
                break
            self._take(piece)
            taken += len(piece.data)
        return taken

    def _take(self, piece: Piece) -> None:
        assemble, store, observe = self.assembler.handle, self._writer.handle, self._observer.event
        for item in self._stream.feed(piece):
            if isinstance(item, Damage):
                self._log_damage(item.reason)
                self.assembler.mark_damaged(item.reason, item.missing)
                continue
            try:
                events = assemble(item)
            except Exception as error:  # a remote sender may send any bytes; what follows is stored
                self._skip(item, error)
                continue
            for event in events:
                store(event)
                observe(event)

    def _skip(self, record: Record, error: Exception) -> None:
        """Counts a record that cannot be interpreted as damage of its spool and its exchange."""
        self._log_damage(f"a record cannot be understood ({type(error).__name__})")
        self.assembler.mark_malformed(record.exchange, f"a record made no sense ({type(error).__name__})")

    def _log_damage(self, damage: str) -> None:
        """Logs damage, at a limited rate: a spool full of damage must not fill the disk with log lines."""
        now = self._seconds()
        if now < self._logged_at + LOG_INTERVAL:
            self._unlogged += 1
            return
        more = f" ({self._unlogged} more before)" if self._unlogged else ""
        self._log.error("{path}: damage: {reason}{more}", path=self.path, reason=damage, more=more)
        self._logged_at, self._unlogged = now, 0

    def interrupt(self, error: str) -> None:
        """Ends all open exchanges as interrupted."""
        self._pass_on(self.assembler.interrupt(error))

    def _end_damaged(self) -> None:
        """Ends exchanges whose END record was probably lost by damage."""
        self._pass_on(self.assembler.end_damaged(DAMAGED_TIMEOUT))

    def _pass_on(self, events: Iterable[Event]) -> None:
        for event in events:
            self._writer.handle(event)
            self._observer.event(event)

    def _start_over(self) -> None:
        """The spool was replaced by a shorter one: ends all open exchanges, and reads the new spool."""
        self._log.error("{path}: the spool ends before what was read of it; reading it anew", path=self.path)
        self.interrupt("the spool was replaced")
        self._tail.close()
        self._tail = SpoolTail(self.path)
        self._stream = RecordStream()
