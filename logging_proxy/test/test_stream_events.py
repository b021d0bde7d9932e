"""Readers of streams: server-sent events, lines, an array in pieces, and frames."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.understanding import stream_events
from logging_proxy.understanding.stream_events import (
    ArrayReader,
    Event,
    EventReader,
    FrameReader,
    LinesReader,
    ServerSentReader,
)


def read(make: Callable[[], EventReader], pieces: list[bytes]) -> list[Event]:
    """The events of a body that comes in `pieces`, each a microsecond after the one before."""
    reader = make()
    events = [event for at, piece in enumerate(pieces) for event in reader.feed(piece, at)]
    return events + reader.finish()


def without_times(events: list[Event]) -> list[tuple[str, str, int, int, bool, bool, str]]:
    return [(e.data, e.type, e.offset, e.length, e.is_data, e.whole, e.id) for e in events]


def frame(payload: bytes, **headers: str) -> bytes:
    """A frame as Bedrock sends it."""
    block = b""
    for name, value in headers.items():
        key = ":" + name.replace("_", "-")
        block += bytes([len(key)]) + key.encode() + b"\x07" + len(value).to_bytes(2, "big") + value.encode()
    prelude = (16 + len(block) + len(payload)).to_bytes(4, "big") + len(block).to_bytes(4, "big")
    start = prelude + zlib.crc32(prelude).to_bytes(4, "big") + block + payload
    return start + zlib.crc32(start).to_bytes(4, "big")


BODIES: dict[str, tuple[Callable[[], EventReader], bytes]] = {
    "events": (
        ServerSentReader,
        "\ufeff: hi\n\ndata: a\ndata:b\n\nevent: ping\r\n\r\nid: 7\r\ndata: é\r\r".encode()
        + b"retry: 5\n\ndata\n\n:x\n",
    ),
    "events that are cut": (ServerSentReader, b"data: a\n\nevent: b\ndata: c"),
    "lines": (LinesReader, b'{"a": 1}\r\n\n\x1e{"b": 2}\n[3'),
    "a line without an end": (LinesReader, b'{"a": 1}\n{"b": 2}'),
    "an array": (ArrayReader, b'[{"a": "]}\\", "}\n,\r\n{"b": [1, {"c": 2}]} , 3]'),
    "an array that is cut": (ArrayReader, b'[{"a": 1}, {"b": "'),
    "frames": (FrameReader, frame(b'{"a": 1}', event_type="chunk") + frame(b"{}", exception_type="e")),
    "frames that are cut": (FrameReader, frame(b'{"a": 1}', event_type="chunk") + frame(b"{}")[:-3]),
}


class SplitTests(SynchronousTestCase):
    def test_byte_by_byte(self) -> None:
        """A body that comes byte by byte has the same events as one that comes whole."""
        for name, (make, body) in BODIES.items():
            whole, bytes_ = read(make, [body]), read(make, [body[at : at + 1] for at in range(len(body))])
            self.assertEqual(without_times(bytes_), without_times(whole), name)
            self.assertGreater(len(whole), 1, name)

    @given(st.sampled_from(sorted(BODIES)), st.sets(st.integers(0, 200)))
    def test_anywhere(self, name: str, cuts: set[int]) -> None:
        """However a body is cut into pieces, its events are the same."""
        make, body = BODIES[name]
        places = [0, *sorted(cut for cut in cuts if cut < len(body)), len(body)]
        pieces = [body[a:b] for a, b in zip(places, places[1:], strict=False)]
        self.assertEqual(without_times(read(make, pieces)), without_times(read(make, [body])))

    @given(st.sampled_from([make for make, _ in BODIES.values()]), st.lists(st.binary(max_size=40)))
    def test_anything(self, make: Callable[[], EventReader], pieces: list[bytes]) -> None:
        """Whatever is fed raises nothing, and gives the same whole or in pieces."""
        self.assertEqual(without_times(read(make, pieces)), without_times(read(make, [b"".join(pieces)])))

    def test_places(self) -> None:
        """An event's place is where its bytes are."""
        for name, (make, body) in BODIES.items():
            for event in read(make, [body]):
                held = body[event.offset : event.offset + event.length]
                first = event.data.splitlines()[0] if event.data else ""
                self.assertIn(first.encode(), held, name)


