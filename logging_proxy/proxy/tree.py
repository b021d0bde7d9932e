"""
The Resource tree of the routes.

`RouteTree` is the root: it matches the raw request target (twisted.web's own
child look-up would decode it) and hands the request to the `RouteResource` of
the route that takes it.  What no route takes it answers itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple
from uuid import UUID

from twisted.web.resource import Resource
from zope.interface import implementer

from logging_proxy.configuration.options import RouteOptions
from logging_proxy.http.faults import RequestFault
from logging_proxy.http.heads import RequestHead
from logging_proxy.http.interfaces import IExchangeResource, IExchangeRoot
from logging_proxy.http.pool import Pool
from logging_proxy.http.server import ServerConnection
from logging_proxy.outbound.forwarding import Forwarding
from logging_proxy.proxy.answers import METHODS, Answer, Reply, answer, last_stop
from logging_proxy.proxy.endings import ANSWERED_EARLY, COMPLETE
from logging_proxy.proxy.exchange import Exchange
from logging_proxy.proxy.failures import Verdict
from logging_proxy.proxy.headers import (
    asked_host,
    forwards_left,
    loops,
    onward_request,
    onward_trailers,
    replace_trailers,
)
from logging_proxy.proxy.hosts import WRONG_HOST
from logging_proxy.proxy.refusals import record_unasked, refuse_request
from logging_proxy.proxy.surroundings import Surroundings, client_address, client_field, local_address
from logging_proxy.proxy.upgrade import asked_protocols
from logging_proxy.recording.events import Capture, Recorder
from logging_proxy.recording.records import Flag, Kind, describe, identify
from logging_proxy.routing.mapping import EscapesDestination, destination_url, upstream_target
from logging_proxy.routing.mux import BadTarget, MethodNotAllowed, Mux, Redirect, Serve
from logging_proxy.routing.targets import split_target

_MOST_PLANS = 64
"""Plans kept with one head: it may be sent by any number of clients, and each may need its own."""

_NO_UPGRADE = b"the outbound proxy takes whole requests for this destination, and so no upgrade\n"

_NO_TROUBLE = frozenset({"complete", "client_closed"})
"""Outcomes that are nobody's fault: clients leave all the time."""


class Ids:
    """Random version 4 UUIDs, 16 bytes each; random bytes are fetched for 256 at a time."""

    def __init__(self, random: Callable[[int], bytes]) -> None:
        self._random = random
        self._pool = b""
        self._at = 0

    def next(self) -> bytes:
        at = self._at
        if at == len(self._pool):
            self._pool = self._random(4096)
            at = 0
        self._at = at + 16
        raw = bytearray(self._pool[at : at + 16])
        raw[6] = raw[6] & 0x0F | 0x40
        raw[8] = raw[8] & 0x3F | 0x80
        return bytes(raw)


@dataclass(frozen=True, slots=True)
class Plan:
    """How a head goes to a destination: everything that does not depend on the single request."""

    onward: bytes
    """The head for the upstream, blank line included."""
    description: bytes
    """The part of the REQUEST_HEAD record that stays the same."""
    url: bytes


def source_url(connection: ServerConnection, head: RequestHead) -> bytes:
    """The URL that the client used."""
    if not head.target.startswith((b"/", b"*")):
        return head.target
    path = b"" if head.target == b"*" else head.target  # RFC 9110 §7.1: `*` stands for the server itself
    return connection.site.scheme + b"://" + (head.host or local_address(connection)) + path


