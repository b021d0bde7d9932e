"""Segment files: whole blocks or none, whatever the disk does, and room again when there can be."""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
from pathlib import Path
from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.recording import disk
from logging_proxy.recording.disk import Disk, SegmentFiles, last_offset, make_private_directory, spool_size
from logging_proxy.recording.segments import BLOCK, block_header, segment_name
from logging_proxy.test.capture_stage import (
    BROKEN,
    FULL,
    LIMIT,
    BadDisk,
    Fate,
    Short,
    blocks,
    let_go,
    segments,
    stream,
)


class DiskCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir(mode=0o700)

    def open(self, end: int = 0, limit: int = LIMIT, bad: BadDisk | None = None) -> SegmentFiles:
        files = SegmentFiles(self.directory, end, limit, disk=bad.disk if bad is not None else None)
        self.addCleanup(let_go, files)
        return files


class AppendTests(DiskCase):
    def test_blocks(self) -> None:
        """Each append is a block at the end of the newest segment, which only we can read."""
        files = self.open(7)
        files.append(b"abc")
        files.append(memoryview(b"defgh"))
        self.assertEqual(blocks(self.directory), [(7, b"abc"), (10, b"defgh")])
        self.assertEqual((files.end, segments(self.directory)), (15, [7]))
        mode = (self.directory / segment_name(7)).stat().st_mode
        self.assertEqual(stat.S_IMODE(mode), 0o600)

    def test_new_segment(self) -> None:
        """A segment that is long enough is followed by one named after the next offset."""
        files = self.open(limit=8 * 100)
        for _ in range(4):
            files.append(b"x" * 60)
        self.assertEqual(segments(self.directory), [0, 120])
        self.assertEqual(stream(self.directory), b"x" * 240)

    def test_refused(self) -> None:
        """A block that the disk refuses leaves no trace; the next attempt puts it where it belongs."""
        for fate in (FULL, BROKEN, errno.EDQUOT, errno.EROFS):
            bad = BadDisk(None, fate, fate)
            files = self.open(last_offset(self.directory), bad=bad)
            files.append(b"one ")
            self.assertEqual(self.assertRaises(OSError, files.append, b"two ").errno, fate)
            files.append(b"two ")
        self.assertEqual(stream(self.directory), b"one two " * 4)

    def test_short_write(self) -> None:
        """A write that was cut short is finished, or undone with the reason that the next one gives."""
        bad = BadDisk(Short(10), Short(7), None)
        files = self.open(bad=bad)
        files.append(b"abc")
        bad.fates.extend([Short(29), FULL])
        files.append(b"defghi")
        self.assertEqual(blocks(self.directory), [(0, b"abc"), (3, b"defghi")])
        self.assertEqual(segments(self.directory), [0, 3])
        bad.always = Short(0)
        self.assertEqual(self.assertRaises(OSError, files.append, b"x").errno, errno.EIO)

    def test_room_can_be_made(self) -> None:
        """
        After a refusal there is a new segment, though an empty one.

        The consumer deletes any segment but the newest; on a disk that the
        newest has filled there would never be room again.
        """
        bad = BadDisk(None)
        bad.always = FULL
        files = self.open(bad=bad)
        files.append(b"one")
        for _ in range(3):
            self.assertRaises(OSError, files.append, b"two")
        self.assertEqual(segments(self.directory), [0, 3])
        os.unlink(self.directory / segment_name(0))
        bad.always = None
        files.append(b"two")
        self.assertEqual(blocks(self.directory), [(3, b"two")])

    def test_damage_is_overwritten(self) -> None:
        """Where not even cutting off works, the rest of a refused block is in no reader's way."""
        bad = BadDisk()
        files = self.open(bad=bad)
        files.append(b"one")
        self.patch(os, "ftruncate", refuse)
        bad.fates.extend([Short(20), FULL])
        self.assertRaises(OSError, files.append, b"two")
        self.patch(os, "ftruncate", lambda fd, size: None)
        files.append(b"two")
        files.append(b"three")
        self.assertEqual(stream(self.directory), b"onetwothree")

    def test_limit(self) -> None:
        """At the limit blocks are refused; when segments have been consumed they are taken again."""
        limit = 8 * 1000
        files = self.open(limit=limit)
        error = None
        for _ in range(100):
            try:
                files.append(b"x" * 900)
            except OSError as found:
                error = found
                break
        assert error is not None
        self.assertEqual((error.errno, error.strerror), (errno.EDQUOT, "the spool's limit is reached"))
        self.assertLessEqual(spool_size(self.directory), limit + BLOCK.size + 900)
        for start in segments(self.directory)[:-1]:
            os.unlink(self.directory / segment_name(start))
        files.append(b"y")
        self.assertEqual(blocks(self.directory)[-1][1], b"y")

    def test_cannot_be_cut(self) -> None:
        """A new segment that cannot be made empty leaves no descriptor behind."""
        files = self.open()
        before = len(os.listdir("/dev/fd"))
        self.patch(os, "ftruncate", refuse)
        for _ in range(5):
            self.assertRaises(OSError, files.append, b"one")
        self.assertEqual(len(os.listdir("/dev/fd")), before)

    def test_directory_removed(self) -> None:
        """When the directory was removed, it is there again with the next block, at the next offset."""
        settled = []
        files = SegmentFiles(self.directory, 0, LIMIT, lambda: settled.append(self.directory.is_dir()))
        self.addCleanup(let_go, files)
        files.append(b"one")
        shutil.rmtree(self.directory)
        files.append(b"two")
        self.assertEqual(blocks(self.directory), [(3, b"two")])
        self.assertEqual(settled, [True])

    def test_segment_removed(self) -> None:
        """When the newest segment was deleted, a new one is begun."""
        files = self.open()
        files.append(b"one")
        os.unlink(self.directory / segment_name(0))
        files.append(b"two")
        self.assertEqual(blocks(self.directory), [(3, b"two")])

    def test_settling_fails(self) -> None:
        """A directory that could not be made ours is not written to until it is."""
        refusals = [OSError(BROKEN, "no"), None]

        def settle() -> None:
            if (refusal := refusals.pop(0)) is not None:
                raise refusal

        shutil.rmtree(self.directory)
        files = SegmentFiles(self.directory, 0, LIMIT, settle)
        self.addCleanup(let_go, files)
        self.assertRaises(OSError, files.append, b"one")
        self.assertEqual(list(self.directory.glob("*.seg")), [])
        files.append(b"one")
        self.assertEqual(stream(self.directory), b"one")

    def test_link(self) -> None:
        """A link in a segment's place is not followed."""
        victim = Path(self.mktemp())
        victim.write_bytes(b"precious")
        os.symlink(victim.absolute(), self.directory / segment_name(0))
        self.assertRaises(OSError, self.open().append, b"x")
        self.assertEqual(victim.read_bytes(), b"precious")

    @settings(deadline=None, max_examples=60)
    @given(
        st.lists(
            st.tuples(st.binary(min_size=1, max_size=90), st.sampled_from([None, FULL, Short(1), Short(26)]))
        )
    )
    def test_any_trouble(self, steps: list[tuple[bytes, Fate]]) -> None:
        """Whatever the disk refuses, what was appended is the stream, and the end is known from the files."""
        directory = Path(self.mktemp())
        directory.mkdir()
        bad = BadDisk()
        files = SegmentFiles(directory, 0, 8 * 200, disk=bad.disk)
        expected = b""
        for data, fate in steps:
            bad.fates.extend([fate, fate])
            try:
                files.append(data)
                expected += data
            except OSError:
                pass
            bad.fates.clear()
            self.assertEqual(last_offset(directory), len(expected))
        self.assertEqual(stream(directory), expected)
        let_go(files)


