"""The route of a request, and the response when there is none."""

from __future__ import annotations

import hashlib
import re
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from logging_proxy.http.heads import parse_request_head
from logging_proxy.proxy.tree import Ids, NotFoundResource, ReplyResource
from logging_proxy.recording.records import Flag, Kind
from logging_proxy.test.proxy_stage import WALL, Stage, get, ok, post

FIRST = "00010203-0405-4607-8809-0a0b0c0d0e0f"
"""The id of a stage's first exchange."""


def answered(stage: Stage, request: bytes) -> tuple[bytes, dict[bytes, bytes], bytes]:
    """Status line, fields and body of the client's response."""
    head, _, body = stage.client(request).received().partition(b"\r\n\r\n")
    line, *lines = head.split(b"\r\n")
    fields = dict(line.split(b": ", 1) for line in lines)
    return line, fields, body


def without_id(answer: tuple[bytes, dict[bytes, bytes], bytes]) -> tuple[bytes, dict[bytes, bytes], bytes]:
    """The answer without the exchange's id, which is another each time."""
    line, fields, body = answer
    return line, fields, re.sub(rb"exchange [0-9a-f-]{36}", b"exchange ID", body)


class UnroutedTests(SynchronousTestCase):
    def test_not_found(self) -> None:
        """The response to a request without a route names method, path without query, and the routes."""
        stage = Stage()
        line, fields, body = answered(stage, get("/nope/x?key=sk-secret"))
        self.assertEqual(line, b"HTTP/1.1 404 Not Found")
        self.assertEqual(
            body,
            f"no route matches GET /nope/x (exchange {FIRST})\nRoutes:\n  /api/ at http://here/api\n".encode(),
        )
        self.assertEqual(fields[b"Content-Type"], b"text/plain; charset=utf-8")
        self.assertEqual(fields[b"X-Content-Type-Options"], b"nosniff")
        self.assertEqual(stage.console, ["GET /nope/x?key=sk-secret -> NOT_FOUND [log]"])

    def test_not_found_of_absolute_form(self) -> None:
        """A client that sends a whole URL is told that this is no forward proxy, and what to set instead."""
        stage = Stage(
            {"api": ("/openai/", "https://api.openai.com/"), "b": ("/b/", "https://api.anthropic.com/")}
        )
        _, _, body = answered(stage, get("http://api.openai.com/v1/models?q"))
        self.assertTrue(body.startswith(b"no route matches GET /v1/models; this is a reverse proxy, "), body)
        self.assertIn(b": set OPENAI_BASE_URL=http://127.0.0.1:5601/openai/v1 instead (exchange ", body)
        _, _, body = answered(stage, get("http://h.example/nope"))
        self.assertIn(b"/openai/v1 or ANTHROPIC_BASE_URL=http://127.0.0.1:5601/b instead", body)
        _, _, body = answered(Stage(), get("http://h.example/nope"))
        self.assertIn(b": set the client's base URL to that of a route instead", body)

    def test_not_found_twice(self) -> None:
        """A path that is below `not_found` already is not put there again."""
        stage = Stage({"lost": ("/404/", "http://up.example/lost/")})
        stage.client(get("/404/nope"))
        self.assertTrue(stage.upstream.received().startswith(b"GET /lost/nope HTTP/1.1\r\n"))

    def test_plain_not_found(self) -> None:
        """An empty `not_found` gives a plain 404, without a word about the routes."""
        body = answered(Stage(not_found=""), get("/nope"))[2]
        self.assertEqual(body, f"404 page not found (exchange {FIRST})\n".encode())

    def test_not_found_as_a_route(self) -> None:
        """A route at `not_found` gets the requests without another route, with their path appended."""
        stage = Stage({"lost": ("/404/", "http://up.example/lost/")})
        for target in ("/nope?q=1", "http://h.example/nope?q=1"):
            stage.client(get(target))
            self.assertTrue(stage.upstream.received().startswith(b"GET /lost/nope?q=1 HTTP/1.1\r\n"))

    def test_looked_up_once(self) -> None:
        """For equal heads there is one look-up: requests without a route are repeated as well."""
        for target in ("/nope", "/api"):
            stage = Stage()
            first = without_id(answered(stage, get(target)))
            self.patch(stage.tree, "_mux", None)
            self.assertEqual(without_id(answered(stage, get(target))), first)
            self.assertEqual(stage.problems(), [])

    def test_redirect(self) -> None:
        """The path of a subtree without its slash is redirected, query and all."""
        stage = Stage()
        line, fields, body = answered(stage, post(b"x", target="/api?q=1"))
        self.assertEqual((line, body), (b"HTTP/1.1 307 Temporary Redirect", b""))
        self.assertEqual(fields[b"Location"], b"/api/?q=1")
        self.assertEqual(stage.endpoint.wires, [])
        self.assertEqual(stage.problems(), [])

    def test_method_not_allowed(self) -> None:
        """405 names the allowed methods."""
        stage = Stage({"one": ("POST /x", "http://up/"), "two": ("GET /x", "http://up/")})
        line, fields, _ = answered(stage, get("/x").replace(b"GET", b"PUT"))
        self.assertEqual(line, b"HTTP/1.1 405 Method Not Allowed")
        self.assertEqual(fields[b"Allow"], b"GET, HEAD, POST")

    def test_bad_escape(self) -> None:
        """A path that cannot be decoded is a 400."""
        stage = Stage()
        self.assertEqual(answered(stage, get("/api/%zz"))[0], b"HTTP/1.1 400 Bad Request")
        self.assertEqual(stage.endpoint.wires, [])

    def test_climbing_out(self) -> None:
        """A rest that climbs out of the destination's path is a 400 that names the exchange, not the path."""
        stage = Stage({"api": ("/api/", "http://up.example/base/")})
        for rest in ("%2e%2e/admin", "x/%2e%2e/%2e%2e/", "..%2fadmin", "..%5cadmin"):
            line, _, body = answered(stage, get("/api/" + rest))
            self.assertEqual(line, b"HTTP/1.1 400 Bad Request")
            self.assertRegex(body, rb"\(exchange [0-9a-f-]{36}\)\n")
            self.assertNotIn(b"admin", body)
        self.assertEqual(stage.endpoint.wires, [])
        self.assertEqual({capture.opening.route for capture in stage.captures}, {b"api"})
        self.assertEqual(stage.problems(), [])

    def test_connect(self) -> None:
        """CONNECT is no method of a reverse proxy: 405, with a list of those that are."""
        stage = Stage({"all": ("/", "http://up.example/")})
        for target in (b"*", b"h.example:443"):
            line, fields, _ = answered(
                stage, b"CONNECT " + target + b" HTTP/1.1\r\nHost: h.example:443\r\n\r\n"
            )
            self.assertIn(b" 405 ", line)
        self.assertIn(b"this is a reverse proxy", line)  # the reason phrase is all that clients show
        self.assertIn(b"GET", fields[b"Allow"])
        self.assertNotIn(b"CONNECT", fields[b"Allow"])
        self.assertEqual(stage.endpoint.wires, [])
        self.assertEqual(stage.problems(), [])

    def test_options_star(self) -> None:
        """OPTIONS * is about the proxy: 200, empty."""
        stage = Stage({"all": ("/", "http://up.example/")})
        line, fields, body = answered(stage, b"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n")
        self.assertEqual((line, fields[b"Content-Length"], body), (b"HTTP/1.1 200 OK", b"0", b""))
        self.assertEqual(stage.capture.opening.source_url, b"http://h")
        self.assertEqual(stage.endpoint.wires, [])
        self.assertEqual(stage.problems(), [])

    def test_max_forwards(self) -> None:
        """TRACE and OPTIONS that may go no further are answered here; TRACE shows no credentials."""
        stage = Stage()
        line, fields, body = answered(stage, get("/api/x", "Max-Forwards: 0").replace(b"GET", b"OPTIONS"))
        self.assertEqual((line, body), (b"HTTP/1.1 200 OK", b""))
        self.assertIn(b"GET", fields[b"Allow"])
        request = get("/api/x", "Max-Forwards: 0", "Cookie: secret", "X-Api-Key: sk-1", "Via: 1.1 a")
        line, fields, body = answered(stage, request.replace(b"GET", b"TRACE"))
        self.assertEqual(fields[b"Content-Type"], b"message/http")
        self.assertEqual(
            body, b"TRACE /api/x HTTP/1.1\r\nHost: here\r\nMax-Forwards: 0\r\nVia: 1.1 a\r\n\r\n"
        )
        self.assertEqual(stage.endpoint.wires, [])
        self.assertEqual(stage.problems(), [])

    def test_head(self) -> None:
        """HEAD gets the head that GET would, and no body; its connection stays."""
        stage = Stage()
        client = stage.client(get("/nope").replace(b"GET", b"HEAD") + get("/nope"))
        stage.turn()
        first, second = client.received().split(b"HTTP/1.1 ")[1:]
        head, end, body = second.partition(b"\r\n\r\n")
        self.assertEqual(first, head + end)
        self.assertIn(b"Content-Length: %d\r\n" % len(body), head + b"\r\n")
        self.assertTrue(first.endswith(b"\r\n\r\n"))

    def test_http10(self) -> None:
        """HTTP/1.0 is told that its connection ends, and it does."""
        stage = Stage()
        client = stage.client(get("/nope", version="1.0"))
        self.assertIn(b"\r\nConnection: close\r\n", client.received())
        self.assertTrue(client.closed)

    def test_recorded(self) -> None:
        """A request without a route is captured as it came, with its body, and the response as our own."""
        stage = Stage()
        stage.client(post(b"hello", "X-A:  1", target="/nope"))
        capture = stage.capture
        self.assertEqual(
            capture.kinds, ["REQUEST_HEAD", "REQUEST_PIECE", "RESPONSE_HEAD", "RESPONSE_PIECE", "END"]
        )
        opening = capture.opening
        self.assertEqual((opening.route, opening.pattern, opening.destination_url), (b"", b"", b""))
        self.assertEqual(opening.source_url, b"http://here/nope")
        self.assertEqual(opening.head + b"\r\n", post(b"hello", "X-A:  1", target="/nope")[:-5])
        self.assertEqual(capture.body(Kind.REQUEST_PIECE), b"hello")
        self.assertEqual(capture.records[2].flags, Flag.OURS)
        self.assertEqual(capture.outcome, "complete")

    def test_body_still_coming(self) -> None:
        """The rest of a body after an early answer is dropped, not recorded, and noted as missing."""
        stage = Stage()
        client = stage.client(post(b"x" * 10, target="/nope")[:-4])
        client.deliver(b"yyyy")
        self.assertTrue(client.closed)
        self.assertEqual(stage.capture.body(Kind.REQUEST_PIECE), b"x" * 6)
        self.assertFalse(stage.capture.complete(Kind.REQUEST_PIECE))
        self.assertEqual(len(stage.capture.of(Kind.NOTE)), 1)
        self.assertEqual(stage.problems(), [])

    def test_not_recorded(self) -> None:
        """With `logging.default: false` unknown requests leave a console line only."""
        stage = Stage(logging=False)
        stage.client(get("/nope"))
        self.assertEqual(stage.captures, [])
        self.assertEqual(stage.console, ["GET /nope -> NOT_FOUND [no-log]"])


