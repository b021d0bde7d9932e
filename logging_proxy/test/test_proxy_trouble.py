"""What is said of exchanges that do not end well."""

from __future__ import annotations

from twisted.internet.error import ConnectionRefusedError
from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.test.proxy_stage import Stage, get, ok


class TroubleTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.stage = Stage()
        self.said: list[tuple[bytes, str, str]] = []
        self.stage.surroundings.trouble = lambda *line: self.said.append(line)

    def test_refused(self) -> None:
        """An upstream that refuses is said once, with the exchange's id, the outcome and the reason."""
        self.stage.endpoint.failure = ConnectionRefusedError()
        self.stage.client(get())
        [(id, outcome, error)] = self.said
        self.assertEqual((id, outcome), (self.stage.capture.opening.id, "connect_failed"))
        self.assertIn("refused", error)

    def test_well(self) -> None:
        """Nothing is said of an exchange that is complete, nor of a client that leaves."""
        self.stage.client(get())
        self.stage.upstream.deliver(ok())
        self.stage.client(get()).fin()
        self.stage.turn()
        self.assertEqual(self.said, [])
