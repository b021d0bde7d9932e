"""From a spool directory to capture files, with crashes, damage and clashes in between."""

from __future__ import annotations

import errno
import hashlib
import mmap
import os
import stat
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.captures.stored import Stored
from logging_proxy.logserver.ingest import consumer as consumer_module
from logging_proxy.logserver.ingest.consumer import SpoolConsumer
from logging_proxy.logserver.store.directory import LogDirectory
from logging_proxy.logserver.store.file_store import FileStore
from logging_proxy.logserver.store.system import System
from logging_proxy.recording import aligned
from logging_proxy.recording.directories import UnsafeDirectory
from logging_proxy.recording.disk import SegmentFiles
from logging_proxy.recording.segments import block_header
from logging_proxy.test.capture_stage import let_go
from logging_proxy.test.logserver_spools import (
    ID,
    WALL_NS,
    Script,
    SpoolWriter,
    Told,
    body_of,
    documents,
    other_id,
    read_directory,
    session,
)

ID_TEXT = "092d0424-3f1e-4f0f-8c5b-5c0a7d0e9f11"


class Crash(Exception):
    """The process is killed here."""


class Doomed(System):
    """Kills the process at the `left`-th call that changes the log directory; no call works afterwards."""

    def __init__(self, left: int, system: System | None = None) -> None:
        self.left = left
        system = system or System()
        self.close = system.close
        for name in ("open", "pwrite", "rename", "unlink", "fsync", "fdatasync", "sync_filesystem"):
            setattr(self, name, self._counted(getattr(system, name)))

    def _counted(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **keywords: Any) -> Any:
            self.left -= 1
            if self.left < 0:
                raise Crash
            return call(*args, **keywords)

        return counted


class Full(System):
    """A disk on which nothing more can be written while `full`."""

    full = False

    def __init__(self) -> None:
        self.pwrite = self._pwrite  # type: ignore[assignment]

    def _pwrite(self, fd: int, data: bytes, at: int) -> int:
        if self.full:
            half = len(data) // 2
            if half == 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return os.pwrite(fd, data[:half], at)
        return os.pwrite(fd, data, at)


class Careful(System):
    """
    Checks what is synced before metadata get their names, and counts those.

    All bytes of bodies; and, before a request's, the metadata of its response, for a
    request's metadata say how the exchange ended.  A power cut may keep anything else.

    Syncing a file that was just made keeps its name as well, as file systems do; a name
    that was given later is kept when the directory is synced.
    """

    def __init__(self) -> None:
        self.names: dict[int, str] = {}
        self.unsynced: set[str] = set()
        self.renamed: set[str] = set()
        self.responses: set[str] = set()
        """Ids, as far as names have them, of exchanges whose response has metadata."""
        self.published = self.unsynced_names = self.everything = 0
        for name in ("open", "pwrite", "fdatasync", "sync_filesystem", "rename", "fsync", "close"):
            setattr(self, name, getattr(self, f"_{name}"))

    def _open(self, path: str, flags: int, *args: Any, **keywords: Any) -> int:
        fd = os.open(path, flags, *args, **keywords)
        self.names[fd] = path
        if flags & os.O_CREAT and path.endswith("_metadata.json"):
            self._publish(path)
        return fd

    def _publish(self, path: str) -> None:
        bodies = {name for name in self.unsynced if not name.endswith("_metadata.json")}
        assert not bodies, bodies
        _, _, id, side, _ = path.split("_")
        if side == "request":
            assert id in self.responses, f"{path} before its response's"
            waiting = {name for name in self.unsynced | self.renamed if f"_{id}_response_" in name}
            assert not waiting, waiting
        else:
            self.responses.add(id)
        self.published += 1
        self.unsynced_names += 1

    def _pwrite(self, fd: int, data: bytes, at: int) -> int:
        self.unsynced.add(self.names[fd])
        return os.pwrite(fd, data, at)

    def _close(self, fd: int) -> None:
        del self.names[fd]
        os.close(fd)

    def _fdatasync(self, fd: int) -> None:
        self.unsynced.discard(self.names[fd])

    def _sync_filesystem(self, fd: int) -> None:
        self.everything += 1
        self.unsynced.clear()
        self.renamed.clear()

    def _rename(self, old: str, new: str, **keywords: Any) -> None:
        os.rename(old, new, **keywords)
        if old in self.unsynced:
            self.unsynced.remove(old)
            self.unsynced.add(new)
        self._publish(new)
        self.renamed.add(new)

    def _fsync(self, fd: int) -> None:
        self.unsynced_names = 0
        self.renamed.clear()


class ConsumerTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.log_dir = self.mktemp()
        self.spool = os.path.join(self.log_dir, ".spool", "5601")
        self.now = 0.0
        os.makedirs(self.log_dir, mode=0o700)
        os.chmod(self.log_dir, 0o700)

    def at(self, path: str) -> None:
        """Works in a new pair of directories."""
        os.makedirs(path, mode=0o700)
        self.log_dir, self.spool = path, os.path.join(path, ".spool", "5601")

    def consumer(self, system: System | None = None, told: list[Stored] | None = None) -> SpoolConsumer:
        directory = LogDirectory(self.log_dir, system)
        directory.open()
        self.addCleanup(directory.close)
        keep = (told if told is not None else []).append
        consumer = SpoolConsumer(self.spool, FileStore(directory), lambda: self.now, Told(keep))
        self.addCleanup(consumer.close)
        consumer.open()
        return consumer

    def consume(self, system: System | None = None) -> SpoolConsumer:
        consumer = self.consumer(system)
        while consumer.turn():
            pass
        consumer.settle()
        return consumer

    def one(self, stream_type: str = "response") -> dict[str, Any]:
        return documents(self.log_dir)[ID_TEXT, stream_type]


def interleaved() -> list[bytes]:
    """Records of five exchanges that overlap: complete, cut, without a response, tunnelled, interrupted."""
    one, two, three = Script(1, other_id(1)), Script(2, other_id(2)), Script(3, other_id(3))
    four, five = Script(4, other_id(4)), Script(5, other_id(5))
    again = Script(4, other_id(6))
    return [
        session(),
        one.head(),
        two.head(),
        one.request(b"one asks "),
        five.head(),
        two.request(b"two asks", last=True),
        one.request(b"more", last=True),
        two.response_head(),
        one.response_head(),
        three.head(),
        one.response(b"one is "),
        two.response(b"two is answered"),
        three.end("connect_failed", "refused"),
        four.head(),
        one.response(b"answered", last=True),
        two.end("upstream_reset", "reset"),
        one.end(),
        four.response_head(),
        five.request(b"never ends"),
        session(clock=10),
        again.head(),
        again.end(),
    ]


