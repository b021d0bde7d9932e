"""Where rings lie, and that none of them is lost, read twice, or taken from who uses it."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import time
from pathlib import Path
from unittest import mock

from twisted.logger import LogLevel, capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.recording import rings
from logging_proxy.recording.disk import SegmentFiles, last_offset
from logging_proxy.recording.ring import Ring
from logging_proxy.recording.rings import (
    SpoolBusy,
    forget_ring,
    lock_spool,
    open_ring,
    remove_unused,
    salvage,
    salvage_all,
)
from logging_proxy.recording.segments import segment_name
from logging_proxy.test.capture_stage import segments, stream

SIZE = 4096
MIB = 1 << 20
DAY = 24 * 3600


def refuse_unlink(path: Path, missing_ok: bool = False) -> None:
    """As of a file system that cannot be written any more."""
    if path.suffix == ".ring":
        raise OSError(errno.EROFS, "Read-only file system", str(path))
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


class RingCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.root = Path(self.mktemp()).absolute()
        self.memory = Path(self.mktemp()).absolute()
        self.memory.mkdir()
        self.spool = self.make_spool("5601")

    def make_spool(self, name: str) -> Path:
        (self.root / name).mkdir(parents=True)
        return self.root / name

    def open(self, spool: Path | None = None) -> Ring:
        """A ring as a proxy opens it, in use until the test ends or `close`."""
        spool = spool or self.spool
        ring, _ = open_ring(spool, self.memory, SIZE)
        return ring

    def leave(self, data: bytes, spool: Path | None = None) -> None:
        """A ring that a dead process has left."""
        ring = self.open(spool)
        ring.store(data)
        ring.close()


class PlaceTests(RingCase):
    def test_in_memory(self) -> None:
        """A ring lies in the directory in memory, for us alone; the spool links to it."""
        ring = self.open()
        (path,) = self.memory.iterdir()
        self.assertEqual(os.readlink(self.spool / "ring"), str(path))
        self.assertEqual(path.stat().st_mode & 0o777, 0o600)
        ring.close()
        forget_ring(self.spool)
        self.assertEqual([*self.memory.iterdir(), *self.spool.iterdir()], [])

    def test_in_spool(self) -> None:
        """Where there is no such directory it lies in the spool, and is found there as well."""
        shutil.rmtree(self.memory)
        self.leave(b"abc")
        self.assertTrue((self.spool / "ring").is_file())
        ring = self.open()
        self.assertEqual(ring.stored, 3)
        ring.close()
        forget_ring(self.spool)
        self.assertEqual(list(self.spool.iterdir()), [])

    def room(self, size: int) -> None:
        """The file system in memory has room for so many bytes."""
        found = os.statvfs_result((1024, 1024, 1 << 30, 0, size // 1024, 0, 0, 0, 0, 255))
        self.patch(os, "statvfs", lambda path: found)
        self.patch(os, "posix_fallocate", lambda fd, start, size: os.truncate(fd, size))

    def test_little_room(self) -> None:
        """All rings together take no more than their part of the room that is free, in whole pages."""
        for room, workers, size, expected in (
            (64 * MIB, 1, 32 * MIB, 16 * MIB),
            (64 * MIB, 4, 32 * MIB, 4 * MIB),
            (100 * MIB + 20480, 2, 32 * MIB, (100 * MIB + 20480) // 8 // 4096 * 4096),
            (1024 * MIB, 8, 32 * MIB, 32 * MIB),
            (MIB, 1, 4096, 4096),
        ):
            self.room(room)
            ring, path = open_ring(self.spool, self.memory, size, workers)
            self.assertEqual((ring.capacity, path.parent), (expected, self.memory))
            ring.close()
            forget_ring(self.spool)

    def test_too_little_room(self) -> None:
        """A ring that would be too small to be of use in memory lies on the disk, whole, with a warning."""
        for room, workers in ((64 * MIB, 16), (4 * MIB, 1), (0, 1)):
            self.room(room)
            with capturedLogs() as logged:
                ring, path = open_ring(self.spool, self.memory, 32 * MIB, workers)
            self.assertEqual((ring.capacity, path), (32 * MIB, self.spool / "ring"))
            self.assertEqual([event["log_level"] for event in logged], [LogLevel.warn])
            ring.close()
            forget_ring(self.spool)
        self.assertEqual(list(self.memory.iterdir()), [])

    def test_refused_in_memory(self) -> None:
        """Whatever refuses a ring in memory, it lies on the disk then."""
        for number in (errno.EROFS, errno.EACCES, errno.EDQUOT, errno.EIO):
            with mock.patch.object(rings, "_new_path", side_effect=OSError(number, "no")):
                ring, path = open_ring(self.spool, self.memory, SIZE)
            self.assertEqual(path, self.spool / "ring")
            ring.close()
            forget_ring(self.spool)

    def test_small_disk(self) -> None:
        """On a disk without much room the ring is as large as can be had."""
        shutil.rmtree(self.memory)

        def reserve(fd: int, start: int, size: int) -> None:
            if size > 9 * MIB:
                raise OSError(errno.ENOSPC, "No space left on device")
            os.truncate(fd, size)

        self.patch(os, "posix_fallocate", reserve)
        ring, path = open_ring(self.spool, self.memory, 32 * MIB)
        self.assertEqual((ring.capacity, path), (8 * MIB, self.spool / "ring"))
        ring.close()

    def test_read_only(self) -> None:
        """A ring whose file system cannot be written any more stays where it is; there is another then."""
        self.leave(b"abc")
        (left,) = self.memory.iterdir()

        def refuse(path: Path) -> int:
            raise OSError(errno.EROFS, "Read-only file system", str(path))

        with mock.patch.object(rings, "_open_ours", refuse), mock.patch.object(Path, "unlink", refuse_unlink):
            ring, path = open_ring(self.spool, Path(self.mktemp()), SIZE)
        self.assertEqual((ring.stored, path), (0, self.spool / "ring"))
        self.assertTrue(left.exists())
        ring.close()

    def test_found_after_move(self) -> None:
        """A ring is found though the directory of new ones, or the spool's own name, is another by now."""
        self.leave(b"abc")
        moved = self.root / "other"
        self.spool.rename(moved)
        ring, _ = open_ring(moved, Path(self.mktemp()), SIZE)
        self.assertEqual(ring.stored, 3)
        ring.close()

    def test_no_room(self) -> None:
        """A ring that cannot be had anywhere is an error with its path, and leaves no file."""

        def refuse(fd: int, start: int, size: int) -> None:
            raise OSError(28, "No space left on device")

        self.patch(os, "posix_fallocate", refuse)
        error = self.assertRaises(OSError, self.open)
        self.assertEqual(Path(str(error.filename)), self.spool / "ring")
        self.assertEqual([*self.memory.iterdir(), *self.spool.iterdir()], [])
        self.patch(os, "posix_fallocate", lambda fd, start, size: os.truncate(fd, size))
        self.open().close()

    def test_in_use(self) -> None:
        """A ring that is in use is not taken up by a second."""
        ring = self.open()
        self.assertRaises(SpoolBusy, self.open)
        ring.close()
        self.open().close()

    def test_nonsense(self) -> None:
        """What is no ring, or another stream's, makes room for a new one."""
        self.leave(b"abc")
        (path,) = self.memory.iterdir()
        path.write_bytes(b"?" * 9000)
        ring = self.open()
        self.assertEqual((ring.taken, ring.stored), (0, 0))
        ring.close()
        self.assertEqual(len(list(self.memory.iterdir())), 1)

    def test_planted(self) -> None:
        """A file of somebody else, or a link in the ring's place, is not used."""
        self.leave(b"abc")
        (path,) = self.memory.iterdir()
        self.patch(os, "geteuid", lambda: os.getuid() + 1)
        self.assertRaises(PermissionError, self.open)
        self.patch(os, "geteuid", os.getuid)
        path.rename(path.with_suffix(".real"))
        path.symlink_to(path.with_suffix(".real"))
        self.assertRaises(OSError, self.open)


