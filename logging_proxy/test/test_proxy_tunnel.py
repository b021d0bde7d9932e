"""Upgrades: allowed switches of protocols; a tunnel's bytes in both directions, ends and records."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.http.limits import LINGER, MOST_PIPELINED
from logging_proxy.http.server import ServerLimits
from logging_proxy.http.upstream_link import CLOSING_TIME
from logging_proxy.outbound.forwarding import Forwarding
from logging_proxy.proxy.failures import Shutdown
from logging_proxy.recording.records import Flag, Kind
from logging_proxy.test.proxy_stage import Stage, Wire, get, limits, ok

ASKED = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: k")
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nX: y\r\n\r\n"
BUFFERED = 5 * 65536
"""More than the transport, a half, and a few reads may hold of one direction."""


class Tunnel:
    """A stage whose only client has a tunnel to the upstream."""

    def __init__(self, behind: bytes = b"", tls: str = "", **stage: object) -> None:
        self.stage = Stage(**stage)  # type: ignore[arg-type]
        self.client = self.stage.client(get("/api/x", *ASKED))
        self.upstream = self.stage.upstream
        self.client.TLS = tls == "client"
        self.upstream.TLS = tls == "upstream"
        self.upstream.received()
        self.upstream.deliver(SWITCH + behind)
        self.answer = self.client.received()

    @property
    def pieces(self) -> list[tuple[str, bytes]]:
        """The tunnel's records, in order."""
        kinds = {Kind.TUNNEL_CLIENT: "client", Kind.TUNNEL_UPSTREAM: "upstream"}
        return [(kinds[each.kind], each.content) for each in self.stage.capture.records if each.kind in kinds]

    @property
    def ends(self) -> list[str]:
        """The directions that are recorded to have ended, in order."""
        kinds = {Kind.TUNNEL_CLIENT: "client", Kind.TUNNEL_UPSTREAM: "upstream"}
        last = [each for each in self.stage.capture.records if each.flags & Flag.LAST]
        return [kinds[each.kind] for each in last if each.kind in kinds]


class TunnelCase(SynchronousTestCase):
    def assertOver(self, tunnel: Tunnel, outcome: str) -> None:
        """The exchange has ended so, and nothing is left of it."""
        stage = tunnel.stage
        stage.turn()
        self.assertEqual(stage.capture.outcome, outcome)
        self.assertEqual(stage.problems(), [])
        self.assertEqual((tunnel.client.lost, tunnel.upstream.lost), (True, True))
        self.assertEqual(len(stage.site.connections), 0)
        self.assertIsNone(stage.pool.take())
        self.assertEqual(stage.clock.getDelayedCalls(), [])


