"""The spool's threads: everything stored gets to disk, in whatever way the disk behaves."""

from __future__ import annotations

import errno
import os
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.recording.disk import Disk
from logging_proxy.recording.records import Kind, Record, RecordReader, encode
from logging_proxy.recording.segments import segment_name
from logging_proxy.recording.spool import Pace, Spool, SpoolBusy
from logging_proxy.test.capture_stage import (
    BROKEN,
    FAST,
    FULL,
    LIMIT,
    BadDisk,
    Die,
    Fate,
    Killed,
    Short,
    abandon,
    blocks,
    segments,
    stream,
)

RING = 1 << 16
MIB = 1 << 20


def wait_until(condition: Callable[[], bool], timeout: float = 60.0) -> bool:
    deadline = time.monotonic() + timeout
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.002)
    return condition()


class SpoolCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute() / "spool"
        self.memory = Path(self.mktemp()).absolute()
        self.memory.mkdir()
        self.moves = 0

    def moved(self) -> None:
        self.moves += 1

    def open(self, bad: BadDisk | None = None, pace: Pace = FAST, limit: int = LIMIT) -> Spool:
        disk = bad.disk if bad is not None else None
        return Spool(self.directory, self.memory, RING, limit, self.moved, disk, pace)

    def started(self, bad: BadDisk | None = None, pace: Pace = FAST) -> Spool:
        spool = self.open(bad, pace)
        spool.start()
        return spool

    def store(self, spool: Spool, data: bytes) -> None:
        spool.ring.store(data)
        spool.stored()


