"""Reading records out of a view: nobody keeps what the next read overwrites."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.capture import records
from logging_proxy.capture.records import Kind, Record, RecordReader, encode

LEAST = 100
PIECES = (Kind.REQUEST_PIECE, Kind.RESPONSE_PIECE, Kind.TUNNEL_CLIENT, Kind.TUNNEL_UPSTREAM)


class ViewTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.patch(records, "LEAST_VIEW", LEAST)
        self.sent = [Record(kind, 0, 7, 5, b"x" * size) for kind in Kind for size in (0, 1, LEAST - 1, LEAST)]
        self.data = b"".join(
            encode(record.kind, record.flags, record.exchange, record.time, record.payload)
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
