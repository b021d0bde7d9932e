"""The writer: when it lets bytes pass, when it holds them, and exactly what it counts as lost."""

from __future__ import annotations

import json
import struct
import sys
import tempfile
from collections.abc import Sequence
from typing import Any
from unittest import mock
from zlib import crc32

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.net import shortcut
from logging_proxy.recording import ring as ring_module
from logging_proxy.recording import writer as writer_module
from logging_proxy.recording.events import CaptureObserver, Recorder
from logging_proxy.recording.records import HEADER, OUTCOMES, Flag, Kind, Record, RecordReader
from logging_proxy.recording.ring import TROUBLE, Ring
from logging_proxy.recording.writer import STALL, CaptureWriter
from logging_proxy.test.shortcut_stage import InPython, require_compiled

ROOM = 200
HEAD, PIECE, RESPONSE, END = (
    int(Kind.REQUEST_HEAD),
    int(Kind.REQUEST_PIECE),
    int(Kind.RESPONSE_HEAD),
    int(Kind.END),
)
COMPLETE = (END, 0, bytes([OUTCOMES.index("complete")]))


class Stage:
    """A writer over a small ring, and a spool that is told what to do."""

    def __init__(self, passes: bool = True, size: int = ROOM) -> None:
        self.file = tempfile.TemporaryFile()
        self.ring = Ring.create(self.file.fileno(), size, 0)
        self.clock = Clock()
        self.stored = 0
        self.writer = CaptureWriter(self.ring, self.count, passes, self.clock)
        self._write = self.writer.shortest_write()
        self.reader = RecordReader()
        self.found: list[Record] = []

    def write(self, exchange: int, records: Sequence[tuple[int, int, bytes]]) -> None:
        self._write(exchange, tuple(records))

    def count(self) -> None:
        self.stored += 1

    def drain(self, failure: str | None = None) -> None:
        """The spool's thread takes all there is, and says so if it is to."""
        while self.ring.stored != self.ring.taken:
            with self.ring.peek() as piece:
                self.found += self.reader.feed(bytes(piece))
                size = len(piece)
            self.ring.take(size)
            if self.writer.attentive or self.writer.failure != failure:
                self.writer.spool_moved(failure)

    def fail(self, why: str = "No space left on device") -> None:
        self.writer.spool_moved(why)

    def of(self, exchange: int) -> list[tuple[int, bytes]]:
        return [(record.kind, record.content) for record in self.found if record.exchange == exchange]

    @property
    def told(self) -> bytes:
        """What the ring's file says of trouble."""
        self.file.seek(0)
        return self.file.read(4096)[TROUBLE].rstrip(b"\0")

    def reports(self) -> list[dict[str, Any]]:
        return [json.loads(record.content) for record in self.found if record.kind is Kind.LOST]

    def fill(self, exchange: int = 99) -> None:
        """An exchange's head that leaves no room."""
        self.write(exchange, [(HEAD, 0, b"f" * (self.ring.room - HEADER.size))])


class WriterCase(SynchronousTestCase):
    def stage(self, passes: bool = True, size: int = ROOM) -> Stage:
        stage = Stage(passes, size)
        self.addCleanup(stage.file.close)
        self.addCleanup(stage.ring.close)
        return stage


