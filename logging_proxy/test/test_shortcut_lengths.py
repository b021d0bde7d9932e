"""Bodies with a length: the C extension does what Python does."""

from __future__ import annotations

import gc
import os
from itertools import chain
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from logging_proxy.recording.records import Flag, Kind
from logging_proxy.test.shortcut_stage import Play, ShortcutCase, Story, blocks_left

KIB = 1 << 10
LENGTH = 1500 * KIB
FILLED = bytes(64 * KIB)
"""A read that is filled: larger ones follow."""


def download(length: int = LENGTH, **parts: Any) -> Play:
    return Play(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % length, **parts)


def upload(length: int = LENGTH, **parts: Any) -> Play:
    head = b"POST /api/x HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % length
    return Play(head, upload=True, **parts)


def body(play: Play, story: Story) -> bytes:
    """The records of the body under test."""
    piece = Kind.REQUEST_PIECE if play.upload else Kind.RESPONSE_PIECE
    return b"".join(payload for kind, _, payload in story.records if kind == piece)


_sizes = st.sampled_from([1, 3, 5_000, 64 * KIB - 1, 64 * KIB, 64 * KIB + 1, 100 * KIB, 200 * KIB, 300 * KIB])
_bytes = st.builds(lambda size, letter: bytes([letter]) * size, _sizes, st.integers(0, 255))
_happens = st.sampled_from(["drain", "drain", "drain", "sip", "freeze", "thaw", "fail", "work"])
_steps = st.lists(st.one_of(_bytes, _bytes, _happens), max_size=14)
_end = st.sampled_from(
    [[], ["end"], ["leave", b"late" * KIB], ["answer", FILLED, "drain"], ["thaw", "drain"]]
)
_length = st.sampled_from([LENGTH, 64 * KIB + 1, 128 * KIB, 300 * KIB])
_room = st.sampled_from([4096, 400 * KIB])


