"""
The heads that are forwarded (RFC 9110 §7.6).

Field lines are passed on as they came, with their order, case and blanks.  Hop-by-hop fields are left out,
`Host` is changed, and no field is added except the framing that the next connection needs, unless the
configuration asks for it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from logging_proxy.http.heads import RequestHead, ResponseHead
from logging_proxy.http.trailers import HOP_BY_HOP
from logging_proxy.proxy.upgrade import UPGRADE, asked_protocols, only

_NOT_REMOVABLE = frozenset({b"content-length", b"host"})
"""`Connection: Content-Length` must not change where a message ends, nor `Connection: Host` where it goes."""

_FORWARDED = frozenset({b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto"})

PSEUDONYM = b"logging-proxy"


@dataclass(frozen=True, slots=True)
class ForwardedPolicy:
    """The fields about the client; with `keep` they stay as the client sent them."""

    forwarded: str = "keep"
    via: bool = False

    @property
    def needs_client(self) -> bool:
        """Whether the forwarded head depends on the client's address."""
        return self.forwarded != "keep"


def onward_request(
    head: RequestHead, target: bytes, authority: bytes, policy: ForwardedPolicy, client: bytes, scheme: bytes
) -> bytes:
    """Request line and field lines for the destination, without the blank line."""
    lines = [head.method + b" " + target + b" HTTP/1.1\r\n"]
    if not head.host:
        lines.append(b"Host: " + authority + b"\r\n")
    named = head.connection_options - _NOT_REMOVABLE
    if policy.forwarded != "keep":
        named -= _FORWARDED  # otherwise a client could remove these by naming them
    last_for = max((at for at, (name, _) in enumerate(head.fields) if name == b"x-forwarded-for"), default=-1)
    for at, (line, (name, value)) in enumerate(zip(head.lines, head.fields, strict=True)):
        if name == b"host":
            lines.append(line[:4] + b": " + authority + b"\r\n")
        elif name in HOP_BY_HOP:
            lines += _request_exception(head, line, name, value)
        elif name in named or (name == b"expect" and head.minor == 0):
            continue
        elif name in _FORWARDED and policy.forwarded == "replace":
            continue
        elif at == last_for and policy.forwarded == "append":
            lines.append(_name(line) + b": " + value + b", " + client + b"\r\n")
        elif name == b"max-forwards":
            lines.append(_one_forward_less(head, line, value))
        else:
            lines.append(line)
    lines += _added(head, policy, client, scheme)
    return b"".join(lines)


def _name(line: bytes) -> bytes:
    return line.partition(b":")[0]


def _request_exception(head: RequestHead, line: bytes, name: bytes, value: bytes) -> list[bytes]:
    """The line for the next hop in the place of a hop-by-hop field; none for most of them."""
    if name == b"transfer-encoding":
        return [_chunked_line(line)]
    if name == b"trailer" and head.chunked:
        return [line]
    if name == b"te" and b"trailers" in (part.strip().lower() for part in value.split(b",")):
        return [_name(line) + b": trailers\r\n"]
    if head.upgrade and name in (b"connection", b"upgrade"):
        asked = asked_protocols(head)
        return only(line, UPGRADE if asked and name == b"connection" else asked)
    return []


def _chunked_line(line: bytes) -> bytes:
    """In the plainest form, apart from the name: not every recipient reads `CHUNKED`, or a tab before it."""
    return _name(line) + b": chunked\r\n"


def forwards_left(head: RequestHead) -> int | None:
    """The Max-Forwards of a TRACE or OPTIONS request; None if there is no limit (RFC 9110 §7.6.2)."""
    if head.method not in (b"TRACE", b"OPTIONS"):
        return None
    left = [int(value) for value in head.values(b"max-forwards") if value.isdigit() and len(value) < 10]
    return min(left, default=None)


def _one_forward_less(head: RequestHead, line: bytes, value: bytes) -> bytes:
    if not forwards_left(head) or not value.isdigit():
        return line
    return _name(line) + b": %d\r\n" % (int(value) - 1)


