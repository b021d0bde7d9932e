"""The site: every address of the logging server, and the connections to it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from twisted.web.resource import Resource
from twisted.web.server import Request, Site

from logging_proxy.logserver.uploads import is_upload_path
from logging_proxy.logserver.web.answers import Answer, Nowhere, ProblemResource, give
from logging_proxy.logserver.web.bodies import Body
from logging_proxy.logserver.web.exchanges import Exchanges
from logging_proxy.logserver.web.guard import Gate, Guard
from logging_proxy.logserver.web.live import Live
from logging_proxy.logserver.web.openapi import openapi
from logging_proxy.logserver.web.puts import Desk, Put
from logging_proxy.logserver.web.spool_ingest import SpoolIngest
from logging_proxy.logserver.web.status import Health, Metrics

IDLE_TIMEOUT = 60


class ServerRequest(Request):
    """A request whose body goes where the site says, once its head is known."""

    def gotLength(self, length: int | None) -> None:
        """Called by the channel before the body."""
        channel: Any = self.channel
        # `method` and `path` are set only when the body has come.
        path = channel._path.partition(b"?")[0]
        self.content = channel.site.body_for(self, channel._command, path, length)


class ServerSite(Site):
    """A Site without access log, tracebacks in answers or temporary files."""

    displayTracebacks = False
    noisy = False

    def __init__(self, resource: Resource, gate: Gate, desk: Desk, reactor: Any) -> None:
        super().__init__(  # type: ignore[no-untyped-call]
            resource,
            requestFactory=ServerRequest,
            timeout=IDLE_TIMEOUT,
            parsePOSTFormSubmission=False,
            reactor=reactor,
        )
        self._gate = gate
        self._desk = desk

    def log(self, request: Any) -> None:
        """Twisted's access log has whole paths; what matters is logged where it happens."""

    def body_for(self, request: Request, method: bytes, path: bytes, length: int | None) -> Any:
        """What takes the body of a request: a file, or memory up to a limit."""
        if method == b"PUT" and self._gate.problem(request, method, path) is None:
            body = self._desk.receive(request, path, length)
            if body is not None:
                return body
        return Body()


class Root(ProblemResource):
    """What is directly below `/`."""

    def __init__(self, desk: Desk) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._desk = desk

    def getChild(self, path: bytes, request: Request) -> Resource:
        return Put(self._desk) if is_upload_path(request.path) else Nowhere()


class Welcome(ProblemResource):
    """`GET /` until there is a page.  A browser shows its token here once, and gets a cookie for it."""

    def __init__(self, gate: Gate) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._gate = gate

    def render_GET(self, request: Request) -> bytes:
        if b"token" in (request.args or {}):
            name, value = self._gate.cookie_name(request), self._gate.cookie()
            cookie = b"%s=%s; Path=/; HttpOnly; SameSite=Strict" % (name, value)
            request.responseHeaders.addRawHeader(b"Set-Cookie", cookie)
            return give(request, Answer(303, "text/plain; charset=utf-8", b"", {"Location": "/"}))
        text = b"Logging Proxy: the logging server. See /health, /metrics and /api/openapi.json.\n"
        return give(request, Answer(200, "text/plain; charset=utf-8", text))


class OpenAPI(ProblemResource):
    """`GET /api/openapi.json`."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._body = json.dumps(openapi()).encode("ascii")

    def render_GET(self, request: Request) -> bytes:
        return give(request, Answer(200, "application/json", self._body))


@dataclass(frozen=True, slots=True)
class Parts:
    """What the site is made of."""

    health: Health
    metrics: Metrics
    exchanges: Exchanges
    live: Live
    ingest: SpoolIngest
    desk: Desk


def build(parts: Parts, gate: Gate, reactor: Any) -> ServerSite:
    """The site: every address of the logging server."""
    root, api = Root(parts.desk), ProblemResource()  # type: ignore[no-untyped-call]
    for name, resource in (
        (b"", Welcome(gate)),
        (b"health", parts.health),
        (b"metrics", parts.metrics),
        (b"api", api),
    ):
        root.putChild(name, resource)
    for name, resource in (
        (b"exchanges", parts.exchanges),
        (b"live", parts.live),
        (b"openapi.json", OpenAPI()),
        (b"spools", parts.ingest),
    ):
        api.putChild(name, resource)
    return ServerSite(Guard(root, gate), gate, parts.desk, reactor)
