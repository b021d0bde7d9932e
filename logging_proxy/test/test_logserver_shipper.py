"""The shipper: a local spool arrives whole at a logging server that comes and goes."""

from __future__ import annotations

import os
from io import BytesIO
from typing import Any

from treq.client import HTTPClient
from treq.testing import RequestTraversalAgent
from twisted.internet.defer import Deferred, execute, fail, succeed
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock, Cooperator, deferLater
from twisted.internet.testing import StringTransport
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.client import FileBodyProducer
from twisted.web.http_headers import Headers
from twisted.web.iweb import UNKNOWN_LENGTH, IAgent, IBodyProducer, IResponse
from twisted.web.resource import Resource
from twisted.web.server import Request
from zope.interface import implementer

from logging_proxy.logserver.ingest.remote import RemoteSpools
from logging_proxy.logserver.web.answers import ProblemResource
from logging_proxy.logserver.web.guard import Gate, Guard, local_hosts
from logging_proxy.logserver.web.spool_ingest import SpoolIngest
from logging_proxy.recording.tail import SpoolTail
from logging_proxy.shipping.bearer import BearerAgent
from logging_proxy.shipping.shipper import ANSWER_TIMEOUT, BATCH, LONGEST_WAIT, Shipper, Shippers, spool_name
from logging_proxy.test.logserver_spools import SpoolWriter

NAMES = [f"{number:032x}" for number in range(1, 9)]


@implementer(IAgent)
class Line:
    """The way to the server: may be down, may lose answers; counts what was sent."""

    def __init__(self, agent: RequestTraversalAgent, clock: Clock) -> None:
        self.agent = agent
        self.clock = clock
        self.down = False
        self.loses_answers = False
        self.silent = False
        self.unending: Any = None
        """The answer to every request, if it is one that does not end."""
        self.rate = 0.0
        """Bytes a second, if it is slow."""
        self.requests: list[tuple[bytes, bytes, Headers | None]] = []

    def request(
        self, method: bytes, uri: bytes, headers: Headers | None = None, body: IBodyProducer | None = None
    ) -> Deferred[IResponse]:
        self.requests.append((method, uri, headers))
        if self.down:
            return fail(ConnectionRefusedError())
        if self.silent:
            return Deferred()
        if self.unending is not None:
            return succeed(self.unending)
        if self.rate and body is not None:
            later: Deferred[Any] = deferLater(self.clock, int(body.length) / self.rate)
            return later.addCallback(lambda _: self._carry(method, uri, headers, body))
        return self._carry(method, uri, headers, body)

    def _carry(
        self, method: bytes, uri: bytes, headers: Headers | None, body: IBodyProducer | None
    ) -> Deferred[IResponse]:
        answered: Deferred[IResponse] = self.agent.request(method, uri, headers, body)
        return fail(ConnectionRefusedError()) if self.loses_answers else answered


class Redirecting(Resource):
    """Sends every request to another server."""

    isLeaf = True

    def render_GET(self, request: Request) -> bytes:
        request.redirect(b"http://elsewhere.example/")
        return b""


class Unending(StringTransport):
    """An answer, and the connection that it comes by, whose body has no end."""

    code, phrase, length, headers = 200, b"OK", UNKNOWN_LENGTH, Headers()
    aborted = False

    def deliverBody(self, protocol: Protocol) -> None:
        protocol.makeConnection(self)
        protocol.dataReceived(b"{")

    def abortConnection(self) -> None:
        self.aborted = True


class ShipperTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.spool = self.mktemp()
        self.root = self.mktemp()
        self.names = iter(NAMES)
        self.serve()
        self.shipper: Shipper | None = None

    def serve(self) -> None:
        """A new server process on the same files."""
        self.agent = self.server(local_hosts("localhost"), None)
        self.line = Line(self.agent, self.clock)

    def server(self, hosts: frozenset[str], token: str | None) -> RequestTraversalAgent:
        root, api = ProblemResource(), ProblemResource()
        root.putChild(b"api", api)
        api.putChild(b"spools", SpoolIngest(RemoteSpools(self.root), execute, lambda: None))
        return RequestTraversalAgent(Guard(root, Gate(hosts, token, self.clock.seconds)))

    def start(self, url: str = "http://localhost:8080", token: str | None = None) -> Shipper:
        self.shipper = Shipper(self.clock, self.spool, url, token, self.client(), lambda: next(self.names))
        self.shipper.startService()
        self.addCleanup(self.stop)
        return self.shipper

    def client(self) -> HTTPClient:
        """Requests by way of `line`, their bodies sent as the clock says."""
        bodies = Cooperator(lambda: lambda: False, lambda call: self.clock.callLater(0, call))
        return HTTPClient(
            self.line, data_to_body_producer=lambda data: FileBodyProducer(BytesIO(data), bodies)
        )

    def stop(self) -> None:
        shipper, self.shipper = self.shipper, None
        if shipper is not None:
            stopped = shipper.stopService()
            self.run_for(0.1)
            assert stopped is not None
            self.successResultOf(stopped)

    def run_for(self, seconds: float) -> None:
        for _ in range(max(1, int(seconds / 0.05))):
            for _ in range(6):
                self.agent.flush()
            self.clock.advance(0.05)

    def arrived(self, name: str = NAMES[0]) -> bytes:
        tail, data = SpoolTail(os.path.join(self.root, f"remote-{name}")), b""
        while (piece := tail.read()) is not None:
            data += piece.data
        tail.close()
        return data

    def test_arrives(self) -> None:
        """What is in the spool, and what comes later, arrives in order."""
        writer = SpoolWriter(self.spool)
        writer.blocks([b"one ", b"two "])
        self.start()
        self.run_for(1)
        self.assertEqual(self.arrived(), b"one two ")
        writer.new_segment()
        writer.block(b"three")
        self.run_for(1)
        self.assertEqual(self.arrived(), b"one two three")

    def test_server_away(self) -> None:
        """While the server is away attempts get rarer; then everything arrives, and nothing twice."""
        writer = SpoolWriter(self.spool)
        writer.block(b"one ")
        self.line.down = True
        self.start()
        self.run_for(60)
        self.assertLess(len(self.line.requests), 15)
        writer.block(b"two")
        self.line.down = False
        self.run_for(LONGEST_WAIT + 1)
        self.assertEqual(self.arrived(), b"one two")

    def test_answer_lost(self) -> None:
        """A batch whose acknowledgement is lost is not stored twice."""
        writer = SpoolWriter(self.spool)
        writer.block(b"one ")
        self.start()
        self.run_for(1)
        self.line.loses_answers = True
        writer.block(b"two ")
        self.run_for(1)
        self.line.loses_answers = False
        writer.block(b"three")
        self.run_for(15)
        self.assertEqual(self.arrived(), b"one two three")

    def test_silent_server(self) -> None:
        """A server that takes the connection and never answers is given up after a while."""
        SpoolWriter(self.spool).block(b"one")
        self.line.silent = True
        self.start()
        self.run_for(20)
        self.line.silent = False
        self.run_for(20)
        self.assertEqual(self.arrived(), b"one")

    def test_unending_answer(self) -> None:
        """An answer whose body does not end in time is given up, and its connection closed."""
        SpoolWriter(self.spool).block(b"one")
        self.line.unending = unending = Unending()
        self.start()
        self.run_for(ANSWER_TIMEOUT - 1)
        self.assertFalse(unending.aborted)
        self.line.unending = None
        self.run_for(2)
        self.assertTrue(unending.aborted)
        self.run_for(2)
        self.assertEqual(self.arrived(), b"one")

    def test_redirected(self) -> None:
        """A redirect is not followed: nobody but the server that is configured gets the token."""
        SpoolWriter(self.spool).block(b"one")
        self.line.agent = self.agent = RequestTraversalAgent(Redirecting())
        with capturedLogs() as said:
            self.start(token="t0ken")
            self.run_for(1)
        self.assertEqual([event["reason"] for event in said if "reason" in event], ["it answers 302"])
        self.assertEqual(
            {uri for _, uri, _ in self.line.requests},
            {f"http://localhost:8080/api/spools/{NAMES[0]}".encode()},
        )

    def test_slow_line(self) -> None:
        """What a line does not carry in time is sent in smaller batches, and in large ones again later."""
        data = os.urandom(1 << 20)
        SpoolWriter(self.spool).block(data)
        self.line.rate = 10_000
        shipper = self.start()
        self.run_for(200)
        self.assertEqual(self.arrived(), data)
        self.assertLess(shipper._most, BATCH)
        self.line.rate = 0
        for _ in range(8):
            SpoolWriter(self.spool, len(self.arrived())).block(b"x")
            self.run_for(1)
        self.assertEqual(shipper._most, BATCH)

    def test_restarts(self) -> None:
        """Both sides may start anew at any time: the shipper asks where to go on."""
        writer = SpoolWriter(self.spool)
        for number in range(5):
            writer.block(b"%d " % number)
            self.start()
            self.run_for(0.5)
            self.stop()
            self.serve()
        self.assertEqual(self.arrived(), b"0 1 2 3 4 ")
        self.assertEqual(os.listdir(self.root), [f"remote-{NAMES[0]}"])

    def test_segments_go(self) -> None:
        """Acknowledged segments are deleted, but never the newest."""
        writer = SpoolWriter(self.spool)
        for number in range(4):
            writer.block(b"%d" % number)
            writer.new_segment()
        self.start()
        self.run_for(1)
        self.assertEqual(
            [n for n in os.listdir(self.spool) if n.endswith(".seg")], [os.path.basename(writer.path)]
        )

    def test_nothing_deleted_unacknowledged(self) -> None:
        """While the server is away no segment is deleted."""
        writer = SpoolWriter(self.spool)
        for number in range(4):
            writer.block(b"%d" % number)
            writer.new_segment()
        self.line.down = True
        self.start()
        self.run_for(5)
        self.assertEqual(len([n for n in os.listdir(self.spool) if n.endswith(".seg")]), 5)

    def test_batches(self) -> None:
        """Small blocks travel together, large ones in parts, none above 1 MiB; all arrives."""
        writer = SpoolWriter(self.spool)
        blocks = [b"s" * 1000] * 50 + [os.urandom(3 << 20)] + [b"t" * 700_000] * 2
        writer.blocks(blocks)
        self.start()
        self.run_for(3)
        self.assertEqual(self.arrived(), b"".join(blocks))
        posts = [uri for method, uri, _ in self.line.requests if method == b"POST"]
        self.assertLessEqual(len(posts), 7)
        offsets = [int(uri.rpartition(b"/")[2]) for uri in posts] + [writer.offset]
        self.assertTrue(all(b - a <= BATCH for a, b in zip(offsets, offsets[1:], strict=False)))

    def test_spool_begun_anew(self) -> None:
        """A spool shorter than what the server has is another one: it is renamed, and arrives whole."""
        SpoolWriter(self.spool).block(b"the first life")
        self.start()
        self.run_for(1)
        self.stop()
        for name in os.listdir(self.spool):
            if name.endswith(".seg"):
                os.unlink(os.path.join(self.spool, name))
        SpoolWriter(self.spool).block(b"new")
        self.start()
        self.run_for(1)
        self.assertEqual(self.arrived(NAMES[1]), b"new")

    def test_damage_skipped(self) -> None:
        """Bytes that nobody has any more do not hold up what follows."""
        writer = SpoolWriter(self.spool)
        writer.block(b"one ")
        writer.block(b"gone ")
        damaged = os.path.getsize(writer.path) - 1
        writer.new_segment()
        writer.block(b"two")
        with open(os.path.join(self.spool, "0" * 16 + ".seg"), "r+b") as file:
            file.seek(damaged)
            file.write(b"X")
        self.start()
        self.run_for(1)
        self.assertEqual(self.arrived(), b"one two")

    def test_token_is_asked_for(self) -> None:
        """Without the server's token captures wait, and the log says which key of the proxy's it is."""
        SpoolWriter(self.spool).block(b"one")
        self.agent = self.server(local_hosts("localhost"), "right")
        self.line = Line(self.agent, self.clock)
        key = "the proxy presents logging_server.token too, set that to the token of the server"
        for token, what in ((None, "asks for a token"), ("wrong", "refuses the token")):
            with capturedLogs() as said:
                self.start(token=token)
                self.run_for(1)
                self.stop()
            reasons = [event["reason"] for event in said if "reason" in event]
            self.assertEqual(reasons, [f"it {what}: {key}"])

    def test_refusal_in_words(self) -> None:
        """What the server says of a refusal is in the log."""
        SpoolWriter(self.spool).block(b"one")
        self.agent = self.server(local_hosts("localhost"), None)
        self.line = Line(self.agent, self.clock)
        with capturedLogs() as said:
            self.start("http://logs.internal:8080")
            self.run_for(1)
        reasons = [event["reason"] for event in said if "reason" in event]
        self.assertEqual(reasons, ["it answers 403, This is not a name of this server."])

    def test_any_host_name(self) -> None:
        """Hosts that IDNA does not allow are asked as they are written."""
        SpoolWriter(self.spool).block(b"one")
        for host in ("my_logs.internal", "ab--cd.internal", "logs.internal."):
            self.line.down = True
            self.line.requests.clear()
            self.start(f"http://{host}:8080/")
            self.run_for(1)
            self.stop()
            asked = {uri.split(b"/api/")[0] for _, uri, _ in self.line.requests}
            self.assertEqual(asked, {f"http://{host}:8080".encode()})

    def test_token_of_the_log_directory(self) -> None:
        """The token that a server on this machine keeps is sent as soon as there is one."""
        tokens: list[str | None] = [None, None, "right"]
        SpoolWriter(self.spool).block(b"one")
        self.agent = self.server(local_hosts("localhost"), "right")
        line: Any = BearerAgent(Line(self.agent, self.clock), lambda: tokens.pop(0))
        self.line = line
        self.start()
        self.run_for(3)
        self.assertEqual(self.arrived(), b"one")

    def test_token_and_compression(self) -> None:
        """Beyond loopback the body is compressed; a token is sent as a bearer token."""
        SpoolWriter(self.spool).block(b"one")
        self.start("http://logs.example:8080", "t0ken")
        self.run_for(1)
        asked: Any = self.line.requests[0][2]
        self.assertEqual(asked.getRawHeaders("Authorization"), ["Bearer t0ken"])
        self.stop()
        self.serve()
        self.agent = self.line.agent = self.server(frozenset(), "t0ken")
        self.start("http://logs.example:8080", "t0ken")
        self.run_for(1)
        self.assertEqual(self.arrived(), b"one")
        posted: Any = next(headers for method, _, headers in self.line.requests if method == b"POST")
        self.assertEqual(posted.getRawHeaders("Content-Encoding"), ["gzip"])

    def test_drain(self) -> None:
        """A drain ends when all is sent, or at the first attempt that fails."""
        writer = SpoolWriter(self.spool)
        writer.block(b"one")
        shipper = self.start()
        drained = shipper.drain()
        self.run_for(1)
        self.successResultOf(drained)
        self.assertEqual(self.arrived(), b"one")
        self.line.down = True
        writer.block(b"two")
        drained = shipper.drain()
        self.run_for(1)
        self.successResultOf(drained)

    def test_several(self) -> None:
        """Several spools are sent each for itself; a drain ends when all of them have been."""
        spools = [self.mktemp(), self.mktemp()]
        for spool, data in zip(spools, (b"one", b"two"), strict=True):
            SpoolWriter(spool).block(data)
        url = "http://localhost:8080"
        shippers = Shippers(
            [
                Shipper(self.clock, spool, url, None, self.client(), lambda: next(self.names))
                for spool in spools
            ]
        )
        shippers.startService()
        drained = shippers.drain()
        shippers.wake()
        self.run_for(1)
        self.successResultOf(drained)
        self.assertEqual([self.arrived(name) for name in NAMES[:2]], [b"one", b"two"])
        stopped = shippers.stopService()
        self.run_for(0.1)
        self.successResultOf(stopped)

    def test_name_is_kept(self) -> None:
        """A spool keeps its name."""
        os.makedirs(self.spool)
        first = spool_name(self.spool, lambda: NAMES[3])
        self.assertEqual(spool_name(self.spool, lambda: NAMES[4]), first)
