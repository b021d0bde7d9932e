"""
Access control: Host, origin and token.

The checks of Host and origin keep web pages of other origins out, DNS rebinding included.  The token keeps
other users out; `visitors` tells which clients need none.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections import OrderedDict
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Any
from urllib.parse import unquote_to_bytes
from weakref import WeakKeyDictionary

from twisted.web.resource import Resource
from twisted.web.server import Request

from logging_proxy.logserver.web.answers import Problem, Refusal
from logging_proxy.logserver.web.visitors import Visitors

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

FAILURES = 10
"""Wrong tokens that an address may send in a burst."""

FORGIVEN_AFTER = 3.0
"""Seconds after which one of them is forgotten; a shipper with a wrong token retries less often."""

ADDRESSES = 4096

_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^:\[\]]+)(?::[0-9]{1,5})?", re.ASCII)


class Failures:
    """Counts wrong tokens by address, against guessing."""

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self._until: OrderedDict[str, float] = OrderedDict()
        """The time at which all failures of an address are forgotten."""

    def count(self, address: str) -> None:
        """Notes a wrong token from `address`."""
        key = _network(address)
        now = self._seconds()
        self._until[key] = max(self._until.pop(key, now), now) + FORGIVEN_AFTER
        if len(self._until) > ADDRESSES:
            self._until.popitem(last=False)

    def too_many(self, address: str) -> bool:
        left = self._until.get(_network(address), 0.0) - self._seconds()
        return left > (FAILURES - 1) * FORGIVEN_AFTER


def _network(address: str) -> str:
    """The address; for IPv6 its /64 network, all of which one host may own."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is None:
        return str(ip_network((parsed, 64), strict=False))
    return str(parsed)


class Gate:
    """
    Decides whether a request may pass.

    `hosts` is empty on addresses beyond loopback, where any Host is accepted and the configuration insists on
    a token.  A client whose user is welcome to `visitors` needs no token.  Only pass `visitors` together with
    `hosts`: without the check of Host, a page of any origin would have the rights of its browser's user.
    """

    def __init__(
        self,
        hosts: frozenset[str],
        token: str | None,
        seconds: Callable[[], float],
        visitors: Visitors | None = None,
    ) -> None:
        self._hosts = hosts
        self._visitors = visitors
        self._token = token.encode("ascii") if token is not None else None
        self._failures = Failures(seconds)
        self._answers: WeakKeyDictionary[Request, Problem | None] = WeakKeyDictionary()

    def problem(self, request: Request, method: bytes, path: bytes) -> Problem | None:
        """
        The reason why a request for the raw `path` is refused; None when it may pass.

        Repeated calls for one request give the same answer, and a wrong token counts once.
        """
        if request not in self._answers:
            self._answers[request] = self._judge(request, method, path)
        return self._answers[request]

    def _judge(self, request: Request, method: bytes, path: bytes) -> Problem | None:
        if len(request.requestHeaders.getRawHeaders("Host") or ()) > 1:
            return Problem.BAD_HOST
        if self._hosts and _host_name(request.getHeader("Host")) not in self._hosts:
            return Problem.WRONG_HOST
        follows_link = method in (b"GET", b"HEAD") and segments(path) == [b""]
        if _foreign_origin(request) or (not follows_link and _from_another_page(request)):
            return Problem.WRONG_ORIGIN
        if self._token is None or path == b"/health" or self._is_welcome(request):
            return None
        return self._token_problem(request)

    def advice(self, request: Request, problem: Problem) -> str:
        """What the user can do about a refusal for lack of a token; else empty."""
        if problem is not Problem.NO_TOKEN or self._visitors is None:
            return ""
        return self._visitors.advice(request)

    def _is_welcome(self, request: Request) -> bool:
        return self._visitors is not None and self._visitors.is_welcome(request)

    def _token_problem(self, request: Request) -> Problem | None:
        right = self._is_shown(request)
        if right is not False:
            return None if right else Problem.NO_TOKEN
        where: Any = request.getClientAddress()
        address = str(getattr(where, "host", ""))
        if self._failures.too_many(address):
            return Problem.TOO_MANY_FAILURES
        self._failures.count(address)
        return Problem.NO_TOKEN

    def _is_shown(self, request: Request) -> bool | None:
        """Whether the request has the right token or cookie; None when it has neither."""
        given = request.getHeader(b"Authorization")
        if given is not None:
            return self._is_authorization(given)
        if request.path == b"/" and (tokens := (request.args or {}).get(b"token")):
            return self.is_token(tokens[0])
        # A wrong cookie is no failure: browsers keep sending the old one after the token has changed.
        cookie = request.getCookie(self.cookie_name(request))
        return True if cookie is not None and self.is_cookie(cookie) else None

    def _is_authorization(self, value: bytes) -> bool:
        scheme, _, given = value.partition(b" ")
        return self.is_token(given.strip()) and scheme.lower() == b"bearer"

    # --- browsers: the token once, then a cookie derived from it

    def is_token(self, given: bytes) -> bool:
        """Compares in constant time."""
        return self._token is not None and hmac.compare_digest(given, self._token)

    def is_cookie(self, given: bytes) -> bool:
        return self._token is not None and hmac.compare_digest(given, self.cookie())

    def cookie(self) -> bytes:
        """The cookie's value: derived from the token, so that a browser never stores the token itself."""
        key = self._token or b""
        return hmac.new(key, b"logging-proxy browser", hashlib.sha256).hexdigest().encode("ascii")

    @staticmethod
    def cookie_name(request: Request) -> bytes:
        """A name for each port: cookies are shared by all ports of a host."""
        where: Any = request.getHost()
        return b"logging_proxy_%d" % getattr(where, "port", 0)


