"""Retention: what is over a limit goes, files and index together; everything else stays."""

from __future__ import annotations

import errno
import os
import shutil
from typing import Any

from twisted.logger import LogEvent, LogLevel, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.configuration import LoggingServerOptions, RetentionOptions
from logging_proxy.configuration.document import Scalar
from logging_proxy.configuration.kinds import AGE, Mistake, Surroundings
from logging_proxy.configuration.problems import Position
from logging_proxy.logserver.retention import policy
from logging_proxy.logserver.retention.policy import STEP, Limits, Retention, Step
from logging_proxy.logserver.retention.rounds import INTERVAL, LOOK_INTERVAL, PAUSE
from logging_proxy.logserver.retention.trust import AGREEMENT, OBJECTION
from logging_proxy.logserver.server import ServerParts
from logging_proxy.logserver.store.directory import LogDirectory
from logging_proxy.logserver.telemetry.counters import Sizes
from logging_proxy.test.logserver_spools import documents
from logging_proxy.test.web_stage import ServerTestCase, at_once

HOUR = 3600
DAY = 24 * HOUR


class RetentionTestCase(ServerTestCase):
    retention = RetentionOptions()

    def setUp(self) -> None:
        self.options = LoggingServerOptions(retention=self.retention)
        super().setUp()

    def old(self, number: int, hours: float, *, outcome: str = "complete", status: int = 200) -> str:
        """An exchange that began so many hours ago."""
        script = self.script(number, wall_ns=int((self.wall_seconds() - hours * HOUR) * 1e9))
        records = script.simple(response=bytes(1000))
        records[2] = script.response_head(b"HTTP/1.1 %d X\r\n\r\n" % status)
        self.record(*records[:-1], script.end(outcome))
        self.publish()
        return self.id_of(number)

    def keep_house(self) -> None:
        """For as long as it takes until ages count, and what is unusual is no more objected to."""
        housekeeping = self.parts.housekeeping
        housekeeping.startService()
        for seconds in (AGREEMENT, OBJECTION, INTERVAL):
            self.clock.advance(seconds)
            for _ in range(50):
                self.clock.advance(PAUSE)
        stopped = housekeeping.stopService()
        assert stopped is not None
        self.successResultOf(stopped)

    def spend(self, seconds: float) -> None:
        """So much time passes, with a round now and then."""
        until = self.clock.seconds() + seconds
        while (left := until - self.clock.seconds()) > 0:
            self.clock.advance(min(left, 6 * INTERVAL))
            self.clock.advance(0)

    def check(self, *ids: str) -> None:
        """That these exchanges are left, in the index and as files, whole."""
        listed = [row["id"] for row in self.get("/api/exchanges")["exchanges"]]
        self.assertEqual(sorted(listed), sorted(ids))
        self.assertEqual({id for id, _ in documents(self.log_dir)}, set(ids))
        self.assertEqual(self.files(".bin"), 2 * len(ids))

    def files(self, ending: str) -> int:
        return sum(name.endswith(ending) for name in os.listdir(self.log_dir))


class NothingTests(RetentionTestCase):
    def test_everything_stays(self) -> None:
        """Without limits nothing is ever deleted."""
        ids = [self.old(number, 10_000 * number) for number in range(1, 5)]
        self.keep_house()
        self.check(*ids)


class SizesTests(RetentionTestCase):
    retention = RetentionOptions(max_exchanges=3)

    def test_between_looks(self) -> None:
        """What we store and delete is counted; what others do is found when all files are looked at."""
        housekeeping = self.parts.housekeeping
        housekeeping.startService()
        self.addCleanup(housekeeping.stopService)
        self.assertEqual(housekeeping.sizes.log_dir_files, 0)
        for number in range(1, 6):
            self.old(number, 10 - number)
        self.clock.advance(INTERVAL)
        for _ in range(5):
            self.clock.advance(PAUSE)
        self.assertEqual(housekeeping.sizes.log_dir_files, 12)
        self.assertEqual(self.files(".bin") + self.files(".json"), 12)
        self.assertGreater(housekeeping.sizes.log_dir_bytes or 0, 3000)
        os.unlink(os.path.join(self.log_dir, next(n for n in os.listdir(self.log_dir) if n.endswith(".bin"))))
        self.clock.advance(INTERVAL)
        self.assertEqual(housekeeping.sizes.log_dir_files, 12)
        for _ in range(int(LOOK_INTERVAL / INTERVAL)):
            self.clock.advance(INTERVAL)
        self.assertEqual(housekeeping.sizes.log_dir_files, 11)