class ServerSentTests(SynchronousTestCase):
    def events(self, text: str) -> list[tuple[str, str]]:
        return [(e.type, e.data) for e in read(ServerSentReader, [text.encode()]) if e.is_data and e.whole]

    def test_standard(self) -> None:
        """The examples of the HTML standard, 9.2.6."""
        for text, expected in (
            ("data: YHOO\ndata: +2\ndata: 10\n\n", [("", "YHOO\n+2\n10")]),
            (
                ": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n",
                [("", "first event"), ("", "second event")],
            ),
            ("data\n\ndata\ndata\n\ndata:\n", [("", ""), ("", "\n")]),
            ("data:test\n\ndata: test\n\n", [("", "test"), ("", "test")]),
            ("event: add\ndata: 73857293\n\n", [("add", "73857293")]),
        ):
            self.assertEqual(self.events(text), expected)

    def test_keep_alives(self) -> None:
        """Comments and events without data are told apart from events with data."""
        events = read(ServerSentReader, [b": OPENROUTER PROCESSING\n\nevent: ping\n\ndata: x\n\n"])
        self.assertEqual([e.is_data for e in events], [False, False, True])
        self.assertEqual([e.data for e in events], ["OPENROUTER PROCESSING", "", "x"])

    def test_time(self) -> None:
        """An event has the time of its last byte, which is the end of the empty line."""
        reader = ServerSentReader()
        self.assertEqual(reader.feed(b"data: a\r\n", 1), [])
        (event,) = reader.feed(b"\r", 2)
        self.assertEqual(reader.feed(b"\ndata: b", 3), [])
        self.assertEqual(event.at, 2)

    def test_limit(self) -> None:
        """Of an event over the limit the beginning is kept, and it says that it is not whole."""
        self.patch(stream_events, "EVENT_LIMIT", 10)
        for pieces in ([b"data: " + b"x" * 50 + b"\n\n"], [b"data: "] + [b"x"] * 50 + [b"\n\n"]):
            first, second = read(ServerSentReader, [*pieces, b"data: ok\n\n"])
            self.assertFalse(first.whole)
            self.assertLessEqual(len(first.data), 10)
            self.assertEqual((second.data, second.whole, second.offset), ("ok", True, 58))
        lines = read(ServerSentReader, [b"data: a\n" * 20 + b"\n"])
        self.assertEqual([(len(e.data) <= 10, e.whole) for e in lines], [(True, False)])


class OtherTests(SynchronousTestCase):
    def test_elements(self) -> None:
        """The elements of an array are JSON texts."""
        values = [{"a": ']}"\\'}, {"b": [1, {"c": "\u2028"}]}, 3, "x,y"]
        for body in (
            json.dumps(values),
            json.dumps(values, indent=2),
            json.dumps(values, ensure_ascii=False),
        ):
            events = read(ArrayReader, [body.encode()])
            self.assertEqual([json.loads(event.data) for event in events], values)

    def test_wrong_checksum(self) -> None:
        """After a frame with a wrong checksum nothing more is read."""
        good, bad = frame(b"{}", event_type="a"), bytearray(frame(b"{}", event_type="b"))
        bad[-5] ^= 1
        reader = FrameReader()
        self.assertEqual([e.type for e in reader.feed(good + bytes(bad) + good)], ["a"])
        self.assertTrue(reader.is_broken)
        self.assertEqual(reader.feed(good), [])

    def test_last_line(self) -> None:
        """A last line without a line feed is whole if it is JSON."""
        self.assertEqual([e.whole for e in read(LinesReader, [b'{"a": 1}\n{"b"'])], [True, False])
        self.assertEqual([e.whole for e in read(LinesReader, [b'{"a": 1}\n{"b": 2}'])], [True, True])
