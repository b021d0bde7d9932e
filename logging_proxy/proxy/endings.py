"""What is recorded at the end of an exchange."""

from __future__ import annotations

import json

from logging_proxy.capture.records import OUTCOMES, Kind


def end_record(outcome: str, error: str = "") -> tuple[int, int, bytes]:
    """The exchange is over, with one of `OUTCOMES`."""
    return (int(Kind.END), 0, bytes([OUTCOMES.index(outcome)]) + error.encode())


COMPLETE = end_record("complete")

ANSWERED_EARLY = (
    int(Kind.NOTE),
    0,
    json.dumps({"request": "answered before the request's body was complete"}).encode(),
)
"""Recorded before the END of an exchange whose request has no LAST piece."""
