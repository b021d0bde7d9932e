"""What the console says of exchanges: a line when one begins, and one when it ends."""

from __future__ import annotations

from twisted.internet.error import ConnectionRefusedError
from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.recording.records import Kind
from logging_proxy.service.console import ConsoleObserver
from logging_proxy.test.proxy_stage import Stage, get, ok, post
from logging_proxy.test.test_proxy_tunnel import ASKED, SWITCH


class ConsoleTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.said: list[str] = []
        self.now = 1000.0
        self.observer = ConsoleObserver(self, now=lambda: self.now)
        self.stage = Stage(observers=[self.observer])

    def stamp(self) -> str:
        return "now"

    def line(self, text: str) -> None:
        self.said.append(text)

    @property
    def short_id(self) -> str:
        """The beginning of the only exchange's UUID."""
        id: bytes = self.stage.capture.opening.id
        return id[:4].hex()

    def end(self, line: str) -> str:
        """What a second line says, without the time of the answer."""
        start = f"now [{self.short_id}] "
        self.assertTrue(line.startswith(start), line)
        return line.removeprefix(start)

    def test_refused(self) -> None:
        """An upstream that refuses is said once, with the exchange's id, the outcome and the reason."""
        self.stage.endpoint.failure = ConnectionRefusedError()
        self.stage.client(get())
        first, second = self.said
        self.assertEqual(first, f"now [{self.short_id}] GET /api/x -> http://up.example/x [log]")
        size = len(self.stage.capture.body(Kind.RESPONSE_PIECE))
        self.assertTrue(self.end(second).startswith(f"502 connect_failed 0.0 ms · 0 B → {size} B: "), second)
        self.assertIn("refused", second)

    def test_well(self) -> None:
        """The end of an exchange has status, outcome, times and the sizes of both bodies."""
        client = self.stage.client(post(b"12345"))
        self.now += 0.352
        self.stage.upstream.deliver(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        self.now += 7.6
        self.stage.upstream.deliver(b"4\r\ndefg\r\n0\r\n\r\n")
        self.assertEqual(self.end(self.said[1]), "200 complete 8.0 s · first byte 352 ms · 5 B → 7 B")
        client.deliver(get("/nope"))
        size = len(self.stage.captures[1].body(Kind.RESPONSE_PIECE))
        self.assertTrue(self.said[3].endswith(f"] 404 complete 0.0 ms · 0 B → {size} B"), self.said[3])

    def test_statuses(self) -> None:
        """What a destination refuses is told apart from what it answers well."""
        for status in (429, 500):
            self.said.clear()
            self.stage.client(get())
            self.stage.upstream.deliver(b"HTTP/1.1 %d No\r\nContent-Length: 0\r\n\r\n" % status)
            self.assertIn(f"] {status} complete ", self.said[1])

    def test_client_leaves(self) -> None:
        """A client that leaves is said, before a response and within one."""
        self.stage.client(get()).fin()
        self.now += 2
        self.stage.turn()
        self.assertEqual(self.end(self.said[1]), "- client_closed 0.0 ms · 0 B → 0 B")
        client = self.stage.client(get())
        self.stage.upstream.deliver(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
        client.rst()
        self.stage.turn()
        self.assertTrue(self.said[3].endswith("] 200 client_closed 0.0 ms · first byte 0.0 ms · 0 B → 3 B"))

    def test_malformed(self) -> None:
        """A malformed request has a first line as well, and then the fault."""
        self.stage.client(b"nonsense\r\n\r\n")
        first, second = self.said
        self.assertIn("- - -> BAD_REQUEST [log]", first)
        self.assertTrue(self.end(second).startswith("400 protocol_error 0.0 ms · 0 B → "), second)
        self.assertIn(" B: client: ", second)

    def test_tunnel(self) -> None:
        """A tunnel that is cut has its second line as well, with what it has carried."""
        client = self.stage.client(get("/api/x", *ASKED))
        self.stage.upstream.deliver(SWITCH + b"hello")
        client.deliver(b"up")
        self.stage.upstream.deliver(b"down")
        self.stage.upstream.rst()
        self.stage.turn()
        expected = "101 upstream_reset 0.0 ms · first byte 0.0 ms · 2 B → 9 B: "
        self.assertTrue(self.end(self.said[1]).startswith(expected), self.said[1])

    def test_brief(self) -> None:
        """With `brief` an exchange has one line, which says what was asked for."""
        self.stage = Stage(observers=[ConsoleObserver(self, brief=True, now=lambda: self.now)])
        self.stage.client(get("/api/x?token=secret"))
        self.stage.upstream.deliver(ok(b"hello"))
        expected = "200 complete 0.0 ms · first byte 0.0 ms · 0 B → 5 B · GET /api/x?token=REDACTED"
        self.assertEqual([self.end(line) for line in self.said], [expected])

    def test_nothing_is_kept(self) -> None:
        """Of exchanges that have ended nothing stays in memory."""
        self.stage.client(get())
        self.stage.upstream.deliver(ok())
        self.stage.client(get("/nope"))
        self.stage.client(b"nonsense\r\n\r\n")
        self.stage.client(get()).rst()
        self.stage.turn()
        self.assertEqual(len(self.said), 8)
        self.assertEqual(self.observer._under_way, {})
