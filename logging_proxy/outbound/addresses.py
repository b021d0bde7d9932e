"""Addresses of outbound proxies, parsed from URLs."""

from __future__ import annotations

import re
from base64 import b64encode
from dataclasses import dataclass, field
from ipaddress import IPv6Address
from urllib.parse import unquote_to_bytes

from logging_proxy.routing.hosts import fault_of

DEFAULT_PORTS = {"http": 80, "https": 443, "socks5": 1080, "socks5h": 1080}
"""Go's defaults.  curl uses 1080 for every scheme."""

EXPECTED = "an http://, https://, socks5:// or socks5h:// URL such as http://user:password@proxy.example:3128"

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(?:([^/?#]*)@)?([^/?#@]*)/?")
_AUTHORITY = re.compile(r"(\[[^\]]*\]|[^:\[\]]*)(?::([0-9]{1,5}))?")
_NAME = re.compile(r"[A-Za-z0-9_\-.~]{1,255}")
_VISIBLE = re.compile(r"[!-~]*")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")


class ProxyURLError(ValueError):
    """Not the URL of an outbound proxy.  The message never quotes the URL: it may contain a password."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """User and password, as bytes.  `str` and `repr` do not show them."""

    user: bytes = field(repr=False)
    password: bytes = field(repr=False)

    def basic(self) -> bytes:
        """The value of a Proxy-Authorization field (RFC 7617)."""
        return b"Basic " + b64encode(self.user + b":" + self.password)


@dataclass(frozen=True, slots=True)
class ProxyAddress:
    """
    An outbound proxy.  `str` gives its URL without credentials.

    `scheme` is http, https, socks5 (names are resolved here) or socks5h (names are
    resolved by the proxy); `host` has no brackets.
    """

    scheme: str
    host: str
    port: int
    credentials: Credentials | None = None

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"

    @property
    def speaks_http(self) -> bool:
        """Whether this is an HTTP proxy, with or without TLS, as opposed to a SOCKS proxy."""
        return self.scheme in ("http", "https")


def parse_proxy_url(url: str) -> ProxyAddress:
    """Parse the URL of a proxy; raises `ProxyURLError`."""
    parts = _URL.fullmatch(url) if _VISIBLE.fullmatch(url) else None
    if parts is None:
        raise ProxyURLError("is no URL of a scheme, a host and a port alone")
    scheme, userinfo, authority = parts[1].lower(), parts[2], parts[3]
    if scheme not in DEFAULT_PORTS:
        raise ProxyURLError("has a scheme that is not supported")
    host, port = _host_and_port(authority, DEFAULT_PORTS[scheme])
    credentials = None if userinfo is None else _credentials(userinfo, scheme)
    return ProxyAddress(scheme, host, port, credentials)


def _host_and_port(authority: str, default: int) -> tuple[str, int]:
    parts = _AUTHORITY.fullmatch(authority)
    if parts is None:
        raise ProxyURLError("has no usable host and port")
    host = parts[1]
    if host.startswith("["):
        host = host[1:-1]
        try:
            IPv6Address(host)
        except ValueError:
            raise ProxyURLError("has no IPv6 address in its brackets") from None
        if "%" in host:
            raise ProxyURLError("has an address with a zone, which a URL cannot carry")
    elif not _NAME.fullmatch(host):
        raise ProxyURLError("has no usable host")
    elif fault := fault_of(host):
        raise ProxyURLError(f"has a host that {fault}")
    port = default if parts[2] is None else int(parts[2])
    if not 0 < port < 65536:
        raise ProxyURLError("has a port that is not from 1 to 65535")
    return host, port


def _credentials(userinfo: str, scheme: str) -> Credentials:
    if _BAD_ESCAPE.search(userinfo):
        raise ProxyURLError("has a % in its credentials that no two hexadecimal digits follow")
    user, _, password = userinfo.partition(":")
    credentials = Credentials(unquote_to_bytes(user), unquote_to_bytes(password))
    if _CONTROL.search(credentials.user + credentials.password):
        raise ProxyURLError("has a control character in its credentials")
    if scheme in ("http", "https"):
        if b":" in credentials.user:  # RFC 7617 §2: the first colon ends the user's name
            raise ProxyURLError("has a colon in its user's name")
    elif not 0 < len(credentials.user) < 256 or len(credentials.password) > 255:  # RFC 1929 §2
        raise ProxyURLError("has a user or a password that SOCKS cannot carry: 1 to 255 bytes")
    return credentials
