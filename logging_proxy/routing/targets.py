"""Request targets (RFC 9112 section 3.2), split as Go's server splits them.

The parts stay raw: only the host of an absolute-form target is decoded, because it selects the route.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from logging_proxy.routing.paths import has_bad_escape

_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")
_SCHEME = re.compile(rb"([A-Za-z][A-Za-z0-9+.\-]*):(.*)", re.DOTALL)
_USERINFO = re.compile(rb"[A-Za-z0-9\-._:~!$&'()*+,;=%@]*")
_OPTIONAL_PORT = re.compile(rb"(?::[0-9]*)?")
_HOST_BYTE = rb"[A-Za-z0-9\-._~!$&'()*+,;=:\[\]<>\"\x80-\xff]"
# Escapes in a host are allowed for non-ASCII bytes, and for "%" itself.
_HOST = re.compile(rb"(?:" + _HOST_BYTE + rb"|%25|%[89A-Fa-f][0-9A-Fa-f])*")
_ZONE_BYTE = re.compile(rb"(?:" + _HOST_BYTE + rb"|[ %])*")
_HOST_AND_PORT = re.compile(rb"(?:\[([^\[\]]*)\]|([^:\[\]]*)):[^:\[\]]*")


class TargetError(ValueError):
    """A request target that cannot be parsed; the text says why."""


@dataclass(frozen=True, slots=True)
class RequestTarget:
    """The parts of a target: `authority` is empty in origin-form, `query` is None if there is no ``?``."""

    authority: bytes
    path: bytes
    query: bytes | None


def split_target(target: bytes, connect: bool = False) -> RequestTarget:
    """Split a target in origin-form or absolute-form; with `connect` also in authority-form.

    The path is empty or starts with ``/``, and has no bad escape. Raises `TargetError` for any other target.
    """
    if _CONTROL.search(target):
        raise TargetError("a control character")
    if target == b"*":
        raise TargetError("asterisk-form is for OPTIONS only")
    if connect and not target.startswith(b"/"):
        target = b"http://" + target
    scheme, rest = _split_scheme(target)
    rest, mark, query = rest.partition(b"?")
    authority = b""
    if scheme and rest.startswith(b"//"):
        authority, slash, path = rest[2:].partition(b"/")
        authority = _parse_authority(scheme, authority)
        rest = slash + path
    elif not rest.startswith(b"/"):
        rest = b""  # "mailto:someone": Go parses it as a URL with an empty path
    if has_bad_escape(rest):
        raise TargetError("a bad escape in the path")
    return RequestTarget(authority, rest, query if mark else None)


def strip_port(host: bytes) -> bytes:
    """Return a Host without its port; a Host that cannot be split is returned unchanged.

    Brackets are removed with the port: ``[::1]:80`` becomes ``::1``, while ``[::1]`` stays ``[::1]``.
    """
    if b":" not in host:
        return host
    parts = _HOST_AND_PORT.fullmatch(host)
    if parts is None:
        return host
    bracketed, plain = parts.groups()
    return plain if bracketed is None else bracketed


def _split_scheme(target: bytes) -> tuple[bytes, bytes]:
    if target.startswith(b"/"):
        return b"", target
    parts = _SCHEME.fullmatch(target)
    if parts is None:
        raise TargetError("neither a path nor a URL")
    scheme, rest = parts.groups()
    return scheme.lower(), rest


def _parse_authority(scheme: bytes, authority: bytes) -> bytes:
    """Return the host and port of an authority, with its escapes decoded."""
    userinfo, _, host = authority.rpartition(b"@")
    if not _USERINFO.fullmatch(userinfo) or has_bad_escape(userinfo):
        raise TargetError("invalid userinfo")
    opening = host.rfind(b"[")
    if opening > 0:
        raise TargetError("invalid IP literal")
    if opening == 0:
        return _parse_ip_literal(host)
    strict = scheme in (b"http", b"https")
    colon = host.find(b":") if strict else host.rfind(b":")
    if colon >= 0 and not _OPTIONAL_PORT.fullmatch(host[colon:]):
        raise TargetError("invalid port")
    return _unescape_host(host)


def _parse_ip_literal(host: bytes) -> bytes:
    literal, bracket, port = host[1:].rpartition(b"]")
    if not bracket or not _OPTIONAL_PORT.fullmatch(port):
        raise TargetError("invalid IP literal")
    address, percent, zone = literal.partition(b"%25")
    name = _unescape_host(address)
    if percent:
        name += _unescape_zone(percent + zone)
    address, percent, zone = name.partition(b"%")
    try:
        ipaddress.IPv6Address(address.decode("ascii"))
    except ValueError:
        raise TargetError("invalid IP literal") from None
    if percent and not zone:
        raise TargetError("invalid IP literal")
    return b"[" + name + b"]" + port


def _unescape_host(host: bytes) -> bytes:
    if not _HOST.fullmatch(host):
        raise TargetError("invalid host")
    return unquote_to_bytes(host)


def _unescape_zone(zone: bytes) -> bytes:
    decoded = unquote_to_bytes(zone)
    if has_bad_escape(zone) or b" " in zone or not _ZONE_BYTE.fullmatch(decoded):
        raise TargetError("invalid IPv6 zone")
    return decoded
