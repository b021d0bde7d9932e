"""Many deadlines, one timer."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.http.deadlines import INTERVAL, NEVER, Deadlines


class Wait:
    def __init__(self, deadline: float, then: Callable[[], object] = lambda: None) -> None:
        self.deadline = deadline
        self.then = then
        self.times = 0

    def timedOut(self) -> None:
        self.times += 1
        self.then()


class DeadlineTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.deadlines = Deadlines(self.clock)

    def test_once_and_in_time(self) -> None:
        """A passed deadline is reported once, at most one interval late and never early."""
        early, late, never = Wait(1.2), Wait(5), Wait(NEVER)
        for wait in (early, late, never):
            self.deadlines.watch(wait)
        self.clock.pump([0.1] * 12)
        self.assertEqual(early.times, 0)
        self.clock.advance(INTERVAL)
        self.assertEqual((early.times, early.deadline, late.times), (1, NEVER, 0))
        self.clock.pump([0.1] * 60)
        self.assertEqual((early.times, late.times, never.times), (1, 1, 0))

    def test_moved(self) -> None:
        """A deadline may be moved at any time, also by the time-out itself."""
        wait = Wait(1)
        self.deadlines.watch(wait)
        wait.deadline = 2
        wait.then = lambda: setattr(wait, "deadline", self.clock.seconds() + 2)
        self.clock.pump([0.5] * 3)
        self.assertEqual(wait.times, 0)
        self.clock.pump([0.5] * 6)
        self.assertEqual(wait.times, 2)

    def test_one_ends_another(self) -> None:
        """An object whose deadline an earlier time-out has extended or dropped is not called."""
        waits = [Wait(1), Wait(1), Wait(1)]

        def end_the_others() -> None:
            for wait in waits:
                wait.then = lambda: None
            prolonged, forgotten = (wait for wait in waits if not wait.times)
            prolonged.deadline = 100
            self.deadlines.forget(forgotten)

        for wait in waits:
            wait.then = end_the_others
            self.deadlines.watch(wait)
        self.clock.pump([0.5] * 10)
        self.assertEqual(sum(wait.times for wait in waits), 1)

    def test_one_fails(self) -> None:
        """A time-out that raises is logged; the others and the next look happen all the same."""
        waits = [Wait(1, lambda: 1 / 0), Wait(1), Wait(2)]
        for wait in waits:
            self.deadlines.watch(wait)
        self.clock.pump([0.5] * 5)
        self.assertEqual([wait.times for wait in waits], [1, 1, 1])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_no_timer_for_nobody(self) -> None:
        """The reactor is left alone while there is nothing to watch, also when it was forgotten in a look."""
        self.assertEqual(self.clock.getDelayedCalls(), [])
        wait = Wait(1)
        wait.then = lambda: self.deadlines.forget(wait)
        self.deadlines.watch(wait)
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.clock.pump([0.5] * 3)
        self.assertEqual((wait.times, self.clock.getDelayedCalls()), (1, []))
        self.deadlines.watch(wait)
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
