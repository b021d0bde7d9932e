"""The destination of a route, and the request target that it receives.

Path and query are passed on byte for byte. Only the segments that the pattern names are cut off the path;
decoding serves only to verify that the rest stays inside the destination's path.
"""

from __future__ import annotations

import ipaddress
import itertools
import re
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from logging_proxy.routing.hosts import fault_of
from logging_proxy.routing.paths import has_bad_escape, is_escaped
from logging_proxy.routing.patterns import Pattern
from logging_proxy.routing.targets import split_target

DEFAULT_PORTS = {"http": 80, "https": 443}

_URL = re.compile(r"([^:/?#]*)://([^/?#]*)([^?#]*)(?:\?([^#]*))?(#.*)?", re.DOTALL)
_AUTHORITY = re.compile(r"(\[[^\]]*\]|[^:\[\]]*)(?::([^:]*))?")
_NAME = re.compile(r"[A-Za-z0-9_\-.~]+")
_DIGITS = re.compile(r"[0-9]+")
_PRINTABLE = re.compile(r"[!-~]*")
_NOT_IN_URLS = re.compile(r"[\"<>\\^`{|}]")

# Only these can be part of a "..", in any spelling.
_MAY_CLIMB = re.compile(rb"\.\.|%2[eE]")
# In a path that is decoded as a whole before matching, an escaped slash is a separator as well.
_ANY_SLASH = re.compile(rb"/|%2[fF]")

# Separators of segments besides "/", and every combination of reading each as a slash or another character.
_SLASHES = (re.compile(rb"\\"), re.compile(rb"%5[cC]"), re.compile(rb"%2[fF]"))
_READINGS = list(itertools.product((b"/", b"_"), repeat=len(_SLASHES)))


class DestinationError(ValueError):
    """A destination that is not a usable URL; the text says why."""


class EscapesDestination(ValueError):
    """A request whose path, once the upstream resolves it, would leave the destination's path: 400."""


@dataclass(frozen=True, slots=True)
class Destination:
    """The parsed URL of a route's destination.

    `host` is the host to connect to, without brackets. `authority` is the value of the Host field: as it was
    written, with a port unless that is the scheme's default. `path` starts with ``/``. `query` is empty if
    there is none.
    """

    scheme: str
    host: str
    port: int
    authority: bytes
    path: bytes
    query: bytes = b""


def parse_destination(url: str) -> Destination:
    """Parse the URL of a destination, or raise `DestinationError`."""
    if not _PRINTABLE.fullmatch(url):
        raise DestinationError("only printable ASCII may stand in a URL, and no space")
    parts = _URL.fullmatch(url)
    scheme = parts[1].lower() if parts else ""
    if parts is None or scheme not in DEFAULT_PORTS:
        raise DestinationError("must start with http:// or https://")
    _, authority, path, query, fragment = parts.groups()
    if fragment is not None:
        raise DestinationError("a destination has no fragment (#)")
    wrong = _NOT_IN_URLS.search(path + (query or ""))
    if wrong:
        raise DestinationError(f"{wrong[0]} may not stand in a URL")
    if has_bad_escape(path.encode("ascii")):
        raise DestinationError("a % in a path must be followed by two hexadecimal digits")
    host, port = _parse_authority(authority, DEFAULT_PORTS[scheme])
    shown = host if port == DEFAULT_PORTS[scheme] else f"{host}:{port}"
    return Destination(
        scheme=scheme,
        host=host.strip("[]"),
        port=port,
        authority=shown.encode("ascii"),
        path=path.encode("ascii") or b"/",
        query=(query or "").encode("ascii"),
    )


def upstream_target(pattern: Pattern, destination: Destination, raw_target: bytes) -> bytes:
    """Return the target, in origin-form, that is sent to the destination.

    `raw_target` is the target as the client sent it, which `pattern` matched. A pattern that ends in ``/`` is
    cut off, and the rest is appended to the destination's path; other patterns are replaced by that path.
    The client's query is kept, after the destination's own if there is one. Raises `EscapesDestination` if
    the rest leaves the destination's path.
    """
    path, mark, query = raw_target.partition(b"?")
    if not path.startswith(b"/"):
        parts = split_target(raw_target)
        path, mark, query = parts.path, b"" if parts.query is None else b"?", parts.query or b""
    target = destination.path
    if pattern.is_subtree:
        rest = _cut(path, len(pattern.segments) - 1)
        if _MAY_CLIMB.search(rest) and _climbs(rest):
            raise EscapesDestination("the path leaves the destination's path")
        target = target + rest if target.endswith(b"/") else target + b"/" + rest
    if destination.query:
        query = destination.query + b"&" + query if query else destination.query
        mark = b"?"
    return target + mark + query


def destination_url(destination: Destination, target: bytes) -> bytes:
    """Return the URL of a target in origin-form at a destination, for people to read."""
    return destination.scheme.encode("ascii") + b"://" + destination.authority + target


def _parse_authority(authority: str, default_port: int) -> tuple[str, int]:
    """Return the host, with the brackets of an IPv6 address, and the port."""
    if "@" in authority:
        raise DestinationError("a destination has no user or password; send credentials in a header")
    parts = _AUTHORITY.fullmatch(authority)
    if parts is None:
        raise DestinationError(f"{authority} is no host and port; an IPv6 address stands in [brackets]")
    host, port = parts.groups()
    if host.startswith("["):
        try:
            ipaddress.IPv6Address(host[1:-1])
        except ValueError:
            raise DestinationError(f"{host} is no IPv6 address") from None
        if "%" in host:
            raise DestinationError(f"{host} has a zone, which a URL cannot carry")
    elif not _NAME.fullmatch(host):
        raise DestinationError(f"{host} is no host name" if host else "the host is missing")
    elif fault := fault_of(host):
        raise DestinationError(f"the host {fault}")
    if port is None:
        return host, default_port
    if not _DIGITS.fullmatch(port) or len(port) > 5 or not 0 < int(port) < 65536:
        raise DestinationError(f"{port or 'an empty port'} is no port number from 1 to 65535")
    return host, int(port)


def _cut(path: bytes, count: int) -> bytes:
    """Return the part of a raw path after its first `count` segments and the slash behind them."""
    pieces = path.split(b"/", count + 1) if is_escaped(path) else _ANY_SLASH.split(path, count + 1)
    if len(pieces) < count + 2:
        raise ValueError("the path is shorter than the pattern that it is said to match")
    return pieces[-1]


def _climbs(rest: bytes) -> bool:
    """Tell whether some upstream that decodes `rest` once would resolve it to a path above its start.

    Upstreams differ in what they take for separators: an escaped slash, a backslash, an escaped backslash.
    The depth of ``x%2Fy/%2e%2e/%2e%2e`` depends on that, so all combinations are tried.
    """
    return any(_goes_above(_read_as(rest, separators)) for separators in _READINGS)


def _read_as(rest: bytes, separators: tuple[bytes, ...]) -> list[bytes]:
    for slash, replacement in zip(_SLASHES, separators, strict=True):
        rest = slash.sub(replacement, rest)
    return unquote_to_bytes(rest).split(b"/")


def _goes_above(pieces: list[bytes]) -> bool:
    depth = 0
    for piece in pieces:
        if piece == b"..":
            depth -= 1
            if depth < 0:
                return True
        elif piece not in (b"", b"."):
            depth += 1
    return False
