"""Captures over the API of a real logging server, in memory."""

from __future__ import annotations

import json
import socket
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.cli.api import ApiSource
from logging_proxy.cli.connection import Server
from logging_proxy.cli.sources import NoServer, Refusal, Trouble
from logging_proxy.index import BadFilter
from logging_proxy.logserver.ingest.spools import Status
from logging_proxy.test.cli_stage import connector, until_none
from logging_proxy.test.web_stage import ServerTestCase

BODY = b'{"model":"gpt-5","messages":[{"content":"apples and pears"}]}'


class ApiCase(ServerTestCase):
    def source(self, token: str | None = None) -> ApiSource:
        server = Server("http://localhost:8080/", token, connector(self.server.site))
        return ApiSource(server, lambda seconds: self.fail("waited"))


class ApiTests(ApiCase):
    def test_list(self) -> None:
        """Exchanges come newest first, page after page, with what is under way."""
        ids = [self.capture(number, route=b"a") for number in range(1, 61)]
        script = self.script(61)
        self.record(script.head())
        rows = list(self.source().list({}))
        self.assertEqual([row["id"] for row in rows], [self.id_of(61), *reversed(ids)])
        self.assertIsNone(rows[0]["outcome"])
        self.assertEqual(len(list(self.source().list({"route": "lmstudio"}))), 1)

    def test_get(self) -> None:
        """An exchange comes with the metadata of its halves, secrets and all: they are hidden here."""
        id = self.capture(7, BODY)
        for text in (id, id[:4], id[:10]):
            exchange = self.source().get(text)
            self.assertEqual(exchange.id, id)
            assert exchange.request is not None and exchange.response is not None
            self.assertEqual(exchange.request["bytes"], len(BODY))
            self.assertTrue(exchange.response["pieces"])

    def test_refused(self) -> None:
        """What is nobody's, or not only one's, is refused."""
        self.capture(7)
        for text in ("ffff", self.id_of(9), "zz"):
            with self.assertRaises(Trouble):
                self.source().get(text)

    def test_body(self) -> None:
        """The bytes of a half are those of its file; none when it has not begun."""
        source = self.source()
        exchange = source.get(self.capture(7, BODY))
        content = b"".join(source.body(exchange, "request"))
        self.assertTrue(content.startswith(b"POST /v1/chat HTTP/1.1\r\n"))
        self.assertTrue(content.endswith(b"\r\n\r\n" + BODY))
        self.record(self.script(8).head())
        exchange = source.get(self.id_of(8))
        self.assertEqual(b"".join(source.body(exchange, "response")), b"")

    def test_search(self) -> None:
        """A search finds by text, and shows the place."""
        self.capture(1, BODY)
        self.capture(2, b'{"text":"nothing"}')
        (found,) = self.source().search("pears", {})
        self.assertEqual((found.row["id"], found.side), (self.id_of(1), "request"))
        self.assertEqual(found.text, "gpt-5 apples and pears")
        self.assertEqual(list(self.source().search("pears", {"route": "configured"})), [])

    def test_live(self) -> None:
        """The feed tells of start, response, pieces and end."""
        live = self.source().live()
        self.assertEqual([event["type"] for event in until_none(live)], ["hello"])
        self.capture(3, BODY)
        self.clock.advance(0)
        events = until_none(live)
        kinds = [event["type"] for event in events]
        self.assertEqual(
            [kind for kind in kinds if kind != "indexed"], ["start", "piece", "response", "piece", "end"]
        )
        self.assertEqual({event["id"] for event in events}, {self.id_of(3)})

    def test_resumes(self) -> None:
        """A feed that ended is asked for what came after the last event: none is missing or double."""
        waits: list[float] = []
        source = ApiSource(Server("http://localhost:8080", None, connector(self.server.site)), waits.append)
        live = source.live()
        until_none(live)
        self.capture(3)
        self.clock.advance(0)
        seen = [event["sequence"] for event in until_none(live)]
        self.server.viewers.stopService()
        self.capture(4)
        self.assertEqual(until_none(live), [])
        self.assertEqual(waits, [1.0])
        events = [event for event in until_none(live) if event["type"] != "hello"]
        self.assertEqual({event["id"] for event in events}, {self.id_of(4)})
        self.assertEqual([event["sequence"] for event in events][0], seen[-1] + 1)

    def test_check(self) -> None:
        """A logging server is known by its health, in trouble as well: then it says why."""
        self.assertEqual(self.source().check(), "")
        self.spools.status = Status(trouble="No space left on device")
        self.assertEqual(self.source().check(), "http://localhost:8080: No space left on device")

    def test_bad_filter(self) -> None:
        """What the server refuses is said in its words."""
        self.capture(1)
        for name, value, words in (
            ("status", "nine", "neither a status such as 200 nor a class such as 4xx"),
            ("route", "nope", "there is no such route; known routes: configured, lmstudio"),
        ):
            error = self.assertRaises(BadFilter, list, self.source().list({name: value}))
            self.assertEqual((error.name, error.reason), (name, words))


