"""Bytes that come with a fault: all that come soon, up to the limit."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.http.gathering import LONGEST, MOMENT, Gathering


class GatheringTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.done: list[bytes] = []

    def gathering(self, limit: int = 100) -> Gathering:
        return Gathering(self.clock, limit, self.done.append)

    def test_until_nothing_comes(self) -> None:
        """Pieces may come as long as no moment passes between them."""
        gathering = self.gathering()
        gathering.begin(b"a")
        for _ in range(3):
            self.clock.advance(MOMENT * 0.9)
            gathering.add(b"b")
        self.assertEqual(self.done, [])
        self.clock.advance(MOMENT)
        self.assertEqual(self.done, [b"abbb"])
        self.clock.advance(LONGEST)
        self.assertEqual(self.done, [b"abbb"])

    def test_not_for_ever(self) -> None:
        """Gathering takes at most one second, also while bytes keep coming."""
        gathering = self.gathering()
        gathering.begin(b"a")
        for _ in range(int(LONGEST / MOMENT * 2) - 1):
            self.clock.advance(MOMENT / 2)
            gathering.add(b"b")
        self.assertEqual(self.done, [])
        self.clock.advance(MOMENT / 2 + 0.01)
        self.assertEqual(len(self.done), 1)

    def test_limit(self) -> None:
        """Bytes over the limit are dropped, and gathering ends at once; also in `begin`."""
        gathering = self.gathering(4)
        gathering.begin(b"abc")
        gathering.add(b"def")
        self.gathering(4).begin(b"ghijk")
        self.assertEqual(self.done, [b"abcd", b"ghij"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_finish_and_cancel(self) -> None:
        """It can be finished early, once, with the bytes so far; or cancelled."""
        gathering = self.gathering()
        gathering.begin(b"a")
        gathering.finish()
        gathering.finish()
        given_up = self.gathering()
        given_up.begin(b"b")
        given_up.cancel()
        given_up.finish()
        self.assertEqual(self.done, [b"a"])
        self.assertEqual(self.clock.getDelayedCalls(), [])