class StoringTests(ConsumerTestCase):
    def test_files(self) -> None:
        """The files hold the heads as recorded, the client's URL, and the bodies."""
        SpoolWriter(self.spool).blocks([session(), *Script().simple()])
        self.consume()
        files = read_directory(self.log_dir)
        self.assertEqual(len(files), 4)
        request, response = self.one("request"), self.one()
        self.assertEqual(
            files[request["filename"]],
            b"POST /v1/chat HTTP/1.1\r\nHost: 127.0.0.1:1234\r\nX-Case: a\r\nx-case: b\r\n"
            b"X-Proxy-Path: http://localhost:5601/lmstudio/v1/chat\r\n\r\n" + b'{"a":1}',
        )
        self.assertEqual(
            files[response["filename"]],
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-Caf\xe9: \xff\r\n\r\n" + b'{"b":2}',
        )

    def test_names(self) -> None:
        """Names are stamp, 8 hex digits and stream type; metadata and bytes share theirs."""
        SpoolWriter(self.spool).blocks(Script().simple())
        self.consume()
        for name in read_directory(self.log_dir):
            self.assertRegex(
                name,
                r"\A2025-09-1\d_\d\d-\d\d-\d9\.12[35]_092d0424_(request|response)(\.bin|_metadata\.json)\Z",
            )
        for document in documents(self.log_dir).values():
            self.assertIn(document["filename"].replace(".bin", "_metadata.json"), os.listdir(self.log_dir))

    def test_bytes_and_digest(self) -> None:
        """`bytes` and `sha256` are those of the stored body."""
        body = os.urandom(700_000)
        script = Script()
        writer = SpoolWriter(self.spool)
        writer.blocks([script.head(), script.response_head()])
        for at in range(0, len(body), 65_536):
            writer.block(script.response(body[at : at + 65_536]))
        writer.block(script.end())
        self.consume()
        response = self.one()
        self.assertEqual(body_of(self.log_dir, response), body)
        self.assertEqual(response["sha256"], hashlib.sha256(body).hexdigest())
        self.assertEqual((response["bytes"], len(response["pieces"])), (len(body), 11))

    def test_past_the_page_cache(self) -> None:
        """A large body whose blocks were written directly, among small exchanges, and split by a crash."""
        if not hasattr(os, "O_DIRECT"):
            raise self.skipTest("there is no such way here")
        self.patch(aligned, "BEYOND", 1 << 20)
        body, large, small = os.urandom(5 << 20), Script(1, other_id(1)), Script(2, other_id(2))
        os.makedirs(self.spool, mode=0o700)
        files = SegmentFiles(Path(self.spool), 0, 1 << 30)
        memory = memoryview(mmap.mmap(-1, 2 << 20))
        self.addCleanup(let_go, files)
        files.append(session() + large.head() + large.request(b"", True) + large.response_head())
        for number, (start, end) in enumerate(((0, 1), (1, 2), (2, 2.7), (2.7, 3), (3, 4), (4, 5))):
            record = large.response(body[int(start * (1 << 20)) : int(end * (1 << 20))])
            memory[number * 100 : number * 100 + len(record)] = record
            files.append(memory[number * 100 : number * 100 + len(record)])
            if number == 2:
                files.append(b"".join(small.simple()))
                consumer = self.consume()
                consumer.close()
        files.append(large.response(b"", True) + large.end())
        self.consume()
        found = {
            document["id"]: document
            for (_, side), document in documents(self.log_dir).items()
            if side == "response"
        }
        response = found[str(uuid.UUID(bytes=other_id(1)))]
        self.assertEqual(body_of(self.log_dir, response), body)
        self.assertEqual(response["sha256"], hashlib.sha256(body).hexdigest())
        self.assertEqual((len(found), response["outcome"]), (2, "complete"))

    def test_private(self) -> None:
        """Whatever the umask, files are 0600 and nothing lies outside the log directory."""
        old = os.umask(0)
        self.addCleanup(os.umask, old)
        before = set(os.listdir("."))
        SpoolWriter(self.spool).blocks(interleaved())
        self.consume()
        for name in read_directory(self.log_dir):
            self.assertEqual(stat.S_IMODE(os.stat(os.path.join(self.log_dir, name)).st_mode), 0o600, name)
        self.assertEqual(stat.S_IMODE(os.stat(os.path.join(self.spool, "consumer.json")).st_mode), 0o600)
        self.assertEqual(set(os.listdir(".")), before)

    def test_no_response(self) -> None:
        """Without a response its metadata is there, and an empty file that holds the name."""
        script = Script()
        SpoolWriter(self.spool).blocks([script.head(), script.end("connect_failed", "refused")])
        self.consume()
        response = self.one()
        self.assertEqual((response["outcome"], response["status"]), ("connect_failed", None))
        self.assertEqual(read_directory(self.log_dir)[response["filename"]], b"")
        self.assertEqual(response["sha256"], hashlib.sha256(b"").hexdigest())

    def test_run(self) -> None:
        """Both halves of a session's exchanges are marked with its run, and those of the next are not."""
        one, two = Script(1, other_id(1)), Script(2, other_id(2))
        spool = SpoolWriter(self.spool)
        spool.blocks([session(run="nightly"), *one.simple(), session(clock=10), *two.simple()])
        self.consume()
        found = documents(self.log_dir)
        runs = {key: document.get("run") for key, document in found.items()}
        expected = {}
        for number, run in ((1, "nightly"), (2, None)):
            for half in ("request", "response"):
                expected[str(uuid.UUID(bytes=other_id(number))), half] = run
        self.assertEqual(runs, expected)

    def test_run_after_a_restart(self) -> None:
        """A logging server that continues in the middle of a run's session knows the run."""
        one, two = Script(1, other_id(1)), Script(2, other_id(2))
        first, *rest = one.simple()
        spool = SpoolWriter(self.spool)
        spool.blocks([session(run="nightly"), first])
        self.consume().close()
        spool.blocks([*rest, *two.simple()])
        self.consume()
        self.assertEqual({each["run"] for each in documents(self.log_dir).values()}, {"nightly"})

    def test_interleaved(self) -> None:
        """Exchanges that overlap do not mix."""
        SpoolWriter(self.spool).blocks(interleaved())
        self.consume()
        found = documents(self.log_dir)
        self.assertEqual(len(found), 12)
        by_outcome = sorted((d["outcome"], body_of(self.log_dir, d)) for d in found.values())
        self.assertEqual(
            by_outcome,
            [
                ("complete", b""),
                ("complete", b""),
                ("complete", b"one asks more"),
                ("complete", b"one is answered"),
                ("connect_failed", b""),
                ("connect_failed", b""),
                ("interrupted", b""),
                ("interrupted", b""),
                ("interrupted", b""),
                ("interrupted", b"never ends"),
                ("upstream_reset", b"two asks"),
                ("upstream_reset", b"two is answered"),
            ],
        )

    def test_open_exchange_is_readable(self) -> None:
        """After a turn the bytes of a running stream are in its file; metadata comes only with the end."""
        script = Script()
        writer = SpoolWriter(self.spool)
        writer.blocks([script.head(), script.response_head(), script.response(b"data: 1\n\n")])
        consumer = self.consumer()
        consumer.turn()
        files = read_directory(self.log_dir)
        self.assertEqual(len(files), 2)
        self.assertTrue(any(content.endswith(b"data: 1\n\n") for content in files.values()))
        self.assertEqual(consumer.open_exchanges, 1)

    def test_commits_are_batched(self) -> None:
        """Ended exchanges are published together, at most each 100 ms."""
        writer = SpoolWriter(self.spool)
        consumer = self.consumer()
        self.now = 10.0
        writer.blocks(Script(1, other_id(1)).simple())
        consumer.turn()
        self.assertEqual(consumer.stored, 1)
        writer.blocks(Script(2, other_id(2)).simple())
        writer.blocks(Script(3, other_id(3)).simple())
        consumer.turn()
        self.assertEqual(consumer.stored, 1)
        self.now = 10.1
        consumer.turn()
        self.assertEqual(consumer.stored, 3)

    def test_commits_with_a_backlog(self) -> None:
        """While there is more to read they come each half second, or when there is much to publish."""
        self.patch(consumer_module, "TURN_BYTES", 1)
        self.patch(consumer_module, "COMMIT_EXCHANGES", 4)
        writer = SpoolWriter(self.spool)
        consumer = self.consumer()
        stored = []
        for number, self.now in enumerate((10.0, 10.1, 10.49, 10.5, 10.5, 10.5, 10.5, 10.5, 10.9), 1):
            writer.block(b"".join(Script(number, other_id(number)).simple()))
            self.assertTrue(consumer.turn())
            stored.append(consumer.stored)
        self.assertEqual(stored, [1, 1, 1, 4, 4, 4, 4, 8, 8])
        consumer.turn()
        self.assertEqual(consumer.stored, 9)

    def test_commits_of_much(self) -> None:
        """However few exchanges it is, no more waits in memory than so many bytes."""
        self.patch(consumer_module, "TURN_BYTES", 1)
        self.patch(consumer_module, "COMMIT_BYTES", 2000)
        writer = SpoolWriter(self.spool)
        consumer = self.consumer()
        self.now = 10.0
        stored = []
        for number in range(1, 6):
            writer.block(b"".join(Script(number, other_id(number)).simple(response=bytes(900))))
            consumer.turn()
            stored.append(consumer.stored)
        self.assertEqual(stored, [1, 1, 3, 3, 5])

    def test_synced_before_published(self) -> None:
        """Metadata get their names only after all bytes are synced; they and the names are synced last."""
        for count, pieces in ((3, 1), (200, 1), (3, 500)):
            self.at(self.mktemp())
            scripts = [Script(n, other_id(n)) for n in range(1, count + 1)]
            body = [script.response(b"x") for script in scripts for _ in range(pieces)]
            heads = [script.head() + script.response_head() for script in scripts]
            SpoolWriter(self.spool).blocks([*heads, *body, *(script.end() for script in scripts)])
            system = Careful()
            self.consume(system)
            self.assertEqual((system.published, system.unsynced_names), (2 * count, 0))
            self.assertEqual(system.unsynced, set())
            self.assertEqual(system.everything > 0, count == 200)

    def test_many_open_files(self) -> None:
        """More streams than descriptors are served by opening files again."""
        scripts = [Script(n, other_id(n)) for n in range(1, 151)]
        writer = SpoolWriter(self.spool)
        writer.block(b"".join(s.head() + s.response_head() + s.response(b"a") for s in scripts))
        consumer = self.consumer()
        before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
        consumer.turn()
        if before:
            self.assertLess(len(os.listdir("/proc/self/fd")) - before, 150)
        writer.block(b"".join(s.response(b"b%d" % s.number) + s.end() for s in scripts))
        consumer.turn()
        consumer.settle()
        bodies = {body_of(self.log_dir, d) for d in documents(self.log_dir).values()} - {b""}
        self.assertEqual(bodies, {b"ab%d" % n for n in range(1, 151)})

    @settings(deadline=None, max_examples=30)
    @given(st.lists(st.integers(1, 400), max_size=30))
    def test_any_split(self, sizes: list[int]) -> None:
        """However the stream is cut into blocks and segments, the files are the same."""
        self.at(self.mktemp())
        stream, whole = b"".join(interleaved()), self.log_dir
        SpoolWriter(self.spool).block(stream)
        self.consume()
        self.at(self.mktemp())
        writer = SpoolWriter(self.spool)
        consumer = self.consumer()
        for number, size in enumerate(sizes):
            if part := stream[:size]:
                writer.block(part)
                stream = stream[size:]
            if number % 3 == 0 and part:
                writer.new_segment()
            self.now += 0.05
            consumer.turn()
        if stream:
            writer.block(stream)
        consumer.turn()
        consumer.settle()
        self.assertEqual(read_directory(self.log_dir), read_directory(whole))

    def test_byte_by_byte(self) -> None:
        """A spool that grows one byte at a time, blocks half written, gives the same files."""
        SpoolWriter(self.spool).blocks(interleaved())
        self.consume()
        expected = read_directory(self.log_dir)
        self.at(self.mktemp())
        writer = SpoolWriter(self.spool)
        consumer = self.consumer()
        for record in interleaved():
            block = block_header(writer.offset, record) + record
            writer.offset += len(record)
            for at in range(len(block)):
                writer.raw(block[at : at + 1])
                if at % 7 == 0:
                    consumer.turn()
        consumer.turn()
        consumer.settle()
        self.assertEqual(read_directory(self.log_dir), expected)


