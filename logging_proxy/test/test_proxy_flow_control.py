"""A slow peer holds back the other side, and nothing piles up in between."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.http.server import ServerLimits
from logging_proxy.proxy import directions
from logging_proxy.recording.records import Kind
from logging_proxy.test.proxy_stage import Stage, Wire, client_of, connection_of, get, limits, ok, post

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
PIECE = bytes(64 * KIB)


def chunked(size: int) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size


class SlowClientTests(SynchronousTestCase):
    def streaming(self, size: int = 10 * GIB) -> tuple[Stage, Wire, Wire]:
        stage = Stage(logging=False)
        client = stage.client(get())
        client.stalled = True
        stage.upstream.deliver(chunked(size))
        return stage, client, stage.upstream

    def test_pauses_the_upstream(self) -> None:
        """A client that does not read stops us from reading; when it reads again, so do we."""
        stage, client, upstream = self.streaming()
        pieces = 0
        while upstream.reading:
            upstream.deliver(PIECE)
            pieces += 1
        self.assertLess(pieces, 5)
        upstream.deliver(PIECE)
        self.assertEqual(upstream.waiting, len(PIECE))
        client.take()
        stage.turn()
        self.assertEqual(upstream.waiting, 0)

    def test_ten_gibibytes(self) -> None:
        """10 GiB through a reader that stalls all the time: never more than 1 MiB held, not a byte lost."""
        stage, client, upstream = self.streaming()
        head = len(chunked(10 * GIB))
        most = arrived = 0
        for _ in range(10 * GIB // len(PIECE)):
            upstream.deliver(PIECE)
            most = max(most, len(client.buffer) + sum(map(len, response_waiting(client))))
            while not upstream.reading:
                arrived += len(client.take())
                client.sent.clear()
                stage.turn()
            self.assertEqual(upstream.waiting, 0)
        arrived += len(client.take())
        self.assertEqual(arrived, head + 10 * GIB)
        self.assertLess(most, MIB)
        self.assertEqual(stage.problems(), [])

    def test_time_does_not_run(self) -> None:
        """While we hold the upstream, its idle time does not run; when we read again, it does."""
        stage = Stage(limits=limits(stream_timeout=30.0))
        client = stage.client(get())
        client.stalled = True
        stage.upstream.deliver(chunked(GIB))
        while stage.upstream.reading:
            stage.upstream.deliver(PIECE)
        stage.pass_time(100)
        self.assertFalse(client.aborted)
        client.take()
        stage.pass_time(31)
        self.assertTrue(client.aborted)
        self.assertEqual(stage.capture.outcome, "upstream_timeout")

    def test_paused_at_the_end(self) -> None:
        """A connection whose last bytes paused it reads again when it is used again."""
        stage = Stage()
        client = stage.client(get())
        client.stalled = True
        stage.upstream.deliver(ok(bytes(100 * KIB)))
        self.assertEqual(stage.capture.outcome, "complete")
        self.assertTrue(stage.upstream.reading)
        client.stalled = False
        client.take()
        client.received()
        client.deliver(get())
        stage.turn()
        self.assertEqual(len(stage.endpoint.wires), 1)
        stage.upstream.deliver(ok(b"again"))
        self.assertTrue(client.received().endswith(b"again"))

    def test_ends_while_bytes_wait(self) -> None:
        """A response that closes the client's connection is handed over whole before it does."""
        stage = Stage()
        client = stage.client(get(version="1.0"))
        client.stalled = True
        stage.upstream.deliver(ok(bytes(100 * KIB)))
        stage.turn()
        self.assertFalse(client.closed)
        client.take()
        self.assertTrue(client.closed)
        self.assertEqual(len(client.sent), len(b"Connection: close\r\n") + len(ok(bytes(100 * KIB))))

    def test_cut_while_bytes_wait(self) -> None:
        """The producer of a client that is reset is let go."""
        stage = Stage()
        client = stage.client(get())
        client.stalled = True
        stage.upstream.deliver(chunked(GIB))
        while stage.upstream.reading:
            stage.upstream.deliver(PIECE)
        stage.upstream.rst()
        self.assertTrue(client.aborted)
        self.assertIsNone(client.producer)
        self.assertEqual(stage.problems(), [])