class Refused(Exception):
    """The request is not forwarded; `reply` is what we say instead."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.where)
        self.reply = reply


@dataclass(frozen=True, slots=True)
class Incoming:
    """A request as a resource is given it."""

    connection: ServerConnection
    head: RequestHead
    payload: bytes
    done: bool
    trailers: bytes


def answer_ourselves(
    incoming: Incoming,
    id: bytes,
    reply: Reply,
    surroundings: Surroundings,
    recorder: Recorder | None,
    route: RouteOptions | None = None,
) -> None:
    """Say `reply`; console and capture tell of it as of any other exchange."""
    connection, head = incoming.connection, incoming.head
    if recorder is not None and recorder.refuses:
        recorder = None
    if surroundings.console is not None:
        surroundings.console(id, head.method, head.target, reply.where, recorder is not None)
    ours = answer(head, connection.may_keep_alive, surroundings.wall_ns() / 1e9, reply)
    capture: Capture | None = None
    if recorder is not None:
        capture = recorder.capture()
        name, pattern = (route.name.encode(), str(route.pattern).encode()) if route else (b"", b"")
        received = head.raw[:-2]
        start = identify(id, surroundings.wall_ns(), client_field(connection)) + describe(
            name, pattern, source_url(connection, head), b"", received
        )
        record_request(capture, start, incoming.payload, incoming.done, incoming.trailers)
        early = () if incoming.done else (ANSWERED_EARLY,)
        capture.passed(*ours.records, *early, COMPLETE)
    ours.send(connection, capture)


@implementer(IExchangeResource)
class RouteResource(Resource):
    """Forwards what one route takes to the route's destination."""

    isLeaf = True

    def __init__(
        self,
        options: RouteOptions,
        pool: Pool,
        ids: Ids,
        surroundings: Surroundings,
        forwarding: Forwarding | None = None,
    ) -> None:
        """`forwarding` changes heads for an outbound proxy; what is recorded is for the destination."""
        super().__init__()  # type: ignore[no-untyped-call]
        self._forwarding = forwarding
        self.options = options
        self.pool = pool
        self.exchanges: set[Exchange] = set()
        self._ids = ids
        self._surroundings = surroundings
        self._recorder = surroundings.recorder if options.logging else None
        self._needs_client = surroundings.policy.needs_client

    def respond(
        self,
        connection: ServerConnection,
        head: RequestHead,
        payload: bytes,
        wire: bytes,
        done: bool,
        trailers: bytes,
        target: bytes = b"",
    ) -> Exchange | None:
        surroundings = self._surroundings
        id = self._ids.next()
        recorder = self._recorder
        try:
            if recorder is not None and recorder.refuses:
                raise Refused(Reply(503, b"captures cannot be written\n", "REFUSED"))
            plan = self._plan(connection, head, target or head.target)
        except Refused as refused:
            self._refuse(Incoming(connection, head, payload, done, trailers), id, refused.reply)
            return None
        if surroundings.console is not None:
            where = plan.url.decode("latin-1")
            surroundings.console(id, head.method, head.target, where, recorder is not None)
        if trailers:
            kept = onward_trailers(trailers, head.connection_options)
            wire, trailers = replace_trailers(wire, trailers, kept), kept
        capture: Capture | None = None
        if recorder is not None:
            capture = recorder.capture()
            start = identify(id, surroundings.wall_ns(), client_field(connection)) + plan.description
            record_request(capture, start, payload, done, trailers)
        exchange = Exchange(id, connection, head, capture, self, plan.onward + wire, done)
        self.exchanges.add(exchange)
        exchange.begin()
        return exchange

    def _refuse(self, incoming: Incoming, id: bytes, reply: Reply) -> None:
        if reply.text and reply.status >= 400:
            text = reply.text[:-1] + b" (exchange %b)\n" % str(UUID(bytes=id)).encode()
            reply = replace(reply, text=text)
        answer_ourselves(incoming, id, reply, self._surroundings, self._recorder, self.options)

    def _plan(self, connection: ServerConnection, head: RequestHead, target: bytes) -> Plan:
        """The plan for `head`, made once for equal heads.  Raises `Refused`."""
        client = client_address(connection) if self._needs_client else b""
        here = b"" if head.host else local_address(connection)
        key = (self, target, client, here, connection.site.scheme)
        plan: Plan | None = head.prepared.get(key)
        if plan is None:
            plan = self._make_plan(connection, head, target, client)
            if len(head.prepared) >= _MOST_PLANS:
                head.prepared.clear()
            head.prepared[key] = plan
        return plan

    def _make_plan(
        self, connection: ServerConnection, head: RequestHead, target: bytes, client: bytes
    ) -> Plan:
        options, policy = self.options, self._surroundings.policy
        if forwards_left(head) == 0:
            raise Refused(last_stop(head))
        if self._forwarding is not None and asked_protocols(head):
            raise Refused(Reply(501, _NO_UPGRADE, "NO_UPGRADE"))
        if policy.via and loops(head):
            raise Refused(Reply(508, b"the request has been here before\n", "LOOP"))
        try:
            onward_target = upstream_target(options.pattern, options.destination, target)
        except EscapesDestination:
            raise Refused(Reply(400, b"the path leaves the destination's path\n", "BAD_REQUEST")) from None
        url = destination_url(options.destination, onward_target)
        onward = onward_request(
            head, onward_target, options.destination.authority, policy, client, connection.site.scheme
        )
        description = describe(
            options.name.encode(), str(options.pattern).encode(), source_url(connection, head), url, onward
        )
        if self._forwarding is not None:
            onward = self._forwarding.head(onward)
        return Plan(onward + b"\r\n", description, url)

    # --- what exchanges ask of their route ----------------------------------------------

    def answer_failure(self, exchange: Exchange, verdict: Verdict) -> Answer:
        text = f"{verdict.text} (exchange {UUID(bytes=exchange.id)})\n".encode()
        reply = Reply(verdict.status, text, "")
        now = self._surroundings.wall_ns() / 1e9
        return answer(exchange.head, exchange.connection.may_keep_alive, now, reply)

    def unasked(self, after: bytes, kept: bytes) -> None:
        record_unasked(self.options, after, kept, self._ids.next(), self._surroundings)

    def exchange_ended(self, exchange: Exchange, outcome: str = "complete", error: str = "") -> None:
        self.exchanges.discard(exchange)
        trouble = self._surroundings.trouble
        if trouble is not None and outcome not in _NO_TROUBLE:
            trouble(exchange.id, outcome, error)