class AgeTests(RetentionTestCase):
    retention = RetentionOptions(max_age=10 * HOUR, errors_max_age=100 * HOUR)

    def test_age(self) -> None:
        """What is older goes; errors stay longer, but not for ever."""
        young = self.old(1, 8)
        self.old(2, 11)
        cut = self.old(3, 98, outcome="upstream_reset")
        failed = self.old(4, 98, status=500)
        self.old(5, 101, outcome="interrupted")
        self.old(6, 101, status=404)
        self.keep_house()
        self.check(young, cut, failed)
        health = self.get("/health")["deleted"]
        self.assertEqual((health["exchanges"], health["bodies"]), (3, 0))
        self.assertGreater(health["bytes"], 3000)

    def test_many(self) -> None:
        """More than one step takes go in one round; a step is small."""
        count = 2 * STEP + 10
        for number in range(1, count + 1):
            self.old(number, 20)
        left = self.old(200, 1)
        steps: list[int] = []
        retention: Any = self.parts.housekeeping.retention
        delete = retention.delete_files

        def count_and_delete(step: Step, directory: LogDirectory) -> Any:
            steps.append(len(step.rows))
            return delete(step, directory)

        retention.delete_files = count_and_delete
        self.keep_house()
        self.check(left)
        self.assertEqual((sum(steps), max(steps)), (count, STEP))

    def test_again_and_again(self) -> None:
        """Each round looks anew."""
        young = [self.old(number, 1) for number in (2, 3)]
        old = self.old(1, 9.5)
        housekeeping = self.parts.housekeeping
        housekeeping.startService()
        self.addCleanup(housekeeping.stopService)
        self.spend(HOUR / 4)
        self.check(old, *young)
        self.spend(HOUR / 2)
        self.check(*young)

    def test_disk_in_trouble(self) -> None:
        """What cannot be deleted stays in the index, and goes later."""
        old = self.old(1, 20)
        directory: Any = self.parts.directory
        real = directory._system.unlink

        def refuse(*args: Any, **keywords: Any) -> None:
            raise PermissionError(1, "Operation not permitted")

        directory._system.unlink = refuse
        self.keep_house()
        self.assertEqual(self.get("/api/exchanges")["exchanges"][0]["id"], old)
        directory._system.unlink = real
        self.keep_house()
        self.check()

    def test_broken_off(self) -> None:
        """Files that are gone already are no obstacle: a crash between files and index heals."""
        self.old(1, 20)
        for name in os.listdir(self.log_dir):
            if name.endswith(".bin"):
                os.unlink(os.path.join(self.log_dir, name))
        self.keep_house()
        self.check()


class OneFileTests(RetentionTestCase):
    """One file that cannot be deleted, among others."""

    retention = RetentionOptions(max_age=10 * HOUR, max_exchanges=2)

    def refuse(self, id: str) -> Any:
        """Files of this exchange cannot be deleted; gives back how it was."""
        directory: Any = self.parts.directory
        real = directory._system.unlink

        def unlink(name: str, **keywords: Any) -> None:
            if id[:8] in name:
                raise PermissionError(errno.EPERM, "Operation not permitted")
            real(name, **keywords)

        directory._system.unlink = unlink
        return lambda: setattr(directory._system, "unlink", real)

    def test_age(self) -> None:
        """The others go all the same; it is told of, and goes when it can."""
        bad = self.old(1, 21)
        allow = self.refuse(bad)
        self.old(2, 20)
        young = self.old(3, 1)
        for _ in range(3):
            self.keep_house()
            self.check(bad, young)
        health = self.get("/health")
        self.assertEqual(health["status"], "trouble")
        self.assertIn(
            "1 exchanges cannot be deleted: Operation not permitted", health["retention"]["trouble"]
        )
        allow()
        self.keep_house()
        self.check(young)
        self.assertEqual(self.get("/health")["status"], "ok")

    def test_number(self) -> None:
        """A number of exchanges is kept without it."""
        bad = self.old(1, 9)
        self.refuse(bad)
        ids = [self.old(number, 10 - number) for number in range(2, 7)]
        self.keep_house()
        self.check(bad, ids[-1])

    def test_another_life(self) -> None:
        """It is tried again in the next life."""
        bad = self.old(1, 20)
        self.refuse(bad)
        self.keep_house()
        self.spools.close()
        self.index.close()
        self.build()
        self.keep_house()
        self.check()

    def test_disk(self) -> None:
        """With too many of them it is the disk: the round ends, and the next one goes on."""
        self.patch(policy, "MOST_FAILED", 2)
        allow = self.refuse("")
        ids = [self.old(number, 30 - number) for number in range(1, 6)]
        self.keep_house()
        self.assertEqual(self.get("/health")["status"], "trouble")
        self.check(*ids)
        allow()
        self.keep_house()
        self.check()