class SlowUpstreamTests(SynchronousTestCase):
    def test_pauses_the_client(self) -> None:
        """An upstream that does not read stops us from reading the client's body, and lets us go on."""
        stage = Stage()
        client = stage.client(post(bytes(MIB))[:-MIB])
        stage.upstream.stalled = True
        client.deliver(bytes(MIB))
        self.assertFalse(client.reading)
        self.assertLess(stage.upstream.most_buffered, 256 * KIB)
        while client.waiting:
            self.assertTrue(stage.upstream.take())
            stage.turn()
        stage.upstream.take()
        self.assertEqual(stage.capture_bytes(Kind.REQUEST_PIECE), MIB)
        self.assertTrue(bytes(stage.upstream.sent).endswith(bytes(MIB)))
        self.assertTrue(client.reading)

    def test_time_does_not_run(self) -> None:
        """While we hold the client, it is not idle."""
        stage = Stage(server=ServerLimits(body_timeout=30.0))
        client = stage.client(post(bytes(MIB))[:-MIB])
        stage.upstream.stalled = True
        client.deliver(bytes(512 * KIB))
        self.assertFalse(client.reading)
        stage.pass_time(100)
        self.assertEqual(stage.captures[0].kinds[-1], "REQUEST_PIECE")
        stage.upstream.take()
        stage.pass_time(1)
        stage.upstream.stalled = False
        stage.upstream.take()
        stage.pass_time(31)
        self.assertEqual(stage.capture.outcome, "protocol_error")
        self.assertEqual(stage.problems(), [])

    def test_while_connecting(self) -> None:
        """While there is no upstream yet, a bounded part of the body is read."""
        stage = Stage()
        stage.endpoint.manual = True
        client = stage.client(post(bytes(MIB)))
        self.assertFalse(client.reading)
        self.assertGreater(client.waiting, MIB - 200 * KIB)
        stage.endpoint.finish()
        stage.turn()
        self.assertEqual(client.waiting, 0)
        self.assertTrue(bytes(stage.upstream.sent).endswith(bytes(MIB)))
        stage.upstream.deliver(ok())
        self.assertEqual(stage.problems(), [])

    def test_paused_at_the_end(self) -> None:
        """A client whose last bytes paused it can send its next request."""
        stage = Stage()
        client = stage.client(post(bytes(150 * KIB))[: -100 * KIB])
        stage.upstream.stalled = True
        client.deliver(bytes(100 * KIB))
        self.assertFalse(client.reading)
        stage.turn()
        stage.upstream.deliver(ok())
        stage.turn()
        client.received()
        client.deliver(get("/api/next"))
        stage.turn()
        self.assertTrue(stage.upstream.received().startswith(b"GET /next "))
        self.assertEqual(len(stage.endpoint.wires), 2)


