"""
Who may call: Host, origin, token.

Host and origin keep pages of other origins out, whatever name they give this
server (DNS rebinding); the token keeps other users out.  `visitors` knows who needs none.
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
"""Wrong tokens that an address may send at once."""

FORGIVEN_AFTER = 3.0
"""Seconds after which one of them is forgotten: a shipper with a wrong token asks less often."""

ADDRESSES = 4096

_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^:\[\]]+)(?::[0-9]{1,5})?", re.ASCII)


class Failures:
    """Counts wrong tokens by address, so that nobody can try many."""

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self._until: OrderedDict[str, float] = OrderedDict()
        """When all is forgotten, by address."""

    def count(self, address: str) -> None:
        """A wrong token came from `address`."""
        key = _network(address)
        now = self._seconds()
        self._until[key] = max(self._until.pop(key, now), now) + FORGIVEN_AFTER
        if len(self._until) > ADDRESSES:
            self._until.popitem(last=False)

    def too_many(self, address: str) -> bool:
        left = self._until.get(_network(address), 0.0) - self._seconds()
        return left > (FAILURES - 1) * FORGIVEN_AFTER


def _network(address: str) -> str:
    """An IPv6 host has 2^64 addresses: they count as one."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is None:
        return str(ip_network((parsed, 64), strict=False))
    return str(parsed)


class Gate:
    """
    Says whether a request may pass.

    `hosts` is empty where any Host is right, beyond loopback; there the
    configuration insists on a token.  Who is welcome to `visitors` need not show the token: only
    for where Hosts are checked, else a page of any origin would come in with its browser's user.
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
        Why a request for the raw `path` may not pass; None when it may.

        Who asks again of the same request gets the same answer, so that a wrong token counts once.
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
        """What to do about a problem, where the reason is who asks."""
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
        """Whether the request shows the token, or what stands for it; None when it shows nothing."""
        given = request.getHeader(b"Authorization")
        if given is not None:
            return self._is_authorization(given)
        if request.path == b"/" and (tokens := (request.args or {}).get(b"token")):
            return self.is_token(tokens[0])
        # A cookie is no try: browsers go on showing one after the token has changed.
        cookie = request.getCookie(self.cookie_name(request))
        return True if cookie is not None and self.is_cookie(cookie) else None

    def _is_authorization(self, value: bytes) -> bool:
        scheme, _, given = value.partition(b" ")
        return self.is_token(given.strip()) and scheme.lower() == b"bearer"

    # --- browsers: the token once, then a cookie that stands for it

    def is_token(self, given: bytes) -> bool:
        """Compares in constant time."""
        return self._token is not None and hmac.compare_digest(given, self._token)

    def is_cookie(self, given: bytes) -> bool:
        return self._token is not None and hmac.compare_digest(given, self.cookie())

    def cookie(self) -> bytes:
        """What a browser shows instead of the token, which it need not keep."""
        key = self._token or b""
        return hmac.new(key, b"logging-proxy browser", hashlib.sha256).hexdigest().encode("ascii")

    @staticmethod
    def cookie_name(request: Request) -> bytes:
        """One for each port: cookies do not tell ports apart."""
        where: Any = request.getHost()
        return b"logging_proxy_%d" % getattr(where, "port", 0)


class Guard(Resource):
    """Stands before all resources: security headers, and the gate."""

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
        """Only for a target that is no path, as `*`."""
        return Refusal(Problem.NO_ADDRESS).render(request)


def set_headers(request: Request) -> None:
    """What every answer carries."""
    request.responseHeaders.removeHeader("Server")
    for name, value in HEADERS.items():
        request.setHeader(name, value)


def segments(path: bytes) -> list[bytes]:
    """The names of the resources that lead to a raw path, as Twisted decodes them."""
    return [unquote_to_bytes(name) for name in path[1:].split(b"/")]


def _host_name(host: str | None) -> str:
    match = _HOST.fullmatch((host or "").lower())
    return match[1] if match else ""


def _foreign_origin(request: Request) -> bool:
    """Whether a page of another origin calls: browsers say so for scripts and WebSockets, programs do not."""
    own = f"http://{(request.getHeader('Host') or '').lower()}"
    return any(origin.lower() != own for origin in _values(request, "Origin"))


def _from_another_page(request: Request) -> bool:
    """Also for words that no browser says yet."""
    return any(site.lower() not in ("same-origin", "none") for site in _values(request, "Sec-Fetch-Site"))


def _values(request: Request, name: str) -> list[str]:
    return [str(value) for value in request.requestHeaders.getRawHeaders(name) or ()]


def local_hosts(configured: str) -> frozenset[str]:
    """The names under which a server on loopback may be called."""
    name = configured.lower()
    return frozenset({"localhost", "127.0.0.1", "[::1]", f"[{name}]" if ":" in name else name})