class ReadBufferTests(WriterCase):
    def test_same(self) -> None:
        """A payload that was read into the ring is recorded as one that was copied to it."""
        self.patch(writer_module, "LEAST_READ_BUFFER", 4)
        stage = self.stage()
        stage.write(7, [(HEAD, 0, b"head")])
        place = stage.writer.read_buffer(5)
        assert place is not None
        place[:] = b"bytes"
        stage.write(7, [(PIECE, 0, place[:4])])  # type: ignore[list-item]
        stage.write(7, [(PIECE, int(Flag.LAST), b"!")])
        stage.drain()
        self.assertEqual(stage.of(7), [(HEAD, b"head"), (PIECE, b"byte"), (PIECE, b"!")])
        self.assertEqual(stage.stored, 3)
        self.assertGreaterEqual(stage.found[1].time, stage.found[0].time)
        del place

    def test_none(self) -> None:
        """Nothing is given while records wait, or some are lost, or for what is too little."""
        self.patch(writer_module, "LEAST_READ_BUFFER", 4)
        stage = self.stage()
        self.assertIsNone(stage.writer.read_buffer(3))
        stage.fill()
        self.assertIsNone(stage.writer.read_buffer(4))
        stage.write(1, [(HEAD, 0, b"a")])
        with stage.ring.peek() as piece:
            size = len(piece)
        stage.ring.take(size)
        self.assertIsNone(stage.writer.read_buffer(4))
        stage.writer.spool_moved(None)
        self.assertIsNotNone(stage.writer.read_buffer(4))
        stage.fail()
        stage.fill(2)
        stage.write(3, [(HEAD, 0, b"lost")])
        stage.drain()
        self.assertIsNone(stage.writer.read_buffer(4))


class RoomTests(WriterCase):
    def test_at_once(self) -> None:
        """While there is room, records are in the ring when `write` returns, and nothing waits."""
        stage = self.stage()
        stage.write(7, [(HEAD, 0, b"head"), (PIECE, int(Flag.LAST), b"body")])
        self.assertEqual((stage.writer.full, stage.stored), (False, 1))
        self.successResultOf(stage.writer.when_room())
        stage.drain()
        first, second = stage.found
        self.assertEqual((first.kind, first.exchange, first.payload), (Kind.REQUEST_HEAD, 7, b"head"))
        self.assertEqual((second.flags, second.payload), (Flag.LAST, b"body"))
        self.assertEqual(first.time, second.time)

    def test_waits(self) -> None:
        """Without room records wait, in order, and `when_room` fires when all of them are stored."""
        stage = self.stage()
        stage.fill()
        stage.write(1, [(HEAD, 0, b"a" * 100)])
        stage.write(2, [(HEAD, 0, b"b" * 100)])
        self.assertTrue(stage.writer.full and stage.writer.attentive)
        rooms = [stage.writer.when_room(), stage.writer.when_room()]
        stage.drain()
        for room in rooms:
            self.successResultOf(room)
        stage.drain()
        self.assertEqual([record.exchange for record in stage.found], [99, 1, 2])
        self.assertFalse(stage.writer.full or stage.writer.attentive)
        self.assertEqual(stage.writer.lost.exchanges, 0)

    def test_small_do_not_overtake(self) -> None:
        """Records that would fit do not pass by those that wait."""
        stage = self.stage()
        stage.write(1, [(HEAD, 0, b"a" * 100)])
        stage.write(2, [(HEAD, 0, b"b" * 100)])
        stage.write(3, [(HEAD, 0, b"")])
        self.assertTrue(stage.writer.full)
        stage.drain()
        self.assertEqual([record.exchange for record in stage.found], [1, 2, 3])

    def test_partly(self) -> None:
        """While some of what waits has found room, and some has not, nobody may go on."""
        stage = self.stage()
        stage.fill()
        for exchange in (1, 2):
            stage.write(exchange, [(HEAD, 0, b"a" * 150)])
        room = stage.writer.when_room()
        with stage.ring.peek() as piece:
            size = len(piece)
        stage.ring.take(size)
        stage.writer.spool_moved(None)
        self.assertNoResult(room)
        self.assertTrue(stage.writer.full)
        stage.drain()
        self.successResultOf(room)

    def test_room_freed_meanwhile(self) -> None:
        """Room that the spool made before it could see that somebody waits is found by `write` itself."""
        stage = self.stage()
        stage.fill()
        attentive: list[bool] = []

        def store(data: bytes) -> bool:
            """The spool's thread takes everything just before the waiting is looked at."""
            attentive.append(stage.writer.attentive)
            with stage.ring.peek() as piece:
                size = len(piece)
            stage.ring.take(size)
            self.patch(stage.writer, "_store", real)
            return real(data)

        real = stage.writer._store
        self.patch(stage.writer, "_store", store)
        stage.write(1, [(HEAD, 0, b"x")])
        self.assertEqual(attentive, [True])
        self.assertFalse(stage.writer.full)
        self.successResultOf(stage.writer.when_room())

    def test_writing_while_told(self) -> None:
        """Who is told that there is room may write at once, and finds the writer ready."""
        stage = self.stage()
        stage.fill()
        stage.write(1, [(HEAD, 0, b"a")])
        told = []

        def go_on(_: None) -> None:
            told.append(stage.writer.full)
            stage.write(1, [(PIECE, 0, b"b" * 150)])

        stage.writer.when_room().addCallback(go_on)
        stage.drain()
        stage.drain()
        self.assertEqual(told, [False])
        self.assertEqual(stage.of(1), [(HEAD, b"a"), (PIECE, b"b" * 150)])

    def test_larger_than_the_ring(self) -> None:
        """Records that no ring could hold are lost, with their exchange, and hold up nobody."""
        for passes in (True, False):
            stage = self.stage(passes)
            stage.write(1, [(HEAD, 0, b"a")])
            stage.write(1, [(PIECE, 0, b"b" * 2 * ROOM)])
            stage.write(1, [COMPLETE])
            self.assertFalse(stage.writer.full)
            stage.drain()
            stage.drain()
            self.assertEqual([kind for kind, _ in stage.of(1)], [HEAD, Kind.NOTE, END])
            self.assertEqual(stage.writer.lost.bytes, 2 * ROOM)