class CrashTests(ConsumerTestCase):
    def expected(self) -> dict[str, bytes]:
        SpoolWriter(self.spool).blocks(interleaved())
        self.consume()
        expected = read_directory(self.log_dir)
        self.at(self.mktemp())
        return expected

    def test_between_file_operations(self) -> None:
        """Killed at any call on the log directory, the next life ends with the same files, none doubled."""
        expected = self.expected()
        crashes = 0
        for left in range(1, 400):
            self.at(self.mktemp())
            SpoolWriter(self.spool).blocks(interleaved())
            try:
                self.consume(Doomed(left))
            except Crash:
                crashes += 1
                self.consume()
                self.assertEqual(read_directory(self.log_dir), expected, f"killed at call {left}")
            else:
                break
        self.assertGreater(crashes, 40)

    def test_synced_after_a_kill(self) -> None:
        """What a life that was killed had not synced is synced before the next one lets go of the spool."""
        large = Script(7, other_id(7))
        begun = large.head() + large.response_head() + b"".join(large.response(b"x") for _ in range(500))
        for before, records, calls in (
            ([], interleaved(), 40),
            ([], [begun, large.end()], 10),
            ([begun], [large.end()], 10),
        ):
            for left in range(1, 400):
                self.at(self.mktemp())
                writer, system = SpoolWriter(self.spool), Careful()
                writer.blocks(before)
                self.consume(system).close()
                writer.blocks(records)
                try:
                    self.consume(Doomed(left, system))
                except Crash:
                    self.consume(system)
                else:
                    break
                unsynced = system.unsynced, system.renamed, system.unsynced_names
                self.assertEqual(unsynced, (set(), set(), 0), f"killed at call {left}")
            self.assertGreater(left, calls)

    def test_killed_again_and_again(self) -> None:
        """A process that always dies after a few calls still gets through, for each life gets further."""
        expected = self.expected()
        SpoolWriter(self.spool).blocks(interleaved())
        for life in range(1, 300):
            try:
                self.consume(Doomed(life))
            except Crash:
                continue
            break
        self.assertEqual(read_directory(self.log_dir), expected)

    def test_after_each_block(self) -> None:
        """Stopped after any block, with or without a checkpoint there, the result is the same."""
        expected = self.expected()
        for checkpointed in (False, True):
            for stop in range(len(interleaved())):
                self.at(self.mktemp())
                writer = SpoolWriter(self.spool)
                writer.blocks(interleaved()[:stop])
                consumer = self.consumer()
                consumer.turn()
                if checkpointed:
                    consumer.checkpoint()
                writer.blocks(interleaved()[stop:])
                self.consume()
                self.assertEqual(read_directory(self.log_dir), expected, (stop, checkpointed))

    def test_every_block_another_life(self) -> None:
        """With a restart after each block, digests come from the files and are right."""
        expected = self.expected()
        writer = SpoolWriter(self.spool)
        for record in interleaved():
            writer.block(record)
            self.consume().close()
        self.assertEqual(read_directory(self.log_dir), expected)

    def test_checkpoint_lost(self) -> None:
        """Without the checkpoint everything is read again and nothing is doubled."""
        expected = self.expected()
        SpoolWriter(self.spool).blocks(interleaved())
        self.consume()
        for content in (
            None,
            b"{",
            b'{"version": 99}',
            b'{"version":1,"offset":0,"exchanges":[{}],"files":[]}',
        ):
            path = os.path.join(self.spool, "consumer.json")
            os.unlink(path)
            if content is not None:
                with open(path, "wb") as file:
                    file.write(content)
            self.consume()
            self.flushLoggedErrors()
            self.assertEqual(read_directory(self.log_dir), expected)

    def test_disk_full_and_recovery(self) -> None:
        """A full disk raises; opened again when there is space, nothing is missing and nothing doubled."""
        expected = self.expected()
        writer = SpoolWriter(self.spool)
        system = Full()
        consumer = self.consumer(system)
        for number, record in enumerate(interleaved()):
            writer.block(record)
            if number in (5, 12, 18):
                system.full = True
                self.assertRaises(OSError, consumer.turn)
                consumer.close()
                system.full = False
                consumer.open()
            self.now += 0.05
            consumer.turn()
        consumer.settle()
        self.assertEqual(read_directory(self.log_dir), expected)

    def test_file_removed_while_open(self) -> None:
        """A capture whose file was removed under way is never called complete."""
        script = Script()
        writer = SpoolWriter(self.spool)
        writer.blocks([script.head(), script.response_head(), script.response(b"12345")])
        self.consume().close()
        for name in read_directory(self.log_dir):
            os.unlink(os.path.join(self.log_dir, name))
        writer.blocks([script.response(b"678"), script.end()])
        self.consume()
        self.assertEqual(self.one()["outcome"], "interrupted")
        self.assertIn("removed", self.one()["error"])

    def test_file_replaced_while_open(self) -> None:
        """A file that somebody put in the place of ours is not written to, and storing goes on."""
        script = Script()
        writer = SpoolWriter(self.spool)
        writer.blocks([script.head(), script.response_head(), script.response(b"12345")])
        self.consume().close()
        victim = self.mktemp()
        open(victim, "wb").close()
        for name in read_directory(self.log_dir):
            os.unlink(os.path.join(self.log_dir, name))
            os.symlink(os.path.abspath(victim), os.path.join(self.log_dir, name))
        writer.blocks([script.response(b"678"), script.end()])
        self.consume()
        self.assertEqual(self.one()["outcome"], "interrupted")
        self.assertEqual(os.path.getsize(victim), 0)

    def test_file_linked_while_open(self) -> None:
        """A second name for our file, as some backups give, does no harm."""
        script = Script()
        writer = SpoolWriter(self.spool)
        writer.blocks([script.head(), script.request(b"1")])
        self.consume().close()
        (name,) = read_directory(self.log_dir)
        os.link(os.path.join(self.log_dir, name), self.mktemp())
        writer.blocks([script.request(b"2", last=True), script.end()])
        self.consume()
        self.assertEqual(self.one()["outcome"], "complete")

    def test_spool_replaced(self) -> None:
        """A spool that was removed and begun anew is read from its start; what was open is interrupted."""
        script = Script()
        SpoolWriter(self.spool).blocks([session(), script.head(), script.request(b"x" * 500)])
        self.consume().close()
        for name in os.listdir(self.spool):
            if name.endswith(".seg"):
                os.unlink(os.path.join(self.spool, name))
        SpoolWriter(self.spool).blocks(Script(1, other_id(5)).simple(b"", b"")[:1])
        consumer = self.consume()
        self.assertEqual(self.one()["outcome"], "interrupted")
        self.assertEqual(consumer.open_exchanges, 1)