class Guard(Resource):
    """The root resource: sets the security headers and applies the gate to every request."""

    def __init__(self, inner: Resource, gate: Gate) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._inner = inner
        self._gate = gate

    def getChildWithDefault(self, path: bytes, request: Request) -> Any:
        set_headers(request)
        problem = self._gate.problem(request, request.method, request.path)
        if problem is not None:
            return Refusal(problem, self._gate.advice(request, problem))
        return self._inner.getChildWithDefault(path, request)

    def render(self, request: Request) -> bytes:
        """For a request target without a path, such as `*`."""
        return Refusal(Problem.NO_ADDRESS).render(request)


def set_headers(request: Request) -> None:
    """Sets the headers of every response."""
    request.responseHeaders.removeHeader("Server")
    for name, value in HEADERS.items():
        request.setHeader(name, value)


def segments(path: bytes) -> list[bytes]:
    """The path segments of a raw path, decoded as Twisted decodes them."""
    return [unquote_to_bytes(name) for name in path[1:].split(b"/")]


def _host_name(host: str | None) -> str:
    match = _HOST.fullmatch((host or "").lower())
    return match[1] if match else ""


def _foreign_origin(request: Request) -> bool:
    """Whether a page of another origin sent the request; only browsers send `Origin`."""
    own = f"http://{(request.getHeader('Host') or '').lower()}"
    return any(origin.lower() != own for origin in _values(request, "Origin"))


def _from_another_page(request: Request) -> bool:
    """Whether Sec-Fetch-Site has a value, known or not, that is neither the same origin nor the user."""
    return any(site.lower() not in ("same-origin", "none") for site in _values(request, "Sec-Fetch-Site"))


def _values(request: Request, name: str) -> list[str]:
    return [str(value) for value in request.requestHeaders.getRawHeaders(name) or ()]


def local_hosts(configured: str) -> frozenset[str]:
    """The host names that are accepted on loopback."""
    name = configured.lower()
    return frozenset({"localhost", "127.0.0.1", "[::1]", f"[{name}]" if ":" in name else name})