class AskingTests(SynchronousTestCase):
    def onward(self, *fields: str, **changes: str) -> list[str]:
        stage = Stage()
        stage.client(get("/api/x", *fields, **changes))
        return stage.upstream.received().decode().split("\r\n")[2:-2]

    def test_fields(self) -> None:
        """Both fields go on in their places, as the client wrote them."""
        fields = ("A: 1", "upgrade:  WebSocket", "Sec-WebSocket-Key: k", "connection: upgrade", "B: 2")
        self.assertEqual(self.onward(*fields), list(fields))

    def test_connection_anew(self) -> None:
        """Connection is reduced to Upgrade; other options are not forwarded."""
        fields = ("Connection: keep-alive, Upgrade, X-Mine", "X-Mine: 1", "Upgrade: websocket")
        self.assertEqual(self.onward(*fields), ["Connection: Upgrade", "Upgrade: websocket"])
        fields = ("Connection: keep-alive", "Connection: upgrade", "Upgrade: a/1, b")
        self.assertEqual(self.onward(*fields), ["Connection: upgrade", "Upgrade: a/1, b"])

    def test_h2c(self) -> None:
        """HTTP/2 in clear is not asked for, nor are its settings passed on; other protocols beside it are."""
        settings_ = ("HTTP2-Settings: AAMAAABk", "Connection: Upgrade, HTTP2-Settings")
        self.assertEqual(self.onward("Upgrade: h2c", *settings_), [])
        self.assertEqual(self.onward("Upgrade: H2C", "Connection: Upgrade", "HTTP2-Settings: AA"), [])
        both = self.onward("Upgrade: h2c, websocket", *settings_)
        self.assertEqual(both, ["Upgrade: websocket", "Connection: Upgrade"])

    def test_not_named(self) -> None:
        """Upgrade without Connection: Upgrade is no request to switch (RFC 9110 §7.8)."""
        self.assertEqual(self.onward("Upgrade: websocket"), [])
        self.assertEqual(self.onward("Connection: upgrade"), [])

    def test_old_version(self) -> None:
        """HTTP/1.0 cannot switch."""
        self.assertEqual(self.onward(*ASKED[:2], version="1.0"), [])

    def test_with_body(self) -> None:
        """A request with a body may ask as well; it is switched when the body is sent (RFC 9110 §7.8)."""
        head = b"POST /api/x HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        for framing in (
            b"Content-Length: 2\r\n\r\n{}",
            b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        ):
            for cut in (0, 1, 3):
                stage = Stage()
                client = stage.client(head + framing[: len(framing) - cut])
                client.deliver(framing[len(framing) - cut :])
                stage.turn()
                sent = stage.upstream.received()
                self.assertIn(b"Connection: Upgrade\r\nUpgrade: websocket\r\n", sent)
                self.assertTrue(sent.endswith(framing))
                stage.upstream.deliver(SWITCH + b"down")
                client.deliver(b"up")
                self.assertEqual((client.received(), stage.upstream.received()), (SWITCH + b"down", b"up"))
                capture = stage.capture
                self.assertEqual(capture.body(Kind.REQUEST_PIECE), b"{}")
                self.assertEqual(
                    (capture.body(Kind.TUNNEL_CLIENT), capture.body(Kind.TUNNEL_UPSTREAM)), (b"up", b"down")
                )

    def test_body_not_sent(self) -> None:
        """A 101 before the body's end is refused, and nothing of the body reaches a tunnel."""
        stage = Stage()
        head = "POST /api/x HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        client = stage.client((head + "Content-Length: 2\r\n\r\n{").encode())
        stage.upstream.deliver(SWITCH)
        self.assertTrue(client.received().startswith(b"HTTP/1.1 502 "))
        self.assertEqual(stage.capture.outcome, "protocol_error")

    def test_outbound_proxy(self) -> None:
        """An outbound proxy that takes requests in absolute-form is not asked: 501, and nothing goes out."""
        stage = Stage()
        (route,) = stage.tree.routes
        route._forwarding = Forwarding(b"http://up.example", b"")
        client = stage.client(get("/api/x", *ASKED))
        answer = client.received()
        self.assertTrue(answer.startswith(b"HTTP/1.1 501 "))
        self.assertIn(b"no upgrade (exchange ", answer)
        self.assertEqual(stage.endpoint.wires, [])
        client.deliver(get("/api/x", "Connection: Upgrade", "Upgrade: h2c"))
        stage.turn()
        self.assertTrue(stage.upstream.received().startswith(b"GET http://up.example/x HTTP/1.1\r\n"))


class AnswerTests(TunnelCase):
    def test_switch(self) -> None:
        """The 101 goes to the client as it came, and is the recorded response."""
        tunnel = Tunnel()
        self.assertEqual(tunnel.answer, SWITCH)
        self.assertEqual(tunnel.stage.capture.of(Kind.RESPONSE_HEAD), [SWITCH])
        self.assertEqual(tunnel.stage.in_flight, 1)

    def test_switch_fields(self) -> None:
        """Of the 101's hop-by-hop fields only the two that switch go on."""
        stage = Stage()
        client = stage.client(get("/api/x", *ASKED))
        stage.upstream.deliver(
            b"HTTP/1.1 101 Go\r\nconnection: keep-alive, upgrade, X-Mine\r\nX-Mine: 1\r\nKeep-Alive: 5\r\n"
            b"Content-Length: 7\r\nUpgrade: WebSocket\r\nSec-WebSocket-Accept: a\r\n\r\n"
        )
        switch = b"HTTP/1.1 101 Go\r\nconnection: upgrade\r\nUpgrade: WebSocket\r\n"
        self.assertEqual(client.received(), switch + b"Sec-WebSocket-Accept: a\r\n\r\n")

    def test_other_answer(self) -> None:
        """An upstream that does not switch has given an ordinary answer; both connections go on."""
        stage = Stage()
        client = stage.client(get("/api/x", *ASKED))
        stage.upstream.deliver(b"HTTP/1.1 426 Upgrade Required\r\nUpgrade: b\r\nContent-Length: 2\r\n\r\nno")
        self.assertEqual(
            client.received(),
            b"HTTP/1.1 426 Upgrade Required\r\nUpgrade: b\r\nContent-Length: 2\r\n"
            b"Connection: Upgrade\r\n\r\nno",
        )
        client.deliver(get())
        stage.turn()
        self.assertEqual(len(stage.endpoint.wires), 1)
        stage.upstream.deliver(ok())
        self.assertEqual(client.received(), ok())
        self.assertEqual([each.outcome for each in stage.captures], ["complete"] * 2)

    def test_hints_first(self) -> None:
        """Interim answers before the switch are passed on before it, full spool or not."""
        for full in (False, True):
            stage = Stage()
            client = stage.client(get("/api/x", *ASKED))
            if full:
                stage.freeze_spool()
            stage.upstream.deliver(b"HTTP/1.1 103 Hints\r\n\r\n" + SWITCH + b"hello")
            if full:
                self.assertEqual(client.received(), b"")
                stage.thaw_spool()
            self.assertEqual(client.received(), b"HTTP/1.1 103 Hints\r\n\r\n" + SWITCH + b"hello")

    def test_faulty(self) -> None:
        """A 101 without a request for it, or to another protocol, is a protocol error: 502."""
        other = SWITCH.replace(b"websocket", b"other")
        nameless = SWITCH.replace(b"Upgrade: websocket\r\n", b"")
        more = SWITCH.replace(b"websocket", b"websocket, other")
        cases = [((), SWITCH), *((ASKED, each) for each in (other, nameless, more))]
        cases.append((("Connection: Upgrade", "Upgrade: h2c"), SWITCH.replace(b"websocket", b"h2c")))
        for fields, answer in cases:
            stage = Stage()
            client = stage.client(get("/api/x", *fields))
            stage.upstream.deliver(answer)
            self.assertTrue(client.received().startswith(b"HTTP/1.1 502 "), answer)
            self.assertTrue(stage.upstream.aborted)
            self.assertEqual(stage.capture.outcome, "protocol_error")
            self.assertEqual(stage.problems(), [])

    def test_not_named(self) -> None:
        """A 101 with a requested protocol switches also without Upgrade in Connection; ours has it."""
        stage = Stage()
        client = stage.client(get("/api/x", *ASKED))
        silent = SWITCH.replace(b"Connection: Upgrade\r\n", b"")
        stage.upstream.deliver(silent + b"hello")
        self.assertEqual(client.received(), silent[:-2] + b"Connection: Upgrade\r\n\r\nhello")
        self.assertEqual(stage.capture.of(Kind.RESPONSE_HEAD), [silent])

    def test_too_early(self) -> None:
        """A 101 before anything was asked cannot be an answer."""
        stage = Stage()
        stage.freeze_spool()
        client = stage.client(get("/api/x", *ASKED))
        stage.upstream.deliver(SWITCH)
        stage.thaw_spool()
        self.assertTrue(client.received().startswith(b"HTTP/1.1 502 "))
        self.assertEqual(stage.capture.outcome, "protocol_error")

    def test_either_spelling(self) -> None:
        """Protocol names are compared without regard to case."""
        stage = Stage()
        client = stage.client(get("/api/x", "Connection: Upgrade", "Upgrade: TLS/1.0, WebSocket"))
        stage.upstream.deliver(SWITCH)
        self.assertEqual(client.received(), SWITCH)


class BytesTests(TunnelCase):
    def test_both_ways(self) -> None:
        """Whatever either side sends arrives at the other, and is recorded with its direction, in order."""
        tunnel = Tunnel()
        tunnel.client.deliver(b"GET / HTTP/1.1\r\n\r\n")
        self.assertEqual(tunnel.upstream.received(), b"GET / HTTP/1.1\r\n\r\n")
        tunnel.upstream.deliver(b"\x00\xffHTTP/1.1 200 OK\r\n\r\n")
        self.assertEqual(tunnel.client.received(), b"\x00\xffHTTP/1.1 200 OK\r\n\r\n")
        tunnel.client.deliver(b"2")
        self.assertEqual(
            tunnel.pieces,
            [
                ("client", b"GET / HTTP/1.1\r\n\r\n"),
                ("upstream", b"\x00\xffHTTP/1.1 200 OK\r\n\r\n"),
                ("client", b"2"),
            ],
        )

    def test_behind_the_heads(self) -> None:
        """Bytes in one read with the request or with the 101 belong to the tunnel."""
        stage = Stage()
        client = stage.client(get("/api/x", *ASKED) + b"early")
        stage.upstream.received()
        stage.upstream.deliver(SWITCH + b"prompt")
        self.assertEqual(client.received(), SWITCH + b"prompt")
        self.assertEqual(stage.upstream.received(), b"early")
        self.assertEqual(stage.capture.body(Kind.TUNNEL_CLIENT), b"early")
        self.assertEqual(stage.capture.body(Kind.TUNNEL_UPSTREAM), b"prompt")

    def test_held_until_the_switch(self) -> None:
        """Bytes that the client sends before the 101 wait, and only few are read."""
        stage = Stage()
        client = stage.client(get("/api/x", *ASKED))
        stage.upstream.received()
        data = bytes(range(256)) * 2048
        client.deliver(data, 4096)
        self.assertEqual(stage.upstream.received(), b"")
        self.assertLessEqual(len(data) - client.waiting, MOST_PIPELINED + 4096)
        stage.upstream.deliver(SWITCH)
        stage.turn()
        self.assertEqual(stage.upstream.received(), data)
        self.assertEqual(stage.capture.body(Kind.TUNNEL_CLIENT), data)

    def test_any_split(self) -> None:
        """For any split all bytes arrive, and the records equal them."""

        @settings(deadline=None, max_examples=60)
        @given(st.lists(st.tuples(st.booleans(), st.binary(max_size=200)), max_size=12), st.integers(1, 40))
        def run(script: list[tuple[bool, bytes]], size: int) -> None:
            stage = Stage()
            client = stage.client(get("/api/x", *ASKED), size)
            stage.upstream.received()
            stage.upstream.deliver(SWITCH, size)
            client.received()
            said = {True: b"", False: b""}
            for from_client, data in script:
                (client if from_client else stage.upstream).deliver(data, size)
                said[from_client] += data
            self.assertEqual((stage.upstream.received(), client.received()), (said[True], said[False]))
            self.assertEqual(stage.capture.body(Kind.TUNNEL_CLIENT), said[True])
            self.assertEqual(stage.capture.body(Kind.TUNNEL_UPSTREAM), said[False])

        run()

    def test_slow_readers(self) -> None:
        """A side that does not read stops the other; memory stays flat, and the other direction continues."""
        data = bytes(range(256)) * 16384
        for slow, fast in (("client", "upstream"), ("upstream", "client")):
            tunnel = Tunnel()
            to, source = getattr(tunnel, slow), getattr(tunnel, fast)
            to.stalled = True
            source.deliver(data)
            self.assertGreater(source.waiting, len(data) - BUFFERED)
            to.deliver(b"still there")
            self.assertEqual(source.received(), b"still there")
            to.stalled = False
            while to.buffer or source.waiting:
                to.take(100_000)
                tunnel.stage.turn()
            self.assertEqual(to.received(), data)
            self.assertLess(to.most_buffered, BUFFERED)

    def test_spool_first(self) -> None:
        """While the spool has no room, nothing passes and little is read; then all of it passes."""
        data = b"x" * 1_000_000
        tunnel = Tunnel()
        tunnel.stage.freeze_spool()
        tunnel.client.deliver(data)
        tunnel.upstream.deliver(data)
        self.assertEqual((tunnel.client.received(), tunnel.upstream.received()), (b"", b""))
        self.assertGreater(tunnel.client.waiting, len(data) - BUFFERED)
        self.assertGreater(tunnel.upstream.waiting, len(data) - BUFFERED)
        tunnel.stage.thaw_spool()
        tunnel.stage.turn()
        self.assertEqual((tunnel.client.received(), tunnel.upstream.received()), (data, data))
        self.assertEqual(tunnel.stage.capture.body(Kind.TUNNEL_CLIENT), data)

    def test_not_logged(self) -> None:
        """A route without logging has tunnels too."""
        tunnel = Tunnel(logging=False)
        tunnel.client.deliver(b"a")
        tunnel.upstream.deliver(b"b")
        self.assertEqual((tunnel.upstream.received(), tunnel.client.received()), (b"a", b"b"))
        tunnel.client.fin()
        tunnel.upstream.fin()
        tunnel.stage.turn()
        self.assertEqual((tunnel.stage.in_flight, tunnel.stage.captures), (0, []))
        self.assertTrue(tunnel.client.lost and tunnel.upstream.lost)


class EndTests(TunnelCase):
    def test_half_close(self) -> None:
        """The end of one direction is passed on, the other goes on; both ended is complete."""
        for first, second in (("client", "upstream"), ("upstream", "client")):
            tunnel = Tunnel()
            one, other = getattr(tunnel, first), getattr(tunnel, second)
            one.deliver(b"last words")
            one.fin()
            self.assertEqual((other.received(), other.closed, one.closed), (b"last words", True, False))
            other.deliver(b"still going")
            self.assertEqual(one.received(), b"still going")
            self.assertEqual(tunnel.stage.in_flight, 1)
            other.fin()
            self.assertTrue(one.closed)
            self.assertOver(tunnel, "complete")
            self.assertEqual(tunnel.ends, [first, second])
            self.assertFalse(one.aborted or other.aborted)

    def test_end_waits_for_bytes(self) -> None:
        """The end of a direction does not overtake its waiting bytes, behind a slow reader or the spool."""
        tunnel = Tunnel()
        tunnel.client.stalled = True
        tunnel.upstream.deliver(b"x" * 200_000)
        tunnel.client.take()
        tunnel.stage.turn()
        tunnel.stage.freeze_spool()
        tunnel.upstream.deliver(b"y")
        tunnel.upstream.fin()
        tunnel.client.deliver(b"z")
        tunnel.client.fin()
        self.assertEqual((tunnel.client.closed, tunnel.upstream.closed), (False, False))
        tunnel.client.stalled = False
        tunnel.client.take()
        tunnel.stage.thaw_spool()
        tunnel.stage.turn()
        self.assertTrue(tunnel.client.received().endswith(b"xy"))
        self.assertEqual(tunnel.upstream.received(), b"z")
        self.assertOver(tunnel, "complete")

    def test_slow_after_both_ends(self) -> None:
        """Both sides have ended, one still reads: it gets everything before its connection is closed."""
        tunnel = Tunnel()
        tunnel.client.stalled = True
        tunnel.upstream.deliver(b"x" * 60_000)
        tunnel.upstream.fin()
        tunnel.client.fin()
        self.assertEqual(tunnel.stage.capture.outcome, "complete")
        tunnel.stage.turn()
        self.assertFalse(tunnel.client.lost)
        tunnel.client.take()
        self.assertEqual(tunnel.client.received(), b"x" * 60_000)
        self.assertOver(tunnel, "complete")

    def test_client_resets(self) -> None:
        """A client that vanishes takes the upstream's connection with it, its direction ended or not."""
        for ended in (False, True):
            tunnel = Tunnel()
            tunnel.client.deliver(b"a")
            if ended:
                tunnel.client.fin()
            tunnel.client.rst()
            self.assertTrue(tunnel.upstream.aborted)
            self.assertOver(tunnel, "client_closed")

    def test_upstream_resets(self) -> None:
        """An upstream that resets: the client gets the bytes so far, then a reset."""
        for ended in (False, True):
            tunnel = Tunnel()
            tunnel.upstream.deliver(b"a")
            if ended:
                tunnel.client.fin()
            tunnel.upstream.rst()
            self.assertEqual(tunnel.client.received(), b"a")
            self.assertTrue(tunnel.client.aborted)
            self.assertOver(tunnel, "upstream_reset")
            text = "the destination reset the connection after 1 B and 0.000 s"
            self.assertEqual(tunnel.stage.capture.error, text)

    def test_client_ends_after_all(self) -> None:
        """Bytes from a client whose reset is pending have no effect."""
        tunnel = Tunnel()
        tunnel.stage.freeze_spool()
        tunnel.upstream.deliver(b"a")
        tunnel.upstream.rst()
        tunnel.client.deliver(b"late")
        tunnel.client.fin()
        tunnel.stage.thaw_spool()
        self.assertEqual(tunnel.client.received(), b"a")
        self.assertTrue(tunnel.client.aborted)
        self.assertOver(tunnel, "upstream_reset")

    def test_upstream_resets_while_spool_is_full(self) -> None:
        """... also those that were waiting for the spool."""
        tunnel = Tunnel()
        tunnel.stage.freeze_spool()
        tunnel.upstream.deliver(b"a")
        tunnel.upstream.rst()
        self.assertFalse(tunnel.client.aborted)
        tunnel.stage.thaw_spool()
        self.assertEqual(tunnel.client.received(), b"a")
        self.assertTrue(tunnel.client.aborted)
        self.assertOver(tunnel, "upstream_reset")

    def test_interrupt(self) -> None:
        """When the proxy stops, a tunnel is interrupted on both sides."""
        tunnel = Tunnel(behind=b"a")
        (exchange,) = tunnel.stage.tree.routes[0].exchanges
        exchange.interrupt(Failure(Shutdown("stopped")))
        self.assertTrue(tunnel.client.aborted and tunnel.upstream.aborted)
        self.assertOver(tunnel, "interrupted")
        self.assertEqual(tunnel.stage.capture.error, "stopped")

    def test_leaving_before_the_switch(self) -> None:
        """A client that ends its sending before the 101 has left, as from any other request."""
        stage = Stage()
        client = stage.client(get("/api/x", *ASKED))
        client.fin()
        self.assertTrue(stage.upstream.aborted)
        stage.turn()
        self.assertEqual(stage.capture.outcome, "client_closed")
        self.assertEqual(stage.problems(), [])

    def test_ended_before_the_switch(self) -> None:
        """With `half_close: allow` its end is passed on behind the 101."""
        stage = Stage(server=ServerLimits(half_close_cancels=False))
        client = stage.client(get("/api/x", *ASKED) + b"all")
        stage.upstream.received()
        client.fin()
        stage.upstream.deliver(SWITCH)
        self.assertEqual((stage.upstream.received(), stage.upstream.closed), (b"all", True))
        stage.upstream.fin()
        stage.turn()
        self.assertEqual(stage.capture.outcome, "complete")
        self.assertEqual(stage.problems(), [])

    def test_any_order(self) -> None:
        """Whatever comes in whatever order: one END, last; bytes recorded are bytes sent; nothing left."""
        events = ("cc", "uu", "cf", "uf", "cr", "ur", "slow", "fast", "freeze", "thaw", "turn")

        @settings(deadline=None, max_examples=150)
        @given(
            st.lists(st.sampled_from(events), max_size=14),
            st.sampled_from(["", "client", "upstream"]),
            st.sampled_from(["cr", "ur"]),
        )
        def run(script: list[str], tls: str, last: str) -> None:
            tunnel = Tunnel(tls=tls)
            ended: set[str] = set()
            for event in (*script, "fast", "thaw", "turn", last, "turn", "late", "turn"):
                self.perform(tunnel, event, ended)
            self.assertEqual(tunnel.stage.problems(), [])
            self.assertTrue(tunnel.client.lost and tunnel.upstream.lost)
            capture = tunnel.stage.capture
            self.assertTrue(capture.body(Kind.TUNNEL_UPSTREAM).startswith(tunnel.client.received()))
            self.assertTrue(capture.body(Kind.TUNNEL_CLIENT).startswith(tunnel.upstream.received()))
            if capture.outcome == "complete":
                self.assertEqual(sorted(tunnel.ends), ["client", "upstream"])

        run()

    def perform(self, tunnel: Tunnel, event: str, ended: set[str]) -> None:
        stage, peers = tunnel.stage, {"c": tunnel.client, "u": tunnel.upstream}
        if event in ("slow", "fast"):
            for wire in peers.values():
                wire.stalled = event == "slow"
                if event == "fast":
                    wire.take()
        elif event in ("freeze", "thaw"):
            stage.freeze_spool() if event == "freeze" else stage.thaw_spool()
        elif event == "turn":
            stage.turn()
        elif event == "late":
            stage.pass_time(CLOSING_TIME + LINGER + 2)
        elif event[0] not in ended or event[1] == "r":
            self.act(peers[event[0]], event, ended)

    def act(self, wire: Wire, event: str, ended: set[str]) -> None:
        who, what = event[0], event[1]
        if what == "r":
            wire.rst()
        elif what == "f":
            ended.add(who)
            wire.close_notify() if wire.TLS else wire.fin()
        else:
            wire.deliver(who.encode() * 50_000)


class SecureTests(TunnelCase):
    """TLS has no half to close."""

    def test_client_closes(self) -> None:
        """A TLS client's close is passed on as an end; an upstream that then ends silently: complete."""
        tunnel = Tunnel(tls="client")
        tunnel.client.deliver(b"bye")
        tunnel.client.close_notify()
        self.assertEqual((tunnel.upstream.received(), tunnel.upstream.closed), (b"bye", True))
        self.assertFalse(tunnel.upstream.aborted)
        tunnel.upstream.fin()
        self.assertOver(tunnel, "complete")

    def test_client_closes_and_upstream_goes_on(self) -> None:
        """... one that sends something for the client that is gone: not complete, and not recorded."""
        tunnel = Tunnel(tls="client")
        tunnel.client.close_notify()
        tunnel.upstream.deliver(b"x")
        self.assertTrue(tunnel.upstream.aborted)
        self.assertOver(tunnel, "client_closed")
        self.assertEqual(tunnel.stage.capture.body(Kind.TUNNEL_UPSTREAM), b"")

    def test_client_closes_and_upstream_stays(self) -> None:
        """... one that does not end has its moment, then is reset."""
        tunnel = Tunnel(tls="client")
        tunnel.client.close_notify()
        tunnel.stage.pass_time(CLOSING_TIME - 1)
        self.assertFalse(tunnel.upstream.aborted)
        tunnel.stage.pass_time(1.5)
        self.assertTrue(tunnel.upstream.aborted)
        self.assertOver(tunnel, "client_closed")

    def test_upstream_closes(self) -> None:
        """A TLS upstream's close is passed on to the client, which has a moment to end as well."""
        tunnel = Tunnel(behind=b"bye", tls="upstream")
        tunnel.upstream.close_notify()
        self.assertTrue(tunnel.client.closed)
        self.assertFalse(tunnel.client.aborted)
        tunnel.client.fin()
        self.assertOver(tunnel, "complete")

    def test_upstream_closes_and_client_goes_on(self) -> None:
        """... one that sends something for the upstream that is gone is reset."""
        tunnel = Tunnel(tls="upstream")
        tunnel.upstream.close_notify()
        tunnel.client.deliver(b"x")
        self.assertTrue(tunnel.client.aborted)
        self.assertOver(tunnel, "upstream_closed")
        self.assertEqual(tunnel.stage.capture.body(Kind.TUNNEL_CLIENT), b"")

    def test_end_towards_tls(self) -> None:
        """Without half-close the connection closes, and bytes that come until then are passed on."""
        tunnel = Tunnel(tls="upstream")
        tunnel.client.fin()
        self.assertTrue(tunnel.upstream.disconnecting)
        tunnel.stage.turn()
        self.assertOver(tunnel, "complete")

    def test_undelivered(self) -> None:
        """A TLS client that closes with bytes still on their way to it has not got everything."""
        tunnel = Tunnel(tls="client")
        tunnel.stage.freeze_spool()
        tunnel.upstream.deliver(b"x")
        tunnel.upstream.fin()
        tunnel.client.close_notify()
        tunnel.stage.thaw_spool()
        self.assertOver(tunnel, "client_closed")


class TimeTests(TunnelCase):
    def test_idle(self) -> None:
        """A tunnel through which nothing passes for the stream's time is given up."""
        tunnel = Tunnel(limits=limits(stream_timeout=10.0))
        tunnel.stage.pass_time(9)
        self.assertEqual(tunnel.stage.in_flight, 1)
        tunnel.stage.pass_time(1.5)
        self.assertTrue(tunnel.client.aborted and tunnel.upstream.aborted)
        self.assertOver(tunnel, "upstream_timeout")
        self.assertIn("tunnel", tunnel.stage.capture.error)

    def test_either_side_keeps_it(self) -> None:
        """A byte from either side starts the time again, also after the other has ended."""
        tunnel = Tunnel(limits=limits(stream_timeout=10.0))
        for wire in (tunnel.client, tunnel.upstream, tunnel.client, tunnel.upstream):
            tunnel.stage.pass_time(8)
            wire.deliver(b"x")
        tunnel.upstream.fin()
        tunnel.stage.pass_time(8)
        tunnel.client.deliver(b"x")
        tunnel.stage.pass_time(8)
        self.assertEqual(tunnel.stage.in_flight, 1)

    def test_client_takes_nothing(self) -> None:
        """A client that has stopped reading is given up after the time to send; the capture says why."""
        tunnel = Tunnel(server=ServerLimits(send_timeout=5.0))
        tunnel.client.stalled = True
        tunnel.upstream.deliver(b"x" * 200_000)
        tunnel.stage.pass_time(4)
        self.assertEqual(tunnel.stage.in_flight, 1)
        tunnel.stage.pass_time(1.5)
        self.assertTrue(tunnel.upstream.aborted)
        self.assertOver(tunnel, "client_closed")
        self.assertEqual(tunnel.stage.capture.error, "the client took nothing for 5 s")