class FullSpoolTests(SynchronousTestCase):
    def test_nothing_passes_unrecorded(self) -> None:
        """While the spool is full nothing goes either way, both peers are held; then all goes in order."""
        stage = Stage()
        request = b"POST /api/x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
        client = stage.client(request)
        upstream = stage.upstream
        upstream.deliver(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        client.received(), upstream.received()
        stage.freeze_spool()
        client.deliver(b"1\r\na\r\n")
        upstream.deliver(b"1\r\nA\r\n")
        self.assertEqual((client.reading, upstream.reading), (False, False))
        client.deliver(b"1\r\nb\r\n0\r\n\r\n")
        upstream.deliver(b"1\r\nB\r\n0\r\n\r\n")
        self.assertEqual((client.received(), upstream.received()), (b"", b""))
        stage.thaw_spool()
        stage.turn()
        self.assertEqual(upstream.received(), b"1\r\na\r\n1\r\nb\r\n0\r\n\r\n")
        self.assertEqual(client.received(), b"1\r\nA\r\n1\r\nB\r\n0\r\n\r\n")
        self.assertEqual(stage.capture.body(Kind.REQUEST_PIECE), b"ab")
        self.assertEqual(stage.capture.body(Kind.RESPONSE_PIECE), b"AB")
        self.assertEqual(stage.problems(), [])

    def test_full_before_the_request(self) -> None:
        """A request that comes while the spool is full goes out when its head is recorded."""
        stage = Stage()
        stage.freeze_spool()
        client = stage.client(get())
        self.assertEqual(stage.upstream.received(), b"")
        stage.thaw_spool()
        self.assertTrue(stage.upstream.received().startswith(b"GET /x "))
        stage.upstream.deliver(ok())
        self.assertEqual(client.received(), ok())

    def test_full_while_connecting(self) -> None:
        """A spool that fills up, because of others, between a request and its connection is waited for."""
        stage = Stage()
        stage.endpoint.manual = True
        stage.client(get("/api/1"))
        stage.freeze_spool()
        stage.client(get("/api/2"))
        stage.endpoint.finish()
        self.assertEqual(stage.upstream.received(), b"")
        stage.thaw_spool()
        self.assertTrue(stage.upstream.received().startswith(b"GET /1 "))

    def test_filled_again_by_another(self) -> None:
        """If another waiter takes the room first, the direction waits again."""
        stage = Stage()
        client = stage.client(get("/api/1"))
        stage.freeze_spool()
        stage.writer.write(99, [(int(Kind.NOTE), 0, b"{}")])

        def fill(_: object) -> None:
            stage.ring.frozen = True
            stage.writer.write(99, [(int(Kind.NOTE), 0, b"{}")])

        stage.writer.when_room().addCallback(fill)
        stage.upstream.deliver(ok())
        stage.thaw_spool()
        self.assertEqual(client.received(), b"")
        stage.thaw_spool()
        self.assertEqual(client.received(), ok())
        self.assertTrue(stage.pool.take() is client_of(stage.upstream))

    def test_our_answers_wait_too(self) -> None:
        """The proxy's own responses are recorded before they are sent: a 404, and a 502."""
        stage = Stage()
        stage.endpoint.failure = ConnectionRefusedError()
        stage.freeze_spool()
        clients = [stage.client(get("/nowhere")), stage.client(get())]
        self.assertEqual([client.received() for client in clients], [b"", b""])
        stage.thaw_spool()
        self.assertTrue(clients[0].received().startswith(b"HTTP/1.1 404 "))
        self.assertTrue(clients[1].received().startswith(b"HTTP/1.1 5"))
        self.assertEqual(stage.problems(), [])

    def test_client_leaves_before_our_answer(self) -> None:
        """A client that leaves while our answer waits leaves nothing behind."""
        stage = Stage()
        stage.endpoint.failure = ConnectionRefusedError()
        stage.freeze_spool()
        for target in ("/nowhere", "/api/x"):
            client = stage.client(get(target))
            client.rst()
        stage.thaw_spool()
        self.assertEqual(len(stage.site.connections), 0)
        self.assertEqual(stage.problems(), [])

    def test_passing_on_a_failed_spool(self) -> None:
        """With `on_capture_error: pass`, a spool that fails releases the waiting bytes."""
        stage = Stage()
        client = stage.client(get())
        stage.freeze_spool()
        stage.upstream.deliver(ok(b"abc"))
        self.assertEqual(client.received(), b"")
        stage.writer.spool_moved("disk full")
        self.assertTrue(client.received().endswith(b"abc"))
        self.assertEqual(stage.in_flight, 0)

    def test_blocking_on_a_failed_spool(self) -> None:
        """With `block`, a new request is answered 503 and no upstream is touched."""
        stage = Stage(pass_on_failure=False)
        stage.writer.spool_moved("disk full")
        client = stage.client(get())
        received = client.received()
        self.assertTrue(received.startswith(b"HTTP/1.1 503 "))
        self.assertIn(b"(exchange ", received)
        self.assertNotIn(b"disk", received)
        self.assertEqual(stage.endpoint.wires, [])
        self.assertEqual(stage.captures, [])


def response_waiting(client: Wire) -> list[bytes]:
    """Bytes that the proxy itself holds for a client."""
    exchange = connection_of(client)._responder
    response = getattr(exchange, "response", None)
    return response._waiting if response is not None else []


class ReadSizeTests(SynchronousTestCase):
    """How much of a large body is read at a time, straight into the spool."""

    def setUp(self) -> None:
        self.stage = Stage()
        self.client = self.stage.client(get())
        self.upstream = client_of(self.stage.upstream)

    def next_read(self) -> int:
        place = self.upstream._read_buffer()
        return 0 if place is None else len(place)

    def begin(self, length: int) -> None:
        self.stage.upstream.deliver(chunked(length))

    def test_grows(self) -> None:
        """Twice as much each time, up to a limit, and from the least on again when the client is slow."""
        self.begin(GIB)
        sizes = [self.next_read() for _ in range(6)]
        self.assertEqual(sizes, [64 * KIB, 128 * KIB, 256 * KIB, 512 * KIB, MIB, MIB])
        half: Any = self.upstream._receiver
        half.pauseProducing()
        half.resumeProducing()
        self.assertEqual(self.next_read(), 64 * KIB)

    def test_client_falls_behind(self) -> None:
        """Less, soon no more than the least, while the client has not received as much as would be read."""
        asked: list[Any] = []
        missing = 0

        def unreceived(transport: Any) -> int:
            asked.append(transport)
            return missing

        self.patch(directions, "unreceived", unreceived)
        self.begin(GIB)
        self.assertEqual([self.next_read() for _ in range(3)], [64 * KIB, 128 * KIB, 256 * KIB])
        missing = 512 * KIB - 1
        self.assertEqual(self.next_read(), 512 * KIB)
        missing = MIB
        sizes = [self.next_read() for _ in range(4)]
        self.assertEqual(sizes, [256 * KIB, 128 * KIB, 64 * KIB, 64 * KIB])
        missing = 0
        self.assertEqual([self.next_read() for _ in range(2)], [128 * KIB, 256 * KIB])
        self.assertEqual(set(asked), {connection_of(self.client).transport})

    def test_not_the_last_byte(self) -> None:
        """With the last byte of a body comes its end: that is read the ordinary way."""
        self.begin(100 * KIB)
        self.assertEqual([self.next_read(), self.next_read()], [64 * KIB, 100 * KIB - 1])
        self.begin_another(64 * KIB)
        self.assertEqual(self.next_read(), 0)

    def begin_another(self, length: int) -> None:
        self.stage.upstream.deliver(bytes(100 * KIB))
        self.client.deliver(get())
        self.begin(length)

    def test_never(self) -> None:
        """Not between bodies, not of chunks, and not while something waits."""
        self.assertEqual(self.next_read(), 0)
        self.begin(GIB)
        self.stage.freeze_spool()
        self.assertEqual(self.next_read(), 0)
        self.stage.thaw_spool()
        self.assertGreater(self.next_read(), 0)
        half: Any = self.upstream._receiver
        half._waiting.append(b"x")
        self.assertEqual(self.next_read(), 0)

    def test_not_recorded(self) -> None:
        """Unrecorded bodies are read into shared memory, and sent before it is used again."""
        stage = Stage(logging=False)
        client = stage.client(get())
        upstream = client_of(stage.upstream)
        stage.upstream.deliver(chunked(3 * MIB))
        client.received()
        sent = b""
        for letter in b"ab":
            place = upstream._read_buffer()
            assert place is not None
            place[:] = bytes([letter]) * len(place)
            sent += bytes(place)
            upstream.dataReceived(place)  # type: ignore[arg-type]
        self.assertEqual(client.received(), sent)

    def test_chunks(self) -> None:
        """Chunks are taken apart first."""
        self.stage.upstream.deliver(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n100000\r\n")
        self.assertEqual(self.next_read(), 0)
