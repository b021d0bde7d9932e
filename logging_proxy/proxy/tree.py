"""
The Resource tree of the routes.

`RouteTree` is the root.  Its children are found by `getChild`, twisted.web's hook for dynamic look-up, with
the whole raw target as their name: split and decoded segments, which twisted.web's own server would look up,
have lost the difference between `/` and `%2F`.  A child is the `RouteResource` of the route that takes the
request, or one that answers requests without a route.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from uuid import UUID

from twisted.web.resource import Resource
from zope.interface import implementer

from logging_proxy.configuration.options import RouteOptions
from logging_proxy.http.bodies import Piece
from logging_proxy.http.faults import RequestFault
from logging_proxy.http.heads import RequestHead
from logging_proxy.http.interfaces import IExchangeResource, IExchangeRoot
from logging_proxy.http.pool import Pool
from logging_proxy.http.server import ServerConnection
from logging_proxy.outbound.forwarding import Forwarding
from logging_proxy.proxy.answers import METHODS, Answer, Reply, answer, last_stop
from logging_proxy.proxy.exchange import Exchange
from logging_proxy.proxy.failures import Verdict
from logging_proxy.proxy.headers import (
    asked_host,
    forwards_left,
    loops,
    onward_request,
)
from logging_proxy.proxy.hosts import WRONG_HOST
from logging_proxy.proxy.refusals import Incoming, answer_request, record_unasked, refuse_request, source_url
from logging_proxy.proxy.stored import request_records
from logging_proxy.proxy.surroundings import Surroundings, client_address, client_field, local_address
from logging_proxy.proxy.upgrade import asked_protocols
from logging_proxy.recording.events import Capture
from logging_proxy.recording.records import describe, identify
from logging_proxy.recording.writer import Passed
from logging_proxy.routing.mapping import EscapesDestination, destination_url, upstream_target
from logging_proxy.routing.mux import BadTarget, MethodNotAllowed, Mux, Redirect, Serve
from logging_proxy.routing.targets import split_target

_MOST_PLANS = 64
"""Plans kept with one head; each client address may need a plan of its own."""

_NO_UPGRADE = b"the outbound proxy takes whole requests for this destination, and so no upgrade\n"


_FIXED_BITS = int.from_bytes(UUID(int=0, version=4).bytes * 256, "big")
_RANDOM_BITS = int.from_bytes((b"\xff" * 6 + b"\x0f\xff\x3f" + b"\xff" * 7) * 256, "big")
"""The bits of 256 UUIDs that version 4 sets, and those that it leaves open (RFC 9562 §5.4)."""


class Ids:
    """Random version 4 UUIDs, 16 bytes each; they are made from random bytes, 256 at a time."""

    def __init__(self, random: Callable[[int], bytes]) -> None:
        self._random = random
        self._pool = b""
        self._at = 0

    def next(self) -> bytes:
        at = self._at
        if at == len(self._pool):
            number = int.from_bytes(self._random(4096), "big") & _RANDOM_BITS | _FIXED_BITS
            self._pool = number.to_bytes(4096, "big")
            at = 0
        self._at = at + 16
        return self._pool[at : at + 16]


@dataclass(frozen=True, slots=True)
class Plan:
    """How a head goes to a destination: the parts that equal requests have in common."""

    onward: bytes
    """The head for the upstream, blank line included."""
    description: bytes
    """The part of the REQUEST_HEAD record that equal requests have in common."""
    where: str
    """The URL at the destination."""


class Refused(Exception):
    """The request is not forwarded; `reply` is the answer instead."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.where)
        self.reply = reply


