"""
What of a head goes on to the other side (RFC 9110 §7.6).

Field lines are passed on as they came, in order, case and blanks.  Left out is
what belongs to one connection only; changed is `Host`; added is nothing but
the framing that the next connection needs, unless the configuration asks.
"""

from __future__ import annotations

from dataclasses import dataclass

from logging_proxy.http.heads import RequestHead, ResponseHead

HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
"""The list of Go's ReverseProxy, of RFC 2616 §13.5.1 and of what clients send in practice."""

_NOT_REMOVABLE = frozenset({b"content-length", b"host", b"close", b"keep-alive", b"te", b"upgrade"})
"""`Connection: Content-Length` must not change where the message ends (RFC 9110 §7.6.1 last paragraph)."""

_FORWARDED = frozenset({b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto"})

PSEUDONYM = b"logging-proxy"


@dataclass(frozen=True, slots=True)
class ForwardedPolicy:
    """What is said about the client; `keep` leaves everything as the client sent it."""

    forwarded: str = "keep"
    via: bool = False

    @property
    def needs_client(self) -> bool:
        """Whether the head that goes on depends on the client's address."""
        return self.forwarded != "keep"


def onward_request(
    head: RequestHead, target: bytes, authority: bytes, policy: ForwardedPolicy, client: bytes, scheme: bytes
) -> bytes:
    """Request line and field lines for the destination, without the blank line."""
    lines = [head.method + b" " + target + b" HTTP/1.1\r\n"]
    if not head.host and b"host" not in (name for name, _ in head.fields):
        lines.append(b"Host: " + authority + b"\r\n")
    named = head.connection_options - _NOT_REMOVABLE
    for line, (name, value) in zip(head.lines, head.fields, strict=True):
        if name == b"host":
            lines.append(line[:4] + b": " + authority + b"\r\n")
        elif name in HOP_BY_HOP:
            lines += _request_exception(head, line, name, value)
        elif name in named or (name == b"expect" and head.minor == 0):
            continue
        elif name in _FORWARDED and policy.forwarded != "keep":
            lines += _client_line(line, name, value, policy, client)
        else:
            lines.append(line)
    lines += _added(head, policy, client, scheme)
    return b"".join(lines)


def _request_exception(head: RequestHead, line: bytes, name: bytes, value: bytes) -> list[bytes]:
    """Hop-by-hop fields that are said anew to the next hop, in the same place."""
    if name in (b"transfer-encoding", b"trailer") and head.chunked:
        return [line]
    if name == b"te" and b"trailers" in (part.strip().lower() for part in value.split(b",")):
        return [line.partition(b":")[0] + b": trailers\r\n"]
    if name in (b"connection", b"upgrade") and head.upgrade:
        return [line] if name == b"upgrade" else [line.partition(b":")[0] + b": Upgrade\r\n"]
    return []


def _client_line(
    line: bytes, name: bytes, value: bytes, policy: ForwardedPolicy, client: bytes
) -> list[bytes]:
    if policy.forwarded == "replace":
        return []
    if name == b"x-forwarded-for":
        return [line.partition(b":")[0] + b": " + value + b", " + client + b"\r\n"]
    return [line]


def _added(head: RequestHead, policy: ForwardedPolicy, client: bytes, scheme: bytes) -> list[bytes]:
    """What the configuration adds behind the client's fields."""
    added = []
    if policy.forwarded != "keep":
        told = {name for name, _ in head.fields} if policy.forwarded == "append" else set()
        for name, value in (
            (b"X-Forwarded-For", client),
            (b"X-Forwarded-Host", head.host),
            (b"X-Forwarded-Proto", scheme),
        ):
            if name.lower() not in told and value:
                added.append(name + b": " + value + b"\r\n")
    if policy.via:
        added.append(b"Via: 1.%d " % head.minor + PSEUDONYM + b"\r\n")
    return added


def loops(head: RequestHead) -> bool:
    """Whether the request has been here before, as its Via fields tell."""
    received = (entry.split() for value in head.values(b"via") for entry in value.split(b","))
    return any(len(entry) >= 2 and entry[1] == PSEUDONYM for entry in received)


def onward_response(
    head: ResponseHead, client_minor: int, body_is_close_delimited: bool, keep_alive: bool
) -> bytes:
    """
    The whole head for the client, blank line included.

    A body whose end only the upstream's close would show is chunked for a
    client that knows chunks; for an HTTP/1.0 client our close shows it.
    """
    lines = [_status_line(head)]
    named = head.connection_options - _NOT_REMOVABLE
    for line, (name, _) in zip(head.lines, head.fields, strict=True):
        if name in HOP_BY_HOP:
            if (
                name in (b"transfer-encoding", b"trailer")
                and head.chunked
                and client_minor
                and head.status != 204
            ):
                lines.append(line)
        elif name in named or (name == b"content-length" and head.status == 204):
            continue
        else:
            lines.append(line)
    if body_is_close_delimited and client_minor:
        lines.append(b"Transfer-Encoding: chunked\r\n")
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
        if name not in HOP_BY_HOP and name not in named
    )
    return _status_line(head) + b"".join(kept) + b"\r\n"


def _status_line(head: ResponseHead) -> bytes:
    line, _, _ = head.raw.partition(b"\r\n")
    return b"HTTP/1.1" + line[8:] + b"\r\n"
