"""Whole chunks: the C extension does what Python does."""

from __future__ import annotations

import gc
import os
import tempfile
from itertools import chain
from types import SimpleNamespace
from typing import Any
from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock

from logging_proxy.http.bodies import CHUNKED_END, chunk
from logging_proxy.net import shortcut, wire
from logging_proxy.recording.records import Kind, RecordReader
from logging_proxy.recording.ring import Ring
from logging_proxy.recording.writer import CaptureWriter
from logging_proxy.test.shortcut_stage import Line, Play, RingStage, ShortcutCase, blocks_left

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
CHUNKS = Play(HEAD)


def chunks(*payloads: bytes) -> bytes:
    return b"".join(chunk(each) for each in payloads)


NESTED = [b"8\r\nab", b"1\r\nx\r\n", b"\r\n"]
"""Bytes within a chunk that look like a chunk."""

_payload = st.binary(min_size=1, max_size=30)
_whole = st.lists(_payload, min_size=1, max_size=4).map(lambda some: chunks(*some))
_large = st.integers(1_000, 30_000).map(lambda size: chunk(b"x" * size))
_odd = st.sampled_from(
    [b"3;a=b\r\nabc\r\n", b"0003\r\nabc\r\n", b"A\r\n0123456789\r\n", b"a\r\n0123456789\r\n"]
)
_torn = st.sampled_from([[b"3\r\nabc\r\n5\r", b"\nabcde\r\n"], [b"5\r\nab", b"cde", b"\r", b"\n"], NESTED])
_end = st.sampled_from(
    [
        [CHUNKED_END],
        [b"1\r\nx\r\n" + CHUNKED_END],
        [b"0\r\nX-Sum: 1\r\n\r\n"],
        [b"0\r\n", b"\r\n"],
        [CHUNKED_END + b"more"],
        [b"zz\r\n"],
        [b"3\r\nabcd\r\n"],
        [b"3\r\nabc:)"],
        [b"3\r\nab", "end"],
        ["end"],
        ["leave", chunk(b"late"), CHUNKED_END],
        [b"f" * 16 + b"\r\n"],
        [],
    ]
)
_happens = st.sampled_from(["drain", "drain", "sip", "freeze", "thaw"])
_step = st.one_of(_whole, _whole, _large, _odd, _happens).map(lambda step: [step])
_steps = st.lists(st.one_of(_step, _step, _torn), max_size=12).map(
    lambda parts: list(chain.from_iterable(parts))
)


