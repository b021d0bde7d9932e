"""Who gives way, and for how long."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.logserver.ingest.backoff import HURRY, PATIENCE, Backoff

MOST = 4 * HURRY
STEP = 0.125


class BackoffTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.backoff = Backoff(MOST)
        self.now = 1000.0
        self.read = self.written = self.looks = 0

    def lengths(self) -> tuple[int, int]:
        self.looks += 1
        return self.read, self.written

    def after(self, seconds: float, rate: float) -> bool:
        """Whether it gives way after so long, in which so many bytes a second came."""
        self.now += seconds
        self.written += int(seconds * rate)
        return self.backoff.should_wait(self.now, self.lengths)

    def test_rush(self) -> None:
        """While much comes; a spool that is found full is no rush."""
        self.written = MOST
        self.assertFalse(self.after(STEP, 0))
        self.read = self.written
        self.assertFalse(self.after(STEP, HURRY / 2))
        self.assertTrue(self.after(STEP, HURRY))
        self.assertTrue(self.after(STEP, 2 * HURRY))
        self.assertFalse(self.after(STEP, HURRY / 2))
        self.assertTrue(self.after(STEP, HURRY))

    def test_looks_now_and_then(self) -> None:
        """A look is a listing of the directory: between two of them nothing changes."""
        self.after(STEP, 0)
        self.assertTrue(self.after(STEP, HURRY))
        for _ in range(10):
            self.assertTrue(self.after(0.001, 0))
        self.assertEqual(self.looks, 2)

    def test_patience(self) -> None:
        """It ends, and does not begin anew before the rush is over."""
        self.after(STEP, 0)
        waited = 0.0
        while self.after(STEP, HURRY):
            waited += STEP
            self.read = self.written
        self.assertAlmostEqual(waited, PATIENCE, delta=2 * STEP)
        for _ in range(100):
            self.assertFalse(self.after(STEP, HURRY))
        self.assertFalse(self.after(STEP, 0))
        self.read = self.written
        self.assertTrue(self.after(STEP, HURRY))

    def test_backlog(self) -> None:
        """It ends as well when too much waits."""
        self.after(STEP, 0)
        self.assertTrue(self.after(STEP, HURRY))
        self.assertTrue(self.after(1, MOST - HURRY))
        self.assertFalse(self.after(1, MOST))
        self.read = self.written
        self.assertFalse(self.after(STEP, HURRY))

    def test_never(self) -> None:
        """Where nothing may wait nothing does."""
        self.backoff = Backoff(0)
        self.after(STEP, 0)
        self.assertFalse(self.after(STEP, HURRY))
