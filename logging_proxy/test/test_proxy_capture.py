"""The records of an exchange: exactly these, in this order, whatever happens."""

from __future__ import annotations

import itertools

from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.proxy.messages import MOMENT
from logging_proxy.recording.records import Flag, Kind
from logging_proxy.test.proxy_stage import Stage, Wire, get, ok, post


class CaptureRecordTests(SynchronousTestCase):
    def test_plain(self) -> None:
        """A request and its response."""
        stage = Stage({"lm": ("/lm/", "https://up.example/v1/")})
        stage.client(post(b"hello", "aB: 1", target="/lm/x?q"))
        stage.upstream.deliver(ok(b"abc", "Connection: keep-alive", "X: 1"))
        capture = stage.capture
        self.assertEqual(
            [(record.kind.name, record.flags, record.payload) for record in capture.records[1:]],
            [
                ("REQUEST_PIECE", Flag.LAST, b"hello"),
                ("RESPONSE_HEAD", 0, ok(b"abc", "Connection: keep-alive", "X: 1")[:-3]),
                ("RESPONSE_PIECE", Flag.LAST, b"abc"),
                ("END", 0, b"\0"),
            ],
        )
        opening = capture.opening
        self.assertEqual(opening.client, b"192.0.2.7 50000")
        self.assertEqual((opening.route, opening.pattern), (b"lm", b"/lm/"))
        self.assertEqual(opening.source_url, b"http://here/lm/x?q")
        self.assertEqual(opening.destination_url, b"https://up.example/v1/x?q")

    def test_head_is_what_was_sent(self) -> None:
        """The recorded head is the upstream's, byte for byte."""
        stage = Stage()
        stage.client(get("/api/x", "Connection: X-B", "X-B: 1", "x-a:2"))
        self.assertEqual(stage.captures[0].opening.head + b"\r\n", stage.upstream.received())

    def test_pieces(self) -> None:
        """Each read is a piece; the last is marked, and there is one even if it is empty."""
        stage = Stage()
        stage.client(get())
        stage.upstream.deliver(b"HTTP/1.1 200 OK\r\n\r\n")
        for piece in (b"a", b"bc"):
            stage.upstream.deliver(piece)
        stage.upstream.fin()
        pieces = [(r.payload, r.flags) for r in stage.capture.records if r.kind is Kind.RESPONSE_PIECE]
        self.assertEqual(pieces, [(b"a", 0), (b"bc", 0), (b"", Flag.LAST)])
        self.assertEqual(stage.capture.kinds[-1], "END")

    def test_line_of_a_chunk(self) -> None:
        """A read with the line of a chunk alone is passed on, and adds no record."""
        stage = Stage()
        client = stage.client(b"POST /api/x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
        stage.upstream.received()
        client.deliver(b"2\r\n")
        self.assertEqual(stage.upstream.received(), b"2\r\n")
        client.deliver(b"ok\r\n0\r\n\r\n")
        pieces = [(r.payload, r.flags) for r in stage.captures[0].records if r.kind is Kind.REQUEST_PIECE]
        self.assertEqual(pieces, [(b"ok", Flag.LAST)])

    def test_no_body(self) -> None:
        """A request without a body has an empty last piece too."""
        stage = Stage()
        stage.client(get())
        self.assertEqual(stage.captures[0].records[1].flags, Flag.LAST)
        self.assertEqual(stage.captures[0].body(Kind.REQUEST_PIECE), b"")

    def test_url_without_host(self) -> None:
        """A client that names no host used the address that it connected to."""
        stage = Stage()
        stage.client(get(host="", version="1.0"))
        self.assertEqual(stage.captures[0].opening.source_url, b"http://127.0.0.1:5601/api/x")

    def test_url_in_absolute_form(self) -> None:
        """An absolute-form target is the URL."""
        stage = Stage()
        stage.client(get("http://h.example/api/x"))
        self.assertEqual(stage.captures[0].opening.source_url, b"http://h.example/api/x")

    def test_recorded_before_it_is_passed_on(self) -> None:
        """When a byte reaches a peer, it is in the spool."""
        stage = Stage()
        seen: list[tuple[bytes, bool]] = []
        client = stage.client(post(b"one")[:-3])

        def watch(wire: Wire) -> None:
            def write(data: bytes) -> None:
                seen.append((data[-3:], data[-3:] in stage.ring.data))

            wire.write = write  # type: ignore[method-assign]

        watch(stage.upstream)
        watch(client)
        client.deliver(b"one")
        stage.upstream.deliver(ok(b"two"))
        self.assertEqual(seen, [(b"one", True), (b"two", True)])

    def test_unrecorded_route(self) -> None:
        """`logging: false` records nothing, and forwards the same."""
        stage = Stage(logging=False)
        client = stage.client(post(b"x"))
        stage.upstream.deliver(ok(b"abc"))
        self.assertEqual(client.received(), ok(b"abc"))
        self.assertEqual(bytes(stage.ring.data), b"")

    def test_interleaved(self) -> None:
        """Exchanges at the same time have numbers of their own."""
        stage = Stage()
        for target in ("/api/1", "/api/2"):
            stage.client(get(target))
        one, two = stage.endpoint.wires
        one.deliver(ok(b"one")[:-1])
        two.deliver(ok(b"two"))
        one.deliver(b"e")
        self.assertEqual([each.body(Kind.RESPONSE_PIECE) for each in stage.captures], [b"one", b"two"])
        self.assertEqual(stage.problems(), [])

    def test_at_every_step(self) -> None:
        """Whoever leaves, and whenever: one END, last, and nothing in flight."""
        request = b"POST /api/x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
        start = len(request)
        request += b"1\r\na\r\n0\r\nT: 1\r\n\r\n"
        response = b"HTTP/1.1 103 Hints\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        response += b"1\r\nb\r\n0\r\n\r\n"
        for sent in range(start, len(request) + 1):
            for answered in (*range(0, len(response), 3), len(response)):
                for peer, end in itertools.product(("client", "upstream"), (Wire.fin, Wire.rst)):
                    stage = Stage()
                    client = stage.client(request[:sent])
                    stage.upstream.deliver(response[:answered])
                    end(client if peer == "client" else stage.upstream)
                    stage.turn(MOMENT)
                    client.rst()
                    stage.turn(MOMENT)
                    where = f"{peer} {end.__name__} after {sent} and {answered} bytes"
                    self.assertEqual(stage.problems(), [], where)
                    self.assertEqual(stage.capture.outcome == "complete", answered == len(response), where)
