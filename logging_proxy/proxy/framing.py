"""
How a response is sent to the client: its head, the framing of its body, and whether the connection stays.

Bodies keep the upstream's own framing where the client can read it.  A body
that only the upstream's close would end is chunked for HTTP/1.1; HTTP/1.0
has no chunks, and there our close ends the body (RFC 9112 §6.1, §6.3).
"""

from __future__ import annotations

from collections.abc import Callable

from logging_proxy.http.bodies import CHUNKED_END, Piece, chunk
from logging_proxy.http.heads import ResponseHead
from logging_proxy.proxy.headers import onward_response

Frame = Callable[[Piece], bytes]
"""Turns a piece of the body into the bytes for the client."""

Way = tuple[bytes, Frame, bool]
"""The onward head, how pieces are framed for the client, and whether its connection stays."""


def as_it_came(piece: Piece) -> bytes:
    return piece.framed


def bare(piece: Piece) -> bytes:
    return piece.content


def chunked_anew(piece: Piece) -> bytes:
    return (chunk(piece.content) if piece.content else b"") + (CHUNKED_END if piece.last else b"")


def way_to_client(head: ResponseHead, to_head_request: bool, client_minor: int, may_keep_alive: bool) -> Way:
    """The framing towards the client.  A pure function, so that the result can be cached with the head."""
    bodiless = to_head_request or head.status in (204, 304)
    close_delimited = not bodiless and not head.chunked and head.content_length is None
    frame: Frame = as_it_came
    keep_alive = may_keep_alive
    if not bodiless and client_minor == 0 and (head.chunked or close_delimited):
        frame = bare
        keep_alive = False
    elif close_delimited:
        frame = chunked_anew
    onward = onward_response(head, client_minor, close_delimited, keep_alive)
    return onward, frame, keep_alive
