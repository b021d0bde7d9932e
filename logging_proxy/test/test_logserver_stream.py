"""From pieces of a spool's stream to records, across damage."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.logserver.ingest import records as stream_module
from logging_proxy.logserver.ingest.records import Damage, RecordStream, find_record
from logging_proxy.recording.records import Kind, Record, encode
from logging_proxy.recording.tail import Piece

RECORDS = [encode(Kind.RESPONSE_PIECE, 0, n, 10**9 + n, b"%d" % n * (n * 7 % 60)) for n in range(1, 30)]
STREAM = b"".join(RECORDS)


def cut(stream: bytes, sizes: list[int], start: int = 0) -> list[Piece]:
    pieces = []
    for size in [*sizes, len(stream)]:
        pieces.append(Piece(start, stream[:size]))
        stream, start = stream[size:], start + size
    return [piece for piece in pieces if piece.data]


def feed(pieces: list[Piece], stream: RecordStream) -> tuple[list[int], int]:
    """The numbers of the exchanges whose records came, and how many damages."""
    items = [item for piece in pieces for item in stream.feed(piece)]
    numbers = [item.exchange for item in items if isinstance(item, Record)]
    return numbers, sum(isinstance(item, Damage) for item in items)


class RecordStreamTests(SynchronousTestCase):
    @settings(deadline=None)
    @given(st.lists(st.integers(1, 100), max_size=40))
    def test_any_pieces(self, sizes: list[int]) -> None:
        """However the stream is cut, its records are the same, and `offset` is behind the last."""
        stream = RecordStream(0)
        self.assertEqual(feed(cut(STREAM, sizes), stream), (list(range(1, 30)), 0))
        self.assertEqual(stream.offset, len(STREAM))

    @settings(deadline=None)
    @given(st.integers(0, 10), st.lists(st.integers(1, 100), max_size=40))
    def test_begins_in_a_record(self, skipped: int, sizes: list[int]) -> None:
        """Read from the oldest byte there is, the stream goes on at the next whole record."""
        start = len(RECORDS[0]) + skipped
        wanted = list(range(2 if skipped == 0 else 3, 30))
        stream = RecordStream(None)
        self.assertEqual(feed(cut(STREAM[start:], sizes, start), stream), (wanted, 0))

    @settings(deadline=None)
    @given(st.integers(0, 28), st.integers(1, 200), st.lists(st.integers(1, 100), max_size=40))
    def test_gap(self, lost: int, size: int, sizes: list[int]) -> None:
        """Behind a gap of any size the next whole records come, and the gap is told once."""
        at = sum(map(len, RECORDS[:lost]))
        end = min(at + size, len(STREAM))
        pieces = [Piece(0, STREAM[:at])] * (at > 0) + cut(STREAM[end:], sizes, end)
        numbers, damages = feed(pieces, RecordStream(0))
        whole, position = [], 0
        for number, record in enumerate(RECORDS, 1):
            if position + len(record) <= at or position >= end:
                whole.append(number)
            position += len(record)
        if end < len(STREAM):
            self.assertEqual((numbers, damages), (whole, 1))

    def test_nonsense(self) -> None:
        """Bytes that are no record are told and skipped."""
        pieces = [Piece(0, RECORDS[0] + b"\xff" * 40 + RECORDS[1] + RECORDS[2])]
        self.assertEqual(feed(pieces, RecordStream(0)), ([1, 2, 3], 1))

    def test_zeros(self) -> None:
        """A run of zeros, as power loss leaves, is not taken for records."""
        self.assertIsNone(find_record(bytes(4096)))
        self.assertEqual(find_record(bytes(100) + STREAM), 100)

    def test_places_tried(self) -> None:
        """What is looked at closely are few places, of which bytes that a client may send have no more."""
        for data, most in ((bytes(100_000), 0), (b"\0\1" * 50_000, 0), (STREAM * 20, 20 * len(STREAM) // 24)):
            tried = sum(1 for _ in stream_module._LIKE_A_HEADER.finditer(data))
            self.assertLessEqual(tried, most)

    @settings(deadline=None)
    @given(st.binary(max_size=300))
    def test_any_bytes(self, data: bytes) -> None:
        """Whatever stands in a spool, reading it ends, and each record that is read stands there."""
        stream = RecordStream(0)
        for start in (0, len(data)):
            for item in stream.feed(Piece(start, data)):
                if isinstance(item, Record):
                    self.assertIn(bytes(item.content), data + data)
                else:
                    self.assertNotEqual(item.reason, "")
        self.assertIn(stream.offset, range(2 * len(data) + 1))