class LookUpTests(SynchronousTestCase):
    """The Resource that the tree's `getChildWithDefault` finds answers."""

    def child(self, stage: Stage, target: str) -> Any:
        head = parse_request_head(get(target), 100)
        return stage.tree.getChildWithDefault(head.target, head)

    def test_route(self) -> None:
        """The child for a target is the resource of the route that takes it, by the target's raw bytes."""
        stage = Stage({"one": ("/a%2Fb/", "http://up.example/"), "two": ("/a/b/", "http://up.example/")})
        one, two = stage.tree.routes
        self.assertIs(self.child(stage, "/a%2Fb/x%2Fy?q"), one)
        self.assertIs(self.child(stage, "/a/b/x"), two)

    def test_no_route(self) -> None:
        """The child for a request without a route answers itself, or leads to the route at `not_found`."""
        self.assertIsInstance(self.child(Stage(), "/nope"), ReplyResource)
        lost = Stage({"lost": ("/404/", "http://up.example/lost/")})
        self.assertIsInstance(self.child(lost, "/nope"), NotFoundResource)

    def test_answers(self) -> None:
        """A request is answered by the child that is found for it, and by no other."""
        stage = Stage({"one": ("/one/", "http://up.example/1/"), "two": ("/two/", "http://up.example/2/")})
        _, two = stage.tree.routes
        self.patch(stage.tree, "getChild", lambda path, request: two)
        stage.client(get("/two/x", "A: 1"))
        self.assertTrue(stage.upstream.received().startswith(b"GET /2/x "))


