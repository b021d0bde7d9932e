"""What signals do to the service."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.service.signals import Signals


class FakeReactor:
    """Keeps what it is asked for from signal handlers, and does it when told."""

    def __init__(self) -> None:
        self.calls: list[Callable[[], None]] = []
        self.stops = 0

    def callFromThread(self, call: Callable[[], None]) -> None:
        self.calls.append(call)

    def stop(self) -> None:
        self.stops += 1

    def turn(self) -> None:
        calls, self.calls = self.calls, []
        for call in calls:
            call()


class SignalsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = FakeReactor()
        self.told: list[str] = []
        self.handlers: dict[int, Callable[[int, Any], None]] = {}

    def install(self) -> None:
        def tell(what: str) -> Callable[[], None]:
            return lambda: self.told.append(what)

        told = (tell("hurry"), tell("rotate"), tell("reload"))
        Signals(self.reactor, *told, install=self.handlers.__setitem__).install()

    def send(self, number: int) -> None:
        self.handlers[number](number, None)
        self.reactor.turn()

    def test_stop(self) -> None:
        """SIGTERM and SIGINT stop the reactor, once; a second one is for hurry."""
        for number in (signal.SIGTERM, signal.SIGINT):
            self.setUp()
            self.install()
            self.send(number)
            self.assertEqual((self.reactor.stops, self.told), (1, []))
            self.send(signal.SIGTERM)
            self.assertEqual((self.reactor.stops, self.told), (1, ["hurry"]))

    def test_on_the_reactor(self) -> None:
        """A handler does nothing where it is called: that may be in the middle of anything."""
        self.install()
        for handler in self.handlers.values():
            handler(0, None)
        self.assertEqual((self.reactor.stops, self.told), (0, []))
        self.assertEqual(len(self.reactor.calls), len(self.handlers))

    def test_others(self) -> None:
        """SIGHUP reloads, SIGUSR1 rotates the log; neither ends the process."""
        self.install()
        self.send(signal.SIGHUP)
        self.send(signal.SIGUSR1)
        self.assertEqual((self.reactor.stops, self.told), (0, ["reload", "rotate"]))

    def test_background(self) -> None:
        """A SIGINT that was ignored when the process began stays so."""
        self.patch(signal, "getsignal", lambda number: signal.SIG_IGN)
        self.install()
        self.assertNotIn(signal.SIGINT, self.handlers)
        self.assertIn(signal.SIGTERM, self.handlers)