class TellingTests(WriterCase):
    """The logging server reads in the ring's file why nothing can be written."""

    def test_told(self) -> None:
        """The reason is there from when the spool fails until it works again, with both ways to go on."""
        for passes in (True, False):
            stage = self.stage(passes)
            self.assertEqual(stage.told, b"")
            stage.fail("No space left on device")
            self.assertEqual(stage.told, b"No space left on device")
            stage.fail("Input/output error")
            self.assertEqual(stage.told, b"Input/output error")
            stage.writer.spool_moved(None)
            self.assertEqual(stage.told, b"")

    def test_taken_up(self) -> None:
        """Who takes up a ring does not say what its predecessor said."""
        stage = self.stage()
        stage.fail()
        CaptureWriter(stage.ring, stage.count, True, stage.clock)
        self.assertEqual(stage.told, b"")


class BlockTests(WriterCase):
    def test_refuses(self) -> None:
        """With `block` new exchanges are refused from the first failure on, until it is over."""
        stage = self.stage(passes=False)
        self.assertFalse(stage.writer.refuses)
        stage.fail()
        self.assertTrue(stage.writer.refuses)
        stage.writer.spool_moved(None)
        self.assertFalse(stage.writer.refuses)

    def test_waits(self) -> None:
        """With `block` what is under way waits for as long as it takes, and nothing is lost."""
        stage = self.stage(passes=False)
        stage.fill()
        stage.fail()
        stage.write(1, [(HEAD, 0, b"a")])
        room = stage.writer.when_room()
        stage.fail("Input/output error")
        self.assertNoResult(room)
        stage.writer.spool_moved(None)
        self.assertNoResult(room)
        stage.drain()
        self.successResultOf(room)
        stage.drain()
        self.assertEqual(stage.of(1), [(HEAD, b"a")])
        self.assertEqual((stage.writer.lost.exchanges, stage.reports()), (0, []))


