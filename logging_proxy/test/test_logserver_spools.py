"""All spools of a logging server: finding them, and trouble with the disk that comes and goes."""

from __future__ import annotations

import errno
import os
import shutil
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.logserver.ingest import backoff, closed
from logging_proxy.logserver.ingest.remote import RemoteSpools
from logging_proxy.logserver.ingest.spools import Spools
from logging_proxy.logserver.process import DRAIN_LIMIT, StorageService
from logging_proxy.logserver.store.directory import LogDirectory
from logging_proxy.logserver.store.file_store import FileStore
from logging_proxy.logserver.store.system import System
from logging_proxy.recording.tail import SpoolLock
from logging_proxy.test.logserver_spools import Script, SpoolWriter, Unobserved, documents, other_id, session


class Moody(System):
    """A disk that refuses to write with `error` while that is set."""

    error = 0

    def __init__(self) -> None:
        self.pwrite = self._pwrite  # type: ignore[assignment]

    def _pwrite(self, fd: int, data: bytes, at: int) -> int:
        if self.error:
            raise OSError(self.error, os.strerror(self.error))
        return os.pwrite(fd, data, at)


class Inline:
    """A worker that works at once."""

    started = stopped = False

    def start(self) -> None:
        self.started = True

    def run(self, work: Any) -> Deferred[Any]:
        from twisted.internet.defer import execute

        return execute(work)

    def stop(self) -> None:
        self.stopped = True


class SpoolsTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.system = Moody()
        self.spools = self.make_anew()

    def make_anew(self, most_waiting: int = 0) -> Spools:
        """In a log directory of its own."""
        self.log_dir = self.mktemp()
        self.root = os.path.join(self.log_dir, ".spool")
        os.makedirs(self.root, mode=0o700)
        os.chmod(self.log_dir, 0o700)
        return self.make(most_waiting)

    def make(self, most_waiting: int = 0) -> Spools:
        store = FileStore(LogDirectory(self.log_dir, self.system))
        spools = Spools(store, self.root, self.clock.seconds, Unobserved(), most_waiting)
        self.addCleanup(spools.close)
        return spools

    def writer(self, name: str = "5601") -> SpoolWriter:
        return SpoolWriter(os.path.join(self.root, name))

    def turns(self, seconds: float) -> None:
        until = self.clock.seconds() + seconds
        while self.clock.seconds() < until:
            self.spools.turn()
            self.clock.advance(0.1)


class FindingTests(SpoolsTestCase):
    def test_new_spool(self) -> None:
        """A spool that appears later is found within a second or so."""
        self.turns(0.5)
        self.writer().blocks(Script().simple())
        self.turns(1.5)
        self.assertEqual(len(documents(self.log_dir)), 2)
        self.assertEqual((self.spools.status.stored, self.spools.status.spools), (1, 1))

    def test_several(self) -> None:
        """Spools do not mix, though their exchanges have equal numbers."""
        self.writer("5601").blocks(Script(1, other_id(1)).simple(b"one"))
        self.writer("5602").blocks(Script(1, other_id(2)).simple(b"two"))
        self.turns(1)
        self.assertEqual(self.spools.status.stored, 2)

    def test_links_are_no_spools(self) -> None:
        """A link in the spool root is not followed."""
        elsewhere = self.mktemp()
        SpoolWriter(elsewhere).blocks(Script().simple())
        os.symlink(os.path.abspath(elsewhere), os.path.join(self.root, "5601"))
        self.turns(1)
        self.assertEqual(self.spools.status.spools, 0)

    def test_one_reader(self) -> None:
        """A spool that another process reads is left alone until that one has gone."""
        writer = self.writer()
        writer.blocks(Script().simple())
        lock = SpoolLock(writer.directory)
        self.assertTrue(lock.acquire())
        self.turns(1.5)
        self.assertEqual(self.spools.status.stored, 0)
        lock.release()
        self.turns(1.5)
        self.assertEqual(self.spools.status.stored, 1)

    def test_spool_removed(self) -> None:
        """A spool that is removed is forgotten; what it gave stays counted."""
        writer = self.writer()
        writer.blocks(Script().simple())
        self.turns(1.5)
        shutil.rmtree(writer.directory)
        self.turns(2)
        self.assertEqual((self.spools.status.spools, self.spools.status.stored), (0, 1))
        self.flushLoggedErrors()


def open_files() -> int:
    return len(os.listdir("/dev/fd"))


