"""
Whether the wall clock is to be believed, and whether what it asks to delete is believable.

Ages are told by the wall clock.  Somebody may set it, and a machine that has just
started may have it wrong until it has asked for the time.  So nothing is deleted for
its age before the wall clock has agreed with the monotonic clock for some minutes.
If an unusual share of all that is kept is over its age then, this is announced
first, and there is time to object.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from twisted.logger import Logger

AGREEMENT = 300.0
"""Seconds that both clocks must have gone along, from the start or from the last step of the wall clock."""

TOLERANCE = 2.0
"""Seconds between two looks by which the clocks may differ: NTP corrects 0.5 ms a second without a step."""

UNUSUAL_SHARE = 0.5
"""Of all exchanges: to delete more than this at once is announced."""

OBJECTION = 3600.0
"""Seconds between the announcement and the deletion."""


class WallClock:
    """
    The wall clock, watched.

    `trusted` must be asked every few seconds: a step between two questions is noticed by the second.
    """

    _log = Logger()

    def __init__(self, seconds: Callable[[], float], wall_seconds: Callable[[], float]) -> None:
        """`seconds` is monotonic."""
        self._seconds = seconds
        self._wall_seconds = wall_seconds
        self._since = seconds()
        self._apart = wall_seconds() - self._since
        self.now = 0.0
        """Seconds since 1970, as of the last question."""

    def trusted(self) -> bool:
        """Whether both clocks have gone along for `AGREEMENT` seconds."""
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
        # Taken anew each time, so that a slow drift is no step.
        self._apart = self.now - ticks
        return ticks - self._since >= AGREEMENT


class Consent:
    """
    Lets deletions for age begin, after the start and after each time that the clock was not trusted.

    Once they have begun, all that is deleted has grown old meanwhile, and nobody is asked again.
    """

    _log = Logger()

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self._given = False
        self._not_before: float | None = None

    def withdraw(self) -> None:
        """The clock is not trusted: begin anew."""
        self._given, self._not_before = False, None

    @property
    def given(self) -> bool:
        """Whether deletions may go on; also when the time to object is over."""
        if self._not_before is not None and self._seconds() >= self._not_before:
            self._given, self._not_before = True, None
        return self._given

    @property
    def announced(self) -> bool:
        """Whether an unusual deletion has been announced, and there is time to object still."""
        return self._not_before is not None

    def ask(self, over: int, of: int) -> bool:
        """Whether `over` exchanges of so many may be deleted at once; if not, it is announced."""
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