class SegmentTests(ConsumerTestCase):
    def test_consumed_segments_go(self) -> None:
        """Segments behind a checkpoint are deleted, the newest stays, and reading goes on behind it."""
        writer = SpoolWriter(self.spool)
        for record in interleaved():
            writer.block(record)
            writer.new_segment()
        consumer = self.consume()
        segments = [name for name in os.listdir(self.spool) if name.endswith(".seg")]
        self.assertEqual(segments, [os.path.basename(writer.path)])
        writer.blocks(Script(9).simple())
        consumer.turn()
        consumer.settle()
        self.assertEqual(self.one()["outcome"], "complete")

    def test_segments_go_while_a_body_is_read(self) -> None:
        """A large body does not pile up in the spool until the next checkpoint by the clock."""
        self.patch(consumer_module, "CHECKPOINT_BYTES", 2 << 20)
        script = Script()
        writer = SpoolWriter(self.spool)
        consumer = self.consumer()
        self.now = 10.0
        writer.blocks([script.head(), script.response_head()])
        consumer.turn()
        for _ in range(8):
            writer.block(script.response(bytes(1 << 20)))
            writer.new_segment()
            while consumer.turn():
                pass
            self.assertLess(len([n for n in os.listdir(self.spool) if n.endswith(".seg")]), 5)

    def test_record_across_segments(self) -> None:
        """A segment whose last record is not whole yet is kept, and that record is read after a restart."""
        parts = Script().simple()
        for size in (1, 5, 23, 30):
            self.at(self.mktemp())
            writer = SpoolWriter(self.spool)
            writer.block(b"".join(parts[:3]) + parts[3][:size])
            writer.new_segment()
            consumer = self.consumer()
            consumer.turn()
            consumer.checkpoint()
            consumer.turn()
            consumer.checkpoint()
            consumer.close()
            writer.block(parts[3][size:] + parts[4])
            self.consume()
            self.assertEqual((self.one()["outcome"], self.one()["bytes"]), ("complete", 7), size)

    def test_torn_tail_then_new_segment(self) -> None:
        """Half a block at a segment's end is no damage when the next segment begins where it began."""
        script = Script()
        parts = script.simple()
        writer = SpoolWriter(self.spool)
        writer.blocks(parts[:3])
        writer.raw(block_header(writer.offset, parts[3]) + parts[3][:5])
        consumer = self.consumer()
        consumer.turn()
        writer.new_segment()
        writer.blocks(parts[3:])
        consumer.turn()
        consumer.settle()
        self.assertEqual((self.one()["outcome"], self.one()["notes"]), ("complete", []))

    def test_damage_in_the_middle(self) -> None:
        """A damaged block is told, what was open is not complete, and the next segment is stored whole."""
        hurt, fine = Script(1), Script(2, other_id(2))
        writer = SpoolWriter(self.spool)
        writer.blocks([hurt.head(), hurt.response_head()])
        at = os.path.getsize(writer.path)
        writer.blocks([hurt.response(b"gone" * 10), hurt.response(b"gone too")])
        with open(writer.path, "r+b") as file:
            file.seek(at + 30)
            file.write(b"\xff")
        writer.new_segment()
        writer.blocks([hurt.end(), *fine.simple()])
        consumer = self.consume()
        self.flushLoggedErrors()
        self.assertEqual(consumer.assembler.tally.damages, 1)
        self.assertEqual(self.one()["outcome"], "interrupted")
        self.assertIn("missing", self.one()["error"])
        self.assertEqual(len(documents(self.log_dir)), 4)

    def test_segment_missing_and_record_split(self) -> None:
        """After a gap that ends inside a record, reading goes on at the next whole record."""
        stream = b"".join(
            Script(n, other_id(n)).simple(b"q" * 50, b"r" * 50)[k] for n in (1, 2) for k in range(5)
        )
        writer = SpoolWriter(self.spool)
        writer.block(stream[:100])
        first = writer.path
        writer.new_segment()
        writer.block(stream[100:133])
        writer.new_segment()
        for at in range(133, len(stream), 10):
            writer.block(stream[at : at + 10])
        os.unlink(first)
        self.consume()
        self.flushLoggedErrors()
        outcomes = {document["outcome"] for document in documents(self.log_dir).values()}
        self.assertEqual((len(documents(self.log_dir)), outcomes), (2, {"complete"}))

    def test_large_block(self) -> None:
        """A block larger than a read is taken whole."""
        script = Script()
        body = os.urandom(3 << 20)
        SpoolWriter(self.spool).block(
            script.head() + script.response_head() + script.response(body) + script.end()
        )
        self.consume()
        self.assertEqual(self.one()["sha256"], hashlib.sha256(body).hexdigest())


