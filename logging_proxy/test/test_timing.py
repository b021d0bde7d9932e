"""The clocks of an answer."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.understanding.answers import EventClass
from logging_proxy.understanding.timing import STALL, Clocks

SECOND = 1_000_000
TEXT, THINKING, TOOL = EventClass.TEXT, EventClass.THINKING, EventClass.TOOL
PING, OTHER, END = EventClass.KEEP_ALIVE, EventClass.OTHER, EventClass.TERMINAL


def clocks(*events: tuple[float, EventClass]) -> Clocks:
    """Clocks after these events, each with its time in seconds."""
    made = Clocks()
    for seconds, kind in events:
        at = round(seconds * SECOND)
        made.bytes(at)
        made.event(at, kind)
    return made


class ClockTests(SynchronousTestCase):
    def test_firsts(self) -> None:
        """The first byte, event, token and text are told apart."""
        made = clocks((1, PING), (2, OTHER), (3, THINKING), (4, TEXT), (5, TOOL), (6, END))
        self.assertEqual((made.first_byte, made.first_event), (1 * SECOND, 2 * SECOND))
        self.assertEqual((made.first_token, made.first_text, made.last_token), (3e6, 4e6, 5e6))
        self.assertEqual((made.terminal, made.events, made.keep_alives), (6 * SECOND, 6, 1))

    def test_no_stream(self) -> None:
        """What was not seen is None, not zero."""
        made = Clocks()
        made.event(None, TEXT)
        for name in ("first_byte", "first_event", "first_token", "last_token", "terminal", "longest_gap"):
            self.assertIsNone(getattr(made, name), name)
        self.assertIsNone(made.gaps())

    def test_waiting_is_no_stall(self) -> None:
        """Silence before the first token is waiting; after it, ten seconds are a stall."""
        self.assertEqual(clocks((0, OTHER), (60, TEXT), (69.9, TEXT)).stalls, 0)
        self.assertEqual(clocks((0, TEXT), (STALL / SECOND, TEXT), (80, END)).stalls, 2)

    def test_keep_alives_are_no_progress(self) -> None:
        """Keep-alives do not interrupt a gap."""
        made = clocks((0, TEXT), *((each, PING) for each in range(1, 41)), (41, TEXT))
        self.assertEqual((made.longest_gap, made.stalls, made.last_byte), (41 * SECOND, 1, 41 * SECOND))

    def test_arrived_together(self) -> None:
        """Events of one piece have no gap between them."""
        made = clocks((1, TEXT), (1, TEXT), (3, TEXT))
        gaps = made.gaps()
        assert gaps is not None
        self.assertEqual((gaps.p50, gaps.p95, gaps.longest), (2 * SECOND,) * 3)

    def test_percentiles(self) -> None:
        times = [0.0]
        for gap in range(1, 101):
            times.append(times[-1] + gap / 10)
        gaps = clocks(*((at, TEXT) for at in times)).gaps()
        assert gaps is not None
        self.assertEqual((gaps.p50, gaps.p95, gaps.longest), (5_000_000, 9_500_000, 10_000_000))

    def test_speed(self) -> None:
        """Speed is that of the tokens that were shown, after the first one."""
        made = clocks((1, TEXT), (2, TEXT), (3, TEXT))
        self.assertEqual(made.tokens_per_second(101, None), 50.0)
        self.assertEqual(made.tokens_per_second(101, 60), 20.0)
        for tokens, hidden in ((None, None), (1, 0), (50, 49)):
            self.assertIsNone(made.tokens_per_second(tokens, hidden))
        self.assertIsNone(clocks((1, TEXT), (3, TEXT)).tokens_per_second(100, 0))
        self.assertIsNone(clocks((1, TEXT), (1.2, TEXT), (1.4, TEXT)).tokens_per_second(100, 0))

    def test_buffered(self) -> None:
        """A stream whose content comes at once has been gathered on the way."""
        self.assertTrue(clocks((1, OTHER), *([(2, TEXT)] * 18), (3, TEXT), (3, TEXT)).is_buffered)
        self.assertFalse(clocks(*((at, TEXT) for at in range(20))).is_buffered)
