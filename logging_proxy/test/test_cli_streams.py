"""Streams as they arrived: events and their times, wherever the pieces were cut."""

from __future__ import annotations

import gzip

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.cli.streams import StreamEvent, arrivals, is_stream, stream_events
from logging_proxy.understanding.media_types import Form

SSE = "text/event-stream; charset=utf-8"
STREAM = (
    ': hello\n\nevent: delta\nid: 7\ndata: {"é":1}\ndata:  two\n\n'
    "data: after CRLF\r\n\r\ndata: after CR\r\rretry: 5\n\ndata: [DONE]\n\n"
).encode()
EVENTS = [
    (":", "", "hello"),
    ("delta", "7", '{"é":1}\n two'),
    ("", "", "after CRLF"),
    ("", "", "after CR"),
    ("", "", "[DONE]"),
]


def shown(events: object) -> list[tuple[str, str, str]]:
    return [(event.kind, event.id, event.data) for event in events]  # type: ignore[attr-defined]


class EventTests(SynchronousTestCase):
    @given(st.lists(st.integers(0, len(STREAM)), max_size=12))
    def test_any_cut(self, cuts: list[int]) -> None:
        """However a stream is cut into pieces, its events are the same."""
        pieces = [[offset, number] for number, offset in enumerate(sorted({0, *cuts}))]
        self.assertEqual(shown(stream_events(arrivals(STREAM, pieces), SSE)), EVENTS)

    def test_each_byte(self) -> None:
        """Byte by byte, too; an event has the time of its last byte."""
        pieces = [[offset, offset * 10] for offset in range(len(STREAM))]
        events = list(stream_events(arrivals(STREAM, pieces), SSE))
        self.assertEqual(shown(events), EVENTS)
        self.assertEqual(events[-1].at, (len(STREAM) - 1) * 10)

    def test_cut_off(self) -> None:
        """What was under way when the stream was cut comes, and is not whole."""
        events = list(stream_events(arrivals(b"data: a\n\ndata: b", [[0, 5]]), SSE))
        self.assertEqual([(each.data, each.whole) for each in events], [("a", True), ("b", False)])

    def test_lines(self) -> None:
        """A stream of JSON lines has an event for each line that is not empty."""
        events = list(stream_events([(1, b'{"a":1}\n\n{"b"'), (9, b":2}")], "application/x-ndjson"))
        self.assertEqual(events, [StreamEvent(1, '{"a":1}'), StreamEvent(9, '{"b":2}', whole=False)])

    def test_other(self) -> None:
        """Of any other body the pieces are shown."""
        events = list(stream_events([(1, b"ab\xc3"), (2, b"\xa9\xff")], "text/plain"))
        self.assertEqual([(each.at, each.data) for each in events], [(1, "ab"), (2, "é\\xff")])

    def test_kinds(self) -> None:
        """Bodies of events and of lines are streams, and nothing else."""
        self.assertTrue(is_stream(Form.EVENTS) and is_stream(Form.JSON_LINES))
        self.assertFalse(is_stream(Form.JSON) or is_stream(Form.TEXT))


class ArrivalTests(SynchronousTestCase):
    @given(st.lists(st.integers(0, 60), max_size=6), st.booleans())
    def test_coded(self, cuts: list[int], coded: bool) -> None:
        """A coding is undone piece by piece, and nothing of the body is lost."""
        body = gzip.compress(STREAM, mtime=0) if coded else STREAM
        pieces = [[offset, number] for number, offset in enumerate(sorted(set(cuts)))]
        arrived = list(arrivals(body, pieces, "gzip" if coded else ""))
        self.assertEqual(b"".join(data for _, data in arrived), STREAM)
        self.assertEqual([at for at, _ in arrived], sorted(at for at, _ in arrived))

    def test_no_times(self) -> None:
        """Without times, or with ones that make no sense, the body is still there."""
        for pieces in ([], [[99, 1]], [[-4, 1]]):
            self.assertEqual([data for _, data in arrivals(b"abc", pieces)], [b"abc"])
        self.assertEqual(list(arrivals(b"abc", [])), [(0, b"abc")])
