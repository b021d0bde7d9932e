"""Points in time as people and programs write them."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.index.times import LOCAL, BadTime, parse_time

ZONE = ZoneInfo("Europe/Berlin")
NOW = datetime(2026, 11, 23, 12, 30, tzinfo=UTC)
"""13:30 in Berlin."""

MEANT = {
    "now": "2026-11-23T12:30:00+00:00",
    "2h": "2026-11-23T10:30:00+00:00",
    "90m": "2026-11-23T11:00:00+00:00",
    "90 min": "2026-11-23T11:00:00+00:00",
    "30 minutes ago": "2026-11-23T12:00:00+00:00",
    "45s": "2026-11-23T12:29:15+00:00",
    "1 day": "2026-11-22T12:30:00+00:00",
    "7d": "2026-11-16T12:30:00+00:00",
    "2 weeks ago": "2026-11-09T12:30:00+00:00",
    "2 hours ago": "2026-11-23T10:30:00+00:00",
    " 2  Hours  AGO ": "2026-11-23T10:30:00+00:00",
    "an hour ago": "2026-11-23T11:30:00+00:00",
    "1h30m": "2026-11-23T11:00:00+00:00",
    "1.5h": "2026-11-23T11:00:00+00:00",
    "1 day, 2 hours ago": "2026-11-22T10:30:00+00:00",
    "10:30": "2026-11-23T10:30:00+01:00",
    "9:05:07": "2026-11-23T09:05:07+01:00",
    "today": "2026-11-23T00:00:00+01:00",
    "today 10:30": "2026-11-23T10:30:00+01:00",
    "Yesterday": "2026-11-22T00:00:00+01:00",
    "yesterday 14:00": "2026-11-22T14:00:00+01:00",
    "yesterday at 14:00": "2026-11-22T14:00:00+01:00",
    "2026-11-01": "2026-11-01T00:00:00+01:00",
    "20261101": "2026-11-01T00:00:00+01:00",
    "2026-07-01": "2026-07-01T00:00:00+02:00",
    "2026-11-01 14:00": "2026-11-01T14:00:00+01:00",
    "2026-11-01T14:00": "2026-11-01T14:00:00+01:00",
    "2026-11-01T14:00:00.5Z": "2026-11-01T14:00:00.5+00:00",
    "2026-11-01t14:00:00-05:00": "2026-11-01T14:00:00-05:00",
    "2026-11-01T14:00:00 05:00": "2026-11-01T14:00:00+05:00",
    "1757722269": "2025-09-13T00:11:09+00:00",
    "@1757722269": "2025-09-13T00:11:09+00:00",
}
ENDS = {
    "2026-11-01": "2026-11-02T00:00:00+01:00",
    "2026-10-25": "2026-10-26T00:00:00+01:00",
    "yesterday": "2026-11-23T00:00:00+01:00",
    "today": "2026-11-24T00:00:00+01:00",
    "yesterday 14:00": "2026-11-22T14:00:00+01:00",
    "2h": "2026-11-23T10:30:00+00:00",
}
NONE = (
    *("", " ", "soon", "2", "2x", "h", "ago", "2h ago ago", "25:00", "10:60", "today 2h", "yesterday x"),
    *("2026-13-01", "2026-02-30", "2026-11-01T", "99999999999w", "999999999w", "-2h", "2h\0", "x" * 5000),
    *("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"),
)


def microseconds(iso: str) -> int:
    return round(datetime.fromisoformat(iso).timestamp() * 1_000_000)


class TimeTests(SynchronousTestCase):
    def test_meant(self) -> None:
        """Lengths, times of day, days, and ISO 8601; what has no zone is local."""
        for typed, iso in MEANT.items():
            self.assertEqual(parse_time(typed, NOW, ZONE), microseconds(iso), typed)

    def test_end(self) -> None:
        """As an end, a day includes all of it, also if it has 25 hours."""
        for typed, iso in ENDS.items():
            self.assertEqual(parse_time(typed, NOW, ZONE, end=True), microseconds(iso), typed)

    def test_none(self) -> None:
        """A mistake is told with examples."""
        for typed in NONE:
            error = self.assertRaises(BadTime, parse_time, typed, NOW, ZONE)
            self.assertIn("yesterday 14:00", str(error))

    @given(st.text(st.sampled_from("0123456789:-.@ twhmdsagoyer+TZ"), max_size=30) | st.text())
    def test_anything(self, typed: str) -> None:
        """Any text is a time, or `BadTime`."""
        try:
            parse_time(typed, NOW, ZONE)
        except BadTime:
            return

    def test_local_zone(self) -> None:
        """The zone of the machine has its daylight saving."""
        before = os.environ.get("TZ")
        self.addCleanup(time.tzset)
        self.addCleanup(lambda: os.environ.update(TZ=before) if before else os.environ.pop("TZ", None))
        os.environ["TZ"] = "Europe/Berlin"
        time.tzset()
        for typed in MEANT:
            self.assertEqual(parse_time(typed, NOW, LOCAL), parse_time(typed, NOW, ZONE), typed)
