"""A spool with damage in it: whole blocks are read, others are told of, and nothing is made up."""

from __future__ import annotations

import errno
import json
import os
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase
from zlib_ng.zlib_ng import crc32

from logging_proxy.captures.events import BodyPiece, Ended, Started
from logging_proxy.captures.exchanges import Side, verdict
from logging_proxy.logserver.ingest.assembly import Assembler
from logging_proxy.logserver.ingest.consumer import SpoolConsumer
from logging_proxy.logserver.ingest.records import Damage, RecordStream
from logging_proxy.logserver.ingest.remote import RemoteSpool, stored_end
from logging_proxy.logserver.store.directory import LogDirectory
from logging_proxy.logserver.store.file_store import FileStore
from logging_proxy.recording.disk import SegmentFiles, last_offset, next_offset
from logging_proxy.recording.records import RecordReader
from logging_proxy.recording.rings import open_ring
from logging_proxy.recording.segments import BLOCK, block_header, segment_name
from logging_proxy.recording.tail import SpoolTail
from logging_proxy.shipping.shipper import SpoolReader
from logging_proxy.test.logserver_spools import MS, Script, Unobserved, other_id, session

SALT = 0x5EED5A17
EARLIER = "<4sIIHHQ"

EXCHANGES = 8


def exchanges() -> list[list[bytes]]:
    """The records of some exchanges, block by block; half of the exchanges straddle blocks."""
    blocks: list[list[bytes]] = [[session()]]
    scripts = [Script(number, other_id(number), 5_000 * MS * number) for number in range(1, EXCHANGES + 1)]
    for one, two in zip(scripts[::2], scripts[1::2], strict=True):
        whole, cut = one.simple(b"q" * 40, b"r" * 70), two.simple(b"Q" * 50, b"R" * 60)
        blocks += [[*whole, *cut[:2]], [cut[2]], cut[3:]]
    return blocks


PAYLOADS = [b"".join(records) for records in exchanges()]
STREAM = b"".join(PAYLOADS)


def segment(salt: int = SALT) -> tuple[bytes, list[tuple[int, int]]]:
    """All of it as the content of a segment, and where each block lies in that."""
    content, places, start = b"", [], 0
    for number, payload in enumerate(PAYLOADS):
        after = 5 if number % 3 == 2 else 0
        block = block_header(start, payload, 0, after, salt=salt) + payload + bytes(after)
        places.append((len(content), len(content) + len(block) - after))
        content += block
        start += len(payload)
    return content, places


CONTENT, PLACES = segment()
LATER = b"".join(Script(99, other_id(99), 10**12).simple(b"later", b"later"))


class Spool:
    """A directory with one segment, and what a reader finds in it."""

    def __init__(self, content: bytes) -> None:
        self._made = tempfile.TemporaryDirectory()
        self.directory = self._made.name
        self.path = os.path.join(self.directory, segment_name(0))
        self.write(content)
        self.pieces: list[bytes] = []
        self.damages: list[Damage] = []
        self.assembler = Assembler()
        self.bodies: dict[tuple[bytes, Side], bytes] = {}
        self.outcomes: dict[bytes, str] = {}
        self.tail = SpoolTail(self.directory, 0)
        self._stream = RecordStream(0)

    def write(self, content: bytes) -> None:
        Path(self.path).write_bytes(content)

    def add(self, data: bytes) -> None:
        with open(self.path, "ab") as file:
            file.write(data)

    def end(self) -> None:
        """Another segment begins."""
        (Path(self.directory) / segment_name(len(STREAM) + len(LATER))).write_bytes(b"")

    def read(self) -> None:
        """Take in what there is."""
        while (piece := self.tail.read()) is not None:
            self.pieces.append(bytes(piece.data))
            for item in self._stream.feed(piece):
                if isinstance(item, Damage):
                    self.damages.append(item)
                    self.assembler.mark_damaged(item.reason, item.missing)
                    continue
                for event in self.assembler.handle(item):
                    self._take(event)

    def _take(self, event: object) -> None:
        if isinstance(event, Started):
            assert event.exchange.uuid not in self.outcomes
        if isinstance(event, BodyPiece):
            key = event.exchange.uuid, event.side
            self.bodies[key] = self.bodies.get(key, b"") + bytes(event.data)
        if isinstance(event, Ended):
            self.outcomes[event.exchange.uuid] = verdict(event.exchange)[0]

    def close(self) -> None:
        self.tail.close()
        self._made.cleanup()