class ThreadTests(SpoolCase):
    def test_written(self) -> None:
        """What is stored gets to disk without more ado, and `moved` says that there is room again."""
        spool = self.started()
        self.store(spool, b"abc")
        self.assertTrue(wait_until(lambda: spool.ring.taken == 3 and self.moves > 0))
        self.assertEqual(stream(self.directory), b"abc")
        self.assertTrue(spool.close())

    def test_no_wake_up_is_lost(self) -> None:
        """However storing meets the thread's going to rest, each store is written without a later one."""
        spool = self.started()
        expected = b""
        for number in range(3000):
            data = number.to_bytes(2, "big")
            self.store(spool, data)
            expected += data
            if number % 3 == 0 and not wait_until(lambda: spool.ring.taken == spool.ring.stored):
                self.fail(f"store {number} waits")
        self.assertTrue(spool.close())
        self.assertEqual(stream(self.directory), expected)

    def test_close_writes(self) -> None:
        """`close` brings what was stored just before to disk, synced, and leaves no ring."""
        bad = BadDisk()
        for number in range(20):
            spool = self.started(bad, Pace(gather=0.2, retry=1, sync=600))
            self.store(spool, b"%02d" % number)
            self.assertTrue(spool.close(patience=60))
            self.assertEqual(list(self.memory.iterdir()), [])
        self.assertEqual(stream(self.directory), b"".join(b"%02d" % number for number in range(20)))
        inodes = {(self.directory / segment_name(start)).stat().st_ino for start in segments(self.directory)}
        self.assertLessEqual(inodes, set(bad.synced))

    def test_large_writes_refused(self) -> None:
        """A disk that takes a little but not much at a time is given a little, and nothing has failed."""
        sizes = []

        def write(fd: int, parts: Sequence[bytes | memoryview], at: int) -> int:
            sizes.append(sum(map(len, parts)))
            if sizes[-1] > MIB:
                raise OSError(errno.ENOSPC, "No space left on device")
            return os.pwritev(fd, parts, at)

        spool = Spool(
            self.directory, self.memory, 32 * MIB, 1 << 30, self.moved, Disk(os.open, write, os.fsync), FAST
        )
        expected = b"".join(bytes([number]) * (MIB // 4) for number in range(64))
        for start in range(0, len(expected), MIB // 4):
            spool.ring.store(expected[start : start + MIB // 4])
        spool.start()
        self.assertTrue(spool.close())
        self.assertEqual(stream(self.directory), expected)
        self.assertIsNone(spool.failure)
        self.assertTrue(3 * MIB < max(sizes) <= 5 * MIB, sizes)

    def test_never_started(self) -> None:
        """A spool that was opened and never started can be closed, and leaves nothing but its directory."""
        spool = self.open()
        self.assertTrue(spool.close())
        self.assertEqual(list(self.memory.iterdir()), [])
        self.assertEqual([entry.name for entry in self.directory.iterdir()], ["lock"])

    def test_synced(self) -> None:
        """What is written is synced soon, and when nothing is written nothing is."""
        bad = BadDisk()
        spool = self.started(bad)
        self.store(spool, b"abc")
        self.assertTrue(wait_until(lambda: bool(bad.synced)))

        def is_quiet() -> bool:
            count = len(bad.synced)
            time.sleep(0.1)
            return len(bad.synced) == count

        self.assertTrue(wait_until(is_quiet))
        spool.close()

    def test_busy(self) -> None:
        """A second process cannot have the spool; it can when the first is done."""
        spool = self.open()
        self.assertRaises(SpoolBusy, self.open)
        spool.close()
        self.open().close()

    def test_open_to_others(self) -> None:
        """A directory that others may write to is refused."""
        self.directory.mkdir(parents=True)
        self.directory.chmod(0o777)
        self.assertRaises(PermissionError, self.open)


class TroubleTests(SpoolCase):
    def test_refusal_and_recovery(self) -> None:
        """While the disk refuses, `failure` says why and `moved` tells of it; then everything is there."""
        bad = BadDisk()
        bad.always = FULL
        spool = self.started(bad)
        self.store(spool, b"abc")
        self.assertTrue(wait_until(lambda: spool.failure is not None))
        self.assertEqual((spool.failure, self.moves), (os.strerror(FULL), 1))
        self.store(spool, b"def")
        bad.always = None
        self.assertTrue(wait_until(lambda: spool.failure is None and spool.ring.taken == 6))
        self.assertEqual(stream(self.directory), b"abcdef")
        spool.close()

    def test_fault_of_ours(self) -> None:
        """Whatever is raised counts as a refusal: the thread goes on."""
        bad = BadDisk()
        spool = self.started(bad)
        self.patch(spool._files, "append", lambda payload, sums: 1 / 0)
        self.store(spool, b"abc")
        self.assertTrue(wait_until(lambda: spool.failure == "division by zero"))
        del spool._files.append
        self.assertTrue(wait_until(lambda: spool.failure is None))
        spool.close()
        self.assertEqual(stream(self.directory), b"abc")

    def test_stall(self) -> None:
        """While the disk does not answer, storing and `stored` do not wait; nothing is lost."""
        bad = BadDisk()
        bad.gate.clear()
        spool = self.started(bad)
        self.store(spool, b"abc")
        self.assertTrue(bad.waiting.wait(60))
        for _ in range(1000):
            self.store(spool, b"x")
        self.assertEqual(spool.ring.taken, 0)
        self.assertIsNone(spool.failure)
        bad.gate.set()
        self.assertTrue(spool.close())
        self.assertEqual(stream(self.directory), b"abc" + b"x" * 1000)

    def test_close_in_a_stall(self) -> None:
        """`close` does not wait for ever: the ring keeps what the disk has not taken, for the next start."""
        bad = BadDisk()
        bad.gate.clear()
        spool = self.started(bad)
        self.store(spool, b"abc")
        self.assertTrue(bad.waiting.wait(60))
        self.assertFalse(spool.close(patience=0.05))
        self.assertEqual(len(list(self.memory.iterdir())), 1)
        bad.gate.set()
        assert spool._syncing is not None
        spool._syncing.join(60)
        abandon(spool)
        self.open().close()
        self.assertEqual(stream(self.directory), b"abc")

    def test_close_while_refusing(self) -> None:
        """When the disk refuses to the end, the next start finds everything in the ring."""
        bad = BadDisk()
        bad.always = BROKEN
        spool = self.started(bad)
        self.store(spool, b"abc")
        self.assertFalse(spool.close())
        spool = self.started()
        self.store(spool, b"def")
        self.assertTrue(spool.close())
        self.assertEqual(stream(self.directory), b"abcdef")

    def test_start_with_a_full_disk(self) -> None:
        """A full disk does not keep a proxy with a full ring from starting, and costs nothing."""
        spool = self.open()
        self.store(spool, b"abc")
        abandon(spool)
        bad = BadDisk()
        bad.always = FULL
        spool = self.started(bad)
        self.store(spool, b"def")
        self.assertTrue(wait_until(lambda: spool.failure is not None))
        bad.always = None
        self.assertTrue(wait_until(lambda: spool.failure is None))
        spool.close()
        self.assertEqual(stream(self.directory), b"abcdef")

    def test_directory_removed(self) -> None:
        """A directory that was removed is there again, locked, and says where the ring is."""
        spool = self.started()
        self.store(spool, b"abc")
        self.assertTrue(wait_until(lambda: spool.ring.taken == 3))
        shutil.rmtree(self.directory)
        self.store(spool, b"def")
        self.assertTrue(wait_until(lambda: spool.ring.taken == 6))
        self.assertEqual(stream(self.directory, 3), b"def")
        self.assertTrue((self.directory / "ring").samefile(next(self.memory.iterdir())))
        self.assertRaises(SpoolBusy, self.open)
        self.assertTrue(spool.close())

    def test_sync_refused(self) -> None:
        """A sync that fails is said, once, and does not keep records from being written."""
        bad = BadDisk()
        bad.sync_fate = BROKEN
        spool = self.started(bad)
        for size in range(1, 4):
            self.store(spool, b"x")
            self.assertTrue(wait_until(lambda size=size: spool.ring.taken == size))  # type: ignore[misc]
            time.sleep(0.03)
        self.assertIsNone(spool.failure)
        self.assertTrue(wait_until(lambda: spool._sync_failure is not None))
        bad.sync_fate = None
        self.store(spool, b"x")
        self.assertTrue(wait_until(lambda: spool._sync_failure is None))
        self.assertTrue(spool.close())

    def test_sync_is_slow(self) -> None:
        """A sync that takes long holds up no write, until many segments wait for theirs."""
        bad = BadDisk()
        spool = Spool(self.directory, self.memory, RING, 8 * 100, self.moved, bad.disk, FAST)
        synced = threading.Event()
        spool._files.sync = lambda: synced.wait(60)  # type: ignore[method-assign,assignment]
        spool.start()
        for size in range(1, 5):
            self.store(spool, b"x" * 100)
            self.assertTrue(wait_until(lambda size=size: spool.ring.taken == 100 * size))  # type: ignore[misc]
        synced.set()
        spool.close()


# --- any order of events -----------------------------------------------------------------

Step = tuple[str, list[tuple[int, bytes]], list[Fate]]

FATES: st.SearchStrategy[Fate] = st.one_of(
    st.none(),
    st.sampled_from([FULL, BROKEN]),
    st.builds(Short, st.integers(1, 200)),
    st.builds(Die, st.integers(0, 200)),
)
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["store", "store", "write", "kill", "close", "consume"]),
        st.lists(st.tuples(st.integers(1, 5), st.binary(max_size=60)), max_size=4),
        st.lists(FATES, max_size=3),
    ),
    max_size=30,
)


class Story:
    """One spool through several processes; the threads' work is done by hand."""

    def __init__(self, root: Path) -> None:
        self.directory, self.memory = root / "spool", root / "memory"
        self.memory.mkdir(parents=True)
        self.expected: list[Record] = []
        self.read = b""
        self.time = 0
        self.start()

    def start(self, *fates: Fate) -> None:
        self.bad = BadDisk(*fates)
        # The small limit makes small segments; what it refuses is one more trouble.
        self.spool = Spool(
            self.directory, self.memory, 2048, 8 * 256, lambda: None, self.bad.disk, Pace(0, 0, 0)
        )

    def take(self, step: Step) -> None:
        name, stores, fates = step
        self.bad.fates.extend(fates)
        try:
            getattr(self, name)(stores)
        except Killed:
            abandon(self.spool)
            self.start()
        self.bad.fates.clear()

    def store(self, stores: list[tuple[int, bytes]]) -> None:
        data, found = b"", []
        for exchange, payload in stores:
            self.time += 1
            found.append(Record(Kind.REQUEST_PIECE, 0, exchange, self.time, payload))
            data += encode(Kind.REQUEST_PIECE, 0, exchange, self.time, payload)
        if len(data) <= self.spool.ring.room:
            self.spool.ring.store(data)
            self.expected += found

    def write(self, stores: list[tuple[int, bytes]]) -> None:
        self.store(stores)
        self.spool.write_out()

    def kill(self, stores: list[tuple[int, bytes]]) -> None:
        self.store(stores)
        raise Killed

    def close(self, stores: list[tuple[int, bytes]]) -> None:
        self.store(stores)
        self.spool.write_out()
        self.spool.close()
        self.start()

    def consume(self, stores: list[tuple[int, bytes]]) -> None:
        """The consumer reads on, and deletes every segment but the newest."""
        for start, payload in blocks(self.directory):
            if start + len(payload) > len(self.read):
                if start != len(self.read):
                    raise AssertionError(f"a block at {start} after {len(self.read)}")
                self.read += payload
        for start in segments(self.directory)[:-1]:
            (self.directory / segment_name(start)).unlink()

    def end(self) -> list[Record]:
        """Everything that the consumer got, when the last process has ended in peace."""
        self.bad.fates.clear()
        while not self.spool.write_out():
            self.consume([])
        self.spool.close()
        self.consume([])
        return list(RecordReader().feed(self.read))


class AnyOrderTests(SynchronousTestCase):
    @settings(deadline=None, max_examples=150)
    @given(STEPS)
    def test_every_record_once(self, steps: list[Step]) -> None:
        """Whatever the disk does and wherever processes are killed, every record arrives once, in order."""
        story = Story(Path(self.mktemp()).absolute())
        for step in steps:
            story.take(step)
        self.assertEqual(story.end(), story.expected)