def _added(head: RequestHead, policy: ForwardedPolicy, client: bytes, scheme: bytes) -> list[bytes]:
    """The fields that the configuration adds after the client's."""
    added = []
    if policy.forwarded != "keep":
        told = {name for name, _ in head.fields} if policy.forwarded == "append" else set()
        for name, value in (
            (b"X-Forwarded-For", client),
            (b"X-Forwarded-Host", asked_host(head)),
            (b"X-Forwarded-Proto", scheme),
        ):
            if name.lower() not in told and value:
                added.append(name + b": " + value + b"\r\n")
    if policy.via:
        added.append(b"Via: 1.%d " % head.minor + PSEUDONYM + b"\r\n")
    return added


def asked_host(head: RequestHead) -> bytes:
    """The host that the request is for: an absolute-form target's wins over Host (RFC 9112 §3.2.2)."""
    if head.target.startswith(b"/"):
        return head.host
    _, mark, rest = head.target.partition(b"://")
    return re.split(rb"[/?#]", rest, maxsplit=1)[0] if mark else head.host


def loops(head: RequestHead) -> bool:
    """Whether the request has passed this proxy before, according to its Via fields."""
    received = (entry.split() for value in head.values(b"via") for entry in value.split(b","))
    return any(len(entry) >= 2 and entry[1] == PSEUDONYM for entry in received)


def onward_response(
    head: ResponseHead, client_minor: int, body_is_close_delimited: bool, keep_alive: bool
) -> bytes:
    """
    The whole head for the client, blank line included.

    `body_is_close_delimited` says that the upstream's close would be the body's end; for a
    client that knows chunks, the body is chunked instead.
    """
    lines = [_status_line(head)]
    named = head.connection_options - _NOT_REMOVABLE
    for line, (name, _) in zip(head.lines, head.fields, strict=True):
        if head.status == 426 and name == b"upgrade":
            lines.append(line)  # RFC 9110 §15.5.22: without it the client cannot know the required protocol
        elif name in HOP_BY_HOP:
            if (
                name in (b"transfer-encoding", b"trailer")
                and head.chunked
                and client_minor
                and head.status != 204
            ):
                lines.append(line if name == b"trailer" else _chunked_line(line))
        elif name in named or (name == b"content-length" and head.status == 204):
            continue
        else:
            lines.append(line)
    if body_is_close_delimited and client_minor:
        lines.append(b"Transfer-Encoding: chunked\r\n")
    if head.status == 426 and b"upgrade" in head.ruling:
        lines.append(_CONNECTION_UPGRADE)
    if not keep_alive:
        lines.append(b"Connection: close\r\n")
    elif not client_minor:
        lines.append(b"Connection: keep-alive\r\n")
    lines.append(b"\r\n")
    return b"".join(lines)


def onward_informational(head: ResponseHead) -> bytes:
    """A 1xx head for the client, blank line included."""
    named = head.connection_options - _NOT_REMOVABLE
    kept = (
        line
        for line, (name, _) in zip(head.lines, head.fields, strict=True)
        if name not in HOP_BY_HOP and name not in named and name != b"content-length"
    )
    return _status_line(head) + b"".join(kept) + b"\r\n"


_CONNECTION_UPGRADE = b"Connection: Upgrade\r\n"


def onward_switch(head: ResponseHead) -> bytes:
    """The head of a 101 that was asked for, for the client, blank line included."""
    named = head.connection_options - _NOT_REMOVABLE - UPGRADE
    lines = [_status_line(head)]
    for line, (name, _) in zip(head.lines, head.fields, strict=True):
        if name == b"connection":
            lines += only(line, UPGRADE)
        elif name == b"upgrade" or not (name in HOP_BY_HOP or name in named or name == b"content-length"):
            lines.append(line)
    if b"upgrade" not in head.connection_options:
        lines.append(_CONNECTION_UPGRADE)
    return b"".join(lines) + b"\r\n"


def _status_line(head: ResponseHead) -> bytes:
    """The status line with our version, and with the space before an empty reason that some servers omit."""
    line, _, _ = head.raw.partition(b"\r\n")
    return b"HTTP/1.1" + (line[8:] if len(line) > 12 else line[8:12] + b" ") + b"\r\n"