def later_block(salt: int = SALT) -> bytes:
    return block_header(len(STREAM), LATER, salt=salt) + LATER


def flipped(content: bytes, bit: int) -> bytes:
    at = bit // 8
    return content[:at] + bytes([content[at] ^ 1 << bit % 8]) + content[at + 1 :]


class DamageCase(SynchronousTestCase):
    def check(self, content: bytes, hurt: Callable[[int, int], bool]) -> None:
        """All blocks of a damaged segment are read but the `hurt`, and no exchange is made too short."""
        spool = Spool(content)
        try:
            spool.read()
            spool.add(later_block())
            spool.read()
            wanted = [payload for payload, place in zip(PAYLOADS, PLACES, strict=True) if not hurt(*place)]
            found = [piece for piece in spool.pieces if piece in wanted or piece == LATER]
            self.assertEqual(found, [*wanted, LATER])
            if len(wanted) < len(PAYLOADS):
                self.assertGreater(len(spool.damages), 0)
            self.check_exchanges(spool, [PAYLOADS.index(payload) for payload in wanted])
        finally:
            spool.close()

    def check_exchanges(self, spool: Spool, whole: list[int]) -> None:
        complete = {id for id, outcome in spool.outcomes.items() if outcome == "complete"}
        for number in range(1, EXCHANGES + 1):
            id, first = other_id(number), number % 2 == 1
            asked, answered = (b"q" * 40, b"r" * 70) if first else (b"Q" * 50, b"R" * 60)
            if id in complete:
                self.assertEqual(spool.bodies[id, Side.REQUEST], asked)
                self.assertEqual(spool.bodies[id, Side.RESPONSE], answered)
            block = 1 + (number - 1) // 2 * 3
            if first and block in whole:
                self.assertIn(id, complete)
        self.assertIn(other_id(99), complete)