class WalkTests(RetentionTestCase):
    """What is to stay is looked at once."""

    retention = RetentionOptions(errors_max_age=10 * HOUR, bodies_max_age=50 * HOUR)

    def looked_at(self) -> int:
        """How many rows a round reads."""
        counts: list[int] = []
        real = self.index.list

        def count(*args: Any, **keywords: Any) -> Any:
            page = real(*args, **keywords)
            counts.append(len(page.rows))
            return page

        index: Any = self.index
        index.list = count
        self.keep_house()
        index.list = real
        return sum(counts)

    def test_once(self) -> None:
        """Rows that stay are read when the clock is first trusted and when they are old, not each round."""
        for number in range(1, 9):
            self.old(number, 20 + number)
        self.assertEqual(self.looked_at(), 2 * 8)
        self.assertEqual(self.looked_at(), 0)

    def test_late(self) -> None:
        """What was indexed after the walk had passed its start goes all the same, errors and bytes alike."""
        self.old(1, 60)
        self.keep_house()
        self.assertEqual(self.files(".bin"), 0)
        late = self.old(2, 70)
        self.old(3, 15, status=500)
        self.keep_house()
        self.assertEqual({id for id, _ in documents(self.log_dir)}, {self.id_of(1), late})
        self.assertEqual(self.files(".bin"), 0)

    def test_late_meanwhile(self) -> None:
        """The same of what is indexed while the walk is under way."""
        for number in range(1, 4):
            self.old(number, 60)
        retention: Any = self.parts.housekeeping.retention
        real = retention.delete_files

        def delete(step: Step, directory: LogDirectory) -> Any:
            retention.delete_files = real
            self.old(4, 70)
            return real(step, directory)

        retention.delete_files = delete
        self.keep_house()
        self.assertEqual(self.files(".bin"), 0)

    def test_broken_off(self) -> None:
        """A round that is broken off goes on where it was."""
        for number in range(1, 6):
            self.old(number, 60)
        retention: Any = self.parts.housekeeping.retention
        steps = retention.plan(self.parts.housekeeping.sizes, int(self.wall_seconds() * 1_000_000))
        while not next(steps).rows:
            pass
        steps.close()
        self.keep_house()
        self.assertEqual(self.files(".bin"), 0)


class IndexTests(RetentionTestCase):
    """Without all captures in the index the wrong ones would go."""

    retention = RetentionOptions(max_bytes=10_000, max_age=100 * HOUR)

    def test_not_whole(self) -> None:
        """While captures are being added nothing is deleted, and health says so."""
        ids = [self.old(number, 200 - number) for number in range(1, 9)]
        self.indexer.is_whole = False
        self.keep_house()
        self.check(*ids)
        health = self.get("/health")
        self.assertEqual((health["status"], health["retention"]["state"]), ("ok", "waiting"))
        self.indexer.is_whole = True
        self.keep_house()
        self.check()
        self.assertEqual(self.get("/health")["retention"], {"state": "on", "trouble": None})

    def test_unknown_files(self) -> None:
        """Files that are in no index do not have others deleted in their place."""
        self.patch(policy, "FEW_FILES", 0)
        for number in range(10):
            name = f"2025-09-13_02-11-09.123_0000000{number}_request.bin"
            with open(os.path.join(self.log_dir, name), "wb") as file:
                file.write(bytes(100_000))
        young = self.old(1, 1)
        self.keep_house()
        self.assertIsNotNone(self.index.get(young))


class WithoutIndexTests(RetentionTestCase):
    retention = RetentionOptions(max_age=HOUR)

    def test_told(self) -> None:
        """Without an index nothing can be deleted, and health and the log say so."""
        self.spools.close()
        self.index.close()
        shutil.rmtree(os.path.join(self.log_dir, ".index"))
        with open(os.path.join(self.log_dir, ".index"), "w"):
            pass
        lines: list[str] = []
        observer: Any = lambda event: lines.append(formatEvent(event))  # noqa: E731
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        parts = ServerParts(self.clock, self.options, self.parts.directory, self.mktemp(), 1 << 30, at_once())
        status = parts.status()
        self.assertEqual(status.retention, "off")
        self.assertIn("there is no index", status.retention_trouble)
        self.assertIn("index: it could not be opened: ", status.trouble)
        self.assertTrue(any("retention" in line for line in lines))