class PassTests(WriterCase):
    def test_never_refuses(self) -> None:
        """With `pass` nothing is refused, and while the ring has room nothing is lost either."""
        stage = self.stage()
        stage.fail()
        stage.write(1, [(HEAD, 0, b"a"), COMPLETE])
        self.assertFalse(stage.writer.refuses or stage.writer.full)
        stage.drain()
        self.assertEqual(len(stage.of(1)), 2)

    def test_whole_exchanges(self) -> None:
        """Exchanges of which nothing could be written are counted, with their bytes, and leave no record."""
        stage = self.stage()
        stage.fill()
        stage.fail()
        for exchange in (1, 2, 3):
            stage.write(exchange, [(HEAD, 0, b"head"), (PIECE, 0, b"body!")])
            self.assertFalse(stage.writer.full)
            stage.write(exchange, [(RESPONSE, 0, b"answer"), COMPLETE])
        self.assertEqual((stage.writer.lost.exchanges, stage.writer.lost.bytes), (3, 45))
        stage.drain()
        stage.drain()
        self.assertEqual([stage.of(exchange) for exchange in (1, 2, 3)], [[], [], []])
        report = {"exchanges": 3, "bytes": 45, "reason": "No space left on device"}
        self.assertEqual(stage.reports(), [report])
        self.assertFalse(stage.writer.attentive)

    def test_waiting_when_it_fails(self) -> None:
        """What waited for a slow disk is lost, and let pass, when the disk turns out to refuse."""
        stage = self.stage()
        stage.fill()
        stage.write(1, [(HEAD, 0, b"head"), (PIECE, 0, b"body")])
        room = stage.writer.when_room()
        stage.fail()
        self.successResultOf(room)
        self.assertFalse(stage.writer.full)
        self.assertEqual((stage.writer.lost.exchanges, stage.writer.lost.bytes), (1, 8))

    def test_hole(self) -> None:
        """An exchange whose head is written and whose rest is lost ends with a note of the bytes."""
        stage = self.stage()
        stage.write(1, [(HEAD, 0, b"head")])
        stage.fill()
        stage.fail()
        stage.write(1, [(RESPONSE, 0, b"12345")])
        stage.write(1, [(PIECE, 0, b"678"), COMPLETE])
        stage.drain()
        stage.drain()
        note = (Kind.NOTE, b'{"capture_lost_bytes": 8}')
        self.assertEqual(stage.of(1), [(HEAD, b"head"), note, (END, COMPLETE[2])])

    def test_hole_that_ends_later(self) -> None:
        """It goes on losing when there is room again, so that a hole is at the end, and then it ends."""
        stage = self.stage()
        stage.write(1, [(HEAD, 0, b"head")])
        stage.fill()
        stage.fail()
        stage.write(1, [(PIECE, 0, b"123")])
        stage.drain()
        stage.drain()
        self.assertIsNone(stage.writer.failure)
        self.assertEqual(stage.reports(), [{"exchanges": 1, "bytes": 3, "reason": "No space left on device"}])
        stored = stage.stored
        stage.write(1, [(PIECE, 0, b"4567")])
        self.assertEqual((stage.stored, stage.writer.attentive), (stored, False))
        stage.write(1, [COMPLETE])
        self.assertGreater(stage.stored, stored)
        stage.drain()
        note = (Kind.NOTE, b'{"capture_lost_bytes": 7}')
        self.assertEqual(stage.of(1), [(HEAD, b"head"), note, (END, COMPLETE[2])])
        self.assertEqual(sum(report["bytes"] for report in stage.reports()), 7)
        self.assertEqual(sum(report["exchanges"] for report in stage.reports()), 1)

    def test_new_exchanges_are_whole(self) -> None:
        """After recovery a new exchange is recorded as ever, while an old one is still losing."""
        stage = self.stage()
        stage.write(1, [(HEAD, 0, b"head")])
        stage.fill()
        stage.fail()
        stage.write(1, [(PIECE, 0, b"123")])
        stage.drain()
        stage.drain()
        stage.write(2, [(HEAD, 0, b"head"), COMPLETE])
        stage.drain()
        self.assertEqual([kind for kind, _ in stage.of(2)], [HEAD, END])

    def test_report_waits_for_room(self) -> None:
        """A report that finds no room is made as soon as there is some, without any other event."""
        stage = self.stage()
        stage.write(1, [(HEAD, 0, b"head")])
        stage.fill()
        stage.fail()
        stage.write(1, [(PIECE, 0, b"1"), COMPLETE])
        stage.writer.spool_moved(None)
        self.assertTrue(stage.writer.attentive)
        stage.drain()
        stage.drain()
        self.assertEqual(stage.of(1)[-1][0], END)
        self.assertEqual(len(stage.reports()), 1)
        self.assertFalse(stage.writer.attentive)

    def test_session_is_never_lost(self) -> None:
        """
        The session's record waits as long as it takes, and nothing of the session goes before it.

        Without it the exchanges' numbers would be taken for those of an earlier session.
        """
        stage = self.stage()
        stage.fill()
        stage.fail()
        stage.write(0, [(int(Kind.SESSION), 0, b"{}")])
        self.assertFalse(stage.writer.full)
        stage.write(1, [(HEAD, 0, b""), COMPLETE])
        stage.drain("No space left on device")
        stage.write(2, [(HEAD, 0, b"x" * 170), COMPLETE])
        stage.writer.spool_moved(None)
        stage.write(3, [(HEAD, 0, b"")])
        stage.drain()
        kinds = [(record.kind, record.exchange) for record in stage.found if record.exchange != 99]
        self.assertEqual(kinds[0], (Kind.SESSION, 0))
        self.assertIn((Kind.REQUEST_HEAD, 3), kinds)
        self.assertEqual(sum(report["exchanges"] for report in stage.reports()), stage.writer.lost.exchanges)


