"""
The logging server's HTTP: who may call, health, and the ingest of remote spools.

Bodies of requests are held in memory up to a limit, never in temporary files:
captures are to be found in the log directory and nowhere else.
"""

from __future__ import annotations

import hmac
import json
import re
import zlib
from collections.abc import Callable
from io import BytesIO
from typing import Any

from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

from logging_proxy.logserver.ingest import SPOOL_NAME, Beyond, RemoteSpools
from logging_proxy.logserver.service import Run
from logging_proxy.logserver.spools import Status

BODY_LIMIT = 2 << 20
"""The shipper sends at most 1 MiB at a time."""

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^:\[\]]+)(?::[0-9]{1,5})?", re.ASCII)
_OFFSET = re.compile(r"[0-9]{1,19}", re.ASCII)


class Body(BytesIO):
    """A request's body, kept up to the limit; `overflow` says that there was more."""

    overflow = False

    def write(self, data: Any) -> int:
        if self.tell() + len(data) > BODY_LIMIT:
            self.overflow = True
            return len(data)
        return super().write(data)


class ServerSite(Site):
    """A Site without access log, tracebacks in answers or temporary files."""

    displayTracebacks = False
    noisy = False

    def __init__(self, resource: Resource) -> None:
        super().__init__(resource, timeout=60, parsePOSTFormSubmission=False)  # type: ignore[no-untyped-call]

    def log(self, request: Any) -> None:
        """Twisted's access log has whole paths; what matters is logged where it happens."""

    def getContentFile(self, length: int | None) -> Body:
        return Body()


_NO_ADDRESS = "no such address"
_NO_METHOD = "this address does not take this method"


# --- answers --------------------------------------------------------------------


def answer(request: Request, status: int, kind: str, body: bytes) -> bytes:
    request.setResponseCode(status)
    request.setHeader("Content-Type", kind)
    request.setHeader("Content-Length", str(len(body)))
    return body


def answer_text(request: Request, status: int, text: str) -> bytes:
    return answer(request, status, "text/plain; charset=utf-8", text.encode() + b"\n")


def answer_json(request: Request, status: int, value: Any) -> bytes:
    return answer(request, status, "application/json", json.dumps(value).encode() + b"\n")


class PlainResource(Resource):
    """A resource whose errors are short text: no HTML, and nothing of the request in it."""

    def getChild(self, path: bytes, request: Request) -> Resource:
        return Refusal(404, _NO_ADDRESS)

    def render(self, request: Request) -> Any:
        method = getattr(self, "render_" + request.method.decode("latin-1"), None)
        if method is None:
            here = hasattr(self, "render_GET")
            return answer_text(request, 405 if here else 404, _NO_METHOD if here else _NO_ADDRESS)
        return method(request)