class ClashTests(ConsumerTestCase):
    def test_two_with_one_name(self) -> None:
        """Of two exchanges with equal milliseconds and digits the second takes another name."""
        twin = ID[:4] + bytes(12)
        SpoolWriter(self.spool).blocks(
            [*Script(1).simple(), *Script(2, twin).simple(b"other", b"other")],
        )
        self.consume()
        found = documents(self.log_dir)
        self.assertEqual(len(found), 4)
        for (id, stream_type), document in found.items():
            own = body_of(self.log_dir, document) != b"other"
            self.assertEqual(own, id == ID_TEXT, (id, stream_type))
        self.assertTrue(any("_092d0424-2_request.bin" in name for name in read_directory(self.log_dir)))

    def test_many_with_one_id(self) -> None:
        """However often a sender uses one id, the first is stored and what others send is not held up."""
        writer = SpoolWriter(self.spool)
        writer.block(b"".join(b"".join(Script(number).simple()) for number in range(1, 1500)))
        writer.blocks(Script(2000, other_id(2)).simple())
        consumer = self.consume()
        self.assertEqual(len(documents(self.log_dir)), 4)
        self.assertEqual(consumer.assembler.tally.malformed_records, 1498)

    def test_both_open(self) -> None:
        """The same while both are open, across a restart."""
        one, two = Script(1), Script(2, ID[:4] + bytes(12))
        writer = SpoolWriter(self.spool)
        writer.blocks([one.head(), two.head(), one.request(b"one"), two.request(b"two")])
        self.consume().close()
        writer.blocks([two.request(b"2", last=True), one.request(b"1", last=True), one.end(), two.end()])
        self.consume()
        bodies = sorted(
            body_of(self.log_dir, d) for (_, kind), d in documents(self.log_dir).items() if kind == "request"
        )
        self.assertEqual(bodies, [b"one1", b"two2"])

    def name(self, end: str) -> str:
        from logging_proxy.captures.metadata import file_stamp

        return os.path.join(self.log_dir, f"{file_stamp(WALL_NS)}_092d0424_request{end}")

    def test_foreign_file(self) -> None:
        """A file that is not ours is neither opened nor changed."""
        with open(self.name(".bin"), "wb") as file:
            file.write(b"precious")
        SpoolWriter(self.spool).blocks(Script().simple())
        self.consume()
        with open(self.name(".bin"), "rb") as file:
            self.assertEqual(file.read(), b"precious")
        self.assertTrue(self.one("request")["filename"].endswith("_092d0424-2_request.bin"))

    def test_foreign_metadata(self) -> None:
        """Foreign metadata under our name are not replaced either."""
        with open(self.name("_metadata.json"), "wb") as file:
            file.write(b"precious")
        SpoolWriter(self.spool).blocks(Script().simple())
        self.consume()
        content = read_directory(self.log_dir)
        self.assertEqual(content.pop(os.path.basename(self.name("_metadata.json"))), b"precious")
        self.assertEqual(len(content), 4)

    def test_planted_symlinks(self) -> None:
        """A link planted under our name is not followed."""
        victim = self.mktemp()
        with open(victim, "wb") as file:
            file.write(b"precious")
        for end in (".bin", "_metadata.json"):
            os.symlink(os.path.abspath(victim), self.name(end))
        SpoolWriter(self.spool).blocks(Script().simple())
        self.consume()
        with open(victim, "rb") as file:
            self.assertEqual(file.read(), b"precious")
        self.assertTrue(os.path.islink(self.name(".bin")))
        self.assertEqual(len(read_directory(self.log_dir)), 4)

    def test_planted_symlink_to_nothing_much(self) -> None:
        """Nor one to an empty file, which might pass for the beginning of ours."""
        victim = self.mktemp()
        open(victim, "wb").close()
        os.symlink(os.path.abspath(victim), self.name(".bin"))
        SpoolWriter(self.spool).blocks(Script().simple())
        self.consume()
        self.assertEqual(os.path.getsize(victim), 0)

    def test_planted_hard_link(self) -> None:
        """A file with a second name elsewhere is not written to."""
        victim = self.mktemp()
        open(victim, "wb").close()
        os.link(victim, self.name(".bin"))
        SpoolWriter(self.spool).blocks(Script().simple())
        self.consume()
        self.assertEqual(os.path.getsize(victim), 0)

    def test_planted_fifo(self) -> None:
        """A FIFO planted under our name does not stop us."""
        os.mkfifo(self.name(".bin"))
        SpoolWriter(self.spool).blocks(Script().simple())
        self.consume()
        self.assertTrue(self.one("request")["filename"].endswith("-2_request.bin"))


class DirectoryTests(ConsumerTestCase):
    def test_created_private(self) -> None:
        """A missing log directory is made with mode 0700."""
        old = os.umask(0)
        self.addCleanup(os.umask, old)
        path = self.mktemp()
        directory = LogDirectory(path)
        directory.open()
        directory.close()
        self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o700)

    def test_refused(self) -> None:
        """A directory that group or others may write to is refused, one that they may read is not."""
        for mode, refused in ((0o770, True), (0o707, True), (0o755, False), (0o700, False)):
            path = self.mktemp()
            os.mkdir(path)
            os.chmod(path, mode)
            directory = LogDirectory(path)
            if refused:
                self.assertRaises(UnsafeDirectory, directory.open)
            else:
                directory.open()
                directory.close()

    def test_replaced(self) -> None:
        """A directory that was moved away is noticed."""
        directory = LogDirectory(self.log_dir)
        directory.open()
        directory.check()
        os.rename(self.log_dir, self.mktemp())
        self.assertRaises(FileNotFoundError, directory.check)
        directory.open()
        directory.check()
        directory.close()