class StallTests(WriterCase):
    def stalled(self, passes: bool) -> tuple[Stage, Deferred[None]]:
        stage = self.stage(passes)
        stage.fill()
        stage.write(1, [(HEAD, 0, b"a")])
        return stage, stage.writer.when_room()

    def test_short(self) -> None:
        """A disk that stalls for less than the limit costs nothing but the wait."""
        stage, room = self.stalled(True)
        stage.clock.advance(STALL - 0.1)
        self.assertNoResult(room)
        stage.drain()
        self.successResultOf(room)
        self.assertEqual(stage.writer.lost.exchanges, 0)
        self.assertEqual(stage.clock.getDelayedCalls(), [])

    def test_long(self) -> None:
        """One that does not answer for longer counts as one that refuses, until it answers."""
        stage, room = self.stalled(True)
        stage.clock.advance(STALL)
        self.successResultOf(room)
        self.assertEqual(stage.writer.lost.exchanges, 1)
        self.assertIn("has not answered", stage.writer.failure or "")
        stage.drain()
        self.assertIsNone(stage.writer.failure)
        stage.drain()
        self.assertEqual(stage.reports()[0]["exchanges"], 1)

    def test_blocks(self) -> None:
        """With `block` new exchanges are refused then, and what waits goes on waiting."""
        stage, room = self.stalled(False)
        stage.clock.advance(STALL)
        self.assertTrue(stage.writer.refuses)
        self.assertNoResult(room)
        stage.drain()
        self.assertFalse(stage.writer.refuses)
        self.successResultOf(room)

    def test_slow_is_not_stalled(self) -> None:
        """A disk that takes anything at all has not stalled, however long records wait."""
        stage, room = self.stalled(True)
        for _ in range(5):
            stage.clock.advance(STALL / 2)
            stage.ring.take(1)
            stage.writer.spool_moved(None)
        self.assertNoResult(room)
        self.assertIsNone(stage.writer.failure)
        stage.writer.close()