class Refusal(PlainResource):
    """Answers everything with one status and text."""

    isLeaf = True

    def __init__(self, status: int, text: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._status = status
        self._text = text

    def render(self, request: Request) -> bytes:
        if self._status == 401:
            request.setHeader("WWW-Authenticate", "Bearer")
        return answer_text(request, self._status, self._text)


# --- who may call ----------------------------------------------------------------


class Guard(Resource):
    """
    Stands before all resources: security headers, Host, origin, token.

    `hosts` is empty where any Host is right, beyond loopback; there the
    configuration insists on a token.
    """

    def __init__(self, inner: Resource, hosts: frozenset[str], token: str | None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._inner = inner
        self._hosts = hosts
        self._token = token.encode("ascii") if token is not None else None

    def getChildWithDefault(self, path: bytes, request: Request) -> Any:
        request.responseHeaders.removeHeader("Server")
        for name, value in HEADERS.items():
            request.setHeader(name, value)
        refusal = self._refusal(path, request)
        return self._inner.getChildWithDefault(path, request) if refusal is None else refusal

    def render(self, request: Request) -> bytes:
        """Only for a target that is no path, as `*`."""
        return Refusal(404, _NO_ADDRESS).render(request)

    def _refusal(self, path: bytes, request: Request) -> Refusal | None:
        if self._hosts and _host_name(request.getHeader("Host")) not in self._hosts:
            return Refusal(403, "not a name of this server")
        if request.method not in (b"GET", b"HEAD") and _from_another_page(request):
            return Refusal(403, "pages of other origins may not do this")
        if self._token is not None and path != b"health" and not self._authorized(request):
            return Refusal(401, "a token is required")
        return None

    def _authorized(self, request: Request) -> bool:
        scheme, _, given = (request.getHeader(b"Authorization") or b"").partition(b" ")
        assert self._token is not None
        return hmac.compare_digest(given.strip(), self._token) and scheme.lower() == b"bearer"


def _host_name(host: str | None) -> str:
    match = _HOST.fullmatch((host or "").lower())
    return match[1] if match else ""


def _from_another_page(request: Request) -> bool:
    """Whether a browser says that another origin's page makes this call; other programs say nothing."""
    origin, host = request.getHeader("Origin"), request.getHeader("Host")
    site = request.getHeader("Sec-Fetch-Site")
    return (origin is not None and origin != f"http://{host}") or site in ("cross-site", "same-site")


def local_hosts(configured: str) -> frozenset[str]:
    """The names under which a server on loopback may be called."""
    name = configured.lower()
    return frozenset({"localhost", "127.0.0.1", "[::1]", f"[{name}]" if ":" in name else name})


# --- resources ----------------------------------------------------------------------


class Welcome(PlainResource):
    """`GET /` until there is a page."""

    isLeaf = True

    def render_GET(self, request: Request) -> bytes:
        return answer_text(
            request, 200, "Logging Proxy: the logging server. It keeps captures as files; see /health."
        )


class Health(PlainResource):
    """`GET /health`: 200 while captures can be stored, else 503 with the reason."""

    isLeaf = True

    def __init__(self, seconds: Callable[[], float], status: Callable[[], Status]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._seconds = seconds
        self._began = seconds()
        self._status = status

    def render_GET(self, request: Request) -> bytes:
        status = self._status()
        value = {
            "status": "trouble" if status.trouble else "ok",
            "uptime_seconds": round(self._seconds() - self._began, 3),
            "exchanges_stored": status.stored,
            "exchanges_open": status.open,
            "exchanges_lost": status.lost_exchanges,
            "spools": status.spools,
            "spool_backlog_bytes": status.backlog,
            "spool_damages": status.damages,
        }
        if status.trouble:
            value["reason"] = status.trouble
        return answer_json(request, 503 if status.trouble else 200, value)


class SpoolIngest(PlainResource):
    """
    `GET /api/spools/{spool}` and `POST /api/spools/{spool}/{offset}`.

    The body is the stream's bytes from `offset` on.  409 with the stored
    offset when bytes in between are missing; `?gap=1` says that they are lost.
    """

    isLeaf = True
    _log = Logger()

    def __init__(self, spools: RemoteSpools, run: Run, stored: Callable[[], None]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._spools = spools
        self._run = run
        self._stored = stored

    def render_GET(self, request: Request) -> Any:
        name, *more = _path(request)
        return self._respond(request, "" if more else name, lambda: self._ask(name))

    def render_POST(self, request: Request) -> Any:
        name, offset = path if len(path := _path(request)) == 2 else ("", "")
        if not _OFFSET.fullmatch(offset):
            return answer_json(request, 400, {"error": "no offset"})
        try:
            data = read_body(request)
        except ValueError as error:
            return answer_json(request, 413 if "large" in str(error) else 400, {"error": str(error)})
        gap = request.args is not None and request.args.get(b"gap") == [b"1"]
        return self._respond(request, name, lambda: self._keep(name, int(offset), data, gap))

    def _respond(self, request: Request, name: str, work: Callable[[], tuple[int, Any]]) -> Any:
        if not SPOOL_NAME.fullmatch(name):
            return answer_json(request, 400, {"error": "no name of a spool"})
        here = True

        def leave(_: Failure) -> None:
            nonlocal here
            here = False

        def finish(found: tuple[int, Any]) -> None:
            if here:
                request.write(answer_json(request, *found))
                request.finish()

        request.notifyFinish().addErrback(leave)
        self._run(work).addErrback(self._failed).addCallback(finish)
        return NOT_DONE_YET

    def _ask(self, name: str) -> tuple[int, Any]:
        offset = self._spools.get(name).offset()
        return (
            (404, {"offset": None, "error": "unknown spool"}) if offset is None else (200, {"offset": offset})
        )

    def _keep(self, name: str, offset: int, data: bytes, gap: bool) -> tuple[int, Any]:
        try:
            end = self._spools.get(name).append(offset, data, gap)
        except Beyond as beyond:
            return 409, {"offset": beyond.stored, "error": str(beyond)}
        self._stored()
        return 200, {"offset": end}

    def _failed(self, failure: Failure) -> tuple[int, Any]:
        self._log.error("spool not kept: {reason}", reason=failure.getErrorMessage())
        return 503, {"error": "cannot be stored now"}


def _path(request: Request) -> list[str]:
    """What follows the resource's own address; at least one segment."""
    return [segment.decode("latin-1") for segment in request.postpath or [b""]]


def read_body(request: Request) -> bytes:
    """The body, decoded; ValueError when it is too large, cut or coded in another way."""
    content = request.content
    if content is None or (isinstance(content, Body) and content.overflow):
        raise ValueError("too large")
    content.seek(0)
    data: bytes = content.read(BODY_LIMIT + 1)
    if len(data) > BODY_LIMIT:
        raise ValueError("too large")
    coding = (request.getHeader("Content-Encoding") or "identity").lower()
    if coding == "identity":
        return data
    if coding != "gzip":
        raise ValueError("only gzip is understood")
    return _unzip(data)


def _unzip(data: bytes) -> bytes:
    decoder = zlib.decompressobj(wbits=31)
    try:
        plain = decoder.decompress(data, BODY_LIMIT)
    except zlib.error:
        raise ValueError("no gzip") from None
    if decoder.unconsumed_tail:
        raise ValueError("too large")
    if not decoder.eof or decoder.unused_data:
        raise ValueError("no gzip")
    return plain


def build(health: Health, ingest: SpoolIngest, hosts: frozenset[str], token: str | None) -> ServerSite:
    """The site: every address of the logging server."""
    root, api = PlainResource(), PlainResource()  # type: ignore[no-untyped-call]
    root.putChild(b"", Welcome())  # type: ignore[no-untyped-call]
    root.putChild(b"health", health)
    root.putChild(b"api", api)
    api.putChild(b"spools", ingest)
    return ServerSite(Guard(root, hosts, token))