class QuietTests(SpoolsTestCase):
    """Spools in which nothing happens."""

    def remote(self, number: int) -> SpoolWriter:
        return self.writer(f"remote-{number:032x}")

    def names(self) -> list[str]:
        return sorted(os.listdir(self.root))

    def test_descriptors(self) -> None:
        """A few stay open, the others cost no descriptor; what comes later is stored all the same."""
        before = open_files()
        writers = [self.remote(number) for number in range(150)]
        for writer in writers:
            writer.blocks([session()[:9]])
        self.turns(6)
        self.assertLessEqual(open_files() - before, 2 * closed.OPEN_IDLE + 1)
        self.assertEqual(self.spools.status.spools, 150)
        for number in (0, 149):
            writers[number].blocks([session()[9:], *Script(1, other_id(number + 1)).simple()])
        self.turns(2)
        self.assertEqual((self.spools.status.stored, len(documents(self.log_dir))), (2, 4))

    def test_under_way(self) -> None:
        """What is under way goes on after its spool was closed for a while; until then it counts as open."""
        writers = [self.remote(number) for number in range(closed.OPEN_IDLE + 3)]
        parts = [Script(1, other_id(number + 1)).simple() for number in range(len(writers))]
        for writer, part in zip(writers, parts, strict=True):
            writer.blocks(part[:3])
        self.turns(2)
        self.clock.advance(closed.IDLE_AFTER_UNDER_WAY)
        self.turns(2)
        self.assertLess(len(self.spools._members), len(writers))
        self.assertEqual(self.spools.status.open, len(writers))
        for writer, part in zip(writers, parts, strict=True):
            writer.blocks(part[3:])
        self.turns(2)
        self.assertEqual({d["outcome"] for d in documents(self.log_dir).values()}, {"complete"})
        self.assertEqual((self.spools.status.stored, self.spools.status.open), (len(writers), 0))

    def gone(self, seconds: float) -> None:
        """So much time passes in one go."""
        self.turns(4)
        self.clock.advance(seconds)
        self.turns(3)

    def test_removed(self) -> None:
        """One of a proxy elsewhere is removed after a day; what was under way was interrupted."""
        local = self.writer("5601-2")
        local.blocks(Script(1, other_id(500)).simple())
        self.remote(0).blocks([session(), *Script(1, other_id(1)).simple()[:3]])
        for number in range(1, closed.OPEN_IDLE + 3):
            self.remote(number).blocks([session(), *Script(1, other_id(number + 1)).simple()])
        self.gone(closed.REMOVE_AFTER - 100)
        self.assertEqual(len(self.names()), closed.OPEN_IDLE + 4)
        self.gone(200)
        self.assertEqual((self.names(), self.spools.status.spools), (["5601-2"], 1))
        self.assertEqual(self.spools.status.stored, closed.OPEN_IDLE + 4)
        outcomes = [d["outcome"] for d in documents(self.log_dir).values()]
        self.assertEqual(outcomes.count("interrupted"), 2)

    def test_many(self) -> None:
        """While there are nearly as many as there may be, those that are quiet are removed after a minute."""
        self.patch(closed, "MOST_REMOTE", 2 * closed.OPEN_IDLE + 4)
        for number in range(closed.OPEN_IDLE + 3):
            self.remote(number).blocks([session()[:9]])
        self.gone(closed.REMOVE_AFTER_IF_MANY)
        self.assertEqual(len(self.names()), closed.OPEN_IDLE + 3)
        self.remote(1000).blocks([session()[:9]])
        self.gone(closed.REMOVE_AFTER_IF_MANY)
        self.assertLess(len(self.names()), closed.OPEN_IDLE + 3)

    def test_something_came(self) -> None:
        """One into which something comes in that moment stays."""
        remote = RemoteSpools(self.root)
        name = "0" * 32
        remote.append(name, 0, session())
        (path,) = (os.path.join(self.root, each) for each in self.names())
        before = closed.newest_segment(path)
        remote.append(name, len(session()), session())
        self.assertFalse(remote.remove(path, before))
        self.assertEqual(remote.append(name, 2 * len(session()), b"x"), 2 * len(session()) + 1)
        self.assertTrue(remote.remove(path, closed.newest_segment(path)))
        self.assertEqual((self.names(), remote.offset(name)), ([], None))
        self.assertEqual(remote.append(name, 7, b"x"), 8)

    def test_counts_stay(self) -> None:
        """What was counted in a spool is not forgotten with it."""
        writer = self.remote(1)
        writer.block(b"?" * 100)
        self.turns(2)
        damages = self.spools.status.damages
        self.assertGreater(damages, 0)
        self.flushLoggedErrors()
        shutil.rmtree(writer.directory)
        self.turns(2)
        self.assertEqual((self.spools.status.spools, self.spools.status.damages), (0, damages))
        self.flushLoggedErrors()


