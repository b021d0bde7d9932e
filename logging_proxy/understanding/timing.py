"""
The times of an answer: when its bytes, its events and its tokens came, and how long nothing did.

All times are microseconds since the start of the exchange.  Two clocks of silence run: keep-alives move that
of the bytes, only events that bring the answer forward move that of progress.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass

from logging_proxy.understanding.answers import EventClass

STALL = 10_000_000
"""A gap without progress that counts as a stall."""

FEWEST_PIECES, SHORTEST = 3, 500_000
"""Fewer pieces of content, or a shorter time between the first and the last, give no speed."""

BUFFERED = 0.9
"""A stream with this share of its content in one piece was gathered by something on the way."""

MOST_GAPS = 100_000
"""Maximum gaps kept for the percentiles."""


@dataclass(frozen=True, slots=True)
class Gaps:
    """Gaps between events that brought progress, in microseconds."""

    p50: int
    p95: int
    longest: int


class Clocks:
    """The times of an answer so far."""

    def __init__(self) -> None:
        self.first_byte: int | None = None
        self.last_byte: int | None = None
        self.first_event: int | None = None
        self.first_token: int | None = None
        self.first_text: int | None = None
        self.last_token: int | None = None
        self.terminal: int | None = None
        self.events = 0
        """Whole events with data, keep-alives too."""
        self.keep_alives = 0
        self.stalls = 0
        self.content = 0
        """Events with content."""
        self.longest_gap: int | None = None
        self.last_progress: int | None = None
        """The last event that was no keep-alive."""
        self._gaps = array("q")
        self._at_once = self._most_at_once = 0
        self._content_at: int | None = None

    def bytes(self, at: int | None) -> None:
        """Bytes of the body have arrived."""
        if at is not None:
            self.last_byte = at
            if self.first_byte is None:
                self.first_byte = at

    def event(self, at: int | None, kind: EventClass, is_data: bool = True) -> None:
        """An event is complete; `is_data` is False for comments."""
        self.events += is_data
        self.keep_alives += kind is EventClass.KEEP_ALIVE
        if at is None or kind is EventClass.KEEP_ALIVE:
            return
        if self.first_event is None:
            self.first_event = at
        self._gap(at)
        if kind.is_content:
            self._token(at, kind)
        if kind is EventClass.TERMINAL:
            self.terminal = at

    def _gap(self, at: int) -> None:
        before, self.last_progress = self.last_progress, at
        if before is None or at <= before:
            return
        gap = at - before
        self.longest_gap = gap if self.longest_gap is None else max(gap, self.longest_gap)
        if len(self._gaps) < MOST_GAPS:
            self._gaps.append(gap)
        # Before the first token the model may think, or read the prompt: that is waiting.
        if gap >= STALL and self.first_token is not None:
            self.stalls += 1

    def _token(self, at: int, kind: EventClass) -> None:
        if self.first_token is None:
            self.first_token = at
        if self.first_text is None and kind is not EventClass.THINKING:
            self.first_text = at
        self.last_token = at
        self.content += 1
        self._at_once = self._at_once + 1 if at == self._content_at else 1
        self._content_at = at
        self._most_at_once = max(self._most_at_once, self._at_once)

    def gaps(self) -> Gaps | None:
        """The gaps; None if there was none."""
        if not self._gaps:
            return None
        ordered = sorted(self._gaps)
        last = len(ordered) - 1
        return Gaps(ordered[last // 2], ordered[round(last * 0.95)], ordered[-1])

    @property
    def is_buffered(self) -> bool:
        """Whether nearly all of the content arrived at once, as from a proxy that gathers."""
        return self.content >= FEWEST_PIECES and self._most_at_once >= BUFFERED * self.content

    def tokens_per_second(self, output: int | None, hidden: int | None) -> float | None:
        """
        The speed at which tokens came, from `output` tokens, of which `hidden` ones were not streamed.

        None where it would say nothing: for fewer than two tokens, few pieces or a short time.
        """
        if output is None or self.first_token is None or self.last_token is None:
            return None
        shown, time = output - (hidden or 0), self.last_token - self.first_token
        if shown < 2 or self.content < FEWEST_PIECES or time < SHORTEST:
            return None
        return (shown - 1) * 1e6 / time
