"""
The metadata documents of a capture, as the JSON text that is stored.

A document describes one half; the fields of the exchange (`id`, `route`, `outcome`, ...) are in both.
Documents are concatenated from encoded JSON, most of which is equal for many exchanges and cached:
that is much faster than encoding dictionaries.
"""

from __future__ import annotations

import json
import time
from functools import lru_cache
from json.encoder import encode_basestring_ascii
from typing import Any, NamedTuple

from logging_proxy.captures.exchanges import Exchange, Half, Side, verdict
from logging_proxy.captures.heads import (
    Head,
    framing_of_request,
    framing_of_response,
    known_head,
    parse_fields,
    parse_head,
)

# --- times ---------------------------------------------------------------------


@lru_cache(maxsize=64)
def _local_second(second: int) -> tuple[str, str, str]:
    """A local second in the form of file names, in ISO 8601, and its zone."""
    local = time.localtime(second)
    minutes = local.tm_gmtoff // 60
    sign, minutes = ("-", -minutes) if minutes < 0 else ("+", minutes)
    zone = f"{sign}{minutes // 60:02}:{minutes % 60:02}"
    return time.strftime("%Y-%m-%d_%H-%M-%S", local), time.strftime("%Y-%m-%dT%H:%M:%S", local), zone


@lru_cache(maxsize=64)
def _stamp(millisecond: int) -> str:
    second, rest = divmod(millisecond, 1000)
    return f"{_local_second(second)[0]}.{rest:03}"