class AnyDamageTests(DamageCase):
    def test_headers(self) -> None:
        """Any bit of any header: what is lost is that block at most."""
        for begin, _ in (PLACES[0], PLACES[2], PLACES[3], PLACES[-1]):
            for bit in range(8 * begin, 8 * (begin + BLOCK.size)):
                at = bit // 8
                self.check(flipped(CONTENT, bit), lambda begin, end, at=at: begin <= at < end)  # type: ignore[misc]

    @settings(deadline=None, max_examples=150)
    @given(st.integers(0, 8 * len(CONTENT) - 1))
    def test_bits(self, bit: int) -> None:
        """Any bit."""
        self.check(flipped(CONTENT, bit), lambda begin, end: begin <= bit // 8 < end)

    @settings(deadline=None, max_examples=150)
    @given(st.integers(0, len(CONTENT)), st.integers(1, 300), st.sampled_from([b"\0", b"\xff", b"LPB2"]))
    def test_overwritten(self, at: int, size: int, what: bytes) -> None:
        """Bytes that something else was written over."""
        size = min(size, len(CONTENT) - at)
        content = CONTENT[:at] + (what * size)[:size] + CONTENT[at + size :]
        changed = {n for n, byte in enumerate(content) if byte != CONTENT[n]}
        self.check(content, lambda begin, end: any(begin <= n < end for n in changed))

    @settings(deadline=None, max_examples=150)
    @given(st.integers(BLOCK.size, len(CONTENT)), st.integers(1, 600))
    def test_cut_out(self, at: int, size: int) -> None:
        """Bytes that are gone, so that all behind them have moved."""
        content = CONTENT[:at] + CONTENT[at + size :]
        self.check(content, lambda begin, end: begin < at + size and at < end)

    def test_cut_out_of_the_first_header(self) -> None:
        """Those in front of a segment's first payload: what is whole comes when the next segment begins."""
        for at in range(BLOCK.size):
            for size in (1, 3, 4, 12, 20):
                spool = Spool(CONTENT[:at] + CONTENT[at + size :])
                spool.read()
                spool.add(later_block())
                spool.end()
                spool.read()
                self.assertEqual(spool.pieces[-len(PAYLOADS) + 2 :], [*PAYLOADS[3:], LATER])
                spool.close()

    @settings(deadline=None, max_examples=150)
    @given(st.integers(BLOCK.size, len(CONTENT)), st.integers(0, len(CONTENT)), st.integers(1, 600))
    def test_doubled(self, at: int, of: int, size: int) -> None:
        """Bytes that are there twice, in another place."""
        content = CONTENT[:at] + CONTENT[of : of + size] + CONTENT[at:]
        self.check(content, lambda begin, end: CONTENT[begin:end] not in content)

    @settings(deadline=None, max_examples=100)
    @given(st.dictionaries(st.integers(0, len(PLACES) - 1), st.integers(0, 1 << 20), min_size=2))
    def test_many(self, wounds: dict[int, int]) -> None:
        """A bit in each of several blocks."""
        content, changed = CONTENT, set()
        for number, where in wounds.items():
            begin, end = PLACES[number]
            bit = 8 * begin + where % (8 * (end - begin))
            content = flipped(content, bit)
            changed.add(bit // 8)
        self.check(content, lambda begin, end: any(begin <= at < end for at in changed))


class TailTests(DamageCase):
    def test_written_just_now(self) -> None:
        """A block at the end is no damage while it is being written, however far it has come."""
        begin, end = PLACES[-1]
        spool = Spool(CONTENT[:begin])
        self.addCleanup(spool.close)
        for at in range(begin, end):
            spool.read()
            spool.add(CONTENT[at : at + 1])
        spool.read()
        self.assertEqual((b"".join(spool.pieces), spool.damages), (STREAM, []))

    def test_damaged_at_the_end(self) -> None:
        """The newest block, damaged, holds up nothing that comes behind it, and is told of then."""
        spool = Spool(flipped(CONTENT, 8 * (PLACES[-1][0] + 60)))
        self.addCleanup(spool.close)
        spool.read()
        self.assertEqual(spool.damages, [])
        spool.add(later_block())
        spool.read()
        self.assertEqual(len(spool.damages), 1)
        self.assertEqual(spool.outcomes[other_id(99)], "complete")
        self.assertNotIn("complete", {outcome for id, outcome in spool.outcomes.items() if id == other_id(8)})

    def test_once(self) -> None:
        """Damage that was told is not told again when reading goes on behind it, or anew from there."""
        spool = Spool(flipped(CONTENT, 8 * (PLACES[3][0] + 60)))
        self.addCleanup(spool.close)
        spool.read()
        self.assertEqual(len(spool.damages), 1)
        again = SpoolTail(spool.directory, len(STREAM))
        self.addCleanup(again.close)
        self.assertIsNone(again.read())
        self.assertFalse(again.rewound)
        spool.add(later_block())
        piece = again.read()
        assert piece is not None
        self.assertEqual((piece.data, piece.damaged), (LATER, False))

    def test_read_before(self) -> None:
        """What is damaged after it was read does not make a spool another one."""
        spool = Spool(flipped(CONTENT, 8 * (PLACES[-1][0] + 60)))
        self.addCleanup(spool.close)
        again = SpoolTail(spool.directory, len(STREAM))
        self.addCleanup(again.close)
        self.assertIsNone(again.read())
        self.assertFalse(again.rewound)

    def test_nothing_missing(self) -> None:
        """Damage that has met no byte of the stream is told of, and makes no exchange doubtful."""
        begin, _ = PLACES[4]
        empty = block_header(sum(map(len, PAYLOADS[:4])), b"", salt=SALT)
        spool = Spool(CONTENT[:begin] + flipped(empty, 3) + CONTENT[begin:])
        self.addCleanup(spool.close)
        spool.read()
        self.assertEqual([damage.missing for damage in spool.damages], [False])
        self.assertEqual({*spool.outcomes.values()}, {"complete"})

    def test_first_of_all(self) -> None:
        """Damage before the first byte that can be read is told of as well."""
        spool = Spool(flipped(CONTENT, 80))
        self.addCleanup(spool.close)
        tail, stream = SpoolTail(spool.directory), RecordStream()
        self.addCleanup(tail.close)
        piece = tail.read()
        assert piece is not None
        self.assertIsInstance(next(iter(stream.feed(piece))), Damage)


class MadeUpTests(SynchronousTestCase):
    """A client sends what looks like blocks, and does not know the salt."""

    FORGED = b"".join(
        block_header(start, Script(66, other_id(66)).head(), salt=salt) + Script(66, other_id(66)).head()
        for start in range(0, 3000, 7)
        for salt in (0, 1)
    )

    def bodies(self, hurt: int, size: int | None = None, later: bool = True) -> Spool:
        """A body full of blocks in a block with a damaged byte, of which `size` bytes are there."""
        payload = b"".join(Script().simple(self.FORGED))
        block = flipped(block_header(0, payload, salt=SALT) + payload, 8 * hurt)[:size]
        behind = b"".join(Script(7, other_id(7)).simple())
        if later:
            block += block_header(len(payload), behind, salt=SALT) + behind
        spool = Spool(block)
        self.addCleanup(spool.close)
        spool.read()
        return spool

    def test_damaged(self) -> None:
        """In a block with a damaged byte, in its header or behind that, they are not taken for blocks."""
        for hurt in (*range(BLOCK.size), 500):
            spool = self.bodies(hurt)
            self.assertNotIn(other_id(66), spool.outcomes)
            self.assertNotIn(66, spool.assembler.open)
            self.assertIn(other_id(7), spool.outcomes, hurt)

    def test_nothing_behind(self) -> None:
        """The same where nothing comes behind it, as far as its header can be read."""
        for hurt in (*range(8, 14), *range(24, BLOCK.size), 500):
            self.assertEqual(len(self.bodies(hurt, later=False).pieces), 0, hurt)

    def test_torn(self) -> None:
        """Nor in a block that is just being written."""
        spool = self.bodies(500, 20_000, later=False)
        self.assertEqual((spool.pieces, spool.assembler.open), ([], {}))


class EarlierVersionTests(DamageCase):
    def test_read(self) -> None:
        """Segments of earlier versions, whose blocks have no salt, are read across damage as well."""
        content, start = b"", 0
        for payload in PAYLOADS:
            crc = crc32(payload, crc32(start.to_bytes(8, "little")))
            content += struct.pack(EARLIER, b"LPB1", len(payload), crc, 0, 0, start) + payload
            start += len(payload)
        for damaged in (False, True):
            spool = Spool(flipped(content, 8 * 500) if damaged else content)
            self.addCleanup(spool.close)
            spool.read()
            self.assertEqual(len(spool.pieces), len(PAYLOADS) - damaged)
            self.assertEqual(len(spool.damages), damaged)


class WriterTests(SynchronousTestCase):
    """Where a stream goes on whose newest segment is damaged."""

    def directory(self, content: bytes) -> Path:
        path = Path(self.mktemp()).absolute()
        path.mkdir()
        (path / segment_name(0)).write_bytes(content)
        return path

    def test_behind_the_last_whole_block(self) -> None:
        """Behind the last block that is whole, wherever the damage is before that."""
        for number in range(len(PAYLOADS) - 1):
            for at in (4, 16, 40):
                directory = self.directory(flipped(CONTENT, 8 * (PLACES[number][0] + at)))
                self.assertEqual((last_offset(directory), next_offset(directory)), (len(STREAM), len(STREAM)))

    def test_last_block(self) -> None:
        """Behind the damaged last block, too, where no ring has its bytes: readers find a gap."""
        whole = sum(map(len, PAYLOADS[:-1]))
        directory = self.directory(flipped(CONTENT, 8 * (PLACES[-1][0] + 60)))
        self.assertEqual(last_offset(directory), whole)
        self.assertGreaterEqual(next_offset(directory), len(STREAM))
        ring, _ = open_ring(directory, directory / "none", 4096)
        self.assertEqual(ring.taken, next_offset(directory))
        files = SegmentFiles(directory, ring.taken, 1 << 30)
        files.append(LATER)
        files.close()
        ring.close()
        spool = Spool(b"")
        self.addCleanup(spool.close)
        spool.tail = SpoolTail(str(directory), 0)
        spool.read()
        self.assertEqual(len(spool.damages), 1)
        self.assertEqual(spool.outcomes[other_id(99)], "complete")

    def test_ring_has_it(self) -> None:
        """A block that was half written when the process died is written again, out of the ring."""
        directory = self.directory(CONTENT[: PLACES[-1][0]])
        ring, _ = open_ring(directory, directory / "none", 4096)
        ring.store(PAYLOADS[-1])
        ring.close()
        with open(directory / segment_name(0), "ab") as file:
            file.write(CONTENT[PLACES[-1][0] :][:50])
        ring, _ = open_ring(directory, directory / "none", 4096)
        self.assertEqual((ring.taken, ring.stored), (sum(map(len, PAYLOADS[:-1])), len(STREAM)))
        ring.close()


class RemoteTests(SynchronousTestCase):
    def test_stored_end(self) -> None:
        """A remote spool goes on behind its last whole block, and its reader behind the damaged one."""
        directory = self.mktemp()
        spool = RemoteSpool(directory)
        at = 0
        for payload in PAYLOADS:
            at = spool.append(at, payload)
        (path,) = Path(directory).glob("*.seg")
        content = path.read_bytes()
        path.write_bytes(flipped(content, len(content) * 4))
        again = RemoteSpool(directory)
        self.assertEqual((stored_end(directory), again.offset()), (len(STREAM), len(STREAM)))
        again.append(len(STREAM), LATER)
        reader = Spool(b"")
        self.addCleanup(reader.close)
        reader.tail = SpoolTail(directory, 0)
        reader.read()
        self.assertEqual(len(reader.damages), 1)
        self.assertEqual(len(reader.pieces), len(PAYLOADS))
        self.assertEqual(reader.outcomes[other_id(99)], "complete")

    def test_shipped(self) -> None:
        """A shipper sends what is whole on both sides of the damage, and says which bytes are not there."""
        spool = Spool(flipped(CONTENT, 8 * (PLACES[5][0] + 50)))
        self.addCleanup(spool.close)
        reader, sent = SpoolReader(spool.directory), b""
        self.addCleanup(reader.close)
        starts = []
        while (batch := reader.batch()) is not None:
            starts.append(batch.start)
            sent += bytes(batch.data)
        behind = sum(map(len, PAYLOADS[:6]))
        self.assertEqual(starts, [0, behind])
        self.assertEqual(sent, STREAM.replace(PAYLOADS[5], b"", 1))


class UnreadableTests(SynchronousTestCase):
    def test_sector(self) -> None:
        """A sector that the disk cannot read any more costs the blocks that it is in."""
        payloads = [b"".join(Script(n, other_id(n)).simple(b"q" * 3000)) for n in range(1, 9)]
        content, places, start = b"", [], 0
        for payload in payloads:
            block = block_header(start, payload, salt=SALT) + payload
            places.append((len(content), len(content) + len(block)))
            content, start = content + block, start + len(payload)
        spool = Spool(content)
        self.addCleanup(spool.close)
        real, bad = os.pread, range(8192, 12288)

        def pread(fd: int, size: int, at: int) -> bytes:
            if at < bad.stop and at + size > bad.start:
                raise OSError(errno.EIO, "Input/output error")
            return real(fd, size, at)

        self.patch(os, "pread", pread)
        spool.read()
        whole = [
            payload
            for payload, (begin, end) in zip(payloads, places, strict=True)
            if begin >= bad.stop or end <= bad.start
        ]
        self.assertEqual(spool.pieces, whole)
        self.assertEqual(len(spool.damages), 1)
        self.assertEqual(last_offset(Path(spool.directory)), start)


class EndTests(SynchronousTestCase):
    def test_end_is_missing(self) -> None:
        """An exchange whose end damage has met ends when nothing has come of it for long; others go on."""
        hurt, quiet, later = Script(1, other_id(1)), Script(2, other_id(2)), Script(3, other_id(3))
        assembler = Assembler()
        for record in RecordReader().feed(b"".join(hurt.simple()[:4])):
            assembler.handle(record)
        assembler.mark_damaged("a block")
        for record in RecordReader().feed(b"".join(quiet.simple()[:4])):
            assembler.handle(record)
        self.assertEqual(assembler.end_damaged(10**12), [])
        later.clock += 2 * 10**12
        for record in RecordReader().feed(b"".join(later.simple()[:1])):
            assembler.handle(record)
        (ended,) = assembler.end_damaged(10**12)
        assert isinstance(ended, Ended)
        self.assertEqual((ended.exchange.number, ended.exchange.outcome), (1, "interrupted"))
        self.assertEqual(sorted(assembler.open), [2, 3])


def says_the_same(damaged: bytes, content: bytes) -> bool:
    """Whether a bit has no meaning in JSON, as in the hexadecimal digits of an escape."""
    try:
        return bool(json.loads(damaged) == json.loads(content))
    except ValueError:
        return False


class CountTests(SynchronousTestCase):
    def test_checkpoint(self) -> None:
        """What was counted is in the checkpoint, so that it outlives the process."""
        spool = Spool(flipped(CONTENT, 8 * (PLACES[3][0] + 60)))
        self.addCleanup(spool.close)
        directory = LogDirectory(self.mktemp())
        directory.open()
        self.addCleanup(directory.close)
        for _ in range(2):
            consumer = SpoolConsumer(spool.directory, FileStore(directory), lambda: 0.0, Unobserved())
            consumer.open()
            consumer.turn()
            consumer.settle()
            consumer.close()
            self.assertEqual(consumer.assembler.tally.damages, 1)
        self.flushLoggedErrors()
        path = Path(spool.directory) / "consumer.json"
        self.assertEqual(json.loads(path.read_bytes())["tally"][2], 1)
        self.check_damaged_checkpoints(
            path, SpoolConsumer(spool.directory, FileStore(directory), lambda: 0.0, Unobserved())
        )

    def test_much(self) -> None:
        """A spool full of damage is a line or two in the log, and all of it is counted."""
        spool = Spool(b"")
        self.addCleanup(spool.close)
        data = (5 * Script(1, other_id(1)).head() + b"\xff" * 30) * 200
        spool.write(block_header(0, data, salt=SALT) + data)
        directory = LogDirectory(self.mktemp())
        directory.open()
        self.addCleanup(directory.close)
        consumer = SpoolConsumer(spool.directory, FileStore(directory), lambda: 0.0, Unobserved())
        consumer.open()
        with capturedLogs() as logged:
            consumer.turn()
        consumer.close()
        self.assertGreater(consumer.assembler.tally.damages, 190)
        self.assertEqual(len(logged), 1)

    def check_damaged_checkpoints(self, path: Path, consumer: SpoolConsumer) -> None:
        """Any bit of it that is another is seen, and counted; the spool is read anew then."""
        content = path.read_bytes()
        for at in range(0, len(content), 3):
            damaged = flipped(content, 8 * at + at % 8)
            if says_the_same(damaged, content):
                continue
            path.write_bytes(damaged)
            consumer.open()
            self.assertEqual((consumer.offset, consumer.assembler.tally.damages), (None, 1), at)
            consumer.close()
        path.write_bytes(content)
        consumer.open()
        self.assertEqual(consumer.offset, len(STREAM))
        consumer.close()
        self.flushLoggedErrors()
