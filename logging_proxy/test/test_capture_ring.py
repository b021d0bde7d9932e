"""The ring: bytes come out as they went in, and are still there when the process is gone."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from zlib import crc32

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.recording import ring as ring_module
from logging_proxy.recording.ring import PAGE, Ring
from logging_proxy.recording.segments import block_header

CAPACITY = 64

MOVES = st.lists(
    st.one_of(
        st.binary(max_size=CAPACITY),
        st.integers(0, CAPACITY),
        st.tuples(st.binary(max_size=5), st.binary(min_size=1, max_size=CAPACITY)),
    ),
    max_size=40,
)
"""What to store, or what to land and what ahead of it; a number: take so much of what is given first."""


class Life:
    """A ring in a temporary file, and what a perfect one would hold."""

    def __init__(self, start: int = 0, piece: int = 24) -> None:
        self.file = tempfile.TemporaryFile()
        self.ring = Ring.create(self.file.fileno(), CAPACITY, start, piece)
        self.start = start
        self.put_in = b""
        self.taken = b""

    def move(self, data: bytes | tuple[bytes, bytes] | int) -> None:
        if isinstance(data, tuple):
            self.store_read(*data)
        elif isinstance(data, int):
            with self.ring.peek(data) as piece:
                size, content = len(piece), bytes(piece)
            assert block_header(7, content, sums=self.ring.sums(size)) == block_header(7, content)
            self.taken += content
            self.ring.take(size)
        elif len(data) <= self.ring.room:
            self.ring.store(data)
            self.put_in += data

    def store_read(self, ahead: bytes, data: bytes) -> None:
        place = self.ring.read_buffer(len(ahead), 1, CAPACITY)
        if place is not None:
            size = min(len(data), len(place))
            place[:size] = data[:size]
            self.ring.store_read(ahead, size)
            self.put_in += ahead + data[:size]

    def rest(self, most: int) -> list[tuple[bytes, int, bool]]:
        """Take all that is left; of each piece how it begins, its size, and whether it was joined."""
        given = []
        while self.ring.taken < self.ring.stored:
            with self.ring.peek(most) as piece:
                given.append((bytes(piece[:1]), len(piece), piece.readonly))
                size = len(piece)
            self.ring.take(size)
        return given

    def end(self) -> None:
        self.ring.close()
        self.file.close()


class RingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.patch(ring_module, "LEAST_SUMMED", 4)

    def test_sums(self) -> None:
        """Of large pieces the sums are known, and where they are; of what is not given yet none are given."""
        life = Life(piece=8)
        life.move((b"head", b"piece one"))
        life.move((b"head", b"two"))
        life.move((b"head", b"piece three"))
        self.assertEqual(life.ring.sums(24), [(4, 9, crc32(b"piece one"))])
        three = (24, 11, crc32(b"piece three"))
        self.assertEqual(life.ring.sums(35), [(4, 9, crc32(b"piece one")), three])
        life.move(0)
        self.assertEqual(len(life.taken), 13)
        self.assertEqual(life.ring.sums(22), [(11, *three[1:])])
        life.end()

    @settings(deadline=None)
    @given(st.integers(0, 2**40), MOVES)
    def test_order(self, start: int, moves: list[bytes | tuple[bytes, bytes] | int]) -> None:
        """Whatever is stored and taken when, the bytes come out in order, and room is what is not held."""
        life = Life(start)
        for move in moves:
            life.move(move)
            self.assertEqual(life.ring.room, CAPACITY - len(life.put_in) + len(life.taken))
            self.assertEqual(life.ring.stored, start + len(life.put_in))
        while life.ring.room < CAPACITY:
            life.move(0)
        self.assertEqual(life.taken, life.put_in)
        life.end()

    @settings(deadline=None)
    @given(st.integers(0, 2**40), MOVES, st.integers(0, CAPACITY))
    def test_survives(self, start: int, moves: list[bytes | tuple[bytes, bytes] | int], more: int) -> None:
        """After a kill at any point the file gives everything that is not on disk, wherever `kept` is."""
        life = Life(start)
        for move in moves:
            life.move(move)
        held = len(life.put_in) - len(life.taken)
        kept = start + len(life.taken) + min(more, held)
        left = Ring.recover(os.dup(life.file.fileno()), kept)
        assert left is not None
        self.assertEqual((left.taken, left.stored), (kept, start + len(life.put_in)))
        found = b""
        while left.taken < left.stored:
            with left.peek() as piece:
                found += bytes(piece)
                size = len(piece)
            left.take(size)
        self.assertEqual(found, life.put_in[kept - start :])
        left.close()
        life.end()

    def test_whole_stores(self) -> None:
        """What is given at a time ends where a store ended, even across the ring's end, and is bounded."""
        life = Life(piece=10)
        ends = {0}
        for _ in range(40):
            for size in (7, 3, 9):
                life.move(b"x" * size)
                ends.add(len(life.put_in))
            life.move(0)
            self.assertIn(len(life.taken), ends)
        with life.ring.peek() as piece:
            self.assertLessEqual(len(piece), 10 + 9)
        life.end()

    def test_read_buffer(self) -> None:
        """What it gives is free, in one stretch, and as large as was asked, or nothing at all."""
        life = Life()
        life.move(b"x" * 20)
        sizes = [
            None if buffer is None else len(buffer)
            for buffer in (life.ring.read_buffer(4, least, 100) for least in (1, 40, 41))
        ]
        self.assertEqual(sizes, [40, 40, None])
        place = life.ring.read_buffer(4, 1, 10)
        assert place is not None
        self.assertEqual(len(place), 10)
        life.move(0)
        life.move(b"y" * 42)
        self.assertIsNone(life.ring.read_buffer(4, 1, 100))
        del place
        life.end()

    def test_nothing_between(self) -> None:
        """What was landed is not stored once something else has been: it lies in the wrong place."""
        life = Life()
        life.ring.read_buffer(4, 1, 10)
        life.move(b"x")
        self.assertRaises(AssertionError, life.ring.store_read, b"head", 10)
        life.end()

    def test_around_the_end(self) -> None:
        """Only a store that goes around the end is joined: all else is given where it lies."""
        life = Life(piece=1 << 20)
        life.move(b"x" * 30)
        life.move(0)
        for data in (b"a" * 30, b"b" * 10, b"c" * 5):
            life.move(data)
        self.assertEqual(life.rest(0), [(b"a", 30, False), (b"b", 10, True), (b"c", 5, False)])
        life.end()

    def test_most(self) -> None:
        """As many pieces as are within the limit are given as one; the first also when it is larger."""
        life = Life(piece=5)
        for size in (6, 7, 8, 4):
            life.move(b"x" * size)
        sizes = []
        for most in (0, 5, 6, 12, 13, 20, 21, 24, 25, 64):
            with life.ring.peek(most) as piece:
                sizes.append(len(piece))
        self.assertEqual(sizes, [6, 6, 6, 6, 13, 13, 21, 21, 25, 25])
        life.end()

    def test_most_at_the_end(self) -> None:
        """Pieces on both sides of the ring's end are never given as one, which would have to be copied."""
        life = Life(piece=5)
        life.move(b"x" * (CAPACITY - 12))
        life.move(0)
        for size in (6, 6, 7, 8):
            life.move(b"x" * size)
        self.assertEqual(life.rest(CAPACITY), [(b"x", 12, False), (b"x", 15, False)])
        life.end()

    def test_read_up_to_the_end(self) -> None:
        """What was landed at the ring's end and what follows at its beginning are two pieces, not copied."""
        life = Life(piece=1 << 20)
        life.move(b"x" * 30)
        life.move(0)
        life.move((b"head", b"a" * CAPACITY))
        life.move((b"head", b"b" * 10))
        self.assertEqual(life.rest(0), [(b"h", CAPACITY - 30, False), (b"h", 4 + 10, False)])
        life.end()

    def test_goes_on(self) -> None:
        """A ring that was taken up takes more behind what it holds, and gives both."""
        life = Life()
        life.move(b"a" * 40)
        life.move(0)
        life.move(b"b" * 50)
        left = Ring.recover(life.file.fileno(), 40)
        assert left is not None
        left.store(b"c" * 14)
        self.assertEqual(left.room, 0)
        with left.peek() as piece:
            self.assertEqual(bytes(piece), b"b" * 50 + b"c" * 14)
        left.close()
        life.end()

    def test_segments_lost(self) -> None:
        """Where less is on disk than was taken, the disk has lost it: the ring begins where it was taken."""
        life = Life()
        life.move(b"a" * 40)
        life.move(0)
        life.move(b"b")
        left = Ring.recover(life.file.fileno(), 7)
        assert left is not None
        self.assertEqual((left.taken, left.stored), (40, 41))
        left.close()
        life.end()


class NoRingTests(SynchronousTestCase):
    def rejected(self, content: bytes, kept: int = 0) -> bool:
        path = Path(self.mktemp())
        path.write_bytes(content)
        with path.open("rb+") as file:
            return Ring.recover(file.fileno(), kept) is None

    def test_not_rings(self) -> None:
        """Files that are no ring, or not a whole one, or one half made, give nothing."""
        life = Life()
        life.move(b"abc")
        life.file.seek(0)
        content = life.file.read()
        life.end()
        self.assertFalse(self.rejected(content))
        for size in (0, 1, PAGE - 1, PAGE, PAGE + 1, len(content) - 1):
            self.assertTrue(self.rejected(content[:size]), size)
        self.assertTrue(self.rejected(content + b"\0"))
        self.assertTrue(self.rejected(bytes(len(content))))
        self.assertTrue(self.rejected(b"x" * len(content)))

    def test_of_another_stream(self) -> None:
        """A ring that ends before what is on disk belongs to another stream, and gives nothing."""
        life = Life()
        life.move(b"abc")
        life.file.seek(0)
        content = life.file.read()
        life.end()
        self.assertFalse(self.rejected(content, 3))
        self.assertTrue(self.rejected(content, 4))
