"""How a browser gets in where the kernel does not tell who calls."""

from __future__ import annotations

import os
from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.configuration import LoggingServerOptions, Secret
from logging_proxy.recording.token_file import token_for
from logging_proxy.service.invitation import Page, page_of


def read_token(log_dir: str) -> str | None:
    """The token of a log directory, for a server of whom nothing can be told."""
    return token_for("http://localhost:8080", log_dir, lambda address, port: None)


class InvitationTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.options = LoggingServerOptions(log_dir=os.path.abspath(self.mktemp()))

    def page(self, tells: bool = False, **more: object) -> Page:
        return page_of(replace(self.options, **more), 8080, lambda: tells)  # type: ignore[arg-type]

    def test_token(self) -> None:
        """A person is told the address with the token; a log never gets that, but where it is."""
        page = self.page()
        token = read_token(self.options.log_dir)
        assert token is not None
        self.assertEqual(page.confided, f"http://localhost:8080/?token={token}")
        self.assertEqual(
            page.logged, f"http://localhost:8080/ with the token in {self.options.log_dir}/.token"
        )
        self.assertEqual(self.page(host="::1").confided, f"http://[::1]:8080/?token={token}")

    def test_not_needed(self) -> None:
        """The address is enough where the kernel tells, a token is configured, or none is asked for."""
        plain = Page("http://localhost:8080/", "http://localhost:8080/")
        self.assertEqual(self.page(tells=True), plain)
        self.assertEqual(self.page(token=Secret("x" * 20)), plain)
        self.assertEqual(self.page(open_to="machine"), plain)
        self.assertEqual(self.page(tells=True, host="0.0.0.0"), plain)
        self.assertFalse(os.path.exists(self.options.log_dir))

    def test_no_token(self) -> None:
        """Where no token can be kept there is none to tell."""
        with open(self.options.log_dir, "w"):
            pass
        self.assertEqual(self.page().confided, "http://localhost:8080/")
