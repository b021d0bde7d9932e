"""
The Resource tree of the routes.

`RouteTree` is the root.  Its children are found by `getChild`, twisted.web's hook for dynamic look-up, with
the whole raw target as their name: split and decoded segments, which twisted.web's own server would look up,
have lost the difference between `/` and `%2F`.  A child is the `RouteResource` of the route that takes the
request, or one that answers requests without a route.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
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
from logging_proxy.proxy.answers import Answer, ErrorReply, Reply, answer, last_stop
from logging_proxy.proxy.error_kinds import KINDS
from logging_proxy.proxy.exchange import Exchange
from logging_proxy.proxy.failures import Verdict
from logging_proxy.proxy.headers import (
    asked_host,
    forwards_left,
    loops,
    onward_request,
)
from logging_proxy.proxy.refusals import Incoming, answer_request, record_unasked, refuse_request, source_url
from logging_proxy.proxy.stored import request_records
from logging_proxy.proxy.surroundings import Surroundings, client_address, client_field, local_address
from logging_proxy.proxy.unrouted import (
    bad_target,
    connect_refused,
    method_not_allowed,
    no_route,
    plain_not_found,
    wrong_host,
)
from logging_proxy.proxy.upgrade import asked_protocols
from logging_proxy.recording.events import Capture
from logging_proxy.recording.records import describe, identify
from logging_proxy.recording.writer import Passed
from logging_proxy.routing.mapping import EscapesDestination, destination_url, upstream_target
from logging_proxy.routing.mux import BadTarget, MethodNotAllowed, Mux, Redirect, Serve
from logging_proxy.routing.targets import split_target

_MOST_PLANS = 64
"""Plans kept with one head; each client address may need a plan of its own."""

_NOT_RECORDED = ErrorReply(KINDS["not_recorded"], "captures cannot be written", "REFUSED")
_NO_UPGRADE = ErrorReply(
    KINDS["upgrade_not_supported"],
    "the outbound proxy takes whole requests for this destination, and so no upgrade",
    "NO_UPGRADE",
)
_LOOP = ErrorReply(KINDS["loop"], "the request has been here before", "LOOP")

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


AnyReply = Reply | ErrorReply
"""The reply to a request that is not forwarded."""

ReplyAt = Callable[[str], ErrorReply]
"""Makes a reply that names URLs of the proxy, given its root URL as the client knows it."""


class Refused(Exception):
    """The request is not forwarded; `reply` is the response instead."""

    def __init__(self, reply: AnyReply) -> None:
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
                raise Refused(_NOT_RECORDED)
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
        first = plan.onward + piece.framed
        exchange = Exchange(id, connection, head, capture, self, first, piece.last, len(piece.content))
        self.exchanges.add(exchange)
        exchange.begin()
        return exchange

    def _refuse(self, incoming: Incoming, id: bytes, reply: AnyReply) -> None:
        rendered = _reply(reply, id, incoming.head)
        answer_request(incoming, id, rendered, self._surroundings, self._recorder, self.options)

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
            raise Refused(_NO_UPGRADE)
        if policy.via and loops(head):
            raise Refused(_LOOP)
        try:
            onward_target = upstream_target(options.pattern, options.destination, target)
        except EscapesDestination:
            raise Refused(bad_target("the path leaves the destination's path")) from None
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
        to = self.options.destination
        message = verdict.message(f"{to.scheme}://{to.authority.decode()}")
        reply = ErrorReply(verdict.kind, message).to(exchange.id, exchange.head.fields)
        now = self._surroundings.wall_ns() / 1e9
        return answer(exchange.head, exchange.connection.may_keep_alive, now, reply)

    def unasked(self, after: bytes, kept: bytes) -> None:
        record_unasked(self.options, after, kept, self._ids.next(), self._surroundings)

    def exchange_ended(self, exchange: Exchange) -> None:
        self.exchanges.discard(exchange)


@implementer(IExchangeResource)
class ReplyResource(Resource):
    """Answers requests without a route that have equal heads."""

    def __init__(self, reply: AnyReply | ReplyAt, ids: Ids, surroundings: Surroundings) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._reply = reply
        self._made: tuple[str, ErrorReply] | None = None
        """The latest reply of a `ReplyAt`, and the URL for which it was made."""
        self._ids = ids
        self._surroundings = surroundings

    def respond(self, connection: ServerConnection, head: RequestHead, piece: Piece) -> None:
        surroundings = self._surroundings
        recorder = surroundings.recorder if surroundings.record_unknown else None
        id, reply = self._ids.next(), self._reply
        if not isinstance(reply, Reply | ErrorReply):
            reply = self._at(reply, _root_url(connection, head))
        incoming = Incoming(connection, head, piece)
        answer_request(incoming, id, _reply(reply, id, head), surroundings, recorder)

    def _at(self, make: ReplyAt, root: str) -> ErrorReply:
        """The reply for a root URL, made once as long as the URL stays the same."""
        if self._made is None or self._made[0] != root:
            self._made = root, make(root)
        return self._made[1]


def _reply(reply: AnyReply, id: bytes, head: RequestHead) -> Reply:
    return reply.to(id, head.fields) if isinstance(reply, ErrorReply) else reply


def _root_url(connection: ServerConnection, head: RequestHead) -> str:
    """The proxy's URL without a path; by address if the request names another host."""
    authority = head.host if head.target.startswith(b"/") else b""
    return (connection.site.scheme + b"://" + (authority or local_address(connection))).decode("latin-1")


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
        self._options: list[RouteOptions] = []

    def mount(self, route: RouteResource) -> None:
        """Add a route.  Raises `PatternConflict`."""
        self._mux.add(route.options.pattern, route)
        self.routes.append(route)
        self._options.append(route.options)

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
        if isinstance(found, Resource):
            return found
        return ReplyResource(found, self._ids, self._surroundings)

    def _find(self, target: bytes, head: RequestHead) -> Child | AnyReply | ReplyAt:
        """The resource of a route, possibly through the not-found path; without one, the answer."""
        if head.method == b"CONNECT":
            return partial(connect_refused, head, self._options)
        if not self._takes(head):
            return partial(wrong_host, head, self._options)
        if target == b"*":
            return Reply(200, b"", "SERVER_OPTIONS")
        decision = self._mux.match(head.method, target, head.host)
        if isinstance(decision, Serve):
            return decision.value
        if isinstance(decision, Redirect):
            location = decision.location
            return Reply(307, b"", f"REDIRECT {location.decode('latin-1')}", ((b"Location", location),))
        if isinstance(decision, MethodNotAllowed):
            return method_not_allowed(head, _path(target), decision.allow)
        if isinstance(decision, BadTarget):
            return bad_target(decision.reason)
        not_found = self._not_found_target(target)
        if not_found:
            decision = self._mux.match(head.method, not_found, asked_host(head))
            if isinstance(decision, Serve):
                return NotFoundResource(decision.value, not_found)
        if not not_found:
            return plain_not_found()
        return partial(no_route, head, _path(target), self._options)

    def _takes(self, head: RequestHead) -> bool:
        return self._surroundings.takes_host(asked_host(head))

    def _not_found_target(self, target: bytes) -> bytes:
        """The target for the second look-up of `target`, which is in origin- or absolute-form."""
        prefix = self._surroundings.not_found
        if not prefix:
            return b""
        if not target.startswith(b"/"):
            _, mark, query = target.partition(b"?")
            target = _path(target) + mark + query
        return target if target.startswith(prefix) else prefix.rstrip(b"/") + target


def _path(target: bytes) -> bytes:
    """The path of `target`, which is in origin- or absolute-form."""
    return target.partition(b"?")[0] if target.startswith(b"/") else split_target(target).path
