"""
All spools of a logging server: discovery, turns, and retries after trouble.

`Spools` runs in one thread, which does all storage work of the process.  Other threads may read its `status`.

An open spool holds three descriptors.  Only a few idle spools stay open; the others are closed and checked
for new bytes from time to time, and idle spools of remote proxies are removed after a while.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from twisted.logger import Logger

from logging_proxy.logserver.ingest.assembly import Tally
from logging_proxy.logserver.ingest.backoff import Backoff
from logging_proxy.logserver.ingest.closed import (
    IDLE_AFTER,
    IDLE_AFTER_UNDER_WAY,
    MOST_OPENED,
    OPEN_IDLE,
    REMOVE_AFTER,
    ClosedSpools,
    is_remote,
    newest_segment,
)
from logging_proxy.logserver.ingest.consumer import SpoolConsumer
from logging_proxy.logserver.ingest.observer import Observer
from logging_proxy.logserver.store.protocol import CaptureStore, Preview
from logging_proxy.recording.directories import UnsafeDirectory
from logging_proxy.recording.disk import spool_size
from logging_proxy.recording.tail import SpoolLock
from logging_proxy.recording.telling import told_trouble

LOOK_AROUND_INTERVAL = 1.0
"""Seconds between two scans for new spools, each of which checks the store as well."""

RETRY_INTERVAL = 0.5


@dataclass(frozen=True, slots=True)
class Status:
    """The state of storage.  `trouble` is empty while captures can be stored."""

    trouble: str = ""
    unwritten: str = ""
    """Why a proxy on this machine cannot write its spool; empty while all of them can."""
    stored: int = 0
    open: int = 0
    backlog: int = 0
    behind_since: int | None = None
    """The approximate time of the oldest bytes of the backlog, in ns since 1970; None without a backlog."""
    spools: int = 0
    damages: int = 0
    lost_exchanges: int = 0
    lost_bytes: int = 0

    @property
    def reason(self) -> str:
        """Why captures are lost or delayed now, here or in a proxy; empty while they are not."""
        if self.trouble or not self.unwritten:
            return self.trouble
        return f"a proxy cannot write what it records: {self.unwritten}"


@dataclass(slots=True)
class _Member:
    consumer: SpoolConsumer
    lock: SpoolLock
    backoff: Backoff
    opened: bool = False
    trouble: str = ""
    retry_at: float = 0.0
    active_at: float = 0.0


def spool_directories(root: str) -> list[str]:
    """The spools below `root`: directories that belong to this user, never links."""
    try:
        with os.scandir(root) as entries:
            found = [entry.path for entry in entries if _is_spool(entry)]
    except FileNotFoundError:
        return []
    return sorted(found)


def _is_spool(entry: os.DirEntry[str]) -> bool:
    return (
        not entry.name.startswith(".")
        and entry.is_dir(follow_symlinks=False)
        and entry.stat(follow_symlinks=False).st_uid == os.geteuid()
    )


def make_private_directory(path: str) -> None:
    """Makes a directory of mode 0700 and its parents.  Raises `UnsafeDirectory` if others may write to it."""
    os.makedirs(path, mode=0o700, exist_ok=True)
    found = os.stat(path)
    if found.st_uid != os.geteuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise UnsafeDirectory(f"{path}: not ours alone to write to")


def _remove(path: str, newest: tuple[int, int]) -> bool:
    shutil.rmtree(path)
    return True


class Spools:
    """
    Every spool below `root`, each with a consumer that moves its captures into `store`.

    `turn` never raises for errors of a disk: they are reported in `status`, the spools keep their bytes, and
    storing continues when the trouble is over.
    """

    _log = Logger()

    def __init__(
        self,
        store: CaptureStore,
        root: str,
        seconds: Callable[[], float],
        observer: Observer,
        most_waiting: int = 0,
        remove: Callable[[str, tuple[int, int]], bool] = _remove,
    ) -> None:
        """
        `most_waiting` is the largest backlog in bytes up to which a turn may be postponed.

        `remove` removes a remote spool if its `newest_segment` is still the given one; whether it did.
        """
        self.status = Status()
        self._store = store
        self._root = root
        self._seconds = seconds
        self._most_waiting = most_waiting
        self._observer = observer
        self._members: dict[str, _Member] = {}
        self._closed = ClosedSpools()
        self._remove = remove
        self._next_look = 0.0
        self._trouble = ""
        self._stored_by_the_gone = 0
        self._tally_of_the_gone = Tally()

    def turn(self, patient: bool = False) -> int:
        """
        Gives every spool a turn; returns the most bytes that were read from one.

        If `patient`, spools with a rush of bytes are left alone, see `Backoff`.
        """
        now = self._seconds()
        if now >= self._next_look:
            self._next_look = now + (RETRY_INTERVAL if self._look_around() else LOOK_AROUND_INTERVAL)
        taken = 0
        for member in self._ready(now):
            taken = max(taken, self._guarded(member, partial(self._turn, member, patient, now)))
        self._close_idle(now)
        self._update_status()
        return taken

    def preview(self, id: bytes) -> Preview | None:
        """The metadata so far of an exchange that is not published; None if there is no such exchange."""
        # Remote spools come last, because their senders may use the ids of others.
        for member in sorted(self._members.values(), key=lambda member: is_remote(member.consumer.path)):
            exchange = member.consumer.find(id)
            if exchange is not None:
                return member.consumer.preview(exchange)
        return None

    def settle(self) -> bool:
        """Commits and checkpoints everything; whether that succeeded."""

        def settle(consumer: SpoolConsumer) -> int:
            consumer.settle()
            return 0

        for member in self._ready(self._seconds()):
            self._guarded(member, partial(settle, member.consumer))
        self._update_status()
        return not self.status.trouble

    def close(self) -> None:
        """Releases everything; what was not settled is read again after the next start."""
        for member in self._members.values():
            member.consumer.close()
            member.lock.release()
        self._members.clear()
        self._store.close()

    # --- finding

    def _look_around(self) -> str:
        """Finds new spools, and checks the store; returns the trouble, if any."""
        try:
            self._store.open()
            self._store.check()
            make_private_directory(self._root)
            self._find(self._seconds())
            trouble = ""
        except (OSError, UnsafeDirectory) as error:
            trouble = describe_error(error)
            self._close_members()
        if trouble and trouble != self._trouble:
            self._log.error("captures cannot be stored: {reason}", reason=trouble)
        self._trouble = trouble
        self._refresh_backlog()
        self.status = replace(self.status, unwritten=self._unwritten())
        return trouble

    def _unwritten(self) -> str:
        try:
            return next(filter(None, map(told_trouble, spool_directories(self._root))), "")
        except OSError:
            return ""  # reported by the scan before

    def _find(self, now: float) -> None:
        found = spool_directories(self._root)
        for path in [path for path in self._members if path not in found]:
            self._forget(self._members.pop(path))
        self._tally_of_the_gone.add(self._closed.take_gone(found))
        for path in found:
            self._closed.take_if_changed(path)
        new = [path for path in found if path not in self._members and path not in self._closed]
        remote = list(filter(is_remote, new))
        for path in sorted(set(new).difference(remote[MOST_OPENED:])):
            self._admit(path, now)
        for path in self._closed.take_idle(now, self._members):
            self._retire(path, now)

    def _admit(self, path: str, now: float) -> _Member | None:
        """Opens a spool, unless another process has it."""
        lock = SpoolLock(path)
        if not lock.acquire():
            return None
        consumer = SpoolConsumer(path, self._store, self._seconds, self._observer)
        self._members[path] = member = _Member(consumer, lock, Backoff(self._most_waiting), active_at=now)
        self._open(member)
        return member

    def _forget(self, member: _Member) -> None:
        self._stored_by_the_gone += member.consumer.stored
        self._tally_of_the_gone.add(member.consumer.assembler.tally)
        member.consumer.close()
        member.lock.release()

    # --- spools in which nothing happens

    def _close_idle(self, now: float) -> None:
        """Closes idle spools except for a few, the longest idle first."""
        idle = sorted(
            (member.active_at, path) for path, member in self._members.items() if _is_idle(member, now)
        )
        too_many = max(0, len(self._members) - OPEN_IDLE)
        gone = [each for each in idle[too_many:] if is_remote(each[1]) and now - each[0] >= REMOVE_AFTER]
        for _, path in (*idle[:too_many], *gone):
            self._guarded(self._members[path], partial(self._close_one, path, now))

    def _close_one(self, path: str, now: float) -> int:
        member = self._members[path]
        newest = newest_segment(path)
        if member.consumer.turn():
            member.active_at = now  # new bytes arrived just now
            return 1
        member.consumer.settle()
        tally, under_way = member.consumer.assembler.tally, member.consumer.open_exchanges
        del self._members[path]
        self._stored_by_the_gone += member.consumer.stored
        member.consumer.close()
        member.lock.release()
        self._closed.add(path, newest, member.active_at, under_way, tally)
        return 1

    def _retire(self, path: str, now: float) -> None:
        """Removes an idle remote spool, after its open exchanges are stored as interrupted."""
        member = self._admit(path, now)
        if member is None:
            return
        self._guarded(member, partial(self._take_leave, path, member))

    def _take_leave(self, path: str, member: _Member) -> int:
        newest = newest_segment(path)
        while member.consumer.turn():
            pass
        member.consumer.interrupt("its proxy has sent nothing for long")
        member.consumer.settle()
        del self._members[path]
        self._forget(member)
        if self._remove(path, newest):
            self._log.info("{path}: removed, nothing has come for long", path=path)
        return 1

    # --- turns

    def _turn(self, member: _Member, patient: bool, now: float) -> int:
        if patient and member.backoff.should_wait(now, member.consumer.lengths):
            return 1  # there is traffic: look again soon
        taken = member.consumer.turn()
        if taken:
            member.active_at = now
        if member.trouble:
            self._log.info("{path}: storing captures again", path=member.consumer.path)
            member.trouble = ""
        return taken

    def _ready(self, now: float) -> Iterator[_Member]:
        if self._trouble:
            return
        for member in self._members.values():
            if member.opened or (now >= member.retry_at and self._retry(member)):
                yield member

    def _retry(self, member: _Member) -> bool:
        """Reopens a consumer once a small file can be written: a probe is cheaper than a replay."""
        return bool(self._guarded(member, self._probe)) and self._open(member)

    def _probe(self) -> int:
        self._store.probe()
        return 1

    def _open(self, member: _Member) -> bool:
        def open_consumer() -> int:
            member.consumer.open()
            member.opened = True
            return 1

        return bool(self._guarded(member, open_consumer))

    def _guarded(self, member: _Member, step: Callable[[], int]) -> int:
        """
        Runs a step of a consumer.  After any exception, returns 0 and closes the consumer until its retry.

        All exceptions are caught: a bug must not end the logging server, and the spool keeps the bytes.
        """
        try:
            return step()
        except Exception as error:
            self._fail(member, error)
            return 0

    def _fail(self, member: _Member, error: Exception) -> None:
        member.retry_at = self._seconds() + RETRY_INTERVAL
        trouble = describe_error(error)
        if trouble != member.trouble:
            path = member.consumer.path
            if isinstance(error, OSError):
                self._log.error("{path}: captures cannot be stored: {reason}", path=path, reason=trouble)
            else:
                self._log.failure("{path}: captures cannot be stored", path=path)
        member.trouble = trouble
        self._close_member(member)

    def _close_members(self) -> None:
        for member in self._members.values():
            self._close_member(member)

    def _close_member(self, member: _Member) -> None:
        member.opened = False
        try:
            member.consumer.close()
        except OSError as error:
            self._log.error("{path}: {reason}", path=member.consumer.path, reason=describe_error(error))

    # --- status

    def _update_status(self) -> None:
        members = self._members.values()
        consumers = [member.consumer for member in members]
        tally = self._closed.tally
        for counted in (self._tally_of_the_gone, *(consumer.assembler.tally for consumer in consumers)):
            tally.add(counted)
        self.status = replace(
            self.status,
            trouble=self._trouble or next((member.trouble for member in members if member.trouble), ""),
            stored=self._stored_by_the_gone + sum(consumer.stored for consumer in consumers),
            open=sum(consumer.open_exchanges for consumer in consumers) + self._closed.open_exchanges,
            spools=len(consumers) + len(self._closed),
            damages=tally.damages + tally.malformed_records,
            lost_exchanges=tally.lost_exchanges,
            lost_bytes=tally.lost_bytes,
        )

    def _unseen(self) -> int:
        """Bytes in spools that are not open, because nothing can be stored now."""
        try:
            found = set(spool_directories(self._root)) - set(self._members)
            return sum(spool_size(Path(path)) for path in found)
        except OSError:
            return 0

    def _refresh_backlog(self) -> None:
        backlog, since = 0, []
        for member in self._members.values():
            try:
                waiting = member.consumer.backlog()
            except OSError:
                continue
            backlog += waiting
            read_until = member.consumer.read_until
            if waiting and read_until is not None:
                since.append(read_until)
        if self._trouble:
            backlog += self._unseen()
        self.status = replace(self.status, backlog=backlog, behind_since=min(since, default=None))


def _is_idle(member: _Member, now: float) -> bool:
    patience = IDLE_AFTER_UNDER_WAY if member.consumer.open_exchanges else IDLE_AFTER
    return member.opened and now - member.active_at >= patience


def describe_error(error: Exception) -> str:
    """The reason of an error in one line, for /health and the log, without any captured data."""
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    if isinstance(error, UnsafeDirectory):
        return str(error)
    return f"internal error ({type(error).__name__})"
