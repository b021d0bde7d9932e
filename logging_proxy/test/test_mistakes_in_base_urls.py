"""Mistakes in base URLs, and what is said to each: to an SDK, to curl, and to a browser."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address
from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.proxy.guesses import LONGEST_SEGMENT, asked, guesses
from logging_proxy.test.proxy_stage import Stage, get, route

HERE = "http://localhost:5601"
OPENAI = f"{HERE}/openai/v1"
ANTHROPIC = f"{HERE}/anthropic"
OPENROUTER = f"{HERE}/api/v1"
LMSTUDIO = f"{HERE}/lmstudio/v1"
WITH_CHAT = LMSTUDIO, OPENROUTER, OPENAI

SHIPPED = {
    "lmstudio": ("/lmstudio/", "http://127.0.0.1:1234/"),
    "openrouter": ("/api/v1/", "https://openrouter.ai/api/v1/"),
    "openai": ("/openai/", "https://api.openai.com/"),
    "anthropic": ("/anthropic/", "https://api.anthropic.com/"),
}

MIXED = {
    "openai": ("/openai/v1/", "https://api.openai.com/v1/"),
    "exact": ("/exact", "https://llm.example/v1/chat/completions"),
    "named": ("llm.local/named/", "https://llm.example/"),
    "posts": ("POST /posts/", "https://llm.example/"),
    "ollama": ("/ollama/", "http://127.0.0.1:11434/"),
}

ONE = {"llm": ("/llm/", "https://llm.example/v1/")}
NEAR = {"llama": ("/llama/", "http://127.0.0.1:8000/")}
LOCAL = {"llm": ("/llm/", "http://llm.example:8000/")}


class Mistake(NamedTuple):
    what: str
    routes: dict[str, tuple[str, str]]
    request: str
    """Method and target."""
    code: str
    said: str
    """What the message must contain."""


def meant(*urls: str) -> str:
    *before, last = urls
    return f"Did you mean {', '.join(before)}{' or ' if before else ''}{last}? (exchange "


NO_GUESS = " (exchange "
CHAT, MESSAGES, HOST = "/chat/completions", "/v1/messages", "api.anthropic.com"

MISTAKES = [
    Mistake("no prefix", SHIPPED, f"POST {MESSAGES}", "no_route", meant(ANTHROPIC)),
    Mistake("no prefix, several APIs", SHIPPED, f"POST /v1{CHAT}", "no_route", meant(*WITH_CHAT)),
    Mistake("the root alone", SHIPPED, f"POST {CHAT}", "no_route", meant(*WITH_CHAT)),
    Mistake("the root in a browser", SHIPPED, "GET /", "no_route", f"no route matches GET /{NO_GUESS}"),
    Mistake("letters swapped", SHIPPED, f"POST /opneai/v1{CHAT}", "no_route", meant(OPENAI)),
    Mistake("a letter missing", SHIPPED, f"POST /antropic{MESSAGES}", "no_route", meant(ANTHROPIC)),
    Mistake("a letter too many", SHIPPED, f"POST /lm-studio/v1{CHAT}", "no_route", meant(LMSTUDIO)),
    Mistake("capitals", SHIPPED, f"POST /OpenAI/v1{CHAT}", "no_route", meant(OPENAI)),
    Mistake("parts exchanged", SHIPPED, f"POST /v1/openai{CHAT}", "no_route", meant(OPENAI)),
    Mistake("something before", SHIPPED, f"POST /proxy/openai/v1{CHAT}", "no_route", meant(OPENAI)),
    Mistake("`/v1` missing", MIXED, f"POST /openai{CHAT}", "no_route", meant(OPENAI)),
    Mistake("`/v1` missing in two parts", SHIPPED, f"POST /api{CHAT}", "no_route", meant(OPENROUTER)),
    Mistake("another version", MIXED, f"POST /openai/v2{CHAT}", "no_route", meant(OPENAI)),
    Mistake("the route's name", SHIPPED, f"POST /openrouter/v1{CHAT}", "no_route", meant(OPENROUTER)),
    Mistake("the destination's host", SHIPPED, f"POST /api.openai.com/v1{CHAT}", "no_route", meant(OPENAI)),
    Mistake(
        "the destination's URL",
        SHIPPED,
        f"POST /https:/{HOST}{MESSAGES}",
        "no_route",
        meant(ANTHROPIC),
    ),
    Mistake("a slash that is escaped", SHIPPED, f"POST /openai%2Fv1{CHAT}", "no_route", meant(OPENAI)),
    Mistake("a blank", SHIPPED, f"POST /openai%20/v1{CHAT}", "no_route", meant(OPENAI)),
    Mistake("the only route", ONE, f"POST /v1{CHAT}", "no_route", meant(f"{HERE}/llm")),
    Mistake("the only route, without `/v1`", LOCAL, f"POST {CHAT}", "no_route", meant(f"{HERE}/llm/v1")),
    Mistake("the only route, another API", LOCAL, f"POST {MESSAGES}", "no_route", meant(f"{HERE}/llm")),
    Mistake("a local server", NEAR, f"POST /lama/v1{CHAT}", "no_route", meant(f"{HERE}/llama/v1")),
    Mistake("a local server, Anthropic's", NEAR, f"POST /lama{MESSAGES}", "no_route", meant(f"{HERE}/llama")),
    Mistake("another API's client", MIXED, f"POST /olama/v1{CHAT}", "no_route", meant(f"{HERE}/ollama/v1")),
    Mistake(
        "a pattern without its slash",
        MIXED,
        f"POST /exact{CHAT}",
        "no_route",
        'The route "/exact" takes this one path: "/exact/" would take everything below it. (exchange ',
    ),
    Mistake("a host of its own", MIXED, "POST /named/v1/x", "no_route", meant("http://llm.local:5601/named")),
    Mistake(
        "a GET",
        MIXED,
        "GET /posts/x",
        "method_not_allowed",
        "GET /posts/x: it takes POST only (",
    ),
    Mistake(
        "a secret in the query",
        SHIPPED,
        "GET /x?key=sk-canary",
        "no_route",
        f"GET /x{NO_GUESS}",
    ),
    Mistake("a bad escape", SHIPPED, "GET /openai/%zz", "bad_target", "a bad escape in the path"),
    Mistake("too far up", SHIPPED, "GET /openai/%2e%2e/x", "bad_target", "leaves the destination's path"),
    Mistake(
        "HTTP_PROXY",
        SHIPPED,
        f"POST http://{HOST}{MESSAGES}",
        "no_route",
        "this is a reverse proxy, which cannot be used as HTTP_PROXY or HTTPS_PROXY: "
        "set ANTHROPIC_BASE_URL=http://127.0.0.1:5601/anthropic instead",
    ),
    Mistake(
        "HTTPS_PROXY",
        SHIPPED,
        "CONNECT api.openai.com:443",
        "reverse_proxy",
        "set OPENAI_BASE_URL=http://127.0.0.1:5601/openai/v1 instead",
    ),
]

STATUSES = {"no_route": 404, "method_not_allowed": 405, "bad_target": 400, "reverse_proxy": 405}

SDK = ("Accept: application/json", "Content-Type: application/json")
CURL = ("Accept: */*",)
BROWSER = ("Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",)


class MistakeTests(SynchronousTestCase):
    def ask(self, mistake: Mistake, *fields: str) -> tuple[bytes, bytes]:
        stage = Stage(mistake.routes)
        lines = [f"{mistake.request} HTTP/1.1", "Host: localhost:5601", *fields, "", ""]
        head, _, body = stage.client("\r\n".join(lines).encode()).received().partition(b"\r\n\r\n")
        self.assertTrue(head.startswith(b"HTTP/1.1 %d " % STATUSES[mistake.code]), (mistake, head))
        self.assertIn(b"\r\nContent-Length: %d" % len(body), head)
        self.assertEqual(stage.endpoint.wires, [])
        self.assertEqual(stage.problems(), [])
        self.assertNotIn(b"canary", head + body)
        return head, body

    def test_sdk(self) -> None:
        """An SDK gets JSON in the shape that it prints: one line with all of it."""
        for mistake in MISTAKES:
            with self.subTest(mistake.what):
                head, body = self.ask(mistake, *SDK)
                self.assertIn(b"\r\nContent-Type: application/json\r\n", head)
                answer: Any = json.loads(body)
                message = answer["error"].pop("message")
                told = {"type": "error", "error": {"type": "proxy_error", "code": mistake.code}}
                self.assertEqual(answer, told)
                self.assertIn(mistake.said, message)
                self.assertNotIn("\n", message)

    def test_curl_and_browser(self) -> None:
        """People get the same in plain text: the first line has all of it, the routes stand below."""
        for mistake in MISTAKES:
            for fields in (CURL, BROWSER):
                with self.subTest(mistake.what):
                    head, body = self.ask(mistake, *fields)
                    self.assertIn(b"\r\nContent-Type: text/plain; charset=utf-8\r\n", head)
                    first, *routes = body.decode().removesuffix("\n").split("\n")
                    self.assertIn(mistake.said, first)
                    if mistake.code == "no_route":
                        heading, *listed = routes
                        self.assertEqual(heading, "Routes:")
                        self.assertEqual(len(listed), len(mistake.routes))

    def test_routes(self) -> None:
        """The routes are listed with the base URLs for SDKs."""
        _, body = self.ask(MISTAKES[3], *CURL)
        self.assertEqual(
            body.decode().split("\n")[1:-1],
            [
                "Routes:",
                f"  /lmstudio/ at {LMSTUDIO}",
                f"  /api/v1/ at {OPENROUTER}",
                f"  /openai/ at {OPENAI}",
                f"  /anthropic/ at {ANTHROPIC}",
            ],
        )

    def test_many_routes(self) -> None:
        """Twenty routes are listed, and the number of the others."""
        routes = {f"r{at}": (f"/{at}/", "http://up.example/") for at in range(30)}
        _, body = self.ask(Mistake("", routes, "GET /x", "no_route", ""), *CURL)
        listed = body.decode().split("\n")[2:-1]
        self.assertEqual((len(listed), listed[-1]), (21, "  10 more"))

    def test_odd_patterns(self) -> None:
        """A configuration may have any text in a pattern; an answer is one head and one text all the same."""
        routes = {"odd": ("a\ud800\r\nX:y/\x00/\u202e/", "https://api.openai.com/")}
        for request in (b"CONNECT h:1 HTTP/1.1\r\nHost: h:1\r\n\r\n", get("/v1/models")):
            head, _, body = Stage(routes).client(request).received().partition(b"\r\n\r\n")
            self.assertNotIn(b"\nX:", head + body)
            self.assertIn(b"\\u202e", head + body)

    def test_several_addresses(self) -> None:
        """Equal requests on different addresses of the proxy are told the address of their own."""
        stage = Stage(SHIPPED)
        for host in ("10.0.0.1", "10.0.0.2", "10.0.0.1"):
            client: Any = stage.client()
            client.getHost = lambda host=host: IPv4Address("TCP", host, 5601)
            client.deliver(b"CONNECT api.openai.com:443 HTTP/1.1\r\nHost: api.openai.com:443\r\n\r\n")
            self.assertIn(f"OPENAI_BASE_URL=http://{host}:5601/openai/v1 ".encode(), client.received())

    def test_no_host(self) -> None:
        """A client of HTTP/1.0 without Host is told the address that it has connected to."""
        received = Stage(SHIPPED).client(b"GET /opnai/v1/models HTTP/1.0\r\n\r\n").received()
        self.assertIn(b"Did you mean http://127.0.0.1:5601/openai/v1?", received)


class GuessTests(SynchronousTestCase):
    def routes(self, *patterns: str) -> list[Any]:
        return [route(f"r{at}", pattern, "http://up.example/") for at, pattern in enumerate(patterns)]

    def found(self, path: bytes, *patterns: str) -> list[str]:
        return [str(each.pattern) for each in guesses(path, self.routes(*patterns))]

    def test_slips(self) -> None:
        """One edit in a short word, two in a long one; the nearest word wins."""
        for path, expected in (
            (b"/lama/x", ["/llama/"]),
            (b"/lmaa/x", []),
            (b"/mistrla/x", ["/mistral/"]),
            (b"/mxstrxl/x", ["/mistral/"]),
            (b"/mxxtrxl/x", []),
            (b"/llamas/x", ["/llama/"]),
            (b"/x", []),
        ):
            self.assertEqual(self.found(path, "/llama/", "/mistral/"), expected, path)
        self.assertEqual(self.found(b"/model1", "/model2/", "/model1x/"), ["/model2/", "/model1x/"])

    def test_no_clue(self) -> None:
        """What resembles nothing is no guess, nor is a favicon."""
        for path in (b"/favicon.ico", b"/robots.txt", b"/", b"//", b"/%", b"*"):
            self.assertEqual(self.found(path, "/openai/", "/anthropic/"), [], path)

    def test_styles(self) -> None:
        """An endpoint tells the API; what stands before it may come from a base URL."""
        for path, base, style in (
            (b"/a/v1/chat/completions", (b"a", b"v1"), "openai"),
            (b"/A/v1/Messages/count_tokens", (b"a",), "anthropic"),
            (b"/v1beta/models/gemini:generateContent", (), "gemini"),
            (b"/x/api/chat", (b"x",), "ollama"),
            (b"/api/chat/completions", (b"api",), "openai"),
            (b"/v1/models/gpt", (b"v1",), "openai"),
            (b"/a/b", (b"a", b"b"), ""),
        ):
            found = asked(path)
            self.assertEqual((found.base, found.style), (base, style), path)

    @given(st.binary(), st.lists(st.sampled_from(["/", "/a", "/b/v1/", "GET h.example/x/{$}"]), unique=True))
    def test_never_raises(self, path: bytes, patterns: list[str]) -> None:
        """Any bytes may be asked for."""
        known = self.routes(*patterns)
        for each in guesses(path, known):
            self.assertIn(each, known)

    def test_bounds(self) -> None:
        """Long paths and many routes with long names are looked at in part only."""
        word = "ab" * LONGEST_SEGMENT
        patterns = [f"/{word}{at}/" for at in range(300)]
        self.assertEqual(self.found(f"/{word}/x".encode() * 50, *patterns), [])
