"""Which captures are meant, and which token is shown for them."""

from __future__ import annotations

import os
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.cli import choosing
from logging_proxy.cli.choosing import Choice, choose
from logging_proxy.recording.token_file import keep_token

CONFIGURED = "configured-by-a-person"


class Source:
    """A logging server that answers."""

    def __init__(self, server: Any) -> None:
        self.server = server

    trouble = ""

    def check(self) -> str:
        """What is wrong with it."""
        return self.trouble


class TokenTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.shown: list[tuple[str, str | None]] = []
        self.patch(choosing, "Server", lambda url, token: self.shown.append((url, token)))
        self.patch(choosing, "ApiSource", Source)
        self.log_dir = os.path.abspath(self.mktemp())
        self.kept = keep_token(self.log_dir)

    def config(self, more: str = "", logging: str = "{}") -> str:
        path: str = os.path.abspath(self.mktemp())
        with open(path, "w") as file:
            # Nobody listens at port 1: not another user either, who would not be shown the token.
            file.write(f"logging: {logging}\nlogging_server: {{port: 1, log_dir: {self.log_dir}{more}}}\n")
        return path

    def chosen(self, config: str | None, url: str | None = None, **environ: str) -> tuple[str, str | None]:
        choose(Choice(config, url), environ, lambda text: None)
        return self.shown[-1]

    def test_configured(self) -> None:
        """A token that is configured is the one."""
        config = self.config(f", token: {CONFIGURED}")
        self.assertEqual(self.chosen(config), ("http://localhost:1", CONFIGURED))

    def test_kept(self) -> None:
        """Without one it is the token that the server keeps in its log directory."""
        self.assertEqual(self.chosen(self.config()), ("http://localhost:1", self.kept))

    def test_environment(self) -> None:
        """The environment's comes before both."""
        for more in ("", f", token: {CONFIGURED}"):
            self.assertEqual(self.chosen(self.config(more), LOGGING_PROXY_TOKEN="x")[1], "x")

    def test_url(self) -> None:
        """To a URL of its own a token goes if the configuration is named too; the kept one stays here."""
        config, configured = self.config(), self.config(f", token: {CONFIGURED}")
        self.assertEqual(self.chosen(config, "http://127.0.0.1:1")[1], self.kept)
        self.assertEqual(self.chosen(config, "http://logs.example")[1], None)
        self.assertEqual(self.chosen(configured, "http://logs.example")[1], CONFIGURED)
        self.assertEqual(self.chosen(None, "http://127.0.0.1:1")[1], None)

    def test_elsewhere(self) -> None:
        """The kept token is not shown to a logging server on another machine."""
        config = self.config(logging='{server_url: "http://logs.example:8080"}')
        self.assertEqual(self.chosen(config), ("http://logs.example:8080", None))

    def test_trouble(self) -> None:
        """Trouble of a server that answers is told."""
        told: list[str] = []
        for trouble in ("", "http://localhost:1: No space left on device"):
            self.patch(Source, "trouble", trouble)
            choose(Choice(self.config()), {}, lambda text: None, told.append)
        self.assertEqual(
            told, ["the logging server is in trouble: http://localhost:1: No space left on device"]
        )