class SyncTests(DiskCase):
    def test_oldest_first(self) -> None:
        """Ended segments are synced before the newest, and closed; the newest stays open."""
        bad = BadDisk()
        files = self.open(limit=8 * 40, bad=bad)
        for _ in range(3):
            files.append(b"x" * 40)
        self.assertEqual(files.unsynced, 2)
        files.sync()
        inodes = [(self.directory / segment_name(start)).stat().st_ino for start in (0, 40, 80)]
        self.assertEqual(bad.synced, inodes)
        self.assertEqual(files.unsynced, 0)
        files.append(b"y")
        files.close()
        self.assertEqual(stream(self.directory)[-1:], b"y")

    def test_refused(self) -> None:
        """A sync that fails says so, after it has tried every file."""
        bad = BadDisk()
        bad.sync_fate = BROKEN
        files = self.open(limit=8 * 40, bad=bad)
        files.append(b"x" * 40)
        files.append(b"x" * 40)
        self.assertEqual(self.assertRaises(OSError, files.sync).errno, BROKEN)
        self.assertEqual(files.unsynced, 0)
        bad.sync_fate = None
        files.sync()

    def test_name_is_owed(self) -> None:
        """A segment's name that could not be synced is synced the next time; until then that fails."""
        tried: list[Path] = []
        fates: list[OSError | None] = [OSError(BROKEN, "no"), OSError(BROKEN, "no"), None]

        def sync(path: Path) -> None:
            tried.append(path)
            if (fate := fates.pop(0)) is not None:
                raise fate

        files = self.open()
        files.append(b"x")
        self.patch(disk, "sync_directory", sync)
        self.assertRaises(OSError, files.sync)
        self.assertRaises(OSError, files.sync)
        files.sync()
        files.sync()
        self.assertEqual(tried, [self.directory] * 3)

    def test_segment_ends_meanwhile(self) -> None:
        """The newest segment may end while it is being synced: no other descriptor is synced for it."""
        bad = BadDisk()
        files = self.open(limit=8 * 40, bad=bad)
        files.append(b"x" * 40)
        descriptors: list[int] = []

        class Ending:
            """As the descriptor is when the other thread ends the segment after each look at it."""

            def __get__(self, of: SegmentFiles, kind: type) -> int:
                value: int = of.__dict__.pop("_fd", -1)
                return value

            def __set__(self, of: SegmentFiles, value: int) -> None:
                of.__dict__["_fd"] = value

        files._disk = Disk(files._disk.open, files._disk.write, descriptors.append)
        fd = files._fd
        with mock.patch.object(SegmentFiles, "_fd", Ending(), create=True):
            files.sync()
        os.close(fd)
        files._fd = -1
        self.assertEqual(descriptors, [fd])

    def test_nothing(self) -> None:
        """Without a segment there is nothing to sync, and nothing is left."""
        bad = BadDisk()
        files = self.open(bad=bad)
        files.sync()
        files.close()
        self.assertEqual(bad.synced, [])
        self.assertEqual(list(self.directory.glob("*.seg")), [])


