"""
Upgrade: the protocols that a request may switch to (RFC 9110 §7.8).

All but h2c are passed through as a tunnel.  HTTP/2 in clear cannot be recorded as the
exchanges it carries, and a server need not take the offer (RFC 9113 §3.1).
"""

from __future__ import annotations

from collections.abc import Iterable

from logging_proxy.http.heads import RequestHead, ResponseHead

UPGRADE = frozenset({b"upgrade"})
_NOT_CARRIED = frozenset({b"h2c"})


def asked_protocols(head: RequestHead) -> frozenset[bytes]:
    """The protocols, in lower case, that go on in the request's Upgrade field."""
    return _members([head.upgrade]) - _NOT_CARRIED if head.upgrade else frozenset()


def switches_to(head: ResponseHead, asked: frozenset[bytes]) -> bool:
    """
    Whether a 101 switches to something that was asked for, and to nothing else.

    A missing `Upgrade` in its Connection field is tolerated, since the meaning is clear.
    """
    chosen = _members(head.ruling.get(b"upgrade", ()))
    return bool(chosen) and chosen <= asked


def only(line: bytes, kept: frozenset[bytes]) -> list[bytes]:
    """The line of a list-valued field with those of its members that are in `kept`; none without any."""
    name, _, value = line.partition(b":")
    said = [member.strip() for member in value.split(b",")]
    members = [member for member in said if member.lower() in kept]
    if len(members) == len(said):
        return [line]
    return [name + b": " + b", ".join(members) + b"\r\n"] if members else []


def _members(values: Iterable[bytes]) -> frozenset[bytes]:
    return frozenset(member.strip().lower() for value in values for member in value.split(b",")) - {b""}