class SameTests(ShortcutCase):
    @settings(max_examples=150, deadline=None)
    @given(_length, _steps, _end, st.booleans(), _room)
    def test_any_response(
        self, length: int, steps: list[Any], end: list[Any], logging: bool, room: int
    ) -> None:
        """The same bytes, the same records, the same flow control, whatever happens when."""
        steps = [step for step in chain(steps, end) if step != "answer"]
        self.same(download(length, logging=logging, room=room), [FILLED, *steps])

    @settings(max_examples=150, deadline=None)
    @given(_length, _steps, _end, st.booleans(), _room)
    def test_any_request(
        self, length: int, steps: list[Any], end: list[Any], logging: bool, room: int
    ) -> None:
        self.same(upload(length, logging=logging, room=room), [FILLED, *steps, *end])

    def test_is_used(self) -> None:
        """As soon as much comes, until all but the last byte has come."""
        steps = [FILLED, os.urandom(150 * KIB), "drain", os.urandom(150 * KIB), "drain"]
        sent = b"".join(step for step in steps if isinstance(step, bytes))
        for play in (download(room=400 * KIB), upload(room=400 * KIB)):
            for logging in (True, False):
                play.logging = logging
                story = self.same(play, steps)
                self.assertGreaterEqual(story.short, 2)
                self.assertTrue(story.received.endswith(sent))
                self.assertEqual(body(play, story), sent if logging else b"")

    def test_whole(self) -> None:
        """The last byte comes the ordinary way, and with it the body's end; the shorter way ends there."""
        size = 64 * KIB + 150 * KIB
        for play in (download(size, room=400 * KIB), upload(size, room=400 * KIB)):
            story = self.same(play, [FILLED, bytes(150 * KIB - 1), b"!", "drain", "answer"])
            self.assertTrue(story.received.endswith(b"\0!"))
            ((flags, last),) = [(flags, payload) for _, flags, payload in story.records if payload == b"!"]
            self.assertTrue(flags & Flag.LAST)
            self.assertEqual((len(body(play, story)), last), (size, b"!"))

    def test_near_the_end(self) -> None:
        """The last byte is never read into the ring, however little or much is missing."""
        for left in (1, 30 * KIB, 64 * KIB, 64 * KIB + 1, 200 * KIB):
            size = 256 * KIB + left
            steps: list[Any] = [FILLED, FILLED, "drain", bytes(128 * KIB), "drain", bytes(left), "drain"]
            for play in (download(size, room=400 * KIB), upload(size, room=400 * KIB)):
                story = self.same(play, [*steps, "answer"] if play.upload else steps)
                self.assertEqual(len(body(play, story)), size)

    def test_lost(self) -> None:
        """Of an exchange of which something could not be recorded nothing later is."""
        lost, later = os.urandom(100 * KIB), os.urandom(100 * KIB)
        for play in (download(room=400 * KIB), upload(room=400 * KIB)):
            steps = [FILLED, FILLED, "drain", "fail", lost, "drain", "work", later, "drain", later, "drain"]
            story = self.same(play, steps)
            self.assertGreater(story.short, 0)
            self.assertEqual(body(play, story), 2 * FILLED)
            self.assertTrue(story.received.endswith(lost + 2 * later))

    def test_slow_sink(self) -> None:
        """More than the sink takes: the source is not read, and nothing is lost or told twice."""
        sent = [os.urandom(100 * KIB) for _ in range(6)]
        for play in (download(), upload()):
            story = self.same(play, [FILLED, *sent[:3], "drain", *sent[3:], "sip", "drain"])
            self.assertIn(False, [reading for reading, *_ in story.states])
            self.assertTrue((FILLED + b"".join(sent)).startswith(body(play, story)))
            self.assertTrue(story.received.endswith(body(play, story)[-100 * KIB :]))

    def test_full_spool(self) -> None:
        """Bytes without room in the spool are not sent before they have it."""
        secret = os.urandom(100 * KIB)
        for play in (download(room=400 * KIB), upload(room=400 * KIB)):
            story = self.same(play, [FILLED, "drain", "freeze", secret, "drain"])
            self.assertFalse(story.states[-1][0])
            self.assertTrue(story.received.endswith(secret))
            self.assertEqual(body(play, story), FILLED + secret)

    def test_around_the_end(self) -> None:
        """Many times around a ring that is smaller than the body."""
        sent = [os.urandom(190 * KIB) for _ in range(20)]
        for play in (download(1 << 30, room=400 * KIB), upload(1 << 30, room=400 * KIB)):
            story = self.same(play, list(chain(*([each, "drain"] for each in [FILLED, *sent]))))
            self.assertTrue(story.received.endswith(FILLED + b"".join(sent)))
            self.assertEqual(body(play, story), FILLED + b"".join(sent))

    def test_answered_early(self) -> None:
        """Bytes of a request after its complete answer are not recorded."""
        late = os.urandom(100 * KIB)
        play = upload(room=400 * KIB)
        story = self.same(play, [FILLED, FILLED, "drain", "answer", late, "drain"])
        self.assertGreater(story.short, 0)
        self.assertNotIn(late[:KIB], body(play, story))
        self.assertEqual(story.ends, [("complete", 2 * len(FILLED), 2)])
        self.assertIn(b"200 OK", story.answer)

    def test_sink_leaves(self) -> None:
        """Bytes for a client that has left are not recorded."""
        late = os.urandom(100 * KIB)
        play = download(room=400 * KIB)
        story = self.same(play, [FILLED, FILLED, "drain", "leave", late])
        self.assertGreater(story.short, 0)
        self.assertEqual(story.ends, [("client_closed", 0, 2 * len(FILLED))])
        self.assertNotIn(late[:KIB], body(play, story))


class MemoryTests(ShortcutCase):
    def test_nothing_stays(self) -> None:
        """After a body, whole or cut off, its source is let go once its connection is."""
        made = self.watch_sources()
        size = 200 * KIB
        steps: list[Any] = [FILLED, FILLED, "drain"]
        for rest in ([bytes(size - 2 * len(FILLED)), "drain", "answer"], ["end"], ["leave"], ["answer"], []):
            upload(size, room=400 * KIB).tell([*steps, *rest])
            download(size, room=400 * KIB).tell([*steps, *(each for each in rest if each != "answer")])
        gc.collect()
        self.assertEqual(len(made), 10)
        self.assertEqual([half() for half in made], [None] * 10)

    def test_no_leak(self) -> None:
        """Two hundred pieces leave fewer objects behind than one for every second piece."""

        def grown(play: Play, pieces: int) -> int:
            return blocks_left(play, [FILLED, *["drain", bytes(150 * KIB)] * pieces])

        for play in (upload(1 << 30, room=400 * KIB), download(1 << 30, room=400 * KIB)):
            self.assertLess(grown(play, 200), 100)