class SameTests(ShortcutCase):
    @settings(max_examples=150, deadline=None)
    @given(_steps, _end, st.booleans())
    def test_any_stream(self, steps: list[Any], end: list[Any], logging: bool) -> None:
        """The same bytes, the same records, the same flow control, whatever happens when."""
        self.same(Play(HEAD, logging=logging), [*steps, *end])

    def test_is_used(self) -> None:
        """Whole chunks take the shorter way, which ends with the response."""
        story = self.same(CHUNKS, [chunks(b"a", b"b"), chunk(b"c"), CHUNKED_END, "drain"])
        self.assertEqual(story.short, 3)
        self.assertEqual(story.ends, [("complete", 0, 3)])
        self.assertEqual(story.received.partition(b"\r\n\r\n")[2], chunks(b"a", b"b", b"c") + CHUNKED_END)

    def test_slow_client(self) -> None:
        """More than the client takes: the upstream is not read, and nothing is lost or told twice."""
        steps = [chunk(os.urandom(20_000)) for _ in range(30)]
        story = self.same(CHUNKS, [*steps, "drain", *steps, "drain", CHUNKED_END, "drain"])
        self.assertIn(False, [reading for reading, *_ in story.states])

    def test_full_spool(self) -> None:
        """Bytes without room in the spool are not sent before they have it."""
        story = self.same(CHUNKS, [chunk(b"a"), "freeze", chunk(b"b"), "drain"])
        self.assertFalse(story.states[-1][0])
        self.assertTrue(story.received.endswith(chunk(b"a") + chunk(b"b")))
        pieces = [payload for kind, _, payload in story.records if kind == Kind.RESPONSE_PIECE]
        self.assertEqual(pieces, [b"a", b"b"])

    def test_nothing_overtakes(self) -> None:
        """Bytes that wait in the transport go first, although the kernel has room again."""
        first, second = chunk(os.urandom(30_000)), chunk(b"second")
        story = self.same(CHUNKS, [first, "sip", second, "drain"])
        self.assertTrue(story.received.endswith(first + second))

    def test_what_looks_like_a_chunk(self) -> None:
        """Payload that would be a chunk elsewhere, and a chunk that is longer than its size."""
        story = self.same(CHUNKS, [*NESTED, "drain"])
        self.assertTrue(story.received.endswith(b"".join(NESTED)))
        story = self.same(CHUNKS, [chunk(b"a"), b"3\r\nabc:)", "drain"])
        self.assertTrue(story.received.endswith(chunk(b"a") + b"3\r\nabc"))

    def test_client_leaves(self) -> None:
        """Bytes for a client that has left are not recorded."""
        story = self.same(CHUNKS, [chunk(b"a"), "drain", "leave", chunk(b"late")])
        self.assertNotIn(b"late", [payload for _, _, payload in story.records])
        self.assertEqual(story.short, 4)

    def test_closed_way(self) -> None:
        """Bytes that must wait do so in the direction; with a full spool only after they are recorded."""
        for waiting, full in ((False, False), (True, False), (False, True)):
            upstream, client, writer = Line(Protocol()), Line(Protocol()), self.writer(full)
            received: list[bytes] = []
            passed_on: list[bytes] = []
            sink = SimpleNamespace(send=wire.sender(client))
            half = SimpleNamespace(_waiting=[b"x"] * waiting, sink=sink, pass_on=passed_on.append)
            source = SimpleNamespace(_receiver=half, deadline=0.0)
            reader = wire.read_directly(upstream, received.append, lambda: None)
            assert reader is not None
            reader.fast_path = shortcut.fast_path(
                sink,
                source=source,
                role="_receiver",
                receiver=half,
                direction=half,
                must_be_false=((half, "_waiting"),),
                exchange=3,
                writer=writer,
                writing=writer.writing,
                kind=6,
                now=lambda: 7.0,
                patience=5.0,
            )
            upstream.far.send(chunk(b"a"))
            upstream.read()
            self.assertEqual(source.deadline, 0.0 if waiting else 12.0)
            self.assertEqual(self.recorded(writer), [] if waiting else [(3, 6, 0, b"a")])
            self.assertEqual(received, [chunk(b"a")] * waiting)
            self.assertEqual(passed_on, [chunk(b"a")] * full)
            self.assertEqual(client.drain(), b"" if waiting or full else chunk(b"a"))
            upstream.close()
            client.close()

    def writer(self, full: bool) -> CaptureWriter:
        """One with a small ring, in which there is room, or for which something waits already."""
        with tempfile.TemporaryFile() as file:
            ring = Ring.create(file.fileno(), 100, 0)
        self.addCleanup(ring.close)
        writer = CaptureWriter(ring, lambda: None, False, Clock())
        self.addCleanup(writer.close)
        for _ in range(2 * full):
            writer.write(1, [(int(Kind.REQUEST_PIECE), 0, b"x" * 60)])
        self.assertIs(writer.full, full)
        return writer

    def recorded(self, writer: CaptureWriter) -> list[tuple[int, int, int, bytes]]:
        """The records of exchange 3, in the ring or waiting."""
        with writer._ring.peek() as stored:
            data = b"".join([bytes(stored), *(data for _, data in writer._waiting)])
        found = RecordReader().feed(data)
        return [
            (each.exchange, int(each.kind), each.flags, each.content) for each in found if each.exchange == 3
        ]

    def test_looks_again(self) -> None:
        """After something unusual body and half are looked at again, also when much is read at once."""
        much = [b"%x\r\n" % (3 << 16), *3 * [b"x" * (1 << 16)]]
        story = self.same(
            CHUNKS, [chunk(b"a"), *much, b"\r\n", "drain", chunk(b"b"), *NESTED, chunk(b"c"), "drain"]
        )
        self.assertTrue(story.received.endswith(chunk(b"b") + b"".join(NESTED) + chunk(b"c")))
        filled = chunk(b"x" * 0xFFF8)
        self.assertEqual(len(filled), 1 << 16)
        self.assertTrue(
            self.same(CHUNKS, [filled, *NESTED, "drain"]).received.endswith(filled + b"".join(NESTED))
        )

    def test_largest_sizes(self) -> None:
        """Sizes that no read holds, up to those that are refused."""
        for digits in (b"7fffffff", b"f" * 15, b"0" * 14 + b"1", b"0" * 15 + b"1", b"", b"-1", b"0x1", b" 1"):
            self.same(CHUNKS, [digits + b"\r\nx\r\n"])


class MemoryTests(ShortcutCase):
    def test_nothing_stays(self) -> None:
        """After a response its half is let go, while the connection waits for the next one."""
        made = self.watch_sources()
        for steps in ([chunk(b"a"), CHUNKED_END], [chunk(b"a"), "end"], [chunk(b"a")]):
            Play(HEAD).tell(steps)
        gc.collect()
        self.assertEqual([half() for half in made], [None, None, None])

    def test_no_leak(self) -> None:
        """A thousand events leave fewer objects behind than one for every second event."""

        def grown(events: int) -> int:
            return blocks_left(CHUNKS, [*[chunk(b"event"), "drain"] * events, CHUNKED_END])

        self.assertLess(grown(1000), 500)

    def test_failure(self) -> None:
        """An exception of the recording reaches the reactor, as without the C extension."""

        real = RingStage._take

        def take(stage: RingStage) -> None:
            with stage.real.peek() as stored:
                if b"fail" in bytes(stored):
                    raise ZeroDivisionError
            real(stage)

        self.patch(RingStage, "_take", take)
        for compiled in (True, False):
            with mock.patch.object(shortcut, "compiled", compiled):
                self.assertRaises(ZeroDivisionError, CHUNKS.tell, [chunk(b"a"), chunk(b"fail")])
                self.flushLoggedErrors(ZeroDivisionError)