@implementer(IExchangeResource)
class RouteResource(Resource):
    """Forwards the requests of one route to the route's destination."""

    def __init__(
        self,
        options: RouteOptions,
        pool: Pool,
        ids: Ids,
        surroundings: Surroundings,
        forwarding: Forwarding | None = None,
    ) -> None:
        """`forwarding` changes heads for an outbound proxy; the recorded head is the destination's."""
        super().__init__()  # type: ignore[no-untyped-call]
        self._forwarding = forwarding
        self.options = options
        self.pool = pool
        self.exchanges: set[Exchange] = set()
        self._ids = ids
        self._surroundings = surroundings
        self.publish = surroundings.publish
        self._recorder = surroundings.recorder if options.logging else None
        self._needs_client = surroundings.policy.needs_client

    def respond(
        self,
        connection: ServerConnection,
        head: RequestHead,
        piece: Piece,
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
            self._refuse(Incoming(connection, head, piece), id, refused.reply)
            return None
        capture: Capture | None = None
        records: Passed = ()
        if recorder is not None:
            capture = recorder.capture()
            start = identify(id, surroundings.wall_ns(), client_field(connection)) + plan.description
            records = request_records(start, piece, piece.onward_trailers)
        self.publish(
            {
                "exchange": id,
                "capture": capture,
                "records": records,
                "method": head.method,
                "target": head.target,
                "where": plan.where,
            }
        )
        first, size = plan.onward + piece.framed, len(piece.content)
        exchange = Exchange(id, connection, head, capture, self, first, piece.last, size)
        self.exchanges.add(exchange)
        exchange.begin()
        return exchange

    def _refuse(self, incoming: Incoming, id: bytes, reply: Reply) -> None:
        if reply.text and reply.status >= 400:
            text = reply.text[:-1] + b" (exchange %b)\n" % str(UUID(bytes=id)).encode()
            reply = replace(reply, text=text)
        answer_request(incoming, id, reply, self._surroundings, self._recorder, self.options)

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
        return Plan(onward + b"\r\n", description, url.decode("latin-1"))

    # --- called by exchanges ------------------------------------------------------------

    def answer_failure(self, exchange: Exchange, verdict: Verdict) -> Answer:
        text = f"{verdict.text} (exchange {UUID(bytes=exchange.id)})\n".encode()
        reply = Reply(verdict.status, text, "")
        now = self._surroundings.wall_ns() / 1e9
        return answer(exchange.head, exchange.connection.may_keep_alive, now, reply)

    def unasked(self, after: bytes, kept: bytes) -> None:
        record_unasked(self.options, after, kept, self._ids.next(), self._surroundings)

    def exchange_ended(self, exchange: Exchange) -> None:
        self.exchanges.discard(exchange)


@implementer(IExchangeResource)
class ReplyResource(Resource):
    """Answers requests without a route, each time with the same reply."""

    def __init__(self, reply: Reply, ids: Ids, surroundings: Surroundings) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._reply = reply
        self._ids = ids
        self._surroundings = surroundings

    def respond(self, connection: ServerConnection, head: RequestHead, piece: Piece) -> None:
        surroundings = self._surroundings
        recorder = surroundings.recorder if surroundings.record_unknown else None
        answer_request(
            Incoming(connection, head, piece), self._ids.next(), self._reply, surroundings, recorder
        )


@implementer(IExchangeResource)
class NotFoundResource(Resource):
    """Lets `route` answer a request that no route takes, as if it had asked for `target`."""

    def __init__(self, route: RouteResource, target: bytes) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._route = route
        self._target = target

    def respond(self, connection: ServerConnection, head: RequestHead, piece: Piece) -> Exchange | None:
        return self._route.respond(connection, head, piece, self._target)


Child = RouteResource | NotFoundResource | ReplyResource


@implementer(IExchangeRoot)
class RouteTree(Resource):
    """The root: finds the resource of a request, once for equal heads."""

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

    def respond(self, connection: ServerConnection, head: RequestHead, piece: Piece) -> Exchange | None:
        child: Child | None = head.prepared.get(self)
        if child is None:
            child = self.getChildWithDefault(head.target, head)  # type: ignore[no-untyped-call]
            head.prepared[self] = child
        return child.respond(connection, head, piece)

    def refuse(self, connection: ServerConnection, fault: RequestFault, kept: bytes) -> None:
        refuse_request(connection, fault, kept, self._ids.next(), self._surroundings)

    def getChild(self, path: bytes, request: RequestHead) -> Child:
        """The resource that answers `request`; `path` is its raw target."""
        found = self._find(path, request)
        return ReplyResource(found, self._ids, self._surroundings) if isinstance(found, Reply) else found

    def _find(self, target: bytes, head: RequestHead) -> Child | Reply:
        """The resource of a route, possibly through the not-found path; without one, the reply."""
        if head.method == b"CONNECT":
            return Reply(405, b"Method Not Allowed\n", "NOT_FOUND", ((b"Allow", METHODS),))
        if not self._takes(head):
            return Reply(421, WRONG_HOST, "WRONG_HOST")
        if target == b"*":
            return Reply(200, b"", "SERVER_OPTIONS")
        decision = self._mux.match(head.method, target, head.host)
        if isinstance(decision, Serve):
            return decision.value
        if isinstance(decision, Redirect):
            location = decision.location
            return Reply(307, b"", f"REDIRECT {location.decode('latin-1')}", ((b"Location", location),))
        if isinstance(decision, MethodNotAllowed):
            return Reply(405, b"Method Not Allowed\n", "METHOD_NOT_ALLOWED", ((b"Allow", decision.allow),))
        if isinstance(decision, BadTarget):
            return Reply(400, b"malformed request target\n", "BAD_REQUEST")
        not_found = self._not_found_target(target)
        if not_found:
            decision = self._mux.match(head.method, not_found, asked_host(head))
            if isinstance(decision, Serve):
                return NotFoundResource(decision.value, not_found)
        path, _, _ = not_found.partition(b"?")
        return Reply(
            404, b"No route found for " + path + b"\n" if path else b"404 page not found\n", "NOT_FOUND"
        )

    def _takes(self, head: RequestHead) -> bool:
        return self._surroundings.takes_host(asked_host(head))

    def _not_found_target(self, target: bytes) -> bytes:
        """The target for the second look-up of `target`, which is in origin- or absolute-form."""
        prefix = self._surroundings.not_found
        if not prefix:
            return b""
        if not target.startswith(b"/"):
            parts = split_target(target)
            target = parts.path + (b"" if parts.query is None else b"?" + parts.query)
        return target if target.startswith(prefix) else prefix.rstrip(b"/") + target
