"""What the console says of exchanges: a line for each, and one more if it does not end well."""

from __future__ import annotations

from twisted.internet.error import ConnectionRefusedError
from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.service.console import ConsoleObserver
from logging_proxy.test.proxy_stage import Stage, get, ok
from logging_proxy.test.test_proxy_tunnel import ASKED, SWITCH


class ConsoleTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.said: list[str] = []
        self.stage = Stage(observers=[ConsoleObserver(self)])

    def stamp(self) -> str:
        return "now"

    def line(self, text: str) -> None:
        self.said.append(text)

    @property
    def short_id(self) -> str:
        """The beginning of the only exchange's UUID."""
        id: bytes = self.stage.capture.opening.id
        return id[:4].hex()

    def test_refused(self) -> None:
        """An upstream that refuses is said once, with the exchange's id, the outcome and the reason."""
        self.stage.endpoint.failure = ConnectionRefusedError()
        self.stage.client(get())
        first, second = self.said
        self.assertEqual(first, f"now [{self.short_id}] GET /api/x -> http://up.example/x [log]")
        self.assertTrue(second.startswith(f"now [{self.short_id}] connect_failed: "), second)
        self.assertIn("refused", second)

    def test_well(self) -> None:
        """An exchange that is complete has one line, and so has one that its client leaves."""
        self.stage.client(get())
        self.stage.upstream.deliver(ok())
        self.stage.client(get()).fin()
        self.stage.turn()
        self.assertEqual(len(self.said), 2)

    def test_malformed(self) -> None:
        """A malformed request has a first line as well, and then the fault."""
        self.stage.client(b"nonsense\r\n\r\n")
        first, second = self.said
        self.assertIn("- - -> BAD_REQUEST [log]", first)
        self.assertIn("protocol_error: client: ", second)

    def test_tunnel(self) -> None:
        """A tunnel that is cut has its second line as well."""
        self.stage.client(get("/api/x", *ASKED))
        self.stage.upstream.deliver(SWITCH)
        self.stage.upstream.rst()
        self.stage.turn()
        self.assertIn(f"[{self.short_id}] upstream_reset: ", self.said[1])