def record_request(capture: Capture, start: bytes, payload: bytes, done: bool, trailers: bytes) -> None:
    """Record a request's head and what of its body came with it."""
    records = [(int(Kind.REQUEST_HEAD), 0, start)]
    if payload or done:
        records.append((int(Kind.REQUEST_PIECE), int(Flag.LAST) if done else 0, payload))
    if trailers:
        records.append((int(Kind.REQUEST_TRAILERS), 0, trailers))
    capture.passed(*records)


class Found(NamedTuple):
    """The route that takes a request, and the target to give it."""

    route: RouteResource
    target: bytes


@implementer(IExchangeRoot)
class RouteTree(Resource):
    """The root: finds the route of a request, and answers what no route takes."""

    def __init__(self, ids: Ids, surroundings: Surroundings) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._mux: Mux[RouteResource] = Mux()
        self._ids = ids
        self._surroundings = surroundings
        self.routes: list[RouteResource] = []

    def mount(self, route: RouteResource) -> None:
        """Add a route.  Raises `PatternConflict`."""
        self._mux.add(route.options.pattern, route)
        self.routes.append(route)
        self.putChild(route.options.name.encode(), route)

    def respond(
        self,
        connection: ServerConnection,
        head: RequestHead,
        payload: bytes,
        wire: bytes,
        done: bool,
        trailers: bytes,
    ) -> Exchange | None:
        found = head.prepared.get(self)
        if found is None:
            found = head.prepared[self] = self._find(head)
        if isinstance(found, Found):
            route, target = found
            exchange: Exchange | None = route.respond(connection, head, payload, wire, done, trailers, target)
            return exchange
        surroundings = self._surroundings
        recorder = surroundings.recorder if surroundings.record_unknown else None
        incoming = Incoming(connection, head, payload, done, trailers)
        answer_ourselves(incoming, self._ids.next(), found, surroundings, recorder)
        return None

    def refuse(self, connection: ServerConnection, fault: RequestFault, kept: bytes) -> None:
        refuse_request(connection, fault, kept, self._ids.next(), self._surroundings)

    def _find(self, head: RequestHead) -> Found | Reply:
        """The route for a head, to which the not-found path may lead; else what to say."""
        if head.method == b"CONNECT":
            return Reply(405, b"Method Not Allowed\n", "NOT_FOUND", ((b"Allow", METHODS),))
        if not self._takes(head):
            return Reply(421, WRONG_HOST, "WRONG_HOST")
        if head.target == b"*":
            return Reply(200, b"", "SERVER_OPTIONS")
        decision = self._mux.match(head.method, head.target, head.host)
        if isinstance(decision, Serve):
            return Found(decision.value, head.target)
        if isinstance(decision, Redirect):
            location = decision.location
            return Reply(307, b"", f"REDIRECT {location.decode('latin-1')}", ((b"Location", location),))
        if isinstance(decision, MethodNotAllowed):
            return Reply(405, b"Method Not Allowed\n", "METHOD_NOT_ALLOWED", ((b"Allow", decision.allow),))
        if isinstance(decision, BadTarget):
            return Reply(400, b"malformed request target\n", "BAD_REQUEST")
        not_found = self._not_found_target(head.target)
        if not_found:
            decision = self._mux.match(head.method, not_found, asked_host(head))
            if isinstance(decision, Serve):
                return Found(decision.value, not_found)
        path, _, _ = not_found.partition(b"?")
        return Reply(
            404, b"No route found for " + path + b"\n" if path else b"404 page not found\n", "NOT_FOUND"
        )

    def _takes(self, head: RequestHead) -> bool:
        return self._surroundings.takes_host(asked_host(head))

    def _not_found_target(self, target: bytes) -> bytes:
        """Where a request for `target`, in origin- or absolute-form, is looked up a second time."""
        prefix = self._surroundings.not_found
        if not prefix:
            return b""
        if not target.startswith(b"/"):
            parts = split_target(target)
            target = parts.path + (b"" if parts.query is None else b"?" + parts.query)
        return target if target.startswith(prefix) else prefix.rstrip(b"/") + target
