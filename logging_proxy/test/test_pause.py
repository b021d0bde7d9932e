"""Waits that can be ended early."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.net.pause import Pause


class PauseTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.pause = Pause(self.clock)

    def test_time(self) -> None:
        """A wait ends when its time is over."""
        waiting = self.pause.sleep(2.0)
        self.clock.advance(1.9)
        self.assertNoResult(waiting)
        self.clock.advance(0.1)
        self.assertIsNone(self.successResultOf(waiting))

    def test_early(self) -> None:
        """A wait that is ended leaves no timer behind; without one there is nothing to end."""
        self.pause.end()
        waiting = self.pause.sleep(2.0)
        self.pause.end()
        self.assertIsNone(self.successResultOf(waiting))
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.pause.end()

    def test_again(self) -> None:
        """The end of one wait may begin the next."""
        waiting = self.pause.sleep(1.0)
        waiting.addCallback(lambda _: self.pause.sleep(1.0))
        self.pause.end()
        self.assertNoResult(waiting)
        self.clock.advance(1.0)
        self.assertIsNone(self.successResultOf(waiting))