class UnusedTests(RingCase):
    def names(self) -> list[Path]:
        return sorted(self.memory.iterdir())

    def remove(self, after: float = 0.0) -> list[Path]:
        """What is left of rings when those that nobody uses have been removed, so many seconds from now."""
        remove_unused(self.memory, time.time() + after)
        return self.names()

    def test_in_use(self) -> None:
        """A ring that is in use stays, though it is empty."""
        ring = self.open()
        self.assertEqual(len(self.remove(10 * DAY)), 1)
        ring.close()

    def test_empty(self) -> None:
        """A ring that holds nothing, and that nobody uses, goes; its spool finds another."""
        self.open().close()
        self.assertEqual(self.remove(), [])
        self.open().close()

    def test_waited_for(self) -> None:
        """A ring that its spool will come back for stays, however long that takes."""
        self.leave(b"abc")
        self.assertEqual(len(self.remove(100 * DAY)), 1)
        self.assertEqual(salvage(self.spool), 3)

    def test_another_since(self) -> None:
        """One whose spool has another ring by now goes."""
        self.leave(b"abc")
        (self.spool / "ring").unlink()
        self.leave(b"def")
        self.assertEqual(len(self.remove()), 1)
        self.assertEqual(salvage(self.spool), 3)
        self.assertEqual(stream(self.spool), b"def")

    def test_spool_gone(self) -> None:
        """One whose spool is gone stays for a day."""
        self.leave(b"abc")
        shutil.rmtree(self.root)
        self.assertEqual(len(self.remove(DAY - 60)), 1)
        self.assertEqual(self.remove(DAY + 60), [])

    def test_others(self) -> None:
        """Files of others, links, and what is no ring stay; the beginning of a ring stays for a day."""
        (self.memory / "of somebody else").write_bytes(b"x")
        (self.memory / f"logging-proxy-{os.geteuid() + 1}-00.ring").write_bytes(b"x")
        link = self.memory / f"logging-proxy-{os.geteuid()}-01.ring"
        link.symlink_to(self.memory / "of somebody else")
        (self.memory / f"logging-proxy-{os.geteuid()}-02.ring").write_bytes(b"")
        self.assertEqual(len(self.remove()), 4)
        self.assertEqual(len(self.remove(2 * DAY)), 3)
        remove_unused(self.memory / "none")


