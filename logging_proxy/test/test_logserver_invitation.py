"""How a browser gets in where the kernel does not tell who calls."""

from __future__ import annotations

import os
from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.configuration import LoggingServerOptions, Secret
from logging_proxy.recording.token_file import token_for
from logging_proxy.service.invitation import invite
from logging_proxy.service.output import Output, Terminal


def read_token(log_dir: str) -> str | None:
    """The token of a log directory, for a server of whom nothing can be told."""
    return token_for("http://localhost:8080", log_dir, lambda address, port: None)


class Screen(Terminal):
    """A terminal with a person before it, or a pipe."""

    def __init__(self, person: bool) -> None:
        super().__init__(-1)
        self.text = ""
        self._person = person

    def write(self, data: bytes) -> None:
        self.text += data.decode()

    def has_a_person(self) -> bool:
        return self._person


class InvitationTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.options = LoggingServerOptions(log_dir=os.path.abspath(self.mktemp()))

    def said(self, tells: bool = False, person: bool = True, **more: object) -> str:
        screen = Screen(person)
        output = Output(screen, lambda: 0.0)
        invite(replace(self.options, **more), 8080, output, lambda: tells)  # type: ignore[arg-type]
        output.close()
        return screen.text

    def test_person(self) -> None:
        """A person at the terminal is told the address with the token of the log directory."""
        said = self.said()
        token = read_token(self.options.log_dir)
        assert token is not None
        self.assertTrue(said.endswith(f" To look at captures open http://localhost:8080/?token={token}\n"))
        self.assertIn(f"http://[::1]:8080/?token={token}\n", self.said(host="::1"))

    def test_log(self) -> None:
        """Anything else than a terminal never gets the token, but where it is."""
        said = self.said(person=False)
        token = read_token(self.options.log_dir)
        assert token is not None
        self.assertNotIn(token, said)
        self.assertIn(
            f"open http://localhost:8080/, its parameter `token` as in {self.options.log_dir}/", said
        )

    def test_not_needed(self) -> None:
        """Nothing is told where the kernel tells, where a token is configured, or where none is asked for."""
        self.assertEqual(self.said(tells=True), "")
        self.assertEqual(self.said(token=Secret("x" * 20)), "")
        self.assertEqual(self.said(open_to="machine"), "")
        self.assertFalse(os.path.exists(self.options.log_dir))

    def test_no_token(self) -> None:
        """Where no token can be kept there is none to tell."""
        with open(self.options.log_dir, "w"):
            pass
        self.assertEqual(self.said(), "")