def file_stamp(wall_ns: int) -> str:
    """Local time with milliseconds: the first part of file names."""
    return _stamp(wall_ns // 1_000_000)


def iso_time(wall_ns: int) -> str:
    """ISO 8601 with microseconds and the local zone."""
    second, rest = divmod(wall_ns, 1_000_000_000)
    _, text, zone = _local_second(second)
    return f"{text}.{str(1_000_000 + rest // 1000)[1:]}{zone}"  # faster than `:06`


def half_started(exchange: Exchange, side: Side) -> int:
    """Wall time in nanoseconds of the start of a half; without a response, of the end of the exchange."""
    half = exchange.half(side)
    return exchange.wall_ns + (exchange.elapsed if half is None else half.started)


# --- clients -------------------------------------------------------------------


@lru_cache(maxsize=1024)
def _client(text: bytes) -> tuple[str | None, str]:
    """A client's `address port` as text, None without an address, and as JSON."""
    address, _, digits = text.decode("latin-1").partition(" ")
    # The text may come from a remote sender, so it is checked: a port has five digits at most.
    port = int(digits) if digits.isdecimal() and len(digits) <= 5 else None
    shown: str | None = address or None
    if address and port is not None:
        shown = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
    return shown, json.dumps({"address": address or None, "port": port}, separators=(",", ":"))


def client_of(text: bytes) -> str | None:
    """The client of the records as one text, `address:port`."""
    return _client(text)[0]


# --- the documents -----------------------------------------------------------------


class StoredBody(NamedTuple):
    """Where a half's bytes are, and their digest."""

    filename: str
    sha256: str | None


def texts(exchange: Exchange, request: StoredBody, response: StoredBody) -> tuple[str, str]:
    """The request's and the response's metadata of an exchange that has ended, each a line of ASCII."""
    opening = exchange.opening
    outcome, error = verdict(exchange)
    common = (
        f'{opening.json},"client":{_client(exchange.client)[1]},"outcome":"{outcome}",'
        f'"error":{encode_basestring_ascii(error) if error else "null"}'
    )
    if exchange.run:
        common += f',"run":{encode_basestring_ascii(exchange.run)}'
    notes = _encode(exchange.notes) if exchange.notes else "[]"
    return (
        _request_text(exchange, opening.parsed, common, request, notes),
        _response_text(exchange, opening.parsed.first, common, response, notes),
    )


def documents(
    exchange: Exchange, request: StoredBody, response: StoredBody
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The same as `texts`, decoded."""
    asked, answered = texts(exchange, request, response)
    return json.loads(asked), json.loads(answered)


def preview(
    exchange: Exchange, request_file: str, response_file: str | None
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """The `documents` of an exchange that is still open; fields that are not known yet are null."""
    response = StoredBody(response_file or "", None)
    asked, answered = documents(exchange, StoredBody(request_file, None), response)
    for side, document in ((Side.REQUEST, asked), (Side.RESPONSE, answered)):
        half = exchange.half(side)
        if half is None or half.completed is None:
            document["completed_at"] = document["processing_time_ms"] = None
        document["outcome"] = document["outcome"] or None
    return asked, answered if exchange.response is not None else None


_encode = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode


def _request_text(exchange: Exchange, head: Head, common: str, stored: StoredBody, notes: str) -> str:
    half, response = exchange.request, exchange.response
    tunnel = half.tunnel_from is not None or (response is not None and response.tunnel_from is not None)
    return (
        f'{{"id":"{exchange.id}","stream_type":"request",{common},{_times(exchange, half)},'
        f'"http_version":{encode_basestring_ascii(head.third)},"headers":{head.json},"status":null,'
        f'"framing":"{"tunnel" if tunnel else framing_of_request(head)}",{_body(half, stored, notes)}}}\n'
    )


def _response_text(exchange: Exchange, method: str, common: str, stored: StoredBody, notes: str) -> str:
    half = exchange.response
    if half is None:
        facts, framing = (
            '"http_version":null,"headers":[],"status":null,"reason":null,"answered_by":null',
            "none",
        )
    else:
        head = known_head(half.head)
        facts, framing = _answer(half, head), framing_of_response(head, method)
    return (
        f'{{"id":"{exchange.id}","stream_type":"response",{common},{_times(exchange, half)},'
        f'{facts},"framing":"{framing}",{_body(half, stored, notes)},'
        f'"informational":{_informational(exchange)}}}\n'
    )


def _answer(half: Half, head: Head) -> str:
    version = encode_basestring_ascii(head.first) if head.first else "null"
    return (
        f'"http_version":{version},"headers":{head.json},'
        f'"status":{"null" if head.status is None else head.status},'
        f'"reason":{encode_basestring_ascii(head.third)},'
        f'"answered_by":"{"proxy" if half.ours else "destination"}"'
    )


def _times(exchange: Exchange, half: Half | None) -> str:
    began = elapsed = exchange.elapsed
    if half is not None:
        began = half.started
        if half.completed is not None:
            elapsed = half.completed
    return (
        f'"started_at":"{iso_time(exchange.wall_ns + began)}",'
        f'"completed_at":"{iso_time(exchange.wall_ns + elapsed)}","processing_time_ms":{elapsed / 1_000_000}'
    )


def _body(half: Half | None, stored: StoredBody, notes: str) -> str:
    filename, sha256 = stored
    digest = "null" if sha256 is None else f'"{sha256}"'
    if half is None:
        return (
            f'"bytes":0,"sha256":{digest},"filename":"{filename}","pieces":[],"trailers":[],"notes":{notes}'
        )
    trailers = "[]"
    if half.trailers:
        trailers = _encode(parse_fields(half.trailers.decode("latin-1").split("\r\n")))
    text = (
        f'"bytes":{half.size},"sha256":{digest},"filename":"{filename}",'
        f'"pieces":{_pieces(half)},"trailers":{trailers},"notes":{notes}'
    )
    if half.omitted:
        text += f',"pieces_omitted":{half.omitted}'
    if half.refused_from is not None:
        text += f',"refused":{{"offset":{half.refused_from},"bytes":{half.size - half.refused_from}}}'
    if half.tunnel_from is not None:
        text += f',"tunnel_from":{half.tunnel_from}'
    return text


def _pieces(half: Half) -> str:
    """`[offset, microseconds since the start of the exchange]` of each piece."""
    pieces = half.pieces
    if len(pieces) == 2:
        return f"[[{pieces[0]},{pieces[1] // 1000}]]"
    each = iter(pieces)
    return f"[{','.join([f'[{offset},{time // 1000}]' for offset, time in zip(each, each, strict=True)])}]"


def _informational(exchange: Exchange) -> str:
    if not exchange.informational:
        return "[]"
    heads = [(when, parse_head(raw)) for when, raw in exchange.informational]
    return _encode(
        [
            {"at": when // 1000, "status": head.status, "reason": head.third, "headers": head.headers}
            for when, head in heads
        ]
    )
