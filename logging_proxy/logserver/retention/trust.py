"""
Protection of captures against a wrong wall clock.

Ages depend on the wall clock, which a user may set and which may be wrong until the machine has synchronised
it. So limits of age are applied only after the wall clock has agreed with the monotonic clock for some
minutes.  If an unusual share of all captures exceeds its age then, the deletion is announced first, to leave
time to object.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from twisted.logger import Logger

AGREEMENT = 300.0
"""Seconds for which both clocks must agree after the start and after a step of the wall clock."""

TOLERANCE = 2.0
"""Seconds by which the clocks may diverge between two checks; NTP slews by less without a step."""

UNUSUAL_SHARE = 0.5
"""Share of all exchanges; a deletion of more than this at once is announced."""

OBJECTION = 3600.0
"""Seconds between the announcement and the deletion."""


class WallClock:
    """
    The wall clock, compared with the monotonic clock.

    Call `trusted` every few seconds: a step between two calls is detected by the second.
    """

    _log = Logger()

    def __init__(self, seconds: Callable[[], float], wall_seconds: Callable[[], float]) -> None:
        """`seconds` is monotonic."""
        self._seconds = seconds
        self._wall_seconds = wall_seconds
        self._since = seconds()
        self._apart = wall_seconds() - self._since
        self.now = 0.0
        """Seconds since 1970, as of the last call of `trusted`."""

    def trusted(self) -> bool:
        """Whether both clocks have agreed for `AGREEMENT` seconds."""
        ticks, self.now = self._seconds(), self._wall_seconds()
        step = self.now - ticks - self._apart
        if abs(step) > TOLERANCE:
            self._since = ticks
            self._log.warn(
                "the clock has gone {direction} by {by}, or the machine has slept:"
                " nothing is deleted for its age for {minutes} minutes",
                direction="forward" if step > 0 else "back",
                by=timedelta(seconds=round(abs(step))),
                minutes=round(AGREEMENT / 60),
            )
        # Updated at each call, so that slow drift does not count as a step.
        self._apart = self.now - ticks
        return ticks - self._since >= AGREEMENT


class Consent:
    """
    Permits deletions for age, after the start and after each period without a trusted clock.

    Once given, consent lasts: later deletions concern only captures that have reached their age meanwhile.
    """

    _log = Logger()

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self._given = False
        self._not_before: float | None = None

    def withdraw(self) -> None:
        """The clock is no longer trusted: consent must be given anew."""
        self._given, self._not_before = False, None

    @property
    def given(self) -> bool:
        """Whether deletions are permitted; becomes true when the time to object is over."""
        if self._not_before is not None and self._seconds() >= self._not_before:
            self._given, self._not_before = True, None
        return self._given

    @property
    def announced(self) -> bool:
        """Whether an unusual deletion is announced and the time to object still runs."""
        return self._not_before is not None

    def ask(self, over: int, of: int) -> bool:
        """Whether `over` of `of` exchanges may be deleted at once; if not, the deletion is announced."""
        self._given = over <= of * UNUSUAL_SHARE
        if not self._given:
            self._not_before = self._seconds() + OBJECTION
            self._log.warn(
                "retention: {over} of {of} exchanges are over their age by this machine's clock.  They are"
                " deleted in {minutes} minutes, unless the clock or the limit is changed before",
                over=over,
                of=of,
                minutes=round(OBJECTION / 60),
            )
        return self._given
