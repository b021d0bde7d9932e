"""
The metadata documents of a capture: values in, JSON-able values out.

Header values are latin-1 text, so every byte survives in JSON.  A document
tells of one half; what belongs to the exchange (`id`, `route`, `outcome`,
...) stands in both.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from logging_proxy.logserver.exchanges import Exchange, Half, Side, piece_pairs, verdict

Headers = list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Head:
    """A start line's three parts and the header lines, in order and as they came."""

    first: str
    second: str
    third: str
    headers: Headers


def parse_head(head: bytes) -> Head:
    """
    A head with or without its blank line.

    Takes whatever was recorded: a line without a colon is a name without a
    value.  The proxy's parser is the strict one.
    """
    start, *lines = head.decode("latin-1").split("\r\n")
    parts = start.split(" ", 2)
    parts += [""] * (3 - len(parts))
    return Head(parts[0], parts[1], parts[2], parse_fields(lines))


def parse_fields(lines: list[str]) -> Headers:
    fields = []
    for line in lines:
        if line:
            name, _, value = line.partition(":")
            fields.append((name, value.strip(" \t")))
    return fields


def framing_of_request(headers: Headers) -> str:
    """How the request's body was delimited (RFC 9112 §6)."""
    declared = _declared(headers)
    return declared if declared in ("chunked", "content-length") else "none"


def framing_of_response(headers: Headers, method: str, status: int | None) -> str:
    """How the response's body was delimited (RFC 9112 §6.3, in its order)."""
    if status is None:
        return "none"
    if status == 101:
        return "tunnel"
    if method == "HEAD" or status in (204, 304) or status < 200:
        return "none"
    return _declared(headers) or "close"


def _declared(headers: Headers) -> str:
    framing = ""
    for name, value in headers:
        name = name.lower()
        if name == "transfer-encoding":
            return "chunked" if value.lower().endswith("chunked") else "close"
        if name == "content-length":
            framing = "content-length"
    return framing


# --- times ---------------------------------------------------------------------


@lru_cache(maxsize=64)
def _local_second(second: int) -> tuple[str, str, str]:
    """For a file name, for ISO 8601, and the zone."""
    local = time.localtime(second)
    minutes = local.tm_gmtoff // 60
    sign, minutes = ("-", -minutes) if minutes < 0 else ("+", minutes)
    zone = f"{sign}{minutes // 60:02}:{minutes % 60:02}"
    return time.strftime("%Y-%m-%d_%H-%M-%S", local), time.strftime("%Y-%m-%dT%H:%M:%S", local), zone


def file_stamp(wall_ns: int) -> str:
    """Local time with milliseconds, as file names begin."""
    second, rest = divmod(wall_ns, 1_000_000_000)
    return f"{_local_second(second)[0]}.{rest // 1_000_000:03}"


def iso_time(wall_ns: int) -> str:
    """ISO 8601 with microseconds and the local zone."""
    second, rest = divmod(wall_ns, 1_000_000_000)
    _, text, zone = _local_second(second)
    return f"{text}.{rest // 1000:06}{zone}"


def method_of(head: bytes) -> str:
    """The method in a request's head."""
    return head.partition(b" ")[0].partition(b"\r\n")[0].decode("latin-1")


def status_of(head: bytes) -> int | None:
    """The status in a response's head."""
    return _status(parse_head(head[:64].partition(b"\r\n")[0]))


def client_of(text: bytes) -> str | None:
    """The client of the records as one text, `address:port`."""
    client = _client(text)
    address, port = client["address"], client["port"]
    if not address or port is None:
        return address or None
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def half_started(exchange: Exchange, side: Side) -> int:
    """Wall time in nanoseconds at which a half began; for a response that never came, the exchange's end."""
    half = exchange.half(side)
    return exchange.opening.wall_ns + (exchange.elapsed if half is None else half.started)


# --- the documents -----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StoredBody:
    """Where a half's bytes are, and their digest."""

    filename: str
    sha256: str | None


