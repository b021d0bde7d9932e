"""The site: all addresses of the logging server, and its connections."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from twisted.web.resource import Resource
from twisted.web.server import Request, Site

from logging_proxy.http.deadlines import Deadlines
from logging_proxy.logserver.uploads.intake import is_upload_path
from logging_proxy.logserver.web.answers import Answer, Nowhere, Problem, ProblemResource, give, refuse
from logging_proxy.logserver.web.bodies import Body, DroppedBody
from logging_proxy.logserver.web.channels import Channel
from logging_proxy.logserver.web.exchanges import Exchanges
from logging_proxy.logserver.web.guard import Gate, Guard, segments, set_headers
from logging_proxy.logserver.web.live import Live
from logging_proxy.logserver.web.openapi import openapi
from logging_proxy.logserver.web.puts import Put, UploadIntake
from logging_proxy.logserver.web.requests import ServerRequest
from logging_proxy.logserver.web.spool_ingest import SpoolIngest
from logging_proxy.logserver.web.status import Health, Metrics
from logging_proxy.net.admission import Admission
from logging_proxy.net.descriptors import most_visitors


class ServerSite(Site):
    """A Site without access log, tracebacks in answers or temporary files; its connections are limited."""

    displayTracebacks = False
    noisy = False
    protocol = Channel  # type: ignore[assignment]

    def __init__(self, resource: Resource, gate: Gate, intake: UploadIntake, reactor: Any) -> None:
        super().__init__(  # type: ignore[no-untyped-call]
            resource,
            requestFactory=ServerRequest,
            timeout=None,  # `Channel` has deadlines of its own
            parsePOSTFormSubmission=False,
            reactor=reactor,
        )
        self._gate = gate
        self._intake = intake
        self.deadlines = Deadlines(reactor)
        self.connections: set[Channel] = set()
        self.admission = Admission(self.connections, most_visitors)

    def opened(self, connection: Channel) -> None:
        self.connections.add(connection)
        self.deadlines.watch(connection)

    def closed(self, connection: Channel) -> None:
        self.connections.discard(connection)
        self.deadlines.forget(connection)

    def log(self, request: Any) -> None:
        """No access log: Twisted's has the query, which may hold a token."""

    def problem(self, request: Request) -> Problem | None:
        """The reason to refuse a request, judged by its head; None when it may pass."""
        return self._gate.problem(request, request.method, request.path)

    def refusal(self, request: Request, problem: Problem) -> bytes:
        """Sets the head of the response to a refused request; returns its body."""
        set_headers(request)
        return refuse(request, problem)

    def body_for(self, request: Request, length: int | None) -> Any:
        """The file-like object for a body: streamed to disk, kept in memory up to a limit, or discarded."""
        if request.method == b"PUT":
            return self._intake.receive(request, request.path, length) or DroppedBody()
        takes_body = request.method == b"POST" and segments(request.path)[:2] == [b"api", b"spools"]
        return Body() if takes_body else DroppedBody()


class Root(ProblemResource):
    """The resource at `/`; below it, besides named resources, are the paths of uploads."""

    def __init__(self, intake: UploadIntake) -> None:
        super().__init__()
        self._intake = intake

    def getChild(self, path: bytes, request: Request) -> Resource:
        return Put(self._intake) if is_upload_path(request.path) else Nowhere()


class Welcome(ProblemResource):
    """`GET /`: a short text.  With `?token=`, a browser gets the cookie that it sends from then on."""

    def __init__(self, gate: Gate) -> None:
        super().__init__()
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
        super().__init__()
        self._body = json.dumps(openapi()).encode("ascii")

    def render_GET(self, request: Request) -> bytes:
        return give(request, Answer(200, "application/json", self._body))


@dataclass(frozen=True, slots=True)
class Resources:
    """The resources that the site consists of."""

    health: Health
    metrics: Metrics
    exchanges: Exchanges
    live: Live
    ingest: SpoolIngest
    intake: UploadIntake


def build(resources: Resources, gate: Gate, reactor: Any) -> ServerSite:
    """The site, with every resource mounted at its address."""
    root, api = Root(resources.intake), ProblemResource()
    for name, resource in (
        (b"", Welcome(gate)),
        (b"health", resources.health),
        (b"metrics", resources.metrics),
        (b"api", api),
    ):
        root.putChild(name, resource)
    for name, resource in (
        (b"exchanges", resources.exchanges),
        (b"live", resources.live),
        (b"openapi.json", OpenAPI()),
        (b"spools", resources.ingest),
    ):
        api.putChild(name, resource)
    return ServerSite(Guard(root, gate), gate, resources.intake, reactor)