class TokenTests(ApiCase):
    token = "right-token-right-token-right-token"

    def test_token(self) -> None:
        """The token opens; without it, or with a wrong one, the error says what to do."""
        id = self.capture(1)
        self.assertEqual([row["id"] for row in self.source(self.token).list({})], [id])
        with self.assertRaisesRegex(Refusal, "a token is required.*LOGGING_PROXY_TOKEN"):
            list(self.source().list({}))
        with self.assertRaisesRegex(Refusal, "the token is wrong"):
            list(self.source("wrong").list({}))

    def test_live(self) -> None:
        """The live feed takes the token, and refuses without."""
        self.assertEqual([event["type"] for event in until_none(self.source(self.token).live())], ["hello"])
        with self.assertRaises(Refusal):
            next(self.source().live())


class _Speaks:
    """A socket whose other end always says the same."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer

    def sendall(self, data: bytes) -> None: ...

    def settimeout(self, seconds: float) -> None: ...

    def close(self) -> None: ...

    def recv(self, size: int) -> bytes:
        answer, self._answer = self._answer, b""
        return answer

    def makefile(self, mode: str) -> Any:
        import io

        return io.BytesIO(self._answer)


class OtherServerTests(SynchronousTestCase):
    def source(self, answer: bytes) -> ApiSource:
        connect: Any = lambda host, port, secure: _Speaks(answer)  # noqa: E731
        return ApiSource(Server("http://localhost:8080", None, connect))

    def answer(self, body: bytes, status: int = 200) -> bytes:
        return b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body)

    def test_not_ours(self) -> None:
        """Whatever else listens there is no logging server, and no traceback."""
        for answer in (
            b"",
            b"SSH-2.0-x\r\n",
            self.answer(b"<html>"),
            self.answer(b"[]"),
            self.answer(b"{}", 404),
            self.answer(b"[" * 100_000),
            b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{",
        ):
            with self.assertRaises(NoServer):
                self.source(answer).check()

    def test_list_of_something(self) -> None:
        """An answer of another form is refused."""
        values: tuple[Any, ...] = (
            [],
            {},
            {"exchanges": 7, "next": None},
            {"exchanges": [7], "next": None},
            {"exchanges": [{}], "next": None},
        )
        for value in values:
            with self.assertRaises(NoServer):
                list(self.source(self.answer(json.dumps(value).encode())).list({}))

    def test_trouble(self) -> None:
        """What its health says is wrong is told with any status, and made safe."""
        for status in (200, 503):
            body = json.dumps({"status": "trouble", "reason": "index: \x1b[2J"}).encode()
            trouble = self.source(self.answer(body, status)).check()
            self.assertEqual(trouble, "http://localhost:8080: index: \\x1b[2J")

    def test_one_of_something(self) -> None:
        """Nor is anything else taken for an exchange."""
        values: tuple[Any, ...] = ([], {}, 7, None, "id")
        for value in values:
            with self.assertRaises(NoServer):
                self.source(self.answer(json.dumps(value).encode())).get(ServerTestCase().id_of(1))

    def test_addresses(self) -> None:
        """What is no address, or no token that can be sent, is said before anything is sent."""
        for url in (
            "http://a..b/",
            f"http://{'a' * 64}/",
            "http://a b/",
            "http://a\nb/",
            "http://[::1",
            "x://h",
        ):
            with self.assertRaises(Trouble):
                Server(url)
        for token in ("a\nb", "a b", "\u20ac"):
            with self.assertRaises(Trouble) as caught:
                Server("http://localhost", token)
            self.assertNotIn(token, str(caught.exception))

    def test_secrets_in_addresses(self) -> None:
        """A password in a URL is never said again."""
        for url in (
            "http://u:canary@h/",
            "x://u:canary@h/",
            "http://u:canary@h:x/",
            "http://h/?token=canary",
        ):
            try:
                shown = Server(url).url
            except Trouble as error:
                shown = str(error)
            self.assertNotIn("canary", shown)

    def test_hostile_words(self) -> None:
        """What a server says of its trouble is made safe."""
        body = json.dumps({"title": "no\x1b[2J", "detail": "x" * 5000}).encode()
        with self.assertRaises(Refusal) as caught:
            list(self.source(self.answer(body, 500)).list({}))
        self.assertTrue(str(caught.exception).isprintable())
        self.assertLess(len(str(caught.exception)), 500)

    def test_cut(self) -> None:
        """A download that is cut is not taken for all."""
        source = self.source(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nabc")
        from logging_proxy.cli.sources import Exchange

        with self.assertRaises(Trouble):
            list(source.body(Exchange({"id": "x"}), "request"))

    def test_nobody(self) -> None:
        """Where nobody listens there is no server."""
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            port = unused.getsockname()[1]
        with self.assertRaisesRegex(NoServer, "no logging server listens"):
            ApiSource(Server(f"http://127.0.0.1:{port}")).check()

    def test_urls(self) -> None:
        """A URL that is none is refused."""
        for url in ("localhost:8080", "ftp://x", "http://", "http://x:port", "http://[::1"):
            with self.assertRaises(Trouble):
                Server(url)