def documents(
    exchange: Exchange, request: StoredBody, response: StoredBody
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The request's and the response's metadata of an exchange that has ended."""
    head = parse_head(exchange.request.head)
    common = _common(exchange, head.first)
    return (
        _request_document(exchange, head, common, request),
        _response_document(exchange, head.first, common, response),
    )


def preview(
    exchange: Exchange, request_file: str, response_file: str | None
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """What `documents` will say, as far as the exchange has come; what is not known yet is null."""
    response = StoredBody(response_file or "", None)
    asked, answered = documents(exchange, StoredBody(request_file, None), response)
    for side, document in ((Side.REQUEST, asked), (Side.RESPONSE, answered)):
        half = exchange.half(side)
        if half is None or half.completed is None:
            document["completed_at"] = document["processing_time_ms"] = None
        document["outcome"] = document["outcome"] or None
    return asked, answered if exchange.response is not None else None


def to_json(document: dict[str, Any]) -> bytes:
    return _encoder.encode(document).encode("ascii") + b"\n"


_encoder = json.JSONEncoder(separators=(",", ":"), check_circular=False)


def _common(exchange: Exchange, method: str) -> dict[str, Any]:
    opening = exchange.opening
    outcome, error = verdict(exchange)
    return {
        "route": opening.route.decode("utf-8", "replace") or None,
        "pattern": opening.pattern.decode("utf-8", "replace") or None,
        "method": method,
        "source_url": opening.source_url.decode("latin-1"),
        "destination_url": opening.destination_url.decode("latin-1") or None,
        "client": _client(opening.client),
        "outcome": outcome,
        "error": error or None,
    }


def _client(text: bytes) -> dict[str, Any]:
    """The records have `address port`."""
    address, _, port = text.decode("latin-1").partition(" ")
    return {"address": address or None, "port": int(port) if port.isdecimal() else None}


def _request_document(
    exchange: Exchange, head: Head, common: dict[str, Any], stored: StoredBody
) -> dict[str, Any]:
    half = exchange.request
    tunnel = exchange.response is not None and exchange.response.tunnel_from is not None
    tunnel = tunnel or half.tunnel_from is not None
    return {
        **_opening(exchange, Side.REQUEST, half, common),
        "http_version": head.third,
        "headers": head.headers,
        "status": None,
        "framing": "tunnel" if tunnel else framing_of_request(head.headers),
        **_body(exchange, half, stored),
    }


def _response_document(
    exchange: Exchange, method: str, common: dict[str, Any], stored: StoredBody
) -> dict[str, Any]:
    half = exchange.response
    head = parse_head(half.head if half else b"")
    status = _status(head)
    return {
        **_opening(exchange, Side.RESPONSE, half, common),
        "http_version": head.first or None,
        "headers": head.headers,
        "status": status,
        "reason": head.third if half else None,
        "answered_by": _answered_by(half),
        "framing": framing_of_response(head.headers, method, status),
        **_body(exchange, half, stored),
        "informational": [_informational(when, raw) for when, raw in exchange.informational],
    }


def _status(head: Head) -> int | None:
    return int(head.second) if len(head.second) == 3 and head.second.isdecimal() else None


def _answered_by(half: Half | None) -> str | None:
    if half is None:
        return None
    return "proxy" if half.ours else "destination"


def _opening(exchange: Exchange, side: Side, half: Half | None, common: dict[str, Any]) -> dict[str, Any]:
    completed = exchange.elapsed if half is None or half.completed is None else half.completed
    return {
        "id": exchange.id,
        "stream_type": side.value,
        **common,
        "started_at": iso_time(half_started(exchange, side)),
        "completed_at": iso_time(exchange.opening.wall_ns + completed),
        "processing_time_ms": completed / 1_000_000,
    }


def _body(exchange: Exchange, half: Half | None, stored: StoredBody) -> dict[str, Any]:
    body: dict[str, Any] = {
        "bytes": half.size if half else 0,
        "sha256": stored.sha256,
        "filename": stored.filename,
        "pieces": list(piece_pairs(half)) if half else [],
        "trailers": parse_fields(half.trailers.decode("latin-1").split("\r\n")) if half else [],
        "notes": exchange.notes,
    }
    if half and half.omitted:
        body["pieces_omitted"] = half.omitted
    if half and half.tunnel_from is not None:
        body["tunnel_from"] = half.tunnel_from
    return body


def _informational(when: int, raw: bytes) -> dict[str, Any]:
    head = parse_head(raw)
    return {
        "at": when // 1000,
        "status": _status(head),
        "reason": head.third,
        "headers": head.headers,
    }