class CloseTests(WriterCase):
    def test_waiting(self) -> None:
        """What still waits when the service ends is counted as lost."""
        stage = self.stage(passes=False)
        stage.fill()
        stage.write(1, [(HEAD, 0, b"abc"), COMPLETE])
        stage.writer.close()
        self.assertEqual((stage.writer.lost.exchanges, stage.writer.lost.bytes), (1, 3))
        self.assertEqual(stage.clock.getDelayedCalls(), [])

    def test_nothing(self) -> None:
        """Nothing lost, nothing said."""
        stage = self.stage()
        stage.write(1, [(HEAD, 0, b"abc")])
        stage.writer.close()
        stage.drain()
        self.assertEqual(len(stage.found), 1)


class EventTests(WriterCase):
    def test_capture(self) -> None:
        """The records of an exchange are written under its number; numbers are not used twice."""
        stage = self.stage()
        recorder = Recorder(stage.writer)
        first, second = recorder.capture(), recorder.capture()
        second.passed((HEAD, 0, b"b"))
        first.passed((HEAD, 0, b"a"), COMPLETE)
        stage.drain()
        self.assertEqual([record.exchange for record in stage.found], [2, 1, 1])
        self.assertEqual((first.number, second.number), (1, 2))
        self.assertFalse(first.full)
        self.successResultOf(first.when_room())

    def test_event(self) -> None:
        """The observer writes the records of an event, in order with those that have no event."""
        stage = self.stage()
        capture = Recorder(stage.writer).capture()
        observer = CaptureObserver(stage.writer)
        observer({"exchange": bytes(16), "capture": capture, "records": ((HEAD, 0, b"a"),)})
        capture.passed((PIECE, 0, b"b"))
        observer({"exchange": bytes(16), "capture": capture, "records": (COMPLETE,)})
        stage.drain()
        self.assertEqual(
            [(each.exchange, each.kind) for each in stage.found], [(1, HEAD), (1, PIECE), (1, END)]
        )

    def test_other_events(self) -> None:
        """The observer takes no notice of events without records, such as those of unrecorded exchanges."""
        stage = self.stage()
        observer = CaptureObserver(stage.writer)
        observer({"log_format": "hello"})
        observer({"exchange": bytes(16), "capture": None, "records": ()})
        self.assertEqual(stage.stored, 0)

    def test_refuses(self) -> None:
        """A recorder refuses when its writer does."""
        stage = self.stage(passes=False)
        recorder = Recorder(stage.writer)
        self.assertFalse(recorder.refuses)
        stage.fail()
        self.assertTrue(recorder.refuses)


ACTS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.integers(1, 4), st.integers(0, 130)),
        st.tuples(st.just("end"), st.integers(1, 4), st.integers(0, 30)),
        st.tuples(st.just("drain"), st.just(0), st.just(0)),
        st.tuples(st.just("fail"), st.just(0), st.just(0)),
        st.tuples(st.just("work"), st.just(0), st.just(0)),
    ),
    max_size=60,
)


