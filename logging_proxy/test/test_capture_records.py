"""Reading records: out of a view, where the next read overwrites what nobody keeps, and in C."""

from __future__ import annotations

from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.net import shortcut
from logging_proxy.recording import records
from logging_proxy.recording.records import MAX_PAYLOAD, Kind, Record, RecordReader, SpoolDamage, encode
from logging_proxy.test.shortcut_stage import require_compiled

LEAST = 100
PIECES = (Kind.REQUEST_PIECE, Kind.RESPONSE_PIECE, Kind.TUNNEL_CLIENT, Kind.TUNNEL_UPSTREAM)


class ViewTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.patch(records, "LEAST_VIEW", LEAST)
        self.sent = [Record(kind, 0, 7, 5, b"x" * size) for kind in Kind for size in (0, 1, LEAST - 1, LEAST)]
        self.data = b"".join(
            encode(record.kind, record.flags, record.exchange, record.time, record.content)
            for record in self.sent
        )

    def test_large_pieces_only(self) -> None:
        """Whatever may be kept is copied."""
        found = list(RecordReader().feed(memoryview(bytearray(self.data))))
        self.assertEqual([record._replace(payload=bytes(record.payload)) for record in found], self.sent)
        for record in found:
            large = record.kind in PIECES and len(record.payload) >= LEAST
            self.assertIs(type(record.payload), memoryview if large else bytes, record)

    def test_memory_used_again(self) -> None:
        """Wherever a record is split between two views, what came in the first is kept."""
        for split in range(len(self.data)):
            reader, memory, found = RecordReader(), bytearray(len(self.data)), []
            for part in (self.data[:split], self.data[split:]):
                memory[: len(part)] = part
                with memoryview(memory)[: len(part)] as view:
                    for record in reader.feed(view):
                        found.append(record._replace(payload=bytes(record.payload)))
                        del record
                memory[:] = bytes(len(memory))
            self.assertEqual(found, self.sent)

    def test_bytes(self) -> None:
        """Of bytes there are only bytes."""
        self.assertEqual({type(record.payload) for record in RecordReader().feed(self.data)}, {bytes})


numbers = st.one_of(st.integers(0, 300), st.integers(0, (1 << 64) - 1))
whole = st.builds(
    encode, st.sampled_from(Kind), st.integers(0, 255), numbers, numbers, st.binary(max_size=60)
)
damaged = st.builds(records.HEADER.pack, st.integers(0, 1 << 25), st.integers(0, 255), *[st.just(0)] * 4)
streams = st.lists(st.one_of(whole, whole, whole, damaged, st.binary(max_size=40)), max_size=8).map(b"".join)


def read(parts: list[bytes]) -> tuple[list[tuple[type, Record]], list[int], str]:
    """What a reader gives, how far it was after each part, and the damage that it came to."""
    reader, found, consumed = RecordReader(), [], []
    try:
        for part in parts:
            for record in reader.feed(part):
                found.append((type(record.kind), record))
            consumed.append(reader.consumed)
    except SpoolDamage as damage:
        return found, [*consumed, reader.consumed], str(damage)
    return found, consumed, ""


class SplitTests(SynchronousTestCase):
    def setUp(self) -> None:
        require_compiled()

    @settings(deadline=None, max_examples=300)
    @given(streams, st.lists(st.integers(0, 120), max_size=4))
    def test_same(self, stream: bytes, cuts: list[int]) -> None:
        """Whatever the bytes and wherever they are cut, the C extension gives what there is without it."""
        places = [0, *sorted(cuts), len(stream)]
        parts = [stream[start:end] for start, end in zip(places, places[1:], strict=False)]
        with mock.patch.object(shortcut, "compiled", False):
            expected = read(parts)
        self.assertEqual(read(parts), expected)

    def test_is_used(self) -> None:
        """Bytes are taken apart in C."""
        with mock.patch.object(shortcut, "splitter", return_value=lambda *_: ([], 0)) as splitter:
            self.assertEqual(len(list(RecordReader().feed(encode(Kind.END, 0, 1, 1, b"\x00")))), 1)
        splitter.assert_called_once_with()

    def test_misused(self) -> None:
        """What is no bytes, no tuple's type or no tuple is refused."""
        split = shortcut.splitter()
        assert split is not None
        kinds = tuple(Kind)
        for arguments in (("text", Record, kinds), (b"", int, kinds), (b"", Record, list(kinds))):
            self.assertRaises(TypeError, split, *arguments, MAX_PAYLOAD)
