"""Spool, writer and reactor together: what they promise when the disk fails, stalls and comes back."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.configuration.options import LoggingOptions, OnCaptureError
from logging_proxy.recording.recorder import FLUSH_PATIENCE, Recording
from logging_proxy.recording.records import Kind
from logging_proxy.recording.spool import Pace
from logging_proxy.test.capture_stage import FAST, FULL, BadDisk, Short, ThreadedClock, records

HEAD, PIECE, END = int(Kind.REQUEST_HEAD), int(Kind.REQUEST_PIECE), int(Kind.END)
SMALL = 1 << 14


class RecordingCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.reactor = ThreadedClock()
        self.bad = BadDisk()

    def start(
        self, on_capture_error: OnCaptureError = "pass", pace: Pace = FAST, ring_size: int = SMALL
    ) -> Recording:
        options = LoggingOptions(
            on_capture_error=on_capture_error, ring_dir=str(self.directory.parent / "none")
        )
        recording = Recording(self.directory, options, self.reactor, self.bad.disk, pace, ring_size)
        recording.start()
        return recording

    def stop(self, recording: Recording) -> bool:
        return self.result(Deferred.fromCoroutine(recording.stop()))

    def result(self, stopped: Deferred[bool]) -> bool:
        self.reactor.run_until(lambda: bool(stopped.called))
        return self.successResultOf(stopped)

    def exchange(self, recording: Recording, size: int = 100) -> None:
        capture = recording.recorder.capture()
        capture.passed((HEAD, 0, b"head"))
        capture.passed((PIECE, 1, b"x" * size), (END, 0, b"\0"))

    def ends(self) -> int:
        return sum(record.kind is Kind.END for record in records(self.directory))


class RecordingTests(RecordingCase):
    def test_session(self) -> None:
        """A session's record comes before everything else, and says whose it is."""
        recording = self.start()
        self.exchange(recording)
        self.assertTrue(self.stop(recording))
        first, *rest = records(self.directory)
        self.assertEqual((first.kind, first.exchange), (Kind.SESSION, 0))
        self.assertEqual({"version", "pid", "wall_ns"}, set(json.loads(first.content)))
        self.assertEqual([record.kind for record in rest], [Kind.REQUEST_HEAD, Kind.REQUEST_PIECE, Kind.END])

    def test_session_of_a_run(self) -> None:
        """The session of a run names it."""
        options = LoggingOptions(ring_dir=str(self.directory.parent / "none"))
        recording = Recording(
            self.directory, options, self.reactor, self.bad.disk, FAST, SMALL, run="nightly-1"
        )
        recording.start()
        self.assertTrue(self.stop(recording))
        (first,) = records(self.directory)
        self.assertEqual(json.loads(first.content)["run"], "nightly-1")

    def test_reactor_is_left_alone(self) -> None:
        """While all goes well the spool's thread asks nothing of the reactor."""
        real = self.reactor.callFromThread
        recording = self.start()
        asked: list[object] = []
        self.patch(self.reactor, "callFromThread", lambda *call: asked.append(call))
        for _ in range(50):
            self.exchange(recording)
            time.sleep(0.001)
        self.assertEqual(asked, [])
        self.patch(self.reactor, "callFromThread", real)
        self.assertTrue(self.stop(recording))
        self.assertEqual(self.ends(), 50)

    def test_more_than_the_ring(self) -> None:
        """Who waits for room gets it, over and over, and every byte gets to disk."""
        recording = self.start()
        for _ in range(40):
            self.exchange(recording, SMALL // 3)
            self.reactor.run_until(lambda: not recording.writer.full)
        self.assertTrue(self.stop(recording))
        self.assertEqual(self.ends(), 40)
        self.assertEqual(recording.writer.lost.exchanges, 0)

    def test_stall(self) -> None:
        """A disk that stalls holds recorded traffic back and loses nothing; the reactor is free all along."""
        recording = self.start()
        self.bad.gate.clear()
        self.exchange(recording)
        self.assertTrue(self.bad.waiting.wait(60))
        for _ in range(10):
            self.exchange(recording, SMALL // 3)
        self.assertTrue(recording.writer.full)
        self.assertEqual(self.ends(), 0)
        room = recording.writer.when_room()
        self.bad.gate.set()
        self.reactor.run_until(lambda: bool(room.called))
        self.assertTrue(self.stop(recording))
        self.assertEqual((self.ends(), recording.writer.lost.exchanges), (11, 0))

    def test_full_disk_pass(self) -> None:
        """With `pass` all goes on; what could not be kept is counted, and captures resume by themselves."""
        recording = self.start(pace=Pace())
        self.bad.always = FULL
        for _ in range(300):
            self.exchange(recording)
            if recording.writer.full:
                self.reactor.run_until(lambda: not recording.writer.full)
        self.reactor.run_until(lambda: recording.writer.failure is not None)
        lost = recording.writer.lost.exchanges
        self.assertGreater(lost, 0)
        self.bad.always = None
        self.reactor.run_until(lambda: recording.writer.failure is None and not recording.writer.attentive)
        self.exchange(recording)
        self.assertTrue(self.stop(recording))
        self.assertEqual(self.ends(), 301 - recording.writer.lost.exchanges + self.notes())
        self.assertEqual(recording.writer.lost.exchanges, lost)
        reports = [json.loads(each.content) for each in records(self.directory) if each.kind is Kind.LOST]
        self.assertEqual(sum(report["exchanges"] for report in reports), lost)

    def notes(self) -> int:
        return sum(record.kind is Kind.NOTE for record in records(self.directory))

    def test_full_disk_block(self) -> None:
        """With `block` new exchanges are refused at once, and taken again when the disk has room, unasked."""
        recording = self.start("block")
        self.bad.always = FULL
        self.exchange(recording)
        self.reactor.run_until(lambda: recording.recorder.refuses)
        self.bad.always = None
        self.reactor.run_until(lambda: not recording.recorder.refuses)
        self.assertTrue(self.stop(recording))
        self.assertEqual((self.ends(), recording.writer.lost.exchanges), (1, 0))

    def test_recovery_between_two_looks(self) -> None:
        """
        A recovery that happens while the reactor is taking note of the failure is noticed.

        With `block` nothing would be stored any more that could bring it up again.
        """
        recording = self.start("block")
        real = recording.writer.spool_moved
        recovered = threading.Event()

        def taking_note(failure: str | None) -> None:
            if failure is not None and not recovered.is_set():
                self.bad.always = None
                while recording._spool.failure is not None:
                    time.sleep(0.001)
                time.sleep(0.05)
                recovered.set()
            real(failure)

        self.patch(recording.writer, "spool_moved", taking_note)
        self.bad.always = FULL
        self.exchange(recording)
        self.reactor.run_until(recovered.is_set)
        self.assertFalse(recording.recorder.refuses)
        self.assertTrue(self.stop(recording))

    def test_attentive(self) -> None:
        """While the writer has something to tell, it hears of every move, though nobody waits."""
        recording = self.start()
        recording.writer.attentive = True
        self.exchange(recording)
        self.reactor.run_until(lambda: not recording.writer.attentive)
        self.assertTrue(self.stop(recording))

    def test_many_recoveries(self) -> None:
        """However failure and recovery meet the reactor, it ends up with the truth."""
        recording = self.start("block", Pace(0, 0, 0.01))
        for _ in range(150):
            self.bad.fates.extend([FULL, FULL])
            self.exchange(recording)
            self.reactor.run_until(
                lambda: (
                    recording._spool.ring.taken == recording._spool.ring.stored
                    and recording.writer.failure is None
                )
            )
        self.assertTrue(self.stop(recording))
        self.assertEqual(self.ends(), 150)


class StopTests(RecordingCase):
    def test_waiting(self) -> None:
        """`stop` lets what waits find room first."""
        recording = self.start()
        self.bad.gate.clear()
        for _ in range(5):
            self.exchange(recording, SMALL // 2)
        self.assertTrue(recording.writer.full)
        stopped = Deferred.fromCoroutine(recording.stop())
        self.assertNoResult(stopped)
        self.bad.gate.set()
        self.assertTrue(self.result(stopped))
        self.assertEqual((self.ends(), recording.writer.lost.exchanges), (5, 0))

    def test_refused_to_the_end(self) -> None:
        """When the disk refuses to the end, `stop` ends all the same; the next start has the ring."""
        recording = self.start("block")
        self.bad.always = FULL
        self.exchange(recording)
        for _ in range(5):
            self.exchange(recording, SMALL // 2)
        stopped = Deferred.fromCoroutine(recording.stop())
        self.assertNoResult(stopped)
        self.reactor.advance(FLUSH_PATIENCE)
        self.assertFalse(self.result(stopped))
        self.assertEqual(recording.writer.lost.exchanges, 4)
        self.bad.always = None
        self.assertTrue(self.stop(self.start()))
        kinds = [record.kind for record in records(self.directory)]
        self.assertEqual(kinds.count(Kind.SESSION), 2)
        # Two are whole; the head of a third was written, and so its end was.
        self.assertEqual((kinds.count(Kind.END), kinds.count(Kind.NOTE)), (3, 1))


class AnyDataTests(RecordingCase):
    @settings(deadline=None, max_examples=25)
    @given(
        st.lists(st.tuples(st.integers(0, 3), st.binary(max_size=3000)), max_size=30),
        st.lists(st.sampled_from([None, FULL, Short(1), Short(500)]), max_size=20),
    )
    def test_what_was_written(self, passed: list[tuple[int, bytes]], fates: list[None | int | Short]) -> None:
        """Records of interleaved exchanges come back as they were written, whatever fails between."""
        self.setUp()
        self.bad.fates.extend(fates)
        recording = self.start("block", Pace(0, 0.001, 0.001))
        captures = [recording.recorder.capture() for _ in range(4)]
        expected = []
        for which, payload in passed:
            captures[which].passed((PIECE, which, payload))
            expected.append((captures[which].number, which, payload))
            if captures[which].full:
                self.reactor.run_until(lambda: not recording.writer.full)
        self.bad.fates.clear()
        self.assertTrue(self.stop(recording))
        found = [(each.exchange, each.flags, each.payload) for each in records(self.directory)[1:]]
        self.assertEqual(found, expected)