class LastOffsetTests(DiskCase):
    def write(self, start: int, content: bytes) -> None:
        (self.directory / segment_name(start)).write_bytes(content)

    def consumed(self, text: str) -> None:
        (self.directory / "consumer.json").write_text(text)

    def test_empty(self) -> None:
        """A spool without segments begins at 0, or where its consumer has got to."""
        self.assertEqual(last_offset(self.directory), 0)
        self.consumed(json.dumps({"offset": 77}))
        self.assertEqual(last_offset(self.directory), 77)

    def test_cut(self) -> None:
        """Every cut of the newest segment gives the end of its last whole block."""
        first, second = block_header(5, b"abc") + b"abc", block_header(8, b"defg") + b"defg"
        self.write(0, block_header(0, b"01234") + b"01234")
        for size in range(len(first + second) + 1):
            self.write(5, (first + second)[:size])
            whole = 12 if size == len(first + second) else 8 if size >= len(first) else 5
            self.assertEqual(last_offset(self.directory), whole)

    def test_consumer(self) -> None:
        """A consumer that is behind changes nothing; one that is ahead has seen what was lost since."""
        self.write(5, block_header(5, b"abc") + b"abc")
        self.consumed(json.dumps({"offset": 6}))
        self.assertEqual(last_offset(self.directory), 8)
        self.consumed(json.dumps({"offset": 9}))
        self.assertEqual(last_offset(self.directory), 9)

    def test_nonsense(self) -> None:
        """A consumer's file that says nothing usable is as none."""
        self.write(5, b"")
        for text in (
            "",
            "[]",
            "{}",
            '{"offset": null}',
            '{"offset": "x"}',
            "?",
        ):
            self.consumed(text)
            self.assertEqual(last_offset(self.directory), 5)

    def test_other_files(self) -> None:
        """Only names of segments count."""
        for name in (
            "lock",
            "consumer.json.tmp",
            "0.seg",
            "00000000000000ff.seg.old",
            "00000000000000FF.seg",
        ):
            (self.directory / name).write_bytes(b"x" * 9)
        self.assertEqual((last_offset(self.directory), spool_size(self.directory)), (0, 0))


class DirectoryTests(SynchronousTestCase):
    def test_made(self) -> None:
        """A directory is made with all above it, for us alone."""
        path = Path(self.mktemp()) / "a" / "b"
        make_private_directory(path)
        self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o700)

    def test_open_to_others(self) -> None:
        """One that others may write to is refused, with its name."""
        path = Path(self.mktemp())
        path.mkdir()
        for mode in (0o720, 0o702):
            path.chmod(mode)
            error = self.assertRaises(PermissionError, make_private_directory, path)
            self.assertEqual(error.filename, str(path))
        path.chmod(0o755)
        make_private_directory(path)


def refuse(fd: int, size: int) -> None:
    raise OSError(BROKEN, "no")