class Books:
    """Four exchanges at a time, each begun anew when it has ended; and every byte that was given."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.numbers = {slot: slot for slot in range(1, 5)}
        self.begun: set[int] = set()
        self.given: dict[int, int] = {}
        self.failure: str | None = None

    def act(self, name: str, slot: int, size: int) -> None:
        if name == "drain":
            if self.failure is None:
                self.stage.drain()
        elif name in ("fail", "work"):
            self.failure = "full" if name == "fail" else None
            self.stage.writer.spool_moved(self.failure)
        else:
            self.write(self.numbers[slot], b"x" * size, name == "end")
            if name == "end":
                self.numbers[slot] += 4

    def write(self, number: int, data: bytes, last: bool) -> None:
        records = [(PIECE if number in self.begun else HEAD, 0, data)]
        self.begun.add(number)
        self.given[number] = self.given.get(number, 0) + len(data)
        self.stage.write(number, [*records, COMPLETE] if last else records)

    def finish(self) -> None:
        """End every exchange, and let the spool work until nothing moves."""
        self.act("work", 0, 0)
        for slot, number in self.numbers.items():
            if number in self.begun:
                self.act("end", slot, 0)
        for _ in range(200):
            self.stage.drain()


class AnyOrderTests(SynchronousTestCase):
    @settings(deadline=None, max_examples=200)
    @given(ACTS, st.booleans(), st.booleans())
    def test_books_balance(self, acts: list[tuple[str, int, int]], passes: bool, pure: bool) -> None:
        """
        Whatever happens when: every byte is either in the spool or counted, exactly.

        An exchange is whole, or ends with a note of what it lost, or is not there at all.
        """
        with mock.patch.object(shortcut, "compiled", shortcut.compiled and not pure):
            stage = Stage(passes)
        books = Books(stage)
        for act in acts:
            books.act(*act)
        books.finish()
        lost_exchanges = lost_bytes = 0
        for number, given_bytes in books.given.items():
            found = stage.of(number)
            kept = sum(len(payload) for kind, payload in found if kind in (HEAD, PIECE))
            lost_bytes += given_bytes - kept
            kinds = [kind for kind, _ in found]
            if Kind.NOTE in kinds or not kinds:
                lost_exchanges += 1
            if kinds:
                self.assertEqual((kinds[0], kinds[-1], kinds.count(END)), (HEAD, END, 1))
            for kind, payload in found:
                if kind == Kind.NOTE:
                    self.assertEqual(json.loads(payload), {"capture_lost_bytes": given_bytes - kept})
        lost = stage.writer.lost
        self.assertEqual((lost.exchanges, lost.bytes), (lost_exchanges, lost_bytes))
        self.assertEqual(sum(report["exchanges"] for report in stage.reports()), lost_exchanges)
        self.assertEqual(sum(report["bytes"] for report in stage.reports()), lost_bytes)
        if not passes:
            self.assertEqual(lost_exchanges, 0)
        self.assertFalse(stage.writer.full or stage.writer.attentive)
        self.assertEqual(stage.clock.getDelayedCalls(), [])
        stage.ring.close()
        stage.file.close()


class RoomInPythonTests(InPython, RoomTests): ...


class BlockInPythonTests(InPython, BlockTests): ...


class PassInPythonTests(InPython, PassTests): ...


class StallInPythonTests(InPython, StallTests): ...


_record = st.tuples(st.integers(0, 12), st.integers(0, 3), st.binary(max_size=60))
_step = st.one_of(
    st.tuples(st.sampled_from([0, 1, 255, 256, 1 << 40]), st.lists(_record, min_size=1, max_size=4)),
    st.tuples(st.just("land"), st.integers(0, 150), st.integers(1, 150)),
    st.sampled_from(["take", "take", "fail", "work"]),
)


class SameTests(SynchronousTestCase):
    """The C extension leaves the same ring behind, byte for byte."""

    def setUp(self) -> None:
        require_compiled()
        self.patch(writer_module, "_now", iter(range(1 << 60, 1 << 61)).__next__)

    @given(st.lists(_step, max_size=30), st.booleans())
    @settings(max_examples=200, deadline=None)
    def test_any_records(self, steps: list[Any], passes: bool) -> None:
        """Whatever is written, taken and refused when."""
        self.assertEqual(self.rings(steps, passes, True), self.rings(steps, passes, False))

    def test_is_used(self) -> None:
        """What is plain and fits is stored by the C extension, and by it alone."""
        stage = Stage()
        with mock.patch.object(Ring, "store", side_effect=AssertionError):
            stage.write(7, [(PIECE, 1, b"abc"), COMPLETE])
        self.assertEqual(stage.stored, 1)
        stage.drain()
        self.assertEqual(stage.of(7), [(PIECE, b"abc"), COMPLETE[::2]])

    def test_nothing_is_held(self) -> None:
        """No reference is left to what was used."""
        stage, records = Stage(size=9000), ((PIECE, 1, b"abc" * 5), COMPLETE)
        held = [stage.ring._bytes, stage.ring._header, stage.ring, stage.writer, records, records[0][2]]
        before = [sys.getrefcount(each) for each in held]
        for _ in range(50):
            stage._write(7, records)
        self.assertEqual([sys.getrefcount(each) for each in held], before)

    def test_not_records(self) -> None:
        """What cannot be written is an error, and leaves the ring as it was."""
        errors: Any = (OverflowError, TypeError, ValueError, struct.error)
        wrong: Any = (
            (-1, ((PIECE, 0, b""),)),
            (1 << 64, ((PIECE, 0, b""),)),
            ("1", ((PIECE, 0, b""),)),
            (1, ((PIECE, 0, "text"),)),
            (1, ((PIECE, b""),)),
            (1, (PIECE,)),
        )
        for exchange, records in wrong:
            stage = Stage()
            self.assertRaises(errors, stage.write, exchange, records)
            self.assertEqual((stage.ring.stored, stage.stored), (0, 0))

    def test_piece(self) -> None:
        """A piece that was read into the ring is stored by the C extension alone, also at the ring's end."""
        self.patch(writer_module, "LEAST_READ_BUFFER", 4)
        self.patch(ring_module, "LEAST_SUMMED", 4)
        stage = Stage(size=HEADER.size + 10)
        with mock.patch.object(Ring, "store_read", side_effect=AssertionError):
            self.store_read(stage, 10, 10)
        self.assertEqual((stage.stored, list(stage.ring._marks)), (1, [stage.ring.capacity]))
        self.assertEqual(stage.ring.sums(stage.ring.capacity), [(HEADER.size, 10, crc32(b"l" * 10))])
        stage.drain()
        self.assertEqual(stage.of(7), [(PIECE, b"l" * 10)])

    def test_piece_out_of_place(self) -> None:
        """What was stored meanwhile lies where the piece was read to: that is a mistake, and not recorded."""
        self.patch(writer_module, "LEAST_READ_BUFFER", 4)
        stage = Stage()
        place: Any = stage.writer.read_buffer(10)
        stage.write(1, [(PIECE, 0, b"abc")])
        stored = stage.ring.stored
        self.assertRaises(AssertionError, stage.write, 7, [(PIECE, 0, place)])
        self.assertEqual(stage.ring.stored, stored)

    def store_read(self, stage: Stage, most: int, size: int) -> None:
        """A piece is read into the ring, if it gives room for one."""
        place = stage.writer.read_buffer(most)
        if place is not None:
            piece: Any = place[: min(size, len(place))]
            piece[:] = b"l" * len(piece)
            stage.write(7, [(PIECE, 0, piece)])

    def rings(self, steps: list[Any], passes: bool, compiled: bool) -> list[Any]:
        """What the ring and the writer are after each step."""
        with (
            mock.patch.object(shortcut, "compiled", compiled),
            mock.patch.object(writer_module, "LEAST_READ_BUFFER", 4),
            mock.patch.object(writer_module, "_now", iter(range(1 << 60, 1 << 61)).__next__),
        ):
            stage = Stage(passes, 300)
            found: list[Any] = []
            stage.ring._piece = stage.ring._next_mark = 100
            for step in steps:
                if step == "take":
                    with stage.ring.peek() as piece:
                        size = len(piece)
                    stage.ring.take(size)
                    if stage.writer.attentive:
                        stage.writer.spool_moved(stage.writer.failure)
                elif step in ("fail", "work"):
                    stage.writer.spool_moved("no" if step == "fail" else None)
                elif step[0] == "land":
                    self.store_read(stage, *step[1:])
                else:
                    stage.write(*step)
                ring, writer = stage.ring, stage.writer
                found.append((bytes(ring._map), ring.stored, list(ring._marks), ring._next_mark))
                found.append((stage.stored, writer.full, writer.lost))
            stage.ring.close()
            stage.file.close()
            return found
