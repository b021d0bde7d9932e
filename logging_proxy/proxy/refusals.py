"""
What is refused before there is an exchange, or after one, is told and recorded like an exchange.

A capture of such bytes has no head of its own: they stand as they came where a body
would be, marked as refused.
"""

from __future__ import annotations

import json
from http import HTTPStatus
from uuid import UUID

from logging_proxy.configuration.options import RouteOptions
from logging_proxy.http.faults import RequestFault, shown
from logging_proxy.http.heads import request_line_fault
from logging_proxy.http.server import ServerConnection
from logging_proxy.proxy.answers import Reply, refusal
from logging_proxy.proxy.endings import end_record, refused_record
from logging_proxy.proxy.surroundings import Surroundings, client_field, local_address
from logging_proxy.recording.events import Capture, Recorder
from logging_proxy.recording.records import Kind, describe, field, identify
from logging_proxy.routing.mapping import destination_url

_OUTCOME = "protocol_error"


def refuse_request(
    connection: ServerConnection, fault: RequestFault, kept: bytes, id: bytes, surroundings: Surroundings
) -> None:
    """Answer `fault` in a request whose head, of which `kept` came, cannot be read."""
    line = _request_line(kept)
    method, target = (line.split(b" ")[:2]) if line else (b"-", b"-")
    recorder = surroundings.recorder if surroundings.record_unknown else None
    text = f"{fault.reason} (exchange {UUID(bytes=id)})\n".encode()
    reply = Reply(fault.status, text, HTTPStatus(fault.status).name)
    capture = _announce(surroundings, recorder, id, method, target, reply.where)
    error = f"client: {fault}"
    ours = refusal(surroundings.wall_ns() / 1e9, reply)
    if capture is not None:
        source = connection.site.scheme + b"://" + local_address(connection)
        if target.startswith(b"/"):
            source += target
        start = identify(id, surroundings.wall_ns(), client_field(connection)) + describe(
            b"", b"", source, b"", line + b"\r\n" if line else b""
        )
        capture.passed(
            (int(Kind.REQUEST_HEAD), 0, start),
            *refused_record(Kind.REQUEST_PIECE, kept),
            *ours.records,
            end_record(_OUTCOME, error),
        )
    _tell_trouble(surroundings, id, error)
    ours.send(connection, capture)


def record_unasked(
    route: RouteOptions, after: bytes, kept: bytes, id: bytes, surroundings: Surroundings
) -> None:
    """
    An upstream has sent `kept` behind the response of exchange `after`.

    It has a capture of its own: that of the exchange has ended, or would have if the bytes
    had come a moment later, and no client gets them.
    """
    recorder = surroundings.recorder if route.logging else None
    line = kept[: kept.find(b"\r\n") + 2] or kept
    error = f"upstream: {len(kept)} bytes nobody asked for: {shown(line)}"
    url = destination_url(route.destination, route.destination.path)
    capture = _announce(surroundings, recorder, id, b"-", b"-", f"UNASKED {url.decode('latin-1')}")
    if capture is not None:
        start = identify(id, surroundings.wall_ns(), field(b"")) + describe(
            route.name.encode(), str(route.pattern).encode(), b"", url, b""
        )
        note = {"unasked": {"after": str(UUID(bytes=after))}}
        capture.passed(
            (int(Kind.REQUEST_HEAD), 0, start),
            (int(Kind.NOTE), 0, json.dumps(note).encode()),
            *refused_record(Kind.RESPONSE_PIECE, kept),
            end_record(_OUTCOME, error),
        )
    _tell_trouble(surroundings, id, error)


def _request_line(kept: bytes) -> bytes:
    """The first line of `kept`, if that is a request's; it is at fault further on."""
    line, end, _ = kept.partition(b"\r\n")
    return line if end and request_line_fault(line) is None else b""


def _announce(
    surroundings: Surroundings, recorder: Recorder | None, id: bytes, method: bytes, target: bytes, where: str
) -> Capture | None:
    """Write the console line; the capture, if there is to be one."""
    if recorder is not None and recorder.refuses:
        recorder = None
    if surroundings.console is not None:
        surroundings.console(id, method, target, where, recorder is not None)
    return None if recorder is None else recorder.capture()


def _tell_trouble(surroundings: Surroundings, id: bytes, error: str) -> None:
    if surroundings.trouble is not None:
        surroundings.trouble(id, _OUTCOME, error)
