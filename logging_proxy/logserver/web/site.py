"""The site: every address of the logging server, and the connections to it."""

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
            timeout=None,  # channels have deadlines of their own
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
        """Twisted's access log has whole paths; what matters is logged where it happens."""

    def problem(self, request: Request) -> Problem | None:
        """Why a request may not pass, by its head."""
        return self._gate.problem(request, request.method, request.path)

    def refusal(self, request: Request, problem: Problem) -> bytes:
        """The answer to a request that may not pass: sets its head; the body."""
        set_headers(request)
        return refuse(request, problem)

    def body_for(self, request: Request, length: int | None) -> Any:
        """What takes the body of a request that may pass: a file, memory up to a limit, or nothing."""
        if request.method == b"PUT":
            return self._intake.receive(request, request.path, length) or DroppedBody()
        takes_body = request.method == b"POST" and segments(request.path)[:2] == [b"api", b"spools"]
        return Body() if takes_body else DroppedBody()


class Root(ProblemResource):
    """What is directly below `/`."""

    def __init__(self, intake: UploadIntake) -> None:
        super().__init__()
        self._intake = intake

    def getChild(self, path: bytes, request: Request) -> Resource:
        return Put(self._intake) if is_upload_path(request.path) else Nowhere()


class Welcome(ProblemResource):
    """`GET /` until there is a page.  A browser shows its token here once, and gets a cookie for it."""

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
    """What the site is made of."""

    health: Health
    metrics: Metrics
    exchanges: Exchanges
    live: Live
    ingest: SpoolIngest
    intake: UploadIntake


def build(resources: Resources, gate: Gate, reactor: Any) -> ServerSite:
    """The site: every address of the logging server."""
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