class ClockTests(RetentionTestCase):
    """A wall clock is believed when it has gone along with the monotonic one, and what it asks is usual."""

    retention = RetentionOptions(max_age=30 * DAY, bodies_max_age=20 * DAY)

    def setUp(self) -> None:
        super().setUp()
        self.warnings: list[str] = []
        hear: Any = self._hear
        globalLogPublisher.addObserver(hear)
        self.addCleanup(globalLogPublisher.removeObserver, hear)

    def _hear(self, event: LogEvent) -> None:
        if event.get("log_level") == LogLevel.warn:
            self.warnings.append(formatEvent(event))

    def announced(self) -> list[str]:
        return [each for each in self.warnings if each.startswith("retention:")]

    def start(self) -> None:
        housekeeping = self.parts.housekeeping
        housekeeping.startService()
        self.addCleanup(housekeeping.stopService)

    def test_at_the_start(self) -> None:
        """Nothing is deleted for its age in the first minutes, in which a machine asks for the time."""
        young = [self.old(number, number) for number in (1, 2)]
        old = self.old(3, 31 * 24)
        self.start()
        self.spend(AGREEMENT - INTERVAL)
        self.check(*young, old)
        self.spend(2 * INTERVAL)
        self.check(*young)
        self.assertEqual(self.warnings, [])

    def test_a_step(self) -> None:
        """A clock that is set on deletes nothing for some minutes; set right again, nothing at all."""
        ids = [self.old(number, number) for number in range(1, 4)]
        self.start()
        self.spend(2 * AGREEMENT)
        self.wall_ahead = 93 * DAY
        self.spend(AGREEMENT - INTERVAL)
        self.check(*ids)
        self.assertEqual(len(self.warnings), 1)
        self.assertIn("forward by 93 days", self.warnings[0])
        self.wall_ahead = 0.0
        self.spend(2 * AGREEMENT)
        self.check(*ids)
        self.assertIn("back by 93 days", self.warnings[1])

    def test_an_unusual_share(self) -> None:
        """A clock that stays wrong would delete all: that is said, and an hour later it is done."""
        ids = [self.old(number, number) for number in range(1, 4)]
        self.wall_ahead = 93 * DAY
        self.start()
        self.spend(AGREEMENT + OBJECTION - 2 * INTERVAL)
        self.check(*ids)
        self.assertIn("3 of 3 exchanges are over their age", *self.announced())
        self.spend(20 * INTERVAL)
        self.check()
        self.assertEqual(len(self.announced()), 1)

    def test_objected(self) -> None:
        """A clock that is set right in that hour leaves everything as it is."""
        ids = [self.old(number, number) for number in range(1, 4)]
        self.wall_ahead = 93 * DAY
        self.start()
        self.spend(AGREEMENT + OBJECTION / 2)
        self.wall_ahead = 0.0
        self.spend(AGREEMENT + 2 * OBJECTION)
        self.check(*ids)

    def test_bytes(self) -> None:
        """The bytes of what is younger than `max_age` are asked for as whole exchanges are."""
        ids = [self.old(number, number) for number in range(1, 4)]
        self.wall_ahead = 25 * DAY
        self.start()
        self.spend(AGREEMENT + OBJECTION / 2)
        self.check(*ids)
        self.assertIn("3 of 3 exchanges", *self.announced())

    def test_bytes_that_are_gone(self) -> None:
        """What has lost its bytes already is nothing unusual at the next start."""
        old = [self.old(number, 21 * 24) for number in range(1, 4)]
        young = self.old(4, 1)
        self.keep_house()
        self.assertEqual(self.files(".bin"), 2)
        self.warnings.clear()
        self.build()
        self.keep_house()
        self.assertEqual(self.warnings, [])
        self.assertEqual({id for id, _ in documents(self.log_dir)}, {*old, young})

    def test_back_after_it_was_wrong(self) -> None:
        """Bytes go on to be deleted after a clock that was wrong for long has been set back."""
        self.wall_ahead = 93 * DAY
        self.start()
        self.spend(2 * AGREEMENT)
        self.wall_ahead = 0.0
        young = [self.old(number, number) for number in (1, 2, 3)]
        old = self.old(4, 21 * 24)
        self.spend(2 * AGREEMENT)
        self.assertEqual({id for id, _ in documents(self.log_dir)}, {*young, old})
        self.assertEqual(self.files(".bin"), 6)

    def test_numbers_do_not_wait(self) -> None:
        """Limits that no clock takes part in are kept at once."""
        self.assertEqual(list(self.plan(None, max_exchanges=1)), [2])

    def plan(self, now: int | None, **limits: int) -> list[int]:
        """How many exchanges each step has when there are three."""
        for number in (1, 2, 3):
            self.old(number, 31 * 24)
        retention = Retention(Limits(max_age=1, **limits), self.index)
        return next([len(step.rows)] for step in retention.plan(Sizes(), now) if step.rows)


