"""Documents for JSON output: redacted, with decoded bodies."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from logging_proxy.cli.redacting import redacted_events
from logging_proxy.cli.secrets import Redactor
from logging_proxy.cli.sources import SIDES, Document, Exchange
from logging_proxy.cli.streams import StreamEvent


def half_view(document: Document, redactor: Redactor) -> Document:
    """The metadata of a half, without the long list of arrival times."""
    view = {name: value for name, value in document.items() if name != "pieces"}
    for name in ("headers", "trailers"):
        if isinstance(view.get(name), list):
            view[name] = redactor.headers([(field[0], field[1]) for field in view[name]])
    for name in ("source_url", "destination_url"):
        if isinstance(view.get(name), str):
            view[name] = redactor.url(view[name])
    for name in ("http_version", "reason"):
        if isinstance(view.get(name), str):
            view[name] = redactor.line(view[name])
    if isinstance(view.get("error"), str):
        view["error"] = redactor.url(view["error"])
    if isinstance(view.get("informational"), list):
        view["informational"] = [_informational(each, redactor) for each in view["informational"]]
    return view


def _informational(answer: Any, redactor: Redactor) -> Any:
    if not isinstance(answer, dict):
        return answer
    fields = [(field[0], field[1]) for field in answer.get("headers") or []]
    return {**answer, "headers": redactor.headers(fields)}


def events_view(events: Iterable[StreamEvent], redactor: Redactor) -> Iterator[Document]:
    """The events as they are asked for."""
    return (
        {
            "at": event.at,
            "event": event.kind or None,
            "id": event.id or None,
            "data": event.data,
            "whole": event.whole,
            **({"from": "client" if event.mark == ">" else "server"} if event.mark else {}),
        }
        for event in redacted_events(events, redactor)
    )


def exchange_view(exchange: Exchange, redactor: Redactor) -> Document:
    """An exchange with the metadata of its halves."""
    view = dict(exchange.row)
    for side in SIDES:
        document = exchange.half(side)
        view[side] = half_view(document, redactor) if document is not None else view.get(side)
    return view
