"""Requests that show the token of a log directory."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent
from zope.interface import implementer
from zope.interface.verify import verifyObject

from logging_proxy.shipping.bearer import BearerAgent


class Answer:
    def __init__(self, code: int) -> None:
        self.code = code


@implementer(IAgent)
class Line:
    """Answers with one status, and keeps what was asked."""

    def __init__(self) -> None:
        self.code = 200
        self.shown: list[str | None] = []
        self.asked: list[Any] = []

    def request(
        self, method: bytes, uri: bytes, headers: Any = None, bodyProducer: Any = None
    ) -> Deferred[Any]:
        self.shown.append((headers.getRawHeaders("Authorization") or [None])[0])
        self.asked.append((method, uri, headers.getRawHeaders("X"), bodyProducer))
        return succeed(Answer(self.code))


class BearerTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.line = Line()
        self.tokens: list[str | None] = []
        self.agent = BearerAgent(self.line, lambda: self.tokens.pop(0))

    def ask(self) -> int:
        answer: Any = self.successResultOf(self.agent.request(b"GET", b"http://localhost/"))
        return int(answer.code)

    def test_interface(self) -> None:
        """It is an agent."""
        verifyObject(IAgent, self.agent)

    def test_shown(self) -> None:
        """The token is read once, and shown with each request; all else stays as it is."""
        self.tokens = ["one"]
        given = Headers({"X": ["y"]})
        body: Any = object()
        self.agent.request(b"POST", b"http://localhost/a", given, body)
        self.ask()
        self.assertEqual(self.line.shown, ["Bearer one", "Bearer one"])
        self.assertEqual(self.line.asked[0], (b"POST", b"http://localhost/a", ["y"], body))
        self.assertFalse(given.hasHeader("Authorization"))

    def test_made_later(self) -> None:
        """While there is none nothing is shown, and it is looked for again."""
        self.tokens = [None, "one"]
        self.ask()
        self.ask()
        self.assertEqual(self.line.shown, [None, "Bearer one"])

    def test_refused(self) -> None:
        """One that is refused is read again for the next request."""
        self.tokens = ["old", "new"]
        self.line.code = 401
        self.assertEqual(self.ask(), 401)
        self.line.code = 200
        self.ask()
        self.ask()
        self.assertEqual(self.line.shown, ["Bearer old", "Bearer new", "Bearer new"])