class TroubleTests(SpoolsTestCase):
    def test_disk_full(self) -> None:
        """While the disk refuses the reason is told and the spool kept; then all is stored, once."""
        writer = self.writer()
        writer.blocks([session(), *Script(1, other_id(1)).simple()[:3]])
        self.turns(1)
        for error in (errno.ENOSPC, errno.EIO, errno.EROFS):
            self.system.error = error
            writer.blocks(Script(error, other_id(error)).simple())
            self.turns(2)
            self.assertEqual(self.spools.status.trouble, os.strerror(error))
            self.system.error = 0
            self.turns(1)
            self.assertEqual(self.spools.status.trouble, "")
        writer.blocks(Script(1, other_id(1)).simple()[3:])
        self.turns(1)
        self.assertEqual(len(documents(self.log_dir)), 8)
        self.assertEqual(self.spools.status.stored, 4)
        self.assertEqual({d["outcome"] for d in documents(self.log_dir).values()}, {"complete"})

    def test_recovers_soon(self) -> None:
        """Storing goes on within a second of the disk's recovery."""
        self.system.error = errno.ENOSPC
        self.writer().blocks(Script().simple())
        self.turns(5)
        self.system.error = 0
        self.turns(0.7)
        self.assertEqual(len(documents(self.log_dir)), 2)

    def test_directory_removed(self) -> None:
        """A log directory that is removed is made again; a spool elsewhere goes on into it."""
        self.root = self.mktemp()
        os.makedirs(self.root, mode=0o700)
        self.spools = self.make()
        writer = self.writer()
        writer.blocks(Script(1, other_id(1)).simple())
        self.turns(1.5)
        shutil.rmtree(self.log_dir)
        writer.blocks(Script(2, other_id(2)).simple())
        self.turns(2.5)
        self.assertEqual(len(documents(self.log_dir)), 2)
        self.assertEqual(self.spools.status.trouble, "")

    def test_open_to_others(self) -> None:
        """A log directory that becomes writable for others is no longer written to once it is opened anew."""
        os.chmod(self.log_dir, 0o777)
        self.writer().blocks(Script().simple())
        self.turns(1)
        self.assertIn("others may write", self.spools.status.trouble)
        os.chmod(self.log_dir, 0o700)
        self.turns(1.5)
        self.assertEqual(self.spools.status.trouble, "")
        self.assertEqual(self.spools.status.stored, 1)

    def test_waits_meanwhile(self) -> None:
        """What waits is counted from the start, though its spool was never opened."""
        os.chmod(self.log_dir, 0o775)
        writer = self.writer()
        writer.blocks(Script().simple())
        size = os.path.getsize(writer.path)
        self.turns(1)
        self.assertEqual(self.spools.status.backlog, size)
        os.chmod(self.log_dir, 0o700)
        self.turns(2.5)
        self.assertEqual((self.spools.status.backlog, self.spools.status.stored), (0, 1))

    def test_counted_once(self) -> None:
        """What was stored before is not counted when it is read again, after trouble or in another life."""
        writer = self.writer()
        writer.blocks([session(), *Script(1, other_id(1)).simple()])
        self.turns(1)
        self.system.error = errno.EIO
        writer.blocks(Script(2, other_id(2)).simple())
        self.turns(1)
        self.system.error = 0
        self.turns(1)
        self.assertEqual(self.spools.status.stored, 2)
        writer.blocks(Script(3, other_id(3)).simple())
        self.spools.turn()
        self.spools = self.make()
        self.turns(1)
        self.assertLessEqual(self.spools.status.stored, 1)
        self.assertEqual(len(documents(self.log_dir)), 6)

    def test_fault_of_ours(self) -> None:
        """Even a bug does not end the process: it is logged with its traceback, told, and tried again."""
        self.writer().blocks(Script().simple())
        self.turns(0.2)

        def broken(fd: int, data: bytes, at: int) -> int:
            raise ZeroDivisionError

        writer = self.writer("5602")
        self.system.pwrite = broken  # type: ignore[assignment]
        writer.blocks(Script(2, other_id(2)).simple())
        self.turns(3)
        self.assertIn("ZeroDivisionError", self.spools.status.trouble)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.system.pwrite = os.pwrite
        self.turns(1)
        self.assertEqual((self.spools.status.trouble, self.spools.status.stored), ("", 2))

    def test_lengths_unknown(self) -> None:
        """A spool that cannot be looked at is opened anew: nothing is done with what it was closed with."""
        writer, script = self.writer(), Script()
        records = script.simple()
        writer.blocks(records[:3])
        self.turns(1)
        (member,) = self.spools._members.values()

        def broken() -> tuple[int, int]:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

        turns: list[bool] = []
        turn = member.consumer.turn

        def noted() -> int:
            turns.append(member.opened)
            return turn()

        self.patch(member.consumer, "turn", noted)
        self.patch(member.consumer, "lengths", broken)
        self.spools.turn(patient=True)
        self.assertEqual((turns, member.opened), ([], False))
        self.assertIn("open files", self.spools.status.trouble)
        writer.blocks(records[3:])
        self.clock.advance(1)
        self.turns(1)
        self.assertEqual((self.spools.status.stored, set(turns)), (1, {True}))


