"""What is said of a new configuration."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.configuration import Configuration, read_configuration
from logging_proxy.service import changes

BEFORE = """
logging_server: {log_dir: logs}
routes:
  stays: {pattern: "/stays/", destination: "http://a.example/"}
  moves: {pattern: "/moves/", destination: "http://a.example/"}
  goes: {pattern: "/goes/", destination: "http://a.example/"}
"""

AFTER = """
logging: {on_capture_error: block, console: false}
logging_server: {log_dir: elsewhere}
routes:
  comes: {pattern: "/comes/", destination: "http://a.example/"}
  moves: {pattern: "/moves/", destination: "http://b.example/"}
  stays: {pattern: "/stays/", destination: "http://a.example/"}
"""


def configuration(text: str) -> Configuration:
    return read_configuration(text, "config.yaml", {})


class ChangesTests(SynchronousTestCase):
    def test_routes(self) -> None:
        """Routes that are new, gone or different are named; one that stays is not."""
        lines = sorted(changes.routes(configuration(BEFORE), configuration(AFTER)))
        self.assertEqual(
            lines,
            [
                "route comes is new",
                "route goes is gone; its exchanges in flight finish",
                "route moves has changed",
            ],
        )

    def test_waiting(self) -> None:
        """Keys that are read at the start only are named; those that take effect at once are not."""
        found = changes.waiting(configuration(BEFORE), configuration(AFTER))
        self.assertEqual(found, ["logging.on_capture_error", "logging_server.log_dir"])

    def test_workers(self) -> None:
        """Another number of workers is for the next start."""
        found = changes.waiting(configuration("{}"), configuration("server: {workers: auto}"))
        self.assertEqual(found, ["server.workers"])

    def test_nothing(self) -> None:
        """The same configuration changes nothing."""
        same = configuration(BEFORE), configuration(BEFORE)
        self.assertEqual((list(changes.routes(*same)), changes.waiting(*same)), ([], []))
