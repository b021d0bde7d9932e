"""
Requests that the proxy answers itself, and bytes that belong to no exchange.

Each is published and recorded like an exchange.  Bytes without a readable head are recorded as they came,
in the place of a body, with the flag `REFUSED`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from http import HTTPStatus
from uuid import UUID

from logging_proxy.configuration.options import RouteOptions
from logging_proxy.http.bodies import Piece
from logging_proxy.http.faults import RequestFault, shown
from logging_proxy.http.heads import RequestHead, request_line_fault
from logging_proxy.http.negotiation import fields_of
from logging_proxy.http.server import ServerConnection
from logging_proxy.proxy.answers import ErrorReply, Reply, answer, refusal
from logging_proxy.proxy.error_kinds import kind_of_fault
from logging_proxy.proxy.stored import (
    ANSWERED_EARLY,
    COMPLETE,
    end_record,
    refused_record,
    request_records,
)
from logging_proxy.proxy.surroundings import Surroundings, client_field, local_address
from logging_proxy.recording.events import Capture, Recorder
from logging_proxy.recording.records import Kind, describe, field, identify
from logging_proxy.recording.writer import Passed
from logging_proxy.routing.mapping import destination_url

_OUTCOME = "protocol_error"


@dataclass(frozen=True, slots=True)
class Incoming:
    """A request as a resource is given it."""

    connection: ServerConnection
    head: RequestHead
    piece: Piece
    """The part of the body that came with the head."""


def source_url(connection: ServerConnection, head: RequestHead) -> bytes:
    """The URL that the client used."""
    if not head.target.startswith((b"/", b"*")):
        return head.target
    path = b"" if head.target == b"*" else head.target  # RFC 9110 §7.1: `*` stands for the server itself
    return connection.site.scheme + b"://" + (head.host or local_address(connection)) + path


def answer_request(
    incoming: Incoming,
    id: bytes,
    reply: Reply,
    surroundings: Surroundings,
    recorder: Recorder | None,
    route: RouteOptions | None = None,
) -> None:
    """Answer with `reply`, as the whole exchange `id`; `route` is the one that the request was for."""
    connection, head = incoming.connection, incoming.head
    capture = _capture(recorder)
    ours = answer(head, connection.may_keep_alive, surroundings.wall_ns() / 1e9, reply)
    start: Passed = ()
    end: Passed = ()
    if capture is not None:
        name, pattern = (route.name.encode(), str(route.pattern).encode()) if route else (b"", b"")
        received = head.raw[:-2]
        opening = identify(id, surroundings.wall_ns(), client_field(connection)) + describe(
            name, pattern, source_url(connection, head), b"", received
        )
        start = request_records(opening, incoming.piece, incoming.piece.trailers)
        end = (*ours.records, *(() if incoming.piece.last else (ANSWERED_EARLY,)), COMPLETE)
    surroundings.publish(
        {
            "exchange": id,
            "capture": capture,
            "records": start,
            "method": head.method,
            "target": head.target,
            "where": reply.where,
        }
    )
    surroundings.publish(
        {
            "exchange": id,
            "capture": capture,
            "records": end,
            "response": ours.head,
            "outcome": "complete",
            "error": "",
            "sent": len(incoming.piece.content),
            "received": len(ours.body),
            "ours": True,
        }
    )
    ours.send(connection, capture)


def refuse_request(
    connection: ServerConnection, fault: RequestFault, kept: bytes, id: bytes, surroundings: Surroundings
) -> None:
    """Answer `fault` in a request whose head cannot be read; `kept` is the part of it that was received."""
    line = _request_line(kept)
    method, target = (line.split(b" ")[:2]) if line else (b"-", b"-")
    where = HTTPStatus(fault.status).name
    reply = ErrorReply(kind_of_fault(fault.status), fault.reason, where).to(id, fields_of(kept))
    capture = _capture(surroundings.recorder if surroundings.record_unknown else None)
    error = f"client: {fault}"
    ours = refusal(surroundings.wall_ns() / 1e9, reply)
    records: Passed = ()
    if capture is not None:
        source = connection.site.scheme + b"://" + local_address(connection)
        if target.startswith(b"/"):
            source += target
        start = identify(id, surroundings.wall_ns(), client_field(connection)) + describe(
            b"", b"", source, b"", line + b"\r\n" if line else b""
        )
        records = (
            (int(Kind.REQUEST_HEAD), 0, start),
            *refused_record(Kind.REQUEST_PIECE, kept),
            *ours.records,
            end_record(_OUTCOME, error),
        )
    surroundings.publish(
        {
            "exchange": id,
            "capture": capture,
            "records": records,
            "method": method,
            "target": target,
            "where": reply.where,
            "response": ours.head,
            "outcome": _OUTCOME,
            "error": error,
            "sent": 0,
            "received": len(ours.body),
            "ours": True,
        }
    )
    ours.send(connection, capture)


def record_unasked(
    route: RouteOptions, after: bytes, kept: bytes, id: bytes, surroundings: Surroundings
) -> None:
    """
    An upstream has sent `kept` behind the response of exchange `after`, without a request.

    The bytes get a capture of their own, whether they came before that exchange had ended or after it.
    No client receives them.
    """
    line = kept[: kept.find(b"\r\n") + 2] or kept
    error = f"upstream: {len(kept)} unsolicited bytes: {shown(line)}"
    url = destination_url(route.destination, route.destination.path)
    capture = _capture(surroundings.recorder if route.logging else None)
    records: Passed = ()
    if capture is not None:
        start = identify(id, surroundings.wall_ns(), field(b"")) + describe(
            route.name.encode(), str(route.pattern).encode(), b"", url, b""
        )
        note = {"unasked": {"after": str(UUID(bytes=after))}}
        records = (
            (int(Kind.REQUEST_HEAD), 0, start),
            (int(Kind.NOTE), 0, json.dumps(note).encode()),
            *refused_record(Kind.RESPONSE_PIECE, kept),
            end_record(_OUTCOME, error),
        )
    surroundings.publish(
        {
            "exchange": id,
            "capture": capture,
            "records": records,
            "method": b"-",
            "target": b"-",
            "where": f"UNASKED {url.decode('latin-1')}",
            "outcome": _OUTCOME,
            "error": error,
            "sent": 0,
            "received": len(kept),
        }
    )


def _request_line(kept: bytes) -> bytes:
    """The first line of `kept`, if it is a valid request line."""
    line, end, _ = kept.partition(b"\r\n")
    return line if end and request_line_fault(line) is None else b""


def _capture(recorder: Recorder | None) -> Capture | None:
    """A new capture, unless there is no recorder or it cannot record."""
    return None if recorder is None or recorder.refuses else recorder.capture()
