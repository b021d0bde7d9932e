"""Reads the exchanges with language models for the index."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from logging_proxy.index.recorded import Recorded, RecordedHalf
from logging_proxy.understanding.figures import Figures, figures
from logging_proxy.understanding.pricing.prices import list_prices
from logging_proxy.understanding.reading import Course, Message, read_exchange
from logging_proxy.understanding.verdicts import Ending

Times = Sequence[tuple[int, int]]
ReadTimes = Callable[[str], Times]
"""Takes the name of a `.bin` file; returns the offset and the microseconds of each piece of its body."""

_NOTHING = Message({})


def no_times(file: str) -> Times:
    """Where the times of a body cannot be read."""
    return ()


def figures_of(
    recorded: Recorded,
    bodies: tuple[bytes, bytes],
    asked: Any,
    read_times: ReadTimes = no_times,
) -> Figures:
    """
    The figures of an exchange.

    `bodies` are those of request and response as they were sent, `asked` is the JSON value of the request's,
    or None.
    """
    request, response = recorded.request, recorded.response
    ending = _ending(recorded)
    url = recorded.asked.destination_url
    if url is None or request is None or not ending.outcome:
        return figures(ending, None, list_prices())
    answered = None if response is None else _message(response, bodies[1], read_times)
    read = read_exchange(_message(request, bodies[0], read_times), answered, _course(recorded, url, asked))
    return figures(ending, read, list_prices())


def _ending(recorded: Recorded) -> Ending:
    response = recorded.response
    return Ending(
        recorded.outcome or None,
        response.status if response else None,
        response is not None and response.answered_by == "proxy",
        recorded.error or "",
        max(0, recorded.ended - recorded.started),
        response.size if response else 0,
    )


def _course(recorded: Recorded, url: str, asked: Any) -> Course:
    request, response = recorded.request, recorded.response
    return Course(
        url,
        datetime.fromtimestamp(recorded.started / 1e6, UTC),
        _ending(recorded),
        None if request is None or request.sent is None else max(0, request.sent - recorded.started),
        None if response is None or response.status is None else max(0, response.started - recorded.started),
        asked,
    )


def _message(half: RecordedHalf, body: bytes, read_times: ReadTimes) -> Message:
    times = half.times
    if times is None:
        times = read_times(half.file) if half.file else ()
    return Message(half.headers, body, times, half.status)


def times_in(document: Mapping[str, Any] | None) -> Times:
    """The times in the metadata of a half."""
    pieces = (document or {}).get("pieces")
    if not isinstance(pieces, list):
        return ()
    return [(at[0], at[1]) for at in pieces if isinstance(at, list) and len(at) == 2]