class NumberTests(RetentionTestCase):
    retention = RetentionOptions(max_exchanges=3)

    def test_number(self) -> None:
        """The oldest go until the number is kept."""
        ids = [self.old(number, 100 - number) for number in range(1, 9)]
        self.keep_house()
        self.check(*ids[-3:])


class BytesTests(RetentionTestCase):
    retention = RetentionOptions(max_bytes=1 << 20)

    def test_bytes(self) -> None:
        """The oldest go until the files are within the limit; one that grows meanwhile is counted."""
        for number in range(1, 6):
            self.capture(number, response=bytes(300_000))
        self.keep_house()
        sizes = self.parts.housekeeping.sizes
        left = {id for id, _ in documents(self.log_dir)}
        self.assertLessEqual(sizes.log_dir_bytes or 0, 1 << 20)
        self.assertNotIn(self.id_of(1), left)
        self.assertIn(self.id_of(5), left)
        self.assertEqual(self.files("_metadata.json"), self.files(".bin"))


class BodiesTests(RetentionTestCase):
    retention = RetentionOptions(max_age=100 * HOUR, bodies_max_age=10 * HOUR)

    def test_bodies(self) -> None:
        """After their age the bytes go, the metadata and the index stay until theirs."""
        old, young = self.old(1, 11), self.old(2, 7)
        self.old(3, 101)
        self.keep_house()
        self.keep_house()
        self.assertEqual({id for id, _ in documents(self.log_dir)}, {old, young})
        self.assertEqual((self.files(".bin"), self.files("_metadata.json")), (2, 4))
        reply = self.ask("GET", f"/api/exchanges/{old}/response")
        self.assertEqual((reply.status, reply.problem), (410, "deleted"))
        self.assertEqual(self.get(f"/api/exchanges/{old}")["response"]["bytes"], 1000)
        self.assertEqual(self.ask("GET", f"/api/exchanges/{young}/response").status, 200)
        self.assertEqual(self.get("/health")["deleted"]["bodies"], 1)


class DeleteTests(SynchronousTestCase):
    def test_only_captures(self) -> None:
        """Nothing is deleted but regular files with names of captures."""
        path = self.mktemp()
        directory = LogDirectory(path)
        directory.open()
        self.addCleanup(directory.close)
        name = "2025-09-13_02-11-09.123_092d0424_request.bin"
        outside = self.mktemp()
        open(outside, "w").close()
        os.symlink(os.path.abspath(outside), os.path.join(path, name))
        for other in (name, "../" + os.path.basename(outside), "notes.txt", ".index", name + "x", "\x00"):
            self.assertEqual(directory.delete(other), 0, other)
        self.assertTrue(os.path.exists(outside))


class AgeKindTests(SynchronousTestCase):
    def read(self, text: str, type: str = "str") -> int:
        return AGE.read(Scalar(Position(1, 1), text, type), Surroundings({}, lambda path: b""))

    def test_ages(self) -> None:
        """Seconds, or a whole number with a unit."""
        for text, wanted in (("90d", 90 * 86400), ("36h", 36 * HOUR), ("10m", 600), ("5s", 5)):
            self.assertEqual(self.read(text), wanted)
            self.assertEqual(self.read(AGE.written(wanted)), wanted)
        self.assertEqual(self.read("600", "int"), 600)

    def test_mistakes(self) -> None:
        """Anything else is told what was expected."""
        for text in ("0d", "1w", "600", "1.5d", "-1d", "99999d"):
            self.assertRaises(Mistake, self.read, text)
        for text, type in (("-1", "int"), ("0", "int"), ("", "null"), ("1.5", "float")):
            self.assertRaises(Mistake, self.read, text, type)