class RoutedTests(SynchronousTestCase):
    def test_console(self) -> None:
        """One line for each exchange: where it goes, and whether it is recorded."""
        stage = Stage({"lm": ("/lm/", "http://up.example:1/v1/")})
        stage.client(get("/lm/chat?x=1"))
        self.assertEqual(stage.console, ["GET /lm/chat?x=1 -> http://up.example:1/v1/chat?x=1 [log]"])

    def test_by_host(self) -> None:
        """An absolute-form target's host selects the route, whatever Host says."""
        stage = Stage({"a": ("a.example/", "http://up/a/"), "b": ("b.example/", "http://up/b/")})
        stage.client(get("http://a.example/x", host="b.example"))
        self.assertTrue(stage.upstream.received().startswith(b"GET /a/x HTTP/1.1\r\nHost: up\r\n"))

    def test_paths_byte_for_byte(self) -> None:
        """The rest of the path and the query go on as they are."""
        stage = Stage()
        rest = "a%2Fb/%2F/c;p=1/%25zz%252F?x=%zz&y=//&&"
        stage.client(get("/api/" + rest))
        self.assertTrue(stage.upstream.received().startswith(f"GET /{rest} HTTP/1.1\r\n".encode()))

    def test_ids(self) -> None:
        """Ids are random version 4 UUIDs, none twice, and random bytes are asked for many at a time."""
        asked: list[int] = []

        def random(size: int) -> bytes:
            asked.append(size)
            return hashlib.shake_128(bytes(len(asked))).digest(size)

        ids = Ids(random)
        made = [ids.next() for _ in range(1000)]
        self.assertEqual(len(set(made)), 1000)
        self.assertTrue(all(len(id) == 16 and id[6] >> 4 == 4 and id[8] >> 6 == 2 for id in made))
        self.assertEqual(asked, [4096] * 4)

    def test_wall_clock(self) -> None:
        """The capture says when it began."""
        stage = Stage()
        stage.client(get())
        stage.upstream.deliver(ok())
        self.assertEqual(stage.capture.opening.wall_ns, WALL)