class ServiceTests(SpoolsTestCase):
    def service(self) -> StorageService:
        self.worker = Inline()
        service = StorageService(self.clock, self.spools, self.worker)
        service.startService()
        return service

    def test_polls_and_backs_off(self) -> None:
        """Without traffic a turn comes each 250 ms; `wake` asks for one at once."""
        service = self.service()
        turns: list[float] = []
        turn = self.spools.turn

        def counted(patient: bool = False) -> int:
            turns.append(self.clock.seconds())
            return turn(patient)

        self.patch(self.spools, "turn", counted)
        self.clock.pump([0.01] * 300)
        idle = [after - before for before, after in zip(turns[-5:], turns[-4:], strict=False)]
        self.assertTrue(all(0.24 < pause < 0.28 for pause in idle), idle)
        count = len(turns)
        service.wake()
        self.assertEqual(len(turns), count + 1)
        service.stopService()

    def test_traffic(self) -> None:
        """With traffic a turn comes each 50 ms, and each 15 ms while somebody watches."""
        writer, script = self.writer(), Script()
        self.watched = False
        service = StorageService(self.clock, self.spools, Inline(), is_watched=lambda: self.watched)
        service.startService()
        turns: list[float] = []
        turn = self.spools.turn

        def counted(patient: bool = False) -> int:
            turns.append(self.clock.seconds())
            writer.block(script.response(b"x"))
            return turn(patient)

        self.patch(self.spools, "turn", counted)
        writer.block(script.head() + script.response_head())
        for watched, pause in ((False, 0.05), (True, 0.015)):
            self.watched = watched
            self.clock.pump([0.001] * 300)
            pauses = [after - before for before, after in zip(turns[-4:], turns[-3:], strict=False)]
            self.assertTrue(all(abs(each - pause) < 0.002 for each in pauses), pauses)
        service.stopService()

    def test_gives_way(self) -> None:
        """A body that comes fast is stored when it is over, unless somebody watches, or waits for a drain."""
        for awaited in ("nobody", "watcher", "drain"):
            with self.subTest(awaited=awaited):
                self.patch(backoff, "HURRY", 1 << 20)
                spools = self.make_anew(most_waiting=1 << 30)
                writer, script = self.writer(), Script()
                writer.block(script.head() + script.request(b"", True) + script.response_head())
                watched = awaited == "watcher"
                service = StorageService(self.clock, spools, Inline(), is_watched=lambda: watched)  # noqa: B023
                service.startService()
                for number in range(20):
                    writer.block(script.response(b"x" * 250_000))
                    if number == 10 and awaited == "drain":
                        drained = service.drain()
                    self.clock.pump([0.02] * 5)
                exchange = next(iter(spools._members.values())).consumer.assembler.open[1]
                assert exchange.response is not None
                read = exchange.response.size
                if awaited == "nobody":
                    self.assertLess(read, 1_000_000)
                    self.clock.pump([0.02] * 30)
                    self.assertEqual(exchange.response.size, 5_000_000)
                elif awaited == "drain":
                    self.successResultOf(drained)
                    self.assertGreater(read, 2_500_000)
                else:
                    self.assertEqual(read, 5_000_000)
                service.stopService()

    def test_stop_stores(self) -> None:
        """What is in the spool when the service stops is stored and checkpointed when it has stopped."""
        self.writer()
        service = self.service()
        SpoolWriter(os.path.join(self.root, "5601")).blocks(Script().simple())
        stopped = service.stopService()
        assert stopped is not None
        self.successResultOf(stopped)
        self.assertEqual(len(documents(self.log_dir)), 2)
        self.assertTrue(self.worker.stopped)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_drain(self) -> None:
        """A drain ends when all is stored."""
        writer = self.writer()
        service = self.service()
        for number in range(1, 50):
            writer.block(b"".join(Script(number, other_id(number)).simple(b"x" * 50_000)))
        drained = service.drain()
        self.clock.pump([0.02] * 20)
        self.successResultOf(drained)
        self.assertEqual(len(documents(self.log_dir)), 98)
        service.stopService()

    def test_drain_gives_up(self) -> None:
        """A drain that cannot store ends after its limit; the spool keeps everything."""
        self.system.error = errno.ENOSPC
        writer = self.writer()
        writer.blocks(Script().simple())
        service = self.service()
        drained = service.drain()
        self.clock.pump([0.1] * 20)
        self.assertNoResult(drained)
        self.clock.pump([0.1] * int(DRAIN_LIMIT * 10))
        self.successResultOf(drained)
        service.stopService()
        self.assertTrue(os.path.getsize(writer.path))
