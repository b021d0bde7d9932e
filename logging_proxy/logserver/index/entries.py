"""From the two documents and bodies of an exchange to its entry: decoded, understood, redacted."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from logging_proxy.logserver.decoding import Limits, decode
from logging_proxy.logserver.index.values import Entry, Row, Texts, is_exchange_id, microseconds
from logging_proxy.logserver.text import Content, read_content
from logging_proxy.logserver.understanding import understand
from logging_proxy.redaction import redact_text, redact_url

Document = dict[str, Any]
ReadBody = Callable[[str, int], bytes]
"""Up to so many bytes of the body in a `.bin` of this name; empty when it cannot be read."""

BODY_LIMIT = 16 << 20
"""Bytes of a body, as stored and decoded, that are looked at for its text."""

_LIMITS = Limits(output=BODY_LIMIT)
_LONGEST_URL = 4096
_INTEGERS = frozenset(
    ["started", "status", "stream", "duration", "head_after", "request_bytes", "response_bytes"]
)


def entry_of(request: Document | None, response: Document | None, read_body: ReadBody) -> Entry:
    """
    The entry of an exchange of which at least one half is there.

    Raises ValueError, KeyError or TypeError when the documents are not ours.
    """
    about_request, about_response = _content_headers(request), _content_headers(response)
    asked = _content(request, about_request, read_body)
    answered = _content(response, about_response, read_body)
    understood = understand(
        (request or {}).get("headers", []),
        asked.documents[0] if asked.documents else None,
        answered.documents,
        about_response[0],
    )
    row = _row(request, response)
    row.update(
        model=understood.model and redact_text(understood.model),
        session=understood.session and redact_text(understood.session),
        stream=understood.stream,
    )
    return Entry(Row(**_checked(row)), Texts(asked.text, answered.text))


def _content(document: Document | None, about: tuple[str, str], read_body: ReadBody) -> Content:
    if document is None or not document.get("bytes") or document.get("framing") == "tunnel":
        return Content()
    body = read_body(document["filename"], BODY_LIMIT)
    kind, coding = about
    decoded = decode(body, coding, _LIMITS)
    cut = decoded.truncated or document["bytes"] > BODY_LIMIT
    return read_content(decoded.data, kind, cut)


def _content_headers(document: Document | None) -> tuple[str, str]:
    """Content-Type and Content-Encoding; several values are joined as RFC 9110 §5.2 has it."""
    kinds, codings = [], []
    for name, value in (document or {}).get("headers", []):
        if len(name) == 12 and name.lower() == "content-type":
            kinds.append(value)
        elif len(name) == 16 and name.lower() == "content-encoding":
            codings.append(value)
    return ", ".join(kinds), ", ".join(codings)


def _row(request: Document | None, response: Document | None) -> dict[str, Any]:
    any_half = request or response
    if any_half is None:
        raise ValueError("neither request nor response")
    started = _time(any_half["started_at"])
    client = any_half.get("client") or {}
    last = response or any_half
    return {
        "id": any_half["id"],
        "started": started,
        **{name: any_half.get(name) for name in ("route", "pattern")},
        "method": any_half.get("method") or "",
        "outcome": last.get("outcome") or "",
        "error": last.get("error") and redact_text(last["error"]),
        "source_url": redact_url(any_half.get("source_url") or "")[:_LONGEST_URL],
        "destination_url": redact_url(any_half.get("destination_url") or "")[:_LONGEST_URL] or None,
        "client": _client(client.get("address"), client.get("port")),
        "duration": _time(last["completed_at"]) - started,
        **_half("request", request),
        **_half("response", response),
        **_of_response(response, started),
    }


def _checked(row: dict[str, Any]) -> dict[str, Any]:
    """`row` if every value is of its column's type: one that is not would spoil the whole batch."""
    for name, value in row.items():
        wanted = int if name in _INTEGERS else str
        if value is not None and not isinstance(value, wanted):
            raise TypeError(f"{name} is not of type {wanted.__name__}")
    if not is_exchange_id(row["id"]):
        raise ValueError("not the id of an exchange")
    return row


def _half(side: str, document: Document | None) -> dict[str, Any]:
    if document is None:
        return {}
    return {f"{side}_bytes": int(document["bytes"]), f"{side}_file": document["filename"]}


def _of_response(response: Document | None, started: int) -> dict[str, Any]:
    if response is None:
        return {}
    status = response.get("status")
    return {
        "status": status,
        "answered_by": response.get("answered_by"),
        "head_after": None if status is None else _time(response["started_at"]) - started,
    }


def _time(text: str) -> int:
    return microseconds(datetime.fromisoformat(text))


def _client(address: str | None, port: int | None) -> str | None:
    if not address or port is None:
        return address
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