class SalvageTests(RingCase):
    def test_saved(self) -> None:
        """What a dead proxy left in its ring is in its spool's segments afterwards, once."""
        files = SegmentFiles(self.spool, 0, 1 << 30)
        files.append(b"before ")
        files.close()
        self.leave(b"after")
        self.assertEqual(salvage(self.spool), 5)
        self.assertEqual(stream(self.spool), b"before after")
        self.assertEqual(list(self.memory.iterdir()), [])
        self.assertEqual(salvage(self.spool), 0)
        self.assertEqual(stream(self.spool), b"before after")
        ring = self.open()
        self.assertEqual(ring.stored, 12)
        ring.close()

    def test_all(self) -> None:
        """Every ring that nobody holds is emptied; a spool in use is left as it is."""
        names = ("1", "2", "3")
        for name in names:
            self.leave(name.encode(), self.make_spool(name))
        busy = lock_spool(self.root / "2")
        self.addCleanup(os.close, busy)
        (self.root / "file").write_bytes(b"")
        (self.root / "link").symlink_to(self.root / "1")
        salvage_all(self.root)
        self.assertEqual([stream(self.root / name) for name in names], [b"1", b"", b"3"])
        self.assertEqual(len(list(self.memory.iterdir())), 1)

    def test_ring_in_use(self) -> None:
        """A ring in use is left alone, even when its spool has lost its lock with its directory."""
        ring = self.open()
        ring.store(b"abc")
        (self.spool / "lock").unlink(missing_ok=True)
        salvage_all(self.root)
        self.assertEqual(segments(self.spool), [])
        self.assertEqual(len(list(self.memory.iterdir())), 1)
        ring.close()
        salvage_all(self.root)
        self.assertEqual(stream(self.spool), b"abc")

    def test_trouble(self) -> None:
        """A spool that cannot be written keeps its ring, and the others are seen to."""
        self.leave(b"abc")
        self.leave(b"def", self.make_spool("5602"))
        os.symlink("/nowhere", self.spool / segment_name(0))
        salvage_all(self.root)
        self.assertEqual(stream(self.root / "5602"), b"def")
        os.unlink(self.spool / segment_name(0))
        salvage_all(self.root)
        self.assertEqual(stream(self.spool), b"abc")

    def test_segments_deleted(self) -> None:
        """What is in the ring is saved though the segments before it are gone."""
        files = SegmentFiles(self.spool, 0, 1 << 30)
        ring = self.open()
        ring.store(b"before")
        files.append(b"before")
        files.close()
        ring.take(6)
        ring.store(b"after")
        ring.close()
        os.unlink(self.spool / segment_name(0))
        self.assertEqual(salvage(self.spool), 5)
        self.assertEqual(stream(self.spool, 6), b"after")

    def test_no_root(self) -> None:
        """Where there are no spools nothing is made."""
        salvage_all(self.root / "nowhere")
        self.assertFalse((self.root / "nowhere").exists())
        self.assertEqual(list(self.memory.iterdir()), [])

    def test_killed_while_saving(self) -> None:
        """What was saved already is not saved again when saving was cut short before the ring was removed."""
        self.leave(b"abc")
        self.patch(rings, "forget_ring", lambda spool: None)
        salvage(self.spool)
        self.assertEqual(len(list(self.memory.iterdir())), 1)
        salvage(self.spool)
        self.assertEqual(stream(self.spool), b"abc")

    def test_consumer_ahead(self) -> None:
        """Nothing is read from a ring that ends before what was consumed."""
        self.leave(b"abc")
        (self.spool / "consumer.json").write_text(json.dumps({"offset": 9}))
        self.assertEqual(salvage(self.spool), 0)
        self.assertEqual(last_offset(self.spool), 9)
